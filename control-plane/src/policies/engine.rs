//! The policy thread: waits until documents or key sets changed and are at rest, reads, and decides what is published.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicBool, mpsc},
    time::{Duration, Instant},
};

use doorward_proto::v1::{Diagnostic, PolicyStatus};
use tokio::sync::watch;

use super::{
    compiler::{self, Compiled},
    epochs::{Epochs, Seen, Wait},
    publish::{self, Published, Publisher},
    report::{AGAIN, NOT_PUBLISHED, Reporter},
    resolve::{self, Resolution, Unpublished},
    since::Since,
};
use crate::{
    introspection::settings::{Providers, ProvidersWatch},
    jwks::KeySets,
    metrics::Metrics,
    policy_store::{PolicyStore, StoreError},
    signing::Signer,
    source::{self, PolicySource, Version},
    wake::{Trigger, Waker},
};

const QUIET: Duration = Duration::from_millis(100);
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(1);

/// How policies are made.
pub struct Settings {
    /// How they are signed.
    pub signing: publish::Settings,
    /// Publish an empty policy after one that was not.
    pub allow_empty: bool,
}

/// The policy thread's state.
pub struct Engine {
    source: Box<dyn PolicySource>,
    allow_empty: bool,
    keys: Arc<KeySets>,
    metrics: Arc<Metrics>,
    reporter: Arc<Reporter>,
    publisher: Publisher,
    /// When the source is read again although nothing changed there.
    again: Option<Instant>,
    /// How the providers of the policy in force are asked about tokens.
    asked: watch::Sender<Arc<Providers>>,
    /// The policy in force is what the documents say, as they were read last.
    confirmed: bool,
    since: Since,
}

/// The compiler failed on documents that people wrote.
#[derive(Debug, thiserror::Error)]
#[error("the compiler failed; the log says where, please report it")]
struct Panicked;

