//! What the tests, the fuzz targets and the benchmarks share. Each thing that more than one of them needs lives here once.
//!
//! | module | gives |
//! | --- | --- |
//! | [`host`] | a host for decisions: a clock that stands still, randomness that is none, limit state in memory |
//! | [`policy`] | a policy's text, compiled and indexed in one call; access keys; key sets |
//! | [`engine`] | one request through the engine, body included |
//! | [`predicate`] | fields of every type, and what comparisons mean |
//! | [`schema`] | services and components as tables hold them |
//! | [`token`] | keys of every algorithm, their JWKs, and tokens signed with them |
//! | `certificate` (feature `certificates`) | an authority and the certificates that it issues |
//! | [`vectors`] | the public test vectors |
//! | [`mod@wait`] | waiting for a condition, with a limit and a word for what was awaited |
//!
//! Unit tests of a crate that this one depends on have types of their own, which are not the ones here: what they take from
//! here must not mention their own crate's types. Integration tests take anything.

#[cfg(feature = "certificates")]
pub mod certificate;
pub mod engine;
pub mod host;
pub mod policy;
pub mod predicate;
pub mod schema;
pub mod token;
pub mod vectors;
pub mod wait;

pub use host::TestHost;
pub use wait::wait;
#[cfg(feature = "tokio")]
pub use wait::wait_async;
