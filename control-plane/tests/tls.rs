//! The gRPC port under TLS: who may connect, and who may do what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{path::Path, process::Command};

use common::{Authority, Emitter, Server, connect};
use doorward_proto::v1::{
    AdvanceCursorRequest, AuditBatch, CreateCursorRequest, GetPolicyStatusRequest, ListCursorsRequest,
    ListProxiesRequest, QueryRequest, RemoveCursorRequest, SubscribeRequest, TailRequest, admin_client::AdminClient,
    audit_ingest_client::AuditIngestClient, audit_log_client::AuditLogClient,
    policy_discovery_client::PolicyDiscoveryClient,
};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const PROXY: &str = "spiffe://corp/ns/edge/sa/envoy-1";
const OTHER_PROXY: &str = "spiffe://corp/ns/edge/sa/envoy-2";
const AUDITOR: &str = "audit.corp";
const ADMIN: &str = "a.ops.corp";
const NOBODY: &str = "spiffe://corp/ns/web/sa/shop";

fn start(root: &Path, authority: &Authority, roles: bool) -> Server {
    authority.write(root, "server", &["localhost"]);
    std::fs::write(root.join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(root.join("clients"), "# people\nauditor=audit.corp\nadmin=*.ops.corp\n").unwrap();
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let (cert, key, ca, clients) = (path("server.crt"), path("server.key"), path("ca.crt"), path("clients"));
    let mut args = vec!["--tls-cert", &cert, "--tls-key", &key];
    if roles {
        args.extend(["--tls-client-ca", &ca, "--client", "proxy=spiffe://corp/ns/edge/*", "--clients", &clients]);
    }
    Server::start(root, &args, None)
}

/// What each call of each service says to this client: `None`, it may.
async fn calls(channel: Channel) -> Vec<(&'static str, Option<Code>)> {
    // Who may ask is told what there is not.
    let code = |result: Result<(), Status>| result.err().map(|status| status.code()).filter(|c| *c != Code::NotFound);
    let name = || "siem".to_owned();
    let create = CreateCursorRequest { name: name(), ..Default::default() };
    let advance = AdvanceCursorRequest { name: name(), ..Default::default() };
    let silent = || tokio_stream::iter(Vec::<SubscribeRequest>::new()).chain(tokio_stream::pending());
    let batches = tokio_stream::iter(Vec::<AuditBatch>::new());
    let mut policy = PolicyDiscoveryClient::new(channel.clone());
    let mut ingest = AuditIngestClient::new(channel.clone());
    let mut log = AuditLogClient::new(channel.clone());
    let mut admin = AdminClient::new(channel);
    vec![
        ("subscribe", code(policy.subscribe(silent()).await.map(|_| ()))),
        ("report", code(ingest.report(batches).await.map(|_| ()))),
        ("tail", code(log.tail(TailRequest::default()).await.map(|_| ()))),
        ("query", code(log.query(QueryRequest::default()).await.map(|_| ()))),
        ("list_cursors", code(log.list_cursors(ListCursorsRequest::default()).await.map(|_| ()))),
        ("create_cursor", code(log.create_cursor(create).await.map(|_| ()))),
        ("advance_cursor", code(log.advance_cursor(advance).await.map(|_| ()))),
        ("remove_cursor", code(log.remove_cursor(RemoveCursorRequest { name: name() }).await.map(|_| ()))),
        ("list_proxies", code(admin.list_proxies(ListProxiesRequest::default()).await.map(|_| ()))),
        ("get_policy_status", code(admin.get_policy_status(GetPolicyStatusRequest::default()).await.map(|_| ()))),
    ]
}

#[tokio::test]
async fn each_client_may_do_what_its_role_says_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = start(dir.path(), &authority, true);
    for (who, allowed) in [
        (PROXY, &["subscribe", "report"][..]),
        (AUDITOR, &["tail", "query", "list_cursors", "advance_cursor"][..]),
        (
            ADMIN,
            &[
                "tail",
                "query",
                "list_cursors",
                "create_cursor",
                "advance_cursor",
                "remove_cursor",
                "list_proxies",
                "get_policy_status",
            ][..],
        ),
        (NOBODY, &[][..]),
        ("ops.corp", &[][..]),
    ] {
        let channel = connect(&server, &authority, Some(authority.issue(&[who]))).await.unwrap();
        for (call, code) in calls(channel).await {
            let expected = (!allowed.contains(&call)).then_some(Code::PermissionDenied);
            assert_eq!(code, expected, "{who} {call}");
        }
    }
    // A certificate that names nobody.
    let channel = connect(&server, &authority, Some(authority.issue(&["*.ops.corp"]))).await.unwrap();
    assert!(calls(channel).await.iter().all(|(_, code)| *code == Some(Code::Unauthenticated)));
    let channel = connect(&server, &authority, Some(authority.issue(&[NOBODY]))).await.unwrap();
    let refused = AdminClient::new(channel).list_proxies(ListProxiesRequest::default()).await.unwrap_err();
    assert!(refused.message().contains(NOBODY) && refused.message().contains("role admin"), "{refused:?}");
}

