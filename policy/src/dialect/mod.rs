//! One folder per data API: a request is parsed into a [`DataRequest`], and re-emitted constrained.
//!
//! Rules for all: parse completely or deny; authorise every name; conjoin as trees; re-emit from the tree; parse the own
//! output again and compare. Text is never spliced.
//!
//! A dialect is a folder with one description ([`Dialect`]) and one line in the register below. Everything else asks the
//! register ([`Registered`]): no other code names a dialect.

use crate::{
    bundle::Service,
    code::{Code, Denial},
    decide::Constraints,
    request::{DataRequest, Header, HttpRequest},
    transform::ResponsePlan,
};
use doorward_proto::v1;

pub mod datasette;
pub mod dreamfactory;
pub mod http;

mod description;
#[cfg(test)]
mod fixture;
pub mod names;
pub mod preflight;
mod register;
mod shared;
#[cfg(test)]
mod tests;

pub use description::{Casts, Dialect, Rules, Wrapper, as_it_is};
use register::register;

register! {
    Datasette => datasette::Datasette,
    Dreamfactory => dreamfactory::DreamFactory,
    Http => http::Http,
}

/// A parsed request: what it asks, and the dialect's own tree to re-emit it from.
#[derive(Clone, Debug)]
pub struct Parsed<S = Syntax> {
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
const CONDITIONAL: [&str; 6] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"];

impl Rewrite {
    /// The headers that are set, as a request has them.
    fn headers(&self) -> Vec<Header<'_>> {
        self.set_headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    /// What was written, as a request to be parsed again.
    fn request<'a>(&'a self, method: &'a str, headers: &'a [Header<'a>]) -> HttpRequest<'a> {
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

/// Tells from the head alone whether `parse` needs the body.
#[must_use]
pub fn body_need(service: &Service, request: &HttpRequest<'_>) -> BodyNeed {
    Registered::of(service.dialect).map_or(BodyNeed::None, |dialect| dialect.body_need(request))
}

/// Parses a request of this service. `request.path` still has the service's prefix.
///
/// # Errors
/// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
pub fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed, Denial> {
    match Registered::of(service.dialect) {
        Some(dialect) => dialect.parse(service, prefix, request),
        None => Err(Denial::new(Code::Unsupported, "The service's dialect is unknown to this build.")),
    }
}
