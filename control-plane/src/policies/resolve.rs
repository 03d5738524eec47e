//! Which version of every document is in force.
//!
//! * A document that compiles is in force as written.
//! * One that does not is held at its last good version; the rest goes on.
//! * One that compiles in neither version is left out if that can only narrow access (roles, bindings, keys, identity
//!   providers). If it is a restriction or a service, or of a kind that cannot be told, leaving it out could widen
//!   access: then nothing is published and the whole last bundle stays in force.
//!   Where the document belongs to a namespace, only that namespace stays as it was: what somebody there writes must not keep
//!   others' policy from going on.
//! * One that is no longer in the directory is gone.

use std::collections::BTreeSet;

use doorward_policy_compiler::{
    compile::namespaces::Boundary,
    document::{Spec, namespace::namespace},
};
use doorward_proto::v1::{Diagnostic, DocumentStatus};

use super::compiler::{self, Compiled, Document};
use crate::{
    jwks::KeySets,
    policy_store::{GoodDocument, GoodDocuments},
    source::{
        Part, Reading,
        chunk::{self, Chunk},
    },
};

/// Code of the diagnostic while a namespace stays as it was.
pub const NAMESPACE_HELD: &str = "namespace_held";
/// Kinds without which more could be allowed.
const NEVER_LEFT_OUT: [&str; 2] = ["AccessRestriction", "DataService"];
/// Kinds without which less is allowed.
const MAY_BE_LEFT_OUT: [&str; 5] = ["IdentityProvider", "AccessRole", "AccessBinding", "AccessKey", "PolicyTest"];

/// Whether leaving out a document of this kind could widen access. A kind that is unknown, or cannot be read, could have
/// been meant as any; but documents of other systems are none of ours.
fn could_widen(kind: &str, text: &str) -> bool {
    NEVER_LEFT_OUT.contains(&kind) || !MAY_BE_LEFT_OUT.contains(&kind) && text.contains("doorward.dev/")
}

/// Why nothing is published, and the last policy stays in force.
#[derive(Debug, thiserror::Error)]
pub enum Unpublished {
    /// A document that has no name, so that nobody can say what it was meant to cut.
    #[error(
        "the document at {file}:{line} cannot be read so far that it has a kind and a name, and leaving it out could widen \
         access"
    )]
    Unnamed {
        /// The part that it stands in.
        file: String,
        /// Its first line there.
        line: u32,
    },
    /// A part that cannot be read.
    #[error("{part} cannot be read, nothing is known of what it holds, and leaving it out could widen access")]
    Unread {
        /// Its origin.
        part: String,
    },
    /// A restriction or a service.
    #[error("{document} does not compile as written, {otherwise}, and leaving it out could widen access")]
    Needed {
        /// Kind and name.
        document: String,
        /// How it is with its last good version.
        otherwise: &'static str,
    },
    /// An error that belongs to no document.
    #[error("{0}")]
    Stray(String),
    /// Every choice of versions has errors.
    #[error("no set of documents compiles")]
    NoSet,
    /// Everything is gone.
    #[error("there is no document left; restart with --allow-empty if an empty policy is meant")]
    Empty,
    /// A defect of what loads a policy, in proxies as here.
    #[error("internal error, please report it: loading what was compiled panicked, and so it would in proxies")]
    Panicked,
    /// A defect of the compiler, which proxies would find.
    #[error("internal error, please report it: what was compiled does not load, and proxies would refuse it ({0})")]
    Refused(#[from] compiler::Refused),
}

/// The outcome of one reading of the source.
pub struct Resolution {
    /// What to publish; `Err` says why nothing is.
    pub compiled: Result<Compiled, Unpublished>,
    /// The documents in force, for the next time.
    pub good: GoodDocuments,
    /// Every document and how it fared.
    pub documents: Vec<DocumentStatus>,
    /// Everything that was found wrong or doubtful.
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Written,
    LastGood,
    LeftOut,
}

/// How the name of a document is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// The document says it.
    Surely,
    /// It is no YAML. Read line by line, it seems to have this name.
    ByItsText,
    /// It cannot even be named.
    Not,
}

struct Candidate {
    kind: String,
    name: String,
    source: GoodDocument,
    documents: Vec<Document>,
    version: Version,
}

