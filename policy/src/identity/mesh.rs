//! The peer's mesh identity, from `x-forwarded-client-cert` as Envoy writes it.
//!
//! The header is only worth something where Envoy itself writes it (`forward_client_cert_details` SANITIZE_SET or
//! APPEND_FORWARD); its last element is then the immediate peer.

/// Bytes of the header that are looked at; a longer one is malformed.
const MAX_BYTES: usize = 16 * 1024;

/// The SPIFFE ID of the last element. `Ok(None)`: the element names none. `Err`: malformed or ambiguous.
pub(super) fn spiffe_id(header: &str) -> Result<Option<&str>, ()> {
    if header.len() > MAX_BYTES {
        return Err(());
    }
    let mut found = None;
    let element = split(header, b',')?.last().unwrap_or("");
    for pair in split(element, b';')? {
        let (name, value) = pair.trim().split_once('=').unwrap_or((pair, ""));
        let value = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
        if name.eq_ignore_ascii_case("uri")
            && value.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe://"))
        {
            // An X.509-SVID has exactly one URI; two would leave open which one is meant.
            if !is_spiffe_id(value) || found.is_some() {
                return Err(());
            }
            found = Some(value);
        }
    }
    Ok(found)
}

/// True for a well-formed SPIFFE ID, of a trust domain or of a workload in it.
pub(super) fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    id.len() <= 2048
        && !domain.is_empty()
        && domain.bytes().all(|byte| allowed(byte) && !byte.is_ascii_uppercase())
        && path.is_none_or(|path| {
            path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(allowed))
        })
}

/// Splits outside of double quotes; within them a backslash takes the next character with it.
fn split(text: &str, separator: u8) -> Result<impl Iterator<Item = &str>, ()> {
    let mut rest = Some(text);
    balanced(text)?;
    Ok(std::iter::from_fn(move || {
        let now = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = now.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                other if other == separator && !quoted => return true,
                _ => {}
            }
            false
        });
        match end.and_then(|at| now.split_at_checked(at)) {
            Some((piece, tail)) => {
                rest = tail.get(1..);
                Some(piece)
            }
            None => {
                rest = None;
                Some(now)
            }
        }
    }))
}

fn balanced(text: &str) -> Result<(), ()> {
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    if quoted { Err(()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_element_is_the_immediate_peer() {
        let header = "By=spiffe://a/b;Hash=1;URI=spiffe://evil.example/admin,By=spiffe://a/b;Hash=2;Subject=\"CN=x,O=y\";URI=spiffe://mesh.example/ns/ai/sa/agent";
        assert_eq!(spiffe_id(header), Ok(Some("spiffe://mesh.example/ns/ai/sa/agent")));
        assert_eq!(spiffe_id("Hash=1;URI=\"spiffe://mesh.example/x\""), Ok(Some("spiffe://mesh.example/x")));
        assert_eq!(spiffe_id("Hash=1;URI=https://mesh.example/x"), Ok(None));
        assert_eq!(spiffe_id(""), Ok(None));
    }

    #[test]
    fn a_separator_in_a_quoted_value_does_not_split() {
        let header =
            r#"Subject="CN=a\",URI=spiffe://evil.example/x;URI=spiffe://evil.example/y";URI=spiffe://mesh.example/ok"#;
        assert_eq!(spiffe_id(header), Ok(Some("spiffe://mesh.example/ok")));
    }

    #[test]
    fn malformed_and_ambiguous_identities_are_errors() {
        for bad in [
            "URI=\"spiffe://mesh.example/x",
            "URI=spiffe://mesh.example/x;URI=spiffe://mesh.example/y",
            "URI=spiffe://mesh.example/../x",
            "URI=spiffe:///x",
            "URI=SPIFFE://mesh.example/x",
            "URI=spiffe://mesh.example/a%20b",
        ] {
            assert_eq!(spiffe_id(bad), Err(()), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_handled(text in "[\\PC]{0,80}") {
            let _ = spiffe_id(&text);
        }
    }
}
