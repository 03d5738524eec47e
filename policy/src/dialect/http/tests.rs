use crate::{
    Name,
    bundle::{Component, Operation, Parameter, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{Parsed, Rewrite, emit, fixture::limits, parse},
    predicate::{CompareOp, Predicate, Resolved},
    request::{Clause, Header, HttpRequest, Projection, Verb, WriteKind},
    transform::PathStep,
    value::{FieldType, Literal},
};
use doorward_proto::v1;
use doorward_test_support::schema;
use proptest::prelude::*;

const PREFIX: &str = "/shop";

fn parameter(name: &str, field_type: FieldType, filters: Option<&str>) -> Parameter {
    Parameter {
        name: name.into(),
        field_type,
        required: false,
        allowed: Vec::new(),
        filters_field: filters.map(Name::from),
        body: name.starts_with('/'),
    }
}

fn service() -> Service {
    use FieldType::{Integer, String};
    let operation = |template: &str, verbs: &[Verb], parameters, rows_at: &str, single| Operation {
        template: template.into(),
        verbs: verbs.to_vec(),
        parameters,
        rows_at: rows_at.into(),
        single,
        beside: if rows_at.is_empty() { Vec::new() } else { vec!["/total".into()] },
    };
    let mut status = parameter("status", String, Some("status"));
    status.allowed = vec!["open".into(), "done".into()];
    let declared = [("id", Integer), ("note", String), ("region", String), ("status", String)];
    let orders = Component {
        operations: vec![
            operation(
                "/orders",
                &[Verb::Get],
                vec![parameter("limit", Integer, None), parameter("region", String, Some("region")), status],
                "/data/items",
                false,
            ),
            operation("/orders", &[Verb::Post], Vec::new(), "", true),
            operation(
                "/orders/search",
                &[Verb::Post],
                vec![parameter("/where/region", String, Some("region")), parameter("/page", Integer, None)],
                "/items",
                false,
            ),
            operation(
                "/orders/{id}",
                &[Verb::Get, Verb::Put, Verb::Patch, Verb::Delete],
                vec![parameter("id", Integer, Some("id"))],
                "",
                true,
            ),
            operation("/orders/latest", &[Verb::Get], Vec::new(), "", true),
        ],
        ..schema::component("orders", &["id"], &declared)
    };
    schema::service("shop", v1::Dialect::Http, [orders])
}

fn ask(method: &str, path: &str, body: &str) -> Result<Parsed, Denial> {
    let headers = [Header { name: "content-type", value: b"application/json" }];
    let path = format!("{PREFIX}{path}");
    let body = (!body.is_empty()).then_some(body.as_bytes());
    let request = HttpRequest { method, authority: "a", path: &path, headers: &headers, body, source_address: "" };
    parse(&service(), PREFIX, &request)
}

fn constraints(rows: Option<Resolved>) -> OperationConstraints {
    limits(&["id", "region"], rows)
}

fn run(parsed: &Parsed, own: OperationConstraints) -> Result<Rewrite, Denial> {
    emit(&service(), PREFIX, parsed, &Constraints { operations: vec![own] })
}

fn equals(field: &str, value: Literal) -> Resolved {
    let field_type = if field == "id" { FieldType::Integer } else { FieldType::String };
    Predicate::Compare { field: field.into(), field_type, op: CompareOp::Eq, value }
}

fn west() -> Resolved {
    equals("region", Literal::String("west".into()))
}

fn path(method: &str, asked: &str, body: &str, rows: Resolved) -> Result<String, Code> {
    run(&ask(method, asked, body).unwrap(), constraints(Some(rows)))
        .map(|rewrite| rewrite.path.unwrap())
        .map_err(|denial| denial.code)
}

#[test]
fn whatever_is_not_declared_is_denied() {
    for (method, path, body) in [
        ("GET", "/orders/", ""),
        ("GET", "/Orders", ""),
        ("GET", "/users", ""),
        ("GET", "/orders/1/items", ""),
        ("GET", "/orders/x", ""),
        ("GET", "/orders/..", ""),
        ("GET", "/orders/%2e%2e%2fusers", ""),
        ("GET", "//orders", ""),
        ("GET", "/orders?unknown=1", ""),
        ("GET", "/orders?region=a&region=b", ""),
        ("GET", "/orders?status=lost", ""),
        ("GET", "/orders?limit=many", ""),
        ("GET", "/orders/1?id=2", ""),
        ("GET", "/orders", "{}"),
        ("DELETE", "/orders/1", "{}"),
        ("DELETE", "/orders", ""),
        ("OPTIONS", "/orders", ""),
        ("HEAD", "/orders?unknown=1", ""),
        ("HEAD", "/orders", "{}"),
        ("GET", "/orders?_=x", ""),
        ("POST", "/orders", r#"{"id":1,"api_key":"x"}"#),
        ("POST", "/orders", r#"{"id":1,"Session-Token":"x"}"#),
        ("POST", "/orders", r#"[{"id":1},{"access_token":"x"}]"#),
        ("POST", "/orders", r#"{"id":1,"_method":"DELETE"}"#),
        ("POST", "/orders/search", r#"{"where":{"region":"a"},"api_key":"x"}"#),
        ("GET", "/orders?region.=a", ""),
        ("GET", "/orders?region[]=a", ""),
        ("GET", "/orders?+region=a", ""),
        ("POST", "/orders", ""),
        ("POST", "/orders", "1"),
        ("POST", "/orders", "[]"),
        ("POST", "/orders", r#"{"id":"x"}"#),
        ("POST", "/orders", r#"{"id":1,"id":2}"#),
        ("POST", "/orders/search", r#"{"where":{"region":"a","status":"b"}}"#),
        ("POST", "/orders/search", r#"{"where":{"region":["a"]}}"#),
        ("POST", "/orders/search", r#"{"page":"1"}"#),
    ] {
        assert!(ask(method, path, body).is_err(), "{method} {path} {body}");
    }
    let headers = [Header { name: "x-http-method-override", value: b"DELETE" }];
    let request = HttpRequest {
        method: "GET",
        authority: "",
        path: "/shop/orders",
        headers: &headers,
        body: None,
        source_address: "",
    };
    assert!(parse(&service(), PREFIX, &request).is_err());
}

#[test]
fn the_template_with_more_literals_goes_first() {
    let parsed = ask("GET", "/orders/latest", "").unwrap();
    assert!(parsed.request.operations[0].arguments.is_empty());
    assert!(!parsed.request.operations[0].capabilities.rows);
}

#[test]
fn rows_are_limited_by_a_declared_filter_or_denied() {
    assert_eq!(path("GET", "/orders?status=open", "", west()).unwrap(), "/shop/orders?status=open&region=west");
    assert_eq!(path("GET", "/orders?region=west", "", west()).unwrap(), "/shop/orders?region=west");
    assert_eq!(path("GET", "/orders?region=east", "", west()), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders?region=", "", west()), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders/5", "", equals("id", Literal::Integer(5))).unwrap(), "/shop/orders/5");
    assert_eq!(path("GET", "/orders/6", "", equals("id", Literal::Integer(5))), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders/5", "", west()), Err(Code::RowDenied));
    let note = equals("note", Literal::String("x".into()));
    assert_eq!(path("GET", "/orders", "", Predicate::And(vec![west(), note])), Err(Code::RowDenied));
    let several = Predicate::In {
        field: "region".into(),
        field_type: FieldType::String,
        negated: false,
        values: vec![Literal::String("west".into()), Literal::String("east".into())],
    };
    assert_eq!(path("GET", "/orders", "", several.clone()), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders?region=east", "", several).unwrap(), "/shop/orders?region=east");
    assert_eq!(path("GET", "/orders", "", Predicate::Not(Box::new(west()))), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders", "", Predicate::Constant(false)), Err(Code::RowDenied));
    assert_eq!(path("GET", "/orders", "", equals("region", Literal::String("".into()))), Err(Code::RowDenied));
    // A value that the service does not allow for the parameter cannot be sent.
    assert!(path("GET", "/orders", "", equals("status", Literal::String("lost".into()))).is_err());
    let body = r#"{"where":{"region":"west"},"page":1}"#;
    assert_eq!(path("POST", "/orders/search", body, west()).unwrap(), "/shop/orders/search");
    assert_eq!(path("POST", "/orders/search", r#"{"page":1}"#, west()), Err(Code::RowDenied));
}

/// Many servers take white space, and more, off the ends of a string: what they read is not what was compared.
#[test]
fn a_value_that_a_server_may_trim_satisfies_no_row_policy() {
    let not_west = || Predicate::Not(Box::new(west()));
    assert!(path("GET", "/orders?region=east", "", not_west()).is_ok());
    for region in ["%20west", "west%20", "west%C2%A0", "west%C2%AD", "%E2%81%A0west", "%20"] {
        assert_eq!(path("GET", &format!("/orders?region={region}"), "", not_west()), Err(Code::RowDenied), "{region}");
    }
    for region in ["west ", "\u{3000}west", "west\u{200d}"] {
        let body = format!(r#"{{"where":{{"region":"{region}"}}}}"#);
        assert_eq!(path("POST", "/orders/search", &body, not_west()), Err(Code::RowDenied), "{region:?}");
        // Nor can a check, or the policy itself, turn on one.
        let body = format!(r#"[{{"region":"west"}},{{"region":"{region}"}}]"#);
        let writes = &ask("POST", "/orders", &body).unwrap().request.operations[0].writes;
        assert!(writes[0].values[0].1.is_some() && writes[1].values[0].1.is_none(), "{region:?}");
        let rows = equals("region", Literal::String(region.into()));
        assert_eq!(path("GET", "/orders", "", rows), Err(Code::RowDenied), "{region:?}");
    }
}

#[test]
fn the_cap_goes_into_the_declared_limit() {
    for (asked, sent) in [("", "10"), ("?limit=5", "5"), ("?limit=50", "10"), ("?limit=0", "10"), ("?limit=-1", "10")] {
        let parsed = ask("GET", &format!("/orders{asked}"), "").unwrap();
        assert!(parsed.request.operations[0].capabilities.cap);
        let rewrite = run(&parsed, OperationConstraints { max_rows: Some(10), ..constraints(None) }).unwrap();
        assert_eq!(rewrite.path.unwrap(), format!("/shop/orders?limit={sent}"));
    }
}

#[test]
fn the_response_is_filtered_where_the_rows_are() {
    let rewrite = run(&ask("GET", "/orders", "").unwrap(), constraints(None)).unwrap();
    let site = &rewrite.response.sites[0];
    assert_eq!(site.path, [PathStep::Member("data".into()), PathStep::Member("items".into()), PathStep::Elements]);
    assert!(!site.visible.contains("note"));
    let rewrite = run(&ask("GET", "/orders/1", "").unwrap(), constraints(None)).unwrap();
    assert!(rewrite.response.sites[0].path.is_empty());
}

#[test]
fn writes_name_their_fields_and_take_presets_and_fixed_arguments() {
    let parsed = ask("POST", "/orders", r#"[{"id":"7","note":"a"},{"note":null}]"#).unwrap();
    let operation = &parsed.request.operations[0];
    assert_eq!(
        (operation.write, operation.projection, operation.writes.len()),
        (WriteKind::Create, Projection::All, 2)
    );
    assert_eq!(operation.fields.iter().filter(|used| used.clause == Clause::Write).count(), 2);
    let mut own = constraints(None);
    own.set = vec![("region".into(), Literal::String("west".into()), true)];
    let rewrite = run(&parsed, own).unwrap();
    assert_eq!(rewrite.body.unwrap(), br#"[{"id":7,"note":"a","region":"west"},{"note":null,"region":"west"}]"#);
    let kind = |method: &str| ask(method, "/orders/1", r#"{"note":"x"}"#).unwrap().request.operations[0].write;
    assert_eq!((kind("PUT"), kind("PATCH")), (WriteKind::Replace, WriteKind::Update));
    let mut own = constraints(Some(west()));
    own.arguments = vec![("/where/region".into(), Literal::String("west".into()))];
    let rewrite = run(&ask("POST", "/orders/search", r#"{"page":1}"#).unwrap(), own.clone()).unwrap();
    assert_eq!(rewrite.body.unwrap(), br#"{"page":1,"where":{"region":"west"}}"#);
    assert_eq!(run(&ask("GET", "/orders", "").unwrap(), own).unwrap_err().code, Code::Unsupported);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_panics_or_leaves_the_policys_rows(query in "[a-z=&%0-9+]{0,30}", value in "[a-z%&=+/? ]{1,8}") {
        let Ok(parsed) = ask("GET", &format!("/orders?{query}"), "") else { return Ok(()) };
        let rows = equals("region", Literal::String(value.as_str().into()));
        let Ok(rewrite) = run(&parsed, constraints(Some(rows))) else { return Ok(()) };
        let target = crate::dialect::shared::path::split(PREFIX, &rewrite.path.unwrap()).unwrap();
        let regions: Vec<&str> =
            target.query.iter().filter(|(name, _)| name == "region").map(|(_, value)| value.as_str()).collect();
        prop_assert_eq!(regions, [value.as_str()]);
    }
}

#[test]
fn a_head_is_decided_as_a_get_and_a_cache_buster_is_left_out() {
    let sent = |method, path| run(&ask(method, path, "").unwrap(), constraints(Some(west()))).unwrap().path.unwrap();
    assert_eq!(sent("HEAD", "/orders?status=open"), "/shop/orders?status=open&region=west");
    assert_eq!(sent("GET", "/orders?_=1712345678901"), "/shop/orders?region=west");
    assert_eq!(ask("HEAD", "/orders", "").unwrap().request.operations[0].verb, Verb::Get);
    assert_eq!(ask("HEAD", "/orders?_=17&region=a", "").unwrap().request.operations[0].arguments.len(), 1);
}

/// A preset is put in after parsing; the proof of what was written finds it.
#[test]
fn a_preset_is_no_credential() {
    let parsed = ask("POST", "/orders", r#"{"id":1}"#).unwrap();
    let mut own = constraints(None);
    own.set = vec![("api_key".into(), Literal::String("x".into()), true)];
    assert!(run(&parsed, own).is_err());
}
