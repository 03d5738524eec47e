//! What a verified credential makes of a caller.

use super::fixture::*;
use crate::{
    code::Code,
    identity::{Attribute, Denied, Mesh, Principal, Settings, TokenCache, Unidentified, authenticate},
};
use doorward_test_support::TestHost;
use serde_json::{Value, json};
use std::sync::Arc;

fn of(changes: Value) -> Result<Arc<Principal>, Denied> {
    with_token(&token("ES256", &claims(changes)))
}
fn names(list: &[crate::Name]) -> Vec<&str> {
    list.iter().map(|name| &**name).collect()
}
fn agents(principal: &Principal) -> Vec<&str> {
    principal.agents.iter().map(|agent| &*agent.name).collect()
}

#[test]
fn claims_become_user_groups_tenant_and_attributes() {
    let principal = of(json!({
        "groups": ["support", "", "a"], "realm_access": {"roles": ["admin", "admin"]}, "org": "acme",
        "department": "Support", "region": ["emea", 7, true], "amr": ["mfa", "pwd"], "acr": "2",
    }))
    .unwrap();
    assert_eq!(principal.user.as_deref(), Some("alice@example.com"));
    assert_eq!(names(&principal.groups), ["a", "role:admin", "support"]);
    assert_eq!(principal.tenant.as_deref(), Some("acme"));
    assert_eq!(
        principal.attributes,
        [
            ("department".into(), Attribute::One("Support".into())),
            ("region".into(), Attribute::Many(vec!["emea".into(), "7".into(), "true".into()])),
        ]
    );
    assert_eq!(principal.claims, [(0, "Support".into()), (1, "admin".into()), (1, "admin".into())]);
    let token = principal.token.as_ref().unwrap();
    assert_eq!((token.id.as_deref(), token.issued_at, token.expires_at), (Some("t-1"), NOW - 60, NOW + 600));
    assert_eq!((names(&token.methods), token.context_class.as_deref()), (vec!["mfa", "pwd"], Some("2")));
    assert_eq!(principal.delegated_roles, None);
}

#[test]
fn the_first_present_path_wins_and_empty_is_missing() {
    assert_eq!(of(json!({"email": ""})).unwrap().user.as_deref(), Some("u1"));
    assert_eq!(of(json!({"email": []})).unwrap().user.as_deref(), Some("u1"));
    assert_eq!(of(json!({"email": ["one@example.com"]})).unwrap().user.as_deref(), Some("one@example.com"));
    assert_eq!(of(json!({"org": "acme"})).unwrap().attributes, [("region".into(), Attribute::One("acme".into()))]);
    assert_eq!(of(json!({"region": []})).unwrap().attributes, [("region".into(), Attribute::Many(vec![]))]);
    assert!(of(json!({"department": ""})).unwrap().attributes.is_empty());
    assert_eq!(of(json!({"org": 42})).unwrap().tenant.as_deref(), Some("42"));
}

#[test]
fn ambiguous_or_dangerous_values_are_refused() {
    for changes in [
        json!({"email": ["a", "b"]}),
        json!({"email": {"a": 1}}),
        json!({"org": ["a", "b"]}),
        json!({"email": "a\r\nx-role: admin"}),
        json!({"groups": ["a\u{0}"]}),
        json!({"groups": [["nested"]]}),
        json!({"groups": ["a\u{2028}b"]}),
        json!({"email": "a\u{202e}b"}),
        json!({"region": ["emea", "x\u{85}y"]}),
        json!({"org": 1e20}),
        json!({"groups": (0..513).map(|n| n.to_string()).collect::<Vec<_>>()}),
        json!({"jti": 7}),
    ] {
        assert_eq!(code(of(changes.clone())), Some(Code::CredentialInvalid), "{changes}");
    }
}

