//! One connection, and when it has to end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{
    door::{Client, Place},
    limits::FIRST_REQUEST,
    peer::{Peer, PeerState},
};
use crate::{certificate, clock::now_micros};

/// A connection without a stream is closed after this time.
const IDLE: Duration = Duration::from_secs(300);
/// From telling a client that its connection is old to ending its streams.
const AGE_GRACE: Duration = Duration::from_secs(30);
/// Longer than any connection lives.
const MAX_AGE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// After the streams of a connection were ended, so that the client sees why.
const AFTER_END: Duration = Duration::from_secs(1);
/// How often a connection's deadlines are looked at, at least.
const LOOK: Duration = Duration::from_secs(60);

/// What bytes go over.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection, which ends itself when its time is over.
pub struct Connection {
    stream: Stream,
    place: Place,
    peer: Peer,
    look: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(place: Place, stream: Stream, certificate: Option<CertificateDer<'static>>) -> Self {
        let owner = certificate.as_ref().and_then(certificate::owner);
        let client = owner.map_or_else(|| Client::at(place.address), Client::Named);
        // A certificate whose end cannot be read counts as over.
        let not_after = certificate.as_ref().map(|certificate| certificate::not_after(certificate).unwrap_or(0));
        let opened = Instant::now();
        let aged = opened + place.door.limits.age.mul_f64(1.0 + rand::random::<f64>() / 10.0) + AGE_GRACE;
        let expires = not_after.map(|end| {
            let left = end.saturating_mul(1_000_000).saturating_sub(now_micros());
            opened + Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(MAX_AGE)
        });
        let end = expires.filter(|expires| *expires < aged).map_or((aged, false), |expires| (expires, true));
        let peer = Peer(Arc::new(PeerState {
            door: Arc::clone(&place.door),
            id: place.id,
            address: place.address,
            client,
            certificate,
            not_after,
            opened,
            end,
            active: false.into(),
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
        }));
        Self { stream, place, peer, look: Box::pin(sleep(Duration::ZERO)) }
    }

    /// Why the connection has to end now; otherwise the task is woken when that is to be asked again.
    fn over(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if let Some(evicted) = &mut self.place.evicted
            && let Poll::Ready(result) = Pin::new(evicted).poll(cx)
        {
            self.place.evicted = None;
            if result.is_ok() {
                return Some(io::ErrorKind::TimedOut.into());
            }
        }
        while self.look.as_mut().poll(cx).is_ready() {
            let state = &self.peer.0;
            let now = Instant::now();
            let (end, expires) = self.peer.end();
            if end + AFTER_END <= now {
                state.door.refused(if expires { "certificate_expired" } else { "age" }, state.address);
                return Some(io::ErrorKind::TimedOut.into());
            }
            let mut next = (now + LOOK).min(end + AFTER_END);
            let end = if !state.active.load(Ordering::Relaxed) {
                Some((state.opened + FIRST_REQUEST, "first_request_timeout"))
            } else if state.streams.load(Ordering::Relaxed) == 0 {
                Some((*state.idle_since.lock().unwrap_or_else(PoisonError::into_inner) + IDLE, "idle"))
            } else {
                None
            };
            if let Some((end, reason)) = end {
                if end <= now {
                    state.door.refused(reason, state.address);
                    return Some(io::ErrorKind::TimedOut.into());
                }
                next = next.min(end);
            }
            self.look.set(sleep_until(next));
        }
        None
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // So that its place is given back to the right client.
        if self.peer.0.active.load(Ordering::Relaxed) {
            self.place.client = Some(self.peer.0.client);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

macro_rules! guarded {
    ($self:ident, $cx:ident, $io:ident => $call:expr) => {{
        let this = $self.get_mut();
        if let Some(error) = this.over($cx) {
            return Poll::Ready(Err(error));
        }
        match &mut this.stream {
            Stream::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Stream::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    }};
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        guarded!(self, cx, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        guarded!(self, cx, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        guarded!(self, cx, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        guarded!(self, cx, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        guarded!(self, cx, io => io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{
        super::{
            door::Door,
            limits::{CLOSING, Limits},
            peer::Refusal,
        },
        *,
    };

    #[tokio::test]
    async fn what_is_dropped_is_free_again() {
        let door = Door::new(Limits { active: 4, fresh: 4, streams: 8, age: IDLE }, Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut open = vec![];
        for _ in 0..3 {
            let _client = TcpStream::connect(address).await.unwrap();
            let (stream, place) = door.next(&listener).await;
            let connection = Connection::new(place, Stream::Plain(stream), None);
            let stream = connection.connect_info().stream();
            open.push((connection, stream));
        }
        let kinds: Vec<_> = open.iter().map(|(_, stream)| stream.as_ref().err().copied()).collect();
        assert_eq!(kinds, [None, None, Some(Refusal::Connections)], "half of four");
        let first = open[0].0.connect_info();
        let more: Vec<_> = (0..8).map_while(|_| first.stream().ok()).collect();
        assert_eq!(more.len(), 2, "half of eight, with the two above");
        drop((more, open));
        let table = door.lock();
        assert_eq!((table.active, table.streams, table.clients.len(), table.fresh.len()), (0, 0, 0, 0));
        drop(table);
        assert_eq!(door.slots.available_permits(), 4 + 4 + CLOSING);
    }
}
