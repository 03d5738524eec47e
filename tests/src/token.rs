//! Issuers of tokens: the good ones, and whatever a test wants to be wrong about them.

use doorward_test_support::token::Signer;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Audience of all test tokens.
pub const AUDIENCE: &str = "data-api";

/// An issuer with one key.
pub struct Issuer {
    /// `iss`
    pub url: String,
    kid: String,
    signer: Signer,
}

/// Now, in Unix seconds.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

impl Issuer {
    /// An issuer with an ES256 key that is made from `seed`, which is not 0.
    #[must_use]
    pub fn es256(url: &str, seed: u8) -> Self {
        Self { url: url.into(), kid: format!("ec-{seed}"), signer: Signer::es256(seed) }
    }

    /// An issuer with an RS256 key.
    #[must_use]
    pub fn rs256(url: &str) -> Self {
        Self { url: url.into(), kid: "rsa".into(), signer: Signer::rs256() }
    }

    /// The public key set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let mut jwk = self.signer.jwk();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.signer.algorithm());
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
            algorithm = self.signer.algorithm(),
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
        self.sign_with(&json!({"alg": self.signer.algorithm(), "typ": "JWT", "kid": self.kid}), claims)
    }

    /// Signs with any header.
    #[must_use]
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.signer.sign(header.to_string(), claims.to_string())
    }
}
