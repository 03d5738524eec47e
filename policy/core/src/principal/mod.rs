//! Who asks: a verified identity, as rules see it. `identity` of the crate above makes it from credentials.

mod name;

use crate::Name;
pub use name::is_exact;

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
