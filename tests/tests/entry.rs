//! The filter's entry points are the SDK's, whose dispatcher panics where the host calls into the VM while it is in the VM,
//! or for a context that is gone. Here a stream ends in every way inside a callback, on the oldest and the newest Envoy:
//! the VM must live through all of it.

use doorward_tests::{
    control,
    data::Shop,
    http::{self, Request},
    stack::{ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY, Stack, in_both_workers},
    wait,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Mutex,
    time::Duration,
};

const POLICIES: &str = r#"
kind: DataService
metadata: { name: api }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/api }]
  components:
    _table/good: { key: [id], fields: { id: integer, text: string } }
    _table/large: { key: [id], fields: { id: integer, text: string } }
    _table/broken: { key: [id], fields: { id: integer, text: string } }
---
kind: AccessRole
metadata: { name: app-plain }
spec: { grants: [{ service: api, components: ["*"], verbs: [GET, POST], fields: { read: [id], write: ["*"] } }] }
---
kind: AccessRole
metadata: { name: app-recorded }
spec:
  audit: required
  grants: [{ service: api, components: ["*"], verbs: [GET], fields: { read: [id] } }]
---
kind: AccessBinding
metadata: { name: plain }
spec: { role: app-plain, subjects: [{ group: plain }] }
---
kind: AccessBinding
metadata: { name: recorded }
spec: { role: app-recorded, subjects: [{ group: recorded }] }
"#;
const GOOD: &str = "/api/v2/api/_table/good";
const LARGE: &str = "/api/v2/api/_table/large";
const BROKEN: &str = "/api/v2/api/_table/broken";
const ROWS: usize = 40_000;

/// Answers by path: a row; many rows; rows in one piece, more than a head waits for, and then, a moment later, what is no JSON.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        if reader.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        let row = |id: usize| format!(r#"{{"id":{id},"text":"{}"}}"#, "x".repeat(40));
        let (body, broken) = if first.contains("broken") {
            (format!(r#"{{"resource":[{},"#, (0..2_000).map(row).collect::<Vec<_>>().join(",")), true)
        } else {
            let rows = if first.contains("large") { ROWS } else { 1 };
            let rows: Vec<String> = (0..rows).map(row).collect();
            (format!(r#"{{"resource":[{}]}}"#, rows.join(",")), false)
        };
        let length = body.len() + if broken { 100 } else { 0 };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).is_err() {
            return;
        }
        if broken {
            // So that the filter has the first part, and Envoy its answer's head, before the second comes: nobody tells us here.
            std::thread::sleep(Duration::from_millis(50));
            if writer.write_all(&[b'}'; 100]).is_err() {
                return;
            }
        }
    }
}

struct Proxies {
    stack: Stack,
    old: Envoy,
}

impl Proxies {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stack = Stack::over(folder, upstream(), Shop::new(7, 1), POLICIES, "");
        let options = EnvoyOptions { version: OLDEST_ENVOY, ..stack.control.options("envoy-old", stack.upstream) };
        let old = Envoy::start(stack.folder.path(), &options);
        let proxies = Self { stack, old };
        for envoy in proxies.all() {
            let token = proxies.token("plain");
            let serves = || http::get(envoy.port, GOOD).token(&token).send().status == 200;
            in_both_workers("policy", Duration::from_secs(30), serves);
        }
        proxies
    }

    fn all(&self) -> [&Envoy; 2] {
        [&self.stack.envoy, &self.old]
    }

    fn token(&self, group: &str) -> String {
        self.stack.issuer.token(&format!("{group}-user"), &[group], "west")
    }
}

/// Runs this for every Envoy, often enough to reach both of its workers, with good requests of others in between, and
/// looks whether a VM ended.
fn vm_lives(what: &str, run: impl Fn(&Proxies, &Envoy)) {
    static PROXIES: Mutex<Option<Proxies>> = Mutex::new(None);
    let mut guard = PROXIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let proxies = guard.get_or_insert_with(Proxies::start);
    for (envoy, version) in proxies.all().into_iter().zip([ENVOY, OLDEST_ENVOY]) {
        for _ in 0..12 {
            run(proxies, envoy);
            let answer = http::get(envoy.port, GOOD).token(&proxies.token("plain")).send();
            assert_eq!(answer.status, 200, "Envoy {version}, after {what}: {}", answer.text());
        }
        let (stats, log) = (envoy.stats(), envoy.log());
        let reload = stats.lines().find(|line| line.contains("vm_reload_") && !line.ends_with(": 0"));
        assert_eq!(reload, None, "Envoy {version}, after {what}: {log}");
        for sign in ["panicked", "proxy_on_", "RuntimeError"] {
            assert!(!log.contains(sign), "Envoy {version}, after {what}: {log}");
        }
    }
}

