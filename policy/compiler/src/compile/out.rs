//! What is collected of one document while it is checked and encoded: findings, and strings by index.

use crate::document::{Diagnostic, Document, Severity};
use doorward_proto::v1;
use std::collections::BTreeSet;

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