#[test]
fn a_name_that_arrives_as_another_is_refused_wherever_a_token_has_it() {
    for pad in [" ", "\t", "\u{a0}", "\u{3000}", "\u{feff}", "\u{200b}", "\u{200d}", "\u{2028}"] {
        for name in [format!("{pad}x"), format!("x{pad}"), pad.to_owned(), format!("{pad}{pad}")] {
            for changes in [
                json!({"email": name}),
                json!({"email": [name]}),
                json!({"email": null, "sub": name}),
                json!({"org": name}),
                json!({"groups": ["ok", name]}),
                json!({"groups": name}),
                json!({"realm_access": {"roles": [name]}}),
                json!({"department": name}),
                json!({"region": ["emea", name]}),
                json!({"act": {"sub": name}}),
                json!({"act": {"sub": "bot", "act": {"sub": name}}}),
            ] {
                assert_eq!(code(of(changes.clone())), Some(Code::CredentialInvalid), "{changes}");
            }
            // Blanks stand between scopes, so that one at the end of an item ends its name; nothing else does.
            let scopes = json!({"act": {"sub": "bot"}, "scope": [format!("role:{name}")]});
            match of(scopes.clone()) {
                Ok(narrowed) => {
                    assert_eq!((pad, narrowed.delegated_roles.clone()), (" ", Some(vec!["x".into()])), "{scopes}");
                }
                Err(denial) => assert_eq!(denial.denial.code, Code::DelegationDenied, "{scopes}"),
            }
        }
    }
    // Inside of a name, white space is a part of it.
    assert_eq!(of(json!({"org": "Acme Ltd"})).unwrap().tenant.as_deref(), Some("Acme Ltd"));
    assert_eq!(of(json!({"email": "Zoë Łódź"})).unwrap().user.as_deref(), Some("Zoë Łódź"));
}

#[test]
fn a_group_cannot_pass_for_a_token_role() {
    assert_eq!(names(&of(json!({"groups": ["role:admin", "x"]})).unwrap().groups), ["x"]);
}

#[test]
fn the_delegation_chain_is_outermost_first_and_bounded() {
    let principal =
        of(json!({"act": {"sub": "agent-a", "act": {"sub": "agent-b"}}, "scope": "openid role:reader role:writer"}))
            .unwrap();
    assert_eq!(agents(&principal), ["agent-a", "agent-b"]);
    assert_eq!(names(principal.delegated_roles.as_ref().unwrap()), ["reader", "writer"]);
    assert_eq!(of(json!({"scope": ["role:x", "email"]})).unwrap().delegated_roles, Some(vec!["x".into()]));
    assert_eq!(of(json!({"scope": "openid email"})).unwrap().delegated_roles, None);
    let chain = |depth| (0..depth).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}));
    assert_eq!(of(json!({"act": chain(7)})).unwrap().agents.len(), 8);
    for act in
        [chain(8), json!({}), json!("agent"), json!({"sub": ""}), json!({"sub": "a", "act": []}), json!({"sub": 7})]
    {
        assert_eq!(code(of(json!({"act": act}))), Some(Code::DelegationDenied), "{act}");
    }
    assert!(of(json!({"act": {"sub": "a", "iss": "https://agents.example"}})).is_ok());
    assert_eq!(code(of(json!({"act": {"sub": "a", "iss": "https://evil.example"}}))), Some(Code::DelegationDenied));
}

