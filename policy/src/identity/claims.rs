//! Verified claims → the parts of a principal.

use super::{Agent, Attribute, Principal, is_exact, json::Json, jws::invalid, limits::MAX_VALUES, scopes};
use crate::{
    Name,
    bundle::{ClaimPath, Delegation, Provider, Tables},
    code::{Code, Denial},
};

/// Agents in one delegation chain at most.
const MAX_AGENTS: usize = 8;

/// The value at a path; null and missing are the same.
fn at<'j>(root: &'j Json<'j>, path: &[Name]) -> Option<&'j Json<'j>> {
    path.iter().try_fold(root, |value, segment| value.get(segment)).filter(|value| **value != Json::Null)
}

/// A scalar as a name. `Ok(None)`: empty or null, so missing.
pub(super) fn scalar(value: &Json<'_>) -> Result<Option<Name>, Denial> {
    match value {
        Json::Null => Ok(None),
        Json::Bool(value) => Ok(Some(if *value { "true".into() } else { "false".into() })),
        // Names and attributes are texts, and one number has many with an exponent: 1e2 is not the text 100.
        Json::Number(number) if *number == "-0" || number.contains(['e', 'E']) => {
            Err(invalid("A claim that policy uses is a number with an exponent, or minus zero. Send it as a string."))
        }
        Json::Number(number) => Ok(Some(Name::from(*number))),
        Json::String(text) if text.is_empty() => Ok(None),
        // Such a value would be another one where it arrives.
        Json::String(text) if !is_exact(text) => Err(invalid(
            "A claim that policy uses begins or ends with white space, or has control or invisible characters. Names are \
            compared and sent exactly: correct it at the identity provider.",
        )),
        Json::String(text) => Ok(Some(Name::from(&**text))),
        Json::Array(_) | Json::Object(_) => Err(invalid("A claim that policy uses is not a single value.")),
    }
}

/// The first present path as a single value; a list of one counts as that one.
fn single(root: &Json<'_>, paths: &[ClaimPath]) -> Result<Option<Name>, Denial> {
    for path in paths {
        let value = match at(root, path) {
            Some(Json::Array(items)) => match items.as_slice() {
                [] => None,
                [one] => scalar(one)?,
                _ => return Err(invalid("The claim for the user or the tenant holds several values.")),
            },
            Some(value) => scalar(value)?,
            None => None,
        };
        if value.is_some() {
            return Ok(value);
        }
    }
    Ok(None)
}

/// A scalar or a list of scalars, appended to `into`.
fn several(value: &Json<'_>, into: &mut Vec<Name>) -> Result<(), Denial> {
    let one = std::slice::from_ref(value);
    let items = if let Json::Array(items) = value { items.as_slice() } else { one };
    for item in items {
        if let Some(name) = scalar(item)? {
            if into.len() >= MAX_VALUES {
                return Err(invalid("The token holds more than 512 groups or values of one claim."));
            }
            into.push(name);
        }
    }
    Ok(())
}

/// Everything of the principal that claims say, the token's own facts and revocation aside.
pub(super) fn principal(tables: &Tables, provider: &Provider, claims: &Json<'_>) -> Result<Principal, Denial> {
    let mut principal = Principal {
        user: single(claims, &provider.user_claims)?,
        provider: Some(provider.name.clone()),
        tenant: single(claims, &provider.tenant_claims)?,
        ..Principal::default()
    };

    let mut groups = Vec::new();
    for value in provider.group_claims.iter().filter_map(|path| at(claims, path)) {
        several(value, &mut groups)?;
    }
    // Who may name groups at the identity provider may not thereby name roles.
    groups.retain(|group| !group.starts_with("role:"));
    let mut roles = Vec::new();
    for value in provider.role_claims.iter().filter_map(|path| at(claims, path)) {
        several(value, &mut roles)?;
    }
    groups.extend(roles.iter().map(|role| Name::from(format!("role:{role}"))));
    groups.sort_unstable();
    groups.dedup();
    principal.groups = groups;

    for attribute in &provider.attributes {
        let Some(value) = attribute.claims.iter().find_map(|path| at(claims, path)) else { continue };
        let value = match value {
            Json::Array(_) => {
                let mut values = Vec::new();
                several(value, &mut values)?;
                Some(Attribute::Many(values))
            }
            Json::Object(_) => None,
            value => scalar(value)?.map(Attribute::One),
        };
        principal.attributes.extend(value.map(|value| (attribute.name.clone(), value)));
    }
    principal.attributes.sort_by(|a, b| a.0.cmp(&b.0));

    for (index, path) in (0u32..).zip(tables.claim_paths()) {
        if let Some(value) = at(claims, path).filter(|value| !matches!(value, Json::Object(_))) {
            let mut values = Vec::new();
            match several(value, &mut values) {
                Ok(()) => principal.claims.extend(values.into_iter().map(|value| (index, value))),
                // Whom a restriction means must be known. A binding just does not match.
                Err(denial) if tables.restricted().looks_at(index) => return Err(denial),
                Err(_) => {}
            }
        }
    }

    delegation(provider, claims, &mut principal)?;
    Ok(principal)
}

