//! What SQLite returns for a rewritten Datasette request is what the slow evaluator allows, whatever the client sends.

use super::*;
use crate::{
    number::Decimal,
    predicate::{CompareOp, Truth, eval},
    value::Value,
};
use proptest::prelude::*;
use rusqlite::{Connection, types::ValueRef};
use std::collections::BTreeMap;

const FIELDS: [(&str, FieldType); 7] = [
    ("active", FieldType::Boolean),
    ("born", FieldType::Date),
    ("id", FieldType::Integer),
    ("n", FieldType::Integer),
    ("region", FieldType::String),
    ("score", FieldType::Number),
    ("seen", FieldType::Timestamp),
];

/// Columns whose affinity and collation do not fit the declared types, with values of several storage classes.
fn database() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, active, born, n, region TEXT COLLATE NOCASE, score REAL, seen TEXT)",
    )
    .unwrap();
    let active = ["NULL", "0", "1", "'x'"];
    let born = ["NULL", "'2024-01-01'", "'2024-02-31'", "'soon'", "5"];
    let n = ["NULL", "-1", "0", "5", "5.5", "'5'", "'abc'"];
    let region = ["NULL", "'west'", "'WEST'", "'east'", "'we*t'", "''", "'we''st'"];
    let score = ["NULL", "0", "1.5", "'high'", "-2"];
    let seen = ["NULL", "'2024-01-01T00:00:00Z'", "'2024-01-01 02:00:00+02:00'", "'2023-12-31T23:59:59Z'", "'now'"];
    for id in 0_usize..300 {
        let pick = |from: &[&str], step: usize| from[(id * step + id / from.len()) % from.len()].to_owned();
        let row = [pick(&active, 1), pick(&born, 3), pick(&n, 5), pick(&region, 2), pick(&score, 1), pick(&seen, 2)]
            .join(", ");
        db.execute(&format!("INSERT INTO t VALUES ({id}, {row})"), []).unwrap();
    }
    db
}

fn evaluated(db: &Connection, rows: &Resolved) -> Vec<i64> {
    let mut statement = db.prepare("SELECT active, born, id, n, region, score, seen FROM t ORDER BY id").unwrap();
    let mut cursor = statement.query([]).unwrap();
    let mut ids = Vec::new();
    while let Some(row) = cursor.next().unwrap() {
        let value = |name: &str| {
            let at = FIELDS.iter().position(|(field, _)| *field == name)?;
            Some(match row.get_ref(at).unwrap() {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(value @ (0 | 1)) if name == "active" => Value::Literal(Literal::Boolean(value == 1)),
                ValueRef::Integer(value) => Value::Literal(Literal::Integer(value)),
                // SQLite compares a double that is whole with an integer exactly.
                ValueRef::Real(value) => Value::Literal(match value {
                    whole
                        if whole.fract() == 0.0
                            && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole) =>
                    {
                        Literal::Integer(whole as i64)
                    }
                    value => Literal::Number(Decimal::from_f64(value).unwrap()),
                }),
                ValueRef::Text(text) => Value::Literal(Literal::String(std::str::from_utf8(text).unwrap().into())),
                ValueRef::Blob(_) => return None,
            })
        };
        if eval(rows, &value) == Truth::True {
            ids.push(row.get(2).unwrap());
        }
    }
    ids
}

