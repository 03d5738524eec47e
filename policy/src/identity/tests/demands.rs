//! Types, audiences, required values, moved claims, scopes: what a provider may demand, as tables.

use super::fixture::*;
use crate::{
    bundle::Tables,
    code::Code,
    host::Verification,
    identity::{Denied, Principal, Settings, TokenCache, authenticate, examine},
};
use doorward_proto::v1::{self as wire, Bundle};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// A policy whose provider was changed; `s` gives the index of a text.
fn policy(change: impl Fn(&mut wire::Provider, &mut dyn FnMut(&str) -> u32)) -> Tables {
    let mut bundle: Bundle = bundle();
    let mut provider = bundle.providers[1].clone();
    let strings = &mut bundle.strings;
    // Indexes need not be sorted for the tables to be built.
    change(&mut provider, &mut |text| {
        let at = strings.iter().position(|known| known == text).unwrap_or_else(|| {
            strings.push(text.to_owned());
            strings.len() - 1
        });
        u32::try_from(at).unwrap()
    });
    bundle.providers[1] = provider;
    Tables::build(&bundle, [5; 32], 1).unwrap()
}

fn ask(tables: &Tables, header_of_token: &Value, changes: Value) -> Result<Arc<Principal>, Denied> {
    let token = sign_text("ES256", &header_of_token.to_string(), &claims(changes).to_string());
    let bearer = format!("Bearer {token}");
    let headers = [header("authorization", &bearer)];
    let result =
        authenticate(tables, &clock(NOW), &Settings::default(), &mut TokenCache::default(), &request("/", &headers));
    let told = examine(tables, &clock(NOW), &token).unwrap();
    let told = told.providers.iter().find(|provider| &*provider.provider == "corp").unwrap();
    assert_eq!(told.denial.as_ref(), result.as_ref().err().map(|denied| &denied.denial), "the same in words");
    assert_eq!(told.denial.is_some(), told.steps.iter().any(|step| !step.passed));
    result
}

fn detail(result: Result<Arc<Principal>, Denied>) -> String {
    result.err().map(|denied| format!("{} {}", denied.denial.code.as_str(), denied.denial.detail)).unwrap_or_default()
}

fn usual() -> Value {
    json!({"alg": "ES256", "kid": "ES256"})
}

#[test]
fn types_are_compared_without_case_and_prefix() {
    let with = |types: &[&str]| policy(|provider, s| provider.token_types = types.iter().map(|typ| s(typ)).collect());
    let typed = |typ: &str| json!({"alg": "ES256", "kid": "ES256", "typ": typ});
    let standard = with(&["at+jwt"]);
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(detail(ask(&standard, &typed(typ), json!({}))), "", "{typ}");
    }
    for typ in ["JWT", "application/jwt", "", "x/at+jwt", "application/x/at+jwt", "none", "at+jwt "] {
        assert!(detail(ask(&standard, &typed(typ), json!({}))).contains("(typ)"), "{typ}");
    }
    assert!(detail(ask(&standard, &usual(), json!({}))).contains("tokenTypes"));
    let free = with(&["at+jwt", "none"]);
    assert_eq!(detail(ask(&free, &usual(), json!({}))), "");
    assert!(detail(ask(&free, &typed("none"), json!({}))).contains("(typ)"), "the word stands for absence alone");
    let own = with(&["x/at+jwt"]);
    assert_eq!(detail(ask(&own, &typed("X/at+jwt"), json!({}))), "");
}

#[test]
fn the_first_audience_claim_that_is_there_decides() {
    let with =
        |names: &[&str]| policy(|provider, s| provider.audience_claims = names.iter().map(|name| s(name)).collect());
    let got = |tables: &Tables, changes: Value| detail(ask(tables, &usual(), changes)).is_empty();
    let client = with(&["client_id"]);
    assert!(got(&client, json!({"aud": null, "client_id": "data-api"})));
    assert!(got(&client, json!({"aud": "account", "client_id": "data-api"})));
    for changes in [json!({}), json!({"client_id": null}), json!({"client_id": ""}), json!({"client_id": 7})] {
        assert!(!got(&client, changes.clone()), "{changes}");
    }
    let both = with(&["aud", "client_id"]);
    assert!(got(&both, json!({})) && got(&both, json!({"aud": null, "client_id": "data-api"})));
    assert!(!got(&both, json!({"aud": "other", "client_id": "data-api"})));
    assert!(!got(&both, json!({"aud": [], "client_id": "data-api"})));
    assert!(!got(&both, json!({"aud": null})));
    let none = policy(|provider, _| {
        provider.audiences = Vec::new();
        provider.any_audience = true;
    });
    assert!(got(&none, json!({"aud": null})) && got(&none, json!({"aud": "whatever"})));
    let forgotten = policy(|provider, _| provider.audiences = Vec::new());
    assert!(!got(&forgotten, json!({})), "no audience without a word is no audience at all");
}

