//! JSON bodies: strict, bounded, and without duplicate keys; records with values of their fields' types.

use super::{unparsable, unsupported};
use crate::{
    Name,
    bundle::{Component, Field, Service},
    code::{Code, Denial},
    json::{Fault, Limits, Map, Text, Value},
    number::Decimal,
    request::HttpRequest,
    value::{FieldType, Literal, Value as Typed},
};

const DEFAULT_LIMIT: u32 = 1024 * 1024;
const MAX_DEPTH: usize = 32;
/// Different names of fields that one body may write: no table has as many columns.
const MAX_NAMES: usize = 2000;
/// Values in a body where the service says nothing: a megabyte of rows as they are usual has as many.
pub(in crate::dialect) const DEFAULT_VALUES: u32 = 16_384;

/// What the JSON of a request to this service may cost.
pub(in crate::dialect) fn limits(service: &Service) -> Limits {
    let values = service.max_body_values.unwrap_or(DEFAULT_VALUES);
    Limits { values: usize::try_from(values).unwrap_or(usize::MAX), depth: MAX_DEPTH }
}

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
    media(media_type.unwrap_or_default())?;
    let limits = limits(service);
    Value::parse(bytes, limits).map(Some).map_err(|fault| refused(fault, limits))
}

/// Takes `application/json`, with `charset=utf-8` or without, and nothing else: parameters may be quoted, none may be twice
/// (RFC 9110 section 8.3.1).
fn media(text: &str) -> Result<(), Denial> {
    let mut parts = text.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Err(unsupported("The body must have the content type application/json, once."));
    }
    let mut charset = false;
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        if !name.eq_ignore_ascii_case("charset") || std::mem::replace(&mut charset, true) {
            return Err(unsupported(
                "The content type application/json may have the parameter charset, once, and no other.",
            ));
        }
        if !quoted.unwrap_or(value).eq_ignore_ascii_case("utf-8") {
            return Err(unsupported("The body's charset must be utf-8, which JSON is always in."));
        }
    }
    Ok(())
}

/// A fault of a body as a denial that says what to change.
pub(in crate::dialect) fn refused(fault: Fault, limits: Limits) -> Denial {
    match fault {
        Fault::Syntax => unparsable("The body is not JSON in UTF-8."),
        Fault::Duplicate => unparsable("An object in the body has the same name twice."),
        Fault::Depth => unparsable("The body is nested too deeply: 32 lists and objects may be inside each other."),
        Fault::Number => unparsable("A number in the body is longer than 1,024 characters or larger than a double."),
        Fault::Nul => unparsable("A string in the body has the character NUL."),
        Fault::Values | Fault::Members => Denial::new(
            Code::TooLarge,
            format!("The body has more than {} values: send it in several requests.", limits.values),
        ),
    }
}

/// The fields that a body writes. Each different name is looked up once, however many rows have it.
pub(in crate::dialect) struct Fields<'a> {
    pub(in crate::dialect) component: Option<&'a Component>,
    ignore_case: bool,
    known: hashbrown::HashMap<Text, (Name, Option<&'a Field>), foldhash::fast::FixedState>,
}

