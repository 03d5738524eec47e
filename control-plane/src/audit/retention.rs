//! Housekeeping of the writer: what is too old is deleted, between appends and as fast as it can come in; and proxies that
//! have been silent for too long are noticed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use prost::encoding::{WireType, decode_key, decode_varint};
use redb::ReadableTable as _;

use super::{
    store::{EMITTERS, META, RECORDS, StoreError},
    writer::{OWN, Phase, State, Writer, node},
};
use crate::clock::now_micros;

/// How long appends wait for one go of deleting at most. Each go ends with a sync of the disk.
const SLICE: Duration = Duration::from_millis(20);
/// Records deleted between two looks at the clock.
const STEP: usize = 64;
/// How long a closed emitter is remembered, so that a late resend is still recognised.
const REMEMBER_MICROS: i64 = 7 * 86_400 * SECOND;
/// A proxy subscribes anew every hour; one that has given no sign for so long, while it could, is gone.
const SILENCE: Duration = Duration::from_secs(6 * 3600);
const SECOND: i64 = 1_000_000;
/// So much faster than the time that this process has run, the clock may go before retention follows it no further.
const FASTER: i64 = 24;
/// And so much ahead it may be in any case.
const AHEAD_MICROS: i64 = 3600 * SECOND;

/// What is being deleted, and up to which time the clock is believed.
///
/// A clock that jumps ahead would make everything old. So what counts as now goes on from what the log saw last with at most
/// [`FASTER`] times the time that this process has run: a wrong clock costs at most a day's records an hour, and the log of
/// the process says all the while that it is wrong; where the clock is right, and the control plane was merely off for some
/// months, it is caught up within days.
#[derive(Debug)]
pub(super) struct Retention {
    started: Instant,
    /// What the log saw last, before this process.
    base: i64,
    /// Records received before then are to be deleted.
    before: Option<i64>,
    deleted: u64,
}

impl Retention {
    pub(super) fn new(state: &State) -> Self {
        // Where the clock jumped ahead in an earlier run, records were received in what is still the future.
        let base = match (state.clock, state.received) {
            (Some(clock), _) => clock,
            (None, 0) => now_micros(),
            (None, received) => received,
        };
        Self { started: Instant::now(), base, before: None, deleted: 0 }
    }

    /// Something is left to delete.
    pub(super) fn is_busy(&self) -> bool {
        self.before.is_some()
    }

    /// Now, as far as it is believed.
    fn now(&self, clock: i64, running: Duration) -> i64 {
        let running = i64::try_from(running.as_micros()).unwrap_or(i64::MAX);
        clock.min(self.base.saturating_add(running.saturating_mul(FASTER)).saturating_add(AHEAD_MICROS))
    }
}

impl Writer {
    /// Housekeeping; see [`super::store::Store::sweep`].
    pub(super) fn sweep(&mut self, keep: Option<i64>) {
        let now = self.retention.now(now_micros(), self.retention.started.elapsed());
        let kept_up = self
            .recover()
            .and_then(|()| self.find_silent(now, self.well_since.elapsed()))
            .and_then(|()| self.forget_closed(now.saturating_sub(REMEMBER_MICROS)));
        if let Err(error) = kept_up {
            self.fail(&error);
            return;
        }
        let clock = now_micros();
        let Some(keep) = keep else { return };
        if clock.saturating_sub(now) > AHEAD_MICROS {
            tracing::warn!(
                seconds = (clock - now) / SECOND,
                "the clock is ahead of what the audit log has seen; retention follows it slowly. If it is wrong, set it: records are deleted by it"
            );
        }
        self.retention.before = Some(now.saturating_sub(keep));
        self.state.clock = Some(now);
    }

    /// Deletes for a short time, if there is anything to delete.
    pub(super) fn delete_some(&mut self) {
        let Some(before) = self.retention.before else { return };
        match self.recover().and_then(|()| self.delete(before)) {
            Ok((deleted, is_done)) => {
                self.retention.deleted += deleted;
                if is_done {
                    self.retention.before = None;
                    let deleted = std::mem::take(&mut self.retention.deleted);
                    if deleted > 0 {
                        tracing::info!(deleted, "old audit records were deleted");
                    }
                }
            }
            Err(error) => {
                // The next sweep begins again.
                self.retention.before = None;
                self.fail(&error);
            }
        }
    }

