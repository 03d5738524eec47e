//! DreamFactory finds operators by text search, also inside of names: columns whose names have operators in them, or end
//! in one, are read as what was decided.

use super::{
    super::filter::{Filter, Test},
    upstream::{Cast, read},
    *,
};
use proptest::prelude::*;
use rusqlite::types::Value as Sql;
use std::collections::HashMap;

/// Each operator inside a name, at its end, and beside its parts.
pub(super) const COLUMNS: [&str; 46] = [
    "do_not",
    "do_",
    "xnot",
    "x",
    "NOT_IN",
    "not_",
    "inot",
    "i",
    "nots",
    "is_not",
    "innot",
    "xin",
    "in_",
    "band",
    "xand",
    "for",
    "xor_",
    "nor_",
    "xnor",
    "isnull",
    "is_null",
    "this",
    "x_is",
    "is_",
    "alike",
    "like_",
    "contains_",
    "xcontains",
    "begins",
    "starts",
    "starts_with",
    "ends",
    "ends_with",
    "all_",
    "ball",
    "a_eq",
    "one",
    "wgt",
    "gte_",
    "belt",
    "lte_",
    "plus",
    "p0",
    "null_",
    "is",
    "null",
];

fn text(text: &str) -> Option<Sql> {
    Some(Sql::Text(text.to_owned()))
}

fn column(name: &str) -> Option<Cast> {
    COLUMNS.iter().any(|column| column.eq_ignore_ascii_case(name)).then_some(text as Cast)
}

fn reads(filter: &str, parameters: &[(&str, &str)]) -> Option<(String, Vec<String>)> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let mut bound = Vec::new();
    let sql = read(filter, &parameters, &column, &mut bound)?;
    let shown = |value| match value {
        Sql::Text(text) => text,
        other => format!("{other:?}"),
    };
    Some((sql, bound.into_iter().map(shown).collect()))
}

/// Taken from a run of the published parser.
#[test]
fn the_model_reads_what_the_published_parser_reads() {
    for (filter, sql, values) in [
        ("xNOT IN ('a')", "\"x\" NOT IN (?)", &["a"][..]),
        ("do_not IN ('x')", "\"do_\" NOT IN (?)", &["x"]),
        ("do_not NOT IN ('x')", "\"do_not\" NOT IN (?)", &["x"]),
        ("xnot IN (:p0)", "\"x\" NOT IN (?)", &["a"]),
        ("innot NOT IN (:p0)", "\"innot\" NOT IN (?)", &["a"]),
        ("do_not = :p0", "\"do_not\" = ?", &["a"]),
        ("do_not NOT LIKE :p0", "\"do_not\" NOT LIKE ?", &["a"]),
        ("do_not IS NULL", "\"do_not\" IS NULL", &[]),
        ("do_not IS NOT NULL", "\"do_not\" IS NOT NULL", &[]),
        ("isnull IS NULL", "\"isnull\" IS NULL", &[]),
        ("is_null IS NULL", "\"is_null\" IS NULL", &[]),
        ("this IS NULL", "\"this\" IS NULL", &[]),
        ("x_is IS NOT NULL", "\"x_is\" IS NOT NULL", &[]),
        ("alike LIKE :p0", "\"alike\" LIKE ?", &["a"]),
        ("ends NOT LIKE :p0", "\"ends\" NOT LIKE ?", &["a"]),
        ("all_ IN (:p0)", "\"all_\" IN (?)", &["a"]),
        ("gte_ >= :p0", "\"gte_\" >= ?", &["a"]),
        ("a_eq = 5", "\"a_eq\" = ?", &["5"]),
        ("xin NOT IN (:p0)", "\"xin\" NOT IN (?)", &["a"]),
        ("x = ''", "\"x\" = ?", &[""]),
        ("x IN ('',:p0)", "\"x\" IN (?,?)", &["", "a"]),
        ("x = New York", "\"x\" = ?", &["New York"]),
        ("x = O'Neil", "\"x\" = ?", &["O'Neil"]),
        ("x = War AND Peace", "\"x\" = ?", &["War AND Peace"]),
        ("x contains New York", "\"x\" LIKE ?", &["%New York%"]),
        ("x = 'x' y", "\"x\" = ?", &["'x' y"]),
        ("x = (5)", "\"x\" = (5)", &[]),
        ("x IN ((2),(3))", "\"x\" IN ((2),(3))", &[]),
        (
            "((x IN (2,3)) AND (x IN ((2),(3)))) AND (do_ = :p0)",
            "((\"x\" IN (?,?)) AND (\"x\" IN ((2),(3)))) AND (\"do_\" = ?)",
            &["2", "3", "a"],
        ),
        ("(x = :p0) AND ((x >= 2) AND (x >= (2)))", "(\"x\" = ?) AND ((\"x\" >= ?) AND (\"x\" >= (2)))", &["a", "2"]),
        ("NOT (x = 'x')", "NOT(\"x\" = ?)", &["x"]),
        ("(nots IN (:p0)) OR (do_not IN (:p0))", "(\"nots\" IN (?)) OR (\"do_\" NOT IN (?))", &["a", "a"]),
        ("x = ", "\"x\" = ?", &[""]),
    ] {
        let read = reads(filter, &[(":p0", "a"), (":p1", "b")]);
        assert_eq!(read, Some((sql.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())), "{filter}");
    }
    for filter in ["x LIKE cats in hats", "y = 1", "x", "()"] {
        assert_eq!(reads(filter, &[]), None, "{filter}");
    }
}

