//! Where a provider's JWK set is, and who gives it.

/// Where a provider's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLocation<'a> {
    /// `jwks.uri`
    Uri(&'a str),
    /// OpenID Connect discovery at this issuer.
    Discovery(&'a str),
    /// `jwks.file`
    File(&'a str),
    /// `jwks.secretRef`
    Secret {
        /// Name of the secret.
        name: &'a str,
        /// Key inside it.
        key: &'a str,
    },
}

/// Gives JWK sets that somebody else fetched: compilation itself does no I/O.
pub trait KeySource {
    /// The JWK set as JSON text; `None` while it is not there.
    fn jwks(&self, provider: &str, location: KeyLocation<'_>) -> Option<String>;
}

/// A source without keys, for validation alone; inline keys are read all the same.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl KeySource for NoKeys {
    fn jwks(&self, _: &str, _: KeyLocation<'_>) -> Option<String> {
        None
    }
}
