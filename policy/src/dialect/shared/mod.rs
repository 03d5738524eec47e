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

use crate::code::{Code, Denial};
use std::borrow::Cow;

/// The denial of a request that is not understood completely.
pub(in crate::dialect) fn unparsable(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unparsable, detail)
}

/// The denial of a request, or of a constraint, that is understood and cannot be made sound.
pub(in crate::dialect) fn unsupported(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unsupported, detail)
}
