//! What holds between the steps: a policy that changes while a body comes, and services in shadow mode.

use super::*;
use crate::request::Header;
use doorward_policy_compiler::{
    compile::{NoKeys, compile},
    document::{Severity, parse_file},
};
use sha2::{Digest, Sha256};
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

fn hash(key: &str) -> String {
    Sha256::digest(key).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn key(name: &str, key: &str, role: &str, more: &str) -> String {
    format!(
        "---\nkind: AccessKey\nmetadata: {{ name: {name} }}\nspec: {{ hash: \"sha256:{}\", role: {role}{more} }}\n",
        hash(key)
    )
}

fn tables(text: &str) -> Tables {
    let parsed = parse_file("policy.yaml", text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, &NoKeys, "default");
    let error = compiled.diagnostics.iter().find(|found| found.severity == Severity::Error);
    assert!(error.is_none(), "{error:?}");
    Tables::build(&compiled.bundle, compiled.digest, 1).unwrap()
}

fn request<'a>(path: &'a str, headers: &'a [Header<'a>], body: Option<&'a [u8]>) -> HttpRequest<'a> {
    let method = if body.is_some() { "POST" } else { "GET" };
    HttpRequest { method, authority: "h", path, headers, body, source_address: "192.0.2.1" }
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
    let policy = POLICY.replace("fields: { read: [id] } }", limited) + &key("reader", "reader", "app-reader", "");
    let tables = tables(&policy);
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let ask = |method: &str, path: &str| {
        let request = HttpRequest { method, ..request(path, &headers, None) };
        match begin(&tables, &Now, &Settings::default(), &mut TokenCache::default(), &request) {
            Begin::Done(verdict) => code(&verdict),
            begun => panic!("{method} {path}: {begun:?}"),
        }
    };
    assert_eq!(ask("HEAD", "/api/v2/crm/_table/orders/1"), Some(Code::Unsupported));
    for (method, path) in [("GET", "/api/v2/crm/_table/orders/1"), ("HEAD", "/api/v2/crm/_table/orders")] {
        assert_eq!(ask(method, path), None, "{method} {path}");
    }
}

/// A write by `reader` whose body comes while the policy changes from the first to the second.
fn write_over_a_change(before: &Tables, after: &Tables) -> Verdict {
    let body = br#"{"resource":[{"status":"x"}]}"#;
    let headers = [
        Header { name: "x-doorward-key", value: b"reader" },
        Header { name: "content-type", value: b"application/json" },
        Header { name: "content-length", value: b"29" },
    ];
    let whole = request("/api/v2/crm/_table/orders", &headers, Some(body));
    let (settings, mut cache) = (Settings::default(), TokenCache::default());
    let begun = begin(before, &Now, &settings, &mut cache, &HttpRequest { body: None, ..whole });
    let Begin::Body { pending, .. } = begun else { panic!("{begun:?}") };
    finish(after, &Now, &settings, &mut cache, pending, &whole)
}

#[test]
fn what_says_who_calls_or_names_another_path_is_misleading_in_any_spelling() {
    for name in
        ["x-doorward-user", "x_doorward_user", "x-doorward-role", "x-original-url", "x_original-url", "x-rewrite-url"]
    {
        assert!(is_misleading(name), "{name}");
    }
    for name in ["x-original", "x-request-id", "x-forwarded-host", "x-doorwar"] {
        assert!(!is_misleading(name), "{name}");
    }
}

#[test]
fn a_key_stays_the_same_key_when_others_come_before_it_while_the_body_is_awaited() {
    // Keys are sorted by hash: one that sorts first takes the place that the reader's key had.
    let other = (0..).map(|n| format!("writer-{n}")).find(|other| hash(other) < hash("reader")).unwrap();
    let before = POLICY.to_owned() + &key("reader", "reader", "app-reader", "");
    let after = before.clone() + &key("writer", &other, "app-writer", "");
    let verdict = write_over_a_change(&tables(&before), &tables(&after));
    assert_eq!(code(&verdict), Some(Code::VerbDenied), "{:?}", verdict.outcome);
    assert_eq!(verdict.record.principal.unwrap().key, "reader");
}

#[test]
fn a_key_revoked_while_the_body_is_awaited_is_refused() {
    let before = POLICY.to_owned() + &key("reader", "reader", "app-writer", "");
    let after = POLICY.to_owned() + &key("reader", "reader", "app-writer", ", revoked: true");
    assert_eq!(code(&write_over_a_change(&tables(&before), &tables(&before))), None);
    assert_eq!(code(&write_over_a_change(&tables(&before), &tables(&after))), Some(Code::CredentialRevoked));
}

