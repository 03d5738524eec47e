//! A bundle, decoded and indexed.

use super::{
    Map,
    access::{ClaimPath, Key, Provider},
    roles::Role,
    route::Router,
    schema::Service,
    subjects::{Binding, Restriction, Subjects},
};
use crate::Name;
use doorward_proto::v1::Dialect;
use hashbrown::HashMap;

/// A compiled policy, ready for evaluation. Look-ups cost the same for ten bindings and a hundred thousand.
#[derive(Debug, Default)]
pub struct Tables {
    pub(super) digest: [u8; 32],
    pub(super) epoch: u64,
    pub(super) scope: String,
    pub(super) services: Vec<Service>,
    pub(super) service_names: Map<usize>,
    pub(super) router: Router,
    pub(super) providers: Vec<Provider>,
    pub(super) issuers: Map<usize>,
    pub(super) keys: Vec<Key>,
    pub(super) key_hashes: HashMap<[u8; 32], usize, foldhash::fast::FixedState>,
    pub(super) claim_paths: Vec<ClaimPath>,
    pub(super) roles: Vec<Role>,
    pub(super) role_names: Map<usize>,
    pub(super) bindings: Vec<Binding>,
    pub(super) bound: Subjects,
    pub(super) restrictions: Vec<Restriction>,
    pub(super) restricted: Subjects,
}

impl Tables {
    /// The scope that the bundle was compiled for.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
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

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(*self.service_names.get(name)?)
    }

    /// The service that serves this authority and path, and the path prefix that matched (without trailing slash).
    #[must_use]
    pub fn route(&self, authority: &str, path: &str) -> Option<(&Service, &str)> {
        let (service, prefix) = self.router.find(authority, path)?;
        Some((self.services.get(service)?, prefix))
    }

    /// True if a service's path is this one, which is in lower case, but for upper and lower case; or but for the version in
    /// it too, if the service's dialect is one that `answers_any_version`.
    #[must_use]
    pub fn routes_in_any_form(
        &self,
        authority: &str,
        path: &str,
        answers_any_version: &dyn Fn(Dialect) -> bool,
    ) -> bool {
        self.router.has_in_any_form(authority, path, answers_any_version)
    }

    /// The provider of this issuer.
    #[must_use]
    pub fn provider(&self, issuer: &str) -> Option<&Provider> {
        self.providers.get(*self.issuers.get(issuer)?)
    }

    /// All providers, by issuer.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// All API keys; a principal's `key` is an index into them.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Index of the key with this SHA-256 hash.
    #[must_use]
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Option<usize> {
        self.key_hashes.get(hash).copied()
    }

    /// Claim paths that bindings and restrictions look at; a principal's `claims` are numbered by them.
    #[must_use]
    pub fn claim_paths(&self) -> &[ClaimPath] {
        &self.claim_paths
    }

    /// Names of all roles, sorted.
    pub fn role_names(&self) -> impl Iterator<Item = &Name> {
        self.roles.iter().map(|role| &role.name)
    }

    /// The role at a position, as bindings refer to it.
    pub fn role(&self, at: usize) -> Option<&Role> {
        self.roles.get(at)
    }

    /// Position of the role of this name.
    pub fn role_position(&self, name: &str) -> Option<usize> {
        self.role_names.get(name).copied()
    }

    /// Bindings by subject.
    pub fn bound(&self) -> &Subjects {
        &self.bound
    }

    /// The binding at a position; positions are ranks.
    pub fn binding(&self, at: u32) -> Option<&Binding> {
        self.bindings.get(usize::try_from(at).ok()?)
    }

    /// Restrictions by subject.
    pub fn restricted(&self) -> &Subjects {
        &self.restricted
    }

    /// The restriction at a position.
    pub fn restriction(&self, at: u32) -> Option<&Restriction> {
        self.restrictions.get(usize::try_from(at).ok()?)
    }
}
