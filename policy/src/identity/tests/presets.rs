//! Every preset with tokens of the shape that its vendor documents, and with what must not pass for them.

use super::fixture::*;
use crate::{
    bundle::Tables,
    identity::{Algorithm, Denied, Principal, Settings, TokenCache, authenticate, examine},
};
use doorward_test_support::policy;
use serde_json::{Value, json};
use std::sync::Arc;

/// The policy of one `IdentityProvider` with this spec and the keys of the fixture.
fn tables(mut spec: Value) -> Tables {
    let key = |by: &str| {
        let mut jwk = signer(by).jwk();
        jwk["kid"] = json!(by);
        jwk
    };
    let keys = ["RS256", "ES256", "HS256"].map(key);
    spec["jwks"] = json!({"inline": {"keys": keys}});
    policy::tables(&format!(
        "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{name: idp}}\nspec: {spec}\n"
    ))
}

fn ask(tables: &Tables, token: &str) -> Result<Arc<Principal>, Denied> {
    let bearer = format!("Bearer {token}");
    let headers = [header("authorization", &bearer)];
    authenticate(tables, &clock(NOW), &Settings::default(), &mut TokenCache::default(), &request("/", &headers))
}

/// One vendor: its document, header and claims of a good token.
struct Vendor {
    tables: Tables,
    by: &'static str,
    header: Value,
    claims: Value,
}

impl Vendor {
    fn new(by: &'static str, spec: Value, mut header: Value, claims: Value) -> Vendor {
        header["alg"] = json!(by);
        header["kid"] = json!(by);
        Vendor { tables: tables(spec), by, header, claims }
    }

    /// The good token with these members instead; null removes one.
    fn token(&self, changes: Value) -> String {
        self.token_with(json!({}), changes)
    }

    fn token_with(&self, header: Value, changes: Value) -> String {
        let change = |base: &Value, changes: Value| {
            let mut all = base.clone();
            for (name, value) in changes.as_object().unwrap() {
                if value.is_null() {
                    all.as_object_mut().unwrap().shift_remove(name);
                } else {
                    all[name] = value.clone();
                }
            }
            all.to_string()
        };
        sign_text(self.by, &change(&self.header, header), &change(&self.claims, changes))
    }

    #[track_caller]
    fn good(&self, changes: Value) -> Arc<Principal> {
        ask(&self.tables, &self.token(changes)).unwrap()
    }

    #[track_caller]
    fn bad(&self, changes: Value, part: &str) {
        self.bad_token(&self.token(changes), part);
    }

    #[track_caller]
    fn bad_token(&self, token: &str, part: &str) {
        let denied = ask(&self.tables, token).expect_err("the token was accepted");
        assert!(denied.denial.detail.contains(part), "{denied}");
        // Whoever asks in words is told the same.
        if let Ok(examination) = examine(&self.tables, &clock(NOW), token) {
            assert_eq!(examination.providers[0].denial.as_ref(), Some(&denied.denial));
        }
    }
}

fn names(list: &[crate::Name]) -> Vec<&str> {
    list.iter().map(|name| &**name).collect()
}

fn attribute<'p>(principal: &'p Principal, name: &str) -> Option<&'p str> {
    principal.attributes.iter().find(|(known, _)| **known == *name).map(|(_, value)| match value {
        crate::identity::Attribute::One(value) => &**value,
        crate::identity::Attribute::Many(_) => panic!("a list"),
    })
}

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const OTHER_TENANT: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const API: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

fn entra() -> Vendor {
    Vendor::new(
        "RS256",
        json!({"preset": "entra", "tenants": [TENANT, OTHER_TENANT], "audiences": [API],
            "delegation": {"scopePrefix": "role:"}}),
        json!({"typ": "JWT"}),
        json!({
            "aud": API, "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "iat": NOW - 300,
            "nbf": NOW - 300, "exp": NOW + 4800, "aio": "AXQAi/8TAAAA", "azp": "11112222-bbbb-3333-cccc-4444dddd5555",
            "azpacr": "0", "groups": ["11111111-0000-0000-0000-000000000001"], "name": "Abe Lincoln",
            "oid": "dddddddd-9999-0000-1111-eeeeeeeeeeee", "preferred_username": "abeli@example.com", "rh": "I",
            "roles": ["Reader"], "scp": "access_as_user", "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
            "tid": TENANT, "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": "2.0",
        }),
    )
}

