//! Hostile requests in DreamFactory's syntax.

use crate::{
    CUSTOMERS,
    requests::{column, escape, value},
};
use doorward_tests::{
    Random,
    data::REGIONS,
    http::{self, Request},
};
use serde_json::{Map, Value, json};

pub const BASE: &str = "/api/v2/shop/_table/customers";

fn test(random: &mut Random, columns: &[&'static str]) -> String {
    let (name, v) = (column(random, columns), value(random));
    let quoted = match random.below(8) {
        0 => v.clone(),
        1 => format!("\"{v}\""),
        2 => ":p".into(),
        3 => format!("({})", random.pick(columns)),
        4 => "'{user.region}'".into(),
        5 => "') OR (id > 0) OR (region = 'x".into(),
        _ => format!("'{}'", v.replace('\'', "''")),
    };
    match random.below(17) {
        0 => format!("{name} IN ({quoted}, 'west', 3)"),
        1 => format!("{name} NOT IN ({quoted})"),
        2 => format!("{name} LIKE '{}%'", v.replace('\'', "''")),
        3 => format!("{name} NOT LIKE {quoted}"),
        4 => format!("{name} {} {quoted}", random.pick(&["CONTAINS", "STARTS WITH", "ENDS WITH", "contains"])),
        5 => format!("{name} IS NULL"),
        6 => format!("{name} is not null"),
        7 => format!("{name} {} {quoted}", random.pick(&["EQ", "NE", "GT", "GTE", "LT", "LTE", "ALL", "gt"])),
        8 => format!("id > {}", random.below(CUSTOMERS)),
        10 => format!("{} {}IN ('west')", random.pick(&super::WORDS), random.pick(&["", "NOT "])),
        11 => format!("{name} = New {v}"),
        9 => format!("{name} = {}", random.pick(columns)),
        _ => format!("{name} {} {quoted}", random.pick(&["=", "!=", "<>", ">", ">=", "<", "<="])),
    }
}

fn filter(random: &mut Random, columns: &[&'static str], depth: usize) -> String {
    if depth > 0 && random.one_in(2) {
        let (a, b) = (filter(random, columns, depth - 1), filter(random, columns, depth - 1));
        return match random.below(14) {
            0..=3 => format!("({a}) AND ({b})"),
            4..=6 => format!("({a}) OR ({b})"),
            7 => format!("NOT ({a})"),
            8 => format!("({a}){}({b})", random.pick(&["AND", "||", "&&", "or"])),
            9 => format!("({a}) XOR ({b})"),
            10 => format!("({a}) NOR ({b})"),
            11 => format!("{a} AND {b}"),
            12 => format!("(({a}) AND (NOT ({b})))"),
            _ => format!("{a} OR {b}"),
        };
    }
    match random.below(24) {
        0 => "id > 0) OR (id > 0".into(),
        1 => "(id > 0)) OR ((id > 0)".into(),
        2 => "1=1".into(),
        3 => "id > 0 -- ".into(),
        4 => "id > 0; DROP TABLE customers".into(),
        5 => "id IN (SELECT id FROM customers)".into(),
        6 => "id > 0 UNION SELECT * FROM employees".into(),
        7 => "id = (id)".into(),
        8 => "(id > 0".into(),
        9 => format!("region = '{}'", random.pick(&REGIONS)),
        _ => test(random, columns),
    }
}

fn fields(random: &mut Random, columns: &[&'static str]) -> String {
    let count = 1 + random.below(4);
    let list: Vec<String> = (0..count)
        .map(|_| match random.below(16) {
            0 => "*".into(),
            1 => format!("{}({})", random.pick(&["SUM", "MAX", "MIN", "AVG", "count"]), random.pick(columns)),
            2 => format!("{} AS id", random.pick(columns)),
            3 => "COUNT(*)".into(),
            _ => column(random, columns),
        })
        .collect();
    list.join(",")
}

fn option(random: &mut Random, columns: &[&'static str]) -> (String, String) {
    let number =
        |random: &mut Random| (*random.pick(&["0", "1", "7", "1000", "99999", "-1", "1 OR 1", "1e3"])).to_owned();
    let (name, value) = match random.below(30) {
        0..=7 => (*random.pick(&["filter", "filter", "filter", "where", "FILTER"]), filter(random, columns, 2)),
        8..=12 => (*random.pick(&["fields", "fields", "select"]), fields(random, columns)),
        13..=15 => {
            let direction = *random.pick(&["", " desc", " ASC", " desc nulls last", " collate nocase", ", ssn"]);
            (*random.pick(&["order", "sort", "order_by"]), format!("{}{direction}", column(random, columns)))
        }
        16 | 17 => (*random.pick(&["limit", "top"]), number(random)),
        18 => (*random.pick(&["offset", "skip"]), number(random)),
        19 | 20 => {
            let ids: Vec<String> = (0..3).map(|_| (1 + random.below(CUSTOMERS)).to_string()).collect();
            ("ids", ids.join(","))
        }
        21 => (*random.pick(&["group", "group_by"]), column(random, columns)),
        22 => ("count_only", "true".into()),
        23 => ("include_count", (*random.pick(&["true", "1"])).into()),
        24 => (*random.pick(&["include_schema", "as_list"]), "true".into()),
        25 => ("having", format!("{} > ''", random.pick(columns))),
        26 => ("id_field", column(random, columns)),
        27 => ("related", (*random.pick(&["orders_by_customer_id", "*", "employees_by_id"])).into()),
        28 => ("orders_by_customer_id.fields", (*random.pick(&["*", "id,quantity", "region", "total"])).into()),
        _ => (*random.pick(&["params[:p]", "params", "params[p]"]), value(random)),
    };
    (name.into(), value)
}

/// Options that go together, and some that do not.
fn options(random: &mut Random, columns: &[&'static str]) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    match random.below(7) {
        0 => {
            let (name, of) = (*random.pick(columns), *random.pick(columns));
            let function = *random.pick(&["MIN", "MAX", "SUM", "COUNT"]);
            vec![pair("group", name.into()), pair("fields", format!("{name},{function}({of})"))]
        }
        1 => vec![pair("related", "orders_by_customer_id".into()), pair("fields", "id".into())],
        2 => vec![pair("filter", filter(random, columns, 2)), pair("order", "id".into())],
        _ => (0..random.below(4)).map(|_| option(random, columns)).collect(),
    }
}

fn query(options: &[(String, String)], random: &mut Random) -> String {
    let pairs: Vec<String> =
        options.iter().map(|(name, value)| format!("{}={}", name, escape(value, random))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn path(random: &mut Random) -> String {
    let id = 1 + random.below(CUSTOMERS);
    match random.below(30) {
        0 | 1 => format!("{BASE}/{id}"),
        2 => "/api/v2/shop/_table/CUSTOMERS".into(),
        3 => "/api/v2/shop/_table/employees".into(),
        4 => "/api/v2/shop/_table/customers%2F..%2Femployees".into(),
        5 => "/api/v2/shop/_table/customers()".into(),
        6 => "/api/v2/shop/_schema/customers".into(),
        7 => format!("{BASE}/{id},{}", id + 1),
        8 => "/api/v2/shop/_table/products".into(),
        _ => BASE.into(),
    }
}

pub fn read(port: u16, random: &mut Random, columns: &[&'static str]) -> Request {
    let (path, options) = (path(random), options(random, columns));
    match random.below(12) {
        0 | 1 => {
            let body: Map<String, Value> = options.into_iter().map(|(name, value)| (name, json!(value))).collect();
            let header = *random.pick(&["x-http-method", "x-http-method-override", "x-method-override"]);
            http::request("POST", port, &path).header(header, "GET").json(&Value::Object(body).to_string())
        }
        2 => http::request("POST", port, &format!("{path}?method=GET")).json(r#"{"filter":"id > 0"}"#),
        3 => http::get(port, &format!("{path}{}", query(&options, random))).json(r#"{"filter":"id > 0","fields":"*"}"#),
        _ => http::get(port, &format!("{path}{}", query(&options, random))),
    }
}

fn record(random: &mut Random, columns: &[&'static str]) -> Value {
    let mut record = Map::new();
    for _ in 0..1 + random.below(3) {
        let name =
            if random.one_in(2) { *random.pick(&["status", "region", "company"]) } else { *random.pick(columns) };
        let value = match random.below(12) {
            0 => json!({"expression": "(select ssn from customers)"}),
            1 => json!("{user.region}"),
            2 => Value::Null,
            3 => json!(1 + random.below(CUSTOMERS)),
            4..=6 => json!(random.pick(&REGIONS)),
            _ => json!("written"),
        };
        record.insert(name.into(), value);
    }
    Value::Object(record)
}

pub fn write(port: u16, random: &mut Random, columns: &[&'static str]) -> Request {
    let id = 1 + random.below(CUSTOMERS);
    let plain = random.one_in(2);
    let filter = if plain { format!("id > {id}") } else { filter(random, columns, 1) };
    let filtered = format!("{BASE}?filter={}", escape(&filter, random));
    let by_ids = format!("{BASE}?ids={id},{}", 1 + random.below(CUSTOMERS));
    let fields = format!("&fields={}", fields(random, columns));
    let record = if plain { json!({"status": "written"}) } else { record(random, columns) };
    let with_id = |mut record: Value| {
        record["id"] = json!(id);
        record
    };
    let send = |method: &str, path: &str, body: Value| http::request(method, port, path).json(&body.to_string());
    match random.below(16) {
        0..=2 => send("POST", BASE, json!({"resource": [record]})),
        3 => send("POST", &format!("{BASE}?fields=*"), record),
        4 => send("POST", BASE, json!({"resource": [with_id(record)]})),
        5 | 6 => send("PATCH", &filtered, record),
        7 => send("PATCH", &format!("{filtered}{fields}"), json!({"resource": [record]})),
        8 => send("PATCH", BASE, json!({"filter": filter, "resource": [record]})),
        9 => send(*random.pick(&["PATCH", "PUT"]), &by_ids, record),
        10 => send(*random.pick(&["PATCH", "PUT"]), BASE, json!({"resource": [with_id(record)]})),
        11 => send(*random.pick(&["PATCH", "PUT", "DELETE"]), &format!("{BASE}/{id}"), record),
        12 => http::request("DELETE", port, &filtered),
        13 => http::request("DELETE", port, &by_ids),
        14 => match random.below(3) {
            0 => http::request("DELETE", port, &format!("{BASE}?force=true")),
            1 => send("DELETE", BASE, json!({"ids": [id]})),
            _ => send("DELETE", BASE, json!({"resource": [{"id": id}]})),
        },
        _ => {
            let meant = *random.pick(&["DELETE", "PATCH", "MERGE"]);
            send("POST", &filtered, record).header("x-http-method", meant)
        }
    }
}
