//! The kinds of documents, and one document as it was read.

use super::{
    AccessBinding, AccessKey, AccessRestriction, AccessRole, DataService, IdentityProvider, PathLines, PolicyTest,
};
use serde_json::Value;

/// Declares the kinds once: the enum of names, the enum of specs, and how each is read.
macro_rules! kinds {
    ($($kind:ident),*) => {
        /// Kind of a document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each kind is documented at its type")]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];
            /// Its name in documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind)),* }
            }
        }

        /// A document's content by kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each kind is documented at its type")]
        #[allow(clippy::large_enum_variant, reason = "documents are few, and matching without a box reads better")]
        pub enum Spec { $($kind($kind)),* }

        impl Spec {
            /// The kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Spec::$kind(_) => Kind::$kind),* }
            }
            pub(super) fn read(kind: Kind, value: Value) -> Result<Spec, serde_path_to_error::Error<serde_json::Error>> {
                match kind { $(Kind::$kind => serde_path_to_error::deserialize(value).map(Spec::$kind)),* }
            }
        }
    };
}
kinds!(IdentityProvider, DataService, AccessRole, AccessBinding, AccessKey, AccessRestriction, PolicyTest);

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One document as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Kind.
    pub kind: Kind,
    /// `metadata.name`
    pub name: String,
    /// When it was made, in Unix seconds, where its source says so (`metadata.creationTimestamp`); else 0. Of two documents with
    /// the same claim the older one has it.
    pub created: i64,
    /// Where it came from, as the caller named it.
    pub file: String,
    /// Its first line, from 1; 0 if it has none.
    pub line: usize,
    /// Its content.
    pub spec: Spec,
    /// Lines of its values.
    pub lines: PathLines,
}

impl Document {
    /// Its name without its namespace, where it has one.
    #[must_use]
    pub fn bare_name(&self) -> &str {
        super::namespace::bare(&self.name)
    }
}
