//! `PolicyDiscovery`: one stream per proxy, the newest signed bundle, and what every proxy answered.
//!
//! A bundle is encoded, hashed and signed once per epoch (see [`crate::policies`]); a stream adds its nonce. Updates
//! coalesce: a proxy that is slow gets the newest policy, never a queue of old ones.

mod hello;
mod registry;
mod subscription;
mod summary;

use std::sync::{Arc, atomic::AtomicBool};

use doorward_proto::v1::{PolicyUpdate, SubscribeRequest, policy_discovery_server::PolicyDiscovery};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use self::subscription::Subscription;
pub use self::{
    registry::Registry,
    summary::{Held, Proxies, Refusal},
};
use crate::{
    access::{Access, Role},
    audit::store::Store,
    certificate::Owner,
    connections::{Client, Peer},
    metrics::Metrics,
    owned::Owned,
    policies::publish::PolicyWatch,
};

/// The service.
pub struct Push {
    /// Who may subscribe.
    pub access: Access,
    /// Name that proxies must subscribe to.
    pub scope: String,
    /// The newest policy.
    pub policy: PolicyWatch,
    /// Set where a proxy holds a newer epoch than that.
    pub outrun: Arc<AtomicBool>,
    /// Where a proxy is noted before it gets policy.
    pub audit: Store,
    /// What proxies answered.
    pub registry: Arc<Registry>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the process ends.
    pub shutdown: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl PolicyDiscovery for Push {
    type SubscribeStream = Owned<ReceiverStream<Result<PolicyUpdate, Status>>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let owner = self.access.check(&request, &[Role::Proxy])?;
        let client = request.extensions().get::<Peer>().map_or(Client::Named(Owner::default()), Peer::client);
        let span = tracing::info_span!(
            "policy_stream",
            scope = self.scope,
            peer = request.extensions().get::<Peer>().map(|peer| tracing::field::display(peer.address())),
            node = tracing::field::Empty,
        );
        let (updates, stream) = mpsc::channel(2);
        let subscription = Subscription {
            client,
            scope: self.scope.clone(),
            policy: self.policy.clone(),
            outrun: Arc::clone(&self.outrun),
            audit: self.audit.clone(),
            owner,
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.clone(),
            requests: request.into_inner(),
            updates: updates.clone(),
        };
        // Response headers go out before the proxy's first message is read: Envoy may wait for them.
        let stream_ends = async move {
            if let Err(status) = subscription.run().await {
                let _ = updates.send(Err(status)).await;
            }
        };
        let task = tokio::spawn(stream_ends.instrument(span));
        Ok(Response::new(Owned::new(ReceiverStream::new(stream), task)))
    }
}
