//! Attacks that once got through, each through the whole engine: route, key, dialect, decision, rewrite, response.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use doorward_policy::{
    bundle::Tables,
    code::Code,
    dialect::Rewrite,
    engine::{Begin, Outcome, Settings, begin, finish},
    host::Host,
    identity::TokenCache,
    request::{Header, HttpRequest},
    transform::Transformer,
};
use doorward_policy_compiler::{
    compile::{NoKeys, compile},
    document::parse_file,
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

struct Now;

impl Host for Now {
    fn now_millis(&self) -> u64 {
        1_800_000_000_000
    }
    fn random(&self, buffer: &mut [u8]) -> bool {
        buffer.fill(7);
        true
    }
    fn update_limit(&self, _: u64, _: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        false
    }
}

/// The policy, with an API key `NAME` of the role `app-NAME` for every name.
fn tables(policy: &str, keys: &[&str]) -> Tables {
    let mut text = policy.to_owned();
    for key in keys {
        let hash = Sha256::digest(key).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        write!(
            text,
            "---\nkind: AccessKey\nmetadata: {{ name: {key} }}\nspec: {{ hash: \"sha256:{hash}\", role: app-{key} }}\n"
        )
        .unwrap();
    }
    let parsed = parse_file("policy.yaml", &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, &NoKeys, "default");
    let error =
        compiled.diagnostics.iter().find(|found| found.severity == doorward_policy_compiler::document::Severity::Error);
    assert!(error.is_none(), "{error:?}");
    Tables::build(&compiled.bundle, compiled.digest, 1).unwrap()
}

/// What a request becomes.
fn ask(
    tables: &Tables,
    key: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Rewrite, Code> {
    let length = body.map_or(0, str::len).to_string();
    let mut all = vec![Header { name: "x-doorward-key", value: key.as_bytes() }];
    all.extend(headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }));
    if body.is_some() {
        all.push(Header { name: "content-length", value: length.as_bytes() });
    }
    let request = HttpRequest {
        method,
        authority: "h",
        path,
        headers: &all,
        body: body.map(str::as_bytes),
        source_address: "192.0.2.1",
    };
    let (settings, mut cache) = (Settings::default(), TokenCache::default());
    let head = HttpRequest { body: None, ..request };
    let verdict = match begin(tables, &Now, &settings, &mut cache, &head) {
        Begin::Done(verdict) => *verdict,
        Begin::Ask { question, .. } => panic!("{question:?}"),
        Begin::Body { pending, .. } => {
            let whole = HttpRequest { body: Some(request.body.unwrap_or_default()), ..request };
            finish(tables, &Now, &settings, &mut cache, pending, &whole)
        }
    };
    match verdict.outcome {
        Outcome::Allow(rewrite) => Ok(*rewrite),
        Outcome::Deny(denial) => Err(denial.code),
        Outcome::Pass => panic!("{path} passes"),
    }
}

/// What the client gets of this response.
fn answer(rewrite: &Rewrite, body: &str) -> Option<String> {
    let mut transformer = Transformer::new(rewrite.response.clone(), None);
    let mut out = Vec::new();
    transformer.push(body.as_bytes(), &mut out).ok()?;
    transformer.finish(&mut out).ok()?;
    String::from_utf8(out).ok()
}

const CRM: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: crm }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/crm }]
  components:
    _table/orders:
      key: [id]
      fields: { id: integer, status: string, ssn: string, region: string, customer_id: integer }
      relations:
        customers_by_customer_id: _table/customers
        buyer: { component: _table/customers, local: [customer_id], foreign: [id] }
    _table/customers:
      key: [id]
      fields: { id: integer, name: string }
      relations: { orders_by_customer_id: _table/orders, own: _table/orders }
    _proc/report: { fields: { id: integer, total: number } }
---
kind: AccessRole
metadata: { name: app-reader }
spec:
  grants:
    - service: crm
      components: [_table/orders]
      verbs: [GET]
      fields: { read: [id, status, ssn, region], mask: { ssn: { with: last4, filterable: true } } }
    - { service: crm, components: [_table/customers], verbs: [GET], fields: { read: [id, name] } }
    - { service: crm, components: [_proc/report], verbs: [GET], fields: { read: [id, total] } }
---
kind: AccessRole
metadata: { name: app-joiner }
spec:
  grants:
    - { service: crm, components: [_table/orders], verbs: [GET], fields: { read: [id, customer_id] } }
    - { service: crm, components: [_table/customers], verbs: [GET], fields: { read: [id, name] } }
