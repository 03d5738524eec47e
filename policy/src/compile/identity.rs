//! `IdentityProvider` → `Provider`.

use super::{
    context::{Context, Out},
    jwk::Jwk,
};
use crate::document::{
    IdentityProvider,
    common::{ClaimPath, OneOrMany},
};
use doorward_proto::v1;

const DEFAULT_AGE: u64 = 3_600_000;
const DEFAULT_SKEW: u64 = 30_000;
const MAX_SKEW: u64 = 600_000;

pub(super) fn provider(
    context: &Context<'_>,
    out: &mut Out<'_>,
    spec: &IdentityProvider,
    keys: &[Jwk],
) -> v1::Provider {
    if spec.issuer.is_empty() {
        out.error("invalid_value", "spec.issuer", "the issuer is empty");
    }
    if !context.checked
        && let Some((name, _)) = context.providers.iter().find(|(_, (other, _))| other.issuer == spec.issuer)
    {
        out.error("duplicate_issuer", "spec.issuer", format!("IdentityProvider \"{name}\" already has this issuer"));
    }
    if spec.audiences.is_empty() || spec.audiences.iter().any(String::is_empty) {
        out.error(
            "invalid_value",
            "spec.audiences",
            "name at least one audience, or tokens meant for others would be accepted",
        );
    }
    if spec.algorithms.is_empty() {
        out.error("invalid_value", "spec.algorithms", "name at least one algorithm");
    }
    let symmetric = spec.algorithms.iter().filter(|algorithm| algorithm.is_symmetric()).count();
    if symmetric > 0 && symmetric < spec.algorithms.len() {
        out.error(
            "algorithm_mix",
            "spec.algorithms",
            "HMAC and public-key algorithms cannot be mixed: a public key could be taken for the secret; use two providers",
        );
    }
    let age = spec.max_token_age.as_ref().map_or(DEFAULT_AGE, |age| age.0);
    let skew = spec.clock_skew.as_ref().map_or(DEFAULT_SKEW, |skew| skew.0);
    if skew > MAX_SKEW {
        out.error("invalid_value", "spec.clockSkew", "a clock skew above 10m would keep expired tokens alive");
    }
    if age < 1000 {
        out.error("invalid_value", "spec.maxTokenAge", "the age is less than a second");
    }
    let claims = &spec.claims;
    if claims.attributes.contains_key("name") {
        out.error(
            "attribute_reserved",
            "spec.claims.attributes.name",
            "{user.name} is the user itself; choose another name",
        );
    }
    let user = match &claims.user {
        Some(user) => paths(out, Some(user), "spec.claims.user"),
        None => vec![out.encode_path(&["sub".to_owned()])],
    };
    let attributes = claims.attributes.iter().map(|(name, value)| v1::AttributeClaim {
        name: out.s(name),
        claims: paths(out, Some(value), &format!("spec.claims.attributes.{name}")),
    });
    let attributes = attributes.collect();
    let delegation = spec.delegation.clone().unwrap_or_default();
    let mut algorithms: Vec<i32> =
        spec.algorithms.iter().map(|algorithm| v1::Algorithm::from(*algorithm).into()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let mut keys: Vec<v1::VerificationKey> = keys
        .iter()
        .map(|key| v1::VerificationKey {
            kid: out.optional(key.kid.as_deref()),
            algorithm: key.algorithm.map_or(0, |algorithm| v1::Algorithm::from(algorithm).into()),
            material: Some(key.material.clone()),
        })
        .collect();
    keys.sort_by_cached_key(|key| (key.kid, key.algorithm, prost::Message::encode_to_vec(key)));
    v1::Provider {
        name: out.s(&out.document.name.clone()),
        issuer: out.s(&spec.issuer),
        audiences: out.sorted(spec.audiences.iter().map(String::as_str)),
        algorithms,
        keys,
        max_token_age_seconds: u32::try_from(age / 1000).unwrap_or(u32::MAX),
        clock_skew_seconds: u32::try_from(skew / 1000).unwrap_or(0),
        user_claims: user,
        role_claims: paths(out, claims.roles.as_ref(), "spec.claims.roles"),
        group_claims: paths(out, claims.groups.as_ref(), "spec.claims.groups"),
        tenant_claims: paths(out, claims.tenant.as_ref(), "spec.claims.tenant"),
        attributes,
        delegation: Some(v1::Delegation {
            actor_claim: out.s(delegation.actor.as_deref().unwrap_or("act")),
            scope_claim: out.s(delegation.scope.as_deref().unwrap_or("scope")),
            scope_prefix: out.optional(delegation.scope_prefix.as_deref()),
        }),
        required_claims: out.sorted(spec.required_claims.iter().map(String::as_str)),
        agent_issuers: Vec::new(),
    }
}

fn paths(out: &mut Out<'_>, value: Option<&OneOrMany<ClaimPath>>, path: &str) -> Vec<v1::ClaimPath> {
    let Some(value) = value else { return Vec::new() };
    if value.as_slice().is_empty() {
        out.error("invalid_value", path, "the list of claim paths is empty");
    }
    value.as_slice().iter().map(|claim| out.encode_path(&claim.0)).collect()
}
