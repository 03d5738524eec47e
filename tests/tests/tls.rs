//! Certificates on both sides of the proxy: callers known by their SPIFFE ID, and the control plane behind mutual TLS.

use doorward_test_support::certificate::Authority;
use doorward_tests::{
    control, http, process,
    stack::{ControlPlane, Envoy, EnvoyOptions, in_both_workers},
    token::Issuer as Tokens,
    upstream::{Answer, Upstream},
    wait,
};
use std::{path::Path, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);
const ITEMS: &str = "/api/v2/db/_table/items";
const ROBOT: &str = "spiffe://corp/ns/ai/sa/robot";
const OTHER: &str = "spiffe://corp/ns/ai/sa/other";
const PROXY: &str = "spiffe://corp/ns/edge/sa/envoy";
const OPERATOR: &str = "spiffe://corp/ns/ops/sa/operator";
const POLICY: &str = "kind: DataService
metadata: { name: db }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/db }]
  components: { _table/items: { key: [id], fields: { id: integer, name: string, cost: string } } }
---
kind: AccessRole
metadata: { name: app-user }
spec: { grants: [{ service: db, components: [_table/items], verbs: [GET], fields: { read: [id, name, cost] } }] }
---
kind: AccessRole
metadata: { name: ai-robot }
spec: { grants: [{ service: db, components: [_table/items], verbs: [GET], fields: { read: [id, name] } }] }
---
kind: AccessBinding
metadata: { name: users }
spec: { role: app-user, subjects: [{ group: users }] }
---
kind: AccessBinding
metadata: { name: robots }
spec: { role: ai-robot, subjects: [{ agent: 'spiffe://corp/ns/ai/sa/robot' }] }
";

fn upstream() -> Upstream {
    Upstream::start(|_| Answer::json(200, r#"{"resource":[{"id":1,"name":"open","cost":"secret-cell"}]}"#))
}

/// `tls_certificates` and what the peer must have.
fn context(folder: &Path, own: Option<&str>, trusted: &str, more: &str) -> String {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let own = own.map_or(String::new(), |own| {
        let (certificate, key) = (path(&format!("{own}.crt")), path(&format!("{own}.key")));
        format!(
            "tls_certificates: [{{ certificate_chain: {{ filename: '{certificate}' }}, private_key: {{ filename: '{key}' }} }}], "
        )
    });
    format!(
        "common_tls_context: {{ {own}validation_context: {{ trusted_ca: {{ filename: '{}' }}{more} }} }}",
        path(trusted)
    )
}

fn socket(kind: &str, context: &str) -> String {
    format!(
        "transport_socket: {{ name: envoy.transport_sockets.tls, typed_config: {{ '@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}, {context} }} }}"
    )
}

#[test]
fn an_agent_is_known_by_the_certificate_that_envoy_saw_and_by_no_header_of_the_client() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
    authority.write(folder.path(), "server", &["localhost"]);
    let upstream = upstream();
    let tokens = Tokens::es256("https://idp.test", 7);
    let token = tokens.token("ann", &["users"], "west");
    let mut control = ControlPlane::prepare(folder.path(), &(tokens.document("corp") + POLICY));
    control.start();
    let options = r#", "meshIdentity": "agent""#;
    let options = EnvoyOptions { options, ..control.options("envoy-1", upstream.port) };
    let downstream = socket(
        "DownstreamTlsContext",
        &format!("require_client_certificate: true, {}", context(folder.path(), Some("server"), "ca.crt", "")),
    );
    let envoy = Envoy::start_edited(folder.path(), &options, &|config| {
        let forward = "use_remote_address: true\n                forward_client_cert_details: SANITIZE_SET\n                \
                       set_current_client_cert_details: { uri: true, subject: true }";
        let edited = config
            .replace("use_remote_address: true", forward)
            .replace("        - filters:\n", &format!("        - {downstream}\n          filters:\n"));
        assert!(edited.contains("SANITIZE_SET") && edited.contains("DownstreamTlsContext"));
        edited
    });

    let ask = |names: &[&str], path: &str, headers: &[(&str, &str)]| {
        let (certificate, key) = authority.issue(names);
        control::runtime().block_on(async {
            let client = reqwest::Client::builder()
                .use_rustls_tls()
                .tls_built_in_root_certs(false)
                .add_root_certificate(reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap())
                .identity(reqwest::Identity::from_pem((certificate + &key).as_bytes()).unwrap())
                .resolve("localhost", ([127, 0, 0, 1], envoy.port).into())
                .build()
                .unwrap();
            let mut request = client.get(format!("https://localhost:{}{path}", envoy.port)).bearer_auth(&token);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.text().await.unwrap())
        })
    };
    in_both_workers("policy", LIMIT, || ask(&[ROBOT], ITEMS, &[]).0 == 200);
    let _ = upstream.take();

    // The person may see the cost, the agent not: together they do not.
    let (status, text) = ask(&[ROBOT], ITEMS, &[]);
    assert!(status == 200 && text.contains("open") && !text.contains("secret-cell"), "{text}");
    let [seen] = upstream.take().try_into().unwrap();
    assert_eq!((seen.header("x-doorward-user"), seen.header("x-doorward-agent")), (Some("ann"), Some(ROBOT)));
    let spoofed = format!("By=spiffe://corp/x;URI={ROBOT}");
    let quoted = format!("Subject=\"CN=a,URI={ROBOT}\";URI={ROBOT}");
    let denied = |(status, text): (u16, String), code: &str| {
        assert!(status == 403 && text.contains(code), "{status} {text}");
    };
    // An agent without a role, whatever it says of itself, gets nothing; nor does a certificate with two names.
    denied(ask(&[OTHER], ITEMS, &[]), "delegation_denied");
    for header in [&spoofed, &quoted] {
        denied(ask(&[OTHER], ITEMS, &[("x-forwarded-client-cert", header)]), "delegation_denied");
        let twice = [("x-forwarded-client-cert", header.as_str()), ("x-forwarded-client-cert", header.as_str())];
        denied(ask(&[OTHER], ITEMS, &twice), "delegation_denied");
    }
    // What the client says does not lift the limits of its own certificate either.
    let (status, text) = ask(&[ROBOT], ITEMS, &[("x-forwarded-client-cert", "URI=spiffe://corp/ns/ai/sa/nobody")]);
    assert!(status == 200 && !text.contains("secret-cell"), "{text}");
    let (status, text) = ask(&[ROBOT], &format!("{ITEMS}?fields=cost"), &[("x-forwarded-client-cert", "")]);
    denied((status, text), "field_denied");
    for seen in upstream.take() {
        assert_eq!(seen.header("x-doorward-agent"), Some(ROBOT), "{seen:?}");
    }
}

