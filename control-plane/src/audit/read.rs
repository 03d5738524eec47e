//! `AuditLog`: tail, query, and named cursors.

use std::sync::Arc;

use doorward_proto::v1::{
    AdvanceCursorRequest, AuditCursor, CreateCursorRequest, ListCursorsRequest, ListCursorsResponse, QueryRequest,
    RemoveCursorRequest, StoredRecord, TailEvent, TailRequest, audit_log_server::AuditLog,
};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{
    cursors::{Change, CursorError, CursorName, Start},
    filter::{self, matches},
    position::Position,
    room::{Inlet, Outlet, pipe},
    store::Store,
    tail::{CHUNK, Tail, since},
};
use crate::{
    access::{Access, Role},
    clock, connections,
    metrics::Metrics,
    owned::Owned,
};

const DEFAULT_QUERY_LIMIT: u32 = 100;

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
    type TailStream = Owned<Inlet<TailEvent>>;
    type QueryStream = Owned<Inlet<StoredRecord>>;

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        self.access.check(&request, &READERS)?;
        let span = tracing::info_span!("audit_tail", peer = connections::peer(&request));
        let request = request.into_inner();
        let after = if request.after_cursor == 0 && !request.cursor_name.is_empty() {
            let cursor = self.cursor(&request.cursor_name).await?;
            Some(Position { log: cursor.log, cursor: cursor.cursor })
        } else {
            Some(Position { log: request.log.clone(), cursor: request.after_cursor }).filter(|after| after.cursor > 0)
        };
        if let Some(after) = &after {
            self.store.resumes(after.cursor, &after.log)?;
        }
        let (events, stream) = pipe();
        let after = after.map(|after| after.cursor);
        let tail = Tail { request, after, store: self.store.clone(), events, shutdown: self.shutdown.clone() };
        let open = OpenTail(Arc::clone(&self.metrics));
        open.0.tails.inc();
        let sending = async move {
            let _open = open;
            if let Err(Some(status)) = tail.run().await {
                tracing::debug!(code = ?status.code(), "a tail ended");
                tail.events.send(Err(status), 1).await;
            }
        };
        Ok(Response::new(Owned::new(stream, tokio::spawn(sending.instrument(span)))))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        self.access.check(&request, &READERS)?;
        let span = tracing::info_span!("audit_query", peer = connections::peer(&request));
        let request = request.into_inner();
        self.store.resumes(request.after_cursor, &request.log)?;
        let (records, stream) = pipe();
        let (store, mut shutdown) = (self.store.clone(), self.shutdown.clone());
        let sending = async move {
            let ended = tokio::select! {
                result = query(&store, request, &records) => result,
                // Nobody waits for the answer any more: what was read is read, and nothing further.
                () = records.closed() => Ok(()),
                () = clock::ended(&mut shutdown) => Err(Status::unavailable("the control plane is shutting down; ask again")),
            };
            if let Err(status) = ended {
                records.send(Err(status), 1).await;
            }
        };
        Ok(Response::new(Owned::new(stream, tokio::spawn(sending.instrument(span)))))
    }

    async fn list_cursors(
        &self,
        request: Request<ListCursorsRequest>,
    ) -> Result<Response<ListCursorsResponse>, Status> {
        self.access.check(&request, &READERS)?;
        let name = request.into_inner().name;
        let cursors =
            if name.is_empty() { self.store.blocking(Store::cursors).await? } else { vec![self.cursor(&name).await?] };
        Ok(Response::new(ListCursorsResponse { cursors }))
    }

    async fn create_cursor(&self, request: Request<CreateCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        self.access.check(&request, &[Role::Admin])?;
        let CreateCursorRequest { name, newest, after_cursor: cursor, log } = request.into_inner();
        let start = match (newest, cursor) {
            (true, _) => Start::Newest,
            (false, 0) => Start::Oldest,
            (false, cursor) => Start::After(Position { log, cursor }),
        };
        let cursor = self.store.change(Change::Create(name.parse()?, start)).await?;
        tracing::info!(cursor = cursor.name, after = cursor.cursor, "a cursor of the audit log was created");
        Ok(Response::new(cursor))
    }

    async fn advance_cursor(&self, request: Request<AdvanceCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        let owner = self.access.check(&request, &READERS)?;
        let AdvanceCursorRequest { name, cursor, log } = request.into_inner();
        let change = Change::Advance { name: name.parse()?, owner, to: Position { log, cursor } };
        Ok(Response::new(self.store.change(change).await?))
    }

    async fn remove_cursor(&self, request: Request<RemoveCursorRequest>) -> Result<Response<AuditCursor>, Status> {
        self.access.check(&request, &[Role::Admin])?;
        let cursor = self.store.change(Change::Remove(request.into_inner().name.parse()?)).await?;
        tracing::info!(
            cursor = cursor.name,
            after = cursor.cursor,
            "a cursor of the audit log was removed; nothing is kept for it any more"
        );
        Ok(Response::new(cursor))
    }
}

impl Reader {
    async fn cursor(&self, name: &str) -> Result<AuditCursor, Status> {
        let name: CursorName = name.parse()?;
        let wanted = name.clone();
        let found = self.store.blocking(move |store| store.cursor(&wanted)).await?;
        Ok(found.ok_or(CursorError::Unknown(name))?)
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