    fn delete(&mut self, before: i64) -> Result<(u64, bool), StoreError> {
        let started = Instant::now();
        let database = self.log.database()?;
        let transaction = database.begin_write().map_err(|e| self.log.error(e))?;
        let (mut deleted, mut is_done) = (0, false);
        {
            let mut records = transaction.open_table(RECORDS).map_err(|e| self.log.error(e))?;
            while !is_done && started.elapsed() < SLICE {
                for _ in 0..STEP {
                    let first = records.first().map_err(|e| self.log.error(e))?;
                    // One that cannot be read is as old as its neighbours.
                    if first.is_none_or(|(_, row)| received(row.value()).is_some_and(|at| at >= before)) {
                        is_done = true;
                        break;
                    }
                    records.pop_first().map_err(|e| self.log.error(e))?;
                    deleted += 1;
                }
            }
            if let Some(clock) = self.state.clock.and_then(|clock| u64::try_from(clock).ok()) {
                let mut meta = transaction.open_table(META).map_err(|e| self.log.error(e))?;
                meta.insert("clock", clock).map_err(|e| self.log.error(e))?;
            }
        }
        transaction.commit().map_err(|e| self.log.error(e))?;
        Ok((deleted, is_done))
    }

    /// Forgets emitters that closed before then. Also where all records are kept: of each client only so many emitters are
    /// remembered, and every start of a proxy makes new ones.
    fn forget_closed(&mut self, before: i64) -> Result<(), StoreError> {
        let closed = self
            .state
            .emitters
            .iter()
            .filter(|(name, e)| e.phase != Phase::Open && e.seen < before && name.as_str() != OWN);
        let closed: Vec<String> = closed.map(|(name, _)| name.clone()).collect();
        if closed.is_empty() {
            return Ok(());
        }
        let transaction = self.log.database()?.begin_write().map_err(|e| self.log.error(e))?;
        {
            let mut emitters = transaction.open_table(EMITTERS).map_err(|e| self.log.error(e))?;
            for name in &closed {
                emitters.remove(name.as_str()).map_err(|e| self.log.error(e))?;
            }
        }
        transaction.commit().map_err(|e| self.log.error(e))?;
        for name in &closed {
            self.state.forget(name);
        }
        Ok(())
    }

    /// A proxy that never comes back closes no emitter of its own, so the log says that it is gone. Only those are looked at
    /// whose process is known: they announce themselves again and again, also while they have nothing to record. `well`: for
    /// so long the log could be written, and so could hear of them.
    fn find_silent(&mut self, now: i64, well: Duration) -> Result<(), StoreError> {
        if well < SILENCE {
            return Ok(());
        }
        let since = now.saturating_sub(i64::try_from(SILENCE.as_micros()).unwrap_or(i64::MAX));
        self.close_silent(since)
    }

    pub(super) fn close_silent(&mut self, since: i64) -> Result<(), StoreError> {
        let mut newest: HashMap<(&str, u64), i64> = HashMap::new();
        for (name, emitter) in &self.state.emitters {
            let seen = newest.entry((node(name).unwrap_or(name), emitter.process)).or_insert(i64::MIN);
            *seen = emitter.seen.max(*seen);
        }
        let is_silent = |name: &str, process: u64| {
            process != 0 && newest.get(&(node(name).unwrap_or(name), process)).is_some_and(|seen| *seen < since)
        };
        let silent: Vec<_> = self
            .state
            .emitters
            .iter()
            .filter(|(name, emitter)| emitter.phase == Phase::Open && is_silent(name, emitter.process))
            .map(|(name, emitter)| (name.clone(), *emitter))
            .collect();
        if silent.is_empty() {
            return Ok(());
        }
        let mut pending = self.pending();
        for (name, emitter) in silent {
            let detail = format!(
                "Nothing was heard of the proxy of emitter {name} for over {} hours, and it had sent no end mark; what it had \
                 not sent is lost, unless it comes back.",
                SILENCE.as_secs() / 3600
            );
            pending.supersede_one(name, emitter, 0, detail);
        }
        let done = self.write(pending)?;
        self.take(done);
        Ok(())
    }
}

