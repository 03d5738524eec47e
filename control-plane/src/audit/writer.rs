//! The one thread that writes the log.
//!
//! It takes everything that waits, checks it against the durable state of its emitters, writes it in one transaction and
//! answers after the commit has reached the disk. So the cost of a sync is shared by all proxies, and an answer is never
//! ahead of the disk.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use doorward_proto::v1::{AuditRecord, RecordDecision, RecordKind, StoredRecord};
use prost::Message as _;
use redb::ReadableTable as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::store::{Appended, Checked, EMITTERS, Job, Log, META, RECORDS, Refusal, StoreError};
use crate::{access::Owner, clock::now_micros, metrics::Metrics};

/// Records in one commit at most; what waits beyond goes into the next.
const COMMIT_RECORDS: usize = 65_536;
/// Records deleted in one prune at most, so that appends do not wait long for it.
const PRUNE_RECORDS: usize = 50_000;
/// How long a closed emitter is remembered, so that a late resend is still recognised.
const REMEMBER_MICROS: i64 = 7 * 86_400 * 1_000_000;
const MAX_EMITTER_BYTES: usize = 512;
/// The control plane's own emitter, for what it has to say itself. It has one chain for the life of the log.
pub(super) const OWN: &str = "control-plane/0/0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// It sent its end mark.
    Ended,
    /// Another boot id of the same worker took over without an end mark; the gap is recorded.
    Superseded,
}

/// The durable state of one emitter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Emitter {
    sequence: u64,
    hash: [u8; 32],
    phase: Phase,
    seen: i64,
    /// The client that began it; nobody in particular, where clients have no identity.
    owner: Owner,
}

impl Emitter {
    fn encode(&self) -> [u8; 81] {
        let mut bytes = [0; 81];
        let phase = match self.phase {
            Phase::Open => 0,
            Phase::Ended => 1,
            Phase::Superseded => 2,
        };
        let parts = self.sequence.to_be_bytes().into_iter().chain(self.hash).chain([phase]);
        let parts = parts.chain(self.seen.to_be_bytes()).chain(self.owner.0);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Whether this client may write it: who began it, or anybody where that was nobody in particular.
    fn is_of(&self, client: Owner) -> bool {
        self.owner == Owner::default() || self.owner == client
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (phase, rest) = rest.split_first()?;
        let phase = match phase {
            0 => Phase::Open,
            1 => Phase::Ended,
            _ => Phase::Superseded,
        };
        let (seen, rest) = rest.split_first_chunk::<8>()?;
        // Logs of earlier versions know no owner.
        let owner = rest.first_chunk::<32>().map_or(Owner::default(), |owner| Owner(*owner));
        let (sequence, seen) = (u64::from_be_bytes(*sequence), i64::from_be_bytes(*seen));
        Some(Self { sequence, hash: *hash, phase, seen, owner })
    }
}

/// What the writer knows to be durable.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) next: u64,
    pub(super) received: i64,
    pub(super) emitters: HashMap<String, Emitter>,
}

struct Waiting {
    owner: Owner,
    emitter: String,
    records: Vec<Checked>,
    end: bool,
    reply: oneshot::Sender<Appended>,
}

/// A commit being put together: what it changes, on top of the durable state.
struct Pending<'a> {
    durable: &'a State,
    next: u64,
    received: i64,
    emitters: HashMap<String, Emitter>,
    rows: Vec<(u64, Vec<u8>)>,
    duplicates: u64,
}

pub(super) struct Writer {
    log: Arc<Log>,
    state: State,
    metrics: Arc<Metrics>,
    broken: bool,
}

