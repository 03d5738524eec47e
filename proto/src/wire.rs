//! What a message will take in memory, told from its bytes, before anything is decoded.
//!
//! An empty message in a repeated field takes two bytes on the wire and some two hundred in memory, so a bound on the size
//! of what arrives bounds nothing. [`weigh`] walks over the bytes once, without allocating, and adds up what decoding would
//! take; whatever is over its bound is refused unread.

use std::mem::size_of;

use crate::v1::{
    AuditRecord, Filter, Hello, Label, ProxyIdentity, RecordAttribute, RecordDecision, RecordOperation,
    RecordPrincipal, RecordRequest, RecordResponse, RecordSummary, StoredRecord, UpdateResult,
};

/// What a text or bytes take beside their contents: the entry in its list, and the allocator's part.
const LEAF: usize = size_of::<Vec<u8>>() + 16;

/// The messages in a message, by field number. Everything else in it is a number, or text and bytes.
#[derive(Debug)]
pub struct Shape {
    /// What one takes in memory, without what it points to.
    pub size: usize,
    /// Fields that are messages.
    pub messages: &'static [(u32, &'static Shape)],
}

/// Why a message is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It would take more than its bound.
    TooLarge,
    /// It is no message: cut off, or in a form that this protocol does not use.
    Malformed,
}

const fn shape<T>(messages: &'static [(u32, &'static Shape)]) -> Shape {
    Shape { size: size_of::<T>(), messages }
}

/// A message of numbers and texts only.
pub static PLAIN: Shape = Shape { size: 256, messages: &[] };
/// `AuditRecord`
pub static RECORD: Shape = shape::<AuditRecord>(&[
    (7, &PRINCIPAL),
    (11, &OPERATION),
    (13, &REQUEST),
    (14, &REQUEST),
    (15, &DECISION),
    (18, &RESPONSE),
    (29, &SUMMARY),
]);
static PRINCIPAL: Shape = shape::<RecordPrincipal>(&[(5, &ATTRIBUTE)]);
static ATTRIBUTE: Shape = shape::<RecordAttribute>(&[]);
static OPERATION: Shape = shape::<RecordOperation>(&[]);
static REQUEST: Shape = shape::<RecordRequest>(&[]);
static DECISION: Shape = shape::<RecordDecision>(&[]);
static RESPONSE: Shape = shape::<RecordResponse>(&[]);
static SUMMARY: Shape = shape::<RecordSummary>(&[]);
/// `StoredRecord`
pub static STORED: Shape = shape::<StoredRecord>(&[(2, &RECORD)]);
/// `SubscribeRequest`
pub static SUBSCRIBE: Shape = Shape { size: size_of::<Hello>(), messages: &[(1, &HELLO), (2, &RESULT)] };
static HELLO: Shape = shape::<Hello>(&[(2, &PROXY)]);
static PROXY: Shape = shape::<ProxyIdentity>(&[(5, &LABEL)]);
static LABEL: Shape = shape::<Label>(&[]);
static RESULT: Shape = shape::<UpdateResult>(&[]);
/// `TailRequest` and `QueryRequest`
pub static QUESTION: Shape = Shape { size: 512, messages: &[(1, &FILTER)] };
static FILTER: Shape = shape::<Filter>(&[]);

/// What decoding `bytes` as a message of this shape takes at most, in bytes.
///
/// # Errors
/// [`Refused`], as soon as it is known: the walk ends there.
pub fn weigh(bytes: &[u8], shape: &Shape, most: usize) -> Result<usize, Refused> {
    let mut total = 0;
    walk(bytes, shape, most, &mut total)?;
    Ok(total)
}

