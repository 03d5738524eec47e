//! Providers that are asked about tokens: what compiles, and what of it proxies learn.

use super::{compiled, found, provider};
use doorward_test_support::token::RFC_7517_EC as EC;

const ASKED: &str =
    "url: 'https://idp.test/introspect', clientId: door-client, clientSecret: {file: /run/top-secret-path}";

/// A provider without keys, with more members in its `introspection`.
fn asked(more: &str) -> String {
    provider(&format!("{{issuer: 'https://idp.test', audiences: [a], introspection: {{{ASKED}{more}}}}}"))
}

#[test]
fn a_provider_without_keys_is_asked_about_its_jwts_and_proxies_do_not_learn_where_or_as_whom() {
    let text = asked(", tokenPrefix: dw_, cacheFor: 90s, timeout: 10s");
    assert_eq!(found(&text, EC), "");
    let compiled = compiled(&text, EC);
    let strings = &compiled.bundle.strings;
    let provider = compiled.bundle.providers.iter().find(|provider| strings[provider.name as usize] == "more").unwrap();
    let asked = provider.introspection.unwrap();
    assert_eq!((strings[asked.token_prefix as usize].as_str(), asked.cache_seconds, asked.jwts), ("dw_", 90, true));
    assert!(provider.keys.is_empty() && provider.algorithms.is_empty());
    let bytes = String::from_utf8_lossy(&compiled.bytes);
    for private in ["/introspect", "door-client", "top-secret-path"] {
        assert!(!bytes.contains(private), "{private}");
    }
}

#[test]
fn a_provider_with_keys_is_asked_about_opaque_tokens_alone() {
    for jwks in ["{uri: 'https://idp.test/keys'}", "{}"] {
        let text = provider(&format!(
            "{{issuer: 'https://idp.test', audiences: [a], algorithms: [ES256], jwks: {jwks}, introspection: {{{ASKED}}}}}"
        ));
        assert_eq!(found(&text, EC), "", "{jwks}");
        let compiled = compiled(&text, EC);
        let strings = &compiled.bundle.strings;
        let mut providers = compiled.bundle.providers.iter();
        let provider = providers.find(|provider| strings[provider.name as usize] == "more").unwrap();
        let asked = provider.introspection.unwrap();
        assert_eq!((asked.token_prefix, asked.cache_seconds, asked.jwts, provider.keys.len()), (0, 30, false, 1));
    }
}

#[test]
fn every_mistake_is_named() {
    let asked_at = |url: &str| asked("").replace("https://idp.test/introspect", url);
    let secret = |place: &str| asked("").replace("{file: /run/top-secret-path}", place);
    for (text, expected) in [
        (
            asked_at("ftp://idp.test"),
            "spec.introspection.url: the URL of an introspection endpoint starts with https:// [",
        ),
        (asked_at("https:///x"), "spec.introspection.url: this is not a URL with a host"),
        (asked_at("https://idp.test/#a"), "spec.introspection.url: this is not a URL with a host"),
        (asked_at("https://u:p@idp.test/"), "give them as clientId and clientSecret [introspection_url]"),
        (
            asked_at("http://idp.test/"),
            "warning: IdentityProvider more: spec.introspection.url: tokens and the client's secret",
        ),
        (secret("{}"), "spec.introspection.clientSecret: give exactly one of file and env [client_secret]"),
        (secret("{file: /a, env: A}"), "give exactly one of file and env"),
        (secret("{file: ''}"), "name the file that holds the secret"),
        (secret("{env: 'DOORWARD_SECRET_A=B'}"), "begins with DOORWARD_SECRET_"),
        (secret("{env: PATH}"), "begins with DOORWARD_SECRET_"),
        (asked("").replace("door-client", "''"), "spec.introspection.clientId: name the client"),
        (asked(", tokenPrefix: ''"), "spec.introspection.tokenPrefix: a prefix has 1 to 64 characters"),
        (asked(", tokenPrefix: 'a b'"), "a prefix has 1 to 64 characters"),
        (asked(", cacheFor: 999ms"), "spec.introspection.cacheFor: an answer is kept for 1s to 10m"),
        (asked(", cacheFor: 11m"), "spec.introspection.cacheFor: an answer is kept for 1s to 10m"),
        (asked(", timeout: 11s"), "spec.introspection.timeout: callers would wait for longer than 10s"),
    ] {
        let found = found(&text, EC);
        assert!(found.contains(expected), "{expected}:\n{found}");
    }
}

#[test]
fn another_place_to_ask_at_is_another_policy() {
    let digest = |text: &str| compiled(text, EC).digest;
    let here = digest(&asked(""));
    assert_eq!(here, digest(&asked(", timeout: 9s")));
    for (old, new) in [("https://idp.test/introspect", "https://idp.test/other"), ("door-client", "other-client")] {
        assert_ne!(here, digest(&asked("").replace(old, new)), "{new}");
    }
}

#[test]
fn of_two_providers_no_token_can_be_of_both() {
    let two = |first: &str, second: &str| {
        let other = "issuer: 'https://other.test', audiences: [a]";
        let prefix = |prefix: &str| if prefix.is_empty() { String::new() } else { format!(", tokenPrefix: {prefix}") };
        format!(
            "{}---\nkind: IdentityProvider\nmetadata: {{name: other}}\nspec: {{{other}, introspection: {{{ASKED}{}}}}}\n",
            asked(&prefix(first)),
            prefix(second)
        )
    };
    for (first, second) in [("", ""), ("a_", ""), ("", "a_"), ("a_", "a_"), ("a_", "a_b"), ("a_b", "a_")] {
        let found = found(&two(first, second), EC);
        let named = "IdentityProvider other: spec.introspection.tokenPrefix: a token could be of this provider and of \
                     IdentityProvider \"more\"";
        assert!(found.contains(named), "{first} {second}:\n{found}");
    }
    assert_eq!(found(&two("a_", "b_"), EC), "");
}
