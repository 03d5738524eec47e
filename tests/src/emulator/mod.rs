//! An emulator of DreamFactory's table API over SQLite, written after its documentation and its observable rules: how
//! options come together from query and body, how a filter's text becomes SQL, how updates and deletes choose rows. It shares no
//! code with the dialect that it tests. It is not DreamFactory: where that differs from its documentation, this does not.

mod casts;
mod filter;

use crate::{
    dreamfactory::{decode, value_of},
    upstream::{Answer, Seen, Upstream},
};
use casts::Column;
use filter::Context;
use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::Path};

/// DreamFactory's `max_records_returned`.
const MAX_ROWS: i64 = 1000;
/// Options, and the other names each goes by.
const OPTIONS: [(&str, &[&str]); 9] = [
    ("fields", &["select"]),
    ("filter", &["where"]),
    ("limit", &["top"]),
    ("offset", &["skip"]),
    ("order", &["sort", "order_by"]),
    ("group", &["group_by"]),
    ("ids", &[]),
    ("count_only", &[]),
    ("include_count", &[]),
];

/// Serves this SQLite file at `/api/v2/NAME`.
#[must_use]
pub fn start(file: &Path) -> Upstream {
    let file = file.to_path_buf();
    Upstream::start(move |seen| match Call::new(seen, &file).and_then(|call| call.run()) {
        Ok(body) => Answer::json(200, body.to_string()),
        Err((status, message)) => {
            Answer::json(status, json!({"error": {"code": status, "message": message}}).to_string())
        }
    })
}

type Failure = (u16, String);
type Cells = Map<String, Value>;

fn bad(message: impl ToString) -> Failure {
    (400, message.to_string())
}

fn broken(error: rusqlite::Error) -> Failure {
    (500, error.to_string())
}

