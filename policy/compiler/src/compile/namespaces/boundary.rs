//! Which namespace all others trust.

use crate::document::{Document, namespace::namespace};

/// Which namespaces bound what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Its providers count everywhere, and so do its restrictions.
    pub trusted: Option<String>,
}

impl Boundary {
    /// Sorts who comes first where two claim the same: the trusted namespace, then the older one.
    pub(in crate::compile) fn age(&self, document: &Document) -> (bool, i64) {
        (!self.trusts(namespace(&document.name)), document.created)
    }

    /// Whether this one is trusted.
    pub(super) fn trusts(&self, namespace: &str) -> bool {
        self.trusted.as_deref() == Some(namespace)
    }
}
