//! One proxy's subscription: its hello, the newest policy, its answers, and its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward_proto::v1::{Hello, Outcome, PolicyUpdate, SubscribeRequest, UpdateResult, subscribe_request::Message};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use super::{
    hello::{self, DIGEST_BYTES},
    registry::{MAX_REMEMBERED, Registry},
};
use crate::{
    audit::{ingest, store::Store},
    certificate::Owner,
    clock::{self, now_micros},
    connections::Client,
    metrics::Metrics,
    policies::publish::PolicyWatch,
};

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
/// What is remembered of each text in a proxy's answer.
const MAX_TEXT_BYTES: usize = 1024;

/// What a subscription works with.
pub(super) struct Subscription {
    pub(super) client: Client,
    pub(super) scope: String,
    pub(super) policy: PolicyWatch,
    pub(super) outrun: Arc<AtomicBool>,
    pub(super) audit: Store,
    pub(super) owner: Owner,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) requests: Streaming<SubscribeRequest>,
    pub(super) updates: mpsc::Sender<Result<PolicyUpdate, Status>>,
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
        hello::check(&hello, &self.scope)?;
        Ok(hello)
    }

    pub(super) async fn run(mut self) -> Result<(), Status> {
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

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
}