impl<'a> Fields<'a> {
    pub(in crate::dialect) fn new(component: Option<&'a Component>, ignore_case: bool) -> Fields<'a> {
        Fields { component, ignore_case, known: hashbrown::HashMap::default() }
    }

    /// The name as declared (as given, if it is not), the field, and whether it is asked for the first time.
    pub(in crate::dialect) fn find(&mut self, given: &Text) -> Result<(Name, Option<&'a Field>, bool), Denial> {
        if let Some((name, field)) = self.known.get(given) {
            return Ok((name.clone(), *field, false));
        }
        if self.known.len() >= MAX_NAMES {
            return Err(unparsable("The body writes fields of more than 2,000 different names."));
        }
        let field = self.component.and_then(|component| match self.ignore_case {
            true => component.field_ignoring_case(given),
            false => component.field(given),
        });
        let name = field.map_or_else(|| given.as_str().into(), |field| field.name.clone());
        self.known.insert(given.clone(), (Name::clone(&name), field));
        Ok((name, field, true))
    }
}

/// True for a text that [`typed`] takes as it is.
pub(in crate::dialect) fn is_text(value: &Value, field_type: FieldType) -> bool {
    matches!(value, Value::String(_))
        && matches!(field_type, FieldType::String | FieldType::Json | FieldType::Unspecified)
}

/// A row whose lists and objects are empty: of the same form, and cheap to read once more.
pub(in crate::dialect) fn hollow(row: &Map) -> Map {
    let emptied = |value: &Value| match value {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
        scalar => scalar.clone(),
    };
    row.iter().map(|(name, value)| (name.clone(), emptied(value))).collect()
}

/// The value as one of this type, or `None` if it is not one, see [`mistyped`]; what is not a scalar type stays what it is.
///
/// Nothing is rounded: an integer is written as one of 64 bits, a number is one that doubles give back, and a number in a
/// string field is the text that was written.
pub(in crate::dialect) fn typed(value: &Value, field_type: FieldType) -> Option<Option<Typed>> {
    let literal = match (field_type, value) {
        (FieldType::Json | FieldType::Unspecified, Value::Object(_) | Value::Array(_)) => return Some(None),
        (_, Value::Null) => return Some(Some(Typed::Null)),
        (FieldType::Integer, Value::Number(number)) => Literal::Integer(number.as_i64()?),
        (FieldType::Integer, Value::String(text)) => Literal::Integer(canonical_integer(text)?),
        (FieldType::Number, Value::Number(number)) => Literal::Number(number.decimal().filter(Decimal::is_double)?),
        (FieldType::Number, Value::String(text)) => Literal::Number(canonical_number(text).filter(Decimal::is_double)?),
        (FieldType::Decimal, Value::Number(number)) => Literal::Number(number.decimal()?),
        (FieldType::Decimal, Value::String(text)) => Literal::Number(canonical_number(text)?),
        (FieldType::Boolean, Value::Bool(value)) => Literal::Boolean(*value),
        (FieldType::Boolean, Value::Number(number)) => Literal::Boolean(match number.as_str() {
            "0" => false,
            "1" => true,
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
        (FieldType::String, Value::Number(number)) => Literal::String(number.as_str().into()),
        (FieldType::Json | FieldType::Unspecified, Value::String(text)) => Literal::String(text.as_str().into()),
        (FieldType::Json | FieldType::Unspecified, Value::Bool(value)) => Literal::Boolean(*value),
        (FieldType::Json | FieldType::Unspecified, Value::Number(number)) => match number.as_i64() {
            Some(integer) => Literal::Integer(integer),
            None => Literal::Number(number.decimal()?),
        },
        _ => return None,
    };
    Some(Some(Typed::Literal(literal)))
}

/// Why [`typed`] refuses a value. `what` says whose it is, such as `field price`.
pub(in crate::dialect) fn mistyped(what: &str, value: &Value, field_type: FieldType) -> Denial {
    let number = match value {
        Value::Number(number) => number.decimal(),
        Value::String(text) => Decimal::parse(text),
        _ => None,
    };
    unparsable(match (field_type, number) {
        (FieldType::Integer, Some(_)) => format!(
            "The {what} is an integer: it takes whole numbers from -2^63 to 2^63-1, without a fraction or an exponent."
        ),
        (FieldType::Number, Some(number)) if !number.is_double() => format!(
            "The {what} is given a number that servers which keep doubles would round: send it with fewer digits."
        ),
        _ => format!("The {what} is given a value of another type."),
    })
}

/// The value to send for one that was read as this: itself, unless it was of another kind.
pub(in crate::dialect) fn settled(value: Value, typed: Option<&Typed>) -> Value {
    match (typed, &value) {
        (Some(Typed::Literal(literal)), value) if !same_kind(literal, value) => to_json(literal),
        _ => value,
    }
}

fn same_kind(literal: &Literal, value: &Value) -> bool {
    matches!(
        (literal, value),
        (Literal::String(_), Value::String(_))
            | (Literal::Integer(_) | Literal::Number(_), Value::Number(_))
            | (Literal::Boolean(_), Value::Bool(_))
    )
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
        Literal::String(text) => Value::from(&**text),
        Literal::Integer(number) => Value::from(*number),
        Literal::Number(number) => Value::Number(number.into()),
        Literal::Boolean(value) => Value::Bool(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_is_json_in_utf8_said_at_most_once() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; charset=\"UTF-8\"",
            "application/json;",
        ] {
            assert!(media(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/jsonp",
            "application/json, application/json",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
            "application/json; charset=utf-16le",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-8",
            "application/json; charset=\"utf-16\"",
            "application/json; charset=\"utf-8",
            "application/json; charset=",
            "application/json; charset",
            "application/json; charset*=utf-16''x",
            "application/json; a=\";charset=utf-16\"",
            "application/json; version=1",
        ] {
            assert!(media(bad).is_err(), "{bad}");
        }
    }
}