impl Engine {
    /// Takes up where the last process ended: the last bundle is served at once.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        settings: Settings,
        source: Box<dyn PolicySource>,
        epochs: Box<dyn Epochs>,
        store: Arc<PolicyStore>,
        signer: Signer,
        keys: Arc<KeySets>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let reporter = Arc::new(Reporter::new(Arc::clone(&metrics)));
        let publisher =
            Publisher::new(settings.signing, epochs, store, signer, Arc::clone(&metrics), Arc::clone(&reporter))?;
        let allow_empty = settings.allow_empty;
        let asked = publisher.before().map(|bundle| compiler::asked(&bundle, publisher.good())).unwrap_or_default();
        let asked = watch::Sender::new(Arc::new(asked));
        Ok(Self {
            source,
            allow_empty,
            keys,
            metrics,
            reporter,
            publisher,
            again: None,
            asked,
            confirmed: false,
            since: Since::default(),
        })
    }

    /// The newest policy.
    pub fn policy(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.publisher.policy()
    }

    /// What the last compilation found.
    pub fn status(&self) -> watch::Receiver<PolicyStatus> {
        self.reporter.status()
    }

    /// How the providers of the policy in force are asked about tokens.
    pub fn asked(&self) -> ProvidersWatch {
        self.asked.subscribe()
    }

    /// Where to note that a proxy holds a newer epoch than the one in force.
    pub fn outrun(&self) -> Arc<AtomicBool> {
        self.publisher.outrun()
    }

    /// Runs until [`Trigger::Stop`].
    pub fn run(mut self, sender: mpsc::Sender<Trigger>, triggers: mpsc::Receiver<Trigger>) {
        let waker = Waker::new(sender);
        let _watch = self.source.wake(waker.clone());
        let mut loaded = None;
        let mut keys_changed = false;
        loop {
            waker.arm();
            let seen = self.source.version();
            if let (Err(error), None) = (&seen, loaded) {
                self.unreadable(error);
                self.publisher.serve_left();
                loaded = Some(None);
            }
            let seen = seen.ok();
            if keys_changed || loaded != Some(seen) || self.again.is_some_and(|again| Instant::now() >= again) {
                let Some(settled) = self.settle(seen, &triggers, &waker) else { return };
                self.load();
                self.publisher.serve_left();
                loaded = Some(settled);
                keys_changed = false;
            }
            self.publisher.renew(self.confirmed);
            if self.publisher.differs() {
                tracing::info!(
                    "another replica publishes something else from the same documents; key sets are fetched anew"
                );
                self.keys.refresh();
            }
            self.publisher.store_again();
            let rest = self.again.map_or(POLL, |again| again.saturating_duration_since(Instant::now()).min(POLL));
            match triggers.recv_timeout(rest) {
                Ok(Trigger::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(Trigger::Keys) => keys_changed = true,
                Ok(Trigger::Source) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Waits until the source is quiet, at most [`MAX_DEBOUNCE`]. `None`: the process ends.
    fn settle(
        &self,
        mut seen: Option<Version>,
        triggers: &mpsc::Receiver<Trigger>,
        waker: &Waker,
    ) -> Option<Option<Version>> {
        let started = Instant::now();
        while started.elapsed() < MAX_DEBOUNCE {
            let busy = match triggers.recv_timeout(QUIET) {
                Ok(Trigger::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Ok(_) => true,
                Err(mpsc::RecvTimeoutError::Timeout) => false,
            };
            waker.arm();
            let now = self.source.version().ok();
            if !busy && now == seen {
                break;
            }
            seen = now;
        }
        Some(seen)
    }

    fn unreadable(&self, error: &dyn std::error::Error) {
        self.reporter.unreadable(&self.source.name(), error);
    }

    fn load(&mut self) {
        let started = Instant::now();
        self.again = None;
        self.confirmed = false;
        let span = tracing::info_span!(
            "compilation",
            scope = self.publisher.scope(),
            documents = tracing::field::Empty,
            result = tracing::field::Empty,
        );
        let _entered = span.enter();
        let reading = match source::read_whole(&*self.source) {
            Ok(reading) => reading,
            Err(error) => {
                span.record("result", "unreadable");
                self.again = Some(started + AGAIN);
                self.unreadable(&error);
                return;
            }
        };
        let seen = self.publisher.seen();
        if reading.parts.iter().any(|part| part.text.as_ref().is_err_and(|unread| unread.passes())) {
            self.again = Some(started + AGAIN);
        }
        self.keys.begin();
        // Documents come from people. Whatever one of them does to the compiler, the last policy is to be served.
        let resolved = std::panic::catch_unwind(AssertUnwindSafe(|| {
            resolve::resolve(&reading, self.publisher.good(), &self.keys, self.publisher.scope())
        }));
        self.keys.end();
        let Ok(resolution) = resolved else {
            span.record("result", "panicked");
            self.unreadable(&Panicked);
            return;
        };
        span.record("documents", resolution.documents.len());
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.compile_seconds.observe(seconds);
        let result = self.conclude(resolution, seen, seconds);
        span.record("result", result);
    }

    /// Publishes what was compiled, if it is another policy and proxies would take it. What came of it, in one word.
    fn conclude(&mut self, mut resolution: Resolution, seen: Seen, seconds: f64) -> &'static str {
        let Resolution { compiled, good, documents, diagnostics } = &mut resolution;
        let mut compiled = std::mem::replace(compiled, Err(Unpublished::NoSet));
        let asked = compiled.as_mut().map(|compiled| std::mem::take(&mut compiled.asked)).unwrap_or_default();
        let judged = compiled.and_then(|compiled| self.judge(compiled));
        let good = std::mem::take(good);
        let decided = judged.map_err(|reason| {
            diagnostics.push(Diagnostic {
                severity: compiler::ERROR.into(),
                code: NOT_PUBLISHED.into(),
                message: format!("Nothing was published and the last policy stays in force: {reason}."),
                ..Default::default()
            });
            if matches!(reason, Unpublished::Refused(_)) {
                // They compile, and are not in force.
                for document in documents {
                    document.accepted = false;
                }
            }
        });
        let decided = match decided {
            Ok(Some(compiled)) => match self.publisher.agree(&compiled.digest, &seen, !self.keys.settled()) {
                Ok(agreed) => Ok(Some((compiled, agreed))),
                Err(Wait { again, why }) => {
                    tracing::debug!(why, "a policy waits");
                    self.again = Some(Instant::now() + again);
                    return "waits";
                }
            },
            Ok(None) => Ok(None),
            Err(()) => Err(()),
        };
        let result = match decided {
            Ok(decided) => {
                self.publisher.compiled_from(seen);
                let before = self.publisher.good().clone();
                self.publisher.keep(good);
                // Also where the bundle stays the same, which says nothing of them; and before proxies learn whom they may ask
                // about.
                self.asked.send_replace(Arc::new(asked));
                let result = match decided {
                    Some((compiled, agreed)) => {
                        self.publisher.publish(compiled.bytes, compiled.digest, agreed);
                        "published"
                    }
                    None => "unchanged",
                };
                let epoch = self.publisher.current().map_or(0, |current| current.epoch);
                self.since.follow(&resolution.documents, &before, self.publisher.good(), epoch);
                self.confirmed = true;
                result
            }
            Err(()) => "not published",
        };
        self.since.tell(&mut resolution.documents);
        self.reporter.report(&resolution, seconds);
        result
    }

    /// What is to be published, or nothing if it is in force already.
    fn judge(&self, compiled: Compiled) -> Result<Option<Compiled>, Unpublished> {
        if self.publisher.current().is_some_and(|current| current.digest == compiled.digest) {
            return Ok(None);
        }
        if compiled.empty && !self.allow_empty && self.publisher.was_full() {
            return Err(Unpublished::Empty);
        }
        // Every proxy would refuse it; one that starts would have no policy at all.
        std::panic::catch_unwind(AssertUnwindSafe(|| compiled.load())).map_err(|_| Unpublished::Panicked)??;
        Ok(Some(compiled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::directory::Directory;

    fn engine(dir: &std::path::Path) -> Engine {
        let (keys, _triggers) = crate::jwks::tests::key_sets(dir);
        let store = Arc::new(PolicyStore::open(&dir.join("other.redb")).unwrap());
        let signing = publish::Settings { scope: "default".into(), lifetime: Duration::from_secs(60), epoch_floor: 0 };
        let source = Box::new(Directory::watched(dir).unwrap());
        let settings = Settings { signing, allow_empty: true };
        let signer = Signer::open(dir, None).unwrap();
        Engine::new(settings, source, Box::new(super::super::epochs::Alone), store, signer, keys, Arc::default())
            .unwrap()
    }

    #[test]
    fn what_proxies_would_refuse_is_not_published_and_the_last_policy_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.yaml"),
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: a }\nspec: { subjects: [{ user: bob }], effect: deny }\n",
        )
        .unwrap();
        let mut engine = engine(dir.path());
        engine.load();
        let policy = engine.policy();
        let before = policy.borrow().clone().expect("the first is published");
        // A string that is not there: no document gives this, only a defect of the compiler.
        let bundle = doorward_proto::v1::Bundle {
            format: 1,
            strings: vec![String::new()],
            bindings: vec![doorward_proto::v1::Binding { role: 99, ..Default::default() }],
            ..Default::default()
        };
        let compiled = Compiled {
            bytes: prost::Message::encode_to_vec(&bundle),
            digest: vec![7; 32],
            empty: false,
            asked: Providers::new(),
        };
        assert!(compiled.load().is_err());
        let resolution = Resolution {
            compiled: Ok(compiled),
            good: Default::default(),
            documents: Vec::new(),
            diagnostics: Vec::new(),
        };
        let good = engine.publisher.good().clone();
        assert_eq!(engine.conclude(resolution, Seen::new(), 0.0), "not published");
        assert_eq!(policy.borrow().as_ref().map(|policy| policy.epoch), Some(before.epoch));
        assert_eq!(*engine.publisher.good(), good);
        let status = engine.status().borrow().clone();
        let found = status.diagnostics.iter().find(|found| found.code == NOT_PUBLISHED).expect("it is reported");
        assert!(found.message.contains("internal error"), "{}", found.message);
    }
}
