//! What an identity provider's answer about a token (RFC 7662) grants, and that nothing else does.

use super::fixture::*;
use crate::{
    bundle::Tables,
    code::Code,
    identity::{Given, Identified, Introspection, Principal, Settings, TokenCache, authenticate, identify},
    request::Header,
};
use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const OPAQUE: &str = "opaque-token-1";

/// The corp provider is asked about opaque tokens, and about JWTs where `jwts`.
fn asking(jwts: bool, change: impl FnOnce(&mut doorward_proto::v1::Bundle)) -> Tables {
    let mut bundle = bundle();
    let name = bundle.strings.iter().position(|text| text == "corp").unwrap() as u32;
    let corp = bundle.providers.iter_mut().find(|provider| provider.name == name).unwrap();
    corp.introspection = Some(doorward_proto::v1::Introspection { cache_seconds: 30, jwts, ..Default::default() });
    change(&mut bundle);
    let digest = Sha256::digest(bundle.encode_to_vec()).into();
    Tables::build(&bundle, digest, 1).unwrap()
}

fn ask(tables: &Tables, cache: &mut TokenCache, now: i64, token: &str, given: Given<'_>) -> Result<Identified, Code> {
    let value = format!("Bearer {token}");
    let headers = [Header { name: "authorization", value: value.as_bytes() }];
    let request = request("/", &headers);
    identify(tables, &clock(now), &Settings::default(), cache, &request, given).map_err(|denied| denied.denial.code)
}

fn question(tables: &Tables) -> Introspection {
    let policy = (*tables.digest(), tables.epoch());
    Introspection { provider: "corp".into(), token: OPAQUE.into(), policy }
}

fn answered_at(tables: &Tables, cache: &mut TokenCache, now: i64, answer: &[u8]) -> Result<Arc<Principal>, Code> {
    let question = question(tables);
    match ask(tables, cache, now, OPAQUE, Given::Answer { question: &question, claims: answer })? {
        Identified::Known { principal, .. } => Ok(principal),
        Identified::Ask(_) => panic!("asked again"),
    }
}

fn answered(tables: &Tables, answer: &Value) -> Result<Arc<Principal>, Code> {
    answered_at(tables, &mut TokenCache::default(), NOW, answer.to_string().as_bytes())
}

/// A good answer, with these changes; null removes a claim.
fn good_answer(changes: Value) -> Value {
    let mut answer = claims(json!({"active": true, "token_type": "Bearer", "groups": ["staff"]}));
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            answer.as_object_mut().unwrap().shift_remove(name);
        } else {
            answer[name] = value.clone();
        }
    }
    answer
}

#[test]
fn an_opaque_token_is_asked_about_and_a_jwt_that_keys_can_verify_never_is() {
    let tables = asking(false, |_| {});
    let mut cache = TokenCache::default();
    let asked = ask(&tables, &mut cache, NOW, OPAQUE, Given::Nothing);
    assert!(matches!(&asked, Ok(Identified::Ask(asked)) if *asked == question(&tables)), "{asked:?}");
    assert!(!format!("{asked:?}").contains(OPAQUE));
    assert!(matches!(ask(&tables, &mut cache, NOW, &good(), Given::Nothing), Ok(Identified::Known { .. })));
    let broken = format!("{}x", good());
    for token in [broken.as_str(), "a.b.c", "..", "with space", "tab\tin", "semi;colon", &"x".repeat(4097)] {
        let got = ask(&tables, &mut cache, NOW, token, Given::Nothing);
        assert!(matches!(got, Err(Code::CredentialInvalid)), "{token}: {got:?}");
    }
    // Without introspection nobody is asked.
    let none = asking(false, |bundle| bundle.providers.iter_mut().for_each(|provider| provider.introspection = None));
    assert!(matches!(ask(&none, &mut cache, NOW, OPAQUE, Given::Nothing), Err(Code::CredentialInvalid)));
}

