//! Requests that no service matches, where the configuration lets such requests pass.
//!
//! A service is found by the path as it is spelled. What stands between the proxy and the data API may undo a spelling:
//! then `//api`, `/%61pi` or `/x/../api` would reach the data without a decision. So such a request passes only if no
//! reading of its path leads to a service.

use crate::bundle::Tables;

/// Encodings within encodings that are undone. Nobody knows what a path with more of them names.
const MAX_ROUNDS: usize = 4;

/// True if another spelling of this path belongs to a service, or if that cannot be ruled out.
pub(super) fn is_disguised(tables: &Tables, authority: &str, path: &str) -> bool {
    plain(path).is_none_or(|plain| {
        tables.route(authority, &plain).is_some() || tables.route(authority, &plain.to_ascii_lowercase()).is_some()
    })
}

/// The path as the laxest of servers would read it. `None`: servers differ too much. A step up takes back another segment
/// where empty segments count (RFC 3986, section 5.2.4) than where they are dropped first.
fn plain(path: &str) -> Option<String> {
    let mut text = path.split(['?', '#']).next().unwrap_or_default().to_owned();
    let mut rounds = 0;
    loop {
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            break;
        }
        if rounds == MAX_ROUNDS {
            return None;
        }
        (text, rounds) = (decoded, rounds + 1);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        // Path parameters (RFC 3986, section 3.3) are no part of the name to some servers.
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => return None,
            name => segments.push(name),
        }
    }
    Some(format!("/{}", segments.join("/")))
}
