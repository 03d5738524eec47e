//! One grant of a role → one `Grant` per component that it stands for.

use super::{
    context::{ComponentFacts, Context, ServiceFacts},
    names,
    out::Out,
    services::scalar_fits,
};
use crate::document::{
    AccessRole, Kind,
    access_role::{Argument, Grant, Mask, MaskName, Preset, Write},
    common::{OneOrMany, Scalar, Verb},
    suggest,
};
use doorward_policy::{
    dialect::dreamfactory::cast,
    predicate::{
        Operand, PlaceholderSource, Predicate, Template,
        parse::{parse, parse_literal, parse_placeholder, placeholder_fits, type_name},
        wire,
    },
    value::{FieldType, Literal, Size},
};
use doorward_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// A component pattern with what is declared for it.
struct Target<'c> {
    pattern: String,
    facts: &'c ComponentFacts,
}

/// True if every name that `inner` stands for is one that `outer` stands for.
fn covers(outer: &str, inner: &str) -> bool {
    outer == "*"
        || outer == inner
        || outer
            .strip_suffix('*')
            .is_some_and(|prefix| prefix.ends_with('/') && inner.len() > prefix.len() && inner.starts_with(prefix))
        || outer.strip_suffix('*').is_some_and(|prefix| !prefix.is_empty() && inner == outer)
}

fn is_pattern(name: &str) -> bool {
    name == "*" || name.ends_with("/*")
}

/// What a grant's component stands for among what the service declares, so that nothing undeclared is ever exposed.
fn expand<'c>(service: &'c ServiceFacts, written: &str) -> Vec<Target<'c>> {
    let name = if service.case_insensitive { written.to_lowercase() } else { written.to_owned() };
    let mut targets = Vec::new();
    if is_pattern(&name) {
        for (declared, facts) in &service.components {
            if covers(&name, declared) {
                targets.push(Target { pattern: declared.clone(), facts });
            }
        }
    } else if let Some(facts) = service.components.get(&name) {
        return vec![Target { pattern: name, facts }];
    }
    // Inside a family: the most exact one says which fields there are.
    let family = service.components.iter().filter(|(declared, _)| is_pattern(declared) && covers(declared, &name));
    if let Some((declared, facts)) = family.max_by_key(|(declared, _)| declared.len())
        && *declared != name
    {
        targets.push(Target { pattern: name, facts });
    }
    targets
}

pub(super) fn grant(
    context: &Context<'_>,
    out: &mut Out<'_>,
    role: &AccessRole,
    index: usize,
    grant: &Grant,
) -> Vec<v1::Grant> {
    let at = format!("spec.grants[{index}]");
    let Some(service) = context.services.get(grant.service.as_str()) else {
        context.missing(out, "unknown_service", &format!("{at}.service"), Kind::DataService, &grant.service);
        return Vec::new();
    };
    let mut targets: BTreeMap<String, Target<'_>> = BTreeMap::new();
    for (position, written) in grant.components.iter().enumerate() {
        let at = format!("{at}.components[{position}]");
        if written == "*" && out.document.name.starts_with("ai-") && !role.allow_wildcard {
            out.error(
                "wildcard",
                &at,
                "a role for AI agents may not use *; name its components, or say allowWildcard: true",
            );
        }
        if written.contains('*') && !is_pattern(written) || written.matches('*').count() > 1 {
            out.error("invalid_component", &at, "a component is an exact name, prefix/* or *");
            continue;
        }
        let expanded = expand(service, written);
        if expanded.is_empty() {
            let hint = suggest::hint(written, service.components.keys().map(String::as_str));
            out.error("unknown_component", &at, format!("{} declares no component \"{written}\"{hint}", grant.service));
        }
        targets.extend(expanded.into_iter().map(|target| (target.pattern.clone(), target)));
    }
    if grant.unchecked {
        out.warn("unchecked", format!("{at}.unchecked"), "what cannot be limited soundly is let through; review it");
    }
    let lowering = Lowering { context, role, grant, at, targets };
    lowering.check_names(out);
    let mut all = Vec::new();
    for target in lowering.targets.values() {
        all.push(lowering.lower(out, index, target));
    }
    all
}

struct Lowering<'c, 'a> {
    context: &'c Context<'a>,
    role: &'c AccessRole,
    grant: &'c Grant,
    at: String,
    targets: BTreeMap<String, Target<'c>>,
}

