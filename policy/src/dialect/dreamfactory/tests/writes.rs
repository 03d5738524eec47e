//! Method overrides, bodies and writes.

use super::*;

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

/// Names are looked up once for all records, and only the first record is parsed again: neither may let a later one off.
#[test]
fn every_record_is_held_to_what_the_first_one_is() {
    let service = service();
    let ask = |table: &str, good: &str, bad: &str| {
        let body = format!(r#"{{"resource":[{good},{good},{bad}]}}"#);
        ask(&service, "POST", &format!("/_table/{table}"), &[], &body)
    };
    let good = r#"{"status":"a"}"#;
    for bad in [
        r#"{"api_key":"x"}"#,
        r#"{"status":"b","Session_Token":"x"}"#,
        r#"{"orders_by_customer_id":[]}"#,
        r#"{"ORDERS_by_customer_id":"x"}"#,
        r#"{"status":{"expression":"now()"}}"#,
        r#"{"extra":{"expression":"now()"}}"#,
        r#"{"extra":{"a":["{session.token}"]}}"#,
        r#"{"status":"{user.email}"}"#,
        r#"{"status":["a"]}"#,
        r#"{"status":"a","STATUS":"b"}"#,
        r#"{"score":"1e400"}"#,
        r#"{"id":1.5}"#,
        "{}",
        "[]",
        "null",
    ] {
        assert!(ask("customers", good, bad).is_err(), "{bad}");
    }
    let photo = r#"{"photo":"aGk="}"#;
    assert!(ask("typed", photo, photo).is_ok());
    for bad in [r#"{"photo":"http://metadata.internal/"}"#, r#"{"price":0.0000001}"#, r#"{"small":70000}"#] {
        assert!(ask("typed", photo, bad).is_err(), "{bad}");
    }
    // A field that a later record alone writes is asked for all the same, and undeclared ones as they are given.
    let parsed = ask("customers", good, r#"{"SSN":"1","ghost":[1],"status":"b"}"#).unwrap();
    let operation = &parsed.request.operations[0];
    let written: Vec<&str> = operation.fields.iter().map(|used| &*used.field).collect();
    assert!(operation.fields.iter().all(|used| used.clause == Clause::Write));
    assert_eq!(written, ["status", "ssn", "ghost"]);
    assert_eq!(operation.writes[2].values.len(), 3);
}

/// A preset that the first record does not need goes into a later one under the same rules.
#[test]
fn a_preset_that_only_a_later_record_needs_is_checked_too() {
    let body = r#"{"resource":[{"region":"x","status":"a"},{"status":"b"}]}"#;
    let parsed = ask(&service(), "POST", "/_table/customers", &[], body).unwrap();
    let preset = |value: &str| {
        let set = vec![("region".into(), Literal::String(value.into()), false)];
        run(&parsed, vec![OperationConstraints { set, ..limited(None, &["id"]) }])
    };
    assert_eq!(
        preset("west").unwrap().body.as_deref(),
        Some(&br#"{"resource":[{"region":"x","status":"a"},{"status":"b","region":"west"}]}"#[..])
    );
    for value in ["{session.token}", "", " west", "west\u{a0}"] {
        assert_eq!(preset(value).unwrap_err().code, Code::Unsupported, "{value:?}");
    }
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
