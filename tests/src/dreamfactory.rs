//! An upstream that speaks the part of DreamFactory's data API that the tests use, over SQLite. Like DreamFactory it puts
//! the caller's filter into its SQL as text and lets a `POST` act as another method, so that a filter that is not
//! contained breaks out here as it would there.

use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Map, Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// The upstream. Its threads end with the test process.
pub struct DreamFactory {
    /// Its port.
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl DreamFactory {
    /// Serves this SQLite file.
    #[must_use]
    pub fn start(file: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (file, log) = (file.to_path_buf(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (file, log) = (file.clone(), Arc::clone(&log));
                std::thread::spawn(move || connection(stream, &file, &log));
            }
        });
        Self { port, seen }
    }

    /// Takes what arrived since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn connection(stream: TcpStream, file: &Path, log: &Mutex<Vec<Seen>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader) {
        log.lock().unwrap().push(seen.clone());
        let (status, kind, body) = answer(&seen, file);
        let head = format!("HTTP/1.1 {status} X\r\n{kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut parts = line.split_whitespace();
    let mut seen = Seen { method: parts.next()?.into(), path: parts.next()?.into(), ..Seen::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some(length) = seen.header("content-length").and_then(|length| length.parse().ok()) {
        seen.body = vec![0; length];
        reader.read_exact(&mut seen.body).ok()?;
    } else if seen.header("transfer-encoding").is_some() {
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            seen.body.extend_from_slice(&chunk[..size]);
        }
    }
    Some(seen)
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

fn answer(seen: &Seen, file: &Path) -> (u16, &'static str, Vec<u8>) {
    const JSON: &str = "content-type: application/json";
    if seen.path.contains("_table/broken") {
        return (
            200,
            JSON,
            br#"{"resource":[{"id":1,"region":"secret-cell"},{"id":2,"region":"secret-cell" oops"#.to_vec(),
        );
    }
    if seen.path.contains("_table/zipped") {
        return (200, "content-type: application/json\r\ncontent-encoding: gzip", b"\x1f\x8b\x08secret-cell".to_vec());
    }
    match respond(seen, file) {
        Ok(body) => (200, JSON, body.to_string().into_bytes()),
        // DreamFactory shows the statement in its errors.
        Err(error) => (500, JSON, json!({"error": {"message": error}}).to_string().into_bytes()),
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
            let cells = names.iter().enumerate().map(|(at, name)| {
                let value = match row.get::<_, Sql>(at).unwrap_or(Sql::Null) {
                    Sql::Integer(number) => json!(number),
                    Sql::Real(number) => json!(number),
                    Sql::Text(text) => json!(text),
                    _ => Value::Null,
                };
                (name.clone(), value)
            });
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
