//! JSON of requests: strict (RFC 8259), bounded while it is read, and with every number as it was written.
//!
//! A number that passes through a double comes out as another one, so numbers stay text here. Two equal names in one object
//! are refused, because two readers may pick different ones. Whatever a text costs is bounded before it is spent: by the
//! number of values, by their nesting, and by the length of a number.
//!
//! [`Value`] and [`Map`] are for whoever handles a request's JSON. [`read()`], [`Tree`] and [`Scalar`] are meant for the engine
//! alone, which builds the claims of tokens with them; what they ask of a tree may change with it.

mod read;
#[cfg(test)]
mod tests;
mod tree;
mod written;

pub use read::{Fault, Limits, Scalar, Tree, read};
pub use tree::{Map, Number, Text, Value};
