//! Who is meant: bindings and restrictions by their subjects, found at the cost of what matches.

use super::Map;
use crate::{Name, principal::Principal};
use doorward_proto::v1::{RestrictionEffect, SubjectKind, Verb};
use smallvec::SmallVec;

/// Positions of bindings or restrictions that match, ascending, without duplicates.
pub type Matches = SmallVec<[u32; 8]>;

/// Positions of one subject. Most have one, which then needs no memory of its own.
type Positions = SmallVec<[u32; 2]>;

/// Positions by subject.
#[derive(Debug, Default)]
pub struct Subjects {
    users: Map<Positions>,
    groups: Map<Positions>,
    agents: Map<Positions>,
    keys: Map<Positions>,
    tokens: Map<Positions>,
    /// By number of the claim path.
    claims: Vec<Map<Positions>>,
    any_user: Vec<u32>,
    unidentified: Vec<u32>,
}

impl Subjects {
    pub(super) fn new(claim_paths: usize) -> Self {
        Subjects { claims: (0..claim_paths).map(|_| Map::default()).collect(), ..Subjects::default() }
    }

    /// False: the claim path is out of range, or the kind unknown.
    pub(super) fn insert(&mut self, kind: SubjectKind, value: &Name, claim_path: usize, position: u32) -> bool {
        let map = match kind {
            SubjectKind::SubjectUser => &mut self.users,
            SubjectKind::SubjectGroup => &mut self.groups,
            SubjectKind::SubjectAgent => &mut self.agents,
            SubjectKind::SubjectKey => &mut self.keys,
            SubjectKind::SubjectToken => &mut self.tokens,
            SubjectKind::SubjectClaim => match self.claims.get_mut(claim_path) {
                Some(map) => map,
                None => return false,
            },
            SubjectKind::SubjectAnyUser => {
                self.any_user.push(position);
                return true;
            }
            SubjectKind::SubjectUnidentified => {
                self.unidentified.push(position);
                return true;
            }
            SubjectKind::Unspecified => return false,
        };
        map.entry(value.clone()).or_default().push(position);
        true
    }

    /// Whether a subject looks at the claim path of this number.
    #[must_use]
    pub fn looks_at(&self, claim_path: u32) -> bool {
        usize::try_from(claim_path).ok().and_then(|at| self.claims.get(at)).is_some_and(|values| !values.is_empty())
    }

    /// What matches the person: user, groups, claims and token; or, where there is no user, the unidentified.
    pub fn person(&self, principal: &Principal) -> Matches {
        let mut out = Matches::new();
        self.add_person(principal, &mut out);
        sorted(out)
    }

    fn add_person(&self, principal: &Principal, out: &mut Matches) {
        let Some(user) = &principal.user else {
            out.extend_from_slice(&self.unidentified);
            return;
        };
        out.extend_from_slice(&self.any_user);
        add(&self.users, user, out);
        principal.groups.iter().for_each(|group| add(&self.groups, group, out));
        for (path, value) in &principal.claims {
            if let Some(map) = usize::try_from(*path).ok().and_then(|path| self.claims.get(path)) {
                add(map, value, out);
            }
        }
        if let Some(id) = principal.token.as_ref().and_then(|token| token.id.as_ref()) {
            add(&self.tokens, id, out);
        }
    }

    /// What matches this agent.
    pub fn agent(&self, name: &str) -> Matches {
        let mut out = Matches::new();
        add(&self.agents, name, &mut out);
        sorted(out)
    }

    /// What matches this key, by its document's name.
    pub fn key(&self, name: &str) -> Matches {
        let mut out = Matches::new();
        add(&self.keys, name, &mut out);
        sorted(out)
    }

    /// What matches the person, any of the agents, or the key.
    pub fn anyone(&self, principal: &Principal, key: Option<&Name>) -> Matches {
        let mut out = Matches::new();
        self.add_person(principal, &mut out);
        principal.agents.iter().for_each(|agent| add(&self.agents, &agent.name, &mut out));
        if let Some(key) = key {
            add(&self.keys, key, &mut out);
        }
        sorted(out)
    }
}

fn add(map: &Map<Positions>, value: &str, out: &mut Matches) {
    if let Some(positions) = map.get(value) {
        out.extend_from_slice(positions);
    }
}

fn sorted(mut out: Matches) -> Matches {
    out.sort_unstable();
    out.dedup();
    out
}

/// From when until when something holds, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first second.
    pub from: Option<i64>,
    /// The first second after it.
    pub until: Option<i64>,
}

impl Period {
    pub(super) fn new(from: i64, until: i64) -> Self {
        Period { from: (from != 0).then_some(from), until: (until != 0).then_some(until) }
    }
    /// True at this moment.
    #[must_use]
    pub fn holds(self, now: i64) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// Who holds a role. Its position in the tables is its rank: priority (high first), role, document.
#[derive(Debug)]
pub struct Binding {
    /// Document name.
    pub name: Name,
    /// Position of the role.
    pub role: usize,
    /// Tenants that it holds for; empty: every tenant.
    pub tenants: Vec<Name>,
    /// When it holds.
    pub period: Period,
    /// Providers that are believed; `None`: all.
    pub providers: Option<Vec<Name>>,
}

impl Binding {
    /// Whether who is vouched for by this provider is believed to be a subject. Without a provider nobody has said who the
    /// caller is but the mesh, or a key, which is known by itself.
    #[must_use]
    pub fn believes(&self, provider: Option<&Name>) -> bool {
        match (&self.providers, provider) {
            (Some(believed), Some(provider)) => believed.contains(provider),
            (None, _) | (_, None) => true,
        }
    }
}

/// Someone cut back for a time.
#[derive(Debug)]
pub struct Restriction {
    /// Document name.
    pub name: Name,
    /// When it holds.
    pub period: Period,
    /// What it does.
    pub effect: RestrictionEffect,
    /// `RESTRICT_REVOKE`: tokens issued before this Unix second are revoked; `None`: all that match.
    pub issued_before: Option<i64>,
    /// `RESTRICT_ALLOW_ONLY`: services left open. `RESTRICT_DENY`: services closed; empty: all.
    pub services: Vec<Name>,
    /// `RESTRICT_ALLOW_ONLY`: verbs left open; empty: all.
    pub verbs: Vec<Verb>,
    /// Rows that a read may give at most.
    pub max_rows: Option<u32>,
    /// In shadow mode: it holds nobody back, and records say what it would do.
    pub shadow: bool,
    /// Services on which it holds, and namespaces, which stand for the services in them; `None`: all.
    pub within: Option<Vec<Name>>,
}

impl Restriction {
    /// Whether it holds on requests to this service.
    #[must_use]
    pub fn concerns(&self, service: &str) -> bool {
        let own = service.split_once('/').map_or("", |(namespace, _)| namespace);
        self.within.as_ref().is_none_or(|within| {
            within.iter().any(|name| name.as_ref() == service || !own.is_empty() && name.as_ref() == own)
        })
    }
}
