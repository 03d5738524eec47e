//! A model of DreamFactory's own reading of filters, over SQLite.

use super::{Rewrite, query};
use rusqlite::{Connection, types::Value as Sql};
use std::collections::HashMap;

/// What DreamFactory makes of a filter, read from its behaviour: it splits at `) AND (` and the like wherever they stand, reads
/// `field OP value` between the splits, and puts everything together again as SQL text.
fn upstream(filter: &str, parameters: &HashMap<String, String>, bound: &mut Vec<Sql>) -> Option<String> {
    let filter = filter.trim();
    let find = |text: &str, what: &str| text.to_ascii_lowercase().find(&what.to_ascii_lowercase());
    for op in ["&&", "AND", "||", "OR", "NOR", "XOR"] {
        let filter = filter.replace(&format!("){op}("), &format!(") {op} ("));
        let padded = format!(") {op} (");
        if let Some(at) = find(&filter, &padded) {
            let left = upstream(&format!("{})", filter[..at].trim()), parameters, bound)?;
            let right = upstream(&format!("({}", filter[at + padded.len()..].trim()), parameters, bound)?;
            return Some(format!("{left} {} {right}", op.replace("&&", "AND").replace("||", "OR")));
        }
    }
    if find(filter, "NOT(") == Some(0) || find(filter, "NOT (") == Some(0) {
        return Some(format!("NOT {}", upstream(filter[3..].trim(), parameters, bound)?));
    }
    let wrapped = filter.starts_with('(') && filter.ends_with(')');
    let inner = if wrapped { &filter[1..filter.len() - 1] } else { filter };
    let pure = inner.trim_matches(|c| c == '(' || c == ')');
    let at = inner.find(pure)?;
    let (left, mut right) = (inner[..at].to_owned(), inner[at + pure.len()..].to_owned());
    let operators = [
        ">=",
        "<=",
        "!=",
        "=",
        "<>",
        ">",
        "<",
        " GTE ",
        " LTE ",
        " NE ",
        " EQ ",
        " GT ",
        " LT ",
        "NOT IN",
        " IN ",
        " LIKE ",
        "IS NULL",
        "IS NOT NULL",
    ];
    for op in operators {
        let Some(at) = find(pure, op) else { continue };
        let mut field = pure[..at].trim();
        let negated = field.to_ascii_uppercase().ends_with(" NOT");
        if negated {
            field = &field[..field.len() - 4];
        }
        let integer = match field.to_ascii_lowercase().as_str() {
            "id" | "active" => true,
            "region" | "status" | "score" => false,
            _ => return None,
        };
        let mut value = pure[at + op.len()..].trim().to_owned();
        let missing = value.matches('(').count().saturating_sub(value.matches(')').count());
        if !value.starts_with('\'') {
            value.push_str(&")".repeat(missing));
            right = right[missing.min(right.len())..].to_owned();
        }
        let mut bind = |text: &str| {
            let text = parameters.get(text).map_or(text, String::as_str);
            let quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
            let text = if quoted('\'') || quoted('"') { &text[1..text.len() - 1] } else { text };
            if text.starts_with('(') && text.ends_with(')') {
                return text.to_owned();
            }
            bound.push(if integer { Sql::Integer(text.parse().unwrap_or(0)) } else { Sql::Text(text.to_owned()) });
            "?".to_owned()
        };
        let value = match op.trim() {
            "IN" | "NOT IN" => {
                let list = value.strip_prefix('(')?.strip_suffix(')')?;
                format!("({})", list.split(',').map(|part| bind(part.trim())).collect::<Vec<_>>().join(","))
            }
            "IS NULL" | "IS NOT NULL" => String::new(),
            _ => bind(&value),
        };
        let not = if negated { "NOT " } else { "" };
        let out = format!("{left}{field} {not}{} {value}{right}", op.trim());
        return Some(if wrapped { format!("({out})") } else { out });
    }
    None
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
    let sql = upstream(&filter, &parameters, &mut bound).unwrap_or_else(|| panic!("refused upstream: {filter}"));
    let database = database(rows);
    let mut statement = database.prepare(&format!("SELECT id FROM customers WHERE {sql} ORDER BY id")).unwrap();
    statement.query_map(rusqlite::params_from_iter(bound), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
