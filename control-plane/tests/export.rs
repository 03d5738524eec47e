//! Exports by named cursors: each record at least once, kept by retention until then, up to a bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Emitter, Report, Server};
use doorward_proto::v1::{
    AdvanceCursorRequest, AuditCursor, CreateCursorRequest, ListCursorsRequest, ListCursorsResponse, QueryRequest,
    RemoveCursorRequest, StoredRecord, TailEvent, TailRequest,
    audit_log_client::AuditLogClient,
    audit_log_server::{AuditLog, AuditLogServer},
    tail_event::Event,
};
use doorward_test_support::wait;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};

const SOON: Duration = Duration::from_secs(20);

fn doorward(port: u16, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(args).args(["--server", &format!("http://127.0.0.1:{port}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error.
async fn run(port: u16, args: &[&str]) -> (i32, String, String) {
    let mut command = doorward(port, args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

struct Guard(Child);
impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guard {
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    async fn end(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.0.wait().unwrap().code()).await.unwrap()
    }
}

/// The member of each whole line of a file; the last may be under way.
fn lines(path: &Path, member: &str) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    whole.map(|line| serde_json::from_slice::<Value>(line).unwrap()[member].clone()).collect()
}

async fn eventually(what: &str, mut test: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !test().await {
        assert!(started.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn cursor(server: &Server, name: &str) -> Result<AuditCursor, Status> {
    let request = ListCursorsRequest { name: name.into() };
    Ok(server.log().await.list_cursors(request).await?.into_inner().cursors.remove(0))
}

async fn create(server: &Server, name: &str) -> Result<AuditCursor, Status> {
    let request = CreateCursorRequest { name: name.into(), ..Default::default() };
    server.log().await.create_cursor(request).await.map(Response::into_inner)
}

async fn advance(server: &Server, name: &str, cursor: u64, log: &str) -> Result<AuditCursor, Status> {
    let request = AdvanceCursorRequest { name: name.into(), cursor, log: log.into() };
    server.log().await.advance_cursor(request).await.map(Response::into_inner)
}

async fn report(server: &Server, emitter: &mut Emitter, count: usize) {
    assert_eq!(Report::open(server).await.send(emitter.batch(count, 0)).await.error, "");
}

async fn stored(server: &Server) -> Vec<u64> {
    let all = QueryRequest { limit: u32::MAX, ..Default::default() };
    server.query(all).await.iter().map(|stored| stored.cursor).collect()
}

/// A control plane on whose answer to an advance everybody waits for ever; all else it passes on to the real one.
struct Stalled {
    real: AuditLogClient<Channel>,
    advances: mpsc::Sender<AdvanceCursorRequest>,
}

#[tonic::async_trait]
impl AuditLog for Stalled {
    type TailStream = Streaming<TailEvent>;
    type QueryStream = Streaming<StoredRecord>;

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        self.real.clone().tail(request.into_inner()).await
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        self.real.clone().query(request.into_inner()).await
    }

    async fn list_cursors(
        &self,
        request: Request<ListCursorsRequest>,
    ) -> Result<Response<ListCursorsResponse>, Status> {
        self.real.clone().list_cursors(request.into_inner()).await
    }

    async fn create_cursor(&self, request: Request<CreateCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        self.real.clone().create_cursor(request.into_inner()).await
    }

    async fn advance_cursor(&self, request: Request<AdvanceCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        self.advances.send(request.into_inner()).await.unwrap();
        std::future::pending().await
    }

    async fn remove_cursor(&self, request: Request<RemoveCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        self.real.clone().remove_cursor(request.into_inner()).await
    }
}

#[tokio::test]
async fn an_export_killed_between_write_and_commit_writes_the_same_again_and_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut emitter = Emitter::new("node/0/boot");
    create(&server, "siem").await.unwrap();
    report(&server, &mut emitter, 5).await;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (advances, mut advanced) = mpsc::channel(1);
    let stalled = AuditLogServer::new(Stalled { real: server.log().await, advances });
    let router = tonic::transport::Server::builder().add_service(stalled);
    let standing = tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let file = dir.path().join("out.jsonl");
    let to = format!("file:{}", file.display());
    let export = ["audit", "export", "--cursor", "siem", "--to", &to];
    let mut killed = Guard(doorward(port, &export).spawn().unwrap());
    let asked = tokio::time::timeout(SOON, advanced.recv()).await.unwrap().unwrap();
    assert_eq!((asked.name.as_str(), asked.cursor), ("siem", 5));
    killed.0.kill().unwrap();
    standing.abort();
    assert_eq!(lines(&file, "sequence"), [1, 2, 3, 4, 5]);
    let left = cursor(&server, "siem").await.unwrap();
    assert_eq!((left.cursor, left.lag), (0, 5));

    // So also where it was killed in the middle of a line.
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    let (code, _, err) = run(server.grpc, &export).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(lines(&file, "sequence"), [1, 2, 3, 4, 1, 2, 3, 4, 5]);
    assert_eq!(cursor(&server, "siem").await.unwrap().cursor, 5);
    // And where it was not killed, nothing comes twice.
    assert_eq!(run(server.grpc, &export).await.0, 0);
    report(&server, &mut emitter, 2).await;
    assert_eq!(run(server.grpc, &export).await.0, 0);
    assert_eq!(lines(&file, "sequence")[9..], [6, 7]);
    let left = cursor(&server, "siem").await.unwrap();
    assert_eq!((left.cursor, left.lag, left.oldest_micros, left.log.len()), (7, 0, 0, 16));
    // A reader that closes the pipe has got nothing that counts.
    create(&server, "pipe").await.unwrap();
    let mut child = doorward(server.grpc, &["audit", "export", "--cursor", "pipe", "--follow"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(cursor(&server, "pipe").await.unwrap().cursor, 0);
    // What it leaves out by a filter it has passed all the same.
    create(&server, "even").await.unwrap();
    let (code, out, _) = run(server.grpc, &["audit", "export", "--cursor", "even", "--role", "even"]).await;
    assert_eq!((code, out.lines().count(), cursor(&server, "even").await.unwrap().cursor), (0, 3, 7));
}

#[tokio::test]
async fn an_export_that_follows_goes_on_over_a_restart_and_ends_in_order_by_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (listen, mut emitter) = (server.grpc, Emitter::new("node/0/boot"));
    create(&server, "siem").await.unwrap();
    let file = dir.path().join("out.jsonl");
    let to = format!("file:{}", file.display());
    let export = doorward(listen, &["audit", "export", "--cursor", "siem", "--follow", "--to", &to]).spawn();
    let export = Guard(export.unwrap());
    report(&server, &mut emitter, 3).await;
    eventually("three lines", async || lines(&file, "cursor").len() == 3).await;
    eventually("and the cursor", async || cursor(&server, "siem").await.unwrap().cursor == 3).await;
    server.kill();
    let server = Server::start_on(dir.path(), &[], None, listen);
    report(&server, &mut emitter, 2_500).await;
    eventually("the others", async || lines(&file, "cursor").len() == 2_503).await;
    export.signal("-TERM");
    assert_eq!(export.end().await, Some(0));
    assert_eq!(lines(&file, "cursor"), (1..=2_503).collect::<Vec<_>>());
    assert_eq!(cursor(&server, "siem").await.unwrap().cursor, 2_503);
}

#[tokio::test]
async fn retention_keeps_what_a_cursor_has_not_passed_up_to_the_bound_and_then_tells_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let server = Server::start(dir.path(), &[], None);
    report(&server, &mut emitter, 10).await;
    create(&server, "siem").await.unwrap();
    create(&server, "ahead").await.unwrap();
    let log = cursor(&server, "siem").await.unwrap();
    assert_eq!((log.cursor, log.lag), (0, 10));
    advance(&server, "siem", 4, "").await.unwrap();
    advance(&server, "ahead", 9, "").await.unwrap();
    server.kill();

    // Everything is too old; what the slower cursor has not passed stays.
    let server = Server::start(dir.path(), &["--audit-retention", "1ms"], None);
    eventually("the first four go", async || stored(&server).await.first() == Some(&5)).await;
    assert_eq!(stored(&server).await, (5..=10).collect::<Vec<_>>());
    let told = cursor(&server, "siem").await.unwrap();
    assert_eq!((told.cursor, told.lag, told.lost), (4, 6, 0));
    assert!(told.oldest_micros > 0);
    advance(&server, "siem", 6, "").await.unwrap();
    server.kill();

    // Beyond the bound it goes on, and each cursor has lost what it had not passed.
    let short = ["--audit-retention", "1ms", "--audit-cursor-hold", "1ms"];
    let server = Server::start(dir.path(), &short, None);
    eventually("all go", async || stored(&server).await.is_empty()).await;
    let told = cursor(&server, "siem").await.unwrap();
    assert_eq!((told.cursor, told.lag, told.lost, told.lost_first, told.lost_last), (6, 0, 4, 7, 10));
    assert_eq!(cursor(&server, "ahead").await.unwrap().lost, 1);
    eventually("metrics say so", async || {
        server.get("/metrics").contains("doorward_audit_cursor_lost_records{cursor=\"siem\"} 4")
    })
    .await;
    let (_, out, _) = run(server.grpc, &["audit", "cursors", "list"]).await;
    assert!(out.contains("4 (newest: 7 to 10)"), "{out}");
    let (_, out, _) = run(server.grpc, &["audit", "cursors", "list", "--format", "json"]).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json[1]["name"], &json[1]["lost"], &json[1]["cursor"]), (&"siem".into(), &4.into(), &6.into()));

    // The export tells it in the place of what is missing, and goes on.
    report(&server, &mut emitter, 2).await;
    let (code, out, err) = run(server.grpc, &["audit", "export", "--cursor", "siem"]).await;
    assert!(code == 0 && err.contains("4 records are lost"), "{err}");
    let records: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = records.iter().map(|r| (r["cursor"].as_u64().unwrap(), r["kind"].as_str().unwrap())).collect();
    assert_eq!(seen, [(10, "gap"), (11, "decision"), (12, "decision")]);
    assert_eq!((&records[0]["gap"], &records[0]["gapReason"]), (&4.into(), &"cursor_expired".into()));
    let told = cursor(&server, "siem").await.unwrap();
    assert_eq!((told.cursor, told.lag, told.lost), (12, 0, 4), "what was lost stays told");
    server.kill();
    // Also over a restart; and a cursor that is removed keeps nothing.
    let server = Server::start(dir.path(), &["--audit-retention", "1ms"], None);
    assert_eq!(cursor(&server, "siem").await.unwrap().lost, 4);
    // Retention has begun, and has gone as far as it goes when the writer has done two more things.
    eventually("it has begun", async || server.get("/metrics").contains("cursor=\"siem\"")).await;
    for _ in 0..2 {
        advance(&server, "siem", 12, "").await.unwrap();
    }
    assert_eq!(stored(&server).await, [11, 12], "`ahead` has not passed them");
    assert_eq!(run(server.grpc, &["audit", "cursors", "remove", "ahead"]).await.0, 0);
    assert!(!server.get("/metrics").contains("cursor=\"ahead\""));
    server.kill();
    let server = Server::start(dir.path(), &["--audit-retention", "1ms"], None);
    eventually("these go too", async || stored(&server).await.is_empty()).await;
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused_and_so_is_a_step_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let server = Server::start(dir.path(), &[], None);
    report(&server, &mut emitter, 5).await;
    create(&server, "siem").await.unwrap();
    let log = server.query(QueryRequest::default()).await[0].log.clone();
    assert_eq!(advance(&server, "siem", 5, &log).await.unwrap().cursor, 5);
    let refused = advance(&server, "siem", 4, &log).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("stands after record 5"), "{refused}");
    let refused = advance(&server, "siem", 5, "00000000000000ab").await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.message().contains("another audit log"), "{refused}");
    let refused = advance(&server, "siem", 6, &log).await.unwrap_err();
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("beyond the newest"), "{refused}");
    assert_eq!(cursor(&server, "siem").await.unwrap().cursor, 5);
    server.kill();

    // The data directory was replaced: an export neither begins anew on its own, nor goes on where the numbers happen to fit.
    std::fs::remove_file(dir.path().join("data/audit.redb")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    report(&server, &mut Emitter::new("node/0/boot-2"), 9).await;
    let (code, out, err) = run(server.grpc, &["audit", "export", "--cursor", "siem"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("has no cursor `siem`") && err.contains("cursors create siem"), "{err}");
    create(&server, "siem").await.unwrap();
    let refused = advance(&server, "siem", 5, &log).await.unwrap_err();
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("another audit log"), "{refused}");
    let request = TailRequest { cursor_name: "siem".into(), after_cursor: 5, log, ..Default::default() };
    assert_eq!(server.log().await.tail(request).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn cursors_are_made_and_removed_by_name_and_are_bounded_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut emitter = Emitter::new("node/0/boot");
    report(&server, &mut emitter, 5).await;
    let (code, out, _) = run(server.grpc, &["audit", "cursors", "list"]).await;
    assert!(code == 0 && out.contains("There is no cursor."), "{out}");
    for (from, after) in [("oldest", 0), ("newest", 5), ("3", 3)] {
        let (code, out, err) = run(server.grpc, &["audit", "cursors", "create", "siem", "--from", from]).await;
        assert!(code == 0 && out.contains(&format!("siem begins after record {after}\n")), "{out}{err}");
        let (code, _, err) = run(server.grpc, &["audit", "cursors", "create", "siem"]).await;
        assert!(code == 1 && err.contains("there is a cursor `siem` already"), "{err}");
        assert_eq!(run(server.grpc, &["audit", "cursors", "remove", "siem"]).await.0, 0);
    }
    for wrong in [&["create", "Siem"][..], &["create", "siem", "--from", "now"], &["remove", ""]] {
        let args: Vec<&str> = ["audit", "cursors"].iter().chain(wrong).copied().collect();
        assert_eq!(run(server.grpc, &args).await.0, 2, "{wrong:?}");
    }
    let (code, _, err) = run(server.grpc, &["audit", "cursors", "remove", "siem"]).await;
    assert!(code == 1 && err.contains("has no cursor `siem`"), "{err}");
    assert_eq!(create(&server, "Siem").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(create(&server, &"a".repeat(100_000)).await.unwrap_err().code(), Code::OutOfRange, "never decoded");
    for number in 0..64 {
        create(&server, &format!("c{number}")).await.unwrap();
    }
    let refused = create(&server, "one-more").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(cursor(&server, "one-more").await.unwrap_err().code(), Code::NotFound);
    // All of them survive a kill.
    server.kill();
    let server = Server::start(dir.path(), &[], None);
    let all = server.log().await.list_cursors(ListCursorsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.cursors.len(), 64);
}

#[tokio::test]
async fn an_exporter_that_stands_still_is_never_moved_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    create(&server, "siem").await.unwrap();
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    let request = TailRequest { follow: true, cursor_name: "siem".into(), ..Default::default() };
    let mut tail = server.log().await.tail(request).await.unwrap().into_inner();
    assert!(matches!(tail.next().await.unwrap().unwrap().event, Some(Event::Notice(n)) if n.code == "caught_up"));
    const RECORDS: u64 = 120_000;
    for _ in 0..RECORDS / 2_000 {
        assert_eq!(report.send(emitter.batch(2_000, 0)).await.error, "");
    }
    let mut last = 0;
    while last < RECORDS {
        let event = tokio::time::timeout(SOON, tail.next()).await.unwrap().unwrap().unwrap();
        match event.event.unwrap() {
            Event::Record(stored) => {
                assert_eq!(stored.cursor, last + 1);
                last = stored.cursor;
            }
            Event::Notice(notice) => panic!("{notice:?}"),
            Event::Heartbeat(_) => {}
        }
    }
}

#[tokio::test]
async fn an_export_into_a_pipe_that_nobody_reads_ends_by_a_signal_and_delivers_the_rest_later() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &[], None);
        let mut emitter = Emitter::new("node/0/boot");
        create(&server, "siem").await.unwrap();
        report(&server, &mut emitter, 1_000).await;
        let mut child = doorward(server.grpc, &["audit", "export", "--cursor", "siem", "--follow"]).spawn().unwrap();
        let held = child.stdout.take();
        let mut export = Guard(child);
        // Nothing outside tells when the pipe is full.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(export.0.try_wait().unwrap(), None);
        export.signal(signal);
        let ended = wait("the end of the export", Duration::from_secs(20), || export.0.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
        drop(held);
        let again = doorward(server.grpc, &["audit", "export", "--cursor", "siem"]).output().unwrap();
        let text = String::from_utf8(again.stdout).unwrap();
        assert!(text.lines().next().unwrap().starts_with("{\"cursor\":1,"), "{}", text.lines().next().unwrap());
        assert_eq!(text.lines().count(), 1_000);
    }
}
