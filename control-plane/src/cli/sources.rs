//! Policy documents of files and directories, and the tables compiled from them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::{self, Compiled, KeyLocation, KeySource, namespaces::Boundary},
    document::{self, Diagnostic, Document, Severity},
};
use serde_json::{Value, json};

use super::output::clean;
use crate::source::{Part, Reading, read_whole, registry};

/// The text of a file that is no policy, or of one that is to be written; it may be empty.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let about = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if about.len() > document::MAX_FILE as u64 {
        bail!("{} is larger than {} bytes; split it", path.display(), document::MAX_FILE);
    }
    fs::read_to_string(path).with_context(|| format!("cannot read {} as text", path.display()))
}

/// Documents as read and compiled.
#[derive(Debug)]
pub struct Sources {
    /// Documents that could be read.
    pub documents: Vec<Document>,
    /// What came of them; `diagnostics` has those of reading too.
    pub compiled: Compiled,
    /// Number of files, or of what else a source has its documents in.
    pub files: usize,
}

impl Sources {
    /// Reads and compiles everything under these paths. `keys`: JWK sets by provider, besides `inline` and `file`.
    pub fn load(paths: &[PathBuf], scope: &str, keys: &BTreeMap<String, PathBuf>) -> anyhow::Result<Self> {
        let (mut documents, mut diagnostics, mut files) = (Vec::new(), Vec::new(), 0);
        let mut boundary = Boundary::default();
        let sources = registry::open_all(paths)?;
        let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
        for source in sources {
            let Reading { parts, remarks, boundary: its } = read_whole(&*source)?;
            boundary.trusted = boundary.trusted.or(its.trusted);
            files += parts.len();
            for Part { origin, text, .. } in parts {
                match text {
                    Ok(text) => {
                        let parsed = document::parse_file(&origin, &text);
                        documents.extend(parsed.documents);
                        diagnostics.extend(parsed.diagnostics);
                    }
                    Err(unread) => {
                        diagnostics.push(about(origin, Severity::Error, "unreadable", unread.to_string()));
                    }
                }
            }
            diagnostics.extend(
                remarks.into_iter().map(|found| about(found.origin, Severity::Warning, found.code, found.message)),
            );
        }
        if files == 0 {
            bail!(
                "nothing is in {}; check the path. In a directory, files that end in .yaml or .yml count",
                names.join(", ")
            );
        }
        let mut given = BTreeMap::new();
        for (provider, path) in keys {
            given.insert(provider.clone(), read(path)?);
        }
        let mut compiled = compile::compile_within(&documents, &Keys { given }, scope, &boundary);
        // Without a network, a key set that is fetched elsewhere is no defect of the document.
        compiled.diagnostics.retain(|found| found.code != "keys_missing" || found.is_error());
        compiled.diagnostics.extend(diagnostics);
        compiled.diagnostics.sort();
        Ok(Sources { documents, compiled, files })
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.compiled.diagnostics.iter().filter(|found| found.is_error()).count()
    }

    /// Prints what was found to standard error, one finding a line.
    pub fn report(&self) {
        for found in &self.compiled.diagnostics {
            eprintln!("{}", clean(&found.to_string()));
        }
    }

    /// The tables that decide.
    pub fn tables(&self) -> anyhow::Result<Tables> {
        Tables::build(&self.compiled.bundle, self.compiled.digest, 1)
            .context("the compiled policy does not load; this is a defect of doorward")
    }

    /// `file:line` of a path in a document.
    pub fn place(&self, kind: &str, name: &str, path: &str) -> Option<(String, usize)> {
        let document =
            self.documents.iter().find(|document| document.kind.as_str() == kind && document.name == name)?;
        Some((document.file.clone(), document.lines.line(path)))
    }
}

/// A finding about a part of a source as a whole.
fn about(file: String, severity: Severity, code: &'static str, message: String) -> Diagnostic {
    Diagnostic { file, line: 0, kind: None, name: String::new(), path: String::new(), severity, code, message }
}

struct Keys {
    given: BTreeMap<String, String>,
}

impl KeySource for Keys {
    fn jwks(&self, provider: &str, location: KeyLocation<'_>) -> Option<String> {
        self.given.get(provider).cloned().or_else(|| match location {
            KeyLocation::File(path) => read(Path::new(path)).ok(),
            _ => None,
        })
    }
}

/// A diagnostic as JSON.
pub fn diagnostic(found: &Diagnostic) -> Value {
    json!({
        "severity": if found.is_error() { "error" } else { "warning" },
        "code": found.code,
        "kind": found.kind.map(|kind| kind.as_str()),
        "name": found.name,
        "file": found.file,
        "line": found.line,
        "path": found.path,
        "message": found.message,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::source::{PolicySource as _, directory::Directory};

    const ROLE: &str =
        "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: a }\nspec: { grants: [] }\n";

    #[test]
    fn the_control_plane_and_the_command_line_read_a_directory_by_the_same_rules() {
        type Build = fn(&Path);
        /// How many files count and how many of them are unread; `None`: the source cannot be read.
        type Found = Option<(usize, usize)>;
        // What is added to a directory with one file, and what is found then.
        let cases: [(&str, Build, Found); 9] = [
            ("an empty file", |dir| fs::write(dir.join("b.yaml"), "").unwrap(), Some((2, 1))),
            ("not UTF-8", |dir| fs::write(dir.join("b.yaml"), [0xff]).unwrap(), Some((2, 1))),
            (
                "too large",
                |dir| fs::write(dir.join("b.yml"), "#".repeat(document::MAX_FILE + 1)).unwrap(),
                Some((2, 1)),
            ),
            ("hidden", |dir| fs::write(dir.join(".b.yaml"), "").unwrap(), Some((1, 0))),
            ("another extension", |dir| fs::write(dir.join("b.json"), "").unwrap(), Some((1, 0))),
            ("a circle of links", |dir| symlink(dir, dir.join("b")).unwrap(), Some((1, 0))),
            ("a policy link to nowhere", |dir| symlink("gone", dir.join("b.yaml")).unwrap(), Some((2, 1))),
            ("a directory that is not mounted", |dir| symlink("gone", dir.join("b")).unwrap(), None),
            (
                "a ConfigMap",
                |dir| {
                    fs::create_dir(dir.join("..v1")).unwrap();
                    fs::write(dir.join("..v1/b.yaml"), "#").unwrap();
                    symlink("..v1", dir.join("..data")).unwrap();
                    symlink("..data/b.yaml", dir.join("b.yaml")).unwrap();
                },
                Some((2, 0)),
            ),
        ];
        for (name, build, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("a.yaml"), ROLE).unwrap();
            build(dir.path());
            let served = Directory::watched(dir.path()).unwrap().read().ok();
            let served = served
                .map(|reading| (reading.parts.len(), reading.parts.iter().filter(|part| part.text.is_err()).count()));
            assert_eq!(served, expected, "serve: {name}");
            let shown = Sources::load(&[dir.path().to_path_buf()], "default", &BTreeMap::new()).ok();
            let shown = shown.map(|sources| {
                let unread = |found: &&Diagnostic| found.code == "unreadable";
                (sources.files, sources.compiled.diagnostics.iter().filter(unread).count())
            });
            assert_eq!(shown, expected, "command line: {name}");
        }
    }
}
