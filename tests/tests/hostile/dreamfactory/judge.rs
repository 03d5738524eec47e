//! What must hold of every answer, and of the data after every write.

use crate::{
    Row,
    judge::{canaries, names_employees, percent_decode, policy_text},
    policy::{Caller, Policy},
};
use doorward_tests::{
    data::Shop,
    http::{Request, Response},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Columns of the related orders that the policies show.
pub const ORDER_FIELDS: [&str; 3] = ["id", "customer_id", "quantity"];

fn rows(json: &Value) -> Vec<Map<String, Value>> {
    match &json["resource"] {
        Value::Array(rows) => rows.iter().filter_map(|row| row.as_object().cloned()).collect(),
        _ => json.as_object().cloned().into_iter().collect(),
    }
}

/// Gives the number of rows, or what must not be. `allowed` are all rows that the caller may see.
pub fn check(
    request: &Request,
    shop: &Shop,
    policy: &Policy,
    caller: &Caller,
    allowed: &[Row],
    answer: &Response,
) -> Result<usize, String> {
    let names: Vec<_> = shop.table("customers").names().collect();
    let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
    let asked = format!("{} {body}", percent_decode(&percent_decode(&request.path)));
    let open = |name: &str| policy.field(name, caller) && !policy.masked(name, caller);
    for (row, column) in canaries(&answer.text()) {
        let name = names.get(column).copied().unwrap_or("");
        let shown = open(name) && allowed.iter().any(|allowed| allowed["id"] == row);
        if !shown && !asked.contains(&format!("zq{row}x{column}q")) {
            return Err(format!("the cell {name} of row {row} leaked"));
        }
    }
    if names_employees(&answer.text()) {
        return Err("a cell of employees leaked".into());
    }
    policy_text(&asked, &names, |name| policy.field(name, caller), answer)?;
    if answer.status != 200 {
        return Ok(0);
    }
    let json = answer.json();
    if let Some(count) = json.as_u64() {
        return if count <= allowed.len() as u64 { Ok(1) } else { Err("the count exceeds the allowed rows".into()) };
    }
    if json["meta"]["count"].as_u64().is_some_and(|count| count > allowed.len() as u64) {
        return Err("meta.count exceeds the allowed rows".into());
    }
    let rows = rows(&json);
    if request.method == "GET" && rows.len() > policy.cap(caller) {
        return Err(format!("{} rows exceed the cap", rows.len()));
    }
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        let grouped = row.keys().any(|name| aggregate(name).is_some());
        let mut plain = Map::new();
        for (name, value) in row {
            if name == "orders_by_customer_id" {
                related(shop, value)?;
            } else if let Some((function, of)) = aggregate(name) {
                if of != "ALL" && !open(of) {
                    return Err(format!("the aggregate {name} is of a field that may not be read"));
                }
                let among = allowed.iter().any(|allowed| allowed.get(of) == Some(value));
                if matches!(function, "MIN" | "MAX") && !value.is_null() && !among {
                    return Err(format!("{name} is {value}, which no allowed row has"));
                }
                if function == "COUNT" && value.as_u64().is_none_or(|count| count > allowed.len() as u64) {
                    return Err(format!("{name} counts {value}"));
                }
                let total: i64 = allowed.iter().filter_map(|row| row["id"].as_i64()).sum();
                if (function, of) == ("SUM", "id") && value.as_i64().is_none_or(|sum| sum > total) {
                    return Err(format!("{name} sums up to {value}"));
                }
            } else if !policy.field(name, caller) {
                return Err(format!("the field {name} is not allowed"));
            } else if policy.masked(name, caller) {
                let stored = row.get("id").and_then(|id| allowed.iter().find(|row| row["id"] == *id));
                if stored.is_some_and(|stored| !value.is_null() && stored[name] == *value) {
                    return Err(format!("the field {name} is not masked"));
                }
            } else {
                plain.insert(name.clone(), value.clone());
            }
        }
        let has = |allowed: &&Row| plain.iter().all(|(name, value)| allowed.get(name) == Some(value));
        let times = alike.entry(json!(plain).to_string()).or_default();
        *times += 1;
        if allowed.iter().filter(has).count() < if grouped { 1 } else { *times } {
            return Err(format!("the row {row:?} is not allowed, or came too often"));
        }
    }
    Ok(rows.len())
}

/// `MAX_ssn` → `MAX`, `ssn`
fn aggregate(name: &str) -> Option<(&str, &str)> {
    name.split_once('_').filter(|(function, _)| ["SUM", "COUNT", "AVG", "MIN", "MAX"].contains(function))
}

fn related(shop: &Shop, orders: &Value) -> Result<(), String> {
    for order in orders.as_array().into_iter().flatten() {
        for (name, value) in order.as_object().into_iter().flatten() {
            let stored = order["id"].as_i64().and_then(|id| shop.table("orders").row(id));
            if !ORDER_FIELDS.contains(&name.as_str()) || stored.is_some_and(|stored| stored[name] != *value) {
                return Err(format!("the related order shows {name}"));
            }
        }
    }
    Ok(())
}

/// The customers in a file, by their key.
pub fn stored(file: &Path, shop: &Shop) -> BTreeMap<i64, Row> {
    let names: Vec<_> = shop.table("customers").names().collect();
    let db = rusqlite::Connection::open(file).unwrap();
    let mut statement = db.prepare("select * from customers").unwrap();
    let rows = statement.query_map([], |row| {
        let cell = |(at, name): (usize, &&str)| {
            let value = match row.get::<_, rusqlite::types::Value>(at).unwrap() {
                rusqlite::types::Value::Integer(number) => json!(number),
                rusqlite::types::Value::Text(text) => json!(text),
                _ => Value::Null,
            };
            ((*name).to_owned(), value)
        };
        Ok(names.iter().enumerate().map(cell).collect::<Row>())
    });
    rows.unwrap().flatten().map(|row| (row["id"].as_i64().unwrap(), row)).collect()
}

/// What may be written: nothing of rows that are out of reach before or after, and only these fields. Gives the number of
/// rows that changed.
pub fn check_write(
    policy: &Policy,
    caller: &Caller,
    writable: &BTreeSet<&str>,
    before: &BTreeMap<i64, Row>,
    after: &BTreeMap<i64, Row>,
) -> Result<usize, String> {
    let mut changed = 0;
    for (id, old) in before {
        match after.get(id) {
            Some(new) if new == old => continue,
            _ if !policy.row(old, caller) => return Err(format!("the row {id}, which is out of reach, was changed")),
            None => {}
            Some(new) => {
                if !policy.row(new, caller) {
                    return Err(format!("the row {id} was written out of reach: {new:?}"));
                }
                if let Some(name) =
                    new.keys().find(|name| new[*name] != old[*name] && !writable.contains(name.as_str()))
                {
                    return Err(format!("the field {name} of row {id} was written"));
                }
            }
        }
        changed += 1;
    }
    for (id, new) in after.iter().filter(|(id, _)| !before.contains_key(id)) {
        if !policy.row(new, caller) {
            return Err(format!("the row {id} was created out of reach: {new:?}"));
        }
        let set =
            new.iter().find(|(name, value)| *name != "id" && !value.is_null() && !writable.contains(name.as_str()));
        if let Some((name, _)) = set {
            return Err(format!("the row {id} was created with the field {name}"));
        }
        changed += 1;
    }
    Ok(changed)
}
