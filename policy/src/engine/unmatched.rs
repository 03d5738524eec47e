//! Requests that no service matches, where the configuration lets such requests pass.
//!
//! A service is found by the path as it is spelled. What stands between the proxy and the data API may undo a spelling:
//! then `//api`, `/%61pi` or `/x/../api` would reach the data without a decision. Others take a host out of the path:
//! `//host/api`, `/\host/api` and `http://host/api` name another authority (RFC 3986, section 4.2; RFC 9112, section
//! 3.2.2). And DreamFactory serves under more paths than are declared: without a version, with another, below its script. So such
//! a request passes only if no reading of its target leads to a service.

use super::upstream::OTHER_PATHS;
use crate::{
    bundle::Tables,
    dialect::Registered,
    request::{HttpRequest, same_header},
};
use doorward_proto::v1::Dialect;

/// Encodings within encodings that are undone. Nobody knows what a path with more of them names.
const MAX_ROUNDS: usize = 4;

/// True if another spelling of this request's path belongs to a service, if one answers under it too, or if that cannot be ruled out.
pub(super) fn is_disguised(tables: &Tables, request: &HttpRequest<'_>) -> bool {
    // `OPTIONS *` names no path. Everything else that does not begin with a slash holds an authority of its own.
    let leads = |path: &str| {
        path != "*"
            && plain(path)
                .is_none_or(|plain| tables.routes_in_any_form(request.authority, &plain, &answers_any_version))
    };
    // Some frameworks take the path from a header.
    let other = |name: &str| OTHER_PATHS.iter().any(|other| same_header(name, other));
    leads(request.path)
        || request.headers.iter().any(|header| other(header.name) && str::from_utf8(header.value).map_or(true, leads))
}

/// A dialect that is unknown here is taken for one whose servers do.
fn answers_any_version(dialect: Dialect) -> bool {
    Registered::of(dialect).is_none_or(Registered::answers_any_version)
}

/// The path as the laxest of servers would read it, in lower case. `None`: servers differ too much. A step up takes back
/// another segment where empty segments count (RFC 3986, section 5.2.4) than where they are dropped first.
fn plain(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let text = decoded(path.split(['?', '#']).next().unwrap_or_default())?;
    let mut segments: Vec<&str> = Vec::new();
    let mut empty = false;
    for segment in text.split(['/', '\\']).skip(1) {
        // Path parameters (RFC 3986, section 3.3) are no part of the name to some servers; nor, on Windows, are dots and
        // blanks at its end.
        let name = segment.split(';').next().unwrap_or_default().trim();
        if name == ".." {
            return None;
        }
        empty |= name.is_empty();
        match name.trim_end_matches(['.', ' ']) {
            "" => {}
            // After two slashes, also once dots are dropped between them, comes an authority; and `/http:` may be a scheme.
            first if segments.is_empty() && (empty || first.ends_with(':')) => return None,
            name => segments.push(name),
        }
    }
    Some(format!("/{}", segments.join("/")).to_ascii_lowercase())
}

/// Every encoding undone. `None`: too many, or such as servers read in different ways.
fn decoded(path: &str) -> Option<String> {
    let mut text = path.to_owned();
    let mut rounds = 0;
    loop {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(&text).collect();
        if is_overlong(&bytes) {
            return None;
        }
        let next: String = String::from_utf8_lossy(&bytes).chars().map(narrow).collect();
        if next == text {
            break;
        }
        if rounds == MAX_ROUNDS {
            return None;
        }
        (text, rounds) = (next, rounds + 1);
    }
    // A NUL ends the text for some, and others drop tabs and line ends; `%u0061` is an `a` to yet others.
    let odd = text.contains(char::is_control) || text.contains("%u") || text.contains("%U");
    (!odd).then_some(text)
}

/// True if a lax decoder could find a shorter character in these bytes than there may be (RFC 3629, section 10).
fn is_overlong(bytes: &[u8]) -> bool {
    let next = bytes.iter().skip(1).copied().chain([0xff]);
    bytes.iter().zip(next).any(|(byte, next)| {
        matches!((byte, next), (0xc0 | 0xc1, _) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f) | (0xf8..=0xfd, _))
    })
}

/// What Windows, or whoever compares without case, takes for an ASCII character: full-width forms, other slashes, the long
/// s and the Kelvin sign.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2216}' => '\\',
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other,
    }
}
