//! Retention: what is too old is deleted, between appends and as fast as it can come in.

use std::time::{Duration, Instant};

use redb::ReadableTable as _;

use super::{
    log::{Log, StoreError},
    state::State,
    tables::{CLOCK, META, RECORDS, received},
};
use crate::clock::now_micros;

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
    pub(super) fn now(&self) -> i64 {
        self.believed(now_micros(), self.started.elapsed())
    }

    fn believed(&self, clock: i64, running: Duration) -> i64 {
        let running = i64::try_from(running.as_micros()).unwrap_or(i64::MAX);
        clock.min(self.base.saturating_add(running.saturating_mul(FASTER)).saturating_add(AHEAD_MICROS))
    }

    /// Begins to delete what was received more than so many microseconds before `now`, which is [`Self::now`].
    pub(super) fn begin(&mut self, now: i64, keep: i64, state: &mut State) {
        let clock = now_micros();
        if clock.saturating_sub(now) > AHEAD_MICROS {
            tracing::warn!(
                seconds = (clock - now) / SECOND,
                "the clock is ahead of what the audit log has seen; retention follows it slowly. If it is wrong, set it: records are deleted by it"
            );
        }
        self.before = Some(now.saturating_sub(keep));
        state.clock = Some(now);
    }

    /// Deletes nothing more before the next [`Self::begin`].
    pub(super) fn give_up(&mut self) {
        self.before = None;
    }

    /// Deletes for a short time, if there is anything to delete.
    pub(super) fn delete_some(&mut self, log: &Log, state: &State) -> Result<(), StoreError> {
        let Some(before) = self.before else { return Ok(()) };
        let (deleted, is_done) = delete(log, state, before)?;
        self.deleted += deleted;
        if is_done {
            self.before = None;
            let deleted = std::mem::take(&mut self.deleted);
            if deleted > 0 {
                tracing::info!(deleted, "old audit records were deleted");
            }
        }
        Ok(())
    }
}

fn delete(log: &Log, state: &State, before: i64) -> Result<(u64, bool), StoreError> {
    let started = Instant::now();
    let database = log.database()?;
    let transaction = database.begin_write().map_err(|e| log.error(e))?;
    let (mut deleted, mut is_done) = (0, false);
    {
        let mut records = transaction.open_table(RECORDS).map_err(|e| log.error(e))?;
        while !is_done && started.elapsed() < SLICE {
            for _ in 0..STEP {
                let first = records.first().map_err(|e| log.error(e))?;
                // One that cannot be read is as old as its neighbours.
                if first.is_none_or(|(_, row)| received(row.value()).is_some_and(|at| at >= before)) {
                    is_done = true;
                    break;
                }
                records.pop_first().map_err(|e| log.error(e))?;
                deleted += 1;
            }
        }
        if let Some(clock) = state.clock.and_then(|clock| u64::try_from(clock).ok()) {
            let mut meta = transaction.open_table(META).map_err(|e| log.error(e))?;
            meta.insert(CLOCK, clock).map_err(|e| log.error(e))?;
        }
    }
    transaction.commit().map_err(|e| log.error(e))?;
    Ok((deleted, is_done))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400 * SECOND;
    const NOW: i64 = 1_800_000_000 * SECOND;

    fn retention(base: i64) -> Retention {
        Retention { started: Instant::now(), base, before: None, deleted: 0 }
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
