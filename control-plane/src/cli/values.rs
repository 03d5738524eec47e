//! Values of options: how they are written, and what is wrong with them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Text that is no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as NAME=VALUE")]
pub struct NoPair;

/// Reads `NAME=VALUE`.
///
/// # Errors
/// There is no equals sign, or no name before it.
pub fn pair(text: &str) -> Result<(String, String), NoPair> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(NoPair),
    }
}

/// Files of JWK sets by provider.
pub fn keys(pairs: Vec<(String, String)>) -> BTreeMap<String, PathBuf> {
    pairs.into_iter().map(|(provider, file)| (provider, file.into())).collect()
}

/// Text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a time as RFC 3339 with its offset, such as 2026-01-31T12:00:00Z")]
pub struct NoMoment;

/// Reads a moment (RFC 3339), in Unix seconds.
///
/// # Errors
/// It is written in another way.
pub fn moment(text: &str) -> Result<i64, NoMoment> {
    text.parse::<jiff::Timestamp>().map(|moment| moment.as_second()).map_err(|_| NoMoment)
}

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDuration {
    /// It does not begin with a number.
    #[error("`{0}` is not a duration; write e.g. 30s, 10m, 24h, 90d")]
    Form(String),
    /// The unit is missing or unknown.
    #[error("`{0}` has no unit that I know; write e.g. 500ms, 30s, 10m, 24h, 90d")]
    Unit(String),
    /// Nothing, or too long.
    #[error("`{0}` is out of range; a duration lies between 1ms and ten years")]
    Range(String),
}

/// Reads `500ms`, `30s`, `10m`, `24h` or `90d`.
///
/// # Errors
/// The unit is missing, or the duration is nothing or longer than ten years.
pub fn duration(text: &str) -> Result<Duration, NoDuration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| NoDuration::Form(text.to_owned()))?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(NoDuration::Unit(text.to_owned())),
    };
    match number.checked_mul(milliseconds) {
        Some(total) if total > 0 && total <= 315_576_000_000 => Ok(Duration::from_millis(total)),
        _ => Err(NoDuration::Range(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sane_size() {
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "s", "0s", "1w", "99999999999999999999s", "9999999999d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
