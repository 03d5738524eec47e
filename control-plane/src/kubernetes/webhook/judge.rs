//! What the compiler says about a document before it is there: the same compiler, over the document and what it touches.
//!
//! To compile everything takes a second where there are ten thousand documents. So only these are looked at: what the document
//! refers to, what could have the same claim, and what refers to it.

use std::{collections::BTreeSet, sync::Arc};

use doorward_policy_compiler::{
    compile::{self, KeyLocation, KeySource, namespaces::Boundary},
    document::{
        self, Diagnostic, Document, Kind, Spec,
        access_binding::Subject,
        namespace::{namespace, resolve},
    },
};

use crate::kubernetes::index::{Index, Key};

/// Documents that refer to one, and are looked at.
const MAX_DEPENDENTS: usize = 200;
/// Findings that are told.
const MAX_TOLD: usize = 20;
/// What refers to nothing today may be applied in the same breath: `kubectl apply -f` goes through files by name.
const LATER: [&str; 4] = ["unknown_role", "unknown_service", "unknown_provider", "unknown_key"];

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; empty: it is not.
    pub errors: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// What is asked about a document.
pub enum Question<'a> {
    /// Whether it may be there as this text has it.
    Put(&'a str),
    /// What follows if it is gone.
    Delete,
}

/// Judges a document of this name in policies.
pub fn judge(index: &Index, boundary: &Boundary, key: &Key, name: &str, question: &Question<'_>) -> Verdict {
    let all: Vec<Arc<Document>> = index
        .objects()
        .iter()
        .filter(|object| object.key != *key)
        .filter_map(|object| object.document.clone())
        .collect();
    let old = index.object(key).and_then(|object| object.document.clone());
    let new = match question {
        Question::Delete => None,
        Question::Put(text) => {
            let parsed = document::parse_file(&key.origin(), text);
            let Some(document) = parsed.documents.into_iter().next() else {
                let mut errors = told(parsed.diagnostics.iter(), sentence);
                if errors.is_empty() {
                    errors.push("it cannot be read as a document".to_owned());
                }
                return Verdict { errors, warnings: Vec::new() };
            };
            Some(document)
        }
    };
    let near = Near::of(&all, key.kind, name, [old.as_deref(), new.as_ref()]);
    let compiled = |document: Option<&Document>| {
        let documents: Vec<Document> =
            near.documents.iter().map(|near| (**near).clone()).chain(document.cloned()).collect();
        let mut found = compile::compile_within(&documents, &Unfetched, "default", boundary).diagnostics;
        // Without a network, a key set that is fetched elsewhere is no defect of the document.
        found.retain(|found| found.code != "keys_missing" || found.is_error());
        found
    };
    let (before, after) = (compiled(old.as_deref()), compiled(new.as_ref()));
    let own = |found: &&Diagnostic| found.kind == Some(key.kind) && found.name == name;
    let later = |found: &&Diagnostic| LATER.contains(&found.code);
    let errors = told(after.iter().filter(own).filter(|found| found.is_error() && !later(found)), sentence);
    let mut warnings = told(after.iter().filter(own).filter(|found| !found.is_error() || later(found)), |found| {
        if found.is_error() { format!("{}; until then it is not in force", sentence(found)) } else { sentence(found) }
    });
    // A finding about somebody else that was not there before.
    let known: BTreeSet<(Option<Kind>, &str, &str, &str)> = before
        .iter()
        .filter(|found| found.is_error())
        .map(|found| (found.kind, found.name.as_str(), found.path.as_str(), found.code))
        .collect();
    let broken = after.iter().filter(|found| {
        found.is_error() && !own(found) && !known.contains(&(found.kind, &found.name, &found.path, found.code))
    });
    warnings.extend(told(broken, |found| {
        let kind = found.kind.map_or("a document", Kind::as_str);
        format!(
            "{kind} {} will not compile any more, and stays at its last good version: {}",
            found.name,
            sentence(found)
        )
    }));
    warnings.truncate(MAX_TOLD);
    Verdict { errors, warnings }
}

/// As `doorward validate` says it, but for the place of the document.
fn sentence(found: &Diagnostic) -> String {
    let path = if found.path.is_empty() { String::new() } else { format!("{}: ", found.path) };
    format!("{path}{} [{}]", found.message, found.code)
}

