//! What is not rows of one table: related rows, schemas, procedures, files.

use super::*;

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
fn a_parameter_with_allowed_values_takes_no_other_and_no_null() {
    let mut component = component("_proc/get_summary", &[], &[]);
    component.parameters[0].allowed = vec!["2020".into(), "2021".into()];
    let mut service = service();
    service.components.insert(component.name.clone(), Arc::new(component));
    let call = |value: &str| {
        let body = format!(r#"{{"params":{{"year":{value}}}}}"#);
        ask(&service, "POST", "/_proc/get_summary", &[], &body).map_err(|denial| denial.code)
    };
    assert!(call("2020").is_ok() && call("\"2021\"").is_ok());
    for value in ["2022", "null", "\"\"", "2020.0", "[2020]", "true"] {
        assert_eq!(call(value).unwrap_err(), Code::Unparsable, "{value}");
    }
}

#[test]
fn file_services_know_paths_only() {
    let files = Service { files: true, case_insensitive: false, ..service() };
    let parsed = ask(&files, "GET", "/reports/2024/Q1.pdf", &[], "").unwrap();
    assert_eq!(&*parsed.request.operations[0].component, "reports/2024/Q1.pdf");
    let rewrite = run(&parsed, vec![open(&files, "reports/2024/Q1.pdf")]);
    // `run` proves against the table service, so only the parse is checked against the file service.
    assert!(rewrite.is_err());
    let constraints = Constraints { operations: vec![open(&files, "reports/2024/Q1.pdf")] };
    let rewrite = emit(&files, PREFIX, &parsed, &constraints).unwrap();
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
