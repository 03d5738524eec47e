//! `AuditIngest`: batches from the wire, checked and handed to the log, acknowledged when durable.

use std::{sync::Arc, time::Instant};

use doorward_policy::audit::{bounds::MAX_RECORD_BYTES, link};
use doorward_proto::{
    v1::{AuditAck, AuditBatch, AuditRecord, RecordKind, audit_ingest_server::AuditIngest},
    wire,
};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::{
    emitter::{MAX_EMITTER_BYTES, is_emitter},
    jobs::{Appended, Batch, Checked, Lost, Refusal},
    store::Store,
};
use crate::{
    access::{Access, Role},
    certificate::Owner,
    clock, connections,
    metrics::Metrics,
    owned::Owned,
};

/// Batches of one stream that may wait for the disk; beyond, the stream is read no further.
const IN_FLIGHT: usize = 64;
/// Their bytes.
const STREAM_BYTES: usize = 4 << 20;
const MAX_RECORDS: usize = 4096;
/// What one record may take in memory. The filter's largest takes less.
const MAX_RECORD_MEMORY: usize = 256 << 10;

/// The service.
pub struct Ingest {
    /// Who may send.
    pub access: Access,
    /// Where records go.
    pub store: Store,
    /// Counts and latencies.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the process ends.
    pub shutdown: watch::Receiver<bool>,
}

struct Pending {
    emitter: String,
    received: Instant,
    answer: oneshot::Receiver<Appended>,
    refusal: Option<Refusal>,
}

#[tonic::async_trait]
impl AuditIngest for Ingest {
    type ReportStream = Owned<ReceiverStream<Result<AuditAck, Status>>>;

    async fn report(&self, request: Request<Streaming<AuditBatch>>) -> Result<Response<Self::ReportStream>, Status> {
        let owner = self.access.check(&request, &[Role::Proxy])?;
        // The emitter is known with the first batch.
        let emitter = tracing::field::Empty;
        let span = tracing::info_span!("audit_stream", peer = connections::peer(&request), emitter);
        let batches = request.into_inner();
        let (acks, stream) = mpsc::channel(IN_FLIGHT);
        let (pending, waiting) = mpsc::channel(IN_FLIGHT);
        let acknowledging = acknowledge(waiting, acks, Arc::clone(&self.metrics)).instrument(span.clone());
        let receiving = receive(batches, owner, self.store.clone(), pending, self.shutdown.clone()).instrument(span);
        // What was read is stored, also when nobody waits for the acknowledgement any more.
        let tasks = vec![tokio::spawn(acknowledging), tokio::spawn(receiving)];
        Ok(Response::new(Owned::finishing(ReceiverStream::new(stream), tasks)))
    }
}

async fn receive(
    mut batches: Streaming<AuditBatch>,
    owner: Owner,
    store: Store,
    pending: mpsc::Sender<Pending>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut is_named = false;
    let stream_room = Arc::new(Semaphore::new(STREAM_BYTES));
    loop {
        let batch = tokio::select! {
            // What was queued is still answered; what was not read, the emitter sends again elsewhere.
            () = clock::ended(&mut shutdown) => return,
            batch = batches.next() => batch,
        };
        let batch = match batch {
            Some(Ok(batch)) => batch,
            Some(Err(status)) => {
                tracing::debug!(code = ?status.code(), "an audit stream ended");
                return;
            }
            None => return,
        };
        let received = Instant::now();
        let texts = batch.emitter.len().saturating_add(batch.node.len());
        let bytes = batch.records.iter().map(Vec::len).sum::<usize>().saturating_add(texts).clamp(1, STREAM_BYTES);
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(mine) = Arc::clone(&stream_room).acquire_many_owned(wanted).await else { return };
        let held = (mine, store.room(owner, bytes).await);
        let end = batch.end;
        // It waits with the answer for as long as the client likes, so it is none of the client's choice how long it is.
        let mut emitter = batch.emitter.clone();
        emitter.truncate(emitter.floor_char_boundary(MAX_EMITTER_BYTES));
        emitter.shrink_to_fit();
        if !std::mem::replace(&mut is_named, true) {
            tracing::Span::current().record("emitter", printable(&emitter));
        }
        let process = process(&batch.process);
        let (records, refusal) = check(batch);
        if let Some(refusal) = refusal {
            tracing::warn!(emitter = %printable(&emitter), code = refusal.code(), "an audit batch was refused");
        }
        let end = end && refusal.is_none();
        let batch = Batch { owner, emitter: emitter.clone(), process, records, end, announces: false };
        let Some(answer) = store.submit(batch, Some(held)).await else {
            return;
        };
        if pending.send(Pending { emitter, received, answer, refusal }).await.is_err() {
            return;
        }
    }
}