#[test]
fn in_on_a_name_that_ends_in_not_is_written_as_comparisons() {
    let ask = |method: &str, filter: &str| {
        let mut path = String::from("/_table/words");
        super::super::path::push_parameter(&mut path, "filter", filter);
        let parsed = ask(&service(), method, &path, &[], "").unwrap();
        let uses: Vec<String> = parsed.request.operations[0].fields.iter().map(|used| used.field.to_string()).collect();
        let rewrite = run(&parsed, vec![open(&service(), "_table/words")]).unwrap();
        (parameter(&rewrite, "filter").unwrap(), uses)
    };
    assert_eq!(ask("GET", "do_not IN ('x','y')").0, "(do_not = :p0) OR (do_not = :p1)");
    assert_eq!(ask("DELETE", "do_not IN ('x')"), ("do_not = :p0".to_owned(), vec!["do_not".to_owned()]));
    assert_eq!(ask("GET", "NOT (xnot IN ('x','y'))").0, "(xnot != :p0) AND (xnot != :p1)");
    assert_eq!(ask("GET", "do_not NOT IN ('x','y')").0, "do_not NOT IN (:p0,:p1)");
    assert_eq!(ask("GET", "NOT (do_not NOT IN ('x'))").0, "do_not = :p0");
    assert_eq!(ask("GET", "NOT_IN IN ('x')").0, "NOT_IN IN (:p0)");
}

/// The tree as SQL, put together without any parsing.
fn sql(filter: &Filter, values: &mut Vec<String>) -> String {
    match filter {
        Filter::And(all) | Filter::Or(all) => {
            let word = if matches!(filter, Filter::And(_)) { " AND " } else { " OR " };
            all.iter().map(|one| format!("({})", sql(one, values))).collect::<Vec<_>>().join(word)
        }
        Filter::Test(field, test) => {
            let mut bind = |literal: &super::super::literal::Literal| match literal {
                super::super::literal::Literal::Exact(text) => format!("({text})"),
                super::super::literal::Literal::Text(text) | super::super::literal::Literal::Number(text) => {
                    values.push(text.clone());
                    "?".into()
                }
            };
            let not = |negated: &bool| if *negated { "NOT " } else { "" };
            let field = field.to_string();
            match test {
                Test::Compare(op, value) => {
                    format!("\"{field}\" {} {}", crate::predicate::operator(*op), bind(value))
                }
                Test::In { negated, values } => {
                    let list: Vec<_> = values.iter().map(bind).collect();
                    format!("\"{field}\" {}IN ({})", not(negated), list.join(","))
                }
                Test::Like { negated, pattern } => format!("\"{field}\" {}LIKE {}", not(negated), bind(pattern)),
                Test::IsNull { negated } => format!("\"{field}\" IS {}NULL", not(negated)),
            }
        }
    }
}

