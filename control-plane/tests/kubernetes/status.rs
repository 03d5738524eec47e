//! What `kubectl` tells of a document is what proxies enforce.

use std::time::Duration;

use doorward_proto::v1::Outcome;
use doorward_test_support::wait;

use crate::{
    RESTRICTION, ROLE, SERVICE, bundle,
    cluster::{Cluster, SOON},
    common::Proxy,
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_a_document_follows_what_proxies_answer() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_whole();
    let dir = tempfile::tempdir().unwrap();
    let server = cluster.replica(dir.path(), "doorward-0", "shop", &[]);
    cluster.apply("shop", &[SERVICE, ROLE].join("---\n"));
    let status = cluster.condition("accessrole", "shop", "ai-x", "Programmed", "False", "Reconciling");
    assert!(status["conditions"][1]["message"].as_str().unwrap().contains("No proxy is connected"), "{status}");
    cluster.condition("accessrole", "shop", "ai-x", "Accepted", "True", "Accepted");

    let mut one = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    until(&mut one, SOON, |bundle| bundle.roles.len() == 1).await;
    let status = cluster.condition("accessrole", "shop", "ai-x", "Programmed", "True", "Programmed");
    assert_eq!((&status["proxies"], &status["total"]), (&"1/1".into(), &1.into()));

    // A second proxy refuses what comes next; the first takes it.
    let mut two = Proxy::connect(&server, "envoy-2", Vec::new(), 0).await;
    let (update, held) = two.policy(SOON).await.unwrap();
    assert_eq!(bundle(&update).roles.len(), 1);
    two.answer(&update.nonce, &held, Outcome::Accepted, "").await;
    cluster.apply("shop", RESTRICTION);
    until(&mut one, SOON, |bundle| bundle.restrictions.len() == 1).await;
    let (update, _) = two.policy(SOON).await.unwrap();
    assert_eq!(bundle(&update).restrictions.len(), 1);
    // It keeps what it has.
    two.answer(&update.nonce, &held, Outcome::Rejected, "malformed").await;
    let status = cluster.condition("accessrestriction", "shop", "cut", "Programmed", "False", "PartiallyProgrammed");
    let message = status["conditions"][1]["message"].as_str().unwrap();
    assert!(message.contains("1 of 2") && message.contains("envoy-2") && message.contains("malformed"), "{message}");
    // Both enforce the role all the same.
    let role = cluster.condition("accessrole", "shop", "ai-x", "Programmed", "True", "Programmed");
    assert_eq!(role["proxies"], "2/2");

    // One that does not compile: its last good version stays, and nobody says that what is written is enforced.
    cluster.apply("shop", &ROLE.replace("rows:", "row:"));
    let status = cluster.condition("accessrole", "shop", "ai-x", "Accepted", "False", "Invalid");
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("unknown field \"row\"") && message.contains("last good version"), "{message}");
    cluster.condition("accessrole", "shop", "ai-x", "Programmed", "False", "Reconciling");
    wait("an event", SOON, || {
        let events = cluster.run(&["get", "events", "-n", "shop", "-o", "wide"], "");
        (events.contains("Invalid") && events.contains("accessrole/ai-x")).then_some(())
    });
    cluster.apply("shop", &ROLE.replace("service: shop", "service: shopp").replace("ai-x", "ai-lost"));
    cluster.condition("accessrole", "shop", "ai-lost", "Accepted", "False", "RefNotFound");
    let (code, said) = cluster.doorward_as("plane", &["validate", "kubernetes:shop"]);
    let told = cluster.object("accessrole", "shop", "ai-lost")["status"]["conditions"][0]["message"].clone();
    assert!(code == 1 && said.contains(told.as_str().unwrap()), "the same words: {told} {said}");
    let listed = cluster.run(&["get", "accessroles", "-n", "shop"], "");
    assert!(
        ["ACCEPTED", "PROGRAMMED", "PROXIES", "GRANTS", "False"].iter().all(|word| listed.contains(word)),
        "{listed}"
    );

    // Corrected, and taken by both.
    cluster.run(&["delete", "accessrole", "ai-lost", "-n", "shop"], "");
    cluster.apply("shop", &ROLE.replace("region = 'west'", "region = 'east'"));
    let east = |bundle: &doorward_proto::v1::Bundle| bundle.strings.iter().any(|text| text == "east");
    until(&mut one, SOON, east).await;
    until(&mut two, SOON, east).await;
    cluster.condition("accessrole", "shop", "ai-x", "Programmed", "True", "Programmed");
    cluster.condition("accessrestriction", "shop", "cut", "Programmed", "True", "Programmed");

    // Nothing is written while nothing changes.
    let version = || cluster.object("accessrole", "shop", "ai-x")["metadata"]["resourceVersion"].clone();
    let before = version();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(version(), before);
    drop(one);
    wait("the number of proxies to fall", SOON, || {
        (cluster.object("accessrole", "shop", "ai-x")["status"]["proxies"] == "1/1").then_some(())
    });
}
