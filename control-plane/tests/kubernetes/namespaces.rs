//! Two namespaces of one API server that try to take what is the other's.

use doorward_proto::v1::Bundle;
use doorward_test_support::wait;

use crate::{
    RESTRICTION, ROLE, SERVICE,
    cluster::{Cluster, SOON},
    common::{Proxy, free_port},
    until,
};

fn names(bundle: &Bundle) -> Vec<&str> {
    let name = |at: u32| bundle.strings[at as usize].as_str();
    let roles = bundle.roles.iter().map(|role| name(role.name));
    roles.chain(bundle.services.iter().map(|service| name(service.name))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_nothing_of_another_and_cannot_keep_it_from_going_on() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_whole();
    let service = SERVICE.replace("path: /shop", "path: /shop, hosts: [shop.example.com]");
    cluster.apply("shop", &[service.as_str(), ROLE].join("---\n"));
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let webhook = ["--webhook-listen", &format!("127.0.0.1:{port}")];
    let server = cluster.replica(dir.path(), "doorward-0", "*", &webhook);
    let mut proxy = Proxy::connect(&server, "envoy-1", Vec::new(), 0).await;
    let bundle = until(&mut proxy, SOON, |bundle| bundle.roles.len() == 1).await;
    assert_eq!(names(&bundle), ["shop/ai-x", "shop/shop"]);
    cluster.condition("accessrole", "shop", "ai-x", "Programmed", "True", "Programmed");
    // Of the same names, and of no concern to the first.
    cluster.apply("other", &service.replace("shop.example.com", "other.example.com"));
    cluster.apply("other", ROLE);
    let bundle = until(&mut proxy, SOON, |bundle| bundle.roles.len() == 2).await;
    assert_eq!(names(&bundle), ["other/ai-x", "shop/ai-x", "other/shop", "shop/shop"]);
    cluster.condition("accessrole", "other", "ai-x", "Programmed", "True", "Programmed");

    let takers = [
        ("dataservice", "thief", service.replace("name: shop", "name: thief"), "Conflicted"),
        ("accessrole", "ai-thief", ROLE.replace("service: shop", "service: shop/shop").replace("ai-x", "ai-thief"), "NotPermitted"),
        (
            "accessbinding",
            "thief",
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessBinding\nmetadata: { name: thief }\nspec: { role: shop/ai-x, subjects: [{ \
             user: mallory }] }\n"
                .to_owned(),
            "NotPermitted",
        ),
        ("accessrestriction", "cut", RESTRICTION.replace("services: [shop]", "services: [shop/shop]"), "NotPermitted"),
        (
            "identityprovider",
            "thief",
            "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: { name: thief }\nspec: { issuer: \
             \"https://x.example.com\", audiences: [data], algorithms: [ES256], claims: { user: sub }, jwks: { file: \
             /etc/hostname } }\n"
                .to_owned(),
            "NotPermitted",
        ),
    ];
    for (kind, name, text, reason) in &takers {
        cluster.apply("other", text);
        cluster.condition(kind, "other", name, "Accepted", "False", reason);
    }
    // The owner is told whose claim that was.
    let told = cluster.object("dataservice", "shop", "shop")["status"]["conditions"][0]["message"].clone();
    assert!(told.as_str().unwrap().contains("other/thief"), "{told}");
    // Two of those leave their namespace as it was, since something could be missing there; the first one goes on.
    let held = cluster.condition("dataservice", "other", "thief", "Programmed", "False", "Reconciling");
    assert_eq!(held["epoch"], 0);
    cluster.apply("shop", RESTRICTION);
    let bundle = until(&mut proxy, SOON, |bundle| bundle.restrictions.len() == 1).await;
    assert_eq!(names(&bundle), ["other/ai-x", "shop/ai-x", "other/shop", "shop/shop"]);
    cluster.condition("accessrestriction", "shop", "cut", "Programmed", "True", "Programmed");
    // With consent, it may.
    let open = service.replace("spec:\n", "spec:\n  allowedNamespaces: [other]\n");
    cluster.run(&["delete", "dataservice", "thief", "-n", "other"], "");
    cluster.run(&["delete", "accessrestriction", "cut", "-n", "other"], "");
    cluster.apply("shop", &open);
    cluster.condition("accessrole", "other", "ai-thief", "Accepted", "True", "Accepted");
    until(&mut proxy, SOON, |bundle| bundle.roles.len() == 3).await;

    // An old object takes no new claims.
    let moved = service.replace("shop.example.com", "other.example.com");
    cluster.apply("other", &moved);
    let stolen = cluster.kubectl(&["apply", "-n", "other", "-f", "-"], &service);
    let said = String::from_utf8_lossy(&stolen.stderr).into_owned();
    assert!(!stolen.status.success() && said.contains("the hosts of a service stay as they are"), "{said}");
    // One that nobody can read hides no other.
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let deep = format!(
        "{{\"apiVersion\":\"doorward.dev/v1alpha1\",\"kind\":\"AccessRestriction\",\"metadata\":{{\"name\":\"deep\"}},\"spec\":{{\"subjects\":[{{\"user\":\"x\"}}],\
         \"effect\":\"deny\",\"deep\":{deep}}}}}"
    );
    cluster.run(&["create", "-n", "other", "-f", "-"], &deep);
    wait("the status of what nobody can read", SOON, || {
        let reason = "jsonpath={.status.conditions[0].reason}";
        (cluster.run(&["get", "accessrestriction", "deep", "-n", "other", "-o", reason], "") == "Invalid").then_some(())
    });
    cluster.apply("shop", &RESTRICTION.replace("name: cut", "name: seen"));
    until(&mut proxy, SOON, |bundle| bundle.restrictions.len() == 2).await;
    cluster.run(&["delete", "accessrestriction", "deep", "-n", "other"], "");

    // The webhook says the same, before it is stored.
    cluster.install_webhook(port);
    wait("the webhook to answer", SOON, || {
        let put = cluster.kubectl(&["apply", "-n", "other", "-f", "-"], &takers[4].2.replace("thief", "another"));
        let said = String::from_utf8_lossy(&put.stderr).into_owned();
        said.contains("named by documents of its own namespace only").then_some(())
    });
    let binding =
        cluster.kubectl(&["apply", "-n", "other", "-f", "-"], &takers[2].2.replace("name: thief", "name: two"));
    let said = String::from_utf8_lossy(&binding.stderr).into_owned();
    assert!(said.contains("allowedNamespaces must name other"), "{said}");
    // Nor does an old provider take a new issuer.
    let provider = takers[4].2.replace("thief", "old").replace("x.example.com", "old.example.com");
    let provider = provider.replace("file: /etc/hostname", "uri: \"https://old.example.com/k\"");
    cluster.apply("other", &provider);
    let renamed = provider.replace("issuer: \"https://old", "issuer: \"https://new");
    let other = cluster.kubectl(&["apply", "-n", "other", "-f", "-"], &renamed);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("issuers of a provider stay as they are"), "{said}");
    let (code, said) = cluster.doorward_as("plane", &["validate", "kubernetes:*"]);
    assert!(code == 1 && said.contains("allowedNamespaces must name other"), "{said}");
}
