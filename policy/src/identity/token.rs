//! A token → a verified principal: every check, in the order of the policy model.

use super::{
    Principal, TokenInfo, claims, demands,
    json::Json,
    jws::{Compact, invalid},
    overage, signature,
    steps::{Silent, Steps, tell},
};
use crate::{
    Name,
    bundle::{Provider, Tables},
    code::{Code, Denial},
    host::Host,
};

/// A verified token.
pub(super) struct Verified {
    pub(super) principal: Principal,
    /// Unix seconds from which it is refused; clock skew is in it.
    pub(super) valid_until: i64,
}

#[inline(never)]
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
    let json = payload(&compact)?;
    let provider = chosen(tables, &json)?;
    *seen = Some(provider.name.clone());
    let verified = against(tables, host, now, provider, &compact, &json, sha256, &mut Silent)?;
    // With nobody listening, a denial has ended the checks before this.
    verified.ok_or_else(|| invalid("The token could not be verified."))
}

/// The claims of a token that is not verified yet.
#[inline(never)]
pub(super) fn payload<'c>(compact: &'c Compact<'_>) -> Result<Json<'c>, Denial> {
    Json::parse(&compact.payload)
        .filter(|json| matches!(json, Json::Object(_)))
        .ok_or_else(|| invalid("The token's payload is not a JSON object with unique names."))
}

/// The provider that the token claims to come from: by `iss`, and by the trust domain of `sub` where there is no `iss`
/// (a JWT-SVID need not have one). Either way only that provider's keys can verify it.
#[inline(never)]
pub(super) fn chosen<'t>(tables: &'t Tables, claims: &Json<'_>) -> Result<&'t Provider, Denial> {
    let unknown = || invalid("The token's issuer is not one of the configured identity providers.");
    if let Some(issuer) = claims.get("iss") {
        return issuer.as_str().and_then(|issuer| tables.provider(issuer)).ok_or_else(unknown);
    }
    let domain = claims.get("sub").and_then(Json::as_str).and_then(demands::trust_domain).ok_or_else(unknown)?;
    tables
        .provider(&format!("spiffe://{domain}"))
        .filter(|provider| provider.trust_domain.is_some())
        .ok_or_else(unknown)
}

/// Why a provider is not asked.
pub(super) fn of_another(chosen: &Provider) -> Denial {
    Denial::new(Code::CredentialInvalid, format!("The token's issuer is that of the provider '{}'.", chosen.name))
}

/// Every check of one token against one provider. `None` only where `steps` went on after a denial.
#[allow(clippy::too_many_arguments, reason = "what a check needs, from two callers")]
pub(super) fn against<S: Steps>(
    tables: &Tables,
    host: &dyn Host,
    now: i64,
    provider: &Provider,
    compact: &Compact<'_>,
    claims: &Json<'_>,
    sha256: Name,
    steps: &mut S,
) -> Result<Option<Verified>, Denial> {
    let typ = demands::token_type(provider, compact.typ.as_deref());
    tell(steps, "type", typ, |()| format!("Its type is {}.", compact.typ.as_deref().unwrap_or("not told")))?;
    let algorithm = compact.algorithm(&provider.algorithms);
    let algorithm =
        tell(steps, "algorithm", algorithm, |name| format!("{} is allowed.", signature::algorithm_name(*name)))?;
    if let Some(algorithm) = algorithm {
        let key = compact.key(algorithm, &provider.keys);
        let key = tell(steps, "key", key, |key| match &key.kid {
            Some(kid) => format!("The key \"{kid}\" fits."),
            None => "The provider's one key fits.".to_owned(),
        })?;
        if let Some(key) = key {
            tell(steps, "signature", compact.check(algorithm, key, host), |()| "It verifies.".to_owned())?;
        }
    }
    let times = times(provider, now, claims, steps)?;
    tell(steps, "audience", demands::audience(provider, claims), |()| {
        if provider.any_audience { "None is demanded." } else { "It names this API." }.to_owned()
    })?;
    if provider.trust_domain.is_some() {
        let subject = demands::subject(provider, claims);
        tell(steps, "subject", subject, |()| "It is a workload of the trust domain.".to_owned())?;
    }
    tell(steps, "required", demands::required(provider, claims), |()| {
        match provider.required_claims.len().saturating_add(provider.required.len()) {
            0 => "No claims are demanded.".to_owned(),
            count => format!("All {count} demands on claims are met."),
        }
    })?;
    tell(steps, "binding", unbound(claims), |()| "It is a bearer token.".to_owned())?;
    tell(steps, "overage", overage::check(tables, provider, claims), |()| "No claim is elsewhere or cut.".to_owned())?;
    let principal = principal(tables, provider, claims);
    let principal = tell(steps, "claims", principal, |principal| {
        format!("The user is {}.", principal.user.as_deref().unwrap_or("not told"))
    })?;
    let (Some(mut principal), Some((issued_at, expires_at))) = (principal, times) else { return Ok(None) };
    if let Some(token) = &mut principal.token {
        (token.sha256, token.issued_at, token.expires_at) = (sha256, issued_at, expires_at);
    }
    Ok(Some(Verified { principal, valid_until: expires_at.saturating_add(provider.clock_skew_seconds.into()) }))
}

