//! Scopes that narrow the user's roles.

use super::{is_exact, json::Json, jws::invalid, limits::MAX_VALUES};
use crate::{
    Name,
    bundle::Delegation,
    code::{Code, Denial},
};

/// Claims in which scopes are usually sent (RFC 8693 and RFC 9068; Entra and Okta).
const USUAL: [&str; 2] = ["scope", "scp"];

/// Names of the roles that the scopes leave; `None`: they do not narrow.
///
/// A scope that was meant to narrow and is not read as such would leave the caller everything, so whatever looks like one
/// and is not one is refused: another case, a comma where a blank should be, the scope in another claim than the
/// configured.
pub(super) fn roles(delegation: &Delegation, claims: &Json<'_>) -> Result<Option<Vec<Name>>, Denial> {
    let (Some(claim), Some(prefix)) = (&delegation.scope_claim, &delegation.scope_prefix) else { return Ok(None) };
    let lower = prefix.to_lowercase();
    for other in USUAL.into_iter().filter(|other| **other != **claim) {
        if let Some(value) = claims.get(other)
            && texts(value)
                .is_ok_and(|texts| texts.iter().flat_map(|text| pieces(text)).any(|part| looks(part, &lower)))
        {
            return Err(refused(format!(
                "The token names roles ({prefix}…) in '{other}', and its identity provider says to look in '{claim}' \
                 (delegation.scope)."
            )));
        }
    }
    let Some(scopes) = claims.get(claim) else { return Ok(None) };
    let mut names = Vec::new();
    // Items of a list are split as well: nobody can tell a role from two by a blank in its name.
    for scope in texts(scopes)?.into_iter().flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()) {
        let sound = |role: &&str| !role.is_empty() && is_exact(role) && pieces(scope).count() == 1;
        let role = scope.strip_prefix(&**prefix).filter(sound);
        match role {
            Some(_) if names.len() >= MAX_VALUES => return Err(invalid("The token holds more than 512 scopes.")),
            Some(role) => names.push(Name::from(role)),
            None if pieces(scope).any(|part| looks(part, &lower)) => {
                return Err(refused(format!(
                    "A scope of the token looks like one that names a role and is not: write {prefix}NAME in this case, \
                     one scope from the next by a blank, or as items of a list."
                )));
            }
            None => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok((!names.is_empty()).then_some(names))
}

fn texts<'j>(scopes: &'j Json<'_>) -> Result<Vec<&'j str>, Denial> {
    match scopes {
        Json::Null => Ok(Vec::new()),
        Json::String(text) => Ok(vec![text]),
        Json::Array(items) => {
            items.iter().map(|item| item.as_str().ok_or_else(|| invalid("The token's scopes are not text."))).collect()
        }
        _ => Err(invalid("The token's scopes are neither text nor a list.")),
    }
}

/// What somebody may have meant as several scopes.
fn pieces(scope: &str) -> impl Iterator<Item = &str> {
    let between =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '|' | '+' | '"' | '\'' | '[' | ']');
    scope.split(between).filter(|piece| !piece.is_empty())
}

fn looks(piece: &str, lower: &str) -> bool {
    piece.to_lowercase().starts_with(lower)
}

fn refused(detail: String) -> Denial {
    Denial::new(Code::DelegationDenied, detail)
}
