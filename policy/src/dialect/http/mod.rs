//! Placeholder.
use crate::{
    bundle::Service,
    code::{Code, Denial},
    decide::Constraints,
    dialect::{BodyNeed, Parsed, Rewrite},
    request::{DataRequest, HttpRequest},
};
/// Syntax tree.
#[derive(Clone, Debug)]
pub struct Request;
/// Body need.
#[must_use]
pub fn body_need(_: &HttpRequest<'_>) -> BodyNeed {
    BodyNeed::None
}
/// Parse.
/// # Errors
/// `unsupported`
pub fn parse(_: &Service, _: &str, _: &HttpRequest<'_>) -> Result<Parsed, Denial> {
    Err(Denial::new(Code::Unsupported, "not yet"))
}
/// Emit.
/// # Errors
/// `unsupported`
pub fn emit(_: &Service, _: &str, _: &Request, _: &DataRequest, _: &Constraints) -> Result<Rewrite, Denial> {
    Err(Denial::new(Code::Unsupported, "not yet"))
}
