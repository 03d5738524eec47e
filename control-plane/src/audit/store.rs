//! The log on disk: one redb database, read by anyone, written by one thread.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `records` | cursor, from 1, never used again | `StoredRecord` without its cursor |
//! | `emitters` | `NODE/WORKER/BOOT` | sequence and hash of the last durable record, state, time last seen, whose it is |
//! | `meta` | `next_cursor` | the next cursor, so that deleting the newest records cannot bring an old cursor back |
//! | | `clock` | the time up to which retention believes the clock |
//! | `logs` | first cursor | id of the log from there on, see [`super::position`] |
//!
//! After a failed write redb refuses further work on an open database, so the writer closes and reopens it; readers take
//! a handle for one short read at a time and do not keep it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use doorward_proto::{v1::StoredRecord, wire};
use prost::Message as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tonic::Status;

use super::{
    position::{Logs, Misplaced},
    room::{Room, Rooms},
    writer,
};
use crate::{access::Owner, metrics::Metrics, private};

pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const EMITTERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("emitters");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const LOGS: TableDefinition<'_, u64, u64> = TableDefinition::new("logs");
/// What the records that one read returns take in memory at most (one record may exceed it).
const READ_MEMORY: usize = 2 << 20;
/// Batches of all streams that may wait for the disk. What they take in memory is bounded by [`Rooms`].
const MAX_WAITING: usize = 256;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the audit log {path} failed: {source}; check the disk's space and health")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// The database is being reopened after a failed write.
    #[error("the audit log is closed after a failed write and is reopened with the next batch")]
    Closed,
    /// A stored record does not decode.
    #[error("the audit log holds a record at cursor {0} that does not decode; restore it from a backup")]
    Corrupt(u64),
}

/// A record whose form and chain within its batch were checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its number.
    pub sequence: u64,
    /// The hash it names as its predecessor's.
    pub previous: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// The emitter that it declares lost.
    pub lost: Option<Lost>,
}

/// An emitter that a worker of its proxy found dead.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Its name.
    pub emitter: String,
    /// It had numbered at least so many records.
    pub sequence: u64,
}

/// What an emitter sent, or what is known of it before it sends anything.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The client that sent it.
    pub owner: Owner,
    /// Whose records.
    pub emitter: String,
    /// The proxy's process; 0: not known.
    pub process: u64,
    /// Ascending, without holes.
    pub records: Vec<Checked>,
    /// The emitter ends after them.
    pub end: bool,
    /// The emitter is remembered although it has sent nothing yet.
    pub announces: bool,
}

/// Why records of a batch were not stored; the stable codes of `AuditAck.error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The disk failed; send again later.
    StorageUnavailable,
    /// A record does not continue the chain of the one before.
    ChainBroken,
    /// Sequence numbers are missing.
    Hole,
    /// Not a canonical record of this emitter.
    Malformed,
    /// Another client began this emitter.
    ForeignEmitter,
    /// The client began more emitters than this log remembers of one.
    TooManyEmitters,
}

impl Refusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::StorageUnavailable => "storage_unavailable",
            Self::ChainBroken => "chain_broken",
            Self::Hole => "hole",
            Self::Malformed => "malformed",
            Self::ForeignEmitter => "foreign_emitter",
            Self::TooManyEmitters => "too_many_emitters",
        }
    }
}

/// Answer to an append: everything up to and with `sequence` is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Last durable sequence of the emitter; 0 = none.
    pub sequence: u64,
    /// Why the rest was not stored.
    pub refusal: Option<Refusal>,
}

pub(super) enum Job {
    Append {
        batch: Batch,
        reply: oneshot::Sender<Appended>,
        /// Held until the batch is answered.
        held: Option<Held>,
    },
    Sequence {
        emitter: String,
        reply: oneshot::Sender<u64>,
    },
    /// Regular housekeeping; `keep`: delete records older than so many microseconds.
    Sweep {
        keep: Option<i64>,
    },
    /// Tries to write.
    Probe,
}

/// What a batch takes of its stream's, its client's and everybody's room while it waits for the disk. It goes back with the
/// answer, whether or not the client ever reads that: else one that does not would keep the room from all others.
pub type Held = (OwnedSemaphorePermit, Room);

/// The log. Cheap to clone; the writer thread ends when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) log: Arc<Log>,
}

/// What readers and the writer share.
pub(super) struct Log {
    path: PathBuf,
    database: RwLock<Option<Arc<Database>>>,
    /// Cursor of the newest durable record.
    pub(super) head: watch::Sender<u64>,
    healthy: AtomicBool,
    /// It was open once, so the head is known.
    known: AtomicBool,
    /// Which log a cursor belongs to.
    pub(super) logs: RwLock<Logs>,
    rooms: Rooms,
    turns: Semaphore,
}

