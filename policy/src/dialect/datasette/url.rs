//! The two encodings of Datasette's addresses: percent encoding in queries, tilde encoding in paths and cursors.

use crate::dialect::shared::escape::{encode, escape};

/// Decodes one key or value of a query, once: `+` is a space, every `%` starts two hexadecimal digits. `None`: malformed,
/// not UTF-8, or a NUL inside.
pub(super) fn decode_query(text: &str) -> Option<String> {
    decode(text, b'%', |byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b';' | b'\\'))
}

/// Decodes one segment of a path or one component of a cursor.
pub(super) fn decode_tilde(text: &str) -> Option<String> {
    decode(text, b'~', |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn decode(text: &str, escape: u8, plain: impl Fn(u8) -> bool) -> Option<String> {
    if text.bytes().all(|byte| byte != escape && byte != b'+' && plain(byte)) {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = if byte == escape {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
        } else if byte == b'+' {
            b' '
        } else if plain(byte) {
            byte
        } else {
            return None;
        };
        if decoded == 0 {
            return None;
        }
        out.push(decoded);
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn encode_query(text: &str, out: &mut String) {
    encode(out, text);
}

/// Datasette's own `tilde_encode`.
pub(super) fn encode_tilde(text: &str, out: &mut String) {
    for (at, part) in text.split(' ').enumerate() {
        if at > 0 {
            out.push('+');
        }
        escape(out, part, '~', |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    }
}
