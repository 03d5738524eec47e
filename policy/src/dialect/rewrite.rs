//! What a dialect makes of a request: what it asks, and what has to change in it.

use crate::{
    request::{DataRequest, Header, HttpRequest},
    transform::ResponsePlan,
};

/// A parsed request: what it asks, and the dialect's own tree to re-emit it from.
#[derive(Clone, Debug)]
pub struct Parsed<S> {
    /// What the request asks, independent of the dialect.
    pub request: DataRequest,
    /// The dialect's syntax tree.
    pub syntax: S,
}

/// What has to change in the request, and what the response needs.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// New `:path`, if it changes.
    pub path: Option<String>,
    /// New body, if it changes.
    pub body: Option<Vec<u8>>,
    /// Headers (lower case) to remove, such as method overrides that were resolved and conditional headers.
    pub remove_headers: Vec<String>,
    /// Headers (lower case) to set.
    pub set_headers: Vec<(String, String)>,
    /// What the response needs.
    pub response: ResponsePlan,
}

/// Headers that make a response depend on what the caller has already, or take another form than the one that is checked.
pub(in crate::dialect) const CONDITIONAL: [&str; 6] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"];

impl Rewrite {
    /// The headers that are set, as a request has them.
    pub(in crate::dialect) fn headers(&self) -> Vec<Header<'_>> {
        self.set_headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    /// What was written, as a request to be parsed again.
    pub(in crate::dialect) fn request<'a>(&'a self, method: &'a str, headers: &'a [Header<'a>]) -> HttpRequest<'a> {
        HttpRequest {
            method,
            authority: "",
            path: self.path.as_deref().unwrap_or_default(),
            headers,
            body: self.body.as_deref(),
            source_address: "",
        }
    }
}

/// Whether a request's body is part of what the dialect must understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyNeed {
    /// The dialect does not look at bodies; a request with one is denied by `parse`.
    None,
    /// The body must be buffered whole before `parse`.
    Whole,
}
