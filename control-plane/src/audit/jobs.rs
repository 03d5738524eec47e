//! What the writer is asked to do, and what it answers.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    cursors::{Change, Cursor, CursorError},
    room::Room,
};
use crate::certificate::Owner;

/// A record whose form and chain within its batch were checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its number.
    pub sequence: u64,
    /// The hash it names as its predecessor's.
    pub previous: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// The emitter that it declares lost.
    pub lost: Option<Lost>,
}

/// An emitter that a worker of its proxy found dead.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Its name.
    pub emitter: String,
    /// It had numbered at least so many records.
    pub sequence: u64,
}

/// What an emitter sent, or what is known of it before it sends anything.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The client that sent it.
    pub owner: Owner,
    /// Whose records.
    pub emitter: String,
    /// The proxy's process; 0: not known.
    pub process: u64,
    /// Ascending, without holes.
    pub records: Vec<Checked>,
    /// The emitter ends after them.
    pub end: bool,
    /// The emitter is remembered although it has sent nothing yet.
    pub announces: bool,
}

/// Why records of a batch were not stored; the stable codes of `AuditAck.error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The disk failed; send again later.
    StorageUnavailable,
    /// A record does not continue the chain of the one before.
    ChainBroken,
    /// Sequence numbers are missing.
    Hole,
    /// Not a canonical record of this emitter.
    Malformed,
    /// Another client began this emitter.
    ForeignEmitter,
    /// The client began more emitters than this log remembers of one.
    TooManyEmitters,
}

impl Refusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::StorageUnavailable => "storage_unavailable",
            Self::ChainBroken => "chain_broken",
            Self::Hole => "hole",
            Self::Malformed => "malformed",
            Self::ForeignEmitter => "foreign_emitter",
            Self::TooManyEmitters => "too_many_emitters",
        }
    }
}

/// What retention keeps, in microseconds since a record was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Every record for so long.
    pub records: i64,
    /// One that a named cursor has not passed, for so much longer at most.
    pub held: i64,
}

/// Answer to an append: everything up to and with `sequence` is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Last durable sequence of the emitter; 0 = none.
    pub sequence: u64,
    /// Why the rest was not stored.
    pub refusal: Option<Refusal>,
}

/// What the writer is asked.
pub(super) enum Job {
    Append {
        batch: Batch,
        reply: oneshot::Sender<Appended>,
        /// Held until the batch is answered.
        held: Option<Held>,
    },
    Sequence {
        emitter: String,
        reply: oneshot::Sender<u64>,
    },
    /// A change of a named cursor; answered when it is durable.
    Change {
        change: Change,
        reply: oneshot::Sender<Result<Cursor, CursorError>>,
    },
    /// Regular housekeeping; `keep`: what retention keeps.
    Sweep {
        keep: Option<Keep>,
    },
    /// Tries to write.
    Probe,
}

/// What a batch takes of its stream's, its client's and everybody's room while it waits for the disk. It goes back with the
/// answer, whether or not the client ever reads that: else one that does not would keep the room from all others.
pub type Held = (OwnedSemaphorePermit, Room);
