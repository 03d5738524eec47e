//! Row filters: parser, printer, wire form, simplifier and evaluator against a slow, obvious evaluator.

use crate::{
    input::{Choices, damaged_text, lines},
    policy::Caller,
};
use doorward_policy::{
    Name,
    number::Decimal,
    predicate::{
        Context, MAX_DEPTH, Predicate, Resolved, Truth, eval,
        parse::{MAX_LENGTH, parse},
        simplify, wire,
    },
    value::{FieldType, Literal, Value},
};
use doorward_test_support::{
    host::NOW,
    predicate::{FIELDS, holds},
};
use num_bigint::BigInt;
use std::{cmp::Ordering, sync::LazyLock};

const WORDS: [&str; 62] = [
    " AND ",
    " OR ",
    "NOT ",
    " IN ",
    " NOT IN (",
    " LIKE ",
    " IS NULL",
    " IS NOT NULL",
    "(",
    ")",
    "((",
    "))",
    ",",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "<>",
    "==",
    "'",
    "''",
    "\"",
    "\"\"",
    "\"order\"",
    "i",
    "n",
    "s",
    "b",
    "t",
    "d",
    "j",
    " TRUE ",
    "FALSE",
    "NULL",
    "0",
    "-1",
    "1.5",
    "1e308",
    "1e999",
    "-0.0",
    "9223372036854775807",
    "9223372036854775808",
    "9007199254740993",
    "0x1",
    "%",
    "_",
    "\\",
    "é",
    "{user.region}",
    "{user.ids}",
    "{user.level}",
    "{tenant}",
    "{role.regions}",
    "{now}",
    "{user.missing}",
    "{agent.name}",
    "{",
    "'2024-02-29'",
    "'2024-01-01T00:00:00.5+01:30'",
    "'2023-12-31 23:59:59'",
];

static SEEDS: LazyLock<Vec<&str>> = LazyLock::new(|| lines(include_str!("../seeds/predicates.txt")));

fn schema(name: &str) -> Option<FieldType> {
    FIELDS.iter().find(|(have, _)| *have == name).map(|(_, field_type)| *field_type)
}

/// Rows with NULLs, numbers that do not fit each other, texts with wild cards, and times that are none.
static ROWS: LazyLock<Vec<[Value; 8]>> = LazyLock::new(|| {
    let text = |text: &str| Value::Literal(Literal::String(text.into()));
    let integer = |number| Value::Literal(Literal::Integer(number));
    let number = |text: &str| Value::Literal(Literal::Number(Decimal::parse(text).expect("a number")));
    let truth = |truth| Value::Literal(Literal::Boolean(truth));
    let (null, day) = (Value::Null, "2024-01-01T00:00:00Z");
    vec![
        [integer(1), number("1.5"), text("west"), text("a"), truth(true), text(day), text("2024-01-01"), text("{}")],
        [
            integer(7),
            integer(9_007_199_254_740_993),
            text("it's 100% a_b"),
            text(""),
            truth(false),
            text("soon"),
            text("2024-02-31"),
            null.clone(),
        ],
        [
            null.clone(),
            null.clone(),
            null.clone(),
            null.clone(),
            null.clone(),
            null.clone(),
            null.clone(),
            null.clone(),
        ],
        [
            integer(-3),
            number("-2.5"),
            text("éa%"),
            text("WEST"),
            null.clone(),
            text("2023-12-31 23:30:00.5-01:00"),
            text("2000-02-29"),
            null,
        ],
        [
            integer(i64::MAX),
            number("1e300"),
            text("acme"),
            text("north"),
            truth(true),
            text("2024-01-01T05:30:00.250+05:30"),
            text("9999-12-31"),
            text("[]"),
        ],
    ]
});

/// Whatever parses is printed, encoded, simplified and evaluated as the same predicate.
pub fn text(bytes: &[u8]) {
    let text = damaged_text(&mut Choices(bytes), &SEEDS, &WORDS);
    let template = match parse(&text, &schema) {
        Ok(template) => template,
        Err(error) => {
            assert!(error.position <= text.len().max(MAX_LENGTH), "{error}: {text}");
            return;
        }
    };
    assert!(depth(&template) <= MAX_DEPTH, "{text}");
    let printed = template.to_string();
    if printed.len() <= MAX_LENGTH {
        assert_eq!(parse(&printed, &schema).as_ref(), Ok(&template), "{text} was printed as {printed}");
    }
    let mut strings: Vec<Name> = vec!["".into()];
    let encoded = wire::encode(&template, &mut |text| {
        strings.push(text.into());
        u32::try_from(strings.len() - 1).expect("few strings")
    });
    let decoded = wire::decode(&encoded, &|index| strings.get(usize::try_from(index).ok()?).cloned());
    assert_eq!(decoded.as_ref(), Ok(&template), "{text}");

    let principal = Caller::Analyst.principal();
    let lookups = [("regions".into(), vec!["west".into(), "north".into()])];
    let context = Context { principal: &principal, lookups: &lookups, agent: None, key: None, now_seconds: NOW };
    let Ok(resolved) = context.resolve(&template) else { return };
    let simple = simplify(resolved.clone());
    assert_eq!(simplify(simple.clone()), simple, "{text}");
    for row in ROWS.iter() {
        let get = |name: &str| FIELDS.iter().position(|(have, _)| *have == name).map(|at| row[at].clone());
        let Some(expected) = slow(&resolved, &get) else { continue };
        let expected = [Truth::False, Truth::Unknown, Truth::True][usize::from(expected)];
        assert_eq!(eval(&resolved, &get), expected, "{text}: {resolved} of {row:?}");
        assert_eq!(eval(&simple, &get), expected, "{text}: simplified to {simple}, of {row:?}");
    }
}

