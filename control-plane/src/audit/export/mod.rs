//! Exporters: they deliver records elsewhere, each record at least once.
//!
//! An exporter is given records in the order of the log and returns when they are where they should be. Only then the named
//! cursor of the export moves on, durably (see [`super::cursors`]). Whatever fails or is killed in between, the same records
//! come again; none is left out. What retention deleted before it was delivered is delivered as one record that says so
//! ([`gap`]).
//!
//! A new exporter is one file beside this one, and one line in `EXPORTERS`. `doorward audit export` knows it then by `--to`.

mod exporter;
mod lines;

use std::{fmt, str::FromStr};

use doorward_proto::v1::{AuditRecord, RecordDecision, RecordKind, StoredRecord, TailNotice};

pub use self::exporter::{ExportError, Exporter};

type Open = fn(&str) -> Result<Box<dyn Exporter>, ExportError>;

/// One kind of target.
struct Kind {
    /// The word before the colon of `--to`.
    name: &'static str,
    /// What stands after the colon; "": nothing, and no colon.
    address: &'static str,
    open: Open,
}

/// All kinds of targets.
const EXPORTERS: &[Kind] = &[
    Kind { name: "stdout", address: "", open: lines::stdout },
    Kind { name: "file", address: "PATH", open: lines::file },
];

/// Where to export to: `KIND` or `KIND:ADDRESS`.
#[derive(Clone)]
pub struct Target {
    open: Open,
    address: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Text that is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{asked}` is not a target; write {known}")]
pub struct NoTarget {
    asked: String,
    known: String,
}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (name, address) = text.split_once(':').map_or((text, None), |(name, address)| (name, Some(address)));
        let found = EXPORTERS.iter().find(|kind| kind.name == name).filter(|kind| match address {
            None => kind.address.is_empty(),
            Some(address) => !kind.address.is_empty() && !address.is_empty(),
        });
        let known = || {
            let forms = EXPORTERS.iter().map(|kind| match kind.address {
                "" => kind.name.to_owned(),
                address => format!("{}:{address}", kind.name),
            });
            forms.collect::<Vec<_>>().join(" or ")
        };
        found
            .map(|kind| Self { open: kind.open, address: address.unwrap_or_default().to_owned() })
            .ok_or_else(|| NoTarget { asked: text.to_owned(), known: known() })
    }
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// [`ExportError`], where it cannot be written.
    pub fn open(&self) -> Result<Box<dyn Exporter>, ExportError> {
        (self.open)(&self.address)
    }
}

/// The record that an export delivers in the place of those that retention deleted before they were delivered. It is of no
/// emitter and has no hash: it is no record of the log.
pub fn gap(notice: &TailNotice, now: i64) -> StoredRecord {
    let decision = RecordDecision {
        outcome: "gap".into(),
        code: notice.code.clone(),
        detail: notice.message.clone(),
        ..RecordDecision::default()
    };
    let record = AuditRecord {
        kind: RecordKind::Gap.into(),
        time_micros: now,
        gap: notice.missed,
        gap_reason: notice.code.clone(),
        decision: Some(decision),
        ..AuditRecord::default()
    };
    StoredRecord {
        cursor: notice.resume_cursor,
        log: notice.log.clone(),
        received_micros: now,
        record: Some(record),
        ..StoredRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_of_a_kind_that_is_there() {
        for right in ["stdout", "file:a", "file:/var/log/a:b"] {
            assert!(right.parse::<Target>().is_ok(), "{right}");
        }
        for wrong in ["", "stdout:", "stdout:x", "file", "file:", "otlp:http://a"] {
            let problem = wrong.parse::<Target>().unwrap_err().to_string();
            assert!(problem.ends_with("write stdout or file:PATH"), "{problem}");
        }
    }
}