impl Lowering<'_, '_> {
    fn has(&self, verbs: &[Verb]) -> bool {
        self.grant.verbs.iter().any(|verb| verbs.contains(verb))
    }

    /// Checks names that must be declared by at least one of the components.
    fn check_names(&self, out: &mut Out<'_>) {
        let declared: BTreeSet<&str> =
            self.targets.values().flat_map(|target| target.facts.fields.keys().map(String::as_str)).collect();
        let Some(fields) = &self.grant.fields else { return };
        if self.targets.is_empty() {
            return;
        }
        let check = |out: &mut Out<'_>, path: String, field: &str, star: bool| {
            if star && field == "*" {
                if out.document.name.starts_with("ai-") && !self.role.allow_wildcard {
                    out.error(
                        "wildcard",
                        path,
                        "a role for AI agents may not use *; name the fields, or say allowWildcard: true",
                    );
                }
            } else if !declared.contains(field) {
                let of = self.targets.keys().next().map_or("", String::as_str);
                let hint = suggest::hint(field, declared.iter().copied());
                out.error("unknown_field", path, format!("unknown field \"{field}\" of {of}{hint}"));
            }
        };
        if fields.read.is_some() && fields.hide.is_some() {
            out.error("fields_conflict", format!("{}.fields", self.at), "give read or hide, not both");
        }
        for (name, list, star) in [("read", &fields.read, true), ("hide", &fields.hide, false)] {
            for (index, field) in list.iter().flatten().enumerate() {
                check(out, format!("{}.fields.{name}[{index}]", self.at), field, star);
            }
        }
        match &fields.write {
            Some(Write::Fields(list)) => {
                for (index, field) in list.iter().enumerate() {
                    check(out, format!("{}.fields.write[{index}]", self.at), field, true);
                }
            }
            Some(Write::Except(except)) => {
                for (index, field) in except.hide.iter().enumerate() {
                    check(out, format!("{}.fields.write.hide[{index}]", self.at), field, false);
                }
            }
            None => {}
        }
        for (field, mask) in &fields.mask {
            let path = format!("{}.fields.mask.{field}", self.at);
            check(out, path.clone(), field, false);
            let seen = self.targets.values().any(|target| self.visible(target.facts).contains(&field.as_str()));
            if declared.contains(field.as_str()) && !seen {
                out.error("mask_hidden", &path, format!("field \"{field}\" is masked but not visible; add it to read"));
            }
            if let Some(Mask::Full(full)) = mask {
                let with = full.with.unwrap_or(MaskName::Null);
                if full.value.is_some() && with != MaskName::Fixed {
                    out.error("invalid_mask", &path, "only the mask fixed has a value");
                }
                if full.length.is_some() && !matches!(with, MaskName::Last | MaskName::Truncate) {
                    out.error("invalid_mask", &path, "only the masks last and truncate have a length");
                }
            }
        }
    }

    fn visible<'f>(&self, facts: &'f ComponentFacts) -> Vec<&'f str> {
        let fields = self.grant.fields.as_ref();
        let (read, hide) = (fields.and_then(|f| f.read.as_ref()), fields.and_then(|f| f.hide.as_ref()));
        let keep = |field: &str| match (read, hide) {
            (Some(read), _) => read.iter().any(|name| name == field || name == "*"),
            (None, Some(hide)) => !hide.iter().any(|name| name == field),
            (None, None) => false,
        };
        facts.fields.keys().map(String::as_str).filter(|field| keep(field)).collect()
    }

    fn writable<'f>(&self, facts: &'f ComponentFacts) -> Vec<&'f str> {
        let keep = |field: &str| match self.grant.fields.as_ref().and_then(|fields| fields.write.as_ref()) {
            Some(Write::Fields(list)) => list.iter().any(|name| name == field || name == "*"),
            Some(Write::Except(except)) => !except.hide.iter().any(|name| name == field),
            None => false,
        };
        facts.fields.keys().map(String::as_str).filter(|field| keep(field)).collect()
    }

    fn lower(&self, out: &mut Out<'_>, index: usize, target: &Target<'_>) -> v1::Grant {
        let (grant, facts) = (self.grant, target.facts);
        let fields = grant.fields.as_ref();
        let declares = !facts.fields.is_empty();
        if declares
            && self.has(&[Verb::Get])
            && fields.is_none_or(|fields| fields.read.is_none() && fields.hide.is_none())
        {
            let message =
                format!("{} declares fields; say which may be seen with fields.read or fields.hide", target.pattern);
            out.error("fields_missing", format!("{}.fields", self.at), message);
        }
        if declares
            && self.has(&[Verb::Post, Verb::Put, Verb::Patch])
            && fields.is_none_or(|fields| fields.write.is_none())
            && grant.set.is_empty()
        {
            let message = format!("the grant writes {} but no field may be written; add fields.write", target.pattern);
            out.warn("write_missing", format!("{}.fields", self.at), message);
        }
        let visible = self.visible(facts);
        let masks = fields.map(|fields| &fields.mask).into_iter().flatten();
        let masks = masks.filter(|(field, _)| visible.contains(&field.as_str()));
        let masks = masks.map(|(field, mask)| encode_mask(out, field, mask.as_ref())).collect();
        let rule = |out: &mut Out<'_>, names: Vec<&str>| {
            declares.then(|| v1::FieldRule { hide: false, fields: out.sorted(names) })
        };
        let mut verbs: Vec<i32> = grant.verbs.iter().map(|verb| v1::Verb::from(*verb).into()).collect();
        verbs.sort_unstable();
        verbs.dedup();
        v1::Grant {
            service: out.s(&grant.service),
            pattern: out.s(&target.pattern),
            verbs,
            read: rule(out, visible),
            write: rule(out, self.writable(facts)),
            masks,
            rows: grant.rows.as_deref().and_then(|text| self.predicate(out, "rows", text, target)),
            check: grant.check.as_deref().and_then(|text| self.predicate(out, "check", text, target)),
            set: self.presets(out, target),
            max_rows: grant.max_rows.map_or(0, Into::into),
            on_hidden_field: grant.on_hidden_field.map_or(0, |mode| v1::HiddenField::from(mode).into()),
            unchecked: grant.unchecked,
            source: u32::try_from(index).unwrap_or(u32::MAX),
            arguments: self.arguments(out, target),
        }
    }

    fn predicate(&self, out: &mut Out<'_>, part: &str, text: &str, target: &Target<'_>) -> Option<v1::Predicate> {
        let path = format!("{}.{part}", self.at);
        let fields = &target.facts.fields;
        match parse(text, &|name| fields.get(name).copied()) {
            Ok(template) => {
                self.placeholders(out, &path, &template);
                if self.casts() {
                    let writes = part == "check" || self.grant.check.is_none();
                    self.cast(out, &path, target.facts, &template, writes && self.has(&WRITES));
                }
                Some(wire::encode(&template, &mut |text| out.s(text)))
            }
            Err(error) => {
                let message = match &error.field {
                    Some(field) => {
                        let hint = suggest::hint(field, fields.keys().map(String::as_str));
                        format!("unknown field \"{field}\" of {}{hint}", target.pattern)
                    }
                    None => error.to_string(),
                };
                out.error(error.code, path, message);
                None
            }
        }
    }

    /// Recursion is bounded by the parser's depth.
    fn placeholders(&self, out: &mut Out<'_>, path: &str, template: &Template) {
        match template {
            Predicate::And(items) | Predicate::Or(items) => {
                items.iter().for_each(|item| self.placeholders(out, path, item));
            }
            Predicate::Not(inner) => self.placeholders(out, path, inner),
            Predicate::Compare { field_type, value, .. } => self.fillable(out, path, value, *field_type, false),
            Predicate::In { field_type, values, .. } => {
                values.iter().for_each(|value| self.fillable(out, path, value, *field_type, true));
            }
            Predicate::Constant(_) | Predicate::Like { .. } | Predicate::IsNull { .. } => {}
        }
    }

    /// True if the service casts values before its database sees them.
    fn casts(&self) -> bool {
        self.context.services.get(self.grant.service.as_str()).is_some_and(|service| service.casts)
    }

    /// Reports literals that the service would compare as others, and tests that what it stores may not pass. Recursion
    /// is bounded by the parser's depth.
    fn cast(&self, out: &mut Out<'_>, path: &str, facts: &ComponentFacts, template: &Template, checks: bool) {
        let (field, field_type, values, op) = match template {
            Predicate::And(items) | Predicate::Or(items) => {
                return items.iter().for_each(|item| self.cast(out, path, facts, item, checks));
            }
            Predicate::Not(inner) => return self.cast(out, path, facts, inner, checks),
            Predicate::Compare { field, field_type, op, value } => {
                (field, *field_type, std::slice::from_ref(value), Some(*op))
            }
            Predicate::In { field, field_type, values, .. } => (field, *field_type, values.as_slice(), None),
            Predicate::Constant(_) | Predicate::Like { .. } | Predicate::IsNull { .. } => return,
        };
        let size = facts.sizes.get(&**field).copied().unwrap_or_default();
        for value in values {
            changed(out, path, field, field_type, size, value, false);
            for held in self
                .held(&out.document.name, value)
                .iter()
                .filter_map(|held| parse_literal(&held.to_string(), field_type))
            {
                changed(out, path, field, field_type, size, &Operand::Literal(held), false);
            }
        }
        // What is stored instead of another integer is 0 or 1: a test of equality with one of these holds of both or of none.
        let equal = op.is_none_or(|op| matches!(op, v1::CompareOp::Eq | v1::CompareOp::Ne));
        if checks && field_type == FieldType::Integer && size.bits == 0 && !(equal && values.iter().all(is_flag)) {
            sizeless(out, path, field);
        }
    }

    /// Values that documents hold for a placeholder: lookups of the role, attributes of its keys.
    fn held(&self, role: &str, operand: &Operand) -> Vec<&Scalar> {
        let Operand::Placeholder { source, name } = operand else { return Vec::new() };
        let name = name.as_ref();
        match source {
            PlaceholderSource::FromRole => {
                self.role.lookups.get(name).map(OneOrMany::as_slice).into_iter().flatten().collect()
            }
            PlaceholderSource::FromKey => {
                let keys = self.context.keys.iter().filter(|(_, key)| key.role == role);
                keys.filter_map(|(_, key)| key.attributes.get(name)).flat_map(OneOrMany::as_slice).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Reports a placeholder that nothing can fill: every request would be denied with `attribute_missing`.
    fn fillable(&self, out: &mut Out<'_>, path: &str, operand: &Operand, field_type: FieldType, list: bool) {
        let Operand::Placeholder { source, name } = operand else { return };
        let name = name.as_ref();
        let mut keys = self.context.keys.iter().filter(|(_, key)| key.role == out.document.name);
        let (filled, message) = match source {
            PlaceholderSource::FromUser => {
                let known = self.context.providers.values().flat_map(|(spec, _)| spec.claims.attributes.keys());
                let hint = suggest::hint(name, known.map(String::as_str).chain(["name"]));
                (
                    self.context.maps_attribute(name),
                    format!("{{user.{name}}} can never be filled: no provider maps the attribute \"{name}\"{hint}"),
                )
            }
            PlaceholderSource::FromTenant => (
                self.context.maps_tenant() || keys.any(|(_, key)| key.tenant.is_some()),
                "{tenant} can never be filled: no provider maps a tenant, and no key of this role has one".to_owned(),
            ),
            PlaceholderSource::FromRole => {
                if let Some(values) = self.role.lookups.get(name) {
                    lookup(out, path, name, values, field_type, list);
                }
                let hint = suggest::hint(name, self.role.lookups.keys().map(String::as_str));
                (
                    self.role.lookups.contains_key(name),
                    format!("{{role.{name}}} can never be filled: the role has no lookup \"{name}\"{hint}"),
                )
            }
            PlaceholderSource::FromAgent => (
                name == "name",
                format!("{{agent.{name}}} can never be filled: of an agent only {{agent.name}} is known"),
            ),
            PlaceholderSource::FromKey => (
                name == "name" || keys.any(|(_, key)| key.attributes.contains_key(name)),
                format!("{{key.{name}}} can never be filled: no key of this role has the attribute \"{name}\""),
            ),
            PlaceholderSource::FromNow | PlaceholderSource::Unspecified => (true, String::new()),
        };
        if !filled {
            out.error("placeholder_unfillable", path, message);
        }
    }

    /// A value in `set` or `arguments`: a literal of the type, or a placeholder.
    fn operand(&self, out: &mut Out<'_>, path: &str, value: &Scalar, field_type: FieldType, list: bool) -> v1::Operand {
        let operand = match value {
            Scalar::Text(text) if text.starts_with('{') => match parse_placeholder(text) {
                Ok(Some(Operand::Placeholder { source, .. })) if !placeholder_fits(source, field_type) => {
                    let message =
                        format!("this placeholder cannot stand for a value of type {}", type_name(field_type));
                    out.error("type_mismatch", path, message);
                    None
                }
                Ok(operand) => operand,
                Err(error) => {
                    out.error(error.code, path, error.message);
                    None
                }
            },
            value if scalar_fits(value, field_type) => {
                parse_literal(&value.to_string(), field_type).map(Operand::Literal)
            }
            _ => {
                out.error("type_mismatch", path, format!("the value is not of type {}", type_name(field_type)));
                None
            }
        };
        let operand = operand.unwrap_or(Operand::Literal(Literal::Boolean(false)));
        self.fillable(out, path, &operand, field_type, list);
        wire::encode_operand(&operand, &mut |text| out.s(text))
    }

    fn presets(&self, out: &mut Out<'_>, target: &Target<'_>) -> Vec<v1::Preset> {
        let mut all = Vec::new();
        for (field, preset) in &self.grant.set {
            let path = format!("{}.set.{field}", self.at);
            let Some(field_type) = target.facts.fields.get(field) else {
                let hint = suggest::hint(field, target.facts.fields.keys().map(String::as_str));
                out.error("unknown_field", path, format!("unknown field \"{field}\" of {}{hint}", target.pattern));
                continue;
            };
            names::not_a_credential(out, &path, field);
            let (value, overrides) = match preset {
                Preset::Value(value) => (value, false),
                Preset::Full(full) => (&full.value, full.overrides),
            };
            if self.casts() {
                let size = target.facts.sizes.get(field).copied().unwrap_or_default();
                let literal = parse_literal(&value.to_string(), *field_type).map(Operand::Literal);
                if let Some(literal) = &literal {
                    changed(out, &path, field, *field_type, size, literal, true);
                }
                if *field_type == FieldType::Integer && size.bits == 0 && !literal.as_ref().is_some_and(is_flag) {
                    sizeless(out, &path, field);
                }
            }
            let value = self.operand(out, &path, value, *field_type, false);
            all.push(v1::Preset { field: out.s(field), value: Some(value), r#override: overrides });
        }
        all
    }

    fn arguments(&self, out: &mut Out<'_>, target: &Target<'_>) -> Vec<v1::ArgumentRule> {
        let mut all = Vec::new();
        for (name, argument) in &self.grant.arguments {
            let path = format!("{}.arguments.{name}", self.at);
            let Some(field_type) = target.facts.parameters.get(name) else {
                let hint = suggest::hint(name, target.facts.parameters.keys().map(String::as_str));
                out.error("unknown_parameter", path, format!("{} has no parameter \"{name}\"{hint}", target.pattern));
                continue;
            };
            let (required, values, fixed) = match argument {
                Argument::Fixed(value) => (false, std::slice::from_ref(value), true),
                Argument::Allowed(values) => (false, &values[..], false),
                Argument::Full(full) => match &full.fixed {
                    Some(value) if full.values.is_empty() => (full.required, std::slice::from_ref(value), true),
                    Some(_) => {
                        out.error("invalid_value", &path, "give values or fixed, not both");
                        continue;
                    }
                    None => (full.required, &full.values[..], false),
                },
            };
            if matches!(argument, Argument::Allowed(values) if values.is_empty()) {
                out.error(
                    "invalid_value",
                    &path,
                    "an empty list would allow any value; name the values or leave the rule out",
                );
            }
            let values = values.iter().map(|value| self.operand(out, &path, value, *field_type, !fixed)).collect();
            all.push(v1::ArgumentRule { name: out.s(name), required, values, fixed });
        }
        all
    }
}

const WRITES: [Verb; 3] = [Verb::Post, Verb::Put, Verb::Patch];

/// Reports a literal that DreamFactory's casts would change.
fn changed(
    out: &mut Out<'_>,
    path: &str,
    field: &str,
    field_type: FieldType,
    size: Size,
    operand: &Operand,
    write: bool,
) {
    let Operand::Literal(literal) = operand else { return };
    if let Some(why) = cast::refusal(literal, field_type, size, write) {
        let message = format!("{literal} would become another value of \"{field}\": {why}");
        out.error("value_cast", path, message);
    }
}

/// True for the integers that every cast leaves as they are.
fn is_flag(operand: &Operand) -> bool {
    matches!(operand, Operand::Literal(Literal::Integer(0 | 1)))
}

/// DreamFactory stores 0 or 1 for any number that is written to such a column, whatever the check saw.
fn sizeless(out: &mut Out<'_>, path: &str, field: &str) {
    let message = format!(
        "if the column of \"{field}\" has size 1 (TINYINT(1), NUMBER(1), BIT), DreamFactory stores 0 or 1 for any number that \
         is written; declare the field as boolean, or say the width of its column, such as {{type: integer, bits: 32}}"
    );
    out.warn("integer_size", path, message);
}

/// A lookup's values must be of the field's type; several only fit after IN.
fn lookup(out: &mut Out<'_>, path: &str, name: &str, values: &OneOrMany<Scalar>, field_type: FieldType, list: bool) {
    let values = values.as_slice();
    if !list && values.len() != 1 {
        let message = format!("{{role.{name}}} has {} values; a list may stand after IN only", values.len());
        out.error("placeholder_list", path, message);
    }
    if values.iter().any(|value| parse_literal(&value.to_string(), field_type).is_none()) {
        out.error(
            "type_mismatch",
            path,
            format!("{{role.{name}}} holds a value that is not of type {}", type_name(field_type)),
        );
    }
}

fn encode_mask(out: &mut Out<'_>, field: &str, mask: Option<&Mask>) -> v1::Mask {
    let (name, full) = match mask {
        None => (MaskName::Null, None),
        Some(Mask::Name(name)) => (*name, None),
        Some(Mask::Full(full)) => (full.with.unwrap_or(MaskName::Null), Some(full)),
    };
    let length = full.and_then(|full| full.length).unwrap_or(4);
    let (kind, fixed, length) = match name {
        MaskName::Null => (v1::MaskKind::MaskNull, None, 0),
        MaskName::Fixed => {
            (v1::MaskKind::MaskFixed, Some(full.and_then(|full| full.value.as_deref()).unwrap_or("***")), 0)
        }
        MaskName::Last4 => (v1::MaskKind::MaskLast, None, 4),
        MaskName::Last => (v1::MaskKind::MaskLast, None, length),
        MaskName::Truncate => (v1::MaskKind::MaskTruncate, None, length),
        MaskName::Email => (v1::MaskKind::MaskEmail, None, 0),
        MaskName::Token => (v1::MaskKind::MaskToken, None, 0),
    };
    v1::Mask {
        field: out.s(field),
        kind: kind.into(),
        fixed: out.optional(fixed),
        length,
        filterable: full.is_some_and(|full| full.filterable),
    }
}

/// Reports grants of one role that would both decide the same component and verb: which one held would be a guess.
pub(super) fn overlaps(context: &Context<'_>, out: &mut Out<'_>, role: &AccessRole) {
    let mut exact: BTreeMap<(&str, Verb, String), usize> = BTreeMap::new();
    let mut patterns: Vec<(&str, Verb, String, usize)> = Vec::new();
    for (index, grant) in role.grants.iter().enumerate() {
        let Some(service) = context.services.get(grant.service.as_str()) else { continue };
        let names: BTreeSet<String> = grant
            .components
            .iter()
            .flat_map(|written| expand(service, written).into_iter().map(|target| target.pattern))
            .collect();
        let verbs: BTreeSet<Verb> = grant.verbs.iter().copied().collect();
        for verb in verbs {
            for name in &names {
                let key = (grant.service.as_str(), verb, name.clone());
                if is_pattern(name) {
                    patterns.push((key.0, verb, name.clone(), index));
                }
                if let Some(other) = exact.insert(key, index) {
                    report(out, other, index, name);
                }
            }
        }
    }
    for (service, verb, pattern, index) in &patterns {
        for ((of, with, name), other) in &exact {
            if of == service && with == verb && other != index && name != pattern && covers(pattern, name) {
                report(out, *other.min(index), *other.max(index), name);
            }
        }
    }
}

fn report(out: &mut Out<'_>, first: usize, second: usize, name: &str) {
    let message =
        format!("grants[{first}] already decides {name} for the same verb; merge the grants or take {name} out of one");
    out.error("grant_overlap", format!("spec.grants[{second}]"), message);
}