#[test]
fn required_values_are_compared_with_their_types() {
    let with = |texts: &[&str], numbers: &[&str], yes: bool, no: bool| {
        policy(|provider, s| {
            provider.required = vec![wire::RequiredClaim {
                claims: vec![s("use"), s("used")],
                texts: texts.iter().map(|text| s(text)).collect(),
                numbers: numbers.iter().map(|number| s(number)).collect(),
                yes,
                no,
            }];
        })
    };
    let got = |tables: &Tables, value: Value| detail(ask(tables, &usual(), json!({ "use": value })));
    let table: [(&Tables, &[Value], &[Value]); 4] = [
        (
            &with(&["access", "true", "1"], &[], false, false),
            &[json!("access"), json!(["id", "access"]), json!("true")],
            &[
                json!("id"),
                json!("Access"),
                json!("access "),
                json!(true),
                json!(1),
                json!([]),
                json!([["access"]]),
                json!({}),
            ],
        ),
        (&with(&[], &[], true, false), &[json!(true)], &[json!(false), json!("true"), json!(1)]),
        (
            &with(&[], &["1", "-2"], false, true),
            &[json!(1), json!(-2), json!(false)],
            &[json!("1"), json!(1.5), json!(true)],
        ),
        (&with(&[], &[], false, false), &[json!("x"), json!(false), json!(0)], &[json!(null), json!("")]),
    ];
    for (tables, good, bad) in table {
        for value in good {
            assert_eq!(got(tables, value.clone()), "", "{value}");
        }
        for value in bad {
            assert!(got(tables, value.clone()).starts_with("credential_invalid"), "{value}");
        }
    }
    let either = with(&[], &[], true, false);
    assert_eq!(detail(ask(&either, &usual(), json!({"used": true}))), "");
    assert!(detail(ask(&either, &usual(), json!({}))).contains("'use' or 'used'"));
}

#[test]
fn a_claim_that_is_elsewhere_is_refused_where_policy_looks_at_it() {
    // Of the fixture's provider: user, roles, groups, tenant, attributes, and the claim of a subject.
    let looked_at =
        ["email", "sub", "realm_access", "groups", "org", "department", "region", "act", "scope", "aud", "cnf"];
    for name in looked_at {
        let names = json!({ name: "src1" });
        let moved = json!({"_claim_names": names, "_claim_sources": {"src1": {"endpoint": "https://x"}}});
        let got = detail(ask(&TABLES, &usual(), moved));
        assert!(got.starts_with("credential_invalid") && got.contains(&format!("'{name}'")), "{got}");
    }
    for (changes, good) in [
        (json!({"_claim_names": {"address": "src1"}, "_claim_sources": {}}), true),
        (json!({"_claim_names": {}, "_claim_sources": {}}), true),
        (json!({"_claim_names": null}), true),
        (json!({"_claim_names": "groups"}), false),
        (json!({"_claim_names": ["groups"]}), false),
        (json!({"_claim_sources": {"src1": {}}}), false),
        (json!({"realm_access": {"_claim_names": {"roles": "s"}}}), false),
        (json!({"realm_access": {"_claim_names": {"other": "s"}, "roles": []}}), true),
        (json!({"realm_access": {"_sd": ["digest"]}}), false),
        (json!({"_sd": ["digest"], "_sd_alg": "sha-256"}), false),
        (json!({"groups": [{"...": "digest"}]}), false),
        (json!({"hasgroups": true}), false),
        (json!({"hasgroups": 1}), false),
        (json!({"hasgroups": false}), true),
        (json!({"groups:src1": {}}), false),
        (json!({"groups:srcs": {}, "address:src1": {}, ":src1": {}}), true),
    ] {
        let got = detail(ask(&TABLES, &usual(), changes.clone()));
        assert_eq!(got.is_empty(), good, "{changes} {got}");
    }
    // Where nothing of it is mapped, groups may be too many.
    let without = policy(|provider, _| {
        provider.group_claims = Vec::new();
        provider.role_claims = Vec::new();
    });
    assert_eq!(detail(ask(&without, &usual(), json!({"hasgroups": true}))), "");
}

