//! From a directory of documents to the one signed bundle that proxies get.
//!
//! ```text
//! files ──▶ resolve (parse, hold broken documents, compile) ──▶ sign ──▶ store ──▶ watch channel ──▶ push
//!   ▲ notify + poll                ▲ key sets (jwks)
//! ```
//!
//! One thread does it all, so there is one order of epochs. What is in the watch channel is on the disk already, unless
//! the disk fails: then it is pushed all the same, because a revocation must not wait for room, and the status, the
//! metrics and the readiness say that a restart would not find it.

pub mod compiler;
pub mod resolve;

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use doorward_proto::v1::{Diagnostic, Kind, PolicyEnvelope, PolicyStatus, PolicyUpdate, StoredPolicy};
use notify::{RecursiveMode, Watcher as _};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::{
    clock::{now_micros, now_seconds},
    jwks::KeySets,
    metrics::Metrics,
    policy_store::{GoodDocuments, PolicyStore, StoreError},
    signing::Signer,
    source::directory as files,
};
use resolve::Resolution;

const QUIET: Duration = Duration::from_millis(100);
const MAX_DEBOUNCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(1);
/// Between attempts to store what could not be stored, and to read what could not be read.
const AGAIN: Duration = Duration::from_secs(5);
/// Code of the diagnostic while the policy in force is not on the disk.
pub const NOT_STORED: &str = "not_stored";
/// A step of the clock up to which nothing is done about it.
const SKEW_SECONDS: i64 = 300;

/// A signed policy as it is pushed. Encoded and signed once.
#[derive(Debug)]
pub struct Published {
    /// Monotonic per scope.
    pub epoch: u64,
    /// SHA-256 of the bundle's canonical bytes.
    pub digest: Vec<u8>,
    /// Unix seconds.
    pub issued_at: i64,
    /// Unix seconds.
    pub expires_at: i64,
    /// The update, lacking only a stream's nonce.
    pub update: PolicyUpdate,
}

/// What wakes the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Something happened in the directory.
    Files,
    /// A key set changed.
    Keys,
    /// The process ends.
    Stop,
}

/// How policies are made.
pub struct Settings {
    /// Directory of documents.
    pub directory: PathBuf,
    /// Name of the set of services.
    pub scope: String,
    /// How long a signature is valid.
    pub lifetime: Duration,
    /// Publish an empty policy after one that was not.
    pub allow_empty: bool,
    /// Sign only epochs above this one.
    pub epoch_floor: u64,
}

/// The policy thread's state.
pub struct Engine {
    settings: Settings,
    store: Arc<PolicyStore>,
    signer: Signer,
    keys: Arc<KeySets>,
    metrics: Arc<Metrics>,
    published: watch::Sender<Option<Arc<Published>>>,
    status: watch::Sender<PolicyStatus>,
    epoch: u64,
    good: GoodDocuments,
    /// The policy of the last process, which cannot be served as it is signed.
    left: Option<(Vec<u8>, Vec<u8>)>,
    unstored: Option<Unstored>,
    /// When the directory is read again although nothing changed there.
    again: Option<Instant>,
    /// An event of the directory waits in the channel, so a further one need not.
    woken: Arc<AtomicBool>,
    /// A proxy came that holds a newer epoch than the one in force.
    outrun: Arc<AtomicBool>,
    /// The policy in force was signed by this process.
    signed: bool,
    /// It is what the documents say, as they were read last.
    confirmed: bool,
}

/// What is not on the disk.
struct Unstored {
    documents: bool,
    policy: bool,
    reason: String,
    again: Instant,
}

/// The epoch after this one: at least the milliseconds since 1970, so that epochs grow over a restart also if none of the
/// last process could be stored, or the data directory was lost. A step back of the clock is covered by what is stored.
pub fn next_epoch(last: u64, now_millis: u64) -> u64 {
    last.saturating_add(1).max(now_millis)
}

