//! What each kind of mask makes of a scalar value.

use super::{MaskKind, MaskRule};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The masked form of a value, as JSON. `raw` is the JSON text of a scalar. `None`: it cannot be masked.
///
/// `null` stays `null`, but for a fixed text: that shows nothing at all, not even whether there is a value. Any kind that has nothing sensible to show hides the whole value.
pub(super) fn masked(rule: &MaskRule, raw: &[u8], key: Option<&[u8]>) -> Option<String> {
    if raw == b"null" && rule.kind != MaskKind::MaskFixed {
        return Some("null".to_owned());
    }
    let text = if raw.first() == Some(&b'"') {
        serde_json::from_slice::<String>(raw).ok()?
    } else {
        std::str::from_utf8(raw).ok()?.to_owned()
    };
    let shown = match rule.kind {
        MaskKind::MaskNull => return Some("null".to_owned()),
        MaskKind::MaskFixed => rule.fixed.to_string(),
        MaskKind::MaskLast => last(&text, rule.length as usize),
        MaskKind::MaskTruncate => truncate(&text, rule.length as usize),
        MaskKind::MaskEmail => email(&text),
        MaskKind::MaskToken => token(key?, &rule.field, &text)?,
        MaskKind::Unspecified => return None,
    };
    serde_json::to_string(&shown).ok()
}

/// Asterisks for all but the last `keep` characters; a text no longer than that is hidden whole.
fn last(text: &str, keep: usize) -> String {
    let count = text.chars().count();
    let hidden = if count > keep { count.saturating_sub(keep) } else { count };
    text.chars().enumerate().map(|(at, c)| if at < hidden { '*' } else { c }).collect()
}

/// The first `keep` characters and an ellipsis; a text no longer than that is hidden whole.
fn truncate(text: &str, keep: usize) -> String {
    if text.chars().count() <= keep {
        return "…".to_owned();
    }
    text.chars().take(keep).chain(['…']).collect()
}

/// `j***@example.com`; what is no e-mail address is hidden whole.
fn email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((local, domain)) if !domain.is_empty() => match local.chars().next() {
            Some(first) => format!("{first}***@{domain}"),
            None => "***".to_owned(),
        },
        _ => "***".to_owned(),
    }
}

/// HMAC-SHA-256 over field and value, 128 bits of it: equal values of one field get equal tokens, nothing else shows.
fn token(key: &[u8], field: &str, text: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(field.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    let tag = mac.finalize().into_bytes();
    Some(format!("tok_{}", URL_SAFE_NO_PAD.encode(tag.get(..16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
