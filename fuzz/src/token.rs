//! Tokens: damaged after they were signed, and signed after they were damaged.

use crate::{
    input::{Choices, damaged, damaged_text, lines},
    policy::{ES256, HS256, TABLES},
};
use doorward_policy::{
    identity::{Denied, Principal, Settings, TokenCache, authenticate},
    request::{Header, HttpRequest},
};
use doorward_test_support::TestHost;
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// Verifies a token twice, the second time from the cache.
fn verified(token: &[u8]) -> Result<Arc<Principal>, Denied> {
    let value = [b"Bearer ", token].concat();
    let headers = [Header { name: "authorization", value: &value }];
    let request = HttpRequest {
        method: "GET",
        authority: "data.example.com",
        path: "/db/people.json",
        headers: &headers,
        body: None,
        source_address: "10.1.2.3",
    };
    let mut cache = TokenCache::default();
    let host = TestHost::new().without_randomness();
    let mut ask = || authenticate(&TABLES, &host, &Settings::default(), &mut cache, &request);
    let (first, second) = (ask(), ask());
    assert_eq!(first, second, "the cache answers otherwise");
    if let Err(denied) = &first
        && let Some(signature) = token.rsplit(|byte| *byte == b'.').next().filter(|signature| signature.len() > 15)
    {
        let said = format!("{denied} {denied:?}");
        assert!(!said.contains(&*String::from_utf8_lossy(signature)), "an error quotes the token");
    }
    first
}

static HEADERS: LazyLock<Vec<&str>> = LazyLock::new(|| lines(include_str!("../seeds/token_headers.txt")));
static CLAIMS: LazyLock<Vec<&str>> = LazyLock::new(|| lines(include_str!("../seeds/token_claims.txt")));

/// Good tokens.
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let good = [(&ES256, 0, 0), (&ES256, 0, 1), (&HS256, 1, 2), (&HS256, 1, 3)];
    let tokens = good.map(|(signer, header, claims)| signer.sign(HEADERS[header], CLAIMS[claims]));
    for token in &tokens {
        verified(token.as_bytes()).expect("a good token");
    }
    tokens.into()
});

/// A signed token, damaged: only one of those that were signed may be accepted.
pub fn tampered(bytes: &[u8]) {
    const WORDS: [&str; 12] =
        [".", "..", "=", "==", " ", ",", "\n", "A", "_", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9", "Bearer "];
    let token = damaged(&mut Choices(bytes), &TOKENS, &WORDS);
    if verified(&token).is_ok() {
        let text = String::from_utf8_lossy(&token);
        assert!(TOKENS.iter().any(|good| good == text.trim()), "accepted: {text}");
    }
}

/// Header and claims, damaged and then signed: whatever is accepted keeps the provider's rules.
pub fn claims(bytes: &[u8]) {
    const WORDS: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "true",
        "0",
        "1e3",
        "-1",
        "1800000000",
        "99999999999",
        "\\u0000",
        "\\ud800",
        "\"alg\":\"none\",",
        "\"crit\":[],",
        "\"kid\":\"k1\",",
        "\"iss\":\"https://idp.example/corp\",",
        "\"aud\":\"data-api\",",
        "\"exp\":1800000600,",
        "\"exp\":1799999000,",
        "\"iat\":1799999940,",
        "\"nbf\":1800000600,",
        "\"sub\":\"\",",
        "\"sub\":\"root\",",
        "\"act\":{\"sub\":\"helper\"},",
        "\"act\":{},",
        "\"scope\":\"role:app-all\",",
        "\"groups\":\"admins\",",
        "\"org\":[],",
        "\"email\":7,",
        "[[[[[[[[",
    ];
    let mut choices = Choices(bytes);
    // Elliptic curves cost a hundred times as much.
    let (signer, issuer) = match choices.byte() % 8 {
        0 => (&ES256, "https://idp.example/corp"),
        _ => (&HS256, "https://tools.example"),
    };
    let header = damaged_text(&mut choices, &HEADERS, &WORDS);
    let payload = damaged_text(&mut choices, &CLAIMS, &WORDS);
    let Ok(principal) = verified(signer.sign(&header, &payload).as_bytes()) else { return };

    let said = format!("{header} {payload}");
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {said}"));
    let (header, payload) = (parse(&header), parse(&payload));
    assert_eq!(header["alg"], signer.algorithm(), "{said}");
    assert!(header.get("crit").is_none() && header.get("jwk").is_none(), "{said}");
    assert_eq!(payload["iss"], issuer, "{said}");
    let audience = |value: &Value| value == "data-api";
    assert!(
        audience(&payload["aud"]) || payload["aud"].as_array().is_some_and(|all| all.iter().any(audience)),
        "{said}"
    );
    let time = |name: &str| payload[name].as_f64().unwrap_or_else(|| panic!("no {name}: {said}"));
    let now = 1.8e9;
    assert!(time("exp") > now - 31.0 && time("iat") < now + 31.0 && time("exp") - time("iat") <= 3600.0, "{said}");
    assert!(payload.get("nbf").is_none_or(|value| value.as_f64().is_some_and(|from| from < now + 31.0)), "{said}");
    assert!(principal.user.as_deref().is_none_or(|user| !user.is_empty()), "{said}");
    assert!(principal.tenant.as_deref().is_none_or(|tenant| !tenant.is_empty()), "{said}");
    if payload.get("act").is_some() {
        assert!(!principal.agents.is_empty(), "the actor got lost: {said}");
    }
}
