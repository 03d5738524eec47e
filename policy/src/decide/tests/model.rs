//! A policy as plain data, and its bundle.

use crate::{
    Name,
    bundle::Tables,
    predicate::{Operand, parse::parse, parse::parse_literal, parse::parse_placeholder, wire},
    principal::{Agent, Principal},
    request::Verb,
    transform::MaskKind,
    value::FieldType,
};
use doorward_proto::v1::{self, RestrictionEffect, SubjectKind};

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
    /// Providers that are believed.
    pub providers: Option<Vec<&'static str>>,
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
    /// Services on which it holds.
    pub within: Option<Vec<&'static str>>,
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
    BindingModel { role, priority: 0, subject: (kind, value), tenants: Vec::new(), until: 0, providers: None }
}

impl Model {
    pub fn field_type(&self, field: &str) -> Option<FieldType> {
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
                providers_only: binding.providers.is_some(),
                providers: binding.providers.iter().flatten().map(|provider| s(provider)).collect(),
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
                confined: each.within.is_some(),
                within: each.within.iter().flatten().map(|service| s(service)).collect(),
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

pub fn name(text: &str) -> Name {
    Name::from(text)
}
