//! A bundle with three providers and some API keys, and tokens of them.

use crate::{
    bundle::Tables,
    code::Code,
    identity::{Algorithm, Denied, Principal, Settings, TokenCache, authenticate},
    request::{Header, HttpRequest},
};
use doorward_proto::v1::{self as wire, verification_key::Material};
use doorward_test_support::{TestHost, token::Signer};
pub use doorward_test_support::{host::NOW, token::base64url as b64};
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

pub const ISSUER: &str = "https://idp.example/realms/corp";
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A host in the last millisecond of this second, in Unix seconds, with no source of randomness.
pub fn clock(now: i64) -> TestHost<'static> {
    TestHost::new().at_millis(now.unsigned_abs() * 1000 + 999).without_randomness()
}

pub fn es256() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap()
}
pub fn es384() -> p384::ecdsa::SigningKey {
    p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap()
}
pub fn ed25519() -> ed25519_compact::KeyPair {
    ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]))
}
pub static RSA: LazyLock<rsa::RsaPrivateKey> =
    LazyLock::new(|| rsa::RsaPrivateKey::new(&mut p256::elliptic_curve::rand_core::OsRng, 2048).unwrap());

pub fn signer(by: &str) -> Signer {
    match by {
        "HS256" => Signer::Hs256(SECRET.to_vec()),
        "ES256" => Signer::Es256(es256()),
        "ES384" => Signer::Es384(es384()),
        "EdDSA" => Signer::Eddsa(ed25519()),
        "RS256" => Signer::Rs256(RSA.clone()),
        "PS256" => Signer::Ps256(RSA.clone()),
        other => panic!("no signer for {other}"),
    }
}

/// Signs `header.payload` by the algorithm of this name, whatever the header says.
pub fn sign_text(by: &str, header: &str, payload: &str) -> String {
    signer(by).sign(header, payload)
}

pub fn kid(algorithm: &str) -> &str {
    if algorithm == "PS256" { "RS256" } else { algorithm }
}

/// A well-formed token of the corp provider with these claims.
pub fn token(algorithm: &str, claims: &Value) -> String {
    sign_text(
        algorithm,
        &json!({"alg": algorithm, "kid": kid(algorithm), "typ": "JWT"}).to_string(),
        &claims.to_string(),
    )
}

/// Good claims, with these in addition or instead; null removes one.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "data-api", "sub": "u1", "email": "alice@example.com",
        "iat": NOW - 60, "exp": NOW + 600, "jti": "t-1",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().shift_remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub fn good() -> String {
    token("ES256", &claims(json!({})))
}

const STRINGS: [&str; 37] = [
    "",
    "10.0.0.0/8",
    "2001:db8::/32",
    "EdDSA",
    "ES256",
    "ES384",
    "RS256",
    "acme",
    "act",
    "actor",
    "agents",
    "ai-agent",
    "bot",
    "corp",
    "data-api",
    "data.example.com",
    "department",
    "email",
    "groups",
    "hmac",
    "https://agents.example",
    "https://hmac.example",
    ISSUER,
    "https://other.example",
    "org",
    "other",
    "other-api",
    "alice@example.com",
    "plain",
    "realm_access",
    "region",
    "role:",
    "roles",
    "scope",
    "sub",
    "t-1",
    "tool",
];

