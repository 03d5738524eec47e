//! Policy push, seen from a proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Proxy, Server, role};
use doorward_proto::v1::{GetPolicyStatusRequest, ListProxiesRequest, Outcome};
use doorward_test_support::wait_async;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_edit_reaches_a_proxy_within_a_second_and_its_answer_is_known() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    std::fs::write(dir.path().join("policies/a.yaml"), role("a", "first")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (update, first) = proxy.policy(SOON).await.unwrap();
    assert!(first.epoch > 0);
    proxy.answer(&update.nonce, &first, Outcome::Accepted, "").await;

    let edited = Instant::now();
    server.write("b.yaml", &role("b", "second"));
    let (update, second) = proxy.policy(SOON).await.unwrap();
    assert!(edited.elapsed() < Duration::from_secs(1), "{:?}", edited.elapsed());
    assert!(second.epoch > first.epoch);
    assert_ne!(first.digest, second.digest);
    proxy.answer(&update.nonce, &second, Outcome::Rejected, "malformed").await;
    let list = wait_async("the rejection to be listed", SOON, async || {
        let list = server.admin().await.list_proxies(ListProxiesRequest::default()).await.unwrap().into_inner();
        list.proxies[0].last_rejection.is_some().then_some(list)
    })
    .await;
    let status = &list.proxies[0];
    assert_eq!((list.current_epoch, list.current_digest), (second.epoch, second.digest));
    assert!(status.connected && status.last_rejection.as_ref().is_some_and(|r| r.code == "malformed"));
    assert!(server.get("/readyz").contains("200 OK"));
    assert!(server.get("/metrics").contains(&format!("doorward_policy_epoch {}", second.epoch)));
}

#[tokio::test]
async fn a_broken_document_keeps_its_last_good_version_and_takes_no_other_down() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    server.write("a.yaml", &(role("a", "x") + "---\n" + &role("b", "x")));
    let both = loop {
        let (update, envelope) = proxy.policy(SOON).await.unwrap();
        if String::from_utf8_lossy(&update.payload).contains('b') {
            break envelope;
        }
    };
    // Broken YAML in one, and a new document beside it.
    server.write(
        "a.yaml",
        &(role("a", "x")
            + "---\napiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: b }\nspec: { grants: [ }\n"),
    );
    wait_async("the broken file to be read", SOON, async || {
        let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap();
        status.into_inner().diagnostics.iter().any(|found| found.severity == "error").then_some(())
    })
    .await;
    server.write("c.yaml", &role("zebra", "x"));
    let (update, next) = proxy.policy(SOON).await.unwrap();
    assert!(next.epoch > both.epoch);
    let bundle = <doorward_proto::v1::Bundle as prost::Message>::decode(update.payload.as_slice()).unwrap();
    assert_eq!(bundle.roles.len(), 3, "a, the last good b, and zebra");
    let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap().into_inner();
    let held = status.documents.iter().find(|d| d.name == "b").unwrap();
    assert!(held.last_good && !held.accepted);
    assert!(status.diagnostics.iter().any(|d| d.severity == "error" && d.line >= 7), "{:?}", status.diagnostics);
    // And over a restart.
    server.kill();
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (update, restored) = proxy.policy(SOON).await.unwrap();
    assert_eq!((restored.epoch, restored.digest), (next.epoch, next.digest));
    assert_eq!(
        <doorward_proto::v1::Bundle as prost::Message>::decode(update.payload.as_slice()).unwrap().roles.len(),
        3
    );
}