impl Candidate {
    fn key(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// Kind and name of each document of which nothing else is wrong than that another one has what it claims.
fn lost_claims(found: &[Diagnostic]) -> BTreeSet<(String, String)> {
    let errors = || found.iter().filter(|found| found.severity == compiler::ERROR);
    let claims = |code: &str| matches!(code, "host_claimed" | "match_overlap");
    let named = |found: &Diagnostic| (found.kind.clone(), found.name.clone());
    let others: BTreeSet<_> = errors().filter(|found| !claims(&found.code)).map(named).collect();
    errors().filter(|found| claims(&found.code)).map(named).filter(|named| !others.contains(named)).collect()
}

fn error(code: &str, kind: &str, name: &str, file: &str, line: u32, message: String) -> Diagnostic {
    Diagnostic {
        severity: compiler::ERROR.into(),
        code: code.into(),
        kind: kind.into(),
        name: name.into(),
        file: file.into(),
        line,
        path: String::new(),
        message,
    }
}

struct Resolver<'a> {
    previous: &'a GoodDocuments,
    candidates: Vec<Candidate>,
    diagnostics: Vec<Diagnostic>,
    /// A document that compiles in no version and must not be left out.
    blocked: Option<Unpublished>,
    /// The namespace whose documents hold for all.
    trusted: Option<String>,
    /// Namespaces that are held at their last good state.
    held: BTreeSet<String>,
    /// What was found about documents of namespaces while all were as written.
    written: Vec<Diagnostic>,
}

/// Chooses versions until the set compiles.
pub fn resolve(reading: &Reading, previous: &GoodDocuments, keys: &KeySets, scope: &str) -> Resolution {
    let mut resolver = Resolver {
        previous,
        candidates: Vec::new(),
        diagnostics: Vec::new(),
        blocked: None,
        trusted: reading.boundary.trusted.clone(),
        held: BTreeSet::new(),
        written: Vec::new(),
    };
    for remark in &reading.remarks {
        let about = error(remark.code, "", "", &remark.origin, 0, remark.message.clone());
        resolver.diagnostics.push(Diagnostic { severity: "warning".into(), ..about });
    }
    resolver.read(&reading.parts);
    let compiled = resolver.settle(keys, scope, &reading.boundary);
    resolver.finish(compiled)
}

impl Resolver<'_> {
    fn read(&mut self, parts: &[Part]) {
        let mut seen = BTreeSet::new();
        // Files in which something stands that cannot even be named: their documents stay as they were.
        let mut unreadable = Vec::new();
        let mut unnamed = Vec::new();
        for source in parts {
            let text = match &source.text {
                Ok(text) => text,
                Err(unread) => {
                    self.diagnostics.push(error("unreadable", "", "", &source.origin, 0, unread.to_string()));
                    unreadable.push(source.origin.clone());
                    // It could hold a restriction, and of what it held nothing is known.
                    if !self.previous.values().any(|good| good.file == source.origin) {
                        self.blocked = Some(Unpublished::Unread { part: source.origin.clone() });
                    }
                    continue;
                }
            };
            for chunk in chunk::split(text) {
                match self.read_chunk(&source.origin, source.generation, &chunk, &mut seen) {
                    Named::Surely => {}
                    // The name may be another one's: what stood in this file stays.
                    Named::ByItsText => unreadable.push(source.origin.clone()),
                    Named::Not => {
                        unreadable.push(source.origin.clone());
                        let kind = chunk.kind().unwrap_or_default();
                        if could_widen(&kind, &chunk.text) {
                            unnamed.push((source.origin.clone(), chunk.line, kind));
                        }
                    }
                }
            }
        }
        for (key, good) in self.previous {
            if unreadable.contains(&good.file)
                && !seen.contains(key)
                && let Some((kind, name)) = key.split_once('/')
            {
                let position = self.candidates.len();
                self.candidates.push(Candidate {
                    kind: kind.into(),
                    name: name.into(),
                    source: good.clone(),
                    documents: Vec::new(),
                    version: Version::Written,
                });
                self.demote(position);
                if let Some(held) = unnamed.iter().position(|(file, _, unnamed)| *file == good.file && *unnamed == kind)
                {
                    unnamed.swap_remove(held);
                }
            }
        }
        if let Some((file, line, _)) = unnamed.first() {
            self.blocked = Some(Unpublished::Unnamed { file: file.clone(), line: *line });
        }
    }

