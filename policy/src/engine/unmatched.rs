//! Requests that no service matches, where the configuration lets such requests pass.
//!
//! A service is found by the path as it is spelled. What stands between the proxy and the data API may undo a spelling:
//! then `//api`, `/%61pi` or `/x/../api` would reach the data without a decision. So such a request passes only if no
//! reading of its path leads to a service.

use crate::bundle::Tables;

/// Encodings within encodings that are undone; a path with more of them is left as it is, for it names nothing.
const MAX_ROUNDS: usize = 4;

/// True if another spelling of this path belongs to a service.
pub(super) fn is_disguised(tables: &Tables, authority: &str, path: &str) -> bool {
    let plain = plain(path);
    tables.route(authority, &plain).is_some() || tables.route(authority, &plain.to_ascii_lowercase()).is_some()
}

/// The path as the laxest of servers would read it.
fn plain(path: &str) -> String {
    let mut text = path.split(['?', '#']).next().unwrap_or_default().to_owned();
    for _ in 0..MAX_ROUNDS {
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        // Path parameters (RFC 3986, section 3.3) are no part of the name to some servers.
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}
