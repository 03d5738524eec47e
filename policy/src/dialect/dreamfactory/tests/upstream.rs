//! A model of DreamFactory's own reading of filters, over SQLite.

use super::{Rewrite, query};
use rusqlite::{Connection, types::Value as Sql};
use std::collections::HashMap;

/// Operators in the order in which DreamFactory looks for them.
const OPERATORS: [&str; 22] = [
    ">=",
    "<=",
    "!=",
    "=",
    "<>",
    ">",
    "<",
    "GTE",
    "LTE",
    "NE",
    "EQ",
    "GT",
    "LT",
    "NOT IN",
    "IN",
    "ALL",
    "LIKE",
    "STARTS WITH",
    "ENDS WITH",
    "CONTAINS",
    "IS NULL",
    "IS NOT NULL",
];

/// A cast to a column's type.
pub(super) type Cast = fn(&str) -> Option<Sql>;

/// The published `parseFilterString`, line by line: SQL text with a `?` for each of `bound`. `column` gives the cast of a
/// column, by its name in lower case.
pub(super) fn read(
    filter: &str,
    parameters: &HashMap<String, String>,
    column: &dyn Fn(&str) -> Option<Cast>,
    bound: &mut Vec<Sql>,
) -> Option<String> {
    let mut filter = filter.trim().to_owned();
    let find = |text: &str, what: &str| text.to_ascii_lowercase().find(&what.to_ascii_lowercase());
    for op in ["&&", "AND", "||", "OR", "NOR", "XOR"] {
        let (tight, padded) = (format!("){op}("), format!(") {op} ("));
        while let Some(at) = find(&filter, &tight) {
            filter.replace_range(at..at + tight.len(), &padded);
        }
        if let Some(at) = find(&filter, &padded) {
            let left = read(&format!("{})", filter[..at].trim()), parameters, column, bound)?;
            let right = read(&format!("({}", filter[at + padded.len()..].trim()), parameters, column, bound)?;
            return Some(format!("{left} {} {right}", op.replace("&&", "AND").replace("||", "OR")));
        }
    }
    if find(&filter, "NOT(") == Some(0) || find(&filter, "NOT (") == Some(0) {
        return Some(format!("NOT{}", read(filter[3..].trim(), parameters, column, bound)?));
    }
    let wrapped = filter.starts_with('(') && filter.ends_with(')');
    let inner = if wrapped { &filter[1..filter.len() - 1] } else { &filter };
    let pure = inner.trim_matches(['(', ')']);
    let (left, right) = inner.split_once(pure)?;
    let mut right = right.to_owned();
    for op in OPERATORS {
        // `ctype_alpha`: an operator of two words is looked for without blanks around it.
        let needle = if op.bytes().all(|byte| byte.is_ascii_alphabetic()) { format!(" {op} ") } else { op.to_owned() };
        let Some(at) = find(pure, &needle) else { continue };
        let mut field = pure[..at].trim();
        let negated = match field.rsplit_once(' ') {
            Some((before, last)) if last.eq_ignore_ascii_case("NOT") => {
                field = before;
                true
            }
            _ => false,
        };
        let cast = column(&field.to_ascii_lowercase())?;
        let mut value = pure[at + needle.len()..].trim().to_owned();
        let (opened, closed) = (value.matches('(').count(), value.matches(')').count());
        if !value.starts_with('\'') && opened != 0 && opened != closed {
            let missing = opened.checked_sub(closed)?;
            value.push_str(&")".repeat(missing));
            right = right.replacen(')', "", missing);
        }
        let mut bind = |text: &str| {
            let text = parameters.get(text).map_or(text, String::as_str);
            let quoted = |quote: char| format!("{quote}{}{quote}", text.trim_matches(quote)) == text;
            let text = if quoted('\'') || quoted('"') {
                &text[1..text.len() - 1]
            } else if text.starts_with('(') && text.ends_with(')') {
                return Some(text.to_owned());
            } else {
                text
            };
            bound.push(cast(text)?);
            Some("?".to_owned())
        };
        let (op, value) = match op {
            "IN" | "NOT IN" | "ALL" => {
                let list = value.strip_prefix('(')?.strip_suffix(')')?;
                let list: Option<Vec<_>> = list.split(',').map(|part| bind(part.trim())).collect();
                (op, format!(" ({})", list?.join(",")))
            }
            "IS NULL" | "IS NOT NULL" => (op, String::new()),
            "CONTAINS" => ("LIKE", format!(" {}", bind(&format!("%{value}%"))?)),
            "STARTS WITH" => ("LIKE", format!(" {}", bind(&format!("{value}%"))?)),
            "ENDS WITH" => ("LIKE", format!(" {}", bind(&format!("%{value}"))?)),
            _ => (
                match op {
                    "EQ" => "=",
                    "NE" | "<>" => "!=",
                    "GT" => ">",
                    "GTE" => ">=",
                    "LT" => "<",
                    "LTE" => "<=",
                    other => other,
                },
                format!(" {}", bind(&value)?),
            ),
        };
        let not = if negated { "NOT " } else { "" };
        let out = format!("{left}\"{field}\" {not}{op}{value}{right}");
        return Some(if wrapped { format!("({out})") } else { out });
    }
    None
}

/// The casts of the columns of `customers`.
fn customers(name: &str) -> Option<Cast> {
    match name {
        "id" | "active" => Some(|text| text.parse().ok().map(Sql::Integer)),
        "region" | "status" | "score" => Some(|text| Some(Sql::Text(text.to_owned()))),
        _ => None,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) region: Option<String>,
    pub(super) status: Option<String>,
    pub(super) active: Option<bool>,
}

fn database(rows: &[Row]) -> Connection {
    let database = Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "PRAGMA case_sensitive_like = ON; CREATE TABLE customers (id INTEGER, region TEXT, status TEXT, active INTEGER);",
        )
        .unwrap();
    for row in rows {
        database
            .execute("INSERT INTO customers VALUES (?, ?, ?, ?)", (row.id, &row.region, &row.status, row.active))
            .unwrap();
    }
    database
}

/// The rows that the rewritten request returns.
pub(super) fn returned(rewrite: &Rewrite, rows: &[Row], server: Option<&str>) -> Vec<i64> {
    let query = query(rewrite);
    let parameters = query
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("params[")?.strip_suffix(']')?.to_owned(), value.clone())))
        .collect();
    let filter = query.iter().find(|(name, _)| name == "filter").map(|(_, value)| value.clone()).unwrap();
    let filter = server.map_or(filter.clone(), |server| format!("({filter}) AND ({server})"));
    let mut bound = Vec::new();
    let sql =
        read(&filter, &parameters, &customers, &mut bound).unwrap_or_else(|| panic!("refused upstream: {filter}"));
    let database = database(rows);
    let mut statement = database.prepare(&format!("SELECT id FROM customers WHERE {sql} ORDER BY id")).unwrap();
    statement.query_map(rusqlite::params_from_iter(bound), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
