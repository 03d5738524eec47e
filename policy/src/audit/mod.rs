//! The decision record: canonical encoding and hash chain.
//!
//! Canonical bytes are the protobuf encoding that prost makes of an `AuditRecord`: fields in ascending number, defaults
//! left out, no maps, no unknown fields. The chain is `h(n) = SHA-256(h(n-1) ‖ canonical(record n))` with `h(0)` of 32
//! zero bytes; record *n* also carries `h(n-1)` itself, so that a record alone tells its place.

pub mod bounds;
mod record;

use doorward_proto::v1::{AuditRecord, RecordKind};
use prost::Message;
use sha2::{Digest, Sha256};

pub(crate) use record::{RecordContext, Sent, build};
pub use record::{UNIDENTIFIED, fingerprint, predicate_text};

/// `h(0)`: what the first record of an emitter follows.
pub const GENESIS: [u8; 32] = [0; 32];

/// Hash of the record with these canonical bytes that follows a record of hash `previous`.
#[must_use]
pub fn link(previous: &[u8; 32], canonical: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(canonical);
    hash.finalize().into()
}

/// The chain of one emitter: numbers records from 1, without holes, and links them.
#[derive(Clone, Debug)]
pub struct Chain {
    emitter: String,
    sequence: u64,
    hash: [u8; 32],
}

/// A record that has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// From 1, without holes.
    pub sequence: u64,
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// `h(n)`
    pub hash: [u8; 32],
}

impl Chain {
    /// An empty chain of this emitter.
    #[must_use]
    pub fn new(emitter: String) -> Self {
        Chain { emitter, sequence: 0, hash: GENESIS }
    }

    /// Gives the record its emitter, sequence and predecessor, and appends it.
    pub fn seal(&mut self, mut record: AuditRecord) -> Sealed {
        self.sequence = self.sequence.saturating_add(1);
        record.emitter.clone_from(&self.emitter);
        record.sequence = self.sequence;
        record.previous_hash = self.hash.to_vec();
        let bytes = record.encode_to_vec();
        self.hash = link(&self.hash, &bytes);
        Sealed { sequence: self.sequence, bytes, hash: self.hash }
    }

    /// The emitter's name.
    #[must_use]
    pub fn emitter(&self) -> &str {
        &self.emitter
    }

    /// Sequence of the newest record; 0: none yet.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// `h(n)` of the newest record.
    #[must_use]
    pub fn last_hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

/// A record that says how many records are missing, and why (`queue_full`, `emitter_lost`).
#[must_use]
pub fn gap(time_micros: i64, missing: u64, reason: &str) -> AuditRecord {
    AuditRecord {
        time_micros,
        kind: RecordKind::Gap.into(),
        gap: missing,
        gap_reason: reason.to_owned(),
        ..AuditRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_starts_at_one_and_each_record_carries_its_predecessors_hash() {
        let mut chain = Chain::new("node/0/boot".into());
        let first = chain.seal(gap(1, 2, "queue_full"));
        let second = chain.seal(gap(2, 3, "queue_full"));
        assert_eq!((first.sequence, second.sequence), (1, 2));
        assert_eq!(first.hash, link(&GENESIS, &first.bytes));
        assert_eq!(second.hash, link(&first.hash, &second.bytes));
        let decoded = AuditRecord::decode(second.bytes.as_slice()).unwrap();
        assert_eq!(decoded.previous_hash, first.hash);
        assert_eq!(decoded.emitter, "node/0/boot");
    }

    #[test]
    fn any_changed_byte_breaks_the_chain() {
        let mut chain = Chain::new("e".into());
        let sealed = chain.seal(gap(7, 1, "queue_full"));
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.bytes.clone();
            changed[at] ^= 1;
            assert_ne!(link(&GENESIS, &changed), sealed.hash);
        }
    }
}
