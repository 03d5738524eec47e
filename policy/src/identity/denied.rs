//! A credential that lets nobody in, with what little of it may be recorded.

use crate::{Name, code::Denial};
use sha2::{Digest, Sha256};

/// A refused credential, with what little of it may be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{denial}")]
pub struct Denied {
    /// Why.
    pub denial: Denial,
    /// First 16 hex digits of the presented token's SHA-256.
    pub token_sha256: Option<Name>,
    /// The provider that the token claims to come from. Not verified, unless the denial came after the signature check.
    pub provider: Option<Name>,
    /// Name of the presented API key, where there is such a key.
    pub key: Option<Name>,
}

impl From<Denial> for Denied {
    fn from(denial: Denial) -> Self {
        Denied { denial, token_sha256: None, provider: None, key: None }
    }
}

impl From<Denied> for Denial {
    fn from(denied: Denied) -> Self {
        denied.denial
    }
}

/// The first 16 hex digits of the token's SHA-256.
#[inline(never)]
pub(super) fn fingerprint(token: &str) -> Name {
    use std::fmt::Write;
    let mut text = String::with_capacity(16);
    for byte in Sha256::digest(token).iter().take(8) {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}
