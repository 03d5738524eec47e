//! Hostile requests.

use crate::CUSTOMERS;
use doorward_tests::{
    Random,
    data::REGIONS,
    http::{self, Response},
};

pub fn escape(text: &str, random: &mut Random) -> String {
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

pub fn column(random: &mut Random, columns: &[&'static str]) -> String {
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

pub fn value(random: &mut Random) -> String {
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

pub fn condition(random: &mut Random, columns: &[&'static str]) -> String {
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

pub fn parameter(random: &mut Random, columns: &[&'static str]) -> (String, String) {
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
pub fn probe(random: &mut Random, columns: &[&'static str]) -> String {
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

pub fn hostile(random: &mut Random, columns: &[&'static str]) -> String {
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

pub fn ask(port: u16, path: &str, token: &str, header: Option<(&str, &str)>) -> Response {
    let request = http::get(port, path).token(token);
    match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    }
    .send()
}