/// Writes these bytes and goes away without reading, after a moment in which Envoy may get as far as it will: where a client
/// leaves is by chance, and the test repeats it often.
fn leave(port: u16, bytes: &[u8], after: Duration) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(bytes).unwrap();
    std::thread::sleep(after);
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn a_response_that_is_cut_off_in_the_body_callback_ends_only_itself() {
    vm_lives("a cut-off response", |proxies, envoy| {
        let answer = http::get(envoy.port, BROKEN).token(&proxies.token("plain")).send();
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("xxx") && !answer.text().ends_with("]}"), "{}", answer.text());
    });
}

#[test]
fn a_body_over_envoys_own_buffer_ends_only_its_request() {
    let text = format!(r#"{{"resource":[{{"text":"{}"}}]}}"#, "a".repeat(1_200_000));
    vm_lives("a 413 of Envoy's own", |proxies, envoy| {
        let request: Request = http::request("POST", envoy.port, GOOD).token(&proxies.token("plain"));
        let request = request.header("content-type", "application/json");
        assert_eq!(request.send_pieces(&text.as_bytes().chunks(100_000).collect::<Vec<_>>(), "").status, 413);
    });
}

#[test]
fn a_denial_in_every_phase_of_a_request_ends_only_that_request() {
    vm_lives("denials", |proxies, envoy| {
        http::get(envoy.port, GOOD).send().denied(401, "credential_missing");
        let token = proxies.token("plain");
        let post = || http::request("POST", envoy.port, GOOD).token(&token).header("content-type", "application/json");
        let bad = br#"{"resource":[{"hidden":1}]}"#;
        let answer = post().send_pieces(&[&bad[..10], &bad[10..]], "");
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        let answer = post().send_pieces(&[bad], "x-trailer: 1\r\n");
        assert!((400..500).contains(&answer.status), "{}", answer.text());
    });
}

#[test]
fn a_client_that_leaves_in_any_phase_takes_only_its_own_stream_along() {
    vm_lives("clients that left", |proxies, envoy| {
        for group in ["plain", "recorded"] {
            for path in [GOOD, LARGE, BROKEN] {
                let request = http::get(envoy.port, path).token(&proxies.token(group));
                leave(envoy.port, &request.head(false), Duration::from_millis(5));
            }
        }
        let post = http::request("POST", envoy.port, GOOD).token(&proxies.token("plain"));
        let mut half = post.header("content-type", "application/json").head(true);
        half.extend_from_slice(b"5\r\n{\"res");
        leave(envoy.port, &half, Duration::from_millis(5));
    });
}

#[test]
fn a_response_larger_than_envoys_buffer_waits_for_its_record() {
    vm_lives("recorded responses", |proxies, envoy| {
        let answer = http::get(envoy.port, LARGE).token(&proxies.token("recorded")).send();
        assert_eq!(answer.status, 200, "{}", answer.text().chars().take(300).collect::<String>());
        assert_eq!(answer.json()["resource"].as_array().map(Vec::len), Some(ROWS));
        assert!(!answer.text().contains("xxx"));
    });
}

#[test]
fn the_end_of_the_control_planes_streams_reaches_the_filter() {
    vm_lives("a restart of the control plane", |_, _| {});
    let folder = tempfile::tempdir().unwrap();
    let mut stack = Stack::over(folder, upstream(), Shop::new(7, 1), POLICIES, "");
    for _ in 0..3 {
        stack.control.kill();
        let token = stack.issuer.token("plain-user", &["plain"], "west");
        assert_eq!(stack.get(GOOD).token(&token).send().status, 200);
        stack.control.start();
        wait("the proxy to be connected again", Duration::from_secs(30), || {
            control::proxies(stack.control.grpc)?.proxies.iter().any(|proxy| proxy.connected).then_some(())
        });
    }
    assert!(!stack.envoy.log().contains("panicked"), "{}", stack.envoy.log());
}