impl Engine {
    /// Takes up where the last process ended: the last bundle is served at once.
    pub fn new(
        settings: Settings,
        store: Arc<PolicyStore>,
        signer: Signer,
        keys: Arc<KeySets>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let (epoch, stored) = store.published()?;
        let good = store.documents()?;
        let mut engine = Self {
            epoch: epoch.max(settings.epoch_floor),
            settings,
            store,
            signer,
            keys,
            metrics,
            published: watch::Sender::new(None),
            status: watch::Sender::new(PolicyStatus::default()),
            good,
            left: None,
            unstored: None,
            again: None,
            woken: Arc::default(),
            outrun: Arc::default(),
            signed: false,
            confirmed: false,
        };
        if let Some(stored) = stored {
            engine.restore(epoch, stored);
        }
        Ok(engine)
    }

    /// The newest policy.
    pub fn policy(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.subscribe()
    }

    /// What the last compilation found.
    pub fn status(&self) -> watch::Receiver<PolicyStatus> {
        self.status.subscribe()
    }

    /// Where to note that a proxy holds a newer epoch than the one in force.
    pub fn outrun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.outrun)
    }

    fn restore(&mut self, epoch: u64, stored: StoredPolicy) {
        let Ok(envelope) = PolicyEnvelope::decode(stored.envelope.as_slice()) else { return };
        if envelope.scope != self.settings.scope || envelope.payload_sha256 != Sha256::digest(&stored.payload).to_vec()
        {
            tracing::warn!("the stored policy is of another scope or damaged; it is not served");
            return;
        }
        let own = envelope.key_id == self.signer.key_id() && self.signer.verify(&stored.envelope, &stored.signature);
        if own && envelope.epoch == epoch && epoch > self.settings.epoch_floor && envelope.expires_at > now_seconds() {
            tracing::info!(epoch, "the last policy is in force");
            self.announce(envelope, stored);
            return;
        }
        // The key was changed, the floor raised, or the signature has expired. Signed anew now it would have a newer epoch
        // than a later policy that was pushed but could not be stored: the directory is read first.
        self.left = Some((stored.payload, envelope.digest));
    }

    fn announce(&self, envelope: PolicyEnvelope, stored: StoredPolicy) {
        let StoredPolicy { envelope: bytes, signature, payload } = stored;
        self.metrics.epoch.set(i64::try_from(envelope.epoch).unwrap_or(i64::MAX));
        self.metrics.expires.set(envelope.expires_at);
        self.published.send_replace(Some(Arc::new(Published {
            epoch: envelope.epoch,
            digest: envelope.digest,
            issued_at: envelope.issued_at,
            expires_at: envelope.expires_at,
            update: PolicyUpdate { envelope: bytes, signature, payload, ..Default::default() },
        })));
    }

    /// Signs, stores if that is possible, and then announces.
    fn publish(&mut self, payload: Vec<u8>, digest: Vec<u8>) {
        let now_millis = u64::try_from(now_micros() / 1000).unwrap_or(0);
        let epoch = next_epoch(self.epoch.max(self.settings.epoch_floor), now_millis);
        let issued_at = now_seconds();
        let envelope = PolicyEnvelope {
            scope: self.settings.scope.clone(),
            epoch,
            digest,
            kind: Kind::Snapshot.into(),
            base_digest: Vec::new(),
            payload_sha256: Sha256::digest(&payload).to_vec(),
            key_id: self.signer.key_id().to_owned(),
            issued_at,
            expires_at: issued_at
                .saturating_add(i64::try_from(self.settings.lifetime.as_secs().max(1)).unwrap_or(i64::MAX)),
            rollback: false,
        };
        let bytes = envelope.encode_to_vec();
        let stored = StoredPolicy { signature: self.signer.sign(&bytes), envelope: bytes, payload };
        let result = self.store.publish(epoch, &stored);
        (self.epoch, self.signed) = (epoch, true);
        let hex: String = envelope.digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        tracing::info!(epoch, digest = %hex, bytes = stored.payload.len(), "policy published");
        self.announce(envelope, stored);
        self.kept(result, |unstored| &mut unstored.policy);
    }

    /// Notes how an attempt to store went.
    fn kept(&mut self, result: Result<(), StoreError>, what: impl Fn(&mut Unstored) -> &mut bool) {
        match result {
            Ok(()) => {
                if let Some(unstored) = &mut self.unstored {
                    *what(unstored) = false;
                    if !unstored.policy && !unstored.documents {
                        self.unstored = None;
                        tracing::info!("the policy in force is on the disk again");
                        self.tell();
                    }
                }
            }
            Err(error) => {
                let reason = error.to_string();
                let again = Instant::now() + AGAIN;
                let unstored = self.unstored.get_or_insert_with(|| {
                    tracing::error!(
                        reason,
                        "the policy in force cannot be stored; it is served, and a restart would not find it"
                    );
                    Unstored { documents: false, policy: false, reason: String::new(), again }
                });
                (unstored.reason, unstored.again) = (reason, again);
                *what(unstored) = true;
                self.tell();
            }
        }
    }

    /// Puts what is not stored into the status and the metrics.
    fn tell(&self) {
        self.metrics.unstored.set(self.unstored.is_some().into());
        self.status.send_modify(|status| {
            status.diagnostics.retain(|found| found.code != NOT_STORED);
            if let Some(Unstored { reason, .. }) = &self.unstored {
                status.diagnostics.insert(
                    0,
                    Diagnostic {
                        severity: compiler::ERROR.into(),
                        code: NOT_STORED.into(),
                        message: format!(
                            "The policy in force is pushed to proxies, but cannot be stored, and a restart would serve an \
                            older one until the policy directory has been read: {reason}. It is tried again every {} seconds.",
                            AGAIN.as_secs()
                        ),
                        ..Default::default()
                    },
                );
            }
        });
    }

    /// Stores what could not be stored, once it is time to try.
    fn store_again(&mut self) {
        let Some(Unstored { documents, policy, again, .. }) = self.unstored else { return };
        if Instant::now() < again {
            return;
        }
        if documents {
            let result = self.store.set_documents(&self.good);
            self.kept(result, |unstored| &mut unstored.documents);
        }
        let current = self.published.borrow().clone();
        if let Some(current) = current.filter(|_| policy) {
            let PolicyUpdate { envelope, signature, payload, .. } = current.update.clone();
            let result = self.store.publish(current.epoch, &StoredPolicy { envelope, signature, payload });
            self.kept(result, |unstored| &mut unstored.policy);
        }
    }

    /// Runs until [`Trigger::Stop`].
    pub fn run(mut self, sender: mpsc::Sender<Trigger>, triggers: mpsc::Receiver<Trigger>) {
        let _watcher = self.watch(sender);
        let mut loaded = None;
        let mut keys_changed = false;
        loop {
            self.woken.store(false, Ordering::Relaxed);
            let seen = files::fingerprint(&self.settings.directory);
            if let (Err(error), None) = (&seen, loaded) {
                self.unreadable(error);
                self.serve_left();
                loaded = Some(None);
            }
            let seen = seen.ok();
            if keys_changed || loaded != Some(seen) || self.again.is_some_and(|again| Instant::now() >= again) {
                let Some(settled) = self.settle(seen, &triggers) else { return };
                self.load();
                self.serve_left();
                loaded = Some(settled);
                keys_changed = false;
            }
            self.renew();
            self.store_again();
            match triggers.recv_timeout(POLL) {
                Ok(Trigger::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(Trigger::Keys) => keys_changed = true,
                Ok(Trigger::Files) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// notify only makes a change show sooner; without it (no inotify left, a network volume) the poll finds it.
    fn watch(&self, sender: mpsc::Sender<Trigger>) -> Option<notify::RecommendedWatcher> {
        let woken = Arc::clone(&self.woken);
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) && !woken.swap(true, Ordering::Relaxed) {
                // The engine is gone only when the process ends.
                let _ = sender.send(Trigger::Files);
            }
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(&self.settings.directory, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        watcher
            .inspect_err(|error| tracing::warn!(%error, "cannot watch the policy directory; it is polled each second"))
            .ok()
    }

    /// Waits until the directory is quiet, at most [`MAX_DEBOUNCE`]. `None`: the process ends.
    fn settle(&self, mut seen: Option<u64>, triggers: &mpsc::Receiver<Trigger>) -> Option<Option<u64>> {
        let started = Instant::now();
        while started.elapsed() < MAX_DEBOUNCE {
            let busy = match triggers.recv_timeout(QUIET) {
                Ok(Trigger::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Ok(_) => true,
                Err(mpsc::RecvTimeoutError::Timeout) => false,
            };
            self.woken.store(false, Ordering::Relaxed);
            let now = files::fingerprint(&self.settings.directory).ok();
            if !busy && now == seen {
                break;
            }
            seen = now;
        }
        Some(seen)
    }

    /// Says so in the log, the metrics and the status.
    fn unreadable(&self, error: &std::io::Error) {
        let directory = self.settings.directory.display();
        tracing::error!(%directory, %error, "the policy directory cannot be read; the last policy stays in force");
        self.metrics.diagnostics.get_or_create(&vec![("severity", compiler::ERROR.to_owned())]).set(1);
        self.status.send_modify(|status| {
            status.compiled_at_micros = now_micros();
            status.diagnostics = vec![Diagnostic {
                severity: compiler::ERROR.into(),
                code: "not_published".into(),
                message: format!(
                    "The policy directory {directory} cannot be read, and the last policy stays in force: {error}."
                ),
                ..Default::default()
            }];
        });
        self.tell();
    }

    /// The last process's policy, signed anew, where reading the directory has given none.
    fn serve_left(&mut self) {
        if let Some((payload, digest)) = self.left.take()
            && self.published.borrow().is_none()
        {
            self.publish(payload, digest);
        }
    }

    fn load(&mut self) {
        let started = Instant::now();
        self.again = None;
        self.confirmed = false;
        let sources = match files::read(&self.settings.directory) {
            Ok(sources) => sources,
            Err(error) => {
                self.again = Some(started + AGAIN);
                self.unreadable(&error);
                return;
            }
        };
        if sources.iter().any(|source| source.again) {
            self.again = Some(started + AGAIN);
        }
        self.keys.begin();
        // Documents come from people. Whatever one of them does to the compiler, the last policy is to be served.
        let resolved = std::panic::catch_unwind(AssertUnwindSafe(|| {
            resolve::resolve(&sources, &self.good, &self.keys, &self.settings.scope)
        }));
        self.keys.end();
        let Ok(mut resolution) = resolved else {
            self.unreadable(&std::io::Error::other("the compiler failed; the log says where, please report it"));
            return;
        };
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.compile_seconds.observe(seconds);
        let current = self.published.borrow().clone();
        let before = current.as_ref().map(|current| &current.update.payload);
        let before = before.or(self.left.as_ref().map(|(payload, _)| payload));
        let changed = match &resolution.compiled {
            Ok(compiled) if current.as_ref().is_some_and(|current| current.digest == compiled.digest) => false,
            Ok(compiled)
                if compiled.empty
                    && !self.settings.allow_empty
                    && before.is_some_and(|payload| !compiler::is_empty(payload)) =>
            {
                resolution.compiled =
                    Err("there is no document left; restart with --allow-empty if an empty policy is meant".into());
                false
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if let Err(reason) = &resolution.compiled {
            resolution.diagnostics.push(Diagnostic {
                severity: compiler::ERROR.into(),
                code: "not_published".into(),
                message: format!("Nothing was published and the last policy stays in force: {reason}."),
                ..Default::default()
            });
        }
        self.report(&resolution, seconds);
        let Resolution { compiled, good, .. } = resolution;
        let Ok(compiled) = compiled else { return };
        if good != self.good {
            let result = self.store.set_documents(&good);
            self.good = good;
            self.kept(result, |unstored| &mut unstored.documents);
        }
        if changed {
            self.publish(compiled.bytes, compiled.digest);
        }
        self.confirmed = true;
    }

    fn report(&self, resolution: &Resolution, seconds: f64) {
        for severity in ["error", "warning"] {
            let count = resolution.diagnostics.iter().filter(|d| d.severity == severity).count();
            self.metrics
                .diagnostics
                .get_or_create(&vec![("severity", severity.to_owned())])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let held = resolution.documents.iter().filter(|d| d.last_good).count();
        self.metrics.held_documents.set(i64::try_from(held).unwrap_or(i64::MAX));
        for Diagnostic { severity, code, kind, name, file, line, path, message } in &resolution.diagnostics {
            if severity == compiler::ERROR {
                tracing::error!(code, kind, name, file, line, path, "{message}");
            } else {
                tracing::warn!(code, kind, name, file, line, path, "{message}");
            }
        }
        tracing::info!(documents = resolution.documents.len(), held, seconds, "documents compiled");
        self.status.send_replace(PolicyStatus {
            compiled_at_micros: now_micros(),
            documents: resolution.documents.clone(),
            diagnostics: resolution.diagnostics.clone(),
            ..Default::default()
        });
        self.tell();
    }

    /// The same policy under a new epoch and expiry, at half of its life. And where a proxy holds a later policy than the one
    /// that this process found: the last process pushed it and could not store it, and if the documents were changed back
    /// since, nothing else would take it from the proxies. Not while the documents cannot be read: what the proxies hold may
    /// be a revocation. What this process has signed itself is newer than any of those, so this is done once, whatever
    /// proxies say.
    fn renew(&mut self) {
        let current = self.published.borrow().clone();
        let outrun = self.confirmed && !self.signed && self.outrun.swap(false, Ordering::Relaxed);
        match current {
            Some(current) if outrun || is_due(current.issued_at, current.expires_at, now_seconds()) => {
                self.publish(current.update.payload.clone(), current.digest.clone());
            }
            _ => {}
        }
    }
}

/// Whether a policy is to be signed anew: half of its life has passed, or it was issued in the future, because the clock was
/// set back; then that half would come too late for proxies whose clock is right.
fn is_due(issued_at: i64, expires_at: i64, now: i64) -> bool {
    now >= issued_at.saturating_add(expires_at.saturating_sub(issued_at) / 2)
        || issued_at > now.saturating_add(SKEW_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::{is_due, next_epoch};

    #[test]
    fn epochs_grow_by_the_clock_and_never_fall_with_it() {
        // A restart that finds nothing of what was signed since 1_000.
        assert!(next_epoch(1_000, 60_000) > next_epoch(next_epoch(1_000, 50_000), 50_000));
        assert_eq!(next_epoch(90_000, 60_000), 90_001, "the clock was set back");
        assert_eq!(next_epoch(u64::MAX, 60_000), u64::MAX);
    }

    #[test]
    fn a_policy_is_renewed_at_half_of_its_life_and_where_the_clock_was_set_back() {
        let (issued, expires) = (1_000_000, 1_086_400);
        assert!(!is_due(issued, expires, issued) && !is_due(issued, expires, issued + 43_199));
        assert!(is_due(issued, expires, issued + 43_200) && is_due(issued, expires, expires + 1));
        assert!(!is_due(issued, expires, issued - 60) && is_due(issued, expires, issued - 3_600));
    }
}
