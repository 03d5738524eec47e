//! `IdentityProvider`: whose tokens are trusted.

use super::common::{ClaimPath, Duration, OneOrMany, Scalar};
use doorward_proto::v1;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap};

/// Whose tokens are trusted, with which keys and algorithms, and how their claims become user, groups, tenant and
/// attributes.
///
/// With a `preset`, what the document leaves out is filled in; `doorward validate --show` prints the result.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityProvider {
    /// Fills in what this document leaves out, as the tokens of this issuer or product are. What the document says counts.
    pub preset: Option<Preset>,
    /// The exact `iss` of its tokens, or a list of several. `{tenantid}` in it stands for each of `tenants`. Needed, unless
    /// the preset has it.
    pub issuer: Option<OneOrMany<String>>,
    /// What `{tenantid}` in the issuer stands for; for Entra the tenants' GUIDs.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// SPIFFE trust domain, such as `prod.example.org`. Tokens are then JWT-SVIDs: `sub` must be a SPIFFE ID of a workload in
    /// it, and one without `iss` is known by it.
    pub trust_domain: Option<String>,
    /// A token must name one of these as its audience. The word `any` instead of a list: none is demanded, so every token
    /// of the issuer is accepted, whomever it was meant for. Needed, unless the preset has it.
    pub audiences: Option<Audiences>,
    /// Top-level claim that holds the audience, or a list of which the first one present decides. Default `aud`.
    pub audience_claim: Option<OneOrMany<String>>,
    /// Algorithms that are accepted; never taken from the token. HMAC and public-key algorithms cannot be mixed. Needed,
    /// unless the preset has it.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are. Absent: found by OpenID Connect discovery at the issuer.
    pub jwks: Option<Jwks>,
    /// How the provider is asked about tokens that only it can read (RFC 7662). Without `jwks` beside it the provider has no
    /// keys, and is asked about its JWTs as well; with `jwks: {}` its keys are found by discovery.
    pub introspection: Option<Introspection>,
    /// A token with `exp - iat` above this is refused, and so is one without `iat`. Default `60m`. An answer of the provider
    /// about a token (`introspection`) may lack `iat` or `exp`, unless this is given here or by the preset.
    pub max_token_age: Option<Duration>,
    /// Tolerated difference between clocks. Default `30s`, at most `10m`.
    pub clock_skew: Option<Duration>,
    /// Header `typ` values that are accepted, such as `[at+jwt]` (RFC 9068), whatever their case and with or without
    /// `application/`; `none` stands for a token without `typ`. Default `[JWT, at+jwt, none]`. An opaque token has no header, so
    /// nothing of this is demanded of it.
    pub token_types: Option<Vec<String>>,
    /// How claims become the principal.
    #[serde(default)]
    pub claims: Claims,
    /// How delegation (RFC 8693) is read. Absent: `act` is the actor, scopes do not narrow.
    pub delegation: Option<Delegation>,
    /// Top-level claims that every token must have: a list of names (a list within it: one of them), a mapping from names to
    /// an allowed value or a list of allowed values, or a list of both: `[sub, {token_use: access, email_verified: true}]`.
    /// Types count: `"true"` is not `true`. A claim that is a list must hold one of the values.
    #[serde(default)]
    pub required_claims: RequiredClaims,
}

impl IdentityProvider {
    /// It has no keys, so that it is asked about its JWTs as well.
    #[must_use]
    pub const fn is_keyless(&self) -> bool {
        self.introspection.is_some() && self.jwks.is_none()
    }

    /// The issuers as written, patterns not expanded.
    #[must_use]
    pub fn issuers(&self) -> &[String] {
        self.issuer.as_ref().map_or(&[], OneOrMany::as_slice)
    }
}

/// Products and services whose tokens are known. What each fills in is listed at the end of this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ProviderPreset")]
pub enum Preset {
    /// Microsoft Entra ID, access tokens of version 2.0; needs `tenants` and `audiences`.
    Entra,
    /// Microsoft Entra ID, access tokens of version 1.0; needs `tenants` and `audiences`.
    EntraV1,
    /// Okta, access tokens of a custom authorization server; needs `issuer` and `audiences`.
    Okta,
    /// Keycloak, access tokens; needs `issuer` and `audiences`.
    Keycloak,
    /// Auth0, access tokens of an API in either profile; needs `issuer` and `audiences`.
    Auth0,
    /// Amazon Cognito user pools, access tokens; needs `issuer`, and `audiences` with the app clients' IDs.
    Cognito,
    /// Google, ID tokens of people and service accounts; needs `audiences`.
    Google,
    /// Kubernetes, projected tokens of service accounts; needs `issuer` and `audiences`.
    Kubernetes,
    /// GitHub Actions, ID tokens of workflows; needs `audiences` and, in `requiredClaims`, whose repositories.
    GithubActions,
    /// DreamFactory, its own session tokens; needs `issuer` and `jwks` with the server's secret.
    Dreamfactory,
    /// SPIFFE, JWT-SVIDs; needs `trustDomain`, `audiences` and `jwks`.
    Spiffe,
}