impl Store {
    /// Opens or creates the log and starts its writer. The receiver resolves when the writer has ended.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<(Self, oneshot::Receiver<()>), StoreError> {
        let log = Log::closed(path);
        // A disk that is full or read-only must not keep policy from being served: the log says that it cannot be written,
        // and is opened once it can.
        let state = match log.reopen() {
            Ok(state) => Some(state),
            Err(StoreError::Database { source, path }) if matches!(*source, redb::Error::Io(_)) => {
                tracing::error!(path = %path.display(), error = %source, "the audit log cannot be opened yet; no record is acknowledged");
                log.set_healthy(false);
                None
            }
            Err(error) => return Err(error),
        };
        let (jobs, queue) = mpsc::channel(MAX_WAITING);
        let (ended, end) = oneshot::channel();
        let shared = Arc::clone(&log);
        std::thread::Builder::new()
            .name("audit-writer".into())
            .spawn(move || {
                writer::Writer::new(shared, state, metrics).run(queue);
                // The receiver is gone when nobody waits for the end.
                let _ = ended.send(());
            })
            .map_err(|error| log.error(redb::Error::Io(error)))?;
        Ok((Self { jobs, log }, end))
    }

    /// Appends records; resolves when they are durable or refused.
    pub async fn append(&self, batch: Batch) -> Appended {
        match self.submit(batch, None).await {
            Some(reply) => reply.await.unwrap_or(LOST),
            None => LOST,
        }
    }

    /// Queues an append, so that one stream can have several under way. `None`: the writer has ended.
    pub async fn submit(&self, batch: Batch, held: Option<Held>) -> Option<oneshot::Receiver<Appended>> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Append { batch, reply, held }).await.ok().map(|()| answer)
    }

    /// Remembers an emitter before it may have anything to say: if it is never heard of again, the log says so. Resolves
    /// when that is durable.
    pub async fn announce(&self, owner: Owner, emitter: String, process: u64) -> Appended {
        if !writer::is_emitter(&emitter) {
            return Appended { sequence: 0, refusal: Some(Refusal::Malformed) };
        }
        self.append(Batch { owner, emitter, process, announces: true, ..Batch::default() }).await
    }

    /// Waits until this client may have so many bytes more waiting for the disk.
    pub async fn room(&self, owner: Owner, bytes: usize) -> Room {
        self.log.rooms.take(owner, bytes).await
    }

    /// Last durable sequence of an emitter, in order with what was queued before.
    pub async fn sequence(&self, emitter: String) -> u64 {
        let (reply, answer) = oneshot::channel();
        match self.jobs.send(Job::Sequence { emitter, reply }).await {
            Ok(()) => answer.await.unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Housekeeping, to be called every minute: looks for proxies that are silent for too long, and begins to delete what is
    /// older than `keep` microseconds. That goes on between appends until it is done.
    pub async fn sweep(&self, keep: Option<i64>) {
        // Without a writer the process is ending.
        let _ = self.jobs.send(Job::Sweep { keep }).await;
    }

    /// The id of the log that this cursor belongs to; "" where it is not known.
    pub fn log_at(&self, cursor: u64) -> String {
        self.log.logs.read().unwrap_or_else(PoisonError::into_inner).at(cursor)
    }

    /// One step of a search over the whole log. All searches take their steps one after another, and while records come in,
    /// each step is followed by a pause of its length: so they take half a core then, and appends keep their latency.
    pub async fn scan<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let Ok(_turn) = self.log.turns.acquire().await else {
            return Err(Status::unavailable("the audit log is shutting down; ask again"));
        };
        let (started, head) = (Instant::now(), *self.log.head.borrow());
        let found = super::read::blocking(self, step).await;
        if *self.log.head.borrow() != head {
            tokio::time::sleep(started.elapsed()).await;
        }
        found
    }

    /// Whether a reader can resume after this cursor, which it got with this id of a log ("": it kept none).
    pub fn resumes(&self, cursor: u64, log: &str) -> Result<(), Misplaced> {
        if cursor > 0 && !self.log.known.load(Ordering::Acquire) {
            return Err(Misplaced::Unknown);
        }
        let head = *self.log.head.borrow();
        if cursor > head {
            return Err(Misplaced::Beyond { cursor, head });
        }
        let found = self.log_at(cursor);
        if cursor > 0 && !log.is_empty() && found != log {
            return Err(Misplaced::OtherLog { cursor });
        }
        Ok(())
    }

    /// Tries to write, so that a log that could not be written is known to be well again also if no record comes.
    pub async fn probe(&self) {
        // Without a writer the process is ending.
        let _ = self.jobs.send(Job::Probe).await;
    }

    /// Cursor of the newest durable record, as it grows.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.log.head.subscribe()
    }

    /// Whether the last write succeeded.
    pub fn healthy(&self) -> bool {
        self.log.healthy.load(Ordering::Relaxed)
    }

    /// Up to `limit` records after `cursor`, ascending. Blocks on the disk.
    pub fn after(&self, cursor: u64, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.log.read(cursor.saturating_add(1), u64::MAX, limit, false)
    }

    /// Up to `limit` records before `cursor`, descending. Blocks on the disk.
    pub fn before(&self, cursor: u64, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.log.read(0, cursor.saturating_sub(1), limit, true)
    }

    /// Cursor of the oldest record that is still there. Blocks on the disk.
    pub fn oldest(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.after(0, 1)?.first().map(|record| record.cursor))
    }

    /// A cursor such that every record received at `micros` or later comes after it (binary search: the time received
    /// never decreases along the log). Blocks on the disk.
    pub fn cursor_at(&self, micros: i64) -> Result<u64, StoreError> {
        let (mut low, mut high) = (self.oldest()?.unwrap_or(1).saturating_sub(1), *self.log.head.borrow());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.after(middle, 1)?.first() {
                Some(record) if record.received_micros < micros => low = record.cursor,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

const LOST: Appended = Appended { sequence: 0, refusal: Some(Refusal::StorageUnavailable) };

impl Log {
    /// The log of this file, which is yet to be opened.
    pub(super) fn closed(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_path_buf(),
            database: RwLock::new(None),
            head: watch::Sender::new(0),
            healthy: AtomicBool::new(true),
            known: AtomicBool::new(false),
            logs: RwLock::default(),
            rooms: Rooms::default(),
            turns: Semaphore::new(1),
        })
    }

    pub(super) fn error(&self, source: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(source.into()) }
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Closes the database if it is open, opens it again and reads the durable state from it.
    pub(super) fn reopen(&self) -> Result<writer::State, StoreError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut old) = slot.take() {
            // Readers finish within one short read; the file lock is released only when the last one has.
            for _ in 0..1_000 {
                match Arc::try_unwrap(old) {
                    Ok(database) => {
                        drop(database);
                        break;
                    }
                    Err(shared) => {
                        old = shared;
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        }
        let database = private::database(&self.path).map_err(|e| self.error(e))?;
        let state = self.load(&database)?;
        *slot = Some(Arc::new(database));
        drop(slot);
        self.head.send_replace(state.next.saturating_sub(1));
        self.known.store(true, Ordering::Release);
        Ok(state)
    }

    fn load(&self, database: &Database) -> Result<writer::State, StoreError> {
        let begin = database.begin_read().map_err(|e| self.error(e))?;
        let mut state = writer::State { next: 1, ..Default::default() };
        match begin.open_table(LOGS) {
            Ok(table) => {
                let rows = table.iter().map_err(|e| self.error(e))?;
                let rows = rows.map(|row| row.map(|(first, id)| (first.value(), id.value())));
                let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|e| self.error(e))?;
                *self.logs.write().unwrap_or_else(PoisonError::into_inner) = Logs::new(rows);
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(self.error(error)),
        }
        match begin.open_table(META) {
            Ok(meta) => {
                if let Some(next) = meta.get("next_cursor").map_err(|e| self.error(e))? {
                    state.next = next.value();
                }
                if let Some(clock) = meta.get("clock").map_err(|e| self.error(e))? {
                    state.clock = i64::try_from(clock.value()).ok();
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(state),
            Err(error) => return Err(self.error(error)),
        }
        let emitters = begin.open_table(EMITTERS).map_err(|e| self.error(e))?;
        for row in emitters.iter().map_err(|e| self.error(e))? {
            let (name, value) = row.map_err(|e| self.error(e))?;
            if let Some(emitter) = writer::Emitter::decode(value.value()) {
                state.remember(name.value().to_owned(), emitter);
            }
        }
        let records = begin.open_table(RECORDS).map_err(|e| self.error(e))?;
        if let Some((cursor, value)) = records.last().map_err(|e| self.error(e))? {
            state.received = decode(cursor.value(), value.value())?.received_micros;
        }
        Ok(state)
    }

    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        limit: usize,
        descending: bool,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let database = self.database()?;
        let begin = database.begin_read().map_err(|e| self.error(e))?;
        let table = match begin.open_table(RECORDS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.error(error)),
        };
        // What is on the disk beyond the head is not announced yet, and neither is the log that it is of.
        let to = to.min(*self.head.borrow());
        if from > to {
            return Ok(Vec::new());
        }
        let mut range = table.range(from..=to).map_err(|e| self.error(e))?;
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut memory) = (Vec::new(), 0_usize);
        while found.len() < limit && memory < READ_MEMORY {
            let Some(row) = (if descending { range.next_back() } else { range.next() }) else { break };
            let (cursor, value) = row.map_err(|e| self.error(e))?;
            let weight = wire::weigh(value.value(), &wire::STORED, usize::MAX);
            memory = memory.saturating_add(weight.unwrap_or(READ_MEMORY));
            let stored = decode(cursor.value(), value.value())?;
            found.push(StoredRecord { log: logs.at(stored.cursor), ..stored });
        }
        Ok(found)
    }
}

fn decode(cursor: u64, bytes: &[u8]) -> Result<StoredRecord, StoreError> {
    let mut stored = StoredRecord::decode(bytes).map_err(|_| StoreError::Corrupt(cursor))?;
    stored.cursor = cursor;
    Ok(stored)
}