#[test]
fn a_provider_without_keys_is_asked_about_its_own_jwts_alone() {
    let tables = asking(true, |_| {});
    let own = good();
    let asked = ask(&tables, &mut TokenCache::default(), NOW, &own, Given::Nothing);
    assert!(matches!(&asked, Ok(Identified::Ask(asked)) if *asked.token == *own), "{asked:?}");
    let foreign = token("ES256", &claims(json!({"iss": "https://nobody.example"})));
    let got = ask(&tables, &mut TokenCache::default(), NOW, &foreign, Given::Nothing);
    assert!(matches!(got, Err(Code::CredentialInvalid)), "{got:?}");
}

#[test]
fn where_the_prefixes_of_two_providers_fit_nobody_is_asked() {
    let both = asking(false, |bundle| {
        let terms = bundle.providers.iter().find_map(|provider| provider.introspection);
        bundle.providers.iter_mut().for_each(|provider| provider.introspection = terms);
    });
    let got = ask(&both, &mut TokenCache::default(), NOW, OPAQUE, Given::Nothing);
    assert!(matches!(got, Err(Code::CredentialInvalid)), "{got:?}");
    let prefixed = asking(false, |bundle| {
        let prefix = bundle.strings.iter().position(|text| text == "corp").unwrap() as u32;
        for provider in &mut bundle.providers {
            provider.introspection.iter_mut().for_each(|terms| terms.token_prefix = prefix);
        }
    });
    let got = |token: &str| ask(&prefixed, &mut TokenCache::default(), NOW, token, Given::Nothing);
    assert!(matches!(got("corp_1"), Ok(Identified::Ask(_))));
    assert!(matches!(got(OPAQUE), Err(Code::CredentialInvalid)));
}

#[test]
fn claims_of_an_answer_become_the_principal_that_the_same_claims_of_a_jwt_become() {
    let tables = asking(false, |_| {});
    let more = json!({
        "groups": ["staff", "role:root"], "realm_access": {"roles": ["reader"]}, "org": "acme", "department": "sales",
        "act": {"sub": "bot"}, "scope": "openid role:reader",
    });
    let value = format!("Bearer {}", token("ES256", &claims(more.clone())));
    let headers = [Header { name: "authorization", value: value.as_bytes() }];
    let request = request("/", &headers);
    let cache = &mut TokenCache::default();
    let jwt = authenticate(&tables, &clock(NOW), &Settings::default(), cache, &request).unwrap();
    let mut expected = Principal::clone(&jwt);
    let asked = answered(&tables, &good_answer(more)).unwrap();
    let (Some(of_jwt), Some(of_answer)) = (&mut expected.token, &asked.token) else { panic!() };
    assert_ne!(of_jwt.sha256, of_answer.sha256);
    of_jwt.sha256 = of_answer.sha256.clone();
    assert_eq!(format!("{expected:?}"), format!("{asked:?}"));
}

#[test]
fn what_is_demanded_of_a_token_is_demanded_of_an_answer() {
    let tables = asking(false, |_| {});
    let cases = [
        (json!({}), None),
        // RFC 7662, section 2.2: these need not be there.
        (json!({"iss": null, "exp": null, "iat": null, "jti": null, "token_type": null}), None),
        (json!({"active": false}), Some(Code::CredentialInvalid)),
        (json!({"active": null}), Some(Code::IdentityUnavailable)),
        (json!({"active": "true"}), Some(Code::IdentityUnavailable)),
        (json!({"active": 1}), Some(Code::IdentityUnavailable)),
        (json!({"iss": "https://other.example"}), Some(Code::CredentialInvalid)),
        (json!({"iss": ["https://idp.example"]}), Some(Code::CredentialInvalid)),
        (json!({"aud": null}), Some(Code::CredentialInvalid)),
        (json!({"aud": "other-api"}), Some(Code::CredentialInvalid)),
        (json!({"exp": NOW - 31}), Some(Code::CredentialExpired)),
        (json!({"exp": "soon"}), Some(Code::CredentialInvalid)),
        (json!({"nbf": NOW + 31}), Some(Code::CredentialExpired)),
        (json!({"iat": NOW + 31}), Some(Code::CredentialInvalid)),
        (json!({"exp": NOW + 7200}), Some(Code::CredentialInvalid)),
        (json!({"sub": null}), Some(Code::CredentialInvalid)),
        (json!({"email": ["a", "b"]}), Some(Code::CredentialInvalid)),
        (json!({"cnf": {"jkt": "x"}}), Some(Code::CredentialInvalid)),
        (json!({"token_type": "DPoP"}), Some(Code::CredentialInvalid)),
        (json!({"typ": "Refresh"}), Some(Code::CredentialInvalid)),
        (json!({"token_use": "refresh_token"}), Some(Code::CredentialInvalid)),
        (json!({"act": {"name": "bot"}}), Some(Code::DelegationDenied)),
    ];
    for (changes, code) in cases {
        assert_eq!(answered(&tables, &good_answer(changes.clone())).err(), code, "{changes}");
    }
}

