//! What each kind of mask makes of a scalar value.

use super::{MaskKind, MaskRule};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::borrow::Cow;

/// Appends the masked form of a value, as JSON. `raw` is the JSON text of a scalar. `None`: it cannot be masked, and
/// nothing was appended.
///
/// `null` stays `null`, but for a fixed text: that shows nothing at all, not even whether there is a value. Any kind that has nothing sensible to show hides the whole value.
pub(super) fn mask(rule: &MaskRule, raw: &[u8], key: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    if raw == b"null" && rule.kind != MaskKind::MaskFixed {
        out.extend_from_slice(b"null");
        return Some(());
    }
    let text = text(raw)?;
    match rule.kind {
        MaskKind::MaskNull => out.extend_from_slice(b"null"),
        MaskKind::MaskFixed => serde_json::to_writer(out, rule.fixed.as_ref()).ok()?,
        MaskKind::MaskLast => {
            let (hidden, shown) = last(&text, rule.length as usize);
            out.push(b'"');
            out.resize(out.len() + hidden, b'*');
            write(shown, out);
            out.push(b'"');
        }
        MaskKind::MaskTruncate => {
            out.push(b'"');
            write(first(&text, rule.length as usize), out);
            out.extend_from_slice("…\"".as_bytes());
        }
        MaskKind::MaskEmail => {
            out.push(b'"');
            let (initial, domain) = email(&text).unwrap_or_default();
            write(initial, out);
            out.extend_from_slice(b"***");
            write(domain, out);
            out.push(b'"');
        }
        MaskKind::MaskToken => {
            let tag = token(key?, &rule.field, &text)?;
            out.extend_from_slice(b"\"tok_");
            out.extend_from_slice(URL_SAFE_NO_PAD.encode(tag).as_bytes());
            out.push(b'"');
        }
        MaskKind::Unspecified => return None,
    }
    Some(())
}

/// The value as text: of a string what it says, of anything else how it is written.
fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let Some(inside) = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")) else {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    };
    if inside.contains(&b'\\') {
        return serde_json::from_slice(raw).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inside).ok().map(Cow::Borrowed)
}

/// Appends a text as it stands inside a JSON string.
fn write(text: &str, out: &mut Vec<u8>) {
    // RFC 8259 section 7: these have to be escaped, and nothing else.
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
        let (plain, more) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut letters = more.chars();
        match letters.next() {
            Some('\u{8}') => out.extend_from_slice(b"\\b"),
            Some('\t') => out.extend_from_slice(b"\\t"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\u{c}') => out.extend_from_slice(b"\\f"),
            Some('\r') => out.extend_from_slice(b"\\r"),
            Some(letter @ ('"' | '\\')) => out.extend([b'\\', letter as u8]),
            Some(letter) => out.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes()),
            None => {}
        }
        rest = letters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// How many characters are hidden, and the last `keep` that are not; a text no longer than that is hidden whole.
fn last(text: &str, keep: usize) -> (usize, &str) {
    let count = text.chars().count();
    if count <= keep {
        return (count, "");
    }
    let hidden = count - keep;
    let from = text.char_indices().nth(hidden).map_or(text.len(), |(at, _)| at);
    (hidden, text.get(from..).unwrap_or_default())
}

/// The first `keep` characters; of a text no longer than that, nothing.
fn first(text: &str, keep: usize) -> &str {
    text.char_indices().nth(keep).and_then(|(at, _)| text.get(..at)).unwrap_or_default()
}

/// Of `john@example.com`: `j` and `@example.com`. What is no e-mail address is hidden whole.
fn email(text: &str) -> Option<(&str, &str)> {
    let (local, domain) = text.split_at_checked(text.rfind('@')?)?;
    let initial = local.chars().next()?;
    (domain.len() > 1).then(|| (text.get(..initial.len_utf8()).unwrap_or_default(), domain))
}

/// HMAC-SHA-256 over field and value, 128 bits of it: equal values of one field get equal tokens, nothing else shows.
fn token(key: &[u8], field: &str, text: &str) -> Option<[u8; 16]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(field.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(rule: &MaskRule, raw: &[u8], key: Option<&[u8]>) -> Option<String> {
        let mut out = Vec::new();
        mask(rule, raw, key, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn rule(kind: MaskKind, length: u32) -> MaskRule {
        MaskRule { field: "f".into(), kind, fixed: "hidden".into(), length, filterable: false }
    }

    #[test]
    fn each_kind_shows_only_what_it_promises() {
        let cases: [(MaskKind, u32, &str, &str); 13] = [
            (MaskKind::MaskNull, 0, r#""x""#, "null"),
            (MaskKind::MaskFixed, 0, "12", r#""hidden""#),
            (MaskKind::MaskLast, 4, r#""4111111111111234""#, r#""************1234""#),
            (MaskKind::MaskLast, 4, r#""1234""#, r#""****""#),
            (MaskKind::MaskLast, 2, "12345", r#""***45""#),
            (MaskKind::MaskLast, 2, r#""äöü€""#, r#""**ü€""#),
            (MaskKind::MaskTruncate, 2, r#""Berlin""#, r#""Be…""#),
            (MaskKind::MaskTruncate, 9, r#""Berlin""#, r#""…""#),
            (MaskKind::MaskEmail, 0, r#""john@example.com""#, r#""j***@example.com""#),
            (MaskKind::MaskEmail, 0, r#""no mail""#, r#""***""#),
            (MaskKind::MaskEmail, 0, r#""@x.org""#, r#""***""#),
            (MaskKind::MaskEmail, 0, "null", "null"),
            (MaskKind::MaskFixed, 0, "null", r#""hidden""#),
        ];
        for (kind, length, raw, want) in cases {
            assert_eq!(masked(&rule(kind, length), raw.as_bytes(), None).as_deref(), Some(want), "{kind:?} {raw}");
        }
    }

    #[test]
    fn tokens_are_equal_for_equal_values_and_need_a_key() {
        let rule = rule(MaskKind::MaskToken, 0);
        let one = masked(&rule, br#""a@b.c""#, Some(b"key")).unwrap();
        assert_eq!(one, masked(&rule, br#""a\u0040b.c""#, Some(b"key")).unwrap());
        assert_ne!(one, masked(&rule, br#""a@b.c""#, Some(b"other")).unwrap());
        assert_eq!(masked(&rule, br#""a@b.c""#, None), None);
    }
}
