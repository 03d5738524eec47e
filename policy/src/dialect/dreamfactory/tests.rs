use super::{emit, parse};
use crate::{
    Name,
    bundle::{Component, Field, FieldSet, Parameter, Relation, Service, Upstream},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{Parsed, Rewrite, Syntax},
    predicate::{CompareOp, Predicate, Resolved},
    request::{Clause, Header, HttpRequest, Verb, WriteKind},
    transform::{PathStep, RowShape},
    value::{FieldType, Literal},
};
use doorward_proto::v1::{AuditMode, Dialect, Enforcement, HiddenField};
use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Sql};
use std::{collections::HashMap, sync::Arc};

const PREFIX: &str = "/api/v2/mysql_production";

fn component(name: &str, fields: &[(&str, FieldType)], relations: &[(&str, &str)]) -> (Name, Arc<Component>) {
    let mut fields: Vec<Field> = fields
        .iter()
        .map(|(name, field_type)| Field { name: (*name).into(), field_type: *field_type, class: "".into() })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let all = FieldSet::new(fields.iter().map(|field| field.name.clone()).collect());
    let component = Component {
        name: name.into(),
        key: if fields.is_empty() { Vec::new() } else { vec!["id".into()] },
        all_fields: Arc::new(all),
        fields,
        relations: relations.iter().map(|(n, c)| Relation { name: (*n).into(), component: (*c).into() }).collect(),
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
            component("_proc/get_summary", &[], &[]),
        ]
        .into_iter()
        .collect(),
        upstream: Upstream::default(),
        max_body_bytes: None,
        record_request_text: false,
        case_insensitive: true,
        files: false,
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
    let Syntax::DreamFactory(syntax) = &parsed.syntax else { panic!("another dialect") };
    emit(&service(), PREFIX, syntax, &parsed.request, &Constraints { operations })
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

#[test]
fn whatever_is_not_understood_is_denied() {
    let code = |result: Result<Parsed, Denial>| result.map(|_| ()).unwrap_err().code;
    for path in [
        "/_table/customers/",
        "//_table/customers",
        "/_table//customers",
        "/_table/%2e%2e/users",
        "/_table/../users",
        "/_table/customers%2Fusers",
        "/_table/customers%5Cusers",
        "/_table/customers;x",
        "/_table/customers%3Bx",
        "/_table/customers%2528",
        "/_table/customers%00",
        "/_table/customers%ff",
        "/_table/customers%2",
        "/_table/customers()",
        "/_table/customers(1)",
        "/_table/customers%20",
        "/_table/'customers'",
        "/_table/customers/1/2",
        "/_other/customers",
        "",
        "/",
        "/_schema/customers/email",
        "/_table/customers?unknown=1",
        "/_table/customers?Filter=id%3E0",
        "/_table/customers?fields=id&fields=ssn",
        "/_table/customers?fields=id&select=ssn",
        "/_table/customers?filter=id%3E0&where=id%3E1",
        "/_table/customers?top=1&limit=2",
        "/_table/customers?order=id&sort=ssn",
        "/_table/customers?api_key=x",
        "/_table/customers?session_token=x",
        "/_table/customers?limit=-1",
        "/_table/customers?limit=1e3",
        "/_table/customers?fields=",
        "/_table/customers?fields=id,",
        "/_table/customers?fields=id;ssn",
        "/_table/customers?fields=SUM(score)",
        "/_table/customers?order=id;ssn",
        "/_table/customers?order=id%20sideways",
        "/_table/customers?method=DELETE",
        "/_table/customers?_method=DELETE",
        "/_table/customers?related=*",
        "/_table/customers?related=secrets",
        "/_table/customers?orders_by_customer_id.fields=id",
        "/_table/customers?orders_by_customer_id_fields=id",
        "/_table/customers?filter=id%3D:x",
    ] {
        assert_eq!(code(get(path)), Code::Unparsable, "{path}");
    }
    for path in [
        "/_table/customers?include_schema=true",
        "/_table/customers?as_list=true",
        "/_table/customers?having=SUM(score)%3E1",
        "/_table/customers?group=region&fields=EVIL(score)",
        "/_table/customers?id_field=ssn&ids=1",
        "/_table/customers?ids=1&filter=id%3E0",
        "/_table/customers/1?ids=2",
        "/_table/customers/%7Buser.id%7D",
        "/_table/customers?ids=%7Buser.id%7D",
        "/_schema/customers?refresh=true",
    ] {
        assert_eq!(code(get(path)), Code::Unsupported, "{path}");
    }
}

#[test]
fn filters_that_break_out_or_look_up_are_denied() {
    for filter in [
        "id>0) OR (id>0",
        "(id>0",
        "id>0)",
        "id = 'a",
        "id = \"a",
        "id = 1 OR",
        "id",
        "id = NULL",
        "id = now()",
        "id = (select 1)",
        "region = '{user.email}'",
        "region = {session.token}",
        "region = {app.api_key}",
        "region = '(now())'",
        "region = west east",
        "1 = 1",
        "id = 1; drop",
        "id = 1 -- x",
        "id = 1 /* x */",
        "t.id = 1",
        "`id` = 1",
        "id IN 1",
        "id IN ()",
        "id ALL (1)",
        "id BETWEEN 1 AND 2",
        "id = :p0",
        "'id' = 1",
    ] {
        assert!(filtered(filter).is_err(), "{filter}");
    }
    let deep = format!("{}id = 1{}", "(".repeat(200), ")".repeat(200));
    assert!(filtered(&deep).is_err());
    let wide = vec!["id = 1"; 5000].join(" OR ");
    assert!(filtered(&wide).is_err());
    let doubling = vec!["id = 1"; 40].join(" XOR ");
    assert!(filtered(&doubling).is_err());
}

#[test]
fn a_literal_that_holds_an_operator_stays_a_literal() {
    let parsed = filtered("(region = 'x) OR (region != ''y') AND id > 3").unwrap();
    let rewrite = run(&parsed, vec![limited(Some(equals("region", "a) OR (b")), &["id"])]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("((region = :p0) AND (id > 3)) AND (region = :p1)"));
    assert_eq!(parameter(&rewrite, "params[:p0]").as_deref(), Some("x) OR (region != 'y"));
    assert_eq!(parameter(&rewrite, "params[:p1]").as_deref(), Some("a) OR (b"));
}

#[test]
fn a_policy_value_that_dreamfactory_would_interpret_denies() {
    let parsed = get("/_table/customers").unwrap();
    for value in ["{session.token}", "(sleep(1))", "'x'", "\"x\"", "", " x", "x\u{0}"] {
        let denied = run(&parsed, vec![limited(Some(equals("region", value)), &["id"])]).unwrap_err();
        assert_eq!(denied.code, Code::RowDenied, "{value}");
    }
    let like = Predicate::Like { field: "region".into(), negated: true, pattern: "a\\%".into() };
    assert_eq!(run(&parsed, vec![limited(Some(like), &["id"])]).unwrap_err().code, Code::RowDenied);
}

#[test]
fn no_projection_becomes_the_visible_fields_and_the_cap_is_set() {
    let visible = ["id", "first_name", "region"];
    let parsed = get("/_table/Customers?limit=5000&filter=region%20eq%20west&include_count=true").unwrap();
    assert_eq!(&*parsed.request.operations[0].component, "_table/customers");
    let mut constraints = limited(Some(equals("status", "active")), &visible);
    constraints.max_rows = Some(1000);
    let rewrite = run(&parsed, vec![constraints]).unwrap();
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("first_name,id,region"));
    assert_eq!(parameter(&rewrite, "limit").as_deref(), Some("1000"));
    assert_eq!(parameter(&rewrite, "include_count").as_deref(), Some("true"));
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(region = :p0) AND (status = :p1)"));
    assert!(rewrite.response.hide_error_bodies);
    let site = &rewrite.response.sites[0];
    assert_eq!(site.path, [PathStep::Member("resource".into()), PathStep::Elements]);
    assert_eq!(site.shape, RowShape::Object);
    assert!(!site.visible.contains("ssn"));
    assert!(rewrite.remove_headers.iter().any(|name| name == "if-none-match"));
}

