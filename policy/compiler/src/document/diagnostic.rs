//! What is wrong with a document: where, what, and a stable code.

use super::kind::{Document, Kind};

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
