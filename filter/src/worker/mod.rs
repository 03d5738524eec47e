//! The root context: one per worker VM. Holds the policy in force and the streams to the control plane.

mod decisions;

use crate::{
    audit::{ACKNOWLEDGE_MILLIS, Emitter, Limits, Waiter},
    bodies::{self, Awaited},
    config::{self, Bodies, Choice, Config, ConfigError, MeshIdentity, TOKENIZATION_KEY},
    host::Random,
    leader::Lease,
    metrics::Metrics,
    policy_store::{Policy, Rejection, Store, Trust},
    problem,
    proxy::{Buffer, Direction, Level, Proxy},
    questions::{self, Questions},
    repeats::Repeats,
    slots::{self, Lost, Slots},
    subscribe::{Node, Subscription, seconds},
};
use doorward_policy::{
    audit::gap,
    code::{Code, Denial},
    engine::Settings,
    identity::{self, TokenCache},
};
use doorward_proto::v1::{AuditRecord, StoredPolicy};
use std::{cell::RefCell, rc::Rc};

/// Policy that another worker stored is taken up after at most this long.
const TICK_MILLIS: u32 = 100;
const NOT_ACKNOWLEDGED: &str = "The record of this decision was not acknowledged as durable in time.";

/// A worker that is configured.
pub struct Active {
    config: Config,
    settings: Settings,
    tokenization_key: Option<Vec<u8>>,
    trust: Trust,
    store: Store,
    policy: Option<Policy>,
    cache: TokenCache,
    lease: Lease,
    slots: Slots,
    registered: bool,
    node: Node,
    random: RefCell<Random>,
    subscription: Subscription,
    /// Records on their way.
    pub emitter: Emitter,
    /// Denials that come too often.
    repeats: Repeats,
    /// Figures.
    pub metrics: Metrics,
    /// Requests that wait for their body, until it is known that bodies come.
    pub bodies: Awaited,
    /// What the control plane is asked about callers.
    pub questions: Questions,
    complained: bool,
    was_leading: bool,
}

/// A worker, shared by its streams. All of them are called by the thread of that worker.
pub type SharedWorker = Rc<RefCell<Worker>>;

/// A root context.
pub struct Worker {
    id: u32,
    /// `None`: not configured, or not validly: the filter is closed.
    pub active: Option<Box<Active>>,
}

