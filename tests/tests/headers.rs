//! What the headers of a response give away, over the wire.

use doorward_test_support::policy::access_key;
use doorward_tests::{
    data::Shop,
    stack::Stack,
    upstream::{Answer, Upstream},
};

const KEY: &str = "dwk_headers_0123456789abcdef0123456789abcd";
const POLICIES: &str = r#"
kind: DataService
metadata: { name: crm }
spec:
  dialect: http
  match: [{ path: /crm }]
  components:
    people:
      fields: { id: integer, ssn: string }
      operations: [{ path: /people, verbs: [GET], rowsAt: /people }]
    status:
      operations: [{ path: /status, verbs: [GET] }]
---
kind: AccessRole
metadata: { name: app-reader }
spec:
  grants:
    - { service: crm, components: [people], verbs: [GET], fields: { read: [id, ssn], mask: { ssn: last4 } } }
    - { service: crm, components: [status], verbs: [GET] }
---
kind: AccessBinding
metadata: { name: reader }
spec: { role: app-reader, subjects: [{ anyUser: true }] }
"#;

#[test]
fn no_hash_of_the_unmasked_body_comes_through_and_no_cache_may_keep_what_a_key_got() {
    // As many frameworks do by themselves: hashes of the body, and leave for caches.
    let upstream = Upstream::start(|_| {
        let mut answer = Answer::json(200, r#"{"people":[{"id":1,"ssn":"123-45-6789"}]}"#);
        for line in ["etag: \"1f3a\"", "content-digest: sha-256=:1f3a:", "cache-control: public, max-age=60"] {
            answer.head.push(line.into());
        }
        answer
    });
    let key = access_key("tool", KEY, "app-reader", "");
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), &format!("{POLICIES}{key}"), "");
    let token = stack.issuer.token("ann", &[], "west");

    // With the rest of the body known, a hash would let nine digits be tried out until one fits.
    let masked = stack.get("/crm/people").token(&token).send();
    assert_eq!(masked.status, 200, "{}", masked.text());
    assert!(!masked.text().contains("123-45") && masked.text().contains("6789"), "{}", masked.text());
    for name in ["etag", "content-digest"] {
        assert_eq!(masked.header(name), None, "{name}");
    }

    // What is not changed keeps its hash. That it is one caller's, caches know where the request had `authorization`.
    let plain = stack.get("/crm/status").token(&token).send();
    assert_eq!((plain.status, plain.header("etag")), (200, Some("\"1f3a\"")), "{}", plain.text());
    assert_eq!(plain.header("cache-control"), Some("public, max-age=60"));
    for path in ["/crm/people", "/crm/status"] {
        let keyed = stack.get(path).header("x-doorward-key", KEY).send();
        assert_eq!((keyed.status, keyed.header("cache-control")), (200, Some("private, no-store")), "{path}");
    }
}

/// A server that does not know of preflights may answer `OPTIONS` as it answers `GET`.
#[test]
fn a_preflight_brings_back_headers_of_cors_and_nothing_else() {
    let upstream = Upstream::start(|seen| {
        let rows = if seen.method == "OPTIONS" && seen.path.contains("status") {
            ""
        } else {
            r#"{"people":[{"ssn":"123-45-6789"}]}"#
        };
        let mut answer = Answer::json(200, rows);
        for line in [
            "access-control-allow-origin: https://app.example.com",
            "access-control-allow-methods: GET, PATCH",
            "set-cookie: session=1",
            "etag: \"1f3a\"",
            "location: /elsewhere",
            "x-rows: 123-45-6789",
        ] {
            answer.head.push(line.into());
        }
        answer
    });
    let folder = tempfile::tempdir().unwrap();
    let policies = POLICIES.replace("  dialect: http", "  cors: pass\n  dialect: http");
    let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), &policies, "");
    let _ = upstream.take();
    for path in ["/crm/people?access_token=hush", "/crm/status", "/crm/none"] {
        let answer = stack
            .request("OPTIONS", path)
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", "PATCH")
            .header("authorization", "Bearer hush")
            .header("cookie", "session=1")
            .header("x-doorward-user", "evil")
            .send();
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, PATCH"), "{path}");
        for name in ["set-cookie", "etag", "location", "x-rows", "content-type"] {
            assert_eq!(answer.header(name), None, "{path} {name}");
        }
        let seen = upstream.take();
        let [seen] = seen.as_slice() else { panic!("{} requests", seen.len()) };
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("OPTIONS", path.split('?').next().unwrap()));
        for name in ["authorization", "cookie", "x-doorward-user", "x-doorward-decision"] {
            assert_eq!(seen.header(name), None, "{path} {name}");
        }
        assert_eq!(seen.header("origin"), Some("https://app.example.com"));
    }
    // Without an origin it is no preflight, and needs what everything needs.
    stack.request("OPTIONS", "/crm/status").send().denied(401, "credential_missing");
    assert!(upstream.take().is_empty());
}

#[test]
fn a_head_tells_what_a_get_tells_but_for_the_body() {
    let upstream = Upstream::start(|seen| {
        let mut answer = Answer::json(200, if seen.method == "HEAD" { "" } else { r#"{"people":[]}"# });
        answer.head.push("etag: \"1f3a\"".into());
        answer
    });
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), POLICIES, "");
    let token = stack.issuer.token("ann", &[], "west");
    let _ = upstream.take();
    let answer = stack.request("HEAD", "/crm/people").token(&token).send();
    assert_eq!((answer.status, answer.header("etag"), answer.text().as_str()), (200, None, ""));
    assert_eq!(upstream.take()[0].method, "HEAD");
    assert_eq!(stack.request("HEAD", "/crm/people?unknown=1").token(&token).send().status, 400);
    assert!(upstream.take().is_empty());
}
