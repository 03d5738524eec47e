//! Namespaces that try to take what is another's.

use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::{Compiled, compile_within, namespaces::Boundary},
    document::crd::status::AcceptedReason,
};
use doorward_test_support::policy::documents;

use super::{EC, keys};

/// What namespace `a` has, from the first day on.
const A: &str = r#"
apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: {name: a/idp, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {issuer: https://a.example.com, audiences: [data], algorithms: [ES256], jwks: {uri: https://a.example.com/keys}, claims: {user: sub}}
---
kind: DataService
metadata: {name: a/shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  dialect: http
  match: [{hosts: ["data.a.example.com", "*.wild.example.com"]}]
  components: {orders: {fields: {id: integer}, operations: [{path: /orders, verbs: [GET]}]}}
---
kind: AccessRole
metadata: {name: a/ai-read, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {grants: [{service: shop, components: [orders], verbs: [GET], fields: {read: [id]}}]}
---
kind: AccessBinding
metadata: {name: a/readers, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {role: ai-read, subjects: [{user: alice}, {agent: bot}, {key: tool}]}
---
kind: AccessKey
metadata: {name: a/tool, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {hash: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", role: ai-read, agent: bot}
"#;

fn of(text: &str) -> Compiled {
    compile_within(&documents(text), &keys(EC), "default", &Boundary { trusted: Some("doorward".to_owned()) })
}

/// Namespace `b` with this as well, a day later. What stands before the specification of each document is filled in.
fn with(kind: &str, name: &str, spec: &str) -> Compiled {
    of(&format!(
        "{A}---\nkind: {kind}\nmetadata: {{name: {name}, creationTimestamp: \"2026-01-02T00:00:00Z\"}}\nspec: {spec}\n"
    ))
}

const SERVICE: &str =
    "dialect: http, components: {orders: {fields: {id: integer}, operations: [{path: /orders, verbs: [GET]}]}}";

#[test]
fn what_reaches_beyond_its_namespace_is_refused_and_says_why() {
    let hash = format!("\"sha256:{}\"", "b".repeat(64));
    let provider = "audiences: [data], algorithms: [ES256], claims: {user: sub}";
    for (kind, spec, reason, words) in [
        (
            "DataService",
            format!("{{{SERVICE}, match: [{{hosts: [data.a.example.com]}}]}}"),
            "Conflicted",
            "had it before",
        ),
        (
            "DataService",
            format!("{{{SERVICE}, match: [{{hosts: [data.a.example.com], path: /orders/x}}]}}"),
            "Conflicted",
            "had it before",
        ),
        (
            "DataService",
            format!("{{{SERVICE}, match: [{{hosts: [DATA.A.example.com]}}]}}"),
            "Conflicted",
            "had it before",
        ),
        (
            "DataService",
            format!("{{{SERVICE}, match: [{{hosts: [mine.wild.example.com]}}]}}"),
            "Conflicted",
            "had it before",
        ),
        (
            "DataService",
            format!("{{{SERVICE}, match: [{{hosts: [\"*.example.com\"]}}]}}"),
            "Conflicted",
            "had it before",
        ),
        ("DataService", format!("{{{SERVICE}, match: [{{path: /x}}]}}"), "NotPermitted", "name the hosts"),
        (
            "IdentityProvider",
            format!("{{issuer: https://a.example.com, {provider}, jwks: {{uri: https://b.example.com/k}}}}"),
            "Conflicted",
            "already has this issuer",
        ),
        (
            "IdentityProvider",
            format!("{{issuer: https://b.example.com, {provider}, jwks: {{file: /etc/passwd}}}}"),
            "NotPermitted",
            "own namespace only",
        ),
        (
            "AccessRole",
            "{grants: [{service: a/shop, components: [orders], verbs: [GET]}]}".to_owned(),
            "NotPermitted",
            "allowedNamespaces must name b",
        ),
        (
            "AccessRole",
            "{grants: [{service: shop, components: [orders], verbs: [GET]}]}".to_owned(),
            "RefNotFound",
            "there is no DataService \"b/shop\"",
        ),
        (
            "AccessBinding",
            "{role: a/ai-read, subjects: [{user: mallory}]}".to_owned(),
            "NotPermitted",
            "allowedNamespaces must name b",
        ),
        ("AccessKey", format!("{{hash: {hash}, role: a/ai-read}}"), "NotPermitted", "allowedNamespaces must name b"),
        (
            "AccessRestriction",
            "{subjects: [{user: alice}], effect: deny, services: [a/shop]}".to_owned(),
            "NotPermitted",
            "allowedNamespaces must name b",
        ),
        (
            "AccessRestriction",
            "{subjects: [{user: alice}], effect: revokeTokens}".to_owned(),
            "NotPermitted",
            "use the effect deny",
        ),
    ] {
        let all = with(kind, "b/taker", &spec);
        let own: Vec<_> = all.diagnostics.iter().filter(|found| found.name == "b/taker" && found.is_error()).collect();
        let first = own.first().unwrap_or_else(|| panic!("{kind} {spec} is taken: {:?}", all.diagnostics));
        assert_eq!(AcceptedReason::of_code(first.code).as_str(), reason, "{kind} {spec}: {own:?}");
        assert!(own.iter().any(|found| found.message.contains(words)), "{words}: {own:?}");
        assert!(all.accepted.iter().all(|document| document.name != "b/taker"));
        // What is there stays as it is.
        assert_eq!(all.accepted.len(), 5, "{:?}", all.diagnostics);
    }
}

#[test]
fn a_consent_opens_just_what_it_names() {
    let open = A.replace("spec:\n  dialect: http", "spec:\n  allowedNamespaces: [b]\n  dialect: http");
    let grant = "{grants: [{service: a/shop, components: [orders], verbs: [GET], fields: {read: [id]}}]}";
    let role = |namespace: &str| {
        of(&format!("{open}---\nkind: AccessRole\nmetadata: {{name: {namespace}/ai-x}}\nspec: {grant}\n"))
    };
    assert_eq!(role("b").accepted.len(), 6, "{:?}", role("b").diagnostics);
    assert_eq!(role("c").accepted.len(), 5);
    let named = A.replace("spec: {grants:", "spec: {allowedNamespaces: [\"*\"], grants:");
    let binding = of(&format!(
        "{named}---\nkind: AccessBinding\nmetadata: {{name: c/all}}\nspec: {{role: a/ai-read, subjects: [{{user: bob}}]}}\n"
    ));
    assert_eq!(binding.accepted.len(), 6, "{:?}", binding.diagnostics);
}

#[test]
fn what_the_trusted_namespace_claims_is_its_own_however_late_it_comes() {
    let all = with("DataService", "doorward/shop", &format!("{{{SERVICE}, match: [{{hosts: [data.a.example.com]}}]}}"));
    let refused: Vec<&str> =
        all.diagnostics.iter().filter(|found| found.code == "host_claimed").map(|found| found.name.as_str()).collect();
    assert_eq!(refused, ["a/shop"]);
    let provider = "audiences: [data], algorithms: [ES256], claims: {user: sub}, jwks: {uri: https://b.example.com/k}";
    let all = with("IdentityProvider", "doorward/idp", &format!("{{issuer: https://a.example.com, {provider}}}"));
    let refused: Vec<&str> = all
        .diagnostics
        .iter()
        .filter(|found| found.code == "duplicate_issuer")
        .map(|found| found.name.as_str())
        .collect();
    assert_eq!(refused, ["a/idp"]);
}

#[test]
fn a_binding_believes_providers_of_its_namespace_of_the_trusted_one_and_those_it_names() {
    let provider = |name: &str| {
        format!(
            "---\nkind: IdentityProvider\nmetadata: {{name: {name}}}\nspec: {{issuer: \"https://{name}.example.com\", audiences: \
             [data], algorithms: [ES256], jwks: {{uri: \"https://x.example.com/k\"}}, claims: {{user: sub}}}}\n"
        )
    };
    let all = [A, &provider("b/evil"), &provider("doorward/corp"), &provider("c/partner")].concat();
    let believed = |text: &str, provider: &str| {
        let compiled = of(text);
        let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
        let binding = tables.binding(0).unwrap();
        binding.believes(Some(&provider.into()))
    };
    for (provider, is_believed) in [("a/idp", true), ("b/evil", false), ("doorward/corp", true), ("c/partner", false)] {
        assert_eq!(believed(&all, provider), is_believed, "{provider}");
    }
    let named = all.replace("spec: {role: ai-read,", "spec: {role: ai-read, providers: [c/partner],");
    for (provider, is_believed) in [("a/idp", false), ("b/evil", false), ("doorward/corp", false), ("c/partner", true)]
    {
        assert_eq!(believed(&named, provider), is_believed, "named: {provider}");
    }
    // Nobody there to be believed: then nobody is, and not everybody.
    let alone = A.split("---\n").skip(1).collect::<Vec<_>>().join("---\n");
    let text = format!("apiVersion: doorward.dev/v1alpha1\n{alone}{}", provider("b/evil"));
    assert!(!believed(&text, "b/evil"));
    assert!(of(&text).diagnostics.iter().any(|found| found.code == "never_matches"));
    // A proxy that does not know the rule refuses the bundle.
    assert_eq!(of(A).bundle.format, 2);
}

#[test]
fn a_restriction_holds_on_services_of_its_namespace_and_one_of_the_trusted_namespace_everywhere() {
    let service = format!(
        "---\nkind: DataService\nmetadata: {{name: b/own}}\nspec: {{{SERVICE}, match: [{{hosts: [b.example.com]}}]}}\n"
    );
    for (namespace, on_a, on_b) in [("b", false, true), ("doorward", true, true), ("c", false, false)] {
        let text = format!(
            "{A}{service}---\nkind: AccessRestriction\nmetadata: {{name: {namespace}/cut}}\nspec: {{subjects: [{{user: alice}}], \
             effect: deny}}\n"
        );
        let compiled = of(&text);
        let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
        let restriction = tables.restriction(0).unwrap();
        assert_eq!((restriction.concerns("a/shop"), restriction.concerns("b/own")), (on_a, on_b), "{namespace}");
    }
}

#[test]
fn an_agent_that_a_key_names_is_one_of_its_own_namespace() {
    let key = format!(
        "---\nkind: AccessRole\nmetadata: {{name: b/ai-own}}\nspec: {{grants: []}}\n---\nkind: AccessKey\nmetadata: {{name: \
         b/key}}\nspec: {{hash: \"sha256:{}\", role: ai-own, agent: bot}}\n",
        "b".repeat(64)
    );
    let compiled = of(&[A, &key].concat());
    let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
    let agents: Vec<String> =
        tables.keys().iter().filter_map(|key| key.agent.as_ref().map(|agent| agent.to_string())).collect();
    assert_eq!(agents, ["a/bot", "b/bot"]);
    let holds = |agent: &str| !tables.bound().agent(agent).is_empty();
    assert!(holds("bot") && holds("a/bot") && !holds("b/bot"));
}

#[test]
fn what_another_namespace_deletes_or_shares_takes_nothing_out_of_force() {
    let restriction = "---\nkind: AccessRestriction\nmetadata: {name: doorward/cut}\nspec: {subjects: [{user: mallory}, {key: b/gone}], \
                       effect: deny, services: [b/gone, a/shop]}\n";
    let all = of(&[A, restriction].concat());
    assert_eq!(all.accepted.len(), 6, "{:?}", all.diagnostics);
    assert!(all.diagnostics.iter().all(|found| !found.is_error()), "{:?}", all.diagnostics);
    // A key of another namespace that nobody has allowed, with a value that does not fit the role's placeholder.
    let placeholder = A.replace("fields: {read: [id]}}]}", "fields: {read: [id]}, rows: \"id = {key.n}\"}]}");
    let placeholder =
        placeholder.replace("role: ai-read, agent: bot}", "role: ai-read, agent: bot, attributes: {n: 7}}");
    assert_eq!(of(&placeholder).accepted.len(), 5, "{:?}", of(&placeholder).diagnostics);
    let key = format!(
        "---\nkind: AccessKey\nmetadata: {{name: b/k}}\nspec: {{hash: \"sha256:{}\", role: a/ai-read, attributes: {{n: x}}}}\n",
        "b".repeat(64)
    );
    assert_eq!(of(&[placeholder.as_str(), &key].concat()).accepted.len(), 5);
    // Who shares a host by consent does not come to own it.
    let open = A.replace("spec:\n  dialect: http", "spec:\n  allowedNamespaces: [b]\n  dialect: http");
    let service = |name: &str, day: u8, path: &str| {
        format!(
            "---\nkind: DataService\nmetadata: {{name: {name}, creationTimestamp: \"2026-01-0{day}T00:00:00Z\"}}\nspec: {{{SERVICE}, match: \
             [{{hosts: [data.a.example.com], path: {path}}}]}}\n"
        )
    };
    let shared = of(&[open, service("b/guest", 2, "/guest"), service("a/two", 3, "/guest/two")].concat());
    assert_eq!(shared.accepted.len(), 7, "{:?}", shared.diagnostics);
}

#[test]
fn a_claim_or_demand_in_another_spelling_is_the_same() {
    let provider = "audiences: [data], algorithms: [ES256], claims: {user: sub}";
    let many: Vec<String> = (0..6_000).map(|at| format!("https://{at}.b.example.com")).collect();
    let hosts = |host: &str| format!("{{{SERVICE}, match: [{{hosts: [\"{host}\"]}}]}}");
    let issuer = |rest: &str| format!("{{{provider}, {rest}}}");
    let cases = [
        // As requests are read: in lower case, without trailing dot.
        ("DataService", hosts("Data.a.example.com."), "had it before"),
        ("DataService", hosts("x.wild.example.com."), "had it before"),
        ("DataService", hosts("*.wild.example.com."), "had it before"),
        ("DataService", hosts("*.WILD.example.com"), "had it before"),
        ("DataService", hosts("*.org"), "hosts of everybody"),
        ("IdentityProvider", issuer("issuer: \"http://127.0.0.1:9\""), "over https only"),
        ("IdentityProvider", issuer("issuer: https://b.org, jwks: {uri: \"http://127.0.0.1:9/k\"}"), "over https only"),
        (
            "IdentityProvider",
            issuer(&format!("issuer: {many:?}, jwks: {{uri: https://b.org/k}}")),
            "more than 5000 issuers",
        ),
        (
            "AccessRestriction",
            "{subjects: [{claim: {path: address, equals: x}}], effect: deny}".to_owned(),
            "every token is read for it",
        ),
    ];
    for (kind, spec, words) in cases {
        let all = with(kind, "b/taker", &spec);
        let own: Vec<_> = all.diagnostics.iter().filter(|found| found.name == "b/taker" && found.is_error()).collect();
        assert!(own.iter().any(|found| found.message.contains(words)), "{words}: {own:?}");
        assert_eq!(all.accepted.len(), 5, "{:?}", all.diagnostics);
    }
}