impl Worker {
    /// A root context that is not configured yet.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Worker { id, active: None }
    }

    /// The root context's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Reads the configuration. One that is not valid closes the filter.
    pub fn configure(&mut self, proxy: &impl Proxy, size: usize) {
        let json = proxy.get_buffer(Buffer::PluginConfiguration, 0, size).unwrap_or_default();
        if let Some(active) = &mut self.active {
            questions::abandon(proxy, active, self.id);
        }
        match Active::new(proxy, &json) {
            Ok(active) => {
                self.active = Some(Box::new(active));
                if proxy.set_tick_period(TICK_MILLIS).is_err() {
                    proxy.log(Level::Error, "doorward: no ticks here, so policy will never come.");
                }
            }
            Err(error) => {
                self.active = None;
                let message = format!("doorward: every request is denied, because of the configuration. {error}");
                proxy.log(Level::Error, &message);
            }
        }
    }

    /// Takes up policy, keeps the streams alive, sends records, hands over figures.
    pub fn tick(&mut self, proxy: &impl Proxy) {
        let now = proxy.now_nanos() / 1_000_000;
        if let Some(active) = &mut self.active {
            active.tick(proxy, now);
            for (context, decision_id) in active.bodies.take_overdue(proxy, now) {
                if proxy.set_effective_context(context).is_ok() {
                    problem::deny(proxy, &Denial::new(Code::PolicyUnavailable, bodies::NEVER_CAME), &decision_id);
                    active.metrics.denied(Code::PolicyUnavailable);
                }
            }
            for head in active.bodies.stuck_heads(proxy, now) {
                let durable = head.sequence.is_none_or(|sequence| active.emitter.is_durable(sequence));
                if proxy.set_effective_context(head.context).is_err() {
                    active.bodies.forget_head(head.context);
                } else if durable {
                    active.bodies.release_head(head.context);
                    let _ = proxy.continue_stream(Direction::Response);
                } else if head.is_hopeless(now) {
                    active.bodies.forget_head(head.context);
                    problem::deny(proxy, &Denial::new(Code::AuditUnavailable, NOT_ACKNOWLEDGED), &head.decision_id);
                    active.metrics.denied(Code::AuditUnavailable);
                }
            }
            for waiter in active.emitter.take_overdue(now) {
                if proxy.set_effective_context(waiter.context).is_ok() {
                    problem::deny(proxy, &Denial::new(Code::AuditUnavailable, NOT_ACKNOWLEDGED), &waiter.decision_id);
                    active.metrics.denied(Code::AuditUnavailable);
                }
            }
            let _ = proxy.set_effective_context(self.id);
            questions::give_up_overdue(proxy, active, self.id, now);
        }
    }

    /// A message came on one of the streams.
    pub fn grpc_receive(&mut self, proxy: &impl Proxy, token: u32, size: usize) {
        let now = proxy.now_nanos() / 1_000_000;
        let Some(active) = &mut self.active else { return };
        let message = proxy.get_buffer(Buffer::GrpcReceive, 0, size).unwrap_or_default();
        if active.subscription.is(token) {
            active.policy_message(proxy, &message, now);
        } else if active.emitter.is(token) {
            let released = active.emitter.receive(proxy, &message, now);
            if active.emitter.is_eager() {
                active.emitter.flush(proxy, &active.config.control_plane.cluster, now);
            }
            for waiter in released {
                if proxy.set_effective_context(waiter.context).is_ok() {
                    let _ = proxy.continue_stream(Direction::Response);
                }
            }
            let _ = proxy.set_effective_context(self.id);
        } else {
            questions::answered(proxy, active, self.id, token, Some(&message));
        }
    }

    /// The other side closed one of the streams with this status of gRPC.
    pub fn grpc_close(&mut self, proxy: &impl Proxy, token: u32, status: u32) {
        let now = proxy.now_nanos() / 1_000_000;
        if let Some(active) = &mut self.active {
            let cluster = &active.config.control_plane.cluster;
            if active.subscription.is(token) {
                active.subscription.closed_by_host(proxy, cluster, status, now);
            } else if active.emitter.is(token) {
                active.emitter.closed_by_host(proxy, cluster, status, now);
            } else {
                questions::answered(proxy, active, self.id, token, None);
            }
        }
    }

    /// The VM ends.
    pub fn done(&mut self, proxy: &impl Proxy) {
        let now = proxy.now_nanos() / 1_000_000;
        if let Some(active) = &mut self.active {
            active.lease.release(proxy);
            active.sum_up(now, true);
            // With records left, the slot stays: the leader finds it standing still, and records the loss.
            if active.emitter.end(proxy, &active.config.control_plane.cluster, now) {
                active.slots.release(proxy, active.emitter.name());
            }
        }
    }
}

impl Active {
    fn new(proxy: &impl Proxy, json: &[u8]) -> Result<Self, ConfigError> {
        let (config, keys) = Config::parse(json)?;
        let mut boot = [0_u8; 16];
        proxy.random(&mut boot).map_err(|_| ConfigError::NoRandomness)?;
        let hex: String = boot.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        // Envoy calls it `xds.node`; before 1.29 it was `node`.
        let property = |name: &str| {
            ["xds\0node\0", "node\0"]
                .iter()
                .find_map(|path| String::from_utf8(proxy.get_property(&format!("{path}{name}")).ok()?).ok())
                .unwrap_or_default()
        };
        let node = config.node.clone().unwrap_or_else(|| property("id"));
        if node.is_empty() || node.contains('/') {
            return Err(ConfigError::NodeName(node));
        }
        let tokenization_key = config::tokenization_key(proxy.variable(TOKENIZATION_KEY).unwrap_or_default())?;
        let limits = Limits {
            records: usize::try_from(config.audit.max_records).unwrap_or(usize::MAX),
            bytes: usize::try_from(config.audit.max_bytes).unwrap_or(usize::MAX),
        };
        let mut active = Active {
            settings: settings(&config, tokenization_key.is_some()),
            tokenization_key,
            trust: Trust { keys, scope: config.scope.clone(), on_stale: config.on_stale },
            store: Store::new(&config.scope),
            policy: None,
            cache: TokenCache::default(),
            lease: Lease::new(&config.scope, boot),
            slots: Slots::new(&config.scope),
            registered: false,
            emitter: Emitter::new(&node, 0, &hex, limits),
            repeats: Repeats::new(config.audit.repeats_in_full, config.audit.unidentified_per_second),
            node: Node { node, cluster: property("cluster"), boot: hex, ..Node::default() },
            random: RefCell::default(),
            subscription: Subscription::default(),
            metrics: Metrics::new(&config.metrics_prefix),
            bodies: Awaited::default(),
            questions: Questions::default(),
            complained: false,
            was_leading: false,
            config,
        };
        // A worker that comes after a crash has policy at once.
        active.take_stored(proxy, proxy.now_nanos() / 1_000_000);
        Ok(active)
    }

