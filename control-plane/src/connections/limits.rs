//! How much there may be, and how much of it one client may take.

use std::time::Duration;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From the handshake to the first request.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(20);
/// Connections that are being closed while their successors are accepted.
pub(super) const CLOSING: usize = 16;
/// Connections to the metrics port.
const HTTP_CONNECTIONS: usize = 32;
/// Fewer file descriptors than this are no ground to serve on.
const MIN_DESCRIPTORS: u64 = 192;
/// Connections at most where the limit on file descriptors would allow more.
const MAX_CONNECTIONS: usize = 32_768;
/// Streams of all connections. A proxy has one for policy and one per worker for records.
const MAX_STREAMS: usize = 65_536;

/// How many connections and streams there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections with requests.
    pub active: usize,
    /// Connections without a request yet.
    pub fresh: usize,
    /// Streams of all connections.
    pub streams: usize,
    /// Greatest age of a connection; up to a tenth more, so that not all of a fleet come back at once.
    pub age: Duration,
}

impl Limits {
    /// The limits for a process that may have so many file descriptors open. `asked`: connections with requests, where
    /// somebody wants fewer, or insists on a number.
    pub fn new(descriptors: u64, asked: Option<usize>, age: Duration) -> anyhow::Result<Self> {
        if descriptors < MIN_DESCRIPTORS {
            bail!(
                "{descriptors} file descriptors are too few; raise the limit (ulimit -n) to {MIN_DESCRIPTORS} or more"
            );
        }
        // For databases, policy files, key sets and the metrics port. The rest is for connections.
        let kept = usize::try_from((descriptors / 4).clamp(96, 1024))? + CLOSING;
        let all = usize::try_from(descriptors)?.saturating_sub(kept);
        let fresh = (all / 4).min(1024);
        let most = all - fresh;
        if let Some(asked) = asked.filter(|asked| *asked == 0 || *asked > most) {
            bail!(
                "--max-connections {asked} does not fit: of {descriptors} file descriptors {most} can be for \
                connections; raise the limit (ulimit -n), or ask for fewer"
            );
        }
        Ok(Self { active: asked.unwrap_or(most.min(MAX_CONNECTIONS)), fresh, streams: MAX_STREAMS, age })
    }

    /// For the metrics port, whose connections serve one request each.
    pub fn http() -> Self {
        Self { active: 0, fresh: HTTP_CONNECTIONS, streams: 0, age: FIRST_REQUEST }
    }
}

/// How many file descriptors this process may have, after raising the soft limit to the hard one.
pub fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What cannot be raised stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether a client that has so many may have one more, of so many for all of whom so many are taken.
pub fn may_take(own: usize, taken: usize, all: usize) -> bool {
    own < all.saturating_sub(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_file_descriptors_and_leave_some_for_files() {
        let age = Duration::from_secs(60);
        for descriptors in [192, 256, 1024, 20_000, 1 << 20, u64::MAX >> 1] {
            let Limits { active, fresh, .. } = Limits::new(descriptors, None, age).unwrap();
            assert!(fresh >= 16 && active >= 48, "{descriptors}: {active} {fresh}");
            assert!(((active + fresh + CLOSING) as u64) <= descriptors - 96, "{descriptors}: {active} {fresh}");
        }
        assert!(Limits::new(128, None, age).unwrap_err().to_string().contains("ulimit -n"));
        assert_eq!(Limits::new(1024, Some(10), age).unwrap().active, 10);
        assert!(Limits::new(1024, Some(1000), age).unwrap_err().to_string().contains("--max-connections 1000"));
        assert!(Limits::new(1024, Some(0), age).is_err());
    }

    #[test]
    fn whoever_takes_all_they_can_leaves_half_of_the_rest() {
        for greedy in 0..10_u32 {
            let mut taken = 0;
            for _ in 0..greedy {
                let mut own = 0;
                while may_take(own, taken, 1_024) {
                    (own, taken) = (own + 1, taken + 1);
                }
            }
            assert_eq!(1_024 - taken, 1_024 >> greedy);
            assert!(may_take(0, taken, 1_024), "{greedy}");
        }
    }
}