async fn acknowledge(
    mut waiting: mpsc::Receiver<Pending>,
    acks: mpsc::Sender<Result<AuditAck, Status>>,
    metrics: Arc<Metrics>,
) {
    while let Some(Pending { emitter, received, answer, refusal }) = waiting.recv().await {
        let Ok(appended) = answer.await else {
            let _ = acks.send(Err(Status::unavailable("the audit log is shutting down; send the batch again"))).await;
            return;
        };
        let refusal = appended.refusal.or(refusal);
        match refusal {
            Some(refusal) => {
                metrics.batches_refused.get_or_create(&vec![("code", refusal.code().to_owned())]).inc();
            }
            None => metrics.ack_latency.observe(received.elapsed().as_secs_f64()),
        }
        let error = refusal.map(|refusal| refusal.code().to_owned()).unwrap_or_default();
        if acks.send(Ok(AuditAck { emitter, sequence: appended.sequence, error })).await.is_err() {
            return;
        }
    }
}

/// What a proxy calls the process it runs in: 16 hex digits. 0: not known, as of filters before there was such a name.
pub fn process(text: &str) -> u64 {
    if text.len() == 16 { u64::from_str_radix(text, 16).unwrap_or(0) } else { 0 }
}

/// The records of a batch up to the first that is wrong, and why that one is.
///
/// A batch whose last hash is not the one it claims is refused whole: then either its records or its claim were changed
/// on the way, and nobody can say which.
pub fn check(batch: AuditBatch) -> (Vec<Checked>, Option<Refusal>) {
    if !is_emitter(&batch.emitter) || batch.records.len() > MAX_RECORDS {
        return (Vec::new(), Some(Refusal::Malformed));
    }
    let mut checked: Vec<Checked> = Vec::with_capacity(batch.records.len());
    for bytes in batch.records {
        let Some(next) = decode(&batch.emitter, bytes) else { return (checked, Some(Refusal::Malformed)) };
        if let Some(last) = checked.last() {
            if next.sequence != last.sequence.saturating_add(1) {
                return (checked, Some(Refusal::Hole));
            }
            if next.previous != last.hash {
                return (checked, Some(Refusal::ChainBroken));
            }
        }
        checked.push(next);
    }
    match checked.last() {
        Some(last) if last.hash.as_slice() != batch.last_hash.as_slice() => (Vec::new(), Some(Refusal::ChainBroken)),
        _ => (checked, None),
    }
}

/// What waits for the disk is the record's bytes, which are all that is stored; decoded it takes several times as much.
fn decode(emitter: &str, bytes: Vec<u8>) -> Option<Checked> {
    // Weighed first: two bytes of an empty element are a hundred when decoded.
    if bytes.len() > MAX_RECORD_BYTES || wire::weigh(&bytes, &wire::RECORD, MAX_RECORD_MEMORY).is_err() {
        return None;
    }
    let record = AuditRecord::decode(bytes.as_slice()).ok()?;
    // Canonical: fields in order, defaults left out, nothing unknown. What is stored must hash to what was chained.
    if record.encode_to_vec() != bytes || record.emitter != emitter || record.sequence == 0 {
        return None;
    }
    if record.kind == i32::from(RecordKind::Unspecified) || RecordKind::try_from(record.kind).is_err() {
        return None;
    }
    let previous = record.previous_hash.as_slice().try_into().ok()?;
    let hash = link(&previous, &bytes);
    let lost = (record.gap_reason == "emitter_lost")
        .then_some(Lost { emitter: record.lost_emitter, sequence: record.lost_sequence });
    Some(Checked { sequence: record.sequence, previous, hash, bytes, lost })
}