#[test]
fn no_bytes_but_a_whole_active_answer_grant_anything() {
    let tables = asking(false, |_| {});
    let whole = good_answer(json!({})).to_string();
    for cut in 0..whole.len() {
        let got = answered_at(&tables, &mut TokenCache::default(), NOW, &whole.as_bytes()[..cut]);
        assert_eq!(got.err(), Some(Code::IdentityUnavailable), "cut at {cut}");
    }
    // Whatever one byte is changed to, it is the same person with the same groups, or nobody, or a value that was put there.
    for at in 0..whole.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b',', b':', b'x', b'0', 0xff] {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] = byte;
            if let Ok(principal) = answered_at(&tables, &mut TokenCache::default(), NOW, &bytes) {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(value["active"], json!(true));
                let user = value.get("email").or(value.get("sub")).and_then(Value::as_str);
                assert_eq!(principal.user.as_deref(), user);
                let groups = value.get("groups").map_or(0, |groups| groups.as_array().map_or(1, Vec::len));
                assert!(principal.groups.len() <= groups);
            }
        }
    }
    let twice = whole.replacen('{', r#"{"active":false,"#, 1);
    let huge = good_answer(json!({"filler": "x".repeat(64 << 10)})).to_string();
    for text in [twice.as_str(), &huge, "", "null", "true", "[]", "[{\"active\":true}]", "<html>", "{}"] {
        let got = answered_at(&tables, &mut TokenCache::default(), NOW, text.as_bytes());
        assert_eq!(got.err(), Some(Code::IdentityUnavailable), "{}", &text[..text.len().min(40)]);
    }
}

