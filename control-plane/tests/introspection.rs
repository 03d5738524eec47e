//! Proxies ask about tokens: who may, about whom, and what a provider cannot do to the control plane.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use common::{Authority, Server, connect};
use doorward_proto::v1::{IntrospectRequest, identity_client::IdentityClient, introspect_response::Outcome};
use doorward_test_support::wait;
use tonic::{Code, Status, transport::Channel};

const LIMIT: Duration = Duration::from_secs(20);
const TOKEN: &str = "opaque+/=token-that-nobody-logs";
const ACTIVE: &str = r#"{"active":true,"sub":"alice","nested":{"a":[1, 2]}}"#;

/// What a provider saw.
#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    last: Mutex<(String, String)>,
}

/// A provider that misbehaves by its paths.
async fn provider() -> (u16, Arc<Seen>) {
    let json = [("content-type", "application/json; charset=utf-8")];
    let seen = Arc::<Seen>::default();
    let noted = Arc::clone(&seen);
    let note = move |headers: HeaderMap, body: Bytes| {
        let noted = Arc::clone(&noted);
        async move {
            noted.calls.fetch_add(1, Ordering::SeqCst);
            let header = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
            *noted.last.lock().unwrap() = (header, String::from_utf8(body.to_vec()).unwrap());
            tokio::time::sleep(Duration::from_millis(300)).await;
            (json, ACTIVE)
        }
    };
    let router = Router::new()
        .route("/good", post(note))
        .route("/inactive", post(move || async move { (json, r#"{"active":false}"#) }))
        .route("/slow", post(|| async { tokio::time::sleep(Duration::from_secs(30)).await }))
        .route(
            "/huge",
            post(move || async move { (json, format!("{{\"active\":true,\"a\":\"{}\"}}", "x".repeat(64 << 10))) }),
        )
        .route("/away", post(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/good")]) }))
        .route("/html", post(|| async { ([("content-type", "text/html")], ACTIVE) }))
        .route("/broken", post(move || async move { (StatusCode::INTERNAL_SERVER_ERROR, json, ACTIVE) }))
        .route("/stranger", post(|| async { (StatusCode::UNAUTHORIZED, "who are you?").into_response() }))
        .route("/text", post(move || async move { (json, r#"{"active":"true"}"#) }))
        .route("/list", post(move || async move { (json, "[true]") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (port, seen)
}

fn document(name: &str, url: &str, secret: &str) -> String {
    format!(
        "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{ name: {name} }}\nspec:\n  issuer: \
         https://{name}.test\n  audiences: [a]\n  introspection: {{ url: '{url}', clientId: 'door:ward', clientSecret: {secret}, \
         tokenPrefix: {name}_, timeout: 1s }}\n"
    )
}

async fn ask(client: &mut IdentityClient<Channel>, provider: &str, token: &str) -> Result<Outcome, Status> {
    let question = IntrospectRequest {
        node: "envoy-1".into(),
        scope: "default".into(),
        provider: provider.into(),
        token: token.into(),
    };
    client.introspect(question).await.map(|answer| answer.into_inner().outcome.unwrap())
}

/// The reason why there is no answer, or the claims.
async fn word(client: &mut IdentityClient<Channel>, provider: &str) -> String {
    match ask(client, provider, TOKEN).await.unwrap() {
        Outcome::Claims(claims) => String::from_utf8(claims).unwrap(),
        Outcome::Unavailable(unavailable) => unavailable.reason,
    }
}

async fn asked(server: &Server) -> IdentityClient<Channel> {
    IdentityClient::new(server.channel().await)
}

/// Until the metrics say that a policy after this epoch is in force.
fn in_force(server: &Server, after: u64) -> u64 {
    wait("a policy in force", LIMIT, || {
        let text = server.get("/metrics");
        let epoch = text.lines().find_map(|line| line.strip_prefix("doorward_policy_epoch "))?.parse::<u64>().ok()?;
        (epoch > after).then_some(epoch)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_answer_is_an_answer_and_everything_else_has_a_stable_reason() {
    let root = tempfile::tempdir().unwrap();
    let (port, seen) = provider().await;
    let secret = root.path().join("secret");
    std::fs::write(&secret, "a b+c:d\n").unwrap();
    let here = format!("{{ file: '{}' }}", secret.display());
    std::fs::create_dir_all(root.path().join("policies")).unwrap();
    let paths = ["good", "inactive", "slow", "huge", "away", "html", "broken", "stranger", "text", "list", "nothing"];
    let mut text: String =
        paths.iter().map(|path| document(path, &format!("http://127.0.0.1:{port}/{path}"), &here) + "---\n").collect();
    text += &(document("closed", "http://127.0.0.1:1/", &here) + "---\n");
    text += &(document("plain", "http://idp.invalid/", &here) + "---\n");
    text += &document("secretless", &format!("http://127.0.0.1:{port}/good"), "{ file: /nothing/here }");
    std::fs::write(root.path().join("policies/a.yaml"), &text).unwrap();
    let server = Server::start(root.path(), &["--client-secrets", root.path().to_str().unwrap()], None);
    in_force(&server, 0);
    let mut client = asked(&server).await;

    // The same token at once is asked about once.
    let mut others: Vec<_> = Vec::new();
    for _ in 0..8 {
        let mut client = client.clone();
        others.push(tokio::spawn(async move { word(&mut client, "good").await }));
    }
    for other in others {
        assert_eq!(other.await.unwrap(), ACTIVE, "as the provider gave it");
    }
    let calls = seen.calls.load(Ordering::SeqCst);
    assert!(calls < 8, "{calls}");
    let (header, form) = seen.last.lock().unwrap().clone();
    let basic = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode("door%3Award:a+b%2Bc%3Ad")
    };
    assert_eq!(header, format!("Basic {basic}"));
    assert_eq!(form, "token=opaque%2B%2F%3Dtoken-that-nobody-logs&token_type_hint=access_token");
    // A secret that was rotated counts from the next question on.
    std::fs::write(&secret, "new").unwrap();
    word(&mut client, "good").await;
    assert_ne!(seen.last.lock().unwrap().0, header);

    assert_eq!(word(&mut client, "inactive").await, r#"{"active":false}"#);
    for (name, reason) in [
        ("slow", "timeout"),
        ("huge", "too_large"),
        ("away", "status"),
        ("html", "content_type"),
        ("broken", "status"),
        ("stranger", "refused"),
        ("text", "malformed"),
        ("list", "malformed"),
        ("nothing", "status"),
        ("closed", "connection"),
        ("plain", "address"),
        ("secretless", "secret"),
        ("unheard-of", "unknown_provider"),
    ] {
        assert_eq!(word(&mut client, name).await, reason, "{name}");
    }
    let metrics = server.get("/metrics");
    for line in [
        "doorward_introspections_total{provider=\"slow\",outcome=\"timeout\"} 1",
        "doorward_introspections_total{provider=\"inactive\",outcome=\"inactive\"} 1",
        "doorward_introspections_total{provider=\"\",outcome=\"unknown_provider\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("unheard-of"));
}

/// A server over these documents, whose secrets lie in `root`.
fn start(root: &std::path::Path, documents: &[String], flags: &[&str]) -> Server {
    std::fs::write(root.join("secret"), "s").unwrap();
    std::fs::create_dir_all(root.join("policies")).unwrap();
    std::fs::write(root.join("policies/a.yaml"), documents.join("---\n")).unwrap();
    let flags = [&["--client-secrets", root.to_str().unwrap()], flags].concat();
    let server = Server::start(root, &flags, None);
    in_force(&server, 0);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_providers_leave_room_for_others() {
    let root = tempfile::tempdir().unwrap();
    let (port, _seen) = provider().await;
    let at = |name: &str, path: &str| document(name, &format!("http://127.0.0.1:{port}/{path}"), "{ file: secret }");
    let server = start(root.path(), &[at("one", "slow"), at("two", "slow"), at("good", "good")], &[]);
    let client = asked(&server).await;
    let mut asking = Vec::new();
    for number in 0..100 {
        for provider in ["one", "two"] {
            let mut client = client.clone();
            asking.push(tokio::spawn(async move { ask(&mut client, provider, &format!("t{number}")).await.unwrap() }));
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut good = client.clone();
    assert_eq!(word(&mut good, "good").await, ACTIVE, "there is room for others");
    let mut reasons = Vec::new();
    for asking in asking {
        match asking.await.unwrap() {
            Outcome::Unavailable(unavailable) => reasons.push(unavailable.reason),
            Outcome::Claims(_) => panic!("an answer"),
        }
    }
    let open = reasons.iter().filter(|reason| *reason == "timeout").count();
    assert!((32..64).contains(&open), "{open}: one client has 64, and a provider half of what is free of them");
    assert_eq!(reasons.iter().filter(|reason| *reason == "busy").count(), 200 - open, "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_about_invented_tokens_leaves_room_for_another() {
    let root = tempfile::tempdir().unwrap();
    let (port, _seen) = provider().await;
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let files = [write("server.pem", &certificate), write("server.key", &key), write("clients.pem", &authority.pem)];
    let flags = ["--tls-cert", &files[0], "--tls-key", &files[1], "--tls-client-ca", &files[2]];
    let flags = [&flags[..], &["--client", "proxy=spiffe://corp/a", "--client", "proxy=spiffe://corp/b"]].concat();
    let documents = [document("good", &format!("http://127.0.0.1:{port}/good"), "{ file: secret }")];
    let server = start(root.path(), &documents, &flags);
    let mut clients = Vec::new();
    for name in ["a", "b"] {
        let identity = authority.issue(&[&format!("spiffe://corp/{name}")]);
        clients.push(IdentityClient::new(connect(&server, &authority, Some(identity)).await.unwrap()));
    }
    let (hostile, mut honest) = (clients.remove(0), clients.remove(0));
    let mut flood = tokio::task::JoinSet::new();
    for caller in 0..64 {
        let mut client = hostile.clone();
        flood.spawn(async move {
            for number in 0.. {
                let _ = ask(&mut client, "good", &format!("invented-{caller}-{number}")).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..20 {
        let answer = ask(&mut honest, "good", &format!("honest-{number}")).await.unwrap();
        assert!(matches!(answer, Outcome::Claims(_)), "{number}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_does_not_leave_this_machine_by_a_proxy_of_the_environment() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let root = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().port();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            noted.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ACTIVE}",
                ACTIVE.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    std::fs::write(root.path().join("secret"), "s3cret").unwrap();
    std::fs::create_dir_all(root.path().join("policies")).unwrap();
    let plain = document("plain", "http://127.0.0.1:1/", "{ file: secret }");
    let secure = document("secure", "https://idp.invalid/introspect", "{ file: secret }");
    std::fs::write(root.path().join("policies/a.yaml"), [plain, secure].join("---\n")).unwrap();
    let proxy = format!("http://127.0.0.1:{proxy}");
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let variables: Vec<_> = names.iter().map(|name| format!("{name}={proxy}")).collect();
    let flags = ["--client-secrets", root.path().to_str().unwrap()];
    let server = Server::start_in(root.path(), &flags, &variables.join(" "));
    in_force(&server, 0);
    let mut client = asked(&server).await;
    assert_eq!(word(&mut client, "plain").await, "connection");
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
    assert_ne!(word(&mut client, "secure").await, ACTIVE);
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|text| text.starts_with("CONNECT idp.invalid:443")), "{seen:?}");
    assert!(seen.iter().all(|text| !text.contains("s3cret") && !text.contains(TOKEN)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_providers_of_the_policy_in_force_are_asked_also_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let (port, seen) = provider().await;
    let here = "{ env: DOORWARD_SECRET_NOT_SET }";
    let secret = root.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    std::fs::create_dir_all(root.path().join("policies")).unwrap();
    let file = root.path().join("policies/a.yaml");
    let at = |path: &str, secret: &str| document("idp", &format!("http://127.0.0.1:{port}/{path}"), secret);
    std::fs::write(&file, at("inactive", here)).unwrap();
    let server = Server::start(root.path(), &["--client-secrets", root.path().to_str().unwrap()], None);
    let first = in_force(&server, 0);
    let mut client = asked(&server).await;
    assert_eq!(word(&mut client, "idp").await, "secret");
    // The bundle says nothing of address and secret, so it stays the same; what counts is the document all the same.
    let place = format!("{{ file: '{}' }}", secret.display());
    std::fs::write(&file, at("inactive", &place)).unwrap();
    let mut seen_inactive = false;
    for _ in 0..100 {
        if word(&mut client, "idp").await == r#"{"active":false}"# {
            seen_inactive = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen_inactive);
    assert!(server.get("/metrics").contains(&format!("doorward_policy_epoch {first}\n")), "nothing new was pushed");
    server.kill();
    // After a restart the last policy is in force; a document that no longer compiles is held at its last good version.
    std::fs::write(&file, at("inactive", "{ file: a, env: b }")).unwrap();
    let server = Server::start(root.path(), &["--client-secrets", root.path().to_str().unwrap()], None);
    let mut client = asked(&server).await;
    assert_eq!(word(&mut client, "idp").await, r#"{"active":false}"#);
    let before = in_force(&server, 0);
    std::fs::write(&file, common::role("app-x", "nothing")).unwrap();
    in_force(&server, before);
    assert_eq!(word(&mut client, "idp").await, "unknown_provider");
    assert_eq!(seen.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_subscribe_for_a_scope_may_ask_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let files = [write("server.pem", &certificate), write("server.key", &key), write("clients.pem", &authority.pem)];
    let server = Server::start(
        root.path(),
        &[
            "--client-secrets",
            root.path().to_str().unwrap(),
            "--tls-cert",
            &files[0],
            "--tls-key",
            &files[1],
            "--tls-client-ca",
            &files[2],
            "--client",
            "proxy=spiffe://corp/envoy",
            "--client",
            "auditor=spiffe://corp/audit",
            "--client",
            "admin=spiffe://corp/ops",
        ],
        None,
    );
    for (name, expected) in
        [("envoy", None), ("audit", Some(Code::PermissionDenied)), ("ops", Some(Code::PermissionDenied))]
    {
        let identity = authority.issue(&[&format!("spiffe://corp/{name}")]);
        let channel = connect(&server, &authority, Some(identity)).await.unwrap();
        let mut client = IdentityClient::new(channel);
        let answer = ask(&mut client, "idp", TOKEN).await;
        assert_eq!(answer.as_ref().err().map(Status::code), expected, "{name}: {answer:?}");
        if expected.is_none() {
            let other = IntrospectRequest { scope: "other".into(), token: TOKEN.into(), ..Default::default() };
            assert_eq!(client.introspect(other).await.unwrap_err().code(), Code::NotFound);
            for token in [String::new(), "x".repeat((16 << 10) + 1)] {
                let refused = ask(&mut client, "idp", &token).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument);
            }
            let refused = ask(&mut client, "idp", &"x".repeat(32 << 10)).await.unwrap_err();
            assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
        }
    }
}
