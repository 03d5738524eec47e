//! What several dialects need: strict request targets, strict JSON bodies, and the denials of what is not understood.
//!
//! Nothing here knows a dialect. What only one server does belongs into the folder of its dialect.
//!
//! | module | does |
//! | --- | --- |
//! | `path` | splits and strictly decodes the request target |
//! | `escape` | percent encoding as requests are written |
//! | `body` | JSON bodies without duplicate keys, typed records |

pub(in crate::dialect) mod body;
pub(in crate::dialect) mod escape;
pub(in crate::dialect) mod path;

use crate::{
    code::{Code, Denial},
    request::HttpRequest,
    transform::PathStep,
};
use std::borrow::Cow;

/// The denial of a request that is not understood completely.
pub(in crate::dialect) fn unparsable(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unparsable, detail)
}

/// The denial of a request, or of a constraint, that is understood and cannot be made sound.
pub(in crate::dialect) fn unsupported(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unsupported, detail)
}

/// Headers that frameworks take for another method than the request's.
pub(in crate::dialect) const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// True if the head says that a body follows.
pub(in crate::dialect) fn announces_body(request: &HttpRequest<'_>) -> bool {
    request.has_header("transfer-encoding")
        || request.headers.iter().any(|header| header.name == "content-length" && header.value != b"0")
}

/// A name that the caller sent, cut to a length that fits into an answer.
pub(in crate::dialect) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The member of this name, as a step of a response's path.
pub(in crate::dialect) fn member(name: &str) -> PathStep {
    PathStep::Member(name.into())
}
