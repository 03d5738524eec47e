//! Writes the status of every document: what the compiler found, and what proxies enforce.
//!
//! One replica writes, by a Lease; all tell what their proxies enforce. Nothing is written that is there already, and news for
//! people comes before numbers of proxies.

pub mod conditions;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use doorward_policy_compiler::document::{API_VERSION, namespace::namespace};
use doorward_proto::v1::{Diagnostic, PolicyStatus};
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Client,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use self::conditions::{Wanted, wanted};
use super::{
    client::told,
    index::{Index, Key, Object},
    lease::{Election, RENEW},
    place::Place,
    replicas::Replicas,
    watch::api,
};
use crate::{
    clock,
    metrics::Metrics,
    policies::{publish::PolicyWatch, report::NOT_PUBLISHED, resolve::NAMESPACE_HELD},
    push::Registry,
    text::hex,
};

/// Who writes, to the API server.
const MANAGER: &str = "doorward";
/// The Lease of who writes status.
const LEASE: &str = "doorward-status";
/// Changes that come together are written together.
const TOGETHER: Duration = Duration::from_millis(150);
/// Documents that are written before the lease is looked after again, and how many of them at a time.
const BATCH: usize = 200;
const AT_A_TIME: usize = 8;
/// Policies whose digests are remembered: a proxy that holds an older one counts again when it has the newest.
const MAX_PUBLISHED: usize = 256;

/// Who writes the status of documents.
pub struct Writer {
    client: Client,
    index: Arc<Index>,
    status: watch::Receiver<PolicyStatus>,
    registry: Arc<Registry>,
    policy: PolicyWatch,
    /// Digests of policies that this replica has published, by epoch.
    published: BTreeMap<u64, String>,
    metrics: Arc<Metrics>,
    election: Election,
    replicas: Replicas,
    recorder: Recorder,
    /// What was written and may not have come back by the watch yet: the version that was written, and what.
    written: HashMap<Key, (u64, Value)>,
    /// What was in the way last; said once.
    said: BTreeSet<String>,
}

impl Writer {
    /// Who writes what `status` and `registry` say about the objects of `index`.
    pub fn new(
        client: Client,
        place: &Place,
        index: Arc<Index>,
        status: watch::Receiver<PolicyStatus>,
        registry: Arc<Registry>,
        policy: PolicyWatch,
        metrics: Arc<Metrics>,
    ) -> Self {
        let leases = kube::Api::namespaced(client.clone(), &place.namespace);
        let reporter = Reporter { controller: "doorward.dev/control-plane".into(), instance: Some(place.name.clone()) };
        Self {
            election: Election::new(leases.clone(), LEASE, &place.name),
            replicas: Replicas::new(leases, &place.name),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            index,
            status,
            registry,
            policy,
            published: BTreeMap::new(),
            metrics,
            written: HashMap::new(),
            said: BTreeSet::new(),
        }
    }

