//! The audit log, seen from a proxy and from a reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Emitter, Proxy, Report, Server};
use doorward_proto::v1::{
    AuditBatch, AuditRecord, Filter, Hello, Label, ProxyIdentity, QueryRequest, RecordKind, RecordOperation,
    SubscribeRequest, TailRequest, audit_ingest_client::AuditIngestClient,
    policy_discovery_client::PolicyDiscoveryClient, subscribe_request::Message, tail_event::Event,
};
use prost::Message as _;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, transport::Channel};

fn all() -> QueryRequest {
    QueryRequest { limit: u32::MAX, ..Default::default() }
}

#[tokio::test]
async fn kill_9_in_the_middle_of_a_stream_loses_no_acknowledged_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let mut acknowledged = 0;
    let mut resend: Vec<(u64, AuditBatch)> = Vec::new();
    for round in 0..3 {
        let server = Server::start(dir.path(), &[], None);
        let Report { batches, mut acks } = Report::open(&server).await;
        // What the emitter was not told to be durable, it sends again: also what was sent again before.
        let mut sent = std::mem::take(&mut resend);
        for (_, batch) in &sent {
            batches.send(batch.clone()).await.unwrap();
        }
        for _ in 0..40 {
            let batch = emitter.batch(25, 64);
            sent.push((emitter.sequence, batch.clone()));
            batches.send(batch).await.unwrap();
        }
        // Kill while acknowledgements are still coming.
        for _ in 0..10 + round * 5 {
            let ack = acks.next().await.unwrap().unwrap();
            assert_eq!(ack.error, "");
            acknowledged = acknowledged.max(ack.sequence);
        }
        server.kill();
        while let Ok(Some(Ok(ack))) = tokio::time::timeout(Duration::from_secs(2), acks.next()).await {
            acknowledged = acknowledged.max(ack.sequence);
        }
        resend = sent.into_iter().filter(|(last, _)| *last > acknowledged).collect();
        let server = Server::start(dir.path(), &[], None);
        let found = server.query(all()).await;
        let sequences: Vec<u64> = found.iter().filter_map(|r| r.record.as_ref()).map(|r| r.sequence).collect();
        assert!(sequences.len() as u64 >= acknowledged, "acknowledged {acknowledged}, stored {}", sequences.len());
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "no hole and no duplicate");
        server.kill();
    }
}

#[tokio::test]
async fn tail_follows_within_a_second_filters_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    assert_eq!(report.send(emitter.batch(6, 0)).await.sequence, 6);
    let filter = Some(Filter { role: "even".into(), ..Default::default() });
    let request = TailRequest { filter: filter.clone(), follow: true, last: 2, ..Default::default() };
    let mut tail = server.log().await.tail(request).await.unwrap().into_inner();
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(5), tail.next()).await.unwrap().unwrap().unwrap().event.unwrap()
    };
    for expected in [4, 6] {
        let Event::Record(stored) = next().await else { panic!("a record") };
        assert_eq!(stored.record.unwrap().sequence, expected);
    }
    assert!(matches!(next().await, Event::Notice(notice) if notice.code == "caught_up"));
    let sent = Instant::now();
    report.send(emitter.batch(2, 0)).await;
    let Event::Record(stored) = next().await else { panic!("a record") };
    assert!(sent.elapsed() < Duration::from_secs(1));
    assert_eq!(stored.record.unwrap().sequence, 8);

    let request = TailRequest { after_cursor: 5, ..Default::default() };
    let rest: Vec<_> = server.log().await.tail(request).await.unwrap().into_inner().collect().await;
    assert_eq!(rest.len(), 3, "without --follow a tail ends at the head");
    let newest = server.query(QueryRequest { limit: 3, newest_first: true, filter, ..Default::default() }).await;
    assert_eq!(newest.iter().map(|r| r.cursor).collect::<Vec<_>>(), [8, 6, 4]);
}

