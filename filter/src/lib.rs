//! The Doorward filter's logic: what happens to a request and its response, around the decisions of `doorward-policy`.
//!
//! It speaks to the proxy only through [`proxy::Proxy`]. The module that Envoy loads is a thin crate beside it
//! (`filter/proxy-wasm`), which implements that trait and calls [`worker::Worker`] and [`stream::Stream`].
//!
//! | module | does |
//! | --- | --- |
//! | [`proxy`] | what the host offers, as a trait |
//! | [`config`] | the plugin's configuration |
//! | [`worker`] | the root context: policy in force, streams to the control plane |
//! | [`policy_store`], [`leader`], [`link`], [`subscribe`] | how policy reaches every worker |
//! | [`upstream`] | how the control plane's cluster is named to the host |
//! | [`audit`], [`repeats`], [`slots`] | how records leave; which are only counted; whose are lost |
//! | [`stream`], [`response`], [`head`], [`problem`] | one request and its response |
//! | [`conclusion`] | what a verdict does: the record, the request changed, answered or let go |
//! | [`questions`] | the control plane asked about callers that only an identity provider knows |
//! | [`bodies`] | whether the host hands over bodies at all |
//! | [`host`] | the proxy's clock, signature check and shared data for decisions |
//! | [`metrics`] | figures for Envoy's statistics |
//!
//! Whatever goes wrong here denies: a status that is not expected, a configuration that is not valid, policy that is not there.

pub mod audit;
pub mod bodies;
pub mod conclusion;
pub mod config;
#[cfg(any(test, feature = "double"))]
pub mod double;
pub mod head;
pub mod host;
pub mod leader;
pub mod link;
pub mod metrics;
pub mod policy_store;
pub mod problem;
pub mod proxy;
pub mod questions;
pub mod repeats;
pub mod response;

mod shape;
pub mod slots;
pub mod stream;
pub mod subscribe;
pub mod upstream;
pub mod worker;
