//! What every part of Doorward's policy rests on.
//!
//! The compiler writes these types, the engine decides over them, and the hosts hand them in. Each module knows only
//! modules above it in this table:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`code`] | a refusal | a stable code, a status and a sentence |
//! | [`authority`] | the `Host` of a request | the host that it names |
//! | [`number`] | a number's text | an exact decimal |
//! | [`value`] | a data API's types | types, literals and sizes that rules compare |
//! | [`json`] | a request's JSON | a tree whose numbers are text |
//! | [`principal`] | a verified identity | what rules know of it |
//! | [`key`] | a provider's keys | material that a verifier takes |
//! | [`host`] | the outside world | a trait: time, randomness, signatures, limits |
//! | [`request`] | an HTTP request | what it asks of the data, whatever the dialect |
//! | [`mask`] | a masked field | the rule for it |
//! | [`predicate`] | a row filter's text | a typed tree, resolved and evaluated |
//! | [`bundle`] | a `Bundle` (wire form) | [`bundle::Tables`]: interned, indexed, immutable |
//!
//! This crate must never know how a credential is verified, how a dialect reads or writes a request, what is decided, or
//! what a document looks like. It does no I/O and reads no clock. A type belongs here if two of the crates above would
//! otherwise have to know each other for it.

pub mod authority;
pub mod bundle;
pub mod code;
pub mod host;
pub mod json;
pub mod key;
pub mod mask;
pub mod number;
pub mod predicate;
pub mod principal;
pub mod request;
pub mod value;

/// An interned name: cheap to clone, shared by everything that mentions it.
pub type Name = std::sync::Arc<str>;