impl Writer {
    /// Without a state the log is yet to be opened.
    pub(super) fn new(log: Arc<Log>, state: Option<State>, metrics: Arc<Metrics>) -> Self {
        let broken = state.is_none();
        Self { log, state: state.unwrap_or_default(), metrics, broken }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let (mut batch, mut count, mut next) = (Vec::new(), 0, Some(first));
            while let Some(job) = next.take() {
                match job {
                    Job::Append { owner, emitter, records, end, reply } => {
                        count += records.len();
                        batch.push(Waiting { owner, emitter, records, end, reply });
                    }
                    // Asked after an append of the same stream, so that one has to be answered first.
                    Job::Sequence { emitter, reply } => {
                        self.commit(std::mem::take(&mut batch));
                        let _ = reply.send(self.sequence(&emitter));
                    }
                    Job::Prune { received_before } => self.prune(received_before),
                    Job::Probe => self.probe(),
                }
                if count < COMMIT_RECORDS {
                    next = queue.try_recv().ok();
                }
            }
            self.commit(batch);
        }
    }

    fn sequence(&self, emitter: &str) -> u64 {
        self.state.emitters.get(emitter).map_or(0, |e| e.sequence)
    }

    fn commit(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let answers = self.recover().and_then(|()| {
            let (answers, pending) = self.prepare(&batch);
            self.write(&pending)?;
            let Pending { next, received, emitters, rows, duplicates, .. } = pending;
            self.state.next = next;
            self.state.received = received;
            self.state.emitters.extend(emitters);
            self.log.head.send_replace(next.saturating_sub(1));
            self.metrics.commits.inc();
            self.metrics.records_durable.inc_by(rows.len() as u64);
            self.metrics.records_duplicate.inc_by(duplicates);
            Ok(answers)
        });
        match answers {
            // A receiver that is gone belongs to a stream that is gone; its records stay and a resend finds them.
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    let _ = waiting.reply.send(answer);
                }
            }
            Err(error) => {
                self.fail(&error);
                for waiting in batch {
                    let sequence = self.sequence(&waiting.emitter);
                    let _ = waiting.reply.send(Appended { sequence, refusal: Some(Refusal::StorageUnavailable) });
                }
            }
        }
    }

    fn fail(&mut self, error: &StoreError) {
        self.broken = true;
        self.log.set_healthy(false);
        tracing::error!(%error, "audit records are not acknowledged: the log cannot be written");
        // A full disk answers at once; emitters resend at once. Do not spin.
        std::thread::sleep(Duration::from_millis(100));
        // Readers need an open log even while nothing can be written to it.
        if let Err(error) = self.recover() {
            tracing::error!(%error, "the audit log cannot be opened again yet; the next batch tries once more");
        }
    }

    /// After a failure, what reached the disk is unknown: read it back before judging the next batch.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.broken {
            let started = Instant::now();
            self.state = self.log.reopen()?;
            self.broken = false;
            tracing::info!(seconds = started.elapsed().as_secs_f64(), "the audit log was reopened");
        }
        Ok(())
    }

    fn prepare(&self, batch: &[Waiting]) -> (Vec<Appended>, Pending<'_>) {
        let mut pending = Pending {
            durable: &self.state,
            next: self.state.next,
            received: self.state.received.max(now_micros()),
            emitters: HashMap::new(),
            rows: Vec::new(),
            duplicates: 0,
        };
        let answers = batch.iter().map(|waiting| pending.append(waiting)).collect();
        (answers, pending)
    }

    fn write(&self, pending: &Pending<'_>) -> Result<(), StoreError> {
        if pending.emitters.is_empty() {
            return Ok(());
        }
        let database = self.log.database()?;
        let transaction = database.begin_write().map_err(|e| self.log.error(e))?;
        {
            let mut records = transaction.open_table(RECORDS).map_err(|e| self.log.error(e))?;
            for (cursor, bytes) in &pending.rows {
                records.insert(cursor, bytes.as_slice()).map_err(|e| self.log.error(e))?;
            }
            let mut emitters = transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
            for (name, emitter) in &pending.emitters {
                emitters.insert(name.as_str(), emitter.encode().as_slice()).map_err(|e| self.log.error(e))?;
            }
            let mut meta = transaction.open_table(META).map_err(|e| self.log.error(e))?;
            meta.insert("next_cursor", pending.next).map_err(|e| self.log.error(e))?;
        }
        // redb's default durability: the commit returns after the data reached the disk.
        transaction.commit().map_err(|e| self.log.error(e))?;
        self.log.set_healthy(true);
        Ok(())
    }

    fn probe(&mut self) {
        let written = self.recover().and_then(|()| {
            let transaction = self.log.database()?.begin_write().map_err(|e| self.log.error(e))?;
            {
                // All of them: whoever opens the log takes it that they came into being together.
                transaction.open_table(RECORDS).map_err(|e| self.log.error(e))?;
                transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
                let mut meta = transaction.open_table(META).map_err(|e| self.log.error(e))?;
                meta.insert("next_cursor", self.state.next).map_err(|e| self.log.error(e))?;
            }
            transaction.commit().map_err(|e| self.log.error(e))
        });
        match written {
            Ok(()) => self.log.set_healthy(true),
            Err(error) => self.fail(&error),
        }
    }

    fn prune(&mut self, received_before: i64) {
        if let Err(error) = self.recover().and_then(|()| self.try_prune(received_before)) {
            self.fail(&error);
        }
    }

    fn try_prune(&mut self, received_before: i64) -> Result<(), StoreError> {
        let database = self.log.database()?;
        let transaction = database.begin_write().map_err(|e| self.log.error(e))?;
        let forgotten: Vec<String> = self
            .state
            .emitters
            .iter()
            .filter(|(_, e)| e.phase != Phase::Open && e.seen < now_micros().saturating_sub(REMEMBER_MICROS))
            .map(|(name, _)| name.clone())
            .collect();
        let mut deleted = 0_usize;
        {
            let mut records = transaction.open_table(RECORDS).map_err(|e| self.log.error(e))?;
            while deleted < PRUNE_RECORDS {
                let old = match records.first().map_err(|e| self.log.error(e))? {
                    Some((_, value)) => {
                        StoredRecord::decode(value.value()).map_or(true, |r| r.received_micros < received_before)
                    }
                    None => false,
                };
                if !old {
                    break;
                }
                records.pop_first().map_err(|e| self.log.error(e))?;
                deleted += 1;
            }
            let mut emitters = transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
            for name in &forgotten {
                emitters.remove(name.as_str()).map_err(|e| self.log.error(e))?;
            }
        }
        transaction.commit().map_err(|e| self.log.error(e))?;
        for name in &forgotten {
            self.state.emitters.remove(name);
        }
        if deleted > 0 {
            tracing::info!(deleted, "old audit records were deleted");
        }
        Ok(())
    }
}