#[tokio::test]
async fn a_cursor_is_moved_by_the_client_that_moved_it_first_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = start(dir.path(), &authority, true);
    let log =
        async |who| AuditLogClient::new(connect(&server, &authority, Some(authority.issue(&[who]))).await.unwrap());
    let (mut admin, mut auditor) = (log(ADMIN).await, log(AUDITOR).await);
    let advance = || AdvanceCursorRequest { name: "siem".into(), ..Default::default() };
    admin.create_cursor(CreateCursorRequest { name: "siem".into(), ..Default::default() }).await.unwrap();
    auditor.advance_cursor(advance()).await.unwrap();
    let refused = admin.advance_cursor(advance()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("moved by another client"), "{refused}");
    // Handed over.
    admin.remove_cursor(RemoveCursorRequest { name: "siem".into() }).await.unwrap();
    admin.create_cursor(CreateCursorRequest { name: "siem".into(), ..Default::default() }).await.unwrap();
    admin.advance_cursor(advance()).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_of_the_right_authority_there_is_no_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new(), Authority::new());
    let server = start(dir.path(), &authority, true);
    for identity in [None, Some(foreign.issue(&[PROXY])), Some(foreign.issue(&[ADMIN]))] {
        // With TLS 1.3 the client may learn of it only with its first call.
        if let Ok(channel) = connect(&server, &authority, identity).await {
            assert!(calls(channel).await.iter().all(|(_, code)| code.is_some()));
        }
    }
    // The client checks the server as well, and plain text is not understood.
    assert!(connect(&server, &foreign, Some(authority.issue(&[ADMIN]))).await.is_err());
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.grpc)).unwrap().connect().await;
    if let Ok(channel) = plain {
        assert!(calls(channel).await.iter().all(|(_, code)| code.is_some()));
    }
}

#[tokio::test]
async fn tls_without_client_certificates_serves_whoever_reaches_the_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = start(dir.path(), &authority, false);
    let channel = connect(&server, &authority, None).await.unwrap();
    assert!(calls(channel).await.iter().all(|(_, code)| code.is_none()));
}

#[tokio::test]
async fn an_emitter_belongs_to_the_client_that_began_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = start(dir.path(), &authority, true);
    let mut emitter = Emitter::new("envoy-1/1/boot");
    for (who, expected) in [(PROXY, (2, "")), (OTHER_PROXY, (0, "foreign_emitter")), (PROXY, (6, ""))] {
        let channel = connect(&server, &authority, Some(authority.issue(&[who]))).await.unwrap();
        let batch = emitter.batch(2, 0);
        let mut acks =
            AuditIngestClient::new(channel).report(tokio_stream::iter([batch.clone()])).await.unwrap().into_inner();
        let ack = acks.next().await.unwrap().unwrap();
        assert_eq!((ack.sequence, ack.error.as_str()), (expected.0.min(emitter.sequence), expected.1), "{who}");
        if !ack.error.is_empty() {
            // Its owner sends what the other could not.
            let channel = connect(&server, &authority, Some(authority.issue(&[PROXY]))).await.unwrap();
            let mut acks =
                AuditIngestClient::new(channel).report(tokio_stream::iter([batch])).await.unwrap().into_inner();
            assert_eq!(acks.next().await.unwrap().unwrap().sequence, 4);
        }
    }
}

