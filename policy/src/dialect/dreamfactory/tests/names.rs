//! Names that DreamFactory, PHP or the framework below it read as something else than a field or an option.

use super::*;
use crate::dialect::names;

/// Names under which DreamFactory, its framework or what stands before it take credentials, from any part of a request.
const CREDENTIALS: [&str; 13] = [
    "session_token",
    "api_key",
    "script_token",
    "Session_Token",
    "API_KEY",
    "X-DreamFactory-API-Key",
    "X_DREAMFACTORY_SESSION_TOKEN",
    "x-dreamfactory-script-token",
    "HTTP_X_DREAMFACTORY_API_KEY",
    "access_token",
    "api_token",
    "api.key",
    "session token",
];

/// What the published code reads from the root of a body, beside options: the form of the answer, a download, a method.
const ROOT: [&str; 7] = ["wrap", "file", "_method", "method", "token", "jwt", "filter"];

#[test]
fn no_name_of_a_credential_is_a_field_that_can_be_written() {
    let service = service();
    for name in CREDENTIALS {
        for (method, path, body) in [
            ("PATCH", "/_table/customers/1", format!(r#"{{"status":"a","{name}":"x"}}"#)),
            ("PUT", "/_table/customers/1", format!(r#"{{"{name}":"x"}}"#)),
            ("POST", "/_table/customers", format!(r#"{{"{name}":"x"}}"#)),
            ("POST", "/_table/customers", format!(r#"[{{"status":"a"}},{{"{name}":"x"}}]"#)),
            ("POST", "/_table/customers", format!(r#"{{"resource":[{{"{name}":"x"}}]}}"#)),
            ("POST", "/_table/customers", format!(r#"{{"resource":[{{"status":"a"}}],"{name}":"x"}}"#)),
            ("PATCH", "/_table/customers?filter=id%3D1", format!(r#"{{"resource":[{{"{name}":"x"}}]}}"#)),
            ("PATCH", "/_table/customers", format!(r#"{{"resource":[{{"id":1,"{name}":"x"}}]}}"#)),
            ("DELETE", "/_table/customers", format!(r#"{{"ids":[1],"{name}":"x"}}"#)),
            ("DELETE", "/_table/customers", format!(r#"{{"resource":[{{"id":1,"{name}":"x"}}]}}"#)),
            ("POST", "/_proc/get_summary", format!(r#"{{"params":{{"{name}":"x"}}}}"#)),
            ("POST", "/_proc/get_summary", format!(r#"{{"params":[],"{name}":"x"}}"#)),
        ] {
            let found = ask(&service, method, path, &[], &body);
            let code = found.map_err(|denial| denial.code).map(|_| ());
            assert!(matches!(code, Err(Code::Unsupported | Code::Unparsable)), "{method} {path} {body}: {code:?}");
        }
    }
}

#[test]
fn a_declared_field_of_such_a_name_can_be_read_and_not_written() {
    let mut service = service();
    let fields = [("id", FieldType::Integer), ("api_key", FieldType::String)];
    let declared = component("_table/keys", &fields, &[]);
    service.components.insert(declared.name.clone(), Arc::new(declared));
    assert!(ask(&service, "GET", "/_table/keys?fields=id,api_key&filter=api_key%3D'x'", &[], "").is_ok());
    for (method, path, body) in [
        ("PATCH", "/_table/keys/1", r#"{"api_key":"x"}"#),
        ("PATCH", "/_table/keys/1", r#"{"Api_Key":"x"}"#),
        ("POST", "/_table/keys", r#"{"resource":[{"api_key":"x"}]}"#),
    ] {
        let denial = ask(&service, method, path, &[], body).unwrap_err();
        assert_eq!(denial.code, Code::Unsupported, "{body}");
        assert!(denial.detail.contains("credential"), "{}", denial.detail);
    }
    // A preset is put into the row after parsing; the proof of what was written finds it.
    let parsed = ask(&service, "PATCH", "/_table/keys/1", &[], r#"{"id":2}"#).unwrap();
    let mut constraints = open(&service, "_table/keys");
    constraints.set = vec![("api_key".into(), Literal::String("x".into()), true)];
    let constraints = Constraints { operations: vec![constraints] };
    assert!(emit(&service, PREFIX, &parsed, &constraints).is_err());
}

#[test]
fn what_is_read_from_the_root_of_a_body_is_no_field_of_a_bare_record() {
    let service = service();
    for name in ROOT {
        for (method, path) in
            [("PATCH", "/_table/customers/1"), ("PUT", "/_table/customers/1"), ("POST", "/_table/customers")]
        {
            let body = format!(r#"{{"{name}":"x"}}"#);
            let denial = ask(&service, method, path, &[], &body).unwrap_err();
            assert_eq!(denial.code, Code::Unsupported, "{method} {path} {body}: {denial}");
        }
        let wrapped = format!(r#"{{"resource":[{{"{name}":"x"}}]}}"#);
        assert!(ask(&service, "POST", "/_table/customers", &[], &wrapped).is_ok(), "{wrapped}");
    }
}

#[test]
fn no_parameter_is_accepted_that_php_reads_under_another_name() {
    for query in [
        "session.token=x",
        "session+token=x",
        "api+key=x",
        "+api_key=x",
        "api.key=x",
        "api%5Bkey=x",
        "api_key%5B%5D=x",
        "api_key[0]=x",
        "filter%00=id%3D1",
        "filter[]=id%3D1",
        "filter[x]=id%3D1",
        "fil.ter=x",
        "count.only=true",
        "count+only=true",
        "count[only=true",
        "fields.=id",
        "fields+=id",
        "+fields=id",
        "limit%09=1",
        "limit;offset=1",
        "limit=1;offset=1",
        "params.x=1",
        "params=1",
        "params[a][b]=1",
        "params[a]b=1",
        "params[a=1",
        "[params]=1",
        "%5Bparams%5D=1",
        "=1",
        "limit=1&limit=2",
        "limit=1&top=2",
        "limit=1&limit[]=2",
        "params[:a]=1&params[a]=2",
        "orders_by_customer_id_fields=id&related=orders_by_customer_id",
        "orders_by_customer_id.fields=id",
        "related=orders_by_customer_id&orders_by_customer_id.filter=id%3D1",
        "related=orders_by_customer_id&orders_by_customer_id.group=id",
        "related=orders_by_customer_id&orders_by_customer_id%20fields=id",
        "related=orders_by_customer_id&.fields=id",
        "%66ields=id&fields=id",
        "wrap=false",
        "wrapper=x",
        "accept=text/csv",
        "file=x.csv",
        "api_key=x",
        "session_token=x",
        "script_token=x",
    ] {
        let denial = get(&format!("/_table/customers?{query}"));
        assert!(denial.is_err(), "{query}");
    }
}

/// PHP drops parameters beyond its own limit of 1,000 in silence; a filter that lost its values compares with their names.
#[test]
fn what_is_sent_has_never_more_parameters_than_php_reads() {
    let list: Vec<String> = (0..600).map(|value| format!("'v{value}'")).collect();
    let filter = format!("status IN ({})", list.join(","));
    let parsed = filtered(&filter);
    let sent = parsed.and_then(|parsed| run(&parsed, vec![limited(Some(equals("region", "west")), &["id"])]));
    assert!(sent.is_err() || query(&sent.unwrap()).len() <= 1000);
}

#[test]
fn arguments_of_a_call_in_the_query_are_none_that_dreamfactory_takes_for_itself() {
    let mut service = service();
    let mut declared = component("_proc/odd", &[], &[]);
    let parameter =
        |name: &str| Parameter { name: name.into(), field_type: FieldType::String, ..declared.parameters[0].clone() };
    declared.parameters = ["wrapper", "returns", "file", "wrap", "accept", "api_key", "a.b", "a b", "a[b]", "_method"]
        .map(parameter)
        .into();
    let names: Vec<Name> = declared.parameters.iter().map(|parameter| parameter.name.clone()).collect();
    service.components.insert(declared.name.clone(), Arc::new(declared));
    for name in names {
        let mut path = String::from("/_proc/odd");
        super::super::path::push_parameter(&mut path, &name, "GET");
        assert!(ask(&service, "GET", &path, &[], "").is_err(), "{name}");
    }
}

/// The client's own `wrap` would change the form of the answer, and with it where rows are looked for.
#[test]
fn the_form_of_an_answer_is_not_the_clients_to_choose() {
    let parsed = ask(&service(), "GET", "/_table/customers", &[("wrap", "false")], "").unwrap();
    let rewrite = run(&parsed, vec![limited(None, &["id"])]).unwrap();
    let set = rewrite.set_headers.iter().filter(|(name, _)| name == "wrap").collect::<Vec<_>>();
    assert!(matches!(set.as_slice(), [(_, value)] if value == "true"), "{set:?}");
    let parsed = ask(&service(), "GET", "/_proc/get_summary?year=1", &[("wrap", "false")], "").unwrap();
    let rewrite = run(&parsed, vec![open(&service(), "_proc/get_summary")]).unwrap();
    assert!(rewrite.remove_headers.iter().any(|name| name == "wrap"));
}

/// Laravel trims strings and makes null of empty ones: a check of what is sent would prove nothing of what is stored.
#[test]
fn a_string_that_the_framework_would_change_is_not_known_to_a_check_and_is_no_preset() {
    let written = |text: &str| {
        let body = serde_json::json!({"resource": [{"status": text}]}).to_string();
        let parsed = ask(&service(), "POST", "/_table/customers", &[], &body).unwrap();
        let sent = run(&parsed, vec![limited(None, &["id"])]).unwrap();
        // What is not checked goes as it was written.
        assert_eq!(sent.body.as_deref(), Some(body.as_bytes()));
        parsed.request.operations[0].writes[0].values[0].1.is_some()
    };
    assert!(written("west") && written("a b"));
    for text in ["", " ", " west", "west ", "west\n", "\u{200b}west", "west\u{feff}", "\u{a0}west"] {
        assert!(!written(text), "{text:?}");
        let parsed = ask(&service(), "POST", "/_table/customers", &[], r#"{"resource":[{"score":1}]}"#).unwrap();
        let mut own = limited(None, &["id"]);
        own.set = vec![("status".into(), Literal::String(text.into()), true)];
        assert_eq!(run(&parsed, vec![own]).unwrap_err().code, Code::Unsupported, "{text:?}");
        let parsed = get("/_table/customers").unwrap();
        let denied = run(&parsed, vec![limited(Some(equals("status", text)), &["id"])]);
        assert!(text.is_empty() || denied.is_err(), "{text:?}");
    }
}

/// The name under which PHP registers a parameter, after `php_register_variable_ex`: its base, and what is in brackets.
fn as_php_reads(name: &str) -> String {
    let name = name.trim_start_matches(' ');
    let (base, rest) = match name.split_once('[') {
        Some((base, rest)) if !base.is_empty() && rest.contains(']') => (base, rest.split(']').next()),
        _ => (name, None),
    };
    let base = base.replace([' ', '.', '['], "_");
    rest.map_or(base.clone(), |rest| format!("{base}[{rest}]"))
}

proptest::proptest! {
    /// Whatever is asked: what is sent has each name once as PHP reads it, and none that DreamFactory takes for itself.
    #[test]
    fn what_php_reads_of_a_rewritten_request_is_what_was_written(
        parameters in proptest::collection::vec(
            (
                proptest::sample::select(&["", "", "", "+", "%20", "_", ".", "params["][..]),
                proptest::sample::select(&[
                    "filter", "fields", "limit", "order", "count_only", "as_list", "related", "ids", "params", "api_key",
                    "session_token", "wrap", "file", "accept", "_", "_method", "method", "top", "orders_by_customer_id",
                    "id_field", "ss_filters", "force",
                ][..]),
                proptest::sample::select(&["", "", "", "[]", "[x]", "]", "[", ".", "+", "%00", ".fields", "_fields", "[:p0]", "%5B"][..]),
                proptest::sample::select(&["1", "id", "true", "", "id%3D1", "status%3D'a'", "orders_by_customer_id", "GET", "*"][..]),
            ),
            0..5,
        ),
    ) {
        let query: Vec<String> = parameters.iter().map(|(before, name, after, value)| format!("{before}{name}{after}={value}")).collect();
        if let Ok(parsed) = get(&format!("/_table/customers?{}", query.join("&"))) {
            let service = service();
            let all = parsed.request.operations.iter().map(|operation| open(&service, &operation.component)).collect();
            if let Ok(rewrite) = run(&parsed, all) {
                let sent: Vec<String> = super::query(&rewrite).iter().map(|(name, _)| as_php_reads(name)).collect();
                let mut once = sent.clone();
                once.sort();
                once.dedup();
                proptest::prop_assert_eq!(once.len(), sent.len(), "{:?}", sent);
                for name in sent {
                    let known = name.starts_with("params[:p")
                        || name.starts_with("orders_by_customer_id_")
                        || ["filter", "fields", "limit", "order", "count_only", "as_list", "id_field", "related", "ids", "force"].contains(&name.as_str());
                    proptest::prop_assert!(known && !names::is_credential(&name), "{}", name);
                }
            }
        }
    }
}
