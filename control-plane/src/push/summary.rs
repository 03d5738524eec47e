//! What the connected proxies enforce, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Refusals that are told of one control plane.
pub const MAX_REFUSALS: usize = 5;

/// What the connected proxies enforce.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// How many of them hold each policy.
    pub held: Vec<Held>,
    /// Proxies whose last answer was a refusal; some of them.
    pub refusals: Vec<Refusal>,
}

/// A policy that proxies hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its epoch; 0 is none yet.
    pub epoch: u64,
    /// Its digest, hexadecimal.
    pub digest: String,
    /// By how many proxies.
    pub proxies: u64,
}

/// A proxy that refused a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its node.
    pub node: String,
    /// The epoch that it holds.
    pub holds: u64,
    /// The epoch that it was offered.
    pub offered: u64,
    /// Why, in a word and a sentence.
    pub code: String,
    /// The sentence.
    pub message: String,
}

impl Proxies {
    /// Adds those of another replica.
    pub fn add(&mut self, other: Self) {
        for held in other.held {
            self.count(held.epoch, &held.digest, held.proxies);
        }
        let room = MAX_REFUSALS.saturating_sub(self.refusals.len());
        self.refusals.extend(other.refusals.into_iter().take(room));
    }

    /// Adds so many proxies that hold this policy.
    pub fn count(&mut self, epoch: u64, digest: &str, proxies: u64) {
        match self.held.iter_mut().find(|held| held.epoch == epoch && held.digest == digest) {
            Some(held) => held.proxies += proxies,
            None => self.held.push(Held { epoch, digest: digest.to_owned(), proxies }),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.held.iter().map(|held| held.proxies).sum()
    }

    /// Those that enforce what is in force since this epoch: they hold a policy of that epoch or a later one, and `published`
    /// knows it by its digest. What another replica has published otherwise counts for nothing.
    pub fn since(&self, epoch: u64, published: &BTreeMap<u64, String>) -> u64 {
        let ours = |held: &&Held| held.epoch >= epoch && published.get(&held.epoch) == Some(&held.digest);
        if epoch == 0 { 0 } else { self.held.iter().filter(ours).map(|held| held.proxies).sum() }
    }
}
