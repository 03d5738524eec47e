//! What users write: Kubernetes-shaped YAML documents, typed, one file per kind.
//!
//! Reading never fails as a whole: [`parse_file`] gives the documents that could be read and a [`Diagnostic`] for each
//! that could not. What can only be known across documents is checked by [`crate::compile`].

pub mod access_binding;
pub mod access_key;
pub mod access_restriction;
pub mod access_role;
pub mod common;
pub mod crd;
pub mod data_service;
mod diagnostic;
pub mod identity_provider;
mod kind;
mod mistakes;
pub mod namespace;
pub mod policy_test;
mod preset;
pub mod schema;
mod serde_error;
pub mod suggest;
mod yaml;

pub use access_binding::AccessBinding;
pub use access_key::AccessKey;
pub use access_restriction::AccessRestriction;
pub use access_role::AccessRole;
pub use data_service::DataService;
pub use diagnostic::{Diagnostic, Severity};
pub use identity_provider::IdentityProvider;
pub use kind::{Document, Kind, Spec};
pub use policy_test::PolicyTest;
pub use yaml::PathLines;

use serde::Deserialize;
use serde_json::Value;

/// The `apiVersion` of all documents.
pub const API_VERSION: &str = "doorward.dev/v1alpha1";
/// Largest file, in bytes.
pub const MAX_FILE: usize = 4 * 1024 * 1024;

/// What a file held.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Documents that could be read, in their order.
    pub documents: Vec<Document>,
    /// What was wrong with the others.
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default, rename = "namespace")]
    _namespace: Option<String>,
    #[serde(default, rename = "creationTimestamp")]
    created: Option<common::Timestamp>,
    #[serde(default, rename = "labels")]
    _labels: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default, rename = "annotations")]
    _annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Reads a file of YAML documents. `apiVersion` may be left out where an earlier document of the file has it.
#[must_use]
pub fn parse_file(name: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if text.len() > MAX_FILE {
        let message = format!("the file is larger than {MAX_FILE} bytes; split it");
        parsed.diagnostics.push(Diagnostic::file(name, 0, "file_too_large", message));
        return parsed;
    }
    let mut version = None;
    for read in yaml::read(&yaml::without_mark(text)) {
        match read {
            Ok(node) => {
                if let Some(given) = node.value.get("apiVersion") {
                    version = Some(given.clone());
                }
                match document(name, node.value, node.lines, version.as_ref(), false) {
                    Ok(document) => parsed.documents.push(document),
                    Err(diagnostics) => parsed.diagnostics.extend(diagnostics),
                }
            }
            Err(error) => {
                let mut diagnostic = Diagnostic::file(name, error.line, error.code, error.message);
                diagnostic.path = error.path;
                parsed.diagnostics.push(diagnostic);
            }
        }
    }
    parsed
}

/// Reads one document that came as JSON, as the Kubernetes API gives a custom resource: server-side metadata and
/// `status` are passed over.
///
/// # Errors
/// What is wrong with it: all unknown fields and wrong values of the spec that do not hide each other, at most 20.
pub fn from_json(file: &str, value: Value) -> Result<Document, Vec<Diagnostic>> {
    let version = value.get("apiVersion").cloned();
    document(file, value, yaml::no_lines(), version.as_ref(), true)
}

fn document(
    file: &str,
    value: Value,
    lines: PathLines,
    version: Option<&Value>,
    from_kubernetes: bool,
) -> Result<Document, Vec<Diagnostic>> {
    let mut at = Diagnostic::file(file, lines.line(""), "", String::new());
    let fail = |at: &Diagnostic, path: &str, code: &'static str, message: String| {
        let mut diagnostic = at.clone();
        (diagnostic.path, diagnostic.code, diagnostic.message) = (path.to_owned(), code, message);
        diagnostic.line = lines.line(path);
        Err(vec![diagnostic])
    };
    let Value::Object(mut members) = value else {
        return fail(&at, "", "wrong_type", "a document is a mapping with apiVersion, kind, metadata and spec".into());
    };
    if let Some(name) = members.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str) {
        at.name = name.chars().take(253).collect();
    }
    let kind = members.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
    let Some(kind) = Kind::ALL.iter().copied().find(|known| known.as_str() == kind) else {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let message = match kind.as_str() {
            "" => format!("the document has no kind; use one of {}", names.join(", ")),
            kind => format!("unknown kind \"{kind}\"{}", suggest::hint(kind, names)),
        };
        return fail(&at, "kind", "unknown_kind", message);
    };
    at.kind = Some(kind);
    match version.and_then(Value::as_str) {
        Some(API_VERSION) => {}
        Some(other) => {
            return fail(&at, "apiVersion", "api_version", format!("apiVersion \"{other}\" is not {API_VERSION}"));
        }
        None => return fail(&at, "apiVersion", "api_version", format!("apiVersion is missing; write {API_VERSION}")),
    }
    if from_kubernetes {
        members.swap_remove("status");
    }
    let known = ["apiVersion", "kind", "metadata", "spec"];
    if let Some(unknown) = members.keys().find(|key| !known.contains(&key.as_str())) {
        let message = format!("unknown field \"{unknown}\"{}", suggest::hint(unknown, known));
        return fail(&at, unknown, "unknown_field", message);
    }
    let mut metadata = members.swap_remove("metadata").unwrap_or(Value::Null);
    if from_kubernetes && let Value::Object(members) = &mut metadata {
        members.retain(|key, _| ["name", "namespace", "creationTimestamp"].contains(&key.as_str()));
    }
    let metadata: Metadata = match serde_path_to_error::deserialize(metadata) {
        Ok(metadata) => metadata,
        Err(error) => {
            let (path, code, message) = serde_error::explain("metadata", &error);
            return fail(&at, &path, code, message);
        }
    };
    if !is_name(&metadata.name) {
        let message =
            "a name has 1 to 253 lower-case letters, digits, -, _ and ., and starts and ends with a letter or digit";
        return fail(&at, "metadata.name", "invalid_name", message.to_owned());
    }
    let spec = members.swap_remove("spec").unwrap_or(Value::Null);
    match mistakes::read(kind, spec) {
        Ok(mut spec) => {
            if let Spec::IdentityProvider(provider) = &mut spec {
                provider.fill();
            }
            let created = metadata.created.map_or(0, |created| created.0);
            Ok(Document { kind, name: metadata.name, created, file: at.file, line: at.line, spec, lines })
        }
        Err(all) => {
            let one = |mistake: mistakes::Mistake| Diagnostic {
                line: lines.line(&mistake.path),
                path: mistake.path,
                code: mistake.code,
                message: mistake.message,
                ..at.clone()
            };
            Err(all.into_iter().map(one).collect())
        }
    }
}

/// True for a document name: like a DNS label, with `_` and `.` allowed inside; and for one after its namespace and `/`.
fn is_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((namespace, name)) => is_part(namespace) && is_part(name),
        None => is_part(name),
    }
}

fn is_part(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
