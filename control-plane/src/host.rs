//! The outside world of the command line: the process's clock and randomness, limits in memory, signatures in pure Rust.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use doorward_policy::host::Host;
use rand::TryRngCore as _;

use crate::clock;

/// The host of `doorward explain` and `doorward test`.
#[derive(Debug, Default)]
pub struct LocalHost {
    at_millis: Option<u64>,
    limits: Mutex<HashMap<u64, u64>>,
}

impl LocalHost {
    /// A host whose clock stands still at this Unix second; `None`: the real clock.
    #[must_use]
    pub fn at(seconds: Option<i64>) -> Self {
        let at_millis = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(|s| s.saturating_mul(1000));
        LocalHost { at_millis, limits: Mutex::default() }
    }
}

impl Host for LocalHost {
    fn now_millis(&self) -> u64 {
        self.at_millis.unwrap_or_else(|| u64::try_from(clock::now_micros() / 1000).unwrap_or(0))
    }

    fn random(&self, buffer: &mut [u8]) -> bool {
        rand::rngs::OsRng.try_fill_bytes(buffer).is_ok()
    }

    fn update_limit(&self, slot: u64, update: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = update(limits.get(&slot).copied()) {
            limits.insert(slot, value);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_keeps_what_was_stored_and_a_fixed_clock_stands_still() {
        let host = LocalHost::at(Some(1_700_000_000));
        assert_eq!(host.now_millis(), 1_700_000_000_000);
        assert!(host.update_limit(1, &mut |state| state.map_or(Some(5), |_| None)));
        let mut seen = None;
        assert!(host.update_limit(1, &mut |state| {
            seen = state;
            None
        }));
        assert_eq!(seen, Some(5));
        let (mut a, mut b) = ([0; 16], [0; 16]);
        assert!(host.random(&mut a) && host.random(&mut b) && a != b);
    }
}