#[tokio::test]
async fn the_command_line_connects_with_certificates_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = start(dir.path(), &authority, true);
    authority.write(dir.path(), "admin", &[ADMIN]);
    authority.write(dir.path(), "auditor", &[AUDITOR]);
    let run = |who: Option<&str>, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args(args).args(["--server", &format!("https://localhost:{}", server.grpc)]);
        command.arg("--ca").arg(dir.path().join("ca.crt"));
        if let Some(who) = who {
            command.arg("--cert").arg(dir.path().join(format!("{who}.crt")));
            command.arg("--key").arg(dir.path().join(format!("{who}.key")));
        }
        let output = command.output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, out, err) = run(Some("admin"), &["proxies"]);
    assert!(code == 0 && out.contains("No proxy"), "{out} {err}");
    assert_eq!(run(Some("auditor"), &["audit", "query"]).0, 0);
    let (code, _, err) = run(Some("auditor"), &["proxies"]);
    assert!(code == 1 && err.contains("PermissionDenied") && err.contains("audit.corp"), "{err}");
    assert_eq!(run(None, &["proxies"]).0, 1);
}

#[test]
fn an_open_port_has_to_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    std::fs::create_dir_all(dir.path().join("policies")).unwrap();
    authority.write(dir.path(), "server", &["localhost"]);
    std::fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tls = [path("server.crt"), path("server.key"), path("ca.crt")];
    let serve = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args([
            "serve",
            "--metrics-listen",
            "127.0.0.1:0",
            "--policies",
            &path("policies"),
            "--data",
            &path("data"),
        ]);
        let output = command.args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = serve(&["--listen", "0.0.0.0:0"]);
    assert!(code == 1 && err.contains("--insecure") && err.contains("--tls-client-ca"), "{err}");
    // TLS alone does not tell who a client is.
    let (code, err) = serve(&["--listen", "0.0.0.0:0", "--tls-cert", &tls[0], "--tls-key", &tls[1]]);
    assert!(code == 1 && err.contains("--insecure"), "{err}");
    let all = ["--listen", "127.0.0.1:0", "--tls-cert", &tls[0], "--tls-key", &tls[1], "--tls-client-ca", &tls[2]];
    let (code, err) = serve(&all);
    assert!(code == 1 && err.contains("--client proxy=NAME"), "{err}");
    let (code, err) = serve(&[&all[..], &["--client", "reader=a.corp"]].concat());
    assert!(code == 2 && err.contains("proxy, auditor and admin"), "{err}");
    let (code, err) = serve(&["--listen", "127.0.0.1:0", "--client", "proxy=a.corp"]);
    assert!(code == 2 && err.contains("--tls-client-ca"), "{err}");
    assert!(!dir.path().join("data").exists(), "nothing was begun");
}

#[tokio::test]
async fn reflection_names_every_service_and_describes_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[], None);
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = ServerReflectionClient::new(server.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await?.into_inner();
        Ok::<_, Status>(answers.next().await.unwrap()?.message_response.unwrap())
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await.unwrap()
    else {
        panic!("a list of services");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["PolicyDiscovery", "AuditIngest", "AuditLog", "Admin"] {
        assert!(names.contains(&format!("doorward.v1.{name}")), "{names:?}");
        let symbol = MessageRequest::FileContainingSymbol(format!("doorward.v1.{name}"));
        let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await.unwrap() else {
            panic!("a file of {name}")
        };
        assert!(!files.file_descriptor_proto.is_empty());
    }
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    let nothing = ask(MessageRequest::FileContainingSymbol("doorward.v1.Nothing".into())).await;
    assert_eq!(nothing.map_err(|status| status.code()), Err(Code::NotFound));
}
