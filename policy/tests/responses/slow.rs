//! A response plan, carried out slowly and obviously.

use doorward_policy::transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite};
use serde_json::{Map, Value};

/// The plan, carried out slowly and obviously on the whole document.
pub fn slow(plan: &ResponsePlan, body: &Value) -> Option<Value> {
    let mut rows = Vec::new();
    let out = walk(plan, &[], body, &mut rows)?;
    let met = |site: &RowSite| {
        !site.required || {
            let depth = match site.path.last() {
                Some(PathStep::Elements | PathStep::AnyMember) => site.path.len() - 1,
                _ => site.path.len(),
            };
            site.path[..depth]
                .iter()
                .try_fold(body, |value, step| match step {
                    PathStep::Member(name) => value.get(&**name),
                    _ => panic!("no required site is below a list"),
                })
                .is_some()
        }
    };
    if !plan.sites.iter().all(met) {
        return None;
    }
    match rows.as_slice() {
        _ if !plan.one_row => Some(out),
        [row] => Some(row.clone()),
        _ => None,
    }
}

fn walk(plan: &ResponsePlan, path: &[Option<String>], value: &Value, rows: &mut Vec<Value>) -> Option<Value> {
    let here = |path: &[Option<String>]| -> Vec<usize> {
        let leads = |site: &RowSite| {
            path.len() <= site.path.len()
                && site.path.iter().zip(path).all(|(step, have)| match (step, have) {
                    (PathStep::Member(name), Some(have)) => **name == **have,
                    (PathStep::AnyMember, Some(_)) | (PathStep::Elements, None) => true,
                    _ => false,
                })
        };
        (0..plan.sites.len()).filter(|at| leads(&plan.sites[*at])).collect()
    };
    let sites = here(path);
    let ends = |at: &&usize| plan.sites[**at].path.len() == path.len();
    let row = sites.iter().filter(ends).find(|at| !matches!(plan.sites[**at].shape, RowShape::Plain(_)));
    if value.is_null() || sites.is_empty() {
        return Some(value.clone());
    }
    for at in &sites {
        let site = &plan.sites[*at];
        let fits = match (site.path.get(path.len()), &site.shape) {
            (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => value.is_array(),
            (Some(_), _) | (None, RowShape::Object) => value.is_object(),
            (None, RowShape::Scalar(_) | RowShape::Plain(Plain::Scalar)) => !value.is_array() && !value.is_object(),
            (None, RowShape::Plain(Plain::Number)) => value.is_number(),
            (None, RowShape::Plain(Plain::Boolean)) => value.is_boolean(),
            (None, RowShape::Plain(Plain::OneOf(known))) => value.as_str().is_some_and(|text| known.contains(text)),
        };
        if !fits {
            return None;
        }
    }
    let field = |name: &str, leads: bool| match row.map(|at| &plan.sites[*at]) {
        None => leads.then_some(false),
        Some(site) if !site.visible.contains(name) => {
            (leads && site.nested.iter().any(|nested| **nested == *name)).then_some(false)
        }
        Some(site) => Some(site.masks.iter().any(|mask| *mask.field == *name)),
    };
    let below = |step: Option<String>| [path, &[step]].concat();
    let out = match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, value) in members {
                let path = below(Some(name.clone()));
                match field(name, !here(&path).is_empty()) {
                    None => {}
                    Some(true) => drop(kept.insert(name.clone(), Value::Null)),
                    Some(false) => drop(kept.insert(name.clone(), walk(plan, &path, value, rows)?)),
                }
            }
            Value::Object(kept)
        }
        Value::Array(elements) => {
            let columns = row.and_then(|at| match &plan.sites[*at].shape {
                RowShape::Array(columns) => Some(columns),
                _ => None,
            });
            if columns.is_some_and(|columns| columns.len() != elements.len()) {
                return None;
            }
            let mut kept = Vec::new();
            for (at, value) in elements.iter().enumerate() {
                match columns.map_or(Some(false), |columns| field(&columns[at], false)) {
                    None => {}
                    Some(true) => kept.push(Value::Null),
                    Some(false) => kept.push(walk(plan, &below(None), value, rows)?),
                }
            }
            Value::Array(kept)
        }
        scalar => scalar.clone(),
    };
    if row == Some(&0) && out.is_object() {
        rows.push(out.clone());
    }
    Some(out)
}