/// Audiences that tokens may name, or the word that none is demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// One of these.
    Of(Vec<String>),
    /// `any`
    Any,
}

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "any" => Ok(Audiences::Any),
            Value::String(_) => {
                Err(D::Error::custom("audiences is a list; only the word any stands alone, and demands no audience"))
            }
            list => serde_json::from_value(list).map(Audiences::Of).map_err(|_| {
                D::Error::custom("audiences is a list of strings, or the word any, which demands no audience")
            }),
        }
    }
}

impl JsonSchema for Audiences {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Audiences".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"const": "any", "type": "string", "format": "`any`"}]})
    }
}

/// Demands on claims, in the order written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequiredClaims(pub Vec<RequiredClaim>);

/// One demand.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredClaim {
    /// Names, one of which must be there.
    pub names: Vec<String>,
    /// Allowed values; empty: any.
    pub values: Vec<Scalar>,
}

const REQUIRED: &str = "requiredClaims is a list of names, a mapping from names to allowed values, or a list of both";

fn with_values(members: serde_json::Map<String, Value>, into: &mut Vec<RequiredClaim>) -> Result<(), &'static str> {
    for (name, value) in members {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let values: Option<Vec<Scalar>> = values.into_iter().map(|value| serde_json::from_value(value).ok()).collect();
        let sound = |values: &Vec<Scalar>| !values.is_empty() && !values.iter().any(|v| matches!(v, Scalar::Number(_)));
        let values = values.filter(sound).ok_or(
            "a required claim has an allowed value, or a list of them: text, a whole number, true or false; to demand \
             presence alone, write the name into a list",
        )?;
        into.push(RequiredClaim { names: vec![name], values });
    }
    Ok(())
}

impl<'de> Deserialize<'de> for RequiredClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        match Value::deserialize(deserializer)? {
            Value::Object(members) => with_values(members, &mut all).map_err(D::Error::custom)?,
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::Object(members) => with_values(members, &mut all).map_err(D::Error::custom)?,
                        Value::String(name) => all.push(RequiredClaim { names: vec![name], values: Vec::new() }),
                        names => {
                            let names = serde_json::from_value(names).map_err(|_| D::Error::custom(REQUIRED))?;
                            all.push(RequiredClaim { names, values: Vec::new() });
                        }
                    }
                }
            }
            _ => return Err(D::Error::custom(REQUIRED)),
        }
        Ok(RequiredClaims(all))
    }
}

impl JsonSchema for RequiredClaims {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "RequiredClaims".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "array"}, {"type": "object"}]})
    }
}

/// Where a provider's keys are; exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwks {
    /// URL of the JWK set (https).
    pub uri: Option<String>,
    /// How often the control plane fetches it again. Default `10m`.
    pub refresh: Option<Duration>,
    /// How long the last good set stays in force while its address gives one without a usable key, be it by mistake or to
    /// revoke all keys; then the keys go. Default `1h`.
    pub keep_last_good: Option<Duration>,
    /// The JWK set itself.
    pub inline: Option<InlineKeys>,
    /// File of the control plane that holds the JWK set.
    pub file: Option<String>,
    /// Kubernetes secret that holds the JWK set.
    pub secret_ref: Option<SecretRef>,
}

/// How a provider is asked about tokens (RFC 7662). The control plane asks; proxies never learn address, client or secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// URL of the introspection endpoint (https).
    pub url: String,
    /// The client that asks.
    pub client_id: String,
    /// Where its secret is. It is read whenever it is used, so it can be rotated.
    pub client_secret: ClientSecret,
    /// Only opaque tokens that begin so are this provider's. Where several providers are asked, each needs one, and none begins
    /// as another does. Absent: all opaque tokens.
    pub token_prefix: Option<String>,
    /// How long a proxy uses an answer, `1s` to `10m`: so long a token that was revoked may still count. Default `30s`.
    pub cache_for: Option<Duration>,
    /// How long an answer may take, at most `10s`. Default `2s`.
    pub timeout: Option<Duration>,
}

/// How the name of every environment variable begins that may be sent as a secret. Whoever writes policy chooses the secret
/// and where it is sent, so no other variable can be one.
pub const SECRET_PREFIX: &str = "DOORWARD_SECRET_";

/// Where the secret of a client is; exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSecret {
    /// File that holds it, in the folder that the control plane's `--client-secrets` names; a line break at its end is left
    /// out.
    pub file: Option<String>,
    /// Variable of the control plane's environment that holds it; its name begins with `DOORWARD_SECRET_`.
    pub env: Option<String>,
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

/// A key of a Kubernetes secret in the namespace of the document.
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
    /// Top-level claim that holds the chain of actors, an object with a `sub` (RFC 8693). Default `act`. A token in which it
    /// is text, such as `azp` or `client_id`, is refused.
    pub actor: Option<String>,
    /// Top-level claim that holds scopes, as text with blanks between them or as a list. Default `scope`.
    pub scope: Option<String>,
    /// Scopes with this prefix, in this case, narrow the user's roles to those named; a token with a scope that only looks
    /// like one is refused. Absent: scopes do not narrow.
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
