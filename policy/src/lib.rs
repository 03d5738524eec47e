//! What decides in a proxy.
//!
//! This crate is pure: it does no I/O, reads no clock and knows neither Envoy nor Kubernetes. What it needs from
//! outside comes through the [`host::Host`] trait. The filter, `doorward explain`, `doorward test` and shadow mode all
//! run this same code, so they cannot disagree.
//!
//! The modules follow the life of a request:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`identity`] | credentials | a [`principal::Principal`] |
//! | [`dialect`] | an HTTP request | a [`request::DataRequest`], and back, constrained |
//! | [`decide`] | principal × request × tables | a [`decide::Decision`] |
//! | [`limit`] | a decision's rate limits | a yes, or when to come back |
//! | [`transform`] | a response body | the same without hidden fields and with masks |
//! | [`audit`] | a decision | a canonical, chained record |
//! | [`engine`] | all of these in order | one verdict for one request |
//!
//! What they rest on is in `doorward_policy_core`, whose modules stand here too: [`bundle`] and [`predicate`] among them.
//!
//! This crate must never know what documents look like, nor how they become a bundle: that is
//! `doorward_policy_compiler`, which only tests use here. Nor may it know who calls it: a module of Envoy, a command.

pub use doorward_policy_core::{
    Name, authority, bundle, code, host, json, key, mask, number, predicate, principal, request, value,
};

pub mod audit;
pub mod decide;
pub mod dialect;
pub mod engine;
pub mod identity;
pub mod limit;
pub mod transform;