#[test]
fn entra_tokens_of_its_tenants_and_no_others() {
    let vendor = entra();
    let person = vendor.good(json!({}));
    assert_eq!(person.user.as_deref(), Some("dddddddd-9999-0000-1111-eeeeeeeeeeee"));
    assert_eq!(names(&person.groups), ["11111111-0000-0000-0000-000000000001", "role:Reader"]);
    assert_eq!(person.tenant.as_deref(), Some(TENANT));
    let issuer = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let there = vendor.good(json!({"iss": issuer(OTHER_TENANT), "tid": OTHER_TENANT}));
    assert_eq!(there.tenant.as_deref(), Some(OTHER_TENANT));
    // A daemon: no person, no scopes.
    vendor.good(json!({"scp": null, "preferred_username": null, "name": null, "idtyp": "app"}));
    assert_eq!(vendor.good(json!({"scp": "x role:reader"})).delegated_roles, Some(vec!["reader".into()]));

    let strange = "ccccdddd-2222-eeee-3333-ffff44440000";
    vendor.bad(json!({"iss": issuer(strange), "tid": strange}), "issuer");
    vendor.bad(json!({"iss": issuer(CONSUMERS), "tid": CONSUMERS}), "issuer");
    for issuer in ["{tenantid}", "common", "organizations"].map(issuer) {
        vendor.bad(json!({ "iss": issuer }), "issuer");
    }
    vendor.bad(json!({"iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0"}), "issuer");
    vendor.bad(json!({"ver": "1.0"}), "'ver'");
    // An ID token for an application that is also the API.
    vendor.bad(json!({"azp": null, "azpacr": null, "scp": null, "nonce": "n"}), "'azp'");
    vendor.bad(json!({"aud": "00000003-0000-0000-c000-000000000000"}), "not meant for this API");
    vendor.bad(json!({"oid": null}), "'oid'");
    vendor.bad(json!({"exp": NOW + 28 * 3600}), "maxTokenAge");
}

#[test]
fn a_guest_is_a_person_of_the_inviting_tenant_whatever_address_they_bring() {
    let guest = entra().good(json!({
        "idp": format!("https://sts.windows.net/{CONSUMERS}/"), "oid": "eeeeeeee-0000-1111-2222-ffffffffffff",
        "preferred_username": "abeli@example.com", "email": "abeli@example.com", "acct": 1,
    }));
    assert_eq!(guest.user.as_deref(), Some("eeeeeeee-0000-1111-2222-ffffffffffff"));
    assert_eq!(guest.tenant.as_deref(), Some(TENANT));
    let members = Vendor {
        tables: tables(
            json!({"preset": "entra", "tenants": [TENANT], "audiences": [API], "requiredClaims": {"acct": 0}}),
        ),
        ..entra()
    };
    members.good(json!({"acct": 0}));
    members.bad(json!({"acct": 1}), "'acct'");
    members.bad(json!({"acct": "0"}), "'acct'");
    members.bad(json!({}), "'acct'");
}

#[test]
fn group_overage_of_entra_is_refused_in_all_its_forms() {
    let vendor = entra();
    let source =
        json!({"src1": {"endpoint": format!("https://graph.microsoft.com/v1.0/users/{TENANT}/getMemberObjects")}});
    vendor.bad(json!({"groups": null, "_claim_names": {"groups": "src1"}, "_claim_sources": source}), "'groups'");
    vendor.bad(json!({"_claim_names": {"groups": "src1"}, "_claim_sources": source}), "'groups'");
    vendor.bad(json!({"groups": null, "hasgroups": true}), "hasgroups");
    vendor.bad(json!({"groups": null, "hasgroups": "true"}), "hasgroups");
    vendor.bad(json!({"groups": null, "groups:src1": source["src1"]}), "'groups'");
    vendor.good(json!({"_claim_names": {"address": "src1"}, "_claim_sources": source}));
}

