//! Who may be connected, and for how long.
//!
//! A connection is *fresh* until its first request: until then nobody knows whether an honest client is behind it. There is
//! a bounded number of fresh connections, each for a bounded time, and where there is no room for a further one, the oldest
//! of the address that has the most gives way. So what never speaks cannot keep out who does, however much of it comes.
//!
//! A connection with a request counts for its client: the name in its certificate, or, where clients have none, its
//! address. A client may hold as many connections, and as many streams, as are still free: the greediest has at most half
//! of all, the next half of the rest. A fleet that shares one certificate is one client.
//!
//! All numbers come from the limit on file descriptors, of which a part stays for files: see [`Limits`].

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{
    access,
    clock::{now_micros, now_seconds},
    metrics::Metrics,
};

/// A handshake takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// From the handshake to the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(20);
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
/// Connections that are being closed while their successors are accepted.
const CLOSING: usize = 16;
/// Connections that the system keeps until they are accepted; it may allow fewer.
const QUEUE: u32 = 4096;
/// Connections to the metrics port.
const HTTP_CONNECTIONS: usize = 32;
/// Fewer file descriptors than this are no ground to serve on.
const MIN_DESCRIPTORS: u64 = 192;
/// Connections at most where the limit on file descriptors would allow more.
const MAX_CONNECTIONS: usize = 32_768;
/// Streams of all connections. A proxy has one for policy and one per worker for records.
const MAX_STREAMS: usize = 65_536;

/// How many connections and streams there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections with requests.
    pub active: usize,
    /// Connections without a request yet.
    pub fresh: usize,
    /// Streams of all connections.
    pub streams: usize,
    /// Greatest age of a connection; up to a tenth more, so that not all of a fleet come back at once.
    pub age: Duration,
}

impl Limits {
    /// The limits for a process that may have so many file descriptors open. `asked`: connections with requests, where
    /// somebody wants fewer, or insists on a number.
    pub fn new(descriptors: u64, asked: Option<usize>, age: Duration) -> anyhow::Result<Self> {
        if descriptors < MIN_DESCRIPTORS {
            bail!(
                "{descriptors} file descriptors are too few; raise the limit (ulimit -n) to {MIN_DESCRIPTORS} or more"
            );
        }
        // For databases, policy files, key sets and the metrics port. The rest is for connections.
        let kept = usize::try_from((descriptors / 4).clamp(96, 1024))? + CLOSING;
        let all = usize::try_from(descriptors)?.saturating_sub(kept);
        let fresh = (all / 4).min(1024);
        let most = all - fresh;
        if let Some(asked) = asked.filter(|asked| *asked == 0 || *asked > most) {
            bail!(
                "--max-connections {asked} does not fit: of {descriptors} file descriptors {most} can be for \
                connections; raise the limit (ulimit -n), or ask for fewer"
            );
        }
        Ok(Self { active: asked.unwrap_or(most.min(MAX_CONNECTIONS)), fresh, streams: MAX_STREAMS, age })
    }

    /// For the metrics port, whose connections serve one request each.
    fn http() -> Self {
        Self { active: 0, fresh: HTTP_CONNECTIONS, streams: 0, age: FIRST_REQUEST }
    }
}

/// Listens with a queue that a burst of connections does not fill before they are looked at: what finds it full tries
/// again only after a second.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// How many file descriptors this process may have, after raising the soft limit to the hard one.
pub fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What cannot be raised stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Who a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// By its certificate.
    Named(access::Owner),
    /// By its address: of IPv6 the /64, which one customer of a network has to himself.
    Address(IpAddr),
}

impl Client {
    fn at(address: SocketAddr) -> Self {
        Self::Address(match address.ip().to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
            ip => ip,
        })
    }
}

#[derive(Default)]
struct Usage {
    connections: usize,
    streams: usize,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By age: who gives way is told through the sender.
    fresh: BTreeMap<u64, (Client, oneshot::Sender<()>)>,
    clients: HashMap<Client, Usage>,
    active: usize,
    streams: usize,
}

impl Table {
    /// The oldest of the address that has the most.
    fn victim(&self) -> Option<u64> {
        let mut counts: HashMap<Client, usize> = HashMap::new();
        for (client, _) in self.fresh.values() {
            *counts.entry(*client).or_default() += 1;
        }
        let most = counts.values().max()?;
        self.fresh.iter().find(|(_, (client, _))| counts.get(client) == Some(most)).map(|(id, _)| *id)
    }

    fn release(&mut self, client: Client, change: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.clients.get_mut(&client) {
            change(usage);
            if usage.connections == 0 && usage.streams == 0 {
                self.clients.remove(&client);
            }
        }
    }
}

/// Whether a client that has so many may have one more, of so many for all of whom so many are taken.
pub fn may_take(own: usize, taken: usize, all: usize) -> bool {
    own < all.saturating_sub(taken)
}

/// What all connections of one port share.
pub struct Door {
    limits: Limits,
    slots: Arc<Semaphore>,
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
    said: AtomicI64,
}

