//! `PolicyDiscovery`: one stream per proxy, the newest signed bundle, and what every proxy answered.
//!
//! A bundle is encoded, hashed and signed once per epoch (see [`crate::policies`]); a stream adds its nonce. Updates
//! coalesce: a proxy that is slow gets the newest policy, never a queue of old ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use doorward_proto::v1::{
    Hello, Outcome, PolicyUpdate, ProxyIdentity, ProxyStatus, SubscribeRequest, UpdateResult,
    policy_discovery_server::PolicyDiscovery, subscribe_request::Message,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    access::{Access, Owner, Role},
    audit::{ingest, store::Store},
    clock::{self, now_micros},
    metrics::Metrics,
    policies::Published,
};

const PROTOCOL_VERSION: u32 = 1;
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A proxy that does not take an update within this time is cut off; it reconnects and gets the newest.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// So long a proxy waits for its policy while the audit log cannot note it.
const NOTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams end after an hour and up to a tenth more, so that load spreads over replicas.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Proxies that are remembered, the connected ones among them.
const MAX_REMEMBERED: usize = 10_000;
/// What is remembered of each text that a proxy sends.
const MAX_TEXT_BYTES: usize = 1024;
const MAX_LABELS: usize = 64;
/// SHA-256.
const DIGEST_BYTES: usize = 32;
const MAX_NODE_BYTES: usize = 256;

/// The newest policy, or none yet.
pub type PolicyWatch = watch::Receiver<Option<Arc<Published>>>;

/// All proxies that connected, by node.
#[derive(Default)]
pub struct Registry {
    proxies: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Default)]
struct Entry {
    status: ProxyStatus,
    /// Which stream speaks for the node: a new one replaces an old one that has not noticed its end.
    stream: u64,
    pushed_epoch: u64,
    pushed_micros: i64,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the stream that now speaks for the node; none if there is no room for another node.
    fn connect(&self, node: &str, hello: &Hello) -> Option<u64> {
        let mut proxies = self.lock();
        if proxies.len() >= MAX_REMEMBERED && !proxies.contains_key(node) {
            let oldest =
                proxies.iter().filter(|(_, e)| !e.status.connected).min_by_key(|(_, e)| e.status.last_seen_micros);
            let oldest = oldest.map(|(name, _)| name.clone())?;
            proxies.remove(&oldest);
        }
        let entry = proxies.entry(node.to_owned()).or_default();
        entry.stream += 1;
        entry.status = ProxyStatus {
            proxy: hello.proxy.clone().map(bounded),
            scope: hello.scope.clone(),
            digest: hello.digest.iter().copied().take(DIGEST_BYTES).collect(),
            epoch: hello.epoch,
            connected_at_micros: now_micros(),
            last_seen_micros: now_micros(),
            connected: true,
            ..std::mem::take(&mut entry.status)
        };
        Some(entry.stream)
    }

    fn update(&self, node: &str, stream: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(node).filter(|entry| entry.stream == stream) {
            change(entry);
        }
    }

    /// Every known proxy, connected or not, by node; `current` says whether it enforces `newest`.
    pub fn list(&self, newest: Option<&Published>) -> Vec<ProxyStatus> {
        let now = now_micros();
        let status = |entry: &Entry| {
            let current = newest.is_some_and(|newest| entry.status.digest == newest.digest);
            // While the newest push is unanswered, its age.
            let waits = entry.status.connected && !current && entry.pushed_micros > 0;
            let lag_micros =
                if waits { u64::try_from(now - entry.pushed_micros).unwrap_or(0) } else { entry.status.lag_micros };
            ProxyStatus { current, lag_micros, ..entry.status.clone() }
        };
        self.lock().values().map(status).collect()
    }
}

/// Bounds what is remembered of a proxy, whatever it sent.
fn bounded(mut proxy: ProxyIdentity) -> ProxyIdentity {
    proxy.labels.truncate(MAX_LABELS);
    let labels = proxy.labels.iter_mut().flat_map(|label| [&mut label.name, &mut label.value]);
    let texts = [
        &mut proxy.node,
        &mut proxy.cluster,
        &mut proxy.build,
        &mut proxy.boot_id,
        &mut proxy.process,
        &mut proxy.emitter,
    ];
    for text in texts.into_iter().chain(labels) {
        cut(text);
    }
    proxy
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
}

