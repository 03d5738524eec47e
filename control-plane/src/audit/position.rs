//! Which log a cursor belongs to.
//!
//! A cursor is a number, and after a restore from a backup the same numbers are given out again, for other records. So each
//! run of the control plane that writes draws an id, which holds from its first cursor on; a reader that names the id along
//! with the cursor is told if the records after it are not those that it would have got before.

use std::{fmt, str::FromStr};

use doorward_proto::v1::StoredRecord;
use tonic::Status;

/// A place in a log: `CURSOR`, or `LOG:CURSOR`, where LOG is the log's id. The records up to and with it were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The log's id; "": not known.
    pub log: String,
    /// 0: before all records.
    pub cursor: u64,
}

/// Text that is no [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a record's `cursor` (a number), or its `position`, as JSON shows them")]
pub struct NoPosition;

impl Position {
    /// Of this record.
    pub fn of(stored: &StoredRecord) -> Self {
        Self { log: stored.log.clone(), cursor: stored.cursor }
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (log, cursor) = text.split_once(':').unwrap_or(("", text));
        let is_log = log.is_empty() != text.contains(':') && log.bytes().all(|byte| byte.is_ascii_hexdigit());
        match cursor.parse() {
            Ok(cursor) if is_log => Ok(Self { log: log.to_owned(), cursor }),
            _ => Err(NoPosition),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.log.is_empty() { write!(f, "{}", self.cursor) } else { write!(f, "{}:{}", self.log, self.cursor) }
    }
}

/// Ids of the log by the cursor they hold from, ascending.
#[derive(Debug, Default)]
pub struct Logs(Vec<(u64, u64)>);

impl Logs {
    /// Of rows that ascend.
    pub fn new(rows: Vec<(u64, u64)>) -> Self {
        Self(rows)
    }

    /// From this cursor on the log has this id.
    pub fn push(&mut self, first: u64, id: u64) {
        self.0.push((first, id));
    }

    /// The newest id.
    pub fn newest(&self) -> Option<u64> {
        self.0.last().map(|(_, id)| *id)
    }

    /// The id at a cursor, in hexadecimal; "" before there was any.
    pub fn at(&self, cursor: u64) -> String {
        let after = self.0.partition_point(|(first, _)| *first <= cursor);
        after.checked_sub(1).and_then(|at| self.0.get(at)).map(|(_, id)| format!("{id:016x}")).unwrap_or_default()
    }
}

/// Why a reader cannot resume where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Nobody knows yet which cursors there are.
    #[error("the audit log cannot be opened yet, so that nothing is known of this cursor; ask again")]
    Unknown,
    /// No record has this cursor yet.
    #[error(
        "cursor {cursor} is beyond the newest record of this audit log, which is {head}: the log was restored or rebuilt, or \
         the cursor is of another control plane. Records that you have may be missing here, and new ones get cursors that you \
         have seen. Look up the newest record that both have (doorward audit query --decision-id), and resume after its cursor \
         here, or begin anew (--last, --since)"
    )]
    Beyond {
        /// Asked for.
        cursor: u64,
        /// The newest.
        head: u64,
    },
    /// The log had another id at this cursor.
    #[error(
        "cursor {cursor} is of another audit log than this one has there: the log was restored or rebuilt, or you ask another \
         control plane. Records that you have may be missing here. Look up the newest record that both have (doorward audit \
         query --decision-id), and resume after its cursor here, or begin anew (--last, --since)"
    )]
    OtherLog {
        /// Asked for.
        cursor: u64,
    },
}

impl From<Misplaced> for Status {
    fn from(misplaced: Misplaced) -> Self {
        let message = misplaced.to_string();
        match misplaced {
            Misplaced::Unknown => Status::unavailable(message),
            Misplaced::Beyond { .. } | Misplaced::OtherLog { .. } => Status::out_of_range(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_cursor_with_or_without_its_log() {
        let position = |log: &str, cursor| Ok(Position { log: log.into(), cursor });
        assert_eq!("184467".parse(), position("", 184_467));
        assert_eq!("00ab:7".parse(), position("00ab", 7));
        for wrong in ["", ":7", "xyz:7", "00ab:", "-1", "00ab:7:8", "00ab"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
        for text in ["184467", "00ab:7"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_id_holds_from_its_first_cursor_on() {
        let logs = Logs::new(vec![(5, 1), (9, 0xab)]);
        let found: Vec<_> = [0, 4, 5, 8, 9, 100].map(|cursor| logs.at(cursor)).into();
        let (one, two) = ("0000000000000001", "00000000000000ab");
        assert_eq!(found, ["", "", one, one, two, two]);
    }
}