#[test]
fn shadow_mode_lifts_no_restriction_also_where_the_request_is_not_understood() {
    let shadow =
        POLICY.replace("  match:", "  enforcement: shadow\n  match:") + &key("reader", "reader", "app-reader", "");
    let closed = |spec: &str| {
        format!(
            "{shadow}---\nkind: AccessRestriction\nmetadata: {{ name: closed }}\nspec: {{ subjects: [{{ key: reader }}], {spec} }}\n"
        )
    };
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let ask = |text: &str, path: &str| {
        let begun = begin(
            &tables(text),
            &Now,
            &Settings::default(),
            &mut TokenCache::default(),
            &request(path, &headers, None),
        );
        let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
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

#[test]
fn a_credential_in_the_query_is_in_no_record_also_where_queries_are_recorded() {
    let policy = POLICY.replace("  match:", "  recordRequestText: true\n  match:");
    let tables = tables(&(policy + &key("reader", "reader", "app-reader", "")));
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let record = |path: &str| {
        let ask = request(path, &headers, None);
        let begun = begin(&tables, &Now, &Settings::default(), &mut TokenCache::default(), &ask);
        let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
        (code(&verdict), verdict.record)
    };
    let (_, plain) = record("/api/v2/crm/_table/orders?limit=1");
    assert!(plain.asked.as_ref().unwrap().path.ends_with("?limit=1") && plain.erased.is_empty());
    let (denied, record) = record("/api/v2/crm/_table/orders?limit=1&%61pi_key=hush-hush");
    assert_eq!(denied, Some(Code::CredentialInvalid));
    assert!(!format!("{record:?}").contains("hush"), "{record:?}");
    assert_eq!(record.erased, ["asked.query"]);
}

#[test]
fn no_spelling_of_a_services_path_passes_as_unmatched() {
    let tables = tables(POLICY);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |path: &str| {
        let begun = begin(&tables, &Now, &settings, &mut TokenCache::default(), &request(path, &[], None));
        let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
        code(&verdict)
    };
    assert_eq!(ask("/api/v2/crm/_table/orders"), Some(Code::CredentialMissing));
    for path in [
        "//api/v2/crm/x",
        "/api//v2/crm/x",
        "/./api/v2/crm/x",
        "/health/../api/v2/crm/x",
        "/api/v2/crm;a=b/x",
        "/%61pi/v2/crm/x",
        "/%2561pi/v2/crm/x",
        "/api%2fv2/crm/x",
        "/api/v2%5ccrm/x",
        "\\api\\v2\\crm",
        "/API/v2/crm/x",
        "/api/v2/crm%3fx",
        "/api/v2/%20crm/x",
        // A server that keeps empty segments takes back the empty one (RFC 3986, section 5.2.4).
        "/api/v2//../crm/x",
        "/api/v2/%2f%2e%2e/crm/x",
        // Encoded more often than anybody looks: nobody knows what it names.
        "/%2525252561pi/v2/crm/x",
    ] {
        assert_eq!(ask(path), Some(Code::NoRoute), "{path}");
    }
    for path in ["/health", "/api/v2/other", "/api/v2/crmx", "/", "*", "/x%zz", "/\u{fffd}"] {
        assert_eq!(ask(path), None, "{path}");
    }
}

#[test]
fn no_header_that_some_framework_takes_for_the_path_leads_an_unmatched_request_to_a_service() {
    let tables = tables(POLICY);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |name: &str, value: &[u8]| {
        let headers = [Header { name, value }];
        let ask = request("/health", &headers, None);
        let Begin::Done(verdict) = begin(&tables, &Now, &settings, &mut TokenCache::default(), &ask) else { panic!() };
        code(&verdict)
    };
    for name in ["x-original-url", "x-rewrite-url", "x_original_url"] {
        for path in ["/api/v2/crm/_table/orders", "/API/crm", "/%61pi/v2/crm", "http://h/api/v2/crm"] {
            assert_eq!(ask(name, path.as_bytes()), Some(Code::NoRoute), "{name} {path}");
        }
        assert_eq!(ask(name, b"/api/v2/crm/\xff"), Some(Code::NoRoute));
        assert_eq!(ask(name, b"/health"), None);
    }
    assert_eq!(ask("x-other", b"/api/v2/crm"), None);
}

#[test]
fn no_path_under_which_dreamfactory_serves_a_declared_service_too_passes_as_unmatched() {
    let matches = |matches: &str| tables(&POLICY.replace("match: [{ path: /api/v2/crm }]", matches));
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |tables: &Tables, authority: &str, path: &str| {
        let ask = HttpRequest { authority, ..request(path, &[], None) };
        let Begin::Done(verdict) = begin(tables, &Now, &settings, &mut TokenCache::default(), &ask) else { panic!() };
        code(&verdict)
    };
    let declared = ["/api/v2/crm", "/api/crm", "/api/v2/CRM", "/index.php/api/v1/Crm"];
    for path in declared {
        let tables = matches(&format!("match: [{{ hosts: [data.example.com], path: {path} }}]"));
        let ask = |path: &str| ask(&tables, "data.example.com", path);
        assert_eq!(ask(path), Some(Code::CredentialMissing), "{path}");
        for other in [
            "/api/crm/_table/orders",
            "/api/crm",
            "/api/crm?x=1",
            "/api/v1/crm/_table/orders",
            "/api/v2/crm/_table/orders",
            "/api/v2.0/CRM/_table/orders",
            "/api/v.../crm",
            "/api/v/crm",
            "/api/%76%31/crm",
            "/API/V3/Crm",
            "/index.php/api/v2/crm/_table/orders",
            "/index.php/api/crm",
            "/INDEX.PHP/api/v1/crm",
            "/index%2ephp/api/crm",
            "/index.php/index.php/api/crm",
            "/index.phpapi/v2/crm",
            "/api/v1/v2/crm",
        ] {
            let expected = if other.starts_with(path) { Code::CredentialMissing } else { Code::NoRoute };
            assert_eq!(ask(other), Some(expected), "{path} {other}");
        }
        for other in ["/", "/index.php", "/index.php/health", "/api", "/api/v2", "/api/v2/other", "/api/crmx", "/crm"] {
            assert_eq!(ask(other), None, "{path} {other}");
        }
    }
    // Of other hosts nothing is known.
    let tables = matches("match: [{ hosts: [data.example.com], path: /api/v2/crm }]");
    assert_eq!(ask(&tables, "www.example.com", "/api/crm"), None);
    let tables = matches("match: [{ hosts: [\"*.example.com\"], path: /api/v2/crm }]");
    assert_eq!(ask(&tables, "data.example.com", "/api/crm"), Some(Code::NoRoute));
    // Other servers have no such paths; and a path of a version alone stands for no other.
    let text = POLICY.replace("dialect: dreamfactory", "dialect: datasette").replace("_table/orders", "crm/orders");
    assert_eq!(ask(&self::tables(&text), "h", "/api/crm"), None);
    let tables = matches("match: [{ path: /v2 }]");
    assert_eq!((ask(&tables, "h", "/health"), ask(&tables, "h", "/v2/x")), (None, Some(Code::CredentialMissing)));
}

#[test]
fn the_record_of_a_refused_key_names_the_key_if_there_is_one_and_nothing_of_an_unknown_one() {
    let text = [
        key("gone", "gone", "app-reader", ", revoked: true"),
        key("old", "old", "app-reader", ", notAfter: \"2020-01-01T00:00:00Z\""),
        key("early", "early", "app-reader", ", notBefore: \"2090-01-01T00:00:00Z\""),
        key("locked", "locked", "app-reader", ", networks: [198.51.100.0/24]"),
        key("good", "good", "app-reader", ""),
    ];
    let tables = tables(&(POLICY.to_owned() + &text.concat()));
    let ask = |headers: &[Header<'_>]| {
        let request = request("/api/v2/crm/_table/orders", headers, None);
        let begun = begin(&tables, &Now, &Settings::default(), &mut TokenCache::default(), &request);
        let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
        (code(&verdict), verdict.record.principal.unwrap().key, format!("{:?}", verdict.record.decision))
    };
    for (presented, code, name) in [
        ("gone", Code::CredentialRevoked, "gone"),
        ("old", Code::CredentialExpired, "old"),
        ("early", Code::CredentialExpired, "early"),
        ("locked", Code::CredentialLocked, "locked"),
        ("s3cr3t-guess", Code::CredentialInvalid, ""),
    ] {
        let (denied, key, decision) = ask(&[Header { name: "x-doorward-key", value: presented.as_bytes() }]);
        assert_eq!((denied, key.as_str()), (Some(code), name), "{presented}");
        assert!(!decision.contains("s3cr3t"), "{decision}");
    }
    // A good key beside a token that is none.
    let both =
        [Header { name: "x-doorward-key", value: b"good" }, Header { name: "authorization", value: b"Bearer a.b.c" }];
    let (denied, key, _) = ask(&both);
    assert_eq!((denied, key.as_str()), (Some(Code::CredentialInvalid), "good"));
}

#[test]
fn no_target_that_some_server_reads_as_another_authority_or_path_passes_as_unmatched() {
    let text =
        POLICY.replace("match: [{ path: /api/v2/crm }]", "match: [{ hosts: [data.example.com], path: /API/v2/crm }]");
    let tables = tables(&text);
    let settings = Settings { unmatched: Unmatched::Allow, ..Settings::default() };
    let ask = |authority: &str, path: &str| {
        let ask = HttpRequest { authority, ..request(path, &[], None) };
        let Begin::Done(verdict) = begin(&tables, &Now, &settings, &mut TokenCache::default(), &ask) else { panic!() };
        code(&verdict)
    };
    for path in [
        "//data.example.com/API/v2/crm/x",
        "///data.example.com/API/v2/crm/x",
        "/\\data.example.com/API/v2/crm/x",
        "\\\\data.example.com/API/v2/crm/x",
        "/%2fdata.example.com/API/v2/crm/x",
        "/%5cdata.example.com/API/v2/crm/x",
        "/.//data.example.com/API/v2/crm/x",
        "/./%2f/data.example.com/API/v2/crm/x",
        "/;a//data.example.com/API/v2/crm/x",
        "/%20/data.example.com/API/v2/crm/x",
        "//user@data.example.com:443/API/v2/crm/x",
        "http://data.example.com/API/v2/crm/x",
        "HTTP:/data.example.com/API/v2/crm/x",
        "http:data.example.com/API/v2/crm/x",
        "data.example.com/API/v2/crm/x",
        "?/API/v2/crm/x",
        "",
        "/http:/data.example.com/API/v2/crm/x",
        "/http://data.example.com/API/v2/crm/x",
        "/https%3a//data.example.com/API/v2/crm/x",
    ] {
        // Also for a host of which nothing is declared: the path names its own.
        for authority in ["h", "data.example.com"] {
            assert_eq!(ask(authority, path), Some(Code::NoRoute), "{authority} {path}");
        }
    }
    // The path of the service in other letters, for its host.
    for path in [
        "/api/v2/crm/x",
        "/API/V2/CRM",
        "/api/v2/crm",
        "/%61pi/v2/crm/x",
        "/api./v2/crm /x",
        "/api/v2/crm%00/x",
        "/%c1%a1pi/v2/crm/x",
        "/%e0%81%a1pi/v2/crm/x",
        "/%u0061pi/v2/crm/x",
        "/\u{ff41}\u{ff50}\u{ff49}/v2/crm/x",
        "/api\u{2215}v2/crm",
    ] {
        assert_eq!(ask("data.example.com", path), Some(Code::NoRoute), "{path}");
    }
    for (authority, path) in [
        ("h", "/api/v2/crm/x"),
        ("h", "/"),
        ("h", "//"),
        ("h", "/./health"),
        ("h", "/health//x"),
        ("h", "/caf%c3%a9"),
        ("h", "/caf%e9"),
        ("h", "*"),
        ("h", "/a:b/c"),
        ("data.example.com", "/other?next=//data.example.com/API/v2/crm"),
    ] {
        assert_eq!(ask(authority, path), None, "{authority} {path}");
    }
}

#[test]
fn a_request_for_no_host_or_for_two_is_refused_before_anything_is_looked_up() {
    let tables = tables(&(POLICY.to_owned() + &key("reader", "reader", "app-reader", "")));
    for unmatched in [Unmatched::Deny, Unmatched::Allow] {
        let settings = Settings { unmatched, ..Settings::default() };
        for authority in
            ["", "h:443@evil.test", "u@h", "h,evil.test", "h evil.test", "h:x", "[::1", "h/..", "h\\x", "h%2e"]
        {
            let headers = [Header { name: "x-doorward-key", value: b"reader" }];
            for path in ["/api/v2/crm/_table/orders", "/health"] {
                let ask = HttpRequest { authority, ..request(path, &headers, None) };
                let begun = begin(&tables, &Now, &settings, &mut TokenCache::default(), &ask);
                let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
                assert_eq!(code(&verdict), Some(Code::Unparsable), "{authority:?} {path}");
            }
        }
        // Envoy gives `Host` as `:authority`; one that stands beside it is a second one.
        for (host, good) in [("h", true), ("evil.test", false)] {
            let headers =
                [Header { name: "x-doorward-key", value: b"reader" }, Header { name: "host", value: host.as_bytes() }];
            let ask = request("/api/v2/crm/_table/orders", &headers, None);
            let begun = begin(&tables, &Now, &settings, &mut TokenCache::default(), &ask);
            let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
            assert_eq!(code(&verdict), (!good).then_some(Code::Unparsable), "{host}");
        }
    }
}

/// What goes upstream of these headers, for this service's `upstream`; or the code of the denial.
fn sent(upstream: &str, principal: Principal, headers: &[(&str, &str)]) -> Result<Vec<(String, String)>, Code> {
    let text = POLICY.replace("  match:", &format!("  upstream: {upstream}\n  match:"))
        + "---\nkind: AccessBinding\nmetadata: { name: all }\nspec: { role: app-reader, subjects: [{ anyUser: true }] }\n";
    let tables = tables(&text);
    let headers: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let principal = Arc::new(principal);
    let verdict = explain(&tables, &Now, &Settings::default(), &principal, &ask, &mut Trace::default());
    match verdict.outcome {
        Outcome::Allow(rewrite) => {
            let kept = headers.iter().filter(|header| {
                let is = |name: &String| name == header.name;
                !rewrite.remove_headers.iter().any(is) && !rewrite.set_headers.iter().any(|(name, _)| is(name))
            });
            let kept = kept.map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
            Ok(kept.chain(rewrite.set_headers.iter().cloned()).collect())
        }
        Outcome::Deny(denial) => {
            assert!(verdict.record.sent.is_none(), "{:?}", verdict.record);
            Err(denial.code)
        }
        Outcome::Pass => panic!("passed"),
    }
}

fn alice() -> Principal {
    Principal { user: Some("alice".into()), ..Principal::default() }
}

#[test]
fn a_header_says_exactly_what_was_decided_on_or_the_request_is_denied() {
    use crate::identity::{Agent, Attribute};
    let headers = "{ headers: { x-u: user, x-t: tenant, x-g: groups, x-a: agent, x-r: { attribute: region } } }";
    let of = |principal: Principal| {
        sent(headers, principal, &[]).map(|all| {
            let all = all.into_iter().filter(|(name, _)| name != "accept" && name != "wrap");
            let mut all: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
            all.sort();
            all.join(" ")
        })
    };
    assert_eq!(of(alice()), Ok("x-u=alice".into()));
    let full = Principal {
        tenant: Some("Łódź".into()),
        groups: vec!["a b".into(), "c".into()],
        attributes: vec![("region".into(), Attribute::One("Doe, John".into()))],
        ..alice()
    };
    assert_eq!(of(full), Ok("x-g=a b,c x-r=Doe, John x-t=Łódź x-u=alice".into()));
    let empty = Principal { attributes: vec![("region".into(), Attribute::Many(vec![]))], ..alice() };
    assert_eq!(of(empty), Ok("x-u=alice".into()));
    for bad in [
        " ",
        " x",
        "x ",
        "x\t",
        "x\u{a0}",
        "\u{feff}x",
        "x\u{200b}",
        "x\ry",
        "x\ny",
        "x\0y",
        "x\u{7f}",
        "x\u{85}",
        "x\u{3000}",
    ] {
        for (list, principal) in [
            (false, Principal { user: Some(bad.into()), ..Principal::default() }),
            (false, Principal { tenant: Some(bad.into()), ..alice() }),
            (true, Principal { groups: vec!["a".into(), bad.into()], ..alice() }),
            (true, Principal { attributes: vec![("region".into(), Attribute::Many(vec![bad.into()]))], ..alice() }),
            (false, Principal { attributes: vec![("region".into(), Attribute::One(bad.into()))], ..alice() }),
        ] {
            assert_eq!(of(principal), Err(Code::AttributeInvalid), "{bad:?} {list}");
        }
    }
    // A comma in a member would make two of it.
    for principal in [
        Principal { groups: vec!["a,b".into()], ..alice() },
        Principal { attributes: vec![("region".into(), Attribute::Many(vec!["a".into(), "b,c".into()]))], ..alice() },
    ] {
        assert_eq!(of(principal), Err(Code::AttributeInvalid));
    }
    // Agents need roles of their own, so only the header's side is looked at here.
    let tables = tables(&POLICY.replace("  match:", "  upstream: { headers: { x-a: agent } }\n  match:"));
    let service = tables.service("crm").unwrap();
    let agents = |name: &str| {
        let principal =
            Principal { agents: vec![Agent { name: "first".into() }, Agent { name: name.into() }], ..alice() };
        let settings = identity::Settings::default();
        let caller = upstream::Caller {
            service,
            principal: Some(&principal),
            role: None,
            decision_id: "id",
            settings: &settings,
        };
        let mut rewrite = Rewrite::default();
        upstream::identity_headers(&mut rewrite, &caller, &request("/", &[], None)).map(|()| rewrite.set_headers)
    };
    assert_eq!(agents("bot").unwrap(), [("x-a".to_owned(), "first,bot".to_owned())]);
    assert!(agents("b,ot").is_err() && agents("bot ").is_err());
}

#[test]
fn what_clients_say_of_who_they_are_goes_on_only_where_the_service_keeps_it() {
    let headers = [
        ("prefer", "a"),
        ("x-forwarded-user", "root"),
        ("x_forwarded_user", "root"),
        ("x-hasura-role", "admin"),
        ("x-tenant-id", "other"),
        ("x_tenant_id", "third"),
        ("remote_user", "root"),
        ("proxy-authorization", "Basic cm9vdDo="),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let names = |upstream: &str| {
        let mut all = sent(upstream, alice(), &headers).unwrap();
        all.retain(|(name, _)| !name.starts_with("x-doorward-") && name != "accept" && name != "wrap");
        all
    };
    let plain = [("prefer", "a"), ("x-forwarded-for", "192.0.2.1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(names("{}"), plain);
    assert_eq!(names("{ forwardToken: true }"), plain);
    let kept = names("{ keepHeaders: [X-Tenant-ID] }");
    assert!(kept.contains(&("x-tenant-id".into(), "other".into())) && kept.len() == 3, "{kept:?}");
    // What the service maps is the proxy's, whatever is kept beside it.
    let mapped = names("{ headers: { x-hasura-user-id: user, x-forwarded-user: user } }");
    assert!(mapped.contains(&("x-forwarded-user".into(), "alice".into())) && mapped.len() == 4, "{mapped:?}");
    assert!(mapped.contains(&("x-hasura-user-id".into(), "alice".into())), "{mapped:?}");
}

#[test]
fn cookies_go_on_where_the_service_says_so_and_never_with_the_callers_credential() {
    let cookies = |upstream: &str, headers: &[(&str, &str)]| {
        let all = sent(upstream, alice(), headers).unwrap();
        all.into_iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value).collect::<Vec<_>>()
    };
    let plain = [("cookie", "theme=dark"), ("authorization", "Bearer aaa.bbb.ccc"), ("x-api-key", "dwk_1")];
    assert!(cookies("{}", &plain).is_empty());
    assert_eq!(cookies("{ cookies: true }", &plain), ["theme=dark"]);
    for cookie in [
        "session=aaa.bbb.ccc",
        "a=b; t=aaa.bbb.ccc; c=d",
        "key=\"dwk_1\"",
        "t=Bearer%20aaa.bbb.ccc",
        "t=%61aa%2Ebbb.ccc",
    ] {
        let headers = [("cookie", cookie), plain[1], plain[2]];
        assert!(cookies("{ cookies: true }", &headers).is_empty(), "{cookie}");
        assert!(cookies("{ cookies: true, forwardToken: true }", &headers).is_empty(), "{cookie}");
    }
    let blank = [("cookie", "t=aaa.bbb.ccc"), ("authorization", "Bearer  aaa.bbb.ccc  ")];
    assert!(cookies("{ cookies: true }", &blank).is_empty());
}

/// A preflight as browsers send it, and what of it goes upstream.
#[test]
fn a_preflight_goes_upstream_without_anything_but_its_question_and_only_where_the_service_says_so() {
    let preflight = [
        Header { name: "origin", value: b"https://app.example.com" },
        Header { name: "access-control-request-method", value: b"PATCH" },
        Header { name: "access-control-request-headers", value: b"x-dreamfactory-api-key" },
        Header { name: "user-agent", value: b"browser" },
        Header { name: "cookie", value: b"session=1" },
        Header { name: "authorization", value: b"Bearer x" },
        Header { name: "x-http-method", value: b"GET" },
        Header { name: "x-doorward-user", value: b"evil" },
        Header { name: "x-anything", value: b"1" },
    ];
    let ask = |text: &str, method: &str, path: &str, headers: &[Header<'_>], body: Option<&[u8]>| {
        let request = HttpRequest { method, body, ..request(path, headers, None) };
        let begun = begin(&tables(text), &Now, &Settings::default(), &mut TokenCache::default(), &request);
        let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
        verdict
    };
    let path = "/api/v2/crm/_table/orders?filter=x&api_key=hush";
    let denied = ask(POLICY, "OPTIONS", path, &preflight, None);
    let Outcome::Deny(denial) = &denied.outcome else { panic!("{:?}", denied.outcome) };
    assert!(denial.code == Code::Unsupported && denial.detail.contains("cors: pass"), "{denial}");
    let open = POLICY.replace("  match:", "  cors: pass\n  match:");
    let verdict = ask(&open, "OPTIONS", path, &preflight, None);
    let Outcome::Allow(rewrite) = &verdict.outcome else { panic!("{:?}", verdict.outcome) };
    assert_eq!(rewrite.path.as_deref(), Some("/api/v2/crm/_table/orders"));
    for name in ["cookie", "authorization", "x-http-method", "x-doorward-user", "x-anything"] {
        assert!(rewrite.remove_headers.iter().any(|removed| removed == name), "{name}");
    }
    assert!(!rewrite.remove_headers.iter().any(|name| name == "origin" || name.starts_with("access-control-")));
    assert!(rewrite.set_headers.is_empty() && rewrite.body.is_none(), "{rewrite:?}");
    assert!(rewrite.response.preflight && !rewrite.response.is_passthrough());
    let record = &verdict.record;
    assert_eq!(record.principal.as_ref().unwrap().user, "unidentified");
    assert_eq!((record.service.as_str(), record.decision.as_ref().unwrap().outcome.as_str()), ("crm", "rewrite"));
    assert!(!format!("{record:?}").contains("hush"));
    let required = open.replace("  match:", "  audit: required\n  match:");
    assert!(ask(&required, "OPTIONS", path, &preflight, None).audit_required);
    // What is no preflight by its form needs a credential as anything else does.
    let (origin, method) = (preflight[0], preflight[1]);
    let length = Header { name: "content-length", value: b"3" };
    let chunked = Header { name: "transfer-encoding", value: b"chunked" };
    for (verb, headers) in [
        ("OPTIONS", vec![origin]),
        ("OPTIONS", vec![method]),
        ("OPTIONS", vec![origin, origin, method]),
        ("OPTIONS", vec![origin, method, method]),
        ("OPTIONS", vec![origin, method, length]),
        ("OPTIONS", vec![origin, method, chunked]),
        ("GET", vec![origin, method]),
        ("POST", vec![origin, method]),
        ("options", vec![origin, method]),
    ] {
        assert_eq!(code(&ask(&open, verb, "/api/v2/crm/_table/orders", &headers, None)), Some(Code::CredentialMissing));
    }
    // A path that servers read differently goes nowhere.
    for path in ["/api/v2/crm/../x", "/api/v2/crm/%2e%2e/x", "/api/v2/crm//x", "/api/v2/crm/a%2fb", "/api/v2/crm/a;b"] {
        assert_eq!(code(&ask(&open, "OPTIONS", path, &preflight, None)), Some(Code::Unparsable), "{path}");
    }
}

#[test]
fn no_caller_makes_a_record_larger_than_its_bound_and_the_hashes_cover_what_was_cut() {
    use crate::audit::bounds::MAX_RECORD_BYTES;
    use prost::Message as _;
    let recording = POLICY.replace("  match:", "  recordRequestText: true\n  match:");
    let tables = tables(&(recording + &key("reader", "reader", "app-reader", "")));
    let long = |unit: &str| unit.repeat(57_000 / unit.len());
    let headers = [Header { name: "x-doorward-key", value: b"reader" }];
    let paths = [
        format!("/{}", long("a")),
        format!("/{}", long("ü")),
        format!("/api/v2/crm/{}", long("a")),
        format!("/api/v2/crm/_table/{}", long("a")),
        format!("/api/v2/crm/_table/orders?{}", long("a")),
        format!("/api/v2/crm/_table/orders?fields={}", long("a,")),
        format!("/api/v2/crm/_table/orders?filter=status='{}'", long("a")),
        format!("/api/v2/crm/_table/orders?related={}", long("b_by_id,")),
        format!("/api/v2/crm/_table/orders/{}", long("1")),
    ];
    for path in &paths {
        for headers in [&headers[..], &[]] {
            for (method, authority) in [("GET", "x"), (&long("M"), &long("h."))] {
                let ask = HttpRequest { method, authority, ..request(path, headers, None) };
                let begun = begin(&tables, &Now, &Settings::default(), &mut TokenCache::default(), &ask);
                let Begin::Done(verdict) = begun else { continue };
                let size = verdict.record.encoded_len();
                assert!(size < 8 << 10, "{size}: {}", &path[..40]);
                let asked = verdict.record.asked.unwrap();
                assert_eq!(asked.sha256, crate::audit::fingerprint(method, authority, path));
                // Of a request for no host no query is recorded: no service says that it may be.
                let cut = asked.path.ends_with('…') && verdict.record.cut.contains(&"asked.path".into());
                assert!(cut || (authority != "x" && path.starts_with(&asked.path)), "{path:.40}");
            }
        }
    }
    // What a token may say of its holder.
    let names = |count: usize, length: usize| (0..count).map(move |at| format!("{at:0length$}").into());
    let principal = Arc::new(Principal {
        user: names(1, 16_000).next(),
        tenant: names(1, 16_000).next(),
        groups: names(512, 300).collect(),
        attributes: names(256, 300).map(|name| (name, identity::Attribute::Many(names(512, 40).collect()))).collect(),
        agents: names(9, 16_000).map(|name| identity::Agent { name }).collect(),
        mesh: names(1, 16_000).next(),
        ..Principal::default()
    });
    let verdict = explain(
        &tables,
        &Now,
        &Settings::default(),
        &principal,
        &request(&paths[5], &headers, None),
        &mut Trace::default(),
    );
    let record = verdict.record;
    assert!(record.encoded_len() < MAX_RECORD_BYTES - 4096, "{}", record.encoded_len());
    for place in ["principal.user", "principal.agents", "principal.groups", "principal.attributes", "asked.path"] {
        assert!(record.cut.contains(&place.to_owned()), "{place}: {:?}", record.cut);
    }
    assert!(record.principal.unwrap().groups.len() > 30);
}

/// A policy whose provider is asked about opaque tokens, with these documents beside it.
fn asking(epoch: u64, more: &str) -> Tables {
    let identity = "---
kind: IdentityProvider
metadata: { name: corp }
spec:
  issuer: https://idp.example
  audiences: [api]
  algorithms: [EdDSA]
  jwks: { inline: { keys: [{ kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] } }
";
    let parsed = parse_file("policy.yaml", &format!("{POLICY}{identity}{more}"));
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let mut compiled = compile(&parsed.documents, &NoKeys, "default");
    let error = compiled.diagnostics.iter().find(|found| found.severity == Severity::Error);
    assert!(error.is_none(), "{error:?}");
    for provider in &mut compiled.bundle.providers {
        provider.introspection =
            Some(doorward_proto::v1::Introspection { token_prefix: 0, cache_seconds: 30, jwts: false });
    }
    Tables::build(&compiled.bundle, compiled.digest, epoch).unwrap()
}

fn bound(role: &str) -> String {
    format!(
        "---\nkind: AccessBinding\nmetadata: {{ name: b }}\nspec: {{ role: {role}, subjects: [{{ user: alice }}] }}\n"
    )
}

const ALICE: &[u8] = br#"{"active":true,"sub":"alice","aud":"api"}"#;
const OPAQUE: [Header<'static>; 3] = [
    Header { name: "authorization", value: b"Bearer opaque" },
    Header { name: "content-type", value: b"application/json" },
    Header { name: "content-length", value: b"29" },
];

#[test]
fn a_request_goes_on_with_the_answer_and_names_the_person_under_the_same_decision_id() {
    let (tables, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let mut cache = TokenCache::default();
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let begun = begin(&tables, &Now, &settings, &mut cache, &ask);
    let Begin::Ask { question: Question::Introspection(question), pending } = begun else { panic!("{begun:?}") };
    assert_eq!((&*question.provider, &*question.token), ("corp", "opaque"));
    let id = pending.decision_id().to_owned();
    let done = answer(&tables, &Now, &settings, &mut cache, pending, Answer::Introspection(ALICE), &ask);
    let Begin::Done(verdict) = done else { panic!("{done:?}") };
    assert_eq!((code(&verdict), &verdict.decision_id), (None, &id));
    assert_eq!(verdict.record.principal.as_ref().map(|principal| &*principal.user), Some("alice"));
    // The next request with this token asks nobody.
    assert!(
        matches!(begin(&tables, &Now, &settings, &mut cache, &ask), Begin::Done(verdict) if code(&verdict).is_none())
    );
}

#[test]
fn a_question_without_an_answer_is_denied_and_its_record_names_the_provider_but_no_token() {
    let (tables, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    for given in [Answer::None, Answer::Introspection(b"<html>"), Answer::Introspection(b"")] {
        let mut cache = TokenCache::default();
        let begun = begin(&tables, &Now, &settings, &mut cache, &ask);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        assert!(!format!("{pending:?}").contains("opaque"));
        let done = answer(&tables, &Now, &settings, &mut cache, pending, given, &ask);
        let Begin::Done(verdict) = done else { panic!("{done:?}") };
        assert_eq!(code(&verdict), Some(Code::IdentityUnavailable));
        assert_eq!(verdict.record.principal.as_ref().map(|principal| &*principal.provider), Some("corp"));
        assert!(!format!("{:?}", verdict.record).contains("opaque"));
        assert!(cache.is_empty());
    }
}

#[test]
fn the_policy_in_force_when_the_answer_comes_decides() {
    let (before, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let after = |tables: &Tables| {
        let mut cache = TokenCache::default();
        let begun = begin(&before, &Now, &settings, &mut cache, &ask);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        let done = answer(tables, &Now, &settings, &mut cache, pending, Answer::Introspection(ALICE), &ask);
        let Begin::Done(verdict) = done else { panic!("{done:?}") };
        code(&verdict)
    };
    assert_eq!(after(&asking(2, &bound("app-writer"))), Some(Code::VerbDenied));
    assert_eq!(after(&asking(2, "")), Some(Code::RoleNone));
    let restricted = "---\nkind: AccessRestriction\nmetadata: { name: r }\nspec: { subjects: [{ user: alice }], effect: revokeTokens }\n";
    assert_eq!(after(&asking(2, &(bound("app-reader") + restricted))), Some(Code::CredentialRevoked));
    // Without the provider, or without the service.
    assert_eq!(after(&tables(POLICY)), Some(Code::CredentialInvalid));
    assert_eq!(after(&tables(&POLICY.replace("/api/v2/crm", "/api/v2/other"))), Some(Code::NoRoute));
}

#[test]
fn an_answer_to_another_question_is_asked_again_a_few_times_at_most() {
    let settings = Settings::default();
    let tables = asking(1, &bound("app-reader"));
    let other = [Header { name: "authorization", value: b"Bearer another" }];
    let headers = [OPAQUE[0]];
    let (first, second) =
        (request("/api/v2/crm/_table/orders", &headers, None), request("/api/v2/crm/_table/orders", &other, None));
    let mut cache = TokenCache::default();
    let mut begun = begin(&tables, &Now, &settings, &mut cache, &first);
    let mut rounds = 0;
    // Each answer is about the token before.
    while let Begin::Ask { pending, .. } = begun {
        rounds += 1;
        let ask = if rounds % 2 == 1 { &second } else { &first };
        begun = answer(&tables, &Now, &settings, &mut cache, pending, Answer::Introspection(ALICE), ask);
    }
    let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
    assert_eq!((rounds, code(&verdict)), (3, Some(Code::IdentityUnavailable)));
}

#[test]
fn an_answer_counts_for_the_whole_request_and_after_a_change_of_policy_the_body_is_denied() {
    let (tables, changed, settings) =
        (asking(1, &bound("app-writer")), asking(2, &bound("app-writer")), Settings::default());
    let body = br#"{"resource":[{"status":"x"}]}"#;
    let whole = request("/api/v2/crm/_table/orders", &OPAQUE, Some(body));
    let finished = |tables_then: &Tables| {
        let mut cache = TokenCache::default();
        let head = HttpRequest { body: None, ..whole };
        let begun = begin(&tables, &Now, &settings, &mut cache, &head);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        let begun = answer(&tables, &Now, &settings, &mut cache, pending, Answer::Introspection(ALICE), &head);
        let Begin::Body { pending, .. } = begun else { panic!("{begun:?}") };
        // Others pushed it out meanwhile.
        cache.clear();
        code(&finish(tables_then, &Now, &settings, &mut cache, pending, &whole))
    };
    assert_eq!(finished(&tables), None);
    assert_eq!(finished(&changed), Some(Code::IdentityUnavailable));
}