    /// Takes a number and a slot, once there is work: Envoy makes a VM on trial too and drops it without a word.
    fn register(&mut self, proxy: &impl Proxy) {
        if !self.registered {
            self.registered = true;
            let (node, boot) = (&self.node.node, &self.node.boot);
            let number = self.slots.take(proxy, |number| format!("{node}/{number}/{boot}"));
            self.node.process = slots::process(proxy);
            self.emitter.set_worker(number, &self.node.process);
            self.node.workers = number;
        }
    }

    /// Queues the record of a decision, and gives its number; see [`Emitter::offer`]. A denial that repeats itself is only
    /// counted; see [`Repeats`].
    #[inline(never)]
    pub fn record(&mut self, proxy: &impl Proxy, record: AuditRecord, required: bool) -> Option<u64> {
        self.register(proxy);
        if self.repeats.count(&record, required) {
            return None;
        }
        self.emitter.offer(record)
    }

    /// Queues the sums whose time has come.
    fn sum_up(&mut self, now: u64, ends: bool) {
        let emitter = &mut self.emitter;
        self.repeats.hand_over(now, ends, |sum| emitter.has_room(sum) && emitter.offer(sum.clone()).is_some());
    }

    /// Shows that this worker lives; the leader also looks for workers that do not.
    fn beat(&mut self, proxy: &impl Proxy, leads: bool, now: u64) {
        if !self.slots.tick() {
            return;
        }
        self.slots.beat(proxy, self.emitter.name(), self.emitter.numbered());
        let mut record = gap(i64::try_from(now.saturating_mul(1000)).unwrap_or(i64::MAX), 0, "emitter_lost");
        // A slot that is freed must leave its record, so there has to be room for one first, whatever the name's length.
        record.lost_emitter = " ".repeat(slots::MAX_VALUE);
        if leads
            && self.emitter.has_room(&record)
            && let Some(Lost { emitter, sequence }) = self.slots.round(proxy)
        {
            proxy.log(Level::Error, &format!("doorward: the worker VM of emitter {emitter} is gone without a word."));
            record.lost_emitter = emitter;
            record.lost_sequence = sequence;
            self.emitter.offer(record);
        }
    }

    fn tick(&mut self, proxy: &impl Proxy, now: u64) {
        self.register(proxy);
        self.take_stored(proxy, now);
        let leads = self.lease.hold(proxy, now);
        self.beat(proxy, leads, now);
        self.sum_up(now, false);
        if leads {
            self.emitter.name().clone_into(&mut self.node.emitter);
            self.subscription.tick(proxy, &self.config, &self.node, self.policy.as_ref(), now);
            self.emitter.is_noted |= self.subscription.is_open();
        } else if self.subscription.is_open() {
            self.subscription.close(proxy, now);
        }
        self.emitter.flush(proxy, &self.config.control_plane.cluster, now);
        if leads {
            self.metrics.gauge(proxy, "stream.connected", u64::from(self.subscription.is_open()));
            if let Some(policy) = &self.policy {
                let age = seconds(now).saturating_sub(policy.issued_at);
                self.metrics.gauge(proxy, "policy.epoch", policy.epoch);
                self.metrics.gauge(proxy, "policy.age_seconds", u64::try_from(age).unwrap_or(0));
                self.metrics.gauge(proxy, "policy.stale", u64::from(policy.is_stale(seconds(now))));
            }
            if !self.was_leading {
                proxy.log(Level::Info, "doorward: this worker is the one that holds the policy stream.");
            }
        }
        self.was_leading = leads;
        let (mut audit, tokens) = (std::mem::take(&mut self.emitter.counts), std::mem::take(&mut self.cache.counts));
        audit.summed = std::mem::take(&mut self.repeats.summed);
        self.metrics.flush(proxy, audit, tokens, self.emitter.depth());
    }

    /// Takes up what another worker, or an earlier VM, stored.
    fn take_stored(&mut self, proxy: &impl Proxy, now: u64) {
        let Some(stored) = self.store.take_new(proxy) else { return };
        if let Err(rejection) = self.put_in_force(&stored, now) {
            proxy.log(Level::Warn, &format!("doorward: a stored policy is ignored. {}", rejection.message));
        }
    }

    fn put_in_force(&mut self, stored: &StoredPolicy, now: u64) -> Result<(), Rejection> {
        let policy = self.trust.verify(stored, self.policy.as_ref(), seconds(now))?;
        if self.policy.as_ref().is_none_or(|current| current.epoch != policy.epoch) {
            // Keys, revocations and claim mappings may have changed.
            self.cache.clear();
            self.complained = false;
        }
        self.policy = Some(policy);
        Ok(())
    }

