//! The audit log, seen from a proxy and from a reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Emitter, Report, Server};
use doorward_proto::v1::{AuditBatch, Filter, QueryRequest, TailRequest, tail_event::Event};
use tokio_stream::StreamExt as _;

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
    for _ in 0..RECORDS / 10_000 {
        assert_eq!(report.send(emitter.batch(10_000, 0)).await.error, "");
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
