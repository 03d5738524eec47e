//! What the writer knows to be durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    cursors::Cursors,
    emitter::{Emitter, Phase},
};
use crate::certificate::Owner;

/// What the writer knows to be durable.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The cursor of the next record.
    pub(super) next: u64,
    /// When the newest record was received.
    pub(super) received: i64,
    /// The time that retention believed last.
    pub(super) clock: Option<i64>,
    /// By name, so that those of one proxy are together.
    pub(super) emitters: BTreeMap<String, Emitter>,
    /// Names of those that are open.
    pub(super) open: BTreeSet<String>,
    /// Named cursors.
    pub(super) cursors: Cursors,
    /// How many emitters each client has.
    pub(super) owners: HashMap<Owner, usize>,
}

impl State {
    /// Adds an emitter, or replaces what was known of it.
    pub(super) fn remember(&mut self, name: String, emitter: Emitter) {
        note_open(&mut self.open, &name, emitter);
        match self.emitters.insert(name, emitter) {
            None => *self.owners.entry(emitter.owner).or_default() += 1,
            Some(before) if before.owner != emitter.owner => {
                self.release(before.owner);
                *self.owners.entry(emitter.owner).or_default() += 1;
            }
            Some(_) => {}
        }
    }

    /// Removes an emitter.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(emitter) = self.emitters.remove(name) {
            self.open.remove(name);
            self.release(emitter.owner);
        }
    }

    fn release(&mut self, owner: Owner) {
        if let Some(count) = self.owners.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }
}

/// Keeps the names of open emitters.
pub(super) fn note_open(open: &mut BTreeSet<String>, name: &str, emitter: Emitter) {
    if emitter.phase != Phase::Open {
        open.remove(name);
    } else if !open.contains(name) {
        open.insert(name.to_owned());
    }
}