---
kind: AccessRole
metadata: { name: app-writer }
spec:
  grants:
    - { service: crm, components: [_table/orders], verbs: [POST], fields: { read: [id], write: [status] } }
";

#[test]
fn a_method_override_is_seen_also_with_underscores_in_its_name() {
    // CGI, PHP and WSGI make HTTP_X_HTTP_METHOD of both spellings.
    let tables = tables(CRM, &["writer"]);
    let json = ("content-type", "application/json");
    let body = Some(r#"{"resource":[{"status":"x"}]}"#);
    assert!(ask(&tables, "writer", "POST", "/api/v2/crm/_table/orders", &[json], body).is_ok());
    for name in ["x_http_method", "x_http_method_override", "x-http_method", "x_method-override"] {
        let verdict = ask(&tables, "writer", "POST", "/api/v2/crm/_table/orders", &[json, (name, "DELETE")], body);
        assert_eq!(verdict.unwrap_err(), Code::Unparsable, "{name}");
    }
}

#[test]
fn an_identity_header_is_removed_also_with_underscores_in_its_name() {
    let tables = tables(CRM, &["reader"]);
    for name in ["x_doorward_user", "x-doorward_role", "X_DOORWARD_TENANT", "x_api_key", "x_dreamfactory_session_token"]
    {
        let name = name.to_ascii_lowercase();
        let rewrite = ask(&tables, "reader", "GET", "/api/v2/crm/_table/orders", &[(&name, "admin")], None).unwrap();
        assert!(rewrite.remove_headers.contains(&name), "{name}");
    }
}

#[test]
fn headers_that_frameworks_take_for_another_path_do_not_reach_the_data_api() {
    let tables = tables(CRM, &["reader"]);
    for name in ["x-original-url", "x-rewrite-url", "x_original_url"] {
        let rewrite = ask(&tables, "reader", "GET", "/api/v2/crm/_table/orders", &[(name, "/x")], None).unwrap();
        assert!(rewrite.remove_headers.iter().any(|have| have == name), "{name}");
    }
}

#[test]
fn an_aggregate_does_not_show_a_masked_value_also_where_the_mask_is_filterable() {
    let tables = tables(CRM, &["reader"]);
    for fields in ["MAX(ssn)", "region,MIN(ssn)", "SUM(ssn)"] {
        let path = format!("/api/v2/crm/_table/orders?group=region&fields={fields}");
        assert_eq!(ask(&tables, "reader", "GET", &path, &[], None).unwrap_err(), Code::FieldDenied, "{fields}");
    }
    let path = "/api/v2/crm/_table/orders?group=ssn&fields=ssn,COUNT(*)&filter=ssn%3D1";
    assert!(ask(&tables, "reader", "GET", path, &[], None).is_ok());
}

#[test]
fn a_relation_is_not_followed_by_a_field_that_may_not_be_seen() {
    let tables = tables(CRM, &["reader", "joiner"]);
    for path in [
        // The related row's key is the hidden value.
        "_table/orders?related=customers_by_customer_id&customers_by_customer_id.fields=id",
        "_table/orders/1?related=buyer",
        // Whose order it is, is the hidden value of the order.
        "_table/customers?related=orders_by_customer_id&orders_by_customer_id.fields=id",
    ] {
        let path = format!("/api/v2/crm/{path}");
        assert_eq!(ask(&tables, "reader", "GET", &path, &[], None).unwrap_err(), Code::FieldDenied, "{path}");
        assert!(ask(&tables, "joiner", "GET", &path, &[], None).is_ok(), "{path}");
    }
    // By which fields it joins is not known.
    let path = "/api/v2/crm/_table/customers?related=own";
    assert_eq!(ask(&tables, "joiner", "GET", path, &[], None).unwrap_err(), Code::Unsupported);
}

#[test]
fn an_error_of_the_data_api_does_not_show_what_a_mask_hides() {
    let dreamfactory = tables(CRM, &["reader"]);
    let rewrite = ask(&dreamfactory, "reader", "GET", "/api/v2/crm/_table/orders", &[], None).unwrap();
    assert!(rewrite.response.hide_error_bodies);
    let http = tables(SHOP, &["reader"]);
    let rewrite = ask(&http, "reader", "GET", "/shop/orders", &[], None).unwrap();
    assert!(rewrite.response.hide_error_bodies);
}

#[test]
fn a_procedure_shows_no_column_that_is_not_declared() {
    let tables = tables(CRM, &["reader"]);
    let rewrite = ask(&tables, "reader", "GET", "/api/v2/crm/_proc/report", &[], None).unwrap();
    let shown = answer(&rewrite, r#"[{"id":1,"total":2,"salary":3}]"#);
    assert_eq!(shown.as_deref(), Some(r#"[{"id":1,"total":2}]"#));
}

const FILES: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: files }
spec:
  dialect: dreamfactory
  files: true
  match: [{ path: /api/v2/files }]
  components: { inbox/*: {} }
---
kind: AccessRole
metadata: { name: app-dropper }
spec: { grants: [{ service: files, components: [inbox/*], verbs: [POST], unchecked: true }] }
";

#[test]
fn the_content_of_a_file_is_not_read_as_a_method_override() {
    // DreamFactory's framework reads `_method` in a form or JSON body of a POST as the method that is meant.
    let tables = tables(FILES, &["dropper"]);
    for (media, body) in [
        ("application/json", r#"{"_method":"GET"}"#),
        ("application/vnd.api+json", r#"{"_method":"DELETE"}"#),
        ("application/x-www-form-urlencoded", "_method=DELETE"),
        ("text/plain", "x"),
    ] {
        let rewrite =
            ask(&tables, "dropper", "POST", "/api/v2/files/inbox/a.json", &[("content-type", media)], Some(body))
                .unwrap();
        let sent = rewrite.set_headers.iter().find(|(name, _)| name == "content-type");
        assert_eq!(sent.map(|(_, value)| value.as_str()), Some("application/octet-stream"), "{media}");
        assert_eq!(rewrite.body, None, "{media}");
    }
}

const SHOP: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: shop }
spec:
  dialect: http
  match: [{ path: /shop }]
  components:
    orders:
      fields: { id: integer, ssn: string }
      operations:
        - { path: /orders, verbs: [GET], rowsAt: /data, parameters: { limit: integer, page_size: integer } }
---
kind: AccessRole
metadata: { name: app-reader }
spec:
  grants:
    - { service: shop, components: [orders], verbs: [GET], maxRows: 10, fields: { read: [id, ssn], mask: { ssn: last4 } } }
";

#[test]
fn every_parameter_that_sets_the_number_of_rows_is_capped() {
    let tables = tables(SHOP, &["reader"]);
    for (query, want) in [
        ("", "?limit=10"),
        ("?page_size=5000", "?page_size=10"),
        ("?limit=5&page_size=5000", "?limit=5&page_size=10"),
        ("?page_size=0&limit=-1", "?page_size=10&limit=10"),
    ] {
        let rewrite = ask(&tables, "reader", "GET", &format!("/shop/orders{query}"), &[], None).unwrap();
        assert_eq!(rewrite.path.as_deref(), Some(&*format!("/shop/orders{want}")), "{query}");
    }
}

#[test]
fn an_override_with_underscores_is_refused_by_plain_rest_too() {
    let tables = tables(SHOP, &["reader"]);
    for name in ["x_http_method_override", "x-http_method"] {
        let verdict = ask(&tables, "reader", "GET", "/shop/orders", &[(name, "DELETE")], None);
        assert_eq!(verdict.unwrap_err(), Code::Unsupported, "{name}");
    }
}

const LIBRARY: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: library }
spec:
  dialect: datasette
  match: [{ path: /library }]
  components: { books: { key: [id], fields: { id: integer, author: string } } }
---
kind: AccessRole
metadata: { name: app-reader }
spec:
  grants: [{ service: library, components: [books], verbs: [GET], maxRows: 5, fields: { read: [id, author] } }]
";

#[test]
fn a_facet_lists_no_more_values_than_the_cap_allows_rows() {
    let tables = tables(LIBRARY, &["reader"]);
    for (query, want) in [("", "5"), ("&_facet_size=max", "5"), ("&_facet_size=3", "3")] {
        let path = format!("/library/books.json?_facet=author{query}");
        let sent = ask(&tables, "reader", "GET", &path, &[], None).unwrap().path.unwrap();
        assert!(sent.contains(&format!("_facet_size={want}&")), "{sent}");
    }
}

#[test]
fn two_columns_that_sqlite_takes_for_one_cannot_be_declared() {
    let text = LIBRARY.replace("author: string }", "author: string, Author: string }");
    let parsed = parse_file("policy.yaml", &text);
    let compiled = compile(&parsed.documents, &NoKeys, "default");
    assert!(compiled.diagnostics.iter().any(|found| found.code == "duplicate_field"), "{:?}", compiled.diagnostics);
}
