//! Claims that a token says are somewhere else, or cut.
//!
//! A group that was moved out of the token is one that a restriction does not see. So where a claim that policy looks at is
//! known not to be all there, the token is refused.

use super::json::Json;
use crate::{
    Name,
    bundle::{ClaimPath, Provider, Tables},
    code::{Code, Denial},
};

/// Claims that are looked at whatever the provider says.
const ALWAYS: [&str; 7] = ["iss", "sub", "aud", "act", "cnf", "jti", "acr"];

/// Refuses a token that says of a claim which policy looks at that it is elsewhere or cut.
///
/// Known ways: `_claim_names` (OpenID Connect Core 5.6.2, which Entra uses for groups beyond 200), at the top or in an
/// object on the way of a nested path; Entra's `hasgroups` and `groups:src1`; selective disclosure (`_sd`).
#[inline(never)]
pub(super) fn check(tables: &Tables, provider: &Provider, claims: &Json<'_>) -> Result<(), Denial> {
    let Json::Object(members) = claims else { return Ok(()) };
    if set(claims, "_sd") {
        return Err(refused("The token hides claims behind digests (_sd), so it cannot be seen what it leaves out."));
    }
    if set(claims, "_claim_sources") && !set(claims, "_claim_names") {
        return Err(unreadable());
    }
    for name in moved(claims)? {
        if ALWAYS.contains(&name) {
            return Err(elsewhere(name));
        }
    }
    let groups = !provider.group_claims.is_empty() || !provider.role_claims.is_empty();
    if set(claims, "hasgroups") && (groups || mapped(tables, provider).any(|path| first(path) == "groups")) {
        return Err(refused(
            "The token leaves the person's groups out (hasgroups), because they are too many for it. Let the identity \
             provider send fewer, for instance only those assigned to the application.",
        ));
    }
    // `NAME:src1`
    let sources = members.iter().filter_map(|(key, _)| key.rsplit_once(":src"));
    for (name, number) in sources {
        let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if numbered && let Some(path) = mapped(tables, provider).find(|path| first(path) == name) {
            return Err(elsewhere(first(path)));
        }
    }
    for path in mapped(tables, provider) {
        let mut at = claims;
        for segment in path {
            if moved(at)?.any(|name| name == &**segment) {
                return Err(elsewhere(segment));
            }
            if set(at, "_sd") {
                return Err(refused(
                    "The token hides parts of a claim behind digests (_sd), so it cannot be seen what it leaves out.",
                ));
            }
            match at.get(segment) {
                Some(below) => at = below,
                None => break,
            }
        }
    }
    Ok(())
}

/// Every claim that the provider, or a subject in the policy, looks at.
fn mapped<'p>(tables: &'p Tables, provider: &'p Provider) -> impl Iterator<Item = &'p [Name]> {
    let paths = [&provider.user_claims, &provider.role_claims, &provider.group_claims, &provider.tenant_claims];
    let attributes = provider.attributes.iter().flat_map(|attribute| &attribute.claims);
    let paths = paths.into_iter().flatten().chain(attributes).chain(tables.claim_paths()).map(ClaimPath::as_slice);
    let delegation = provider.delegation.iter().flat_map(|each| each.actor_claim.iter().chain(&each.scope_claim));
    let names = provider.audience_claims.iter().chain(&provider.required_claims).chain(delegation);
    let names = names.chain(provider.required.iter().flat_map(|each| &each.claims));
    paths.chain(names.map(std::slice::from_ref))
}

fn first(path: &[Name]) -> &str {
    path.first().map_or("", |segment| &**segment)
}

/// True if the member is there and says something.
fn set(object: &Json<'_>, name: &str) -> bool {
    !matches!(object.get(name), None | Some(Json::Null | Json::Bool(false)))
}

/// The names in an object's `_claim_names`.
fn moved<'j>(object: &'j Json<'_>) -> Result<impl Iterator<Item = &'j str>, Denial> {
    let names = match object.get("_claim_names") {
        None | Some(Json::Null) => &[][..],
        Some(Json::Object(names)) => names.as_slice(),
        Some(_) => return Err(unreadable()),
    };
    Ok(names.iter().map(|(name, _)| &**name))
}

fn refused(detail: &'static str) -> Denial {
    Denial::new(Code::CredentialInvalid, detail)
}

fn unreadable() -> Denial {
    refused("The token says that claims are elsewhere (_claim_names, _claim_sources), and not understandably which.")
}

/// `name` is one that the policy knows, so it can be told.
fn elsewhere(name: &str) -> Denial {
    Denial::new(
        Code::CredentialInvalid,
        format!(
            "The claim '{name}' is not in the token: its identity provider keeps it elsewhere (_claim_names), as Entra \
             does for the groups of a person who is in many. Let the provider send fewer, for instance only those assigned \
             to the application."
        ),
    )
}
