//! Where key sets come from.

use std::fmt;

use reqwest::Url;

/// Where a key set comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A JSON Web Key Set (RFC 7517) at this address.
    Uri(String),
    /// OpenID Connect Discovery 1.0 at this issuer.
    Issuer(String),
    /// A file of this machine; read every few seconds.
    File(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(f, "uri {uri}"),
            Self::Issuer(issuer) => write!(f, "issuer {issuer}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

impl Source {
    /// Host and port for logs and labels: an address may hold credentials.
    pub(super) fn host(&self) -> String {
        let (Self::Uri(text) | Self::Issuer(text)) = self else { return "file".into() };
        let url = Url::parse(text).ok();
        url.and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
        })
        .unwrap_or_else(|| "invalid".into())
    }
}
