//! DreamFactory's casts: what is written comes out of them as it went in, or is refused.

use super::{
    super::{
        cast::{self, Stored},
        filter::Filter,
    },
    upstream::{Cast, read},
    *,
};
use crate::number::Decimal;
use doorward_test_support::predicate::COMPARISONS;
use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Sql};
use std::collections::HashMap;

/// What `typecastToNative` makes of a value, from a run of the published sources. Their types come from
/// `extractSimpleType`: boolean are `bit`, `bool`, any `*int(1)` but `bigint`, `NUMBER(1)` and SQLite columns without type.
const PUBLISHED: [(&str, [&str; 5]); 17] = [
    // value, and what becomes of it as: boolean, integer, decimal, double (as PHP writes it), bigint
    ("0", ["0", "0", "0.000000", "0", "0"]),
    ("1", ["1", "1", "1.000000", "1", "1"]),
    ("2", ["0", "2", "2.000000", "2", "2"]),
    ("-1", ["0", "-1", "-1.000000", "-1", "-1"]),
    ("2.5", ["0", "2", "2.500000", "2.5", "2.5"]),
    (
        "9223372036854775807",
        ["0", "9223372036854775807", "9223372036854775808.000000", "9.2233720368548E+18", "9223372036854775807"],
    ),
    (
        "9223372036854775808",
        ["0", "9223372036854775807", "9223372036854775808.000000", "9.2233720368548E+18", "9223372036854775808"],
    ),
    (
        "9007199254740993",
        ["0", "9007199254740993", "9007199254740992.000000", "9.007199254741E+15", "9007199254740993"],
    ),
    ("1e3", ["0", "1000", "1000.000000", "1000", "1e3"]),
    ("0.0000001", ["0", "0", "0.000000", "1.0E-7", "0.0000001"]),
    ("0.123456", ["0", "0", "0.123456", "0.123456", "0.123456"]),
    ("0.1234565", ["0", "0", "0.123456", "0.1234565", "0.1234565"]),
    ("123456789012.34", ["0", "123456789012", "123456789012.339996", "123456789012.34", "123456789012.34"]),
    (
        "1234567890123456789",
        ["0", "1234567890123456789", "1234567890123456768.000000", "1.2345678901235E+18", "1234567890123456789"],
    ),
    ("12345678.9", ["0", "12345678", "12345678.900000", "12345678.9", "12345678.9"]),
    ("0.12345678901234567", ["0", "0", "0.123457", "0.12345678901235", "0.12345678901234567"]),
    ("3", ["0", "3", "3.000000", "3", "3"]),
];

