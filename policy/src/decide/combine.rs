//! Several parties permit: what remains is what all of them allow.

use super::{
    Constraints, OperationConstraints, Question,
    permit::{Permit, Permitted, check_arguments},
    restrict::least,
    writes,
};
use crate::{
    Name,
    bundle::{FieldSet, roles::mask_of},
    code::{Code, Denial},
    predicate::Predicate,
    request::{Clause, Operation, Projection},
    transform::{MaskKind, MaskRule},
    value::{Literal, Value},
};
use std::sync::Arc;

impl Question<'_> {
    /// The intersection of all permits.
    pub(super) fn combine(&self, permits: Vec<Permit<'_>>) -> Result<Constraints, Denial> {
        let mut columns: Vec<_> = permits.into_iter().map(|permit| permit.operations.into_iter()).collect();
        let mut operations = Vec::with_capacity(self.request.operations.len());
        for operation in &self.request.operations {
            let mut permitted: Vec<Permitted<'_>> = columns.iter_mut().filter_map(Iterator::next).collect();
            if permitted.len() == 1 {
                operations.extend(permitted.pop().map(|only| only.constraints));
                continue;
            }
            let mut parts = permitted.iter().map(|each| each.constraints.clone());
            let Some(mut all) = parts.next() else {
                return Err(Denial::new(Code::RoleNone, "This caller holds no role."));
            };
            for part in parts {
                all = intersect(operation, all, part)?;
            }
            recheck(operation, &permitted, &all)?;
            operations.push(all);
        }
        Ok(Constraints { operations })
    }
}

fn conflict(operation: &Operation) -> Denial {
    let detail = format!("The roles of the caller and its agents contradict each other on {}.", operation.component);
    Denial::new(Code::RowDenied, detail)
}

fn intersect(
    operation: &Operation,
    left: OperationConstraints,
    right: OperationConstraints,
) -> Result<OperationConstraints, Denial> {
    let visible = if left.visible == right.visible {
        left.visible
    } else {
        let both = left.visible.iter().filter(|name| right.visible.contains(name)).cloned().collect();
        Arc::new(FieldSet::new(both))
    };
    let mut omitted = left.omitted;
    for name in right.omitted {
        if !omitted.contains(&name) {
            omitted.push(name);
        }
    }
    let mut set: Vec<(Name, Literal, bool)> = left.set;
    for (field, value, overrides) in right.set {
        match set.iter_mut().find(|(have, _, _)| *have == field) {
            None => set.push((field, value, overrides)),
            Some(have) if have.1 == value => have.2 |= overrides,
            // A value that overrides wins over one that only fills a gap; two that differ cannot both be had.
            Some(have) if overrides && !have.2 => *have = (field, value, true),
            Some(have) if have.2 && !overrides => {}
            Some(_) => return Err(conflict(operation)),
        }
    }
    let mut arguments: Vec<(Name, Literal)> = left.arguments;
    for (name, value) in right.arguments {
        match arguments.iter().find(|(have, _)| *have == name) {
            None => arguments.push((name, value)),
            Some((_, have)) if *have == value => {}
            Some(_) => return Err(conflict(operation)),
        }
    }
    Ok(OperationConstraints {
        rows: Predicate::conjoin(left.rows, right.rows),
        masks: strongest(&left.masks, &right.masks, &visible),
        visible,
        sees_all: left.sees_all && right.sees_all,
        omitted,
        set,
        max_rows: least(left.max_rows, right.max_rows),
        arguments,
        check: Predicate::conjoin(left.check, right.check),
    })
}

/// Every mask of either, the stronger where both have one.
fn strongest(left: &Arc<[MaskRule]>, right: &Arc<[MaskRule]>, visible: &FieldSet) -> Arc<[MaskRule]> {
    if left == right && left.iter().all(|mask| visible.contains(&mask.field)) {
        return Arc::clone(left);
    }
    let stronger = |field: &Name| match (mask_of(left, field), mask_of(right, field)) {
        (Some(left), Some(right)) => {
            let filterable = left.filterable && right.filterable;
            let kept = if rank(right) > rank(left) { right } else { left };
            let mut mask = MaskRule { filterable, ..kept.clone() };
            // What one kind leaves, another hides: nothing is left that both would show.
            if left.kind != right.kind && !matches!(kept.kind, MaskKind::MaskNull | MaskKind::MaskFixed) {
                mask.kind = MaskKind::MaskNull;
            }
            Some(mask)
        }
        (one, None) | (None, one) => one.cloned(),
    };
    visible.iter().filter_map(stronger).collect()
}

/// Strength of a mask: the kind first, then how little it leaves.
fn rank(mask: &MaskRule) -> (u8, u32) {
    match mask.kind {
        MaskKind::MaskNull | MaskKind::Unspecified => (6, 0),
        MaskKind::MaskFixed => (5, 0),
        MaskKind::MaskToken => (4, 0),
        MaskKind::MaskLast => (3, u32::MAX - mask.length),
        MaskKind::MaskTruncate => (2, u32::MAX - mask.length),
        MaskKind::MaskEmail => (1, 0),
    }
}

/// What each party permitted on its own has to hold for what all of them together make of the request.
fn recheck(operation: &Operation, permitted: &[Permitted<'_>], all: &OperationConstraints) -> Result<(), Denial> {
    let listed = operation.fields.iter().filter(|used| used.clause == Clause::Project);
    let nothing_left = match operation.projection {
        Projection::All => all.visible.is_empty(),
        Projection::Listed => !all.omitted.is_empty() && listed.clone().all(|used| all.omitted.contains(&used.field)),
        Projection::Nothing => false,
    };
    if nothing_left {
        let detail = format!("No field of {} is visible to the caller and all its agents.", operation.component);
        return Err(Denial::new(Code::FieldDenied, detail));
    }
    let mut given: Vec<(Name, Value)> = operation.arguments.clone();
    for (name, value) in &all.arguments {
        given.retain(|(have, _)| have != name);
        given.push((name.clone(), Value::Literal(value.clone())));
    }
    for each in permitted {
        let own = &each.constraints;
        writes::check(operation, own.check.as_ref(), all.rows.as_ref(), &all.set, each.grant.unchecked)?;
        check_arguments(operation, each.grant, each.component, &each.context, &given)?;
    }
    Ok(())
}