#[tokio::test]
async fn holes_broken_chains_and_duplicates_are_told_apart_on_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    let first = emitter.batch(3, 0);
    assert_eq!(report.send(first.clone()).await.sequence, 3);
    let ack = report.send(first).await;
    assert_eq!((ack.sequence, ack.error.as_str()), (3, ""));
    let skipped = emitter.batch(1, 0);
    let ack = report.send(emitter.batch(1, 0)).await;
    assert_eq!((ack.sequence, ack.error.as_str()), (3, "hole"));
    let mut forged = skipped.clone();
    forged.last_hash[0] ^= 1;
    let ack = report.send(forged).await;
    assert_eq!((ack.sequence, ack.error.as_str()), (3, "chain_broken"));
    let mut padded = skipped.clone();
    padded.records[0].extend_from_slice(&[0x12, 0]);
    let ack = report.send(padded).await;
    assert_eq!((ack.sequence, ack.error.as_str()), (3, "malformed"));
    assert_eq!(report.send(skipped).await.sequence, 4);
    assert_eq!(server.query(all()).await.len(), 4);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Starts with room; then files may not grow beyond 24 MiB.
    let server = Server::start(dir.path(), &[], Some(24 * 1024));
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    let mut durable = 0;
    let refused = loop {
        let batch = emitter.batch(20, 10_000);
        let ack = report.send(batch.clone()).await;
        if ack.error.is_empty() {
            durable = ack.sequence;
            assert!(durable < 10_000, "the limit was never met");
        } else {
            assert_eq!((ack.error.as_str(), ack.sequence), ("storage_unavailable", durable));
            break batch;
        }
    };
    assert!(durable > 0, "there was room at first");
    assert!(server.get("/readyz").contains("503"));
    // It still answers, still refuses, and still shows everything that it acknowledged.
    assert_eq!(report.send(refused.clone()).await.error, "storage_unavailable");
    assert_eq!(server.query(all()).await.len() as u64, durable);
    server.kill();
    let server = Server::start(dir.path(), &[], None);
    assert_eq!(server.query(all()).await.len() as u64, durable);
    assert_eq!(Report::open(&server).await.send(refused).await.sequence, durable + 20);
}

