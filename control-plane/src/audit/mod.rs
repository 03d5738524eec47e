//! The audit log: records from proxies, durable before they are acknowledged, readable while they come.
//!
//! * [`ingest`]: batches from the wire → checked records (canonical form, hash chain, sequence)
//! * [`store`]: the log on disk and its one writer thread (group commit)
//! * [`read`]: tail and query
//! * [`filter`]: which records a reader asked for

pub mod filter;
pub mod ingest;
pub mod read;
pub mod store;
mod writer;