#[tokio::test]
async fn a_restart_serves_the_last_bundle_at_once_and_an_emptied_directory_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    server.write("a.yaml", &role("a", "x"));
    let (_, held) = loop {
        let next = proxy.policy(SOON).await.unwrap();
        if String::from_utf8_lossy(&next.0.payload).contains('a') && next.0.payload.len() > 20 {
            break next;
        }
    };
    server.kill();
    std::fs::remove_file(dir.path().join("policies/a.yaml")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    // It holds the newest already: a heartbeat, and nothing for as long as the directory is empty.
    let mut proxy = Proxy::connect(&server, "node", held.digest.clone(), held.epoch).await;
    let (update, _) = proxy.next(SOON).await.unwrap();
    assert!(update.heartbeat);
    assert!(proxy.policy(Duration::from_secs(2)).await.is_none());
    let status = server.admin().await.get_policy_status(GetPolicyStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(status.digest, held.digest);
    assert!(status.diagnostics.iter().any(|d| d.message.contains("--allow-empty")), "{:?}", status.diagnostics);
    drop(server);
    let server = Server::start(dir.path(), &["--allow-empty"], None);
    let mut proxy = Proxy::connect(&server, "node", held.digest, held.epoch).await;
    assert!(proxy.policy(SOON).await.unwrap().1.epoch > held.epoch);
}

#[tokio::test]
async fn a_wrong_scope_or_a_foreign_nonce_ends_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, envelope) = proxy.policy(SOON).await.unwrap();
    proxy.answer("77-1", &envelope, Outcome::Accepted, "").await;
    use tokio_stream::StreamExt as _;
    let ended = tokio::time::timeout(SOON, async {
        loop {
            match proxy.updates.next().await {
                Some(Ok(_)) => {}
                other => break other,
            }
        }
    });
    assert!(matches!(ended.await.unwrap(), Some(Err(status)) if status.code() == tonic::Code::InvalidArgument));
}

#[tokio::test]
async fn what_the_last_process_pushed_and_could_not_store_is_taken_back_with_the_documents() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let stored = loop {
        let (update, envelope) = proxy.policy(SOON).await.unwrap();
        if !update.payload.is_empty() && envelope.epoch > 0 && String::from_utf8_lossy(&update.payload).contains('a') {
            break envelope;
        }
    };
    server.kill();
    // A later policy was pushed, no disk has it, and the documents are again what they were.
    let held = stored.epoch + 7;
    let server = Server::start(dir.path(), &[], None);
    let mut proxy = Proxy::connect(&server, "node", vec![7; 32], held).await;
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < SOON, "the proxy would keep what it holds for half of a bundle's life");
        let (_, next) = proxy.policy(SOON).await.expect("a policy that is newer than what the proxy holds");
        assert_eq!(next.digest, stored.digest);
        if next.epoch > held {
            break;
        }
    }
    // Whatever proxies say, this is done once.
    let mut proxy = Proxy::connect(&server, "other", vec![7; 32], u64::MAX).await;
    assert!(proxy.policy(SOON).await.is_some());
    assert!(proxy.policy(Duration::from_secs(3)).await.is_none());
}

#[tokio::test]
async fn an_old_policy_does_not_take_the_place_of_a_newer_one_while_the_documents_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "node", Vec::new(), 0).await;
    let (_, mut stored) = proxy.policy(SOON).await.unwrap();
    while let Some((_, next)) = proxy.policy(Duration::from_secs(1)).await {
        stored = next;
    }
    server.kill();
    // Nothing is published with a document of an unknown kind.
    std::fs::write(dir.path().join("policies/b.yaml"), role("b", "x").replace("AccessRole", "Unknown")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    let held = stored.epoch + 7;
    let mut proxy = Proxy::connect(&server, "node", vec![7; 32], held).await;
    while let Some((_, next)) = proxy.policy(Duration::from_secs(3)).await {
        assert!(next.epoch < held, "it may have been a revocation");
    }
}

#[tokio::test]
async fn a_line_of_the_log_says_of_which_compilation_or_stream_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let server = Server::start_logging(dir.path(), &log);
    server.write("a.yaml", &role("a", "x"));
    let mut proxy = Proxy::connect(&server, "envoy-7", Vec::new(), 0).await;
    proxy.policy(SOON).await.unwrap();
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    for (message, span, field, value) in [
        ("documents compiled", "compilation", "scope", "default"),
        ("proxy connected", "policy_stream", "scope", "default"),
        ("proxy connected", "policy_stream", "node", "envoy-7"),
    ] {
        wait_async(message, SOON, async || {
            let said = lines().into_iter().find(|line| line["message"] == message)?;
            (said["span"]["name"] == span && said["span"][field] == value).then_some(())
        })
        .await;
    }
}