impl Pending<'_> {
    fn emitter(&self, name: &str) -> Option<Emitter> {
        self.emitters.get(name).or_else(|| self.durable.emitters.get(name)).copied()
    }

    fn append(&mut self, waiting: &Waiting) -> Appended {
        let known = self.emitter(&waiting.emitter);
        let mut emitter = known.unwrap_or_default();
        if !emitter.is_of(waiting.owner) {
            // Not even how far it is: what is durable of it is none of this client's.
            return Appended { sequence: 0, refusal: Some(Refusal::ForeignEmitter) };
        }
        emitter.owner = waiting.owner;
        let refuse = |emitter: &Emitter, refusal| Appended { sequence: emitter.sequence, refusal: Some(refusal) };
        let (mut refused, mut lost) = (None, Vec::new());
        for checked in &waiting.records {
            let sequence = checked.record.sequence;
            let expected = emitter.sequence.saturating_add(1);
            if sequence < expected {
                if sequence == emitter.sequence && checked.hash != emitter.hash {
                    refused = Some(Refusal::ChainBroken);
                    break;
                }
                self.duplicates += 1;
                continue;
            }
            if sequence > expected {
                refused = Some(Refusal::Hole);
                break;
            }
            // After an end mark there is nothing: an emitter that goes on is not the one that ended.
            if checked.previous != emitter.hash || emitter.phase == Phase::Ended {
                refused = Some(Refusal::ChainBroken);
                break;
            }
            self.row(checked.record.clone(), checked.hash);
            emitter.sequence = sequence;
            emitter.hash = checked.hash;
            if emitter.phase == Phase::Superseded {
                // It was only slow, so its end is to come.
                emitter.phase = Phase::Open;
            }
            if checked.record.gap_reason == "emitter_lost" {
                lost.push(&checked.record);
            }
        }
        emitter.seen = self.received;
        if known.is_none() && emitter.sequence == 0 && !(waiting.end && refused.is_none()) {
            return refused.map_or(Appended { sequence: 0, refusal: None }, |refusal| refuse(&emitter, refusal));
        }
        if waiting.end && refused.is_none() {
            emitter.phase = Phase::Ended;
        }
        self.emitters.insert(waiting.emitter.clone(), emitter);
        if known.is_none() {
            self.supersede(&waiting.emitter, waiting.owner);
        }
        for record in lost {
            self.lost(&waiting.emitter, waiting.owner, &record.lost_emitter, record.lost_sequence);
        }
        refused.map_or(Appended { sequence: emitter.sequence, refusal: None }, |refusal| refuse(&emitter, refusal))
    }

    /// A new boot id of a worker: whatever its earlier ones still had in memory is lost, and the log says so.
    fn supersede(&mut self, name: &str, owner: Owner) {
        let Some((slot, _)) = name.rsplit_once('/') else { return };
        let same_worker = |other: &str| other != name && other.rsplit_once('/').is_some_and(|(s, _)| s == slot);
        let mut lost: Vec<String> = self
            .durable
            .emitters
            .keys()
            .chain(self.emitters.keys())
            .filter(|other| same_worker(other))
            .cloned()
            .collect();
        lost.sort();
        lost.dedup();
        for other in lost {
            let Some(emitter) = self.emitter(&other).filter(|e| e.phase == Phase::Open && e.is_of(owner)) else {
                continue;
            };
            let detail = format!(
                "Emitter {other} was replaced by {name} without an end mark after sequence {}; what it had not sent is lost.",
                emitter.sequence
            );
            self.supersede_one(other, emitter, 0, detail);
        }
    }

    /// A worker says that another one of its proxy is gone without a word.
    fn lost(&mut self, witness: &str, owner: Owner, other: &str, numbered: u64) {
        // A proxy speaks for its own workers only.
        if !is_emitter(other) || other == witness || node(other) != node(witness) {
            return;
        }
        let known = self.emitter(other);
        if known.is_some_and(|emitter| emitter.phase != Phase::Open || !emitter.is_of(owner)) {
            return;
        }
        let emitter = known.unwrap_or(Emitter { owner, ..Emitter::default() });
        let stored = emitter.sequence;
        let at_least = match numbered.saturating_sub(stored) {
            0 => String::new(),
            missing => format!(" It had numbered {numbered}, so at least {missing} are lost."),
        };
        let detail = format!(
            "Emitter {other} ended without an end mark, as {witness} found; its records up to sequence {stored} are \
            stored.{at_least} How many it had not sent is unknown."
        );
        self.supersede_one(other.to_owned(), emitter, numbered, detail);
    }

    fn supersede_one(&mut self, name: String, mut emitter: Emitter, numbered: u64, detail: String) {
        emitter.phase = Phase::Superseded;
        emitter.seen = self.received;
        self.emitters.insert(name.clone(), emitter);
        self.own(AuditRecord {
            kind: RecordKind::Gap.into(),
            gap_reason: "emitter_lost".into(),
            lost_emitter: name,
            lost_sequence: numbered.max(emitter.sequence),
            decision: Some(RecordDecision {
                outcome: "gap".into(),
                code: "emitter_lost".into(),
                detail,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    /// Appends a record of the control plane itself.
    fn own(&mut self, record: AuditRecord) {
        let mut emitter = self.emitter(OWN).unwrap_or_default();
        let record = AuditRecord {
            decision_id: uuid::Uuid::now_v7().to_string(),
            time_micros: now_micros(),
            emitter: OWN.into(),
            sequence: emitter.sequence.saturating_add(1),
            previous_hash: emitter.hash.to_vec(),
            ..record
        };
        emitter.sequence = record.sequence;
        emitter.hash = chain(&emitter.hash, &record.encode_to_vec());
        emitter.seen = self.received;
        self.row(record, emitter.hash);
        self.emitters.insert(OWN.into(), emitter);
    }

    fn row(&mut self, record: AuditRecord, hash: [u8; 32]) {
        let stored =
            StoredRecord { cursor: 0, record: Some(record), hash: hash.to_vec(), received_micros: self.received };
        self.rows.push((self.next, stored.encode_to_vec()));
        self.next = self.next.saturating_add(1);
    }
}

/// `NODE/WORKER/BOOT`; the node may itself hold slashes. The control plane's own name is nobody else's.
pub(super) fn is_emitter(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '/');
    let parts = (parts.next(), parts.next(), parts.next());
    name.len() <= MAX_EMITTER_BYTES
        && name != OWN
        && !name.contains(char::is_control)
        && matches!(parts, (Some(boot), Some(worker), Some(node)) if !boot.is_empty() && !worker.is_empty() && !node.is_empty())
}

/// The node of an emitter's name.
fn node(emitter: &str) -> Option<&str> {
    emitter.rsplitn(3, '/').nth(2)
}

/// h(n) = SHA-256(h(n-1) ‖ canonical(record n)).
pub(super) fn chain(previous: &[u8; 32], canonical: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(canonical).finalize().into()
}
