//! A real OpenID provider: its keys are found by discovery, followed through a rotation, and dropped when it drops them.

use doorward_tests::{
    data::Shop,
    http,
    process::{self, Process},
    stack::{Datasette, SHOP_SERVICE, Stack, in_both_workers},
    wait,
};
use std::{path::Path, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(40);

fn provider(folder: &Path, port: u16, change: &str) -> Process {
    let mut command = Command::new(process::node());
    command.arg(process::root().join("tests/oidc/server.mjs"));
    command.arg(process::root().join(".tools/node/node_modules")).arg(port.to_string()).arg(folder.join("keys.json"));
    if !change.is_empty() {
        command.arg(change);
    }
    let mut process = Process::start(command, &folder.join("oidc.log"));
    process.listens(port, LIMIT);
    process
}

fn token(port: u16) -> String {
    let request = http::request("POST", port, "/token").header("content-type", "application/x-www-form-urlencoded");
    let form = "grant_type=client_credentials&client_id=reporting&client_secret=reporting-secret&scope=read";
    let answer = http::Request { body: Some(form.into()), ..request }.send();
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

/// Fetches of key sets that failed so far, by the control plane's own metrics.
fn failed_fetches(port: u16) -> u64 {
    let text = http::get(port, "/metrics").send().text();
    let counts = text.lines().filter(|line| line.starts_with("doorward_jwks_fetch_failures_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn keys_are_discovered_rotated_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let port = process::free_port();
    let first = provider(home.path(), port, "");
    let shop = Shop::new(7, 200);
    let datasette = Datasette::start(folder.path(), "shop", &shop);
    let document = |keys: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{ name: real }}\nspec:\n  issuer: \
             http://127.0.0.1:{port}\n  audiences: [data-api]\n  algorithms: [RS256]\n  {keys}\n  claims: {{ user: sub, groups: \
             groups, attributes: {{ region: region }} }}\n---\n{SHOP_SERVICE}kind: AccessRole\nmetadata: {{ name: app-analyst \
             }}\nspec:\n  grants:\n    - {{ service: shop, components: [customers], verbs: [GET], fields: {{ read: [id, region] \
             }}, rows: \"region = {{user.region}}\" }}\n---\nkind: AccessBinding\nmetadata: {{ name: analysts }}\nspec: {{ role: \
             app-analyst, subjects: [{{ group: analysts }}] }}\n"
        )
    };
    let stack = Stack::over(folder, datasette.port, shop, &document(""), "");
    let ask = |token: &str| stack.get("/shop/customers.json?_shape=objects").token(token).send();

    let old = token(port);
    in_both_workers("the discovered keys", LIMIT, || ask(&old).status == 200);
    let rows = ask(&old).rows();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["region"] == "west"));

    stack.policies(&document(&format!("jwks: {{ uri: \"http://127.0.0.1:{port}/jwks\", refresh: 5s }}")));
    // A new address starts without keys: until they are there, the provider's tokens are refused.
    in_both_workers("the keys of the new address", LIMIT, || ask(&old).status == 200);
    drop(first);
    // While the provider is away its last keys stay, also after a refresh that failed.
    wait("a refresh that fails", LIMIT, || (failed_fetches(stack.control.http) > 0).then_some(()));
    assert!((0..8).all(|_| ask(&old).status == 200));
    let second = provider(home.path(), port, "rotate");
    let new = token(port);
    in_both_workers("the new key", LIMIT, || ask(&new).status == 200);
    assert_eq!(ask(&old).status, 200, "the old key is still published");
    drop(second);
    let _third = provider(home.path(), port, "drop");
    in_both_workers("the old key's end", LIMIT, || ask(&old).code() == "credential_invalid");
    assert_eq!(ask(&new).status, 200);
}