/// When a row of the log was received, without decoding all of it.
fn received(mut row: &[u8]) -> Option<i64> {
    while !row.is_empty() {
        let (field, form) = decode_key(&mut row).ok()?;
        match form {
            WireType::Varint => {
                let value = decode_varint(&mut row).ok()?;
                if field == 4 {
                    return Some(i64::from_ne_bytes(value.to_ne_bytes()));
                }
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut row).ok()?).ok()?;
                row = row.get(length..)?;
            }
            _ => return None,
        }
    }
    // Left out where it is 0.
    Some(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::{
        store::{Batch, Log},
        writer::Emitter,
    };

    const DAY: i64 = 86_400 * SECOND;
    const NOW: i64 = 1_800_000_000 * SECOND;

    fn retention(base: i64) -> Retention {
        Retention { started: Instant::now(), base, before: None, deleted: 0 }
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_followed_slowly_and_a_right_one_at_once() {
        let retention = retention(NOW);
        let minute = Duration::from_secs(60);
        assert_eq!(retention.now(NOW + 60 * SECOND, minute), NOW + 60 * SECOND);
        assert_eq!(retention.now(NOW - DAY, minute), NOW - DAY, "one that is set back deletes less");
        let jumped = retention.now(NOW + 365 * DAY, minute);
        assert!(jumped <= NOW + AHEAD_MICROS + 24 * 60 * SECOND, "{}", (jumped - NOW) / SECOND);
        // Off for a hundred days: caught up within five.
        assert_eq!(retention.now(NOW + 105 * DAY, Duration::from_secs(5 * 86_400)), NOW + 105 * DAY);
    }

    #[test]
    fn a_log_that_a_wrong_clock_has_written_to_does_not_make_the_next_process_believe_it() {
        let state = State { received: NOW + 365 * DAY, clock: Some(NOW), ..State::default() };
        assert_eq!(Retention::new(&state).base, NOW);
        assert_eq!(Retention::new(&State { clock: None, ..state }).base, NOW + 365 * DAY);
    }

    #[test]
    fn a_proxy_that_never_comes_back_leaves_a_gap_record_for_each_worker_that_did_not_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::closed(&dir.path().join("audit.redb"));
        let state = log.reopen().unwrap();
        let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
        let announce = |writer: &mut Writer, name: &str, process, end| {
            let mut pending = writer.pending();
            let emitter = name.to_owned();
            pending.append(&Batch { emitter, process, end, announces: true, ..Batch::default() });
            let done = writer.write(pending).unwrap();
            writer.take(done);
        };
        for (name, process, end) in
            [("gone/1/a", 1, false), ("gone/2/b", 1, false), ("gone/3/c", 1, true), ("old/1/a", 0, false)]
        {
            announce(&mut writer, name, process, end);
        }
        let since = now_micros() + 1;
        std::thread::sleep(Duration::from_millis(2));
        // Of this one only the leader gave a sign, but that is one of all its workers.
        announce(&mut writer, "there/1/a", 2, false);
        announce(&mut writer, "there/2/b", 2, false);
        let open = |writer: &Writer| {
            let open = writer.state.emitters.iter().filter(|(_, e): &(&String, &Emitter)| e.phase == Phase::Open);
            open.map(|(name, _)| name.clone()).filter(|name| !name.starts_with("control-plane/")).collect::<Vec<_>>()
        };
        assert!(writer.find_silent(now_micros() + 7 * 3600 * SECOND, Duration::from_secs(60)).is_ok());
        assert_eq!(open(&writer).len(), 5, "the control plane may have been away itself");
        for _ in 0..2 {
            writer.close_silent(since).unwrap();
            assert_eq!(open(&writer), ["old/1/a", "there/1/a", "there/2/b"]);
            assert_eq!(*log.head.borrow(), 2, "one gap record for each");
        }
        // Nor where it ran, but could not write: then nobody could give a sign.
        let now = now_micros() + 7 * 3600 * SECOND;
        writer.well_since = Instant::now().checked_sub(Duration::from_secs(7 * 3600)).unwrap();
        writer.fail(&StoreError::Closed);
        assert!(writer.find_silent(now, writer.well_since.elapsed()).is_ok());
        assert_eq!(open(&writer), ["old/1/a", "there/1/a", "there/2/b"]);
        // It was only away.
        announce(&mut writer, "gone/1/a", 1, false);
        assert!(open(&writer).contains(&"gone/1/a".to_owned()));
    }

    #[test]
    fn what_closed_a_week_ago_is_forgotten_also_where_all_records_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::closed(&dir.path().join("audit.redb"));
        let state = log.reopen().unwrap();
        let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
        let mut pending = writer.pending();
        for (name, end) in [("n/1/a", true), ("n/2/b", false)] {
            pending.append(&Batch { emitter: name.into(), end, announces: true, ..Batch::default() });
        }
        let done = writer.write(pending).unwrap();
        writer.take(done);
        writer.sweep(None);
        assert_eq!(writer.state.emitters.len(), 2, "a late resend is still recognised");
        for emitter in writer.state.emitters.values_mut() {
            emitter.seen -= 8 * DAY;
        }
        writer.sweep(None);
        assert_eq!(writer.state.emitters.keys().collect::<Vec<_>>(), ["n/2/b"]);
        assert_eq!(log.reopen().unwrap().emitters.len(), 1);
    }

    #[test]
    fn a_record_is_read_only_once_it_is_known_which_log_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::closed(&dir.path().join("audit.redb"));
        let state = log.reopen().unwrap();
        let mut writer = Writer::new(Arc::clone(&log), Some(state), Arc::default());
        let mut pending = writer.pending();
        pending.append(&Batch { emitter: "n/1/a".into(), announces: true, process: 1, ..Batch::default() });
        pending.append(&Batch { emitter: "n/1/b".into(), announces: true, process: 2, ..Batch::default() });
        let done = writer.write(pending).unwrap();
        let read = || log.read(0, u64::MAX, 10, false).unwrap();
        assert_eq!(read().len(), 0, "committed, and the head does not say so yet");
        writer.take(done);
        let found = read();
        assert_eq!((found.len(), found[0].log.len()), (1, 16));
    }
}
