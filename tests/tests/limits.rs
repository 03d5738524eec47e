//! What clients can make Envoy hold, with the limits of the template in force. Prints the figures of docs/operations.md:
//! `cargo test -p doorward-tests --test limits -- --nocapture`

use bytes::Bytes;
use doorward_test_support::{policy::access_key, wait_async};
use doorward_tests::{
    control::runtime,
    data::Shop,
    http,
    stack::{ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY, Stack, in_both_workers},
    upstream::{Answer, Upstream},
    wait,
};
use std::time::Duration;
use tokio::task::JoinSet;

const KEY: &str = "dwk_limits_0123456789abcdef0123456789abcdef";
const PATH: &str = "/crm/notes";
const POLICIES: &str = r"
kind: DataService
metadata: { name: crm }
spec:
  dialect: http
  match: [{ path: /crm }]
  components: { notes: { operations: [{ path: /notes, verbs: [GET, POST] }] } }
---
kind: AccessRole
metadata: { name: app-notes }
spec: { grants: [{ service: crm, components: [notes], verbs: [GET, POST], unchecked: true }] }
";
const MB: usize = 1_000_000;

/// Streams that wait for the last byte of their body. They are reset when this is dropped.
struct Held {
    streams: Vec<h2::SendStream<Bytes>>,
    answers: JoinSet<()>,
}

/// Opens as many streams as the connection lets through, up to `streams`, each with a body of 1 MB whose last byte does not
/// come.
async fn hold(port: u16, streams: usize) -> Held {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // No stream at all until Envoy's settings come: until then nothing is known of its limits.
    let (mut client, connection) =
        h2::client::Builder::new().initial_max_send_streams(0).handshake(socket).await.unwrap();
    tokio::spawn(connection);
    wait_async("Envoy's settings", Duration::from_secs(10), async || {
        (client.current_max_send_streams() > 0).then_some(())
    })
    .await;
    let mut held = Held { streams: Vec::new(), answers: JoinSet::new() };
    for _ in 0..streams {
        let Ok(Ok(ready)) = tokio::time::timeout(Duration::from_secs(1), client.ready()).await else { break };
        client = ready;
        let request = ::http::Request::builder()
            .method("POST")
            .uri(format!("http://localhost{PATH}"))
            .header("x-doorward-key", KEY)
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let Ok((response, mut send)) = client.send_request(request, false) else { break };
        let (tell, told) = tokio::sync::oneshot::channel();
        held.answers.spawn(async move {
            let mut left = MB - 1;
            let body = Bytes::from(vec![b' '; MB]);
            while left > 0 {
                send.reserve_capacity(left);
                match std::future::poll_fn(|context| send.poll_capacity(context)).await {
                    Some(Ok(granted)) => {
                        let part = granted.min(left);
                        if send.send_data(body.slice(..part), false).is_err() {
                            break;
                        }
                        left -= part;
                    }
                    _ => break,
                }
            }
            let whole = left == 0;
            let _ = tell.send(whole.then_some(send));
            let answer = response.await.map(|response| response.status());
            if !whole {
                println!("a stream ended early: {answer:?}");
            }
        });
        if let Ok(Ok(Some(send))) = tokio::time::timeout(Duration::from_secs(2), told).await {
            held.streams.push(send);
        } else {
            break;
        }
    }
    // What was sent last is still on its way, and what it costs is measured next: so nothing may come any more, which no
    // condition tells.
    tokio::time::sleep(Duration::from_secs(1)).await;
    held
}

#[test]
fn waiting_bodies_cost_no_more_than_the_templates_limits_say() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let key = access_key("tool", KEY, "app-notes", "");
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), &format!("{POLICIES}{key}"), "");
    let serves = |envoy: &Envoy| http::get(envoy.port, PATH).header("x-doorward-key", KEY).send().status == 200;
    for version in [ENVOY, OLDEST_ENVOY] {
        let start = |node: String, edit: &dyn Fn(String) -> String| {
            let options = EnvoyOptions { version, ..stack.control.options(&node, upstream.port) };
            let envoy = Envoy::start_edited(stack.folder.path(), &options, edit);
            in_both_workers("policy", Duration::from_secs(60), || serves(&envoy));
            envoy
        };

        let envoy = start(format!("streams-{version}"), &|config| config);
        let before = envoy.resident();
        let held = runtime().block_on(hold(envoy.port, 400));
        let added = envoy.resident().saturating_sub(before);
        println!(
            "Envoy {version}: at rest {} MB; 400 bodies of 1 MB on one connection: {} at once, {} MB more",
            before / MB,
            held.streams.len(),
            added / MB
        );
        assert_eq!(held.streams.len(), 100, "max_concurrent_streams");
        assert!(added < 180 * MB, "{added}");
        assert!(serves(&envoy), "another client");
        drop(held);

        // Many connections meet the limit of the heap: the largest streams are reset, and Envoy goes on.
        let small =
            |config: String| config.replace("max_heap_size_bytes: 1073741824", "max_heap_size_bytes: 314572800");
        let envoy = start(format!("heap-{version}"), &small);
        let before = envoy.resident();
        let mut all = Vec::new();
        let mut most = 0;
        for _ in 0..8 {
            all.push(runtime().block_on(hold(envoy.port, 100)));
            most = most.max(envoy.resident());
        }
        let resets = envoy.stat("envoy.reset_high_memory_stream.count");
        println!(
            "Envoy {version}: max_heap_size_bytes 300 MiB, 8 connections of 100 bodies: {} MB more at most",
            most.saturating_sub(before) / MB
        );
        assert!(most.saturating_sub(before) < 420 * MB, "{most} {resets:?}");
        drop(all);
        wait("it serves again", Duration::from_secs(30), || serves(&envoy).then_some(()));
    }
}
