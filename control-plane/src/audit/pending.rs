//! A commit being put together: batches are judged against the durable state of their emitters and of what is in the commit
//! before them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use doorward_policy::audit::link;
use doorward_proto::v1::{AuditRecord, RecordDecision, RecordKind};
use prost::Message as _;

use super::{
    cursors::{self, Change, Cursor, CursorError, Cursors},
    emitter::{Emitter, OWN, Phase, is_emitter, node},
    jobs::{Appended, Batch, Refusal},
    position::Position,
    state::{State, note_open},
    tables::stored,
};
use crate::{certificate::Owner, clock::now_micros};

/// Emitters that are remembered of one client: one takes a few hundred bytes of memory.
const MAX_EMITTERS: usize = 200_000;
/// Emitters of one proxy that are open, of one client: there is one for each worker, and one that begins is compared with all
/// of them.
pub(super) const MAX_OPEN: usize = 1024;

/// What a commit changes, on top of the durable state.
pub(super) struct Pending<'a> {
    pub(super) durable: &'a State,
    pub(super) next: u64,
    pub(super) received: i64,
    pub(super) emitters: BTreeMap<String, Emitter>,
    /// Names of those of them that are open.
    open: BTreeSet<String>,
    begun: HashMap<Owner, usize>,
    pub(super) rows: Vec<(u64, Vec<u8>)>,
    pub(super) duplicates: u64,
    /// All named cursors; owned, once one was changed.
    pub(super) cursors: Cow<'a, Cursors>,
}

impl<'a> Pending<'a> {
    /// An empty one.
    pub(super) fn new(durable: &'a State) -> Self {
        Self {
            durable,
            next: durable.next,
            received: durable.received.max(now_micros()),
            emitters: BTreeMap::new(),
            open: BTreeSet::new(),
            begun: HashMap::new(),
            rows: Vec::new(),
            duplicates: 0,
            cursors: Cow::Borrowed(&durable.cursors),
        }
    }

    /// Changes a named cursor; `at`: the place that the change names.
    pub(super) fn change(&mut self, change: &Change, at: &Position) -> Result<Cursor, CursorError> {
        // On a copy only where it is good: what was refused needs no commit.
        let mut cursors = self.cursors.clone().into_owned();
        let changed = cursors::apply(&mut cursors, change, at, self.received)?;
        self.cursors = Cow::Owned(cursors);
        Ok(changed)
    }

    fn emitter(&self, name: &str) -> Option<Emitter> {
        self.emitters.get(name).or_else(|| self.durable.emitters.get(name)).copied()
    }

    fn put(&mut self, name: String, emitter: Emitter) {
        note_open(&mut self.open, &name, emitter);
        self.emitters.insert(name, emitter);
    }

    /// Whether this client may begin this emitter as one more.
    fn may_begin(&self, name: &str, owner: Owner, process: u64) -> bool {
        let count = |counts: &HashMap<Owner, usize>| counts.get(&owner).copied().unwrap_or(0);
        count(&self.durable.owners).saturating_add(count(&self.begun)) < MAX_EMITTERS
            && self.siblings(name, owner).filter(|other| replaces(name, process, other).is_none()).count() < MAX_OPEN
    }

    /// Takes in what is good of a batch, and says how far it is durable once the commit is.
    pub(super) fn append(&mut self, batch: &Batch) -> Appended {
        let known = self.emitter(&batch.emitter);
        let mut emitter = known.unwrap_or_default();
        if !emitter.is_of(batch.owner) {
            // Not even how far it is: what is durable of it is none of this client's.
            return Appended { sequence: 0, refusal: Some(Refusal::ForeignEmitter) };
        }
        if known.is_none() && !self.may_begin(&batch.emitter, batch.owner, batch.process) {
            return Appended { sequence: 0, refusal: Some(Refusal::TooManyEmitters) };
        }
        emitter.owner = batch.owner;
        if batch.process != 0 {
            emitter.process = batch.process;
        }
        let refuse = |emitter: &Emitter, refusal| Appended { sequence: emitter.sequence, refusal: Some(refusal) };
        let (mut refused, mut lost) = (None, Vec::new());
        for checked in &batch.records {
            let expected = emitter.sequence.saturating_add(1);
            if checked.sequence < expected {
                if checked.sequence == emitter.sequence && checked.hash != emitter.hash {
                    refused = Some(Refusal::ChainBroken);
                    break;
                }
                self.duplicates += 1;
                continue;
            }
            if checked.sequence > expected {
                refused = Some(Refusal::Hole);
                break;
            }
            // After an end mark there is nothing: an emitter that goes on is not the one that ended.
            if checked.previous != emitter.hash || emitter.phase == Phase::Ended {
                refused = Some(Refusal::ChainBroken);
                break;
            }
            self.row(&checked.bytes, checked.hash);
            emitter.sequence = checked.sequence;
            emitter.hash = checked.hash;
            if emitter.phase == Phase::Superseded {
                // It was only slow, so its end is to come.
                emitter.phase = Phase::Open;
            }
            lost.extend(&checked.lost);
        }
        emitter.seen = self.received;
        let begins = batch.announces || (batch.end && refused.is_none());
        if known.is_none() && emitter.sequence == 0 && !begins {
            return refused.map_or(Appended { sequence: 0, refusal: None }, |refusal| refuse(&emitter, refusal));
        }
        if batch.end && refused.is_none() {
            emitter.phase = Phase::Ended;
        }
        if batch.announces && emitter.phase == Phase::Superseded {
            emitter.phase = Phase::Open;
        }
        self.put(batch.emitter.clone(), emitter);
        if known.is_none() {
            *self.begun.entry(batch.owner).or_default() += 1;
            self.supersede(&batch.emitter, batch.owner, batch.process);
        }
        for lost in lost {
            self.lost(&batch.emitter, batch.owner, &lost.emitter, lost.sequence);
        }
        refused.map_or(Appended { sequence: emitter.sequence, refusal: None }, |refusal| refuse(&emitter, refusal))
    }

