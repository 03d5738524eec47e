//! An upstream that speaks the part of DreamFactory's data API that the tests use, over SQLite. Like DreamFactory it puts
//! the caller's filter into its SQL as text and lets a `POST` act as another method, so that a filter that is not
//! contained breaks out here as it would there.

use crate::upstream::{Answer, Seen, Upstream};
use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Serves this SQLite file.
#[must_use]
pub fn start(file: &Path) -> Upstream {
    let file = file.to_path_buf();
    Upstream::start(move |seen| answer(seen, &file))
}

/// What SQLite holds in a cell, as JSON; null for bytes.
pub(crate) fn value_of(cell: Sql) -> Value {
    match cell {
        Sql::Integer(number) => json!(number),
        Sql::Real(number) => json!(number),
        Sql::Text(text) => json!(text),
        Sql::Null | Sql::Blob(_) => Value::Null,
    }
}

/// Undoes percent-encoding and `+`.
#[must_use]
pub fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => match tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    rest = &tail[2..];
                }
                None => out.push(b'%'),
            },
            other => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn answer(seen: &Seen, file: &Path) -> Answer {
    if seen.path.contains("_table/broken") {
        return Answer::json(
            200,
            r#"{"resource":[{"id":1,"region":"secret-cell"},{"id":2,"region":"secret-cell" oops"#,
        );
    }
    if seen.path.contains("_table/zipped") {
        let mut answer = Answer::json(200, b"\x1f\x8b\x08secret-cell");
        answer.head.push("content-encoding: gzip".into());
        return answer;
    }
    match respond(seen, file) {
        Ok(body) => {
            let mut answer = Answer::json(200, body.to_string());
            // Some frameworks hash every body.
            answer.head.push(format!("etag: \"{:x}\"", body.to_string().len()));
            answer.head.push("content-md5: AAAAAAAAAAAAAAAAAAAAAA==".into());
            answer
        }
        // DreamFactory shows the statement in its errors.
        Err(error) => Answer::json(500, json!({"error": {"message": error}}).to_string()),
    }
}

fn respond(seen: &Seen, file: &Path) -> Result<Value, String> {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let query: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let option = |name: &str| query.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    let segments: Vec<&str> = path.split('/').skip(4).collect();
    let method = seen.header("x-http-method").or_else(|| seen.header("x-http-method-override")).unwrap_or(&seen.method);
    let (Some(&"_table"), Some(table)) = (segments.first(), segments.get(1)) else {
        return Ok(json!({"called": path, "method": method, "query": query}));
    };
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let records: Vec<Map<String, Value>> = match &body["resource"] {
        Value::Array(list) => list.iter().filter_map(|record| record.as_object().cloned()).collect(),
        _ => body.as_object().cloned().into_iter().collect(),
    };
    let db = Connection::open(file).map_err(|error| error.to_string())?;
    let run = |sql: &str, extra: &[(String, Sql)]| -> Result<Vec<Value>, String> {
        let say = |error: rusqlite::Error| format!("{error} in {sql}");
        let mut statement = db.prepare(sql).map_err(say)?;
        for at in 1..=statement.parameter_count() {
            let name = statement.parameter_name(at).unwrap_or_default().to_owned();
            let value = extra.iter().find(|(have, _)| *have == name).map(|(_, value)| value.clone());
            let value = value.or_else(|| option(&format!("params[{name}]")).map(|text| text.to_owned().into()));
            statement.raw_bind_parameter(at, value.unwrap_or(Sql::Null)).map_err(say)?;
        }
        let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
        let (mut rows, mut found) = (statement.raw_query(), Vec::new());
        while let Some(row) = rows.next().map_err(say)? {
            let cells =
                names.iter().enumerate().map(|(at, name)| (name.clone(), value_of(row.get(at).unwrap_or(Sql::Null))));
            found.push(Value::Object(cells.collect()));
        }
        Ok(found)
    };
    let mut filter = option("filter").map_or("1".to_owned(), |filter| format!("({filter})"));
    if let Some(id) = segments.get(2) {
        filter = format!("{filter} and id = '{}'", decode(id).replace('\'', "''"));
    }
    match method {
        "GET" => {
            let fields = option("fields").unwrap_or("*");
            let order = option("order").map_or(String::new(), |order| format!(" order by {order}"));
            let limit = option("limit").unwrap_or("1000");
            let offset = option("offset").unwrap_or("0");
            let rows =
                run(&format!("select {fields} from {table} where {filter}{order} limit {limit} offset {offset}"), &[])?;
            match segments.get(2) {
                Some(_) => rows.into_iter().next().ok_or_else(|| "Record not found.".into()),
                None => Ok(json!({"resource": rows})),
            }
        }
        "POST" => {
            let mut made = Vec::new();
            for record in records {
                let names: Vec<&str> = record.keys().map(String::as_str).collect();
                let marks: Vec<String> = (0..names.len()).map(|at| format!(":v{at}")).collect();
                let values: Vec<(String, Sql)> = record
                    .values()
                    .enumerate()
                    .map(|(at, value)| (format!(":v{at}"), crate::data::sql(value)))
                    .collect();
                run(&format!("insert into {table} ({}) values ({})", names.join(","), marks.join(",")), &values)?;
                made.push(json!({"id": db.last_insert_rowid()}));
            }
            Ok(json!({"resource": made}))
        }
        "PATCH" | "DELETE" => {
            let rows = run(&format!("select id from {table} where {filter}"), &[])?;
            if method == "DELETE" {
                run(&format!("delete from {table} where {filter}"), &[])?;
            } else if let Some(record) = records.first() {
                let set: Vec<String> = record.keys().enumerate().map(|(at, name)| format!("{name} = :v{at}")).collect();
                let values: Vec<(String, Sql)> = record
                    .values()
                    .enumerate()
                    .map(|(at, value)| (format!(":v{at}"), crate::data::sql(value)))
                    .collect();
                run(&format!("update {table} set {} where {filter}", set.join(",")), &values)?;
            }
            Ok(json!({"resource": rows}))
        }
        other => Err(format!("no {other} here")),
    }
}