    /// Reads one document. How its name is known.
    fn read_chunk(&mut self, file: &str, generation: i64, chunk: &Chunk, seen: &mut BTreeSet<String>) -> Named {
        let (documents, diagnostics) = compiler::parse(file, &chunk.in_place());
        let broken = diagnostics.iter().any(|d| d.severity == compiler::ERROR);
        // What is YAML says itself what it is called.
        let said = diagnostics.iter().find(|d| !d.kind.is_empty() && !d.name.is_empty());
        let said = said.map(|d| (d.kind.clone(), d.name.clone()));
        self.diagnostics.extend(diagnostics);
        if documents.is_empty() && !broken {
            return Named::Surely;
        }
        let sure = documents.first().map(compiler::identity).or(said);
        let named = if sure.is_some() { Named::Surely } else { Named::ByItsText };
        let Some((kind, name)) = sure.or_else(|| chunk.identity()) else { return Named::Not };
        let source = GoodDocument { file: file.to_owned(), line: chunk.line, text: chunk.text.clone(), generation };
        let candidate = Candidate { kind, name, source, documents, version: Version::Written };
        let key = candidate.key();
        if named == Named::ByItsText && seen.contains(&key) {
            return Named::Not;
        }
        if !seen.insert(key.clone()) {
            // Which of the two is meant, nobody can say: the last good version decides, or neither.
            let message = format!("{key} is defined twice; remove or rename one of the two.");
            self.diagnostics.push(error("duplicate", &candidate.kind, &candidate.name, file, chunk.line, message));
            if let Some(first) = self.candidates.iter().position(|c| c.key() == key && c.version == Version::Written) {
                self.demote(first);
            }
            self.candidates.push(Candidate { version: Version::LeftOut, documents: Vec::new(), ..candidate });
            return named;
        }
        self.candidates.push(candidate);
        if broken {
            self.demote(self.candidates.len() - 1);
        }
        named
    }

    /// Written → last good → left out.
    fn demote(&mut self, position: usize) {
        let Some(candidate) = self.candidates.get_mut(position) else { return };
        let good = self.previous.get(&candidate.key());
        if candidate.version == Version::Written
            && let Some(good) = good
        {
            let (documents, diagnostics) = compiler::parse(&good.file, &chunk::in_place(good.line, &good.text));
            if !diagnostics.iter().any(|d| d.severity == compiler::ERROR) {
                candidate.version = Version::LastGood;
                candidate.documents = documents;
                return;
            }
        }
        candidate.version = Version::LeftOut;
        candidate.documents = Vec::new();
        if could_widen(&candidate.kind, &candidate.source.text) {
            let otherwise = if good.is_some() { "nor in its last good version" } else { "has no last good version" };
            let needed = Unpublished::Needed { document: candidate.key(), otherwise };
            let (key, file, line) = (candidate.key(), candidate.source.file.clone(), candidate.source.line);
            match namespace(&candidate.name).to_owned() {
                // What the trusted namespace restricts, holds for all.
                own if own.is_empty() || self.trusted.as_ref() == Some(&own) => self.blocked = Some(needed),
                own => self.hold(&own, &key, &file, line, &needed),
            }
        }
    }

    /// Whether a service of a namespace was never in force, and all that is wrong with it is that another one has what it claims.
    fn has_only_claimed(&self, candidate: &Candidate, lost: &BTreeSet<(String, String)>) -> bool {
        candidate.kind == "DataService"
            && !namespace(&candidate.name).is_empty()
            && !self.previous.contains_key(&candidate.key())
            && lost.contains(&(candidate.kind.clone(), candidate.name.clone()))
    }

    /// All documents of a namespace at their last good versions; what has none is left out, as it was before. Held already, or without
    /// any last good version here: its services stay known and closed, and all else of it is left out.
    fn hold(&mut self, own: &str, document: &str, file: &str, line: u32, why: &Unpublished) {
        let again = !self.held.insert(own.to_owned());
        let (kind, name) = document.split_once('/').unwrap_or_default();
        let message = if again {
            format!("Namespace {own} grants nothing any more: {why}.")
        } else {
            format!("Namespace {own} stays as it was as a whole: {why}.")
        };
        self.diagnostics.push(error(NAMESPACE_HELD, kind, name, file, line, message));
        let of_own = |key: &String| key.split_once('/').is_some_and(|(_, name)| namespace(name) == own);
        let closed = again || !self.previous.keys().any(of_own);
        for candidate in self.candidates.iter_mut().filter(|candidate| namespace(&candidate.name) == own) {
            if closed && candidate.kind == "DataService" {
                // Without its services, a proxy with `unmatched: allow` would let requests to them through. Nobody is granted
                // anything on them, other namespaces' roles included.
                for document in &mut candidate.documents {
                    if let Spec::DataService(service) = &mut document.spec {
                        service.allowed_namespaces.clear();
                    }
                }
                continue;
            }
            let good = self.previous.get(&candidate.key()).filter(|_| !again);
            let parsed = good.map(|good| compiler::parse(&good.file, &chunk::in_place(good.line, &good.text)));
            match parsed.filter(|(_, found)| !found.iter().any(|found| found.severity == compiler::ERROR)) {
                Some((documents, _)) => (candidate.version, candidate.documents) = (Version::LastGood, documents),
                None => (candidate.version, candidate.documents) = (Version::LeftOut, Vec::new()),
            }
        }
    }

