//! Credentials → [`Principal`]: token verification, API keys, claim mapping, delegation, mesh identity.

mod authenticate;
mod cache;
mod claims;
mod credentials;
mod demands;
mod json;
mod jws;
mod mesh;
mod name;
mod overage;
mod scopes;
mod signature;
mod steps;
#[cfg(test)]
mod tests;
mod token;

use crate::Name;
pub use authenticate::{Denied, authenticate};
pub use cache::{CacheCounts, TokenCache};
pub(crate) use credentials::refuse_in_query;
pub use credentials::{Mesh, Settings, Unidentified};
pub use doorward_proto::v1::Algorithm;
pub use jws::{MAX_TOKEN_BYTES, verify_compact};
pub use name::is_exact;
pub use signature::{Es384, Es384Signature, algorithm_from_name, algorithm_name, fits, verify_signature, weakness};
pub use steps::{Checked, Examination, Examined, examine};

/// The verified identity of one request. Missing is missing: never an empty string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Principal {
    /// The person, e.g. `john.doe@example.com`; `None`: unidentified.
    pub user: Option<Name>,
    /// Name of the `IdentityProvider` that vouches for the user.
    pub provider: Option<Name>,
    /// Groups, token roles as `role:NAME` among them; sorted, unique.
    pub groups: Vec<Name>,
    /// Tenant.
    pub tenant: Option<Name>,
    /// Mapped attributes, sorted by name; a list attribute has several values (possibly none).
    pub attributes: Vec<(Name, Attribute)>,
    /// Values of the claim paths that subjects of bindings look at: (index in `Bundle.claim_paths`, value).
    pub claims: Vec<(u32, Name)>,
    /// The API key, as an index into the tables' keys.
    pub key: Option<usize>,
    /// Delegation chain, outermost actor first; then the mesh identity where it counts as an agent.
    pub agents: Vec<Agent>,
    /// Delegation scopes of the token as role names; `None`: the token does not narrow.
    pub delegated_roles: Option<Vec<Name>>,
    /// What is known of the token.
    pub token: Option<TokenInfo>,
    /// SPIFFE ID of the peer.
    pub mesh: Option<Name>,
}

/// Value of a mapped attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A single value.
    One(Name),
    /// A list claim.
    Many(Vec<Name>),
}

/// One agent in the delegation chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The `sub` of the actor, a SPIFFE ID, or the agent named by an API key.
    pub name: Name,
}

/// What records may know of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// `jti`
    pub id: Option<Name>,
    /// First 16 hex digits of the token's SHA-256.
    pub sha256: Name,
    /// `iat`, Unix seconds.
    pub issued_at: i64,
    /// `exp`, Unix seconds.
    pub expires_at: i64,
    /// `amr`
    pub methods: Vec<Name>,
    /// `acr`
    pub context_class: Option<Name>,
}

/// A key that verifies signatures, as a provider's bundle entry gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    /// `kid`, if the key has one.
    pub kid: Option<Name>,
    /// The one algorithm the key is for; `None`: any of its type that the provider allows.
    pub algorithm: Option<Algorithm>,
    /// The key itself.
    pub material: KeyMaterial,
    /// DER `SubjectPublicKeyInfo` of an RSA or EC key, for the host's verifier; empty otherwise.
    pub spki: Vec<u8>,
}

/// Key material by type.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 7518 section 6 names")]
pub enum KeyMaterial {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256 { x: [u8; 32], y: [u8; 32] },
    P384 { x: [u8; 48], y: [u8; 48] },
    Ed25519([u8; 32]),
    Secret(Vec<u8>),
}

impl std::fmt::Debug for KeyMaterial {
    /// The type only: key bytes never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyMaterial::Rsa { .. } => "Rsa",
            KeyMaterial::P256 { .. } => "P256",
            KeyMaterial::P384 { .. } => "P384",
            KeyMaterial::Ed25519(_) => "Ed25519",
            KeyMaterial::Secret(_) => "Secret",
        })
    }
}
