//! Restrictions: applied first, and no role outweighs them.

use super::{Question, Tracer, Verdict};
use crate::{
    bundle::{Service, Tables, subjects::Restriction},
    code::{Code, Denial},
    principal::Principal,
};
use doorward_proto::v1::RestrictionEffect;

/// The denial of a principal whose credential was revoked by a restriction.
#[must_use]
pub fn revoked(tables: &Tables, principal: &Principal, now_seconds: i64) -> Option<Denial> {
    let key = principal.key.and_then(|at| tables.keys().get(at)).map(|key| &key.name);
    let matches = tables.restricted().anyone(principal, key);
    let mut restrictions = matches.iter().filter_map(|at| tables.restriction(*at));
    restrictions
        .any(|each| !each.shadow && each.period.holds(now_seconds) && revokes(each, principal))
        .then(revoked_denial)
}

/// The denial that restrictions set on a request of which nothing is known but its service. One that leaves only some
/// verbs open, or caps rows, then denies: what is not understood cannot be seen to keep within it.
#[must_use]
pub(crate) fn restricted(
    tables: &Tables,
    service: &Service,
    principal: &Principal,
    now_seconds: i64,
) -> Option<Denial> {
    let key = principal.key.and_then(|at| tables.keys().get(at)).map(|key| &key.name);
    let matches = tables.restricted().anyone(principal, key);
    matches
        .iter()
        .filter_map(|at| tables.restriction(*at))
        .filter(|each| !each.shadow && each.period.holds(now_seconds) && each.concerns(&service.name))
        .find_map(|each| match denial_before_the_request(each, service, principal) {
            None if !each.verbs.is_empty() || each.max_rows.is_some() => Some(restricted_denial()),
            denial => denial,
        })
}

fn restricted_denial() -> Denial {
    Denial::new(Code::Restricted, "This caller's access is restricted at present.")
}

fn revoked_denial() -> Denial {
    Denial::new(Code::CredentialRevoked, "This credential was revoked: sign in again, or ask for a new one.")
}

/// True if it revokes the principal's credential: all that match, or tokens issued before a time.
fn revokes(restriction: &Restriction, principal: &Principal) -> bool {
    restriction.effect == RestrictionEffect::RestrictRevoke
        && match (restriction.issued_before, &principal.token) {
            (None, _) => true,
            (Some(before), Some(token)) => token.issued_at < before,
            (Some(_), None) => false,
        }
}

/// Why it denies, if it does.
fn denial_of(restriction: &Restriction, question: &Question<'_>) -> Option<Denial> {
    let open = |verb| restriction.verbs.is_empty() || restriction.verbs.contains(verb);
    denial_before_the_request(restriction, question.service, question.principal).or_else(|| {
        let only = restriction.effect == RestrictionEffect::RestrictAllowOnly;
        let closed = only && !question.request.operations.iter().all(|operation| open(&operation.verb));
        closed.then(restricted_denial)
    })
}

/// Why it denies whatever is asked of this service, if it does.
fn denial_before_the_request(restriction: &Restriction, service: &Service, principal: &Principal) -> Option<Denial> {
    let named = restriction.services.contains(&service.name);
    let denied = match restriction.effect {
        RestrictionEffect::RestrictRevoke => return revokes(restriction, principal).then(revoked_denial),
        RestrictionEffect::RestrictDeny => named || restriction.services.is_empty(),
        RestrictionEffect::RestrictAllowOnly => {
            // One that names nothing leaves nothing open.
            let nothing =
                restriction.services.is_empty() && restriction.verbs.is_empty() && restriction.max_rows.is_none();
            nothing || !restriction.services.is_empty() && !named
        }
        RestrictionEffect::Unspecified => true,
    };
    denied.then(restricted_denial)
}

impl Question<'_> {
    /// The row cap that restrictions set, unless one denies.
    pub(super) fn restricted(&self, tracer: &mut Tracer<'_>) -> Result<Option<u32>, Denial> {
        let mut cap: Option<u32> = None;
        let mut denial: Option<Denial> = None;
        for at in self.tables.restricted().anyone(self.principal, self.key.map(|key| &key.name)) {
            let holds = |each: &&Restriction| each.period.holds(self.now) && each.concerns(&self.service.name);
            let Some(restriction) = self.tables.restriction(at).filter(holds) else { continue };
            if restriction.shadow {
                self.saw_shadow.set(true);
                if !self.with_shadow {
                    continue;
                }
            }
            let found = denial_of(restriction, self);
            let verdict = if found.is_some() { Verdict::Deny } else { Verdict::Pass };
            tracer.step("restriction", "AccessRestriction", &restriction.name, String::new, verdict, || match &found {
                Some(denial) => denial.detail.to_string(),
                None => "The restriction matches the caller and leaves this request open.".to_owned(),
            });
            // A revoked credential is the more fundamental denial.
            if found.as_ref().is_some_and(|found| denial.is_none() || found.code == Code::CredentialRevoked) {
                denial = found;
            }
            cap = least(cap, restriction.max_rows);
        }
        denial.map_or(Ok(cap), Err)
    }
}

/// The smaller of two caps; `None` is no cap.
pub(super) fn least(left: Option<u32>, right: Option<u32>) -> Option<u32> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, None) | (None, one) => one,
    }
}
