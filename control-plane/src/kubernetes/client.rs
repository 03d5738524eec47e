//! Which API server is asked, as whom, and how long an answer may take.

use std::time::Duration;

use kube::{Client, Config};

use crate::source::SourceError;

/// A watch is ended by the server within five minutes, and hears a bookmark each minute before that: one that is silent for
/// longer has lost its connection.
const SILENCE: Duration = Duration::from_secs(150);
const CONNECT: Duration = Duration::from_secs(10);

/// A client, and the namespace it is at home in. Which API server, the environment says, as to `kubectl`: `KUBECONFIG`,
/// `~/.kube/config`, or the pod's service account.
///
/// # Errors
/// There is no usable configuration.
pub async fn connect() -> Result<(Client, String), SourceError> {
    // Fails only if a provider is installed already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer().await.map_err(|error| SourceError::NoCluster(error.into()))?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| SourceError::NoCluster(error.into()))?;
    Ok((client, namespace))
}

/// An error with all that it comes from.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    text
}
