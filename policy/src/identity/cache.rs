//! Verified tokens by their exact value, until they expire or the policy changes.

use super::Principal;
use crate::{Name, bundle::Tables};
use hashbrown::HashMap;
use std::{collections::VecDeque, fmt, hash::BuildHasher, sync::Arc};

/// Verified tokens, bounded in number and bytes. Only tokens that passed every check get in, so that nobody without
/// good tokens can push others out.
///
/// An entry is found by a fast hash and confirmed by comparing the whole token. Expiry and revocation are checked again
/// at every use.
pub struct TokenCache {
    entries: HashMap<u64, Entry, foldhash::fast::FixedState>,
    /// (hash, serial) in the order of insertion; some may be gone already.
    order: VecDeque<(u64, u64)>,
    serial: u64,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
    /// The policy that the entries were verified under.
    policy: ([u8; 32], u64),
    /// SHA-256 of tokens that are not active, and until when that holds (Unix seconds). Apart from the entries: whoever
    /// sends tokens that are not active pushes out only others that are not active either.
    inactive: HashMap<[u8; 32], i64, foldhash::fast::FixedState>,
    inactive_order: VecDeque<[u8; 32]>,
    pub(super) anonymous: Arc<Principal>,
    /// What happened since the last look.
    pub counts: CacheCounts,
}

/// Tokens at most that are known not to be active.
const MAX_INACTIVE: usize = 1024;

/// Tokens that were looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Found: their signature was not verified again.
    pub hits: u64,
    /// Not found, so verified, whatever came of it.
    pub misses: u64,
}

/// An answer of an identity provider: it is used from when it came until `valid_until` of its entry, and then asked for again.
#[derive(Clone, Copy)]
pub(super) struct AskedAt {
    /// Unix seconds. The clock may be set back; the answer is not better for it.
    pub(super) since: i64,
    /// Unix seconds from which the token has expired.
    pub(super) expired_from: i64,
    /// Bytes of the answer.
    pub(super) bytes: usize,
}

pub(super) struct Entry {
    token: Box<str>,
    serial: u64,
    pub(super) principal: Arc<Principal>,
    /// Unix seconds from which the token is refused; clock skew is in it.
    pub(super) valid_until: i64,
    /// Where the identity provider was asked about it.
    pub(super) asked: Option<AskedAt>,
    /// What it counts for of the bytes that may be held.
    cost: usize,
    /// The principal together with the key and the peer it last came with.
    pub(super) combined: Option<(Option<usize>, Option<Name>, Arc<Principal>)>,
}

impl fmt::Debug for TokenCache {
    /// Sizes only: tokens never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("entries", &self.entries.len()).field("bytes", &self.bytes).finish()
    }
}

impl Default for TokenCache {
    /// 4096 tokens, 8 MiB.
    fn default() -> Self {
        TokenCache::new(4096, 8 << 20)
    }
}

impl TokenCache {
    /// An empty cache with these bounds; zero turns it off.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        TokenCache {
            entries: HashMap::default(),
            order: VecDeque::new(),
            serial: 0,
            bytes: 0,
            max_entries,
            max_bytes,
            policy: ([0; 32], 0),
            inactive: HashMap::default(),
            inactive_order: VecDeque::new(),
            anonymous: Arc::default(),
            counts: CacheCounts::default(),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.inactive.clear();
        self.inactive_order.clear();
        self.bytes = 0;
    }

    /// Number of tokens held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything if the entries were verified under another policy.
    pub(super) fn bind(&mut self, tables: &Tables) {
        if self.policy.1 != tables.epoch() || self.policy.0 != *tables.digest() {
            self.clear();
            self.policy = (*tables.digest(), tables.epoch());
        }
    }

    pub(super) fn hash(&self, token: &str) -> u64 {
        self.entries.hasher().hash_one(token)
    }

    pub(super) fn get(&mut self, hash: u64, token: &str) -> Option<&mut Entry> {
        self.entries.get_mut(&hash).filter(|entry| *entry.token == *token)
    }

    pub(super) fn remove(&mut self, hash: u64) {
        if let Some(entry) = self.entries.remove(&hash) {
            self.bytes = self.bytes.saturating_sub(entry.cost);
        }
    }

    /// True while a token with this SHA-256 is known not to be active.
    pub(super) fn is_inactive(&self, sha256: &[u8; 32], now: i64) -> bool {
        self.inactive.get(sha256).is_some_and(|until| now < *until)
    }

    pub(super) fn insert_inactive(&mut self, sha256: [u8; 32], until: i64) {
        if self.inactive.insert(sha256, until).is_some() {
            return;
        }
        self.inactive_order.push_back(sha256);
        if self.inactive_order.len() > MAX_INACTIVE
            && let Some(oldest) = self.inactive_order.pop_front()
        {
            self.inactive.remove(&oldest);
        }
    }

    pub(super) fn insert(
        &mut self,
        hash: u64,
        token: &str,
        principal: Arc<Principal>,
        valid_until: i64,
        asked: Option<AskedAt>,
    ) {
        let cost = cost(token, asked);
        if self.max_entries == 0 || cost > self.max_bytes {
            return;
        }
        self.remove(hash);
        while self.entries.len() >= self.max_entries || self.bytes + cost > self.max_bytes {
            let Some((oldest, serial)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.serial == serial) {
                self.remove(oldest);
            }
        }
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let entry = Entry { token: token.into(), serial, principal, valid_until, asked, cost, combined: None };
        self.entries.insert(hash, entry);
        self.order.push_back((hash, self.serial));
        self.bytes += cost;
        // Entries that expired leave their place in the order behind.
        if self.order.len() > 2 * self.max_entries.max(16) {
            let entries = &self.entries;
            self.order.retain(|(hash, serial)| entries.get(hash).is_some_and(|entry| entry.serial == *serial));
        }
    }
}

