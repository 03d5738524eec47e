//! The authority of a request (`Host`, `:authority`) → the host that it names.
//!
//! The one reading of authorities: routes, the host locks of keys, and `doorward explain` all come here. It takes the
//! hosts of RFC 3986, section 3.2.2, that servers agree on, and refuses the rest instead of guessing: what comes before
//! an `@`, two hosts in one, escapes, and numbers that some take for an address.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Longest name of the DNS, in bytes without the trailing dot, and longest label (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A host with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// In lower case and without trailing dot; an IPv6 address in brackets and in its shortest form.
    pub host: Cow<'a, str>,
    /// `None`: none was given.
    pub port: Option<u16>,
}

/// Parses `host` or `host:port`. `None`: it is neither, or servers could read it in two ways.
#[must_use]
pub fn parse(text: &str) -> Option<Authority<'_>> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        // The parser takes no zone and no port; the text form is then the one of RFC 5952.
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Authority { host: Cow::Owned(format!("[{address}]")), port: self::port(port)? });
    }
    let (host, rest) = text.find(':').map_or((text, ""), |at| text.split_at(at));
    let port = self::port(rest)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_name(host) {
        return None;
    }
    let upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(Authority { host: if upper { host.to_ascii_lowercase().into() } else { host.into() }, port })
}

/// What follows the host: nothing, or `:` and a number.
fn port(rest: &str) -> Option<Option<u16>> {
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix(':')?;
    let port =
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<u16>().ok()? } else { return None };
    (port > 0).then_some(Some(port))
}

/// A DNS name or an IPv4 address in four decimal numbers.
fn is_name(host: &str) -> bool {
    let mut last = "";
    for label in host.split('.') {
        if label.is_empty()
            || label.len() > MAX_LABEL
            || !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        {
            return false;
        }
        last = label;
    }
    // `127.1`, `0x7f.0.0.1` and `2130706433` are addresses to some (WHATWG URL, "ends in a number checker").
    let number = |label: &str| {
        let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        hex.map_or_else(
            || label.bytes().all(|byte| byte.is_ascii_digit()),
            |hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        )
    };
    host.len() <= MAX_NAME && (!number(last) || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_a_host_is_the_one_host() {
        let long = format!("{}.com", "a".repeat(63));
        for (text, host, port) in [
            ("data.example.com", "data.example.com", None),
            ("Data.EXAMPLE.com", "data.example.com", None),
            ("data.example.com.", "data.example.com", None),
            ("data.example.com:443", "data.example.com", Some(443)),
            ("data.example.com.:0443", "data.example.com", Some(443)),
            ("a", "a", None),
            ("my_db-1.internal", "my_db-1.internal", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("192.0.2.7:80", "192.0.2.7", Some(80)),
            ("[::1]", "[::1]", None),
            ("[0:0:0:0:0:0:0:1]:8443", "[::1]", Some(8443)),
            ("[2001:DB8::A]", "[2001:db8::a]", None),
            (&long, &long, None),
        ] {
            let found = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((&*found.host, found.port), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_or_two_or_could_be_another_is_refused() {
        let label = format!("{}.com", "a".repeat(64));
        let long = ["abcdefg"; 32].join(".");
        for text in [
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:80:80",
            "a:+80",
            "a: 80",
            "a:80 ",
            "a:http",
            "data.example.com:443@evil.test",
            "user@data.example.com",
            "user:secret@data.example.com:443",
            "data.example.com,evil.test",
            "data.example.com, data.example.com",
            "data.example.com evil.test",
            " data.example.com",
            "data.example.com\t",
            "data.example.com/path",
            "data.example.com\\evil.test",
            "data.example.com?x",
            "data.example.com#x",
            "data.example.com;x",
            "data%2eexample.com",
            "data.example.com%00",
            "http://data.example.com",
            "*.example.com",
            "dåta.example.com",
            "data。example.com",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0x7f000001",
            "127.0.0.01",
            "1.2.3.4.5",
            "256.0.0.1",
            "a.1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1%25eth0]",
            "[v1.x]",
            "[192.0.2.7]",
            "[]",
            &label,
            &long,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_parsed_again_to_the_same(text in "[a-zA-Z0-9._:\\[\\]@/ ,-]{0,24}|\\PC{0,12}") {
            if let Some(found) = parse(&text) {
                prop_assert!(found.host.is_ascii() && !found.host.contains(['@', '/', ',', ' ', '\\']));
                let host = found.host.to_string();
                let again = parse(&host).unwrap();
                prop_assert_eq!((again.host.as_ref(), again.port), (host.as_str(), None));
            }
        }
    }
}
