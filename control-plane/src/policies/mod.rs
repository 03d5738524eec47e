//! From a source of documents to the one signed bundle that proxies get.
//!
//! ```text
//! source ──▶ engine ──▶ resolve (parse, hold broken documents, compile) ──▶ load once ──▶ publish (sign, store) ──▶ watch channel ──▶ push
//!   ▲ wake + poll │        ▲ key sets (jwks)
//!                 └──▶ report (status, log, metrics)
//! ```
//!
//! One thread does it all, so there is one order of epochs. What is in the watch channel is on the disk already, unless
//! the disk fails: then it is pushed all the same, because a revocation must not wait for room, and the status, the
//! metrics and the readiness say that a restart would not find it.

pub mod compiler;
pub mod engine;
pub mod epochs;
pub mod publish;
pub mod report;
pub mod resolve;
mod since;
