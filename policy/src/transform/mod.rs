//! Streaming removal and masking of JSON fields: chunk by chunk, constant memory, correct at any chunk boundary.

mod error;
mod mask;
mod paths;
mod stream;
mod tape;
mod utf8;

pub use crate::mask::{MaskKind, MaskRule};
use crate::{Name, bundle::FieldSet};
pub use error::TransformError;
use std::sync::Arc;
pub use stream::Transformer;

/// What must happen to a response. An empty plan lets it pass untouched.
///
/// The sites are all that goes on: a member on the way to them that leads to none is removed, whatever it holds, and a value
/// on the way that has not the form of a way makes the response unverifiable. So nothing can be a door for rows that the
/// dialect did not expect.
#[derive(Clone, Debug, Default)]
pub struct ResponsePlan {
    /// Where rows and other values are, and what may be in them. Empty: the response needs no reading.
    pub sites: Vec<RowSite>,
    /// The answer is the one row of the first site alone, without what is around it. No row is [`TransformError::Absent`],
    /// a second one [`TransformError::Unexpected`].
    pub one_row: bool,
    /// Statuses at or above 400 are replaced by an own error body, because the upstream's text may quote the rewritten query.
    pub hide_error_bodies: bool,
    /// Where that is not so: the sites of a body of such a status. Empty: it is replaced all the same, if the plan reads.
    pub error_sites: Vec<RowSite>,
    /// Response headers and trailers (lower case) that are removed, because they show the rewritten query (e.g. `link`, `location`).
    pub remove_headers: Vec<Name>,
    /// The response answers a CORS preflight of nobody: its body is dropped, and of its headers only those of
    /// [`is_of_preflight`] pass.
    pub preflight: bool,
}

/// One place in the response where rows are, or a value of another kind.
#[derive(Clone, Debug)]
pub struct RowSite {
    /// Path from the document's root to the row (or to the list of rows).
    pub path: Vec<PathStep>,
    /// Form of one row.
    pub shape: RowShape,
    /// Fields that may be seen; any other member of a row object is removed.
    pub visible: Arc<FieldSet>,
    /// Masks on visible fields.
    pub masks: Arc<[MaskRule]>,
    /// Members of the row objects that hold nested rows: they are kept, and must have a site of their own.
    pub nested: Vec<Name>,
    /// A body without this place is not verifiable. An empty list there, or `null`, is enough.
    pub required: bool,
}

impl RowSite {
    /// A value without rows, of this form.
    #[must_use]
    pub fn plain(path: Vec<PathStep>, form: Plain) -> RowSite {
        RowSite {
            path,
            shape: RowShape::Plain(form),
            visible: Arc::default(),
            masks: Arc::default(),
            nested: Vec::new(),
            required: false,
        }
    }

    /// The same, and a body must have it.
    #[must_use]
    pub fn required(self) -> RowSite {
        RowSite { required: true, ..self }
    }
}

/// A form of values that can hold no row. `null` is of every form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    /// A text, a number, `true` or `false`.
    Scalar,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A text that is one of these.
    OneOf(Arc<FieldSet>),
}

/// One step of a path into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// Member of this name.
    Member(Name),
    /// Every member of an object, whatever its name.
    AnyMember,
    /// Every element of an array.
    Elements,
}

/// The form of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowShape {
    /// `{"field": value}`
    Object,
    /// `[value, …]` in this order of columns; a row of another length is an error.
    Array(Vec<Name>),
    /// A bare value of this field.
    Scalar(Name),
    /// No row: a value of this form.
    Plain(Plain),
}

/// True for a response header (lower case) that is made of the whole body as the data API sent it: by its hash or its
/// time, whoever knows the rest of the body could try out what was removed or masked.
#[must_use]
pub fn tells_the_original(header: &str) -> bool {
    matches!(header, "etag" | "last-modified" | "content-md5" | "digest" | "content-digest" | "repr-digest")
}

/// True for a response header (lower case) that may answer a CORS preflight.
#[must_use]
pub fn is_of_preflight(header: &str) -> bool {
    header.starts_with("access-control-") || matches!(header, "vary" | "allow" | "cache-control" | "date")
}

impl ResponsePlan {
    /// True if the response's body has to be read.
    #[must_use]
    pub fn reads(&self) -> bool {
        !self.sites.is_empty()
    }

    /// True if nothing has to happen to the response.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        !self.reads() && !self.hide_error_bodies && self.remove_headers.is_empty() && !self.preflight
    }
}
