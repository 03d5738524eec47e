//! The client of a connection, and its streams.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::{
    door::{Client, Door},
    limits::{Limits, may_take},
};
use crate::clock::now_seconds;

/// What is known of a connection's client; an extension of each of its requests.
#[derive(Clone)]
pub struct Peer(pub(super) Arc<PeerState>);

/// What a connection and its streams share.
pub(super) struct PeerState {
    pub(super) door: Arc<Door>,
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) client: Client,
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// Unix seconds of the certificate's end.
    pub(super) not_after: Option<i64>,
    pub(super) opened: Instant,
    /// When its streams end, and whether that is because the certificate does.
    pub(super) end: (Instant, bool),
    pub(super) active: AtomicBool,
    pub(super) streams: AtomicUsize,
    pub(super) idle_since: Mutex<Instant>,
}

/// Why there is no stream for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The certificate's time is over.
    Expired,
    /// The client has as many connections as are free.
    Connections,
    /// The client has as many streams as are free.
    Streams,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Expired => "certificate_expired",
            Self::Connections => "connections",
            Self::Streams => "streams",
        }
    }
}

/// Where the client of a request is, for spans and the log; "" where that is not known.
pub fn peer<T>(request: &tonic::Request<T>) -> String {
    request.extensions().get::<Peer>().map(|peer| peer.0.address.to_string()).unwrap_or_default()
}

impl Peer {
    /// Where the client connects from.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The certificate that the client proved to have.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.certificate.as_ref()
    }

    /// Whose quotas its requests count for.
    pub fn client(&self) -> Client {
        self.0.client
    }

    /// When the streams of this connection end, and whether that is because the certificate does.
    pub fn end(&self) -> (Instant, bool) {
        self.0.end
    }

    /// A stream for a request, while there is room for one more of this client.
    pub fn stream(&self) -> Result<OpenStream, Refusal> {
        let state = &self.0;
        let refuse = |refusal: Refusal| {
            state.door.refused(refusal.reason(), state.address);
            Err(refusal)
        };
        // By the clock, which may have been set since the connection was made.
        if state.not_after.is_some_and(|end| end <= now_seconds()) {
            return refuse(Refusal::Expired);
        }
        let Limits { active, streams, .. } = state.door.limits;
        let mut table = state.door.lock();
        let own = table.clients.get(&state.client).map_or((0, 0), |usage| (usage.connections, usage.streams));
        let is_new = table.fresh.contains_key(&state.id);
        if is_new && !may_take(own.0, table.active, active) {
            drop(table);
            return refuse(Refusal::Connections);
        }
        if !may_take(own.1, table.streams, streams) {
            drop(table);
            return refuse(Refusal::Streams);
        }
        table.streams += 1;
        let usage = table.clients.entry(state.client).or_default();
        usage.streams += 1;
        if is_new {
            usage.connections += 1;
            table.active += 1;
            table.fresh.remove(&state.id);
            state.active.store(true, Ordering::Relaxed);
            state.door.metrics.connections.inc();
        }
        drop(table);
        state.streams.fetch_add(1, Ordering::Relaxed);
        Ok(OpenStream(self.clone()))
    }
}

/// A stream that counts; it does so until dropped.
pub struct OpenStream(Peer);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let state = &self.0.0;
        let mut table = state.door.lock();
        table.streams -= 1;
        table.release(state.client, |usage| usage.streams -= 1);
        drop(table);
        *state.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        state.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
