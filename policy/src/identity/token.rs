//! A token → a verified principal: every check, in the order of the policy model.

use super::{
    Principal, TokenInfo, claims,
    json::Json,
    jws::{Compact, invalid},
};
use crate::{
    Name,
    bundle::{Provider, Tables},
    code::{Code, Denial},
    host::Host,
};

/// `typ` values of tokens that are meant for APIs (RFC 7519, 9068). Others, such as `logout+jwt`, are for other uses
/// of the same keys (RFC 8725 section 3.11).
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// A verified token.
pub(super) struct Verified {
    pub(super) principal: Principal,
    /// Unix seconds from which it is refused; clock skew is in it.
    pub(super) valid_until: i64,
}

pub(super) fn expired() -> Denial {
    Denial::new(Code::CredentialExpired, "The token has expired. Get a new one.")
}

/// Verifies everything but revocation. `seen` is told the provider as soon as it is known, for the record.
pub(super) fn verify(
    tables: &Tables,
    host: &dyn Host,
    now: i64,
    token: &str,
    sha256: Name,
    seen: &mut Option<Name>,
) -> Result<Verified, Denial> {
    let compact = Compact::parse(token)?;
    if let Some(typ) = &compact.typ
        && !TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known))
    {
        return Err(invalid("The token's type (typ) is not that of a token for APIs."));
    }
    let malformed = || invalid("The token's payload is not a JSON object with unique names.");
    let json = Json::parse(&compact.payload).ok_or_else(malformed)?;
    let Json::Object(_) = json else { return Err(malformed()) };
    let provider = json
        .get("iss")
        .and_then(Json::as_str)
        .and_then(|issuer| tables.provider(issuer))
        .ok_or_else(|| invalid("The token's issuer is not one of the configured identity providers."))?;
    *seen = Some(provider.name.clone());
    compact.check_signature(&provider.algorithms, &provider.keys, host)?;
    let (issued_at, expires_at) = times(provider, now, &json)?;
    audience(provider, &json)?;
    for name in &provider.required_claims {
        let absent = match json.get(name) {
            None | Some(Json::Null) => true,
            Some(Json::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        if absent {
            return Err(Denial::new(
                Code::CredentialInvalid,
                format!("The token lacks the claim '{name}', which its identity provider must set."),
            ));
        }
    }
    // A bound token without the proof of possession (RFC 7800, 8705, 9449) is one that somebody else may hold.
    if json.get("cnf").is_some() {
        return Err(invalid(
            "The token is bound to a key of its holder (cnf), and proofs of possession are not checked here.",
        ));
    }
    let mut principal = claims::principal(tables, provider, &json)?;
    if principal.user.is_none() {
        return Err(invalid("The token names no user in the claims that its identity provider is configured with."));
    }
    let text = |name: &str| match json.get(name) {
        Some(value @ Json::String(_)) => claims::scalar(value),
        None | Some(Json::Null) => Ok(None),
        Some(_) => Err(invalid("The token's jti or acr is not a string.")),
    };
    let methods = match json.get("amr") {
        Some(Json::Array(items)) => items.iter().take(16).filter_map(Json::as_str).map(Name::from).collect(),
        _ => Vec::new(),
    };
    principal.token =
        Some(TokenInfo { id: text("jti")?, sha256, issued_at, expires_at, methods, context_class: text("acr")? });
    Ok(Verified { principal, valid_until: expires_at.saturating_add(provider.clock_skew_seconds.into()) })
}

/// `exp` and `iat` must be there, `nbf` may; (`iat`, `exp`).
fn times(provider: &Provider, now: i64, claims: &Json<'_>) -> Result<(i64, i64), Denial> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_seconds()
            .map(Some)
            .ok_or_else(|| invalid("The token's exp, nbf or iat is not a number of seconds.")),
    };
    let skew = i64::from(provider.clock_skew_seconds);
    let expires_at = time("exp")?.ok_or_else(|| invalid("The token does not say when it expires (exp)."))?;
    if now >= expires_at.saturating_add(skew) {
        return Err(expired());
    }
    if time("nbf")?.is_some_and(|from| from > now.saturating_add(skew)) {
        return Err(Denial::new(Code::CredentialExpired, "The token is not valid yet (nbf)."));
    }
    let issued_at = time("iat")?.ok_or_else(|| invalid("The token does not say when it was issued (iat)."))?;
    if issued_at > now.saturating_add(skew) {
        return Err(invalid("The token was issued in the future (iat). Check the clocks."));
    }
    let age = expires_at.saturating_sub(issued_at);
    if age <= 0 || age > i64::from(provider.max_token_age_seconds) {
        return Err(invalid("The token lives longer than its identity provider is configured for (exp - iat)."));
    }
    Ok((issued_at, expires_at))
}

fn audience(provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    let ours = |audience: &str| provider.audiences.iter().any(|known| **known == *audience);
    let named = match claims.get("aud") {
        Some(Json::String(audience)) => ours(audience),
        Some(Json::Array(items)) if items.iter().all(|item| item.as_str().is_some()) => {
            items.iter().filter_map(Json::as_str).any(ours)
        }
        _ => false,
    };
    if named { Ok(()) } else { Err(invalid("The token is not meant for this API (aud).")) }
}
