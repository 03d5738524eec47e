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
    /// A key of a secret, by its name alone; read every few seconds.
    Secret {
        /// Of which namespace; "" is the one whose documents are served.
        namespace: String,
        /// Its name.
        name: String,
        /// Which of its keys.
        key: String,
    },
}

/// Where secrets are, for who may read those of a name.
#[tonic::async_trait]
pub trait Secrets: Send + Sync {
    /// The text of this key.
    ///
    /// # Errors
    /// Why there is none, as the end of a sentence, without anything of what is in it.
    async fn read(&self, namespace: &str, name: &str, key: &str) -> Result<String, String>;
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(f, "uri {uri}"),
            Self::Issuer(issuer) => write!(f, "issuer {issuer}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Secret { namespace, name, key } => write!(f, "secret {namespace}/{name}/{key}"),
        }
    }
}

impl Source {
    /// Read every few seconds, however seldom its provider is to be asked: it is near.
    pub(super) fn is_near(&self) -> bool {
        matches!(self, Self::File(_) | Self::Secret { .. })
    }

    /// Host and port for logs and labels: an address may hold credentials.
    pub(super) fn host(&self) -> String {
        let text = match self {
            Self::Uri(text) | Self::Issuer(text) => text,
            Self::File(_) => return "file".into(),
            Self::Secret { .. } => return "secret".into(),
        };
        let url = Url::parse(text).ok();
        url.and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
        })
        .unwrap_or_else(|| "invalid".into())
    }
}