#[test]
fn an_answer_is_used_for_its_time_and_then_the_token_is_asked_about_again() {
    let tables = asking(false, |_| {});
    let mut cache = TokenCache::default();
    answered_at(&tables, &mut cache, NOW, good_answer(json!({})).to_string().as_bytes()).unwrap();
    let mut at = |now| ask(&tables, &mut cache, now, OPAQUE, Given::Nothing);
    assert!(matches!(at(NOW + 29), Ok(Identified::Known { .. })));
    assert!(matches!(at(NOW + 30), Ok(Identified::Ask(_))));
    // Revoked meanwhile at the provider.
    let got = answered_at(&tables, &mut cache, NOW + 30, br#"{"active":false}"#);
    assert_eq!(got.err(), Some(Code::CredentialInvalid));
    let mut at = |now| ask(&tables, &mut cache, now, OPAQUE, Given::Nothing);
    assert!(matches!(at(NOW + 39), Err(Code::CredentialInvalid)));
    assert!(matches!(at(NOW + 40), Ok(Identified::Ask(_))));
    // A token that ends sooner is asked about sooner: within the skew of clocks.
    let mut cache = TokenCache::default();
    let short = good_answer(json!({"exp": NOW - 20})).to_string();
    answered_at(&tables, &mut cache, NOW, short.as_bytes()).unwrap();
    let mut at = |now| ask(&tables, &mut cache, now, OPAQUE, Given::Nothing);
    assert!(matches!(at(NOW + 9), Ok(Identified::Known { .. })));
    assert!(matches!(at(NOW + 10), Ok(Identified::Ask(_))));
}

#[test]
fn another_policy_asks_again_and_an_answer_counts_for_its_own_token_and_provider_alone() {
    let (first, second) = (asking(false, |_| {}), asking(true, |_| {}));
    let mut cache = TokenCache::default();
    let answer = good_answer(json!({})).to_string();
    answered_at(&first, &mut cache, NOW, answer.as_bytes()).unwrap();
    assert!(matches!(ask(&second, &mut cache, NOW, OPAQUE, Given::Nothing), Ok(Identified::Ask(_))));
    for other in [
        Introspection { provider: "other".into(), ..question(&first) },
        Introspection { token: "opaque-token-2".into(), ..question(&first) },
        // Asked under another policy: perhaps at another address.
        question(&second),
    ] {
        let given = Given::Answer { question: &other, claims: answer.as_bytes() };
        let got = ask(&first, &mut TokenCache::default(), NOW, OPAQUE, given);
        assert!(matches!(&got, Ok(Identified::Ask(asked)) if *asked == question(&first)), "{got:?}");
    }
}

#[test]
fn what_was_held_at_the_head_counts_for_the_body_under_the_same_policy_for_a_minute() {
    let (tables, changed) = (asking(false, |_| {}), asking(true, |_| {}));
    let question = question(&tables);
    let claims = good_answer(json!({})).to_string();
    let given = Given::Answer { question: &question, claims: claims.as_bytes() };
    let Ok(Identified::Known { held: Some(held), .. }) = ask(&tables, &mut TokenCache::default(), NOW, OPAQUE, given)
    else {
        panic!()
    };
    let at = |tables: &Tables, now, token| ask(tables, &mut TokenCache::default(), now, token, Given::Held(&held));
    assert!(matches!(at(&tables, NOW + 59, OPAQUE), Ok(Identified::Known { .. })));
    // Nobody knows whether it was revoked meanwhile.
    assert!(matches!(at(&tables, NOW + 60, OPAQUE), Err(Code::IdentityUnavailable)));
    assert!(matches!(at(&tables, NOW + 630, OPAQUE), Err(Code::CredentialExpired)));
    assert!(matches!(at(&tables, NOW, "opaque-token-2"), Ok(Identified::Ask(_))));
    assert!(matches!(at(&changed, NOW, OPAQUE), Ok(Identified::Ask(_))));
}

#[test]
fn what_was_learned_of_a_token_goes_before_what_a_request_holds() {
    let tables = asking(false, |_| {});
    let mut cache = TokenCache::default();
    let question = question(&tables);
    let claims = good_answer(json!({})).to_string();
    let given = Given::Answer { question: &question, claims: claims.as_bytes() };
    let Ok(Identified::Known { held: Some(held), .. }) = ask(&tables, &mut cache, NOW, OPAQUE, given) else { panic!() };
    let given = Given::Answer { question: &question, claims: br#"{"active":false}"# };
    assert!(matches!(ask(&tables, &mut cache, NOW + 31, OPAQUE, given), Err(Code::CredentialInvalid)));
    let got = ask(&tables, &mut cache, NOW + 32, OPAQUE, Given::Held(&held));
    assert!(matches!(got, Err(Code::CredentialInvalid)), "{got:?}");
}

#[test]
fn the_type_of_a_jwt_is_demanded_also_where_its_provider_is_asked() {
    let typed = |typ: &'static str| {
        asking(true, |bundle| {
            let index = u32::try_from(bundle.strings.len()).unwrap();
            bundle.strings.push(typ.to_owned());
            bundle.providers.iter_mut().for_each(|provider| provider.token_types = vec![index]);
        })
    };
    let own = good();
    let got = |tables: &Tables| {
        let Ok(Identified::Ask(question)) = ask(tables, &mut TokenCache::default(), NOW, &own, Given::Nothing) else {
            panic!("not asked")
        };
        let claims = good_answer(json!({"token_type": null})).to_string();
        let given = Given::Answer { question: &question, claims: claims.as_bytes() };
        ask(tables, &mut TokenCache::default(), NOW, &own, given)
    };
    assert!(matches!(got(&typed("JWT")), Ok(Identified::Known { .. })));
    assert!(matches!(got(&typed("at+jwt")), Err(Code::CredentialInvalid)));
}

#[test]
fn where_a_provider_has_several_issuers_an_answer_says_which() {
    let several = asking(false, |bundle| {
        let index = u32::try_from(bundle.strings.len()).unwrap();
        bundle.strings.push("https://idp.test/other".to_owned());
        let corp = bundle.providers.iter_mut().find(|provider| provider.introspection.is_some());
        corp.unwrap().more_issuers = vec![index];
    });
    assert_eq!(answered(&several, &good_answer(json!({"iss": null}))).err(), Some(Code::CredentialInvalid));
    for issuer in [good_answer(json!({}))["iss"].clone(), json!("https://idp.test/other")] {
        assert!(answered(&several, &good_answer(json!({"iss": issuer}))).is_ok());
    }
    assert!(answered(&asking(false, |_| {}), &good_answer(json!({"iss": null}))).is_ok());
}

#[test]
fn a_clock_that_is_set_back_makes_no_answer_last_longer() {
    let tables = asking(false, |_| {});
    let mut cache = TokenCache::default();
    let answer = good_answer(json!({"nbf": null, "iat": null})).to_string();
    answered_at(&tables, &mut cache, NOW, answer.as_bytes()).unwrap();
    let mut at = |now| ask(&tables, &mut cache, now, OPAQUE, Given::Nothing);
    assert!(matches!(at(NOW), Ok(Identified::Known { .. })));
    for back in [1, 3_600] {
        assert!(matches!(at(NOW - back), Ok(Identified::Ask(_))));
    }
}

#[test]
fn large_answers_count_for_what_the_cache_may_hold() {
    let tables = asking(false, |_| {});
    let mut cache = TokenCache::new(4096, 1 << 20);
    let groups: Vec<_> = (0..200).map(|n| format!("group-{n:0150}")).collect();
    let answer = good_answer(json!({"groups": groups})).to_string();
    for n in 0..100 {
        let token = format!("opaque-{n}");
        let question = Introspection { token: token.as_str().into(), ..question(&tables) };
        let given = Given::Answer { question: &question, claims: answer.as_bytes() };
        assert!(ask(&tables, &mut cache, NOW, &token, given).is_ok());
    }
    let most = (1 << 20) / (2 * answer.len());
    assert!((1..=most).contains(&cache.len()), "{} of {most}", cache.len());
}

#[test]
fn where_an_age_is_demanded_an_answer_says_how_old_the_token_is() {
    let demanding = |demanded: bool| {
        asking(false, |bundle| {
            for provider in &mut bundle.providers {
                provider.max_token_age_seconds = 700;
                provider.introspection.iter_mut().for_each(|terms| terms.age = demanded);
            }
        })
    };
    for missing in [json!({"iat": null}), json!({"exp": null}), json!({"iat": null, "exp": null})] {
        let answer = good_answer(missing);
        assert_eq!(answered(&demanding(true), &answer).err(), Some(Code::CredentialInvalid), "{answer}");
        assert!(answered(&demanding(false), &answer).is_ok(), "{answer}");
    }
    for demanded in [true, false] {
        assert!(answered(&demanding(demanded), &good_answer(json!({}))).is_ok());
        let old = good_answer(json!({"iat": NOW - 100, "exp": NOW + 601}));
        assert_eq!(answered(&demanding(demanded), &old).err(), Some(Code::CredentialInvalid));
    }
}

#[test]
fn where_nobody_can_be_asked_the_caller_is_told_that_identity_is_unavailable() {
    let tables = asking(false, |_| {});
    let value = format!("Bearer {OPAQUE}");
    let headers = [Header { name: "authorization", value: value.as_bytes() }];
    let request = request("/", &headers);
    let cache = &mut TokenCache::default();
    let denied = authenticate(&tables, &clock(NOW), &Settings::default(), cache, &request).unwrap_err();
    assert_eq!((denied.denial.code, denied.denial.code.status()), (Code::IdentityUnavailable, 503));
    assert_eq!(denied.provider.as_deref(), Some("corp"));
    assert!(denied.token_sha256.is_some() && !format!("{denied:?}").contains(OPAQUE));
}
