//! How replicas agree on an epoch: in one ConfigMap, which the API server changes for one writer at a time.
//!
//! It says which policy has which epoch, and up to which change of the documents the one who published it had seen. Who has
//! compiled the same takes its epoch, and so publishes the same bytes. Who has something else, and has seen all of those changes,
//! takes the next epoch. Who has not seen them lags: it waits, or an older policy would get a newer epoch, and a proxy that moves
//! there would go back.
//!
//! Where the documents are the same and the policy is not, key sets differ: a replica that starts waits a little for its own to be
//! fetched, and others fetch theirs anew.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{
    client::told,
    index::{Field, Index, Progress},
    place::Place,
};
use crate::{
    clock::{self, now_seconds},
    policies::epochs::{Agreed, Epochs, Proposal, Seen, Wait, next, now_millis},
    text::hex,
};

/// The ConfigMap, in the namespace of the control plane.
const CONFIG_MAP: &str = "doorward-epoch";
/// So long a policy waits for the API server. Then it is published all the same, because a revocation must not wait.
const PATIENCE: Duration = Duration::from_secs(3);
/// Writers that may be quicker before it counts as unreachable.
const ATTEMPTS: usize = 8;
/// How often it is looked whether others publish something else.
const LOOK: Duration = Duration::from_secs(5);
/// Changes that are not seen for so long are not of this API server.
const FOREIGN: Duration = Duration::from_secs(60);
const A_YEAR_MILLIS: u64 = 366 * 86_400_000;
/// A replica that starts with other key sets waits so long for its own to be fetched.
const SETTLE: Duration = Duration::from_secs(10);

/// What was published last, by whichever replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its epoch.
    pub epoch: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
    /// Unix seconds.
    pub issued_at: i64,
    /// The newest change of each kind in each namespace that is in it, by `resourceVersion`.
    pub changes: BTreeMap<String, u64>,
}

/// Where the record is.
pub trait Shelf: Send {
    /// Why it cannot be read or written.
    type Problem: std::fmt::Display;
    /// What there is, and its version.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&mut self) -> Result<Option<(Record, String)>, Self::Problem>;
    /// Puts it there, unless somebody else has since this version. Whether it is there.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&mut self, record: &Record, version: Option<&str>) -> Result<bool, Self::Problem>;
}

/// Who knows how far documents were seen.
pub trait Sight: Send {
    /// As of the documents that were read last.
    fn read(&self) -> Seen;
    /// As of now.
    fn now(&self) -> Seen;
}

fn seen(progress: BTreeMap<Field, Progress>) -> Seen {
    let one = |(Field { kind, namespace }, Progress { change, seen, .. }): (Field, Progress)| {
        (format!("{kind}/{namespace}"), (change, seen))
    };
    progress.into_iter().map(one).collect()
}

impl Sight for Arc<Index> {
    fn read(&self) -> Seen {
        seen(self.read_progress())
    }

    fn now(&self) -> Seen {
        seen(self.progress())
    }
}

/// One replica among several.
pub struct Replica<S, I> {
    shelf: S,
    sight: I,
    /// The record as it was last looked at, from time to time.
    latest: Arc<Mutex<Option<Record>>>,
    /// Since when a first policy waits for key sets.
    waits: Option<Instant>,
    /// The epoch of the last policy of others that was told to differ.
    differed: u64,
    unreachable: bool,
    /// Since when the record has changes that were not seen.
    lags: Option<Instant>,
}

impl<S: Shelf, I: Sight> Replica<S, I> {
    fn new(shelf: S, sight: I, latest: Arc<Mutex<Option<Record>>>) -> Self {
        Self { shelf, sight, latest, waits: None, differed: 0, unreachable: false, lags: None }
    }

