//! `AuditLog`: tail and query.
//!
//! A tail reads from the disk, woken by the log's head; so there is no per-reader queue of records in memory, and a
//! reader can resume anywhere. A follower that has caught up once and then falls too far behind is moved to the
//! head and told how much it missed and from where it can resume.

use std::{sync::Arc, time::Duration};

use doorward_proto::v1::{
    Filter, Heartbeat, QueryRequest, StoredRecord, TailEvent, TailNotice, TailRequest, audit_log_server::AuditLog,
    tail_event::Event,
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tonic::{Request, Response, Status};

use super::{
    filter::{self, matches},
    room::{Inlet, Outlet, pipe},
    store::Store,
};
use crate::{
    access::{Access, Role},
    clock,
    metrics::Metrics,
};

/// Records read from the disk at a time.
const CHUNK: usize = 512;
/// Records that a follower may fall behind after it had caught up.
const MAX_LAG: u64 = 100_000;
/// Records examined at most to find the newest N that match.
const MAX_LOOK_BACK: u64 = 5_000_000;
const HEARTBEAT: Duration = Duration::from_secs(10);
const DEFAULT_QUERY_LIMIT: u32 = 100;
/// A record may be received before its own time says, by this much clock skew.
const SKEW_MICROS: i64 = 300 * 1_000_000;

const READERS: [Role; 2] = [Role::Auditor, Role::Admin];

/// The service.
pub struct Reader {
    /// Who may read.
    pub access: Access,
    /// The log.
    pub store: Store,
    /// Counts open tails.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the process ends.
    pub shutdown: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl AuditLog for Reader {
    type TailStream = Inlet<TailEvent>;
    type QueryStream = Inlet<StoredRecord>;

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        self.access.check(&request, &READERS)?;
        let request = request.into_inner();
        self.store.resumes(request.after_cursor, &request.log)?;
        let (events, stream) = pipe();
        let tail = Tail { request, store: self.store.clone(), events, shutdown: self.shutdown.clone() };
        let open = OpenTail(Arc::clone(&self.metrics));
        open.0.tails.inc();
        tokio::spawn(async move {
            let _open = open;
            if let Err(Some(status)) = tail.run().await {
                tail.events.send(Err(status), 1).await;
            }
        });
        Ok(Response::new(stream))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        self.access.check(&request, &READERS)?;
        let request = request.into_inner();
        self.store.resumes(request.after_cursor, &request.log)?;
        let (records, stream) = pipe();
        let (store, mut shutdown) = (self.store.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                result = query(&store, request, &records) => result,
                // Nobody waits for the answer any more: what was read is read, and nothing further.
                () = records.closed() => Ok(()),
                () = clock::ended(&mut shutdown) => Err(Status::unavailable("the control plane is shutting down; ask again")),
            };
            if let Err(status) = ended {
                records.send(Err(status), 1).await;
            }
        });
        Ok(Response::new(stream))
    }
}

struct OpenTail(Arc<Metrics>);
impl Drop for OpenTail {
    fn drop(&mut self) {
        self.0.tails.dec();
    }
}

async fn query(store: &Store, request: QueryRequest, out: &Outlet<StoredRecord>) -> Result<(), Status> {
    let filter = filter::as_recorded(request.filter.unwrap_or_default());
    let head = *store.head().borrow();
    let mut left = if request.limit == 0 { DEFAULT_QUERY_LIMIT } else { request.limit };
    let floor = since(store, &filter, request.after_cursor).await?;
    let mut cursor = if request.newest_first { head.saturating_add(1) } else { floor };
    while left > 0 {
        let descending = request.newest_first;
        let chunk = store
            .scan(move |store| if descending { store.before(cursor, CHUNK) } else { store.after(cursor, CHUNK) })
            .await?;
        if chunk.is_empty() {
            return Ok(());
        }
        for stored in chunk {
            cursor = stored.cursor;
            // What arrives after the question was asked is no part of the answer.
            if (descending && cursor <= floor) || cursor > head {
                return Ok(());
            }
            if left > 0 && stored.record.as_ref().is_some_and(|record| matches(&filter, record)) {
                left -= 1;
                let bytes = stored.encoded_len();
                if !out.send(Ok(stored), bytes).await {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The cursor after which a filter's `since` and an explicit cursor allow records.
async fn since(store: &Store, filter: &Filter, after_cursor: u64) -> Result<u64, Status> {
    if filter.since_micros == 0 {
        return Ok(after_cursor);
    }
    let from = filter.since_micros.saturating_sub(SKEW_MICROS);
    Ok(store.blocking(move |store| store.cursor_at(from)).await?.max(after_cursor))
}

struct Tail {
    request: TailRequest,
    store: Store,
    events: Outlet<TailEvent>,
    shutdown: watch::Receiver<bool>,
}

/// `Err(None)`: the reader is gone. `Err(Some(_))`: tell it why the tail ends.
type Ended = Result<(), Option<Status>>;

impl Tail {
    async fn run(&self) -> Ended {
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
        let mut caught_up = false;
        loop {
            let newest = *head.borrow_and_update();
            if caught_up && newest.saturating_sub(cursor) > MAX_LAG {
                let message = "This tail read too slowly; it goes on with what comes now. Resume from the cursor to read what it missed.";
                self.notice("slow_reader", newest - cursor, message, cursor).await?;
                cursor = newest;
            }
            while cursor < newest {
                let chunk = self.store.blocking(move |store| store.after(cursor, CHUNK)).await?;
                if chunk.is_empty() {
                    cursor = newest;
                }
                for stored in chunk {
                    if stop.is_some_and(|stop| stored.cursor > stop) {
                        return Ok(());
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
                return Ok(());
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
                _ = heartbeat.tick() => self.send(Event::Heartbeat(Heartbeat { cursor, log: self.store.log_at(cursor) })).await?,
            }
        }
    }

    /// Where to start: after an explicit cursor, at the newest N that match, at `since`, or with what comes.
    async fn start(&self, filter: &Filter, head: u64) -> Result<u64, Option<Status>> {
        let after = self.request.after_cursor;
        if after > 0 {
            let oldest = self.store.blocking(Store::oldest).await?.unwrap_or(head.saturating_add(1));
            if after.saturating_add(1) < oldest {
                let message = "Records after this cursor were deleted by retention; the tail goes on with the oldest that is left.";
                self.notice("cursor_expired", oldest - after - 1, message, oldest - 1).await?;
                return Ok(oldest - 1);
            }
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
