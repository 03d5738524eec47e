//! DreamFactory's data API: tables, procedures, functions, schemas and file services.
//!
//! DreamFactory joins filters as text, resolves `{lookups}` inside every literal, lets a `POST` act as any other method and
//! creates rows on updates by key where its service allows upserts. This dialect therefore reads a request into a tree
//! of its own, and writes a new request from that tree: every string literal becomes a named parameter, every option is
//! written once under its canonical name, and whatever is not understood completely is denied.
//!
//! | module | does |
//! | --- | --- |
//! | `path` | splits and strictly decodes the request target |
//! | `filter`, `token` | the filter grammar: client text → tree, policy predicate → tree, tree → text |
//! | `search` | what DreamFactory's own search for operators finds in such text |
//! | `cast` | what DreamFactory's casts make of a value |
//! | `body` | JSON bodies without duplicate keys, typed records |
//! | `options`, `table`, `parse` | request → tree and `DataRequest` |
//! | `emit` | tree and constraints → request and response plan |

pub(in crate::dialect) mod body;
pub mod cast;
mod emit;
mod filter;
mod options;
mod parse;
pub(in crate::dialect) mod path;
mod search;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod tree;

pub use emit::emit;
pub use parse::{body_need, parse};
pub use tree::Request;

use crate::code::{Code, Denial};
use std::borrow::Cow;

fn unparsable(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unparsable, detail)
}

fn unsupported(detail: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Code::Unsupported, detail)
}
