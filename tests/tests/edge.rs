//! What stands between the client and the decision, over HTTP/1.1 and HTTP/2 and before both Envoys: authorities, paths
//! that name another, trailers, what other proxies say of the caller; and configurations that cannot work.

use doorward_proto::v1::{Filter, QueryRequest};
use doorward_test_support::policy::access_key;
use doorward_tests::{
    control,
    data::Shop,
    http::{self, Request},
    http2,
    stack::{ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY, Stack, in_both_workers},
    upstream::{Answer, Upstream},
    wait,
};
use std::{
    sync::{Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);
const KEY: &str = "dwk_edge_0123456789abcdef0123456789abcdef01";
const HOST: &str = "data.example.com";
const PATH: &str = "/api/v2/crm/notes";
const POLICIES: &str = r#"
kind: DataService
metadata: { name: crm }
spec:
  dialect: http
  match: [{ hosts: [data.example.com], path: /api/v2/crm }]
  components:
    notes: { fields: { a: integer }, operations: [{ path: /notes, verbs: [GET, POST], single: true }] }
---
kind: DataService
metadata: { name: kept }
spec:
  dialect: http
  match: [{ hosts: [data.example.com], path: /kept }]
  upstream: { keepHeaders: [x-tenant-id], cookies: true }
  components: { notes: { operations: [{ path: /notes, verbs: [GET] }] } }
---
kind: AccessRole
metadata: { name: app-notes }
spec:
  grants:
    - { service: crm, components: [notes], verbs: [GET, POST], fields: { read: ["*"], write: ["*"] } }
    - { service: kept, components: [notes], verbs: [GET] }
---
kind: AccessBinding
metadata: { name: all }
spec: { role: app-notes, subjects: [{ anyUser: true }] }
"#;

/// As an Envoy may be configured: nothing of a path is made plain before the filter sees it, and what no service matches
/// passes.
fn lax(config: String) -> String {
    config
        .replace("normalize_path: true", "normalize_path: false")
        .replace("merge_slashes: true", "merge_slashes: false")
        .replace("path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED")
        .replace("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")
}

fn http2_upstream(config: String) -> String {
    config.replacen(
        "    - name: upstream\n",
        "    - name: upstream\n      typed_extension_protocol_options:\n        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n          \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n          explicit_http_config: { http2_protocol_options: {} }\n",
        1,
    )
}

struct Env {
    stack: Stack,
    upstream: Upstream,
    modern: http2::Upstream,
    /// Both versions, to the HTTP/1.1 upstream.
    plain: Vec<Envoy>,
    /// Both versions, to the HTTP/2 upstream.
    http2: Vec<Envoy>,
}

fn env() -> MutexGuard<'static, Env> {
    static ENV: OnceLock<Mutex<Env>> = OnceLock::new();
    let env = ENV.get_or_init(|| {
        let upstream = Upstream::start(|_| Answer::json(200, "{}"));
        let modern = http2::Upstream::start();
        let key = access_key("tool", KEY, "app-notes", &format!(", hosts: [{HOST}]"));
        let folder = tempfile::tempdir().unwrap();
        let stack = Stack::over(folder, upstream.port, Shop::new(7, 1), &format!("{POLICIES}{key}"), "");
        let start = |version: &str, node: &str, upstream: u16, edit: &dyn Fn(String) -> String| {
            let options = r#","unmatched":"allow""#;
            let options = EnvoyOptions { version, options, ..stack.control.options(node, upstream) };
            let envoy = Envoy::start_edited(stack.folder.path(), &options, edit);
            in_both_workers("policy", LIMIT, || keyed(http::get(envoy.port, PATH)).send().status == 200);
            envoy
        };
        let plain = [(ENVOY, "plain-new"), (OLDEST_ENVOY, "plain-old")]
            .map(|(version, node)| start(version, node, upstream.port, &lax))
            .into();
        let http2 = [(ENVOY, "h2-new"), (OLDEST_ENVOY, "h2-old")]
            .map(|(version, node)| start(version, node, modern.port, &|config| http2_upstream(lax(config))))
            .into();
        Mutex::new(Env { stack, upstream, modern, plain, http2 })
    });
    let env = env.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _ = (env.upstream.take(), env.modern.take());
    env
}

fn keyed(request: Request) -> Request {
    request.header("host", HOST).header("x-doorward-key", KEY)
}

/// Nothing of what was refused arrived.
#[track_caller]
fn nothing(env: &Env) {
    let seen = env.upstream.take();
    assert!(seen.is_empty(), "{seen:?}");
}

