//! The policy stream of the leading worker.

use crate::{
    config::Config,
    link::Link,
    policy_store::{Policy, Rejection},
    proxy::Proxy,
};
use doorward_proto::v1::{
    Hello, Label, Outcome, PolicyUpdate, ProxyIdentity, StoredPolicy, SubscribeRequest, UpdateResult, subscribe_request,
};
use prost::Message;

/// A stream on which nothing is heard for this long is dead; the other side sends a heartbeat every ten seconds.
const SILENCE_MILLIS: u64 = 30_000;

/// The proxy, as the control plane lists it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Name of this proxy.
    pub node: String,
    /// Envoy's `node.cluster`.
    pub cluster: String,
    /// Boot id of this worker's VM.
    pub boot: String,
    /// Number of this worker: as many VMs have worked at the same time so far.
    pub workers: u32,
    /// One for each start of the proxy.
    pub process: String,
    /// Under which name this worker's records go.
    pub emitter: String,
}

/// The policy stream.
#[derive(Clone, Debug)]
pub struct Subscription {
    link: Link,
    heard_at: u64,
}

impl Default for Subscription {
    fn default() -> Self {
        Subscription { link: Link::new("doorward.v1.PolicyDiscovery", "Subscribe"), heard_at: 0 }
    }
}

impl Subscription {
    /// True while the stream is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// True if this is the stream's token.
    #[must_use]
    pub fn is(&self, token: u32) -> bool {
        self.link.is(token)
    }

    /// Opens the stream when its time has come, and drops it when it has fallen silent.
    pub fn tick(&mut self, proxy: &impl Proxy, config: &Config, node: &Node, current: Option<&Policy>, now: u64) {
        // The clock may have been set back since.
        self.heard_at = self.heard_at.min(now);
        if self.link.is_open() && now > self.heard_at.saturating_add(SILENCE_MILLIS) {
            self.link.close(proxy, now);
        }
        if self.link.open(proxy, &config.control_plane.cluster, now) {
            self.heard_at = now;
            let hello = Hello {
                protocol_version: 1,
                proxy: Some(ProxyIdentity {
                    node: node.node.clone(),
                    cluster: node.cluster.clone(),
                    build: env!("CARGO_PKG_VERSION").to_owned(),
                    workers: node.workers,
                    labels: Vec::<Label>::new(),
                    boot_id: node.boot.clone(),
                    process: node.process.clone(),
                    emitter: node.emitter.clone(),
                }),
                scope: config.scope.clone(),
                digest: current.map(|policy| policy.digest.to_vec()).unwrap_or_default(),
                epoch: current.map_or(0, |policy| policy.epoch),
            };
            self.send(proxy, subscribe_request::Message::Hello(hello), now);
        }
    }

    fn send(&mut self, proxy: &impl Proxy, message: subscribe_request::Message, now: u64) {
        self.link.send(proxy, &SubscribeRequest { message: Some(message) }.encode_to_vec(), now);
    }

    /// A message came. Gives the update in it: its nonce, and the policy.
    pub fn receive(&mut self, proxy: &impl Proxy, message: &[u8], now: u64) -> Option<(String, StoredPolicy)> {
        self.heard_at = now;
        self.link.heard(proxy);
        let Ok(update) = PolicyUpdate::decode(message) else {
            self.link.close(proxy, now);
            return None;
        };
        if update.heartbeat || update.envelope.is_empty() {
            return None;
        }
        let PolicyUpdate { nonce, envelope, signature, payload, .. } = update;
        Some((nonce, StoredPolicy { envelope, signature, payload }))
    }

    /// Answers an update; `current` is what is in force after it.
    pub fn answer(
        &mut self,
        proxy: &impl Proxy,
        nonce: String,
        result: Result<(), &Rejection>,
        current: Option<&Policy>,
        now: u64,
    ) {
        let (outcome, path, code, message) = match result {
            Ok(()) if current.is_some_and(|policy| policy.is_stale(seconds(now))) => (
                Outcome::AcceptedWithWarnings,
                "envelope.expires_at".to_owned(),
                "expired".to_owned(),
                "The policy has expired already; onStale says to enforce it all the same.".to_owned(),
            ),
            Ok(()) => (Outcome::Accepted, String::new(), String::new(), String::new()),
            Err(rejection) => {
                (Outcome::Rejected, rejection.path.clone(), rejection.code.to_owned(), rejection.message.clone())
            }
        };
        let answer = UpdateResult {
            nonce,
            digest: current.map(|policy| policy.digest.to_vec()).unwrap_or_default(),
            epoch: current.map_or(0, |policy| policy.epoch),
            outcome: outcome.into(),
            path,
            code,
            message,
        };
        self.send(proxy, subscribe_request::Message::Result(answer), now);
    }

    /// The other side closed the stream with this status of gRPC.
    pub fn closed_by_host(&mut self, proxy: &impl Proxy, cluster: &str, status: u32, now: u64) {
        self.link.closed_by_host(proxy, cluster, status, now);
    }

    /// Closes the stream: it is silent, or this worker leads no more.
    pub fn close(&mut self, proxy: &impl Proxy, now: u64) {
        self.link.close(proxy, now);
    }
}

/// Unix seconds of Unix milliseconds.
#[must_use]
pub fn seconds(millis: u64) -> i64 {
    i64::try_from(millis / 1000).unwrap_or(i64::MAX)
}