/// Any plain identifier, and those made of the words that DreamFactory looks for.
fn name() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "not", "NOT", "in", "is", "null", "all", "like", "starts", "ends", "with", "contains", "and", "or", "nor",
        "xor", "eq", "ne", "gt", "gte", "lt", "lte", "_", "a", "X", "p0", "1",
    ]);
    let made = (prop::sample::select(vec!["a", "_", "no", "do_"]), prop::collection::vec(piece, 0..5))
        .prop_map(|(first, rest)| format!("{first}{}", rest.concat()));
    prop_oneof![prop::sample::select(&COLUMNS[..]).prop_map(str::to_owned), made, "[A-Za-z_][A-Za-z0-9_]{0,6}"]
}

fn policy() -> impl Strategy<Value = Resolved> {
    let word = prop::sample::select(vec![
        "west",
        "",
        "a) OR (b",
        "NOT IN",
        "x IS NULL",
        ":p0",
        "o'x",
        "50%",
        "(",
        "= 1",
        "it's (",
        "&&",
    ])
    .prop_map(|text| Literal::String(text.into()));
    let number = prop::sample::select(vec![0, 1, 2, -3, i64::MAX, i64::MIN]).prop_map(Literal::Integer);
    let op = prop::sample::select(vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt]);
    let leaf = prop_oneof![
        (name(), op.clone(), word.clone()).prop_map(|(field, op, value)| Predicate::Compare {
            field: field.into(),
            field_type: FieldType::String,
            op,
            value,
        }),
        (name(), op, number.clone()).prop_map(|(field, op, value)| Predicate::Compare {
            field: field.into(),
            field_type: FieldType::Integer,
            op,
            value,
        }),
        (name(), any::<bool>(), prop::collection::vec(word, 1..4)).prop_map(|(field, negated, values)| {
            Predicate::In { field: field.into(), field_type: FieldType::String, negated, values }
        }),
        (name(), any::<bool>(), prop::collection::vec(number, 1..4)).prop_map(|(field, negated, values)| {
            Predicate::In { field: field.into(), field_type: FieldType::Integer, negated, values }
        }),
        (name(), any::<bool>()).prop_map(|(field, negated)| Predicate::Like {
            field: field.into(),
            negated,
            pattern: "a%".into()
        }),
        (name(), any::<bool>()).prop_map(|(field, negated)| Predicate::IsNull { field: field.into(), negated }),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Predicate::Or),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn for_any_name_operator_and_value_dreamfactory_reads_the_tree_that_was_written(rows in policy()) {
        let Ok(Some(filter)) = Filter::from_policy(&rows, None) else { return Ok(()) };
        let Ok((written, parameters)) = filter.write() else { return Ok(()) };
        let parameters: HashMap<String, String> =
            parameters.into_iter().enumerate().map(|(at, value)| (format!(":p{at}"), value)).collect();
        let mut bound = Vec::new();
        let any: fn(&str) -> Option<Cast> = |_| Some(text as Cast);
        let found = read(&written, &parameters, &any, &mut bound);
        let mut values = Vec::new();
        prop_assert_eq!(found, Some(sql(&filter, &mut values)), "{}", written);
        let values: Vec<Sql> = values.into_iter().map(Sql::Text).collect();
        prop_assert_eq!(bound, values, "{}", written);
    }
}
