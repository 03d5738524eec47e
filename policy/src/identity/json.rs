//! JSON as credentials may hold it: no duplicate names at any level, bounded depth and width.
//!
//! Two readers that pick different ones of two equal names see different tokens (RFC 8725 section 2.4), so such a
//! token is refused whole.

use crate::{
    json::{self, Fault, Limits, Scalar, Tree},
    number::Decimal,
};
use std::borrow::Cow;

/// Nesting that a header or a payload may have at most.
const MAX_DEPTH: usize = 16;
/// Members that one object may have at most; keeps the search for one of them short.
const MAX_MEMBERS: usize = 256;
/// Values that a header or a payload may have at most: what is read is at most 16 KiB.
const MAX_VALUES: usize = 8192;

/// A JSON value that borrows its text where nothing in it is escaped.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it was written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Parses a whole document; `None` if it is malformed, too deep, too wide or has duplicate names.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Json<'a>> {
        json::read(bytes, Limits { values: MAX_VALUES, depth: MAX_DEPTH }).ok()
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
            Json::Number(text) => text.parse().ok().or_else(|| {
                let value = Decimal::parse(text)?.to_f64();
                // The range is checked, so the cast cannot wrap or saturate.
                (value.abs() < EXACT).then_some(value.floor() as i64)
            }),
            _ => None,
        }
    }
}

impl<'a> Tree<'a> for Json<'a> {
    type Name = Cow<'a, str>;
    // What policy uses of a token is looked at for control characters where it is used.
    const NUL: bool = true;
    fn name(text: Cow<'a, str>) -> Cow<'a, str> {
        text
    }
    fn scalar(scalar: Scalar<'a>) -> Json<'a> {
        match scalar {
            Scalar::Null => Json::Null,
            Scalar::Bool(value) => Json::Bool(value),
            Scalar::Number(text) => Json::Number(text),
            Scalar::Text(text) => Json::String(text),
        }
    }
    fn array(items: Vec<Json<'a>>) -> Json<'a> {
        Json::Array(items)
    }
    fn object(members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Json<'a>, Fault> {
        if members.len() > MAX_MEMBERS { Err(Fault::Members) } else { Ok(Json::Object(members)) }
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

    #[test]
    fn values_are_bounded_and_seconds_are_whole() {
        let list = |values: usize| format!("[{}]", vec!["0"; values - 1].join(","));
        assert!(Json::parse(list(8192).as_bytes()).is_some());
        assert!(Json::parse(list(8193).as_bytes()).is_none());
        let seconds = |text: &'static str| Json::parse(text.as_bytes()).and_then(|json| json.as_seconds());
        let cases = [
            ("1700000000", Some(1_700_000_000)),
            ("1.7e9", Some(1_700_000_000)),
            ("1700000000.9", Some(1_700_000_000)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("-0", Some(0)),
            ("1e300", None),
            ("18446744073709551616", None),
            ("\"1\"", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
