//! `IdentityProvider`: whose tokens are trusted.

use super::common::{ClaimPath, Duration, OneOrMany};
use doorward_proto::v1;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whose tokens are trusted, with which keys and algorithms, and how their claims become user, groups, tenant and
/// attributes.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityProvider {
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// A token must name one of these in `aud`.
    pub audiences: Vec<String>,
    /// Algorithms that are accepted; never taken from the token. HMAC and public-key algorithms cannot be mixed.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are. Absent: found by OpenID Connect discovery at the issuer.
    pub jwks: Option<Jwks>,
    /// A token with `exp - iat` above this is refused, and so is one without `iat`. Default `60m`.
    pub max_token_age: Option<Duration>,
    /// Tolerated difference between clocks. Default `30s`, at most `10m`.
    pub clock_skew: Option<Duration>,
    /// How claims become the principal.
    #[serde(default)]
    pub claims: Claims,
    /// How delegation (RFC 8693) is read. Absent: `act` is the actor, scopes do not narrow.
    pub delegation: Option<Delegation>,
    /// Top-level claims that every token must have.
    #[serde(default)]
    pub required_claims: Vec<String>,
}

/// Where a provider's keys are; exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwks {
    /// URL of the JWK set (https).
    pub uri: Option<String>,
    /// How often the control plane fetches it again. Default `10m`.
    pub refresh: Option<Duration>,
    /// The JWK set itself.
    pub inline: Option<InlineKeys>,
    /// File of the control plane that holds the JWK set.
    pub file: Option<String>,
    /// Kubernetes secret that holds the JWK set.
    pub secret_ref: Option<SecretRef>,
}

/// A JWK set inside a document; never printed, because it may hold a secret.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "serde_json::Map<String, serde_json::Value>")]
pub struct InlineKeys(pub serde_json::Value);

impl std::fmt::Debug for InlineKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InlineKeys(…)")
    }
}

/// A key of a Kubernetes secret in the control plane's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the secret.
    pub name: String,
    /// Key inside the secret. Default `jwks.json`.
    pub key: Option<String>,
}

/// How claims become the principal. A list of paths means the first one that is present.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    /// The user. Default `sub`.
    pub user: Option<OneOrMany<ClaimPath>>,
    /// Token roles; each becomes a group named `role:NAME`, and a binding still has to grant.
    pub roles: Option<OneOrMany<ClaimPath>>,
    /// Groups.
    pub groups: Option<OneOrMany<ClaimPath>>,
    /// Tenant.
    pub tenant: Option<OneOrMany<ClaimPath>>,
    /// Attributes by name, usable in predicates as `{user.NAME}`; `name` is the user itself and cannot be mapped.
    #[serde(default)]
    pub attributes: BTreeMap<String, OneOrMany<ClaimPath>>,
}

/// How delegation (RFC 8693) is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delegation {
    /// Top-level claim that holds the chain of actors. Default `act`.
    pub actor: Option<String>,
    /// Top-level claim that holds scopes. Default `scope`.
    pub scope: Option<String>,
    /// Scopes with this prefix narrow the user's roles to those named. Absent: scopes do not narrow.
    pub scope_prefix: Option<String>,
}

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "RFC 7518 names")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// True for HMAC, whose key is a secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }
}

impl From<Algorithm> for v1::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => v1::Algorithm::Hs256,
            Algorithm::HS384 => v1::Algorithm::Hs384,
            Algorithm::HS512 => v1::Algorithm::Hs512,
            Algorithm::RS256 => v1::Algorithm::Rs256,
            Algorithm::RS384 => v1::Algorithm::Rs384,
            Algorithm::RS512 => v1::Algorithm::Rs512,
            Algorithm::PS256 => v1::Algorithm::Ps256,
            Algorithm::ES256 => v1::Algorithm::Es256,
            Algorithm::ES384 => v1::Algorithm::Es384,
            Algorithm::EdDSA => v1::Algorithm::Eddsa,
        }
    }
}
