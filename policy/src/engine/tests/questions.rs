//! Questions to somebody outside: who is asked, what an answer may do, and what its absence does.

use super::*;
use doorward_policy_compiler::compile::NoKeys;
use doorward_test_support::policy::{compiled, documents};

/// A policy whose provider is asked about opaque tokens, with these documents beside it.
fn asking(epoch: u64, more: &str) -> Tables {
    let identity = "---
kind: IdentityProvider
metadata: { name: corp }
spec:
  issuer: https://idp.example
  audiences: [api]
  algorithms: [EdDSA]
  jwks: { inline: { keys: [{ kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] } }
";
    let documents = documents(&format!("{POLICY}{identity}{more}"));
    let mut compiled = compiled(&documents, &NoKeys);
    for provider in &mut compiled.bundle.providers {
        provider.introspection = Some(doorward_proto::v1::Introspection { cache_seconds: 30, ..Default::default() });
    }
    Tables::build(&compiled.bundle, compiled.digest, epoch).unwrap()
}

fn bound(role: &str) -> String {
    format!(
        "---\nkind: AccessBinding\nmetadata: {{ name: b }}\nspec: {{ role: {role}, subjects: [{{ user: alice }}] }}\n"
    )
}

const ALICE: &[u8] = br#"{"active":true,"sub":"alice","aud":"api"}"#;
const OPAQUE: [Header<'static>; 3] = [
    Header { name: "authorization", value: b"Bearer opaque" },
    Header { name: "content-type", value: b"application/json" },
    Header { name: "content-length", value: b"29" },
];

#[test]
fn a_request_goes_on_with_the_answer_and_names_the_person_under_the_same_decision_id() {
    let (tables, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let mut cache = TokenCache::default();
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let begun = begin(&tables, &TestHost::new(), &settings, &mut cache, &ask);
    let Begin::Ask { question: Question::Introspection(question), pending } = begun else { panic!("{begun:?}") };
    assert_eq!((&*question.provider, &*question.token), ("corp", "opaque"));
    let id = pending.decision_id().to_owned();
    let done = answer(&tables, &TestHost::new(), &settings, &mut cache, pending, Answer::Introspection(ALICE), &ask);
    let Begin::Done(verdict) = done else { panic!("{done:?}") };
    assert_eq!((code(&verdict), &verdict.decision_id), (None, &id));
    assert_eq!(verdict.record.principal.as_ref().map(|principal| &*principal.user), Some("alice"));
    // The next request with this token asks nobody.
    assert!(
        matches!(begin(&tables, &TestHost::new(), &settings, &mut cache, &ask), Begin::Done(verdict) if code(&verdict).is_none())
    );
}

#[test]
fn a_question_without_an_answer_is_denied_and_its_record_names_the_provider_but_no_token() {
    let (tables, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    for given in [Answer::None, Answer::Introspection(b"<html>"), Answer::Introspection(b"")] {
        let mut cache = TokenCache::default();
        let begun = begin(&tables, &TestHost::new(), &settings, &mut cache, &ask);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        assert!(!format!("{pending:?}").contains("opaque"));
        let done = answer(&tables, &TestHost::new(), &settings, &mut cache, pending, given, &ask);
        let Begin::Done(verdict) = done else { panic!("{done:?}") };
        assert_eq!(code(&verdict), Some(Code::IdentityUnavailable));
        assert_eq!(verdict.record.principal.as_ref().map(|principal| &*principal.provider), Some("corp"));
        assert!(!format!("{:?}", verdict.record).contains("opaque"));
        assert!(cache.is_empty());
    }
}

#[test]
fn the_policy_in_force_when_the_answer_comes_asks_itself_and_decides() {
    let (before, settings) = (asking(1, &bound("app-reader")), Settings::default());
    let headers = [OPAQUE[0]];
    let ask = request("/api/v2/crm/_table/orders", &headers, None);
    let after = |tables: &Tables| {
        let mut cache = TokenCache::default();
        let begun = begin(&before, &TestHost::new(), &settings, &mut cache, &ask);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        let mut given = |pending| {
            answer(tables, &TestHost::new(), &settings, &mut cache, pending, Answer::Introspection(ALICE), &ask)
        };
        // What was asked under the policy before, perhaps elsewhere, says nothing under this one.
        let done = match given(pending) {
            Begin::Ask { pending, .. } => given(pending),
            done => done,
        };
        let Begin::Done(verdict) = done else { panic!("{done:?}") };
        code(&verdict)
    };
    assert_eq!(after(&asking(2, &bound("app-writer"))), Some(Code::VerbDenied));
    assert_eq!(after(&asking(2, "")), Some(Code::RoleNone));
    let restricted = "---\nkind: AccessRestriction\nmetadata: { name: r }\nspec: { subjects: [{ user: alice }], effect: revokeTokens }\n";
    assert_eq!(after(&asking(2, &(bound("app-reader") + restricted))), Some(Code::CredentialRevoked));
    // Without the provider, or without the service.
    assert_eq!(after(&tables(POLICY)), Some(Code::CredentialInvalid));
    assert_eq!(after(&tables(&POLICY.replace("/api/v2/crm", "/api/v2/other"))), Some(Code::NoRoute));
}

#[test]
fn an_answer_to_another_question_is_asked_again_a_few_times_at_most() {
    let settings = Settings::default();
    let tables = asking(1, &bound("app-reader"));
    let other = [Header { name: "authorization", value: b"Bearer another" }];
    let headers = [OPAQUE[0]];
    let (first, second) =
        (request("/api/v2/crm/_table/orders", &headers, None), request("/api/v2/crm/_table/orders", &other, None));
    let mut cache = TokenCache::default();
    let mut begun = begin(&tables, &TestHost::new(), &settings, &mut cache, &first);
    let mut rounds = 0;
    // Each answer is about the token before.
    while let Begin::Ask { pending, .. } = begun {
        rounds += 1;
        let ask = if rounds % 2 == 1 { &second } else { &first };
        begun = answer(&tables, &TestHost::new(), &settings, &mut cache, pending, Answer::Introspection(ALICE), ask);
    }
    let Begin::Done(verdict) = begun else { panic!("{begun:?}") };
    assert_eq!((rounds, code(&verdict)), (3, Some(Code::IdentityUnavailable)));
}

#[test]
fn an_answer_counts_for_the_whole_request_and_after_a_change_of_policy_the_body_is_denied() {
    let (tables, changed, settings) =
        (asking(1, &bound("app-writer")), asking(2, &bound("app-writer")), Settings::default());
    let body = br#"{"resource":[{"status":"x"}]}"#;
    let whole = request("/api/v2/crm/_table/orders", &OPAQUE, Some(body));
    let finished = |tables_then: &Tables| {
        let mut cache = TokenCache::default();
        let head = HttpRequest { body: None, ..whole };
        let begun = begin(&tables, &TestHost::new(), &settings, &mut cache, &head);
        let Begin::Ask { pending, .. } = begun else { panic!("{begun:?}") };
        let begun =
            answer(&tables, &TestHost::new(), &settings, &mut cache, pending, Answer::Introspection(ALICE), &head);
        let Begin::Body { pending, .. } = begun else { panic!("{begun:?}") };
        // Others pushed it out meanwhile.
        cache.clear();
        code(&finish(tables_then, &TestHost::new(), &settings, &mut cache, pending, &whole))
    };
    assert_eq!(finished(&tables), None);
    assert_eq!(finished(&changed), Some(Code::IdentityUnavailable));
}
