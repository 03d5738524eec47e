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

pub use emit::emit;
pub use parse::{Request, body_need, parse};

/// Query parameters that are understood to limit the number of rows.
const LIMITS: [&str; 3] = ["limit", "per_page", "page_size"];
