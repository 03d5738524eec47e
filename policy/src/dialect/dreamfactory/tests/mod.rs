//! One service, and helpers that ask it; the rules are in the modules.

mod casts;
mod clients;
mod names;
mod reads;
mod resources;
mod rows;
mod upstream;
mod words;
mod writes;

use crate::{
    Name,
    bundle::{Component, Parameter, Relation, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{Parsed, Rewrite, emit, fixture::limits, parse},
    predicate::{CompareOp, Predicate, Resolved},
    request::{Clause, Header, HttpRequest, Verb, WriteKind},
    transform::{PathStep, RowShape},
    value::{FieldType, Literal, Size},
};
use doorward_proto::v1;
use doorward_test_support::schema;
use std::sync::Arc;

const PREFIX: &str = "/api/v2/mysql_production";

fn component(name: &str, fields: &[(&str, FieldType)], relations: &[(&str, &str)]) -> Component {
    let key: &[&str] = if fields.is_empty() { &[] } else { &["id"] };
    let relation = |(name, component): &(&str, &str)| Relation {
        name: (*name).into(),
        component: (*component).into(),
        local: Vec::new(),
        foreign: Vec::new(),
    };
    let year = Parameter {
        name: "year".into(),
        field_type: FieldType::Integer,
        required: false,
        allowed: Vec::new(),
        filters_field: None,
        body: false,
    };
    Component {
        relations: relations.iter().map(relation).collect(),
        parameters: if name.starts_with("_proc") { vec![year] } else { Vec::new() },
        ..schema::component(name, key, fields)
    }
}

/// One field of each numeric type, and a binary one.
fn typed() -> Component {
    let fields = [
        ("id", FieldType::Integer),
        ("level", FieldType::Integer),
        ("small", FieldType::Integer),
        ("price", FieldType::Decimal),
        ("score", FieldType::Number),
        ("photo", FieldType::Binary),
    ];
    let mut component = component("_table/typed", &fields, &[]);
    for field in &mut component.fields {
        field.size = match &*field.name {
            "small" => Size { bits: 8, ..Size::default() },
            "price" => Size { digits: 12, scale: 2, ..Size::default() },
            _ => Size::default(),
        };
    }
    component
}

fn service() -> Service {
    use FieldType::{Boolean, Integer, Json, Number, String};
    let customers: Vec<(&str, FieldType)> = vec![
        ("id", Integer),
        ("first_name", String),
        ("region", String),
        ("status", String),
        ("score", Number),
        ("active", Boolean),
        ("extra", Json),
        ("email", String),
        ("ssn", String),
    ];
    let components = [
        component("_table/customers", &customers, &[("orders_by_customer_id", "_table/orders")]),
        component("_table/orders", &[("id", Integer), ("total", Number), ("cost", Number)], &[]),
        component("_table/words", &words::COLUMNS.map(|name| (name, String)), &[]),
        typed(),
        component("_proc/get_summary", &[], &[]),
    ];
    let service = schema::service("mysql_production", v1::Dialect::Dreamfactory, components);
    Service { case_insensitive: true, ..service }
}

fn ask(service: &Service, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Parsed, Denial> {
    let mut all: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
        all.push(Header { name: "content-type", value: b"application/json" });
    }
    let path = format!("{PREFIX}{path}");
    let body = (!body.is_empty()).then_some(body.as_bytes());
    parse(
        service,
        PREFIX,
        &HttpRequest { method, authority: "a", path: &path, headers: &all, body, source_address: "" },
    )
}

fn get(path: &str) -> Result<Parsed, Denial> {
    ask(&service(), "GET", path, &[], "")
}

fn filtered(filter: &str) -> Result<Parsed, Denial> {
    let mut path = String::from("/_table/customers");
    super::path::push_parameter(&mut path, "filter", filter);
    get(&path)
}

fn open(service: &Service, component: &str) -> OperationConstraints {
    let visible = service.component(component).map(|component| component.all_fields.clone()).unwrap_or_default();
    OperationConstraints { visible, sees_all: true, ..limits(&[], None) }
}

fn limited(rows: Option<Resolved>, visible: &[&str]) -> OperationConstraints {
    limits(visible, rows)
}

fn run(parsed: &Parsed, operations: Vec<OperationConstraints>) -> Result<Rewrite, Denial> {
    emit(&service(), PREFIX, parsed, &Constraints { operations })
}

fn equals(field: &str, value: &str) -> Resolved {
    Predicate::Compare {
        field: field.into(),
        field_type: FieldType::String,
        op: CompareOp::Eq,
        value: Literal::String(value.into()),
    }
}

/// Query parameters of a rewritten request.
fn query(rewrite: &Rewrite) -> Vec<(String, String)> {
    super::path::split(PREFIX, rewrite.path.as_deref().unwrap()).unwrap().query
}

fn parameter(rewrite: &Rewrite, name: &str) -> Option<String> {
    query(rewrite).into_iter().find(|(have, _)| have == name).map(|(_, value)| value)
}
