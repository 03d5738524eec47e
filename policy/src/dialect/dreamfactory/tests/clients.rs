//! What clients send most: the examples of DreamFactory's documentation, and what SDKs, browsers and libraries add to them.

use super::*;

const RECORD: &str = r#"{"resource":[{"first_name":"Ann","status":"new"}]}"#;

/// Requests as DreamFactory's documentation shows them, with what becomes of each: the query that is sent, or a word of
/// the sentence that tells what to do instead.
const EXAMPLES: &[(&str, &str, &str, Result<&str, &str>)] = &[
    ("GET", "/_table/customers", "", Ok("?fields=ALL")),
    ("GET", "/_table/customers?limit=10", "", Ok("?fields=ALL&limit=10")),
    ("GET", "/_table/customers?limit=10&offset=20", "", Ok("?fields=ALL&limit=10&offset=20")),
    ("GET", "/_table/customers?fields=id,first_name,email", "", Ok("?fields=id,first_name,email")),
    ("GET", "/_table/customers?fields=*", "", Ok("?fields=ALL")),
    ("GET", "/_table/customers?order=first_name%20ASC", "", Ok("?fields=ALL&order=first_name asc")),
    ("GET", "/_table/customers?order=region,first_name%20desc", "", Ok("?fields=ALL&order=region asc,first_name desc")),
    ("GET", "/_table/customers?include_count=true", "", Ok("?fields=ALL&include_count=true")),
    (
        "GET",
        "/_table/customers?limit=10&offset=0&include_count=true",
        "",
        Ok("?fields=ALL&limit=10&offset=0&include_count=true"),
    ),
    ("GET", "/_table/customers?count_only=true", "", Ok("?count_only=true")),
    ("GET", "/_table/customers?ids=1,2,3", "", Ok("?ids=1,2,3&fields=ALL")),
    ("GET", "/_table/customers?group=region&fields=region,COUNT(*)", "", Ok("?fields=region,COUNT(*)&group=region")),
    (
        "GET",
        "/_table/customers?related=orders_by_customer_id",
        "",
        Ok("?fields=ALL&related=orders_by_customer_id&orders_by_customer_id.fields=ALL"),
    ),
    ("GET", "/_table/customers?related=*", "", Err("name each relation")),
    (
        "GET",
        "/_table/customers?filter=(status%3D'active')",
        "",
        Ok("?filter=status = :p0&params[:p0]=active&fields=ALL"),
    ),
    ("GET", "/_table/customers/1", "", Ok("/1?fields=ALL")),
    ("GET", "/_table/customers/1?fields=id,status", "", Ok("/1?fields=id,status")),
    ("GET", "/_table/customers/1?id_field=id", "", Ok("/1?fields=ALL")),
    ("GET", "/_table/customers?ids=1,2&id_field=id&id_type=int", "", Ok("?ids=1,2&fields=ALL")),
    ("GET", "/_table/customers?id_field=email", "", Err("declared key")),
    ("GET", "/_table/customers?as_list=true", "", Ok("?fields=id&as_list=true&id_field=id")),
    ("GET", "/_table/customers?as_list=true&id_field=id", "", Ok("?fields=id&as_list=true&id_field=id")),
    ("GET", "/_table/customers?as_list=true&fields=email", "", Err("as_list")),
    ("GET", "/_table/customers?include_schema=true", "", Err("_schema/")),
    ("GET", "/_table/customers?file=customers.csv", "", Err("JSON")),
    ("GET", "/_table/customers?accept=application/xml", "", Err("JSON")),
    ("GET", "/_table/customers?refresh=true", "", Err("refresh")),
    ("GET", "/_table/customers?refresh=false&include_schema=false&as_list=false&continue=false", "", Ok("?fields=ALL")),
    // Python's and PHP's ways to write a flag.
    ("GET", "/_table/customers?include_count=True", "", Ok("?fields=ALL&include_count=true")),
    ("GET", "/_table/customers?include_count=False", "", Ok("?fields=ALL")),
    // Forms that send every field, filled in or not.
    (
        "GET",
        "/_table/customers?filter=&order=&limit=&offset=&group=&related=&include_count=&count_only=",
        "",
        Ok("?fields=ALL"),
    ),
    // DreamFactory answers with the key alone.
    ("GET", "/_table/customers?fields=", "", Ok("?fields=id")),
    ("GET", "/_table/customers?ids=", "", Err("ids")),
    // jQuery's and others' way around caches.
    ("GET", "/_table/customers?_=1712345678901", "", Ok("?fields=ALL")),
    ("GET", "/_table/customers?limit=1&_=1712345678901", "", Ok("?fields=ALL&limit=1")),
    ("GET", "/_table/customers?_=x", "", Err("cache")),
    ("HEAD", "/_table/customers?limit=1", "", Ok("?fields=ALL&limit=1")),
    ("OPTIONS", "/_table/customers", "", Err("method")),
    ("POST", "/_table/customers", RECORD, Ok("")),
    ("POST", "/_table/customers?fields=*", RECORD, Ok("")),
    ("POST", "/_table/customers?fields=", RECORD, Ok("")),
    ("POST", "/_table/customers", r#"{"resource":{"first_name":"Ann"}}"#, Ok("")),
    ("POST", "/_table/customers", r#"[{"first_name":"Ann"}]"#, Ok("")),
    ("PATCH", "/_table/customers/1", r#"{"status":"new"}"#, Ok("/1")),
    ("PUT", "/_table/customers/1", r#"{"status":"new"}"#, Ok("/1")),
    ("PATCH", "/_table/customers?ids=1,2", r#"{"resource":[{"status":"new"}]}"#, Ok("?filter=id IN (1,2)")),
    ("PATCH", "/_table/customers?filter=id%3D1", r#"{"resource":{"status":"new"}}"#, Ok("?filter=id = 1")),
    ("PATCH", "/_table/customers", r#"{"resource":[{"id":1,"status":"new"}]}"#, Ok("")),
    ("DELETE", "/_table/customers/1", "", Ok("/1")),
    ("DELETE", "/_table/customers?ids=1,2", "", Ok("?filter=id IN (1,2)")),
    ("DELETE", "/_table/customers?filter=id%3D1", "", Ok("?filter=id = 1")),
    ("DELETE", "/_table/customers?force=true", "", Ok("?force=true")),
    ("DELETE", "/_table/customers", r#"{"resource":[{"id":1}]}"#, Ok("?filter=id IN (1)")),
    ("DELETE", "/_table/customers", r#"{"resource":[{"id":1},{"ID":"2"}]}"#, Ok("?filter=id IN (1,2)")),
    ("DELETE", "/_table/customers", r#"[{"id":1},{"id":2}]"#, Ok("?filter=id IN (1,2)")),
    ("DELETE", "/_table/customers", r#"{"ids":[1,2]}"#, Ok("?filter=id IN (1,2)")),
    ("DELETE", "/_table/customers", r#"{"resource":[{"id":1,"status":"x"}]}"#, Err("key alone")),
    ("DELETE", "/_table/customers", r#"{"resource":[{"status":"x"}]}"#, Err("key alone")),
    ("DELETE", "/_table/customers", r#"{"resource":[{"id":null}]}"#, Err("key")),
    ("DELETE", "/_table/customers?filter=id%3D1", r#"{"resource":[{"id":1}]}"#, Err("one of")),
    ("DELETE", "/_table/customers?ids=2", r#"{"resource":[{"id":1}]}"#, Err("one of")),
    ("DELETE", "/_table/customers", "", Err("force=true")),
    ("GET", "/_schema/customers", "", Ok("")),
    ("GET", "/_schema/customers/_field", "", Ok("")),
    ("GET", "/_schema/customers/_field/Email", "", Ok("")),
    ("GET", "/_schema/customers/email", "", Ok("")),
    ("GET", "/_schema/customers/_related", "", Ok("")),
    ("GET", "/_schema/customers/_related/orders_by_customer_id", "", Ok("")),
    ("GET", "/_schema/customers/_field?refresh=true", "", Err("without parameters")),
    ("GET", "/_schema", "", Ok("")),
    ("GET", "/_table", "", Ok("")),
    ("GET", "/_table?as_list=true", "", Ok("?as_list=true")),
    ("GET", "/_schema?as_list=true", "", Ok("?as_list=true")),
    ("GET", "/_proc?as_list=false", "", Ok("")),
    ("GET", "/_spec", "", Err("description")),
    ("GET", "/_table/customers?ids[]=1&ids[]=2", "", Err("lists with commas")),
    ("GET", "/_table/customers?api_version=2", "", Err("unknown")),
    ("GET", "/_proc/get_summary?year=2020", "", Ok("?year=2020")),
    ("GET", "/_proc/get_summary?year=2020&_=17", "", Ok("?year=2020")),
    ("POST", "/_proc/get_summary", r#"{"params":[{"name":"year","value":2020}]}"#, Ok("")),
    ("POST", "/_proc/get_summary", r#"{"params":{"year":2020}}"#, Ok("")),
];

#[test]
fn what_the_examples_of_the_documentation_become() {
    let service = service();
    for (method, path, body, expected) in EXAMPLES {
        let found = ask(&service, method, path, &[], body).and_then(|parsed| {
            let all = parsed.request.operations.iter().map(|operation| open(&service, &operation.component)).collect();
            run(&parsed, all)
        });
        match (found, expected) {
            (Ok(rewrite), Ok(expected)) => {
                let sent = percent_encoding::percent_decode_str(rewrite.path.as_deref().unwrap())
                    .decode_utf8_lossy()
                    .into_owned();
                let of = [
                    "/_table/customers",
                    "/_schema/customers/_field/email",
                    "/_schema/customers/_field",
                    "/_schema/customers/_related/orders_by_customer_id",
                    "/_schema/customers/_related",
                    "/_schema/customers",
                    "/_proc/get_summary",
                    "/_schema",
                    "/_table",
                    "/_proc",
                ];
                let rest = sent.strip_prefix(PREFIX).unwrap();
                let rest = of.iter().find_map(|of| rest.strip_prefix(of)).unwrap_or(rest);
                let all = service
                    .component("_table/customers")
                    .unwrap()
                    .all_fields
                    .iter()
                    .map(|name| &**name)
                    .collect::<Vec<_>>()
                    .join(",");
                let orders = service
                    .component("_table/orders")
                    .unwrap()
                    .all_fields
                    .iter()
                    .map(|name| &**name)
                    .collect::<Vec<_>>()
                    .join(",");
                let rest = rest.replace(&all, "ALL").replace(&format!(".fields={orders}"), ".fields=ALL");
                let rest = rest.split("?fields=ALL").next().filter(|_| *method == "POST").unwrap_or(&rest).to_owned();
                assert_eq!(rest, *expected, "{method} {path} {body}");
            }
            (Err(denial), Err(word)) => {
                assert!(denial.detail.contains(word), "{method} {path} {body}: {denial}");
                assert!(matches!(denial.code, Code::Unsupported | Code::Unparsable), "{method} {path}: {denial}");
            }
            (found, _) => panic!("{method} {path} {body}: {:?}", found.map(|rewrite| rewrite.path)),
        }
    }
}

#[test]
fn a_list_of_keys_is_filtered_as_values_of_the_key() {
    let parsed = get("/_table/customers?as_list=true&include_count=true").unwrap();
    let rewrite = run(&parsed, vec![limited(Some(equals("region", "west")), &["id", "status"])]).unwrap();
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("id"));
    assert_eq!(parameter(&rewrite, "id_field").as_deref(), Some("id"));
    assert_eq!(rewrite.response.sites[0].shape, RowShape::Scalar("id".into()));
    // Who may not see the key gets no list of keys.
    assert_eq!(run(&parsed, vec![limited(None, &["status"])]).unwrap_err().code, Code::FieldDenied);
    for query in
        ["as_list=true&group=region", "as_list=true&count_only=true", "as_list=true&related=orders_by_customer_id"]
    {
        assert!(get(&format!("/_table/customers?{query}")).is_err(), "{query}");
    }
    assert!(get("/_table/customers/1?as_list=true").is_err());
    assert!(ask(&service(), "POST", "/_table/customers?as_list=true", &[], RECORD).is_err());
}

#[test]
fn the_schema_of_a_field_is_shown_to_who_sees_that_field_unmasked() {
    let service = service();
    let of = |path: &str, table: OperationConstraints| {
        let parsed = get(path).unwrap();
        let names: Vec<&str> = parsed.request.operations.iter().map(|operation| &*operation.component).collect();
        assert_eq!(names, ["_schema/customers", "_table/customers"], "{path}");
        run(&parsed, vec![open(&service, "_schema/customers"), table]).map_err(|denial| denial.code).map(|_| ())
    };
    let some = || limited(Some(equals("region", "west")), &["id", "status"]);
    let mask = crate::transform::MaskRule {
        field: "status".into(),
        kind: crate::transform::MaskKind::MaskNull,
        fixed: "".into(),
        length: 0,
        filterable: false,
    };
    let masked = OperationConstraints { masks: Arc::new([mask]), ..some() };
    assert_eq!(of("/_schema/customers/_field/status", some()), Ok(()));
    assert_eq!(of("/_schema/customers/STATUS", some()), Ok(()));
    assert_eq!(of("/_schema/customers/_field/ssn", some()), Err(Code::FieldDenied));
    assert_eq!(of("/_schema/customers/_field/undeclared", some()), Err(Code::FieldDenied));
    assert_eq!(of("/_schema/customers/_field/status", masked.clone()), Err(Code::FieldDenied));
    for path in [
        "/_schema/customers",
        "/_schema/customers/_field",
        "/_schema/customers/_related",
        "/_schema/customers/_related/x",
    ] {
        assert_eq!(of(path, some()), Err(Code::FieldDenied), "{path}");
        assert_eq!(of(path, open(&service, "_table/customers")), Ok(()), "{path}");
    }
    for path in [
        "/_schema/customers/_other/x",
        "/_schema/customers/_field/a/b",
        "/_schema/customers/_field/a%2Fb",
        "/_schema/customers/_field/a(b)",
    ] {
        assert!(get(path).is_err(), "{path}");
    }
    assert!(ask(&service, "DELETE", "/_schema/customers/_field/status", &[], "").is_err());
}

/// `df.resources_wrapper` is DreamFactory's to set, and the service says how it is set.
#[test]
fn records_are_wrapped_as_the_service_says() {
    let service = Service { resources_wrapper: "data".into(), ..service() };
    let write = |parsed: &Parsed, own: OperationConstraints| {
        emit(&service, PREFIX, parsed, &Constraints { operations: vec![own] }).unwrap()
    };
    for body in
        [r#"{"data":[{"status":"a"}]}"#, r#"{"data":{"status":"a"}}"#, r#"[{"status":"a"}]"#, r#"{"status":"a"}"#]
    {
        let parsed = ask(&service, "POST", "/_table/customers", &[], body).unwrap();
        let rewrite = write(&parsed, limited(None, &["id"]));
        assert_eq!(rewrite.body.as_deref(), Some(&br#"{"data":[{"status":"a"}]}"#[..]), "{body}");
    }
    let denial = ask(&service, "POST", "/_table/customers", &[], r#"{"resource":[{"status":"a"}]}"#).unwrap_err();
    assert!(denial.detail.contains(r#"{"data": [record]}"#), "{denial}");
    let parsed = ask(&service, "GET", "/_table/customers", &[], "").unwrap();
    let rewrite = write(&parsed, limited(None, &["id"]));
    assert_eq!(rewrite.response.sites[0].path, [PathStep::Member("data".into()), PathStep::Elements]);
    assert!(ask(&service, "DELETE", "/_table/customers", &[], r#"{"data":[{"id":1}]}"#).is_ok());
}
