//! Small types that several kinds share. Each checks its own form, so that errors carry the exact path.

use doorward_policy::predicate::parse::{is_date, parse_rfc3339};
use doorward_proto::v1;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use std::borrow::Cow;

/// Why a text is not of its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No duration, or one that is too long.
    #[error("a duration is a positive whole number with a unit, such as 500ms, 30s, 10m, 24h or 7d, at most 366d")]
    Duration,
    /// No moment.
    #[error("a moment is written as RFC 3339 with its offset, such as 2026-01-31T12:00:00Z")]
    Timestamp,
    /// A day.
    #[error(
        "a moment is written as RFC 3339 with its offset, such as 2026-01-31T12:00:00Z; a date alone is not enough"
    )]
    Date,
    /// No hash. The text is never quoted back: somebody may have put the key itself here.
    #[error("a key is given by its hash: sha256: and 64 hexadecimal digits, never by the key itself")]
    KeyHash,
    /// No network.
    #[error("\"{0}\" is not a network; write an address and a prefix length, such as 10.0.0.0/8")]
    Network(String),
    /// An address in a network, with the length of the network's prefix.
    #[error("\"{0}\" has bits set after its prefix; is the prefix length right?")]
    Prefix(String),
    /// A backslash that stands before nothing.
    #[error("a claim path cannot end with \\")]
    Escape,
    /// Too many names, or an empty one.
    #[error("a claim path is 1 to 16 names joined by dots, none of them empty")]
    ClaimPath,
}

/// A text type with a form of its own: deserialises by `$parse`, and describes itself in the schema.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<$inner, Malformed> = $parse;
                parse(&text).map($name).map_err(D::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { $schema }
        }
    };
}

text_type! {
    /// A duration in milliseconds, written `500ms`, `30s`, `10m`, `24h` or `7d`.
    Duration(u64), json_schema!({"type": "string", "format": "duration", "pattern": "^[0-9]+(ms|s|m|h|d)$"}), |text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or(("", text));
        let factor = match unit { "ms" => 1, "s" => 1_000, "m" => 60_000, "h" => 3_600_000, "d" => 86_400_000, _ => 0 };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor))
            .filter(|milliseconds| *milliseconds > 0 && *milliseconds <= 366 * 86_400_000)
            .ok_or(Malformed::Duration)
    }
}
text_type! {
    /// A moment in Unix seconds, written as RFC 3339.
    Timestamp(i64), json_schema!({"type": "string", "format": "date-time"}), |text| {
        parse_rfc3339(text).filter(|seconds| *seconds > 0).ok_or_else(|| if is_date(text) { Malformed::Date } else { Malformed::Timestamp })
    }
}
text_type! {
    /// SHA-256 of a presented API key, written `sha256:` and 64 hexadecimal digits.
    KeyHash([u8; 32]), json_schema!({"type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$"}), |text| {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or(Malformed::KeyHash)?;
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            let pair = hex.get(at * 2..at * 2 + 2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(Malformed::KeyHash)?;
        }
        Ok(hash)
    }
}
text_type! {
    /// A network in CIDR notation, `10.0.0.0/8` or `2001:db8::/32`; a single address stands for itself.
    Network(String), json_schema!({"type": "string", "format": "cidr"}), |text| {
        let wrong = || Malformed::Network(text.to_owned());
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
        let (bits, width) = match address {
            std::net::IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32u8),
            std::net::IpAddr::V6(v6) => (v6.to_bits(), 128u8),
        };
        let length = match length {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u8>().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
            None => width,
        };
        if length > width { return Err(wrong()); }
        let host = u32::from(width - length);
        if host > 0 && bits & (u128::MAX >> (128 - host)) != 0 {
            return Err(Malformed::Prefix(text.to_owned()));
        }
        Ok(format!("{address}/{length}"))
    }
}
text_type! {
    /// A dotted path into a token's claims, such as `realm_access.roles`; a claim whose name has dots (a URL) is written
    /// with `\.` for each.
    ClaimPath(Vec<String>), json_schema!({"type": "string"}), |text| {
        let mut segments = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c, segments.last_mut()) {
                ('.', _) => segments.push(String::new()),
                ('\\', Some(last)) => last.push(chars.next().ok_or(Malformed::Escape)?),
                (c, Some(last)) => last.push(c),
                _ => {}
            }
        }
        if segments.len() > 16 || segments.iter().any(String::is_empty) {
            return Err(Malformed::ClaimPath);
        }
        Ok(segments)
    }
}

