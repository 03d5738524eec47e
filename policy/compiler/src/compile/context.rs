//! What compilation knows while it goes through the documents.

use super::jwk::Jwk;
use crate::document::{
    AccessKey, AccessRole, DataService, Diagnostic, Document, IdentityProvider, Kind, Severity, Spec, suggest,
};
use doorward_policy::{
    dialect::Casts,
    value::{FieldType, Size},
};
use doorward_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// Strings of a bundle: collected first, then numbered in their order.
#[derive(Debug, PartialEq)]
pub(super) enum Interner {
    Collecting {
        strings: BTreeSet<String>,
        paths: BTreeSet<Vec<String>>,
    },
    /// `lacking`: something was looked for that had not been collected.
    Finished {
        strings: Vec<String>,
        paths: Vec<Vec<String>>,
        lacking: bool,
    },
}

impl Default for Interner {
    fn default() -> Self {
        Interner::collecting()
    }
}

impl Interner {
    pub fn collecting() -> Self {
        Interner::Collecting { strings: BTreeSet::from([String::new()]), paths: BTreeSet::new() }
    }

    pub fn finished(self) -> Self {
        match self {
            Interner::Collecting { strings, paths } => {
                let (strings, paths) = (strings.into_iter().collect(), paths.into_iter().collect());
                Interner::Finished { strings, paths, lacking: false }
            }
            finished => finished,
        }
    }

    /// Adds what a document collected.
    pub fn absorb(&mut self, out: &mut Out<'_>) {
        if let (Interner::Collecting { strings, paths }, Interner::Collecting { strings: of, paths: paths_of }) =
            (self, std::mem::take(&mut out.strings))
        {
            strings.extend(of);
            paths.extend(paths_of);
        }
    }

    /// True if an index was asked for that is none.
    pub fn lacks_some(&self) -> bool {
        matches!(self, Interner::Finished { lacking: true, .. })
    }

    pub fn index(&mut self, text: &str) -> u32 {
        match self {
            Interner::Collecting { strings, .. } => {
                if !strings.contains(text) {
                    strings.insert(text.to_owned());
                }
                0
            }
            Interner::Finished { strings, lacking, .. } => {
                position(strings.binary_search_by(|have| have.as_str().cmp(text)), lacking)
            }
        }
    }

    /// Index of a claim path that a subject looks at.
    pub fn path(&mut self, path: &[String]) -> u32 {
        for segment in path {
            self.index(segment);
        }
        match self {
            Interner::Collecting { paths, .. } => {
                paths.insert(path.to_vec());
                0
            }
            Interner::Finished { paths, lacking, .. } => {
                position(paths.binary_search_by(|have| have.as_slice().cmp(path)), lacking)
            }
        }
    }

    pub fn encode_path(&mut self, path: &[String]) -> v1::ClaimPath {
        v1::ClaimPath { segments: path.iter().map(|segment| self.index(segment)).collect() }
    }

    pub fn claim_paths(&self) -> Vec<Vec<String>> {
        match self {
            Interner::Collecting { paths, .. } => paths.iter().cloned().collect(),
            Interner::Finished { paths, .. } => paths.clone(),
        }
    }

    pub fn strings(&self) -> Vec<String> {
        match self {
            Interner::Collecting { strings, .. } => strings.iter().cloned().collect(),
            Interner::Finished { strings, .. } => strings.clone(),
        }
    }
}

/// Every string was collected by the same code, so the search finds it. Index 0 is the empty string; who gets it for
/// another one is told.
fn position(found: Result<usize, usize>, lacking: &mut bool) -> u32 {
    let at = found.ok().and_then(|at| u32::try_from(at).ok());
    *lacking |= at.is_none();
    at.unwrap_or(0)
}

/// Findings and strings of one document.
pub(super) struct Out<'a> {
    pub document: &'a Document,
    pub diagnostics: Vec<Diagnostic>,
    strings: Interner,
}

impl<'a> Out<'a> {
    pub fn new(document: &'a Document) -> Self {
        Out::with(document, Interner::collecting())
    }
    pub fn with(document: &'a Document, strings: Interner) -> Self {
        Out { document, diagnostics: Vec::new(), strings }
    }
    pub fn into_strings(self) -> Interner {
        self.strings
    }
    pub fn is_clean(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
    pub fn error(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.push(Diagnostic::of(self.document, Severity::Error, code, path, message));
    }
    pub fn warn(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.push(Diagnostic::of(self.document, Severity::Warning, code, path, message));
    }
    /// One rule over hundreds of components says the same only once.
    fn push(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }
    pub fn s(&mut self, text: &str) -> u32 {
        self.strings.index(text)
    }
    pub fn optional(&mut self, text: Option<&str>) -> u32 {
        text.map_or(0, |text| self.s(text))
    }
    pub fn sorted<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) -> Vec<u32> {
        let mut out: Vec<u32> = texts.into_iter().map(|text| self.s(text)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }
    /// A name, which proxies refuse when it is empty: one such name would keep the whole bundle from them.
    pub fn name(&mut self, path: impl Into<String>, name: &str) -> u32 {
        if name.is_empty() {
            self.error("empty_name", path, "a name here is empty; write it, or leave it out");
        }
        self.s(name)
    }
    /// As [`Out::sorted`], of names that must not be empty.
    pub fn names<'t>(&mut self, path: &str, names: impl IntoIterator<Item = &'t str>) -> Vec<u32> {
        let all: Vec<&str> = names.into_iter().collect();
        if all.contains(&"") {
            self.name(path, "");
        }
        self.sorted(all)
    }
    pub fn path(&mut self, path: &[String]) -> u32 {
        self.strings.path(path)
    }
    pub fn encode_path(&mut self, path: &[String]) -> v1::ClaimPath {
        self.strings.encode_path(path)
    }
}

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
    pub services: BTreeMap<&'a str, ServiceFacts>,
    pub roles: BTreeMap<&'a str, &'a AccessRole>,
    /// All keys, accepted or not: whether a role's placeholder can be filled must not depend on the order of checks.
    pub keys: Vec<(&'a str, &'a AccessKey)>,
    pub hashes: BTreeMap<[u8; 32], &'a str>,
    pub matches: BTreeMap<(String, String), &'a str>,
    /// The checks are done; documents do not collide with themselves any more.
    pub checked: bool,
}

impl<'a> Context<'a> {
    pub fn new(documents: &[&'a Document]) -> Self {
        let keys = documents.iter().filter_map(|document| match &document.spec {
            Spec::AccessKey(key) => Some((document.name.as_str(), key)),
            _ => None,
        });
        Context {
            names: documents.iter().map(|document| (document.kind, document.name.as_str())).collect(),
            providers: BTreeMap::new(),
            services: BTreeMap::new(),
            roles: BTreeMap::new(),
            keys: keys.collect(),
            hashes: BTreeMap::new(),
            matches: BTreeMap::new(),
            checked: false,
        }
    }

    pub fn accept_provider(&mut self, name: &'a str, spec: &'a IdentityProvider, keys: Vec<Jwk>) {
        self.providers.insert(name, (spec, keys));
    }

    pub fn accept_service(&mut self, name: &'a str, _: &'a DataService, facts: ServiceFacts) {
        for key in &facts.matches {
            self.matches.insert(key.clone(), name);
        }
        self.services.insert(name, facts);
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
