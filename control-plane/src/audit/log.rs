//! The open database, and what readers and the writer know of it together.
//!
//! After a failed write redb refuses further work on an open database, so the writer closes and reopens it; readers take
//! a handle for one short read at a time and do not keep it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward_proto::{v1::StoredRecord, wire};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use tokio::sync::watch;

use super::{
    cursors::{Cursor, Cursors},
    emitter::Emitter,
    error::StoreError,
    position::{Logs, Misplaced},
    state::State,
    tables::{self, CLOCK, CURSORS, EMITTERS, LOGS, META, NEXT_CURSOR, RECORDS},
};
use crate::private;

/// What the records that one read returns take in memory at most (one record may exceed it).
const READ_MEMORY: usize = 2 << 20;

/// The log's database.
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
}

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

    /// Whether the last write succeeded.
    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// The id of the log that this cursor belongs to; "" where it is not known.
    pub(super) fn log_at(&self, cursor: u64) -> String {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).at(cursor)
    }

    /// Whether a reader can resume after this cursor, which it got with this id of a log ("": it kept none).
    pub(super) fn resumes(&self, cursor: u64, log: &str) -> Result<(), Misplaced> {
        if cursor > 0 && !self.known.load(Ordering::Acquire) {
            return Err(Misplaced::Unknown);
        }
        let head = *self.head.borrow();
        if cursor > head {
            return Err(Misplaced::Beyond { cursor, head });
        }
        let found = self.log_at(cursor);
        if cursor > 0 && !log.is_empty() && found != log {
            return Err(Misplaced::OtherLog { cursor });
        }
        Ok(())
    }

    /// Closes the database if it is open, opens it again and reads the durable state from it.
    pub(super) fn reopen(&self) -> Result<State, StoreError> {
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

    /// Cursor of the oldest record that is still there. Blocks on the disk.
    pub(super) fn oldest(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.read(0, u64::MAX, 1, false)?.first().map(|record| record.cursor))
    }

    /// All named cursors. Blocks on the disk.
    pub(super) fn cursors(&self) -> Result<Cursors, StoreError> {
        self.load_cursors(&*self.database()?)
    }

    fn load_cursors(&self, database: &Database) -> Result<Cursors, StoreError> {
        let begin = database.begin_read().map_err(|e| self.error(e))?;
        let table = match begin.open_table(CURSORS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Cursors::new()),
            Err(error) => return Err(self.error(error)),
        };
        let mut cursors = Cursors::new();
        for row in table.iter().map_err(|e| self.error(e))? {
            let (name, row) = row.map_err(|e| self.error(e))?;
            if let Some(cursor) = Cursor::decode(row.value()) {
                cursors.insert(name.value().to_owned(), cursor);
            }
        }
        Ok(cursors)
    }

    fn load(&self, database: &Database) -> Result<State, StoreError> {
        let begin = database.begin_read().map_err(|e| self.error(e))?;
        let cursors = self.load_cursors(database)?;
        let mut state = State { next: 1, cursors, ..State::default() };
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
                if let Some(next) = meta.get(NEXT_CURSOR).map_err(|e| self.error(e))? {
                    state.next = next.value();
                }
                if let Some(clock) = meta.get(CLOCK).map_err(|e| self.error(e))? {
                    state.clock = i64::try_from(clock.value()).ok();
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(state),
            Err(error) => return Err(self.error(error)),
        }
        let emitters = begin.open_table(EMITTERS).map_err(|e| self.error(e))?;
        for row in emitters.iter().map_err(|e| self.error(e))? {
            let (name, value) = row.map_err(|e| self.error(e))?;
            if let Some(emitter) = Emitter::decode(value.value()) {
                state.remember(name.value().to_owned(), emitter);
            }
        }
        let records = begin.open_table(RECORDS).map_err(|e| self.error(e))?;
        if let Some((cursor, value)) = records.last().map_err(|e| self.error(e))? {
            state.received = record(cursor.value(), value.value())?.received_micros;
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
            let stored = record(cursor.value(), value.value())?;
            found.push(StoredRecord { log: logs.at(stored.cursor), ..stored });
        }
        Ok(found)
    }
}

fn record(cursor: u64, row: &[u8]) -> Result<StoredRecord, StoreError> {
    tables::record(cursor, row).ok_or(StoreError::Corrupt(cursor))
}
