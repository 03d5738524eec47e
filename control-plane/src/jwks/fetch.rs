//! One key set, from its provider, a file or a secret.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Url};

use super::source::{Secrets, Source};
use crate::{
    outbound::{self, Forbidden},
    regular,
};

pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a key set could not be fetched. No address: it may hold credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it took longer than {} seconds", FETCH_TIMEOUT.as_secs())]
    Slow,
    #[error("of a defect of doorward; please report it")]
    Defect,
    #[error("its address is not a URL")]
    Address,
    #[error("key sets are fetched {0}")]
    Forbidden(#[from] Forbidden),
    /// What the HTTP client says.
    #[error("{0}")]
    Http(String),
    #[error("the answer was status {0}")]
    Status(u16),
    #[error("the answer is longer than {MAX_BODY_BYTES} bytes")]
    Long,
    #[error("the answer is not UTF-8")]
    Encoding,
    #[error("the discovery document is not JSON")]
    DiscoveryForm,
    #[error("the discovery document names another issuer")]
    DiscoveryIssuer,
    #[error("the discovery document has no jwks_uri")]
    NoKeysUri,
    #[error("the discovery document of an https issuer names a key set that is not fetched over https")]
    Unprotected,
    #[error("the key set is not JSON")]
    Form,
    #[error("the answer is not a key set")]
    NoKeySet,
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("the secret cannot be read: {0}")]
    Secret(String),
    #[error("secrets by name are for Kubernetes; mount the secret, and name it with jwks.file")]
    NoSecrets,
}

/// Fetches key sets.
pub(super) struct Fetcher {
    client: Client,
    insecure: bool,
    secrets: Option<Arc<dyn Secrets>>,
}

impl Fetcher {
    /// `insecure`: plain HTTP may leave this machine. `authorities`: additional roots, PEM.
    pub(super) fn new(
        insecure: bool,
        authorities: Option<&[u8]>,
        secrets: Option<Arc<dyn Secrets>>,
    ) -> reqwest::Result<Self> {
        Ok(Self { client: outbound::client(FETCH_TIMEOUT, authorities)?, insecure, secrets })
    }

    /// Whether anything may be fetched from there at all.
    pub(super) fn check(&self, source: &Source) -> Result<(), FetchError> {
        let text = match source {
            Source::Uri(text) | Source::Issuer(text) => text,
            Source::File(_) => return Ok(()),
            Source::Secret { .. } if self.secrets.is_some() => return Ok(()),
            Source::Secret { .. } => return Err(FetchError::NoSecrets),
        };
        let url = Url::parse(text).map_err(|_| FetchError::Address)?;
        Ok(outbound::allowed(&url, self.insecure)?)
    }

    /// The text of a key set, which is one by its form.
    pub(super) async fn fetch(&self, source: &Source) -> Result<String, FetchError> {
        let body = match source {
            Source::Uri(uri) => self.get_text(uri).await?,
            Source::File(path) => read_file(path).await?,
            Source::Secret { namespace, name, key } => {
                let secrets = self.secrets.as_ref().ok_or(FetchError::NoSecrets)?;
                let text = secrets.read(namespace, name, key).await.map_err(FetchError::Secret)?;
                if text.len() > MAX_BODY_BYTES {
                    return Err(FetchError::Long);
                }
                text
            }
            Source::Issuer(issuer) => {
                let text = self
                    .get_text(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
                    .await?;
                let found: serde_json::Value = serde_json::from_str(&text).map_err(|_| FetchError::DiscoveryForm)?;
                // OpenID Connect Discovery 1.0, 4.3: the issuer must be exactly the one that was asked.
                if found.get("issuer").and_then(|v| v.as_str()) != Some(issuer.as_str()) {
                    return Err(FetchError::DiscoveryIssuer);
                }
                let uri = found.get("jwks_uri").and_then(|v| v.as_str()).ok_or(FetchError::NoKeysUri)?;
                as_protected(issuer, uri)?;
                self.get_text(uri).await?
            }
        };
        let set: serde_json::Value = serde_json::from_str(&body).map_err(|_| FetchError::Form)?;
        match set.get("keys").and_then(|keys| keys.as_array()) {
            // An empty one is an answer, and may be meant.
            Some(_) => Ok(body),
            None => Err(FetchError::NoKeySet),
        }
    }

    async fn get_text(&self, uri: &str) -> Result<String, FetchError> {
        let url = Url::parse(uri).map_err(|_| FetchError::Address)?;
        outbound::allowed(&url, self.insecure)?;
        // An error's own text may repeat the address, which may hold credentials.
        let explain = |error: reqwest::Error| {
            let mut text = error.without_url().to_string();
            text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
            FetchError::Http(text)
        };
        let mut response = self.client.get(url).header("accept", "application/json").send().await.map_err(explain)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::Long);
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| FetchError::Encoding)
    }
}

/// An issuer that is asked over https must not send us elsewhere for its keys: over plain http anybody in between could
/// replace them, and on this machine's own ports there is nothing for it to ask.
pub(super) fn as_protected(issuer: &str, uri: &str) -> Result<(), FetchError> {
    let https = |text: &str| Url::parse(text).is_ok_and(|url| url.scheme() == "https");
    if https(issuer) && !https(uri) {
        return Err(FetchError::Unprotected);
    }
    Ok(())
}

async fn read_file(path: &str) -> Result<String, FetchError> {
    let path = path.to_owned();
    // A file system may keep whoever reads waiting; no thread waits for a pipe.
    let text = tokio::task::spawn_blocking(move || regular::read(path.as_ref(), MAX_BODY_BYTES as u64));
    Ok(text.await.map_err(std::io::Error::other)??)
}
