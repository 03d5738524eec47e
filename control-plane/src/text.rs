//! Bytes and times as text, in the forms that commands, JSON and reports share.

use std::fmt::Write as _;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// RFC 3339 in UTC with microseconds; "" for no time.
pub fn time(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(moment) if micros != 0 => format!("{moment:.6}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_hashes_hexadecimal() {
        assert_eq!(time(1_700_000_000_000_001), "2023-11-14T22:13:20.000001Z");
        assert_eq!(time(0), "");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