pub fn bundle() -> wire::Bundle {
    let mut strings: Vec<String> = STRINGS.iter().map(|text| (*text).to_owned()).collect();
    strings.sort();
    let s = |text: &str| u32::try_from(strings.binary_search_by(|known| known.as_str().cmp(text)).unwrap()).unwrap();
    let path = |text: &str| wire::ClaimPath { segments: text.split('.').map(&s).collect() };
    let key = |kid: &str, algorithm: Algorithm, material: Material| wire::VerificationKey {
        kid: s(kid),
        algorithm: algorithm.into(),
        material: Some(material),
    };
    let point = es256().verifying_key().to_encoded_point(false);
    let p256 = Material::Ec(wire::EcKey {
        curve: wire::Curve::P256.into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    });
    let point = es384().verifying_key().to_encoded_point(false);
    let p384 = Material::Ec(wire::EcKey {
        curve: wire::Curve::P384.into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    });
    let rsa = Material::Rsa(wire::RsaKey { modulus: RSA.n().to_bytes_be(), exponent: RSA.e().to_bytes_be() });
    let corp = wire::Provider {
        name: s("corp"),
        issuer: s(ISSUER),
        audiences: vec![s("data-api")],
        algorithms: [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::Eddsa]
            .map(i32::from)
            .into(),
        keys: vec![
            key("ES256", Algorithm::Es256, p256.clone()),
            key("ES384", Algorithm::Unspecified, p384),
            key("EdDSA", Algorithm::Eddsa, Material::Ed25519(ed25519().pk.to_vec())),
            key("RS256", Algorithm::Unspecified, rsa),
        ],
        max_token_age_seconds: 3600,
        clock_skew_seconds: 30,
        user_claims: vec![path("email"), path("sub")],
        role_claims: vec![path("realm_access.roles")],
        group_claims: vec![path("groups")],
        tenant_claims: vec![path("org")],
        attributes: vec![
            wire::AttributeClaim { name: s("department"), claims: vec![path("department")] },
            wire::AttributeClaim { name: s("region"), claims: vec![path("region"), path("org")] },
        ],
        delegation: Some(wire::Delegation { actor_claim: s("act"), scope_claim: s("scope"), scope_prefix: s("role:") }),
        required_claims: vec![s("sub")],
        agent_issuers: vec![s("https://agents.example")],
        ..wire::Provider::default()
    };
    let hmac = wire::Provider {
        name: s("hmac"),
        issuer: s("https://hmac.example"),
        algorithms: vec![Algorithm::Hs256.into()],
        keys: vec![key("", Algorithm::Hs256, Material::Secret(SECRET.to_vec()))],
        delegation: None,
        ..corp.clone()
    };
    let other = wire::Provider {
        name: s("other"),
        issuer: s("https://other.example"),
        audiences: vec![s("other-api")],
        keys: vec![key("ES256", Algorithm::Es256, p256)],
        delegation: Some(wire::Delegation { actor_claim: s("actor"), ..wire::Delegation::default() }),
        ..corp.clone()
    };
    let api_key = |value: &str| wire::Key {
        hash: Sha256::digest(value).to_vec(),
        name: s("tool"),
        role: s("plain"),
        ..wire::Key::default()
    };
    let mut keys = vec![
        wire::Key { tenant: s("acme"), ..api_key("plain") },
        wire::Key { revoked: true, ..api_key("revoked") },
        wire::Key { not_before: NOW + 1, ..api_key("early") },
        wire::Key { not_after: NOW, ..api_key("late") },
        wire::Key { networks: vec![s("10.0.0.0/8"), s("2001:db8::/32")], ..api_key("networks") },
        wire::Key { hosts: vec![s("data.example.com")], ..api_key("hosts") },
        wire::Key { agent: s("bot"), ..api_key("agent") },
    ];
    keys.sort_by(|a, b| a.hash.cmp(&b.hash));
    wire::Bundle {
        format: 1,
        scope: "default".into(),
        providers: vec![hmac, corp, other],
        keys,
        claim_paths: vec![path("department"), path("realm_access.roles")],
        strings: strings.clone(),
        ..wire::Bundle::default()
    }
}

pub static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::build(&bundle(), [1; 32], 1).unwrap());

pub fn request<'a>(path: &'a str, headers: &'a [Header<'a>]) -> HttpRequest<'a> {
    HttpRequest { method: "GET", authority: "data.example.com", path, headers, body: None, source_address: "10.1.2.3" }
}

pub fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
    Header { name, value: value.as_bytes() }
}

pub fn with_headers(headers: &[(&str, &str)], settings: &Settings) -> Result<Arc<Principal>, Denied> {
    let headers: Vec<Header<'_>> = headers.iter().map(|(name, value)| header(name, value)).collect();
    authenticate(&TABLES, &clock(NOW), settings, &mut TokenCache::default(), &request("/", &headers))
}

pub fn with_token(token: &str) -> Result<Arc<Principal>, Denied> {
    with_headers(&[("authorization", &format!("Bearer {token}"))], &Settings::default())
}

pub fn code(result: Result<Arc<Principal>, Denied>) -> Option<Code> {
    result.err().map(|denied| denied.denial.code)
}

#[track_caller]
pub fn refused(token: &str, part: &str) {
    let denied = with_token(token).expect_err("the token was accepted");
    assert!(denied.denial.code == Code::CredentialInvalid && denied.denial.detail.contains(part), "{denied}");
    assert!(denied.token_sha256.is_some_and(|digits| digits.len() == 16) || token.len() > 16 * 1024);
}
