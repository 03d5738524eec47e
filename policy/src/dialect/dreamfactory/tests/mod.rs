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
    bundle::{Component, Field, FieldSet, Parameter, Relation, Service, Upstream},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{Parsed, Rewrite, emit, parse},
    predicate::{CompareOp, Predicate, Resolved},
    request::{Clause, Header, HttpRequest, Verb, WriteKind},
    transform::{PathStep, RowShape},
    value::{FieldType, Literal, Size},
};
use doorward_proto::v1::{AuditMode, Dialect, Enforcement, HiddenField};
use std::sync::Arc;

const PREFIX: &str = "/api/v2/mysql_production";

fn component(name: &str, fields: &[(&str, FieldType)], relations: &[(&str, &str)]) -> (Name, Arc<Component>) {
    let mut fields: Vec<Field> = fields
        .iter()
        .map(|(name, field_type)| Field {
            name: (*name).into(),
            field_type: *field_type,
            size: Default::default(),
            class: "".into(),
        })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let all = FieldSet::new(fields.iter().map(|field| field.name.clone()).collect());
    let component = Component {
        name: name.into(),
        key: if fields.is_empty() { Vec::new() } else { vec!["id".into()] },
        all_fields: Arc::new(all),
        fields,
        relations: relations
            .iter()
            .map(|(n, c)| Relation {
                name: (*n).into(),
                component: (*c).into(),
                local: Vec::new(),
                foreign: Vec::new(),
            })
            .collect(),
        parameters: if name.starts_with("_proc") {
            vec![Parameter {
                name: "year".into(),
                field_type: FieldType::Integer,
                required: false,
                allowed: Vec::new(),
                filters_field: None,
                body: false,
            }]
        } else {
            Vec::new()
        },
        operations: Vec::new(),
    };
    (name.into(), Arc::new(component))
}

/// One field of each numeric type, and a binary one.
fn typed() -> (Name, Arc<Component>) {
    let fields = [
        ("id", FieldType::Integer),
        ("level", FieldType::Integer),
        ("small", FieldType::Integer),
        ("price", FieldType::Decimal),
        ("score", FieldType::Number),
        ("photo", FieldType::Binary),
    ];
    let (name, component) = component("_table/typed", &fields, &[]);
    let mut component = Arc::unwrap_or_clone(component);
    for field in &mut component.fields {
        field.size = match &*field.name {
            "small" => Size { bits: 8, ..Size::default() },
            "price" => Size { digits: 12, scale: 2, ..Size::default() },
            _ => Size::default(),
        };
    }
    (name, Arc::new(component))
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
    Service {
        name: "mysql_production".into(),
        dialect: Dialect::Dreamfactory,
        on_hidden_field: HiddenField::Deny,
        max_rows: None,
        audit: AuditMode::AuditAsync,
        enforcement: Enforcement::Enforce,
        components: [
            component("_table/customers", &customers, &[("orders_by_customer_id", "_table/orders")]),
            component("_table/orders", &[("id", Integer), ("total", Number), ("cost", Number)], &[]),
            component("_table/words", &words::COLUMNS.map(|name| (name, String)), &[]),
            typed(),
            component("_proc/get_summary", &[], &[]),
        ]
        .into_iter()
        .collect(),
        upstream: Upstream::default(),
        max_body_bytes: None,
        max_body_values: None,
        record_request_text: false,
        case_insensitive: true,
        files: false,
        resources_wrapper: "resource".into(),
        preflights: false,
    }
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
    OperationConstraints {
        rows: None,
        visible,
        sees_all: true,
        omitted: Vec::new(),
        masks: Arc::new([]),
        set: Vec::new(),
        max_rows: None,
        arguments: Vec::new(),
        check: None,
    }
}

fn limited(rows: Option<Resolved>, visible: &[&str]) -> OperationConstraints {
    let visible = FieldSet::new(visible.iter().map(|name| (*name).into()).collect());
    OperationConstraints { rows, visible: Arc::new(visible), sees_all: false, ..open(&service(), "_table/customers") }
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
