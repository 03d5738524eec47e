//! What the head of a response says of its body.

use crate::head::Head;

/// What the head of a response tells.
pub(crate) struct Shape {
    pub(crate) status: u16,
    pub(crate) json: bool,
    pub(crate) encoded: bool,
}

pub(crate) fn shape(head: &Head) -> Shape {
    let text = |name| head.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let types = head.iter().filter(|(name, _)| *name == "content-type").count();
    Shape {
        status: text(":status").and_then(|status| status.parse().ok()).unwrap_or(0),
        json: types == 1 && text("content-type").is_some_and(is_json),
        encoded: head
            .iter()
            .any(|(name, value)| name == "content-encoding" && !value.eq_ignore_ascii_case(b"identity")),
    }
}

/// Whether this content type is JSON in UTF-8: JSON has no other encoding between systems (RFC 8259, section 8.1), and a
/// client that is told another would read other text than was filtered.
fn is_json(value: &str) -> bool {
    let (media, mut rest) = value.split_once(';').unwrap_or((value, ""));
    let media = media.trim().to_ascii_lowercase();
    if media != "application/json" && !(media.starts_with("application/") && media.ends_with("+json")) {
        return false;
    }
    let mut charsets = 0;
    while !rest.trim().is_empty() {
        let Some((name, value)) = rest.split_once('=') else { return false };
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            // No value that matters here has anything to escape.
            Some(quoted) if !quoted.contains('\\') => match quoted.split_once('"') {
                Some((value, after)) => (value, after.trim_start()),
                None => return false,
            },
            Some(_) => return false,
            None => value.find(';').and_then(|at| value.split_at_checked(at)).unwrap_or((value, "")),
        };
        if name.trim().eq_ignore_ascii_case("charset") {
            charsets += 1;
            let value = value.trim();
            if charsets > 1 || !(value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")) {
                return false;
            }
        }
        rest = match after.strip_prefix(';') {
            Some(rest) => rest,
            None if after.trim().is_empty() => "",
            None => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&str, &str)]) -> Head {
        let mut out = (pairs.len() as u32).to_le_bytes().to_vec();
        for (name, value) in pairs {
            out.extend((name.len() as u32).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            out.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        Head::parse(out).unwrap()
    }

    #[test]
    fn only_one_plain_json_content_type_counts_as_json() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("text/html", false),
            ("application/jsonp", false),
            ("application/json;", true),
            ("application/json; charset=\"UTF-8\"", true),
            ("application/json; profile=\"a;b=c\"; charset=utf8", true),
            ("application/json; charset=utf-16", false),
            ("application/json; charset=UTF-7", false),
            ("application/json; Charset = \"utf-16le\"", false),
            ("application/json;charset=iso-8859-1", false),
            ("application/json; charset=utf-8; charset=utf-16", false),
            ("application/json; charset=utf-8; charset=utf-8", false),
            ("application/json; charset=\"utf-8", false),
            ("application/json; charset=\"utf\\-16\"", false),
            ("application/json; charset", false),
            ("application/json; a=\"b\" charset=utf-16", false),
            ("application/json; charset=", false),
            ("application/json, application/json", false),
        ] {
            assert_eq!(shape(&head(&[(":status", "200"), ("content-type", value)])).json, json, "{value}");
        }
        let twice = head(&[("content-type", "application/json"), ("content-type", "text/html")]);
        assert!(!shape(&twice).json);
        assert!(!shape(&head(&[])).json);
    }

    #[test]
    fn any_content_encoding_but_identity_makes_a_response_unreadable() {
        assert!(shape(&head(&[("content-encoding", "gzip")])).encoded);
        assert!(shape(&head(&[("content-encoding", "identity"), ("content-encoding", "br")])).encoded);
        assert!(!shape(&head(&[("content-encoding", "Identity")])).encoded);
    }
}