#[test]
fn entra_tokens_of_version_1() {
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "entra-v1", "tenants": [TENANT], "audiences": ["api://orders"]}),
        json!({"typ": "JWT", "x5t": b64([7; 20])}),
        json!({
            "aud": "api://orders", "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": NOW - 300,
            "nbf": NOW - 300, "exp": NOW + 3600, "acr": "1", "aio": "AXQAi", "amr": ["pwd", "mfa"],
            "appid": "11112222-bbbb-3333-cccc-4444dddd5555", "appidacr": "0", "ipaddr": "203.0.113.7", "name": "Abe",
            "oid": "dddddddd-9999-0000-1111-eeeeeeeeeeee", "rh": "I", "scp": "user_impersonation", "sub": "l3_",
            "tid": TENANT, "unique_name": "abeli@example.com", "upn": "abeli@example.com", "uti": "fqi", "ver": "1.0",
        }),
    );
    assert_eq!(vendor.good(json!({})).user.as_deref(), Some("dddddddd-9999-0000-1111-eeeeeeeeeeee"));
    vendor.bad(json!({"appid": null, "appidacr": null, "scp": null}), "'appid'");
    vendor.bad(json!({"ver": "2.0", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0")}), "issuer");
    vendor.bad_token(&vendor.token_with(json!({"x5t": "not*base64"}), json!({})), "x5t");
}

#[test]
fn okta_access_tokens_and_no_id_tokens() {
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "okta", "issuer": "https://dev-1.okta.com/oauth2/default", "audiences": ["api://default"],
            "delegation": {"scopePrefix": "role:"}}),
        json!({}),
        json!({
            "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "iss": "https://dev-1.okta.com/oauth2/default", "aud": "api://default", "sub": "john@example.com",
            "iat": NOW - 60, "exp": NOW + 3540, "cid": "nmdP1fcyvdVO11AL7ECm", "uid": "00ulg1GN6UGO9C9g60g3",
            "scp": ["openid", "role:reader"], "auth_time": NOW - 100, "groups": ["support"],
        }),
    );
    let person = vendor.good(json!({}));
    assert_eq!((person.user.as_deref(), names(&person.groups)), (Some("00ulg1GN6UGO9C9g60g3"), vec!["support"]));
    assert_eq!(person.delegated_roles, Some(vec!["reader".into()]));
    let machine = vendor.good(json!({"uid": null, "sub": "nmdP1fcyvdVO11AL7ECm"}));
    assert_eq!(machine.user.as_deref(), Some("nmdP1fcyvdVO11AL7ECm"));
    vendor.bad(json!({"cid": null, "uid": null, "scp": null, "jti": "ID.x", "at_hash": "h", "nonce": "n"}), "'cid'");
    // Tokens of the org authorization server are for Okta's own API.
    let typ = json!({"typ": "application/okta-internal-at+jwt"});
    vendor.bad_token(&vendor.token_with(typ, json!({})), "(typ)");
    vendor.bad(json!({"iss": "https://dev-1.okta.com"}), "issuer");
    vendor.bad(json!({"aud": "nmdP1fcyvdVO11AL7ECm"}), "not meant for this API");
}

