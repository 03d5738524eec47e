//! One folder per data API: a request is parsed into a [`crate::request::DataRequest`], and re-emitted constrained.
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
    request::HttpRequest,
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
mod rewrite;
mod shared;
#[cfg(test)]
mod tests;

pub use description::{Casts, Dialect, Rules, Wrapper, as_it_is};
use register::register;
pub use rewrite::{BodyNeed, Rewrite};

register! {
    Datasette => datasette::Datasette,
    Dreamfactory => dreamfactory::DreamFactory,
    Http => http::Http,
}

/// A parsed request of any dialect.
pub type Parsed = rewrite::Parsed<Syntax>;

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