fn depth<V>(predicate: &Predicate<V>) -> usize {
    1 + match predicate {
        Predicate::And(items) | Predicate::Or(items) => items.iter().map(depth).max().unwrap_or(0),
        Predicate::Not(inner) => depth(inner),
        _ => 0,
    }
}

/// False, unknown and true are 0, 1 and 2: AND is the least, OR the greatest, NOT 2 - x. `None`: this evaluator cannot tell.
fn slow(predicate: &Resolved, get: &dyn Fn(&str) -> Option<Value>) -> Option<u8> {
    let test = |truth: Option<bool>| truth.map_or(1, |truth| if truth { 2 } else { 0 });
    let all = |items: &[Resolved]| items.iter().map(|item| slow(item, get)).collect::<Option<Vec<u8>>>();
    Some(match predicate {
        Predicate::Constant(value) => test(Some(*value)),
        Predicate::And(items) => all(items)?.into_iter().min().unwrap_or(2),
        Predicate::Or(items) => all(items)?.into_iter().max().unwrap_or(0),
        Predicate::Not(inner) => 2 - slow(inner, get)?,
        Predicate::Compare { field, field_type, op, value } => test(match get(field)? {
            Value::Null => None,
            Value::Literal(have) => order(*field_type, &have, value)?.map(|order| holds(*op, order)),
        }),
        Predicate::In { values, .. } if values.is_empty() => 0,
        Predicate::In { field, field_type, negated, values } => match get(field)? {
            Value::Null => 1,
            Value::Literal(have) => {
                let mut any = 0;
                for value in values {
                    any = any.max(test(order(*field_type, &have, value)?.map(Ordering::is_eq)));
                }
                if *negated { 2 - any } else { any }
            }
        },
        Predicate::Like { field, negated, pattern } => test(match get(field)? {
            Value::Literal(Literal::String(text)) => {
                // Backtracking is exponential in the number of `%`.
                if pattern.matches('%').count() > 6 {
                    return None;
                }
                let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
                Some(like(&text, &pattern) != *negated)
            }
            _ => None,
        }),
        Predicate::IsNull { field, negated } => test(Some((get(field)? == Value::Null) != *negated)),
    })
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|at| like(&text[at..], rest)),
        Some((wanted, rest)) => {
            text.split_first().is_some_and(|(c, tail)| (*wanted == '_' || wanted == c) && like(tail, rest))
        }
    }
}

/// `None`: out of the reach of the libraries used here. `Some(None)`: not comparable.
fn order(field_type: FieldType, left: &Literal, right: &Literal) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Literal::String(left), Literal::String(right)) => match field_type {
            FieldType::Timestamp => match (instant(left), instant(right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ if &**left == "soon" => None,
                _ => return None,
            },
            FieldType::Date => match (left.parse::<jiff::civil::Date>(), right.parse::<jiff::civil::Date>()) {
                (Ok(left), Ok(right)) => Some(left.cmp(&right)),
                _ => None,
            },
            _ => Some(left.as_bytes().cmp(right.as_bytes())),
        },
        (Literal::Boolean(left), Literal::Boolean(right)) => Some(left.cmp(right)),
        (Literal::Integer(left), Literal::Integer(right)) => Some(left.cmp(right)),
        (Literal::Number(left), Literal::Number(right)) => Some(exact(left.as_str())?.cmp(&exact(right.as_str())?)),
        (Literal::Integer(left), Literal::Number(right)) => {
            Some(exact(&left.to_string())?.cmp(&exact(right.as_str())?))
        }
        (Literal::Number(left), Literal::Integer(right)) => {
            Some(exact(left.as_str())?.cmp(&exact(&right.to_string())?))
        }
        _ => None,
    })
}

/// The number as a multiple of 10^-2000; `None` where that would be too large to be quick.
fn exact(text: &str) -> Option<BigInt> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift: i64 = exponent.trim_start_matches('+').parse().ok().filter(|shift: &i64| shift.abs() < 900)?;
    let power = u32::try_from(2000 + shift - i64::try_from(fraction.len()).ok()?).ok()?;
    Some([whole, fraction].concat().parse::<BigInt>().ok()? * BigInt::from(10).pow(power))
}

fn instant(text: &str) -> Option<jiff::Timestamp> {
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    let zone = if time.contains(['Z', 'z', '+', '-']) { "" } else { "Z" };
    format!("{date}T{time}{zone}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_predicate() {
        for seed in SEEDS.iter() {
            assert!(parse(seed, &schema).is_ok(), "{seed}");
        }
    }
}
