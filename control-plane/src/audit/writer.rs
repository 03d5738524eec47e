//! The one thread that writes the log.
//!
//! It takes everything that waits, checks it against the durable state of its emitters, writes it in one transaction and
//! answers after the commit has reached the disk. So the cost of a sync is shared by all proxies, and an answer is never
//! ahead of the disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use doorward_proto::v1::{AuditRecord, RecordDecision, RecordKind};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{
    retention::Retention,
    store::{Appended, Batch, EMITTERS, Held, Job, LOGS, Log, META, RECORDS, Refusal, StoreError},
};
use crate::{access::Owner, clock::now_micros, metrics::Metrics};

/// Records in one commit at most; what waits beyond goes into the next.
const COMMIT_RECORDS: usize = 65_536;
/// Emitters that are remembered of one client: one takes a few hundred bytes of memory.
const MAX_EMITTERS: usize = 200_000;
/// Emitters of one proxy that are open, of one client: there is one for each worker, and one that begins is compared with all
/// of them.
const MAX_OPEN: usize = 1024;
pub(super) const MAX_EMITTER_BYTES: usize = 512;
/// The control plane's own emitter, for what it has to say itself. It has one chain for the life of the log.
pub(super) const OWN: &str = "control-plane/0/0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// It sent its end mark.
    Ended,
    /// It is gone without an end mark: another boot id of the same worker took over, its proxy was started anew or is silent,
    /// or another worker found it dead. The gap is recorded.
    Superseded,
}

/// The durable state of one emitter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Emitter {
    sequence: u64,
    hash: [u8; 32],
    pub(super) phase: Phase,
    pub(super) seen: i64,
    /// The client that began it; nobody in particular, where clients have no identity.
    pub(super) owner: Owner,
    /// The proxy's process; 0: not known.
    pub(super) process: u64,
}

impl Emitter {
    fn encode(&self) -> [u8; 89] {
        let mut bytes = [0; 89];
        let phase = match self.phase {
            Phase::Open => 0,
            Phase::Ended => 1,
            Phase::Superseded => 2,
        };
        let parts = self.sequence.to_be_bytes().into_iter().chain(self.hash).chain([phase]);
        let parts = parts.chain(self.seen.to_be_bytes()).chain(self.owner.0).chain(self.process.to_be_bytes());
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
        // Logs of earlier versions know no owner, and no process.
        let (owner, rest) =
            rest.split_first_chunk::<32>().map_or((Owner::default(), rest), |(o, rest)| (Owner(*o), rest));
        let process = rest.first_chunk::<8>().map_or(0, |process| u64::from_be_bytes(*process));
        let (sequence, seen) = (u64::from_be_bytes(*sequence), i64::from_be_bytes(*seen));
        Some(Self { sequence, hash: *hash, phase, seen, owner, process })
    }
}

/// What the writer knows to be durable.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) next: u64,
    pub(super) received: i64,
    /// The time that retention believed last.
    pub(super) clock: Option<i64>,
    /// By name, so that those of one proxy are together.
    pub(super) emitters: BTreeMap<String, Emitter>,
    /// Names of those that are open.
    pub(super) open: BTreeSet<String>,
    /// How many emitters each client has.
    pub(super) owners: HashMap<Owner, usize>,
}

impl State {
    pub(super) fn remember(&mut self, name: String, emitter: Emitter) {
        note_open(&mut self.open, &name, emitter);
        match self.emitters.insert(name, emitter) {
            None => *self.owners.entry(emitter.owner).or_default() += 1,
            Some(before) if before.owner != emitter.owner => {
                self.release(before.owner);
                *self.owners.entry(emitter.owner).or_default() += 1;
            }
            Some(_) => {}
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        if let Some(emitter) = self.emitters.remove(name) {
            self.open.remove(name);
            self.release(emitter.owner);
        }
    }

    fn release(&mut self, owner: Owner) {
        if let Some(count) = self.owners.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }
}

fn note_open(open: &mut BTreeSet<String>, name: &str, emitter: Emitter) {
    if emitter.phase != Phase::Open {
        open.remove(name);
    } else if !open.contains(name) {
        open.insert(name.to_owned());
    }
}

struct Waiting {
    batch: Batch,
    reply: oneshot::Sender<Appended>,
    _held: Option<Held>,
}

/// A commit being put together: what it changes, on top of the durable state.
pub(super) struct Pending<'a> {
    durable: &'a State,
    next: u64,
    received: i64,
    emitters: BTreeMap<String, Emitter>,
    /// Names of those of them that are open.
    open: BTreeSet<String>,
    begun: HashMap<Owner, usize>,
    rows: Vec<(u64, Vec<u8>)>,
    duplicates: u64,
}

