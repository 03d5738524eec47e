//! Text → tokens, with placeholders read.

use super::{
    error::{ParseError, fail},
    literal::is_number,
};
use crate::{
    Name,
    predicate::{CompareOp, Operand, PlaceholderSource},
};

/// Reads a placeholder such as `{user.region}`; `None` if the text does not start with a brace.
///
/// # Errors
/// If it starts with a brace and is not a placeholder.
pub fn parse_placeholder(text: &str) -> Result<Option<Operand>, ParseError> {
    let Some(inner) = text.strip_prefix('{') else { return Ok(None) };
    let Some(inner) = inner.strip_suffix('}') else {
        return fail(0, "unknown_placeholder", "a placeholder must end with }");
    };
    let inner = inner.trim();
    let (source, name) = match inner.split_once('.') {
        None => match inner {
            "tenant" => (PlaceholderSource::FromTenant, ""),
            "now" => (PlaceholderSource::FromNow, ""),
            "user" | "agent" => {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!("{{{inner}}} names no attribute; the {inner} itself is {{{inner}.name}}"),
                );
            }
            _ => {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!(
                        "{{{inner}}} is no placeholder; use {{user.NAME}}, {{tenant}}, {{role.NAME}}, {{agent.NAME}}, {{key.NAME}} or {{now}}"
                    ),
                );
            }
        },
        Some((source, name)) => {
            let source = match source {
                "user" => PlaceholderSource::FromUser,
                "role" => PlaceholderSource::FromRole,
                "agent" => PlaceholderSource::FromAgent,
                "key" => PlaceholderSource::FromKey,
                _ => {
                    return fail(
                        0,
                        "unknown_placeholder",
                        format!("{{{inner}}} has an unknown source; use user, role, agent or key"),
                    );
                }
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!("{{{inner}}} must name an attribute of letters, digits, _, - and ."),
                );
            }
            (source, name)
        }
    };
    Ok(Some(Operand::Placeholder { source, name: Name::from(name) }))
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An unquoted word: a keyword or a field.
    Word(String),
    /// A field in double quotes: never a keyword.
    Quoted(String),
    Text(String),
    Number(String),
    Placeholder(Operand),
    Operator(CompareOp),
    Open,
    Close,
    Comma,
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(word) => write!(f, "{word}"),
            Token::Quoted(word) => write!(f, "\"{word}\""),
            Token::Text(_) => f.write_str("a string"),
            Token::Number(text) => write!(f, "the number {text}"),
            Token::Placeholder(_) => f.write_str("a placeholder"),
            Token::Operator(_) => f.write_str("a comparison operator"),
            Token::Open => f.write_str("("),
            Token::Close => f.write_str(")"),
            Token::Comma => f.write_str("a comma"),
            Token::End => f.write_str("the end of the predicate"),
        }
    }
}

/// Splits the text; every token with its byte offset.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let position = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(out) };
        let tail = rest.get(first.len_utf8()..).unwrap_or("");
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Operator(CompareOp::Eq), 1),
            '!' if tail.starts_with('=') => (Token::Operator(CompareOp::Ne), 2),
            '<' if tail.starts_with('=') => (Token::Operator(CompareOp::Le), 2),
            '>' if tail.starts_with('=') => (Token::Operator(CompareOp::Ge), 2),
            '<' if tail.starts_with('>') => {
                return fail(position, "predicate_syntax", "<> is not an operator here; write !=");
            }
            '<' => (Token::Operator(CompareOp::Lt), 1),
            '>' => (Token::Operator(CompareOp::Gt), 1),
            '\'' | '"' => {
                let (content, length) = quoted(rest, first, position)?;
                (if first == '"' { Token::Quoted(content) } else { Token::Text(content) }, length)
            }
            '{' => {
                let Some(end) = rest.find('}') else {
                    return fail(position, "unknown_placeholder", "a placeholder must end with }");
                };
                match parse_placeholder(rest.get(..=end).unwrap_or("")) {
                    Ok(Some(operand)) => (Token::Placeholder(operand), end + 1),
                    Ok(None) => return fail(position, "predicate_syntax", "expected a placeholder"),
                    Err(error) => return Err(ParseError { position, ..error }),
                }
            }
            '-' | '0'..='9' => {
                let length = rest
                    .char_indices()
                    .find(|&(at, c)| {
                        let sign = matches!(c, '-' | '+')
                            && (at == 0 || rest.get(..at).is_some_and(|before| before.ends_with(['e', 'E'])));
                        !(sign || c.is_ascii_alphanumeric() || c == '.')
                    })
                    .map_or(rest.len(), |(at, _)| at);
                let number = rest.get(..length).unwrap_or("");
                if !is_number(number) {
                    return fail(position, "predicate_syntax", format!("{number} is not a number"));
                }
                (Token::Number(number.to_owned()), length)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let length =
                    rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
                (Token::Word(rest.get(..length).unwrap_or("").to_owned()), length)
            }
            other => {
                return fail(
                    position,
                    "predicate_syntax",
                    format!(
                        "unexpected character {other:?}; a field with unusual characters is written in double quotes"
                    ),
                );
            }
        };
        out.push((position, token));
        rest = rest.get(length..).unwrap_or("");
    }
}

/// Reads a quoted text in which the quote is written twice; its content and its length with quotes.
fn quoted(rest: &str, quote: char, position: usize) -> Result<(String, usize), ParseError> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\0' {
            return fail(position + at, "predicate_syntax", "a string may not contain NUL");
        }
        if c != quote {
            content.push(c);
        } else if chars.peek().is_some_and(|&(_, next)| next == quote) {
            chars.next();
            content.push(quote);
        } else {
            return Ok((content, at + 1));
        }
    }
    fail(position, "predicate_syntax", format!("the text that starts here has no closing {quote}"))
}