/// The statement that Datasette 0.65 assembles: every clause as bare text, joined with `and`.
fn selected(db: &Connection, path: &str) -> Vec<i64> {
    let query = path.split_once('?').unwrap().1;
    let mut clauses = Vec::new();
    let mut params = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap();
        let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned();
        if name == "_where" {
            clauses.push(value);
        } else if !name.starts_with('_') {
            let (column, lookup) = name.rsplit_once("__").unwrap_or((name, "exact"));
            let sign = match lookup {
                "exact" => "=",
                "not" => "!=",
                "gt" => ">",
                "like" => "like",
                other => panic!("{other}"),
            };
            let param = format!(":p{}", params.len());
            clauses.insert(0, format!("\"{column}\" {sign} {param}"));
            params.insert(param, value);
        }
    }
    let sql = format!("select id from t where {} order by id limit 1001", clauses.join(" and "));
    let mut statement = db.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let bound: Vec<(&str, &dyn rusqlite::ToSql)> =
        params.iter().map(|(name, value)| (name.as_str(), value as _)).collect();
    statement.query_map(bound.as_slice(), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn rewritten(client: &str, rows: &Resolved) -> Result<String, Denial> {
    let service = service_of([component("t", &["id"], &FIELDS)]);
    let all = limits(&FIELDS.map(|(name, _)| name), Some(rows.clone()));
    let all = OperationConstraints { sees_all: true, ..all };
    Ok(write_to(&service, &format!("/db/t.json{client}"), all)?.path.unwrap())
}

fn literal(field_type: FieldType) -> BoxedStrategy<Literal> {
    let texts = |texts: &'static [&'static str]| {
        prop::sample::select(texts).prop_map(|text| Literal::String(text.into())).boxed()
    };
    match field_type {
        FieldType::Boolean => any::<bool>().prop_map(Literal::Boolean).boxed(),
        FieldType::Integer => (-2_i64..7).prop_map(Literal::Integer).boxed(),
        FieldType::Number => prop::sample::select(vec!["-2", "0.0", "-0", "15e-1", "1e300"])
            .prop_map(|text| Literal::Number(Decimal::parse(text).unwrap()))
            .boxed(),
        FieldType::Date => texts(&["2024-01-01", "2023-12-31"]),
        FieldType::Timestamp => texts(&["2024-01-01T00:00:00Z", "2023-12-31 23:00:00-01:00", "2023-12-31T23:59:59Z"]),
        _ => texts(&["west", "East", "we*t", "", "we'st", "x') OR 1=1 --"]),
    }
}

fn test() -> impl Strategy<Value = Resolved> {
    prop::sample::select(&FIELDS[..]).prop_flat_map(|(name, field_type)| {
        let field = Name::from(name);
        let ops = match field_type {
            FieldType::Boolean => vec![CompareOp::Eq, CompareOp::Ne],
            _ => vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge],
        };
        let compare = {
            let field = field.clone();
            (prop::sample::select(ops), literal(field_type)).prop_map(move |(op, value)| Predicate::Compare {
                field: field.clone(),
                field_type,
                op,
                value,
            })
        };
        let within = {
            let field = field.clone();
            (any::<bool>(), prop::collection::vec(literal(field_type), 0..4))
                .prop_map(move |(negated, values)| Predicate::In { field: field.clone(), field_type, negated, values })
        };
        let null = any::<bool>().prop_map(move |negated| Predicate::IsNull { field: field.clone(), negated });
        let like = (any::<bool>(), prop::sample::select(vec!["w%", "_est", "we*t", "%[%", "", "%"])).prop_map(
            |(negated, pattern)| Predicate::Like { field: "region".into(), negated, pattern: pattern.into() },
        );
        prop_oneof![3 => compare, 2 => within, 1 => null, 1 => like]
    })
}

fn filter() -> impl Strategy<Value = Resolved> {
    prop_oneof![9 => test(), 1 => any::<bool>().prop_map(Predicate::Constant)].prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Predicate::Or),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
}

fn client() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "1=1",
        "1=0",
        "id+>+5",
        "region='west'",
        "+or+",
        "+and+",
        "not+",
        "(",
        ")",
        "n+is+null",
        "n+between+0+and+5",
        "--",
        "/*",
        "'",
        "%60",
        "%22",
        ";",
        "region+like+'%25e%25'",
        "n+in+(1,2,'5')",
        "true",
        "null",
        "score+>=+1e0",
    ]);
    let whole = prop::sample::select(vec![
        "_where=1=1",
        "_where=id>0)+or+(id>0",
        "_where=id>0+or+1=1",
        "_where=not+(n+=+5)",
        "region=WEST",
        "n__gt=0",
        "n__not=5",
        "region__like=%25E%25",
        "_where=n+not+between+0+and+5+or+%5Bregion%5D+like+'w%25'",
    ]);
    let broken = prop::collection::vec(piece, 1..9).prop_map(|pieces| format!("_where={}", pieces.concat()));
    prop::collection::vec(prop_oneof![whole.prop_map(str::to_owned), broken], 1..4)
        .prop_map(|all| format!("?{}", all.join("&")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn without_a_clients_filter_exactly_the_allowed_rows_come_back(rows in filter()) {
        let db = database();
        let path = rewritten("", &rows).unwrap();
        prop_assert_eq!(selected(&db, &path), evaluated(&db, &rows), "{}", path);
    }

    #[test]
    fn no_client_filter_widens_what_is_allowed(rows in filter(), client in client()) {
        if let Ok(path) = rewritten(&client, &rows) {
            let db = database();
            let allowed = evaluated(&db, &rows);
            for id in selected(&db, &path) {
                prop_assert!(allowed.contains(&id), "{} shows {}", path, id);
            }
        }
    }
}

/// Numbers at the limits of SQLite's two kinds.
const NUMBERS: [&str; 26] = [
    "0",
    "-0",
    "-0.0",
    "1",
    "1.0",
    "10e-1",
    "0.1",
    "0.10",
    "2.5",
    "-2.5",
    "1E5",
    "100000",
    "9007199254740992",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "9223372036854775807.0",
    "18446744073709551616",
    "1e300",
    "-1e300",
    "1e-400",
    "0.1000000000000000000000000000000000000001",
    "123456789012345678901234567890",
];

fn numeric_rows() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, active, born, n, region TEXT, score REAL, seen TEXT)")
        .unwrap();
    for (id, number) in NUMBERS.iter().enumerate() {
        db.execute_batch(&format!("INSERT INTO t (id, n, score) VALUES ({id}, {number}, {number})")).unwrap();
    }
    db
}

