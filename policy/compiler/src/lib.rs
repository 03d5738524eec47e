//! From what users write to what proxies hold.
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`document`] | a file of YAML | typed documents, and what is wrong with the others |
//! | [`compile`] | the documents of one scope | a `Bundle`: checked, interned, in canonical order |
//!
//! The control plane and the command line use this crate; a proxy never does. It does no I/O: files, and keys that somebody
//! must fetch, are handed in ([`compile::KeySource`]).
//!
//! This crate must never know of a request, a credential or a decision, nor where documents come from. It asks
//! `doorward_policy` what a name, a header or a value means there, so that a document is refused for the same reason for
//! which a proxy would not serve it.

pub mod compile;
pub mod document;
