//! Rules across documents: what the bundle of a sound policy holds; mistakes, keys, and what servers make of names and values in
//! the modules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod introspection;
mod keys;
mod mistakes;
mod namespaces;
mod servers;

use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::{Compiled, DocumentId, compile},
    document::{Document, Kind},
};
use doorward_proto::v1::Bundle;
use doorward_test_support::{
    policy::{Keys, documents},
    token::RFC_7517_EC as EC,
};
use proptest::prelude::*;
use prost::Message as _;

const BASE: &str = include_str!("policy.yaml");

/// This set for every provider; none if it is empty.
fn keys(set: &str) -> Keys<impl Fn(&str) -> Option<String>> {
    let set = (!set.is_empty()).then(|| format!("{{\"keys\":[{set}]}}"));
    Keys(move |_: &str| set.clone())
}

fn compiled(text: &str, set: &str) -> Compiled {
    compile(&documents(text), &keys(set), "default")
}

fn found(text: &str, set: &str) -> String {
    compiled(text, set).diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn role(name: &str, grant: &str) -> String {
    format!(
        "{BASE}---\nkind: AccessRole\nmetadata: {{name: {name}}}\nspec:\n  lookups: {{regions: [w, e], year: 2024}}\n  grants:\n    - service: db\n{grant}"
    )
}

const GET: &str = "      components: [_table/customers]\n      verbs: [GET]\n";

#[test]
fn a_sound_policy_has_no_findings_and_its_bundle_can_be_put_in_force() {
    assert_eq!(found(BASE, EC), "");
    let compiled = compiled(BASE, EC);
    assert_eq!(compiled.accepted.len(), 5);
    let bundle = Bundle::decode(compiled.bytes.as_slice()).unwrap();
    assert_eq!(bundle, compiled.bundle);
    assert!(bundle.strings.is_sorted() && bundle.strings[0].is_empty());
    let text = |index: u32| bundle.strings[index as usize].as_str();
    let service = &bundle.services[0];
    let names: Vec<_> = service.components.iter().map(|component| text(component.name)).collect();
    assert_eq!(names, ["_proc/get_summary", "_table/customers", "_table/orders", "files/*"]);
    let role = &bundle.roles[0];
    assert_eq!((role.max_rows, text(role.department)), (1000, "sales"));
    let grant = &role.grants[0];
    assert_eq!(text(grant.pattern), "_table/customers");
    let read: Vec<_> = grant.read.as_ref().unwrap().fields.iter().map(|field| text(*field)).collect();
    assert_eq!(read, ["email", "id", "region", "status"]);
    assert_eq!(bundle.providers[0].keys.len(), 1);
    assert_eq!(bundle.bindings[0].subjects.len(), 4);
    Tables::build(&bundle, compiled.digest, 1).unwrap();
}

/// A provider beside the others.
fn provider(spec: &str) -> String {
    format!("{BASE}---\nkind: IdentityProvider\nmetadata: {{name: more}}\nspec: {spec}\n")
}

#[test]
fn patterns_stand_for_what_is_declared_now_and_families_stay_patterns() {
    let text = role("app-x", "      components: ['*']\n      verbs: [GET]\n      fields: {hide: [ssn, total]}\n");
    let compiled = compiled(&text, EC);
    let bundle = &compiled.bundle;
    let name = |index: &u32| bundle.strings[*index as usize].clone();
    let role = bundle.roles.iter().find(|role| name(&role.name) == "app-x").unwrap();
    let show: Vec<_> = role
        .grants
        .iter()
        .map(|grant| {
            let fields = grant.read.as_ref().map(|read| read.fields.iter().map(name).collect::<Vec<_>>().join(","));
            format!("{} {}", name(&grant.pattern), fields.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        show,
        ["_proc/get_summary ", "_table/customers email,id,region,status", "_table/orders id,region", "files/* "],
        "{:?}",
        compiled.diagnostics
    );
    let exact = role_patterns("      components: [files/a/b, 'files/c/*']\n      verbs: [GET]\n");
    assert_eq!(exact, ["files/a/b", "files/c/*"]);
}

fn role_patterns(grant: &str) -> Vec<String> {
    let compiled = compiled(&role("app-x", grant), EC);
    let name = |index: u32| compiled.bundle.strings[index as usize].clone();
    let role = compiled.bundle.roles.iter().find(|role| name(role.name) == "app-x");
    role.map(|role| role.grants.iter().map(|grant| name(grant.pattern)).collect()).unwrap_or_default()
}

#[test]
fn an_error_leaves_out_its_document_and_nothing_else() {
    let text = role("app-x", &format!("{GET}      fields: {{read: [nothing]}}\n"));
    let with_error = compiled(&text, EC);
    assert_eq!(with_error.bundle, compiled(BASE, EC).bundle);
    assert_eq!(with_error.accepted.len(), 5);
    assert!(!with_error.accepted.contains(&DocumentId { kind: Kind::AccessRole, name: "app-x".into() }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn the_same_documents_in_any_order_give_the_same_bytes(
        order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut text = role("app-x", &format!("{GET}      fields: {{hide: [ssn]}}\n"));
        text.push_str("---\nkind: AccessRole\nmetadata: {name: app-x}\nspec: {}\n");
        for n in 0..4 {
            let priority = n % 2;
            text.push_str(&format!("---\nkind: AccessBinding\nmetadata: {{name: b{n}}}\nspec: {{role: app-x, priority: {priority}, subjects: [{{group: g{n}}}, {{claim: {{path: c{n}.d, equals: v}}}}]}}\n"));
        }
        text.push_str("---\nkind: AccessRestriction\nmetadata: {name: r}\nspec: {subjects: [{user: a}], effect: deny}\n");
        let documents = documents(&text);
        prop_assert_eq!(documents.len(), 12);
        let shuffled: Vec<Document> = order.iter().map(|at| documents[*at].clone()).collect();
        let (one, two) = (compile(&documents, &keys(EC), "default"), compile(&shuffled, &keys(EC), "default"));
        prop_assert_eq!(&one.bytes, &two.bytes);
        prop_assert_eq!(one.digest, two.digest);
        prop_assert_eq!(one.diagnostics, two.diagnostics);
        prop_assert_eq!(one.accepted.len(), 11);
    }
}

#[test]
fn of_two_claims_the_older_document_has_it_and_both_are_told() {
    let service = |name: &str, created: &str| {
        let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: \"{created}\"") };
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{name: {name}{created}}}\nspec: {{dialect: http, \
             match: [{{hosts: [a.example.com]}}], components: {{x: {{operations: [{{path: /x, verbs: [GET]}}]}}}}}}\n"
        )
    };
    for (one, other, owner) in [
        ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "a"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "b"),
        // Of one age, and in a directory, which has none: by name.
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "a"),
        ("", "", "a"),
    ] {
        let all = compiled(&[service("a", one), service("b", other)].join("---\n"), "");
        let accepted: Vec<&str> = all.accepted.iter().map(|document| document.name.as_str()).collect();
        assert_eq!(accepted, [owner], "{one} {other}: {:?}", all.diagnostics);
        let told = |code: &str| all.diagnostics.iter().find(|found| found.code == code).unwrap().name.clone();
        assert!(told("contested") == owner && told("match_overlap") != owner);
    }
}
