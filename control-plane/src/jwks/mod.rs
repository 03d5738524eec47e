//! Key sets of identity providers: fetched, refreshed, and kept at their last good version.
//!
//! Compilation asks for a key set with [`KeySets::get`]; what it asks for is what is fetched. A set that changed triggers
//! a new compilation. A fetch that fails is repeated with backoff and the last good set stays, also over a restart.
//!
//! A set without a usable key (empty, or of keys that cannot be used) is an answer: it may be a mistake, or the revocation of
//! all keys. The last good set stays for a while, loudly, and then goes.

mod fetch;
mod schedule;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::fetch::{FetchError, Fetcher};
pub use self::source::{Secrets, Source};
use crate::{
    clock::now_micros,
    metrics::Metrics,
    policy_store::{KeySet, PolicyStore, Replaced, StoreError},
    wake::Trigger,
};

const MIN_REFRESH: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Sources at most; more providers than this are not fetched.
const MAX_SOURCES: usize = 1_000;

struct Entry {
    refresh: Duration,
    keys: Option<Arc<KeySet>>,
    due: Instant,
    failures: u32,
    fetching: bool,
    /// A fetch has ended, however.
    tried: bool,
    wanted: u64,
    problem: Option<String>,
    /// Somebody can use a key of `keys`.
    used: bool,
    /// A compilation has looked at `keys`.
    seen: bool,
    /// How long the set before `keys` may stay in its place: the longest that this compilation asks for.
    keep: Duration,
    /// When the set before `keys` stops being used by somebody, Unix microseconds.
    until_micros: Option<i64>,
    /// The log has it that the set before `keys` stays.
    told: bool,
}

impl Entry {
    /// Unix microseconds since which nobody can use a key of the newest set, where one before could be used.
    fn unusable_since(&self) -> Option<i64> {
        let before = self.keys.as_ref().filter(|_| !self.used)?.before.as_ref()?;
        Some(before.since_micros)
    }
}

/// What a compilation asks for.
pub struct Want<'a> {
    /// How often the set is fetched.
    pub refresh: Duration,
    /// How long the last good set stays in place of one without a usable key.
    pub keep: Duration,
    /// Whether a set has a key that can be used.
    pub usable: &'a dyn Fn(&str) -> bool,
}

/// A key set, and whether it is the newest.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The JSON Web Key Set.
    pub body: String,
    /// It stands in for the newest one, which has no usable key: since when, and until when (Unix microseconds).
    pub stands_in: Option<(i64, i64)>,
}

/// Why there is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nothing is fetched from such an address.
    #[error("{0}")]
    Refused(String),
    /// One too many.
    #[error("more than {MAX_SOURCES} key sets are named; no further one is fetched")]
    TooMany,
    /// It is fetched again.
    #[error("its key set could not be fetched from {host}: {problem}")]
    Failed {
        /// From where, without credentials.
        host: String,
        /// Why.
        problem: String,
    },
    /// Nothing came yet.
    #[error("its key set is being fetched from {host}")]
    Pending {
        /// From where, without credentials.
        host: String,
    },
}

#[derive(Default)]
struct Entries {
    sources: BTreeMap<Source, Entry>,
    /// Of the compilation under way.
    generation: u64,
}

/// All key sets that the policies name.
pub struct KeySets {
    entries: Mutex<Entries>,
    wake: Notify,
    store: Arc<PolicyStore>,
    kept: BTreeMap<String, KeySet>,
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    changed: mpsc::Sender<Trigger>,
}

/// Why there is no fetcher.
#[derive(Debug, thiserror::Error)]
pub enum KeySetsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error("cannot prepare to fetch key sets: {0}; check --jwks-ca")]
    Client(#[from] reqwest::Error),
}

