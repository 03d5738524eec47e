//! What a provider demands of its tokens beyond signature and times: type, audience, subject, claims.

use super::{claims::scalar, json::Json, jws::invalid, mesh::is_spiffe_id};
use crate::{
    bundle::{Provider, RequiredClaim},
    code::{Code, Denial},
};

/// `typ` values of tokens that are meant for APIs (RFC 7519, 9068). Others, such as `logout+jwt`, are for other uses
/// of the same keys (RFC 8725 section 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];
/// Stands in the list of types for a token that names none.
const NO_TYPE: &str = "none";

/// The header's `typ`. The prefix `application/` is left out of account where no other slash follows (RFC 7515 section
/// 4.1.9), and so is case.
pub(super) fn token_type(provider: &Provider, typ: Option<&str>) -> Result<(), Denial> {
    let Some(typ) = typ else {
        if provider.token_types.is_empty() || provider.token_types.iter().any(|known| **known == *NO_TYPE) {
            return Ok(());
        }
        return Err(invalid("The token names no type (typ), and its identity provider demands one (tokenTypes)."));
    };
    let bare = match typ.split_once('/') {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application") && !rest.contains('/') => rest,
        _ => typ,
    };
    if provider.token_types.is_empty() {
        return if TYPES.iter().any(|known| bare.eq_ignore_ascii_case(known)) {
            Ok(())
        } else {
            Err(invalid("The token's type (typ) is not that of a token for APIs."))
        };
    }
    if provider.token_types.iter().any(|known| **known != *NO_TYPE && bare.eq_ignore_ascii_case(known)) {
        Ok(())
    } else {
        Err(invalid(
            "The token's type (typ) is none of those that its identity provider is configured with (tokenTypes).",
        ))
    }
}

/// One of the provider's audiences, in the first of the audience claims that the token has.
#[inline(never)]
pub(super) fn audience(provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    if provider.any_audience {
        return Ok(());
    }
    let ours = |audience: &str| provider.audiences.iter().any(|known| **known == *audience);
    let mut names = provider.audience_claims.iter().map(|name| &**name);
    let found = if provider.audience_claims.is_empty() {
        claims.get("aud").filter(|value| **value != Json::Null)
    } else {
        names.find_map(|name| claims.get(name).filter(|value| **value != Json::Null))
    };
    let named = match found {
        Some(Json::String(audience)) => ours(audience),
        Some(Json::Array(items)) if items.iter().all(|item| item.as_str().is_some()) => {
            items.iter().filter_map(Json::as_str).any(ours)
        }
        Some(_) => false,
        None => {
            return Err(invalid(
                "The token is not meant for this API: it has no audience (aud, or the provider's audienceClaim).",
            ));
        }
    };
    if named {
        Ok(())
    } else {
        Err(invalid("The token is not meant for this API: its audience is none of its identity provider's audiences."))
    }
}

/// A SPIFFE ID of the provider's trust domain, where it has one. The domain may have chosen the provider, so it is checked
/// against the provider whose keys were used.
#[inline(never)]
pub(super) fn subject(provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    let Some(domain) = &provider.trust_domain else { return Ok(()) };
    let sub = claims.get("sub").and_then(Json::as_str).unwrap_or("");
    match trust_domain(sub) {
        Some(own) if *own == **domain => Ok(()),
        _ => Err(invalid("The token's subject (sub) is no SPIFFE ID of a workload in its provider's trust domain.")),
    }
}

/// The trust domain of a workload's SPIFFE ID.
pub(super) fn trust_domain(id: &str) -> Option<&str> {
    if !is_spiffe_id(id) {
        return None;
    }
    id.strip_prefix("spiffe://")?.split_once('/').map(|(domain, _)| domain)
}

/// Every claim that the provider demands.
#[inline(never)]
pub(super) fn required(provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    let present = |name: &str| match claims.get(name) {
        None | Some(Json::Null) => None,
        Some(Json::String(text)) if text.is_empty() => None,
        value => value,
    };
    for name in &provider.required_claims {
        if present(name).is_none() {
            return Err(lacks(name));
        }
    }
    for each in &provider.required {
        let mut found = each.claims.iter().filter_map(|name| present(name)).peekable();
        if found.peek().is_none() {
            let names: Vec<&str> = each.claims.iter().map(|name| &**name).collect();
            return Err(lacks(&names.join("' or '")));
        }
        if !each.is_presence() && !found.any(|value| allowed(each, value)) {
            let name = each.claims.first().map_or("", |name| &**name);
            return Err(Denial::new(
                Code::CredentialInvalid,
                format!(
                    "The token's claim '{name}' has a value that its identity provider does not allow (requiredClaims)."
                ),
            ));
        }
    }
    Ok(())
}

fn lacks(name: &str) -> Denial {
    Denial::new(
        Code::CredentialInvalid,
        format!("The token lacks the claim '{name}', which its identity provider must set (requiredClaims)."),
    )
}

/// True for an allowed value, and for a list that holds one. Types count: `"true"` is not `true`.
fn allowed(required: &RequiredClaim, value: &Json<'_>) -> bool {
    match value {
        Json::Array(items) => items.iter().any(|item| !matches!(item, Json::Array(_)) && allowed(required, item)),
        Json::Bool(value) => {
            if *value {
                required.yes
            } else {
                required.no
            }
        }
        Json::String(text) => required.texts.iter().any(|allowed| **allowed == **text),
        Json::Number(_) => scalar(value).ok().flatten().is_some_and(|number| required.numbers.contains(&number)),
        Json::Null | Json::Object(_) => false,
    }
}
