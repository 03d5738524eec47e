//! Values that a grant compares, writes and demands: typed, castable, and of placeholders that something can fill.

use super::{Lowering, targets::Target};
use crate::{
    compile::{context::ComponentFacts, names, out::Out, services::scalar_fits},
    document::{
        access_role::{Argument, Preset},
        common::{OneOrMany, Scalar, Verb},
        namespace::namespace,
        suggest,
    },
};
use doorward_policy::{
    dialect::Casts,
    predicate::{
        Operand, PlaceholderSource, Predicate, Template,
        parse::{parse, parse_literal, parse_placeholder, placeholder_fits, type_name},
        wire,
    },
    value::{FieldType, Literal, Size},
};
use doorward_proto::v1;

const WRITES: [Verb; 3] = [Verb::Post, Verb::Put, Verb::Patch];

impl Lowering<'_, '_> {
    pub(super) fn predicate(
        &self,
        out: &mut Out<'_>,
        part: &str,
        text: &str,
        target: &Target<'_>,
    ) -> Option<v1::Predicate> {
        let path = format!("{}.{part}", self.at);
        let fields = &target.facts.fields;
        match parse(text, &|name| fields.get(name).copied()) {
            Ok(template) => {
                self.placeholders(out, &path, &template);
                if let Some(casts) = self.casts() {
                    let writes = part == "check" || self.grant.check.is_none();
                    self.cast(out, casts, &path, target.facts, &template, writes && self.has(&WRITES));
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

    /// How the service casts values before its database sees them, if it does.
    fn casts(&self) -> Option<Casts> {
        self.context.services.get(self.grant.service.as_str()).and_then(|service| service.casts)
    }

    /// Reports literals that the service would compare as others, and tests that what it stores may not pass. Recursion
    /// is bounded by the parser's depth.
    fn cast(
        &self,
        out: &mut Out<'_>,
        casts: Casts,
        path: &str,
        facts: &ComponentFacts,
        template: &Template,
        checks: bool,
    ) {
        let (field, field_type, values, op) = match template {
            Predicate::And(items) | Predicate::Or(items) => {
                return items.iter().for_each(|item| self.cast(out, casts, path, facts, item, checks));
            }
            Predicate::Not(inner) => return self.cast(out, casts, path, facts, inner, checks),
            Predicate::Compare { field, field_type, op, value } => {
                (field, *field_type, std::slice::from_ref(value), Some(*op))
            }
            Predicate::In { field, field_type, values, .. } => (field, *field_type, values.as_slice(), None),
            Predicate::Constant(_) | Predicate::Like { .. } | Predicate::IsNull { .. } => return,
        };
        let size = facts.sizes.get(&**field).copied().unwrap_or_default();
        for value in values {
            changed(out, casts, path, field, (field_type, size), value, false);
            for held in self
                .held(&out.document.name, value)
                .iter()
                .filter_map(|held| parse_literal(&held.to_string(), field_type))
            {
                changed(out, casts, path, field, (field_type, size), &Operand::Literal(held), false);
            }
        }
        // What is stored instead of another integer is 0 or 1: a test of equality with one of these holds of both or of none.
        let equal = op.is_none_or(|op| matches!(op, v1::CompareOp::Eq | v1::CompareOp::Ne));
        if checks && field_type == FieldType::Integer && size.bits == 0 && !(equal && values.iter().all(is_flag)) {
            sizeless(out, casts, path, field);
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
                // What another namespace's key holds is its own mistake: requests with it are denied.
                let own = |name: &str| namespace(name) == namespace(role);
                let keys = self.context.keys.iter().filter(|(name, key)| key.role == role && own(name));
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

    pub(super) fn presets(&self, out: &mut Out<'_>, target: &Target<'_>) -> Vec<v1::Preset> {
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
            if let Some(casts) = self.casts() {
                let size = target.facts.sizes.get(field).copied().unwrap_or_default();
                let literal = parse_literal(&value.to_string(), *field_type).map(Operand::Literal);
                if let Some(literal) = &literal {
                    changed(out, casts, &path, field, (*field_type, size), literal, true);
                }
                if *field_type == FieldType::Integer && size.bits == 0 && !literal.as_ref().is_some_and(is_flag) {
                    sizeless(out, casts, &path, field);
                }
            }
            let value = self.operand(out, &path, value, *field_type, false);
            all.push(v1::Preset { field: out.s(field), value: Some(value), r#override: overrides });
        }
        all
    }

    pub(super) fn arguments(&self, out: &mut Out<'_>, target: &Target<'_>) -> Vec<v1::ArgumentRule> {
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

/// Reports a literal that the server's casts would change.
fn changed(
    out: &mut Out<'_>,
    casts: Casts,
    path: &str,
    field: &str,
    (field_type, size): (FieldType, Size),
    operand: &Operand,
    write: bool,
) {
    let Operand::Literal(literal) = operand else { return };
    if let Some(why) = (casts.refusal)(literal, field_type, size, write) {
        let message = format!("{literal} would become another value of \"{field}\": {why}");
        out.error("value_cast", path, message);
    }
}

/// True for the integers that every cast leaves as they are.
fn is_flag(operand: &Operand) -> bool {
    matches!(operand, Operand::Literal(Literal::Integer(0 | 1)))
}

/// The column may be narrower than the field's type says, so that another number is stored than the check saw.
fn sizeless(out: &mut Out<'_>, casts: Casts, path: &str, field: &str) {
    let message = format!(
        "if the column of \"{field}\" {}; declare the field as boolean, or say the width of its column, such as {{type: \
         integer, bits: 32}}",
        casts.narrow_integer
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
