//! Plain REST: path templates with verbs, declared parameters, JSON bodies.
//!
//! What a path template does not match and what its operation does not declare is denied. Rows can be limited only through
//! parameters that the service declares as filters (`filters: FIELD`): each conjunct of the row predicate must already hold
//! for the values that were given, or be an equality that an unused filter parameter can be set to. The number of
//! rows can be limited only through a declared integer parameter named `limit`, `per_page` or `page_size`.
//!
//! The body of a write is a row or a list of rows. Where an operation declares body parameters (JSON pointers), the body holds
//! these and nothing else.

mod emit;
mod parse;
#[cfg(test)]
mod tests;

pub use parse::Request;

use crate::{
    bundle::Service,
    code::Denial,
    decide::Constraints,
    dialect::{BodyNeed, Dialect, Rewrite, Rules, as_it_is, rewrite::Parsed},
    request::{DataRequest, HttpRequest},
};

/// Plain REST.
#[derive(Clone, Copy, Debug)]
pub struct Http;

impl Dialect for Http {
    const NAME: &'static str = "http";
    const CREDENTIAL_HEADERS: &'static [&'static str] = &[];
    const ANSWERS_ANY_VERSION: bool = false;
    const RULES: Rules = Rules {
        about: "Plain REST, described by path templates.",
        folds_components: false,
        folds_fields: false,
        files: false,
        wrapper: None,
        operations: true,
        writes: true,
        casts: None,
        renames: as_it_is,
        takes: |name| (name == "_method").then_some("frameworks take a parameter of this name for another method"),
    };

    type Syntax = Request;

    fn body_need(request: &HttpRequest<'_>) -> BodyNeed {
        parse::body_need(request)
    }

    fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed<Request>, Denial> {
        parse::parse(service, prefix, request)
    }

    fn emit(
        service: &Service,
        prefix: &str,
        syntax: &Request,
        _: &DataRequest,
        constraints: &Constraints,
    ) -> Result<Rewrite, Denial> {
        emit::emit(service, prefix, syntax, constraints)
    }
}
