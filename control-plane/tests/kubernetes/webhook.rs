//! What the compiler refuses is refused by the API server, in the same words.

use doorward_test_support::wait;

use crate::{
    RESTRICTION, ROLE, SERVICE,
    cluster::{Cluster, SOON, root},
    common::free_port,
};

const PROVIDER: &str = "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: { name: corp }\nspec: { issuer: \
    \"https://idp.example.com\", audiences: [data], algorithms: [ES256], jwks: { uri: \"https://idp.example.com/certs\" }, \
    claims: { user: sub } }\n";
const BINDING: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessBinding\nmetadata: { name: all }\nspec: { role: ai-x, \
    subjects: [{ user: bob }] }\n";

impl Cluster {
    /// The webhook of a control plane that listens on this port, asked over the loopback.
    pub fn install_webhook(&self, port: u16) {
        let text = std::fs::read_to_string(root().join("deploy/kubernetes/webhook.yaml")).unwrap();
        let mut parts = text.split("      service:\n");
        let mut text = parts.next().unwrap().to_owned();
        for part in parts {
            let (_, after) = part.split_once("        port: 443\n").unwrap();
            text.push_str(&format!("      url: https://127.0.0.1:{port}/validate\n{after}"));
        }
        self.run(&["apply", "-f", "-"], &text);
    }
}

#[test]
fn what_validate_refuses_the_webhook_refuses_in_the_same_words() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_whole();
    // From before the webhook: a role that does not compile.
    let broken = ROLE.replace("ai-x", "ai-broken").replace("rows:", "row:");
    cluster.apply("shop", &broken);
    let port = free_port();
    cluster.install_webhook(port);
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let server = cluster.replica(dir.path(), "doorward-0", "shop", &["--webhook-listen", &listen]);
    wait("the webhook to answer", SOON, || {
        cluster.kubectl(&["apply", "-n", "shop", "-f", "-"], SERVICE).status.success().then_some(())
    });
    cluster.apply("shop", ROLE);
    cluster.apply("shop", PROVIDER);

    // It has seen them.
    for (kind, name) in [("dataservice", "shop"), ("accessrole", "ai-x"), ("identityprovider", "corp")] {
        cluster.condition(kind, "shop", name, "Accepted", "True", "Accepted");
    }
    let put = |text: &str| {
        let output = cluster.kubectl(&["apply", "-n", "shop", "-f", "-"], text);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    // What each is refused for.
    let refused = [
        (ROLE.replace("rows:", "row:"), "unknown field \"row\"; did you mean \"rows\"? [unknown_field]"),
        (ROLE.replace("region = 'west'", "regoin = 'west'"), "regoin"),
        (ROLE.replace("region = 'west'", "id = 'west'"), "spec.grants[0].rows"),
        (ROLE.replace("read: [id]", "read: [ssn]"), "ssn"),
        (SERVICE.replace("name: shop", "name: zcopy"), "DataService \"shop\" already has"),
        (PROVIDER.replace("name: corp", "name: zcopy"), "IdentityProvider \"corp\" already has this issuer"),
        (
            RESTRICTION.replace("spec: {", "spec: { from: 2026-02-01T00:00:00Z, until: 2026-01-01T00:00:00Z,"),
            "[time_range]",
        ),
    ];
    for (text, words) in &refused {
        let (taken, said) = put(text);
        assert!(!taken && said.contains(words) && said.contains("denied the request"), "{words}: {said}");
        // The same words, with the place before them.
        let file = dir.path().join("one");
        std::fs::create_dir_all(&file).unwrap();
        std::fs::write(file.join("all.yaml"), [SERVICE, PROVIDER].join("---\n")).unwrap();
        if !text.contains("name: ai-x") {
            std::fs::write(file.join("role.yaml"), ROLE).unwrap();
        }
        std::fs::write(file.join("z.yaml"), text).unwrap();
        let (code, validated) = cluster.doorward(&["validate", file.to_str().unwrap()]);
        let message = said.rsplit("denied the request: ").next().unwrap().trim();
        for line in message.lines().filter(|line| line.ends_with(']')) {
            assert!(code == 1 && validated.contains(line), "{line}: {validated}");
        }
        std::fs::remove_dir_all(file).unwrap();
    }
    // What may be right in a moment is taken, with a warning.
    for (text, words) in [
        (
            ROLE.replace("ai-x", "ai-early").replace("service: shop", "service: later"),
            "there is no DataService \"later\"",
        ),
        (BINDING.replace("role: ai-x", "role: ai-later"), "until then it is not in force"),
        (SERVICE.replace("region: string", "area: string"), "AccessRole ai-x will not compile"),
    ] {
        let (taken, said) = put(&text);
        assert!(taken && said.contains("Warning: ") && said.contains(words), "{words}: {said}");
    }
    cluster.apply("shop", SERVICE);
    let made_up = ROLE.replace("name: ai-x", "generateName: ai-");
    cluster.run(&["create", "-n", "shop", "-f", "-"], &made_up);
    let deleted = cluster.kubectl(&["delete", "accessrole", "ai-x", "-n", "shop"], "");
    assert!(deleted.status.success());
    // Labels of a document that does not compile can be changed, and it can be deleted.
    cluster.run(&["label", "accessrole", "ai-broken", "-n", "shop", "team=a"], "");
    cluster.run(&["delete", "accessrole", "ai-broken", "-n", "shop"], "");
    // Its certificate is for every replica.
    let secret = cluster.run(&["get", "secret", "doorward-webhook", "-n", "doorward", "-o", "json"], "");
    assert!(secret.contains("tls.crt") && secret.contains("ca.crt"), "{secret}");
    let second = tempfile::tempdir().unwrap();
    let other = cluster.replica(
        second.path(),
        "doorward-1",
        "shop",
        &["--webhook-listen", &format!("127.0.0.1:{}", free_port())],
    );
    let metrics = server.get("/metrics");
    assert!(metrics.contains("doorward_webhook_reviews_total{outcome=\"refused\"} 7"), "{metrics}");
    server.kill();
    let (taken, said) = put(ROLE);
    assert!(!taken && said.contains("failed calling webhook"), "closed while nobody answers: {said}");
    drop(other);
    assert_eq!(
        cluster.run(&["get", "secret", "doorward-webhook", "-n", "doorward", "-o", "json"], ""),
        secret,
        "a replica that comes later shows the same certificate"
    );
}
