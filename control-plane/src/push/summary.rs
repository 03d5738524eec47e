//! What the connected proxies enforce, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Refusals that are told of one control plane.
pub const MAX_REFUSALS: usize = 5;

/// What the connected proxies enforce.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// How many of them hold each epoch; 0 is none yet.
    pub held: BTreeMap<u64, u64>,
    /// Proxies whose last answer was a refusal; some of them.
    pub refusals: Vec<Refusal>,
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
        for (epoch, count) in other.held {
            *self.held.entry(epoch).or_default() += count;
        }
        let room = MAX_REFUSALS.saturating_sub(self.refusals.len());
        self.refusals.extend(other.refusals.into_iter().take(room));
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.held.values().sum()
    }

    /// Those that enforce what is in force since this epoch.
    pub fn since(&self, epoch: u64) -> u64 {
        if epoch == 0 { 0 } else { self.held.range(epoch..).map(|(_, count)| count).sum() }
    }
}
