//! JSON as credentials may hold it: no duplicate names at any level, bounded depth and width.
//!
//! Two readers that pick different ones of two equal names see different tokens (RFC 8725 section 2.4), so such a
//! token is refused whole.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Nesting that a header or a payload may have at most.
const MAX_DEPTH: u8 = 16;
/// Members that one object may have at most; keeps the search for duplicates short.
const MAX_MEMBERS: usize = 256;

/// A JSON value that borrows its text where nothing in it is escaped.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Parses a whole document; `None` if it is malformed, too deep, too wide or has duplicate names.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Json<'a>> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = Seed(MAX_DEPTH).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(value)
    }

    /// The member of this name, if this is an object that has one.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whole seconds of a NumericDate (RFC 7519 section 2); fractions are cut off.
    pub(super) fn as_seconds(&self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Json::Number(number) => number.as_i64().or_else(|| {
                let value = number.as_f64()?;
                // The range is checked, so the cast cannot wrap or saturate.
                (value.abs() < EXACT).then_some(value.floor() as i64)
            }),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Seed(u8);

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Json<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Json<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }
    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("not finite"))
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let below = Seed(self.0.checked_sub(1).ok_or_else(|| A::Error::custom("too deep"))?);
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let below = Seed(self.0.checked_sub(1).ok_or_else(|| A::Error::custom("too deep"))?);
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(key) = access.next_key_seed(Key)? {
            if members.len() == MAX_MEMBERS || members.iter().any(|(present, _)| *present == key) {
                return Err(A::Error::custom("duplicate name, or too many"));
            }
            let value = access.next_value_seed(below)?;
            members.push((key, value));
        }
        Ok(Json::Object(members))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_names_are_refused_at_every_level_also_when_escaped() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[{"a":1,"a":1}]"#,
            r#"{"a":1} x"#,
            r#"{"a":1"#,
            "",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(Json::parse(br#"{"a":{"a":1},"A":2}"#).is_some());
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(16).as_bytes()).is_some());
        assert!(Json::parse(nested(17).as_bytes()).is_none());
        let wide = |members: usize| {
            format!("{{{}}}", (0..members).map(|n| format!("\"m{n}\":0")).collect::<Vec<_>>().join(","))
        };
        assert!(Json::parse(wide(256).as_bytes()).is_some());
        assert!(Json::parse(wide(257).as_bytes()).is_none());
    }
}
