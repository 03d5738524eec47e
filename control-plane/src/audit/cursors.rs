//! Named cursors: how far exporters have got, kept in the log itself, so that retention knows what is still to be delivered.
//!
//! A cursor says that every record up to and with its position was delivered. It is created and removed by name, on purpose, and
//! only moves on. Retention keeps what a cursor has not passed, up to a bound; what it deletes beyond
//! is lost to that cursor, and the cursor says how much that is.

use std::{collections::BTreeMap, fmt, str::FromStr};

use doorward_proto::v1::AuditCursor;
use prost::Message as _;
use tonic::Status;

use super::{
    error::StoreError,
    position::{Misplaced, Position},
};
use crate::certificate::Owner;

/// Cursors at most: each one can keep records from being deleted, and is a label of metrics.
pub const MAX_CURSORS: usize = 64;
const MAX_NAME_BYTES: usize = 63;

/// The name of a cursor: 1 to 63 small letters, digits and hyphens, with a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CursorName(String);

impl CursorName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CursorName {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let is_inner = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text.bytes().all(is_inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if is_name { Ok(Self(text.to_owned())) } else { Err(CursorError::Name) }
    }
}

/// Why a cursor is not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// Not the name of a cursor.
    #[error(
        "the name of a cursor has 1 to 63 small letters, digits and hyphens, and neither begins nor ends with a hyphen"
    )]
    Name,
    /// There is none of this name.
    #[error(
        "this audit log has no cursor `{0}`; was the data directory replaced? `doorward audit cursors list` shows the cursors, \
         `doorward audit cursors create {0}` makes this one"
    )]
    Unknown(CursorName),
    /// There is one of this name.
    #[error("there is a cursor `{0}` already, after record {1}; use it, or remove it first")]
    Exists(CursorName, u64),
    /// As many as there may be.
    #[error("there are {MAX_CURSORS} cursors, which is as many as there may be; remove one that nobody uses")]
    TooMany,
    /// It has passed this position.
    #[error(
        "cursor `{name}` stands after record {at} already and does not go back to {asked}; is another export using it? To \
         deliver records again, remove it and create it anew with --from"
    )]
    Backward {
        /// Its name.
        name: CursorName,
        /// Where it is.
        at: u64,
        /// Where it was to go.
        asked: u64,
    },
    /// Another client moves it.
    #[error(
        "cursor `{0}` is moved by another client; only the client that moved it first may move it. To hand it over, remove it \
         and create it anew with --from"
    )]
    Foreign(CursorName),
    /// The position is none of this log.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// The log cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log could not be written; the reason is in the log of the process.
    #[error("the audit log cannot be written, so the cursor is where it was; try again")]
    Unavailable,
}

impl From<CursorError> for Status {
    fn from(error: CursorError) -> Self {
        let message = error.to_string();
        match error {
            CursorError::Name => Status::invalid_argument(message),
            CursorError::Unknown(_) => Status::not_found(message),
            CursorError::Exists(..) => Status::already_exists(message),
            CursorError::TooMany => Status::resource_exhausted(message),
            CursorError::Backward { .. } => Status::failed_precondition(message),
            CursorError::Foreign(_) => Status::permission_denied(message),
            CursorError::Misplaced(misplaced) => misplaced.into(),
            CursorError::Store(_) | CursorError::Unavailable => Status::unavailable(message),
        }
    }
}

/// Where a new cursor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Before the oldest record there is.
    Oldest,
    /// After the newest.
    Newest,
    /// After this record.
    After(Position),
}

/// What is to become of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make it.
    Create(CursorName, Start),
    /// Move it on.
    Advance {
        /// Which.
        name: CursorName,
        /// The client that moves it.
        owner: Owner,
        /// Every record up to and with this one was delivered.
        to: Position,
    },
    /// Forget it; nothing is kept for it any more.
    Remove(CursorName),
}

/// The durable state of one cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The client that moves it; nobody in particular, before the first time or where clients have no identity.
    owner: Owner,
    /// As the protocol tells it, without what follows from the log's state.
    told: AuditCursor,
}

/// All cursors by name.
pub(super) type Cursors = BTreeMap<String, Cursor>;

impl Cursor {
    /// Its row: whose it is, and the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = self.owner.0.to_vec();
        row.extend(self.told.encode_to_vec());
        row
    }

    /// Of a row; none, if it is not one.
    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (owner, told) = row.split_first_chunk::<32>()?;
        Some(Self { owner: Owner(*owner), told: AuditCursor::decode(told).ok()? })
    }

    /// Every record up to and with this one was delivered.
    pub(super) fn at(&self) -> u64 {
        self.told.cursor
    }

    /// Every record up to and with this one was delivered or is lost.
    pub(super) fn passed(&self) -> u64 {
        self.told.cursor.max(self.told.lost_last)
    }

    /// Records that were deleted before it had passed them, in all.
    pub(super) fn lost(&self) -> u64 {
        self.told.lost
    }

    /// When it moved last.
    pub(super) fn updated(&self) -> i64 {
        self.told.updated_micros
    }

    /// Every record up to and with this one was deleted. How many of them are newly lost to this cursor.
    pub(super) fn lose(&mut self, through: u64) -> u64 {
        let passed = self.passed();
        let lost = through.saturating_sub(passed);
        if lost > 0 {
            if self.told.lost_last <= self.told.cursor {
                // It has moved on since the last loss, so this is another one.
                self.told.lost_first = passed.saturating_add(1);
            }
            self.told.lost = self.told.lost.saturating_add(lost);
            self.told.lost_last = through;
        }
        lost
    }

    /// What is told of it, where the newest record is `head`, and the oldest that it has not passed was received then.
    pub(super) fn describe(&self, head: u64, oldest: Option<i64>) -> AuditCursor {
        AuditCursor { lag: head.saturating_sub(self.passed()), oldest_micros: oldest.unwrap_or(0), ..self.told.clone() }
    }
}

