//! Rules on the way to the control plane, on this Envoy, and on how it is doing.

use std::collections::BTreeSet;

use doorward_filter::config::Bodies;

use super::super::{
    dump::{
        Version,
        cluster::{Cluster, Verification},
    },
    finding::{Guard, Live, Spot, Subject},
};

/// The names of the clusters by which filters reach their control plane.
fn names<'a>(subject: &'a Subject<'_>) -> BTreeSet<&'a str> {
    subject.guards.iter().filter_map(Guard::config).map(|config| config.control_plane.cluster.as_str()).collect()
}

fn clusters(subject: &Subject<'_>, detail: impl Fn(&Cluster) -> Option<String>) -> Vec<Spot> {
    let there = names(subject).into_iter().filter_map(|name| subject.dump.clusters.get(name));
    there.filter_map(|cluster| Some(Spot::cluster(cluster.name.clone(), detail(cluster)?))).collect()
}

/// The cluster is not there.
pub fn absent(subject: &Subject<'_>) -> Vec<Spot> {
    let absent = names(subject).into_iter().filter(|name| !subject.dump.clusters.contains_key(*name));
    absent.map(|name| Spot::cluster(name, "")).collect()
}

/// No gRPC without HTTP/2.
pub fn http1(subject: &Subject<'_>) -> Vec<Spot> {
    clusters(subject, |cluster| (!cluster.http2).then(String::new))
}

/// Records leave this machine in the clear.
pub fn plain(subject: &Subject<'_>) -> Vec<Spot> {
    clusters(subject, |cluster| {
        let plain = cluster.tls.is_none() && !cluster.is_local();
        plain.then(|| match &cluster.endpoints {
            None => "The dump does not tell its endpoints; take it with ?include_eds.".to_owned(),
            Some(hosts) if hosts.is_empty() => "It has no endpoints.".to_owned(),
            Some(_) => String::new(),
        })
    })
}

/// Anybody may answer in the place of the control plane.
pub fn unverified(subject: &Subject<'_>) -> Vec<Spot> {
    clusters(subject, |cluster| (cluster.tls == Some(Verification::Nothing)).then(String::new))
}

/// Whoever has a certificate of the authority may.
pub fn any_name(subject: &Subject<'_>) -> Vec<Spot> {
    clusters(subject, |cluster| (cluster.tls == Some(Verification::Authority)).then(String::new))
}

/// Oldest and newest supported line, see docs/operations.md.
const SUPPORTED: [(u64, u64); 2] = [(1, 36), (1, 40)];
/// Of the oldest line the first patch with the fixes that docs/operations.md names.
const PATCH: Version = (1, 36, 10);

/// The line is not tested.
pub fn unsupported(subject: &Subject<'_>) -> Vec<Spot> {
    let Some((major, minor, patch)) = subject.dump.version else { return Vec::new() };
    let [oldest, newest] = SUPPORTED;
    let within = (oldest..=newest).contains(&(major, minor));
    if within { Vec::new() } else { vec![Spot::envoy(format!("It is {major}.{minor}.{patch}."))] }
}

/// The patch is old.
pub fn old_patch(subject: &Subject<'_>) -> Vec<Spot> {
    let Some(version @ (major, minor, patch)) = subject.dump.version else { return Vec::new() };
    let old = (major, minor) == (PATCH.0, PATCH.1) && version < PATCH;
    if old { vec![Spot::envoy(format!("It is {major}.{minor}.{patch}."))] } else { Vec::new() }
}

/// The newest configuration is not in force.
pub fn rejected(subject: &Subject<'_>) -> Vec<Spot> {
    subject.dump.rejected.iter().map(|what| Spot::envoy(format!("Rejected: {what}."))).collect()
}

/// What a running Envoy says.
fn live(subject: &Subject<'_>, detail: impl Fn(&Live) -> Option<String>) -> Vec<Spot> {
    subject.live.and_then(detail).map(Spot::envoy).into_iter().collect()
}