impl Door {
    /// The gRPC port.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(limits.active + limits.fresh + CLOSING));
        Arc::new(Self { limits, slots, table: Mutex::default(), metrics, said: AtomicI64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection or stream that was refused or cut, and says so at most once a second.
    fn refused(&self, reason: &'static str, address: SocketAddr) {
        self.metrics.connections_refused.get_or_create(&vec![("reason", reason.to_owned())]).inc();
        let now = now_seconds();
        if self.said.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(reason, client = %address.ip(), "a connection or stream was refused or cut; more of these may follow unsaid");
        }
    }

    /// The next connection. Errors of the listener are waited out: most say that file descriptors are short.
    async fn next(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Place) {
        let mut pause = Duration::from_millis(5);
        loop {
            let Ok(permit) = Arc::clone(&self.slots).acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending::<()>().await;
                continue;
            };
            match listener.accept().await {
                Ok((stream, address)) => return (stream, self.admit(address, permit)),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    if pause.as_millis() > 100 {
                        tracing::error!(%error, "no connection can be accepted; trying again");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, address: SocketAddr, permit: OwnedSemaphorePermit) -> Place {
        let (sender, evicted) = oneshot::channel();
        let mut table = self.lock();
        let given_way = if table.fresh.len() >= self.limits.fresh { table.victim() } else { None };
        if let Some((_, evicted)) = given_way.and_then(|id| table.fresh.remove(&id)) {
            // It may be gone already.
            let _ = evicted.send(());
        }
        table.next += 1;
        let id = table.next;
        let client = Client::at(address);
        table.fresh.insert(id, (client, sender));
        drop(table);
        if given_way.is_some() {
            self.refused("gave_way", address);
        }
        Place { door: Arc::clone(self), id, address, evicted: Some(evicted), client: None, _permit: permit }
    }

    /// Accepts connections for ever, proves with TLS who they are from, and hands them on.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let tls = tls.map(TlsAcceptor::from);
        loop {
            let (stream, place) = self.next(&listener).await;
            let (tls, ready) = (tls.clone(), ready.clone());
            // Both fail only on a socket that is gone, which the next read will say.
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                if let Some(connection) = place.prove(stream, tls).await {
                    // The receiver is gone when the process ends.
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    }
}

/// A place among the connections; free again when dropped.
struct Place {
    door: Arc<Door>,
    id: u64,
    address: SocketAddr,
    evicted: Option<oneshot::Receiver<()>>,
    /// Whose it is, once there was a request.
    client: Option<Client>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.door.lock();
        if table.fresh.remove(&self.id).is_none()
            && let Some(client) = self.client
        {
            table.active -= 1;
            table.release(client, |usage| usage.connections -= 1);
            self.door.metrics.connections.dec();
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

/// What is known of a connection's client; an extension of each of its requests.
#[derive(Clone)]
pub struct Peer(Arc<PeerState>);

struct PeerState {
    door: Arc<Door>,
    id: u64,
    address: SocketAddr,
    client: Client,
    certificate: Option<CertificateDer<'static>>,
    /// Unix seconds of the certificate's end.
    not_after: Option<i64>,
    opened: Instant,
    /// When its streams end, and whether that is because the certificate does.
    end: (Instant, bool),
    active: std::sync::atomic::AtomicBool,
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
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

enum Stream {
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
    fn new(place: Place, stream: Stream, certificate: Option<CertificateDer<'static>>) -> Self {
        let owner = certificate.as_ref().and_then(access::owner);
        let client = owner.map_or_else(|| Client::at(place.address), Client::Named);
        // A certificate whose end cannot be read counts as over.
        let not_after = certificate.as_ref().map(|certificate| access::not_after(certificate).unwrap_or(0));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_file_descriptors_and_leave_some_for_files() {
        let age = Duration::from_secs(60);
        for descriptors in [192, 256, 1024, 20_000, 1 << 20, u64::MAX >> 1] {
            let Limits { active, fresh, .. } = Limits::new(descriptors, None, age).unwrap();
            assert!(fresh >= 16 && active >= 48, "{descriptors}: {active} {fresh}");
            assert!(((active + fresh + CLOSING) as u64) <= descriptors - 96, "{descriptors}: {active} {fresh}");
        }
        assert!(Limits::new(128, None, age).unwrap_err().to_string().contains("ulimit -n"));
        assert_eq!(Limits::new(1024, Some(10), age).unwrap().active, 10);
        assert!(Limits::new(1024, Some(1000), age).unwrap_err().to_string().contains("--max-connections 1000"));
        assert!(Limits::new(1024, Some(0), age).is_err());
    }

    #[test]
    fn whoever_takes_all_they_can_leaves_half_of_the_rest() {
        for greedy in 0..10_u32 {
            let mut taken = 0;
            for _ in 0..greedy {
                let mut own = 0;
                while may_take(own, taken, 1_024) {
                    (own, taken) = (own + 1, taken + 1);
                }
            }
            assert_eq!(1_024 - taken, 1_024 >> greedy);
            assert!(may_take(0, taken, 1_024), "{greedy}");
        }
    }

    #[tokio::test]
    async fn the_oldest_of_the_address_with_the_most_gives_way() {
        let door = Door::new(Limits { active: 4, fresh: 4, streams: 4, age: IDLE }, Arc::default());
        let admit = async |address: &str| {
            let permit = Arc::clone(&door.slots).acquire_owned().await.unwrap();
            door.admit(address.parse().unwrap(), permit)
        };
        let mut honest = admit("10.0.0.1:1").await;
        let mut hostile = vec![];
        for port in 1..100 {
            // One network of IPv6 is one address.
            hostile.push(admit(&format!("[2001:db8::{port:x}]:9")).await);
            if hostile.len() > 3 {
                let gone = hostile.remove(0);
                assert_eq!(gone.evicted.as_ref().map(|_| ()), Some(()));
            }
            assert!(door.lock().fresh.len() <= 4);
        }
        assert!(honest.evicted.as_mut().unwrap().try_recv().is_err(), "the honest one stays");
    }

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
