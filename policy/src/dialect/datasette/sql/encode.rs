//! A policy's row filter → conditions that select exactly its rows, whatever is stored.

use super::{Class, Sql, Test, Value};
use crate::{
    Name,
    code::{Code, Denial},
    predicate::{CompareOp, Predicate, Resolved, opposite},
    value::{FieldType, Literal},
};
use std::fmt::Write;

/// Encodes a policy's row filter. Negations are pushed down to the tests: then no test is under a negation, "false" and
/// "unknown" select alike, and each test may insist on the storage class and byte order that the policy means.
///
/// # Errors
/// `unsupported`, if a literal is not of its field's type.
pub(in crate::dialect::datasette) fn encode(filter: &Resolved, negated: bool) -> Result<Sql, Denial> {
    let items = |items: &[Resolved]| items.iter().map(|item| encode(item, negated)).collect::<Result<Vec<_>, _>>();
    Ok(match filter {
        Predicate::Constant(value) => Sql::Const(*value != negated),
        Predicate::And(list) if negated => Sql::any(items(list)?),
        Predicate::Or(list) if !negated => Sql::any(items(list)?),
        Predicate::And(list) | Predicate::Or(list) => Sql::all(items(list)?),
        Predicate::Not(inner) => encode(inner, !negated)?,
        Predicate::Compare { field, field_type, op, value } => {
            compare(field, *field_type, if negated { opposite(*op) } else { *op }, value)?
        }
        // A test over an empty list is false, negated by NOT IN or not.
        Predicate::In { values, .. } if values.is_empty() => Sql::Const(negated),
        Predicate::In { field, field_type, negated: not_in, values } => {
            let not_in = *not_in != negated;
            let op = if not_in { CompareOp::Ne } else { CompareOp::Eq };
            match field_type {
                FieldType::String | FieldType::Integer | FieldType::Number | FieldType::Decimal => {
                    let values = values.iter().map(|value| literal(*field_type, value)).collect::<Result<_, _>>()?;
                    let (class, binary) = class_of(*field_type);
                    typed(field, class, Test::In { negated: not_in, values, binary })
                }
                _ => {
                    let tests =
                        values.iter().map(|value| compare(field, *field_type, op, value)).collect::<Result<_, _>>()?;
                    if not_in { Sql::all(tests) } else { Sql::any(tests) }
                }
            }
        }
        Predicate::Like { field, negated: not_like, pattern } => {
            let mut glob = String::with_capacity(pattern.len());
            for letter in pattern.chars() {
                match letter {
                    '%' => glob.push('*'),
                    '_' => glob.push('?'),
                    '*' | '?' | '[' => {
                        let _ = write!(glob, "[{letter}]");
                    }
                    _ => glob.push(letter),
                }
            }
            typed(field, Class::Text, Test::Glob { negated: *not_like != negated, pattern: glob })
        }
        Predicate::IsNull { field, negated: not_null } => {
            Sql::Test(field.clone(), Test::Null { negated: *not_null != negated })
        }
    })
}

fn typed(field: &Name, class: Class, test: Test) -> Sql {
    Sql::And(vec![Sql::Test(field.clone(), Test::Is(class)), Sql::Test(field.clone(), test)])
}

fn class_of(field_type: FieldType) -> (Class, bool) {
    match field_type {
        FieldType::Integer | FieldType::Number | FieldType::Decimal | FieldType::Boolean => (Class::Numeric, false),
        _ => (Class::Text, true),
    }
}

fn literal(field_type: FieldType, value: &Literal) -> Result<Value, Denial> {
    match (field_type, value) {
        (FieldType::String | FieldType::Date, Literal::String(text)) => Ok(Value::Text(text.to_string())),
        (FieldType::Integer | FieldType::Number | FieldType::Decimal, Literal::Integer(value)) => {
            Ok(Value::Integer(*value))
        }
        // SQLite compares its integers and reals exactly, but reads any literal that is not an integer of 64 bits as a
        // double.
        (FieldType::Integer | FieldType::Number | FieldType::Decimal, Literal::Number(number)) => match number.as_i64()
        {
            Some(integer) => Ok(Value::Integer(integer)),
            None if number.is_double() => Ok(Value::Real(number.to_f64())),
            None => Err(Denial::new(
                Code::Unsupported,
                "The row filter compares with a number that SQLite would round: it has 64-bit integers and doubles.",
            )),
        },
        _ => Err(Denial::new(Code::Unsupported, "The row filter compares a field with a value of another type.")),
    }
}

fn compare(field: &Name, field_type: FieldType, op: CompareOp, value: &Literal) -> Result<Sql, Denial> {
    let (class, binary) = class_of(field_type);
    let test = match (field_type, value) {
        (FieldType::Boolean, Literal::Boolean(value)) => {
            let value = match op {
                CompareOp::Eq => *value,
                CompareOp::Ne => !*value,
                _ => return Err(Denial::new(Code::Unsupported, "The row filter orders truth values.")),
            };
            Test::Compare { op: CompareOp::Eq, value: Value::Integer(i64::from(value)), binary }
        }
        (FieldType::Timestamp, Literal::String(text)) => {
            // julianday() also reads times without a date and day numbers, so the form is tested too.
            let form =
                Test::Glob { negated: false, pattern: "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ]*:*".to_owned() };
            return Ok(Sql::And(vec![
                Sql::Test(field.clone(), Test::Is(Class::Text)),
                Sql::Test(field.clone(), form),
                Sql::Test(field.clone(), Test::Instant { op, text: text.to_string() }),
            ]));
        }
        (FieldType::Date, _) => {
            return Ok(Sql::And(vec![
                Sql::Test(field.clone(), Test::Is(Class::Text)),
                Sql::Test(field.clone(), Test::Date),
                Sql::Test(field.clone(), Test::Compare { op, value: literal(field_type, value)?, binary }),
            ]));
        }
        _ => Test::Compare { op, value: literal(field_type, value)?, binary },
    };
    Ok(typed(field, class, test))
}
