//! Over the wire: responses of other forms than the dialect expects, errors, encodings and trailers, behind a real Envoy.

use doorward_proto::v1::{Filter, QueryRequest};
use doorward_tests::{
    control,
    data::Shop,
    http::Response,
    stack::{ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY, Stack, in_both_workers},
    wait,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

const SECRET: &str = "s3cret";
const POLICIES: &str = r#"
kind: DataService
metadata: { name: df }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/df }]
  components:
    _table/people: { key: [id], fields: { id: integer, name: string, email: string, ssn: string } }
---
kind: DataService
metadata: { name: sure }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/sure }]
  audit: required
  components:
    _table/people: { key: [id], fields: { id: integer, name: string, email: string, ssn: string } }
---
kind: DataService
metadata: { name: db }
spec:
  dialect: datasette
  match: [{ path: /db }]
  components: { people: { key: [id], fields: { id: integer, name: string, email: string, ssn: string } } }
---
kind: DataService
metadata: { name: rest }
spec:
  dialect: http
  match: [{ path: /rest }]
  components:
    people:
      key: [id]
      fields: { id: integer, name: string, email: string, ssn: string }
      operations:
        - { path: /people, verbs: [GET], rowsAt: /items, beside: [total] }
        - { path: /people, verbs: [POST], single: true }
---
kind: AccessRole
metadata: { name: app-clerk }
spec:
  grants:
    - service: df
      components: [_table/people]
      verbs: [GET, POST, PATCH, DELETE]
      fields: { read: [id, name, email], write: [name], mask: { email: "null" } }
    - { service: db, components: [people], verbs: [GET], fields: { read: [id, name, email], mask: { email: "null" } } }
    - service: rest
      components: [people]
      verbs: [GET, POST]
      fields: { read: [id, name, email], write: [name], mask: { email: "null" } }
---
kind: AccessRole
metadata: { name: app-limited }
spec:
  grants:
    - { service: df, components: [_table/people], verbs: [GET], fields: { read: [id, name, email], mask: { email: "null" } }, rows: "name = 'a'" }
    - { service: sure, components: [_table/people], verbs: [GET], fields: { read: [id, name, email], mask: { email: "null" } }, rows: "name = 'a'" }
---
kind: AccessBinding
metadata: { name: clerk }
spec: { role: app-clerk, subjects: [{ group: clerk }] }
---
kind: AccessBinding
metadata: { name: limited }
spec: { role: app-limited, subjects: [{ group: limited }] }
"#;

/// An upstream that answers each request with these pieces, a moment apart, and then closes.
#[derive(Clone, Default)]
struct Raw(Arc<Mutex<Vec<Vec<u8>>>>);

