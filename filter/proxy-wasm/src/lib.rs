//! The Doorward filter as a Proxy-Wasm module: the ABI around the logic of `doorward-filter`, and nothing else.
//!
//! | module | does |
//! | --- | --- |
//! | [`raw`] | the ABI: what the host offers; the only `unsafe` code of the filter |
//! | [`ProxyWasm`] | the same as the logic's [`doorward_filter::proxy::Proxy`] |
//! | [`contexts`] | what the host calls → workers and streams |

pub mod contexts;
mod proxy;
#[allow(unsafe_code, reason = "the ABI is made of pointers; no other module has unsafe code")]
pub mod raw;

pub use proxy::ProxyWasm;
