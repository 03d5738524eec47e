//! What the headers of a response give away, over the wire.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "tests"
)]

use doorward_tests::{
    data::Shop,
    stack::Stack,
    token::key_hash,
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
    let key = format!(
        "---\nkind: AccessKey\nmetadata: {{ name: tool }}\nspec: {{ hash: \"{}\", role: app-reader }}\n",
        key_hash(KEY)
    );
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
