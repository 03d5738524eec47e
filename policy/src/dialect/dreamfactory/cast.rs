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

use super::{literal::Literal, unsupported};
use crate::{
    code::Denial,
    number::Decimal,
    value::{self, FieldType, Size},
};

/// Digits that a number may have: as many as the largest decimal.
const MAX_DIGITS: usize = 65;

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

/// True if a number comes out of the cast for a field of this type as it went in.
fn survives(number: &Decimal, field_type: FieldType) -> bool {
    let same = |text: String| Decimal::parse(&text).is_some_and(|kept| kept == *number);
    match field_type {
        FieldType::Integer => number.as_i64().is_some(),
        // PHP writes a double with 14 digits (its setting `precision`), and the driver binds the text.
        FieldType::Number => same(format!("{:.13e}", number.to_f64())),
        FieldType::Decimal => same(format!("{:.6}", number.to_f64())),
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
    let number =
        |text: &str| Ok(if exact { Literal::Exact(text.to_owned()) } else { Literal::Number(text.to_owned()) });
    match field_type {
        FieldType::Integer => match text.parse::<i64>() {
            Ok(value) if !text.starts_with('+') => number(&value.to_string()),
            _ => Err(unsupported(
                "The filter compares an integer field with a value that is no integer of 64 bits: DreamFactory would make another value of it.",
            )),
        },
        FieldType::Number | FieldType::Decimal => match Decimal::parse(text).filter(|_| is_plain(text)) {
            Some(value) if exact || survives(&value, field_type) => number(text),
            Some(_) if field_type == FieldType::Decimal => Err(unsupported(
                "The filter compares a decimal field with a number of more places or digits than DreamFactory keeps: it makes six places of a double.",
            )),
            Some(_) => Err(unsupported(
                "The filter compares a number field with a number of more than 14 digits, of which DreamFactory makes another.",
            )),
            None => Err(unsupported(
                "The filter compares a numeric field with a value that is no number in plain digits: DreamFactory would make another value of it.",
            )),
        },
        FieldType::Binary => Err(unsupported("A binary field can be tested with IS NULL and IS NOT NULL only.")),
        FieldType::Boolean if !exact => match boolean(text) {
            Some(value) => number(if value { "1" } else { "0" }),
            None => Err(unsupported(
                "The filter compares a boolean field with a value other than true, false, 1 and 0: DreamFactory would take it for false.",
            )),
        },
        FieldType::Timestamp | FieldType::Date if text.is_empty() => Err(unsupported(
            "The filter compares a date or timestamp with an empty text, for which DreamFactory may take the present time.",
        )),
        // Undeclared fields are denied before anything is written.
        _ if exact && field_type != FieldType::Unspecified => {
            Err(unsupported("Only a numeric field can be compared with a number in parentheses."))
        }
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
    let (text, number) = match value {
        value::Literal::Integer(value) => (Some(value.to_string()), Decimal::from_i64(*value)),
        value::Literal::Number(value) => (value.plain(65), value.clone()),
        _ => return Err("a value is not a number"),
    };
    text.filter(|text| is_plain(text) && survives(&number, field_type))
        .ok_or("DreamFactory would make another value of a number")
}

/// What is stored where a value is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// The value, as far as its field is what it is declared as.
    Same,
    /// A double next to it, so that no test of the value holds of what is stored.
    Near,
    /// Something else, for the reason that ends the sentence.
    Other(&'static str),
}

/// What is stored where a value of a field of this type is written.
pub(super) fn stored(value: &value::Literal, field_type: FieldType, size: Size) -> Stored {
    let number = match value {
        value::Literal::Integer(value) => Decimal::from_i64(*value),
        value::Literal::Number(value) => value.clone(),
        value::Literal::String(_) | value::Literal::Boolean(_) => return Stored::Same,
    };
    match field_type {
        FieldType::Integer | FieldType::Decimal if !size.holds(value) => {
            Stored::Other("it has more digits than the field is declared with")
        }
        FieldType::Decimal if !survives(&number, field_type) => {
            Stored::Other("DreamFactory makes six places of a double of it")
        }
        FieldType::Number if !survives(&number, field_type) => Stored::Near,
        _ => Stored::Same,
    }
}

/// Why DreamFactory would compare with, or store, another value than this literal of a policy.
pub(super) fn refusal(value: &value::Literal, field_type: FieldType, size: Size, write: bool) -> Option<&'static str> {
    let is_number = matches!(value, value::Literal::Integer(_) | value::Literal::Number(_));
    if is_number && number(value, field_type).is_err() {
        return Some(match field_type {
            FieldType::Decimal => "DreamFactory keeps six places of a double",
            FieldType::Number => "DreamFactory keeps 14 digits of a double",
            _ => "DreamFactory keeps integers of 64 bits",
        });
    }
    match stored(value, field_type, size) {
        Stored::Other(why) if write => Some(why),
        _ if field_type == FieldType::Integer && !size.holds(value) => {
            Some("it has more digits than the field is declared with")
        }
        _ => None,
    }
}
