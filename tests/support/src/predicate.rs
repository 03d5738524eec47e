//! Row filters, as slow evaluators take them.

use doorward_policy_core::{predicate::CompareOp, value::FieldType};
use std::cmp::Ordering;

/// A field of every type that can be compared, and one that cannot; `order` is a word of the grammar too.
pub const FIELDS: [(&str, FieldType); 8] = [
    ("i", FieldType::Integer),
    ("n", FieldType::Number),
    ("s", FieldType::String),
    ("order", FieldType::String),
    ("b", FieldType::Boolean),
    ("t", FieldType::Timestamp),
    ("d", FieldType::Date),
    ("j", FieldType::Json),
];

/// Every comparison.
pub const COMPARISONS: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];

/// Whether a comparison holds of two values in this order.
#[must_use]
pub fn holds(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        _ => order.is_ge(),
    }
}
