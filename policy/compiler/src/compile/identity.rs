//! `IdentityProvider` → `Provider`.

use super::{
    context::Context,
    introspection,
    issuers::{self, TENANT},
    jwk::Jwk,
    out::Out,
};
use crate::document::{
    IdentityProvider, Kind,
    common::{ClaimPath, OneOrMany, Scalar},
    identity_provider::{Audiences, Preset, RequiredClaim},
};
use doorward_proto::v1;

const DEFAULT_AGE: u64 = 3_600_000;
const DEFAULT_SKEW: u64 = 30_000;
const MAX_SKEW: u64 = 600_000;
const MAX_KEPT: u64 = 30 * 86_400_000;
/// Claims that are text wherever they are known, so never an actor.
const TEXT_CLAIMS: [&str; 9] =
    ["azp", "appid", "cid", "client_id", "sub", "username", "preferred_username", "email", "oid"];
/// Claims that say whose workflow of GitHub a token is of.
const GITHUB_OWNERS: [&str; 7] =
    ["repository", "repository_id", "repository_owner", "repository_owner_id", "enterprise", "enterprise_id", "sub"];

pub(super) fn provider(
    context: &Context<'_>,
    out: &mut Out<'_>,
    spec: &IdentityProvider,
    keys: &[Jwk],
) -> v1::Provider {
    let issuers = check_issuers(context, out, spec);
    check_audience(out, spec);
    check_demands(out, spec);
    if spec.algorithms.is_empty() && !spec.is_keyless() {
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
    if spec.jwks.as_ref().and_then(|jwks| jwks.keep_last_good.as_ref()).is_some_and(|kept| kept.0 > MAX_KEPT) {
        out.error(
            "invalid_value",
            "spec.jwks.keepLastGood",
            "keys that were withdrawn would live on for more than 30d",
        );
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
        name: out.name(format!("spec.claims.attributes.{name}"), name),
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
    let audiences = match &spec.audiences {
        Some(Audiences::Of(list)) => list.as_slice(),
        Some(Audiences::Any) | None => &[],
    };
    let types: Vec<String> = spec.token_types.iter().flatten().map(|typ| bare_type(typ)).collect();
    let audience_claims = spec.audience_claim.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let (presence, required): (Vec<&RequiredClaim>, Vec<&RequiredClaim>) =
        spec.required_claims.0.iter().partition(|demand| demand.values.is_empty() && demand.names.len() == 1);
    v1::Provider {
        name: out.s(&out.document.name.clone()),
        issuer: out.name("spec.issuer", issuers.first().map_or("", String::as_str)),
        audiences: out.names("spec.audiences", audiences.iter().map(String::as_str)),
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
        required_claims: out
            .names("spec.requiredClaims", presence.iter().flat_map(|demand| &demand.names).map(String::as_str)),
        agent_issuers: Vec::new(),
        more_issuers: out.names("spec.issuer", issuers.iter().skip(1).map(String::as_str)),
        trust_domain: out.optional(spec.trust_domain.as_deref()),
        audience_claims: audience_claims.iter().map(|name| out.name("spec.audienceClaim", name)).collect(),
        any_audience: spec.audiences == Some(Audiences::Any),
        token_types: out.names("spec.tokenTypes", types.iter().map(String::as_str)),
        required: demands(out, &required),
        introspection: spec.introspection.as_ref().map(|given| introspection::introspection(context, out, spec, given)),
    }
}

/// In canonical order, whatever the order of the document.
fn demands(out: &mut Out<'_>, required: &[&RequiredClaim]) -> Vec<v1::RequiredClaim> {
    let mut demands: Vec<v1::RequiredClaim> = Vec::new();
    for demand in required {
        let mut wire = v1::RequiredClaim {
            claims: out.names("spec.requiredClaims", demand.names.iter().map(String::as_str)),
            ..v1::RequiredClaim::default()
        };
        for value in &demand.values {
            match value {
                Scalar::Boolean(true) => wire.yes = true,
                Scalar::Boolean(false) => wire.no = true,
                Scalar::Text(text) => wire.texts.push(out.s(text)),
                Scalar::Integer(number) => wire.numbers.push(out.s(&number.to_string())),
                // Refused where documents are read.
                Scalar::Number(_) => {}
            }
        }
        for values in [&mut wire.texts, &mut wire.numbers] {
            values.sort_unstable();
            values.dedup();
        }
        demands.push(wire);
    }
    demands.sort_by_cached_key(prost::Message::encode_to_vec);
    demands.dedup();
    demands
}

/// A `typ` in lower case and without `application/`, where no other slash follows (RFC 7515 section 4.1.9).
fn bare_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => lower,
    }
}

