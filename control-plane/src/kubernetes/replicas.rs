//! What the proxies of every replica enforce: each tells it in a Lease of its own, so that the one that writes status knows of
//! all.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde_json::json;

use crate::push::Proxies;

/// By this label the leases of replicas are found.
const LABEL: &str = "doorward.dev/replica";
/// Holds what the proxies of a replica enforce.
const ANNOTATION: &str = "doorward.dev/proxies";
const PREFIX: &str = "doorward-replica-";
/// A replica says this often that it is there, also if nothing has changed.
const RENEW: Duration = Duration::from_secs(5);
/// One that has said nothing for so long is gone, and its proxies are elsewhere.
const GONE: Duration = Duration::from_secs(20);
/// Then nobody needs its lease any more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The replicas, as one of them sees them.
pub struct Replicas {
    api: Api<Lease>,
    me: String,
    /// What was told last, and when.
    told: Option<(Proxies, Instant)>,
    /// When the lease of each other replica was last seen to change.
    seen: BTreeMap<String, (Option<MicroTime>, Instant)>,
}

impl Replicas {
    /// `me` is told from all other replicas by it.
    pub fn new(api: Api<Lease>, me: &str) -> Self {
        Self { api, me: format!("{PREFIX}{me}"), told: None, seen: BTreeMap::new() }
    }

    /// Tells the others what the proxies of this replica enforce, if that is new or it is time.
    ///
    /// # Errors
    /// The API server does not answer, or does not permit it.
    pub async fn tell(&mut self, proxies: &Proxies) -> kube::Result<()> {
        if self.told.as_ref().is_some_and(|(told, at)| told == proxies && at.elapsed() < RENEW) {
            return Ok(());
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": self.me, "labels": {LABEL: "true"},
                "annotations": {ANNOTATION: serde_json::to_string(proxies).unwrap_or_default()},
            },
            "spec": {
                "holderIdentity": self.me, "leaseDurationSeconds": GONE.as_secs(), "renewTime": MicroTime(Timestamp::now()),
            },
        });
        let params = PatchParams::apply("doorward").force();
        self.api.patch(&self.me, &params, &Patch::Apply(&lease)).await?;
        self.told = Some((proxies.clone(), Instant::now()));
        Ok(())
    }

    /// The proxies of all other replicas.
    ///
    /// # Errors
    /// The API server does not answer, or does not permit it.
    pub async fn others(&mut self) -> kube::Result<Proxies> {
        let leases = self.api.list(&ListParams::default().labels(LABEL)).await?;
        let mut all = Proxies::default();
        let mut here = BTreeMap::new();
        for lease in leases {
            let name = lease.name_any();
            if name == self.me {
                continue;
            }
            let renewed = lease.spec.as_ref().and_then(|spec: &LeaseSpec| spec.renew_time.clone());
            // Seen for the first time, its clock is believed; from then on only that it changes.
            let age = renewed.as_ref().map_or(GONE, |at| since(at.0));
            let first = || Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            let changed = match self.seen.get(&name) {
                Some((known, at)) if *known == renewed => *at,
                Some(_) => Instant::now(),
                None => first(),
            };
            if changed.elapsed() < GONE {
                all.add(told(&lease.metadata));
            } else if changed.elapsed() > FORGOTTEN {
                // Whoever comes next tries again.
                let _ = self.api.delete(&name, &DeleteParams::default()).await;
                continue;
            }
            here.insert(name, (renewed, changed));
        }
        self.seen = here;
        Ok(all)
    }

    /// This replica is going, and its proxies with it.
    pub async fn leave(&self) {
        // It would be forgotten anyway.
        let _ = self.api.delete(&self.me, &DeleteParams::default()).await;
    }
}

fn since(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default()
}

/// What a replica told; nothing, if it is not understood.
fn told(metadata: &ObjectMeta) -> Proxies {
    let text = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