#[test]
fn a_number_passes_exactly_where_the_published_cast_of_its_type_keeps_it() {
    for (text, results) in PUBLISHED {
        let number = Decimal::parse(text).unwrap();
        for (field_type, result) in
            [(FieldType::Integer, results[1]), (FieldType::Decimal, results[2]), (FieldType::Number, results[3])]
        {
            let kept = Decimal::parse(result).unwrap() == number;
            let literal = match number.as_i64() {
                Some(value) => Literal::Integer(value),
                None => Literal::Number(number.clone()),
            };
            assert_eq!(cast::number(&literal, field_type).is_ok(), kept, "{text} as {field_type:?}: {result}");
            // Clients write no exponents.
            let client = cast::literal(super::super::literal::Literal::Text(text.into()), field_type);
            assert_eq!(client.is_ok(), kept && !text.contains('e'), "{text} as {field_type:?}");
        }
    }
    for (text, truth) in [("true", "1"), ("YES", "1"), ("on", "1"), ("1", "1"), ("false", "0"), ("no", "0"), ("0", "0")]
    {
        let found = cast::literal(super::super::literal::Literal::Text(text.into()), FieldType::Boolean);
        assert_eq!(found, Ok(super::super::literal::Literal::Number(truth.into())), "{text}");
    }
    for text in ["2", "", "maybe", "-1", "t", "y", "1.0"] {
        assert!(
            cast::literal(super::super::literal::Literal::Text(text.into()), FieldType::Boolean).is_err(),
            "{text}"
        );
    }
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

/// The casts, for a column that holds integers.
const CASTS: [Cast; 5] = [
    |text| Some(Sql::Integer(i64::from(matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes")))),
    #[allow(clippy::cast_possible_truncation, reason = "PHP's intval saturates, as this does")]
    |text| Some(Sql::Integer(text.parse().unwrap_or(number(text) as i64))),
    |text| Some(Sql::Real(format!("{:.6}", number(text)).parse().unwrap())),
    |text| Some(Sql::Real(format!("{:.13e}", number(text)).parse().unwrap())),
    |text| Some(Sql::Text(text.to_owned())),
];

fn rows(sql: &str, bound: Vec<Sql>) -> Vec<i64> {
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch("CREATE TABLE t (level INTEGER)").unwrap();
    for level in -3..6 {
        database.execute("INSERT INTO t VALUES (?)", [level]).unwrap();
    }
    let mut statement = database.prepare(&format!("SELECT level FROM t WHERE {sql} ORDER BY level")).unwrap();
    statement.query_map(rusqlite::params_from_iter(bound), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn policy() -> impl Strategy<Value = Resolved> {
    let op = prop::sample::select(&COMPARISONS[..]);
    let leaf = prop_oneof![
        (op.clone(), -4..7_i64).prop_map(|(op, value)| Predicate::Compare {
            field: "level".into(),
            field_type: FieldType::Integer,
            op,
            value: Literal::Integer(value),
        }),
        (op, prop::sample::select(vec!["2.5", "-0.5", "0.25", "3", "1e0"])).prop_map(|(op, value)| {
            Predicate::Compare {
                field: "level".into(),
                field_type: FieldType::Number,
                op,
                value: Literal::Number(Decimal::parse(value).unwrap()),
            }
        }),
        (any::<bool>(), prop::collection::vec(-4..7_i64, 1..4)).prop_map(|(negated, values)| Predicate::In {
            field: "level".into(),
            field_type: FieldType::Integer,
            negated,
            values: values.into_iter().map(Literal::Integer).collect(),
        }),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::Or),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A column may be declared as another number than it is: DreamFactory's cast lets no row in that the policy keeps out.
    #[test]
    fn no_cast_lets_a_row_in_that_the_policy_keeps_out(policy in policy(), which in 0..CASTS.len()) {
        let holds = |level: i64| {
            crate::predicate::eval(&policy, &|_| Some(crate::value::Value::Literal(Literal::Integer(level))))
                == crate::predicate::Truth::True
        };
        let expected: Vec<i64> = (-3..6).filter(|level| holds(*level)).collect();
        let filter = Filter::from_policy(&policy, None).unwrap().unwrap();
        let (written, parameters) = filter.write().unwrap();
        prop_assert!(parameters.is_empty());
        let column: [fn(&str) -> Option<Cast>; 5] =
            [|_| Some(CASTS[0]), |_| Some(CASTS[1]), |_| Some(CASTS[2]), |_| Some(CASTS[3]), |_| Some(CASTS[4])];
        let mut bound = Vec::new();
        let sql = read(&written, &HashMap::new(), &column[which], &mut bound).unwrap();
        let found = rows(&sql, bound);
        prop_assert!(found.iter().all(|level| expected.contains(level)), "{} gives {:?}", written, found);
        if which > 1 {
            prop_assert_eq!(found, expected, "{}", written);
        }
    }
}

#[test]
fn a_number_other_than_0_and_1_is_also_tested_without_a_cast() {
    let written = |op, value| {
        let rows = Predicate::Compare {
            field: "level".into(),
            field_type: FieldType::Integer,
            op,
            value: Literal::Integer(value),
        };
        let rewrite = run(&get("/_table/typed").unwrap(), vec![limited(Some(rows), &["id"])]).unwrap();
        parameter(&rewrite, "filter").unwrap()
    };
    assert_eq!(written(CompareOp::Ge, 2), "(level >= 2) AND (level >= (2))");
    assert_eq!(written(CompareOp::Eq, -3), "(level = -3) AND (level = (-3))");
    assert_eq!(written(CompareOp::Ne, 0), "level != 0");
    assert_eq!(written(CompareOp::Le, 1), "level <= 1");
    // A list as long as a client may give one still fits.
    let values = (0..390).map(Literal::Integer).collect();
    let rows = Predicate::In { field: "level".into(), field_type: FieldType::Integer, negated: false, values };
    assert!(run(&get("/_table/typed").unwrap(), vec![limited(Some(rows), &["id"])]).is_ok());
}

#[test]
fn an_attribute_that_the_cast_would_change_denies() {
    for (field_type, value) in [
        (FieldType::Decimal, "0.0000001"),
        (FieldType::Decimal, "123456789012.34"),
        (FieldType::Number, "0.123456789012345"),
        (FieldType::Number, "1e-400"),
    ] {
        let value = Literal::Number(Decimal::parse(value).unwrap());
        let rows = Predicate::Compare { field: "price".into(), field_type, op: CompareOp::Gt, value };
        let denied = run(&get("/_table/typed").unwrap(), vec![limited(Some(rows), &["id"])]).unwrap_err();
        assert_eq!(denied.code, Code::RowDenied, "{}", denied.detail);
    }
    let body = r#"{"resource":[{"id":2}]}"#;
    let parsed = ask(&service(), "POST", "/_table/typed", &[], body).unwrap();
    for (field, value) in [
        ("price", Literal::Number(Decimal::parse("1.005").unwrap())),
        ("small", Literal::Integer(256)),
        ("score", Literal::Number(Decimal::parse("0.123456789012345").unwrap())),
    ] {
        let mut constraints = open(&service(), "_table/typed");
        constraints.set = vec![(field.into(), value, true)];
        assert_eq!(run(&parsed, vec![constraints]).unwrap_err().code, Code::AttributeInvalid, "{field}");
    }
}

#[test]
fn a_written_value_that_would_be_stored_as_another_is_refused_or_unknown_to_checks() {
    let write = |record: &str| {
        let parsed = ask(&service(), "POST", "/_table/typed", &[], &format!(r#"{{"resource":[{record}]}}"#))?;
        Ok::<_, Denial>(parsed.request.operations[0].writes[0].values.clone())
    };
    for record in [
        r#"{"price":1.005}"#,
        r#"{"price":"0.001"}"#,
        r#"{"price":12345678901}"#,
        r#"{"small":256}"#,
        r#"{"small":-129}"#,
        r#"{"level":2.5}"#,
        r#"{"level":9223372036854775808}"#,
        r#"{"level":""}"#,
        r#"{"level":true}"#,
    ] {
        assert!(write(record).is_err(), "{record}");
    }
    for record in
        [r#"{"price":1234567890.25}"#, r#"{"price":"1.5"}"#, r#"{"small":255}"#, r#"{"level":-5}"#, r#"{"score":0.5}"#]
    {
        assert!(write(record).unwrap()[0].1.is_some(), "{record}");
    }
    // PHP writes 14 digits of a double, so a check knows nothing of what is stored.
    assert_eq!(write(r#"{"score":0.1234567890123456}"#).unwrap()[0].1, None);
    assert_eq!(
        cast::stored(&Literal::Integer(5), FieldType::Boolean, Size::default()),
        Stored::Same,
        "booleans are typed before"
    );
}

#[test]
fn a_binary_field_takes_base64_and_nothing_that_a_server_would_open() {
    let write = |value: &str| {
        let body = serde_json::json!({"resource": [{"photo": value}]}).to_string();
        ask(&service(), "POST", "/_table/typed", &[], &body)
    };
    for value in [
        "http://169.254.169.254/latest/meta-data/",
        "https://internal/",
        "ftp://host/x",
        "file:///etc/passwd",
        "php://filter/convert.base64-encode/resource=/etc/passwd",
        "phar:///tmp/x.phar",
        "data:text/plain;base64,SSBsb3Zl",
        "gopher://x:70/_",
        "mailto:a@b.c",
        "//host/path",
        "/etc/passwd",
        "c:\\windows",
        " aGk=",
        "aGk=\n",
        "aGk",
        "a===",
        "aG=k",
        "a-_k",
    ] {
        let denied = write(value).unwrap_err();
        assert_eq!(denied.code, Code::Unsupported, "{value}");
        assert!(denied.detail.contains("base64"), "{value}");
    }
    for value in ["", "aGk=", "aGV5", "//8=", "YQ=="] {
        assert!(write(value).is_ok(), "{value}");
    }
    assert!(ask(&service(), "POST", "/_table/typed", &[], r#"{"resource":[{"photo":null}]}"#).is_ok());
    for body in [
        r#"{"resource":[{"photo":["http://x/"]}]}"#,
        r#"{"resource":[{"photo":{"a":1}}]}"#,
        r#"{"resource":[{"photo":1}]}"#,
    ] {
        assert!(ask(&service(), "POST", "/_table/typed", &[], body).is_err(), "{body}");
    }
    assert!(get("/_table/typed?filter=photo%20IS%20NULL").is_ok());
    assert_eq!(get("/_table/typed?filter=photo%3D'aGk%3D'").unwrap_err().code, Code::Unsupported);
}
