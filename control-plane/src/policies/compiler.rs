//! The seam to [`doorward_policy`]: documents in, a bundle and diagnostics in their wire form out.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use doorward_policy::bundle::{Tables, TablesError};
use doorward_policy_compiler::{
    compile::{self, KeyLocation, KeySource, namespaces::Boundary},
    document::{self, Kind, Spec, namespace::namespace},
};
use doorward_proto::v1;
use prost::Message as _;

use crate::{
    introspection::settings::{self, Providers},
    jwks::{Found, KeySets, Source, Want},
    policy_store::GoodDocuments,
};

pub use doorward_policy_compiler::document::Document;

/// Severity of a diagnostic because of which its document is left out.
pub const ERROR: &str = "error";

/// How often a key set is fetched where its document does not say.
const DEFAULT_REFRESH: Duration = Duration::from_secs(600);

/// How long the last good key set stays where its document does not say.
const DEFAULT_KEEP: Duration = Duration::from_secs(3600);

/// A compiled bundle.
pub struct Compiled {
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub digest: Vec<u8>,
    /// There is nothing in it.
    pub empty: bool,
    /// How its providers are asked about tokens; no part of the bundle.
    pub asked: Providers,
}

/// A proxy would refuse what was compiled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The digest is no SHA-256.
    #[error("its digest has a wrong length")]
    Digest,
    /// The tables cannot be built.
    #[error("its tables cannot be built: {0}")]
    Tables(#[from] TablesError),
}

impl Compiled {
    /// Puts it into force here, as each proxy will.
    ///
    /// # Errors
    /// A proxy would refuse it.
    pub fn load(&self) -> Result<Tables, Refused> {
        load(&self.bytes, &self.digest)
    }
}

/// Puts a bundle into force here, as each proxy will.
///
/// # Errors
/// A proxy would refuse it.
pub fn load(bytes: &[u8], digest: &[u8]) -> Result<Tables, Refused> {
    Ok(Tables::decode(bytes, digest.try_into().map_err(|_| Refused::Digest)?, 1)?)
}

/// `kind` and `metadata.name`.
pub fn identity(document: &Document) -> (String, String) {
    (document.kind.to_string(), document.name.clone())
}

/// Reads the text of one file.
pub fn parse(file: &str, text: &str) -> (Vec<Document>, Vec<v1::Diagnostic>) {
    let parsed = document::parse_file(file, text);
    (parsed.documents, parsed.diagnostics.iter().map(diagnostic).collect())
}

/// The place of a kind in the order of reference: what others refer to comes first.
pub fn order(kind: &str) -> usize {
    Kind::ALL.iter().position(|known| known.as_str() == kind).unwrap_or(Kind::ALL.len())
}

/// Compiles all documents. Those with errors are left out.
pub fn compile(
    documents: &[Document],
    keys: &KeySets,
    scope: &str,
    boundary: &Boundary,
) -> (Compiled, Vec<v1::Diagnostic>) {
    let source = Keys { documents, keys, problems: RefCell::default(), kept: RefCell::default() };
    let compiled = compile::compile_within(documents, &source, scope, boundary);
    let mut diagnostics: Vec<_> = compiled.diagnostics.iter().map(diagnostic).collect();
    // The compiler knows that keys are missing; why, only the fetcher knows.
    let problems = source.problems.into_inner();
    for found in diagnostics.iter_mut().filter(|found| found.code == "keys_missing") {
        if let Some(problem) = problems.get(&found.name) {
            found.message = format!("{}: {problem}", found.message);
        }
    }
    for document in documents.iter().filter(|document| document.kind == Kind::IdentityProvider) {
        if let Some((since, until)) = source.kept.borrow().get(&document.name) {
            diagnostics.push(v1::Diagnostic {
                severity: "warning".into(),
                code: "keys_kept".into(),
                kind: document.kind.to_string(),
                name: document.name.clone(),
                file: document.file.clone(),
                line: u32::try_from(document.line).unwrap_or(0),
                path: "spec.jwks".into(),
                message: format!(
                    "its key set has held no usable key since {}; the last good one stays until {}, and then every token of \
                     this provider is refused (jwks.keepLastGood)",
                    time(*since),
                    time(*until),
                ),
            });
        }
    }
    let empty = is_empty_bundle(&compiled.bundle);
    let asked = settings::of(documents);
    (Compiled { bytes: compiled.bytes, digest: compiled.digest.to_vec(), empty, asked }, diagnostics)
}

