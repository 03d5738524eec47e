//! Retention: what is too old is deleted, between appends and as fast as it can come in.
//!
//! What a named cursor has not passed is kept for longer, but not for ever: an exporter that stands still must not fill the disk.
//! Beyond that bound records are deleted all the same, and counted as lost to each cursor that had not passed them, in the
//! same transaction.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use redb::ReadableTable as _;

use super::{
    cursors::Cursors,
    error::StoreError,
    jobs::Keep,
    log::Log,
    state::State,
    tables::{CLOCK, CURSORS, META, RECORDS, received},
};
use crate::{clock::now_micros, text::time};

/// How long appends wait for one go of deleting at most. Each go ends with a sync of the disk.
const SLICE: Duration = Duration::from_millis(20);
/// Records deleted between two looks at the clock.
const STEP: usize = 64;
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
    run: Option<Run>,
}

/// One run, from when it begins until nothing is left to delete.
#[derive(Debug)]
struct Run {
    /// Records received before then are to be deleted, if all cursors have passed them.
    before: i64,
    /// And before then, whether or not they have.
    held_before: i64,
    deleted: u64,
    /// Records that each cursor has lost.
    lost: BTreeMap<String, u64>,
    span: tracing::Span,
}

/// What one go has deleted.
struct Deleted {
    records: u64,
    is_done: bool,
    /// The cursors, where some have lost records.
    cursors: Option<Cursors>,
    lost: Vec<(String, u64)>,
}

impl Retention {
    pub(super) fn new(state: &State) -> Self {
        // Where the clock jumped ahead in an earlier run, records were received in what is still the future.
        let base = match (state.clock, state.received) {
            (Some(clock), _) => clock,
            (None, 0) => now_micros(),
            (None, received) => received,
        };
        Self { started: Instant::now(), base, run: None }
    }

    /// Something is left to delete.
    pub(super) fn is_busy(&self) -> bool {
        self.run.is_some()
    }

    /// Now, as far as it is believed.
    pub(super) fn now(&self) -> i64 {
        self.believed(now_micros(), self.started.elapsed())
    }

    fn believed(&self, clock: i64, running: Duration) -> i64 {
        let running = i64::try_from(running.as_micros()).unwrap_or(i64::MAX);
        clock.min(self.base.saturating_add(running.saturating_mul(FASTER)).saturating_add(AHEAD_MICROS))
    }

    /// Begins to delete what is not to be kept at `now`, which is [`Self::now`].
    pub(super) fn begin(&mut self, now: i64, keep: Keep, state: &mut State) {
        let clock = now_micros();
        if clock.saturating_sub(now) > AHEAD_MICROS {
            tracing::warn!(
                seconds = (clock - now) / SECOND,
                "the clock is ahead of what the audit log has seen; retention follows it slowly. If it is wrong, set it: records are deleted by it"
            );
        }
        let before = now.saturating_sub(keep.records);
        let held_before = before.saturating_sub(keep.held);
        let span = tracing::info_span!("audit_retention", before = time(before), held_before = time(held_before));
        // What an earlier run has not deleted yet, this one will.
        let (deleted, lost) = self.run.take().map(|run| (run.deleted, run.lost)).unwrap_or_default();
        self.run = Some(Run { before, held_before, deleted, lost, span });
        state.clock = Some(now);
    }

    /// Deletes nothing more before the next [`Self::begin`].
    pub(super) fn give_up(&mut self) {
        self.run = None;
    }

    /// Deletes for a short time, if there is anything to delete. True: cursors have lost records.
    pub(super) fn delete_some(&mut self, log: &Log, state: &mut State) -> Result<bool, StoreError> {
        let Some(run) = &mut self.run else { return Ok(false) };
        let _entered = run.span.clone().entered();
        let gone = delete(log, state, run.before, run.held_before)?;
        run.deleted += gone.records;
        for (name, lost) in gone.lost {
            *run.lost.entry(name).or_default() += lost;
        }
        let has_lost = gone.cursors.is_some();
        if let Some(cursors) = gone.cursors {
            state.cursors = cursors;
        }
        if gone.is_done
            && let Some(run) = self.run.take()
        {
            run.report(state);
        }
        Ok(has_lost)
    }
}

