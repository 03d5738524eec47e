//! Signs a compiled policy, stores it, and announces it to whoever pushes; renews it before it expires.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use doorward_proto::v1::{Kind, PolicyEnvelope, PolicyUpdate, StoredPolicy};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{
    compiler,
    epochs::{Agreed, Epochs, Proposal, Seen, Wait},
    report::{AGAIN, Reporter},
};
use crate::{
    clock::now_seconds,
    metrics::Metrics,
    policy_store::{GoodDocuments, PolicyStore, StoreError},
    signing::Signer,
};

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

/// The newest policy, or none yet.
pub type PolicyWatch = watch::Receiver<Option<Arc<Published>>>;

/// How policies are signed.
pub struct Settings {
    /// Name of the set of services.
    pub scope: String,
    /// How long a signature is valid.
    pub lifetime: Duration,
    /// Sign only epochs above this one.
    pub epoch_floor: u64,
}

/// Who signs, stores and announces.
pub struct Publisher {
    settings: Settings,
    store: Arc<PolicyStore>,
    signer: Signer,
    metrics: Arc<Metrics>,
    reporter: Arc<Reporter>,
    published: watch::Sender<Option<Arc<Published>>>,
    epoch: u64,
    good: GoodDocuments,
    /// The policy of the last process, which cannot be served as it is signed.
    left: Option<(Vec<u8>, Vec<u8>)>,
    /// The last process had a policy that was not empty, whoever signed it: it does not become empty by accident.
    was_full: bool,
    unstored: Option<Unstored>,
    /// A proxy came that holds a newer epoch than the one in force.
    outrun: Arc<AtomicBool>,
    /// The policy in force was signed by this process.
    signed: bool,
    epochs: Box<dyn Epochs>,
    /// How far the documents were seen that the policy in force was compiled from.
    seen: Seen,
    /// Others do not know the epoch in force.
    unshared: bool,
    /// When it is tried again to renew, or to share.
    again: Option<Instant>,
}

/// What is not on the disk.
struct Unstored {
    documents: bool,
    policy: bool,
    reason: String,
    again: Instant,
}

