//! Key sets in Secrets, which are read by name and with a right that somebody gave for that name.

use doorward_test_support::wait;

use crate::{
    cluster::{Cluster, SOON},
    common::Proxy,
    until,
};

const PROVIDER: &str = "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: { name: corp }\nspec: { issuer: \
    \"https://idp.example.com\", audiences: [data], algorithms: [ES256], jwks: { secretRef: { name: idp-keys } }, claims: { \
    user: sub } }\n";
/// RFC 7517, appendix A.1.
const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"KID"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_in_a_secret_is_read_by_its_name_where_somebody_has_allowed_that() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_whole();
    cluster.apply("shop", PROVIDER);
    let set = |kid: &str| format!("{{\"keys\":[{}]}}", KEY.replace("KID", kid));
    for namespace in ["shop", "other"] {
        let literal = format!("--from-literal=jwks.json={}", set(namespace));
        cluster.run(&["create", "secret", "generic", "idp-keys", "-n", namespace, &literal], "");
    }
    let dir = tempfile::tempdir().unwrap();
    let server = cluster.replica(dir.path(), "doorward-0", "*", &[]);
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    // Without the right nothing is read, and the status says what to do.
    wait("the status to say so", SOON, || {
        let status = cluster.object("identityprovider", "shop", "corp")["status"].clone();
        let message = status["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        message.contains("we may not read the Secret shop/idp-keys").then_some(())
    });
    cluster.run(
        &["create", "role", "idp-keys", "-n", "shop", "--verb=get", "--resource=secrets", "--resource-name=idp-keys"],
        "",
    );
    cluster.run(
        &["create", "rolebinding", "idp-keys", "-n", "shop", "--role=idp-keys", "--serviceaccount=doorward:doorward"],
        "",
    );
    let kid = |bundle: &doorward_proto::v1::Bundle, kid: &str| {
        bundle.providers.iter().any(|provider| provider.keys.iter().any(|key| bundle.strings[key.kid as usize] == kid))
    };
    until(&mut proxy, SOON, |bundle| kid(bundle, "shop")).await;
    // A new key is taken up.
    let patch = serde_json::json!({"stringData": {"jwks.json": set("rotated")}}).to_string();
    cluster.run(&["patch", "secret", "idp-keys", "-n", "shop", "-p", &patch], "");
    let bundle = until(&mut proxy, SOON, |bundle| kid(bundle, "rotated")).await;
    assert!(!kid(&bundle, "other"), "another namespace's Secret of that name is not read");
}
