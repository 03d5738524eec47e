//! Evaluator, simplifier, printer and wire form against slow, obvious counterparts and SQLite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use doorward_policy_core::{
    Name,
    number::Decimal,
    predicate::{parse::parse, wire, *},
    value::{FieldType, Literal, Value},
};
use doorward_test_support::predicate::COMPARISONS;
use proptest::prelude::*;
use rusqlite::Connection;

/// JSON cannot be compared.
const FIELDS: [(&str, FieldType); 7] = {
    let [i, n, s, order, b, t, d, _] = doorward_test_support::predicate::FIELDS;
    [i, n, s, order, b, t, d]
};

fn literal(field_type: FieldType) -> BoxedStrategy<Literal> {
    let text = |list: &'static [&'static str]| prop::sample::select(list).prop_map(|text| Literal::String(text.into()));
    match field_type {
        FieldType::Integer => prop::sample::select(vec![-2, 0, 1, 2, 3, i64::MAX]).prop_map(Literal::Integer).boxed(),
        FieldType::Number => prop::sample::select(vec!["-2.5", "0.0", "-0", "1", "1.0", "2e0", "2.5", "1E20"])
            .prop_map(|text| Literal::Number(Decimal::parse(text).unwrap()))
            .boxed(),
        FieldType::Boolean => any::<bool>().prop_map(Literal::Boolean).boxed(),
        FieldType::Timestamp => text(&["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2025-12-31T23:59:59Z"]).boxed(),
        FieldType::Date => text(&["2026-01-01", "2026-01-02", "2025-12-31"]).boxed(),
        _ => text(&["", "a", "A", "ab", "it's", "ä_%", "aab", "aaab"]).boxed(),
    }
}

fn field() -> impl Strategy<Value = (Name, FieldType)> {
    prop::sample::select(&FIELDS[..]).prop_map(|(name, field_type)| (Name::from(name), field_type))
}

fn predicates() -> impl Strategy<Value = Resolved> {
    let op = prop::sample::select(&COMPARISONS[..]);
    let compare = (field(), op).prop_flat_map(|((field, field_type), op)| {
        let op = if field_type == FieldType::Boolean && op > CompareOp::Ne { CompareOp::Ne } else { op };
        literal(field_type).prop_map(move |value| Predicate::Compare { field: field.clone(), field_type, op, value })
    });
    let list = (field(), any::<bool>()).prop_flat_map(|((field, field_type), negated)| {
        prop::collection::vec(literal(field_type), 1..4).prop_map(move |values| Predicate::In {
            field: field.clone(),
            field_type,
            negated,
            values,
        })
    });
    let pattern = prop::sample::select(&["", "%", "a%", "%b", "_", "a_b", "%a%b", "__%", "it's", "%%_"][..]);
    let like = (any::<bool>(), pattern).prop_map(|(negated, pattern)| Predicate::Like {
        field: "s".into(),
        negated,
        pattern: pattern.into(),
    });
    let null = (field(), any::<bool>()).prop_map(|((field, _), negated)| Predicate::IsNull { field, negated });
    let leaf = prop_oneof![any::<bool>().prop_map(Predicate::Constant), compare, list, like, null];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::Or),
            inner.prop_map(|item| Predicate::Not(Box::new(item))),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Value>> {
    FIELDS
        .iter()
        .map(|(_, field_type)| {
            prop_oneof![1 => Just(Value::Null).boxed(), 3 => literal(*field_type).prop_map(Value::Literal).boxed()]
                .boxed()
        })
        .collect::<Vec<_>>()
}

/// The slow, obvious evaluator: false, unknown, true are 0, 1, 2; AND is the least, OR the greatest, NOT 2 - x.
fn slow(predicate: &Resolved, row: &[Value]) -> u8 {
    let get = |name: &Name| {
        let at = FIELDS.iter().position(|(have, _)| *have == &**name).unwrap();
        match &row[at] {
            Value::Null => None,
            Value::Literal(literal) => Some(literal.clone()),
        }
    };
    let test = |value: Option<bool>| value.map_or(1, |value| if value { 2 } else { 0 });
    // All test values are exact as numbers or texts that sort as bytes.
    let less = |left: &Literal, right: &Literal| match (left, right) {
        (Literal::String(left), Literal::String(right)) => left.as_bytes() < right.as_bytes(),
        (Literal::Integer(left), Literal::Integer(right)) => left < right,
        (Literal::Number(left), Literal::Number(right)) => left < right,
        (Literal::Boolean(left), Literal::Boolean(right)) => !left && *right,
        _ => unreachable!(),
    };
    match predicate {
        Predicate::Constant(value) => test(Some(*value)),
        Predicate::And(items) => items.iter().map(|item| slow(item, row)).min().unwrap_or(2),
        Predicate::Or(items) => items.iter().map(|item| slow(item, row)).max().unwrap_or(0),
        Predicate::Not(inner) => 2 - slow(inner, row),
        Predicate::Compare { field, op, value, .. } => test(get(field).map(|have| match op {
            CompareOp::Eq => have == *value,
            CompareOp::Ne => have != *value,
            CompareOp::Lt => less(&have, value),
            CompareOp::Ge => !less(&have, value),
            CompareOp::Gt => less(value, &have),
            CompareOp::Le => !less(value, &have),
            CompareOp::Unspecified => unreachable!(),
        })),
        Predicate::In { field, negated, values, .. } => test(get(field).map(|have| values.contains(&have) != *negated)),
        Predicate::Like { field, negated, pattern } => test(get(field).map(|have| {
            let Literal::String(text) = have else { unreachable!() };
            let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            slow_like(&text, &pattern) != *negated
        })),
        Predicate::IsNull { field, negated } => test(Some(get(field).is_none() != *negated)),
    }
}

