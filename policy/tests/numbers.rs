//! Numbers and sizes in bodies through the whole engine: what is sent on is what was written and decided on, or nothing is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use doorward_policy::{
    bundle::Tables,
    code::Code,
    engine::{Begin, Outcome, Settings, begin, finish},
    host::Host,
    identity::TokenCache,
    request::{Header, HttpRequest},
};
use doorward_policy_compiler::{
    compile::{NoKeys, compile},
    document::{Severity, parse_file},
};
use proptest::prelude::*;
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

const FIELDS: &str = "{ key: integer, i: integer, n: number, s: string, b: boolean, j: json }";

fn tables(check: &str, more: &str) -> Tables {
    let hash = Sha256::digest("tool").iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let grant = |service: &str, component: &str, more: &str| {
        format!(
            "    - {{ service: {service}, components: ['{component}'], verbs: [GET, POST], fields: {{ read: ['*'], write: ['*'] }}{more} }}\n"
        )
    };
    let text = format!(
        "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: {{ name: shop }}
spec:
  dialect: http
  {more}
  match: [{{ path: /shop }}]
  components:
    rows: {{ fields: {FIELDS}, operations: [{{ path: /rows, verbs: [POST] }}, {{ path: /rows, verbs: [GET], parameters: {{ i: integer, n: number, s: string }} }}] }}
    calls:
      operations:
        - {{ path: /calls, verbs: [POST], parameters: {{ /a/i: {{ type: integer, body: true }}, /a/n: {{ type: number, body: true }}, /a/s: {{ type: string, body: true }}, /a/j: {{ type: json, body: true }} }} }}
---
kind: DataService
metadata: {{ name: crm }}
spec:
  dialect: dreamfactory
  {more}
  match: [{{ path: /api/v2/crm }}]
  components:
    _table/rows: {{ key: [key], fields: {FIELDS} }}
    _proc/calls: {{ parameters: {{ i: integer, n: number, s: string }} }}
---
kind: AccessRole
metadata: {{ name: app }}
spec:
  grants:
{}{}{}{}---
kind: AccessKey
metadata: {{ name: tool }}
spec: {{ hash: \"sha256:{hash}\", role: app }}
",
        grant("shop", "rows", check),
        grant("shop", "calls", ""),
        grant("crm", "_table/rows", check),
        grant("crm", "_proc/calls", ""),
    );
    let parsed = parse_file("policy.yaml", &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, &NoKeys, "default");
    let error = compiled.diagnostics.iter().find(|found| found.severity == Severity::Error);
    assert!(error.is_none(), "{error:?}");
    Tables::build(&compiled.bundle, compiled.digest, 1).unwrap()
}

/// Path and body as sent upstream, or why not.
fn ask(tables: &Tables, method: &str, path: &str, body: &str) -> Result<(String, String), (Code, String)> {
    let headers = [("x-doorward-key", "tool"), ("content-type", "application/json")]
        .map(|(name, value)| Header { name, value: value.as_bytes() });
    let (settings, mut cache) = (Settings::default(), TokenCache::default());
    let whole = HttpRequest {
        method,
        authority: "h",
        path,
        headers: &headers,
        body: (!body.is_empty()).then_some(body.as_bytes()),
        source_address: "192.0.2.1",
    };
    let verdict = match begin(tables, &Now, &settings, &mut cache, &HttpRequest { body: None, ..whole }) {
        Begin::Done(verdict) => *verdict,
        Begin::Ask { question, .. } => panic!("{question:?}"),
        Begin::Body { pending, .. } => finish(tables, &Now, &settings, &mut cache, pending, &whole),
    };
    match verdict.outcome {
        Outcome::Allow(rewrite) => {
            Ok((rewrite.path.unwrap(), rewrite.body.map(|body| String::from_utf8(body).unwrap()).unwrap_or_default()))
        }
        Outcome::Deny(denial) => Err((denial.code, denial.detail.into_owned())),
        Outcome::Pass => panic!("{path} passes"),
    }
}

/// The ways to write a value of a field: method, path, body, and how the upstream gets it.
fn ways(field: &str, value: &str) -> Vec<(&'static str, String, String)> {
    let mut all = vec![
        ("POST", "/shop/rows".to_owned(), format!(r#"{{"{field}":{value}}}"#)),
        ("POST", "/shop/rows".to_owned(), format!(r#"[{{"s":"a"}},{{"{field}":{value}}}]"#)),
        ("POST", "/api/v2/crm/_table/rows".to_owned(), format!(r#"{{"resource":[{{"{field}":{value}}}]}}"#)),
    ];
    if field != "b" {
        all.push(("POST", "/shop/calls".to_owned(), format!(r#"{{"a":{{"{field}":{value}}}}}"#)));
    }
    if matches!(field, "i" | "n" | "s") {
        let body = format!(r#"{{"params":[{{"name":"{field}","value":{value}}}]}}"#);
        all.push(("POST", "/api/v2/crm/_proc/calls".to_owned(), body));
    }
    all
}

fn numbers() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "18446744073709551616",
        "123456789012345678901234567890",
        "1e-400",
        "-0",
        "1E5",
        "1.0",
        "0.10",
        "1e308",
        "0.1000000000000000000000000000000000000001",
        "9007199254740993",
        "9223372036854775808",
        "-9223372036854775808",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][-+]?[0-9]{1,2})?"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_is_sent_on_is_the_number_that_was_written(number in numbers(), field in prop::sample::select(vec!["i", "n", "s", "j"])) {
        let tables = tables("", "");
        for (method, path, body) in ways(field, &number) {
            match ask(&tables, method, &path, &body) {
                // A number in a text field is the text that was written.
                Ok((_, sent)) if field == "s" => {
                    let quoted = format!("\"{number}\"");
                    prop_assert!(sent.contains(&quoted), "{} became {}", body, sent);
                }
                Ok((_, sent)) => prop_assert_eq!(sent, body),
                Err((code, detail)) => prop_assert_eq!(code, Code::Unparsable, "{}: {}", body, detail),
            }
        }
        for (method, path, body) in ways("j", &format!(r#"{{"deep":[{number},{{"x":{number}}}]}}"#)) {
            let sent = ask(&tables, method, &path, &body).map(|(_, sent)| sent);
            prop_assert_eq!(sent.as_ref(), Ok(&body));
        }
    }

    #[test]
    fn a_check_is_made_on_exactly_what_is_sent(number in numbers(), limit in -99_999_999_999_999_i64..=99_999_999_999_999) {
        // A limit of more digits does not compile: DreamFactory would cast it.
        let tables = tables(&format!(", check: 'n <= {limit}'"), "");
        for (method, path, body) in ways("n", &number).into_iter().filter(|(_, path, _)| path.ends_with("rows") && path.starts_with("/api")) {
            if let Ok((_, sent)) = ask(&tables, method, &path, &body) {
                let value: f64 = number.parse().unwrap();
                // Only numbers that doubles give back are taken, and the order of doubles is that of their texts.
                prop_assert!(value <= limit as f64, "{}", sent);
            }
        }
    }
}

#[test]
fn each_type_takes_the_numbers_that_it_can_keep() {
    let tables = tables("", "");
    let cases = [
        ("i", "9223372036854775807", true),
        ("i", "-9223372036854775808", true),
        ("i", "9223372036854775808", false),
        ("i", "18446744073709551616", false),
        ("i", "1.0", false),
        ("i", "1E5", false),
        ("i", "-0", false),
        ("n", "0.30000000000000004", true),
        ("n", "0.10", true),
        ("n", "-0", true),
        ("n", "1E5", true),
        ("n", "9007199254740992", true),
        ("n", "9007199254740993", false),
        ("n", "18446744073709551616", false),
        ("n", "123456789012345678901234567890", false),
        ("n", "1e-400", false),
        ("n", "0.1000000000000000000000000000000000000001", false),
        ("n", "1e999", false),
        ("j", "1e999", false),
        ("j", "18446744073709551616", true),
        ("j", "1e-400", true),
        ("j", "0.1000000000000000000000000000000000000001", true),
        ("b", "1", true),
        ("b", "1.0", false),
        ("b", "2", false),
    ];
    for (field, number, taken) in cases {
        for (method, path, body) in ways(field, number) {
            // Values of body parameters are sent as they are, so a truth value has no other form there.
            let result = ask(&tables, method, &path, &body);
            assert_eq!(result.is_ok(), taken, "{path} {body}: {result:?}");
            if let Err((_, detail)) = result {
                assert!(number == "1e999" || detail.contains(field), "{body}: {detail}");
            }
        }
    }
    for (query, sent) in [
        ("n=0.10", Some("n=0.10")),
        ("n=1E5", Some("n=1E5")),
        ("n=9007199254740993", None),
        ("n=0.99999999999999999999", None),
        ("i=9007199254740993", Some("i=9007199254740993")),
        ("i=18446744073709551616", None),
        ("s=18446744073709551616", Some("s=18446744073709551616")),
    ] {
        let path = ask(&tables, "GET", &format!("/shop/rows?{query}"), "").ok().map(|(path, _)| path);
        assert_eq!(path, sent.map(|query| format!("/shop/rows?{query}")), "{query}");
    }
}

#[test]
fn neighbours_of_a_checked_integer_are_not_taken_for_it() {
    let tables = tables(", check: 'i = 9007199254740993'", "");
    for (number, allowed) in [("9007199254740993", true), ("9007199254740992", false), ("9007199254740994", false)] {
        for path in ["/shop/rows", "/api/v2/crm/_table/rows"] {
            let result = ask(&tables, "POST", path, &format!(r#"[{{"i":{number}}}]"#));
            assert_eq!(result.is_ok(), allowed, "{path} {number}: {result:?}");
        }
    }
}

#[test]
fn presets_are_sent_as_the_policy_writes_them() {
    let tables =
        tables(", set: { n: { value: 12.5, override: true }, i: { value: 9007199254740993, override: true } }", "");
    let (_, sent) = ask(&tables, "POST", "/shop/rows", r#"{"n":1,"s":"x"}"#).unwrap();
    assert_eq!(sent, r#"{"n":12.5,"s":"x","i":9007199254740993}"#);
}

#[test]
fn bodies_of_more_values_than_the_service_takes_are_refused() {
    let list = |unit: &str, times: usize| format!(r#"{{"j":[{}]}}"#, vec![unit; times].join(","));
    // The row, its list and what is in that.
    let cases = [("0", 1), ("[[]]", 2), (r#"{"":0}"#, 2), (r#"{"a":{}}"#, 2), (r#""\n""#, 1)];
    for (more, most) in [("", 16_384), ("maxBodyValues: 1000", 1000)] {
        let tables = tables("", more);
        for (unit, values) in cases {
            let fits = (most - 2) / values;
            for path in ["/shop/rows", "/api/v2/crm/_table/rows"] {
                let body = |times| match path {
                    "/shop/rows" => list(unit, times),
                    _ => format!(r#"[{}]"#, list(unit, times)),
                };
                let fits = if path == "/shop/rows" { fits } else { (most - 3) / values };
                assert!(ask(&tables, "POST", path, &body(fits)).is_ok(), "{path} {unit}");
                let (code, detail) = ask(&tables, "POST", path, &body(fits + 1)).unwrap_err();
                assert_eq!(code, Code::TooLarge, "{path} {unit}");
                assert!(detail.contains(&most.to_string()), "{detail}");
            }
        }
    }
}

#[test]
fn hostile_names_and_depths_are_refused_before_they_cost_much() {
    let tables = tables("", "");
    let name = "x".repeat(400_000);
    let members: Vec<String> = (0..16_000).map(|at| format!(r#""m{at}":1"#)).collect();
    // The pointer to each member would be 400 kB long.
    let (code, _) =
        ask(&tables, "POST", "/shop/calls", &format!(r#"{{"{name}":{{{}}}}}"#, members.join(","))).unwrap_err();
    assert_eq!(code, Code::Unparsable);
    for path in ["/shop/rows", "/api/v2/crm/_table/rows"] {
        let (code, detail) = ask(&tables, "POST", path, &format!("[{{{}}}]", members.join(","))).unwrap_err();
        assert_eq!(code, Code::Unparsable, "{path}");
        assert!(detail.contains("2,000 different names"), "{path}: {detail}");
        let deep = format!(r#"[{{"j":{}{}}}]"#, "[".repeat(40), "]".repeat(40));
        assert!(ask(&tables, "POST", path, &deep).unwrap_err().1.contains("nested"), "{path}");
    }
}
