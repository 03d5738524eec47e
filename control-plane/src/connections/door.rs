//! The door of a port: which connections have a place, and which gives way to a new one.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};

use super::limits::{CLOSING, Limits};
use crate::{certificate, clock::now_seconds, metrics::Metrics};

/// Who a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// By its certificate.
    Named(certificate::Owner),
    /// By its address: of IPv6 the /64, which one customer of a network has to himself.
    Address(IpAddr),
}

impl Client {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self::Address(match address.ip().to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
            ip => ip,
        })
    }
}

/// What one client has.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) connections: usize,
    pub(super) streams: usize,
}

/// All connections and streams of one port.
#[derive(Default)]
pub(super) struct Table {
    next: u64,
    /// By age: who gives way is told through the sender.
    pub(super) fresh: BTreeMap<u64, (Client, oneshot::Sender<()>)>,
    pub(super) clients: HashMap<Client, Usage>,
    pub(super) active: usize,
    pub(super) streams: usize,
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

    pub(super) fn release(&mut self, client: Client, change: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.clients.get_mut(&client) {
            change(usage);
            if usage.connections == 0 && usage.streams == 0 {
                self.clients.remove(&client);
            }
        }
    }
}

/// What all connections of one port share.
pub struct Door {
    pub(super) limits: Limits,
    pub(super) slots: Arc<Semaphore>,
    table: Mutex<Table>,
    pub(super) metrics: Arc<Metrics>,
    said: AtomicI64,
}

impl Door {
    /// The gRPC port.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(limits.active + limits.fresh + CLOSING));
        Arc::new(Self { limits, slots, table: Mutex::default(), metrics, said: AtomicI64::new(0) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection or stream that was refused or cut, and says so at most once a second.
    pub(super) fn refused(&self, reason: &'static str, address: SocketAddr) {
        self.metrics.connections_refused.get_or_create(&vec![("reason", reason.to_owned())]).inc();
        let now = now_seconds();
        if self.said.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(reason, client = %address.ip(), "a connection or stream was refused or cut; more of these may follow unsaid");
        }
    }

    /// The next connection. Errors of the listener are waited out: most say that file descriptors are short.
    pub(super) async fn next(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Place) {
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
}

/// A place among the connections; free again when dropped.
pub(super) struct Place {
    pub(super) door: Arc<Door>,
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) evicted: Option<oneshot::Receiver<()>>,
    /// Whose it is, once there was a request.
    pub(super) client: Option<Client>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_the_address_with_the_most_gives_way() {
        let door = Door::new(Limits { active: 4, fresh: 4, streams: 4, age: Duration::from_secs(300) }, Arc::default());
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
}
