//! Ten thousand documents. Slow: `make test-kubernetes-scale` runs it, and docs/performance.md has its figures.

use std::time::{Duration, Instant};

use doorward_policy_compiler::document::Kind;
use doorward_test_support::wait;
use serde_json::json;

use crate::{
    RESTRICTION, ROLE, SERVICE,
    cluster::{Cluster, SOON},
    common::{Proxy, free_port},
    until,
};

const ROLES: usize = 2_000;
const BINDINGS: usize = 7_998;

/// Resident memory of a process in bytes.
fn memory(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// All roles and bindings, as quickly as the API server takes them; kubectl creates one after the other.
async fn fill(cluster: &Cluster) {
    let role = |at: usize| {
        let grant = json!({"service": "shop", "components": ["shop/orders"], "verbs": ["GET"], "fields": {"read": ["id"]}, "rows": "region = 'west'"});
        (Kind::AccessRole, format!("ai-{at:05}"), json!({"grants": [grant]}))
    };
    let binding = |at: usize| {
        let spec =
            json!({"role": format!("ai-{:05}", at % ROLES), "subjects": [{"user": format!("user{at}@example.com")}]});
        (Kind::AccessBinding, format!("b-{at:05}"), spec)
    };
    let config = kube::config::Kubeconfig::read_from(cluster.config("admin")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for (kind, name, spec) in (0..ROLES).map(role).chain((0..BINDINGS).map(binding)) {
        if writes.len() >= 32 {
            writes.join_next().await.unwrap().unwrap();
        }
        let resource = doorward::kubernetes::watch::resource(kind);
        let api: kube::Api<kube::core::DynamicObject> = kube::Api::namespaced_with(client.clone(), "shop", &resource);
        writes.spawn(async move {
            let object = json!({"apiVersion": "doorward.dev/v1alpha1", "kind": kind.as_str(), "metadata": {"name": name}, "spec": spec});
            api.create(&kube::api::PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        });
    }
    writes.join_all().await;
}

#[ignore = "minutes; make test-kubernetes-scale"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_documents_are_served_judged_and_told_of() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_whole();
    let service = SERVICE.replace("path: /shop", "path: /shop, hosts: [shop.example.com]");
    cluster.apply("shop", &service);
    let started = Instant::now();
    fill(&cluster).await;
    println!("created in {:?}", started.elapsed());

    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let started = Instant::now();
    let server = cluster.replica(dir.path(), "doorward-0", "*", &["--webhook-listen", &format!("127.0.0.1:{port}")]);
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    until(&mut proxy, Duration::from_secs(120), |bundle| bundle.bindings.len() == BINDINGS).await;
    println!("a proxy has all of it after {:?}, with {} MB", started.elapsed(), memory(server.child.id()) >> 20);
    // One more document to a proxy.
    let mut quickest = SOON;
    for round in 0..4 {
        if round > 0 {
            cluster.run(&["delete", "accessrestriction", "cut", "-n", "shop"], "");
            until(&mut proxy, SOON, |bundle| bundle.restrictions.is_empty()).await;
        }
        cluster.apply("shop", RESTRICTION);
        let applied = Instant::now();
        until(&mut proxy, SOON, |bundle| bundle.restrictions.len() == 1).await;
        quickest = quickest.min(applied.elapsed());
    }
    println!("one more document reaches a proxy after {quickest:?}");
    let began = Instant::now();
    wait("the status of all documents", Duration::from_secs(300), || {
        let text = cluster.run(
            &["get", "accessbindings", "-n", "shop", "--chunk-size=0", "-o", "jsonpath={.items[*].status.proxies}"],
            "",
        );
        std::thread::sleep(Duration::from_secs(1));
        (text.split_whitespace().filter(|proxies| *proxies == "1/1").count() == BINDINGS).then_some(())
    });
    println!("every status is written {:?} later, with {} MB", began.elapsed(), memory(server.child.id()) >> 20);
    // The webhook beside them.
    cluster.install_webhook(port);
    wait("the webhook to answer", SOON, || {
        let new = ROLE.replace("ai-x", "ai-first");
        cluster.kubectl(&["create", "-n", "shop", "--dry-run=server", "-f", "-"], &new).status.success().then_some(())
    });
    for text in [
        ROLE.replace("region = 'west'", "region = 'east'").replace("ai-x", "ai-00007"),
        ROLE.replace("ai-x", "ai-new"),
        service.replace("region: string", "region: string, more: string"),
        "apiVersion: doorward.dev/v1alpha1\nkind: AccessBinding\nmetadata: { name: new }\nspec: { role: ai-00001, subjects: [{ user: \
         a }] }\n"
            .to_owned(),
    ] {
        for _ in 0..5 {
            cluster.run(&["apply", "-n", "shop", "--dry-run=server", "-f", "-"], &text);
        }
    }
    let metrics = server.get("/metrics");
    let bucket = |le: &str| {
        let line = format!("doorward_webhook_review_seconds_bucket{{le=\"{le}\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&line)).unwrap().trim().parse::<u64>().unwrap()
    };
    let sum = metrics.lines().find_map(|line| line.strip_prefix("doorward_webhook_review_seconds_sum ")).unwrap();
    println!("{} reviews in {sum} s, {} within 100 ms", bucket("+Inf"), bucket("0.1"));
    if !cfg!(debug_assertions) {
        assert_eq!(bucket("0.1"), bucket("+Inf"), "every review within 100 ms");
    }
    println!("at the end {} MB", memory(server.child.id()) >> 20);
}
