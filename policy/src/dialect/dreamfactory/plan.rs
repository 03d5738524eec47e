//! What the response needs: where rows are in it, and what may be in them. The second net behind the rewritten request.

use super::tree::{Column, Rows, Table};
use crate::{
    Name,
    bundle::{Component, FieldSet},
    decide::{Constraints, OperationConstraints},
    dialect::shared::member,
    request::Verb,
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite},
};
use std::sync::Arc;

/// True if an error text of the data API could show what the caller may not see.
pub(super) fn hides(constraints: &OperationConstraints) -> bool {
    constraints.rows.is_some() || !constraints.sees_all || !constraints.masks.is_empty()
}

/// Second net: where rows are in the response, and what may be in them.
pub(super) fn sites(
    verb: Verb,
    table: &Table,
    component: Option<&Component>,
    constraints: &Constraints,
    plan: &mut ResponsePlan,
) {
    let Some((own, nested)) = constraints.operations.split_first() else { return };
    if table.count_only {
        plan.sites.push(RowSite::plain(Vec::new(), Plain::Number).required());
        return;
    }
    if verb == Verb::Delete && matches!(table.rows, Rows::All) {
        // The table is emptied as a whole, and no row comes back.
        plan.sites.push(RowSite::plain(vec![member("success")], Plain::Boolean).required());
        return;
    }
    let aliases: Vec<Name> = table
        .fields
        .iter()
        .flatten()
        .filter_map(|column| match column {
            Column::Field(_) => None,
            Column::Aggregate(function, Some(field)) => Some(format!("{function}_{field}").into()),
            Column::Aggregate(function, None) => Some(format!("{function}_ALL").into()),
        })
        .collect();
    let mut root = Vec::new();
    if !matches!(table.rows, Rows::One(_)) {
        root.push(PathStep::Member(table.wrapper.clone()));
        root.push(PathStep::Elements);
    }
    let names = table.related.iter().map(|related| related.name.clone()).collect();
    let mut rows = site(root.clone(), own, &aliases, names).required();
    if let Some(key) = &table.as_list {
        rows.shape = RowShape::Scalar(key.clone());
    }
    plan.sites.push(rows);
    if verb == Verb::Get {
        for (related, constraints) in table.related.iter().zip(nested) {
            let mut path = root.clone();
            path.push(PathStep::Member(related.name.clone()));
            // DreamFactory names relations TABLE_by_FIELD. With a field of this table there is one related row, else there
            // is a list; a response of the other form is refused.
            let own_field = related.name.rsplit_once("_by_").is_some_and(|(_, field)| {
                component.is_some_and(|component| component.field_ignoring_case(field).is_some())
            });
            if !own_field {
                path.push(PathStep::Elements);
            }
            plan.sites.push(site(path, constraints, &[], Vec::new()));
        }
    }
    if !root.is_empty() && !plan.one_row {
        for name in ["count", "next"] {
            plan.sites.push(RowSite::plain(vec![member("meta"), member(name)], Plain::Number));
        }
    }
}

pub(super) fn site(
    path: Vec<PathStep>,
    constraints: &OperationConstraints,
    aliases: &[Name],
    nested: Vec<Name>,
) -> RowSite {
    let visible = if aliases.is_empty() {
        Arc::clone(&constraints.visible)
    } else {
        Arc::new(FieldSet::new(constraints.visible.iter().chain(aliases).cloned().collect()))
    };
    RowSite { path, shape: RowShape::Object, visible, masks: Arc::clone(&constraints.masks), nested, required: false }
}

/// DreamFactory's errors; `context`, which goes, holds the rows of a batch and what became of each.
pub(super) fn error_sites() -> Vec<RowSite> {
    let part = |name: &str| RowSite::plain(vec![member("error"), member(name)], Plain::Scalar);
    ["code", "status_code", "message"].map(part).into()
}
