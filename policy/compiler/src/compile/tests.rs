//! What the two walks over the documents owe each other; the rules are in the crate's integration tests.

use super::*;
use crate::document::parse_file;
use doorward_test_support::token::RFC_7517_EC;

/// The policy of the integration tests, with its provider's key inside it.
fn read(more: &str) -> Vec<Document> {
    let keys = format!("  jwks: {{inline: {{keys: [{RFC_7517_EC}]}}}}\n  audiences");
    let text = include_str!("../../tests/compile/policy.yaml").replacen("  audiences", &keys, 1) + more;
    let parsed = parse_file("policy.yaml", &text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.documents
}

#[test]
fn the_checks_collect_the_strings_that_encoding_needs_and_no_others() {
    let tests = "---\nkind: PolicyTest\nmetadata: {name: t}\nspec: {tests: []}\n";
    let broken = "---\nkind: AccessBinding\nmetadata: {name: broken}\nspec: {role: nobody, subjects: [{user: u}]}\n";
    let documents = read(&format!("{tests}{broken}"));
    let mut unique: Vec<&Document> = documents.iter().collect();
    unique.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let Checked { context, accepted, strings } = check(&unique, &NoKeys, &Boundary::default(), &mut Vec::new());
    assert_eq!(accepted.len(), 6, "all but the broken one");
    let mut needed = Interner::collecting();
    lower(&context, &accepted, &mut needed, "default");
    assert_eq!(strings, needed);
}

#[test]
fn a_string_that_the_checks_missed_has_an_index_all_the_same() {
    let documents = read("");
    let mut unique: Vec<&Document> = documents.iter().collect();
    unique.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let Checked { context, accepted, .. } = check(&unique, &NoKeys, &Boundary::default(), &mut Vec::new());
    let without = encode(&context, &accepted, Interner::collecting(), "default");
    assert_eq!(without, compile(&documents, &NoKeys, "default").bundle);
}