pub(super) struct Writer {
    pub(super) log: Arc<Log>,
    pub(super) state: State,
    metrics: Arc<Metrics>,
    broken: bool,
    /// The log was open before; what it held is known.
    opened: bool,
    /// The id of the log from the first record on that this process writes.
    id: u64,
    pub(super) retention: Retention,
    /// Since then the log could be written whenever it was tried.
    pub(super) well_since: Instant,
}

impl Writer {
    /// Without a state the log is yet to be opened.
    pub(super) fn new(log: Arc<Log>, state: Option<State>, metrics: Arc<Metrics>) -> Self {
        let opened = state.is_some();
        let state = state.unwrap_or_default();
        let retention = Retention::new(&state);
        Self { log, state, metrics, broken: !opened, opened, id: rand::random(), retention, well_since: Instant::now() }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        loop {
            // While there is something to delete, nothing is waited for.
            let first = if self.retention.is_busy() {
                match queue.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                }
            } else {
                match queue.blocking_recv() {
                    Some(job) => Some(job),
                    None => return,
                }
            };
            let (mut batch, mut count, mut next) = (Vec::new(), 0, first);
            while let Some(job) = next.take() {
                match job {
                    Job::Append { batch: records, reply, held } => {
                        // One without records counts too: else a commit could wait for ever for the end of the queue.
                        count += records.records.len().max(1);
                        batch.push(Waiting { batch: records, reply, _held: held });
                    }
                    // Asked after an append of the same stream, so that one has to be answered first.
                    Job::Sequence { emitter, reply } => {
                        self.commit(std::mem::take(&mut batch));
                        let _ = reply.send(self.sequence(&emitter));
                    }
                    Job::Sweep { keep } => {
                        self.commit(std::mem::take(&mut batch));
                        self.sweep(keep);
                    }
                    Job::Probe => self.probe(),
                }
                if count < COMMIT_RECORDS {
                    next = queue.try_recv().ok();
                }
            }
            self.commit(batch);
            self.delete_some();
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
            let mut pending = self.pending();
            let answers = batch.iter().map(|waiting| pending.append(&waiting.batch)).collect::<Vec<_>>();
            let done = self.write(pending)?;
            self.take(done);
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
                    let sequence = self.sequence(&waiting.batch.emitter);
                    let _ = waiting.reply.send(Appended { sequence, refusal: Some(Refusal::StorageUnavailable) });
                }
            }
        }
    }

    pub(super) fn fail(&mut self, error: &StoreError) {
        self.broken = true;
        self.well_since = Instant::now();
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
    pub(super) fn recover(&mut self) -> Result<(), StoreError> {
        if self.broken {
            let started = Instant::now();
            self.state = self.log.reopen()?;
            self.broken = false;
            if !std::mem::replace(&mut self.opened, true) {
                self.retention = Retention::new(&self.state);
            }
            tracing::info!(seconds = started.elapsed().as_secs_f64(), "the audit log was reopened");
        }
        Ok(())
    }

    pub(super) fn pending(&self) -> Pending<'_> {
        Pending {
            durable: &self.state,
            next: self.state.next,
            received: self.state.received.max(now_micros()),
            emitters: BTreeMap::new(),
            open: BTreeSet::new(),
            begun: HashMap::new(),
            rows: Vec::new(),
            duplicates: 0,
        }
    }

    /// Writes a commit; durable when this returns.
    pub(super) fn write(&self, pending: Pending<'_>) -> Result<Done, StoreError> {
        let Pending { next, received, emitters, rows, duplicates, durable, .. } = pending;
        let mut done = Done { next, received, emitters, rows: rows.len() as u64, duplicates, begins: None };
        if done.emitters.is_empty() {
            return Ok(done);
        }
        let database = self.log.database()?;
        let transaction = database.begin_write().map_err(|e| self.log.error(e))?;
        {
            let mut records = transaction.open_table(RECORDS).map_err(|e| self.log.error(e))?;
            for (cursor, bytes) in &rows {
                records.insert(cursor, bytes.as_slice()).map_err(|e| self.log.error(e))?;
            }
            let mut emitters = transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
            for (name, emitter) in &done.emitters {
                emitters.insert(name.as_str(), emitter.encode().as_slice()).map_err(|e| self.log.error(e))?;
            }
            let mut meta = transaction.open_table(META).map_err(|e| self.log.error(e))?;
            meta.insert("next_cursor", next).map_err(|e| self.log.error(e))?;
            if !rows.is_empty() && !self.has_begun() {
                let mut logs = transaction.open_table(LOGS).map_err(|e| self.log.error(e))?;
                logs.insert(durable.next, self.id).map_err(|e| self.log.error(e))?;
                done.begins = Some(durable.next);
            }
        }
        // redb's default durability: the commit returns after the data reached the disk.
        transaction.commit().map_err(|e| self.log.error(e))?;
        self.log.set_healthy(true);
        Ok(done)
    }

    fn has_begun(&self) -> bool {
        self.log.logs.read().unwrap_or_else(PoisonError::into_inner).newest() == Some(self.id)
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

    /// Takes over what is durable now, and shows it to readers.
    pub(super) fn take(&mut self, done: Done) {
        self.state.next = done.next;
        self.state.received = done.received;
        for (name, emitter) in done.emitters {
            self.state.remember(name, emitter);
        }
        if let Some(first) = done.begins {
            self.log.logs.write().unwrap_or_else(PoisonError::into_inner).push(first, self.id);
        }
        self.log.head.send_replace(done.next.saturating_sub(1));
        self.metrics.commits.inc();
        self.metrics.records_durable.inc_by(done.rows);
        self.metrics.records_duplicate.inc_by(done.duplicates);
    }
}

