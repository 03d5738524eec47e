//! Tokens that only their identity provider can read: whose they are, and what its answer (RFC 7662) makes of them.

use super::{
    demands,
    denied::{Denied, fingerprint},
    json::Json,
    jws::invalid,
    overage, token,
};
use crate::{
    Name,
    bundle::{self, Provider, Tables},
    code::{Code, Denial},
};
use std::fmt;

/// Bytes that a token may have at most that a provider is asked about.
pub const MAX_OPAQUE_BYTES: usize = 4096;
/// Bytes that an answer may have at most.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A token that is not active is not asked about again for so long at most.
pub(super) const INACTIVE_SECONDS: i64 = 10;
/// What an answer may call an access token. A provider may answer about refresh and ID tokens as well.
const TYPES: [&str; 4] = ["bearer", "jwt", "at+jwt", "access_token"];
const USES: [&str; 2] = ["access", "access_token"];

/// Digest and epoch of a policy.
pub(super) type PolicyId = ([u8; 32], u64);

/// The question to an identity provider whether a token is good (RFC 7662, section 2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Document name of the provider.
    pub provider: Name,
    /// The token. It goes to the provider and nowhere else.
    pub token: Box<str>,
    /// The policy under which it is asked. What was asked under another is another question.
    pub(super) policy: PolicyId,
}

impl fmt::Debug for Introspection {
    /// Without the token: tokens never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Introspection {
    /// The denial where no answer came.
    #[must_use]
    #[inline(never)]
    pub fn unanswered(&self) -> Denied {
        let detail = "The identity provider could not be asked about the token. Try again later.";
        Denied {
            denial: Denial::new(Code::IdentityUnavailable, detail),
            token_sha256: Some(fingerprint(&self.token)),
            provider: Some(self.provider.clone()),
            key: None,
        }
    }
}

/// Why an answer lets nobody in.
pub(super) enum Refused {
    /// The provider says so.
    Inactive,
    /// The answer cannot be read, or what it says does not suffice.
    Because(Denial),
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Refused::Because(denial)
    }
}

impl From<Refused> for Denial {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Inactive => invalid("The identity provider says that the token is not active. Get a new one."),
            Refused::Because(denial) => denial,
        }
    }
}

/// The provider that has to be asked about a token, and how. `None`: nobody is asked, and the token is verified by keys.
///
/// A token with two dots is taken for a JWT. One is asked about only if its issuer's provider has no keys: what can be
/// verified here is never sent elsewhere. Where the prefixes of several providers fit, nobody is asked.
pub(super) fn whose<'t>(tables: &'t Tables, token: &str) -> Option<(&'t Provider, &'t bundle::Introspection)> {
    let asked = || tables.providers().iter().filter_map(|provider| Some((provider, provider.introspection.as_ref()?)));
    // Most policies have none, and then tokens cost nothing here.
    asked().next()?;
    if is_jwt(token) {
        if !asked().any(|(_, terms)| terms.jwts) {
            return None;
        }
        let compact = super::jws::Compact::parse(token).ok()?;
        let provider = token::chosen(tables, &token::payload(&compact).ok()?).ok()?;
        return provider.introspection.as_ref().filter(|terms| terms.jwts).map(|terms| (provider, terms));
    }
    let mut fitting =
        asked().filter(|(_, terms)| terms.token_prefix.as_ref().is_none_or(|prefix| token.starts_with(&**prefix)));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Refuses what no provider issued as a bearer token (RFC 6750, section 2.1), so that nobody is asked about it.
pub(super) fn sendable(token: &str) -> Result<(), Denial> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.len() > MAX_OPAQUE_BYTES || !token.bytes().all(sound) {
        return Err(invalid("The token is longer than 4 KiB, or has a character that no bearer token has (RFC 6750)."));
    }
    Ok(())
}