#[test]
fn what_looks_like_a_role_scope_narrows_or_is_refused() {
    let roles = |scope: Value| ask(&TABLES, &usual(), json!({ "scope": scope })).map(|p| p.delegated_roles.clone());
    let one = |name: &str| Ok::<_, Denied>(Some(vec![name.into()]));
    for scope in [
        json!("role:a"),
        json!("openid role:a email"),
        json!(["role:a"]),
        json!(["openid", "role:a"]),
        json!(["openid role:a"]),
        json!("  role:a  role:a "),
    ] {
        assert_eq!(roles(scope.clone()), one("a"), "{scope}");
    }
    assert_eq!(roles(json!(["role:a role:b"])).unwrap(), Some(vec!["a".into(), "b".into()]));
    for scope in [json!("openid"), json!(""), json!([]), json!("myrole:a"), json!("https://x/role:a"), json!("roles:a")]
    {
        assert_eq!(roles(scope.clone()), Ok(None), "{scope}");
    }
    for scope in [
        json!("ROLE:a"),
        json!("Role:a openid"),
        json!(["ROLE:a"]),
        json!("openid,role:a"),
        json!("role:a,role:b"),
        json!("role:a,openid"),
        json!("openid;role:a"),
        json!("openid\trole:a"),
        json!("openid\u{a0}role:a"),
        json!("[\"role:a\"]"),
        json!("role:"),
        json!("openid+role:a"),
        json!(["openid,role:a"]),
    ] {
        let got = roles(scope.clone()).map_err(|denied| denied.denial.code);
        assert_eq!(got, Err(Code::DelegationDenied), "{scope}");
    }
    for scope in [json!({"a": 1}), json!(7), json!([7]), json!([["role:a"]])] {
        assert_eq!(code(ask(&TABLES, &usual(), json!({ "scope": scope }))), Some(Code::CredentialInvalid));
    }
    let elsewhere = ask(&TABLES, &usual(), json!({"scp": ["openid", "role:a"]}));
    assert_eq!(code(elsewhere), Some(Code::DelegationDenied), "the configured claim is scope");
    assert!(ask(&TABLES, &usual(), json!({"scp": "user_impersonation"})).is_ok());
}

#[test]
fn sentences_name_the_setting_and_the_claim() {
    let got = |changes: Value| detail(ask(&TABLES, &usual(), changes));
    let long = got(json!({"iat": NOW - 3001, "exp": NOW + 600}));
    assert!(long.contains("3601 seconds") && long.contains("3600 (maxTokenAge)"), "{long}");
    assert!(got(json!({"iat": NOW + 10, "exp": NOW + 5})).contains("expires before it was issued"));
    let text = got(json!({"act": "agent"}));
    assert!(
        text.starts_with("delegation_denied") && text.contains("'act'") && text.contains("delegation.actor"),
        "{text}"
    );
    for (name, value) in [("x5t", "short"), ("x5t", "!!!!!!!!!!!!!!!!!!!!!!!!!!!!"), ("x5t#S256", "=")] {
        let header = json!({"alg": "ES256", "kid": "ES256", name: value});
        let token = sign_text("ES256", &header.to_string(), &claims(json!({})).to_string());
        refused(&token, "x5t");
    }
}

#[test]
fn an_examination_goes_on_after_a_denial_and_tells_the_first() {
    let payload = claims(json!({"aud": "other", "exp": NOW - 100, "iat": NOW - 7000, "groups": ["a"]})).to_string();
    let token = sign_text("EdDSA", r#"{"alg":"ES256","kid":"ES256","typ":"x"}"#, &payload);
    let told = examine(&TABLES, &clock(NOW).answering(Verification::Unavailable), &token).unwrap();
    assert_eq!(told.chosen.as_deref(), Some("corp"));
    let corp = told.providers.iter().find(|provider| &*provider.provider == "corp").unwrap();
    let failed: Vec<_> = corp.steps.iter().filter(|step| !step.passed).map(|step| step.step).collect();
    assert_eq!(failed, ["type", "signature", "expiry", "lifetime", "audience"]);
    assert!(corp.denial.as_ref().unwrap().detail.contains("(typ)"));
    let other = told.providers.iter().find(|provider| &*provider.provider == "other").unwrap();
    assert!(other.steps.iter().any(|step| step.step == "issuer" && !step.passed));
    for sentence in told.providers.iter().flat_map(|provider| &provider.steps).map(|step| &step.sentence) {
        assert!(!token.split('.').any(|part| sentence.contains(part)), "{sentence}");
    }
    assert!(examine(&TABLES, &clock(NOW), "no.token").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever separates scopes, a role in them narrows or denies; it is never passed over.
    #[test]
    fn no_separator_loses_a_role_scope(separator in "[ ,;|+\t\n\u{a0}\u{2003}]{1,3}", before in "[a-z]{1,4}", prefix in "(role|ROLE|Role|rOLE):") {
        let scope = format!("{before}{separator}{prefix}x");
        let got = ask(&TABLES, &usual(), json!({ "scope": scope }));
        let narrowed = got.is_ok_and(|principal| principal.delegated_roles == Some(vec!["x".into()]));
        let plain = separator.ends_with(' ') && prefix == "role:";
        prop_assert_eq!(narrowed, plain);
    }
}
