//! What holds between the steps: shadow mode and what only a body could tell here; the rest by rule in the modules.

mod bodies;
mod questions;
mod records;
mod unmatched;
mod upstream;

use super::*;
use doorward_test_support::{
    TestHost,
    policy::{access_key, tables},
};

const POLICY: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: crm }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/crm }]
  components: { _table/orders: { key: [id], fields: { id: integer, status: string } } }
---
kind: AccessRole
metadata: { name: app-reader }
spec: { grants: [{ service: crm, components: [_table/orders], verbs: [GET], fields: { read: [id] } }] }
---
kind: AccessRole
metadata: { name: app-writer }
spec: { grants: [{ service: crm, components: [_table/orders], verbs: [POST], fields: { read: [id], write: [status] } }] }
";

fn request<'a>(path: &'a str, headers: &'a [Header<'a>], body: Option<&'a [u8]>) -> HttpRequest<'a> {
    let method = if body.is_some() { "POST" } else { "GET" };
    HttpRequest { method, authority: "h", path, headers, body, source_address: "192.0.2.1" }
}

/// What the head of a request alone decides.
#[track_caller]
fn decided(tables: &Tables, settings: &Settings, request: &HttpRequest<'_>) -> Verdict {
    let begun = begin(tables, &TestHost::new(), settings, &mut TokenCache::default(), request);
    let Begin::Done(verdict) = begun else { panic!("{} {}: {begun:?}", request.method, request.path) };
    *verdict
}

fn code(verdict: &Verdict) -> Option<Code> {
    match &verdict.outcome {
        Outcome::Deny(denial) => Some(denial.code),
        _ => None,
    }
}

#[test]
fn a_head_of_one_row_is_refused_where_only_the_body_could_tell_whether_the_role_reaches_it() {
    let limited = "fields: { read: [id, status] }, rows: \"status = 'open'\" }";
    let policy =
        POLICY.replace("fields: { read: [id] } }", limited) + &access_key("reader", "reader", "app-reader", "");
    let tables = tables(&policy);
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let ask = |method: &str, path: &str| {
        let request = HttpRequest { method, ..request(path, &headers, None) };
        code(&decided(&tables, &Settings::default(), &request))
    };
    assert_eq!(ask("HEAD", "/api/v2/crm/_table/orders/1"), Some(Code::Unsupported));
    for (method, path) in [("GET", "/api/v2/crm/_table/orders/1"), ("HEAD", "/api/v2/crm/_table/orders")] {
        assert_eq!(ask(method, path), None, "{method} {path}");
    }
}

#[test]
fn shadow_mode_lifts_no_restriction_also_where_the_request_is_not_understood() {
    let shadow = POLICY.replace("  match:", "  enforcement: shadow\n  match:")
        + &access_key("reader", "reader", "app-reader", "");
    let closed = |spec: &str| {
        format!(
            "{shadow}---\nkind: AccessRestriction\nmetadata: {{ name: closed }}\nspec: {{ subjects: [{{ key: reader }}], {spec} }}\n"
        )
    };
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let ask = |text: &str, path: &str| {
        let verdict = decided(&tables(text), &Settings::default(), &request(path, &headers, None));
        (code(&verdict), verdict.record.decision.unwrap().would)
    };
    for path in ["/api/v2/crm/_table/orders", "/api/v2/crm/_table/orders?nonsense=1"] {
        assert_eq!(ask(&closed("effect: deny"), path).0, Some(Code::Restricted), "{path}");
    }
    // What is asked for is not known, so a restriction that turns on it cannot be seen to hold.
    let verbs = closed("effect: allowOnly, services: [crm], verbs: [GET]");
    assert_eq!(ask(&verbs, "/api/v2/crm/_table/orders").0, None);
    assert_eq!(ask(&verbs, "/api/v2/crm/_table/orders?nonsense=1").0, Some(Code::Restricted));
    // Nobody restricted: shadow mode lets pass, and says what it would have done.
    assert_eq!(ask(&shadow, "/api/v2/crm/_table/orders?nonsense=1"), (None, "would_deny".to_owned()));
}