#[test]
fn keycloak_access_tokens_and_neither_id_nor_refresh_tokens() {
    let realm = "https://sso.example.com/realms/corp";
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "keycloak", "issuer": realm, "audiences": ["data-api"]}),
        json!({"typ": "JWT"}),
        json!({
            "exp": NOW + 240, "iat": NOW - 60, "jti": "onrtac:a1", "iss": realm, "aud": ["data-api", "account"],
            "sub": "7f3e2f0c-2d0a-4d0e-8f2d-2a8f6b1f4a11", "typ": "Bearer", "azp": "spa", "sid": "d1",  "acr": "1",
            "allowed-origins": ["https://app.example.com"], "realm_access": {"roles": ["offline_access", "clerk"]},
            "resource_access": {"account": {"roles": ["view-profile"]}}, "scope": "openid email profile",
            "email_verified": true, "preferred_username": "alice", "email": "alice@example.com", "groups": ["/support"],
        }),
    );
    let person = vendor.good(json!({}));
    assert_eq!(person.user.as_deref(), Some("7f3e2f0c-2d0a-4d0e-8f2d-2a8f6b1f4a11"));
    assert_eq!(names(&person.groups), ["/support", "role:clerk", "role:offline_access"]);
    assert!(ask(&vendor.tables, &vendor.token_with(json!({"typ": "at+jwt"}), json!({}))).is_ok());
    for typ in ["ID", "Refresh", "Offline", "Logout", "bearer", ""] {
        vendor.bad(json!({ "typ": typ }), "'typ'");
    }
    vendor.bad(json!({"typ": null}), "'typ'");
    vendor.bad(json!({"typ": "ID", "aud": "data-api", "at_hash": "h"}), "'typ'");
    vendor.bad(json!({"aud": "account"}), "not meant for this API");
    vendor.bad(json!({"iss": "https://sso.example.com/realms/master"}), "issuer");
    vendor.bad(json!({"_claim_names": {"realm_access": "s"}, "_claim_sources": {"s": {}}}), "'realm_access'");
    vendor.bad(json!({"realm_access": {"_claim_names": {"roles": "s"}}}), "'roles'");
    // The client that asked for the token stands for the audience.
    let by_client = Vendor {
        tables: tables(json!({"preset": "keycloak", "issuer": realm, "audiences": ["spa"], "audienceClaim": "azp"})),
        ..vendor
    };
    by_client.good(json!({"aud": "account"}));
    by_client.bad(json!({"azp": "other"}), "not meant for this API");
}

#[test]
fn auth0_access_tokens_in_both_profiles() {
    let own = json!({
        "iss": "https://my-domain.auth0.com/", "sub": "auth0|123456",
        "aud": ["https://example.com/health-api", "https://my-domain.auth0.com/userinfo"], "azp": "my_client_id",
        "exp": NOW + 86_000, "iat": NOW - 400, "scope": "openid profile read:patients",
    });
    let spec = json!({"preset": "auth0", "issuer": "https://my-domain.auth0.com/",
        "audiences": ["https://example.com/health-api", "my_client_id"]});
    let vendor = Vendor::new("RS256", spec, json!({"typ": "JWT"}), own);
    assert_eq!(vendor.good(json!({})).user.as_deref(), Some("auth0|123456"));
    let standard = vendor.token_with(json!({"typ": "at+jwt"}), json!({"azp": null, "client_id": "c", "jti": "j"}));
    assert!(ask(&vendor.tables, &standard).is_ok());
    vendor.good(json!({"sub": "my_client_id@clients", "gty": "client-credentials"}));
    // An ID token, even where the client's ID was given as an audience.
    vendor.bad(json!({"azp": null, "aud": "my_client_id", "nonce": "n", "sid": "s"}), "'azp' or 'client_id'");
    vendor.bad(json!({"iss": "https://my-domain.auth0.com"}), "issuer");
    vendor.bad_token(&vendor.token_with(json!({"typ": null}), json!({})), "tokenTypes");
}

#[test]
fn cognito_access_tokens_by_their_client_and_no_id_tokens() {
    let issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_example";
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "cognito", "issuer": issuer, "audiences": ["xxxxxxxxxxxxexample"]}),
        json!({}),
        json!({
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "device_key": "d", "cognito:groups": ["testgroup"],
            "iss": issuer, "version": 2, "client_id": "xxxxxxxxxxxxexample", "origin_jti": "o", "event_id": "e",
            "token_use": "access", "scope": "phone openid profile email", "auth_time": NOW - 60, "exp": NOW + 3540,
            "iat": NOW - 60, "jti": "j", "username": "my-test-user",
        }),
    );
    let person = vendor.good(json!({}));
    assert_eq!(person.user.as_deref(), Some("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"));
    assert_eq!(names(&person.groups), ["testgroup"]);
    vendor.bad(json!({"token_use": "id", "client_id": null, "aud": "xxxxxxxxxxxxexample"}), "not meant for this API");
    vendor.bad(json!({"token_use": "id"}), "'token_use'");
    vendor.bad(json!({"token_use": null}), "'token_use'");
    vendor.bad(json!({"client_id": "another"}), "not meant for this API");
}

