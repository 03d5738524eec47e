//! A policy as plain data, its bundle, and a decider that is as slow and as obvious as can be.

use crate::{
    Name,
    bundle::Tables,
    code::Code,
    predicate::{Context, Operand, Resolved, parse::parse, parse::parse_literal, parse::parse_placeholder, wire},
    principal::{Agent, Principal},
    request::{Clause, Operation, Projection, Verb},
    transform::MaskKind,
    value::FieldType,
};
use doorward_proto::v1::{self, RestrictionEffect, SubjectKind};
use std::collections::{BTreeMap, BTreeSet};

pub const NOW: i64 = 1_767_225_600;
pub const TYPES: [(&str, FieldType); 3] =
    [("f", FieldType::String), ("g", FieldType::Integer), ("h", FieldType::String)];

#[derive(Clone, Debug, Default)]
pub struct GrantModel {
    pub service: &'static str,
    pub pattern: &'static str,
    pub verbs: Vec<Verb>,
    pub hide: bool,
    pub read: Vec<&'static str>,
    pub write: Vec<&'static str>,
    pub masks: Vec<(&'static str, MaskKind, bool)>,
    pub rows: Option<&'static str>,
    pub check: Option<&'static str>,
    pub set: Vec<(&'static str, &'static str, bool)>,
    pub max_rows: u32,
    pub omit: Option<bool>,
    pub unchecked: bool,
    pub arguments: Vec<(&'static str, bool, Vec<&'static str>, bool)>,
}
#[derive(Clone, Debug, Default)]
pub struct RoleModel {
    pub name: &'static str,
    pub inactive: bool,
    pub shadow: bool,
    pub grants: Vec<GrantModel>,
    pub max_rows: u32,
    pub requests_per_minute: u32,
}
#[derive(Clone, Debug)]
pub struct BindingModel {
    pub role: &'static str,
    pub priority: i32,
    pub subject: (SubjectKind, &'static str),
    pub tenants: Vec<&'static str>,
    pub until: i64,
}
#[derive(Clone, Debug)]
pub struct RestrictionModel {
    pub subject: (SubjectKind, &'static str),
    pub effect: RestrictionEffect,
    pub services: Vec<&'static str>,
    pub verbs: Vec<Verb>,
    pub max_rows: u32,
    pub issued_before: i64,
    pub shadow: bool,
}
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub service: &'static str,
    pub components: Vec<(&'static str, Vec<(&'static str, FieldType)>)>,
    pub omit: bool,
    pub max_rows: u32,
    pub service_shadow: bool,
    pub roles: Vec<RoleModel>,
    pub bindings: Vec<BindingModel>,
    pub restrictions: Vec<RestrictionModel>,
    /// name, role, agent
    pub keys: Vec<(&'static str, &'static str, &'static str)>,
}

pub fn bind(role: &'static str, kind: SubjectKind, value: &'static str) -> BindingModel {
    BindingModel { role, priority: 0, subject: (kind, value), tenants: Vec::new(), until: 0 }
}

impl Model {
    fn field_type(&self, field: &str) -> Option<FieldType> {
        let mut all = self.components.iter().flat_map(|(_, fields)| fields);
        all.find(|(name, _)| *name == field).map(|(_, field_type)| *field_type)
    }