#[test]
fn every_use_of_a_field_is_named_with_its_clause() {
    let parsed = get(
        "/_table/customers?select=ID,SUM(SCORE),COUNT(*)&where=(Email%20like%20%27a%25%27)%26%26(SSN%20IS%20NOT%20NULL)\
         &sort=first_name%20desc&group_by=Region&top=3",
    )
    .unwrap();
    let operation = &parsed.request.operations[0];
    let uses: Vec<(&str, Clause)> = operation.fields.iter().map(|used| (&*used.field, used.clause)).collect();
    assert_eq!(
        uses,
        [
            ("id", Clause::Project),
            ("score", Clause::Aggregate),
            ("first_name", Clause::Sort),
            ("region", Clause::Group),
            ("email", Clause::Filter),
            ("ssn", Clause::Filter),
        ]
    );
    assert_eq!(operation.limit, Some(3));
    let rewrite = run(&parsed, vec![open(&service(), "_table/customers")]).unwrap();
    let site = &rewrite.response.sites[0];
    assert!(site.visible.contains("SUM_score") && site.visible.contains("COUNT_ALL"));
}

#[test]
fn omitted_fields_leave_the_projection_and_a_projection_of_nothing_is_denied() {
    let parsed = get("/_table/customers?fields=id,ssn").unwrap();
    let mut constraints = limited(None, &["id"]);
    assert_eq!(run(&parsed, vec![constraints.clone()]).unwrap_err().code, Code::FieldDenied);
    constraints.omitted = vec!["ssn".into()];
    let rewrite = run(&parsed, vec![constraints.clone()]).unwrap();
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("id"));
    constraints.omitted = vec!["ssn".into(), "id".into()];
    assert_eq!(run(&parsed, vec![constraints]).unwrap_err().code, Code::FieldDenied);
}

