//! What was seen of a namespace: written by the watches, read by who asks for policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use doorward_policy_compiler::document::Kind;

use crate::wake::Waker;

/// What was seen of the namespace.
#[derive(Default)]
pub(super) struct Seen {
    /// The documents as YAML, by kind and name.
    pub(super) objects: BTreeMap<(&'static str, String), String>,
    /// Kinds that were listed once.
    pub(super) listed: BTreeSet<&'static str>,
    /// Why a kind is not, as the API server says it.
    pub(super) problem: Option<String>,
    pub(super) changes: u64,
    pub(super) waker: Option<Waker>,
}

impl Seen {
    pub(super) fn is_whole(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) seen: Mutex<Seen>,
    pub(super) listed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what was seen, and wakes who waits for it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.lock();
        change(&mut seen);
        seen.changes += 1;
        if let Some(waker) = &seen.waker {
            waker.wake();
        }
        drop(seen);
        self.listed.notify_all();
    }
}
