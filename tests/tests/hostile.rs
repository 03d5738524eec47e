//! What comes back is never more than the slow evaluator allows on the same data, and tells nothing about the rest:
//! random policies, random data, thousands of hostile requests, two upstreams that differ only in what is invisible.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::explicit_auto_deref,
    clippy::type_complexity,
    reason = "tests"
)]

use doorward_tests::{
    Random,
    data::{REGIONS, Shop},
    http::{self, Response},
    seed,
    stack::{Datasette, ENVOY, Envoy, EnvoyOptions, SHOP_SERVICE, Stack},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

type Row = Map<String, Value>;
const CUSTOMERS: usize = 240;
const CANARIES: [&str; 6] = ["company", "email", "phone", "ssn", "credit_card", "internal_notes"];

// ---- policies, and the slow obvious evaluator -----------------------------------------------

/// A row filter over the customers.
#[derive(Clone, Debug)]
enum Test {
    Compare(&'static str, &'static str, Value),
    In(&'static str, bool, Vec<Value>),
    Like(&'static str, bool, &'static str),
    Null(&'static str, bool),
    Region,
    Level,
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
}

#[derive(Clone, Debug)]
struct Caller {
    region: String,
    level: i64,
    agent: bool,
}

impl Test {
    fn random(random: &mut Random, depth: usize) -> Test {
        if depth > 0 && random.below(3) > 0 {
            let mut next = || Box::new(Test::random(random, depth - 1));
            let (a, b) = (next(), next());
            return match random.below(5) {
                0 | 1 => Test::And(a, b),
                2 | 3 => Test::Or(a, b),
                _ => Test::Not(a),
            };
        }
        let text = |random: &mut Random| match random.below(4) {
            0 => ("region", json!(random.pick(&REGIONS))),
            1 => ("status", json!(random.pick(&["active", "closed", "it's", "x') or ('1'='1"]))),
            2 => ("company", json!(format!("zq{}x3q", 1 + random.below(CUSTOMERS)))),
            _ => ("first_name", json!(random.pick(&["Ada", "Hugo", "Zoë", "Noor"]))),
        };
        match random.below(8) {
            0 => Test::Region,
            1 => Test::Level,
            2 => Test::Compare(
                "id",
                *random.pick(&["<", "<=", ">", ">=", "=", "!="]),
                json!(random.below(CUSTOMERS + 9)),
            ),
            3 => {
                let (field, _) = text(random);
                Test::Null(field, random.one_in(2))
            }
            4 => Test::Like("status", random.one_in(2), *random.pick(&["a%", "%e_", "%", "clos_d", "lead"])),
            5 => {
                let count = 1 + random.below(3);
                let values = (0..count).map(|_| json!(random.pick(&REGIONS))).collect();
                Test::In("region", random.one_in(2), values)
            }
            _ => {
                let (field, value) = text(random);
                Test::Compare(field, *random.pick(&["=", "!=", "<", ">="]), value)
            }
        }
    }

    fn print(&self) -> String {
        let value = |value: &Value| match value {
            Value::String(text) => format!("'{}'", text.replace('\'', "''")),
            other => other.to_string(),
        };
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Test::Compare(field, op, v) => format!("{field} {op} {}", value(v)),
            Test::In(field, negated, values) => {
                let list: Vec<_> = values.iter().map(value).collect();
                format!("{field} {}IN ({})", not(*negated), list.join(", "))
            }
            Test::Like(field, negated, pattern) => format!("{field} {}LIKE '{pattern}'", not(*negated)),
            Test::Null(field, negated) => format!("{field} IS {}NULL", not(*negated)),
            Test::Region => "region = {user.region}".into(),
            Test::Level => "id <= {user.level}".into(),
            Test::And(a, b) => format!("({} AND {})", a.print(), b.print()),
            Test::Or(a, b) => format!("({} OR {})", a.print(), b.print()),
            Test::Not(a) => format!("NOT ({})", a.print()),
        }
    }

    fn fields(&self, out: &mut BTreeSet<&'static str>) {
        match self {
            Test::Compare(field, ..) | Test::In(field, ..) | Test::Like(field, ..) | Test::Null(field, _) => {
                out.insert(field);
            }
            Test::Region => drop(out.insert("region")),
            Test::Level => drop(out.insert("id")),
            Test::And(a, b) | Test::Or(a, b) => {
                a.fields(out);
                b.fields(out);
            }
            Test::Not(a) => a.fields(out),
        }
    }

    /// SQL's three-valued logic; none is unknown.
    fn holds(&self, row: &Row, caller: &Caller) -> Option<bool> {
        let compare = |field: &str, op: &str, value: &Value| {
            let order = match (&row[field], value) {
                (Value::Null, _) => return None,
                (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
                (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
                other => panic!("{other:?}"),
            };
            Some(match op {
                "=" => order.is_eq(),
                "!=" => order.is_ne(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                _ => order.is_ge(),
            })
        };
        match self {
            Test::Compare(field, op, value) => compare(field, op, value),
            Test::In(field, negated, values) => match &row[*field] {
                Value::Null => None,
                value => Some(values.contains(value) != *negated),
            },
            Test::Like(field, negated, pattern) => match &row[*field] {
                Value::String(text) => Some(like(text, pattern) != *negated),
                _ => None,
            },
            Test::Null(field, negated) => Some(row[*field].is_null() != *negated),
            Test::Region => compare("region", "=", &json!(caller.region)),
            Test::Level => compare("id", "<=", &json!(caller.level)),
            Test::And(a, b) => match (a.holds(row, caller), b.holds(row, caller)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Test::Or(a, b) => match (a.holds(row, caller), b.holds(row, caller)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Test::Not(a) => a.holds(row, caller).map(|held| !held),
        }
    }
}

fn like(text: &str, pattern: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('%') => {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(&text[at..], &pattern[1..]))
        }
        Some(wanted) => text.chars().next().is_some_and(|c| {
            (wanted == '_' || wanted == c) && like(&text[c.len_utf8()..], &pattern[wanted.len_utf8()..])
        }),
    }
}

/// What one role grants on the customers.
#[derive(Clone, Debug)]
struct Grant {
    visible: BTreeSet<&'static str>,
    masked: BTreeMap<&'static str, &'static str>,
    rows: Test,
    cap: usize,
    omit: bool,
}

impl Grant {
    fn random(random: &mut Random, columns: &[&'static str]) -> Grant {
        let visible: BTreeSet<_> = columns.iter().copied().filter(|name| *name == "id" || random.one_in(2)).collect();
        let mut masked = BTreeMap::new();
        for field in visible.iter().filter(|name| CANARIES.contains(name)) {
            if random.one_in(3) {
                masked.insert(
                    *field,
                    if *field == "email" { "email" } else { *random.pick(&["null", "fixed", "token"]) },
                );
            }
        }
        Grant { visible, masked, rows: Test::random(random, 3), cap: 1 + random.below(300), omit: random.one_in(3) }
    }

    fn document(&self, role: &str) -> String {
        let list: Vec<_> = self.visible.iter().copied().collect();
        let masks: Vec<_> =
            self.masked.iter().map(|(field, mask)| format!("{field}: {{ with: \"{mask}\" }}")).collect();
        format!(
            "---\nkind: AccessRole\nmetadata: {{ name: {role} }}\nspec:\n  grants:\n    - service: shop\n      components: \
             [customers]\n      verbs: [GET]\n      fields: {{ read: [{}], mask: {{ {} }} }}\n      rows: {}\n      maxRows: \
             {}\n      onHiddenField: {}\n",
            list.join(", "),
            masks.join(", "),
            json!(self.rows.print()),
            self.cap,
            if self.omit { "omit" } else { "deny" },
        )
    }
}

#[derive(Clone, Debug)]
struct Policy {
    user: Grant,
    agent: Grant,
}

impl Policy {
    fn document(&self) -> String {
        format!(
            "{SHOP_SERVICE}{}---\nkind: AccessBinding\nmetadata: {{ name: users }}\nspec: {{ role: app-user, subjects: [{{ group: \
             users }}] }}\n{}---\nkind: AccessBinding\nmetadata: {{ name: agents }}\nspec: {{ role: ai-agent, subjects: \
             [{{ agent: assistant }}] }}\n",
            self.user.document("app-user"),
            self.agent.document("ai-agent"),
        )
    }

    fn grants(&self, caller: &Caller) -> Vec<&Grant> {
        if caller.agent { vec![&self.user, &self.agent] } else { vec![&self.user] }
    }

    fn row(&self, row: &Row, caller: &Caller) -> bool {
        self.grants(caller).iter().all(|grant| grant.rows.holds(row, caller) == Some(true))
    }

    fn field(&self, field: &str, caller: &Caller) -> bool {
        self.grants(caller).iter().all(|grant| grant.visible.contains(field))
    }

    fn masked(&self, field: &str, caller: &Caller) -> bool {
        self.grants(caller).iter().any(|grant| grant.masked.contains_key(field))
    }

    fn cap(&self, caller: &Caller) -> usize {
        self.grants(caller).iter().map(|grant| grant.cap).min().unwrap()
    }
}

// ---- data -----------------------------------------------------------------------------------

/// A shop in which each secret names its cell, so that a leak shows in any part of a response.
fn shop() -> Shop {
    let mut shop = Shop::new(3, CUSTOMERS);
    for table in ["customers", "employees"] {
        let table = shop.table_mut(table);
        let letter = if table.name == "customers" { "q" } else { "e" };
        let names: Vec<_> = table.names().collect();
        for row in &mut table.rows {
            let id = row["id"].clone();
            for (at, name) in names.iter().enumerate() {
                if (CANARIES.contains(name) || *name == "review") && !row[*name].is_null() {
                    let domain = if *name == "email" { "@example.com" } else { "" };
                    row.insert((*name).into(), json!(format!("z{letter}{id}x{at}{letter}{domain}")));
                }
            }
        }
    }
    shop
}

/// The same shop to all of these callers: other invisible rows, other hidden values.
fn twin(shop: &Shop, policy: &Policy, callers: &[Caller], random: &mut Random) -> Shop {
    let mut used = BTreeSet::new();
    policy.user.rows.fields(&mut used);
    policy.agent.rows.fields(&mut used);
    let mut twin = shop.clone();
    let rows = &mut twin.table_mut("customers").rows;
    let names: Vec<_> = shop.table("customers").names().collect();
    let seen = |row: &Row| callers.iter().any(|caller| policy.row(row, caller));
    rows.retain(|row| seen(row) || random.below(3) > 0);
    for row in rows.iter_mut() {
        if seen(row) {
            for name in names.iter().filter(|name| !used.contains(*name)) {
                // Masks other than null and fixed tell something of the value, as they are meant to.
                let opaque = policy
                    .grants(&callers[0])
                    .iter()
                    .all(|grant| matches!(grant.masked.get(name), Some(&("null" | "fixed"))));
                if callers.iter().all(|caller| !policy.field(name, caller)) || opaque {
                    row.insert((*name).into(), json!(format!("y{}", random.below(1_000_000))));
                }
            }
        } else {
            let mut other = row.clone();
            for name in names.iter().filter(|name| **name != "id") {
                if random.one_in(2) {
                    other.insert((*name).into(), json!(format!("x{}", random.below(1_000_000))));
                }
            }
            if !seen(&other) {
                *row = other;
            }
        }
    }
    let mut id = 100_000;
    for _ in 0..random.below(40) {
        id += 1;
        let mut row = random.pick(&shop.table("customers").rows).clone();
        row.insert("id".into(), json!(id));
        row.insert("region".into(), json!("nowhere"));
        if !seen(&row) {
            rows.push(row);
        }
    }
    for name in ["orders", "employees"] {
        let rows = &mut twin.table_mut(name).rows;
        rows.retain(|_| random.below(2) > 0);
    }
    twin
}

// ---- hostile requests -----------------------------------------------------------------------

fn escape(text: &str, random: &mut Random) -> String {
    let all = random.one_in(12);
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if random.one_in(2) => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' if !all => out.push(byte as char),
            b'\'' | b'(' | b')' | b',' | b'*' | b';' if random.one_in(4) => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if random.one_in(40) { out.replace('%', "%25") } else { out }
}

fn column(random: &mut Random, columns: &[&'static str]) -> String {
    let name = *random.pick(columns);
    match random.below(24) {
        0 => name.to_uppercase(),
        1 => format!("\"{name}\""),
        2 => format!("[{name}]"),
        3 => format!("customers.{name}"),
        4 => "rowid".into(),
        5 => format!("{name} "),
        6 => format!("{name}\0"),
        7 => "undeclared".into(),
        _ => name.into(),
    }
}

fn value(random: &mut Random) -> String {
    let id = 1 + random.below(CUSTOMERS);
    match random.below(10) {
        0 => (*random.pick(&REGIONS)).into(),
        1 => "active".into(),
        2 => format!("zq{id}x{}q", 3 + random.below(12)),
        3 => "zq%".into(),
        4 => "' or 1=1 --".into(),
        5 => "\u{feff}west".into(),
        6 => "east','west".into(),
        7 => "-1".into(),
        8 => "%".into(),
        _ => id.to_string(),
    }
}

fn condition(random: &mut Random, columns: &[&'static str]) -> String {
    let (a, b) = (column(random, columns), column(random, columns));
    let v = value(random).replace('\'', "''");
    match random.below(34) {
        0..=5 => format!("{a} {} '{v}'", random.pick(&["=", "!=", "<", ">=", "<>", "=="])),
        6 => format!("{a} in ('{v}', 'west')"),
        7 => format!("{a} like '{v}%'"),
        8 => format!("{a} is not null"),
        9 => format!("{a} = {b}"),
        10 => "1=1".into(),
        11 => format!("1=1) or ({a} is not null"),
        12 => "1=1 or 1=1 --".into(),
        13 => format!("id in (select id from customers where {a} like 'zq%')"),
        14 => "exists (select 1 from employees where review like 'z%')".into(),
        15 => format!("1=1 union select * from employees where {a}=''"),
        16 => format!("case when {a} like 'zq1%' then 1 else abs(-9223372036854775808) end"),
        17 => format!("length({a}) > 3"),
        18 => "1=1; drop table customers".into(),
        19 => format!("{a} /* */ = '{v}'"),
        20 => format!("({a} = '{v}' or {b} >= '{v}')"),
        21 => format!("not ({a} = '{v}')"),
        22 => format!("{a} glob '*{v}*'"),
        23 => format!("{a} collate nocase = '{v}'"),
        24 => format!("{a} between '0' and 'z'"),
        25 => format!("json_extract({a}, '$') = 1"),
        26 => "region = 'east' or region = 'west'".into(),
        27 => format!("{a} = x'7a'"),
        28 => format!("+{a} = '{v}'"),
        29 => format!("{a} || {b} = '{v}'"),
        30 => format!("({a}) = ('{v}')"),
        31 => format!("{a} is '{v}'"),
        32 => "0 or id".into(),
        _ => format!("{a} > '{v}' and id < {}", random.below(CUSTOMERS)),
    }
}

fn parameter(random: &mut Random, columns: &[&'static str]) -> (String, String) {
    let name = column(random, columns);
    let v = value(random);
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    match random.below(40) {
        0..=4 => ("_where".into(), condition(random, columns)),
        5..=8 => ("_col".into(), name),
        9 => ("_nocol".into(), name),
        10 | 11 => ("_sort".into(), name),
        12 => ("_sort_desc".into(), name),
        13 | 14 => ("_facet".into(), name),
        15 => (text("_facet_array", "").0, name),
        16 => ("_facet_date".into(), name),
        17..=22 => {
            let op = random.pick(&[
                "exact",
                "not",
                "contains",
                "endswith",
                "startswith",
                "gt",
                "gte",
                "lt",
                "lte",
                "like",
                "notlike",
                "glob",
                "in",
                "notin",
                "date",
                "isnull",
                "notnull",
                "isblank",
                "notblank",
                "arraycontains",
                "ssn",
                "exact__gt",
            ]);
            (format!("{name}__{op}"), v)
        }
        23 | 24 => (name, v),
        25 => ("_size".into(), (*random.pick(&["0", "1", "5", "max", "1000", "-1", "99999", "1e3", "1;2"])).into()),
        26 | 27 => (
            "_shape".into(),
            (*random.pick(&["array", "arrays", "objects", "object", "arrayfirst", "nonsense"])).into(),
        ),
        28 => ("_next".into(), format!("{},{}", random.below(CUSTOMERS), random.below(CUSTOMERS))),
        29 => ("_next".into(), random.below(CUSTOMERS).to_string()),
        30 => ("_search".into(), v),
        31 => ("_labels".into(), "on".into()),
        32 => ("sql".into(), "select * from customers".into()),
        33 => ("_json".into(), name),
        34 => ("_trace".into(), "1".into()),
        35 => ("_nl".into(), "on".into()),
        36 => ("_extra".into(), "*".into()),
        37 => text("_nocount", "1"),
        38 => ("_through".into(), r#"{"table":"orders","column":"status","value":"open"}"#.into()),
        _ => ("_filter_column".into(), name),
    }
}

/// A question about one column that splits the values of a shop from those of its twin.
fn probe(random: &mut Random, columns: &[&'static str]) -> String {
    let name = *random.pick(columns);
    let (op, value) = *random.pick(&[
        ("startswith", "zq"),
        ("contains", "q"),
        ("endswith", "q"),
        ("like", "zq%25"),
        ("notlike", "zq%25"),
        ("glob", "zq*"),
        ("gt", "z"),
        ("gte", "z"),
        ("lt", "z"),
        ("lte", "z"),
        ("not", "y"),
        ("isnull", "1"),
        ("notnull", "1"),
        ("isblank", "1"),
        ("notblank", "1"),
        ("exact", "west"),
        ("in", "east,west"),
        ("notin", "east"),
        ("date", "1990-01-01"),
    ]);
    match random.below(6) {
        0 => format!("/shop/customers.json?_sort={name}&_size=9"),
        1 => format!("/shop/customers.json?_facet={name}&_facet_size=max"),
        2 => format!("/shop/customers.json?_where={name}+like+'zq%25'"),
        3 => format!("/shop/customers.json?_col={name}&_shape=array"),
        _ => format!("/shop/customers.json?{name}__{op}={value}"),
    }
}

fn hostile(random: &mut Random, columns: &[&'static str]) -> String {
    if random.one_in(4) {
        return probe(random, columns);
    }
    let id = 1 + random.below(CUSTOMERS);
    let path = match random.below(40) {
        0 => format!("/shop/customers/{id}.json"),
        1 => format!("/shop/customers/{id}.json?_extras=foreign_key_tables"),
        2 => format!("/shop/customers/~3{}.json", random.below(10)),
        3 => "/shop//customers.json".into(),
        4 => "/shop/./customers.json".into(),
        5 => "/shop/products/../customers.json".into(),
        6 => "/shop/%63ustomers.json".into(),
        7 => "/shop/~63ustomers.json".into(),
        8 => "/shop/customers".into(),
        9 => "/shop/customers.csv".into(),
        10 => "/SHOP/customers.json".into(),
        11 => "/shop/employees.json".into(),
        12 => "/shop/customers.json;x=1".into(),
        13 => "/shop/customers.json%00".into(),
        14 => "/shop%2fcustomers.json".into(),
        15 => "/-/databases.json".into(),
        16 => "/shop.json?sql=select+*+from+customers".into(),
        17 => "/shop/customers.json#".into(),
        18 => "/shop/customers.json/".into(),
        19 => "/shop/sqlite_master.json".into(),
        20 => format!("/shop/customers/{id},{id}.json"),
        _ => "/shop/customers.json".into(),
    };
    if path.contains('?') {
        return path;
    }
    let count = random.below(4);
    let pairs: Vec<String> = (0..count)
        .map(|_| {
            let (name, value) = parameter(random, columns);
            format!("{}={}", escape(&name, random), escape(&value, random))
        })
        .collect();
    let glue = if random.one_in(30) { ";" } else { "&" };
    format!("{path}{}{}", if pairs.is_empty() { "" } else { "?" }, pairs.join(glue))
}

fn ask(port: u16, path: &str, token: &str, header: Option<(&str, &str)>) -> Response {
    let request = http::get(port, path).token(token);
    match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    }
    .send()
}

// ---- what must hold -------------------------------------------------------------------------

/// The cells that a text names.
fn canaries(text: &str) -> Vec<(usize, usize)> {
    text.match_indices("zq")
        .filter_map(|(at, _)| {
            let (row, rest) = text.get(at + 2..)?.split_once('x')?;
            let (column, _) = rest.split_once('q')?;
            Some((row.parse().ok()?, column.parse().ok()?))
        })
        .collect()
}

fn check(path: &str, shop: &Shop, policy: &Policy, caller: &Caller, answer: &Response) -> Result<usize, String> {
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
    if answer.text().contains("ze")
        && canaries(&answer.text().replace("ze", "zq")).len() > canaries(&answer.text()).len()
    {
        return Err("a cell of employees leaked".into());
    }
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

fn percent_decode(path: &str) -> String {
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

fn comparable(answer: &Response) -> (u16, Option<String>, String) {
    let mut text = answer.text();
    if let Some(id) = answer.json()["decision_id"].as_str() {
        text = text.replace(id, "");
    }
    (answer.status, answer.header("content-type").map(str::to_owned), text)
}

#[test]
fn nothing_comes_back_that_the_slow_evaluator_forbids_and_twins_answer_alike() {
    let seed = seed("hostile");
    let mut random = Random(seed);
    let shop = shop();
    let columns: Vec<_> = shop.table("customers").names().collect();
    let cases: usize = std::env::var("DOORWARD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_400);
    let policies = (cases / 200).max(1);

    let folder = tempfile::tempdir().unwrap();
    let first = Datasette::start(folder.path(), "first", &shop);
    let second = Datasette::start(folder.path(), "second", &shop);
    let second_file = folder.path().join("second/shop.db");
    let stack = Stack::over(folder, first.port, shop.clone(), SHOP_SERVICE, "");
    let options = EnvoyOptions {
        version: ENVOY,
        node: "envoy-2",
        upstream: second.port,
        control_plane: stack.control.grpc,
        key: stack.control.policy_key(),
        options: "",
    };
    let twin_envoy = Envoy::start(stack.folder.path(), &options);

    let (mut total, mut with_rows, mut denied) = (0, 0, 0);
    for round in 0..policies {
        let policy = Policy { user: Grant::random(&mut random, &columns), agent: Grant::random(&mut random, &columns) };
        let callers: Vec<Caller> = (0..4)
            .map(|at| Caller {
                region: if at == 3 { "west' or '1'='1".into() } else { (*random.pick(&REGIONS)).into() },
                level: random.below(CUSTOMERS) as i64,
                agent: at % 2 == 1,
            })
            .collect();
        let tokens: Vec<String> = callers
            .iter()
            .map(|caller| {
                let mut claims = stack.issuer.claims("ann", &["users"]);
                claims["region"] = json!(caller.region);
                claims["level"] = json!(caller.level);
                if caller.agent {
                    claims["act"] = json!({"sub": "assistant"});
                }
                stack.issuer.sign(&claims)
            })
            .collect();
        twin(&shop, &policy, &callers, &mut random).replace(&second_file);
        stack.policies(&policy.document());
        doorward_tests::wait("the twin's policy", std::time::Duration::from_secs(10), || {
            let list = doorward_tests::control::proxies(stack.control.grpc)?;
            (list.proxies.iter().filter(|proxy| proxy.connected && proxy.current).count() == 2).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(150));

        // The honest question gets everything that is allowed, and not a row less.
        for (caller, token) in callers.iter().zip(&tokens) {
            let expected: Vec<i64> = shop
                .table("customers")
                .rows
                .iter()
                .filter(|row| policy.row(row, caller))
                .map(|row| row["id"].as_i64().unwrap())
                .take(policy.cap(caller))
                .collect();
            let answer = stack.get("/shop/customers.json?_shape=objects&_size=max").token(token).send();
            assert_eq!(answer.status, 200, "seed {seed}: {} {}", answer.text(), policy.document());
            let got: Vec<i64> = answer.rows().iter().map(|row| row["id"].as_i64().unwrap()).collect();
            assert_eq!(got, expected, "seed {seed}, round {round}, {caller:?}: {}", policy.document());
        }

        let requests: Vec<(usize, String, Option<(&str, &str)>)> = (0..cases.div_ceil(policies))
            .map(|_| {
                let header = match random.below(30) {
                    0 => Some(("x-original-url", "/shop/employees.json")),
                    1 => Some(("x-http-method-override", "POST")),
                    2 => Some(("if-none-match", "\"a\"")),
                    3 => Some(("range", "bytes=0-10")),
                    4 => Some(("accept-encoding", "gzip")),
                    5 => Some(("x-doorward-user", "root")),
                    6 => Some(("x-doorward-role", "ai-agent")),
                    _ => None,
                };
                (random.below(callers.len()), hostile(&mut random, &columns), header)
            })
            .collect();
        let next = AtomicUsize::new(0);
        let results: Vec<(usize, u16)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut results = Vec::new();
                        while let Some((who, path, header)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let say = |what: &str| {
                                format!(
                                    "seed {seed}, round {round}: {what}\n{path} {header:?}\n{:?}\n{}",
                                    callers[*who],
                                    policy.document()
                                )
                            };
                            let a = ask(stack.envoy.port, path, &tokens[*who], *header);
                            let b = ask(twin_envoy.port, path, &tokens[*who], *header);
                            assert!(a.status > 0 && a.status != 503, "{}", say(&a.text()));
                            match check(path, &shop, &policy, &callers[*who], &a) {
                                Ok(rows) => results.push((rows, a.status)),
                                Err(problem) => panic!("{}\n{}", say(&problem), a.text()),
                            }
                            assert_eq!(comparable(&a), comparable(&b), "{}", say("the twins differ"));
                        }
                        results
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        total += results.len();
        with_rows += results.iter().filter(|(rows, _)| *rows > 0).count();
        denied += results.iter().filter(|(_, status)| *status >= 400).count();
    }
    println!("{total} requests: {with_rows} brought rows, {denied} were refused");
    assert!(with_rows * 20 > total && denied * 5 > total, "the requests do not test both sides: {with_rows}, {denied}");
}

#[test]
fn a_policy_that_permits_everything_changes_no_answer() {
    let stack = Stack::start(
        300,
        "kind: AccessRole\nmetadata: { name: app-all }\nspec:\n  grants:\n    - { service: shop, components: [customers, orders, \
         products, employees], verbs: [GET], fields: { read: [\"*\"] } }\n---\nkind: AccessBinding\nmetadata: { name: all }\nspec: \
         { role: app-all, subjects: [{ anyUser: true }] }\n",
    );
    let token = stack.issuer.token("ann", &[], "west");
    for table in ["customers", "orders", "products", "employees"] {
        for query in [
            "",
            "_size=7",
            "_size=max",
            "_sort_desc=id&_size=3",
            "_shape=array&_size=9",
            "_shape=objects",
            "_shape=object",
            "_shape=arrayfirst",
            "id__gt=20&id__lt=40",
            "_where=id+%3C+9",
            "_where=id+in+(1,2,3)+or+id+%3D+50",
            "_facet=id",
            "_next=12",
            "_next=100&_size=5",
            "id__in=1,5,77777",
            "_nocount=1&_size=2",
            "id__isnull=1",
        ] {
            let path = format!("/shop/{table}.json?{query}");
            let through = stack.get(path.trim_end_matches('?')).token(&token).send();
            let direct = stack.direct(path.trim_end_matches('?')).send();
            assert_eq!((through.status, direct.status), (200, 200), "{path}: {}", through.text());
            // Columns come in the order of their names, so rows compare as objects.
            assert!(through.rows() == direct.rows(), "{path}: the rows differ");
            let (a, b) = (through.json(), direct.json());
            if a.is_array() {
                assert!(a == b, "{path}: the lists differ");
            } else if !path.contains("_shape=object&") && !path.ends_with("_shape=object") {
                for (name, value) in a.as_object().unwrap() {
                    match name.as_str() {
                        "rows" => {}
                        "columns" => {
                            let set = |value: &Value| -> BTreeSet<String> {
                                value.as_array().unwrap().iter().map(Value::to_string).collect()
                            };
                            assert_eq!(set(value), set(&b[name]), "{path}");
                        }
                        // With an explicit order, a cursor begins with the sort column's value.
                        "next" => assert_eq!(value.is_null(), b[name].is_null(), "{path}"),
                        "facet_results" => {
                            for (facet, result) in value.as_object().unwrap() {
                                let counts = |value: &Value| -> Vec<(Value, Value)> {
                                    let list = value["results"].as_array().unwrap();
                                    list.iter().map(|entry| (entry["value"].clone(), entry["count"].clone())).collect()
                                };
                                assert_eq!(counts(result), counts(&b[name][facet]), "{path}: {facet}");
                            }
                        }
                        _ => assert_eq!(value, &b[name], "{path}: {name}"),
                    }
                }
            }
        }
        let row = format!("/shop/{table}/5.json?_shape=objects");
        assert_eq!(stack.get(&row).token(&token).send().rows(), stack.direct(&row).send().rows());
    }
}
