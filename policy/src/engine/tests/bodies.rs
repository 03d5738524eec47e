//! A policy that changes while a body comes.

use super::*;
use doorward_test_support::policy::key_hash;

/// A write by `reader` whose body comes while the policy changes from the first to the second.
fn write_over_a_change(before: &Tables, after: &Tables) -> Verdict {
    let body = br#"{"resource":[{"status":"x"}]}"#;
    let headers = [
        Header { name: "x-doorward-key", value: b"reader" },
        Header { name: "content-type", value: b"application/json" },
        Header { name: "content-length", value: b"29" },
    ];
    let whole = request("/api/v2/crm/_table/orders", &headers, Some(body));
    let (settings, mut cache) = (Settings::default(), TokenCache::default());
    let begun = begin(before, &TestHost::new(), &settings, &mut cache, &HttpRequest { body: None, ..whole });
    let Begin::Body { pending, .. } = begun else { panic!("{begun:?}") };
    finish(after, &TestHost::new(), &settings, &mut cache, pending, &whole)
}

#[test]
fn a_key_stays_the_same_key_when_others_come_before_it_while_the_body_is_awaited() {
    // Keys are sorted by hash: one that sorts first takes the place that the reader's key had.
    let other = (0..).map(|n| format!("writer-{n}")).find(|other| key_hash(other) < key_hash("reader")).unwrap();
    let before = POLICY.to_owned() + &access_key("reader", "reader", "app-reader", "");
    let after = before.clone() + &access_key("writer", &other, "app-writer", "");
    let verdict = write_over_a_change(&tables(&before), &tables(&after));
    assert_eq!(code(&verdict), Some(Code::VerbDenied), "{:?}", verdict.outcome);
    assert_eq!(verdict.record.principal.unwrap().key, "reader");
}

#[test]
fn a_key_revoked_while_the_body_is_awaited_is_refused() {
    let before = POLICY.to_owned() + &access_key("reader", "reader", "app-writer", "");
    let after = POLICY.to_owned() + &access_key("reader", "reader", "app-writer", ", revoked: true");
    assert_eq!(code(&write_over_a_change(&tables(&before), &tables(&before))), None);
    assert_eq!(code(&write_over_a_change(&tables(&before), &tables(&after))), Some(Code::CredentialRevoked));
}
