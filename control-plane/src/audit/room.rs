//! Bounds on what waits in memory, in bytes: what all clients have sent and the disk has not taken, what one of them has,
//! and what a reader was sent and has not taken.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use crate::certificate::Owner;

/// Bytes of records that wait for the disk, of all clients.
const ALL_BYTES: usize = 64 << 20;
/// The same of one client that has an identity. One that has none shares the whole with all others.
const CLIENT_BYTES: usize = 16 << 20;
/// Bytes of records that were sent to one reader and are not taken yet; one record may exceed it.
const READER_BYTES: usize = 256 << 10;
/// Events that wait for one reader, however small they are.
const READER_EVENTS: usize = 512;

/// What a batch takes up while it waits.
#[derive(Debug)]
pub struct Room {
    _client: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

/// The room of all clients.
#[derive(Debug)]
pub struct Rooms {
    all: Arc<Semaphore>,
    clients: Mutex<HashMap<Owner, Weak<Semaphore>>>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_BYTES)), clients: Mutex::default() }
    }
}

impl Rooms {
    /// Waits until there is room for so many bytes of this client.
    pub async fn take(&self, owner: Owner, bytes: usize) -> Room {
        let wanted = u32::try_from(bytes.clamp(1, CLIENT_BYTES)).unwrap_or(u32::MAX);
        let client = match self.client(owner) {
            Some(client) => client.acquire_many_owned(wanted).await.ok(),
            None => None,
        };
        // Fails only where it is closed, and it never is.
        Room { _client: client, _all: Arc::clone(&self.all).acquire_many_owned(wanted).await.ok() }
    }

    fn client(&self, owner: Owner) -> Option<Arc<Semaphore>> {
        if owner == Owner::default() {
            return None;
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = clients.get(&owner).and_then(Weak::upgrade) {
            return Some(present);
        }
        clients.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(Semaphore::new(CLIENT_BYTES));
        clients.insert(owner, Arc::downgrade(&client));
        Some(client)
    }
}

type Item<T> = (Result<T, Status>, Option<OwnedSemaphorePermit>);

/// The end of a reader's stream that is written.
#[derive(Debug)]
pub struct Outlet<T> {
    items: mpsc::Sender<Item<T>>,
    room: Arc<Semaphore>,
}

/// The end that gRPC reads.
#[derive(Debug)]
pub struct Inlet<T>(ReceiverStream<Item<T>>);

/// A reader's stream.
pub fn pipe<T>() -> (Outlet<T>, Inlet<T>) {
    let (items, stream) = mpsc::channel(READER_EVENTS);
    (Outlet { items, room: Arc::new(Semaphore::new(READER_BYTES)) }, Inlet(ReceiverStream::new(stream)))
}

impl<T> Outlet<T> {
    /// Sends something of so many bytes, once the reader has taken enough of what was before. False: the reader is gone.
    pub async fn send(&self, item: Result<T, Status>, bytes: usize) -> bool {
        let wanted = u32::try_from(bytes.clamp(1, READER_BYTES)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(wanted) => room.ok(),
            () = self.items.closed() => return false,
        };
        self.items.send((item, room)).await.is_ok()
    }

    /// Resolves when the reader is gone.
    pub async fn closed(&self) {
        self.items.closed().await;
    }
}

impl<T> Stream for Inlet<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // With the item its part of the room is free again.
        Pin::new(&mut self.0).poll_next(context).map(|next| next.map(|(item, _room)| item))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_makes_no_more_than_its_bytes_wait() {
        let (out, mut stream) = pipe::<u32>();
        let mut sent = 0;
        while timeout(Duration::from_millis(20), out.send(Ok(sent), 64 << 10)).await.is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 4);
        assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        assert!(timeout(Duration::from_millis(20), out.send(Ok(9), 64 << 10)).await.unwrap());
        // One that is larger than the whole goes when all before it are gone.
        while timeout(Duration::from_millis(20), stream.next()).await.is_ok() {}
        assert!(timeout(Duration::from_millis(20), out.send(Ok(9), 10 << 20)).await.unwrap());
        let waiting = out.send(Ok(9), 1);
        drop(stream);
        assert!(!timeout(Duration::from_secs(5), waiting).await.unwrap(), "a reader that is gone is not waited for");
    }

    #[tokio::test]
    async fn one_client_cannot_take_the_room_of_all() {
        let rooms = Rooms::default();
        let (greedy, other) = (Owner([1; 32]), Owner([2; 32]));
        let mut held = Vec::new();
        while let Ok(room) = timeout(Duration::from_millis(20), rooms.take(greedy, 4 << 20)).await {
            held.push(room);
        }
        assert_eq!(held.len(), CLIENT_BYTES / (4 << 20));
        assert!(timeout(Duration::from_millis(20), rooms.take(other, 4 << 20)).await.is_ok());
        held.pop();
        assert!(timeout(Duration::from_millis(20), rooms.take(greedy, 4 << 20)).await.is_ok());
    }
}