#[test]
fn a_policys_number_means_in_sqlite_what_was_decided_or_is_refused() {
    let db = numeric_rows();
    let mut refused = Vec::new();
    for text in NUMBERS {
        for op in [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge] {
            for (field, field_type) in
                [("n", FieldType::Number), ("score", FieldType::Number), ("n", FieldType::Integer)]
            {
                let value = match (field_type, text.parse()) {
                    (FieldType::Integer, Ok(integer)) => Literal::Integer(integer),
                    (FieldType::Integer, _) => continue,
                    _ => Literal::Number(Decimal::parse(text).unwrap()),
                };
                let rows = Predicate::Compare { field: field.into(), field_type, op, value: value.clone() };
                let within = Predicate::In {
                    field: field.into(),
                    field_type,
                    negated: op == CompareOp::Ne,
                    values: vec![value],
                };
                for rows in [rows, within] {
                    match rewritten("", &rows) {
                        Ok(path) => assert_eq!(selected(&db, &path), evaluated(&db, &rows), "{rows}"),
                        Err(denial) => {
                            assert_eq!(denial.code, Code::Unsupported);
                            if refused.last() != Some(&text) {
                                refused.push(text);
                            }
                        }
                    }
                }
            }
        }
    }
    let mut rounded = vec![
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1e-400",
        "0.1000000000000000000000000000000000000001",
        "123456789012345678901234567890",
    ];
    rounded.retain(|text| !Decimal::parse(text).unwrap().is_double());
    assert_eq!(refused, rounded);
}

#[test]
fn a_clients_number_means_what_sqlite_makes_of_it() {
    let db = numeric_rows();
    for text in NUMBERS {
        for sign in ["=", "!=", "<", ">="] {
            for column in ["n", "score"] {
                let mut statement =
                    db.prepare(&format!("SELECT id FROM t WHERE {column} {sign} {text} ORDER BY id")).unwrap();
                let plain: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
                let path = rewritten(&format!("?_where={column}+{sign}+{text}"), &Predicate::Constant(true)).unwrap();
                assert_eq!(selected(&db, &path), plain, "{column} {sign} {text}");
            }
        }
    }
}

#[test]
fn a_table_with_another_key_than_declared_is_an_error_and_not_a_leak() {
    let path = rewritten("", &Predicate::Constant(true)).unwrap();
    let guard = path.rsplit_once("_where=").unwrap().1;
    let guard = percent_encoding::percent_decode_str(guard).decode_utf8().unwrap();
    for (table, fits) in
        [("id INTEGER PRIMARY KEY", true), ("id INTEGER", false), ("id INTEGER, ssn TEXT PRIMARY KEY", false)]
    {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(&format!("CREATE TABLE t ({table}); INSERT INTO t (id) VALUES (1)")).unwrap();
        let count: Result<i64, _> =
            db.query_row(&format!("SELECT count(*) FROM t WHERE {guard}"), [], |row| row.get(0));
        assert_eq!(count.ok(), fits.then_some(1), "{table}");
    }
}
