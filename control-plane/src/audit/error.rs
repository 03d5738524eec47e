//! Why the log cannot be read or written.

use std::path::PathBuf;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the audit log {path} failed: {source}; check the disk's space and health")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// The database is being reopened after a failed write.
    #[error("the audit log is closed after a failed write and is reopened with the next batch")]
    Closed,
    /// A stored record does not decode.
    #[error("the audit log holds a record at cursor {0} that does not decode; restore it from a backup")]
    Corrupt(u64),
}