    /// The epoch in the record, or one that was put there.
    fn share(&mut self, proposal: &Proposal<'_>) -> Result<Result<Agreed, Wait>, S::Problem> {
        let digest = hex(proposal.digest);
        for _ in 0..ATTEMPTS {
            let mut found = self.shelf.load()?;
            let own = proposal.seen;
            if let Some((record, _)) = &mut found {
                self.mend(record);
            }
            let mut changes: BTreeMap<String, u64> =
                own.iter().map(|(field, (change, _))| (field.clone(), *change)).collect();
            if let Some((record, _)) = &found {
                if record.digest == digest && record.epoch >= proposal.last && record.issued_at >= proposal.issued_since
                {
                    return Ok(Ok(Agreed { epoch: record.epoch, issued_at: record.issued_at, shared: true }));
                }
                let lags = |(field, change): (&String, &u64)| own.get(field).is_some_and(|(_, seen)| seen < change);
                if own.is_empty() && !record.changes.is_empty() || record.changes.iter().any(lags) {
                    let since = *self.lags.get_or_insert_with(Instant::now);
                    if since.elapsed() < FOREIGN {
                        let why = "another replica has published what this one has not seen yet";
                        return Ok(Err(Wait { again: Duration::from_millis(200), why }));
                    }
                    tracing::warn!(
                        "the ConfigMap {CONFIG_MAP} tells of changes that this API server does not have; it is of another cluster \
                         or of a time before a restore, and is written anew"
                    );
                }
                if proposal.unsettled && record.digest != digest && !self.is_newer(&changes, record) {
                    let since = *self.waits.get_or_insert_with(Instant::now);
                    if since.elapsed() < SETTLE {
                        let why = "another replica has compiled something else from the same documents; key sets are fetched first";
                        return Ok(Err(Wait { again: Duration::from_secs(1), why }));
                    }
                }
                for (field, change) in &record.changes {
                    let known = changes.entry(field.clone()).or_default();
                    *known = (*known).max(*change);
                }
            }
            let newest = found.as_ref().map_or(0, |(record, _)| record.epoch);
            let record = Record {
                epoch: next(proposal.last.max(newest), now_millis()),
                digest: digest.clone(),
                issued_at: now_seconds(),
                changes,
            };
            if self.shelf.save(&record, found.as_ref().map(|(_, version)| version.as_str()))? {
                let agreed = Agreed { epoch: record.epoch, issued_at: record.issued_at, shared: true };
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
                return Ok(Ok(agreed));
            }
        }
        let why = "other replicas publish at the same moment";
        Ok(Err(Wait { again: Duration::from_millis(200), why }))
    }

    /// An epoch far in the future is none that a replica has made: to go on from it would leave no room.
    fn mend(&self, record: &mut Record) {
        if record.epoch > now_millis().saturating_add(A_YEAR_MILLIS) {
            tracing::warn!(
                epoch = record.epoch,
                "the ConfigMap {CONFIG_MAP} has an epoch far in the future; it is passed over"
            );
            record.epoch = 0;
            record.digest.clear();
        }
    }

    /// Whether there is a change that is not in the record.
    fn is_newer(&self, changes: &BTreeMap<String, u64>, record: &Record) -> bool {
        changes.iter().any(|(field, change)| record.changes.get(field).is_none_or(|known| known < change))
    }
}

impl<S: Shelf, I: Sight> Epochs for Replica<S, I> {
    fn seen(&self) -> Seen {
        self.sight.read()
    }