/// Holds an answer to everything that is demanded of a token of this provider, revocation by restrictions aside.
pub(super) fn verify(
    tables: &Tables,
    (provider, terms): (&Provider, &bundle::Introspection),
    now: i64,
    token: &str,
    answer: &[u8],
) -> Result<token::Verified, Refused> {
    let unreadable = || {
        let detail = "The identity provider's answer about the token could not be read. Try again later.";
        Denial::new(Code::IdentityUnavailable, detail)
    };
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(unreadable().into());
    }
    let claims = Json::parse(answer).filter(|json| matches!(json, Json::Object(_))).ok_or_else(unreadable)?;
    match claims.get("active") {
        Some(Json::Bool(true)) => {}
        Some(Json::Bool(false)) => return Err(Refused::Inactive),
        _ => return Err(unreadable().into()),
    }
    issuer(provider, &claims)?;
    kind(&claims)?;
    if is_jwt(token) {
        demands::token_type(provider, super::jws::Compact::parse(token)?.typ.as_deref())?;
    }
    let (issued_at, expires_at) = times(provider, terms, now, &claims)?;
    demands::audience(provider, &claims)?;
    if provider.trust_domain.is_some() {
        demands::subject(provider, &claims)?;
    }
    demands::required(provider, &claims)?;
    token::unbound(&claims)?;
    overage::check(tables, provider, &claims)?;
    let mut principal = token::principal(tables, provider, &claims)?;
    let valid_until = expires_at.map_or(i64::MAX, |at| at.saturating_add(provider.clock_skew_seconds.into()));
    let sha256 = fingerprint(token);
    if let Some(token) = &mut principal.token {
        token.sha256 = sha256;
        // Issued at nobody knows when: every restriction on tokens that were issued before a time holds.
        token.issued_at = issued_at.unwrap_or(0);
        token.expires_at = expires_at.unwrap_or(0);
    }
    Ok(token::Verified { principal, valid_until })
}

/// `iss` need not be there (RFC 7662, section 2.2) where the provider has one issuer. Where it is, it is the provider's.
fn issuer(provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    let own =
        |issuer: &str| *issuer == *provider.issuer || provider.more_issuers.iter().any(|other| **other == *issuer);
    match claims.get("iss") {
        None if provider.more_issuers.is_empty() => Ok(()),
        None => Err(invalid("The identity provider does not say which of its issuers (iss) the token is of.")),
        Some(issuer) if issuer.as_str().is_some_and(own) => Ok(()),
        Some(_) => Err(invalid("The identity provider answered about a token of another issuer.")),
    }
}

/// Where the answer says what the token is for, it is an access token that its bearer may use.
fn kind(claims: &Json<'_>) -> Result<(), Denial> {
    let fits = |name: &str, known: &[&str]| {
        claims.get(name).is_none_or(|value| {
            value.as_str().is_some_and(|text| known.iter().any(|known| text.eq_ignore_ascii_case(known)))
        })
    };
    if fits("token_type", &TYPES) && fits("typ", &TYPES) && fits("token_use", &USES) {
        return Ok(());
    }
    Err(invalid("The identity provider says that the token is no bearer token for APIs."))
}

/// `iat` and `exp`. Neither need be there, unless an age is demanded: that the token is active now, the provider has said.
fn times(
    provider: &Provider,
    terms: &bundle::Introspection,
    now: i64,
    claims: &Json<'_>,
) -> Result<(Option<i64>, Option<i64>), Denial> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_seconds()
            .map(Some)
            .ok_or_else(|| invalid("The token's exp, nbf or iat is not a number of seconds.")),
    };
    let skew = i64::from(provider.clock_skew_seconds);
    let (issued_at, starts_at, expires_at) = (time("iat")?, time("nbf")?, time("exp")?);
    if expires_at.is_some_and(|at| now >= at.saturating_add(skew)) {
        return Err(token::expired());
    }
    if starts_at.is_some_and(|at| at > now.saturating_add(skew)) {
        return Err(Denial::new(Code::CredentialExpired, "The token is not valid yet (nbf)."));
    }
    if issued_at.is_some_and(|at| at > now.saturating_add(skew)) {
        return Err(invalid("The token was issued in the future (iat). Check the clocks."));
    }
    match (issued_at, expires_at) {
        (Some(from), Some(until)) => {
            token::lifetime(provider, from, until)?;
        }
        _ if terms.demands_age => {
            return Err(invalid(
                "The identity provider does not say when the token was issued and when it expires (iat, exp), and a greatest \
                 age is demanded (maxTokenAge).",
            ));
        }
        _ => {}
    }
    Ok((issued_at, expires_at))
}