#[test]
fn google_id_tokens_with_a_verified_address() {
    let client = "1234987819200.apps.googleusercontent.com";
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "google", "audiences": [client], "requiredClaims": {"hd": "example.com"}}),
        json!({"typ": "JWT"}),
        json!({
            "iss": "https://accounts.google.com", "azp": client, "aud": client, "sub": "10769150350006150715113082367",
            "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q", "hd": "example.com", "email": "jsmith@example.com",
            "email_verified": true, "iat": NOW - 100, "exp": NOW + 3500, "nonce": "0394852",
        }),
    );
    let person = vendor.good(json!({}));
    assert_eq!(person.user.as_deref(), Some("10769150350006150715113082367"));
    assert_eq!(
        (person.tenant.as_deref(), attribute(&person, "email")),
        (Some("example.com"), Some("jsmith@example.com"))
    );
    vendor.good(json!({"iss": "accounts.google.com"}));
    vendor.bad(json!({"email_verified": false}), "'email_verified'");
    vendor.bad(json!({"email_verified": "true"}), "'email_verified'");
    vendor.bad(json!({"email_verified": null}), "'email_verified'");
    vendor.bad(json!({"hd": "evil.example"}), "'hd'");
    vendor.bad(json!({"hd": null}), "'hd'");
    vendor.bad(json!({"aud": "32555940559.apps.googleusercontent.com"}), "not meant for this API");
}

#[test]
fn kubernetes_tokens_of_service_accounts() {
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "kubernetes", "issuer": issuer, "audiences": ["doorward"]}),
        json!({}),
        json!({
            "aud": ["doorward"], "exp": NOW + 3597, "iat": NOW - 10, "nbf": NOW - 10, "iss": issuer, "jti": "j",
            "kubernetes.io": {
                "namespace": "agents", "node": {"name": "n1", "uid": "u"}, "pod": {"name": "bot-0", "uid": "u"},
                "serviceaccount": {"name": "bot", "uid": "u"},
            },
            "sub": "system:serviceaccount:agents:bot",
        }),
    );
    let pod = vendor.good(json!({}));
    assert_eq!(pod.user.as_deref(), Some("system:serviceaccount:agents:bot"));
    assert_eq!((attribute(&pod, "namespace"), attribute(&pod, "serviceaccount")), (Some("agents"), Some("bot")));
    vendor.bad(json!({"aud": [issuer]}), "not meant for this API");
    vendor.bad(json!({"exp": NOW + 365 * 86400}), "maxTokenAge");
    vendor.bad(json!({"kubernetes.io": null}), "'kubernetes.io'");
    // The old secrets.
    vendor.bad(json!({"iss": "kubernetes/serviceaccount", "exp": null, "iat": null}), "issuer");
}

#[test]
fn github_workflows_of_one_owner() {
    let vendor = Vendor::new(
        "RS256",
        json!({"preset": "github-actions", "audiences": ["https://data.example.com"],
            "requiredClaims": {"repository_owner_id": "65"}}),
        json!({"typ": "JWT"}),
        json!({
            "jti": "example-id", "sub": "repo:octo-org/octo-repo:environment:prod", "environment": "prod",
            "aud": "https://data.example.com", "ref": "refs/heads/main", "sha": "example-sha",
            "repository": "octo-org/octo-repo", "repository_owner": "octo-org", "actor_id": "12",
            "repository_visibility": "private", "repository_id": "74", "repository_owner_id": "65", "run_id": "1",
            "runner_environment": "github-hosted", "actor": "octocat", "workflow": "example-workflow",
            "event_name": "workflow_dispatch", "ref_type": "branch",
            "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
            "iss": "https://token.actions.githubusercontent.com", "nbf": NOW - 600, "exp": NOW + 290, "iat": NOW - 10,
        }),
    );
    let run = vendor.good(json!({}));
    assert_eq!(run.user.as_deref(), Some("repo:octo-org/octo-repo:environment:prod"));
    assert_eq!(attribute(&run, "repository"), Some("octo-org/octo-repo"));
    vendor.bad(json!({"repository_owner_id": "66"}), "'repository_owner_id'");
    vendor.bad(json!({"repository_owner_id": 65}), "'repository_owner_id'");
    vendor.bad(json!({"aud": "https://github.com/octo-org"}), "not meant for this API");
}

