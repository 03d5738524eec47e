//! What an exporter is.

use std::io;

use doorward_proto::v1::StoredRecord;

/// Delivers records to one target.
#[tonic::async_trait]
pub trait Exporter: Send {
    /// Delivers these records, in this order. When it returns without an error they are delivered: written, and beyond what a
    /// crash of this process can take back.
    ///
    /// # Errors
    /// [`ExportError`], where it is not known that all of them are delivered. The export ends, and the next one gives all
    /// of them again.
    async fn deliver(&mut self, records: &[StoredRecord]) -> Result<(), ExportError>;
}

/// Why records are not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The target cannot be written.
    #[error("cannot export to {target}")]
    Write {
        /// What was asked for.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another export writes to the file.
    #[error("another process exports to {path}; each export has a file of its own")]
    Taken {
        /// The file.
        path: String,
    },
    /// The file ends with something that no export has written.
    #[error("{path} does not end with a whole line, and what is there is not of an export; name another file")]
    ForeignFile {
        /// The file.
        path: String,
    },
}