impl Publisher {
    /// Takes up where the last process ended: the last bundle is served at once.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        settings: Settings,
        epochs: Box<dyn Epochs>,
        store: Arc<PolicyStore>,
        signer: Signer,
        metrics: Arc<Metrics>,
        reporter: Arc<Reporter>,
    ) -> Result<Self, StoreError> {
        let (epoch, stored) = store.published()?;
        let good = store.documents()?;
        let mut publisher = Self {
            epoch: epoch.max(settings.epoch_floor),
            settings,
            store,
            signer,
            metrics,
            reporter,
            published: watch::Sender::new(None),
            good,
            left: None,
            was_full: false,
            unstored: None,
            outrun: Arc::default(),
            signed: false,
            epochs,
            seen: Seen::new(),
            unshared: false,
            again: None,
        };
        if let Some(stored) = stored {
            publisher.restore(epoch, stored);
        }
        Ok(publisher)
    }

    /// The newest policy.
    pub fn policy(&self) -> PolicyWatch {
        self.published.subscribe()
    }

    /// The policy in force.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }

    /// Bytes of the policy that proxies were given last, by this process or the one before it.
    pub fn before(&self) -> Option<Vec<u8>> {
        let current = self.current().map(|current| current.update.payload.clone());
        current.or_else(|| self.left.as_ref().map(|(payload, _)| payload.clone()))
    }

    /// Whether proxies were given a policy that is not empty last, by this process or the one before it.
    pub fn was_full(&self) -> bool {
        self.current().map_or(self.was_full, |current| !compiler::is_empty(&current.update.payload))
    }

    /// Where to note that a proxy holds a newer epoch than the one in force.
    pub fn outrun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.outrun)
    }

    /// Name of the set of services.
    pub fn scope(&self) -> &str {
        &self.settings.scope
    }

    /// The documents as they were last in force.
    pub fn good(&self) -> &GoodDocuments {
        &self.good
    }

    /// These are in force from now on.
    pub fn keep(&mut self, good: GoodDocuments) {
        if good != self.good {
            let result = self.store.set_documents(&good);
            self.good = good;
            self.kept(result, |unstored| &mut unstored.documents);
        }
    }

    fn restore(&mut self, epoch: u64, stored: StoredPolicy) {
        let Ok(envelope) = PolicyEnvelope::decode(stored.envelope.as_slice()) else { return };
        if envelope.scope != self.settings.scope || envelope.payload_sha256 != Sha256::digest(&stored.payload).to_vec()
        {
            tracing::warn!("the stored policy is of another scope or damaged; it is not served");
            return;
        }
        self.was_full = !compiler::is_empty(&stored.payload);
        // Who can write to the data directory need not be who holds the key: nothing of somebody else's is signed.
        if envelope.key_id != self.signer.key_id() || !self.signer.verify(&stored.envelope, &stored.signature) {
            tracing::warn!(
                "the stored policy is not signed with this key; it is not served, and proxies keep what they hold until the \
                 policy documents are read"
            );
            return;
        }
        if let Err(refused) = compiler::load(&stored.payload, &envelope.digest) {
            tracing::error!(%refused, "the stored policy does not load, and proxies would refuse it; it is not served");
            return;
        }
        if envelope.epoch == epoch && epoch > self.settings.epoch_floor && envelope.expires_at > now_seconds() {
            tracing::info!(epoch, "the last policy is in force");
            self.announce(envelope, stored);
            return;
        }
        // The floor was raised, or the signature has expired. Signed anew now it would have a newer epoch
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

    /// Whether another control plane publishes something else from the same documents, which was not known before.
    pub fn differs(&mut self) -> bool {
        let Some(current) = self.current() else { return false };
        self.epochs.differs(&current.digest)
    }

    /// How far the documents were seen that were read last.
    pub fn seen(&self) -> Seen {
        self.epochs.seen()
    }

    /// The policy in force was compiled from documents that were seen so far.
    pub fn compiled_from(&mut self, seen: Seen) {
        self.seen = seen;
    }

    /// An epoch for this policy. `unsettled`: key sets are still being fetched for the first time.
    ///
    /// # Errors
    /// It is not to be published now.
    pub fn agree(&mut self, digest: &[u8], seen: &Seen, unsettled: bool) -> Result<Agreed, Wait> {
        // At half of its life a signature is renewed; one of another control plane that is older is none to take.
        let half = i64::try_from(self.settings.lifetime.as_secs() / 2).unwrap_or(i64::MAX);
        let current = self.current();
        let fresh = |current: &Arc<Published>| {
            current.digest == digest && !is_due(current.issued_at, current.expires_at, now_seconds())
        };
        let in_force = self.signed && current.as_ref().is_some_and(fresh);
        self.epochs.agree(&Proposal {
            digest,
            seen,
            in_force,
            last: self.epoch.max(self.settings.epoch_floor),
            issued_since: now_seconds().saturating_sub(half),
            unsettled: unsettled && !self.signed,
        })
    }

    /// Signs, stores if that is possible, and then announces.
    pub fn publish(&mut self, payload: Vec<u8>, digest: Vec<u8>, agreed: Agreed) {
        let Agreed { epoch, issued_at, shared } = agreed;
        (self.unshared, self.again) = (!shared, (!shared).then(|| Instant::now() + AGAIN));
        if self.signed && self.current().is_some_and(|current| current.epoch == epoch && current.digest == digest) {
            return;
        }
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

    fn tell(&self) {
        self.reporter.unstored(self.unstored.as_ref().map(|unstored| unstored.reason.as_str()));
    }

    /// Stores what could not be stored, once it is time to try.
    pub fn store_again(&mut self) {
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

    /// The last process's policy, signed anew, where reading the directory has given none.
    pub fn serve_left(&mut self) {
        if let Some((payload, digest)) = self.left.take()
            && self.published.borrow().is_none()
        {
            match self.agree(&digest, &Seen::new(), false) {
                Ok(agreed) => self.publish(payload, digest, agreed),
                Err(_) => self.left = Some((payload, digest)),
            }
        }
    }

    /// The same policy under a new epoch and expiry, at half of its life. And where a proxy holds a later policy than the one
    /// that this process found: the last process pushed it and could not store it, and if the documents were changed back
    /// since, nothing else would take it from the proxies. Not while the documents cannot be read: what the proxies hold may
    /// be a revocation. What this process has signed itself is newer than any of those, so this is done once, whatever
    /// proxies say.
    pub fn renew(&mut self, confirmed: bool) {
        let Some(current) = self.current() else { return };
        let outrun = confirmed && !self.signed && self.outrun.swap(false, Ordering::Relaxed);
        let due = outrun || self.unshared || is_due(current.issued_at, current.expires_at, now_seconds());
        if !due || self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        match self.agree(&current.digest, &self.seen.clone(), false) {
            Ok(agreed) => self.publish(current.update.payload.clone(), current.digest.clone(), agreed),
            Err(Wait { again, .. }) => self.again = Some(Instant::now() + again),
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
    use super::*;
    use crate::policies::epochs::Alone;

    /// What is served of what this payload left behind, at once and after the documents gave nothing.
    fn served(payload: Vec<u8>, own: bool, floor: u64) -> [bool; 2] {
        let was_full = !compiler::is_empty(&payload);
        let dir = tempfile::tempdir().unwrap();
        let publisher = |key: &str, epoch_floor| {
            let store = Arc::new(PolicyStore::open(&dir.path().join("policy.redb")).unwrap());
            let keys = dir.path().join(key);
            std::fs::create_dir_all(&keys).unwrap();
            let settings = Settings { scope: "default".into(), lifetime: Duration::from_secs(600), epoch_floor };
            let reporter = Arc::new(Reporter::new(Arc::default()));
            Publisher::new(
                settings,
                Box::new(Alone),
                store,
                Signer::open(&keys, None).unwrap(),
                Arc::default(),
                reporter,
            )
            .unwrap()
        };
        let mut first = publisher("a", 0);
        let digest = Sha256::digest(&payload).to_vec();
        let agreed = first.agree(&digest, &Seen::new(), false).unwrap();
        first.publish(payload, digest, agreed);
        drop(first);
        let mut second = publisher(if own { "a" } else { "b" }, floor);
        let at_once = second.current().is_some();
        // Also where it is not served: an empty policy in its place wants to be meant.
        assert_eq!(second.was_full(), was_full);
        second.serve_left();
        [at_once, second.current().is_some()]
    }

    #[test]
    fn what_the_last_process_left_is_served_if_its_key_signed_it_and_proxies_would_take_it() {
        let bundle = doorward_proto::v1::Bundle { format: 1, strings: vec![String::new()], ..Default::default() };
        let empty = bundle.encode_to_vec();
        assert_eq!(served(empty, true, 0), [true, true]);
        let role = doorward_proto::v1::Role { name: 1, ..Default::default() };
        let strings = vec![String::new(), "ai-x".to_owned()];
        let good = doorward_proto::v1::Bundle { strings, roles: vec![role], ..bundle }.encode_to_vec();
        assert_eq!(served(good.clone(), true, 0), [true, true]);
        assert_eq!(served(good.clone(), true, u64::MAX - 1), [false, true], "signed anew above the floor");
        for floor in [0, u64::MAX - 1] {
            assert_eq!(served(good.clone(), false, floor), [false, false], "somebody else's");
            assert_eq!(served(b"no bundle".to_vec(), true, floor), [false, false], "nothing that loads");
        }
    }

    #[test]
    fn a_policy_is_renewed_at_half_of_its_life_and_where_the_clock_was_set_back() {
        let (issued, expires) = (1_000_000, 1_086_400);
        assert!(!is_due(issued, expires, issued) && !is_due(issued, expires, issued + 43_199));
        assert!(is_due(issued, expires, issued + 43_200) && is_due(issued, expires, expires + 1));
        assert!(!is_due(issued, expires, issued - 60) && is_due(issued, expires, issued - 3_600));
    }
}