/// RFC 3339 in UTC to the second.
fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| "an unknown time".to_owned(), |at| format!("{at:.0}"))
}

struct Keys<'a> {
    documents: &'a [Document],
    keys: &'a KeySets,
    problems: RefCell<BTreeMap<String, String>>,
    /// Providers whose last good set stands in for the newest: since when, until when.
    kept: RefCell<BTreeMap<String, (i64, i64)>>,
}

impl KeySource for Keys<'_> {
    fn jwks(&self, provider: &str, location: KeyLocation<'_>) -> Option<String> {
        let spec = self.documents.iter().find_map(|document| match &document.spec {
            Spec::IdentityProvider(spec) if document.name == provider => Some(spec),
            _ => None,
        });
        let jwks = spec.and_then(|spec| spec.jwks.as_ref());
        let or = |given: Option<&document::common::Duration>, default| {
            given.map_or(default, |given| Duration::from_millis(given.0))
        };
        let public = !matches!(location, KeyLocation::File(_) | KeyLocation::Secret { .. });
        let usable = |text: &str| spec.is_none_or(|spec| compile::has_usable_key(spec, text, public));
        let want = Want {
            refresh: or(jwks.and_then(|jwks| jwks.refresh.as_ref()), DEFAULT_REFRESH),
            keep: or(jwks.and_then(|jwks| jwks.keep_last_good.as_ref()), DEFAULT_KEEP),
            usable: &usable,
        };
        let source = match location {
            KeyLocation::Uri(uri) => Source::Uri(uri.to_owned()),
            KeyLocation::Discovery(issuer) => Source::Issuer(issuer.to_owned()),
            KeyLocation::File(path) => Source::File(path.to_owned()),
            // One's own namespace's: a document cannot name another's.
            KeyLocation::Secret { name, key } => {
                Source::Secret { namespace: namespace(provider).to_owned(), name: name.to_owned(), key: key.to_owned() }
            }
        };
        match self.keys.get(&source, &want).map_err(|missing| missing.to_string()) {
            Ok(Found { body, stands_in }) => {
                if let Some(times) = stands_in {
                    self.kept.borrow_mut().insert(provider.to_owned(), times);
                }
                Some(body)
            }
            Err(problem) => {
                self.problems.borrow_mut().insert(provider.to_owned(), problem);
                None
            }
        }
    }
}

/// How the providers of this bundle are asked about tokens, by the documents that were last in force.
pub fn asked(bundle: &[u8], good: &GoodDocuments) -> Providers {
    let Ok(bundle) = v1::Bundle::decode(bundle) else { return Providers::new() };
    let names: BTreeSet<&str> = bundle
        .providers
        .iter()
        .filter(|provider| provider.introspection.is_some())
        .filter_map(|provider| bundle.strings.get(usize::try_from(provider.name).ok()?).map(String::as_str))
        .collect();
    let providers = good.iter().filter(|(key, _)| {
        key.split_once('/').is_some_and(|(kind, name)| kind == Kind::IdentityProvider.as_str() && names.contains(name))
    });
    let documents: Vec<Document> = providers.flat_map(|(_, good)| parse(&good.file, &good.text).0).collect();
    settings::of(&documents)
}

/// Whether an encoded bundle grants nothing and knows nothing.
pub fn is_empty(bytes: &[u8]) -> bool {
    v1::Bundle::decode(bytes).is_ok_and(|bundle| is_empty_bundle(&bundle))
}

fn is_empty_bundle(b: &v1::Bundle) -> bool {
    b.services.is_empty()
        && b.providers.is_empty()
        && b.roles.is_empty()
        && b.bindings.is_empty()
        && b.keys.is_empty()
        && b.restrictions.is_empty()
}

fn diagnostic(found: &document::Diagnostic) -> v1::Diagnostic {
    v1::Diagnostic {
        severity: if found.is_error() { ERROR.into() } else { "warning".into() },
        code: found.code.to_owned(),
        kind: found.kind.map(|kind| kind.to_string()).unwrap_or_default(),
        name: found.name.clone(),
        file: found.file.clone(),
        line: u32::try_from(found.line).unwrap_or(0),
        path: found.path.clone(),
        message: found.message.clone(),
    }
}
