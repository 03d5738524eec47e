//! The tables of the log's database, and the forms of their rows. Everything that reads or writes the database stands on this
//! file, and it on nothing of the log.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | [`RECORDS`] | cursor, from 1, without holes, never used again | `StoredRecord` without its cursor |
//! | [`EMITTERS`] | `NODE/WORKER/BOOT` | sequence and hash of the last durable record, state, time last seen, whose it is |
//! | [`META`] | [`NEXT_CURSOR`] | the next cursor, so that deleting the newest records cannot bring an old cursor back |
//! | | [`CLOCK`] | the time up to which retention believes the clock |
//! | [`LOGS`] | first cursor | id of the log from there on, see [`super::position`] |
//! | [`CURSORS`] | name of a cursor | how far its exporter has got, see [`super::cursors`] |
//!
//! A table that is not there is empty: logs of earlier versions have no `cursors`.

use doorward_proto::v1::StoredRecord;
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint},
};
use redb::TableDefinition;

pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const EMITTERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("emitters");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const LOGS: TableDefinition<'_, u64, u64> = TableDefinition::new("logs");
pub(super) const CURSORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cursors");

/// Key in [`META`].
pub(super) const NEXT_CURSOR: &str = "next_cursor";
/// Key in [`META`].
pub(super) const CLOCK: &str = "clock";

/// The row of a record's canonical bytes, without cursor.
pub(super) fn stored(record: &[u8], hash: &[u8; 32], received: i64) -> Vec<u8> {
    let mut row = Vec::with_capacity(record.len() + 64);
    encode_key(2, WireType::LengthDelimited, &mut row);
    encode_varint(record.len() as u64, &mut row);
    row.extend_from_slice(record);
    encode_key(3, WireType::LengthDelimited, &mut row);
    encode_varint(hash.len() as u64, &mut row);
    row.extend_from_slice(hash);
    prost::encoding::int64::encode(4, &received, &mut row);
    row
}

/// The record of a row, with its cursor. None: it does not decode.
pub(super) fn record(cursor: u64, row: &[u8]) -> Option<StoredRecord> {
    let mut stored = StoredRecord::decode(row).ok()?;
    stored.cursor = cursor;
    Some(stored)
}

/// When a row of the log was received, without decoding all of it.
pub(super) fn received(mut row: &[u8]) -> Option<i64> {
    while !row.is_empty() {
        let (field, form) = decode_key(&mut row).ok()?;
        match form {
            WireType::Varint => {
                let value = decode_varint(&mut row).ok()?;
                if field == 4 {
                    return Some(i64::from_ne_bytes(value.to_ne_bytes()));
                }
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut row).ok()?).ok()?;
                row = row.get(length..)?;
            }
            _ => return None,
        }
    }
    // Left out where it is 0.
    Some(0)
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::AuditRecord;

    use super::*;

    #[test]
    fn a_row_is_the_stored_record_with_the_very_bytes_that_were_hashed() {
        let record = AuditRecord { decision_id: "d".into(), sequence: 7, ..Default::default() };
        let expected = StoredRecord {
            record: Some(record.clone()),
            hash: vec![9; 32],
            received_micros: 1_800_000_000_000_000,
            ..Default::default()
        };
        let row = stored(&record.encode_to_vec(), &[9; 32], 1_800_000_000_000_000);
        assert_eq!(row, expected.encode_to_vec());
        assert_eq!(received(&row), Some(1_800_000_000_000_000));
        assert_eq!(self::record(3, &row), Some(StoredRecord { cursor: 3, ..expected }));
    }
}