impl Run {
    fn report(self, state: &State) {
        if self.deleted > 0 {
            tracing::info!(deleted = self.deleted, "old audit records were deleted");
        }
        for (name, lost) in self.lost {
            let stands_since = state.cursors.get(&name).map(|cursor| time(cursor.updated())).unwrap_or_default();
            tracing::warn!(
                cursor = name,
                lost,
                stands_since,
                "records were deleted before this cursor had passed them: its exporter will never deliver them. Start the exporter, or remove the cursor (doorward audit cursors remove)"
            );
        }
    }
}

fn delete(log: &Log, state: &State, before: i64, held_before: i64) -> Result<Deleted, StoreError> {
    let started = Instant::now();
    let database = log.database()?;
    let transaction = database.begin_write().map_err(|e| log.error(e))?;
    let mut gone = Deleted { records: 0, is_done: false, cursors: None, lost: Vec::new() };
    // Up to there every cursor has passed.
    let passed = state.cursors.values().map(|cursor| cursor.at()).min().unwrap_or(u64::MAX);
    {
        let mut records = transaction.open_table(RECORDS).map_err(|e| log.error(e))?;
        let mut through = 0;
        while !gone.is_done && started.elapsed() < SLICE {
            for _ in 0..STEP {
                let first = records.first().map_err(|e| log.error(e))?;
                // Records come in the order in which they were received, so the first that stays ends the run. One that
                // cannot be read is as old as its neighbours.
                let due = first.and_then(|(cursor, row)| {
                    let limit = if cursor.value() <= passed { before } else { held_before };
                    received(row.value()).is_none_or(|at| at < limit).then(|| cursor.value())
                });
                let Some(cursor) = due else {
                    gone.is_done = true;
                    break;
                };
                records.pop_first().map_err(|e| log.error(e))?;
                gone.records += 1;
                through = cursor;
            }
        }
        if through > passed {
            let mut cursors = state.cursors.clone();
            let mut rows = transaction.open_table(CURSORS).map_err(|e| log.error(e))?;
            for (name, cursor) in &mut cursors {
                let lost = cursor.lose(through);
                if lost > 0 {
                    rows.insert(name.as_str(), cursor.encode().as_slice()).map_err(|e| log.error(e))?;
                    gone.lost.push((name.clone(), lost));
                }
            }
            gone.cursors = Some(cursors);
        }
        if let Some(clock) = state.clock.and_then(|clock| u64::try_from(clock).ok()) {
            let mut meta = transaction.open_table(META).map_err(|e| log.error(e))?;
            meta.insert(CLOCK, clock).map_err(|e| log.error(e))?;
        }
    }
    transaction.commit().map_err(|e| log.error(e))?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400 * SECOND;
    const NOW: i64 = 1_800_000_000 * SECOND;

    fn retention(base: i64) -> Retention {
        Retention { started: Instant::now(), base, run: None }
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_followed_slowly_and_a_right_one_at_once() {
        let retention = retention(NOW);
        let minute = Duration::from_secs(60);
        assert_eq!(retention.believed(NOW + 60 * SECOND, minute), NOW + 60 * SECOND);
        assert_eq!(retention.believed(NOW - DAY, minute), NOW - DAY, "one that is set back deletes less");
        let jumped = retention.believed(NOW + 365 * DAY, minute);
        assert!(jumped <= NOW + AHEAD_MICROS + 24 * 60 * SECOND, "{}", (jumped - NOW) / SECOND);
        // Off for a hundred days: caught up within five.
        assert_eq!(retention.believed(NOW + 105 * DAY, Duration::from_secs(5 * 86_400)), NOW + 105 * DAY);
    }

    #[test]
    fn a_log_that_a_wrong_clock_has_written_to_does_not_make_the_next_process_believe_it() {
        let state = State { received: NOW + 365 * DAY, clock: Some(NOW), ..State::default() };
        assert_eq!(Retention::new(&state).base, NOW);
        assert_eq!(Retention::new(&State { clock: None, ..state }).base, NOW + 365 * DAY);
    }
}