#[tokio::test]
async fn a_cursor_that_retention_has_passed_is_told_and_the_tail_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let server = Server::start(dir.path(), &[], None);
    assert_eq!(Report::open(&server).await.send(emitter.batch(10, 0)).await.sequence, 10);
    server.kill();
    // Everything is older than that, and the first round of retention comes at once.
    let server = Server::start(dir.path(), &["--audit-retention", "1ms"], None);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.query(all()).await.is_empty() {
        assert!(Instant::now() < deadline, "nothing was deleted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(Report::open(&server).await.send(emitter.batch(2, 0)).await.sequence, 12);
    let request = TailRequest { after_cursor: 3, ..Default::default() };
    let events: Vec<_> = server.log().await.tail(request).await.unwrap().into_inner().collect().await;
    let mut events = events.into_iter().map(|event| event.unwrap().event.unwrap());
    let Some(Event::Notice(notice)) = events.next() else { panic!("a notice") };
    assert_eq!((notice.code.as_str(), notice.missed, notice.resume_cursor), ("cursor_expired", 7, 10));
    let cursors: Vec<_> =
        events.map(|event| if let Event::Record(stored) = event { stored.cursor } else { 0 }).collect();
    assert_eq!(cursors, [11, 12]);
    // A query has no notices: it begins with the oldest that is left.
    let rest = server.query(QueryRequest { after_cursor: 3, ..all() }).await;
    assert_eq!(rest.iter().map(|stored| stored.cursor).collect::<Vec<_>>(), [11, 12]);
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_is_moved_on_and_told_where_to_resume() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    let request = TailRequest { follow: true, ..Default::default() };
    let mut tail = server.log().await.tail(request).await.unwrap().into_inner();
    assert!(matches!(tail.next().await.unwrap().unwrap().event, Some(Event::Notice(n)) if n.code == "caught_up"));
    // Nobody reads meanwhile: windows and channel fill, and the tail stands.
    const RECORDS: u64 = 120_000;
    for _ in 0..RECORDS / 2_000 {
        assert_eq!(report.send(emitter.batch(2_000, 0)).await.error, "");
    }
    let (mut last, mut notice) = (0, None);
    while last < RECORDS {
        let event = tokio::time::timeout(Duration::from_secs(10), tail.next()).await.unwrap().unwrap().unwrap();
        match event.event.unwrap() {
            Event::Record(stored) if notice.is_none() => {
                assert_eq!(stored.cursor, last + 1, "no hole before the notice");
                last = stored.cursor;
            }
            Event::Record(stored) => last = stored.cursor,
            Event::Notice(told) => {
                assert_eq!((told.code.as_str(), told.resume_cursor), ("slow_reader", last), "{told:?}");
                assert!(told.missed > 100_000, "{told:?}");
                last += told.missed;
                notice = Some(told);
            }
            Event::Heartbeat(_) => {}
        }
    }
    let notice = notice.expect("a notice");
    // From there, everything that it missed can be read.
    let missed = server.query(QueryRequest { limit: 10, after_cursor: notice.resume_cursor, ..all() }).await;
    assert_eq!(missed[0].cursor, notice.resume_cursor + 1);
}

#[tokio::test]
async fn small_messages_that_would_grow_are_refused_before_they_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    // A record of empty elements is two bytes an element on the wire, and a hundred times that in memory.
    let growing = |record: AuditRecord| {
        let record = AuditRecord {
            emitter: "n/0/b".into(),
            sequence: 1,
            previous_hash: vec![0; 32],
            kind: RecordKind::Decision.into(),
            ..record
        };
        let bytes = record.encode_to_vec();
        assert!(bytes.len() < 64 << 10, "{}", bytes.len());
        let last_hash = <sha2::Sha256 as sha2::Digest>::digest([vec![0; 32], bytes.clone()].concat()).to_vec();
        AuditBatch { emitter: "n/0/b".into(), records: vec![bytes], last_hash, ..Default::default() }
    };
    let operations = vec![RecordOperation::default(); 30_000];
    let visible = RecordOperation { visible: vec![String::new(); 30_000], ..Default::default() };
    for record in [
        AuditRecord { operations, ..Default::default() },
        AuditRecord { operations: vec![visible], ..Default::default() },
        AuditRecord { cut: vec![String::new(); 20_000], ..Default::default() },
    ] {
        let ack = Report::open(&server).await.send(growing(record)).await;
        assert_eq!((ack.sequence, ack.error.as_str()), (0, "malformed"));
    }
    // So is a batch of empty records, a hello of empty labels, and an endless question.
    let batch = AuditBatch { emitter: "n/0/b".into(), records: vec![Vec::new(); 200_000], ..Default::default() };
    let mut client = AuditIngestClient::new(server.channel().await);
    let mut acks = client.report(tokio_stream::once(batch)).await.unwrap().into_inner();
    assert!(acks.next().await.is_none_or(|ack| ack.is_err()));
    let proxy = ProxyIdentity { node: "n".into(), labels: vec![Label::default(); 30_000], ..Default::default() };
    let hello = Hello { protocol_version: 1, proxy: Some(proxy), scope: "default".into(), ..Default::default() };
    let request = SubscribeRequest { message: Some(Message::Hello(hello)) };
    let mut client = PolicyDiscoveryClient::new(server.channel().await);
    let mut updates = client.subscribe(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(updates.next().await.unwrap().is_err());
    let filter = Some(Filter { user: "u".repeat(1 << 20), ..Default::default() });
    let refused = server.log().await.query(QueryRequest { filter, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(server.query(all()).await.is_empty());
}

#[tokio::test]
async fn who_never_reads_acknowledgements_keeps_nobody_else_from_reporting() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let mut silent = Vec::new();
    let mut shared = None;
    for at in 0..20 {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{}", server.grpc)).unwrap();
        let channel = channel.initial_stream_window_size(1024).connect().await.unwrap();
        shared = Some(channel.clone());
        let (batches, stream) = tokio::sync::mpsc::channel(1);
        let acks = AuditIngestClient::new(channel).report(ReceiverStream::new(stream)).await.unwrap();
        let mut emitter = Emitter::new(&format!("{}/{at}/boot", "n".repeat(400)));
        let (empty, full) =
            (AuditBatch { emitter: emitter.name.clone(), ..Default::default() }, emitter.batch(5, 48_000));
        // Answers to these fill what there is of room for answers; then come as many bytes as a stream may have waiting.
        let sends = async {
            for batch in std::iter::repeat_n(empty, 100).chain(std::iter::repeat_n(full, 25)) {
                batches.send(batch).await.unwrap();
            }
        };
        // Not all of it is taken.
        let _ = tokio::time::timeout(Duration::from_millis(500), sends).await;
        silent.push((batches, acks.into_inner()));
    }
    let (mut report, mut emitter) = (Report::open(&server).await, Emitter::new("node/0/boot"));
    assert_eq!(report.send(emitter.batch(2, 0)).await.sequence, 2);
    // Nor a proxy that has such a stream from its policy over the same connection.
    server.write("role.yaml", &common::role("reader", "reads"));
    let node = ProxyIdentity { node: "edge".into(), ..Default::default() };
    let mut proxy = Proxy::connect_over(shared.unwrap(), &server, node, Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    drop(silent);
}

#[tokio::test]
async fn an_answer_is_never_as_long_as_its_client_likes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let batch = AuditBatch { emitter: "n".repeat(400_000), ..Default::default() };
    let ack = Report::open(&server).await.send(batch).await;
    assert_eq!((ack.error.as_str(), ack.sequence), ("malformed", 0));
    assert!(ack.emitter.len() <= 512, "{}", ack.emitter.len());
}

#[tokio::test]
async fn a_cursor_that_this_log_never_gave_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let server = Server::start(dir.path(), &[], None);
    assert_eq!(Report::open(&server).await.send(emitter.batch(5, 0)).await.sequence, 5);
    server.kill();
    let copy = std::fs::read(dir.path().join("data/audit.redb")).unwrap();
    let server = Server::start(dir.path(), &[], None);
    assert_eq!(Report::open(&server).await.send(emitter.batch(5, 0)).await.sequence, 10);
    let last = server.query(all()).await.pop().unwrap();
    assert_eq!((last.cursor, last.log.len()), (10, 16));
    server.kill();

    // Restored from a backup: cursor 10 is beyond it at first, and then another record's.
    std::fs::write(dir.path().join("data/audit.redb"), copy).unwrap();
    let server = Server::start(dir.path(), &[], None);
    let tail = |log: &str| TailRequest { after_cursor: 10, follow: true, log: log.into(), ..Default::default() };
    let query = |log: &str| QueryRequest { after_cursor: 10, log: log.into(), ..all() };
    for log in ["", &last.log] {
        for refused in [
            server.log().await.tail(tail(log)).await.map(drop).unwrap_err(),
            server.log().await.query(query(log)).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::OutOfRange);
            assert!(
                refused.message().contains("cursor 10 is beyond") && refused.message().contains("--since"),
                "{refused}"
            );
        }
    }
    assert_eq!(Report::open(&server).await.send(Emitter::new("node/0/boot-2").batch(9, 0)).await.sequence, 9);
    let refused = server.log().await.tail(tail(&last.log)).await.map(drop).unwrap_err();
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("another audit log"), "{refused}");
    // What both logs have is resumed from, also over restarts.
    let request = TailRequest { after_cursor: 5, log: server.query(all()).await[4].log.clone(), ..Default::default() };
    assert!(server.log().await.tail(request).await.is_ok());
}