fn check_issuers(context: &Context<'_>, out: &mut Out<'_>, spec: &IdentityProvider) -> Vec<String> {
    const PATH: &str = "spec.issuer";
    let patterns = spec.issuers().iter().any(|issuer| issuer.contains(TENANT));
    if spec.issuers().is_empty() && spec.trust_domain.is_none() {
        out.error("missing_field", PATH, "name the issuer: the exact iss of its tokens");
    }
    if spec.issuers().iter().any(String::is_empty) {
        out.error("invalid_value", PATH, "the issuer is empty");
    }
    if spec.issuers().iter().any(|issuer| issuer.replace(TENANT, "").contains(['{', '}'])) {
        out.error(
            "issuer_pattern",
            PATH,
            "an issuer has no braces; only {tenantid} is known, and stands for each of tenants",
        );
    }
    if patterns && spec.tenants.is_empty() {
        let message = "{tenantid} in an issuer stands for each of tenants, and there are none; name the tenants";
        out.error("issuer_pattern", PATH, message);
    }
    if !patterns && !spec.tenants.is_empty() {
        out.error("issuer_pattern", "spec.tenants", "no issuer has {tenantid}, so the tenants would say nothing");
    }
    let entra = matches!(spec.preset, Some(Preset::Entra | Preset::EntraV1));
    for (at, tenant) in spec.tenants.iter().enumerate() {
        let sound = if entra {
            tenant.len() == 36
                && tenant.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                })
        } else {
            !tenant.is_empty() && tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if !sound {
            let message = if entra {
                "a tenant of Entra is written as its GUID in lower case, as it stands in tokens; common, organizations and \
                 consumers are no tenants, and tokens never come from them"
            } else {
                "a tenant has letters, digits, -, . and _"
            };
            out.error("invalid_value", format!("spec.tenants[{at}]"), message);
        }
    }
    if let Some(domain) = &spec.trust_domain {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(sound) {
            let message = "a trust domain is its bare name: lower-case letters, digits, -, . and _, without spiffe://";
            out.error("invalid_value", "spec.trustDomain", message);
        }
    } else if spec.preset == Some(Preset::Spiffe) {
        out.error("missing_field", "spec.trustDomain", "name the trust domain whose workloads are trusted");
    }
    let issuers = issuers::issuers(spec);
    if issuers.len() > issuers::MAX_ISSUERS {
        out.error(
            "too_many",
            PATH,
            format!("the issuers and tenants stand for more than {} issuers", issuers::MAX_ISSUERS),
        );
        return issuers;
    }
    if !context.checked
        && let Some((name, issuer)) =
            issuers.iter().find_map(|issuer| Some((*context.issuers.get(issuer.as_str())?, issuer)))
    {
        let which = if issuers.len() > 1 { format!(", {issuer}") } else { String::new() };
        out.error("duplicate_issuer", PATH, format!("IdentityProvider \"{name}\" already has this issuer{which}"));
        context.contest(Kind::IdentityProvider, name, &out.document.name);
    }
    issuers
}

