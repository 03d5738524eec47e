//! Everything in Doorward that decides.
//!
//! This crate is pure: it does no I/O, reads no clock and knows neither Envoy nor Kubernetes. What it needs from
//! outside comes through the [`host::Host`] trait. The filter, `doorward explain`, `doorward test` and shadow mode all
//! run this same code, so they cannot disagree.
//!
//! The modules follow the life of a request:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`document`], [`compile`] (feature `compile`) | what users write | a `Bundle` |
//! | [`bundle`] | a `Bundle` (wire form) | [`bundle::Tables`]: interned, indexed, immutable |
//! | [`identity`] | credentials | a [`identity::Principal`] |
//! | [`dialect`] | an HTTP request | a [`request::DataRequest`], and back, constrained |
//! | [`number`] | a number's text | an exact decimal |
//! | [`predicate`] | a row filter's text | a typed tree, resolved and evaluated |
//! | [`decide`] | principal × request × tables | a [`decide::Decision`] |
//! | [`limit`] | a decision's rate limits | a yes, or when to come back |
//! | [`transform`] | a response body | the same without hidden fields and with masks |
//! | [`audit`] | a decision | a canonical, chained record |
//! | [`engine`] | all of these in order | one verdict for one request |

pub mod audit;
pub mod bundle;
pub mod code;
#[cfg(feature = "compile")]
pub mod compile;
pub mod decide;
pub mod dialect;
#[cfg(feature = "compile")]
pub mod document;
pub mod engine;
pub mod host;
pub mod identity;
pub mod limit;
pub mod number;
pub mod predicate;
pub mod request;
pub mod transform;
pub mod value;

/// An interned name: cheap to clone, shared by everything that mentions it.
pub type Name = std::sync::Arc<str>;