    pub fn bundle(&self) -> v1::Bundle {
        let mut strings = vec![String::new()];
        let mut s = |text: &str| match strings.iter().position(|have| have == text) {
            Some(at) => u32::try_from(at).unwrap(),
            None => {
                strings.push(text.to_owned());
                u32::try_from(strings.len() - 1).unwrap()
            }
        };
        let shadow = |shadow| if shadow { v1::Enforcement::Shadow as i32 } else { 0 };
        let mut bundle = v1::Bundle { format: 1, ..Default::default() };
        bundle.services.push(v1::Service {
            name: s(self.service),
            dialect: v1::Dialect::Dreamfactory.into(),
            matches: vec![v1::Match { host: 0, path: 0 }],
            on_hidden_field: if self.omit { 2 } else { 1 },
            max_rows: self.max_rows,
            enforcement: shadow(self.service_shadow),
            components: self
                .components
                .iter()
                .map(|(name, fields)| v1::Component {
                    name: s(name),
                    fields: fields
                        .iter()
                        .map(|(name, of)| v1::Field { name: s(name), r#type: (*of).into(), ..Default::default() })
                        .collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        for role in &self.roles {
            let mut grants = Vec::new();
            for (at, grant) in role.grants.iter().enumerate() {
                let mut operand = |text: &str, of: Option<FieldType>| {
                    let operand = parse_placeholder(text).unwrap().unwrap_or_else(|| {
                        Operand::Literal(parse_literal(text, of.unwrap_or(FieldType::String)).unwrap())
                    });
                    wire::encode_operand(&operand, &mut s)
                };
                let set = grant
                    .set
                    .iter()
                    .map(|(field, value, overrides)| (*field, operand(value, self.field_type(field)), *overrides));
                let set: Vec<_> = set.collect();
                let arguments = grant.arguments.iter().map(|(name, required, values, fixed)| {
                    (*name, *required, values.iter().map(|value| operand(value, None)).collect::<Vec<_>>(), *fixed)
                });
                let arguments: Vec<_> = arguments.collect();
                let mut predicate = |text: Option<&'static str>| {
                    text.map(|text| wire::encode(&parse(text, &|field| self.field_type(field)).unwrap(), &mut s))
                };
                let (rows, check) = (predicate(grant.rows), predicate(grant.check));
                grants.push(v1::Grant {
                    service: s(if grant.service.is_empty() { self.service } else { grant.service }),
                    pattern: s(grant.pattern),
                    verbs: grant.verbs.iter().map(|verb| (*verb).into()).collect(),
                    read: Some(v1::FieldRule { hide: grant.hide, fields: grant.read.iter().map(|f| s(f)).collect() }),
                    write: Some(v1::FieldRule { hide: false, fields: grant.write.iter().map(|f| s(f)).collect() }),
                    masks: grant
                        .masks
                        .iter()
                        .map(|(field, kind, filterable)| v1::Mask {
                            field: s(field),
                            kind: (*kind).into(),
                            filterable: *filterable,
                            ..Default::default()
                        })
                        .collect(),
                    rows,
                    check,
                    set: set
                        .into_iter()
                        .map(|(field, value, r#override)| v1::Preset {
                            field: s(field),
                            value: Some(value),
                            r#override,
                        })
                        .collect(),
                    max_rows: grant.max_rows,
                    on_hidden_field: grant.omit.map_or(0, |omit| if omit { 2 } else { 1 }),
                    unchecked: grant.unchecked,
                    source: u32::try_from(at).unwrap(),
                    arguments: arguments
                        .into_iter()
                        .map(|(name, required, values, fixed)| v1::ArgumentRule {
                            name: s(name),
                            required,
                            values,
                            fixed,
                        })
                        .collect(),
                });
            }
            let limit = v1::RateLimit {
                requests: role.requests_per_minute,
                per_milliseconds: 60_000,
                burst: 1,
                by: v1::LimitBy::User.into(),
            };
            bundle.roles.push(v1::Role {
                name: s(role.name),
                active: !role.inactive,
                grants,
                rate_limits: if role.requests_per_minute > 0 { vec![limit] } else { Vec::new() },
                enforcement: shadow(role.shadow),
                max_rows: role.max_rows,
                ..Default::default()
            });
        }
        for (at, binding) in self.bindings.iter().enumerate() {
            let (kind, value) = (binding.subject.0.into(), s(binding.subject.1));
            bundle.bindings.push(v1::Binding {
                name: s(&format!("binding-{at}")),
                role: s(binding.role),
                priority: binding.priority,
                subjects: vec![v1::Subject { kind, value, claim_path: 0 }],
                tenants: binding.tenants.iter().map(|tenant| s(tenant)).collect(),
                from: 0,
                until: binding.until,
            });
        }
        for (at, each) in self.restrictions.iter().enumerate() {
            let (kind, value) = (each.subject.0.into(), s(each.subject.1));
            bundle.restrictions.push(v1::Restriction {
                name: s(&format!("restriction-{at}")),
                subjects: vec![v1::Subject { kind, value, claim_path: 0 }],
                effect: each.effect.into(),
                issued_before: each.issued_before,
                services: each.services.iter().map(|service| s(service)).collect(),
                verbs: each.verbs.iter().map(|verb| (*verb).into()).collect(),
                max_rows: each.max_rows,
                enforcement: shadow(each.shadow),
                ..Default::default()
            });
        }
        for (at, (name, role, agent)) in self.keys.iter().enumerate() {
            let hash = vec![u8::try_from(at).unwrap(); 32];
            bundle.keys.push(v1::Key { hash, name: s(name), role: s(role), agent: s(agent), ..Default::default() });
        }
        bundle.claim_paths.push(v1::ClaimPath { segments: vec![s("department")] });
        bundle.strings = strings;
        bundle
    }

    pub fn tables(&self) -> Tables {
        Tables::build(&self.bundle(), [7; 32], 3).unwrap()
    }
}

pub fn person(user: &str) -> Principal {
    Principal { user: Some(user.into()), ..Principal::default() }
}
pub fn agents(names: &[&'static str]) -> Vec<Agent> {
    names.iter().map(|name| Agent { name: (*name).into() }).collect()
}

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

pub fn name(text: &str) -> Name {
    Name::from(text)
}
