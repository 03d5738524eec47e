//! A JSON value as a tree, and how it is written.

use super::read::{Fault, Limits, Scalar, Tree, distinct, read};
use crate::number::Decimal;
use std::{borrow::Cow, fmt};

/// A text of JSON; up to 23 bytes it needs no allocation.
pub type Text = smol_str::SmolStr;

/// A JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it was written.
    Number(Number),
    /// A string.
    String(Text),
    /// A list.
    Array(Vec<Value>),
    /// An object.
    Object(Map),
}

/// A number as it was written: equal only to the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(Text);

/// The members of an object in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub(super) Vec<(Text, Value)>);

impl Number {
    /// The number as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The integer, if the number is written as one of 64 bits: neither `1.0` nor `1e0` nor `-0`.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if &*self.0 == "-0" { None } else { self.0.parse().ok() }
    }

    /// The integer, if the number is written as one of 64 bits without a sign.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The number to compare with; `None` if its exponent is out of every reason.
    #[must_use]
    pub fn decimal(&self) -> Option<Decimal> {
        Decimal::parse(&self.0)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number(smol_str::format_smolstr!("{value}"))
    }
}

impl From<&Decimal> for Number {
    fn from(value: &Decimal) -> Number {
        Number(value.as_str().into())
    }
}

impl Value {
    /// Reads a whole text.
    ///
    /// # Errors
    /// The first [`Fault`]. The work is at most in proportion to the text's length, and to the number of values allowed.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Value, Fault> {
        read(bytes, limits)
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The member of this name, if this is an object that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The value that a JSON pointer names by members of objects (RFC 6901).
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let mut tokens = pointer.split('/');
        if tokens.next() != Some("") {
            return None;
        }
        tokens.try_fold(self, |value, token| match token.contains('~') {
            true => value.get(&token.replace("~1", "/").replace("~0", "~")),
            false => value.get(token),
        })
    }

    /// Appends the value as JSON. Numbers are written as they were read.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(number) => out.push_str(&number.0),
            Value::String(text) => write_text(text, out),
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => members.write(out),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl Map {
    /// No members.
    #[must_use]
    pub fn new() -> Map {
        Map::default()
    }
    /// The member of this name. Looks through all members.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }
    /// True if there is a member of this name. Looks through all members.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
    /// The member of this name, made if there is none.
    pub fn member(&mut self, name: &str, make: impl FnOnce() -> Value) -> Option<&mut Value> {
        let at = match self.0.iter().position(|(have, _)| have == name) {
            Some(at) => at,
            None => {
                self.0.push((name.into(), make()));
                self.0.len() - 1
            }
        };
        self.0.get_mut(at).map(|(_, value)| value)
    }
    /// Sets a member, in its old place if there is one. Looks through all members.
    pub fn insert(&mut self, name: impl Into<Text>, value: Value) -> Option<Value> {
        let name = name.into();
        match self.0.iter_mut().find(|(have, _)| *have == name) {
            Some((_, have)) => Some(std::mem::replace(have, value)),
            None => {
                self.0.push((name, value));
                None
            }
        }
    }
    /// Appends a member without looking for one of its name; see [`Map::is_distinct`].
    pub fn push(&mut self, name: impl Into<Text>, value: Value) {
        self.0.push((name.into(), value));
    }
    /// True if no two members have the same name.
    #[must_use]
    pub fn is_distinct(&self) -> bool {
        distinct(&self.0)
    }
    /// Takes a member out. Looks through all members.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(have, _)| have == name)?;
        Some(self.0.remove(at).1)
    }
    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True if there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The members in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
    /// The members in their order; values can be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Text, &mut Value)> {
        self.0.iter_mut().map(|(name, value)| (&*name, value))
    }
    /// The values in their order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.iter().map(|(_, value)| value)
    }
    /// Appends the object as JSON.
    pub fn write(&self, out: &mut String) {
        out.push('{');
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_text(name, out);
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }
}

impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<Text>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(members: I) -> Map {
        Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

/// Appends a string in quotes, escaped no more than it must be.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        // The byte is ASCII, so it is a whole character.
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        let byte = from.bytes().next().unwrap_or_default();
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
                out.push_str("\\u00");
                out.push(digit(byte >> 4));
                out.push(digit(byte & 15));
            }
        }
        rest = from.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}

impl<'a> Tree<'a> for Value {
    type Name = Text;
    const NUL: bool = false;
    fn name(text: Cow<'a, str>) -> Text {
        Text::new(text)
    }
    fn scalar(scalar: Scalar<'a>) -> Value {
        match scalar {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Number(text) => Value::Number(Number(text.into())),
            Scalar::Text(text) => Value::String(Text::new(text)),
        }
    }
    fn array(items: Vec<Value>) -> Value {
        Value::Array(items)
    }
    fn object(members: Vec<(Text, Value)>) -> Result<Value, Fault> {
        Ok(Value::Object(Map(members)))
    }
}
