//! A tail: records as they come, read from the disk and woken by the log's head. So there is no per-reader queue of records in
//! memory, and a reader can resume anywhere. A follower that has caught up once and then falls too far behind is moved to the
//! head and told how much it missed and from where it can resume; one that exports by a named cursor is not.

use std::time::Duration;

use doorward_proto::v1::{Filter, Heartbeat, TailEvent, TailNotice, TailRequest, tail_event::Event};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tonic::Status;

use super::{
    filter::{self, matches},
    room::Outlet,
    store::Store,
};
use crate::clock;

/// Records read from the disk at a time.
pub(super) const CHUNK: usize = 512;
/// Records that a follower may fall behind after it had caught up.
const MAX_LAG: u64 = 100_000;
/// Records examined at most to find the newest N that match.
const MAX_LOOK_BACK: u64 = 5_000_000;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A record may be received before its own time says, by this much clock skew.
const SKEW_MICROS: i64 = 300 * 1_000_000;

/// The cursor after which a filter's `since` and an explicit cursor allow records.
pub(super) async fn since(store: &Store, filter: &Filter, after_cursor: u64) -> Result<u64, Status> {
    if filter.since_micros == 0 {
        return Ok(after_cursor);
    }
    let from = filter.since_micros.saturating_sub(SKEW_MICROS);
    Ok(store.blocking(move |store| store.cursor_at(from)).await?.max(after_cursor))
}

/// A tail that was asked for.
pub(super) struct Tail {
    /// What was asked.
    pub(super) request: TailRequest,
    /// Where to start, where that is said as a place in the log.
    pub(super) after: Option<u64>,
    /// The log.
    pub(super) store: Store,
    /// To the reader.
    pub(super) events: Outlet<TailEvent>,
    /// Becomes true when the process ends.
    pub(super) shutdown: watch::Receiver<bool>,
}

/// `Err(None)`: the reader is gone. `Err(Some(_))`: tell it why the tail ends.
pub(super) type Ended = Result<(), Option<Status>>;

impl Tail {
    /// Sends events until the tail ends.
    pub(super) async fn run(&self) -> Ended {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            result = self.follow() => result,
            () = self.events.closed() => Err(None),
            () = clock::ended(&mut shutdown) => Err(Some(Status::unavailable("the control plane is shutting down; resume by cursor"))),
        }
    }

    async fn follow(&self) -> Ended {
        let mut head = self.store.head();
        let filter = filter::as_recorded(self.request.filter.clone().unwrap_or_default());
        let started_at = *head.borrow();
        let mut cursor = self.start(&filter, started_at).await?;
        let stop = (!self.request.follow).then_some(started_at);
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        // Who named no place misses nothing before the first record.
        let mut is_under_way = self.after.is_some();
        let mut caught_up = false;
        loop {
            let newest = *head.borrow_and_update();
            // An exporter's is never moved on: what it must still deliver is kept for it.
            let may_skip = self.request.cursor_name.is_empty();
            if may_skip && caught_up && newest.saturating_sub(cursor) > MAX_LAG {
                let message = "This tail read too slowly; it goes on with what comes now. Resume from the cursor to read what it missed.";
                self.notice("slow_reader", newest - cursor, message, cursor).await?;
                cursor = newest;
            }
            while cursor < newest {
                let chunk = self.store.blocking(move |store| store.after(cursor, CHUNK)).await?;
                // Cursors have no holes, so what is not there was deleted.
                let first = chunk.first().map_or(newest.saturating_add(1), |stored| stored.cursor);
                if is_under_way && first > cursor.saturating_add(1) {
                    let message = "Records after this cursor were deleted by retention; the tail goes on with the oldest that is left.";
                    self.notice("cursor_expired", first - cursor - 1, message, first - 1).await?;
                    cursor = first - 1;
                }
                is_under_way = true;
                if chunk.is_empty() {
                    cursor = newest;
                }
                for stored in chunk {
                    if stop.is_some_and(|stop| stored.cursor > stop) {
                        return self.end(cursor).await;
                    }
                    cursor = stored.cursor;
                    if stored.record.as_ref().is_some_and(|record| matches(&filter, record)) {
                        self.send(Event::Record(stored)).await?;
                    }
                }
                if caught_up {
                    break;
                }
            }
            if stop.is_some_and(|stop| cursor >= stop) {
                return self.end(cursor).await;
            }
            if cursor >= newest && !caught_up {
                caught_up = true;
                self.notice("caught_up", 0, "All stored records were read; what follows is new.", cursor).await?;
            }
            if cursor < *head.borrow() {
                continue;
            }
            tokio::select! {
                changed = head.changed() => changed.map_err(|_| None)?,
                _ = heartbeat.tick() => self.heartbeat(cursor).await?,
            }
        }
    }

    /// An exporter is told up to where it has read, also where the last records were not what it asked for.
    async fn end(&self, cursor: u64) -> Ended {
        if self.request.cursor_name.is_empty() { Ok(()) } else { self.heartbeat(cursor).await }
    }

    async fn heartbeat(&self, cursor: u64) -> Ended {
        self.send(Event::Heartbeat(Heartbeat { cursor, log: self.store.log_at(cursor) })).await
    }

    /// Where to start: after a given place, at the newest N that match, at `since`, or with what comes.
    async fn start(&self, filter: &Filter, head: u64) -> Result<u64, Option<Status>> {
        if let Some(after) = self.after {
            return Ok(after);
        }
        if self.request.last == 0 {
            return if filter.since_micros > 0 { Ok(since(&self.store, filter, 0).await?) } else { Ok(head) };
        }
        let floor = since(&self.store, filter, 0).await?.max(head.saturating_sub(MAX_LOOK_BACK));
        let (mut cursor, mut found) = (head.saturating_add(1), 0);
        loop {
            let chunk = self.store.scan(move |store| store.before(cursor, CHUNK)).await?;
            if chunk.is_empty() {
                return Ok(floor);
            }
            for stored in chunk {
                cursor = stored.cursor;
                if cursor <= floor {
                    return Ok(floor);
                }
                found += u32::from(stored.record.as_ref().is_some_and(|record| matches(filter, record)));
                if found >= self.request.last {
                    return Ok(cursor - 1);
                }
            }
        }
    }

    async fn notice(&self, code: &str, missed: u64, message: &str, resume_cursor: u64) -> Ended {
        let log = self.store.log_at(resume_cursor);
        self.send(Event::Notice(TailNotice { code: code.into(), missed, message: message.into(), resume_cursor, log }))
            .await
    }

    async fn send(&self, event: Event) -> Ended {
        let event = TailEvent { event: Some(event) };
        let bytes = event.encoded_len();
        if self.events.send(Ok(event), bytes).await { Ok(()) } else { Err(None) }
    }
}
