//! The connection of a client command to the control plane.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// How to reach the control plane.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The control plane's gRPC address.
    #[arg(long, env = "DOORWARD_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// Certificate authorities (PEM) that the server's certificate must come from; needed for https.
    #[arg(long, env = "DOORWARD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate chain (PEM), for mutual TLS.
    #[arg(long, env = "DOORWARD_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key (PEM) of --cert.
    #[arg(long, env = "DOORWARD_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl Connection {
    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let endpoint = Endpoint::from_shared(self.server.clone())
            .with_context(|| format!("--server {} is not a URL; write e.g. http://127.0.0.1:7070", self.server))?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        if !self.server.starts_with("https://") {
            if !self.server.starts_with("http://") {
                bail!("--server {} must start with http:// or https://", self.server);
            }
            if self.ca.is_some() || self.cert.is_some() {
                bail!("--ca and --cert are for TLS; write --server with https://");
            }
            return Ok(endpoint);
        }
        let Some(ca) = &self.ca else {
            bail!("an https server needs --ca FILE with the authority of its certificate");
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        endpoint.tls_config(tls).context("the certificates cannot be used; check --ca, --cert and --key")
    }

    /// Connects.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        self.endpoint()?.connect().await.with_context(|| {
            format!("cannot reach the control plane at {}; is `doorward serve` running? Set --server", self.server)
        })
    }
}

/// A refusal of the server as a sentence.
pub fn refused(status: &Status) -> anyhow::Error {
    anyhow!("the control plane answered {:?}: {}", status.code(), super::output::clean(status.message()))
}

/// Runs a client command until it is done.
pub fn block_on_all<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(work);
    // A thread may still write to a pipe that nobody reads.
    runtime.shutdown_background();
    result
}

/// Runs a client command until it is done or Ctrl-C; the latter is a clean end.
pub fn block_on<T: Default>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    block_on_all(async {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => Ok(T::default()),
        }
    })
}
