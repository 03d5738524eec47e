//! What DreamFactory makes of a value before the database sees it.
//!
//! Its `typecastToNative` casts every value of a filter and of a record to the type that it takes the column for
//! (`extractSimpleType`, from the database's own type and size):
//!
//! | column | cast |
//! | --- | --- |
//! | `bit`, `bool*`, any `*int` of size 1 but `bigint`, `NUMBER(1)`, and a SQLite column without type | 1 for `1`, `true`, `yes`, `on`; 0 for everything else |
//! | other `*int`, `NUMBER` without scale | `intval`: the fraction is cut, what is beyond 64 bits saturates |
//! | `decimal`, `numeric`, `NUMBER` with a scale | `sprintf('%f', floatval())`: a double, in six places |
//! | `float`, `double`, `real` | a double, that PHP writes with 14 digits |
//! | `bigint`, `money`, text and the rest | as it is |
//!
//! 0 and 1 come out of every cast as they went in. A value in a filter that is a number in parentheses is not cast.

use super::{filter::Literal, unsupported};
use crate::{
    code::Denial,
    value::{self, FieldType},
};

/// Digits that a number may have: more than any column's.
const MAX_DIGITS: usize = 40;
/// Digits of a double that PHP writes (`precision`).
const DOUBLE_DIGITS: usize = 14;

/// True for a number in plain digits, with a sign and a fraction or without.
pub(super) fn is_plain(text: &str) -> bool {
    let digits = |text: &str| (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// True if DreamFactory compares the field with a text as it is.
pub(super) const fn is_text(field_type: FieldType) -> bool {
    matches!(
        field_type,
        FieldType::String | FieldType::Timestamp | FieldType::Date | FieldType::Json | FieldType::Unspecified
    )
}

/// True if a number in plain digits comes out of the cast for a field of this type as it went in.
fn survives(text: &str, field_type: FieldType) -> bool {
    match field_type {
        FieldType::Integer => text.parse::<i64>().is_ok(),
        FieldType::Number => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let fraction = text.contains('.');
            let digits = digits.trim_start_matches('0');
            let digits = if fraction { digits.trim_end_matches('0') } else { digits };
            digits.len() <= DOUBLE_DIGITS
        }
        _ => false,
    }
}

/// A literal of a client's filter for a field of this type, as it is written upstream.
///
/// # Errors
/// `unsupported`, with a sentence, if DreamFactory's cast would make another value of it.
pub(super) fn literal(given: Literal, field_type: FieldType) -> Result<Literal, Denial> {
    let (text, exact) = match &given {
        Literal::Text(text) | Literal::Number(text) => (text.as_str(), false),
        Literal::Exact(text) => (text.as_str(), true),
    };
    let number = |text: &str| Ok(if exact { Literal::Exact(text.to_owned()) } else { Literal::Number(text.to_owned()) });
    match field_type {
        FieldType::Integer => match text.parse::<i64>() {
            Ok(value) if !text.starts_with('+') => number(&value.to_string()),
            _ => Err(unsupported(
                "The filter compares an integer field with a value that is no integer of 64 bits: DreamFactory would make another value of it.",
            )),
        },
        FieldType::Number if is_plain(text) && (exact || survives(text, field_type)) => number(text),
        FieldType::Number => Err(unsupported(
            "The filter compares a number field with a value that is no number of at most 14 digits, written without exponent: DreamFactory would make another value of it.",
        )),
        FieldType::Boolean if !exact => match boolean(text) {
            Some(value) => number(if value { "1" } else { "0" }),
            None => Err(unsupported(
                "The filter compares a boolean field with a value other than true, false, 1 and 0: DreamFactory would take it for false.",
            )),
        },
        FieldType::Timestamp | FieldType::Date if text.is_empty() => Err(unsupported(
            "The filter compares a date or timestamp with an empty text, for which DreamFactory may take the present time.",
        )),
        _ if exact => Err(unsupported("Only a numeric field can be compared with a number in parentheses.")),
        _ => Ok(given),
    }
}

/// As DreamFactory reads a truth value, but for the texts that it takes for false because it does not know them.
fn boolean(text: &str) -> Option<bool> {
    let is = |all: [&str; 4]| all.iter().any(|one| one.eq_ignore_ascii_case(text));
    if is(["1", "true", "yes", "on"]) {
        Some(true)
    } else if is(["0", "false", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// A number of a policy, for a field of this type.
///
/// # Errors
/// With the end of a sentence, if DreamFactory's cast would make another value of it.
pub(super) fn number(value: &value::Literal, field_type: FieldType) -> Result<String, &'static str> {
    let text = match value {
        value::Literal::Integer(value) => value.to_string(),
        value::Literal::Number(value) => value.to_string(),
        _ => return Err("a value is not a number"),
    };
    if is_plain(&text) && survives(&text, field_type) {
        Ok(text)
    } else {
        Err("DreamFactory would make another value of a number")
    }
}
