//! Rewriting a predicate into a smaller one with the same truth value, NULLs included.

use super::Predicate;
use crate::Name;

/// Lists longer than this are not searched for duplicates.
const DEDUPLICATE: usize = 64;

/// Folds constants, flattens nested lists, removes double negations and repeated members. Never changes a truth value,
/// also not in three-valued logic.
#[must_use]
pub fn simplify<V: PartialEq>(predicate: Predicate<V>) -> Predicate<V> {
    match predicate {
        Predicate::And(items) => list(items, false),
        Predicate::Or(items) => list(items, true),
        Predicate::Not(inner) => match simplify(*inner) {
            Predicate::Constant(value) => Predicate::Constant(!value),
            Predicate::Not(inner) => *inner,
            inner => Predicate::Not(Box::new(inner)),
        },
        other => other,
    }
}

/// A disjunction (`or`) or conjunction, simplified.
fn list<V: PartialEq>(items: Vec<Predicate<V>>, or: bool) -> Predicate<V> {
    let mut out: Vec<Predicate<V>> = Vec::with_capacity(items.len());
    for item in items {
        match (simplify(item), or) {
            (Predicate::Constant(value), _) if value == or => return Predicate::Constant(or),
            (Predicate::Constant(_), _) => {}
            (Predicate::Or(inner), true) | (Predicate::And(inner), false) => {
                inner.into_iter().for_each(|item| push(&mut out, item));
            }
            (item, _) => push(&mut out, item),
        }
    }
    match out.pop() {
        None => Predicate::Constant(!or),
        Some(only) if out.is_empty() => only,
        Some(last) => {
            out.push(last);
            if or { Predicate::Or(out) } else { Predicate::And(out) }
        }
    }
}

fn push<V: PartialEq>(out: &mut Vec<Predicate<V>>, item: Predicate<V>) {
    if out.len() > DEDUPLICATE || !out.contains(&item) {
        out.push(item);
    }
}

impl<V: PartialEq> Predicate<V> {
    /// The conjunction of both, simplified; `None` is "all rows".
    #[must_use]
    pub fn conjoin(left: Option<Self>, right: Option<Self>) -> Option<Self> {
        match (left, right) {
            (Some(left), Some(right)) => match simplify(Predicate::And(vec![left, right])) {
                Predicate::Constant(true) => None,
                both => Some(both),
            },
            (one, None) | (None, one) => one,
        }
    }
}

impl<V> Predicate<V> {
    /// The members of the top-level conjunction.
    #[must_use]
    pub fn conjuncts(&self) -> &[Predicate<V>] {
        match self {
            Predicate::And(items) => items,
            other => std::slice::from_ref(other),
        }
    }

    /// Calls `visit` with every field that the predicate looks at.
    pub fn each_field(&self, visit: &mut dyn FnMut(&Name)) {
        match self {
            Predicate::Constant(_) => {}
            Predicate::And(items) | Predicate::Or(items) => items.iter().for_each(|item| item.each_field(visit)),
            Predicate::Not(inner) => inner.each_field(visit),
            Predicate::Compare { field, .. }
            | Predicate::In { field, .. }
            | Predicate::Like { field, .. }
            | Predicate::IsNull { field, .. } => visit(field),
        }
    }
}