fn printable(text: &str) -> String {
    text.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::audit::{emitter::OWN, jobs::Keep, position::Misplaced};

    /// A batch of records `first..=last` that continues after `previous`.
    pub(crate) fn batch(emitter: &str, first: u64, last: u64, mut previous: [u8; 32]) -> AuditBatch {
        let records: Vec<Vec<u8>> = (first..=last)
            .map(|sequence| {
                let record = AuditRecord {
                    emitter: emitter.into(),
                    sequence,
                    previous_hash: previous.to_vec(),
                    kind: RecordKind::Decision.into(),
                    decision_id: format!("d{sequence}"),
                    ..Default::default()
                };
                let bytes = record.encode_to_vec();
                previous = link(&previous, &bytes);
                bytes
            })
            .collect();
        AuditBatch { emitter: emitter.into(), records, last_hash: previous.to_vec(), ..Default::default() }
    }

    pub(crate) fn last(batch: &AuditBatch) -> [u8; 32] {
        batch.last_hash.as_slice().try_into().unwrap()
    }

    fn open(dir: &std::path::Path) -> Store {
        Store::open(&dir.join("audit.redb"), Arc::default()).unwrap().0
    }

    async fn send(store: &Store, batch: &AuditBatch) -> (u64, Option<Refusal>) {
        send_as(store, Owner::default(), batch).await
    }

    async fn send_as(store: &Store, owner: Owner, batch: &AuditBatch) -> (u64, Option<Refusal>) {
        let (records, refusal) = check(batch.clone());
        let (process, end) = (process(&batch.process), batch.end && refusal.is_none());
        let batch = Batch { owner, emitter: batch.emitter.clone(), process, records, end, announces: false };
        let appended = store.append(batch).await;
        (appended.sequence, appended.refusal.or(refusal))
    }

    #[test]
    fn bytes_that_are_not_canonical_are_malformed() {
        let good = batch("n/0/b", 1, 1, [0; 32]);
        assert!(check(good.clone()).1.is_none());
        // An unknown field, a default written out, and a record of another emitter.
        for suffix in [&[0xf8, 0x07, 0x01][..], &[0x12, 0x00][..]] {
            let mut bad = good.clone();
            bad.records[0].extend_from_slice(suffix);
            assert_eq!(check(bad.clone()).1, Some(Refusal::Malformed));
        }
        assert_eq!(check(AuditBatch { emitter: "n/1/b".into(), ..good.clone() }).1, Some(Refusal::Malformed));
    }

    #[test]
    fn a_changed_record_breaks_the_chain() {
        let good = batch("n/0/b", 1, 5, [0; 32]);
        let other = batch("n/0/b", 3, 3, [7; 32]);
        let mut bad = good.clone();
        bad.records[2] = other.records[0].clone();
        let (kept, refusal) = check(bad.clone());
        assert_eq!((kept.len(), refusal), (2, Some(Refusal::ChainBroken)));
        let (kept, refusal) = check(AuditBatch { last_hash: vec![1; 32], ..good });
        assert_eq!((kept.len(), refusal), (0, Some(Refusal::ChainBroken)));
    }

    #[tokio::test]
    async fn duplicates_are_stored_once_and_acknowledged_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let first = batch("n/0/b", 1, 3, [0; 32]);
        let second = batch("n/0/b", 4, 5, last(&first));
        assert_eq!(send(&store, &first).await, (3, None));
        assert_eq!(send(&store, &first).await, (3, None));
        // An overlap is a duplicate up to where it is new.
        let mut both = first.clone();
        both.records.extend(second.records.clone());
        both.last_hash = second.last_hash.clone();
        assert_eq!(send(&store, &both).await, (5, None));
        assert_eq!(store.after(0, 100).unwrap().len(), 5);
    }

    #[tokio::test]
    async fn holes_and_foreign_chains_are_refused_with_the_last_good_sequence() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        assert_eq!(send(&store, &batch("n/0/b", 2, 3, [0; 32])).await, (0, Some(Refusal::Hole)));
        let first = batch("n/0/b", 1, 3, [0; 32]);
        assert_eq!(send(&store, &first).await, (3, None));
        assert_eq!(send(&store, &batch("n/0/b", 5, 6, last(&first))).await, (3, Some(Refusal::Hole)));
        assert_eq!(send(&store, &batch("n/0/b", 4, 6, [9; 32])).await, (3, Some(Refusal::ChainBroken)));
        assert_eq!(send(&store, &batch("n/0/b", 3, 3, [9; 32])).await, (3, Some(Refusal::ChainBroken)));
        assert_eq!(send(&store, &batch("n/0/b", 4, 4, last(&first))).await, (4, None));
    }

    #[tokio::test]
    async fn a_worker_that_comes_back_without_an_end_mark_leaves_a_gap_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        send(&store, &batch("n/0/a", 1, 3, [0; 32])).await;
        send(&store, &batch("n/1/a", 1, 1, [0; 32])).await;
        send(&store, &batch("n/0/b", 1, 1, [0; 32])).await;
        let gaps = |records: Vec<doorward_proto::v1::StoredRecord>| {
            let gaps = records.into_iter().filter_map(|r| r.record).filter(|r| r.kind == i32::from(RecordKind::Gap));
            gaps.map(|r| r.decision.unwrap_or_default().detail).collect::<Vec<_>>()
        };
        let found = gaps(store.after(0, 100).unwrap());
        assert!(found.len() == 1 && found[0].contains("n/0/a") && found[0].contains("sequence 3"), "{found:?}");
        // After an end mark there is none, and nothing can follow the mark.
        let first = batch("n/2/a", 1, 1, [0; 32]);
        assert_eq!(send(&store, &AuditBatch { end: true, ..first.clone() }).await, (1, None));
        assert_eq!(send(&store, &batch("n/2/a", 2, 2, last(&first))).await, (1, Some(Refusal::ChainBroken)));
        send(&store, &batch("n/2/b", 1, 1, [0; 32])).await;
        assert_eq!(gaps(store.after(0, 100).unwrap()).len(), 1);
    }

    fn witness(emitter: &str, sequence: u64, previous: [u8; 32], lost: &str, numbered: u64) -> AuditBatch {
        let record = AuditRecord {
            emitter: emitter.into(),
            sequence,
            previous_hash: previous.to_vec(),
            kind: RecordKind::Gap.into(),
            gap_reason: "emitter_lost".into(),
            lost_emitter: lost.into(),
            lost_sequence: numbered,
            ..Default::default()
        };
        let bytes = record.encode_to_vec();
        let last_hash = link(&previous, &bytes).to_vec();
        AuditBatch { emitter: emitter.into(), records: vec![bytes], last_hash, ..Default::default() }
    }

    #[tokio::test]
    async fn a_worker_that_another_of_its_proxy_found_dead_leaves_one_gap_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let own = |records: Vec<doorward_proto::v1::StoredRecord>| {
            let own = records.into_iter().filter_map(|r| r.record).filter(|r| r.emitter == OWN);
            own.map(|r| (r.lost_emitter, r.gap, r.lost_sequence, r.decision.unwrap_or_default().detail))
                .collect::<Vec<_>>()
        };
        let dead = batch("n/1/a", 1, 3, [0; 32]);
        send(&store, &dead).await;
        let first = witness("n/2/b", 1, [0; 32], "n/1/a", 5);
        assert_eq!(send(&store, &first).await, (1, None));
        let found = own(store.after(0, 100).unwrap());
        assert_eq!((found.len(), found[0].0.as_str(), found[0].1, found[0].2), (1, "n/1/a", 0, 5), "{found:?}");
        assert!(found[0].3.contains("up to sequence 3") && found[0].3.contains("at least 2"), "{}", found[0].3);
        // Neither a second witness, nor the worker that gets its number, finds it lost once more.
        send(&store, &witness("n/3/c", 1, [0; 32], "n/1/a", 5)).await;
        send(&store, &batch("n/1/d", 1, 1, [0; 32])).await;
        assert_eq!(own(store.after(0, 100).unwrap()).len(), 1);
        // It had not sent anything yet.
        send(&store, &witness("n/2/b", 2, last(&first), "n/4/e", 0)).await;
        let found = own(store.after(0, 100).unwrap());
        assert!(found.len() == 2 && found[1].3.contains("unknown") && !found[1].3.contains("at least"), "{found:?}");
        // It was only slow: its chain goes on, and can be lost again.
        assert_eq!(send(&store, &batch("n/1/a", 4, 4, last(&dead))).await, (4, None));
        send(&store, &witness("n/5/f", 1, [0; 32], "n/1/a", 9)).await;
        assert_eq!(own(store.after(0, 100).unwrap()).len(), 3);
    }

    #[tokio::test]
    async fn a_proxy_cannot_declare_the_workers_of_another_lost() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        send(&store, &batch("n/1/a", 1, 1, [0; 32])).await;
        for (at, name) in ["n/1/a", OWN, "", "m", "m/0/\n", "m/5/b"].into_iter().enumerate() {
            send(&store, &witness(&format!("m/{at}/b"), 1, [0; 32], name, 9)).await;
        }
        let own = store.after(0, 100).unwrap().into_iter().filter_map(|r| r.record);
        assert_eq!(own.filter(|r| r.emitter == OWN).count(), 0);
    }

    #[tokio::test]
    async fn an_emitter_is_written_by_the_client_that_began_it_and_by_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (Owner([1; 32]), Owner([2; 32]));
        let first = batch("n/1/a", 1, 3, [0; 32]);
        let next = batch("n/1/a", 4, 4, last(&first));
        {
            let (store, end) = Store::open(&dir.path().join("audit.redb"), Arc::default()).unwrap();
            assert_eq!(send_as(&store, mine, &first).await, (3, None));
            drop(store);
            end.await.unwrap();
        }
        let store = open(dir.path());
        for foreign in [other, Owner::default()] {
            assert_eq!(send_as(&store, foreign, &next).await, (0, Some(Refusal::ForeignEmitter)));
            let end = AuditBatch { end: true, ..first.clone() };
            assert_eq!(send_as(&store, foreign, &end).await, (0, Some(Refusal::ForeignEmitter)));
        }
        // Nor does another client's worker of that name, or its word, close it.
        send_as(&store, other, &batch("n/1/b", 1, 1, [0; 32])).await;
        send_as(&store, other, &witness("n/2/c", 1, [0; 32], "n/1/a", 9)).await;
        let gaps = store.after(0, 100).unwrap().into_iter().filter_map(|r| r.record);
        assert_eq!(gaps.filter(|r| r.emitter == OWN).count(), 0);
        assert_eq!(send_as(&store, mine, &next).await, (4, None));
        // What began before there were identities belongs to the first that has one.
        let old = batch("n/7/a", 1, 1, [0; 32]);
        send(&store, &old).await;
        assert_eq!(send_as(&store, mine, &batch("n/7/a", 2, 2, last(&old))).await, (2, None));
        assert_eq!(send_as(&store, other, &old).await, (0, Some(Refusal::ForeignEmitter)));
    }

    #[tokio::test]
    async fn a_reopened_log_knows_its_emitters_and_never_uses_a_cursor_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = batch("n/0/b", 1, 3, [0; 32]);
        {
            let (store, end) = Store::open(&dir.path().join("audit.redb"), Arc::default()).unwrap();
            send(&store, &first).await;
            store.sweep(Some(Keep { records: 0, held: 0 })).await;
            while !store.after(0, 10).unwrap().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(store.sequence("n/0/b".into()).await, 3);
            drop(store);
            end.await.unwrap();
        }
        let store = open(dir.path());
        assert_eq!(send(&store, &first).await, (3, None));
        assert_eq!(send(&store, &batch("n/0/b", 4, 4, last(&first))).await, (4, None));
        assert_eq!(store.after(0, 10).unwrap()[0].cursor, 4);
        assert_eq!(store.cursor_at(0).unwrap(), 3);
        assert_eq!(store.cursor_at(i64::MAX).unwrap(), 4);
    }

    #[tokio::test]
    async fn a_cursor_is_not_refused_by_a_log_that_is_yet_to_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        // As on a disk that cannot be written at the start.
        let (store, _end) = Store::open(&dir.path().join("later/audit.redb"), Arc::default()).unwrap();
        for log in ["", "00000000000000ab"] {
            assert_eq!(store.resumes(7, log), Err(Misplaced::Unknown));
        }
        assert_eq!(store.resumes(0, ""), Ok(()));
        assert_eq!(Status::from(Misplaced::Unknown).code(), tonic::Code::Unavailable, "readers ask again");
        std::fs::create_dir(dir.path().join("later")).unwrap();
        store.probe().await;
        assert_eq!(store.sequence("n/1/a".into()).await, 0);
        assert_eq!(store.resumes(7, ""), Err(Misplaced::Beyond { cursor: 7, head: 0 }));
    }
}
