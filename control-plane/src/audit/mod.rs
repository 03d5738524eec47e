//! The audit log: records from proxies, durable before they are acknowledged, readable while they come.
//!
//! Each file stands on those above it:
//!
//! * `tables`: the tables of the database and the forms of their rows
//! * `emitter`, [`position`], [`filter`]: names of emitters, which log a cursor belongs to, what a reader asks for
//! * [`error`]: why the log cannot be read or written
//! * [`cursors`]: how far exporters have got
//! * `state`: what the writer knows to be durable
//! * `log`: the open database, which readers and the writer share
//! * [`room`]: how much may wait in memory
//! * [`jobs`]: what the writer is asked
//! * `pending`, `retention`, `housekeeping`: a commit; what is too old; which emitters are over
//! * `writer`: the one thread that writes (group commit)
//! * [`store`]: the log as everybody else holds it
//! * [`ingest`]: batches from the wire → checked records (canonical form, hash chain, sequence)
//! * `tail`, [`read`]: records as they come; tail, query and named cursors as a service
//! * [`json`], [`export`]: a record as JSON; deliveries elsewhere

pub mod cursors;
mod emitter;
pub mod error;
pub mod export;
pub mod filter;
mod housekeeping;
pub mod ingest;
pub mod jobs;
pub mod json;
mod log;
mod pending;
pub mod position;
pub mod read;
mod retention;
pub mod room;
mod state;
pub mod store;
mod tables;
mod tail;
mod writer;