/// The same request by HTTP/2.
fn by_http2(envoy: &Envoy, authority: &str, path: &str) -> http2::Answer {
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", path), ("x-doorward-key", KEY)];
    http2::exchange(envoy.port, &fields, None, &[])
}

#[test]
fn an_authority_is_read_in_one_way_or_refused_over_both_protocols() {
    let env = env();
    for envoy in &env.plain {
        for authority in
            [HOST, "DATA.example.com", "data.example.com.", "data.example.com:443", "data.example.com.:8443"]
        {
            let answer = http::get(envoy.port, PATH).header("host", authority).header("x-doorward-key", KEY).send();
            assert_eq!(answer.status, 200, "{authority} {}", answer.text());
            assert_eq!(by_http2(envoy, authority, PATH).status, 200, "{authority}");
        }
        // The target's own authority goes before `Host` (RFC 9112, section 3.2.2).
        let absolute = format!("http://{HOST}{PATH}");
        let answer = http::get(envoy.port, &absolute).header("host", "evil.test").header("x-doorward-key", KEY).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = env.upstream.take();
        assert!(seen.iter().all(|seen| seen.path == PATH), "{seen:?}");
        assert_eq!(seen.last().unwrap().header("host"), Some(HOST));

        for authority in [
            "data.example.com:443@evil.test",
            "user@data.example.com",
            "user:secret@data.example.com:443",
            "data.example.com,evil.test",
            "data.example.com, data.example.com",
            "data.example.com evil.test",
            "data.example.com:",
            "data.example.com:99999",
            "data.example.com:x",
            "data.example.com..",
            "data.example.com/..",
            "data.example.com\\evil.test",
            "data%2eexample.com",
            "[::1",
            "[::1]evil.test",
            "[fe80::1%25eth0]",
            "127.1",
            "0x7f.1",
        ] {
            // Neither the service's path nor one that nobody declared.
            for path in [PATH, "/health"] {
                let answer = http::get(envoy.port, path).header("host", authority).header("x-doorward-key", KEY).send();
                assert_eq!(answer.status, 400, "{authority:?} {}", answer.text());
                let answer = by_http2(envoy, authority, path);
                assert!(answer.status == 400 || answer.reset, "{authority:?} {answer:?}");
            }
        }
        let twice = |first: &str, second: &str| {
            let request = http::get(envoy.port, PATH).header("host", first).header("host", second);
            request.header("x-doorward-key", KEY).send().status
        };
        for (first, second) in [(HOST, "evil.test"), ("evil.test", HOST), (HOST, HOST)] {
            assert_eq!(twice(first, second), 400, "{first} {second}");
        }
        assert_eq!(http::get(envoy.port, PATH).header("host", "").header("x-doorward-key", KEY).send().status, 400);
        // In HTTP/2 both may come; they must be the same (RFC 9113, section 8.3.1).
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", PATH),
            ("host", "evil.test"),
            ("x-doorward-key", KEY),
        ];
        let answer = http2::exchange(envoy.port, &fields, None, &[]);
        if answer.status == 200 {
            let seen = env.upstream.take();
            assert!(seen.iter().all(|seen| seen.header("host") == Some(HOST)), "{seen:?}");
        }
        nothing(&env);
    }
}

