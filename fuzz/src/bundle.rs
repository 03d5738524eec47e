//! Bundles and the documents that they are compiled from.

use crate::{
    input::{Choices, damaged, damaged_text},
    policy::{BUNDLE, Caller, TEXT, key_set},
    request,
};
use doorward_policy::{bundle::Tables, decide::decide, dialect, request::HttpRequest};
use doorward_policy_compiler::{compile::compile, document::parse_file};
use doorward_proto::v1::Bundle;
use doorward_test_support::{host::NOW, policy::Keys};
use prost::Message;

const REQUESTS: [&str; 4] = [
    "/db/people.json?_where=region%3D%27west%27&_sort=id",
    "/api/v2/crm/_table/customers?fields=id,email&related=orders_by_customer_id",
    "/shop/orders?status=open",
    "/shop/orders/7",
];

/// A damaged bundle is refused, or decides.
pub fn bytes(bytes: &[u8]) {
    let bundle =
        damaged(&mut Choices(bytes), &[&BUNDLE.bytes], &["\0", "\u{1}", "\u{7f}", "\u{8}\u{1}", "\u{12}\u{2}"]);
    let Ok(bundle) = Bundle::decode(&*bundle) else { return };
    let Ok(tables) = Tables::build(&bundle, [0; 32], 2) else { return };
    for path in REQUESTS {
        let Some((service, prefix)) = tables.route("data.example.com", path) else { continue };
        let request =
            HttpRequest { method: "GET", authority: "a", path, headers: &[], body: None, source_address: "10.1.2.3" };
        let Ok(parsed) = dialect::parse(service, prefix, &request) else { continue };
        for caller in [Caller::Analyst, Caller::Admin, Caller::Agent] {
            let decision = decide(&tables, service, &caller.principal(), &parsed.request, None, NOW, None);
            if let Ok(constraints) = &decision.outcome
                && let Ok(rewrite) = dialect::emit(service, prefix, &parsed, constraints)
            {
                request::well_formed(&rewrite);
            }
        }
    }
}

/// Documents, damaged: what compiles can be put in force, and does not depend on the order.
pub fn documents(bytes: &[u8]) {
    const WORDS: [&str; 40] = [
        "\n",
        "---\n",
        "  ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        "\"",
        "#",
        "&a",
        "*a",
        "!!int ",
        "|\n",
        "? ",
        "null",
        "~",
        "'*'",
        "0",
        "-1",
        "99999999999",
        "1e9",
        "app-all",
        "ai-helper",
        "id",
        "region",
        "ssn",
        "read",
        "hide",
        "mask",
        "rows",
        "TRUE",
        "{user.region}",
        "GET",
        "verbs",
        "spec",
        "2026-01-01T00:00:00Z",
    ];
    compiles_or_is_refused(&damaged_text(&mut Choices(bytes), &SEEDS, &WORDS));
}

fn compiles_or_is_refused(text: &str) {
    let mut parsed = parse_file("policy.yaml", text);
    let compiled = |documents: &[_]| compile(documents, &Keys(key_set), "default");
    let first = compiled(&parsed.documents);
    if let Err(error) = Tables::build(&first.bundle, first.digest, 1) {
        panic!("what was compiled cannot be put in force: {error}\n{text}");
    }
    assert_eq!(Bundle::decode(&*first.bytes).as_ref(), Ok(&first.bundle), "{text}");
    parsed.documents.reverse();
    assert_eq!(compiled(&parsed.documents).bytes, first.bytes, "the order of documents counts: {text}");
}

const SEEDS: [&str; 1] = [TEXT];

#[cfg(test)]
mod tests {
    use super::{TEXT, compiles_or_is_refused};

    /// Every word of the documents in turn (keys, names, values) becomes each of these.
    #[test]
    fn a_word_that_is_emptied_or_blank_never_makes_a_bundle_that_proxies_refuse() {
        const WORDS: [&str; 3] = ["''", "'/*'", "null"];
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./*@'\"!".contains(&byte);
        let bytes = TEXT.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let length = bytes[at..].iter().take_while(|byte| word(**byte)).count();
            for other in WORDS.iter().filter(|_| length > 0) {
                compiles_or_is_refused(&[&TEXT[..at], other, &TEXT[at + length..]].concat());
            }
            at += length.max(1);
        }
    }
}
