//! What the tests of more than one dialect need of a decision.

use crate::{decide::OperationConstraints, predicate::Resolved};
use doorward_test_support::schema::fields;
use std::sync::Arc;

/// Constraints that leave these fields, and these rows; nothing else is limited or set.
pub fn limits(visible: &[&str], rows: Option<Resolved>) -> OperationConstraints {
    OperationConstraints {
        rows,
        visible: fields(visible),
        sees_all: false,
        omitted: Vec::new(),
        masks: Arc::default(),
        set: Vec::new(),
        max_rows: None,
        arguments: Vec::new(),
        check: None,
    }
}
