//! Property tests: the rows that come back are those that client and policy both select.

use super::{
    upstream::{Row, returned},
    *,
};
use proptest::prelude::*;

/// The slow obvious evaluator, in three-valued logic.
fn holds(rows: &Resolved, row: &Row) -> Option<bool> {
    let value = |field: &str| -> Option<Literal> {
        match field {
            "id" => Some(Literal::Integer(row.id)),
            "region" => row.region.as_deref().map(|text| Literal::String(text.into())),
            "status" => row.status.as_deref().map(|text| Literal::String(text.into())),
            _ => row.active.map(Literal::Boolean),
        }
    };
    let compare = |a: &Literal, b: &Literal| match (a, b) {
        (Literal::Integer(a), Literal::Integer(b)) => a.cmp(b),
        (Literal::String(a), Literal::String(b)) => a.cmp(b),
        (Literal::Boolean(a), Literal::Boolean(b)) => a.cmp(b),
        _ => panic!("types differ"),
    };
    match rows {
        Predicate::Constant(value) => Some(*value),
        Predicate::Not(inner) => holds(inner, row).map(|value| !value),
        Predicate::And(all) => {
            let all: Vec<_> = all.iter().map(|inner| holds(inner, row)).collect();
            if all.contains(&Some(false)) {
                Some(false)
            } else if all.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
        Predicate::Or(all) => {
            let all: Vec<_> = all.iter().map(|inner| holds(inner, row)).collect();
            if all.contains(&Some(true)) {
                Some(true)
            } else if all.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Predicate::Compare { field, op, value: right, .. } => {
            value(field).map(|left| doorward_test_support::predicate::holds(*op, compare(&left, right)))
        }
        Predicate::In { values, .. } if values.is_empty() => Some(false),
        Predicate::In { field, negated, values, .. } => {
            value(field).map(|left| values.iter().any(|right| compare(&left, right).is_eq()) != *negated)
        }
        Predicate::Like { field, negated, pattern } => value(field).map(|left| {
            let Literal::String(text) = left else { panic!("not a string") };
            let text: Vec<char> = text.chars().collect();
            like(&text, &pattern.chars().collect::<Vec<_>>()) != *negated
        }),
        Predicate::IsNull { field, negated } => Some(value(field).is_none() != *negated),
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.first() {
        None => text.is_empty(),
        Some('%') => (0..=text.len()).any(|at| like(&text[at..], &pattern[1..])),
        Some('_') => !text.is_empty() && like(&text[1..], &pattern[1..]),
        Some(c) => text.first() == Some(c) && like(&text[1..], &pattern[1..]),
    }
}

const WORDS: [&str; 9] = ["west", "a) OR (b", "o'x", "it \"is\"", "&& ||", ":p0", "NOT IN", "50%", "= id"];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(&WORDS[..]).prop_map(str::to_owned)
}

fn row() -> impl Strategy<Value = Row> {
    (0..6_i64, prop::option::of(word()), prop::option::of(word()), prop::option::of(any::<bool>()))
        .prop_map(|(id, region, status, active)| Row { id, region, status, active })
}

fn operator() -> impl Strategy<Value = CompareOp> {
    prop::sample::select(vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge])
}

fn predicate(constants: bool) -> BoxedStrategy<Resolved> {
    let text = || prop::sample::select(vec!["region", "status"]);
    let string = |text: String| Literal::String(text.into());
    let least = usize::from(!constants);
    let leaf = prop_oneof![
        (text(), operator(), word()).prop_map(move |(field, op, value)| Predicate::Compare {
            field: field.into(),
            field_type: FieldType::String,
            op,
            value: string(value),
        }),
        (operator(), -3..6_i64).prop_map(|(op, value)| Predicate::Compare {
            field: "id".into(),
            field_type: FieldType::Integer,
            op,
            value: Literal::Integer(value),
        }),
        (text(), any::<bool>(), prop::collection::vec(word(), least..3)).prop_map(move |(field, negated, values)| {
            let values = values.into_iter().map(string).collect();
            Predicate::In { field: field.into(), field_type: FieldType::String, negated, values }
        }),
        (text(), any::<bool>(), prop::sample::select(vec!["%s%", "w_st", "%", "a) OR (%"])).prop_map(
            |(field, negated, pattern)| Predicate::Like { field: field.into(), negated, pattern: pattern.into() }
        ),
        (text(), any::<bool>()).prop_map(|(field, negated)| Predicate::IsNull { field: field.into(), negated }),
    ];
    let leaf = if constants {
        prop_oneof![
            6 => leaf,
            1 => any::<bool>().prop_map(Predicate::Constant),
            1 => any::<bool>().prop_map(|value| Predicate::Compare {
                field: "active".into(),
                field_type: FieldType::Boolean,
                op: CompareOp::Eq,
                value: Literal::Boolean(value),
            }),
        ]
        .boxed()
    } else {
        leaf.boxed()
    };
    leaf.prop_recursive(4, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2 * least..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 2 * least..4).prop_map(Predicate::Or),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
    .boxed()
}

/// A predicate as a client would write it.
fn client_text(rows: &Resolved) -> String {
    let literal = |value: &Literal| match value {
        Literal::String(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Integer(value) => value.to_string(),
        _ => panic!("not used by clients"),
    };
    let join =
        |all: &[Resolved], op| all.iter().map(|inner| format!("({})", client_text(inner))).collect::<Vec<_>>().join(op);
    let not = |negated: bool| if negated { "not " } else { "" };
    match rows {
        Predicate::Constant(_) => panic!("not used by clients"),
        Predicate::And(all) => join(all, " && "),
        Predicate::Or(all) => join(all, " or "),
        Predicate::Not(inner) => format!("NOT ({})", client_text(inner)),
        Predicate::Compare { field, op, value, .. } => {
            let op = match op {
                CompareOp::Eq => " EQ ",
                CompareOp::Ne => "<>",
                CompareOp::Lt => "<",
                CompareOp::Le => " lte ",
                CompareOp::Gt => " > ",
                _ => ">=",
            };
            format!("{field}{op}{}", literal(value))
        }
        Predicate::In { field, negated, values, .. } => {
            format!("{field} {}in ({})", not(*negated), values.iter().map(literal).collect::<Vec<_>>().join(" , "))
        }
        Predicate::Like { field, negated, pattern } => {
            format!("{} {}LIKE '{pattern}'", field.to_uppercase(), not(*negated))
        }
        Predicate::IsNull { field, negated } => format!("{field} IS {}NULL", not(*negated)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rewritten_filter_returns_exactly_what_client_and_policy_both_select(
        client in predicate(false),
        policy in predicate(true),
        rows in prop::collection::vec(row(), 0..12),
    ) {
        let mut rows = rows;
        rows.iter_mut().zip(0..).for_each(|(row, id)| row.id = id);
        let parsed = filtered(&client_text(&client)).unwrap();
        let rewrite = run(&parsed, vec![limited(Some(policy.clone()), &["id"])]).unwrap();
        let selected = |row: &&Row| holds(&client, row) == Some(true) && holds(&policy, row) == Some(true);
        let expected: Vec<i64> = rows.iter().filter(selected).map(|row| row.id).collect();
        prop_assert_eq!(returned(&rewrite, &rows, None), expected);
        let west = |row: &&Row| row.status.as_deref() == Some("west");
        let expected: Vec<i64> = rows.iter().filter(selected).filter(west).map(|row| row.id).collect();
        prop_assert_eq!(returned(&rewrite, &rows, Some("(status = 'west')")), expected);
        // What was written parses to what it was written from.
        let again = ask(&service(), "GET", rewrite.path.as_deref().unwrap().strip_prefix(PREFIX).unwrap(), &[], "").unwrap();
        let once_more = run(&again, vec![limited(None, &["id"])]).unwrap();
        prop_assert_eq!(once_more.path, rewrite.path);
    }

    #[test]
    fn no_request_panics(method in "(GET|POST|PUT|PATCH|DELETE)", path in "(/_table/customers|/_proc/get_summary|/_schema/x|)[ -~é]{0,40}", body in "[ -~]{0,40}") {
        if let Ok(parsed) = ask(&service(), &method, &path, &[], &body) {
            let constraints = parsed.request.operations.iter().map(|_| limited(Some(equals("region", "west")), &["id"])).collect();
            if let Ok(rewrite) = run(&parsed, constraints) && parsed.request.operations[0].write == WriteKind::None {
                prop_assert!(parameter(&rewrite, "filter").unwrap().contains("region = :p"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_filter_text_widens_the_policy(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "id>0", "(id = 1)", "region = 'x'", "(status != 'west')", "NOT region = 'west'", "id", "region", "status", " = ", "=", ">", "0", "1", " OR ", " AND ", "(", ")", ") OR (", ")OR(", "'", "''", "\"", "west",
            " NOT ", " IN ", ",", ":p0", " LIKE ", "%", " IS NULL", "NOT(", " XOR ", " NOR ", "||", "&&", "--", ";", "{", "}", "\\",
        ]), 0..14),
        rows in prop::collection::vec(row(), 0..8),
    ) {
        let Ok(parsed) = filtered(&pieces.concat()) else { return Ok(()) };
        // Undeclared fields are denied before a request is written, and DreamFactory refuses them too.
        let declared = ["id", "region", "status"];
        if !parsed.request.operations[0].fields.iter().all(|used| declared.contains(&&*used.field)) {
            return Ok(());
        }
        let Ok(rewrite) = run(&parsed, vec![limited(Some(equals("region", "west")), &["id"])]) else { return Ok(()) };
        for id in returned(&rewrite, &rows, None) {
            prop_assert!(rows.iter().any(|row| row.id == id && row.region.as_deref() == Some("west")));
        }
    }
}

/// Laravel takes an invisible character off the ends of every string, so that `acme` and a soft hyphen would read acme's rows.
#[test]
fn no_value_of_a_row_policy_or_a_check_ends_in_what_the_framework_takes_off() {
    let parsed = get("/_table/customers").unwrap();
    for value in ["acme\u{ad}", "\u{2060}acme", "acme\u{200d}", "acme\u{3164}", "acme\u{2800}"] {
        let denied = run(&parsed, vec![limited(Some(equals("region", value)), &["id"])]).unwrap_err();
        assert_eq!(denied.code, Code::RowDenied, "{value:?}");
        let body = format!(r#"{{"resource":[{{"region":"{value}"}}]}}"#);
        let written = ask(&service(), "POST", "/_table/customers", &[], &body).unwrap();
        assert_eq!(written.request.operations[0].writes[0].values[0].1, None, "{value:?}");
    }
    assert!(run(&parsed, vec![limited(Some(equals("region", "ac\u{ad}me")), &["id"])]).is_ok());
}
