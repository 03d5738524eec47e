//! DreamFactory's data API: tables, procedures, functions, schemas and file services.
//!
//! DreamFactory joins filters as text, resolves `{lookups}` inside every literal, lets a `POST` act as any other method and
//! creates rows on updates by key where its service allows upserts. This dialect therefore reads a request into a tree
//! of its own, and writes a new request from that tree: every string literal becomes a named parameter, every option is
//! written once under its canonical name, and whatever is not understood completely is denied.
//!
//! | module | does |
//! | --- | --- |
//! | `grammar`, `token` | client text → filter |
//! | `filter` | the filter as a tree; policy predicate → tree, tree → text |
//! | `search` | what DreamFactory's own search for operators finds in such text |
//! | `literal` | a literal of a filter, and what of it DreamFactory takes as it is |
//! | `lookup` | the lookups that DreamFactory would resolve in a value |
//! | `cast` | what DreamFactory's casts make of a value |
//! | `options`, `table`, `parse` | request → tree and `DataRequest` |
//! | `emit` | the constraints into the tree |
//! | `plan` | tree and constraints → what the response needs |
//! | `write` | tree → request, and the proof that it says what was decided |

mod cast;
mod emit;
mod filter;
mod grammar;
mod literal;
mod lookup;
mod options;
mod parse;
mod plan;
mod search;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod tree;
mod write;

pub use tree::Request;

use super::shared::{body, path, unparsable, unsupported};
use crate::{
    bundle::Service,
    code::Denial,
    decide::Constraints,
    dialect::{BodyNeed, Casts, Dialect, Rewrite, Rules, Wrapper, as_it_is, names::php_keeps, rewrite::Parsed},
    request::{DataRequest, HttpRequest},
};

/// DreamFactory's data API.
#[derive(Clone, Copy, Debug)]
pub struct DreamFactory;

impl Dialect for DreamFactory {
    const NAME: &'static str = "dreamfactory";
    const CREDENTIAL_HEADERS: &'static [&'static str] =
        &["x-dreamfactory-api-key", "x-dreamfactory-session-token", "x-dreamfactory-script-token"];
    // `/api/v2/NAME` is `/api/NAME`, `/api/v1/NAME` and `/index.php/api/v2/NAME` to it too.
    const ANSWERS_ANY_VERSION: bool = true;
    const RULES: Rules = Rules {
        about: "DreamFactory's data API; component names compare without case.",
        folds_components: true,
        folds_fields: true,
        files: true,
        wrapper: Some(Wrapper {
            reserved: &NO_WRAPPERS,
            why: "DreamFactory takes a member of this name for something else",
        }),
        operations: false,
        writes: true,
        casts: Some(Casts {
            refusal: cast::refusal,
            places: 6,
            more_places: "DreamFactory keeps six places of a decimal: values with more can be neither written nor compared",
            narrow_integer: "has size 1 (TINYINT(1), NUMBER(1), BIT), DreamFactory stores 0 or 1 for any number that is written",
        }),
        renames: |name| {
            (!php_keeps(name))
                .then_some("DreamFactory (PHP) reads a parameter with a blank, a dot or a bracket under another name")
        },
        takes: as_it_is,
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
        request: &DataRequest,
        constraints: &Constraints,
    ) -> Result<Rewrite, Denial> {
        emit::emit(service, prefix, syntax, request, constraints)
    }
}

/// Names of PHP frameworks' and DreamFactory's own, which cannot wrap records.
const NO_WRAPPERS: [&str; 24] = [
    "fields",
    "select",
    "ids",
    "filter",
    "where",
    "limit",
    "top",
    "offset",
    "skip",
    "order",
    "sort",
    "order_by",
    "group",
    "group_by",
    "having",
    "count_only",
    "params",
    "continue",
    "rollback",
    "related",
    "error",
    "meta",
    "file",
    "wrap",
];
