//! What becomes of a request's body that comes before, while and after somebody is asked about its token: it reaches the
//! upstream whole, once and after the decision, or not at all.

use doorward_proto::v1::QueryRequest;
use doorward_tests::{
    control,
    data::Shop,
    http::{self, Request},
    stack::Stack,
    upstream::{Answer, Seen, Upstream},
    wait,
};
use std::{
    io::Write as _,
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(40);
/// How long the provider takes to answer.
const ANSWER_TAKES: Duration = Duration::from_millis(300);
const PATH: &str = "/api/v2/crm/notes";
const BODY: &str = r#"{"a": 7}"#;

/// A provider that says of a token what the token says of itself, after a while.
fn provider() -> Upstream {
    Upstream::start(|seen: &Seen| {
        std::thread::sleep(ANSWER_TAKES);
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        let about = |word: &str| form.contains(&format!("token={word}"));
        match form {
            _ if about("good") => Answer::json(200, r#"{"active": true, "sub": "alice", "aud": "data-api"}"#),
            _ if about("bad") => Answer::json(200, r#"{"active": false}"#),
            _ => Answer::json(500, "{}"),
        }
    })
}

fn policies(provider: u16) -> String {
    format!(
        r#"
kind: IdentityProvider
metadata: {{ name: opaque }}
spec:
  issuer: http://127.0.0.1:{provider}
  audiences: [data-api]
  introspection: {{ url: 'http://127.0.0.1:{provider}/introspect', clientId: doorward, clientSecret: {{ file: client }} }}
---
kind: DataService
metadata: {{ name: crm }}
spec:
  dialect: http
  match: [{{ path: /api/v2/crm }}]
  components:
    notes: {{ fields: {{ a: integer }}, operations: [{{ path: /notes, verbs: [GET, POST], single: true }}] }}
---
kind: AccessRole
metadata: {{ name: app-notes }}
spec:
  grants:
    - {{ service: crm, components: [notes], verbs: [GET, POST], fields: {{ read: ["*"], write: ["*"] }}, rows: "a < 100" }}
---
kind: AccessBinding
metadata: {{ name: all }}
spec: {{ role: app-notes, subjects: [{{ anyUser: true }}] }}
"#
    )
}

/// A token that nobody has been asked about.
fn fresh(word: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn start() -> (Stack, Upstream, Upstream) {
    let (upstream, provider) = (Upstream::start(|_| Answer::json(200, r#"{"a": 1}"#)), provider());
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/client"), "secret").unwrap();
    let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), &policies(provider.port), "");
    let _ = upstream.take();
    (stack, upstream, provider)
}

fn post(stack: &Stack, word: &str) -> Request {
    stack.request("POST", PATH).token(&fresh(word)).header("content-type", "application/json")
}

#[test]
fn a_body_that_comes_while_a_token_is_asked_about_reaches_the_upstream_whole_or_not_at_all() {
    let (stack, upstream, _provider) = start();
    let good = |sent: http::Response, how: &str| {
        assert_eq!(sent.status, 200, "{how}: {}", sent.text());
        let seen = upstream.take();
        assert_eq!(seen.len(), 1, "{how}: {seen:?}");
        let body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(body, serde_json::json!({"a": 7}), "{how}");
        assert!(seen[0].header("authorization").is_none_or(|value| !value.contains("good")), "{how}: {seen:?}");
    };
    let refused = |sent: http::Response, status: u16, code: &str, how: &str| {
        assert_eq!((sent.status, sent.code().as_str()), (status, code), "{how}: {}", sent.text());
        let seen = upstream.take();
        assert!(seen.is_empty(), "{how}: {seen:?}");
    };
    let whole = |word: &str| Request { body: Some(BODY.into()), ..post(&stack, word) }.send();
    good(whole("good"), "with its length");
    refused(whole("bad"), 401, "credential_invalid", "with its length");
    refused(whole("none"), 503, "identity_unavailable", "with its length");

    let pieces: Vec<&[u8]> = BODY.as_bytes().chunks(2).collect();
    let outside = Request { body: Some(r#"{"a": 700}"#.into()), ..post(&stack, "good") }.send();
    refused(outside, 403, "row_denied", "a row that it may not write");
    for trailers in ["", "x-late: 1\r\n"] {
        // All before the answer, some before and some after, and all but the first after it.
        for pause in [1, 100, 400].map(Duration::from_millis) {
            let how = format!("pieces each {pause:?}, trailers {trailers:?}");
            let send = |word: &str| {
                let segments = post(&stack, word).segments(&pieces, trailers);
                http::exchange_paced(stack.envoy.port, &segments.iter().map(Vec::as_slice).collect::<Vec<_>>(), pause)
            };
            good(send("good"), &how);
            refused(send("bad"), 401, "credential_invalid", &how);
            refused(send("none"), 503, "identity_unavailable", &how);
        }
    }
    // Larger than a body may be, before the answer is there: Envoy's buffer or the filter refuses it, whichever is full first.
    let large = format!(r#"{{"a": 7, "b": "{}"}}"#, "x".repeat(3 << 20));
    let chunks: Vec<&[u8]> = large.as_bytes().chunks(100_000).collect();
    for word in ["good", "bad", "none"] {
        let sent = post(&stack, word).send_pieces(&chunks, "");
        assert!(sent.status == 413 || (word != "good" && sent.status >= 400), "{word}: {}", sent.text());
        std::thread::sleep(ANSWER_TAKES * 2);
        let seen = upstream.take();
        assert!(seen.is_empty(), "{word}: {seen:?}");
    }
}

#[test]
fn a_request_that_ends_while_its_token_is_asked_about_goes_nowhere_and_is_recorded() {
    let (stack, upstream, provider) = start();
    let request = Request { body: Some(BODY.into()), ..post(&stack, "good") };
    let mut client = TcpStream::connect(("127.0.0.1", stack.envoy.port)).unwrap();
    client.write_all(&request.head(false)).unwrap();
    client.write_all(BODY.as_bytes()).unwrap();
    wait("the question", LIMIT, || (!provider.take().is_empty()).then_some(()));
    drop(client);
    let record = wait("the record", LIMIT, || {
        let all = QueryRequest { limit: 100_000, ..Default::default() };
        let mut records = control::records(stack.control.grpc, all).into_iter().filter_map(|stored| stored.record);
        records.find(|record| record.decision.as_ref().is_some_and(|decision| decision.code == "identity_unavailable"))
    });
    let principal = record.principal.clone().unwrap();
    assert_eq!((&*principal.user, &*principal.provider, principal.token_sha256.len()), ("unidentified", "opaque", 16));
    assert_eq!(record.service, "crm");
    std::thread::sleep(ANSWER_TAKES * 2);
    let seen = upstream.take();
    assert!(seen.is_empty(), "{seen:?}");
}
