//! What must hold of every answer.

use crate::{
    Row,
    policy::{Caller, LITERAL, Policy},
};
use doorward_tests::{data::Shop, http::Response};
use serde_json::Value;

/// The cells that a text names.
pub fn canaries(text: &str) -> Vec<(usize, usize)> {
    text.match_indices("zq")
        .filter_map(|(at, _)| {
            let (row, rest) = text.get(at + 2..)?.split_once('x')?;
            let (column, _) = rest.split_once('q')?;
            Some((row.parse().ok()?, column.parse().ok()?))
        })
        .collect()
}

/// True if a text names a cell of employees, which nobody may see: `zeNxMe`, in full, because a masking token may have the
/// first letters by chance.
pub fn names_employees(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cell = |text: &str| {
        text.split_once('x')
            .is_some_and(|(row, rest)| number(row) && rest.split_once('e').is_some_and(|(column, _)| number(column)))
    };
    text.match_indices("ze").any(|(at, found)| text.get(at + found.len()..).is_some_and(cell))
}

#[test]
fn a_cell_of_employees_is_known_by_its_whole_form() {
    assert!(names_employees(r#"{"a":"tok_1rze6QQ","b":"ze6x12e@example.com"}"#));
    assert!(!names_employees(r#"{"a":"tok_1rze6QQ","b":"zq6x12q@example.com","n":"Suze4x"}"#));
}

/// Gives the number of rows, or what must not be.
pub fn check(path: &str, shop: &Shop, policy: &Policy, caller: &Caller, answer: &Response) -> Result<usize, String> {
    let table = shop.table("customers");
    let names: Vec<_> = table.names().collect();
    // The answer may repeat what the request itself said, but a name of a cell that is not in the request is a leak.
    let asked = percent_decode(path);
    for (row, column) in canaries(&answer.text()) {
        let name = names.get(column).copied().unwrap_or("");
        let open = table.row(row as i64).is_some_and(|row| policy.row(row, caller))
            && policy.field(name, caller)
            && !policy.masked(name, caller);
        if !open && !asked.contains(&format!("zq{row}x{column}q")) {
            return Err(format!("the cell {name} of row {row} leaked"));
        }
    }
    if names_employees(&answer.text()) {
        return Err("a cell of employees leaked".into());
    }
    let visible = |name: &str| policy.field(name, caller);
    policy_text(&percent_decode(&asked), &names, visible, answer)?;
    if answer.status != 200 {
        return Ok(0);
    }
    let allowed: Vec<&Row> = table.rows.iter().filter(|row| policy.row(row, caller)).collect();
    let rows = answer.rows();
    if rows.len() > policy.cap(caller) {
        return Err(format!("{} rows exceed the cap", rows.len()));
    }
    for row in &rows {
        let stored = row.get("id").and_then(Value::as_i64).and_then(|id| table.row(id));
        let Some(stored) = stored.filter(|row| policy.row(row, caller)) else {
            return Err(format!("the row {row:?} is not allowed"));
        };
        for (name, value) in row {
            if !policy.field(name, caller) {
                return Err(format!("the field {name} is not allowed"));
            }
            if policy.masked(name, caller) {
                if !value.is_null() && *value == stored[name] {
                    return Err(format!("the field {name} is not masked"));
                }
            } else if *value != stored[name] {
                return Err(format!("the field {name} of row {} was changed", stored["id"]));
            }
        }
    }
    let json = answer.json();
    if let Some(list) = json.as_array() {
        // arrayfirst: the first column is the key.
        for id in list.iter().filter_map(Value::as_i64) {
            if !table.row(id).is_some_and(|row| policy.row(row, caller)) {
                return Err(format!("the key {id} is not allowed"));
            }
        }
    }
    if json["filtered_table_rows_count"].as_u64().is_some_and(|count| count > allowed.len() as u64) {
        return Err("the count exceeds the allowed rows".into());
    }
    for (name, facet) in json["facet_results"].as_object().into_iter().flatten() {
        if !policy.field(name, caller) || policy.masked(name, caller) {
            return Err(format!("the facet {name} is not allowed"));
        }
        for result in facet["results"].as_array().into_iter().flatten() {
            let count = allowed.iter().filter(|row| row[name] == result["value"]).count() as u64;
            if result["count"].as_u64().is_none_or(|shown| shown > count) {
                return Err(format!("the facet {name} counts {result} of {count}"));
            }
        }
    }
    Ok(rows.len())
}

/// Neither body nor headers tell anything of the policy: no literal of its row predicates, and no name of a hidden field that
/// the request (`asked`, decoded) did not name itself.
pub fn policy_text(
    asked: &str,
    columns: &[&str],
    visible: impl Fn(&str) -> bool,
    answer: &Response,
) -> Result<(), String> {
    let mut text: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    text.push_str(&answer.text());
    if text.contains(LITERAL) {
        return Err("a literal of the policy's row predicate is in the answer".into());
    }
    if answer.header("content-type") == Some("application/problem+json") {
        // Its own members, `status` for one, are no fields.
        let json = answer.json();
        text = json.as_object().into_iter().flatten().map(|(_, value)| format!("{value}\n")).collect();
        // A word of the filter language, in upper case, is not the field `starts`.
        text = text.replace("STARTS WITH", "");
    }
    let asked = asked.to_ascii_lowercase();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_ascii_lowercase) {
        if columns.contains(&word.as_str()) && !visible(&word) && !asked.contains(&word) {
            return Err(format!("the hidden field {word} is named in the answer"));
        }
    }
    Ok(())
}

pub fn percent_decode(path: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub fn comparable(answer: &Response) -> (u16, Option<String>, String) {
    let mut text = answer.text();
    if let Some(id) = answer.json()["decision_id"].as_str() {
        text = text.replace(id, "");
    }
    (answer.status, answer.header("content-type").map(str::to_owned), text)
}
