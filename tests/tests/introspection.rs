//! A real OpenID provider whose access tokens are opaque: it is asked about them through the control plane (RFC 7662).

use doorward_proto::v1::{
    IntrospectRequest, QueryRequest, identity_client::IdentityClient, introspect_response::Outcome,
};
use doorward_tests::{
    control,
    data::Shop,
    http,
    process::{self, Process},
    stack::{ControlPlane, Datasette, SHOP_SERVICE, Stack, in_both_workers},
    wait,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tonic::transport::Channel;

const LIMIT: Duration = Duration::from_secs(40);
/// How long a proxy uses an answer, by the policy.
const CACHED: Duration = Duration::from_secs(2);
const SECRET: &str = "s3cret + of:100% & more";

fn provider(folder: &Path, port: u16) -> Process {
    let mut command = Command::new(process::node());
    command.arg(process::root().join("tests/oidc/server.mjs"));
    command.arg(process::root().join(".tools/node/node_modules")).arg(port.to_string()).arg(folder.join("keys.json"));
    command.arg("opaque");
    let mut process = Process::start(command, &folder.join("oidc.log"));
    process.listens(port, LIMIT);
    process
}

fn post(port: u16, path: &str, form: &str) -> http::Response {
    let request = http::request("POST", port, path).header("content-type", "application/x-www-form-urlencoded");
    let form = format!("{form}&client_id=reporting&client_secret=reporting-secret");
    http::Request { body: Some(form.into()), ..request }.send()
}

fn token(port: u16) -> String {
    let answer = post(port, "/token", "grant_type=client_credentials&scope=read");
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

/// A policy under which `alice`, as this provider calls her, reads the customers of her region.
fn document(port: u16) -> String {
    format!(
        "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{ name: real }}\nspec:\n  issuer: \
         http://127.0.0.1:{port}\n  audiences: [data-api]\n  introspection: {{ url: \
         'http://127.0.0.1:{port}/token/introspection', clientId: doorward, clientSecret: {{ file: client }}, cacheFor: 2s }}\n  \
         claims: {{ user: person, groups: groups, attributes: {{ region: region }} }}\n---\n{SHOP_SERVICE}kind: \
         AccessRole\nmetadata: {{ name: app-analyst }}\nspec:\n  grants:\n    - {{ service: shop, components: [customers], \
         verbs: [GET], fields: {{ read: [id, region] }}, rows: \"region = {{user.region}}\" }}\n---\nkind: \
         AccessBinding\nmetadata: {{ name: analysts }}\nspec: {{ role: app-analyst, subjects: [{{ group: analysts }}] }}\n"
    )
}

/// Makes this the secret of the client of the control plane in this folder.
fn put_secret(folder: &Path, secret: &str) {
    std::fs::create_dir_all(folder.join("secrets")).unwrap();
    std::fs::write(folder.join("secrets/client"), secret).unwrap();
}

/// What the control plane has the provider say: its claims, or why there are none.
fn introspected(grpc: u16, token: &str) -> Result<serde_json::Value, String> {
    control::runtime().block_on(async {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{grpc}")).unwrap().connect().await.unwrap();
        let question = IntrospectRequest {
            node: "envoy-1".into(),
            scope: "default".into(),
            provider: "real".into(),
            token: token.into(),
        };
        let answer = IdentityClient::new(channel).introspect(question).await.unwrap().into_inner();
        match answer.outcome.unwrap() {
            Outcome::Claims(claims) => Ok(serde_json::from_slice(&claims).unwrap()),
            Outcome::Unavailable(unavailable) => Err(unavailable.reason),
        }
    })
}

#[test]
fn the_control_plane_asks_a_real_provider() {
    let home = tempfile::tempdir().unwrap();
    let port = process::free_port();
    let idp = provider(home.path(), port);
    put_secret(home.path(), "wrong");
    let mut plane = ControlPlane::prepare(home.path(), &document(port));
    plane.start();
    let good = token(port);
    wait("a wrong secret to be refused", LIMIT, || {
        (introspected(plane.grpc, &good) == Err("refused".into())).then_some(())
    });
    put_secret(home.path(), &format!("{SECRET}\n"));
    let claims = introspected(plane.grpc, &good).unwrap();
    assert_eq!(
        (&claims["active"], &claims["person"], &claims["aud"]),
        (&true.into(), &"alice".into(), &"data-api".into())
    );
    assert_eq!(introspected(plane.grpc, "garbage").unwrap()["active"], false);
    assert_eq!(post(port, "/token/revocation", &format!("token={good}")).status, 200);
    assert_eq!(introspected(plane.grpc, &good).unwrap()["active"], false);
    drop(idp);
    assert_eq!(introspected(plane.grpc, &good), Err("connection".into()));
    let log = std::fs::read_to_string(home.path().join("control-plane.log")).unwrap();
    assert!(log.contains("introspection") && !log.contains(&good) && !log.contains(SECRET), "{log}");
}

#[test]
fn an_opaque_token_is_asked_about_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let port = process::free_port();
    let idp = provider(home.path(), port);
    put_secret(folder.path(), &format!("{SECRET}\n"));
    let shop = Shop::new(7, 200);
    let datasette = Datasette::start(folder.path(), "shop", &shop);
    let document = document(port);
    let stack = Stack::over(folder, datasette.port, shop, &document, "");
    let ask = |token: &str| stack.get("/shop/customers.json?_shape=objects").token(token).send();

    let (good, other) = (token(port), token(port));
    assert!(!good.contains('.'), "it is no JWT");
    in_both_workers("the provider's answer", LIMIT, || ask(&good).status == 200);
    let rows = ask(&good).rows();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["region"] == "west"));
    let by_alice = wait("the person in the record", LIMIT, || {
        let all = QueryRequest { limit: 100_000, ..Default::default() };
        let records = control::records(stack.control.grpc, all).into_iter().filter_map(|stored| stored.record);
        records.filter_map(|record| record.principal).find(|principal| principal.user == "alice")
    });
    assert_eq!(by_alice.provider, "real");

    let garbage = ask("garbage-that-no-provider-gave");
    assert_eq!((garbage.status, garbage.code().as_str()), (401, "credential_invalid"));

    let revoked = post(port, "/token/revocation", &format!("token={good}"));
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let since = Instant::now();
    in_both_workers("the end of the revoked token", LIMIT, || ask(&good).code() == "credential_invalid");
    assert!(since.elapsed() < CACHED + Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!(ask(&other).status, 200, "the other token is as good as before");

    // Without the provider nothing is known of a token, once the last answer is too old.
    drop(idp);
    in_both_workers("no answer", LIMIT, || {
        let answer = ask(&other);
        answer.status == 503 && answer.code() == "identity_unavailable"
    });
    let metrics = http::get(stack.control.http, "/metrics").send().text();
    assert!(metrics.contains("doorward_introspections_total{provider=\"real\",outcome=\"connection\"}"), "{metrics}");
    // Neither the log of the control plane nor that of Envoy has the token or the secret.
    let log = std::fs::read_to_string(stack.folder.path().join("control-plane.log")).unwrap() + &stack.envoy.log();
    for private in [good.as_str(), &other, SECRET] {
        assert!(!log.contains(private), "a log has {private}");
    }
}
