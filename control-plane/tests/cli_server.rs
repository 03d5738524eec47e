//! The commands that talk to a server, against the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Emitter, Proxy, Report, Server};
use doorward_proto::v1::Outcome;
use doorward_test_support::wait_async;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn doorward(server: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(args).args(["--server", server]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(server: &Server, args: &[&str]) -> (i32, String, String) {
    let mut command = doorward(&format!("http://127.0.0.1:{}", server.grpc), args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn proxies_shows_what_keeps_a_policy_from_being_published_and_its_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    // A directory that everybody may look into, as packages make it.
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    for file in ["policy.redb", "audit.redb", "policy-signing.key"] {
        let mode = std::fs::metadata(dir.path().join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
    server.write(
        "cut.yaml",
        "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: cut }\nspec: { subjcts: [] }\n",
    );
    let shown = wait_async("the mistake to be shown", SOON, async || {
        let shown = run(&server, &["proxies"]).await.1;
        shown.contains("AccessRestriction/cut").then_some(shown)
    })
    .await;
    assert!(shown.contains("cut.yaml:") && shown.contains("not_published"), "{shown}");
    let json: Value = serde_json::from_str(&run(&server, &["proxies", "--format", "json"]).await.1).unwrap();
    assert_eq!(json["diagnostics"][0]["severity"], "error");
}

struct Guard(Child);
impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn proxies_shows_what_a_proxy_rejected_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (code, out, _) = run(&server, &["proxies"]).await;
    assert!(code == 0 && out.contains("No proxy has connected yet."), "{out}");
    server.write("role.yaml", &common::role("r", "one"));
    let mut proxy = Proxy::connect(&server, "edge-1", Vec::new(), 0).await;
    let (update, envelope) = proxy.policy(Duration::from_secs(10)).await.unwrap();
    proxy.answer(&update.nonce, &envelope, Outcome::Rejected, "malformed").await;
    wait_async("the rejection to be shown", SOON, async || {
        let json: Value = serde_json::from_str(&run(&server, &["proxies", "--format", "json"]).await.1).unwrap();
        (json["proxies"][0]["lastRejection"]["code"] == "malformed").then_some(())
    })
    .await;
    let table = run(&server, &["proxies"]).await.1;
    assert!(table.contains("edge-1") && table.contains("malformed"), "{table}");
}

#[tokio::test]
async fn query_prints_records_in_three_forms_and_filters() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    assert_eq!(report.send(emitter.batch(5, 0)).await.sequence, 5);
    let (code, out, err) = run(&server, &["audit", "query", "--format", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    let records = json.as_array().unwrap();
    assert_eq!(records.len(), 5);
    assert_eq!(records[1]["previousHash"], records[0]["hash"]);
    assert_eq!(records[0]["hash"].as_str().unwrap().len(), 64);
    assert!(records[0]["received"].as_str().unwrap().ends_with('Z'));
    let (_, out, _) = run(&server, &["audit", "query", "--format", "jsonl", "--newest-first", "--limit", "2"]).await;
    let sequences: Vec<u64> =
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [5, 4]);
    let (_, out, _) = run(&server, &["audit", "query"]).await;
    assert!(out.starts_with("TIME") && out.lines().count() == 6, "{out}");
    let (code, out, _) = run(&server, &["audit", "query", "--user", "nobody-of-this-name", "--format", "json"]).await;
    assert_eq!((code, out.as_str()), (0, "[]\n"));
    let (_, out, _) = run(&server, &["audit", "tail", "--last", "2", "--format", "jsonl"]).await;
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!(run(&server, &["audit", "tail", "--follow", "--format", "json"]).await.0, 1);
}

#[tokio::test]
async fn tail_follows_over_a_restart_without_a_gap_and_ends_cleanly_on_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let listen = server.grpc;
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    assert_eq!(report.send(emitter.batch(3, 0)).await.sequence, 3);
    let url = format!("http://127.0.0.1:{listen}");
    let mut tail = Guard(doorward(&url, &["audit", "tail", "--follow", "--format", "jsonl"]).spawn().unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    let stdout = tail.0.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let record: Value = serde_json::from_str(&line).unwrap();
            if sender.send(record["sequence"].as_u64().unwrap()).is_err() {
                return;
            }
        }
    });
    let (done, receiver) = tokio::task::spawn_blocking(move || {
        ((0..3).map(|_| receiver.recv_timeout(Duration::from_secs(10)).unwrap()).collect::<Vec<_>>(), receiver)
    })
    .await
    .unwrap();
    assert_eq!(done, [1, 2, 3]);
    drop(report);
    server.kill();
    let server = Server::start_on(dir.path(), &[], None, listen);
    let mut report = Report::open(&server).await;
    assert_eq!(report.send(emitter.batch(2, 0)).await.sequence, 5);
    let more = tokio::task::spawn_blocking(move || {
        (0..2).map(|_| receiver.recv_timeout(Duration::from_secs(20)).unwrap()).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    assert_eq!(more, [4, 5]);
    assert!(Command::new("kill").args(["-INT", &tail.0.id().to_string()]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || tail.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn tail_without_follow_ends_cleanly_where_the_reader_closed_the_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    assert_eq!(report.send(emitter.batch(5, 0)).await.sequence, 5);
    let mut child = doorward(&format!("http://127.0.0.1:{}", server.grpc), &["audit", "tail"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_server_that_is_not_there_is_said_in_a_sentence() {
    for args in [&["proxies"][..], &["audit", "query"], &["audit", "tail", "--follow"]] {
        let output = doorward("http://127.0.0.1:1", args).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(err.starts_with("error: cannot reach the control plane at http://127.0.0.1:1"), "{err}");
    }
    let output = doorward("https://127.0.0.1:1", &["proxies"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("needs --ca FILE"));
}
