//! What is wrong with a document: where, what, and a stable code.

use super::{Document, Kind, suggest};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document is left out.
    Error,
    /// The document is used; somebody should look.
    Warning,
}

/// One finding about a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where the document came from.
    pub file: String,
    /// Line from 1; 0 if unknown.
    pub line: usize,
    /// Kind of the document, as far as known.
    pub kind: Option<Kind>,
    /// Name of the document; "" if unknown.
    pub name: String,
    /// Path into the document, such as `spec.grants[0].rows`; "" for the whole.
    pub path: String,
    /// Error or warning.
    pub severity: Severity,
    /// Stable code, such as `unknown_field`.
    pub code: &'static str,
    /// A sentence without its final stop.
    pub message: String,
}

impl Diagnostic {
    pub(crate) fn file(file: &str, line: usize, code: &'static str, message: String) -> Self {
        let severity = Severity::Error;
        Diagnostic {
            file: file.to_owned(),
            line,
            kind: None,
            name: String::new(),
            path: String::new(),
            severity,
            code,
            message,
        }
    }

    pub(crate) fn of(
        document: &Document,
        severity: Severity,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let path = path.into();
        Diagnostic {
            file: document.file.clone(),
            line: document.lines.line(&path),
            kind: Some(document.kind),
            name: document.name.clone(),
            path,
            severity,
            code,
            message: message.into(),
        }
    }

    /// True if the document is left out because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl std::fmt::Display for Diagnostic {
    /// `policies/roles.yaml:12: AccessRole ai-support: spec.grants[0].rows: unknown field "regoin" … [unknown_field]`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        if let Some(kind) = self.kind {
            write!(f, ": {kind}")?;
            if !self.name.is_empty() {
                write!(f, " {}", self.name)?;
            }
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {} [{}]", self.message, self.code)
    }
}

/// Path, code and sentence of a deserialisation error. Values are never quoted back: they may be secrets put in the
/// wrong place.
pub(super) fn from_serde(
    root: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> (String, &'static str, String) {
    let inner = error.inner().to_string();
    let within = error.path().to_string();
    let mut path = if within == "." { root.to_owned() } else { format!("{root}.{within}") };
    let names: Vec<&str> = inner.split('`').skip(1).step_by(2).collect();
    let (first, others) = (names.first().copied().unwrap_or(""), names.get(1..).unwrap_or(&[]));
    if inner.starts_with("unknown field") {
        if !path.ends_with(&format!(".{first}")) {
            path = format!("{path}.{first}");
        }
        let hint = suggest::hint(first, others.iter().copied());
        let hint = if hint.is_empty() { format!("; known are {}", others.join(", ")) } else { hint };
        (path, "unknown_field", format!("unknown field \"{first}\"{hint}"))
    } else if inner.starts_with("missing field") {
        (path, "missing_field", format!("field \"{first}\" is missing"))
    } else if inner.starts_with("unknown variant") {
        (path, "unknown_value", format!("unknown value; use one of {}", others.join(", ")))
    } else if inner.starts_with("invalid type: null") && path == root {
        (path, "missing_field", format!("{root} is missing"))
    } else if let Some(rest) = inner.strip_prefix("invalid type: ") {
        (path, "wrong_type", format!("expected {}", rest.rsplit(", expected ").next().unwrap_or("another type")))
    } else if let Some(rest) = inner.strip_prefix("invalid value: ") {
        (path, "invalid_value", format!("expected {}", rest.rsplit(", expected ").next().unwrap_or("another value")))
    } else {
        (path, "invalid_value", inner)
    }
}