impl ClaimPath {
    /// As it is written in documents.
    #[must_use]
    pub fn text(&self) -> String {
        let segments = self.0.iter().map(|segment| segment.replace('\\', "\\\\").replace('.', "\\."));
        segments.collect::<Vec<_>>().join(".")
    }
}

/// One value, or a list of values.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged, inline)]
pub enum OneOrMany<T> {
    /// A list.
    Many(Vec<T>),
    /// A single value.
    One(T),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    /// By hand, because a derived untagged enum loses what was wrong inside.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let read = if value.is_array() {
            serde_path_to_error::deserialize(value).map(OneOrMany::Many)
        } else {
            serde_path_to_error::deserialize(value).map(OneOrMany::One)
        };
        read.map_err(|error| {
            let (path, _, message) = super::serde_error::explain("", &error);
            let path = path.trim_start_matches('.');
            D::Error::custom(if path.is_empty() { message } else { format!("{path}: {message}") })
        })
    }
}

impl<T> OneOrMany<T> {
    /// The values in their order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::Many(values) => values,
            OneOrMany::One(value) => std::slice::from_ref(value),
        }
    }
}

/// A string, a number or a boolean.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string, a number or a boolean")]
pub enum Scalar {
    /// `true` or `false`
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Boolean(value) => value.fmt(f),
            Scalar::Integer(value) => value.fmt(f),
            Scalar::Number(value) => value.fmt(f),
            Scalar::Text(value) => value.fmt(f),
        }
    }
}

/// A name in documents for each value of an enum of the protocol.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident($proto:path) { $($(#[$variant_doc:meta])* $variant:ident = $text:literal => $value:path),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),*
        }
        impl From<$name> for $proto {
            fn from(name: $name) -> Self {
                match name { $($name::$variant => $value),* }
            }
        }
    };
}

named! {
    /// What a request means to do, after method overrides are resolved.
    Verb(v1::Verb) {
        /// Read.
        Get = "GET" => v1::Verb::Get,
        /// Create, or run a procedure.
        Post = "POST" => v1::Verb::Post,
        /// Replace.
        Put = "PUT" => v1::Verb::Put,
        /// Change.
        Patch = "PATCH" => v1::Verb::Patch,
        /// Delete.
        Delete = "DELETE" => v1::Verb::Delete,
        /// Call a tool or a function.
        Call = "CALL" => v1::Verb::Call,
    }
}
named! {
    /// Type of a field or parameter.
    FieldType(v1::FieldType) {
        /// Text.
        String = "string" => v1::FieldType::String,
        /// Whole number of 64 bits; say `bits` as the column has them. With `dreamfactory`, a column of size 1 (`TINYINT(1)`,
        /// any other `*INT(1)`, `NUMBER(1)`, `BIT`, and a SQLite column without type) is a `boolean`.
        Integer = "integer" => v1::FieldType::Integer,
        /// Number with a fraction, kept as a float or double.
        Number = "number" => v1::FieldType::Number,
        /// `true` or `false`
        Boolean = "boolean" => v1::FieldType::Boolean,
        /// ISO 8601 date and time.
        Timestamp = "timestamp" => v1::FieldType::Timestamp,
        /// ISO 8601 date.
        Date = "date" => v1::FieldType::Date,
        /// Structured value; it can be read or hidden, and tested for null only.
        Json = "json" => v1::FieldType::Json,
        /// Number with a fixed number of places; say `digits` and `scale` as the column has them.
        Decimal = "decimal" => v1::FieldType::Decimal,
        /// Bytes, written as base64; they can be read or hidden, and tested for null only.
        Binary = "binary" => v1::FieldType::Binary,
    }
}
named! {
    /// What happens when a hidden field is asked for by name.
    OnHiddenField(v1::HiddenField) {
        /// The request is denied with `field_denied`.
        Deny = "deny" => v1::HiddenField::Deny,
        /// The field is silently left out.
        Omit = "omit" => v1::HiddenField::Omit,
    }
}
named! {
    /// When a response may be released.
    Audit(v1::AuditMode) {
        /// Once the record is queued.
        Async = "async" => v1::AuditMode::AuditAsync,
        /// Once the control plane acknowledged the record as durable.
        Required = "required" => v1::AuditMode::AuditRequired,
    }
}
named! {
    /// Whether a document decides or only records what it would decide.
    Enforcement(v1::Enforcement) {
        /// It decides.
        Enforce = "enforce" => v1::Enforcement::Enforce,
        /// It records what it would decide, and the request passes as without it.
        Shadow = "shadow" => v1::Enforcement::Shadow,
    }
}
