//! One grant of a role → one `Grant` per component that it stands for.

mod overlaps;
mod targets;
mod values;

pub(super) use overlaps::overlaps;

use super::{
    context::{ComponentFacts, Context},
    out::Out,
};
use crate::document::{
    AccessRole, Kind,
    access_role::{Grant, Mask, MaskName, Write},
    common::Verb,
    suggest,
};
use doorward_proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use targets::{Target, expand, is_pattern};

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
        if written == "*" && out.document.bare_name().starts_with("ai-") && !role.allow_wildcard {
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
                if out.document.bare_name().starts_with("ai-") && !self.role.allow_wildcard {
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
