//! Issuers of tokens: the good ones, and whatever a test wants to be wrong about them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use rsa::{RsaPrivateKey, pkcs1v15, signature::SignatureEncoding as _, traits::PublicKeyParts as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// Audience of all test tokens.
pub const AUDIENCE: &str = "data-api";

enum Key {
    Ec(SigningKey),
    Rsa(Box<pkcs1v15::SigningKey<Sha256>>, Value),
}

/// An issuer with one key.
pub struct Issuer {
    /// `iss`
    pub url: String,
    kid: String,
    key: Key,
}

/// Now, in Unix seconds.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

impl Issuer {
    /// An issuer with an ES256 key that is made from `seed`.
    #[must_use]
    pub fn es256(url: &str, seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed.max(1); 32]).unwrap();
        Self { url: url.into(), kid: format!("ec-{seed}"), key: Key::Ec(key) }
    }

    /// An issuer with an RS256 key.
    #[must_use]
    pub fn rs256(url: &str) -> Self {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let public = json!({"n": BASE64.encode(key.n().to_bytes_be()), "e": BASE64.encode(key.e().to_bytes_be())});
        Self { url: url.into(), kid: "rsa".into(), key: Key::Rsa(Box::new(pkcs1v15::SigningKey::new(key)), public) }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ec(_) => "ES256",
            Key::Rsa(..) => "RS256",
        }
    }

    /// The public key set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Ec(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(point.x().unwrap()), "y": BASE64.encode(point.y().unwrap())})
            }
            Key::Rsa(_, public) => json!({"kty": "RSA", "n": public["n"], "e": public["e"]}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        json!({"keys": [jwk]})
    }

    /// The `IdentityProvider` that trusts this issuer.
    #[must_use]
    pub fn document(&self, name: &str) -> String {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{ name: {name} }}\nspec:\n  \
             issuer: {url}\n  audiences: [{AUDIENCE}]\n  algorithms: [{algorithm}]\n  jwks: {{ inline: {jwks} }}\n  \
             claims: {{ user: sub, groups: groups, tenant: org, attributes: {{ region: region, level: level }} }}\n  \
             delegation: {{ actor: act, scope: scope, scopePrefix: \"role:\" }}\n---\n",
            url = self.url,
            algorithm = self.algorithm(),
            jwks = self.jwks(),
        )
    }

    /// Usual claims of a user.
    #[must_use]
    pub fn claims(&self, user: &str, groups: &[&str]) -> Value {
        json!({"iss": self.url, "aud": AUDIENCE, "sub": user, "groups": groups, "iat": now(), "exp": now() + 600,
            "jti": format!("{user}-{}", now())})
    }

    /// A token of a user in these groups and of this region.
    #[must_use]
    pub fn token(&self, user: &str, groups: &[&str], region: &str) -> String {
        let mut claims = self.claims(user, groups);
        claims["region"] = json!(region);
        self.sign(&claims)
    }

    /// Signs any claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid}), claims)
    }

    /// Signs with any header.
    #[must_use]
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = match &self.key {
            Key::Ec(key) => {
                let signature: Signature = key.sign(input.as_bytes());
                signature.to_bytes().to_vec()
            }
            Key::Rsa(key, _) => key.sign(input.as_bytes()).to_vec(),
        };
        format!("{input}.{}", BASE64.encode(signature))
    }
}

/// The `hash` of an `AccessKey` for this key.
#[must_use]
pub fn key_hash(key: &str) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
