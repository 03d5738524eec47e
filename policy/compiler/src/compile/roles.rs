//! `AccessRole` → `Role`.

use super::{context::Context, grants, out::Out};
use crate::document::{
    AccessRole,
    access_role::LimitBy,
    common::{Enforcement, OneOrMany, Scalar},
};
use doorward_proto::v1;
use std::collections::BTreeMap;

/// Rows per response that a role for AI agents gets if it says nothing.
const AI_MAX_ROWS: u32 = 1_000;
/// Grants that one role may have after expansion.
const MAX_GRANTS: usize = 50_000;

pub(super) fn role(context: &Context<'_>, out: &mut Out<'_>, spec: &AccessRole) -> v1::Role {
    let name = out.document.name.clone();
    let bare = out.document.bare_name();
    let ai = bare.starts_with("ai-");
    if !["ai-", "app-", "admin-"].iter().any(|prefix| bare.starts_with(prefix)) {
        out.warn(
            "role_prefix",
            "metadata.name",
            "role names start with ai-, app- or admin-, so that reviewers see who is meant",
        );
    }
    if !spec.active {
        out.warn("role_never_grants", "spec.active", "the role is inactive: everybody who gets it is denied");
    } else if spec.grants.is_empty() {
        out.warn("role_never_grants", "spec.grants", "the role has no grants and can never allow anything");
    } else if spec.grants.iter().all(|grant| grant.verbs.is_empty() || grant.components.is_empty()) {
        out.warn(
            "role_never_grants",
            "spec.grants",
            "no grant has verbs and components; the role can never allow anything",
        );
    }
    let lookups = attributes(out, &spec.lookups, "spec.lookups");
    let mut all: Vec<v1::Grant> = Vec::new();
    for (index, grant) in spec.grants.iter().enumerate() {
        let lowered = grants::grant(context, out, spec, index, grant);
        if all.len() + lowered.len() > MAX_GRANTS {
            let message = format!("the role's patterns stand for more than {MAX_GRANTS} components; split the role");
            out.error("too_many_grants", format!("spec.grants[{index}]"), message);
            break;
        }
        all.extend(lowered);
    }
    grants::overlaps(context, out, spec);
    all.sort_by(|a, b| (a.service, a.pattern, &a.verbs, a.source).cmp(&(b.service, b.pattern, &b.verbs, b.source)));
    let limits = spec.rate_limit.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let mut rate_limits: Vec<v1::RateLimit> = limits
        .iter()
        .map(|limit| v1::RateLimit {
            requests: limit.requests.into(),
            per_milliseconds: limit.per.0,
            burst: limit.burst.unwrap_or(limit.requests).into(),
            by: v1::LimitBy::from(limit.by.unwrap_or(LimitBy::User)).into(),
        })
        .collect();
    rate_limits.sort_by_key(|limit| (limit.by, limit.per_milliseconds, limit.requests, limit.burst));
    rate_limits.dedup();
    let department = spec.lookups.get("department").and_then(|value| value.as_slice().first()).map(ToString::to_string);
    v1::Role {
        name: out.s(&name),
        active: spec.active,
        lookups,
        grants: all,
        rate_limits,
        audit: spec.audit.map_or(0, |audit| v1::AuditMode::from(audit).into()),
        enforcement: v1::Enforcement::from(spec.enforcement.unwrap_or(Enforcement::Enforce)).into(),
        department: out.optional(department.as_deref()),
        max_rows: spec.max_rows.map_or(if ai { AI_MAX_ROWS } else { 0 }, Into::into),
    }
}

/// Lookups of a role or attributes of a key.
pub(super) fn attributes(
    out: &mut Out<'_>,
    given: &BTreeMap<String, OneOrMany<Scalar>>,
    at: &str,
) -> Vec<v1::Attribute> {
    let mut all = Vec::new();
    for (name, values) in given {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
            out.error("invalid_name", format!("{at}.{name}"), "the name has letters, digits, _, - and . only");
        }
        let values = values.as_slice().iter().map(|value| out.s(&value.to_string())).collect();
        all.push(v1::Attribute { name: out.s(name), values });
    }
    all
}
