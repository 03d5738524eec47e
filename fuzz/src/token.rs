//! Tokens: damaged after they were signed, and signed after they were damaged.

use crate::{
    input::{Choices, damaged, damaged_text, lines},
    policy::{NOW, TABLES},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_policy::{
    host::Host,
    identity::{Denied, Principal, Settings, TokenCache, authenticate},
    request::{Header, HttpRequest},
};
use hmac::{Hmac, Mac};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::{Arc, LazyLock};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_slice(&[7; 32]).expect("a scalar in range"));

/// The key set of a provider of the policy, as JSON.
#[must_use]
pub fn key_set(provider: &str) -> Option<String> {
    let key = match provider {
        "corp" => {
            let point = SIGNER.verifying_key().to_encoded_point(false);
            let (x, y) = (b64(point.x()?), b64(point.y()?));
            json!({"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "x": x, "y": y})
        }
        "tools" => json!({"kty": "oct", "alg": "HS256", "k": b64(SECRET)}),
        _ => return None,
    };
    Some(json!({"keys": [key]}).to_string())
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[derive(Clone, Copy, PartialEq)]
enum Algorithm {
    Es256,
    Hs256,
}

fn sign(algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = match algorithm {
        Algorithm::Es256 => {
            let signature: Signature = SIGNER.sign(signed.as_bytes());
            signature.to_vec()
        }
        Algorithm::Hs256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length will do");
            mac.update(signed.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
    };
    format!("{signed}.{}", b64(signature))
}

/// A host with a clock, and nothing else.
struct Clock;

impl Host for Clock {
    fn now_millis(&self) -> u64 {
        NOW.unsigned_abs() * 1000
    }
    fn random(&self, _: &mut [u8]) -> bool {
        false
    }
    fn update_limit(&self, _: u64, _: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        false
    }
}

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
    let mut ask = || authenticate(&TABLES, &Clock, &Settings::default(), &mut cache, &request);
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
    let good = [(Algorithm::Es256, 0, 0), (Algorithm::Es256, 0, 1), (Algorithm::Hs256, 1, 2), (Algorithm::Hs256, 1, 3)];
    let tokens =
        good.map(|(algorithm, header, claims)| sign(algorithm, HEADERS[header].as_bytes(), CLAIMS[claims].as_bytes()));
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
    let algorithm = if choices.byte() % 8 == 0 { Algorithm::Es256 } else { Algorithm::Hs256 };
    let header = damaged_text(&mut choices, &HEADERS, &WORDS);
    let payload = damaged_text(&mut choices, &CLAIMS, &WORDS);
    let Ok(principal) = verified(sign(algorithm, header.as_bytes(), payload.as_bytes()).as_bytes()) else { return };

    let (name, issuer) = match algorithm {
        Algorithm::Es256 => ("ES256", "https://idp.example/corp"),
        Algorithm::Hs256 => ("HS256", "https://tools.example"),
    };
    let said = format!("{header} {payload}");
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {said}"));
    let (header, payload) = (parse(&header), parse(&payload));
    assert_eq!(header["alg"], name, "{said}");
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