/// What an entry counts for: the token, and about twice what the principal is made of, which is the token or an answer.
fn cost(token: &str, asked: Option<AskedAt>) -> usize {
    token.len() + 2 * asked.map_or(token.len(), |asked| asked.bytes) + 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_bytes_stay_bounded_and_the_oldest_goes_first() {
        let mut cache = TokenCache::new(3, 1 << 20);
        for token in ["a", "b", "c", "d"] {
            let hash = cache.hash(token);
            cache.insert(hash, token, Arc::default(), 10, None);
        }
        let held = |cache: &mut TokenCache, token: &str| {
            let hash = cache.hash(token);
            cache.get(hash, token).is_some()
        };
        assert_eq!(cache.len(), 3);
        assert!(!held(&mut cache, "a") && held(&mut cache, "b") && held(&mut cache, "d"));
        let mut small = TokenCache::new(100, 2 * cost("xxxx", None));
        for token in ["xxx1", "xxx2", "xxx3"] {
            let hash = small.hash(token);
            small.insert(hash, token, Arc::default(), 10, None);
        }
        assert_eq!(small.len(), 2);
        assert!(small.bytes <= small.max_bytes);
        for round in 0..1000 {
            let token = format!("t{round}");
            let hash = small.hash(&token);
            small.insert(hash, &token, Arc::default(), 10, None);
            small.remove(hash);
        }
        assert!(small.order.len() <= 201);
        assert_eq!(small.bytes, small.entries.values().map(|entry| entry.cost).sum::<usize>());
    }

    #[test]
    fn tokens_that_are_not_active_are_bounded_and_push_no_good_one_out() {
        let mut cache = TokenCache::new(2, 1 << 20);
        let asked = AskedAt { since: 0, expired_from: 10, bytes: 100 };
        cache.insert(7, "good", Arc::default(), 10, Some(asked));
        let sha256 = |at: usize| {
            let mut sha256 = [0; 32];
            sha256[..8].copy_from_slice(&at.to_be_bytes());
            sha256
        };
        for at in 0..3 * MAX_INACTIVE {
            cache.insert_inactive(sha256(at), 10);
            cache.insert_inactive(sha256(at), 10);
        }
        assert_eq!((cache.inactive.len(), cache.inactive_order.len()), (MAX_INACTIVE, MAX_INACTIVE));
        assert!(cache.is_inactive(&sha256(3 * MAX_INACTIVE - 1), 9));
        assert!(!cache.is_inactive(&sha256(3 * MAX_INACTIVE - 1), 10) && !cache.is_inactive(&sha256(0), 9));
        assert!(cache.get(7, "good").is_some());
        cache.clear();
        assert!(!cache.is_inactive(&sha256(3 * MAX_INACTIVE - 1), 9) && cache.inactive_order.is_empty());
    }

    #[test]
    fn a_hash_collision_is_not_a_hit() {
        let mut cache = TokenCache::default();
        cache.insert(7, "token", Arc::default(), 10, None);
        assert!(cache.get(7, "token").is_some());
        assert!(cache.get(7, "tokem").is_none());
        assert!(!format!("{cache:?}").contains("token\""));
    }
}
