//! A real Kubernetes API server as the source of policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod namespaces;
mod replicas;
mod scale;
mod secrets;
mod status;
mod webhook;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use cluster::{Cluster, SOON, root};
use common::Proxy;
use doorward_proto::v1::{Bundle, GetPolicyStatusRequest, PolicyUpdate};
use doorward_test_support::wait;
use prost::Message as _;

/// So long it may take until a proxy has what `kubectl` has applied, on a machine that does nothing else.
const AT_ONCE: Duration = Duration::from_secs(1);

const SERVICE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: { name: shop }\nspec:\n  dialect: \
    datasette\n  match: [{ path: /shop }]\n  components:\n    shop/orders: { key: [id], fields: { id: integer, region: \
    string } }\n";
const ROLE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: ai-x }\nspec:\n  grants: [{ \
    service: shop, components: [shop/orders], verbs: [GET], fields: { read: [id] }, rows: \"region = 'west'\" }]\n";
const RESTRICTION: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: cut }\nspec: { \
    subjects: [{ user: bob }], effect: deny, services: [shop] }\n";

fn bundle(update: &PolicyUpdate) -> Bundle {
    Bundle::decode(update.payload.as_slice()).unwrap()
}

/// The next policy for which this holds.
async fn until(proxy: &mut Proxy, limit: Duration, holds: impl Fn(&Bundle) -> bool) -> Bundle {
    let started = Instant::now();
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let (update, envelope) = proxy.policy(left).await.expect("no such policy came in time");
        proxy.answer(&update.nonce, &envelope, doorward_proto::v1::Outcome::Accepted, "").await;
        let bundle = bundle(&update);
        if holds(&bundle) {
            return bundle;
        }
    }
}

#[test]
fn without_a_configuration_it_is_said_what_to_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["validate", "kubernetes:shop"]).env("KUBECONFIG", "/nowhere/config").env("HOME", "/nowhere");
    let output = command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("no Kubernetes API server") && error.contains("KUBECONFIG"),
        "{error}"
    );
}

#[test]
fn the_definitions_are_taken_and_keep_what_was_written() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install();
    let conditions = cluster.run(&["get", "crd", "-o", "jsonpath={.items[*].status.conditions[*].type}"], "");
    assert!(!conditions.contains("NonStructural") && conditions.contains("Established"), "{conditions}");
    // What the examples hold, an API server takes, if each document says its `apiVersion`.
    let examples = root().join("examples/policy-repository/policies");
    for file in std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = |document: &str| {
            let missing = if document.contains("apiVersion:") { "" } else { "apiVersion: doorward.dev/v1alpha1\n" };
            format!("{missing}{document}")
        };
        let documents: Vec<String> = text.split("---\n").map(whole).collect();
        cluster.run(&["apply", "-n", "other", "--dry-run=server", "-f", "-"], &documents.join("---\n"));
    }
    cluster.apply("shop", &[SERVICE, ROLE, RESTRICTION].join("---\n"));
    // A misspelt field is neither dropped nor taken for something else: the compiler refuses it.
    let misspelt = ROLE.replace("name: ai-x", "name: misspelt").replace("rows:", "row:");
    cluster.apply("shop", &misspelt);
    let kept = cluster.run(&["get", "arole", "misspelt", "-n", "shop", "-o", "jsonpath={.spec.grants[0].row}"], "");
    assert_eq!(kept, "region = 'west'");
    let (code, text) = cluster.doorward(&["validate", "kubernetes:shop"]);
    assert!(code == 1 && text.contains("AccessRole/shop/misspelt") && text.contains("\"row\""), "{text}");
    cluster.run(&["delete", "arole", "misspelt", "-n", "shop"], "");
    let (code, text) = cluster.doorward(&["validate", "kubernetes:shop"]);
    assert!(code == 0 && text.contains("3 documents"), "{text}");
    let listed = cluster.run(&["get", "doorward", "-n", "shop"], "");
    for shown in ["dataservice.doorward.dev/shop", "accessrole.doorward.dev/ai-x", "datasette", "/shop", "deny"] {
        assert!(listed.contains(shown), "{shown}: {listed}");
    }
    // What the type says is refused at once.
    let wrong =
        cluster.kubectl(&["apply", "-n", "shop", "-f", "-"], &RESTRICTION.replace("effect: deny", "effect: denyy"));
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && error.contains("denyy") && error.contains("revokeTokens"), "{error}");
    // It may read here, and nowhere else.
    let (code, text) = cluster.doorward(&["validate", "kubernetes:other"]);
    assert!(code == 1 && text.contains("we may not list and watch"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_reach_a_proxy_at_once_and_stay_in_force_while_the_api_server_is_away() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.install();
    let dir = tempfile::tempdir().unwrap();
    let server = cluster.serve(dir.path());
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    cluster.apply("shop", &[SERVICE, ROLE].join("---\n"));
    until(&mut proxy, SOON, |bundle| bundle.roles.len() == 1 && bundle.services.len() == 1).await;
    let (mut quickest, mut cut) = (SOON, Bundle::default());
    for round in 0..4 {
        if round > 0 {
            cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
            until(&mut proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
        }
        cluster.apply("shop", RESTRICTION);
        let started = Instant::now();
        cut = until(&mut proxy, SOON, |bundle| bundle.restrictions.len() == 1).await;
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest < AT_ONCE, "{quickest:?}");
    // Another namespace has no say.
    cluster.apply("other", &ROLE.replace("ai-x", "ai-other"));
    // A document that does not compile stays at its last good version.
    cluster.apply("shop", &ROLE.replace("rows:", "row:"));
    wait("the misspelt role to be held", SOON, || {
        let (code, text) = cluster.doorward(&["proxies", "--server", &format!("http://127.0.0.1:{}", server.grpc)]);
        (code == 0 && text.contains("row")).then_some(())
    });
    let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap().into_inner();
    let held = status.documents.iter().find(|document| document.name == "ai-x").unwrap();
    assert!(held.last_good && held.file == "AccessRole/shop/ai-x", "{held:?}");
    assert!(!status.documents.iter().any(|document| document.name == "ai-other"));
    let mut other = Proxy::connect(&server, "envoy-2", Vec::new(), 0).await;
    assert_eq!(until(&mut other, SOON, |_| true).await, cut);

    cluster.api.kill().unwrap();
    cluster.api.wait().unwrap();
    let mut third = Proxy::connect(&server, "envoy-3", Vec::new(), 0).await;
    assert_eq!(until(&mut third, SOON, |_| true).await, cut, "the policy stays");
    server.kill();
    // Also over a restart, which finds nobody to ask.
    let server = cluster.serve(dir.path());
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    assert_eq!(until(&mut proxy, SOON, |_| true).await, cut);
    cluster.api = Cluster::api(&cluster.tools, cluster.dir.path(), cluster.port, cluster.etcd_port);
    cluster.is_ready();
    cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
    let after = until(&mut proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
    assert!(after.roles[0].grants[0].rows.is_some(), "the misspelt role is still at its last good version");
}
