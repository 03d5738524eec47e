//! The Doorward filter: Proxy-Wasm glue around `doorward-policy`, and nothing else.
//!
//! | module | does |
//! | --- | --- |
//! | [`raw`] | the ABI: what the host offers |
//! | [`dispatch`] | what the host calls → contexts |
//! | [`config`] | the plugin's configuration |
//! | [`worker`] | the root context: policy in force, streams to the control plane |
//! | [`policy_store`], [`leader`], [`link`], [`subscribe`] | how policy reaches every worker |
//! | [`audit`], [`repeats`], [`slots`] | how records leave; which are only counted; whose are lost |
//! | [`stream`], [`response`], [`head`], [`problem`] | one request and its response |
//! | [`bodies`] | whether the host hands over bodies at all |
//! | [`host`] | Envoy's clock, signature check and shared data for decisions |
//! | [`metrics`] | figures for Envoy's statistics |
//!
//! Whatever goes wrong here denies: a status that is not expected, a configuration that is not valid, policy that is not there.

pub mod audit;
pub mod bodies;
pub mod config;
pub mod dispatch;
pub mod head;
pub mod host;
pub mod leader;
pub mod link;
pub mod metrics;
pub mod policy_store;
pub mod problem;
#[allow(unsafe_code, reason = "the ABI is made of pointers; no other module has unsafe code")]
pub mod raw;
pub mod repeats;
pub mod response;
pub mod slots;
pub mod stream;
pub mod subscribe;
pub mod worker;
