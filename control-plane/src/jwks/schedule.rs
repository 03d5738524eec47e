//! When key sets are fetched.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::Instrument as _;

use super::{
    KeySets,
    fetch::{FETCH_TIMEOUT, FetchError},
    source::Source,
};
use crate::{
    clock::{self, now_micros},
    wake::Trigger,
};

/// Fetches at one time.
const MAX_FETCHES: usize = 16;

impl KeySets {
    /// Fetches what is due until the process ends.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        let fetch = async |keys: Arc<Self>, source: Source| keys.fetcher.fetch(&source).await;
        self.run_with(shutdown, fetch).await;
    }

    /// As [`run`](Self::run), with this as the fetch.
    pub(super) async fn run_with<F>(
        self: Arc<Self>,
        mut shutdown: watch::Receiver<bool>,
        fetch: impl Fn(Arc<Self>, Source) -> F,
    ) where
        F: Future<Output = Result<String, FetchError>> + Send + 'static,
    {
        let mut fetches = JoinSet::new();
        let mut fetched_now = HashMap::new();
        loop {
            let now = Instant::now();
            let mut next = now + Duration::from_secs(60);
            {
                let mut entries = self.lock();
                let wall = now_micros();
                // Several sets may be of one host, and a set that recovered must show as such.
                self.metrics.jwks_unusable.clear();
                // Who has waited longest comes first: slow providers of some keep no others from being asked.
                let mut waiting: Vec<_> = entries.sources.iter_mut().filter(|(_, entry)| !entry.fetching).collect();
                waiting.sort_by_key(|(_, entry)| entry.due);
                for (source, entry) in waiting {
                    if entry.due <= now && fetches.len() >= MAX_FETCHES {
                        // Each has a connection, that is a file descriptor. The end of one wakes this loop.
                    } else if entry.due <= now {
                        entry.fetching = true;
                        // The host only: an address may hold credentials.
                        let span = tracing::info_span!("key_set_fetch", host = %source.host());
                        let fetching = timeout(FETCH_TIMEOUT, fetch(Arc::clone(&self), source.clone()));
                        let task = fetches.spawn(fetching.instrument(span));
                        fetched_now.insert(task.id(), source.clone());
                    } else {
                        next = next.min(entry.due);
                    }
                    if let Some(keys) = &entry.keys {
                        let age = (wall - keys.fetched_micros) as f64 / 1e6;
                        self.metrics.jwks_age.get_or_create(&vec![("host", source.host())]).set(age);
                    }
                }
                for (source, entry) in &mut entries.sources {
                    let labels = vec![("host", source.host())];
                    let gauge = self.metrics.jwks_unusable.get_or_create(&labels);
                    let unusable = i64::from(entry.keys.is_some() && !entry.used);
                    gauge.set(gauge.get().max(unusable));
                    drop(gauge);
                    if let Some(until) = entry.until_micros {
                        if until <= wall {
                            entry.until_micros = None;
                            // The engine is gone only when the process ends.
                            let _ = self.changed.send(Trigger::Keys);
                        } else {
                            let left = Duration::from_micros(u64::try_from(until - wall).unwrap_or(0));
                            next = next.min(now + left + Duration::from_millis(1));
                        }
                    }
                }
            }
            tokio::select! {
                () = clock::ended(&mut shutdown) => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = fetches.join_next_with_id(), if !fetches.is_empty() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result.unwrap_or(Err(FetchError::Slow))),
                        // However a fetch ends, its set is fetched again.
                        Err(defect) => (defect.id(), Err(FetchError::Defect)),
                    };
                    if let Some(source) = fetched_now.remove(&id) {
                        self.fetched(&source, result);
                    }
                }
            }
        }
    }
}
