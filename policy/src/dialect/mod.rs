//! One folder per data API: a request is parsed into a [`DataRequest`], and re-emitted constrained.
//!
//! Rules for all: parse completely or deny; authorise every name; conjoin as trees; re-emit from the tree; parse the own
//! output again and compare. Text is never spliced.

use crate::{
    bundle::Service,
    code::Denial,
    decide::Constraints,
    request::{DataRequest, Header, HttpRequest},
    transform::ResponsePlan,
};
use doorward_proto::v1::Dialect;

pub mod datasette;
pub mod dreamfactory;
mod escape;
pub mod http;
pub mod names;
pub mod preflight;

/// A parsed request: what it asks, and the dialect's own tree to re-emit it from.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What the request asks, independent of the dialect.
    pub request: DataRequest,
    /// The dialect's syntax tree.
    pub syntax: Syntax,
}

/// The syntax tree of one dialect.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per request, on the stack; a box would cost an allocation each")]
pub enum Syntax {
    /// Datasette's table API.
    Datasette(datasette::Request),
    /// DreamFactory's data API.
    DreamFactory(dreamfactory::Request),
    /// Plain REST.
    Http(http::Request),
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
    match service.dialect {
        Dialect::Dreamfactory => dreamfactory::body_need(request),
        Dialect::Http => http::body_need(request),
        _ => BodyNeed::None,
    }
}

/// Parses a request of this service. `request.path` still has the service's prefix.
///
/// # Errors
/// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
pub fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed, Denial> {
    match service.dialect {
        Dialect::Datasette => datasette::parse(service, prefix, request),
        Dialect::Dreamfactory => dreamfactory::parse(service, prefix, request),
        Dialect::Http => http::parse(service, prefix, request),
        Dialect::Unspecified => {
            Err(Denial::new(crate::code::Code::Unsupported, "The service's dialect is unknown to this build."))
        }
    }
}

/// Re-emits a parsed request with the constraints inside it, and proves it by parsing the output again.
///
/// # Errors
/// `row_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse to the expected tree.
pub fn emit(service: &Service, prefix: &str, parsed: &Parsed, constraints: &Constraints) -> Result<Rewrite, Denial> {
    match &parsed.syntax {
        Syntax::Datasette(syntax) => datasette::emit(service, prefix, syntax, &parsed.request, constraints),
        Syntax::DreamFactory(syntax) => dreamfactory::emit(service, prefix, syntax, &parsed.request, constraints),
        Syntax::Http(syntax) => http::emit(service, prefix, syntax, &parsed.request, constraints),
    }
}