#[tokio::test]
async fn a_proxy_that_got_policy_and_is_never_heard_of_again_leaves_a_gap_record() {
    let dir = tempfile::tempdir().unwrap();
    let boot = |process: &str, emitter: &str| ProxyIdentity {
        node: "edge".into(),
        process: process.into(),
        emitter: emitter.into(),
        ..Default::default()
    };
    let (first, second) = ("00000000000000aa", "00000000000000bb");
    let server = Server::start(dir.path(), &[], None);
    server.write("role.yaml", &common::role("reader", "reads"));
    let mut proxy = Proxy::connect_as(&server, boot(first, "edge/1/a"), Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    // Killed before the proxy had anything to report; then the proxy is killed as well, and both come back.
    server.kill();
    let server = Server::start(dir.path(), &[], None);
    let gaps = async || {
        let records = server.query(all()).await.into_iter().filter_map(|stored| stored.record);
        records.filter(|r| r.kind == i32::from(RecordKind::Gap)).map(|r| (r.lost_emitter, r.gap)).collect::<Vec<_>>()
    };
    // The same process comes again with another leader: nothing is lost.
    let mut proxy = Proxy::connect_as(&server, boot(first, "edge/2/b"), Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    assert!(gaps().await.is_empty());
    // Another process, with another number of workers.
    let mut proxy = Proxy::connect_as(&server, boot(second, "edge/7/c"), Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    assert_eq!(gaps().await, [("edge/1/a".to_owned(), 0), ("edge/2/b".to_owned(), 0)]);
    // It can report as announced, and its proxy can end in order.
    let mut emitter = Emitter::new("edge/7/c");
    let end = AuditBatch { end: true, process: second.into(), ..emitter.batch(3, 0) };
    assert_eq!(Report::open(&server).await.send(end).await.sequence, 3);
    let mut proxy = Proxy::connect_as(&server, boot(first, "edge/1/d"), Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    assert_eq!(gaps().await.len(), 2);
    // It cannot speak for another node.
    let mut proxy = Proxy::connect_as(&server, boot(second, "other/1/d"), Vec::new(), 0).await;
    assert!(proxy.policy(Duration::from_secs(10)).await.is_some());
    assert_eq!(gaps().await.len(), 2);
}

#[tokio::test]
async fn retention_deletes_more_than_can_come_in_and_a_cancelled_query_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut emitter = Emitter::new("node/0/boot");
    let server = Server::start(dir.path(), &[], None);
    let mut report = Report::open(&server).await;
    const RECORDS: u64 = 200_000;
    for _ in 0..RECORDS / 2_000 {
        assert_eq!(report.send(emitter.batch(2_000, 0)).await.error, "");
    }
    // Nothing matches, so all of the log is read: until nobody waits for it.
    let filter = Some(Filter { user: "nobody".into(), ..Default::default() });
    let mut searches = Vec::new();
    for _ in 0..5 {
        searches.push(server.log().await.query(QueryRequest { filter: filter.clone(), ..all() }).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(searches);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = cpu_ticks(server.child.id());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu_ticks(server.child.id()) - before;
    assert!(spent < 20, "{spent} hundredths of a second of work for queries that nobody waits for");
    server.kill();

    let server = Server::start(dir.path(), &["--audit-retention", "1ms"], None);
    let mut report = Report::open(&server).await;
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    while server.query(QueryRequest { limit: 1, ..all() }).await.first().is_some_and(|first| first.cursor <= RECORDS) {
        assert!(started.elapsed() < Duration::from_secs(50), "the first round of retention did not delete all");
        let sent = Instant::now();
        assert_eq!(report.send(emitter.batch(1, 0)).await.error, "");
        slowest = slowest.max(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("{RECORDS} records deleted in {:?}, slowest acknowledgement {slowest:?}", started.elapsed());
}

/// Processor time of a process so far, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
