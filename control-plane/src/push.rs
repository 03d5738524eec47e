//! `PolicyDiscovery`: one stream per proxy, the newest signed bundle, and what every proxy answered.
//!
//! A bundle is encoded, hashed and signed once per epoch (see [`crate::policies`]); a stream adds its nonce. Updates
//! coalesce: a proxy that is slow gets the newest policy, never a queue of old ones.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward_proto::v1::{
    Hello, Outcome, PolicyUpdate, ProxyStatus, SubscribeRequest, UpdateResult,
    policy_discovery_server::PolicyDiscovery, subscribe_request::Message,
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::{
    access::{Access, Owner, Role},
    audit::{ingest, store::Store},
    clock::{self, now_micros},
    connections::{Client, Peer, may_take},
    metrics::Metrics,
    policies::publish::Published,
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
/// A proxy answers every update. One that does not, does not read either, and what waits for it takes memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Proxies that are remembered, the connected ones among them. One client has at most half of what is free.
const MAX_REMEMBERED: usize = 20_000;
/// What is remembered of each text in a proxy's answer.
const MAX_TEXT_BYTES: usize = 1024;
/// Texts of a hello.
const MAX_NAME_BYTES: usize = 256;
const MAX_ID_BYTES: usize = 128;
const MAX_LABELS: usize = 16;
const MAX_LABEL_NAME_BYTES: usize = 64;
/// SHA-256.
const DIGEST_BYTES: usize = 32;
/// Proxies in one answer at most, and bytes after which no further one is added: clients take four megabytes.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 1 << 20;

/// The newest policy, or none yet.
pub type PolicyWatch = watch::Receiver<Option<Arc<Published>>>;

/// All proxies that connected, by node.
#[derive(Default)]
pub struct Registry {
    proxies: Mutex<Proxies>,
}

#[derive(Default)]
struct Proxies {
    by_node: BTreeMap<String, Entry>,
    /// How many of them each client has.
    counts: BTreeMap<Client, usize>,
}

struct Entry {
    client: Client,
    status: ProxyStatus,
    /// Which stream speaks for the node: a new one replaces an old one that has not noticed its end.
    stream: u64,
    pushed_epoch: u64,
    pushed_micros: i64,
}

impl Proxies {
    fn count(&self, client: Client) -> usize {
        self.counts.get(&client).copied().unwrap_or(0)
    }

    fn forget(&mut self, node: &str) -> Option<Entry> {
        let entry = self.by_node.remove(node)?;
        if let Some(count) = self.counts.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.client);
            }
        }
        Some(entry)
    }

    /// Room for one more node of this client, if need be in place of one that is gone: of its own, or of a client that has
    /// more.
    fn has_room(&mut self, client: Client) -> bool {
        let own = self.count(client);
        if may_take(own, self.by_node.len(), MAX_REMEMBERED) {
            return true;
        }
        let gone = self.by_node.iter().filter(|(_, entry)| !entry.status.connected);
        let gone = gone.filter(|(_, entry)| entry.client == client || self.count(entry.client) > own);
        let oldest = gone.min_by_key(|(_, entry)| entry.status.last_seen_micros).map(|(node, _)| node.clone());
        oldest.is_some_and(|node| self.forget(&node).is_some())
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Proxies> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the stream that now speaks for the node; none if there is no room for another node of this client.
    fn connect(&self, client: Client, node: &str, hello: &Hello) -> Option<u64> {
        let mut proxies = self.lock();
        let known = proxies.forget(node);
        if known.as_ref().is_none_or(|known| known.client != client) && !proxies.has_room(client) {
            if let Some(known) = known {
                *proxies.counts.entry(known.client).or_default() += 1;
                proxies.by_node.insert(node.to_owned(), known);
            }
            return None;
        }
        let (stream, status, pushed_epoch, pushed_micros) = known.map_or_else(Default::default, |known| {
            (known.stream, known.status, known.pushed_epoch, known.pushed_micros)
        });
        let status = ProxyStatus {
            proxy: hello.proxy.clone(),
            scope: hello.scope.clone(),
            digest: hello.digest.clone(),
            epoch: hello.epoch,
            connected_at_micros: now_micros(),
            last_seen_micros: now_micros(),
            connected: true,
            ..status
        };
        let stream = stream + 1;
        *proxies.counts.entry(client).or_default() += 1;
        proxies.by_node.insert(node.to_owned(), Entry { client, status, stream, pushed_epoch, pushed_micros });
        Some(stream)
    }

    fn update(&self, node: &str, stream: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().by_node.get_mut(node).filter(|entry| entry.stream == stream) {
            change(entry);
        }
    }

    /// Known proxies, connected or not, by node, from the one after this; and where to go on. `current` says whether one
    /// enforces `newest`.
    pub fn page(&self, newest: Option<&Published>, after: &str, size: usize) -> (Vec<ProxyStatus>, Option<String>) {
        let now = now_micros();
        let status = |entry: &Entry| {
            let current = newest.is_some_and(|newest| entry.status.digest == newest.digest);
            // While the newest push is unanswered, its age.
            let waits = entry.status.connected && !current && entry.pushed_micros > 0;
            let lag_micros =
                if waits { u64::try_from(now - entry.pushed_micros).unwrap_or(0) } else { entry.status.lag_micros };
            ProxyStatus { current, lag_micros, ..entry.status.clone() }
        };
        let proxies = self.lock();
        let mut rest = proxies.by_node.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).peekable();
        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        while page.len() < size.clamp(1, PAGE)
            && bytes < PAGE_BYTES
            && let Some((node, entry)) = rest.next()
        {
            let status = status(entry);
            bytes += status.encoded_len();
            page.push(status);
            last = Some(node);
        }
        let next = last.filter(|_| rest.peek().is_some()).cloned();
        (page, next)
    }
}

