//! What is known of every proxy, by node.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use doorward_proto::v1::{Hello, ProxyStatus};
use prost::Message as _;

use super::summary::{MAX_REFUSALS, Proxies as Summary, Refusal};
use crate::{
    clock::now_micros,
    connections::{Client, may_take},
    policies::publish::Published,
    text::hex,
};

/// Proxies that are remembered, the connected ones among them. One client has at most half of what is free.
pub(super) const MAX_REMEMBERED: usize = 20_000;
/// Proxies in one answer at most, and bytes after which no further one is added: clients take four megabytes.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 1 << 20;

/// All proxies that connected, by node.
#[derive(Default)]
pub struct Registry {
    proxies: Mutex<Proxies>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Proxies {
    by_node: BTreeMap<String, Entry>,
    /// How many of them each client has.
    counts: BTreeMap<Client, usize>,
}

/// What is remembered of one node.
pub(super) struct Entry {
    pub(super) client: Client,
    pub(super) status: ProxyStatus,
    /// Which stream speaks for the node: a new one replaces an old one that has not noticed its end.
    pub(super) stream: u64,
    pub(super) pushed_epoch: u64,
    pub(super) pushed_micros: i64,
}

impl Proxies {
    fn count(&self, client: Client) -> usize {
        self.counts.get(&client).copied().unwrap_or(0)
    }

