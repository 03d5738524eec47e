//! Literals by their declared type: numbers, truth values, dates, timestamps.

use crate::{
    Name,
    number::Decimal,
    value::{FieldType, Literal},
};

/// Reads text as a literal of this type, strictly: no spaces, no other spelling of a boolean, no infinite number.
#[must_use]
pub fn parse_literal(text: &str, field_type: FieldType) -> Option<Literal> {
    match field_type {
        FieldType::String => Some(Literal::String(Name::from(text))),
        FieldType::Timestamp => is_timestamp(text).then(|| Literal::String(Name::from(text))),
        FieldType::Date => is_date(text).then(|| Literal::String(Name::from(text))),
        FieldType::Integer if !text.starts_with('+') => text.parse().ok().map(Literal::Integer),
        FieldType::Number | FieldType::Decimal => Decimal::parse(text).map(Literal::Number),
        FieldType::Boolean => match text {
            "true" => Some(Literal::Boolean(true)),
            "false" => Some(Literal::Boolean(false)),
            _ => None,
        },
        _ => None,
    }
}

/// A decimal number as JSON writes it, leading zeros allowed.
pub(super) fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for a date `YYYY-MM-DD` that exists.
#[must_use]
pub fn is_date(text: &str) -> bool {
    days(text).is_some()
}

/// True for an ISO 8601 timestamp: a date, `T` or a space, `HH:MM:SS`, optionally a fraction, optionally `Z` or `±HH:MM`.
#[must_use]
pub fn is_timestamp(text: &str) -> bool {
    seconds(text).is_some()
}

/// Unix seconds of an RFC 3339 timestamp; its offset is required. A fraction is cut off.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    match seconds(text)? {
        (seconds, true) => Some(seconds),
        _ => None,
    }
}

/// Days since 1970-01-01 of a date (proleptic Gregorian).
fn days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (unsigned(year)?, unsigned(month)?, unsigned(day)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    // Years start in March here, so that the leap day is the last day of a year (Hinnant's days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Unix seconds, and whether an offset was given (UTC is assumed otherwise).
fn seconds(text: &str) -> Option<(i64, bool)> {
    let days = days(text.get(..10)?)?;
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let of_day = clock(text.get(11..19)?)?;
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 || length > 9 {
            return None;
        }
        rest = fraction.get(length..)?;
    }
    let offset = match rest {
        "" => None,
        "Z" | "z" => Some(0),
        _ => {
            let sign = match rest.as_bytes().first() {
                Some(b'+') => 1,
                Some(b'-') => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let (hours, minutes) = (unsigned(hours)?, unsigned(minutes)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            Some(sign * (hours * 3600 + minutes * 60))
        }
    };
    Some((days * 86_400 + of_day - offset.unwrap_or(0), offset.is_some()))
}

fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || hours.len() != 2 || minutes.len() != 2 || seconds.len() != 2 {
        return None;
    }
    let (hours, minutes, seconds) = (unsigned(hours)?, unsigned(minutes)?, unsigned(seconds)?);
    (hours <= 23 && minutes <= 59 && seconds <= 59).then_some(hours * 3600 + minutes * 60 + seconds)
}

fn unsigned(text: &str) -> Option<i64> {
    if digits(text) { text.parse().ok() } else { None }
}

/// Name of a type as documents write it.
#[must_use]
pub const fn type_name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::String => "string",
        FieldType::Integer => "integer",
        FieldType::Number => "number",
        FieldType::Boolean => "boolean",
        FieldType::Timestamp => "timestamp",
        FieldType::Date => "date",
        FieldType::Json => "json",
        FieldType::Decimal => "decimal",
        FieldType::Binary => "binary",
        FieldType::Unspecified => "unspecified",
    }
}