    /// The other emitters of the same proxy that are open and of this client.
    fn siblings<'b>(&'b self, name: &'b str, owner: Owner) -> impl Iterator<Item = (&'b String, Emitter)> + 'b {
        let node = node(name).unwrap_or(name);
        // Names are in order, and 0 comes right after the slash.
        let range = format!("{node}/")..format!("{node}0");
        let durable = self.durable.open.range(range.clone()).filter(|other| !self.open.contains(*other));
        durable
            .chain(self.open.range(range))
            .filter(move |other| *other != name && self::node(other) == Some(node))
            .filter_map(|other| Some((other, self.emitter(other)?)))
            .filter(move |(_, emitter)| emitter.phase == Phase::Open && emitter.is_of(owner))
    }

    /// A new boot id of a worker, or a new process of a proxy: whatever the earlier ones still had in memory is lost, and the
    /// log says so.
    fn supersede(&mut self, name: &str, owner: Owner, process: u64) {
        let replaced = self.siblings(name, owner).filter_map(|other| {
            let what = replaces(name, process, &other)?;
            Some((other.0.clone(), other.1, what))
        });
        for (other, emitter, what) in replaced.collect::<Vec<_>>() {
            let detail = format!(
                "Emitter {name} began after {other}, {what}, and that one had sent no end mark after sequence {}; what it \
                 had not sent is lost.",
                emitter.sequence
            );
            self.supersede_one(other, emitter, 0, detail);
        }
    }

    /// A worker says that another one of its proxy is gone without a word.
    fn lost(&mut self, witness: &str, owner: Owner, other: &str, numbered: u64) {
        // A proxy speaks for its own workers only.
        if !is_emitter(other) || other == witness || node(other) != node(witness) {
            return;
        }
        let known = self.emitter(other);
        if known.is_some_and(|emitter| emitter.phase != Phase::Open || !emitter.is_of(owner)) {
            return;
        }
        let emitter = known.unwrap_or(Emitter { owner, ..Emitter::default() });
        let stored = emitter.sequence;
        let at_least = match numbered.saturating_sub(stored) {
            0 => String::new(),
            missing => format!(" It had numbered {numbered}, so at least {missing} are lost."),
        };
        let detail = format!(
            "Emitter {other} ended without an end mark, as {witness} found; its records up to sequence {stored} are \
            stored.{at_least} How many it had not sent is unknown."
        );
        self.supersede_one(other.to_owned(), emitter, numbered, detail);
    }

    /// Closes an emitter that ended without a word, and says so in the log.
    pub(super) fn supersede_one(&mut self, name: String, mut emitter: Emitter, numbered: u64, detail: String) {
        emitter.phase = Phase::Superseded;
        emitter.seen = self.received;
        self.put(name.clone(), emitter);
        self.own(AuditRecord {
            kind: RecordKind::Gap.into(),
            gap_reason: "emitter_lost".into(),
            lost_emitter: name,
            lost_sequence: numbered.max(emitter.sequence),
            decision: Some(RecordDecision {
                outcome: "gap".into(),
                code: "emitter_lost".into(),
                detail,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    /// Appends a record of the control plane itself.
    fn own(&mut self, record: AuditRecord) {
        let mut emitter = self.emitter(OWN).unwrap_or_default();
        let record = AuditRecord {
            decision_id: uuid::Uuid::now_v7().to_string(),
            time_micros: now_micros(),
            emitter: OWN.into(),
            sequence: emitter.sequence.saturating_add(1),
            previous_hash: emitter.hash.to_vec(),
            ..record
        };
        let bytes = record.encode_to_vec();
        emitter.sequence = record.sequence;
        emitter.hash = link(&emitter.hash, &bytes);
        emitter.seen = self.received;
        self.row(&bytes, emitter.hash);
        self.put(OWN.into(), emitter);
    }

    fn row(&mut self, record: &[u8], hash: [u8; 32]) {
        self.rows.push((self.next, stored(record, &hash, self.received)));
        self.next = self.next.saturating_add(1);
    }
}

/// Whether another emitter of the proxy is over where this one begins, and as what.
fn replaces(name: &str, process: u64, (other, emitter): &(&String, Emitter)) -> Option<&'static str> {
    let slot = |name: &str| name.rsplit_once('/').map(|(slot, _)| slot.to_owned());
    if process != 0 && emitter.process != process {
        Some("whose proxy was started anew")
    } else if slot(other) == slot(name) {
        Some("of the same worker")
    } else {
        None
    }
}