/// What is wrong with the form of a hello. What is taken is remembered, and shown to others.
fn wrong(hello: &Hello) -> Option<String> {
    let proxy = hello.proxy.clone().unwrap_or_default();
    if proxy.node.is_empty() || proxy.node.contains(char::is_control) {
        return Some("the hello names no usable node; set Envoy's node.id (at most 256 bytes)".into());
    }
    let names = [
        ("node", &proxy.node, MAX_NAME_BYTES),
        ("cluster", &proxy.cluster, MAX_NAME_BYTES),
        ("build", &proxy.build, MAX_ID_BYTES),
        ("boot_id", &proxy.boot_id, MAX_ID_BYTES),
        ("process", &proxy.process, MAX_ID_BYTES),
        ("emitter", &proxy.emitter, MAX_NAME_BYTES + MAX_ID_BYTES),
    ];
    let labels = proxy.labels.iter().flat_map(|label| {
        [("labels.name", &label.name, MAX_LABEL_NAME_BYTES), ("labels.value", &label.value, MAX_NAME_BYTES)]
    });
    for (field, text, most) in names.into_iter().chain(labels) {
        if text.len() > most {
            return Some(format!("`{field}` of the hello has {} bytes; at most {most} are taken", text.len()));
        }
    }
    if proxy.labels.len() > MAX_LABELS {
        return Some(format!("the hello has {} labels; at most {MAX_LABELS} are taken", proxy.labels.len()));
    }
    if !hello.digest.is_empty() && hello.digest.len() != DIGEST_BYTES {
        return Some(format!("`digest` of the hello has {} bytes; a digest has {DIGEST_BYTES}", hello.digest.len()));
    }
    None
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
    type SubscribeStream = ReceiverStream<Result<PolicyUpdate, Status>>;

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
        tokio::spawn(stream_ends.instrument(span));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Subscription {
    client: Client,
    scope: String,
    policy: PolicyWatch,
    outrun: Arc<AtomicBool>,
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
        if let Ok(Some(Err(status))) = first {
            // Too large, say.
            return Err(status);
        }
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
        if let Some(problem) = wrong(&hello) {
            return Err(Status::invalid_argument(problem));
        }
        Ok(hello)
    }

    async fn run(mut self) -> Result<(), Status> {
        let hello = self.hello().await?;
        let node = hello.proxy.as_ref().map(|proxy| proxy.node.clone()).unwrap_or_default();
        tracing::Span::current().record("node", node.as_str());
        let Some(stream) = self.registry.connect(self.client, &node, &hello) else {
            return Err(Status::resource_exhausted(format!(
                "this client has as many nodes as are left for all others, of {MAX_REMEMBERED}; it gets no further one"
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
        let mut unanswered: Option<Instant> = None;
        // The first tick of an interval is immediate: it answers the hello, with the policy or with a heartbeat.
        loop {
            tokio::select! {
                () = clock::ended(&mut self.shutdown) => return Ok(()),
                () = &mut end => return Ok(()),
                () = self.updates.closed() => return Ok(()),
                request = self.requests.next() => match request {
                    Some(Ok(request)) => {
                        self.answered(&connection, request)?;
                        unanswered = None;
                    }
                    Some(Err(_)) | None => return Ok(()),
                },
                changed = self.policy.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    if self.offer(&connection, &mut held, &mut nonces).await? {
                        unanswered.get_or_insert_with(Instant::now);
                    }
                }
                _ = heartbeat.tick() => {
                    if unanswered.is_some_and(|since| since.elapsed() > ANSWER_TIMEOUT) {
                        return Err(Status::deadline_exceeded("the proxy did not answer an update within a minute; reconnect"));
                    }
                    if self.offer(&connection, &mut held, &mut nonces).await? {
                        unanswered.get_or_insert_with(Instant::now);
                    } else {
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
                "a proxy holds a newer epoch than this control plane has signed and will refuse ours; it is signed anew if it was found at the start. If this goes on, set --epoch-floor");
            self.outrun.store(true, Ordering::Relaxed);
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
    use doorward_proto::v1::{Label, ProxyIdentity};

    const ME: Client = Client::Named(Owner([1; 32]));
    const OTHER: Client = Client::Named(Owner([2; 32]));

    fn hello(change: impl FnOnce(&mut Hello, &mut ProxyIdentity)) -> Hello {
        let (mut hello, mut proxy) = (Hello::default(), ProxyIdentity { node: "n".into(), ..Default::default() });
        change(&mut hello, &mut proxy);
        hello.proxy = Some(proxy);
        hello
    }

    #[test]
    fn every_field_of_a_hello_has_a_bound_and_the_refusal_names_it() {
        let long = "x".repeat(257);
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        assert_eq!(wrong(&hello(|_, _| {})), None);
        let most = hello(|hello, proxy| {
            hello.digest = vec![0; 32];
            (proxy.node, proxy.cluster) = ("x".repeat(256), "x".repeat(256));
            proxy.labels = vec![label(&"x".repeat(64), &"x".repeat(256)); 16];
        });
        assert_eq!(wrong(&most), None);
        for (field, hello) in [
            ("node", hello(|_, proxy| proxy.node.clear())),
            ("node", hello(|_, proxy| proxy.node = "a\nb".into())),
            ("`node`", hello(|_, proxy| proxy.node = long.clone())),
            ("`cluster`", hello(|_, proxy| proxy.cluster = long.clone())),
            ("`build`", hello(|_, proxy| proxy.build = long.clone())),
            ("`boot_id`", hello(|_, proxy| proxy.boot_id = long.clone())),
            ("17 labels", hello(|_, proxy| proxy.labels = vec![label("a", "b"); 17])),
            ("`labels.name`", hello(|_, proxy| proxy.labels = vec![label(&long, "b")])),
            ("`labels.value`", hello(|_, proxy| proxy.labels = vec![label("a", &long)])),
            ("`digest`", hello(|hello, _| hello.digest = vec![0; 33])),
        ] {
            let problem = wrong(&hello).expect(field);
            assert!(problem.contains(field), "{field}: {problem}");
        }
    }

    #[test]
    fn one_client_leaves_room_for_the_nodes_of_others_and_none_that_is_connected_is_forgotten() {
        let registry = Registry::default();
        let half = MAX_REMEMBERED / 2;
        for at in 0..half {
            assert!(registry.connect(ME, &format!("n{at:05}"), &Hello::default()).is_some());
        }
        assert_eq!(registry.connect(ME, "one more", &Hello::default()), None);
        assert_eq!(registry.connect(ME, "n00007", &Hello::default()), Some(2), "a known one comes back");
        assert!(registry.connect(OTHER, "other", &Hello::default()).is_some());
        assert_eq!(registry.connect(ME, "other", &Hello::default()), None, "nor by taking it from another");
        registry.update("n00009", 1, |entry| entry.status.connected = false);
        assert!(registry.connect(ME, "one more", &Hello::default()).is_some());
        let proxies = registry.lock();
        assert!(!proxies.by_node.contains_key("n00009") && proxies.by_node.contains_key("other"));
        assert_eq!((proxies.count(ME), proxies.count(OTHER), proxies.by_node.len()), (half, 1, half + 1));
    }

    #[test]
    fn a_page_is_bounded_in_number_and_bytes_and_all_pages_hold_all_proxies_once() {
        let registry = Registry::default();
        let text = "x".repeat(256);
        let label = Label { name: "x".repeat(64), value: text.clone() };
        for at in 0..3_000 {
            let hello = hello(|_, proxy| (proxy.cluster, proxy.labels) = (text.clone(), vec![label.clone(); 16]));
            registry.connect(ME, &format!("n{at:05}"), &hello).unwrap();
        }
        for size in [0, 7, usize::MAX] {
            let (mut seen, mut after) = (0, String::new());
            loop {
                let (page, next) = registry.page(None, &after, if size == 0 { PAGE } else { size });
                assert!(page.len() <= size.clamp(1, PAGE) || size == 0);
                let bytes: usize = page.iter().map(prost::Message::encoded_len).sum();
                assert!(bytes < PAGE_BYTES + (8 << 10), "{bytes}");
                seen += page.len();
                let Some(next) = next else { break };
                after = next;
            }
            assert_eq!(seen, 3_000);
        }
    }
}
