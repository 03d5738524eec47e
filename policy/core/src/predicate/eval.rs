//! Evaluation in SQL's three-valued logic.

use super::{
    CompareOp, Predicate, Resolved,
    parse::{is_date, parse_rfc3339},
};
use crate::value::{FieldType, Literal, Value};

/// A truth value. Only `True` lets anything through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It depends on a NULL or on a value that is not known.
    Unknown,
}

impl Truth {
    const fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
    const fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }
    const fn negated(self, negated: bool) -> Truth {
        if negated { self.not() } else { self }
    }
}

/// Evaluates a predicate on one row. `field` gives a field's value; `None`: not known here, so every test of it is
/// `Unknown`. So is a comparison of different types.
#[must_use]
pub fn eval(predicate: &Resolved, field: &dyn Fn(&str) -> Option<Value>) -> Truth {
    match predicate {
        Predicate::Constant(value) => Truth::from(*value),
        Predicate::And(items) => any(items, Truth::False, |item| eval(item, field)),
        Predicate::Or(items) => any(items, Truth::True, |item| eval(item, field)),
        Predicate::Not(inner) => eval(inner, field).not(),
        Predicate::Compare { field: name, field_type, op, value } => match field(name) {
            Some(Value::Literal(have)) => compare(*field_type, &have, *op, value),
            _ => Truth::Unknown,
        },
        Predicate::In { values, .. } if values.is_empty() => Truth::False,
        Predicate::In { field: name, field_type, negated, values } => match field(name) {
            Some(Value::Literal(have)) => {
                any(values, Truth::True, |value| compare(*field_type, &have, CompareOp::Eq, value)).negated(*negated)
            }
            _ => Truth::Unknown,
        },
        Predicate::Like { field: name, negated, pattern } => match field(name) {
            Some(Value::Literal(Literal::String(text))) => Truth::from(like(&text, pattern)).negated(*negated),
            _ => Truth::Unknown,
        },
        Predicate::IsNull { field: name, negated } => match field(name) {
            Some(value) => Truth::from(value == Value::Null).negated(*negated),
            None => Truth::Unknown,
        },
    }
}

/// `strong` as soon as one item gives it; else `Unknown` if any is; else the opposite of `strong`.
fn any<T>(items: &[T], strong: Truth, mut truth: impl FnMut(&T) -> Truth) -> Truth {
    let mut result = strong.not();
    for item in items {
        match truth(item) {
            found if found == strong => return strong,
            Truth::Unknown => result = Truth::Unknown,
            _ => {}
        }
    }
    result
}

fn compare(field_type: FieldType, have: &Literal, op: CompareOp, want: &Literal) -> Truth {
    let ordering = match (have, want) {
        (Literal::String(have), Literal::String(want)) => match field_type {
            FieldType::Timestamp => match (instant(have), instant(want)) {
                (Some(have), Some(want)) => Some(have.cmp(&want)),
                _ => None,
            },
            FieldType::Date => (is_date(have) && is_date(want)).then(|| have.cmp(want)),
            FieldType::String => Some(have.cmp(want)),
            _ => None,
        },
        (Literal::Integer(have), Literal::Integer(want)) => Some(have.cmp(want)),
        (Literal::Number(have), Literal::Number(want)) => Some(have.cmp(want)),
        (Literal::Integer(have), Literal::Number(want)) => Some(want.cmp_integer(*have).reverse()),
        (Literal::Number(have), Literal::Integer(want)) => Some(have.cmp_integer(*want)),
        (Literal::Boolean(have), Literal::Boolean(want)) => Some(have.cmp(want)),
        _ => None,
    };
    let Some(ordering) = ordering else { return Truth::Unknown };
    match op {
        CompareOp::Eq => Truth::from(ordering.is_eq()),
        CompareOp::Ne => Truth::from(ordering.is_ne()),
        CompareOp::Lt => Truth::from(ordering.is_lt()),
        CompareOp::Le => Truth::from(ordering.is_le()),
        CompareOp::Gt => Truth::from(ordering.is_gt()),
        CompareOp::Ge => Truth::from(ordering.is_ge()),
        CompareOp::Unspecified => Truth::Unknown,
    }
}

/// Unix seconds and nanoseconds of a timestamp; one without an offset is taken as UTC.
fn instant(text: &str) -> Option<(i64, u32)> {
    let seconds = parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}Z")))?;
    let mut nanos = 0;
    if let Some((_, fraction)) = text.split_once('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).take(9);
        let mut unit = 100_000_000;
        for digit in digits {
            nanos += u32::from(digit - b'0') * unit;
            unit /= 10;
        }
    }
    Some((seconds, nanos))
}

/// SQL `LIKE` without an escape character, case-sensitive. Greedy with one place to return to: no exponential case.
fn like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        match pattern.next() {
            Some('%') => {
                retry = Some((text.clone(), pattern.clone()));
                continue;
            }
            Some(want) => match text.next() {
                Some(have) if want == '_' || want == have => continue,
                // The text has ended: no longer run of any '%' can help.
                None => return false,
                Some(_) => {}
            },
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        let Some((from, after)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (text, pattern) = (from.clone(), after.clone());
    }
}
