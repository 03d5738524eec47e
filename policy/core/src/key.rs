//! Keys that verify signatures, by type. Which of them are strong enough, and what they verify, `identity` of the crate
//! above says.

use crate::Name;
pub use doorward_proto::v1::Algorithm;

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
