//! Why a predicate's text is not one, and where.

/// Why a predicate's text is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {position})")]
pub struct ParseError {
    /// Byte offset in the text.
    pub position: usize,
    /// Stable code: `predicate_syntax`, `predicate_limit`, `unknown_field`, `unknown_placeholder`, `type_mismatch`.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// `unknown_field`: the name, so that a caller who knows all fields can suggest one.
    pub field: Option<String>,
}

pub(super) fn fail<T>(position: usize, code: &'static str, message: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError { position, code, message: message.into(), field: None })
}
