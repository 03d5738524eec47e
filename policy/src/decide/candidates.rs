//! Who has to permit a request, and by which roles each of them might.

use super::{Question, Tracer, Verdict, permit::Permit};
use crate::{
    Name,
    bundle::{
        roles::Role,
        subjects::{Binding, Matches},
    },
    code::{Code, Denial},
    limit::LimitRule,
};
use doorward_proto::v1::LimitBy;
use sha2::{Digest as _, Sha256};

/// Someone who has to permit the request.
pub(super) struct Party<'a> {
    /// The agent, if it is one.
    pub(super) agent: Option<&'a Name>,
    /// Roles in their order.
    pub(super) candidates: Vec<Candidate<'a>>,
}

/// A role that a party holds.
pub(super) struct Candidate<'a> {
    role: &'a Role,
    /// `None`: the role of the API key itself.
    binding: Option<&'a Binding>,
}

impl<'a> Question<'a> {
    /// The person (or the unidentified), the tool, every agent; each with at least one candidate.
    pub(super) fn parties(&self, tracer: &mut Tracer<'_>) -> Result<Vec<Party<'a>>, Denial> {
        let mut parties = Vec::new();
        if self.principal.user.is_some() || self.key.is_none() {
            let mut candidates = Vec::new();
            self.bound(&self.tables.bound().person(self.principal), &mut candidates);
            let found = self.narrowed(candidates).and_then(|candidates| self.delegated(candidates));
            parties.push(Party { agent: None, candidates: self.said(found, tracer)? });
        }
        if let Some(key) = self.key {
            let mut candidates = Vec::new();
            let own = self.tables.role_position(&key.role).and_then(|at| self.tables.role(at));
            if let Some(role) = own.filter(|role| self.counts(role)) {
                candidates.push(Candidate { role, binding: None });
            }
            self.bound(&self.tables.bound().key(&key.name), &mut candidates);
            let found = if parties.is_empty() {
                self.narrowed(candidates)
            } else if candidates.is_empty() {
                Err(Denial::new(Code::RoleNone, "The API key's role grants nothing here."))
            } else {
                Ok(candidates)
            };
            parties.push(Party { agent: None, candidates: self.said(found, tracer)? });
        }
        for agent in &self.principal.agents {
            let mut candidates = Vec::new();
            self.bound(&self.tables.bound().agent(&agent.name), &mut candidates);
            if candidates.is_empty() && self.key.is_some_and(|key| key.agent.as_ref() == Some(&agent.name)) {
                // The key stands for this agent, and its role has been asked already.
                continue;
            }
            let found = if candidates.is_empty() {
                Err(Denial::new(Code::DelegationDenied, "An agent in the delegation chain holds no role."))
            } else {
                Ok(candidates)
            };
            parties.push(Party { agent: Some(&agent.name), candidates: self.said(found, tracer)? });
        }
        Ok(parties)
    }

    fn said<T>(&self, found: Result<T, Denial>, tracer: &mut Tracer<'_>) -> Result<T, Denial> {
        if let Err(denial) = &found {
            let sentence = || denial.detail.to_string();
            tracer.step("role", "AccessBinding", &Name::default(), String::new, Verdict::Deny, sentence);
        }
        found
    }

    /// Adds the roles of bindings that hold now and in the caller's tenant, each role once.
    fn bound(&self, matches: &Matches, into: &mut Vec<Candidate<'a>>) {
        for binding in matches.iter().filter_map(|at| self.tables.binding(*at)) {
            let in_tenant = binding.tenants.is_empty()
                || self.principal.tenant.as_ref().is_some_and(|tenant| binding.tenants.contains(tenant));
            let believed = binding.believes(self.principal.provider.as_ref());
            let holds = in_tenant && believed && binding.period.holds(self.now);
            let role = self.tables.role(binding.role).filter(|_| holds);
            if let Some(role) = role
                && self.counts(role)
                && !into.iter().any(|have| std::ptr::eq(have.role, role))
            {
                into.push(Candidate { role, binding: Some(binding) });
            }
        }
    }

    /// False for a role in shadow mode where such documents do not count.
    fn counts(&self, role: &Role) -> bool {
        if role.shadow {
            self.saw_shadow.set(true);
        }
        !role.shadow || self.with_shadow
    }

    /// Narrowed to the role that the caller asked for.
    fn narrowed(&self, mut candidates: Vec<Candidate<'a>>) -> Result<Vec<Candidate<'a>>, Denial> {
        if candidates.is_empty() && self.principal.user.is_none() && self.key.is_none() {
            return Err(Denial::new(Code::CredentialMissing, "The request carries no identity: sign in first."));
        }
        if let Some(wanted) = self.requested_role {
            candidates.retain(|candidate| candidate.role.name.as_ref() == wanted);
            if candidates.is_empty() {
                return Err(Denial::new(Code::RoleNotHeld, "This caller does not hold the role it asked for."));
            }
        }
        if candidates.is_empty() {
            return Err(Denial::new(Code::RoleNone, "This caller holds no role."));
        }
        Ok(candidates)
    }

    /// Narrowed to the roles that the token's delegation scopes name.
    fn delegated(&self, mut candidates: Vec<Candidate<'a>>) -> Result<Vec<Candidate<'a>>, Denial> {
        if let Some(roles) = &self.principal.delegated_roles {
            candidates.retain(|candidate| roles.contains(&candidate.role.name));
            if candidates.is_empty() {
                return Err(Denial::new(Code::DelegationDenied, "No role of the caller is within the token's scopes."));
            }
        }
        Ok(candidates)
    }

    /// The first candidate that permits everything; else the denial of the one that got furthest, and its role.
    pub(super) fn choose(
        &self,
        party: &Party<'a>,
        cap: Option<u32>,
        tracer: &mut Tracer<'_>,
    ) -> Result<Permit<'a>, (Denial, Option<&'a Role>)> {
        let mut best: Option<(Denial, &'a Role)> = None;
        for Candidate { role, binding } in &party.candidates {
            let (kind, name) = match binding {
                Some(binding) => ("AccessBinding", &binding.name),
                None => ("AccessKey", self.key.map_or(&role.name, |key| &key.name)),
            };
            tracer.step("role", kind, name, String::new, Verdict::Pass, || match party.agent {
                Some(agent) => format!("Agent {agent} holds role {}.", role.name),
                None => format!("The caller holds role {}.", role.name),
            });
            match self.permit(role, party.agent, cap, tracer) {
                Ok(permit) => return Ok(permit),
                Err(denial) => {
                    if best.as_ref().is_none_or(|(have, _)| reach(denial.code) > reach(have.code)) {
                        best = Some((denial, role));
                    }
                }
            }
        }
        Err(match best {
            Some((denial, role)) => (denial, Some(role)),
            None => (Denial::new(Code::RoleNone, "This caller holds no role."), None),
        })
    }

    /// The limits of a role, for this caller.
    pub(super) fn limits(&self, role: &Role) -> Vec<LimitRule> {
        let user = || self.principal.user.as_ref().map(|name| ("user", name));
        let key = || self.key.map(|key| ("key", &key.name));
        let agent = || self.principal.agents.first().map(|agent| ("agent", &agent.name));
        let rule = |(at, limit): (usize, &crate::bundle::roles::Limit)| {
            let subject = match limit.by {
                LimitBy::User => user().or_else(key).or_else(agent),
                LimitBy::Key => key().or_else(user).or_else(agent),
                LimitBy::Service => Some(("service", &self.service.name)),
                LimitBy::Role | LimitBy::Unspecified => None,
            };
            let (kind, name) = subject.map_or(("", ""), |(kind, name)| (kind, name.as_ref()));
            let mut hash = Sha256::new();
            for part in [role.name.as_ref(), &at.to_string(), kind, name] {
                hash.update(part.len().to_be_bytes());
                hash.update(part);
            }
            let slot = hash.finalize().iter().take(8).fold(0, |slot, byte| slot << 8 | u64::from(*byte));
            LimitRule {
                slot,
                requests: limit.requests,
                per_milliseconds: limit.per_milliseconds,
                burst: limit.burst.max(1),
                role: role.name.clone(),
            }
        };
        role.limits.iter().enumerate().map(rule).collect()
    }
}

/// How far a role got when it denied with this code.
fn reach(code: Code) -> u8 {
    match code {
        Code::RoleInactive => 0,
        Code::ServiceDenied => 1,
        Code::ComponentDenied => 2,
        Code::VerbDenied => 3,
        Code::FieldDenied => 4,
        _ => 5,
    }
}
