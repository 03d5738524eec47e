//! Listening, and what a connection has to prove before it is handed on.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{Connection, Stream},
    door::{Door, Place},
    limits::Limits,
};
use crate::metrics::Metrics;

/// A handshake takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that the system keeps until they are accepted; it may allow fewer.
const QUEUE: u32 = 4096;

/// Listens with a queue that a burst of connections does not fill before they are looked at: what finds it full tries
/// again only after a second.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

impl Door {
    /// Accepts connections for ever, proves with TLS who they are from, and hands them on.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let tls = tls.map(TlsAcceptor::from);
        // They end with this task. There are as many as there are places at most.
        let mut proving = JoinSet::new();
        loop {
            let (stream, place) = tokio::select! {
                next = self.next(&listener) => next,
                Some(proved) = proving.join_next() => {
                    if let Err(error) = proved {
                        tracing::error!(%error, "a handshake ended by a defect; its connection is closed");
                    }
                    continue;
                }
            };
            let (tls, ready) = (tls.clone(), ready.clone());
            // Fails only on a socket that is gone, which the next read will say.
            let _ = stream.set_nodelay(true);
            proving.spawn(async move {
                if let Some(connection) = place.prove(stream, tls).await {
                    // The receiver is gone when the process ends.
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    }
}

impl Place {
    async fn prove(mut self, stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Connection> {
        let Some(tls) = tls else { return Some(Connection::new(self, Stream::Plain(stream), None)) };
        let mut evicted = self.evicted.take()?;
        let stream = tokio::select! {
            _ = &mut evicted => return None,
            stream = timeout(HANDSHAKE, tls.accept(stream)) => stream,
        };
        let stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, client = %self.address.ip(), "a TLS handshake failed");
                self.door.refused("handshake", self.address);
                return None;
            }
            Err(_) => {
                self.door.refused("handshake_timeout", self.address);
                return None;
            }
        };
        self.evicted = Some(evicted);
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        Some(Connection::new(self, Stream::Tls(Box::new(stream)), certificate.map(CertificateDer::into_owned)))
    }
}

/// The metrics port. Its connections serve one request each, so all of them are fresh.
pub struct HttpListener {
    listener: TcpListener,
    door: Arc<Door>,
}

impl HttpListener {
    /// Bounds the connections of this listener.
    pub fn new(listener: TcpListener, metrics: Arc<Metrics>) -> Self {
        Self { listener, door: Door::new(Limits::http(), metrics) }
    }
}

impl axum::serve::Listener for HttpListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, place) = self.door.next(&self.listener).await;
        let address = place.address;
        (Connection::new(place, Stream::Plain(stream), None), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
