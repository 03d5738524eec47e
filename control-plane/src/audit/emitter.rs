//! Emitters: how they are named, and what the log durably knows of each.

use crate::certificate::Owner;

/// Bytes of a name at most.
pub(super) const MAX_EMITTER_BYTES: usize = 512;
/// The control plane's own emitter, for what it has to say itself. It has one chain for the life of the log.
pub(super) const OWN: &str = "control-plane/0/0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// It sent its end mark.
    Ended,
    /// It is gone without an end mark: another boot id of the same worker took over, its proxy was started anew or is silent,
    /// or another worker found it dead. The gap is recorded.
    Superseded,
}

/// The durable state of one emitter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Emitter {
    pub(super) sequence: u64,
    pub(super) hash: [u8; 32],
    pub(super) phase: Phase,
    pub(super) seen: i64,
    /// The client that began it; nobody in particular, where clients have no identity.
    pub(super) owner: Owner,
    /// The proxy's process; 0: not known.
    pub(super) process: u64,
}

impl Emitter {
    /// Its row.
    pub(super) fn encode(&self) -> [u8; 89] {
        let mut bytes = [0; 89];
        let phase = match self.phase {
            Phase::Open => 0,
            Phase::Ended => 1,
            Phase::Superseded => 2,
        };
        let parts = self.sequence.to_be_bytes().into_iter().chain(self.hash).chain([phase]);
        let parts = parts.chain(self.seen.to_be_bytes()).chain(self.owner.0).chain(self.process.to_be_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Whether this client may write it: who began it, or anybody where that was nobody in particular.
    pub(super) fn is_of(&self, client: Owner) -> bool {
        self.owner == Owner::default() || self.owner == client
    }

    /// Of a row; none, if it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (phase, rest) = rest.split_first()?;
        let phase = match phase {
            0 => Phase::Open,
            1 => Phase::Ended,
            _ => Phase::Superseded,
        };
        let (seen, rest) = rest.split_first_chunk::<8>()?;
        // Logs of earlier versions know no owner, and no process.
        let (owner, rest) =
            rest.split_first_chunk::<32>().map_or((Owner::default(), rest), |(o, rest)| (Owner(*o), rest));
        let process = rest.first_chunk::<8>().map_or(0, |process| u64::from_be_bytes(*process));
        let (sequence, seen) = (u64::from_be_bytes(*sequence), i64::from_be_bytes(*seen));
        Some(Self { sequence, hash: *hash, phase, seen, owner, process })
    }
}

/// `NODE/WORKER/BOOT`; the node may itself hold slashes. The control plane's own name is nobody else's.
pub(super) fn is_emitter(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '/');
    let parts = (parts.next(), parts.next(), parts.next());
    name.len() <= MAX_EMITTER_BYTES
        && name != OWN
        && !name.contains(char::is_control)
        && matches!(parts, (Some(boot), Some(worker), Some(node)) if !boot.is_empty() && !worker.is_empty() && !node.is_empty())
}

/// The node of an emitter's name.
pub(super) fn node(emitter: &str) -> Option<&str> {
    emitter.rsplitn(3, '/').nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emitters_state_is_read_back_also_of_earlier_versions() {
        let emitter = Emitter {
            sequence: 3,
            hash: [4; 32],
            phase: Phase::Superseded,
            seen: 5,
            owner: Owner([6; 32]),
            process: 7,
        };
        let bytes = emitter.encode();
        let read = |bytes: &[u8]| Emitter::decode(bytes).map(|e| (e.sequence, e.seen, e.owner.0[0], e.process));
        assert_eq!(read(&bytes), Some((3, 5, 6, 7)));
        assert_eq!(read(&bytes[..81]), Some((3, 5, 6, 0)));
        assert_eq!(read(&bytes[..49]), Some((3, 5, 0, 0)));
    }

    #[test]
    fn a_name_has_three_parts_and_is_not_the_control_planes_own() {
        for name in ["", "n", "n/0", "/0/b", "n//b", "n/0/", OWN, "n\n/0/b"] {
            assert!(!is_emitter(name), "{name:?}");
        }
        assert!(is_emitter("ns/pod/0/b"));
    }
}