#[test]
fn policy_and_records_travel_by_mutual_tls_and_a_wrong_authority_gets_neither() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new(), Authority::new());
    std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(folder.path().join("foreign-ca.crt"), &foreign.pem).unwrap();
    authority.write(folder.path(), "server", &["localhost"]);
    authority.write(folder.path(), "proxy", &[PROXY]);
    authority.write(folder.path(), "operator", &[OPERATOR]);
    foreign.write(folder.path(), "foreign", &[PROXY]);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let upstream = upstream();
    let tokens = Tokens::es256("https://idp.test", 7);
    let token = tokens.token("ann", &["users"], "west");
    let mut control = ControlPlane::prepare(folder.path(), &(tokens.document("corp") + POLICY));
    control.arguments =
        ["--tls-cert", &file("server.crt"), "--tls-key", &file("server.key"), "--tls-client-ca", &file("ca.crt")]
            .map(str::to_owned)
            .to_vec();
    control.environment = vec![("DOORWARD_CLIENT".into(), format!("proxy={PROXY},admin={OPERATOR}"))];
    control.start();

    let start = |node: &str, own: Option<&str>, trusted: &str, name: &str| {
        let wanted = format!(", match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {name} }} }}]");
        let tls =
            socket("UpstreamTlsContext", &format!("sni: localhost, {}", context(folder.path(), own, trusted, &wanted)));
        Envoy::start_edited(folder.path(), &control.options(node, upstream.port), &|config| {
            let edited = config.replace(
                "      typed_extension_protocol_options:\n",
                &format!("      {tls}\n      typed_extension_protocol_options:\n"),
            );
            assert!(edited.contains("UpstreamTlsContext"));
            edited
        })
    };
    let good = start("good", Some("proxy"), "ca.crt", "localhost");
    let bad = [
        start("trusts-another", Some("proxy"), "foreign-ca.crt", "localhost"),
        start("wants-another", Some("proxy"), "ca.crt", "elsewhere"),
        start("nameless", None, "ca.crt", "localhost"),
        start("foreign", Some("foreign"), "ca.crt", "localhost"),
    ];
    let get = |envoy: &Envoy| http::get(envoy.port, ITEMS).token(&token).send();
    in_both_workers("policy over mutual TLS", LIMIT, || get(&good).status == 200);
    let denied = http::get(good.port, "/api/v2/db/_table/others").token(&token).send();
    let id = denied.json()["decision_id"].as_str().unwrap().to_owned();

    // The command line, with and without the right certificates.
    let command = |arguments: &[&str], ca: &str, own: &[&str]| {
        let (server, ca) = (format!("https://localhost:{}", control.grpc), file(ca));
        let own: Vec<String> =
            own.iter().enumerate().map(|(at, name)| if at % 2 == 1 { file(name) } else { (*name).into() }).collect();
        let mut command = Command::new(process::doorward());
        let out = command.args(arguments).args(["--server", &server, "--ca", &ca]).args(own).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let own = ["--cert", "operator.crt", "--key", "operator.key"];
    let query = ["audit", "query", "--format", "jsonl"];
    wait("the record", LIMIT, || {
        let (success, out) = command(&query, "ca.crt", &own);
        assert!(success, "{out}");
        out.contains(&id).then_some(())
    });
    let (success, out) = command(&["proxies"], "ca.crt", &own);
    assert!(success && out.contains("good"), "{out}");
    for node in ["trusts-another", "wants-another", "nameless", "foreign"] {
        assert!(!out.contains(node), "{out}");
    }
    for (ca, own) in
        [("foreign-ca.crt", &own[..]), ("ca.crt", &[]), ("ca.crt", &["--cert", "foreign.crt", "--key", "foreign.key"])]
    {
        let (success, out) = command(&query, ca, own);
        assert!(!success && !out.contains(&id), "{ca} {own:?}: {out}");
    }
    for envoy in &bad {
        get(envoy).denied(503, "policy_unavailable");
    }
    assert!(upstream.take().iter().all(|seen| seen.header("x-doorward-user") == Some("ann")));
}
