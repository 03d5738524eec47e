//! Doorward and a Kubernetes API server.
//!
//! ```text
//! API server ──watch──▶ index ──▶ source (policy) ──▶ engine ──▶ push ──▶ proxies
//!     ▲                   │                             │                    │ acknowledgements
//!     └──── status ◀──────┴───────── leader ◀───────────┴── replicas ◀───────┘
//! ```
//!
//! The index is plain types: nothing past it knows of the API. Every replica watches and pushes by itself; the Lease decides only
//! who writes status. While the API server is away, what was seen last stays in force.

pub mod client;
pub mod epoch;
pub mod index;
pub mod item;
pub mod lease;
pub mod place;
pub mod replicas;
pub mod secrets;
pub mod status;
pub mod watch;
pub mod webhook;

use std::sync::Arc;

use anyhow::Context as _;
use doorward_policy_compiler::compile::namespaces::Boundary;
use doorward_proto::v1::PolicyStatus;
use tokio::sync::watch as channel;

pub use index::Index;
use place::Place;
pub use watch::Watching;
use webhook::{Webhook, certificate::Certificates};

use crate::{
    jwks::Secrets,
    metrics::Metrics,
    policies::{epochs::Epochs, publish::PolicyWatch},
    push::Registry,
    source::SourceError,
};

/// What runs beside the control plane where policy comes from an API server.
pub struct Companion {
    /// What was seen of the API server.
    pub index: Arc<Index>,
    /// The namespace of the control plane, if not that of the kubeconfig or of the pod.
    pub namespace: Option<String>,
    /// The name of this replica, if not that of the machine and something random.
    pub name: Option<String>,
    /// Documents are called by namespace and name.
    pub qualified: bool,
    /// Which namespace all others trust.
    pub boundary: Boundary,
    /// The namespace of documents that are called by their names alone.
    pub served: String,
    /// Whether there is a webhook, and where.
    pub webhook: Option<webhook::Settings>,
}

impl Companion {
    /// Connects to the API server that the environment names.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub async fn connect(self) -> Result<Connected, SourceError> {
        let (client, own) = client::connect().await?;
        let namespace = self.namespace.clone().unwrap_or(own);
        let name = self.name.clone().unwrap_or_else(place::name);
        Ok(Connected { client, place: Place { namespace, name }, companion: self })
    }
}

/// The same with a connection.
pub struct Connected {
    client: kube::Client,
    place: Place,
    companion: Companion,
}

impl Connected {
    /// What was seen of the API server.
    pub fn index(&self) -> Arc<Index> {
        Arc::clone(&self.companion.index)
    }

    /// Where the secrets are that documents name.
    pub fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(secrets::OfCluster::new(self.client.clone(), &self.companion.served))
    }

    /// On what epochs this replica agrees with others.
    pub fn epochs(&self, scope: &str, shutdown: &channel::Receiver<bool>) -> Box<dyn Epochs> {
        epoch::replica(self.client.clone(), &self.place, scope, self.index(), shutdown.clone())
    }

    /// Writes status and answers reviews until the process ends.
    ///
    /// # Errors
    /// The webhook cannot be served.
    pub async fn run(
        self,
        status: channel::Receiver<PolicyStatus>,
        registry: Arc<Registry>,
        policy: PolicyWatch,
        metrics: Arc<Metrics>,
        shutdown: channel::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let index = self.index();
        let Self { client, place, companion } = self;
        let writer = status::Writer::new(
            client.clone(),
            &place,
            Arc::clone(&index),
            status,
            registry,
            policy,
            Arc::clone(&metrics),
        );
        let writing = writer.run(shutdown.clone());
        let Some(settings) = companion.webhook else {
            writing.await;
            return Ok(());
        };
        let certificates = Certificates::new(client, &place, &settings.configuration);
        let webhook = Webhook::new(index, companion.qualified, companion.boundary, metrics);
        let serving = webhook.serve(settings.listen, certificates, shutdown);
        let ((), served) = tokio::join!(writing, serving);
        served.with_context(|| format!("the webhook cannot be served on {} (--webhook-listen)", settings.listen))
    }
}