#[test]
fn dreamfactory_session_tokens_without_audience() {
    let issuer = "http://df.example.com/api/v2/user/session";
    let vendor = Vendor::new(
        "HS256",
        json!({"preset": "dreamfactory", "issuer": [issuer, "http://df.example.com/api/v2/system/admin/session"]}),
        json!({"typ": "JWT"}),
        json!({
            "sub": 7, "user_id": 7, "email": "alice@example.com", "forever": false, "iss": issuer, "iat": NOW - 60,
            "exp": NOW + 3540, "nbf": NOW - 60, "jti": "f1c3ab",
        }),
    );
    let person = vendor.good(json!({}));
    assert_eq!((person.user.as_deref(), attribute(&person, "email")), (Some("7"), Some("alice@example.com")));
    vendor.good(json!({"iss": "http://df.example.com/api/v2/system/admin/session"}));
    vendor.bad(json!({"iss": "http://other.example.com/api/v2/user/session"}), "issuer");
    vendor.bad(json!({"user_id": null}), "'user_id'");
    // A refreshed one keeps its `iat`.
    vendor.bad(json!({"iat": NOW - 86400}), "maxTokenAge");
}

#[test]
fn spiffe_tokens_are_known_by_their_trust_domain() {
    let vendor = Vendor::new(
        "ES256",
        json!({"preset": "spiffe", "trustDomain": "prod.example.org", "audiences": ["spiffe://prod.example.org/data"]}),
        json!({"typ": "JWT"}),
        json!({
            "sub": "spiffe://prod.example.org/ns/ai/sa/bot", "aud": ["spiffe://prod.example.org/data"],
            "exp": NOW + 290, "iat": NOW - 10,
        }),
    );
    assert_eq!(vendor.good(json!({})).user.as_deref(), Some("spiffe://prod.example.org/ns/ai/sa/bot"));
    assert!(ask(&vendor.tables, &vendor.token_with(json!({"typ": "JOSE"}), json!({}))).is_ok());
    assert!(ask(&vendor.tables, &vendor.token_with(json!({"typ": null}), json!({}))).is_ok());
    for sub in [
        "spiffe://other.example.org/ns/ai/sa/bot",
        "spiffe://prod.example.org",
        "spiffe://prod.example.org/",
        "spiffe://prod.example.org/../x",
        "spiffe://PROD.example.org/x",
        "spiffe://prod.example.org:8443/x",
        "alice",
    ] {
        vendor.bad(json!({ "sub": sub }), "issuer");
        // With an issuer that leads to the provider, the subject is still of another domain.
        vendor.bad(json!({"sub": sub, "iss": "spiffe://prod.example.org"}), "(sub)");
    }
    for issuer in [json!("https://strange.example"), json!(""), json!([])] {
        vendor.bad(json!({ "iss": issuer }), "issuer");
    }
    vendor.bad(json!({"aud": ["spiffe://prod.example.org/other"]}), "not meant for this API");
    // An `iss` that is there must be known, too.
    let discovered = Vendor {
        tables: tables(
            json!({"preset": "spiffe", "trustDomain": "prod.example.org", "issuer": "https://oidc.example.org",
            "audiences": ["spiffe://prod.example.org/data"]}),
        ),
        ..vendor
    };
    discovered.good(json!({}));
    discovered.good(json!({"iss": "https://oidc.example.org"}));
    discovered.bad(json!({"iss": "https://oidc.example.org", "sub": "alice"}), "(sub)");
    // A provider without a trust domain is not found by one.
    let by_issuer =
        tables(json!({"issuer": "spiffe://prod.example.org", "audiences": ["spiffe://prod.example.org/data"],
        "algorithms": ["ES256"]}));
    assert!(ask(&by_issuer, &discovered.token(json!({}))).is_err());
}

#[test]
fn the_algorithm_of_a_preset_is_pinned() {
    let vendor = entra();
    let header = json!({"alg": "ES256", "kid": "ES256", "typ": "JWT"}).to_string();
    vendor.bad_token(&sign_text("ES256", &header, &vendor.claims.to_string()), "algorithm");
    assert!(vendor.tables.providers().iter().all(|provider| provider.algorithms == [Algorithm::Rs256]));
}