#[test]
fn no_target_that_names_another_authority_passes_unmatched() {
    let env = env();
    for envoy in &env.plain {
        let passes = http::get(envoy.port, "/health").header("host", "other.test").send();
        assert_eq!((passes.status, env.upstream.take().len()), (200, 1));
        for path in [
            "//data.example.com/api/v2/crm/notes",
            "///data.example.com/api/v2/crm/notes",
            "/\\data.example.com/api/v2/crm/notes",
            "/%2fdata.example.com/api/v2/crm/notes",
            "/.//data.example.com/api/v2/crm/notes",
            "//user@data.example.com:443/api/v2/crm/notes",
            "/http://data.example.com/api/v2/crm/notes",
            "http:/data.example.com/api/v2/crm/notes",
            "http:data.example.com",
        ] {
            let answer = http::get(envoy.port, path).header("host", "other.test").send();
            assert!(matches!(answer.status, 400 | 403), "{path} {} {}", answer.status, answer.text());
            let answer = by_http2(envoy, "other.test", path);
            assert!(answer.status == 400 || answer.reset || answer.code() == "no_route", "{path} {answer:?}");
        }
        for path in ["http://data.example.com/api/v2/crm/notes", "data.example.com/api/v2/crm/notes", "?x"] {
            let answer = by_http2(envoy, "other.test", path);
            assert!(answer.status == 400 || answer.reset || answer.code() == "no_route", "{path} {answer:?}");
        }
        for path in ["/API/v2/crm/notes", "/api/v2/CRM/notes"] {
            http::get(envoy.port, path).header("host", HOST).send().denied(403, "no_route");
        }
        // Headers that some frameworks take for the path do not lead there either, and go nowhere.
        for name in ["x-original-url", "X-Rewrite-URL"] {
            let request = http::get(envoy.port, "/health").header("host", HOST).header(name, PATH);
            request.send().denied(403, "no_route");
        }
        nothing(&env);
        for (name, value) in [("x-original-url", "/health"), ("X-Rewrite-URL", "/health"), ("x-doorward-user", "root")]
        {
            let request = http::get(envoy.port, "/health").header("host", HOST).header(name, value);
            assert_eq!(request.send().status, 200, "{name}");
            let seen = env.upstream.take();
            assert!(seen.len() == 1 && seen[0].header(&name.to_ascii_lowercase()).is_none(), "{seen:?}");
        }
        nothing(&env);
    }
}