/// What a metric says, for each prefix that filters of this Envoy have.
fn metrics(subject: &Subject<'_>, detail: impl Fn(&Live, &str) -> Option<String>) -> Vec<Spot> {
    let Some(live) = subject.live else { return Vec::new() };
    let prefixes: BTreeSet<&str> =
        subject.guards.iter().filter_map(Guard::config).map(|config| config.metrics_prefix.as_str()).collect();
    prefixes.into_iter().filter_map(|prefix| detail(live, prefix)).map(Spot::envoy).collect()
}

fn counted(subject: &Subject<'_>, name: &str) -> Vec<Spot> {
    metrics(subject, |live, prefix| {
        let count = live.metric(prefix, name).filter(|count| *count > 0)?;
        Some(format!("{prefix}.{name} is {count}."))
    })
}

/// `/ready` is not 200.
pub fn not_ready(subject: &Subject<'_>) -> Vec<Spot> {
    live(subject, |live| (!live.ready).then(String::new))
}

/// No policy has come.
pub fn no_policy(subject: &Subject<'_>) -> Vec<Spot> {
    metrics(subject, |live, prefix| {
        live.metric(prefix, "policy.epoch")
            .is_none_or(|epoch| epoch == 0)
            .then(|| format!("{prefix}.policy.epoch is 0."))
    })
}

/// Changes of policy do not come.
pub fn disconnected(subject: &Subject<'_>) -> Vec<Spot> {
    metrics(subject, |live, prefix| {
        let up = live.metric(prefix, "stream.connected").is_some_and(|up| up > 0);
        (!up).then(|| format!("{prefix}.stream.connected is 0."))
    })
}

/// The policy has expired.
pub fn stale(subject: &Subject<'_>) -> Vec<Spot> {
    counted(subject, "policy.stale")
}

/// Records found no room.
pub fn records_lost(subject: &Subject<'_>) -> Vec<Spot> {
    counted(subject, "audit.lost")
}

/// Records wait for their acknowledgement.
pub fn records_wait(subject: &Subject<'_>) -> Vec<Spot> {
    let room = subject.guards.iter().filter_map(Guard::config).map(|config| u64::from(config.audit.max_records)).min();
    metrics(subject, |live, prefix| {
        let half = room?.saturating_mul(live.workers.max(1)) / 2;
        let waiting = live.metric(prefix, "audit.queue_records").filter(|waiting| *waiting > half)?;
        Some(format!("{prefix}.audit.queue_records is {waiting}."))
    })
}

/// Answers could not be filtered.
pub fn unfiltered(subject: &Subject<'_>) -> Vec<Spot> {
    counted(subject, "decisions.response_unverifiable")
}

/// Requests whose body would have to be read, where none is.
pub fn bodies_unread(subject: &Subject<'_>) -> Vec<Spot> {
    let unread = subject.guards.iter().filter_map(Guard::config).any(|config| config.bodies == Bodies::None);
    if unread { counted(subject, "decisions.unsupported") } else { Vec::new() }
}

/// Questions about tokens had no answer.
pub fn unanswered(subject: &Subject<'_>) -> Vec<Spot> {
    counted(subject, "questions.unanswered")
}

/// Virtual machines died.
pub fn crashed(subject: &Subject<'_>) -> Vec<Spot> {
    live(subject, |live| {
        let died = |name: &str| name.starts_with("wasm.") && name.ends_with(".vm_reload");
        let (name, count) = live.stats.iter().find(|(name, count)| died(name) && **count > 0)?;
        Some(format!("{name} is {count}."))
    })
}

/// A module did not come.
pub fn not_fetched(subject: &Subject<'_>) -> Vec<Spot> {
    live(subject, |live| {
        let count = live.stats.get("wasm.remote_load_fetch_failures").filter(|count| **count > 0)?;
        Some(format!("wasm.remote_load_fetch_failures is {count}."))
    })
}
