//! Request targets: split, decoded once and strictly, and encoded again.

pub(in crate::dialect) use super::escape::encode;
use super::unparsable;
use crate::code::Denial;

/// Longest request target that is read or written.
pub(in crate::dialect) const MAX_TARGET: usize = 32 * 1024;
/// Most query parameters in a request; PHP silently drops what is beyond its own limit of 1,000.
const MAX_PARAMETERS: usize = 400;

/// A split request target.
#[derive(Debug)]
pub(in crate::dialect) struct Target {
    /// Decoded segments after the service's prefix.
    pub(in crate::dialect) segments: Vec<String>,
    /// The path ended in a slash.
    pub(in crate::dialect) folder: bool,
    /// Decoded query parameters, in their order.
    pub(in crate::dialect) query: Vec<(String, String)>,
}

/// Splits `path` after `prefix`.
pub(in crate::dialect) fn split(prefix: &str, path: &str) -> Result<Target, Denial> {
    if path.len() > MAX_TARGET {
        return Err(unparsable("The request target is longer than 32 KiB."));
    }
    if path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || matches!(byte, b'#' | b'\\')) {
        return Err(unparsable("The request target has characters that must be percent-encoded."));
    }
    let (path, query) = path.split_once('?').map_or((path, ""), |(path, query)| (path, query));
    let rest = path.strip_prefix(prefix).ok_or_else(|| unparsable("The path is outside the service."))?;
    let mut segments = Vec::new();
    let mut folder = false;
    if !rest.is_empty() {
        let rest = rest.strip_prefix('/').ok_or_else(|| unparsable("The path is outside the service."))?;
        folder = rest.is_empty() || rest.ends_with('/');
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if !rest.is_empty() {
            for raw in rest.split('/') {
                segments.push(segment(raw)?);
            }
        }
    }
    let mut parameters = Vec::new();
    if !query.is_empty() {
        for piece in query.split('&') {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = decode(name, true)?;
            if name.is_empty() || name.contains('%') || name.starts_with(' ') {
                return Err(unparsable("The query has a parameter without a plain name."));
            }
            if parameters.len() >= MAX_PARAMETERS {
                return Err(unparsable("The query has more than 400 parameters."));
            }
            parameters.push((name, decode(value, true)?));
        }
    }
    Ok(Target { segments, folder, query: parameters })
}

fn segment(raw: &str) -> Result<String, Denial> {
    let name = decode(raw, false)?;
    let hostile = |c: char| matches!(c, '/' | '\\' | ';' | '%' | '?' | '#') || c.is_control();
    if name.is_empty() || name == "." || name.contains("..") || name.contains(hostile) {
        return Err(unparsable(
            "The path has an empty segment, a dot segment, or an encoded slash, backslash, semicolon or percent sign.",
        ));
    }
    Ok(name)
}

/// True if this may be the name of a table, procedure or file: nothing that a server could cut off or read otherwise.
pub(in crate::dialect) fn plain_name(name: &str) -> bool {
    !name.chars().any(|c| matches!(c, '(' | ')' | '\'' | '"' | '`' | '*' | '{' | '}' | '+') || c.is_whitespace())
}

/// Decodes percent-encoding once. Broken escapes, invalid UTF-8 and control characters are refused.
pub(in crate::dialect) fn decode(text: &str, plus_is_space: bool) -> Result<String, Denial> {
    // Most names and values are written as they are.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'%' && !(byte == b'+' && plus_is_space)) {
        return Ok(text.to_owned());
    }
    let broken = || unparsable("The request target has a broken percent-escape or is not UTF-8.");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(broken);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| broken())?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| broken())?;
    if text.chars().any(char::is_control) {
        return Err(unparsable("The request target has control characters."));
    }
    Ok(text)
}

/// Appends one query parameter.
pub(in crate::dialect) fn push_parameter(out: &mut String, name: &str, value: &str) {
    out.push(if out.contains('?') { '&' } else { '?' });
    encode(out, name);
    out.push('=');
    encode(out, value);
}