#[test]
fn no_trailer_of_a_request_reaches_an_http2_upstream() {
    let env = env();
    let trailers =
        [("x-doorward-user", "evil"), ("x-hasura-role", "admin"), ("x-plain", "1"), ("authorization", "Bearer x")];
    for envoy in &env.http2 {
        let ask = |method: &str, path: &str, body: Option<&[u8]>| {
            let mut fields = vec![
                (":method", method),
                (":scheme", "http"),
                (":authority", HOST),
                (":path", path),
                ("x-doorward-key", KEY),
            ];
            if body.is_some() {
                fields.push(("content-type", "application/json"));
            }
            http2::exchange(envoy.port, &fields, body, &trailers)
        };
        // Decided in the head and passing; decided once the body is whole; without a service; without a body.
        for (method, path, body) in [
            ("GET", PATH, None),
            ("POST", PATH, Some(&br#"{"a":1}"#[..])),
            ("POST", "/health", Some(&b"abc"[..])),
            ("GET", "/health", None),
        ] {
            for _ in 0..6 {
                let answer = ask(method, path, body);
                let arrived = env.modern.take();
                if method == "GET" && path == PATH && arrived.is_empty() {
                    // A GET with a body to come is not what this dialect takes.
                    assert!(!answer.code().is_empty(), "{answer:?}");
                    continue;
                }
                assert_eq!((answer.status, arrived.len()), (200, 1), "{method} {path} {answer:?} {arrived:?}");
                let arrived = &arrived[0];
                assert!(arrived.trailers.as_ref().is_none_or(Vec::is_empty), "{method} {path} {arrived:?}");
                assert_eq!(arrived.seen.body, body.unwrap_or_default(), "{method} {path}");
                let user = arrived.seen.header("x-doorward-user");
                assert!(user.is_none() && arrived.seen.header("x-plain").is_none(), "{arrived:?}");
            }
        }
    }
}

#[test]
fn what_other_proxies_say_of_the_caller_and_cookies_do_not_reach_upstream_unless_kept() {
    let env = env();
    let token = env.stack.issuer.token("Zoë Łódź", &["a"], "west");
    let cookie = format!("a=b; session={token}");
    for (envoy, kept) in env.plain.iter().flat_map(|envoy| [(envoy, false), (envoy, true)]) {
        let path = if kept { "/kept/notes" } else { PATH };
        let mut request = http::get(envoy.port, path).header("host", HOST).token(&token);
        for name in [
            "x-ms-api-role",
            "x-hasura-role",
            "x-ms-client-principal",
            "x-forwarded-user",
            "X-Forwarded-Email",
            "x-forwarded-access-token",
            "x-auth-request-user",
            "remote-user",
            "Remote_User",
            "x_remote_user",
            "x-jwt-payload",
            "proxy-authorization",
            "x-user-id",
            "x-webauth-user",
            "impersonate-user",
            "x_hasura_role",
        ] {
            request = request.header(name, "evil");
        }
        let request = request.header("x-tenant-id", "t1").header("x_tenant_id", "t2").header("x-plain", "1");
        let answer = request.clone().header("cookie", "theme=dark").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = env.upstream.take().pop().unwrap();
        assert!(!seen.headers.iter().any(|(_, value)| value == "evil" || value == "t2"), "{:?}", seen.headers);
        assert_eq!(seen.header("x-tenant-id"), kept.then_some("t1"));
        assert_eq!(seen.header("cookie"), kept.then_some("theme=dark"));
        // Names go out as the bytes of their UTF-8.
        assert_eq!((seen.header("x-plain"), seen.header("x-doorward-user")), (Some("1"), Some("Zoë Łódź")));
        assert_eq!(request.header("cookie", &cookie).send().status, 200);
        let seen = env.upstream.take().pop().unwrap();
        assert_eq!((seen.header("cookie"), seen.header("authorization")), (None, None));
    }
}

#[test]
fn a_name_with_white_space_at_its_ends_is_refused_before_anything_goes_upstream() {
    let env = env();
    for user in [" alice", "alice ", "alice\u{a0}", "\u{feff}alice", " ", "alice\u{3000}"] {
        let token = env.stack.issuer.token(user, &["a"], "west");
        for envoy in &env.plain {
            let answer = http::get(envoy.port, PATH).header("host", HOST).token(&token).send();
            answer.denied(401, "credential_invalid");
            assert!(answer.text().contains("white space"), "{}", answer.text());
        }
    }
    nothing(&env);
}

/// A further Envoy of the environment's control plane, with an edited configuration.
fn further(env: &Env, node: &str, control_plane: u16, edit: &dyn Fn(String) -> String) -> Envoy {
    let options = EnvoyOptions { control_plane, ..env.stack.control.options(node, env.upstream.port) };
    Envoy::start_edited(env.stack.folder.path(), &options, edit)
}

#[test]
fn a_body_that_envoy_holds_back_is_denied_and_the_log_says_what_to_set() {
    let env = env();
    let edit = |config: String| {
        config.replace("allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false")
    };
    let envoy = further(&env, "no-bodies", env.stack.control.grpc, &edit);
    in_both_workers("policy", LIMIT, || keyed(http::get(envoy.port, PATH)).send().status == 200);
    let _ = env.upstream.take();
    let began = Instant::now();
    let answer = keyed(http::request("POST", envoy.port, PATH)).json(r#"{"a":1}"#).send();
    answer.denied(503, "policy_unavailable");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(envoy.log().contains("allow_on_headers_stop_iteration: true"), "{}", envoy.log());
    nothing(&env);
    let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
    wait("its record", LIMIT, || {
        let filter = Filter { decision_id: id.clone(), ..Filter::default() };
        let query = QueryRequest { filter: Some(filter), ..QueryRequest::default() };
        (!control::records(env.stack.control.grpc, query).is_empty()).then_some(())
    });
    // What needs no body goes on.
    assert_eq!(keyed(http::get(envoy.port, PATH)).send().status, 200);
    // Where bodies do come, one that is slow is waited for.
    let slow = |envoy: &Envoy| {
        let request = keyed(http::request("POST", envoy.port, PATH)).header("content-type", "application/json");
        request.send_pieces(&[b"{\"a\":", b"1}"], "").status
    };
    assert_eq!(slow(&env.plain[0]), 200);
}

#[test]
fn a_control_plane_that_is_not_reached_is_named_in_the_log_with_what_to_do() {
    let env = env();
    let edit = |config: String| config.replace(r#""cluster": "doorward" }"#, r#""cluster": "nowhere" }"#);
    let nowhere = further(&env, "nowhere", env.stack.control.grpc, &edit);
    wait("the sentence", LIMIT, || nowhere.log().contains(r#"cluster "nowhere""#).then_some(()));
    assert!(nowhere.log().contains("the policy stream") && nowhere.log().contains("/clusters"), "{}", nowhere.log());
    assert_eq!(nowhere.log().matches("the policy stream does not reach").count(), 1, "{}", nowhere.log());
    keyed(http::get(nowhere.port, PATH)).send().denied(503, "policy_unavailable");
    // Nor do its records get out, and that is another stream.
    wait("the same for records", LIMIT, || {
        nowhere.log().contains("the stream of records does not reach").then_some(())
    });

    let wrong = further(&env, "wrong-server", env.upstream.port, &|config| config);
    wait("the sentence", LIMIT, || wrong.log().contains("the policy stream does not reach").then_some(()));
    assert!(wrong.log().contains(r#""doorward""#) && wrong.log().contains("HTTP/2"), "{}", wrong.log());
}