fn slow_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|at| slow_like(&text[at..], rest)),
        Some((want, rest)) => !text.is_empty() && (*want == '_' || *want == text[0]) && slow_like(&text[1..], rest),
    }
}

/// The predicate as SQL; the printer's own text is SQL but for double-quoted names and booleans, which SQLite knows too.
fn sqlite(predicate: &Resolved, row: &[Value]) -> u8 {
    let database = Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "PRAGMA case_sensitive_like = ON; CREATE TABLE r (i INTEGER, n REAL, s TEXT, \"order\" TEXT, b INTEGER, t TEXT, d TEXT)",
        )
        .unwrap();
    let values = row.iter().map(|value| match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Literal(Literal::String(text)) => rusqlite::types::Value::Text(text.to_string()),
        Value::Literal(Literal::Integer(value)) => rusqlite::types::Value::Integer(*value),
        Value::Literal(Literal::Number(value)) => rusqlite::types::Value::Real(value.to_f64()),
        Value::Literal(Literal::Boolean(value)) => rusqlite::types::Value::Integer(i64::from(*value)),
    });
    database.execute("INSERT INTO r VALUES (?,?,?,?,?,?,?)", rusqlite::params_from_iter(values)).unwrap();
    let text = predicate.to_string().replace("order ", "\"order\" ");
    let found: Option<bool> = database.query_row(&format!("SELECT ({text}) FROM r"), [], |row| row.get(0)).unwrap();
    found.map_or(1, |value| if value { 2 } else { 0 })
}

fn fast(predicate: &Resolved, row: &[Value]) -> u8 {
    let get = |name: &str| FIELDS.iter().position(|(have, _)| *have == name).map(|at| row[at].clone());
    match eval(predicate, &get) {
        Truth::False => 0,
        Truth::Unknown => 1,
        Truth::True => 2,
    }
}

fn template(predicate: &Resolved) -> Template {
    let all = |items: &[Resolved]| items.iter().map(template).collect();
    match predicate.clone() {
        Predicate::Constant(value) => Predicate::Constant(value),
        Predicate::And(items) => Predicate::And(all(&items)),
        Predicate::Or(items) => Predicate::Or(all(&items)),
        Predicate::Not(inner) => Predicate::Not(Box::new(template(&inner))),
        Predicate::Compare { field, field_type, op, value } => {
            Predicate::Compare { field, field_type, op, value: Operand::Literal(value) }
        }
        Predicate::In { field, field_type, negated, values } => {
            let values = values.into_iter().map(Operand::Literal).collect();
            Predicate::In { field, field_type, negated, values }
        }
        Predicate::Like { field, negated, pattern } => Predicate::Like { field, negated, pattern },
        Predicate::IsNull { field, negated } => Predicate::IsNull { field, negated },
    }
}