/// A commit that is on the disk.
pub(super) struct Done {
    next: u64,
    received: i64,
    emitters: BTreeMap<String, Emitter>,
    rows: u64,
    duplicates: u64,
    /// The first cursor of this process, if it is in this commit.
    begins: Option<u64>,
}

impl Pending<'_> {
    fn emitter(&self, name: &str) -> Option<Emitter> {
        self.emitters.get(name).or_else(|| self.durable.emitters.get(name)).copied()
    }

    fn put(&mut self, name: String, emitter: Emitter) {
        note_open(&mut self.open, &name, emitter);
        self.emitters.insert(name, emitter);
    }

    /// Whether this client may begin this emitter as one more.
    fn may_begin(&self, name: &str, owner: Owner, process: u64) -> bool {
        let count = |counts: &HashMap<Owner, usize>| counts.get(&owner).copied().unwrap_or(0);
        count(&self.durable.owners).saturating_add(count(&self.begun)) < MAX_EMITTERS
            && self.siblings(name, owner).filter(|other| replaces(name, process, other).is_none()).count() < MAX_OPEN
    }

    pub(super) fn append(&mut self, batch: &Batch) -> Appended {
        let known = self.emitter(&batch.emitter);
        let mut emitter = known.unwrap_or_default();
        if !emitter.is_of(batch.owner) {
            // Not even how far it is: what is durable of it is none of this client's.
            return Appended { sequence: 0, refusal: Some(Refusal::ForeignEmitter) };
        }
        if known.is_none() && !self.may_begin(&batch.emitter, batch.owner, batch.process) {
            return Appended { sequence: 0, refusal: Some(Refusal::TooManyEmitters) };
        }
        emitter.owner = batch.owner;
        if batch.process != 0 {
            emitter.process = batch.process;
        }
        let refuse = |emitter: &Emitter, refusal| Appended { sequence: emitter.sequence, refusal: Some(refusal) };
        let (mut refused, mut lost) = (None, Vec::new());
        for checked in &batch.records {
            let expected = emitter.sequence.saturating_add(1);
            if checked.sequence < expected {
                if checked.sequence == emitter.sequence && checked.hash != emitter.hash {
                    refused = Some(Refusal::ChainBroken);
                    break;
                }
                self.duplicates += 1;
                continue;
            }
            if checked.sequence > expected {
                refused = Some(Refusal::Hole);
                break;
            }
            // After an end mark there is nothing: an emitter that goes on is not the one that ended.
            if checked.previous != emitter.hash || emitter.phase == Phase::Ended {
                refused = Some(Refusal::ChainBroken);
                break;
            }
            self.row(&checked.bytes, checked.hash);
            emitter.sequence = checked.sequence;
            emitter.hash = checked.hash;
            if emitter.phase == Phase::Superseded {
                // It was only slow, so its end is to come.
                emitter.phase = Phase::Open;
            }
            lost.extend(&checked.lost);
        }
        emitter.seen = self.received;
        let begins = batch.announces || (batch.end && refused.is_none());
        if known.is_none() && emitter.sequence == 0 && !begins {
            return refused.map_or(Appended { sequence: 0, refusal: None }, |refusal| refuse(&emitter, refusal));
        }
        if batch.end && refused.is_none() {
            emitter.phase = Phase::Ended;
        }
        if batch.announces && emitter.phase == Phase::Superseded {
            emitter.phase = Phase::Open;
        }
        self.put(batch.emitter.clone(), emitter);
        if known.is_none() {
            *self.begun.entry(batch.owner).or_default() += 1;
            self.supersede(&batch.emitter, batch.owner, batch.process);
        }
        for lost in lost {
            self.lost(&batch.emitter, batch.owner, &lost.emitter, lost.sequence);
        }
        refused.map_or(Appended { sequence: emitter.sequence, refusal: None }, |refusal| refuse(&emitter, refusal))
    }

    /// The other emitters of the same proxy that are open and of this client.
    fn siblings<'b>(&'b self, name: &'b str, owner: Owner) -> impl Iterator<Item = (&'b String, Emitter)> + 'b {
        let node = node(name).unwrap_or(name);
        // Names are in order, and 0 comes right after the slash.
        let range = format!("{node}/")..format!("{node}0");
        let durable = self.durable.open.range(range.clone()).filter(|other| !self.open.contains(*other));
        durable
            .chain(self.open.range(range))
            .filter(move |other| *other != name && self::node(other) == Some(node))
            .filter_map(|other| Some((other, self.emitter(other)?)))
            .filter(move |(_, emitter)| emitter.phase == Phase::Open && emitter.is_of(owner))
    }

    /// A new boot id of a worker, or a new process of a proxy: whatever the earlier ones still had in memory is lost, and the
    /// log says so.
    fn supersede(&mut self, name: &str, owner: Owner, process: u64) {
        let replaced = self.siblings(name, owner).filter_map(|other| {
            let what = replaces(name, process, &other)?;
            Some((other.0.clone(), other.1, what))
        });
        for (other, emitter, what) in replaced.collect::<Vec<_>>() {
            let detail = format!(
                "Emitter {name} began after {other}, {what}, and that one had sent no end mark after sequence {}; what it \
                 had not sent is lost.",
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

    pub(super) fn supersede_one(&mut self, name: String, mut emitter: Emitter, numbered: u64, detail: String) {
        emitter.phase = Phase::Superseded;
        emitter.seen = self.received;
        self.put(name.clone(), emitter);
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
        let bytes = record.encode_to_vec();
        emitter.sequence = record.sequence;
        emitter.hash = chain(&emitter.hash, &bytes);
        emitter.seen = self.received;
        self.row(&bytes, emitter.hash);
        self.put(OWN.into(), emitter);
    }

    fn row(&mut self, record: &[u8], hash: [u8; 32]) {
        self.rows.push((self.next, stored(record, &hash, self.received)));
        self.next = self.next.saturating_add(1);
    }
}

/// A `StoredRecord` of a record's canonical bytes, without cursor.
fn stored(record: &[u8], hash: &[u8; 32], received: i64) -> Vec<u8> {
    let mut row = Vec::with_capacity(record.len() + 64);
    encode_key(2, WireType::LengthDelimited, &mut row);
    encode_varint(record.len() as u64, &mut row);
    row.extend_from_slice(record);
    encode_key(3, WireType::LengthDelimited, &mut row);
    encode_varint(hash.len() as u64, &mut row);
    row.extend_from_slice(hash);
    prost::encoding::int64::encode(4, &received, &mut row);
    row
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

/// Whether another emitter of the proxy is over where this one begins, and as what.
fn replaces(name: &str, process: u64, (other, emitter): &(&String, Emitter)) -> Option<&'static str> {
    let slot = |name: &str| name.rsplit_once('/').map(|(slot, _)| slot.to_owned());
    if process != 0 && emitter.process != process {
        Some("whose proxy was started anew")
    } else if slot(other) == slot(name) {
        Some("of the same worker")
    } else {
        None
    }
}

/// The node of an emitter's name.
pub(super) fn node(emitter: &str) -> Option<&str> {
    emitter.rsplitn(3, '/').nth(2)
}

/// h(n) = SHA-256(h(n-1) ‖ canonical(record n)).
pub(super) fn chain(previous: &[u8; 32], canonical: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(canonical).finalize().into()
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::StoredRecord;

    use super::*;

    #[test]
    fn a_row_is_the_stored_record_with_the_very_bytes_that_were_hashed() {
        let record = AuditRecord { decision_id: "d".into(), sequence: 7, ..Default::default() };
        let expected = StoredRecord {
            record: Some(record.clone()),
            hash: vec![9; 32],
            received_micros: 1_800_000_000_000_000,
            ..Default::default()
        };
        assert_eq!(stored(&record.encode_to_vec(), &[9; 32], 1_800_000_000_000_000), expected.encode_to_vec());
    }

    #[test]
    fn an_emitters_state_is_read_back_also_of_earlier_versions() {
        let emitter = Emitter {
            sequence: 3,
            hash: [4; 32],
            phase: Phase::Superseded,
            seen: 5,
            owner: Owner([6; 32]),
            process: 7,
        };
        let bytes = emitter.encode();
        let read = |bytes: &[u8]| Emitter::decode(bytes).map(|e| (e.sequence, e.seen, e.owner.0[0], e.process));
        assert_eq!(read(&bytes), Some((3, 5, 6, 7)));
        assert_eq!(read(&bytes[..81]), Some((3, 5, 6, 0)));
        assert_eq!(read(&bytes[..49]), Some((3, 5, 0, 0)));
    }

    #[test]
    fn one_proxy_cannot_make_the_log_compare_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::closed(&dir.path().join("audit.redb"));
        let state = log.reopen().unwrap();
        let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
        let begin = |worker: usize, end: bool| Batch {
            owner: Owner([1; 32]),
            emitter: format!("n/{worker}/b"),
            process: 1,
            end,
            announces: true,
            ..Batch::default()
        };
        let mut refused = 0;
        for commit in 0..20 {
            let mut pending = writer.pending();
            for at in 0..100 {
                let worker = commit * 100 + at;
                refused += usize::from(pending.append(&begin(worker, false)).refusal.is_some());
            }
            let done = writer.write(pending).unwrap();
            writer.take(done);
        }
        assert_eq!((refused, writer.state.open.len()), (2_000 - MAX_OPEN, MAX_OPEN));
        // Another client's are not counted with them, and one that ends makes room.
        let mut pending = writer.pending();
        let other = Batch { owner: Owner([2; 32]), ..begin(9_000, false) };
        assert_eq!(pending.append(&other).refusal, None);
        assert_eq!(pending.append(&begin(9_001, false)).refusal, Some(Refusal::TooManyEmitters));
        assert_eq!(pending.append(&begin(7, true)).refusal, None);
        assert_eq!(pending.append(&begin(9_001, false)).refusal, None);
        let done = writer.write(pending).unwrap();
        writer.take(done);
        assert!(!writer.state.open.contains("n/7/b"));
        // A new process of the proxy closes what the last one left open.
        let mut pending = writer.pending();
        assert_eq!(pending.append(&Batch { process: 2, ..begin(7_000, false) }).refusal, None);
        let done = writer.write(pending).unwrap();
        writer.take(done);
        assert_eq!(
            writer.state.open.iter().filter(|name| name.starts_with("n/")).count(),
            2,
            "its own, and the other client's"
        );
    }
}
