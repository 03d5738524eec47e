//! From a directory of documents to the one signed bundle that proxies get.
//!
//! ```text
//! files ──▶ resolve (parse, hold broken documents, compile) ──▶ sign ──▶ store ──▶ watch channel ──▶ push
//!   ▲ notify + poll                ▲ key sets (jwks)
//! ```
//!
//! One thread does it all, so there is one order of epochs. What is in the watch channel is always on the disk already.

pub mod compiler;
pub mod files;
pub mod resolve;
pub mod store;

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
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
    signing::Signer,
};
use resolve::Resolution;
use store::{GoodDocuments, PolicyStore, StoreError};

const QUIET: Duration = Duration::from_millis(100);
const MAX_DEBOUNCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(1);
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
        };
        if let Some(stored) = stored {
            engine.restore(epoch, stored)?;
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

    fn restore(&mut self, epoch: u64, stored: StoredPolicy) -> Result<(), StoreError> {
        let Ok(envelope) = PolicyEnvelope::decode(stored.envelope.as_slice()) else { return Ok(()) };
        if envelope.scope != self.settings.scope || envelope.payload_sha256 != Sha256::digest(&stored.payload).to_vec()
        {
            tracing::warn!("the stored policy is of another scope or damaged; it is not served");
            return Ok(());
        }
        let own = envelope.key_id == self.signer.key_id() && self.signer.verify(&stored.envelope, &stored.signature);
        if own && envelope.epoch == epoch && epoch > self.settings.epoch_floor && envelope.expires_at > now_seconds() {
            tracing::info!(epoch, "the last policy is in force");
            self.announce(envelope, stored);
            return Ok(());
        }
        // The key was changed, the floor raised, or the signature has expired: the same policy, signed anew.
        self.publish(stored.payload, envelope.digest)
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

    /// Signs, stores, and only then announces.
    fn publish(&mut self, payload: Vec<u8>, digest: Vec<u8>) -> Result<(), StoreError> {
        let epoch = self.epoch.max(self.settings.epoch_floor).saturating_add(1);
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
        self.store.publish(epoch, &stored)?;
        self.epoch = epoch;
        let hex: String = envelope.digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        tracing::info!(epoch, digest = %hex, bytes = stored.payload.len(), "policy published");
        self.announce(envelope, stored);
        Ok(())
    }

    /// Runs until [`Trigger::Stop`]. An error means that the store failed: going on could serve what would not survive.
    pub fn run(mut self, sender: mpsc::Sender<Trigger>, triggers: mpsc::Receiver<Trigger>) -> Result<(), StoreError> {
        let _watcher = self.watch(sender);
        let mut loaded = None;
        let mut keys_changed = false;
        loop {
            let seen = files::fingerprint(&self.settings.directory);
            if let (Err(error), None) = (&seen, loaded) {
                self.unreadable(error);
                loaded = Some(None);
            }
            let seen = seen.ok();
            if keys_changed || loaded != Some(seen) {
                let Some(settled) = self.settle(seen, &triggers) else { return Ok(()) };
                self.load()?;
                loaded = Some(settled);
                keys_changed = false;
            }
            self.renew()?;
            match triggers.recv_timeout(POLL) {
                Ok(Trigger::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Trigger::Keys) => keys_changed = true,
                Ok(Trigger::Files) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// notify only makes a change show sooner; without it (no inotify left, a network volume) the poll finds it.
    fn watch(&self, sender: mpsc::Sender<Trigger>) -> Option<notify::RecommendedWatcher> {
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
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
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        let sources = match files::read(&self.settings.directory) {
            Ok(sources) => sources,
            Err(error) => {
                self.unreadable(&error);
                return Ok(());
            }
        };
        self.keys.begin();
        let mut resolution = resolve::resolve(&sources, &self.good, &self.keys, &self.settings.scope);
        self.keys.end();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.compile_seconds.observe(seconds);
        let current = self.published.borrow().clone();
        let changed = match &resolution.compiled {
            Ok(compiled) if current.as_ref().is_some_and(|current| current.digest == compiled.digest) => false,
            Ok(compiled)
                if compiled.empty
                    && !self.settings.allow_empty
                    && current.as_ref().is_some_and(|current| !compiler::is_empty(&current.update.payload)) =>
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
        let Ok(compiled) = compiled else { return Ok(()) };
        if good != self.good {
            self.store.set_documents(&good)?;
            self.good = good;
        }
        if changed { self.publish(compiled.bytes, compiled.digest) } else { Ok(()) }
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
    }

    /// The same policy under a new epoch and expiry, at half of its life.
    fn renew(&mut self) -> Result<(), StoreError> {
        let current = self.published.borrow().clone();
        match current {
            Some(current) if is_due(current.issued_at, current.expires_at, now_seconds()) => {
                self.publish(current.update.payload.clone(), current.digest.clone())
            }
            _ => Ok(()),
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
    use super::is_due;

    #[test]
    fn a_policy_is_renewed_at_half_of_its_life_and_where_the_clock_was_set_back() {
        let (issued, expires) = (1_000_000, 1_086_400);
        assert!(!is_due(issued, expires, issued) && !is_due(issued, expires, issued + 43_199));
        assert!(is_due(issued, expires, issued + 43_200) && is_due(issued, expires, expires + 1));
        assert!(!is_due(issued, expires, issued - 60) && is_due(issued, expires, issued - 3_600));
    }
}