/// A bound token without the proof of possession (RFC 7800, 8705, 9449) is one that somebody else may hold.
#[inline(never)]
pub(super) fn unbound(claims: &Json<'_>) -> Result<(), Denial> {
    if claims.get("cnf").is_some() {
        return Err(invalid(
            "The token is bound to a key of its holder (cnf), and proofs of possession are not checked here.",
        ));
    }
    Ok(())
}

/// The principal with a user; the token's hash and times are not in it yet.
#[inline(never)]
pub(super) fn principal(tables: &Tables, provider: &Provider, claims: &Json<'_>) -> Result<Principal, Denial> {
    let mut principal = claims::principal(tables, provider, claims)?;
    if principal.user.is_none() {
        return Err(invalid("The token names no user in the claims that its identity provider is configured with."));
    }
    let text = |name: &str| match claims.get(name) {
        Some(value @ Json::String(_)) => claims::scalar(value),
        None | Some(Json::Null) => Ok(None),
        Some(_) => Err(invalid("The token's jti or acr is not a string.")),
    };
    let methods = match claims.get("amr") {
        Some(Json::Array(items)) => items.iter().take(16).filter_map(Json::as_str).map(Name::from).collect(),
        _ => Vec::new(),
    };
    let (id, context_class) = (text("jti")?, text("acr")?);
    principal.token =
        Some(TokenInfo { id, sha256: Name::default(), issued_at: 0, expires_at: 0, methods, context_class });
    Ok(principal)
}

/// `exp` and `iat` must be there, `nbf` may; (`iat`, `exp`).
fn times<S: Steps>(
    provider: &Provider,
    now: i64,
    claims: &Json<'_>,
    steps: &mut S,
) -> Result<Option<(i64, i64)>, Denial> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_seconds()
            .map(Some)
            .ok_or_else(|| invalid("The token's exp, nbf or iat is not a number of seconds.")),
    };
    let skew = i64::from(provider.clock_skew_seconds);
    let expiry = time("exp").and_then(|at| match at {
        None => Err(invalid("The token does not say when it expires (exp).")),
        Some(at) if now >= at.saturating_add(skew) => Err(expired()),
        Some(at) => Ok(at),
    });
    let expires_at = tell(steps, "expiry", expiry, |at| format!("It expires in {} s.", at.saturating_sub(now)))?;
    let start = time("nbf").and_then(|from| match from {
        Some(from) if from > now.saturating_add(skew) => {
            Err(Denial::new(Code::CredentialExpired, "The token is not valid yet (nbf)."))
        }
        _ => Ok(()),
    });
    tell(steps, "start", start, |()| "It is valid already.".to_owned())?;
    let issue = time("iat").and_then(|at| match at {
        None => Err(invalid("The token does not say when it was issued (iat).")),
        Some(at) if at > now.saturating_add(skew) => {
            Err(invalid("The token was issued in the future (iat). Check the clocks."))
        }
        Some(at) => Ok(at),
    });
    let issued_at = tell(steps, "issue", issue, |at| format!("It was issued {} s ago.", now.saturating_sub(*at)))?;
    // An expired token's lifetime is told as well.
    let (Some(issued_at), Some(end)) = (issued_at, expires_at.or_else(|| time("exp").ok().flatten())) else {
        return Ok(None);
    };
    tell(steps, "lifetime", lifetime(provider, issued_at, end), |age| {
        format!("It lives {age} s, of {} that are allowed.", provider.max_token_age_seconds)
    })?;
    Ok(Some((issued_at, end)))
}

#[inline(never)]
pub(super) fn lifetime(provider: &Provider, issued_at: i64, expires_at: i64) -> Result<i64, Denial> {
    let age = expires_at.saturating_sub(issued_at);
    if age <= 0 {
        return Err(invalid("The token expires before it was issued (exp is not after iat)."));
    }
    if age > i64::from(provider.max_token_age_seconds) {
        return Err(Denial::new(
            Code::CredentialInvalid,
            format!(
                "The token lives for {age} seconds (exp - iat), and its identity provider allows {} (maxTokenAge).",
                provider.max_token_age_seconds
            ),
        ));
    }
    Ok(age)
}