/// The service.
pub struct Push {
    /// Who may subscribe.
    pub access: Access,
    /// Name that proxies must subscribe to.
    pub scope: String,
    /// The newest policy.
    pub policy: PolicyWatch,
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
    type SubscribeStream = ReceiverStream<Result<PolicyUpdate, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let owner = self.access.check(&request, &[Role::Proxy])?;
        let (updates, stream) = mpsc::channel(2);
        let subscription = Subscription {
            scope: self.scope.clone(),
            policy: self.policy.clone(),
            audit: self.audit.clone(),
            owner,
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.clone(),
            requests: request.into_inner(),
            updates: updates.clone(),
        };
        // Response headers go out before the proxy's first message is read: Envoy may wait for them.
        tokio::spawn(async move {
            if let Err(status) = subscription.run().await {
                let _ = updates.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Subscription {
    scope: String,
    policy: PolicyWatch,
    audit: Store,
    owner: Owner,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    shutdown: watch::Receiver<bool>,
    requests: Streaming<SubscribeRequest>,
    updates: mpsc::Sender<Result<PolicyUpdate, Status>>,
}

/// Marks the proxy disconnected whichever way its stream ends.
struct Connection {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    node: String,
    stream: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.proxies.dec();
        self.registry.update(&self.node, self.stream, |entry| {
            entry.status.connected = false;
            entry.status.last_seen_micros = now_micros();
        });
        tracing::info!(node = %self.node, "proxy disconnected");
    }
}

impl Subscription {
    async fn hello(&mut self) -> Result<Hello, Status> {
        let first = timeout(HELLO_TIMEOUT, self.requests.next()).await;
        let Ok(Some(Ok(SubscribeRequest { message: Some(Message::Hello(hello)) }))) = first else {
            return Err(Status::invalid_argument(
                "the first message of a subscription must be a hello, within ten seconds",
            ));
        };
        if hello.protocol_version != PROTOCOL_VERSION {
            let message = format!(
                "protocol version {} is not supported; this control plane speaks {PROTOCOL_VERSION}",
                hello.protocol_version
            );
            return Err(Status::failed_precondition(message));
        }
        if hello.scope != self.scope {
            return Err(Status::not_found(format!(
                "this control plane serves scope `{}`; correct the plugin's `scope`",
                self.scope
            )));
        }
        let node = hello.proxy.as_ref().map_or("", |proxy| proxy.node.as_str());
        if node.is_empty() || node.len() > MAX_NODE_BYTES || node.contains(char::is_control) {
            return Err(Status::invalid_argument(
                "the hello names no usable node; set Envoy's node.id (at most 256 bytes)",
            ));
        }
        Ok(hello)
    }

    async fn run(mut self) -> Result<(), Status> {
        let hello = self.hello().await?;
        let node = hello.proxy.as_ref().map(|proxy| proxy.node.clone()).unwrap_or_default();
        let Some(stream) = self.registry.connect(&node, &hello) else {
            return Err(Status::resource_exhausted(format!(
                "{MAX_REMEMBERED} proxies are connected; this control plane takes no further one"
            )));
        };
        self.metrics.proxies.inc();
        tracing::info!(%node, epoch = hello.epoch, "proxy connected");
        let connection =
            Connection { registry: Arc::clone(&self.registry), metrics: Arc::clone(&self.metrics), node, stream };

        self.note(&connection.node, &hello).await;
        let mut held = (hello.digest, hello.epoch);
        let mut nonces: u64 = 0;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = sleep_until(Instant::now() + MAX_AGE.mul_f64(1.0 + rand::random::<f64>() / 10.0));
        tokio::pin!(end);
        // The first tick of an interval is immediate: it answers the hello, with the policy or with a heartbeat.
        loop {
            tokio::select! {
                () = clock::ended(&mut self.shutdown) => return Ok(()),
                () = &mut end => return Ok(()),
                () = self.updates.closed() => return Ok(()),
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.answered(&connection, request)?,
                    Some(Err(_)) | None => return Ok(()),
                },
                changed = self.policy.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.offer(&connection, &mut held, &mut nonces).await?;
                }
                _ = heartbeat.tick() => {
                    if !self.offer(&connection, &mut held, &mut nonces).await? {
                        self.send(PolicyUpdate { heartbeat: true, ..Default::default() }).await?;
                    }
                }
            }
        }
    }

    /// Notes the proxy's emitter in the audit log, durably, before it gets policy and so before it can answer requests: if it is
    /// never heard of again, the log says that records are missing. Where the log cannot be written, the proxy gets policy all
    /// the same: else a full disk would close every proxy that starts.
    async fn note(&self, node: &str, hello: &Hello) {
        let Some(proxy) = hello.proxy.as_ref().filter(|proxy| !proxy.process.is_empty()) else { return };
        // A proxy speaks for itself only.
        if proxy.emitter.strip_prefix(node).is_none_or(|rest| !rest.starts_with('/')) {
            return;
        }
        let noted = self.audit.announce(self.owner, proxy.emitter.clone(), ingest::process(&proxy.process));
        let refusal = match timeout(NOTE_TIMEOUT, noted).await {
            Ok(noted) => noted.refusal.map(|refusal| refusal.code()),
            Err(_) => Some("storage_unavailable"),
        };
        if let Some(code) = refusal {
            tracing::warn!(%node, code, "a proxy gets policy although the audit log could not note it: if it is killed before its first record is stored, nothing will say that records are missing");
        }
    }

    /// Sends the newest policy unless the proxy holds it or was sent it. A proxy with the same digest under an older
    /// epoch gets it too: the newer envelope carries the later expiry.
    async fn offer(
        &mut self,
        connection: &Connection,
        held: &mut (Vec<u8>, u64),
        nonces: &mut u64,
    ) -> Result<bool, Status> {
        let Some(newest) = self.policy.borrow_and_update().clone() else { return Ok(false) };
        if held.1 == newest.epoch && held.0 == newest.digest {
            return Ok(false);
        }
        if held.1 > newest.epoch {
            tracing::warn!(node = %connection.node, holds = held.1, newest = newest.epoch,
                "a proxy holds a newer epoch than this control plane has signed and will refuse ours; if the data directory was rebuilt, set --epoch-floor");
        }
        *nonces += 1;
        let nonce = format!("{}-{nonces}", connection.stream);
        connection.registry.update(&connection.node, connection.stream, |entry| {
            entry.pushed_epoch = newest.epoch;
            entry.pushed_micros = now_micros();
        });
        self.send(PolicyUpdate { nonce, ..newest.update.clone() }).await?;
        *held = (newest.digest.clone(), newest.epoch);
        Ok(true)
    }

    async fn send(&self, update: PolicyUpdate) -> Result<(), Status> {
        match timeout(SEND_TIMEOUT, self.updates.send(Ok(update))).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Status::deadline_exceeded("the proxy did not take an update within thirty seconds; reconnect"))
            }
        }
    }

    fn answered(&self, connection: &Connection, request: SubscribeRequest) -> Result<(), Status> {
        let mut result = match request.message {
            Some(Message::Result(result)) => result,
            _ => return Err(Status::invalid_argument("after the hello a subscription carries results only")),
        };
        // A nonce is valid on its own stream only.
        if !result.nonce.starts_with(&format!("{}-", connection.stream)) {
            return Err(Status::invalid_argument("the result names a nonce that this stream did not send"));
        }
        result.digest.truncate(DIGEST_BYTES);
        for text in [&mut result.nonce, &mut result.path, &mut result.code, &mut result.message] {
            cut(text);
        }
        let outcome = result.outcome();
        let label = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::AcceptedWithWarnings => "accepted_with_warnings",
            Outcome::Rejected => "rejected",
            Outcome::Unspecified => return Err(Status::invalid_argument("the result has no outcome")),
        };
        self.metrics.updates.get_or_create(&vec![("outcome", label.to_owned())]).inc();
        if outcome == Outcome::Rejected {
            let UpdateResult { code, path, message, .. } = &result;
            tracing::warn!(node = %connection.node, code, path, message, "a proxy rejected the policy and keeps its old one");
        }
        connection.registry.update(&connection.node, connection.stream, |entry| {
            let now = now_micros();
            entry.status.last_seen_micros = now;
            entry.status.digest.clone_from(&result.digest);
            entry.status.epoch = result.epoch;
            if outcome == Outcome::Rejected {
                entry.status.last_rejection = Some(result);
                entry.status.last_rejection_micros = now;
            } else {
                entry.status.acknowledged_micros = now;
                if result.epoch == entry.pushed_epoch {
                    entry.status.lag_micros = u64::try_from(now - entry.pushed_micros).unwrap_or(0);
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_proto::v1::Label;

    fn hello(text: &str) -> Hello {
        let label = Label { name: text.into(), value: text.into() };
        let proxy = ProxyIdentity { cluster: text.into(), labels: vec![label; 1000], ..Default::default() };
        Hello { proxy: Some(proxy), digest: vec![0; text.len()], ..Default::default() }
    }

    #[test]
    fn a_proxy_cannot_make_the_control_plane_remember_much() {
        let registry = Registry::default();
        assert!(registry.connect("n", &hello(&"ü".repeat(10_000))).is_some());
        let status = registry.list(None).remove(0);
        let proxy = status.proxy.unwrap();
        assert_eq!((proxy.labels.len(), proxy.cluster.len(), status.digest.len()), (64, 1024, 32));
    }

    #[test]
    fn no_more_nodes_are_taken_than_are_remembered_and_none_that_is_connected_is_forgotten() {
        let registry = Registry::default();
        for at in 0..MAX_REMEMBERED {
            assert!(registry.connect(&format!("n{at}"), &Hello::default()).is_some());
        }
        assert_eq!(registry.connect("one more", &Hello::default()), None);
        assert_eq!(registry.connect("n7", &Hello::default()), Some(2), "a known one comes back");
        registry.update("n9", 1, |entry| entry.status.connected = false);
        assert!(registry.connect("one more", &Hello::default()).is_some());
        assert_eq!(registry.list(None).len(), MAX_REMEMBERED);
    }
}