    fn forget(&mut self, node: &str) -> Option<Entry> {
        let entry = self.by_node.remove(node)?;
        if let Some(count) = self.counts.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.client);
            }
        }
        Some(entry)
    }

    /// Room for one more node of this client, if need be in place of one that is gone: of its own, or of a client that has
    /// more.
    fn has_room(&mut self, client: Client) -> bool {
        let own = self.count(client);
        if may_take(own, self.by_node.len(), MAX_REMEMBERED) {
            return true;
        }
        let gone = self.by_node.iter().filter(|(_, entry)| !entry.status.connected);
        let gone = gone.filter(|(_, entry)| entry.client == client || self.count(entry.client) > own);
        let oldest = gone.min_by_key(|(_, entry)| entry.status.last_seen_micros).map(|(node, _)| node.clone());
        oldest.is_some_and(|node| self.forget(&node).is_some())
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Proxies> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the stream that now speaks for the node; none if there is no room for another node of this client.
    pub(super) fn connect(&self, client: Client, node: &str, hello: &Hello) -> Option<u64> {
        let mut proxies = self.lock();
        let known = proxies.forget(node);
        if known.as_ref().is_none_or(|known| known.client != client) && !proxies.has_room(client) {
            if let Some(known) = known {
                *proxies.counts.entry(known.client).or_default() += 1;
                proxies.by_node.insert(node.to_owned(), known);
            }
            return None;
        }
        let (stream, status, pushed_epoch, pushed_micros) = known.map_or_else(Default::default, |known| {
            (known.stream, known.status, known.pushed_epoch, known.pushed_micros)
        });
        let status = ProxyStatus {
            proxy: hello.proxy.clone(),
            scope: hello.scope.clone(),
            digest: hello.digest.clone(),
            epoch: hello.epoch,
            connected_at_micros: now_micros(),
            last_seen_micros: now_micros(),
            connected: true,
            ..status
        };
        let stream = stream + 1;
        *proxies.counts.entry(client).or_default() += 1;
        proxies.by_node.insert(node.to_owned(), Entry { client, status, stream, pushed_epoch, pushed_micros });
        drop(proxies);
        self.changes.send_modify(|changes| *changes += 1);
        Some(stream)
    }

    /// Changes whenever a proxy comes, answers or goes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What the connected proxies enforce.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (node, entry) in &self.lock().by_node {
            let status = &entry.status;
            if !status.connected {
                continue;
            }
            summary.count(status.epoch, &hex(&status.digest), 1);
            if let Some(rejection) = &status.last_rejection
                && status.last_rejection_micros > status.acknowledged_micros
                && summary.refusals.len() < MAX_REFUSALS
            {
                summary.refusals.push(Refusal {
                    node: node.clone(),
                    holds: status.epoch,
                    offered: entry.pushed_epoch,
                    code: rejection.code.clone(),
                    message: rejection.message.clone(),
                });
            }
        }
        summary
    }

    pub(super) fn update(&self, node: &str, stream: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().by_node.get_mut(node).filter(|entry| entry.stream == stream) {
            change(entry);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Known proxies, connected or not, by node, from the one after this; and where to go on. `current` says whether one
    /// enforces `newest`.
    pub fn page(&self, newest: Option<&Published>, after: &str, size: usize) -> (Vec<ProxyStatus>, Option<String>) {
        let now = now_micros();
        let status = |entry: &Entry| {
            let current = newest.is_some_and(|newest| entry.status.digest == newest.digest);
            // While the newest push is unanswered, its age.
            let waits = entry.status.connected && !current && entry.pushed_micros > 0;
            let lag_micros =
                if waits { u64::try_from(now - entry.pushed_micros).unwrap_or(0) } else { entry.status.lag_micros };
            ProxyStatus { current, lag_micros, ..entry.status.clone() }
        };
        let proxies = self.lock();
        let mut rest = proxies.by_node.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).peekable();
        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        while page.len() < size.clamp(1, PAGE)
            && bytes < PAGE_BYTES
            && let Some((node, entry)) = rest.next()
        {
            let status = status(entry);
            bytes += status.encoded_len();
            page.push(status);
            last = Some(node);
        }
        let next = last.filter(|_| rest.peek().is_some()).cloned();
        (page, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Owner;
    use doorward_proto::v1::{Label, ProxyIdentity};

    const ME: Client = Client::Named(Owner([1; 32]));
    const OTHER: Client = Client::Named(Owner([2; 32]));

    fn hello(change: impl FnOnce(&mut Hello, &mut ProxyIdentity)) -> Hello {
        let (mut hello, mut proxy) = (Hello::default(), ProxyIdentity { node: "n".into(), ..Default::default() });
        change(&mut hello, &mut proxy);
        hello.proxy = Some(proxy);
        hello
    }

    #[test]
    fn one_client_leaves_room_for_the_nodes_of_others_and_none_that_is_connected_is_forgotten() {
        let registry = Registry::default();
        let half = MAX_REMEMBERED / 2;
        for at in 0..half {
            assert!(registry.connect(ME, &format!("n{at:05}"), &Hello::default()).is_some());
        }
        assert_eq!(registry.connect(ME, "one more", &Hello::default()), None);
        assert_eq!(registry.connect(ME, "n00007", &Hello::default()), Some(2), "a known one comes back");
        assert!(registry.connect(OTHER, "other", &Hello::default()).is_some());
        assert_eq!(registry.connect(ME, "other", &Hello::default()), None, "nor by taking it from another");
        registry.update("n00009", 1, |entry| entry.status.connected = false);
        assert!(registry.connect(ME, "one more", &Hello::default()).is_some());
        let proxies = registry.lock();
        assert!(!proxies.by_node.contains_key("n00009") && proxies.by_node.contains_key("other"));
        assert_eq!((proxies.count(ME), proxies.count(OTHER), proxies.by_node.len()), (half, 1, half + 1));
    }

    #[test]
    fn a_page_is_bounded_in_number_and_bytes_and_all_pages_hold_all_proxies_once() {
        let registry = Registry::default();
        let text = "x".repeat(256);
        let label = Label { name: "x".repeat(64), value: text.clone() };
        for at in 0..3_000 {
            let hello = hello(|_, proxy| (proxy.cluster, proxy.labels) = (text.clone(), vec![label.clone(); 16]));
            registry.connect(ME, &format!("n{at:05}"), &hello).unwrap();
        }
        for size in [0, 7, usize::MAX] {
            let (mut seen, mut after) = (0, String::new());
            loop {
                let (page, next) = registry.page(None, &after, if size == 0 { PAGE } else { size });
                assert!(page.len() <= size.clamp(1, PAGE) || size == 0);
                let bytes: usize = page.iter().map(prost::Message::encoded_len).sum();
                assert!(bytes < PAGE_BYTES + (8 << 10), "{bytes}");
                seen += page.len();
                let Some(next) = next else { break };
                after = next;
            }
            assert_eq!(seen, 3_000);
        }
    }
}