    fn agree(&mut self, proposal: &Proposal<'_>) -> Result<Agreed, Wait> {
        match self.share(proposal) {
            Ok(agreed) => {
                if std::mem::take(&mut self.unreachable) {
                    tracing::info!("replicas agree on epochs again");
                }
                if agreed.is_ok() {
                    (self.waits, self.lags) = (None, None);
                }
                agreed
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.unreachable, true) {
                    tracing::warn!(
                        %problem,
                        "the ConfigMap {CONFIG_MAP} cannot be used; policy is published with an epoch of this replica's own"
                    );
                }
                if proposal.in_force {
                    return Err(Wait { again: LOOK, why: "others cannot be told of the policy in force" });
                }
                // Just above what its own proxies hold: a replica that is cut off must not come before those that are not.
                Ok(Agreed { epoch: proposal.last.saturating_add(1), issued_at: now_seconds(), shared: false })
            }
        }
    }

    fn differs(&mut self, digest: &[u8]) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(record) = latest.filter(|record| record.digest != hex(digest) && record.epoch > self.differed) else {
            return false;
        };
        let own = self.sight.now();
        // What comes with documents that are not seen yet, is told by them.
        let same = record.changes.iter().all(|(field, change)| own.get(field).is_none_or(|(_, seen)| seen >= change));
        if same {
            self.differed = record.epoch;
        }
        same
    }
}

/// The ConfigMap of the API server.
pub struct Shared {
    api: Api<ConfigMap>,
    handle: Handle,
    scope: String,
    /// What the ConfigMap says of other scopes.
    others: BTreeMap<String, String>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The API server says so.
    #[error("{}", told(.0))]
    Api(#[from] kube::Error),
    /// It does not answer.
    #[error("the API server does not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

/// What a ConfigMap says of this scope. One that cannot be read says nothing: it is written anew, above all that was known.
fn record(map: &ConfigMap, scope: &str) -> Option<Record> {
    serde_json::from_str(map.data.as_ref()?.get(scope)?).ok()
}

impl Shelf for Shared {
    type Problem = Problem;

    fn load(&mut self) -> Result<Option<(Record, String)>, Problem> {
        let found = self.handle.block_on(async { timeout(PATIENCE, self.api.get_opt(CONFIG_MAP)).await })??;
        let nothing = Record { epoch: 0, digest: String::new(), issued_at: 0, changes: BTreeMap::new() };
        self.others = found.as_ref().and_then(|map| map.data.clone()).unwrap_or_default();
        Ok(found.map(|map| {
            (record(&map, &self.scope).unwrap_or(nothing), map.metadata.resource_version.unwrap_or_default())
        }))
    }

    fn save(&mut self, record: &Record, version: Option<&str>) -> Result<bool, Problem> {
        let text = serde_json::to_string(record).unwrap_or_default();
        let metadata = ObjectMeta {
            name: Some(CONFIG_MAP.to_owned()),
            resource_version: version.map(str::to_owned),
            ..ObjectMeta::default()
        };
        let mut data = self.others.clone();
        data.insert(self.scope.clone(), text);
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        let params = PostParams::default();
        let written = async {
            match version {
                None => self.api.create(&params, &map).await,
                Some(_) => self.api.replace(CONFIG_MAP, &params, &map).await,
            }
        };
        match self.handle.block_on(async { timeout(PATIENCE, written).await })? {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// One replica, and what looks from time to time what others publish; it ends with `shutdown`.
pub fn replica(
    client: Client,
    place: &Place,
    scope: &str,
    index: Arc<Index>,
    mut shutdown: watch::Receiver<bool>,
) -> Box<dyn Epochs> {
    let api: Api<ConfigMap> = Api::namespaced(client, &place.namespace);
    let latest = Arc::<Mutex<Option<Record>>>::default();
    let shared =
        Shared { api: api.clone(), handle: Handle::current(), scope: scope.to_owned(), others: BTreeMap::new() };
    let (looking, scope) = (Arc::clone(&latest), scope.to_owned());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = clock::ended(&mut shutdown) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            // What cannot be read, who publishes says.
            if let Ok(Ok(Some(map))) = timeout(PATIENCE, api.get_opt(CONFIG_MAP)).await {
                *looking.lock().unwrap_or_else(PoisonError::into_inner) = record(&map, &scope);
            }
        }
    });
    Box::new(Replica::new(shared, index, latest))
}

#[cfg(test)]
mod tests;
