//! The audit log: records from proxies, durable before they are acknowledged, readable while they come.
//!
//! * [`ingest`]: batches from the wire → checked records (canonical form, hash chain, sequence)
//! * [`store`]: the log on disk and its one writer thread (group commit)
//! * [`position`]: which log a cursor belongs to
//! * [`room`]: how much may wait in memory
//! * [`read`]: tail and query
//! * [`filter`]: which records a reader asked for

pub mod filter;
pub mod ingest;
pub mod position;
pub mod read;
mod retention;
pub mod room;
pub mod store;
mod writer;