/// Makes a change, which is to the place `at` where it names one. `now`: microseconds since the Unix epoch.
pub(super) fn apply(cursors: &mut Cursors, change: &Change, at: &Position, now: i64) -> Result<Cursor, CursorError> {
    match change {
        Change::Create(name, _) => {
            if let Some(present) = cursors.get(name.as_str()) {
                return Err(CursorError::Exists(name.clone(), present.at()));
            }
            if cursors.len() >= MAX_CURSORS {
                return Err(CursorError::TooMany);
            }
            let told = AuditCursor {
                name: name.to_string(),
                cursor: at.cursor,
                log: at.log.clone(),
                created_micros: now,
                updated_micros: now,
                ..AuditCursor::default()
            };
            let cursor = Cursor { owner: Owner::default(), told };
            cursors.insert(name.to_string(), cursor.clone());
            Ok(cursor)
        }
        Change::Advance { name, owner, .. } => {
            let cursor = cursors.get_mut(name.as_str()).ok_or_else(|| CursorError::Unknown(name.clone()))?;
            if cursor.owner != Owner::default() && cursor.owner != *owner {
                return Err(CursorError::Foreign(name.clone()));
            }
            if at.cursor < cursor.at() {
                return Err(CursorError::Backward { name: name.clone(), at: cursor.at(), asked: at.cursor });
            }
            cursor.owner = *owner;
            cursor.told.cursor = at.cursor;
            cursor.told.log.clone_from(&at.log);
            cursor.told.updated_micros = now;
            Ok(cursor.clone())
        }
        Change::Remove(name) => cursors.remove(name.as_str()).ok_or_else(|| CursorError::Unknown(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CursorName {
        text.parse().unwrap()
    }

    fn at(cursor: u64) -> Position {
        Position { log: "00000000000000ab".into(), cursor }
    }

    fn create(cursors: &mut Cursors, text: &str, cursor: u64) -> Result<Cursor, CursorError> {
        apply(cursors, &Change::Create(name(text), Start::Newest), &at(cursor), 1)
    }

    fn advance(cursors: &mut Cursors, text: &str, owner: u8, cursor: u64) -> Result<Cursor, CursorError> {
        let change = Change::Advance { name: name(text), owner: Owner([owner; 32]), to: at(cursor) };
        apply(cursors, &change, &at(cursor), 2)
    }

    #[test]
    fn names_are_validated_and_bounded_in_number() {
        for wrong in ["", "-a", "a-", "A", "a_b", "a b", "ä", "a/b", "a\n", &"a".repeat(64)] {
            assert!(wrong.parse::<CursorName>().is_err(), "{wrong:?}");
        }
        for right in ["a", "siem-2", "0", &"a".repeat(63)] {
            assert!(right.parse::<CursorName>().is_ok(), "{right:?}");
        }
        let mut cursors = Cursors::new();
        for number in 0..MAX_CURSORS {
            create(&mut cursors, &format!("c{number}"), 0).unwrap();
        }
        assert!(matches!(create(&mut cursors, "more", 0), Err(CursorError::TooMany)));
        assert!(matches!(create(&mut cursors, "c0", 0), Err(CursorError::Exists(_, 0))));
        apply(&mut cursors, &Change::Remove(name("c0")), &Position::default(), 3).unwrap();
        assert!(create(&mut cursors, "more", 0).is_ok());
    }

    #[test]
    fn a_cursor_only_moves_on_and_is_moved_by_one_client() {
        let mut cursors = Cursors::new();
        assert!(matches!(advance(&mut cursors, "siem", 1, 5), Err(CursorError::Unknown(_))));
        create(&mut cursors, "siem", 3).unwrap();
        assert_eq!(advance(&mut cursors, "siem", 1, 5).unwrap().at(), 5);
        assert_eq!(advance(&mut cursors, "siem", 1, 5).unwrap().at(), 5, "the same again is no mistake");
        assert!(matches!(advance(&mut cursors, "siem", 1, 4), Err(CursorError::Backward { at: 5, asked: 4, .. })));
        assert!(matches!(advance(&mut cursors, "siem", 2, 9), Err(CursorError::Foreign(_))));
        let row = cursors["siem"].encode();
        assert_eq!(Cursor::decode(&row), Some(cursors["siem"].clone()));
        assert_eq!(Cursor::decode(&row[..31]), None);
    }

    #[test]
    fn what_was_deleted_before_it_was_delivered_is_counted_once() {
        let mut cursors = Cursors::new();
        create(&mut cursors, "siem", 10).unwrap();
        let cursor = cursors.get_mut("siem").unwrap();
        assert_eq!([8, 10, 15, 15, 20].map(|through| cursor.lose(through)), [0, 0, 5, 0, 5]);
        let told = cursor.describe(30, Some(7));
        assert_eq!((told.lost, told.lost_first, told.lost_last, told.lag, told.oldest_micros), (10, 11, 20, 10, 7));
        // What it delivers of it nevertheless is no step back, and what it loses later is another loss.
        assert_eq!(advance(&mut cursors, "siem", 0, 12).unwrap().passed(), 20);
        assert_eq!(advance(&mut cursors, "siem", 0, 25).unwrap().passed(), 25);
        let cursor = cursors.get_mut("siem").unwrap();
        assert_eq!(cursor.lose(27), 2);
        let told = cursor.describe(30, None);
        assert_eq!((told.lost, told.lost_first, told.lost_last, told.lag), (12, 26, 27, 3));
    }
}
