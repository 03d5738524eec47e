//! The log as everybody else holds it: what asks the one writer thread, and what reads from the disk.

use std::{path::Path, sync::Arc, time::Instant};

use doorward_proto::v1::{AuditCursor, StoredRecord};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::Status;

use super::{
    cursors::{Change, Cursor, CursorError, CursorName},
    emitter::is_emitter,
    error::StoreError,
    jobs::{Appended, Batch, Held, Job, Keep, Refusal},
    log::Log,
    position::Misplaced,
    room::{Room, Rooms},
    writer::Writer,
};
use crate::{certificate::Owner, metrics::Metrics};

/// Batches of all streams that may wait for the disk. What they take in memory is bounded by [`Rooms`].
const MAX_WAITING: usize = 256;

/// The log. Cheap to clone; the writer thread ends when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    log: Arc<Log>,
    rooms: Arc<Rooms>,
    /// One search at a time.
    turns: Arc<Semaphore>,
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
                Writer::new(shared, state, metrics).run(queue);
                // The receiver is gone when nobody waits for the end.
                let _ = ended.send(());
            })
            .map_err(|error| log.error(redb::Error::Io(error)))?;
        Ok((Self { jobs, log, rooms: Arc::default(), turns: Arc::new(Semaphore::new(1)) }, end))
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
        if !is_emitter(&emitter) {
            return Appended { sequence: 0, refusal: Some(Refusal::Malformed) };
        }
        self.append(Batch { owner, emitter, process, announces: true, ..Batch::default() }).await
    }

    /// Waits until this client may have so many bytes more waiting for the disk.
    pub async fn room(&self, owner: Owner, bytes: usize) -> Room {
        self.rooms.take(owner, bytes).await
    }

    /// Last durable sequence of an emitter, in order with what was queued before.
    pub async fn sequence(&self, emitter: String) -> u64 {
        let (reply, answer) = oneshot::channel();
        match self.jobs.send(Job::Sequence { emitter, reply }).await {
            Ok(()) => answer.await.unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Makes, moves or removes a named cursor; resolves when that is durable.
    pub async fn change(&self, change: Change) -> Result<AuditCursor, CursorError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Change { change, reply }).await.map_err(|_| CursorError::Unavailable)?;
        let changed = answer.await.map_err(|_| CursorError::Unavailable)??;
        Ok(changed.describe(*self.log.head.borrow(), None))
    }

    /// All named cursors, by name. Blocks on the disk.
    pub fn cursors(&self) -> Result<Vec<AuditCursor>, StoreError> {
        self.log.cursors()?.values().map(|cursor| self.describe(cursor)).collect()
    }

    /// The cursor of this name. Blocks on the disk.
    pub fn cursor(&self, name: &CursorName) -> Result<Option<AuditCursor>, StoreError> {
        self.log.cursors()?.get(name.as_str()).map(|cursor| self.describe(cursor)).transpose()
    }

    fn describe(&self, cursor: &Cursor) -> Result<AuditCursor, StoreError> {
        let next = self.after(cursor.passed(), 1)?;
        Ok(cursor.describe(*self.log.head.borrow(), next.first().map(|stored| stored.received_micros)))
    }

    /// Housekeeping, to be called every minute: looks for proxies that are silent for too long, and begins to delete what is
    /// not to be kept. That goes on between appends until it is done.
    pub async fn sweep(&self, keep: Option<Keep>) {
        // Without a writer the process is ending.
        let _ = self.jobs.send(Job::Sweep { keep }).await;
    }

    /// The id of the log that this cursor belongs to; "" where it is not known.
    pub fn log_at(&self, cursor: u64) -> String {
        self.log.log_at(cursor)
    }

    /// Runs a blocking read of the log.
    pub async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || read(&store))
            .await
            .map_err(|_| Status::internal("reading the audit log was interrupted; ask again"))?
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    /// One step of a search over the whole log. All searches take their steps one after another, and while records come in,
    /// each step is followed by a pause of its length: so they take half a core then, and appends keep their latency.
    pub async fn scan<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(Status::unavailable("the audit log is shutting down; ask again"));
        };
        let (started, head) = (Instant::now(), *self.log.head.borrow());
        let found = self.blocking(step).await;
        if *self.log.head.borrow() != head {
            tokio::time::sleep(started.elapsed()).await;
        }
        found
    }

    /// Whether a reader can resume after this cursor, which it got with this id of a log ("": it kept none).
    pub fn resumes(&self, cursor: u64, log: &str) -> Result<(), Misplaced> {
        self.log.resumes(cursor, log)
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
        self.log.healthy()
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
        self.log.oldest()
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
