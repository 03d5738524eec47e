//! The wall clock in the units of the protocol, and the end of the process.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch.
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Seconds since the Unix epoch.
pub fn now_seconds() -> i64 {
    now_micros() / 1_000_000
}

/// Resolves when the process ends, or whoever would say so is gone.
pub async fn ended(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    drop(shutdown.wait_for(|ending| *ending).await);
}