/// The depth of the walk is that of the shapes, which do not contain themselves.
fn walk(mut bytes: &[u8], shape: &Shape, most: usize, total: &mut usize) -> Result<(), Refused> {
    add(total, shape.size, most)?;
    while !bytes.is_empty() {
        let tag = number(&mut bytes)?;
        let field = u32::try_from(tag >> 3).map_err(|_| Refused::Malformed)?;
        match tag & 7 {
            0 => {
                number(&mut bytes)?;
                // A list of numbers may come unpacked; an unknown field is at least work.
                add(total, 8, most)?;
            }
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(number(&mut bytes)?).map_err(|_| Refused::Malformed)?;
                let part = take(&mut bytes, length)?;
                match shape.messages.iter().find(|(number, _)| *number == field) {
                    Some((_, inner)) => {
                        // A list that grows holds up to twice what it needs.
                        add(total, inner.size, most)?;
                        walk(part, inner, most, total)?;
                    }
                    None => add(total, LEAF.saturating_mul(2).saturating_add(length), most)?,
                }
            }
            5 => drop(take(&mut bytes, 4)?),
            // Groups are no part of proto3, and nest without end.
            _ => return Err(Refused::Malformed),
        }
    }
    Ok(())
}

fn add(total: &mut usize, more: usize, most: usize) -> Result<(), Refused> {
    *total = total.saturating_add(more);
    if *total > most { Err(Refused::TooLarge) } else { Ok(()) }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refused> {
    let (part, rest) = bytes.split_at_checked(length).ok_or(Refused::Malformed)?;
    *bytes = rest;
    Ok(part)
}

fn number(bytes: &mut &[u8]) -> Result<u64, Refused> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Refused::Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_small_message_that_would_grow_is_refused_before_it_is_decoded() {
        // Every repeated field of every message that clients send, empty and many times.
        let nested = |path: &[u32], count: usize| {
            let (last, outer) = path.split_last().unwrap();
            let mut bytes: Vec<u8> = [prost_key(*last), vec![0]].concat().repeat(count);
            for field in outer.iter().rev() {
                let mut wrapped = prost_key(*field);
                prost::encoding::encode_varint(bytes.len() as u64, &mut wrapped);
                wrapped.extend(bytes);
                bytes = wrapped;
            }
            bytes
        };
        for (path, shape) in [
            (&[11][..], &RECORD),
            (&[11, 3], &RECORD),
            (&[11, 4], &RECORD),
            (&[7, 3], &RECORD),
            (&[7, 5], &RECORD),
            (&[7, 5, 2], &RECORD),
            (&[7, 6], &RECORD),
            (&[23], &RECORD),
            (&[24], &RECORD),
            (&[30], &RECORD),
            (&[99], &RECORD),
            (&[1, 2, 5], &SUBSCRIBE),
            (&[2], &PLAIN),
        ] {
            let bytes = nested(path, 100_000);
            assert_eq!(weigh(&bytes, shape, 1 << 20), Err(Refused::TooLarge), "{path:?}");
        }
    }

    fn prost_key(field: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(field << 3 | 2), &mut bytes);
        bytes
    }

    #[test]
    fn what_is_weighed_is_at_least_what_it_takes() {
        let operations = vec![RecordOperation::default(); 1000];
        let took = operations.capacity() * size_of::<RecordOperation>();
        let record = AuditRecord { operations, ..AuditRecord::default() };
        let weight = weigh(&record.encode_to_vec(), &RECORD, usize::MAX).unwrap();
        assert!(weight >= took + size_of::<AuditRecord>(), "{weight} < {took}");
        let texts: Vec<String> = (0..1000).map(|at| format!("name-{at}")).collect();
        let took = texts.iter().map(|text| text.capacity() + size_of::<String>()).sum::<usize>();
        let record = AuditRecord { cut: texts, ..AuditRecord::default() };
        assert!(weigh(&record.encode_to_vec(), &RECORD, usize::MAX).unwrap() >= took);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for bytes in [&[0x0b][..], &[0x0c], &[0x0a], &[0x0a, 5, 1], &[0x08], &[0xff; 11], &[0x09, 1], &[0x0d, 1]] {
            assert_eq!(weigh(bytes, &RECORD, 1 << 20), Err(Refused::Malformed), "{bytes:?}");
        }
        assert!(weigh(&[], &RECORD, 1 << 20).is_ok());
    }
}