impl Raw {
    fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, raw) = (listener.local_addr().unwrap().port(), self.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let raw = raw.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let (mut line, mut length) = (String::new(), 0);
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = text.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let _ = reader.read_exact(&mut vec![0; length]);
                    let pieces = raw.0.lock().unwrap().clone();
                    let mut stream = stream;
                    for (at, piece) in pieces.iter().enumerate() {
                        if at > 0 {
                            // So that Envoy reads the pieces one by one: nobody tells here when it has.
                            std::thread::sleep(Duration::from_millis(15));
                        }
                        if stream.write_all(piece).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    /// The next answers: a head, and a body in these pieces.
    fn answers(&self, status: u16, head: &str, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let head = format!("HTTP/1.1 {status} X\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n");
        let all = std::iter::once(head.into_bytes()).chain(pieces.iter().map(|piece| piece.to_vec()));
        *self.0.lock().unwrap() = all.collect();
    }

    fn json(&self, status: u16, body: &str) {
        self.answers(status, "content-type: application/json\r\n", &[body.as_bytes()]);
    }
}

struct Env {
    stack: Stack,
    raw: Raw,
}

/// One environment per test: each has an upstream of its own.
fn env() -> Env {
    let raw = Raw::default();
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::over(folder, raw.start(), Shop::new(7, 1), POLICIES, "");
    Env { stack, raw }
}

impl Env {
    fn send(&self, group: &str, method: &str, path: &str, body: &str) -> Response {
        let request = self.stack.request(method, path).token(&self.stack.issuer.token("ann", &[group], "west"));
        let answer = if body.is_empty() { request.send() } else { request.json(body).send() };
        assert!(
            !format!("{answer:?}").contains(SECRET) && !answer.text().contains(SECRET),
            "{path}: {}",
            answer.text()
        );
        answer
    }

    fn get(&self, path: &str) -> Response {
        self.send("clerk", "GET", path, "")
    }

    fn refusals(&self) -> u64 {
        self.stack.envoy.stat("wasmcustom.doorward.decisions.response_unverifiable").unwrap_or(0)
    }
}

const PEOPLE: &str = "/api/v2/df/_table/people";
const ROW: &str = r#"{"id":1,"name":"a","email":"s3cret@b.c","ssn":"s3cret"}"#;

#[test]
fn rows_in_another_place_are_refused_with_a_code_counted_and_recorded() {
    let e = env();
    let mut refused = 0;
    let mut check = |method: &str, path: &str, body: &str, hostile: &str| {
        let text = hostile.replace("{row}", ROW);
        e.raw.json(200, &text);
        let answer = e.send("clerk", method, path, body);
        answer.denied(502, "response_unverifiable");
        // In two pieces, and byte by byte for the first of them.
        let (left, right) = text.as_bytes().split_at(text.len() / 2);
        e.raw.answers(200, "content-type: application/json\r\n", &[left, right]);
        e.send("clerk", method, path, body).denied(502, "response_unverifiable");
        refused += 2;
        answer
    };
    let mut last = None;
    for hostile in [
        "{row}",
        "[{row}]",
        r#"{"records":[{row}]}"#,
        r#"{"Resource":[{row}]}"#,
        r#"{"data":[{row}]}"#,
        r#"{"error":{"context":{"resource":[{row}]}}}"#,
        r#"{"resource":{row}}"#,
        r#"{"resource":[],"meta":[{row}]}"#,
        "{\"resource\":[]}\n{row}",
        r#""s3cret""#,
    ] {
        last = Some(check("GET", PEOPLE, "", hostile));
    }
    for hostile in [r#"{"record":{row}}"#, "{row}"] {
        check("POST", PEOPLE, r#"{"resource":[{"name":"a"}]}"#, hostile);
        check("DELETE", &format!("{PEOPLE}?filter=id%3D1"), "", hostile);
    }
    for hostile in [r#"{"resource":[{row}]}"#, "{row}", "[{row}]", r#""s3cret""#] {
        check("GET", &format!("{PEOPLE}?count_only=true"), "", hostile);
    }
    for hostile in [r#"{"rows":[{row}]}"#, "{row}", r#"{"ITEMS":[{row}]}"#, r#"{"items":[],"total":[{row}]}"#] {
        check("GET", "/rest/people", "", hostile);
    }
    for hostile in [r#"{"ROWS":[{row}]}"#, "{row}", r#"{"rows":[[1,2,"s3cret"]]}"#, r#"{"error":"s3cret"}"#] {
        check("GET", "/db/people.json?_shape=objects", "", hostile);
    }
    wait("the statistics", Duration::from_secs(5), || (e.refusals() >= refused).then_some(()));
    let id = last.unwrap().json()["decision_id"].as_str().unwrap().to_owned();
    wait("both records", Duration::from_secs(20), || {
        let filter = Some(Filter { decision_id: id.clone(), ..Default::default() });
        let found = control::records(e.stack.control.grpc, QueryRequest { filter, limit: 5, ..Default::default() });
        let response = |code: &str| {
            found
                .iter()
                .filter_map(|stored| stored.record.as_ref()?.response.as_ref())
                .any(|record| record.code == code)
        };
        (found.len() == 2 && response("response_unverifiable")).then_some(())
    });
}

#[test]
fn what_is_beside_the_rows_goes_and_what_is_expected_comes() {
    let e = env();
    for (method, path, body, given, want) in [
        (
            "GET",
            PEOPLE,
            "",
            r#"{"debug":[{row}],"resource":[{row}],"meta":{"count":1,"rows":[{row}]}}"#,
            r#"{"resource":[{"id":1,"name":"a","email":null}],"meta":{"count":1}}"#,
        ),
        ("GET", PEOPLE, "", r#"{"resource":[]}"#, r#"{"resource":[]}"#),
        (
            "POST",
            PEOPLE,
            r#"{"resource":[{"name":"a"}]}"#,
            r#"{"resource":[{row}]}"#,
            r#"{"resource":[{"id":1,"name":"a","email":null}]}"#,
        ),
        ("PATCH", "/api/v2/df/_table/people/1", r#"{"name":"a"}"#, "{row}", r#"{"id":1,"name":"a","email":null}"#),
        ("GET", "/api/v2/df/_table/people?count_only=true", "", "17", "17"),
        (
            "GET",
            "/rest/people",
            "",
            r#"{"items":[{row}],"total":1,"more":[{row}]}"#,
            r#"{"items":[{"id":1,"name":"a","email":null}],"total":1}"#,
        ),
        ("POST", "/rest/people", r#"{"name":"a"}"#, "{row}", r#"{"id":1,"name":"a","email":null}"#),
        ("GET", "/db/people.json?_shape=array", "", "[{row}]", r#"[{"id":1,"name":"a","email":null}]"#),
        ("GET", "/rest/people", "", "", ""),
    ] {
        let text = given.replace("{row}", ROW);
        for size in [text.len().max(1), 40, 7] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            e.raw.answers(200, "content-type: application/json\r\netag: \"s3cret\"\r\n", &pieces);
            let answer = e.send("clerk", method, path, body);
            assert_eq!((answer.status, answer.text().as_str()), (200, want), "{path} {given}");
        }
    }
}

#[test]
fn a_large_answer_flows_and_is_cut_off_where_it_turns_bad() {
    let e = env();
    let rows = |count: usize| vec![ROW; count].join(",");
    let good = format!("{{\"resource\":[{}]}}", rows(20_000));
    e.raw.json(200, &good);
    let answer = e.get(PEOPLE);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["resource"].as_array().unwrap().len(), 20_000);
    // Small enough that nothing has gone when it turns bad.
    e.raw.json(200, &format!("{{\"resource\":[{}, oops", rows(100)));
    e.get(PEOPLE).denied(502, "response_unverifiable");
    e.raw.json(200, &format!("{{\"resource\":[{}", rows(100)));
    e.get(PEOPLE).denied(502, "response_unverifiable");
    // Much that is dropped does not let the head go.
    e.raw.json(200, &format!("{{\"rows\":[{}]}}", rows(20_000)));
    e.get(PEOPLE).denied(502, "response_unverifiable");
    let before = e.refusals();
    e.raw.json(200, &format!("{{\"resource\":[{}, oops {}]}}", rows(20_000), rows(100)));
    let answer = e.get(PEOPLE);
    assert!(answer.status == 200 && answer.json().is_null(), "{}", answer.status);
    wait("the refusal is counted", Duration::from_secs(5), || (e.refusals() > before).then_some(()));
}

#[test]
fn errors_keep_their_status_and_lose_their_text() {
    let e = env();
    for (status, body) in [
        (400, r#"{"error":{"message":"s3cret","context":{"resource":[{row}]}}}"#),
        (404, r#"{"resource":[{row}]}"#),
        (500, "s3cret"),
        (503, ""),
    ] {
        for path in [PEOPLE, "/rest/people", "/db/people.json"] {
            e.raw.json(status, &body.replace("{row}", ROW));
            let answer = e.get(path);
            assert_eq!(answer.status, status, "{path}");
        }
    }
}

#[test]
fn only_utf_8_is_filtered() {
    let e = env();
    let good = format!("{{\"resource\":[{ROW}]}}");
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (head, body, status) in [
        ("content-type: application/json; charset=UTF-8\r\n", good.as_bytes(), 200),
        ("content-type: application/json; charset=\"utf-8\"\r\n", good.as_bytes(), 200),
        ("content-type: application/json; charset=utf-7\r\n", good.as_bytes(), 502),
        ("content-type: application/json; charset=UTF-16\r\n", &utf16, 502),
        ("content-type: application/json; charset=\"utf-16le\"\r\n", &utf16, 502),
        ("content-type: application/json; charset=utf-8; charset=utf-16\r\n", good.as_bytes(), 502),
        ("content-type: application/json\r\n", &utf16, 502),
        ("content-type: application/json\r\n", &[b"\xff\xfe", &*utf16].concat(), 502),
        ("content-type: application/json\r\n", &[b"\xef\xbb\xbf", good.as_bytes()].concat(), 502),
        ("content-type: application/json\r\n", b"{\"resource\":[{\"name\":\"\xe9\"}]}", 502),
        ("content-type: application/json\r\n", b"{\"resource\":[{\"name\":\"\xc3\xa9\"}]}", 200),
    ] {
        e.raw.answers(200, head, &[body]);
        assert_eq!(e.get(PEOPLE).status, status, "{head}");
    }
}

#[test]
fn a_row_by_its_key_is_one_row_or_absent_where_rows_are_limited() {
    let e = env();
    for service in ["df", "sure"] {
        let path = format!("/api/v2/{service}/_table/people/1");
        let ask = || e.send("limited", "GET", &path, "");
        e.raw.json(200, &format!("{{\"resource\":[{ROW}]}}"));
        let answer = ask();
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"id":1,"name":"a","email":null}"#));
        e.raw.json(200, r#"{"resource":[]}"#);
        ask().denied(404, "not_found");
        e.raw.json(200, &format!("{{\"resource\":[{ROW},{ROW}]}}"));
        ask().denied(502, "response_unverifiable");
        e.raw.json(200, ROW);
        ask().denied(502, "response_unverifiable");
        e.raw.json(200, "");
        ask().denied(502, "response_unverifiable");
    }
}

/// An Envoy of this version that lets trailers through.
fn with_trailers(e: &Env, version: &str, node: &str) -> Envoy {
    let options = EnvoyOptions { version, ..e.stack.control.options(node, e.stack.upstream) };
    let envoy = Envoy::start_edited(e.stack.folder.path(), &options, &|config| {
        let upstream = "    - name: upstream\n      type: STRICT_DNS\n";
        let both = config.replace(
            "codec_type: AUTO",
            "codec_type: AUTO\n                http_protocol_options: { enable_trailers: true }",
        );
        let options = r#"      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: { http_protocol_options: { enable_trailers: true } }
"#;
        assert!(both.contains(upstream));
        both.replace(upstream, &format!("{upstream}{options}"))
    });
    let knows = || doorward_tests::http::get(envoy.port, "/").send().code() != "policy_unavailable";
    in_both_workers("policy", Duration::from_secs(30), knows);
    envoy
}

#[test]
fn trailers_lose_what_heads_lose_with_both_envoys() {
    let e = env();
    for (version, node) in [(ENVOY, "trailers-new"), (OLDEST_ENVOY, "trailers-old")] {
        let envoy = with_trailers(&e, version, node);
        let token = e.stack.issuer.token("ann", &["clerk"], "west");
        let ask = |path: &str| {
            let request = doorward_tests::http::get(envoy.port, path).token(&token);
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", envoy.port)).unwrap();
            stream.write_all(&request.head(false)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let answer = |body: &str, trailers: &str| {
            let head = "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n";
            let whole = format!("{head}trailer: etag\r\n\r\n{:x}\r\n{body}\r\n0\r\n{trailers}\r\n", body.len());
            *e.raw.0.lock().unwrap() = vec![whole.into_bytes()];
        };
        let trailers = "etag: \"s3cret\"\r\nLink: <s3cret>\r\ncontent-digest: s3cret\r\nserver-timing: db;dur=5\r\n";
        answer(&format!("{{\"resource\":[{ROW}]}}"), trailers);
        let text = ask(PEOPLE);
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains(r#"{"id":1,"name":"a","email":null}"#),
            "{version}: {text}"
        );
        assert!(text.contains("server-timing: db;dur=5"), "{version}: {text}");
        assert!(!text.replace("<s3cret>", "").contains(SECRET), "{version}: {text}");
        // What tells the rewritten query goes too, where that is what the dialect says.
        answer(&format!("[{ROW}]"), trailers);
        let text = ask("/db/people.json?_shape=array");
        assert!(text.contains("server-timing") && !text.contains(SECRET), "{version}: {text}");
        answer(&format!("{{\"rows\":[{ROW}]}}"), trailers);
        let text = ask(PEOPLE);
        assert!(text.starts_with("HTTP/1.1 502") && !text.contains(SECRET), "{version}: {text}");
        answer(&format!("{{\"resource\":[{ROW}"), trailers);
        let text = ask(PEOPLE);
        assert!(text.starts_with("HTTP/1.1 502") && !text.contains(SECRET), "{version}: {text}");
    }
}
