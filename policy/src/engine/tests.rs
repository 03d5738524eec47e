//! What holds between the steps: a policy that changes while a body comes, and services in shadow mode.

use super::*;
use crate::{
    compile::{NoKeys, compile},
    document::parse_file,
    request::Header,
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
    let error = compiled.diagnostics.iter().find(|found| found.severity == crate::document::Severity::Error);
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
                assert!(asked.path.ends_with('…') && verdict.record.cut.contains(&"asked.path".into()), "{path:.40}");
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
