//! The one thread that writes the log.
//!
//! It takes everything that waits, checks it against the durable state of its emitters, writes it in one transaction and
//! answers after the commit has reached the disk. So the cost of a sync is shared by all proxies, and an answer is never
//! ahead of the disk.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{
    cursors::{Change, Cursor, CursorError, Cursors, Start},
    emitter::Emitter,
    error::StoreError,
    housekeeping::{self, REMEMBER_MICROS, SILENCE},
    jobs::{Appended, Batch, Held, Job, Keep, Refusal},
    log::Log,
    pending::Pending,
    position::Position,
    retention::Retention,
    state::State,
    tables::{CURSORS, EMITTERS, LOGS, META, NEXT_CURSOR, RECORDS},
};
use crate::metrics::Metrics;

/// Records in one commit at most; what waits beyond goes into the next.
const COMMIT_RECORDS: usize = 65_536;

/// What waits for the next commit.
enum Waiting {
    Append { batch: Batch, reply: oneshot::Sender<Appended>, _held: Option<Held> },
    Change { change: Change, reply: oneshot::Sender<Result<Cursor, CursorError>> },
}

/// What is answered once the commit is durable.
enum Answer {
    Appended(Appended),
    Changed(Result<Cursor, CursorError>),
}

pub(super) struct Writer {
    log: Arc<Log>,
    state: State,
    metrics: Arc<Metrics>,
    broken: bool,
    /// The log was open before; what it held is known.
    opened: bool,
    /// The id of the log from the first record on that this process writes.
    id: u64,
    retention: Retention,
    /// Since then the log could be written whenever it was tried.
    well_since: Instant,
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
                        batch.push(Waiting::Append { batch: records, reply, _held: held });
                    }
                    Job::Change { change, reply } => {
                        count += 1;
                        batch.push(Waiting::Change { change, reply });
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
            let answers = batch.iter().map(|waiting| match waiting {
                Waiting::Append { batch, .. } => Answer::Appended(pending.append(batch)),
                Waiting::Change { change, .. } => {
                    Answer::Changed(self.place(change).and_then(|at| pending.change(change, &at)))
                }
            });
            let answers = answers.collect::<Vec<_>>();
            let done = self.write(pending)?;
            self.take(done);
            Ok(answers)
        });
        match answers {
            // A receiver that is gone belongs to a stream that is gone; its records stay and a resend finds them.
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    match (waiting, answer) {
                        (Waiting::Append { reply, .. }, Answer::Appended(appended)) => {
                            let _ = reply.send(appended);
                        }
                        (Waiting::Change { reply, .. }, Answer::Changed(changed)) => {
                            let _ = reply.send(changed);
                        }
                        // Each has the answer of its kind.
                        (Waiting::Append { .. }, Answer::Changed(_))
                        | (Waiting::Change { .. }, Answer::Appended(_)) => {}
                    }
                }
            }
            Err(error) => {
                self.fail(&error);
                for waiting in batch {
                    match waiting {
                        Waiting::Append { batch, reply, .. } => {
                            let sequence = self.sequence(&batch.emitter);
                            let _ = reply.send(Appended { sequence, refusal: Some(Refusal::StorageUnavailable) });
                        }
                        Waiting::Change { reply, .. } => {
                            let _ = reply.send(Err(CursorError::Unavailable));
                        }
                    }
                }
            }
        }
    }

    /// The place that a change of a cursor names, if it is one of this log.
    fn place(&self, change: &Change) -> Result<Position, CursorError> {
        let cursor = match change {
            Change::Create(_, Start::Oldest) => self.log.oldest()?.unwrap_or(self.state.next).saturating_sub(1),
            Change::Create(_, Start::Newest) => self.state.next.saturating_sub(1),
            Change::Create(_, Start::After(to)) | Change::Advance { to, .. } => {
                self.log.resumes(to.cursor, &to.log)?;
                to.cursor
            }
            Change::Remove(_) => return Ok(Position::default()),
        };
        Ok(Position { log: self.log.log_at(cursor), cursor })
    }

    fn fail(&mut self, error: &StoreError) {
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
    fn recover(&mut self) -> Result<(), StoreError> {
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

    fn pending(&self) -> Pending<'_> {
        Pending::new(&self.state)
    }

    /// Writes a commit; durable when this returns.
    fn write(&self, pending: Pending<'_>) -> Result<Done, StoreError> {
        let Pending { next, received, emitters, rows, duplicates, durable, cursors, .. } = pending;
        let mut done =
            Done { next, received, emitters, rows: rows.len() as u64, duplicates, begins: None, cursors: None };
        if let Cow::Owned(cursors) = cursors {
            done.cursors = Some(cursors);
        }
        if done.emitters.is_empty() && done.cursors.is_none() {
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
            meta.insert(NEXT_CURSOR, next).map_err(|e| self.log.error(e))?;
            if !rows.is_empty() && !self.has_begun() {
                let mut logs = transaction.open_table(LOGS).map_err(|e| self.log.error(e))?;
                logs.insert(durable.next, self.id).map_err(|e| self.log.error(e))?;
                done.begins = Some(durable.next);
            }
            if let Some(cursors) = &done.cursors {
                let mut table = transaction.open_table(CURSORS).map_err(|e| self.log.error(e))?;
                table.retain(|name, _| cursors.contains_key(name)).map_err(|e| self.log.error(e))?;
                for (name, cursor) in cursors {
                    table.insert(name.as_str(), cursor.encode().as_slice()).map_err(|e| self.log.error(e))?;
                }
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
                meta.insert(NEXT_CURSOR, self.state.next).map_err(|e| self.log.error(e))?;
            }
            transaction.commit().map_err(|e| self.log.error(e))
        });
        match written {
            Ok(()) => self.log.set_healthy(true),
            Err(error) => self.fail(&error),
        }
    }

    /// Takes over what is durable now, and shows it to readers.
    fn take(&mut self, done: Done) {
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
        if let Some(cursors) = done.cursors {
            for name in self.state.cursors.keys().filter(|name| !cursors.contains_key(*name)) {
                self.metrics.forget_cursor(name);
            }
            self.state.cursors = cursors;
            self.measure_cursors();
        }
    }

    /// What metrics say of the cursors: after each change of one, and with the housekeeping.
    fn measure_cursors(&self) {
        let head = self.state.next.saturating_sub(1);
        for (name, cursor) in &self.state.cursors {
            let told = cursor.describe(head, None);
            self.metrics.measure_cursor(name, told.lag, cursor.lost(), cursor.updated());
        }
    }

    /// Housekeeping; see [`super::store::Store::sweep`].
    fn sweep(&mut self, keep: Option<Keep>) {
        let now = self.retention.now();
        self.measure_cursors();
        let kept_up = self
            .recover()
            .and_then(|()| self.find_silent(now, self.well_since.elapsed()))
            .and_then(|()| self.forget(&housekeeping::closed(&self.state, now.saturating_sub(REMEMBER_MICROS))));
        match (kept_up, keep) {
            (Err(error), _) => self.fail(&error),
            (Ok(()), Some(keep)) => self.retention.begin(now, keep, &mut self.state),
            (Ok(()), None) => {}
        }
    }

    /// Deletes for a short time, if there is anything to delete.
    fn delete_some(&mut self) {
        if !self.retention.is_busy() {
            return;
        }
        let deleted = self.recover().and_then(|()| self.retention.delete_some(&self.log, &mut self.state));
        match deleted {
            Ok(true) => self.measure_cursors(),
            Ok(false) => {}
            Err(error) => {
                self.retention.give_up();
                self.fail(&error);
            }
        }
    }

    fn forget(&mut self, names: &[String]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let transaction = self.log.database()?.begin_write().map_err(|e| self.log.error(e))?;
        {
            let mut emitters = transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
            for name in names {
                emitters.remove(name.as_str()).map_err(|e| self.log.error(e))?;
            }
        }
        transaction.commit().map_err(|e| self.log.error(e))?;
        for name in names {
            self.state.forget(name);
        }
        Ok(())
    }

    /// `well`: for so long the log could be written, and so could hear of proxies.
    fn find_silent(&mut self, now: i64, well: Duration) -> Result<(), StoreError> {
        if well < SILENCE {
            return Ok(());
        }
        let since = now.saturating_sub(i64::try_from(SILENCE.as_micros()).unwrap_or(i64::MAX));
        self.close_silent(since)
    }

    fn close_silent(&mut self, since: i64) -> Result<(), StoreError> {
        let silent = housekeeping::silent(&self.state, since);
        if silent.is_empty() {
            return Ok(());
        }
        let mut pending = self.pending();
        for (name, emitter, detail) in silent {
            pending.supersede_one(name, emitter, 0, detail);
        }
        let done = self.write(pending)?;
        self.take(done);
        Ok(())
    }
}

/// A commit that is on the disk.
struct Done {
    next: u64,
    received: i64,
    emitters: BTreeMap<String, Emitter>,
    rows: u64,
    duplicates: u64,
    /// The first cursor of this process, if it is in this commit.
    begins: Option<u64>,
    /// All cursors, if one was changed.
    cursors: Option<Cursors>,
}

#[cfg(test)]
mod tests;