struct Call {
    db: Connection,
    method: String,
    table: String,
    columns: Vec<Column>,
    id: Option<String>,
    options: BTreeMap<String, Value>,
    params: BTreeMap<String, String>,
    records: Vec<Cells>,
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn columns(db: &Connection, table: &str) -> Result<Vec<Column>, Failure> {
    let mut statement = db.prepare("select name, type from pragma_table_info(?)").map_err(broken)?;
    let rows = statement
        .query_map([table], |row| Ok(Column { name: row.get(0)?, kind: casts::kind(&row.get::<_, String>(1)?) }));
    rows.map_err(broken)?.collect::<Result<_, _>>().map_err(broken)
}

impl Call {
    fn new(seen: &Seen, file: &Path) -> Result<Self, Failure> {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let segments: Vec<String> = path.split('/').skip(4).map(decode).collect();
        let [kind, table, id @ ..] = segments.as_slice() else { return Err((404, "Not found.".into())) };
        if kind != "_table" || id.len() > 1 {
            return Err((404, "Not found.".into()));
        }
        let db = Connection::open(file).map_err(broken)?;
        db.pragma_update(None, "case_sensitive_like", true).map_err(broken)?;
        let names = columns(&db, table)?;
        if names.is_empty() {
            return Err((404, format!("Table \"{table}\" does not exist in the database.")));
        }
        // As PHP reads a query: the last of equal names counts, brackets make lists, dots become underscores.
        let (mut options, mut params) = (BTreeMap::new(), BTreeMap::new());
        let mut method = seen.method.clone();
        for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        }) {
            if let Some(name) = name.strip_prefix("params[").and_then(|name| name.strip_suffix(']')) {
                params.insert(name.to_owned(), value);
            } else if name == "method" && method == "POST" {
                method = value;
            } else {
                options.insert(name.replace('.', "_"), Value::String(value));
            }
        }
        for header in ["x-http-method", "x-http-method-override", "x-method-override"] {
            if let Some(meant) = seen.header(header).filter(|_| seen.method == "POST") {
                method = meant.to_ascii_uppercase();
            }
        }
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        for (option, aliases) in OPTIONS {
            for name in std::iter::once(&option).chain(aliases) {
                if let Some(value) = options.get(*name).or_else(|| body.get(*name)).cloned() {
                    options.entry(option.into()).or_insert(value);
                }
            }
        }
        for (name, value) in body["params"].as_object().into_iter().flatten() {
            params.entry(name.clone()).or_insert(text(value));
        }
        // Lookups are resolved wherever they stand: whoever gets one through reads another region.
        let resolve = |value: &mut String| {
            if value.contains("{user.region}") {
                *value = value.replace("{user.region}", "east");
            }
        };
        params.values_mut().for_each(resolve);
        if let Some(Value::String(filter)) = options.get_mut("filter") {
            resolve(filter);
        }
        let records = match (&body["resource"], &body) {
            (Value::Array(list), _) => list.iter().filter_map(|record| record.as_object().cloned()).collect(),
            (_, Value::Object(record))
                if method != "GET" && !record.contains_key("ids") && !record.contains_key("filter") =>
            {
                vec![record.clone()]
            }
            _ => Vec::new(),
        };
        let (table, id) = (table.clone(), id.first().cloned());
        Ok(Self { db, method, table, columns: names, id, options, params, records })
    }

    fn option(&self, name: &str) -> Option<String> {
        self.options.get(name).map(text).filter(|text| !text.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.option(name).is_some_and(|text| matches!(text.as_str(), "true" | "1"))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The condition that chooses the rows: by key, by keys, or by the filter.
    fn condition(&self) -> Result<(String, Vec<Sql>), Failure> {
        let key = &self.columns[0];
        let mut values = Vec::new();
        let by_ids = |ids: Vec<&str>, values: &mut Vec<Sql>| {
            for id in &ids {
                values.push(casts::filter(id, key.kind).map_err(bad)?);
            }
            Ok::<_, Failure>(format!("\"{}\" in ({})", key.name, vec!["?"; ids.len()].join(",")))
        };
        let condition = match (&self.id, self.option("ids"), self.option("filter")) {
            (Some(id), ..) => by_ids(vec![id], &mut values)?,
            (_, Some(ids), _) => by_ids(ids.split(',').map(str::trim).collect(), &mut values)?,
            (.., Some(text)) => {
                let context = Context { columns: &self.columns, params: &self.params };
                filter::sql(&text, &context, &mut values).map_err(bad)?
            }
            _ => "1".into(),
        };
        Ok((condition, values))
    }

    fn run(&self) -> Result<Value, Failure> {
        match self.method.as_str() {
            "GET" => self.read(),
            "POST" if self.id.is_some() => Err(bad("Create record by identifier not currently supported.")),
            "POST" => self.create(),
            "PUT" | "PATCH" | "MERGE" => self.update(),
            "DELETE" => self.delete(),
            other => Err((405, format!("{other} is not supported."))),
        }
    }

    fn query(&self, sql: &str, values: &[Sql]) -> Result<Vec<Cells>, Failure> {
        let say = |error: rusqlite::Error| (500, format!("Failed to run {sql}: {error}"));
        let mut statement = self.db.prepare(sql).map_err(say)?;
        let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(say)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(say)? {
            let cell = |(at, name): (usize, &String)| (name.clone(), value_of(row.get(at).unwrap_or(Sql::Null)));
            found.push(names.iter().enumerate().map(cell).collect());
        }
        Ok(found)
    }

    fn select(&self, fields: Option<&str>, grouped: bool) -> Result<String, Failure> {
        let Some(fields) = fields.filter(|fields| *fields != "*") else {
            return Ok(self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(","));
        };
        let all = fields.trim_matches(',').split(',').map(|field| {
            let field = field.trim();
            if let Some(column) = self.column(field) {
                return Ok(format!("\"{}\"", column.name));
            }
            let aggregate = field
                .split_once('(')
                .and_then(|(function, rest)| Some((function.trim(), rest.strip_suffix(')')?.trim())));
            match aggregate {
                Some((function, "*")) if grouped && function.eq_ignore_ascii_case("COUNT") => {
                    Ok("COUNT(*) AS COUNT_ALL".into())
                }
                Some((function, inner))
                    if grouped
                        && ["SUM", "COUNT", "AVG", "MIN", "MAX"].contains(&function.to_ascii_uppercase().as_str()) =>
                {
                    let column = self.column(inner).ok_or_else(|| bad(format!("Invalid field requested: {field}")))?;
                    let function = function.to_ascii_uppercase();
                    Ok(format!("{function}(\"{0}\") AS {function}_{0}", column.name))
                }
                _ => Err(bad(format!("Invalid field requested: {field}"))),
            }
        });
        Ok(all.collect::<Result<Vec<_>, _>>()?.join(","))
    }

    fn read(&self) -> Result<Value, Failure> {
        let (condition, values) = self.condition()?;
        let table = &self.table;
        if self.flag("count_only") {
            let count = self.query(&format!("select count(1) as n from \"{table}\" where {condition}"), &values)?;
            return Ok(count[0]["n"].clone());
        }
        let fields = self.option("fields").unwrap_or_else(|| "*".into());
        let (mut rows, meta) = self.rows(&condition, &values, Some(&fields))?;
        for relation in self.option("related").iter().flat_map(|related| related.split(',')) {
            self.relate(relation.trim(), &mut rows)?;
        }
        if self.id.is_some() {
            return rows.into_iter().next().map(Value::Object).ok_or((404, "Record not found.".into()));
        }
        let mut out = json!({"resource": rows});
        if self.flag("as_list") {
            let field = self.option("id_field").unwrap_or_else(|| "name".into());
            out["resource"] = rows.iter().filter_map(|row| row.get(&field).cloned()).collect();
        }
        if !meta.is_empty() {
            out["meta"] = Value::Object(meta);
        }
        Ok(out)
    }

    fn rows(&self, condition: &str, values: &[Sql], fields: Option<&str>) -> Result<(Vec<Cells>, Cells), Failure> {
        let table = &self.table;
        let group = self.option("group");
        let mut sql = format!("select {} from \"{table}\" where {condition}", self.select(fields, group.is_some())?);
        if let Some(group) = group {
            sql += &format!(" group by {}", self.select(Some(&group), false)?);
        }
        if let Some(order) = self.option("order") {
            let mut parts = Vec::new();
            for part in order.split(',') {
                let mut words = part.split_whitespace();
                let column = words.next().and_then(|name| self.column(name));
                let column = column.ok_or_else(|| bad(format!("Invalid field '{part}' in order by clause.")))?;
                let descending = words.next().is_some_and(|word| word.eq_ignore_ascii_case("desc"));
                parts.push(format!("\"{}\" {}", column.name, if descending { "desc" } else { "asc" }));
            }
            sql += &format!(" order by {}", parts.join(","));
        }
        let number = |name: &str| self.option(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let (mut limit, offset) = (number("limit"), number("offset"));
        let count =
            self.query(&format!("select count(1) as n from \"{table}\" where {condition}"), values)?[0]["n"].clone();
        let (count, mut meta) = (count.as_i64().unwrap_or(0), Map::new());
        let all = !(1..=MAX_ROWS).contains(&limit);
        if all {
            limit = MAX_ROWS;
        }
        if self.flag("include_count") || (all && count > MAX_ROWS) {
            meta.insert("count".into(), json!(count));
        }
        if (self.flag("include_count") || all) && count - offset > limit {
            meta.insert("next".into(), json!(offset + limit));
        }
        Ok((self.query(&format!("{sql} limit {limit} offset {offset}"), values)?, meta))
    }

    /// `orders_by_customer_id`: the orders that name the row.
    fn relate(&self, relation: &str, rows: &mut [Map<String, Value>]) -> Result<(), Failure> {
        let Some((table, field)) = relation.split_once("_by_") else { return Ok(()) };
        let names = columns(&self.db, table)?;
        let known = |name: &str| names.iter().find(|column| column.name.eq_ignore_ascii_case(name.trim()));
        let Some(field) = known(field) else { return Ok(()) };
        let fields = self.option(&format!("{relation}_fields")).unwrap_or_else(|| "*".into());
        let chosen: Vec<&str> = match fields.as_str() {
            "*" => names.iter().map(|column| column.name.as_str()).collect(),
            list => list.split(',').filter_map(known).map(|column| column.name.as_str()).collect(),
        };
        let limit: i64 =
            self.option(&format!("{relation}_limit")).and_then(|text| text.parse().ok()).unwrap_or(MAX_ROWS);
        let sql = format!("select {} from \"{table}\" where \"{}\" = ? limit {limit}", chosen.join(","), field.name);
        for row in rows {
            let id = row.get("id").and_then(Value::as_i64).unwrap_or(0);
            let found = self.query(&sql, &[id.into()])?;
            row.insert(relation.into(), json!(found));
        }
        Ok(())
    }

    fn assignments(&self, record: &Map<String, Value>) -> Result<Vec<(String, Sql)>, Failure> {
        let known = |(name, value): (&String, &Value)| {
            let column = self.column(name)?;
            Some(casts::record(value, column.kind).map(|value| (column.name.clone(), value)).map_err(bad))
        };
        record.iter().filter_map(known).collect()
    }

    fn insert(&self, record: &Map<String, Value>) -> Result<i64, Failure> {
        let set = self.assignments(record)?;
        let names: Vec<String> = set.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let marks = vec!["?"; set.len()].join(",");
        let sql = format!("insert into \"{}\" ({}) values ({marks})", self.table, names.join(","));
        self.db.execute(&sql, rusqlite::params_from_iter(set.iter().map(|(_, value)| value))).map_err(broken)?;
        Ok(self.db.last_insert_rowid())
    }

    fn change(&self, record: &Map<String, Value>, condition: &str, values: &[Sql]) -> Result<usize, Failure> {
        let set = self.assignments(record)?;
        if set.is_empty() {
            return Ok(0);
        }
        let names: Vec<String> = set.iter().map(|(name, _)| format!("\"{name}\" = ?")).collect();
        let sql = format!("update \"{}\" set {} where {condition}", self.table, names.join(","));
        let values = set.iter().map(|(_, value)| value).chain(values);
        self.db.execute(&sql, rusqlite::params_from_iter(values)).map_err(broken)
    }

    /// What a write answers with: the keys, or the fields that were asked for.
    fn written(&self, condition: &str, values: &[Sql]) -> Result<Value, Failure> {
        let key = self.columns[0].name.clone();
        let (rows, _) = self.rows(condition, values, Some(self.option("fields").as_deref().unwrap_or(&key)))?;
        Ok(json!({"resource": rows}))
    }

    fn create(&self) -> Result<Value, Failure> {
        if self.records.is_empty() {
            return Err(bad("No record(s) detected in request."));
        }
        let ids: Vec<Sql> =
            self.records.iter().map(|record| self.insert(record).map(Sql::from)).collect::<Result<_, _>>()?;
        self.written(&format!("rowid in ({})", vec!["?"; ids.len()].join(",")), &ids)
    }

    fn update(&self) -> Result<Value, Failure> {
        let Some(record) = self.records.first() else { return Err(bad("No record(s) detected in request.")) };
        if self.id.is_some() || self.option("ids").is_some() || self.option("filter").is_some() {
            let (condition, values) = self.condition()?;
            let changed = self.change(record, &condition, &values)?;
            // Services that allow upserts create what they do not find by its key.
            if let (Some(id), 0) = (&self.id, changed) {
                let mut record = record.clone();
                record.insert("id".into(), id.parse::<i64>().map_or(Value::Null, |id| json!(id)));
                self.insert(&record)?;
            }
            return self.written(&condition, &values);
        }
        for record in &self.records {
            let id = record
                .get("id")
                .and_then(Value::as_i64)
                .ok_or_else(|| bad("Required id field(s) not found in record."))?;
            if self.change(record, "\"id\" = ?", &[id.into()])? == 0 {
                self.insert(record)?;
            }
        }
        let ids: Vec<Sql> = self.records.iter().filter_map(|record| record["id"].as_i64()).map(Sql::from).collect();
        self.written(&format!("\"id\" in ({})", vec!["?"; ids.len()].join(",")), &ids)
    }

    fn delete(&self) -> Result<Value, Failure> {
        let (mut condition, mut values) = self.condition()?;
        if self.id.is_none() && self.option("ids").is_none() {
            if !self.records.is_empty() {
                values = self.records.iter().filter_map(|record| record.get("id")?.as_i64()).map(Sql::from).collect();
                condition = format!("\"id\" in ({})", vec!["?"; values.len()].join(","));
            } else if self.option("filter").is_none() && !self.flag("force") {
                return Err(bad("No filter or records given for delete request."));
            }
        }
        let rows = self.written(&condition, &values)?;
        let sql = format!("delete from \"{}\" where {condition}", self.table);
        self.db.execute(&sql, rusqlite::params_from_iter(&values)).map_err(broken)?;
        Ok(rows)
    }
}
