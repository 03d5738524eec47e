//! Literals of a filter.

use super::unsupported;
use crate::{code::Denial, dialect::names};

/// A literal: strings travel as parameters, numbers inline. DreamFactory casts both to the type of the column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Number(String),
    /// A number in parentheses: DreamFactory passes it on as it is written, without a cast.
    Exact(String),
}

impl Literal {
    /// A string literal, if DreamFactory takes it as it is.
    pub(super) fn text(text: &str) -> Result<Literal, Denial> {
        if text.is_empty() || carries(text) {
            Ok(Literal::Text(text.to_owned()))
        } else {
            Err(unsupported(
                "A literal has braces, control characters, outer blanks, or is wrapped in quotes or parentheses: DreamFactory would interpret it.",
            ))
        }
    }

    /// A key as it stands in a list of ids, or in a path.
    pub(super) fn key(text: &str) -> Result<Literal, Denial> {
        match Literal::text(text)? {
            Literal::Text(text) if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) => {
                Ok(Literal::Number(text))
            }
            literal => Ok(literal),
        }
    }
}

/// True if DreamFactory binds this text unchanged: it resolves `{lookups}`, strips quotes, and takes `(…)` for SQL.
pub(super) fn carries(text: &str) -> bool {
    let wrapped = |open: char, close: char| text.starts_with(open) && text.ends_with(close);
    text.len() <= 4096
        && names::arrives(text)
        && !text.chars().any(|c| c.is_control() || matches!(c, '{' | '}'))
        && !wrapped('(', ')')
        && !wrapped('\'', '\'')
        && !wrapped('"', '"')
}