    /// Writes until the process ends.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let (mut objects, mut proxies) = (self.index.changed(), self.registry.changed());
        let mut stood: Option<Instant> = None;
        loop {
            if stood.is_none_or(|at| at.elapsed() >= RENEW) {
                stood = Some(Instant::now());
                let result = self.election.stand().await;
                self.judge("the lease doorward-status", result.err());
            }
            self.metrics.leads.set(self.election.leads().into());
            self.metrics.kubernetes_silence.set(self.index.silence().as_secs_f64());
            let own = self.registry.summary();
            let result = self.replicas.tell(&own).await;
            self.judge("the lease of this replica", result.err());
            let more = self.election.leads() && self.pass(own).await;
            // Other replicas' proxies answer too; nothing wakes us for those.
            let wait = if more { TOGETHER } else { RENEW };
            tokio::select! {
                () = clock::ended(&mut shutdown) => break,
                () = tokio::time::sleep(wait) => {}
                changed = self.status.changed() => if changed.is_err() { break },
                _ = objects.changed() => {}
                _ = proxies.changed() => {}
            }
            tokio::time::sleep(TOGETHER).await;
            objects.mark_unchanged();
            proxies.mark_unchanged();
        }
        self.replicas.leave().await;
        self.election.leave().await;
    }

    /// Writes what differs, up to a bound. Whether there is more.
    async fn pass(&mut self, mut proxies: crate::push::Proxies) -> bool {
        match self.replicas.others().await {
            Ok(others) => proxies.add(others),
            Err(error) => {
                self.judge("the leases of other replicas", Some(error));
                return false;
            }
        }
        let mut pending = self.pending(&proxies);
        pending.sort_by_key(|pending| !pending.news);
        let more = pending.len() > BATCH;
        let mut writes = JoinSet::new();
        let mut problem = None;
        let mut done = Vec::new();
        for next in pending.into_iter().take(BATCH) {
            if writes.len() >= AT_A_TIME
                && let Some(Ok(result)) = writes.join_next().await
            {
                done.push(result);
            }
            writes.spawn(write(self.client.clone(), next));
        }
        while let Some(result) = writes.join_next().await {
            if let Ok(result) = result {
                done.push(result);
            }
        }
        for (pending, result) in done {
            match result {
                Ok(version) => {
                    self.announce(&pending).await;
                    self.metrics.statuses.inc();
                    self.written.insert(pending.object.key.clone(), (version, pending.status));
                }
                // It was deleted meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => problem = Some(error),
            }
        }
        self.judge("the status of a document", problem);
        more
    }

    /// Every document whose status is not what it should be.
    fn pending(&mut self, proxies: &crate::push::Proxies) -> Vec<Pending> {
        if let Some(newest) = self.policy.borrow().as_ref() {
            self.published.insert(newest.epoch, hex(&newest.digest));
        }
        while self.published.len() > MAX_PUBLISHED {
            self.published.pop_first();
        }
        let now = Timestamp::now();
        let now = format!("{now:.0}");
        let status = self.status.borrow_and_update();
        let mut found: BTreeMap<(&str, &str), Vec<&Diagnostic>> = BTreeMap::new();
        for diagnostic in &status.diagnostics {
            found.entry((&diagnostic.kind, &diagnostic.name)).or_default().push(diagnostic);
        }
        let stopped = status.diagnostics.iter().find(|found| found.code == NOT_PUBLISHED);
        let stopped = stopped.map(|found| found.message.as_str());
        let held = status.diagnostics.iter().filter(|found| found.code == NAMESPACE_HELD);
        let held: HashMap<&str, &str> = held.map(|found| (namespace(&found.name), found.message.as_str())).collect();
        let judged: HashMap<&str, _> =
            status.documents.iter().map(|document| (document.file.as_str(), document)).collect();
        let objects = self.index.objects();
        let there: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
        self.written.retain(|key, _| there.contains(key));
        let mut pending = Vec::new();
        for object in &objects {
            // What came since the last compilation is judged by the next one.
            let Some(document) = judged.get(object.key.origin().as_str()) else { continue };
            if document.generation != object.generation {
                continue;
            }
            let before = match self.written.get(&object.key) {
                Some((version, status)) if *version > object.version => status,
                _ => &object.status,
            };
            let own = namespace(&document.name);
            let stopped = stopped.or_else(|| held.get(own).copied());
            let about = found.get(&(document.kind.as_str(), document.name.as_str()));
            let wanted =
                wanted(object.key.kind, document, about.map_or(&[], Vec::as_slice), stopped, proxies, &self.published);
            if let Some(status) = wanted.over(before, &now) {
                let accepted =
                    before.pointer("/conditions/0/status").and_then(Value::as_str).map(|status| status == "True");
                let news = wanted.is_news(before);
                pending.push(Pending { object: Arc::clone(object), wanted, status, news, accepted });
            }
        }
        pending
    }

    /// An event where a document begins or ceases to be accepted.
    async fn announce(&self, pending: &Pending) {
        let Some((accepted, reason, message)) = pending.wanted.verdict() else { return };
        if pending.accepted.unwrap_or(true) == accepted {
            return;
        }
        let event = Event {
            type_: if accepted { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(message.chars().take(1000).collect()),
            action: "Compile".to_owned(),
            secondary: None,
        };
        let Object { key, uid, .. } = &*pending.object;
        let about = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(key.kind.as_str().to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(error = told(&error), "an event could not be written");
        }
    }

    /// Says once what is in the way, and once that it no longer is.
    fn judge(&mut self, what: &str, error: Option<kube::Error>) {
        let Some(error) = error else {
            if self.said.remove(what) {
                tracing::info!("{what} is written again");
            }
            return;
        };
        self.metrics.status_failures.inc();
        if self.said.insert(what.to_owned()) {
            let hint = match &error {
                kube::Error::Api(status) if status.code == 403 => "; apply deploy/kubernetes/control-plane-rbac.yaml",
                _ => "",
            };
            tracing::warn!(error = told(&error), "{what} cannot be written; policy is pushed all the same{hint}");
        }
    }
}

/// A status that is to be written.
struct Pending {
    object: Arc<Object>,
    wanted: Wanted,
    status: Value,
    news: bool,
    /// What the status before it said.
    accepted: Option<bool>,
}

/// Applies it. The version of the object since then.
async fn write(client: Client, pending: Pending) -> (Pending, kube::Result<u64>) {
    let Key { kind, namespace, name } = &pending.object.key;
    let patch = json!({
        "apiVersion": API_VERSION, "kind": kind.as_str(), "metadata": {"name": name, "namespace": namespace},
        "status": pending.status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let result = api(client, *kind, namespace).patch_status(name, &params, &Patch::Apply(&patch)).await;
    let version = |object: super::item::Item| {
        object.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0)
    };
    (pending, result.map(version))
}
