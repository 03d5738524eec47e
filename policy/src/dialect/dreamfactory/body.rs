//! JSON bodies: strict, bounded, and without duplicate keys; records with values of their fields' types.

use super::{unparsable, unsupported};
use crate::{
    bundle::Service,
    code::{Code, Denial},
    number::Decimal,
    request::HttpRequest,
    value::{FieldType, Literal, Value as Typed},
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

const DEFAULT_LIMIT: u32 = 1024 * 1024;
const MAX_DEPTH: usize = 32;

/// The body as JSON; `None` if there is none. Duplicate keys, other media types and encoded bodies are refused.
pub(in crate::dialect) fn json(service: &Service, request: &HttpRequest<'_>) -> Result<Option<Value>, Denial> {
    let Some(bytes) = request.body.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    if bytes.len() > usize::try_from(service.max_body_bytes.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX) {
        return Err(Denial::new(Code::TooLarge, "The body is larger than this service accepts."));
    }
    match request.single_header("content-encoding") {
        Ok(None) => {}
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"identity") => {}
        _ => return Err(unsupported("The body is compressed: send it without content-encoding.")),
    }
    let media_type =
        request.single_header("content-type").ok().flatten().and_then(|value| std::str::from_utf8(value).ok());
    let (essence, charset) = match media_type {
        Some(text) => text.split_once(';').map_or((text, ""), |(essence, rest)| (essence, rest)),
        None => ("", ""),
    };
    let charset = charset.trim();
    if !essence.trim().eq_ignore_ascii_case("application/json")
        || !(charset.is_empty() || charset.eq_ignore_ascii_case("charset=utf-8"))
    {
        return Err(unsupported("The body must have the content type application/json, once."));
    }
    let value = serde_json::from_slice::<Strict>(bytes)
        .map_err(|_| unparsable("The body is not JSON, or an object in it has the same key twice."))?
        .0;
    if deeper_than(&value, MAX_DEPTH) {
        return Err(unparsable("The body is nested too deeply."));
    }
    Ok(Some(value))
}

fn deeper_than(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(all) => depth == 0 || all.iter().any(|value| deeper_than(value, depth - 1)),
        Value::Object(all) => depth == 0 || all.values().any(|value| deeper_than(value, depth - 1)),
        _ => false,
    }
}

/// True if a string anywhere in the value has braces, in which DreamFactory looks up `{user.*}`, `{session.token}` and more.
pub(super) fn has_lookup(value: &Value) -> bool {
    match value {
        Value::String(text) => text.find('{').is_some_and(|at| text.get(at..).is_some_and(|rest| rest.contains('}'))),
        Value::Array(all) => all.iter().any(has_lookup),
        Value::Object(all) => all.iter().any(|(_, value)| has_lookup(value)),
        _ => false,
    }
}

/// The value as one of this type, or `None` if it is not one; what is not a scalar type stays what it is.
pub(in crate::dialect) fn typed(value: &Value, field_type: FieldType) -> Option<Option<Typed>> {
    let literal = match (field_type, value) {
        (FieldType::Json | FieldType::Unspecified, Value::Object(_) | Value::Array(_)) => return Some(None),
        (_, Value::Null) => return Some(Some(Typed::Null)),
        (FieldType::Integer, Value::Number(number)) => Literal::Integer(number.as_i64()?),
        (FieldType::Integer, Value::String(text)) => Literal::Integer(canonical_integer(text)?),
        (FieldType::Number | FieldType::Decimal, Value::Number(number)) => {
            Literal::Number(Decimal::parse(&number.to_string())?)
        }
        (FieldType::Number | FieldType::Decimal, Value::String(text)) => Literal::Number(canonical_number(text)?),
        (FieldType::Boolean, Value::Bool(value)) => Literal::Boolean(*value),
        (FieldType::Boolean, Value::Number(number)) => Literal::Boolean(match number.as_i64()? {
            0 => false,
            1 => true,
            _ => return None,
        }),
        (FieldType::Boolean, Value::String(text)) => Literal::Boolean(match text.as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return None,
        }),
        (FieldType::String | FieldType::Timestamp | FieldType::Date, Value::String(text)) => {
            Literal::String(text.as_str().into())
        }
        // As base64 there is no URL, no `data:` and no name of a stream in it that a server could open.
        (FieldType::Binary, Value::String(text)) if is_base64(text) => Literal::String(text.as_str().into()),
        (FieldType::String, Value::Number(number)) => Literal::String(number.to_string().into()),
        (FieldType::Json | FieldType::Unspecified, Value::String(text)) => Literal::String(text.as_str().into()),
        (FieldType::Json | FieldType::Unspecified, Value::Bool(value)) => Literal::Boolean(*value),
        (FieldType::Json | FieldType::Unspecified, Value::Number(number)) => match number.as_i64() {
            Some(integer) => Literal::Integer(integer),
            None => Literal::Number(Decimal::parse(&number.to_string())?),
        },
        _ => return None,
    };
    Some(Some(Typed::Literal(literal)))
}

/// True for base64 of RFC 4648 section 4, padded, in one line.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn canonical_integer(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn canonical_number(text: &str) -> Option<Decimal> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    Decimal::parse(text).filter(|number| plain && number.as_str() == text)
}

/// A literal as JSON.
pub(in crate::dialect) fn to_json(literal: &Literal) -> Value {
    match literal {
        Literal::String(text) => Value::String(text.to_string()),
        Literal::Integer(number) => Value::from(*number),
        Literal::Number(number) => Number::from_f64(number.to_f64()).map_or(Value::Null, Value::Number),
        Literal::Boolean(value) => Value::Bool(*value),
    }
}

/// JSON whose objects have no key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without duplicate keys")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        if value.contains('\0') { Err(E::custom("a string has a NUL")) } else { Ok(Value::from(value)) }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if key.contains('\0') || all.insert(key, value).is_some() {
                return Err(A::Error::custom("a key occurs twice"));
            }
        }
        Ok(Value::Object(all))
    }
}
