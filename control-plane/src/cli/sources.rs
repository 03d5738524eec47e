//! Policy documents of files and directories, and the tables compiled from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::{self, Compiled, KeyLocation, KeySource},
    document::{self, Diagnostic, Document},
};
use serde_json::{Value, json};

const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 50_000;

/// Every YAML file under these paths, sorted; hidden files and directories are passed over, unless named.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for path in paths {
        let about = fs::metadata(path)
            .with_context(|| format!("cannot read {}; give a policy file or a directory", path.display()))?;
        if about.is_dir() {
            walk(path, 0, &mut found)?;
        } else {
            found.insert(path.clone());
        }
    }
    if found.is_empty() {
        bail!("there is no *.yaml or *.yml file under the given paths; check the path");
    }
    Ok(found.into_iter().collect())
}

fn walk(directory: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("{} lies deeper than {MAX_DEPTH} directories; move it up", directory.display());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if path.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if yaml {
            if found.len() >= MAX_FILES {
                bail!("there are more than {MAX_FILES} policy files; name the directories one by one");
            }
            found.insert(path);
        }
    }
    Ok(())
}

/// The text of one file.
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
    /// Number of files.
    pub files: usize,
}

impl Sources {
    /// Reads and compiles everything under these paths. `keys`: JWK sets by provider, besides `inline` and `file`.
    pub fn load(paths: &[PathBuf], scope: &str, keys: &BTreeMap<String, PathBuf>) -> anyhow::Result<Self> {
        let files = files(paths)?;
        let (mut documents, mut diagnostics) = (Vec::new(), Vec::new());
        for file in &files {
            let parsed = document::parse_file(&file.to_string_lossy(), &read(file)?);
            documents.extend(parsed.documents);
            diagnostics.extend(parsed.diagnostics);
        }
        let mut given = BTreeMap::new();
        for (provider, path) in keys {
            given.insert(provider.clone(), read(path)?);
        }
        let mut compiled = compile::compile(&documents, &Keys { given }, scope);
        // Without a network, a key set that is fetched elsewhere is no defect of the document.
        compiled.diagnostics.retain(|found| found.code != "keys_missing" || found.is_error());
        compiled.diagnostics.extend(diagnostics);
        compiled.diagnostics.sort();
        Ok(Sources { documents, compiled, files: files.len() })
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.compiled.diagnostics.iter().filter(|found| found.is_error()).count()
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