fn schema(name: &str) -> Option<FieldType> {
    FIELDS.iter().find(|(have, _)| *have == name).map(|(_, field_type)| *field_type)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_evaluator_agrees_with_the_obvious_one_and_with_sqlite(predicate in predicates(), row in rows()) {
        let expected = slow(&predicate, &row);
        prop_assert_eq!(fast(&predicate, &row), expected, "{}", predicate);
        prop_assert_eq!(sqlite(&predicate, &row), expected, "{}", predicate);
    }

    #[test]
    fn simplifying_never_changes_a_truth_value(predicate in predicates(), row in rows()) {
        let simple = simplify(predicate.clone());
        prop_assert_eq!(slow(&simple, &row), slow(&predicate, &row), "{} / {}", predicate, simple);
        prop_assert_eq!(simplify(simple.clone()), simple);
    }

    #[test]
    fn what_is_printed_parses_back(predicate in predicates()) {
        let template = template(&predicate);
        prop_assert_eq!(parse(&predicate.to_string(), &schema).unwrap(), template.clone());
        prop_assert_eq!(parse(&template.to_string(), &schema).unwrap(), template);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same(predicate in predicates()) {
        let mut strings: Vec<Name> = vec!["".into()];
        let template = template(&predicate);
        let encoded = wire::encode(&template, &mut |text| {
            strings.push(text.into());
            u32::try_from(strings.len() - 1).unwrap()
        });
        let decoded = wire::decode(&encoded, &|index| strings.get(usize::try_from(index).unwrap()).cloned());
        prop_assert_eq!(decoded, Ok(template));
    }
}

#[test]
fn a_value_that_is_not_known_is_unknown_also_when_negated() {
    for text in ["i = 1", "NOT i = 1", "i != 1", "i IN (1)", "i NOT IN (1)", "s LIKE '%'", "i IS NULL", "i IS NOT NULL"]
    {
        let context = doorward_policy_core::principal::Principal::default();
        let context = Context { principal: &context, lookups: &[], agent: None, key: None, now_seconds: 0 };
        let predicate = context.resolve(&parse(text, &schema).unwrap()).unwrap();
        assert_eq!(eval(&predicate, &|_| None), Truth::Unknown, "{text}");
        let wrong = Value::Literal(Literal::Boolean(true));
        if !text.contains("NULL") {
            assert_eq!(eval(&predicate, &|_| Some(wrong.clone())), Truth::Unknown, "{text}");
        }
    }
}

#[test]
fn integers_and_numbers_compare_without_rounding() {
    let test = |have: Literal, op, want: Literal| {
        let value = Predicate::Compare { field: "n".into(), field_type: FieldType::Number, op, value: want };
        eval(&value, &|_| Some(Value::Literal(have.clone()))) == Truth::True
    };
    let number = |text: &str| Literal::Number(Decimal::parse(text).unwrap());
    assert!(test(Literal::Integer(i64::MAX), CompareOp::Lt, number("9223372036854775808")));
    assert!(test(Literal::Integer(9_007_199_254_740_993), CompareOp::Gt, number("9007199254740992.0")));
    assert!(test(number("9007199254740993"), CompareOp::Ne, number("9007199254740992")));
    assert!(test(number("9007199254740993"), CompareOp::Eq, Literal::Integer(9_007_199_254_740_993)));
    assert!(test(number("0.1000000000000000000000000000000000000001"), CompareOp::Gt, number("0.1")));
    assert!(test(number("1e-400"), CompareOp::Gt, Literal::Integer(0)));
    assert!(test(Literal::Integer(-3), CompareOp::Lt, number("-2.5")));
    assert!(test(number("-2.5"), CompareOp::Gt, Literal::Integer(-3)));
    assert!(test(Literal::Integer(2), CompareOp::Eq, number("2.0")));
}

#[test]
fn timestamps_compare_as_instants() {
    let test = |have: &str, op, want: &str| {
        let value = Literal::String(want.into());
        let value = Predicate::Compare { field: "t".into(), field_type: FieldType::Timestamp, op, value };
        eval(&value, &|_| Some(Value::Literal(Literal::String(have.into()))))
    };
    assert_eq!(test("2026-01-01T02:00:00+02:00", CompareOp::Eq, "2026-01-01T00:00:00Z"), Truth::True);
    assert_eq!(test("2026-01-01 00:00:00.5", CompareOp::Gt, "2026-01-01T00:00:00Z"), Truth::True);
    assert_eq!(test("soon", CompareOp::Ne, "2026-01-01T00:00:00Z"), Truth::Unknown);
}

#[test]
fn a_predicate_that_is_too_deep_or_unknown_is_refused() {
    let strings = |index: u32| (index < 2).then(|| Name::from(if index == 0 { "" } else { "i" }));
    let mut deep = Predicate::Constant(true);
    for _ in 0..MAX_DEPTH {
        deep = Predicate::Not(Box::new(deep));
    }
    assert!(wire::decode(&wire::encode(&deep, &mut |_| 1), &strings).is_err());
    assert!(wire::decode(&doorward_proto::v1::Predicate { node: None }, &strings).is_err());
    let wrong = template(&Predicate::Compare {
        field: "i".into(),
        field_type: FieldType::Integer,
        op: CompareOp::Eq,
        value: Literal::Boolean(true),
    });
    assert!(wire::decode(&wire::encode(&wrong, &mut |_| 1), &strings).is_err());
    assert!(wire::decode(&wire::encode(&wrong, &mut |_| 2), &strings).is_err());
}
