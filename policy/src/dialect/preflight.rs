//! CORS preflights (Fetch Standard, section "CORS-preflight fetch"): before a page of another origin may send a request with a
//! header or a method of its own, its browser asks whether it may, with `OPTIONS` and without any credential.
//!
//! Nobody can be identified by such a request, so nothing but it may go upstream, and nothing but its answer come back: the
//! path without its query, a few headers without meaning for the data, no body, no identity. Of the response, only headers
//! that belong to CORS return (see [`crate::transform::is_of_preflight`]).

use super::{Rewrite, shared::path};
use crate::{code::Denial, request::HttpRequest, transform::ResponsePlan};

/// Headers that go upstream with a preflight; all others are removed.
const KEPT: [&str; 13] = [
    "host",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
    "access-control-request-private-network",
    "accept",
    "content-length",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// The sentence where a service does not let preflights pass.
pub const DENIED: &str = "This is a browser's CORS preflight, which has no credential, and the service does not let preflights pass. \
     Answer them before Doorward, by Envoy's CORS filter, or let them pass with `cors: pass` in its DataService.";

/// True for a preflight: `OPTIONS` with one origin and one method that is asked for, without a body.
#[must_use]
pub fn is_preflight(request: &HttpRequest<'_>) -> bool {
    let given = |name| matches!(request.single_header(name), Ok(Some(value)) if !value.is_empty());
    request.method == "OPTIONS"
        && given("origin")
        && given("access-control-request-method")
        && request.body.is_none_or(<[u8]>::is_empty)
        && !request.has_header("transfer-encoding")
        && matches!(request.single_header("content-length"), Ok(None | Some(b"0")))
}

/// The preflight as it goes upstream.
///
/// # Errors
/// `unparsable`, if the path is none that every server reads alike.
pub fn pass(prefix: &str, request: &HttpRequest<'_>) -> Result<Rewrite, Denial> {
    let plain = request.path.split('?').next().unwrap_or_default();
    path::split(prefix, plain)?;
    let removed = request.headers.iter().map(|header| header.name).filter(|name| !KEPT.contains(name));
    Ok(Rewrite {
        path: Some(plain.to_owned()),
        remove_headers: removed.map(str::to_owned).collect(),
        response: ResponsePlan { preflight: true, ..ResponsePlan::default() },
        ..Rewrite::default()
    })
}
