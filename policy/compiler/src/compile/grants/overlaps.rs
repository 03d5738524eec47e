//! Grants of one role that decide the same.

use super::targets::{covers, expand, is_pattern};
use crate::{
    compile::{context::Context, out::Out},
    document::{AccessRole, common::Verb},
};
use std::collections::{BTreeMap, BTreeSet};

/// Reports grants of one role that would both decide the same component and verb: which one held would be a guess.
pub(in crate::compile) fn overlaps(context: &Context<'_>, out: &mut Out<'_>, role: &AccessRole) {
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
