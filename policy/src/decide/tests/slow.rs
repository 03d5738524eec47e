//! A second decider over the plain data of [`model`](super::model), as slow and as obvious as can be.

use super::model::*;
use crate::{
    code::Code,
    predicate::{Context, Resolved, parse::parse},
    principal::Principal,
    request::{Clause, Operation, Projection},
    transform::MaskKind,
};
use doorward_proto::v1::{RestrictionEffect, SubjectKind};
use std::collections::{BTreeMap, BTreeSet};

/// What the slow decider allows of one operation.
#[derive(Debug, Default)]
pub struct SlowOperation {
    pub visible: BTreeSet<String>,
    pub omitted: BTreeSet<String>,
    pub masks: BTreeMap<String, u8>,
    pub rows: Vec<Resolved>,
    pub max_rows: Option<u32>,
}

/// Decides reads, by trying everything.
pub fn slow(
    model: &Model,
    principal: &Principal,
    operations: &[Operation],
    wanted: Option<&str>,
    shadow: bool,
) -> Result<(String, Vec<SlowOperation>), Code> {
    let key = principal.key.map(|at| model.keys[at]);
    let matches = |(kind, value): (SubjectKind, &str), person: bool, agent: Option<&str>, key: Option<&str>| match kind
    {
        SubjectKind::SubjectUser => person && principal.user.as_deref() == Some(value),
        SubjectKind::SubjectAnyUser => person && principal.user.is_some(),
        SubjectKind::SubjectUnidentified => person && principal.user.is_none(),
        SubjectKind::SubjectGroup => {
            person && principal.user.is_some() && principal.groups.iter().any(|group| &**group == value)
        }
        SubjectKind::SubjectAgent => agent == Some(value),
        SubjectKind::SubjectKey => key == Some(value),
        _ => false,
    };
    let key_name = key.map(|(name, _, _)| name);
    let hit: Vec<_> = model
        .restrictions
        .iter()
        .filter(|each| shadow || !each.shadow)
        .filter(|each| each.within.as_ref().is_none_or(|within| within.contains(&model.service)))
        .filter(|each| {
            matches(each.subject, true, None, key_name)
                || principal.agents.iter().any(|agent| matches(each.subject, false, Some(&agent.name), None))
        })
        .collect();
    if hit.iter().any(|each| each.effect == RestrictionEffect::RestrictRevoke) {
        return Err(Code::CredentialRevoked);
    }
    let closed = |each: &&RestrictionModel| {
        let named = each.services.contains(&model.service);
        match each.effect {
            RestrictionEffect::RestrictDeny => named || each.services.is_empty(),
            _ => {
                (each.services.is_empty() && each.verbs.is_empty() && each.max_rows == 0)
                    || (!each.services.is_empty() && !named)
                    || (!each.verbs.is_empty() && operations.iter().any(|each_op| !each.verbs.contains(&each_op.verb)))
            }
        }
    };
    if hit.iter().any(closed) {
        return Err(Code::Restricted);
    }
    let caps: Vec<u32> = hit.iter().map(|each| each.max_rows).chain([model.max_rows]).filter(|cap| *cap > 0).collect();

    let roles_of = |person: bool, agent: Option<&str>, key: Option<&str>| -> Vec<&RoleModel> {
        let mut bindings: Vec<_> = model
            .bindings
            .iter()
            .enumerate()
            .filter(|(_, each)| matches(each.subject, person, agent, key))
            .filter(|(_, each)| each.until == 0 || NOW < each.until)
            .filter(|(_, each)| match (&each.providers, principal.provider.as_deref()) {
                (Some(believed), Some(provider)) => believed.contains(&provider),
                _ => true,
            })
            .filter(|(_, each)| {
                each.tenants.is_empty() || each.tenants.iter().any(|t| principal.tenant.as_deref() == Some(*t))
            })
            .collect();
        bindings.sort_by_key(|(at, each)| (-each.priority, each.role, *at));
        let mut roles: Vec<&RoleModel> = Vec::new();
        for (_, binding) in bindings {
            let role = model.roles.iter().find(|role| role.name == binding.role).unwrap();
            if (shadow || !role.shadow) && !roles.iter().any(|have| have.name == role.name) {
                roles.push(role);
            }
        }
        roles
    };
    fn narrow<'a>(mut roles: Vec<&'a RoleModel>, wanted: Option<&str>) -> Vec<&'a RoleModel> {
        roles.retain(|role| wanted.is_none_or(|wanted| role.name == wanted));
        roles
    }
    let mut parties: Vec<(Vec<&RoleModel>, Code)> = Vec::new();
    let missing = if wanted.is_some() { Code::RoleNotHeld } else { Code::RoleNone };
    if principal.user.is_some() || key.is_none() {
        let mut roles = roles_of(true, None, None);
        if roles.is_empty() && principal.user.is_none() {
            return Err(Code::CredentialMissing);
        }
        roles = narrow(roles, wanted);
        if let (false, Some(delegated)) = (roles.is_empty(), &principal.delegated_roles) {
            roles.retain(|role| delegated.iter().any(|name| &**name == role.name));
            if roles.is_empty() {
                return Err(Code::DelegationDenied);
            }
        }
        parties.push((roles, missing));
    }
    if let Some((name, role, _)) = key {
        let mut roles: Vec<&RoleModel> = model.roles.iter().filter(|have| have.name == role).collect();
        roles.retain(|role| shadow || !role.shadow);
        for role in roles_of(false, None, Some(name)) {
            if !roles.iter().any(|have| have.name == role.name) {
                roles.push(role);
            }
        }
        parties.push(if parties.is_empty() { (narrow(roles, wanted), missing) } else { (roles, Code::RoleNone) });
    }
    for agent in &principal.agents {
        let roles = roles_of(false, Some(&agent.name), None);
        if !(roles.is_empty() && key.is_some_and(|(_, _, own)| own == &*agent.name)) {
            parties.push((roles, Code::DelegationDenied));
        }
    }
    // Parties that hold nothing are found before any role is asked.
    if let Some((_, code)) = parties.iter().find(|(roles, _)| roles.is_empty()) {
        return Err(*code);
    }
    let mut answers = Vec::new();
    for (roles, _) in &parties {
        let tries: Vec<_> =
            roles.iter().map(|role| (role, slow_role(model, role, principal, operations, &caps))).collect();
        let far = |code: Code| {
            let order =
                [Code::RoleInactive, Code::ServiceDenied, Code::ComponentDenied, Code::VerbDenied, Code::FieldDenied];
            order.iter().position(|have| *have == code).unwrap_or(order.len())
        };
        let good = tries.iter().position(|(_, result)| result.is_ok());
        match good {
            Some(at) => {
                let (role, result) = tries.into_iter().nth(at).unwrap();
                answers.push((role.name.to_owned(), result.unwrap()));
            }
            None => {
                let codes: Vec<Code> = tries.into_iter().map(|(_, result)| result.unwrap_err()).collect();
                let best = codes.iter().map(|code| far(*code)).max().unwrap();
                return Err(*codes.iter().find(|code| far(**code) == best).unwrap());
            }
        }
    }
    let role = answers[0].0.clone();
    let mut out = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        let parts: Vec<&SlowOperation> = answers.iter().map(|(_, operations)| &operations[at]).collect();
        let mut all = SlowOperation { visible: parts[0].visible.clone(), ..Default::default() };
        for part in &parts {
            all.visible.retain(|field| part.visible.contains(field));
            all.omitted.extend(part.omitted.iter().cloned());
            all.rows.extend(part.rows.iter().cloned());
            all.max_rows = [all.max_rows, part.max_rows].into_iter().flatten().min();
            for (field, strength) in &part.masks {
                let have = all.masks.entry(field.clone()).or_insert(*strength);
                // What is left of a value by one of two partial masks, the other hides.
                let partial = u8::max(*have, *strength) < self::strength(MaskKind::MaskFixed);
                let nothing = self::strength(MaskKind::MaskNull);
                *have = if *have != *strength && partial { nothing } else { u8::max(*have, *strength) };
            }
        }
        let visible = all.visible.clone();
        all.masks.retain(|field, _| visible.contains(field));
        if operation.projection == Projection::All && all.visible.is_empty() {
            return Err(Code::FieldDenied);
        }
        let listed: Vec<_> = operation.fields.iter().filter(|used| used.clause == Clause::Project).collect();
        if operation.projection == Projection::Listed
            && !listed.is_empty()
            && listed.iter().all(|used| all.omitted.contains(&*used.field))
        {
            return Err(Code::FieldDenied);
        }
        out.push(all);
    }
    Ok((role, out))
}

