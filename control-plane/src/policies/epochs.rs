//! Which epoch a policy gets.
//!
//! Proxies refuse an epoch below the one they hold. One control plane counts for itself; several agree, so that a proxy can move
//! from one to the other.

use std::{collections::BTreeMap, time::Duration};

use crate::clock::{now_micros, now_seconds};

/// Who says which epoch a policy gets. Calls may block: the policy thread waits for them.
pub trait Epochs: Send {
    /// How far the documents were seen that were read last.
    fn seen(&self) -> Seen {
        Seen::new()
    }

    /// An epoch for this policy, and when it was issued.
    ///
    /// # Errors
    /// It is not to be published now.
    fn agree(&mut self, proposal: &Proposal<'_>) -> Result<Agreed, Wait>;

    /// Whether another control plane publishes something else from the same documents, which was not known when this was asked
    /// last. Then key sets differ, and are fetched anew.
    fn differs(&mut self, _digest: &[u8]) -> bool {
        false
    }
}

/// How far documents were seen: by field, such as `AccessRole/shop`, the newest change, and up to where everything was seen.
pub type Seen = BTreeMap<String, (u64, u64)>;

/// A policy that is to be published.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// SHA-256 of its bytes.
    pub digest: &'a [u8],
    /// How far the documents were seen that it was compiled from; empty: nobody knows.
    pub seen: &'a Seen,
    /// It is in force, signed by this process, and its signature is good for long: only others are to learn of it.
    pub in_force: bool,
    /// The newest epoch that this control plane knows of; the agreed one is not below it.
    pub last: u64,
    /// Issued before this moment (Unix seconds), a signature is too old.
    pub issued_since: i64,
    /// This process has published nothing yet, and has not asked yet for every key set.
    pub unsettled: bool,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The epoch.
    pub epoch: u64,
    /// Unix seconds.
    pub issued_at: i64,
    /// All others know of it.
    pub shared: bool,
}

/// It is asked again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub again: Duration,
    /// Why, as the end of a sentence.
    pub why: &'static str,
}

/// The epoch after this one: at least the milliseconds since 1970, so that epochs grow over a restart also if none of the
/// last process could be stored, or the data directory was lost. A step back of the clock is covered by what is stored.
pub fn next(last: u64, now_millis: u64) -> u64 {
    last.saturating_add(1).max(now_millis)
}

/// The milliseconds since 1970.
pub fn now_millis() -> u64 {
    u64::try_from(now_micros() / 1000).unwrap_or(0)
}

/// One control plane for itself.
#[derive(Debug, Default)]
pub struct Alone;

impl Epochs for Alone {
    fn agree(&mut self, proposal: &Proposal<'_>) -> Result<Agreed, Wait> {
        Ok(Agreed { epoch: next(proposal.last, now_millis()), issued_at: now_seconds(), shared: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_by_the_clock_and_never_fall_with_it() {
        // A restart that finds nothing of what was signed since 1_000.
        assert!(next(1_000, 60_000) > next(next(1_000, 50_000), 50_000));
        assert_eq!(next(90_000, 60_000), 90_001, "the clock was set back");
        assert_eq!(next(u64::MAX, 60_000), u64::MAX);
    }
}
