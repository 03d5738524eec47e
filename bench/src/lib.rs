//! Fixtures of the micro-benchmarks: documents as users write them, compiled and indexed as a proxy holds them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::Criterion;
use doorward_policy::{
    identity::{Attribute, Principal},
    request::HttpRequest,
};
use doorward_policy_compiler::{
    compile::{Compiled, NoKeys},
    document::Document,
};
use doorward_test_support::{host::NOW, policy, token::Signer};
use std::{fmt::Write as _, time::Duration};

/// The authority of all requests.
pub const HOST: &str = "data.example.com";

/// The identity provider of [`known_token`], with the key of RFC 8037, appendix A.
pub const PROVIDER: &str = "
apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: { name: corp }
spec:
  issuer: https://idp.example.com/
  audiences: [data-api]
  algorithms: [EdDSA]
  jwks: { inline: { keys: [{ kty: OKP, crv: Ed25519, kid: a, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] } }
  claims: { user: email, groups: groups, attributes: { region: region } }
---
";

/// Two services with a table of people, one a dialect.
const SERVICES: &str = "kind: DataService
metadata: { name: datasette }
spec:
  dialect: datasette
  match: [{ hosts: [data.example.com], path: /db }]
  components:
    people: { key: [id], fields: { id: integer, name: string, region: string, status: string, email: string, ssn: string } }
---
kind: DataService
metadata: { name: dreamfactory }
spec:
  dialect: dreamfactory
  match: [{ hosts: [data.example.com], path: /api/v2/mysql }]
  components:
    _table/people: { key: [id], fields: { id: integer, name: string, region: string, status: string, email: string, ssn: string } }
---
";

/// Documents of a policy of this size: `roles` roles with `grants` grants each on tables of their own, beside what
/// `support` may do, and `bindings` bindings of a user each. The last binding gives `support` to [`principal`].
#[must_use]
pub fn documents(bindings: usize, roles: usize, grants: usize) -> Vec<Document> {
    let mut services = PROVIDER.to_owned() + SERVICES.trim_end().trim_end_matches("---");
    for at in 0..grants {
        let _ = writeln!(services, "    _table/t{at}: {{ fields: {{ id: integer, name: string }} }}");
    }
    let mut files = vec![services];
    let role = |name: &str, more: &str| {
        format!(
            "---\nkind: AccessRole\nmetadata: {{ name: {name} }}\nspec:\n  grants:\n{more}\
             \x20   - {{ service: datasette, components: [people], verbs: [GET], rows: \"region = {{user.region}} AND status = 'active'\", \
             fields: {{ read: [id, name, region, status, email], mask: {{ email: email }} }} }}\n\
             \x20   - {{ service: dreamfactory, components: [_table/people], verbs: [GET], rows: \"region = {{user.region}} AND status = 'active'\", \
             fields: {{ read: [id, name, region, status, email], mask: {{ email: email }} }} }}\n"
        )
    };
    let version = "apiVersion: doorward.dev/v1alpha1\n";
    let mut text = version.to_owned() + role("support", "").trim_start_matches("---\n");
    let mut flush = |text: &mut String, force: bool| {
        if force || text.len() > 200_000 {
            files.push(std::mem::replace(text, version.to_owned()));
        }
    };
    for at in 0..roles {
        let mut more = String::new();
        for grant in 0..grants {
            let _ = writeln!(
                more,
                "    - {{ service: dreamfactory, components: [_table/t{grant}], verbs: [GET, POST], fields: {{ read: ['*'] }} }}"
            );
        }
        if text.len() > version.len() {
            text.push_str(&role(&format!("role-{at}"), &more));
        } else {
            text.push_str(role(&format!("role-{at}"), &more).trim_start_matches("---\n"));
        }
        flush(&mut text, false);
    }
    for at in 1..=bindings {
        let (user, name) = match at {
            _ if at == bindings => ("alice@example.com".to_owned(), "support".to_owned()),
            _ if roles == 0 => (format!("user{at}@example.com"), "support".to_owned()),
            _ => (format!("user{at}@example.com"), format!("role-{}", at.checked_rem(roles).unwrap_or(0))),
        };
        let separator = if text.len() > version.len() { "---\n" } else { "" };
        let _ = writeln!(
            text,
            "{separator}kind: AccessBinding\nmetadata: {{ name: b{at} }}\nspec: {{ role: {name}, subjects: [{{ user: {user} }}] }}"
        );
        flush(&mut text, false);
    }
    flush(&mut text, true);
    files.iter().flat_map(|text| policy::documents(text)).collect()
}

/// Compiles documents that must all be right.
#[must_use]
pub fn compiled(documents: &[Document]) -> Compiled {
    policy::compiled(documents, &NoKeys)
}

/// The caller of all requests: holds `support`, and lives in region EU.
#[must_use]
pub fn principal() -> Principal {
    Principal {
        user: Some("alice@example.com".into()),
        provider: Some("corp".into()),
        groups: vec!["support".into()],
        attributes: vec![("region".into(), Attribute::One("EU".into()))],
        ..Principal::default()
    }
}

/// A token of [`principal`], signed with the private half of the provider's key (RFC 8037, appendix A).
#[must_use]
pub fn known_token() -> String {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("a key of the RFC");
    let signer = Signer::eddsa(seed.try_into().expect("32 bytes"));
    let (issued, expires) = (NOW - 60, NOW + 600);
    let claims = format!(
        r#"{{"iss":"https://idp.example.com/","aud":"data-api","sub":"alice","email":"alice@example.com","region":"EU","iat":{issued},"exp":{expires},"jti":"t000001","groups":["support","staff"]}}"#
    );
    signer.sign(r#"{"alg":"EdDSA","kid":"a","typ":"JWT"}"#, claims)
}

/// A GET of this path.
#[must_use]
pub fn get(path: &str) -> HttpRequest<'_> {
    HttpRequest { method: "GET", authority: HOST, path, headers: &[], body: None, source_address: "10.0.0.7" }
}

/// The path of a typical request, by dialect.
pub const REQUESTS: [(&str, &str); 2] = [
    ("datasette", "/db/people.json?_shape=objects&_size=50&_col=id&_col=name&_col=email&status__exact=active&_sort=id"),
    (
        "dreamfactory",
        "/api/v2/mysql/_table/people?fields=id,name,email&filter=(status%3D%27active%27)and(id%3E10)&limit=50&order=id",
    ),
];

/// Criterion with samples short enough that all benchmarks together take about a minute.
#[must_use]
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args()
}