fn slow_role(
    model: &Model,
    role: &RoleModel,
    principal: &Principal,
    operations: &[Operation],
    caps: &[u32],
) -> Result<Vec<SlowOperation>, Code> {
    if role.inactive {
        return Err(Code::RoleInactive);
    }
    let within = |pattern: &str, name: &str| {
        pattern == name || pattern == "*" || pattern.ends_with("/*") && name.starts_with(pattern.trim_end_matches('*'))
    };
    let grants: Vec<_> = role.grants.iter().filter(|grant| grant.service.is_empty()).collect();
    let mut chosen = Vec::new();
    for operation in operations {
        if grants.is_empty() {
            return Err(Code::ServiceDenied);
        }
        let declared = model.components.iter().filter(|(name, _)| within(name, &operation.component));
        let Some((_, fields)) = declared.max_by_key(|(name, _)| (*name == &*operation.component, name.len())) else {
            return Err(Code::ComponentDenied);
        };
        let matching: Vec<_> = grants.iter().filter(|grant| within(grant.pattern, &operation.component)).collect();
        if matching.is_empty() {
            return Err(Code::ComponentDenied);
        }
        let for_verb = matching.into_iter().filter(|grant| grant.verbs.contains(&operation.verb));
        let Some(grant) = for_verb.max_by_key(|grant| (grant.pattern == &*operation.component, grant.pattern.len()))
        else {
            return Err(Code::VerbDenied);
        };
        chosen.push((operation, grant, fields));
    }
    let mut out = Vec::new();
    for (operation, grant, fields) in &chosen {
        let mut result = SlowOperation::default();
        let names = fields.iter().map(|(name, _)| *name);
        result.visible = names.filter(|name| grant.read.contains(name) != grant.hide).map(str::to_owned).collect();
        for (field, kind, _) in &grant.masks {
            if result.visible.contains(*field) {
                result.masks.insert((*field).to_owned(), strength(*kind));
            }
        }
        for used in &operation.fields {
            let (field, hidden) = (&*used.field, !result.visible.contains(&*used.field));
            if used.clause == Clause::Project {
                if hidden && !grant.omit.unwrap_or(model.omit) {
                    return Err(Code::FieldDenied);
                }
                if hidden {
                    result.omitted.insert(field.to_owned());
                }
            } else {
                let aggregate = used.clause == Clause::Aggregate;
                let locked =
                    grant.masks.iter().any(|(name, _, filterable)| *name == field && (aggregate || !filterable));
                if hidden || locked {
                    return Err(Code::FieldDenied);
                }
            }
        }
        let listed: Vec<_> = operation.fields.iter().filter(|used| used.clause == Clause::Project).collect();
        let nothing = match operation.projection {
            Projection::All => result.visible.is_empty(),
            Projection::Listed => !listed.is_empty() && listed.iter().all(|used| result.omitted.contains(&*used.field)),
            Projection::Nothing => false,
        };
        if nothing {
            return Err(Code::FieldDenied);
        }
        out.push(result);
    }
    for ((operation, grant, _), result) in chosen.iter().zip(&mut out) {
        if let Some(text) = grant.rows {
            let template = parse(text, &|field| model.field_type(field)).unwrap();
            let context = Context { principal, lookups: &[], agent: None, key: None, now_seconds: NOW };
            result.rows.push(context.resolve(&template).map_err(|denial| denial.code)?);
            if !operation.capabilities.rows && !grant.unchecked {
                return Err(Code::RowDenied);
            }
            if !operation.capabilities.rows {
                result.rows.clear();
            }
        }
        result.max_rows = caps.iter().copied().chain([grant.max_rows, role.max_rows]).filter(|cap| *cap > 0).min();
    }
    Ok(out)
}

/// From the mask that shows most to the one that shows nothing.
pub const MASKS: [MaskKind; 6] = [
    MaskKind::MaskEmail,
    MaskKind::MaskTruncate,
    MaskKind::MaskLast,
    MaskKind::MaskToken,
    MaskKind::MaskFixed,
    MaskKind::MaskNull,
];

pub fn strength(kind: MaskKind) -> u8 {
    u8::try_from(MASKS.iter().position(|have| *have == kind).unwrap()).unwrap() + 1
}
