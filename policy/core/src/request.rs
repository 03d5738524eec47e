//! The dialect-independent form of a data request: what is touched, and how.

use crate::{Name, value::Value};
pub use doorward_proto::v1::Verb;
use smallvec::SmallVec;

/// One header of a request; names are lower case, as HTTP/2 and Envoy deliver them.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Lower-case name, pseudo-headers excluded.
    pub name: &'a str,
    /// The value as it came.
    pub value: &'a [u8],
}

/// An HTTP request as it arrived. `body` is `None` until (or unless) it was buffered whole.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:authority`, as sent
    pub authority: &'a str,
    /// `:path` with the query, as sent
    pub path: &'a str,
    /// All headers but the pseudo-headers, in their order, duplicates included.
    pub headers: &'a [Header<'a>],
    /// The whole body, where the dialect asked for it.
    pub body: Option<&'a [u8]>,
    /// The peer's IP address as the proxy knows it, without port; "" where unknown.
    pub source_address: &'a str,
}

impl<'a> HttpRequest<'a> {
    /// Value of the header of this (lower-case) name. `Err` if it occurs more than once.
    #[allow(clippy::result_unit_err, reason = "the one error is 'more than one'")]
    pub fn single_header(&self, name: &str) -> Result<Option<&'a [u8]>, ()> {
        let mut found = self.headers.iter().filter(|header| header.name == name);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => Ok(Some(header.value)),
            (Some(_), Some(_)) => Err(()),
        }
    }

    /// True if a header of this (lower-case) name is present.
    #[must_use]
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|header| header.name == name)
    }

    /// True if a header is present that some servers take for the one of this (lower-case) name.
    #[must_use]
    pub fn may_have_header(&self, name: &str) -> bool {
        self.headers.iter().any(|header| same_header(header.name, name))
    }
}

/// True if a server may take both names for one header: CGI, and PHP, Python and Ruby after it, give `x-a` and `x_a` to the
/// application under one name, so an alias with underscores could stand beside the header that was checked.
#[must_use]
pub fn same_header(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().map(dashed).eq(other.bytes().map(dashed))
}

/// The same for the beginning of a name.
#[must_use]
pub fn header_begins(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| same_header(start, prefix))
}

fn dashed(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// What one request asks of the data: every operation in it. All are permitted, or none.
#[derive(Clone, Debug, Default)]
pub struct DataRequest {
    /// At least one. Nested relations are operations of their own, after their parent.
    pub operations: Vec<Operation>,
}

/// Where in a request a field is used. A field that is not readable may not be used in any of these but `Write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names of the query clauses")]
pub enum Clause {
    Project,
    Filter,
    Sort,
    Group,
    Aggregate,
    Join,
    Cursor,
    Search,
    /// Names the row in the path or in an id list.
    Key,
    /// Sets a value.
    Write,
}

/// One field, used in one clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldUse {
    /// Field name as declared (the dialect resolved case where its server ignores it), or as asked if undeclared.
    pub field: Name,
    /// Where it is used.
    pub clause: Clause,
}

/// What an operation wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// `select *`, or nothing said: the dialect narrows it to the visible fields.
    All,
    /// The fields listed in [`Operation::fields`] with [`Clause::Project`]; the dialect narrows if some are omitted.
    Listed,
    /// No row content comes back (counts, deletes that return nothing, files, procedure calls).
    Nothing,
}

/// Which constraints the dialect can put into this operation *soundly*. What is false here and required by the policy
/// denies the request (`row_denied` for rows and checks, `unsupported` otherwise).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// A row predicate can be conjoined.
    pub rows: bool,
    /// The projection can be narrowed to the visible fields, or the response is filtered as a whole.
    pub project: bool,
    /// Masks can be applied to the response.
    pub mask: bool,
    /// A cap on the number of rows can be enforced.
    pub cap: bool,
    /// Written values are known in full ([`Operation::writes`] is complete), so a check can be made on them.
    pub check: bool,
    /// Preset values can be put into the written rows.
    pub set: bool,
}

/// One row to be written, as the body gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenRow {
    /// Field and value in the body's order; `None`: a value that is not a scalar (a JSON array or object).
    pub values: Vec<(Name, Option<Value>)>,
}

/// What a write does with rows that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteKind {
    /// The operation does not write.
    #[default]
    None,
    /// Creates rows: values that are not given get the database's default (unknown here).
    Create,
    /// Changes the rows that the (conjoined) row predicate selects; fields that are not given stay as they are.
    Update,
    /// Removes the rows that the (conjoined) row predicate selects.
    Delete,
    /// Replaces or creates without looking (PUT by key, upsert): never sound under a row policy.
    Replace,
}

/// One component, one verb, and everything that is used of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Canonical component name (decoded, lower-cased where the server ignores case).
    pub component: Name,
    /// As meant, after method overrides.
    pub verb: Verb,
    /// Every field that the request names, with the clause. Duplicates are allowed.
    pub fields: SmallVec<[FieldUse; 8]>,
    /// What comes back.
    pub projection: Projection,
    /// Rows asked for at most, if the request says so.
    pub limit: Option<u64>,
    /// What the dialect can enforce here.
    pub capabilities: Capabilities,
    /// Kind of write.
    pub write: WriteKind,
    /// The rows to write.
    pub writes: Vec<WrittenRow>,
    /// Arguments of a procedure, tool or path template, by name.
    pub arguments: Vec<(Name, Value)>,
    /// Index of the parent operation, for a nested relation.
    pub parent: Option<usize>,
}

impl Operation {
    /// An operation that names nothing yet.
    #[must_use]
    pub fn new(component: Name, verb: Verb) -> Self {
        Operation {
            component,
            verb,
            fields: SmallVec::new(),
            projection: Projection::Nothing,
            limit: None,
            capabilities: Capabilities::default(),
            write: WriteKind::None,
            writes: Vec::new(),
            arguments: Vec::new(),
            parent: None,
        }
    }
}

/// Short upper-case name of a verb, e.g. `GET`.
#[must_use]
pub fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::Call => "CALL",
        Verb::Unspecified => "?",
    }
}