#[test]
fn an_actor_at_a_provider_without_delegation_is_refused_not_ignored() {
    let payload = claims(json!({"iss": "https://hmac.example", "act": {"sub": "agent"}})).to_string();
    assert_eq!(code(with_token(&sign_text("HS256", r#"{"alg":"HS256"}"#, &payload))), Some(Code::DelegationDenied));
}

#[test]
fn an_actor_in_the_standards_claim_is_refused_where_another_claim_was_configured() {
    let ask = |more: serde_json::Value| {
        let mut payload = claims(json!({"iss": "https://other.example", "aud": "other-api"}));
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with_token(&sign_text("ES256", r#"{"alg":"ES256","kid":"ES256"}"#, &payload.to_string()))
    };
    assert_eq!(agents(&ask(json!({"actor": {"sub": "a"}})).unwrap()), ["a"]);
    for act in [json!({"sub": "agent"}), json!(null), json!("agent")] {
        assert_eq!(code(ask(json!({"act": act, "actor": {"sub": "a"}}))), Some(Code::DelegationDenied), "{act}");
        assert_eq!(code(ask(json!({ "act": act }))), Some(Code::DelegationDenied), "{act}");
    }
}

#[test]
fn an_api_key_is_checked_with_its_times_and_locks() {
    let settings = Settings::default();
    for (key, expected) in [
        ("plain", None),
        ("unknown", Some(Code::CredentialInvalid)),
        ("", Some(Code::CredentialInvalid)),
        ("revoked", Some(Code::CredentialRevoked)),
        ("early", Some(Code::CredentialExpired)),
        ("late", Some(Code::CredentialExpired)),
        ("networks", None),
        ("hosts", None),
    ] {
        for name in ["x-doorward-key", "x-api-key", "x-dreamfactory-api-key"] {
            assert_eq!(code(with_headers(&[(name, key)], &settings)), expected, "{key}");
        }
    }
    let locked = |key: &str, authority: &str, source_address: &str| {
        let headers = [header("x-api-key", key)];
        let request = crate::request::HttpRequest { authority, source_address, ..request("/", &headers) };
        code(authenticate(&TABLES, &clock(NOW), &settings, &mut TokenCache::default(), &request))
    };
    for (address, free) in [
        ("10.255.0.1", true),
        ("2001:db8:1::1", true),
        ("::ffff:10.0.0.1", true),
        ("11.0.0.1", false),
        ("", false),
        ("x", false),
    ] {
        assert_eq!(locked("networks", "any", address), (!free).then_some(Code::CredentialLocked), "{address}");
    }
    for (host, free) in [
        ("data.example.com:8443", true),
        ("DATA.example.com", true),
        ("data.example.com.", true),
        ("data.example.com.evil", false),
        ("data.example.com:443@evil.test", false),
        ("data.example.com,evil.test", false),
        ("data.example.com:", false),
        ("data.example.com:x", false),
        ("", false),
    ] {
        assert_eq!(locked("hosts", host, "10.0.0.1"), (!free).then_some(Code::CredentialLocked), "{host}");
    }
    let both = [("x-api-key", "plain"), ("x-doorward-key", "plain")];
    assert_eq!(code(with_headers(&both, &settings)), Some(Code::CredentialInvalid));
}

#[test]
fn key_and_token_must_both_be_good() {
    let settings = Settings::default();
    let bearer = format!("Bearer {}", good());
    let principal = with_headers(&[("authorization", &bearer), ("x-api-key", "agent")], &settings).unwrap();
    assert_eq!(principal.user.as_deref(), Some("alice@example.com"));
    assert!(principal.key.is_some());
    assert_eq!(agents(&principal), ["bot"]);
    assert_eq!(
        code(with_headers(&[("authorization", &bearer), ("x-api-key", "revoked")], &settings)),
        Some(Code::CredentialRevoked)
    );
    assert_eq!(
        code(with_headers(&[("authorization", "Bearer x.y.z"), ("x-api-key", "plain")], &settings)),
        Some(Code::CredentialInvalid)
    );
    let elsewhere = format!("Bearer {}", token("ES256", &claims(json!({"org": "other"}))));
    assert_eq!(
        code(with_headers(&[("authorization", &elsewhere), ("x-api-key", "plain")], &settings)),
        Some(Code::CredentialLocked)
    );
    assert_eq!(with_headers(&[("x-api-key", "plain")], &settings).unwrap().tenant.as_deref(), Some("acme"));
}

#[test]
fn a_request_without_credentials_is_denied_unless_settings_allow_it() {
    assert_eq!(code(with_headers(&[], &Settings::default())), Some(Code::CredentialMissing));
    let open = Settings { unidentified: Unidentified::Allow, ..Settings::default() };
    assert_eq!(*with_headers(&[], &open).unwrap(), Principal::default());
    assert_eq!(
        code(with_headers(&[("authorization", "Bearer x")], &open)),
        Some(Code::CredentialInvalid),
        "bad is not none"
    );
}

#[test]
fn the_mesh_identity_is_ignored_recorded_or_an_agent() {
    let id = "spiffe://mesh.example/ns/ai/sa/bot";
    let bearer = format!("Bearer {}", good());
    let xfcc = format!("Hash=1;URI={id}");
    let with = |mesh, xfcc: Option<&str>| {
        let mut headers = vec![("authorization", &*bearer)];
        headers.extend(xfcc.map(|value| ("x-forwarded-client-cert", value)));
        with_headers(&headers, &Settings { mesh, ..Settings::default() })
    };
    assert_eq!(with(Mesh::Ignore, Some(&xfcc)).unwrap().mesh, None);
    let recorded = with(Mesh::Record, Some(&xfcc)).unwrap();
    assert_eq!((recorded.mesh.as_deref(), recorded.agents.len()), (Some(id), 0));
    assert_eq!(with(Mesh::Record, Some("URI=\"")).unwrap().mesh, None);
    let agent = with(Mesh::Agent, Some(&xfcc)).unwrap();
    assert_eq!((agent.mesh.as_deref(), agents(&agent)), (Some(id), vec![id]));
    assert_eq!(code(with(Mesh::Agent, None)), Some(Code::CredentialMissing));
    assert_eq!(code(with(Mesh::Agent, Some("URI=\""))), Some(Code::CredentialInvalid));
}

#[test]
fn a_cached_token_still_expires_and_a_policy_change_forgets_it() {
    let mut cache = TokenCache::default();
    let bearer = format!("Bearer {}", good());
    let headers = [header("authorization", &bearer)];
    let mut ask = |host: &TestHost<'_>, tables: &crate::bundle::Tables| {
        let result = authenticate(tables, host, &Settings::default(), &mut cache, &request("/", &headers));
        (result, cache.len())
    };
    let native = |now| clock(now).answering(crate::host::Verification::Valid);
    let first = native(NOW);
    let (a, held) = ask(&first, &TABLES);
    assert_eq!((first.verifications(), held), (1, 1));
    let second = native(NOW + 100);
    let (b, _) = ask(&second, &TABLES);
    assert_eq!(second.verifications(), 0, "a hit verifies nothing again");
    assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
    let (expired, held) = ask(&native(NOW + 630), &TABLES);
    assert_eq!((code(expired), held), (Some(Code::CredentialExpired), 0));
    ask(&native(NOW), &TABLES).0.unwrap();
    let mut without = bundle();
    without.providers.clear();
    let changed = crate::bundle::Tables::build(&without, [9; 32], 2).unwrap();
    assert_eq!(code(ask(&native(NOW), &changed).0), Some(Code::CredentialInvalid));
    // The expired one was found; the first, the one after it, and the one of another policy were not.
    assert_eq!(cache.counts, crate::identity::CacheCounts { hits: 2, misses: 3 });
}

#[test]
fn a_cached_token_with_another_key_or_peer_is_another_principal() {
    let mut cache = TokenCache::default();
    let settings = Settings { mesh: Mesh::Record, ..Settings::default() };
    let bearer = format!("Bearer {}", good());
    let mut ask = |key: Option<&str>, peer: Option<&str>| {
        let mut headers = vec![header("authorization", &bearer)];
        headers.extend(key.map(|key| header("x-api-key", key)));
        headers.extend(peer.map(|peer| header("x-forwarded-client-cert", peer)));
        authenticate(&TABLES, &clock(NOW), &settings, &mut cache, &request("/", &headers)).unwrap()
    };
    let (bare, agent, peer) = (ask(None, None), ask(Some("agent"), None), ask(None, Some("URI=spiffe://m/a")));
    assert_eq!((agents(&bare).len(), agents(&agent), bare.key), (0, vec!["bot"], None));
    assert_eq!((peer.mesh.as_deref(), peer.key), (Some("spiffe://m/a"), None));
    assert!(Arc::ptr_eq(&ask(None, Some("URI=spiffe://m/a")), &peer));
    assert_eq!(ask(None, Some("URI=spiffe://m/b")).mesh.as_deref(), Some("spiffe://m/b"));
    assert_eq!(*ask(None, None), *bare);
    assert_eq!(*ask(Some("agent"), None), *agent);
}

#[test]
fn revocation_by_user_token_or_issue_time_also_reaches_a_cached_token() {
    use doorward_proto::v1::{Restriction, RestrictionEffect, Subject, SubjectKind};
    let base = bundle();
    let s = |text: &str| u32::try_from(base.strings.iter().position(|known| known == text).unwrap()).unwrap();
    for (kind, value, issued_before, revoked) in [
        (SubjectKind::SubjectUser, "alice@example.com", 0, true),
        (SubjectKind::SubjectUser, "bot", 0, false),
        (SubjectKind::SubjectToken, "t-1", 0, true),
        (SubjectKind::SubjectToken, "bot", 0, false),
        (SubjectKind::SubjectUser, "alice@example.com", NOW - 59, true),
        (SubjectKind::SubjectUser, "alice@example.com", NOW - 60, false),
    ] {
        let restriction = Restriction {
            name: s("plain"),
            subjects: vec![Subject { kind: kind.into(), value: s(value), claim_path: 0 }],
            from: NOW + 10,
            effect: RestrictionEffect::RestrictRevoke.into(),
            issued_before,
            enforcement: doorward_proto::v1::Enforcement::Enforce.into(),
            ..Restriction::default()
        };
        let tables = crate::bundle::Tables::build(
            &doorward_proto::v1::Bundle { restrictions: vec![restriction], ..base.clone() },
            [3; 32],
            3,
        )
        .unwrap();
        let mut cache = TokenCache::default();
        let bearer = format!("Bearer {}", good());
        let headers = [header("authorization", &bearer)];
        let mut at =
            |now| code(authenticate(&tables, &clock(now), &Settings::default(), &mut cache, &request("/", &headers)));
        assert_eq!(at(NOW), None, "the restriction is not in force yet");
        assert_eq!(at(NOW + 11), revoked.then_some(Code::CredentialRevoked), "{kind:?} {value} {issued_before}");
    }
}