    fn settle(&mut self, keys: &KeySets, scope: &str, boundary: &Boundary) -> Result<Compiled, Unpublished> {
        // Every round demotes at least one document, and each can be demoted twice.
        for round in 0..=self.candidates.len().saturating_mul(2) {
            if let Some(blocked) = self.blocked.take() {
                return Err(blocked);
            }
            let documents: Vec<Document> = self.candidates.iter().flat_map(|c| c.documents.iter().cloned()).collect();
            let (compiled, diagnostics) = compiler::compile(&documents, keys, scope, boundary);
            if round == 0 {
                let found = diagnostics.iter().filter(|found| !namespace(&found.name).is_empty());
                self.written = found.cloned().collect();
            }
            // What refers to a broken document fails as well, through no fault of its own: the kind that others refer to
            // is mended first, and the rest judged again.
            let mut to_demote = BTreeSet::new();
            let (mut first, mut stray) = (usize::MAX, None);
            for diagnostic in diagnostics.iter().filter(|d| d.severity == compiler::ERROR) {
                let named = |c: &Candidate| {
                    c.kind == diagnostic.kind && c.name == diagnostic.name && c.version != Version::LeftOut
                };
                let Some(position) = self.candidates.iter().position(named) else {
                    stray = Some(diagnostic.message.clone());
                    continue;
                };
                let order = compiler::order(&diagnostic.kind);
                if order < first {
                    first = order;
                    to_demote.clear();
                }
                if order == first {
                    to_demote.insert(position);
                }
            }
            // A round that is followed by another one has only proved its own kind wrong.
            let proven = |d: &Diagnostic| {
                to_demote.is_empty() || d.severity != compiler::ERROR || compiler::order(&d.kind) == first
            };
            let diagnostics: Vec<Diagnostic> = diagnostics.into_iter().filter(proven).collect();
            self.diagnostics.extend(diagnostics);
            if to_demote.is_empty() {
                return stray.map_or(Ok(compiled), |message| Err(Unpublished::Stray(message)));
            }
            let lost = lost_claims(&self.diagnostics);
            let is_lost = |position: &usize| {
                self.candidates.get(*position).is_some_and(|candidate| self.has_only_claimed(candidate, &lost))
            };
            let losers: BTreeSet<usize> = to_demote.iter().copied().filter(is_lost).collect();
            for position in to_demote {
                match self.candidates.get_mut(position).filter(|_| losers.contains(&position)) {
                    // Whose claims are another's, and which was never in force: without it requests are still the other's.
                    Some(candidate) => (candidate.version, candidate.documents) = (Version::LeftOut, Vec::new()),
                    None => self.demote(position),
                }
            }
        }
        Err(Unpublished::NoSet)
    }

    fn finish(self, compiled: Result<Compiled, Unpublished>) -> Resolution {
        let documents = self.candidates.iter().map(|c| DocumentStatus {
            kind: c.kind.clone(),
            name: c.name.clone(),
            file: c.source.file.clone(),
            line: c.source.line,
            accepted: c.version == Version::Written && compiled.is_ok(),
            last_good: c.version == Version::LastGood,
            generation: c.source.generation,
            // The engine knows it.
            epoch: 0,
        });
        let good = match &compiled {
            Err(_) => self.previous.clone(),
            Ok(_) => self
                .candidates
                .iter()
                .filter_map(|c| match c.version {
                    Version::Written => Some((c.key(), c.source.clone())),
                    // A role that fits nothing today may fit again when its service is back.
                    Version::LastGood | Version::LeftOut => {
                        self.previous.get(&c.key()).map(|good| (c.key(), good.clone()))
                    }
                })
                .collect(),
        };
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        // Of a namespace that is held nothing else was compiled: its people want to know all the same what is wrong.
        let of_held = self.written.into_iter().filter(|found| self.held.contains(namespace(&found.name)));
        for diagnostic in self.diagnostics.into_iter().chain(of_held) {
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
        Resolution { documents: documents.collect(), good, diagnostics, compiled }
    }
}

#[cfg(test)]
mod tests;
