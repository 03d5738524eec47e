//! Waiting for a condition: as short as it takes, and not for ever. A test that sleeps instead says why nothing can be
//! awaited.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `probe` gives something, and fails with `what` after `limit`.
#[track_caller]
pub fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`wait`], without keeping a thread of the runtime.
#[cfg(feature = "tokio")]
pub async fn wait_async<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_what_was_found() {
        let mut looks = 0;
        let found = wait("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "in vain: a condition that never holds")]
    fn waiting_in_vain_says_what_was_awaited() {
        wait("a condition that never holds", Duration::ZERO, || None::<()>);
    }
}
