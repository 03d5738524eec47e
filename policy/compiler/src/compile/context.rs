//! What compilation knows while it goes through the documents.

use super::{issuers, jwk::Jwk, out::Out};
use crate::document::{AccessKey, AccessRole, DataService, Document, IdentityProvider, Kind, Spec, suggest};
use doorward_policy::{
    dialect::Casts,
    value::{FieldType, Size},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// A component as roles see it.
#[derive(Clone, Debug, Default)]
pub(super) struct ComponentFacts {
    pub fields: BTreeMap<String, FieldType>,
    pub sizes: BTreeMap<String, Size>,
    /// Parameters of the procedure or of any operation.
    pub parameters: BTreeMap<String, FieldType>,
}

/// A service as others see it.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceFacts {
    pub case_insensitive: bool,
    /// How the server casts values before the database sees them, if it does.
    pub casts: Option<Casts>,
    /// By canonical name.
    pub components: BTreeMap<String, ComponentFacts>,
    /// Host and path of each match.
    pub matches: Vec<(String, String)>,
}

/// Accepted documents, and what others may need to know of those that are not.
pub(super) struct Context<'a> {
    /// Names of all documents, broken ones too.
    names: BTreeSet<(Kind, &'a str)>,
    pub providers: BTreeMap<&'a str, (&'a IdentityProvider, Vec<Jwk>)>,
    /// Issuers of accepted providers, and which.
    pub issuers: BTreeMap<String, &'a str>,
    pub services: BTreeMap<&'a str, ServiceFacts>,
    pub roles: BTreeMap<&'a str, &'a AccessRole>,
    /// All keys, accepted or not: whether a role's placeholder can be filled must not depend on the order of checks.
    pub keys: Vec<(&'a str, &'a AccessKey)>,
    pub hashes: BTreeMap<[u8; 32], &'a str>,
    pub matches: BTreeMap<(String, String), &'a str>,
    /// Kind, owner and claimant, where two documents claim the same.
    pub contested: RefCell<Vec<(Kind, String, String)>>,
    /// The checks are done; documents do not collide with themselves any more.
    pub checked: bool,
}

impl<'a> Context<'a> {
    /// `refused`: documents that are out of the question already.
    pub fn new(documents: &[&'a Document], refused: &BTreeSet<(Option<Kind>, String)>) -> Self {
        let keys = documents.iter().filter_map(|document| match &document.spec {
            Spec::AccessKey(key) if !refused.contains(&(Some(document.kind), document.name.clone())) => {
                Some((document.name.as_str(), key))
            }
            _ => None,
        });
        Context {
            names: documents.iter().map(|document| (document.kind, document.name.as_str())).collect(),
            providers: BTreeMap::new(),
            issuers: BTreeMap::new(),
            services: BTreeMap::new(),
            roles: BTreeMap::new(),
            keys: keys.collect(),
            hashes: BTreeMap::new(),
            matches: BTreeMap::new(),
            contested: RefCell::default(),
            checked: false,
        }
    }

    pub fn accept_provider(&mut self, name: &'a str, spec: &'a IdentityProvider, keys: Vec<Jwk>) {
        for issuer in issuers::issuers(spec) {
            self.issuers.insert(issuer, name);
        }
        self.providers.insert(name, (spec, keys));
    }

    pub fn accept_service(&mut self, name: &'a str, _: &'a DataService, facts: ServiceFacts) {
        for key in &facts.matches {
            self.matches.insert(key.clone(), name);
        }
        self.services.insert(name, facts);
    }

    /// Notes that this document claims what another one has.
    pub fn contest(&self, kind: Kind, owner: &str, other: &str) {
        self.contested.borrow_mut().push((kind, owner.to_owned(), other.to_owned()));
    }

    pub fn keys_of(&self, provider: &str) -> &[Jwk] {
        self.providers.get(provider).map_or(&[], |(_, keys)| keys)
    }

    pub fn maps_tenant(&self) -> bool {
        self.providers.values().any(|(provider, _)| provider.claims.tenant.is_some())
    }

    pub fn maps_attribute(&self, name: &str) -> bool {
        name == "name" || self.providers.values().any(|(provider, _)| provider.claims.attributes.contains_key(name))
    }

    /// All names of a kind.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter(move |(of, _)| *of == kind).map(|(_, name)| *name)
    }

    /// Reports a reference to a document that is not there, or not accepted.
    pub fn missing(&self, out: &mut Out<'_>, code: &'static str, path: &str, kind: Kind, name: &str) {
        if self.names.contains(&(kind, name)) {
            out.error(code, path, format!("{kind} \"{name}\" is left out because of its own errors"));
        } else {
            out.error(code, path, format!("there is no {kind} \"{name}\"{}", suggest::hint(name, self.names(kind))));
        }
    }
}