    fn policy_message(&mut self, proxy: &impl Proxy, message: &[u8], now: u64) {
        let Some((nonce, stored)) = self.subscription.receive(proxy, message, now) else { return };
        // Another worker may lead meanwhile and have stored a newer one: then this one is late, and must not take its place
        // there before all workers have seen it.
        self.take_stored(proxy, now);
        let result = self.put_in_force(&stored, now);
        match &result {
            Ok(()) => {
                self.store.put(proxy, &stored);
                if let Some(policy) = &self.policy {
                    proxy.log(Level::Info, &format!("doorward: policy epoch {} is in force.", policy.epoch));
                }
            }
            Err(rejection) => {
                let message = format!("doorward: a policy is rejected at {}. {}", rejection.path, rejection.message);
                proxy.log(Level::Warn, &message);
            }
        }
        self.subscription.answer(proxy, nonce, result.as_ref().map(|_| ()), self.policy.as_ref(), now);
    }

    /// Whether bodies reach the filter while the head of a request waits.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        self.settings.bodies
    }

    /// Where questions go, and on whose behalf: the control plane's cluster, the node, the scope.
    #[must_use]
    pub fn asks(&self) -> (&str, &str, &str) {
        (&self.config.control_plane.cluster, &self.node.node, &self.config.scope)
    }

    /// Sends records now. The effective context must be the root's.
    pub fn flush(&mut self, proxy: &impl Proxy, now_nanos: u64) {
        self.emitter.flush(proxy, &self.config.control_plane.cluster, now_nanos / 1_000_000);
    }

    /// Makes the response of `context` wait for its record.
    pub fn wait(&mut self, proxy: &impl Proxy, sequence: u64, context: u32, decision_id: &str) {
        let deadline = (proxy.now_nanos() / 1_000_000).saturating_add(ACKNOWLEDGE_MILLIS);
        self.emitter.wait(Waiter { sequence, context, decision_id: decision_id.to_owned(), deadline });
    }

    /// Whether the head of this response waits while the body behind it is read.
    pub fn holds_head(&mut self, proxy: &impl Proxy, context: u32, decision_id: &str, sequence: Option<u64>) -> bool {
        let now = || proxy.now_nanos() / 1_000_000;
        self.config.bodies == Bodies::StopIteration && self.bodies.hold_head(context, decision_id, sequence, now)
    }

    /// The key of tokenising masks.
    #[must_use]
    pub fn tokenization_key(&self) -> Option<&[u8]> {
        self.tokenization_key.as_deref()
    }
}

fn settings(config: &Config, tokenization_key: bool) -> Settings {
    Settings {
        identity: identity_settings(config),
        unmatched: config.unmatched(),
        max_body_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
        bodies: config.bodies == Bodies::StopIteration,
        tokenization_key,
    }
}

fn identity_settings(config: &Config) -> identity::Settings {
    let mut settings = identity::Settings {
        mesh: match config.mesh_identity {
            MeshIdentity::Ignore => identity::Mesh::Ignore,
            MeshIdentity::Record => identity::Mesh::Record,
            MeshIdentity::Agent => identity::Mesh::Agent,
        },
        unidentified: match config.unidentified {
            Choice::Deny => identity::Unidentified::Deny,
            Choice::Allow => identity::Unidentified::Allow,
        },
        ..identity::Settings::default()
    };
    if let Some(headers) = &config.key_headers {
        settings.key_headers.clone_from(headers);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_store::tests::signed;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use doorward_proto::v1::PolicyUpdate;
    use prost::Message as _;

    #[test]
    fn a_late_update_does_not_take_the_place_of_a_newer_one_that_another_worker_stored() {
        let proxy = crate::double::Double::default();
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]));
        let json = format!(
            r#"{{"controlPlane":{{"cluster":"c"}},"scope":"s","node":"n","policyKeys":[{{"id":"k","publicKey":"{}"}}]}}"#,
            STANDARD.encode(*pair.pk)
        );
        let mut late = Active::new(&proxy, json.as_bytes()).unwrap();
        let (older, newer) = (signed(&pair, |e| e.epoch = 4), signed(&pair, |e| e.epoch = 5));
        Store::new("s").put(&proxy, &newer);
        let StoredPolicy { envelope, signature, payload } = older;
        let update = PolicyUpdate { nonce: "1-1".into(), envelope, signature, payload, ..Default::default() };
        late.policy_message(&proxy, &update.encode_to_vec(), 0);
        assert_eq!(late.policy.as_ref().map(|policy| policy.epoch), Some(5));
        assert_eq!(Store::new("s").take_new(&proxy), Some(newer));
    }
}
