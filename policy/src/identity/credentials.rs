//! Where credentials are in a request, and where they may not be.

use super::jws::invalid;
use crate::{
    authority,
    bundle::{Key, Tables},
    code::{Code, Denial},
    dialect::names::is_credential,
    request::HttpRequest,
};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// Bytes that an API key may have at most.
const MAX_KEY_BYTES: usize = 1024;

/// What the proxy's configuration says about identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Headers (lower case) that hold a bare token, besides `authorization: Bearer`.
    pub token_headers: Vec<String>,
    /// Headers (lower case) that hold an API key.
    pub key_headers: Vec<String>,
    /// What the peer's SPIFFE ID in `x-forwarded-client-cert` is taken for.
    pub mesh: Mesh,
    /// What happens to requests without any credential.
    pub unidentified: Unidentified,
}

/// What the peer's mesh identity is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mesh {
    /// The header is not looked at.
    #[default]
    Ignore,
    /// It is recorded, and decides nothing.
    Record,
    /// It is an agent: it must be there, and must be permitted too.
    Agent,
}

/// What happens to requests without any credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unidentified {
    /// Denied: `credential_missing`.
    #[default]
    Deny,
    /// They go on as `unidentified`; roles have to be bound to that.
    Allow,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            token_headers: Vec::new(),
            key_headers: ["x-doorward-key", "x-api-key", "x-dreamfactory-api-key"].map(str::to_owned).into(),
            mesh: Mesh::Ignore,
            unidentified: Unidentified::Deny,
        }
    }
}

impl Settings {
    /// Every header (lower case) that may hold a credential: what must not reach logs, nor an upstream that is not
    /// meant to see it.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        ["authorization"].into_iter().chain(self.token_headers.iter().chain(&self.key_headers).map(String::as_str))
    }
}

/// Refuses credentials in the query string, where they end up in logs, histories and `Referer` headers.
pub(crate) fn refuse_in_query(path: &str) -> Result<(), Denial> {
    let Some((_, query)) = path.split_once('?') else { return Ok(()) };
    for pair in query.split(['&', ';', '#']) {
        let name = pair.split('=').next().unwrap_or("");
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        if is_credential(&name) {
            return Err(invalid("Credentials in the query string are refused. Send them in a header."));
        }
    }
    Ok(())
}

/// The one token of the request, wherever it may be.
pub(super) fn find_token<'a>(settings: &Settings, request: &HttpRequest<'a>) -> Result<Option<&'a str>, Denial> {
    let mut found = None;
    for header in request.headers {
        let token = if header.name == "authorization" {
            let text = text(header.value)?;
            match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_matches(' '),
                _ => return Err(invalid("The Authorization header is not of the form 'Bearer TOKEN'.")),
            }
        } else if settings.token_headers.iter().any(|name| name == header.name) {
            text(header.value)?
        } else {
            continue;
        };
        if token.is_empty() || found.is_some() {
            return Err(invalid("A token header is empty, or the request has more than one token. Send one."));
        }
        found = Some(token);
    }
    Ok(found)
}

/// The one API key of the request.
pub(super) fn find_key<'a>(settings: &Settings, request: &HttpRequest<'a>) -> Result<Option<&'a [u8]>, Denial> {
    let mut found = None;
    for header in request.headers {
        if settings.key_headers.iter().any(|name| name == header.name) {
            if header.value.is_empty() || header.value.len() > MAX_KEY_BYTES || found.is_some() {
                return Err(invalid(
                    "An API key header is empty or too long, or the request has more than one API key.",
                ));
            }
            found = Some(header.value);
        }
    }
    Ok(found)
}

fn text(value: &[u8]) -> Result<&str, Denial> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| invalid("A token header is not ASCII text."))
}

/// Checks an API key and its locks; the index of the key in the tables. `known` becomes that index also where the key is
/// refused.
///
/// The look-up is by SHA-256: how long it takes tells nothing about any key, because nobody can steer a hash.
pub(super) fn check_key(
    tables: &Tables,
    now: i64,
    request: &HttpRequest<'_>,
    presented: &[u8],
    known: &mut Option<usize>,
) -> Result<usize, Denial> {
    let hash: [u8; 32] = Sha256::digest(presented).into();
    let unknown = || invalid("The API key is not known.");
    let index = tables.key_by_hash(&hash).ok_or_else(unknown)?;
    let key = tables.keys().get(index).ok_or_else(unknown)?;
    *known = Some(index);
    if key.revoked {
        return Err(Denial::new(Code::CredentialRevoked, "The API key was revoked."));
    }
    if key.not_before.is_some_and(|from| now < from) {
        return Err(Denial::new(Code::CredentialExpired, "The API key is not valid yet."));
    }
    if key.not_after.is_some_and(|until| now >= until) {
        return Err(Denial::new(Code::CredentialExpired, "The API key has expired."));
    }
    if !key.networks.is_empty() {
        let address: Option<IpAddr> = request.source_address.parse().ok();
        if !address.is_some_and(|address| key.networks.iter().any(|network| network.contains(address))) {
            return Err(Denial::new(Code::CredentialLocked, "The API key may not be used from this address."));
        }
    }
    if !host_allowed(key, request.authority) {
        return Err(Denial::new(Code::CredentialLocked, "The API key may not be used for this host."));
    }
    Ok(index)
}

fn host_allowed(key: &Key, authority: &str) -> bool {
    // As routes read it. A lock without port is for every port.
    key.hosts.is_empty()
        || authority::parse(authority).is_some_and(|asked| {
            let mut locks = key.hosts.iter().filter_map(|host| authority::parse(host));
            locks.any(|lock| lock.host == asked.host && lock.port.is_none_or(|port| asked.port == Some(port)))
        })
}