fn told<'a>(found: impl Iterator<Item = &'a Diagnostic>, sentence: impl Fn(&Diagnostic) -> String) -> Vec<String> {
    found.take(MAX_TOLD).map(sentence).collect()
}

/// Nothing is fetched or read while the API server waits.
struct Unfetched;

impl KeySource for Unfetched {
    fn jwks(&self, _: &str, _: KeyLocation<'_>) -> Option<String> {
        None
    }
}

/// The documents around one.
struct Near {
    documents: Vec<Arc<Document>>,
}

impl Near {
    fn of(all: &[Arc<Document>], kind: Kind, name: &str, versions: [Option<&Document>; 2]) -> Self {
        let mut names = BTreeSet::new();
        for document in versions.into_iter().flatten() {
            references(document, &mut names);
        }
        let claims = |other: &Document| versions.into_iter().flatten().any(|document| collides(document, other));
        let me = (kind, name.to_owned());
        let mut dependents = 0;
        let mut near = vec![false; all.len()];
        for (document, near) in all.iter().zip(&mut near) {
            let mut theirs = BTreeSet::new();
            references(document, &mut theirs);
            let depends = theirs.contains(&me) && dependents < MAX_DEPENDENTS;
            dependents += usize::from(depends);
            // Whether a placeholder can be filled is said by all providers, and they are few.
            *near = document.kind == Kind::IdentityProvider || depends || claims(document);
            if *near {
                names.extend(theirs);
            }
        }
        // What is referred to refers on: a binding to a role, the role to services.
        loop {
            let before = names.len();
            for (document, near) in all.iter().zip(&mut near) {
                if !*near && names.contains(&(document.kind, document.name.clone())) {
                    *near = true;
                    references(document, &mut names);
                }
            }
            if names.len() == before {
                break;
            }
        }
        let documents = all.iter().zip(near).filter(|(_, near)| *near).map(|(document, _)| Arc::clone(document));
        Self { documents: documents.collect() }
    }
}

/// Whether two documents could want the same for themselves.
fn collides(one: &Document, other: &Document) -> bool {
    match (&one.spec, &other.spec) {
        (Spec::DataService(one), Spec::DataService(other)) => one.matches.iter().any(|one| {
            other.matches.iter().any(|other| {
                let hosts = |hosts: &[String]| {
                    hosts.iter().filter_map(|host| compile::hosts::normal(host)).collect::<BTreeSet<_>>()
                };
                let (ours, theirs) = (hosts(&one.hosts), hosts(&other.hosts));
                // A host under a wildcard of another namespace is not its own.
                if wild(&ours) || wild(&theirs) {
                    return true;
                }
                // The same host with another path belongs to a namespace as well.
                ours.is_empty() && theirs.is_empty() || !ours.is_disjoint(&theirs)
            })
        }),
        (Spec::AccessKey(one), Spec::AccessKey(other)) => one.hash == other.hash,
        _ => false,
    }
}

fn wild(hosts: &BTreeSet<String>) -> bool {
    hosts.iter().any(|host| host.starts_with('*'))
}

/// The documents that one refers to.
fn references(document: &Document, names: &mut BTreeSet<(Kind, String)>) {
    let own = namespace(&document.name);
    let mut add = |kind: Kind, name: &str| {
        names.insert((kind, resolve(own, name)));
    };
    let keys = |subjects: &[Subject], add: &mut dyn FnMut(Kind, &str)| {
        for key in subjects.iter().filter_map(|subject| subject.key.as_deref()) {
            add(Kind::AccessKey, key);
        }
    };
    match &document.spec {
        Spec::IdentityProvider(_) | Spec::DataService(_) => {}
        Spec::AccessRole(role) => role.grants.iter().for_each(|grant| add(Kind::DataService, &grant.service)),
        Spec::AccessBinding(binding) => {
            add(Kind::AccessRole, &binding.role);
            keys(&binding.subjects, &mut add);
        }
        Spec::AccessKey(key) => add(Kind::AccessRole, &key.role),
        Spec::AccessRestriction(restriction) => {
            restriction.services.iter().for_each(|service| add(Kind::DataService, service));
            keys(&restriction.subjects, &mut add);
        }
        Spec::PolicyTest(test) => {
            for identity in test.tests.iter().map(|case| &case.identity) {
                identity.key.iter().for_each(|key| add(Kind::AccessKey, key));
            }
        }
    }
}