fn check_audience(out: &mut Out<'_>, spec: &IdentityProvider) {
    const NONE: &str = "name at least one audience, or tokens meant for others would be accepted";
    match &spec.audiences {
        None => out.error("missing_field", "spec.audiences", format!("{NONE}; the word any alone demands none")),
        Some(Audiences::Any) if spec.audience_claim.is_some() => out.error(
            "audience_conflict",
            "spec.audienceClaim",
            "audiences: any demands no audience, so no claim can hold one; name the audiences or leave this out",
        ),
        Some(Audiences::Any) => {}
        Some(Audiences::Of(list)) => {
            if list.is_empty() || list.iter().any(String::is_empty) {
                out.error("invalid_value", "spec.audiences", NONE);
            }
            if list.iter().any(|audience| audience == "any") {
                let message = "this names an audience called any; to demand none, write audiences: any";
                out.error("invalid_value", "spec.audiences", message);
            }
        }
    }
    if spec
        .audience_claim
        .as_ref()
        .is_some_and(|names| names.as_slice().is_empty() || names.as_slice().iter().any(String::is_empty))
    {
        out.error("invalid_value", "spec.audienceClaim", "name a claim, such as client_id");
    }
}

fn check_demands(out: &mut Out<'_>, spec: &IdentityProvider) {
    if let Some(types) = &spec.token_types {
        let sound = |typ: &String| !typ.is_empty() && typ.bytes().all(|byte| byte.is_ascii_graphic());
        if types.is_empty() || !types.iter().all(sound) {
            let message = "name the types that tokens may have, such as [at+jwt]; none stands for a token without typ";
            out.error("invalid_value", "spec.tokenTypes", message);
        }
    }
    if spec.required_claims.0.iter().any(|demand| demand.names.is_empty() || demand.names.iter().any(String::is_empty))
    {
        out.error(
            "invalid_value",
            "spec.requiredClaims",
            "a claim has a name, and a list within the list at least one",
        );
    }
    if spec.preset == Some(Preset::GithubActions) {
        let owned = |demand: &RequiredClaim| {
            !demand.values.is_empty() && demand.names.iter().any(|name| GITHUB_OWNERS.contains(&name.as_str()))
        };
        if !spec.required_claims.0.iter().any(owned) {
            out.error(
                "shared_issuer",
                "spec.requiredClaims",
                "every repository of GitHub has tokens of this issuer, for any audience it likes; say whose are meant, such as \
                 requiredClaims: {repository_owner_id: \"12345\"}",
            );
        }
    }
    if let Some(delegation) = &spec.delegation {
        if delegation.scope_prefix.as_deref() == Some("") {
            out.error(
                "invalid_value",
                "spec.delegation.scopePrefix",
                "an empty prefix would make a role of every scope",
            );
        }
        // An empty name is none: then scopes would not narrow, and an actor would not be looked for.
        for (path, name) in [("spec.delegation.actor", &delegation.actor), ("spec.delegation.scope", &delegation.scope)]
        {
            if name.as_deref() == Some("") {
                out.error("invalid_value", path, "name a claim, or leave this out");
            }
        }
        if let Some(actor) = delegation.actor.as_deref().filter(|actor| TEXT_CLAIMS.contains(actor)) {
            out.warn(
                "actor_text",
                "spec.delegation.actor",
                format!(
                    "the claim \"{actor}\" is text in the tokens of known providers, and an actor is an object with a sub \
                     (RFC 8693); tokens in which it is text are refused"
                ),
            );
        }
    }
}

fn paths(out: &mut Out<'_>, value: Option<&OneOrMany<ClaimPath>>, path: &str) -> Vec<v1::ClaimPath> {
    let Some(value) = value else { return Vec::new() };
    if value.as_slice().is_empty() {
        out.error("invalid_value", path, "the list of claim paths is empty");
    }
    value.as_slice().iter().map(|claim| out.encode_path(&claim.0)).collect()
}