#[test]
fn rows_named_by_key_are_limited_as_a_filter_or_not_at_all() {
    let one = get("/_table/customers/7").unwrap();
    assert!(!one.request.operations[0].capabilities.rows);
    assert_eq!(run(&one, vec![limited(Some(equals("region", "west")), &["id"])]).unwrap_err().code, Code::RowDenied);
    let rewrite = run(&one, vec![open(&service(), "_table/customers")]).unwrap();
    assert!(rewrite.path.as_deref().unwrap().starts_with("/api/v2/mysql_production/_table/customers/7?"));
    assert!(rewrite.response.sites[0].path.is_empty());
    let several = get("/_table/customers?ids=7,8,%20x").unwrap();
    let rewrite = run(&several, vec![limited(Some(equals("region", "west")), &["id"])]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(id IN (7,8,:p0)) AND (region = :p1)"));
    assert_eq!(parameter(&rewrite, "ids"), None);
    let rewrite = run(&several, vec![open(&service(), "_table/customers")]).unwrap();
    assert_eq!(parameter(&rewrite, "ids").as_deref(), Some("7,8,x"));
}

#[test]
fn method_overrides_mean_what_they_say_once() {
    let service = service();
    for (headers, path, verb) in [
        (vec![("x-http-method", "GET")], "", Verb::Get),
        (vec![("x-method-override", "delete")], "", Verb::Delete),
        (vec![("x-http-method-override", "MERGE")], "", Verb::Patch),
        (vec![], "&method=PUT", Verb::Put),
        (vec![], "&_method=PATCH", Verb::Patch),
    ] {
        let body = if matches!(verb, Verb::Put | Verb::Patch) { r#"{"resource":[{"status":"x"}]}"# } else { "" };
        let path = format!("/_table/customers?filter=id%3D1{path}");
        let parsed = ask(&service, "POST", &path, &headers, body).unwrap();
        assert_eq!(parsed.request.operations[0].verb, verb);
        let rewrite = run(&parsed, vec![limited(Some(equals("region", "west")), &["id"])]).unwrap();
        let set: Vec<_> = rewrite.set_headers.iter().filter(|(name, _)| name == "x-http-method").collect();
        assert_eq!(set.len(), 1);
        assert_eq!(set[0].1, crate::request::verb_name(verb));
        assert!(!rewrite.path.as_deref().unwrap().contains("method="));
        assert!(rewrite.remove_headers.iter().any(|name| name == "x-method-override"));
    }
    let twice = [("x-http-method", "GET"), ("x-method-override", "DELETE")];
    assert!(ask(&service, "POST", "/_table/customers", &twice, "").is_err());
    assert!(ask(&service, "POST", "/_table/customers?method=GET", &[("x-http-method", "GET")], "").is_err());
    assert!(ask(&service, "GET", "/_table/customers", &[("x-http-method", "DELETE")], "").is_err());
    assert!(ask(&service, "POST", "/_table/customers", &[("x-http-method", "TRACE")], "").is_err());
    assert!(ask(&service, "POST", "/_table/customers", &[], r#"{"_method":"DELETE","resource":[{"id":1}]}"#).is_err());
    assert!(ask(&service, "PATCH", "/_table/customers/1", &[], r#"{"_method":"DELETE"}"#).is_err());
    assert!(ask(&service, "MERGE", "/_table/customers/1", &[], r#"{"status":"x"}"#).is_err());
}

#[test]
fn a_post_that_means_get_takes_its_options_from_the_body() {
    let body = r#"{"filter":"region = :r AND score > :s","params":{":r":"we'st","s":5},"fields":["id"],"limit":2}"#;
    let parsed = ask(&service(), "POST", "/_table/customers", &[("x-http-method", "GET")], body).unwrap();
    let rewrite = run(&parsed, vec![limited(Some(equals("status", "active")), &["id"])]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("((region = :p0) AND (score > 5)) AND (status = :p1)"));
    assert_eq!(parameter(&rewrite, "params[:p0]").as_deref(), Some("we'st"));
    assert_eq!(parameter(&rewrite, "limit").as_deref(), Some("2"));
    assert_eq!(rewrite.body.as_deref(), Some(&b""[..]));
    let both = ask(&service(), "POST", "/_table/customers?limit=1", &[("x-http-method", "GET")], r#"{"top":9}"#);
    assert_eq!(both.unwrap_err().code, Code::Unparsable);
}

#[test]
fn hostile_bodies_are_denied() {
    let service = service();
    for body in [
        r#"{"resource":[{"status":"a","status":"b"}]}"#,
        r#"{"resource":[{"status":"a","STATUS":"b"}]}"#,
        r#"{"resource":[{"status":{"expression":"(select 1)"}}]}"#,
        r#"{"resource":[{"extra":{"expression":{"value":"now()"}}}]}"#,
        r#"{"resource":[{"status":"{session.token}"}]}"#,
        r#"{"resource":[{"extra":["{user.email}"]}]}"#,
        r#"{"resource":[{"score":"abc"}]}"#,
        r#"{"resource":[{"orders_by_customer_id":[{"id":1}]}]}"#,
        r#"{"resource":[{"id":1}],"related":"orders_by_customer_id"}"#,
        r#"{"resource":[1]}"#,
        r#"{"resource":[]}"#,
        r#"{"resource":[{}]}"#,
        r#"{"filter":"id>0","status":"x"}"#,
        r#"{"sort":"id","status":"x"}"#,
        r#"[{"status":"a"},1]"#,
        r#""text""#,
        r#"{"resource":[{"status":"a"}]} x"#,
        "status=a",
    ] {
        assert!(ask(&service, "POST", "/_table/customers", &[], body).is_err(), "{body}");
    }
    let good = r#"{"resource":[{"status":"a"}]}"#;
    for header in [
        ("content-type", "text/csv"),
        ("content-encoding", "gzip"),
        ("content-type", "application/json; charset=utf-7"),
    ] {
        assert!(ask(&service, "POST", "/_table/customers", &[header], good).is_err());
    }
    assert!(ask(&service, "GET", "/_table/customers", &[], good).is_err());
    let deep = format!(r#"{{"resource":[{{"extra":{}1{}}}]}}"#, "[".repeat(60), "]".repeat(60));
    assert!(ask(&service, "POST", "/_table/customers", &[], &deep).is_err());
    let mut small = service;
    small.max_body_bytes = Some(8);
    assert_eq!(ask(&small, "POST", "/_table/customers", &[], good).unwrap_err().code, Code::TooLarge);
}

#[test]
fn writes_say_what_they_do() {
    let service = service();
    let kind = |method: &str, path: &str, body: &str| {
        let parsed = ask(&service, method, path, &[], body).unwrap();
        let operation = &parsed.request.operations[0];
        (operation.write, operation.capabilities.rows)
    };
    let record = r#"{"resource":[{"status":"x"}]}"#;
    assert_eq!(kind("POST", "/_table/customers", record), (WriteKind::Create, true));
    assert_eq!(kind("POST", "/_table/customers", r#"{"status":"x"}"#), (WriteKind::Create, true));
    assert_eq!(kind("PATCH", "/_table/customers?filter=id%3D1", record), (WriteKind::Update, true));
    assert_eq!(kind("PUT", "/_table/customers?ids=1,2", record), (WriteKind::Update, true));
    assert_eq!(kind("PUT", "/_table/customers/1", r#"{"status":"x"}"#), (WriteKind::Replace, false));
    assert_eq!(
        kind("PATCH", "/_table/customers", r#"{"resource":[{"id":1,"status":"x"}]}"#),
        (WriteKind::Replace, false)
    );
    assert_eq!(kind("DELETE", "/_table/customers?filter=id%3D1", ""), (WriteKind::Delete, true));
    assert_eq!(kind("DELETE", "/_table/customers", r#"{"ids":[1,2]}"#), (WriteKind::Delete, true));
    assert_eq!(kind("DELETE", "/_table/customers/1", ""), (WriteKind::Delete, false));
    assert_eq!(kind("DELETE", "/_table/customers?force=true", ""), (WriteKind::Delete, false));
    assert!(ask(&service, "DELETE", "/_table/customers", &[], "").is_err());
    assert!(ask(&service, "DELETE", "/_table/customers", &[], record).is_err());
    assert!(ask(&service, "PATCH", "/_table/customers", &[], record).is_err());
    assert!(ask(&service, "POST", "/_table/customers?filter=id%3D1", &[], record).is_err());
}

#[test]
fn presets_go_into_every_row_and_updates_by_ids_become_filters() {
    let body = r#"{"resource":[{"Status":"x","score":"1.5","active":1}]}"#;
    let parsed = ask(&service(), "PATCH", "/_table/customers?ids=1,2", &[], body).unwrap();
    let mut constraints = limited(Some(equals("region", "west")), &["id"]);
    constraints.set = vec![
        ("region".into(), Literal::String("west".into()), false),
        ("status".into(), Literal::String("y".into()), true),
    ];
    let rewrite = run(&parsed, vec![constraints.clone()]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(id IN (1,2)) AND (region = :p0)"));
    assert_eq!(
        rewrite.body.as_deref(),
        Some(&br#"{"resource":[{"status":"y","score":1.5,"active":true,"region":"west"}]}"#[..])
    );
    constraints.set = vec![("region".into(), Literal::String("{user.x}".into()), true)];
    assert_eq!(run(&parsed, vec![constraints]).unwrap_err().code, Code::Unsupported);
}

#[test]
fn related_rows_are_operations_of_their_own() {
    let parsed =
        get("/_table/customers?fields=id&related=orders_by_customer_id&orders_by_customer_id.limit=50").unwrap();
    let nested = &parsed.request.operations[1];
    assert_eq!((&*nested.component, nested.parent, nested.capabilities.rows), ("_table/orders", Some(0), false));
    let mut orders = limited(None, &["id", "total"]);
    orders.max_rows = Some(10);
    let rewrite = run(&parsed, vec![limited(None, &["id"]), orders.clone()]).unwrap();
    assert_eq!(parameter(&rewrite, "orders_by_customer_id.fields").as_deref(), Some("id,total"));
    assert_eq!(parameter(&rewrite, "orders_by_customer_id.limit").as_deref(), Some("10"));
    assert_eq!(rewrite.response.sites[0].nested, ["orders_by_customer_id".into()]);
    let steps = [
        PathStep::Member("resource".into()),
        PathStep::Elements,
        PathStep::Member("orders_by_customer_id".into()),
        PathStep::Elements,
    ];
    assert_eq!(rewrite.response.sites[1].path, steps);
    orders.rows = Some(equals("id", "1"));
    assert_eq!(run(&parsed, vec![limited(None, &["id"]), orders]).unwrap_err().code, Code::RowDenied);
}

#[test]
fn a_schema_is_shown_only_to_who_sees_the_whole_table() {
    let service = service();
    let parsed = get("/_schema/Customers").unwrap();
    let names: Vec<&str> = parsed.request.operations.iter().map(|operation| &*operation.component).collect();
    assert_eq!(names, ["_schema/customers", "_table/customers"]);
    let own = open(&service, "_schema/customers");
    assert!(run(&parsed, vec![own.clone(), open(&service, "_table/customers")]).is_ok());
    assert_eq!(run(&parsed, vec![own, limited(None, &["id"])]).unwrap_err().code, Code::FieldDenied);
    assert!(ask(&service, "POST", "/_schema/customers", &[], r#"{"field":[]}"#).is_err());
}

#[test]
fn procedures_take_declared_arguments_of_their_types() {
    let service = service();
    let open = || open(&service, "_proc/get_summary");
    let parsed = get("/_proc/get_summary?year=2020").unwrap();
    let rewrite = run(&parsed, vec![open()]).unwrap();
    assert_eq!(rewrite.path.as_deref(), Some("/api/v2/mysql_production/_proc/get_summary?year=2020"));
    let parsed =
        ask(&service, "POST", "/_proc/get_summary", &[], r#"{"params":[{"name":"year","value":2020}]}"#).unwrap();
    let mut constraints = open();
    constraints.arguments = vec![("year".into(), Literal::Integer(2021))];
    let rewrite = run(&parsed, vec![constraints]).unwrap();
    assert_eq!(rewrite.body.as_deref(), Some(&br#"{"params":[{"name":"year","value":2021}]}"#[..]));
    for path in ["/_proc/get_summary?year=x", "/_proc/get_summary?month=1", "/_proc/get_summary(2020)"] {
        assert!(get(path).is_err(), "{path}");
    }
    assert!(ask(&service, "DELETE", "/_proc/get_summary", &[], "").is_err());
    assert!(ask(&service, "POST", "/_proc/get_summary?year=1", &[], r#"{"params":{"year":2}}"#).is_err());
}

#[test]
fn file_services_know_paths_only() {
    let files = Service { files: true, case_insensitive: false, ..service() };
    let parsed = ask(&files, "GET", "/reports/2024/Q1.pdf", &[], "").unwrap();
    assert_eq!(&*parsed.request.operations[0].component, "reports/2024/Q1.pdf");
    let rewrite = run(&parsed, vec![open(&files, "reports/2024/Q1.pdf")]);
    // `run` proves against the table service, so only the parse is checked against the file service.
    assert!(rewrite.is_err());
    let Syntax::DreamFactory(syntax) = &parsed.syntax else { panic!("another dialect") };
    let constraints = Constraints { operations: vec![open(&files, "reports/2024/Q1.pdf")] };
    let rewrite = emit(&files, PREFIX, syntax, &parsed.request, &constraints).unwrap();
    assert_eq!(rewrite.path.as_deref(), Some("/api/v2/mysql_production/reports/2024/Q1.pdf"));
    for path in [
        "/reports/../secret",
        "/reports/%2e%2e/secret",
        "/reports/a%2Fb",
        "/reports/?zip=true",
        "/reports/x?url=http",
        "/",
    ] {
        assert!(ask(&files, "GET", path, &[], "").is_err(), "{path}");
    }
    assert!(ask(&files, "POST", "/reports/", &[], "{}").is_err());
    assert!(ask(&files, "POST", "/reports/x", &[("x-file-name", "../y")], "{}").is_err());
    assert!(ask(&files, "PUT", "/reports/x", &[], "data").is_ok());
}

/// What DreamFactory makes of a filter, read from its behaviour: it splits at `) AND (` and the like wherever they stand, reads
/// `field OP value` between the splits, and puts everything together again as SQL text.
fn upstream(filter: &str, parameters: &HashMap<String, String>, bound: &mut Vec<Sql>) -> Option<String> {
    let filter = filter.trim();
    let find = |text: &str, what: &str| text.to_ascii_lowercase().find(&what.to_ascii_lowercase());
    for op in ["&&", "AND", "||", "OR", "NOR", "XOR"] {
        let filter = filter.replace(&format!("){op}("), &format!(") {op} ("));
        let padded = format!(") {op} (");
        if let Some(at) = find(&filter, &padded) {
            let left = upstream(&format!("{})", filter[..at].trim()), parameters, bound)?;
            let right = upstream(&format!("({}", filter[at + padded.len()..].trim()), parameters, bound)?;
            return Some(format!("{left} {} {right}", op.replace("&&", "AND").replace("||", "OR")));
        }
    }
    if find(filter, "NOT(") == Some(0) || find(filter, "NOT (") == Some(0) {
        return Some(format!("NOT {}", upstream(filter[3..].trim(), parameters, bound)?));
    }
    let wrapped = filter.starts_with('(') && filter.ends_with(')');
    let inner = if wrapped { &filter[1..filter.len() - 1] } else { filter };
    let pure = inner.trim_matches(|c| c == '(' || c == ')');
    let at = inner.find(pure)?;
    let (left, mut right) = (inner[..at].to_owned(), inner[at + pure.len()..].to_owned());
    let operators = [
        ">=",
        "<=",
        "!=",
        "=",
        "<>",
        ">",
        "<",
        " GTE ",
        " LTE ",
        " NE ",
        " EQ ",
        " GT ",
        " LT ",
        "NOT IN",
        " IN ",
        " LIKE ",
        "IS NULL",
        "IS NOT NULL",
    ];
    for op in operators {
        let Some(at) = find(pure, op) else { continue };
        let mut field = pure[..at].trim();
        let negated = field.to_ascii_uppercase().ends_with(" NOT");
        if negated {
            field = &field[..field.len() - 4];
        }
        let integer = match field.to_ascii_lowercase().as_str() {
            "id" | "active" => true,
            "region" | "status" | "score" => false,
            _ => return None,
        };
        let mut value = pure[at + op.len()..].trim().to_owned();
        let missing = value.matches('(').count().saturating_sub(value.matches(')').count());
        if !value.starts_with('\'') {
            value.push_str(&")".repeat(missing));
            right = right[missing.min(right.len())..].to_owned();
        }
        let mut bind = |text: &str| {
            let text = parameters.get(text).map_or(text, String::as_str);
            let quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
            let text = if quoted('\'') || quoted('"') { &text[1..text.len() - 1] } else { text };
            if text.starts_with('(') && text.ends_with(')') {
                return text.to_owned();
            }
            bound.push(if integer { Sql::Integer(text.parse().unwrap_or(0)) } else { Sql::Text(text.to_owned()) });
            "?".to_owned()
        };
        let value = match op.trim() {
            "IN" | "NOT IN" => {
                let list = value.strip_prefix('(')?.strip_suffix(')')?;
                format!("({})", list.split(',').map(|part| bind(part.trim())).collect::<Vec<_>>().join(","))
            }
            "IS NULL" | "IS NOT NULL" => String::new(),
            _ => bind(&value),
        };
        let not = if negated { "NOT " } else { "" };
        let out = format!("{left}{field} {not}{} {value}{right}", op.trim());
        return Some(if wrapped { format!("({out})") } else { out });
    }
    None
}

#[derive(Clone, Debug)]
struct Row {
    id: i64,
    region: Option<String>,
    status: Option<String>,
    active: Option<bool>,
}

fn database(rows: &[Row]) -> Connection {
    let database = Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "PRAGMA case_sensitive_like = ON; CREATE TABLE customers (id INTEGER, region TEXT, status TEXT, active INTEGER);",
        )
        .unwrap();
    for row in rows {
        database
            .execute("INSERT INTO customers VALUES (?, ?, ?, ?)", (row.id, &row.region, &row.status, row.active))
            .unwrap();
    }
    database
}

/// The rows that the rewritten request returns.
fn returned(rewrite: &Rewrite, rows: &[Row], server: Option<&str>) -> Vec<i64> {
    let query = query(rewrite);
    let parameters = query
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("params[")?.strip_suffix(']')?.to_owned(), value.clone())))
        .collect();
    let filter = query.iter().find(|(name, _)| name == "filter").map(|(_, value)| value.clone()).unwrap();
    let filter = server.map_or(filter.clone(), |server| format!("({filter}) AND ({server})"));
    let mut bound = Vec::new();
    let sql = upstream(&filter, &parameters, &mut bound).unwrap_or_else(|| panic!("refused upstream: {filter}"));
    let database = database(rows);
    let mut statement = database.prepare(&format!("SELECT id FROM customers WHERE {sql} ORDER BY id")).unwrap();
    statement.query_map(rusqlite::params_from_iter(bound), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The slow obvious evaluator, in three-valued logic.
fn holds(rows: &Resolved, row: &Row) -> Option<bool> {
    let value = |field: &str| -> Option<Literal> {
        match field {
            "id" => Some(Literal::Integer(row.id)),
            "region" => row.region.as_deref().map(|text| Literal::String(text.into())),
            "status" => row.status.as_deref().map(|text| Literal::String(text.into())),
            _ => row.active.map(Literal::Boolean),
        }
    };
    let compare = |a: &Literal, b: &Literal| match (a, b) {
        (Literal::Integer(a), Literal::Integer(b)) => a.cmp(b),
        (Literal::String(a), Literal::String(b)) => a.cmp(b),
        (Literal::Boolean(a), Literal::Boolean(b)) => a.cmp(b),
        _ => panic!("types differ"),
    };
    match rows {
        Predicate::Constant(value) => Some(*value),
        Predicate::Not(inner) => holds(inner, row).map(|value| !value),
        Predicate::And(all) => {
            let all: Vec<_> = all.iter().map(|inner| holds(inner, row)).collect();
            if all.contains(&Some(false)) {
                Some(false)
            } else if all.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
        Predicate::Or(all) => {
            let all: Vec<_> = all.iter().map(|inner| holds(inner, row)).collect();
            if all.contains(&Some(true)) {
                Some(true)
            } else if all.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Predicate::Compare { field, op, value: right, .. } => value(field).map(|left| {
            let order = compare(&left, right);
            match op {
                CompareOp::Eq => order.is_eq(),
                CompareOp::Ne => order.is_ne(),
                CompareOp::Lt => order.is_lt(),
                CompareOp::Le => order.is_le(),
                CompareOp::Gt => order.is_gt(),
                _ => order.is_ge(),
            }
        }),
        Predicate::In { values, .. } if values.is_empty() => Some(false),
        Predicate::In { field, negated, values, .. } => {
            value(field).map(|left| values.iter().any(|right| compare(&left, right).is_eq()) != *negated)
        }
        Predicate::Like { field, negated, pattern } => value(field).map(|left| {
            let Literal::String(text) = left else { panic!("not a string") };
            let text: Vec<char> = text.chars().collect();
            like(&text, &pattern.chars().collect::<Vec<_>>()) != *negated
        }),
        Predicate::IsNull { field, negated } => Some(value(field).is_none() != *negated),
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.first() {
        None => text.is_empty(),
        Some('%') => (0..=text.len()).any(|at| like(&text[at..], &pattern[1..])),
        Some('_') => !text.is_empty() && like(&text[1..], &pattern[1..]),
        Some(c) => text.first() == Some(c) && like(&text[1..], &pattern[1..]),
    }
}

const WORDS: [&str; 9] = ["west", "a) OR (b", "o'x", "it \"is\"", "&& ||", ":p0", "NOT IN", "50%", "= id"];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(&WORDS[..]).prop_map(str::to_owned)
}

fn row() -> impl Strategy<Value = Row> {
    (0..6_i64, prop::option::of(word()), prop::option::of(word()), prop::option::of(any::<bool>()))
        .prop_map(|(id, region, status, active)| Row { id, region, status, active })
}

fn operator() -> impl Strategy<Value = CompareOp> {
    prop::sample::select(vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge])
}

fn predicate(constants: bool) -> BoxedStrategy<Resolved> {
    let text = || prop::sample::select(vec!["region", "status"]);
    let string = |text: String| Literal::String(text.into());
    let least = usize::from(!constants);
    let leaf = prop_oneof![
        (text(), operator(), word()).prop_map(move |(field, op, value)| Predicate::Compare {
            field: field.into(),
            field_type: FieldType::String,
            op,
            value: string(value),
        }),
        (operator(), -3..6_i64).prop_map(|(op, value)| Predicate::Compare {
            field: "id".into(),
            field_type: FieldType::Integer,
            op,
            value: Literal::Integer(value),
        }),
        (text(), any::<bool>(), prop::collection::vec(word(), least..3)).prop_map(move |(field, negated, values)| {
            let values = values.into_iter().map(string).collect();
            Predicate::In { field: field.into(), field_type: FieldType::String, negated, values }
        }),
        (text(), any::<bool>(), prop::sample::select(vec!["%s%", "w_st", "%", "a) OR (%"])).prop_map(
            |(field, negated, pattern)| Predicate::Like { field: field.into(), negated, pattern: pattern.into() }
        ),
        (text(), any::<bool>()).prop_map(|(field, negated)| Predicate::IsNull { field: field.into(), negated }),
    ];
    let leaf = if constants {
        prop_oneof![
            6 => leaf,
            1 => any::<bool>().prop_map(Predicate::Constant),
            1 => any::<bool>().prop_map(|value| Predicate::Compare {
                field: "active".into(),
                field_type: FieldType::Boolean,
                op: CompareOp::Eq,
                value: Literal::Boolean(value),
            }),
        ]
        .boxed()
    } else {
        leaf.boxed()
    };
    leaf.prop_recursive(4, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2 * least..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 2 * least..4).prop_map(Predicate::Or),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
    .boxed()
}

/// A predicate as a client would write it.
fn client_text(rows: &Resolved) -> String {
    let literal = |value: &Literal| match value {
        Literal::String(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Integer(value) => value.to_string(),
        _ => panic!("not used by clients"),
    };
    let join =
        |all: &[Resolved], op| all.iter().map(|inner| format!("({})", client_text(inner))).collect::<Vec<_>>().join(op);
    let not = |negated: bool| if negated { "not " } else { "" };
    match rows {
        Predicate::Constant(_) => panic!("not used by clients"),
        Predicate::And(all) => join(all, " && "),
        Predicate::Or(all) => join(all, " or "),
        Predicate::Not(inner) => format!("NOT ({})", client_text(inner)),
        Predicate::Compare { field, op, value, .. } => {
            let op = match op {
                CompareOp::Eq => " EQ ",
                CompareOp::Ne => "<>",
                CompareOp::Lt => "<",
                CompareOp::Le => " lte ",
                CompareOp::Gt => " > ",
                _ => ">=",
            };
            format!("{field}{op}{}", literal(value))
        }
        Predicate::In { field, negated, values, .. } => {
            format!("{field} {}in ({})", not(*negated), values.iter().map(literal).collect::<Vec<_>>().join(" , "))
        }
        Predicate::Like { field, negated, pattern } => {
            format!("{} {}LIKE '{pattern}'", field.to_uppercase(), not(*negated))
        }
        Predicate::IsNull { field, negated } => format!("{field} IS {}NULL", not(*negated)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rewritten_filter_returns_exactly_what_client_and_policy_both_select(
        client in predicate(false),
        policy in predicate(true),
        rows in prop::collection::vec(row(), 0..12),
    ) {
        let mut rows = rows;
        rows.iter_mut().zip(0..).for_each(|(row, id)| row.id = id);
        let parsed = filtered(&client_text(&client)).unwrap();
        let rewrite = run(&parsed, vec![limited(Some(policy.clone()), &["id"])]).unwrap();
        let selected = |row: &&Row| holds(&client, row) == Some(true) && holds(&policy, row) == Some(true);
        let expected: Vec<i64> = rows.iter().filter(selected).map(|row| row.id).collect();
        prop_assert_eq!(returned(&rewrite, &rows, None), expected);
        let west = |row: &&Row| row.status.as_deref() == Some("west");
        let expected: Vec<i64> = rows.iter().filter(selected).filter(west).map(|row| row.id).collect();
        prop_assert_eq!(returned(&rewrite, &rows, Some("(status = 'west')")), expected);
        // What was written parses to what it was written from.
        let again = ask(&service(), "GET", rewrite.path.as_deref().unwrap().strip_prefix(PREFIX).unwrap(), &[], "").unwrap();
        let once_more = run(&again, vec![limited(None, &["id"])]).unwrap();
        prop_assert_eq!(once_more.path, rewrite.path);
    }

    #[test]
    fn no_request_panics(method in "(GET|POST|PUT|PATCH|DELETE)", path in "(/_table/customers|/_proc/get_summary|/_schema/x|)[ -~é]{0,40}", body in "[ -~]{0,40}") {
        if let Ok(parsed) = ask(&service(), &method, &path, &[], &body) {
            let constraints = parsed.request.operations.iter().map(|_| limited(Some(equals("region", "west")), &["id"])).collect();
            if let Ok(rewrite) = run(&parsed, constraints) && parsed.request.operations[0].write == WriteKind::None {
                prop_assert!(parameter(&rewrite, "filter").unwrap().contains("region = :p"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_filter_text_widens_the_policy(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "id>0", "(id = 1)", "region = 'x'", "(status != 'west')", "NOT region = 'west'", "id", "region", "status", " = ", "=", ">", "0", "1", " OR ", " AND ", "(", ")", ") OR (", ")OR(", "'", "''", "\"", "west",
            " NOT ", " IN ", ",", ":p0", " LIKE ", "%", " IS NULL", "NOT(", " XOR ", " NOR ", "||", "&&", "--", ";", "{", "}", "\\",
        ]), 0..14),
        rows in prop::collection::vec(row(), 0..8),
    ) {
        let Ok(parsed) = filtered(&pieces.concat()) else { return Ok(()) };
        // Undeclared fields are denied before a request is written, and DreamFactory refuses them too.
        let declared = ["id", "region", "status"];
        if !parsed.request.operations[0].fields.iter().all(|used| declared.contains(&&*used.field)) {
            return Ok(());
        }
        let Ok(rewrite) = run(&parsed, vec![limited(Some(equals("region", "west")), &["id"])]) else { return Ok(()) };
        for id in returned(&rewrite, &rows, None) {
            prop_assert!(rows.iter().any(|row| row.id == id && row.region.as_deref() == Some("west")));
        }
    }
}