fn refused(detail: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
    Denial::new(Code::DelegationDenied, detail)
}

/// RFC 8693: the `act` chain, and the scopes that narrow the roles.
fn delegation(provider: &Provider, claims: &Json<'_>, principal: &mut Principal) -> Result<(), Denial> {
    let none = Delegation { actor_claim: None, scope_claim: None, scope_prefix: None };
    let delegation = provider.delegation.as_ref().unwrap_or(&none);
    let actor = match &delegation.actor_claim {
        // The standard's own claim counts whatever else was configured: it says that the bearer is not the person.
        Some(claim) if &**claim != "act" && claims.get("act").is_some() => {
            return Err(refused(
                "The token names its actor in `act`, and its identity provider says to look elsewhere.",
            ));
        }
        Some(claim) => claims.get(claim),
        // Ignoring the actor would give an agent all the rights of the person.
        None if claims.get("act").is_some() => {
            return Err(refused(
                "The token acts for someone, and its identity provider is not configured for delegation.",
            ));
        }
        None => None,
    };
    let mut next = actor.filter(|actor| **actor != Json::Null);
    if let (Some(claim), Some(actor)) = (&delegation.actor_claim, next)
        && !matches!(actor, Json::Object(_))
    {
        return Err(refused(format!(
            "The token's claim '{claim}' is no object with a sub (RFC 8693), and its identity provider says that it holds \
             the actor (delegation.actor)."
        )));
    }
    while let Some(actor) = next {
        if principal.agents.len() >= MAX_AGENTS {
            return Err(refused("The token's delegation chain is longer than 8 agents."));
        }
        if let Some(issuer) = actor.get("iss") {
            let known = issuer.as_str().is_some_and(|issuer| {
                let own = *issuer == *provider.issuer || provider.more_issuers.iter().any(|own| **own == *issuer);
                own || provider.agent_issuers.iter().any(|known| **known == *issuer)
            });
            if !known {
                return Err(refused(
                    "An agent in the token's delegation chain comes from an issuer that is not trusted for agents.",
                ));
            }
        }
        let name = match actor.get("sub") {
            Some(Json::String(text)) => scalar(&Json::String(text.clone()))?,
            _ => None,
        };
        let name = name.ok_or_else(|| refused("An agent in the token's delegation chain has no name (sub)."))?;
        principal.agents.push(Agent { name });
        // The standard's member name, whatever the top-level claim is called.
        next = actor.get("act").filter(|inner| **inner != Json::Null);
    }
    principal.delegated_roles = scopes::roles(delegation, claims)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_claims_become_exactly_the_text_that_was_written() {
        for text in ["0", "-7", "18446744073709551616", "9007199254740993", "0.10", "123456789012345678901234567890.5"]
        {
            assert_eq!(scalar(&Json::Number(text)).ok().flatten().as_deref(), Some(text));
        }
        for text in ["-0", "1e2", "1E5", "1e-400", "1.0e+1"] {
            assert!(scalar(&Json::Number(text)).is_err(), "{text}");
        }
    }
}