impl KeySets {
    /// Starts with the sets that were fetched before. `authorities`: additional roots, PEM. `secrets`: where secrets are.
    pub fn new(
        store: Arc<PolicyStore>,
        metrics: Arc<Metrics>,
        insecure: bool,
        authorities: Option<&[u8]>,
        secrets: Option<Arc<dyn Secrets>>,
        changed: mpsc::Sender<Trigger>,
    ) -> Result<Self, KeySetsError> {
        let fetcher = Fetcher::new(insecure, authorities, secrets)?;
        let kept = store.key_sets()?;
        Ok(Self { entries: Mutex::default(), wake: Notify::new(), store, kept, fetcher, metrics, changed })
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A compilation begins.
    pub fn begin(&self) {
        self.lock().generation += 1;
    }

    /// A compilation has ended: what it did not ask for is fetched no more.
    pub fn end(&self) {
        let mut entries = self.lock();
        let generation = entries.generation;
        entries.sources.retain(|_, entry| entry.wanted == generation);
        let now = now_micros();
        let mut gone = Vec::new();
        for (source, entry) in &mut entries.sources {
            let over = entry.unusable_since().is_some_and(|since| now >= since.saturating_add(micros(entry.keep)));
            if let Some(keys) = entry.keys.as_mut().filter(|_| over) {
                // For good: neither a clock that goes back nor another setting brings revoked keys back.
                let keys = Arc::make_mut(keys);
                keys.before = None;
                gone.push((source.clone(), keys.clone()));
            }
        }
        drop(entries);
        for (source, keys) in gone {
            tracing::error!(host = %source.host(), "a key set still has no usable key; the last good one is used no more");
            self.store(&source, &keys);
        }
        self.wake.notify_one();
    }

    /// Whether each set was asked for once by this process, whatever came of it.
    pub fn settled(&self) -> bool {
        self.lock().sources.values().all(|entry| entry.tried)
    }

    /// Fetches every set now, but for those that were fetched a moment ago.
    pub fn refresh(&self) {
        let recently = now_micros().saturating_sub(micros(MIN_REFRESH));
        for entry in self.lock().sources.values_mut() {
            if entry.keys.as_ref().is_none_or(|keys| keys.fetched_micros < recently) {
                entry.due = Instant::now();
            }
        }
        self.wake.notify_one();
    }

    fn store(&self, source: &Source, keys: &KeySet) {
        if let Err(error) = self.store.set_key_set(&source.to_string(), keys) {
            tracing::error!(%error, "a key set could not be kept for the next start");
        }
    }

    /// The newest set, or the last good one for as long as it may stand in. Remembers that it is wanted.
    ///
    /// # Errors
    /// There is none, or none yet.
    pub fn get(&self, source: &Source, want: &Want<'_>) -> Result<Found, Missing> {
        self.fetcher.check(source).map_err(|error| Missing::Refused(error.to_string()))?;
        let mut entries = self.lock();
        let generation = entries.generation;
        if entries.sources.len() >= MAX_SOURCES && !entries.sources.contains_key(source) {
            return Err(Missing::TooMany);
        }
        let entry = entries.sources.entry(source.clone()).or_insert_with(|| Entry {
            refresh: want.refresh,
            keys: self.kept.get(&source.to_string()).cloned().map(Arc::new),
            due: Instant::now(),
            failures: 0,
            fetching: false,
            tried: false,
            wanted: 0,
            problem: None,
            used: false,
            seen: false,
            keep: want.keep,
            until_micros: None,
            told: false,
        });
        if entry.wanted != generation {
            (entry.keep, entry.until_micros) = (want.keep, None);
        }
        entry.wanted = generation;
        entry.keep = entry.keep.max(want.keep);
        entry.refresh = if source.is_near() { MIN_REFRESH } else { want.refresh.max(MIN_REFRESH) };
        let Some(keys) = entry.keys.clone() else {
            return Err(match &entry.problem {
                Some(problem) => Missing::Failed { host: source.host(), problem: problem.clone() },
                None => Missing::Pending { host: source.host() },
            });
        };
        entry.seen = true;
        if (want.usable)(&keys.body) {
            (entry.used, entry.told) = (true, false);
            return Ok(Found { body: keys.body.clone(), stands_in: None });
        }
        let before = keys.before.as_ref().filter(|before| (want.usable)(&before.body));
        if let Some(Replaced { body, since_micros }) = before {
            let until = since_micros.saturating_add(micros(want.keep));
            if now_micros() < until {
                entry.until_micros = Some(entry.until_micros.map_or(until, |other| other.min(until)));
                if !std::mem::replace(&mut entry.told, true) {
                    tracing::warn!(host = %source.host(), "a key set has no usable key; the last good one stays for now");
                }
                return Ok(Found { body: body.clone(), stands_in: Some((*since_micros, until)) });
            }
        }
        Ok(Found { body: keys.body.clone(), stands_in: None })
    }

    /// What came of a fetch.
    fn fetched(&self, source: &Source, result: Result<String, FetchError>) {
        let mut entries = self.lock();
        let Some(entry) = entries.sources.get_mut(source) else { return };
        entry.fetching = false;
        entry.tried = true;
        match result {
            Ok(body) => {
                let changed = entry.keys.as_ref().is_none_or(|keys| keys.body != body);
                let now = now_micros();
                let before = match &entry.keys {
                    Some(keys) if changed && entry.used => {
                        Some(Replaced { body: keys.body.clone(), since_micros: now })
                    }
                    // Of several sets in a row without a usable key, the first began it. One that nobody looked at may have
                    // been good, and have withdrawn keys of the one before.
                    Some(keys) if !changed || entry.seen => keys.before.clone(),
                    _ => None,
                };
                let keys = Arc::new(KeySet { body, fetched_micros: now, before });
                entry.keys = Some(Arc::clone(&keys));
                entry.used &= !changed;
                entry.seen &= !changed;
                entry.failures = 0;
                entry.problem = None;
                entry.due = Instant::now() + entry.refresh;
                drop(entries);
                if changed {
                    tracing::info!(host = %source.host(), "a key set changed");
                    self.store(source, &keys);
                    // The engine is gone only when the process ends.
                    let _ = self.changed.send(Trigger::Keys);
                }
            }
            Err(problem) => {
                let problem = problem.to_string();
                tracing::warn!(host = %source.host(), problem, "a key set could not be fetched; the last good one stays");
                self.metrics.jwks_failures.get_or_create(&vec![("host", source.host())]).inc();
                entry.failures = entry.failures.saturating_add(1);
                let backoff = Duration::from_secs(1 << entry.failures.min(9))
                    .min(MAX_BACKOFF)
                    .min(entry.refresh.max(MIN_REFRESH));
                entry.due = Instant::now() + backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                let first = entry.problem.replace(problem).is_none() && entry.keys.is_none();
                drop(entries);
                if first {
                    // So that the provider's diagnostic says what is wrong.
                    let _ = self.changed.send(Trigger::Keys);
                }
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
