//! Roles of a bundle, and what each grant shows of each component that it covers.

use super::reader::{Decoder, Result, duplicate, error, known, known_or, malformed, position, positive, verbs};
use crate::{
    Name,
    bundle::{
        Map, Tables, pattern,
        roles::{self, Grant, Role, View},
        schema::{Component, FieldSet, Service},
    },
    mask::MaskRule,
    predicate::{Operand, Template, wire},
    value::FieldType,
};
use doorward_proto::v1;
use std::sync::Arc;

/// Pairs of grant and component that a bundle may have at most.
const MAX_VIEWS: usize = 1_000_000;

impl Decoder {
    pub(super) fn role(&self, role: &v1::Role, tables: &Tables, views: &mut usize, path: &str) -> Result<Role> {
        let mut limits = Vec::new();
        for limit in &role.rate_limits {
            if limit.per_milliseconds == 0 {
                return Err(malformed(path, "a rate limit has no period"));
            }
            limits.push(roles::Limit {
                requests: limit.requests,
                per_milliseconds: limit.per_milliseconds,
                burst: limit.burst,
                by: known(limit.by, path)?,
            });
        }
        let mut grants = Vec::new();
        let mut index: Map<Map<[Option<u32>; 7]>> = Map::default();
        for (at, grant) in role.grants.iter().enumerate() {
            let path = format!("{path}.grants[{at}]");
            let (service, pattern) = (self.name(grant.service, &path)?, self.name(grant.pattern, &path)?);
            let slots = index.entry(service.clone()).or_default().entry(pattern.clone()).or_default();
            for verb in verbs(&grant.verbs, &path)? {
                let slot = usize::try_from(i32::from(verb)).ok().and_then(|verb| slots.get_mut(verb));
                let slot = slot.ok_or_else(|| malformed(&path, "a verb is out of range"))?;
                if slot.replace(position(at, &path)?).is_some() {
                    return Err(duplicate(&path, "another grant of the role covers the same component and verb"));
                }
            }
            let service = tables.service(&service);
            grants.push(self.grant(grant, service, &pattern, views, &path)?);
        }
        Ok(Role {
            name: self.name(role.name, path)?,
            active: role.active,
            shadow: known_or(role.enforcement, v1::Enforcement::Enforce, path)? == v1::Enforcement::Shadow,
            audit_required: known_or(role.audit, v1::AuditMode::AuditAsync, path)? == v1::AuditMode::AuditRequired,
            department: self.optional(role.department, path)?,
            max_rows: positive(role.max_rows),
            lookups: self.attributes(&role.lookups, path)?,
            limits,
            grants,
            index,
        })
    }

    fn predicate(&self, predicate: Option<&v1::Predicate>, path: &str) -> Result<Option<Template>> {
        let decode = |predicate| {
            wire::decode(predicate, &|index| self.string(index)).map_err(|message| malformed(path, message))
        };
        predicate.map(decode).transpose()
    }

    fn operand(&self, operand: &v1::Operand, path: &str) -> Result<Operand> {
        wire::decode_operand(operand, FieldType::Unspecified, &|index| self.string(index))
            .map_err(|message| malformed(path, message))
    }

    fn grant(
        &self,
        grant: &v1::Grant,
        service: Option<&Service>,
        pattern: &str,
        views: &mut usize,
        path: &str,
    ) -> Result<Grant> {
        let rows = self.predicate(grant.rows.as_ref(), &format!("{path}.rows"))?;
        let check = self.predicate(grant.check.as_ref(), &format!("{path}.check"))?.or_else(|| rows.clone());
        let mut set = Vec::new();
        for each in &grant.set {
            let value = each.value.as_ref().ok_or_else(|| malformed(path, "a preset has no value"))?;
            set.push(roles::Preset {
                field: self.name(each.field, path)?,
                value: self.operand(value, path)?,
                overrides: each.r#override,
            });
        }
        let mut arguments = Vec::new();
        for each in &grant.arguments {
            let values = each.values.iter().map(|value| self.operand(value, path)).collect::<Result<Vec<_>>>()?;
            if each.fixed && values.len() != 1 {
                return Err(malformed(path, "a fixed argument must have exactly one value"));
            }
            let name = self.name(each.name, path)?;
            arguments.push(roles::ArgumentRule { name, required: each.required, values, fixed: each.fixed });
        }
        let mut masks = Vec::new();
        for mask in &grant.masks {
            masks.push(MaskRule {
                field: self.name(mask.field, path)?,
                kind: known(mask.kind, path)?,
                fixed: self.text(mask.fixed, path)?,
                length: mask.length,
                filterable: mask.filterable,
            });
        }
        masks.sort_by(|left, right| left.field.cmp(&right.field));
        if masks.windows(2).any(|pair| matches!(pair, [left, right] if left.field == right.field)) {
            return Err(duplicate(path, "a field has two masks"));
        }
        let rules = Rules {
            read: self.rule(grant.read.as_ref(), path)?,
            write: self.rule(grant.write.as_ref(), path)?,
            masks: masks.into(),
        };
        let mut covered: Vec<&Arc<Component>> = Vec::new();
        if let Some(service) = service {
            if pattern.ends_with('*') {
                covered.extend(service.components.values().filter(|each| pattern::overlap(pattern, &each.name)));
            } else {
                // One name: itself, or the families that it belongs to.
                pattern::each_pattern(pattern, &mut |name| {
                    covered.extend(service.components.get(name));
                    false
                });
            }
        }
        *views = views.saturating_add(covered.len());
        if *views > MAX_VIEWS {
            return Err(error("limit", path, "the roles cover too many components in total"));
        }
        let seen = covered.into_iter().map(|component| (component.name.clone(), rules.view(component))).collect();
        let omit = known_or(grant.on_hidden_field, v1::HiddenField::Unspecified, path)?;
        Ok(Grant {
            rows,
            check,
            set,
            max_rows: positive(grant.max_rows),
            omit_hidden: (omit != v1::HiddenField::Unspecified).then_some(omit == v1::HiddenField::Omit),
            unchecked: grant.unchecked,
            source: grant.source,
            arguments,
            views: seen,
        })
    }

    fn rule(&self, rule: Option<&v1::FieldRule>, path: &str) -> Result<(bool, FieldSet)> {
        // No rule: no field.
        let Some(rule) = rule else { return Ok((false, FieldSet::default())) };
        Ok((rule.hide, FieldSet::new(self.names(&rule.fields, path)?)))
    }
}

/// A grant's rules on fields, before they meet a component.
struct Rules {
    /// Whether the fields are hidden rather than shown, and the fields.
    read: (bool, FieldSet),
    write: (bool, FieldSet),
    masks: Arc<[MaskRule]>,
}

impl Rules {
    /// Undeclared fields are never visible nor writable, whatever a rule lists.
    fn view(&self, component: &Component) -> View {
        let select = |(hide, fields): &(bool, FieldSet)| {
            let keep = |name: &&Name| fields.contains(name) != *hide;
            if component.all_fields.iter().all(|name| keep(&name)) {
                return Arc::clone(&component.all_fields);
            }
            Arc::new(FieldSet::new(component.all_fields.iter().filter(keep).cloned().collect()))
        };
        let visible = select(&self.read);
        let masks = if self.masks.iter().all(|mask| visible.contains(&mask.field)) {
            Arc::clone(&self.masks)
        } else {
            self.masks.iter().filter(|mask| visible.contains(&mask.field)).cloned().collect()
        };
        View { sees_all: visible.len() == component.all_fields.len(), visible, masks, write: select(&self.write) }
    }
}
