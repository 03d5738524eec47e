//! What DreamFactory makes of a value for a column, after its published sources: the type that it takes a column for
//! (`extractSimpleType`), and the cast to that type (`typecastToNative`).

use rusqlite::types::Value as Sql;
use serde_json::Value;

/// What DreamFactory takes a column for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Also every `*int` of size 1 but `bigint`, `bit`, and a column without a type.
    Boolean,
    /// `intval`
    Integer,
    /// `sprintf('%f', floatval())`
    Decimal,
    /// `floatval`, which PHP writes with 14 digits.
    Double,
    /// Base64, or a URL, which is fetched.
    Binary,
    /// No cast.
    AsIs,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Name.
    pub name: String,
    /// What DreamFactory takes it for.
    pub kind: Kind,
}

/// The kind of a column from its type as SQLite declares it.
#[must_use]
pub fn kind(declared: &str) -> Kind {
    let declared = declared.to_ascii_lowercase();
    let (name, size) = declared.split_once('(').unwrap_or((&declared, ""));
    let size: u32 = size.split([',', ')']).next().and_then(|size| size.trim().parse().ok()).unwrap_or(0);
    match name.trim() {
        // PHP finds `'' == false` among its cases.
        "" | "bit" => Kind::Boolean,
        name if name.contains("bool") => Kind::Boolean,
        "number" if size == 1 => Kind::Boolean,
        "number" if declared.contains(',') && !declared.ends_with(",0)") => Kind::Decimal,
        "number" => Kind::Integer,
        "decimal" | "numeric" | "percent" => Kind::Decimal,
        name if name.contains("double") || name == "real" || name.contains("float") => Kind::Double,
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" if size == 1 => Kind::Boolean,
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" => Kind::Integer,
        name if name.contains("binary") || name.contains("blob") => Kind::Binary,
        _ => Kind::AsIs,
    }
}

/// PHP's number of a text, as far as one stands at its start.
fn floatval(text: &str) -> f64 {
    let text = text.trim_start();
    (0..=text.len())
        .rev()
        .filter_map(|end| text.get(..end)?.parse().ok())
        .find(|value: &f64| value.is_finite())
        .unwrap_or(0.0)
}

fn is_numeric(text: &str) -> bool {
    text.trim().parse::<f64>().is_ok_and(f64::is_finite)
}

#[allow(clippy::cast_possible_truncation, reason = "PHP's intval saturates, as this does")]
fn intval(text: &str) -> i64 {
    text.trim().parse().unwrap_or(floatval(text) as i64)
}

/// As PHP writes a double, with its default `precision`.
fn double(value: f64) -> f64 {
    format!("{value:.13e}").parse().unwrap_or(value)
}

/// What the database gets for a text of a filter.
///
/// # Errors
/// As DreamFactory says it, for a text in place of an integer.
pub fn filter(text: &str, kind: Kind) -> Result<Sql, String> {
    Ok(match kind {
        Kind::Boolean => {
            let on = ["1", "true", "on", "yes"].iter().any(|word| word.eq_ignore_ascii_case(text.trim()));
            Sql::Integer(on.into())
        }
        Kind::Integer if text.is_empty() => Sql::Null,
        Kind::Integer if is_numeric(text) => Sql::Integer(intval(text)),
        Kind::Integer => return Err("Field must be a valid integer.".into()),
        Kind::Decimal => Sql::Text(format!("{:.6}", floatval(text))),
        Kind::Double => Sql::Real(double(floatval(text))),
        Kind::Binary | Kind::AsIs => Sql::Text(text.into()),
    })
}

/// What the database gets for a value of a record.
///
/// # Errors
/// As [`filter`].
pub fn record(value: &Value, kind: Kind) -> Result<Sql, String> {
    let plain = crate::data::sql(value);
    let text = match value {
        Value::Null => return Ok(Sql::Null),
        Value::String(text) => text.clone(),
        // filter_var and floatval read a truth value as "1" or "".
        Value::Bool(value) => if *value { "1" } else { "" }.to_owned(),
        other => other.to_string(),
    };
    match (kind, value) {
        (Kind::Integer, Value::Bool(_)) => Err("Field must be a valid integer.".into()),
        // A number with a fraction, or of more than 64 bits, is a double to PHP and is left one.
        (Kind::Integer, Value::Number(_)) | (Kind::AsIs, _) => Ok(plain),
        // FILTER_VALIDATE_URL: the server fetches it.
        (Kind::Binary, _) if text.contains(':') => Ok(Sql::Text(format!("fetched from {text}"))),
        _ => filter(&text, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Columns of MySQL, Oracle and SQLite, from a run of the published sources.
    #[test]
    fn columns_are_what_the_published_sources_take_them_for() {
        for (declared, expected) in [
            ("tinyint(1)", Kind::Boolean),
            ("int(1)", Kind::Boolean),
            ("mediumint(1)", Kind::Boolean),
            ("bit(8)", Kind::Boolean),
            ("bool", Kind::Boolean),
            ("number(1)", Kind::Boolean),
            ("", Kind::Boolean),
            ("tinyint(4)", Kind::Integer),
            ("INTEGER", Kind::Integer),
            ("number(10,0)", Kind::Integer),
            ("number", Kind::Integer),
            ("number(12,2)", Kind::Decimal),
            ("decimal(1,0)", Kind::Decimal),
            ("numeric", Kind::Decimal),
            ("REAL", Kind::Double),
            ("double", Kind::Double),
            ("bigint(1)", Kind::AsIs),
            ("bigint", Kind::AsIs),
            ("varchar(10)", Kind::AsIs),
            ("TEXT", Kind::AsIs),
            ("BLOB", Kind::Binary),
        ] {
            assert_eq!(kind(declared), expected, "{declared}");
        }
    }

    /// From a run of the published sources.
    #[test]
    fn values_are_cast_as_the_published_sources_cast_them() {
        let text = |text: &str| Sql::Text(text.into());
        for (value, boolean, integer, decimal, real) in [
            ("0", 0, Some(0), "0.000000", 0.0),
            ("1", 1, Some(1), "1.000000", 1.0),
            ("2", 0, Some(2), "2.000000", 2.0),
            ("2.5", 0, Some(2), "2.500000", 2.5),
            ("yes", 1, None, "0.000000", 0.0),
            ("maybe", 0, None, "0.000000", 0.0),
            ("9223372036854775808", 0, Some(i64::MAX), "9223372036854775808.000000", 9.223_372_036_854_8e18),
            ("9007199254740993", 0, Some(9_007_199_254_740_993), "9007199254740992.000000", 9.007_199_254_741e15),
            ("1e3", 0, Some(1000), "1000.000000", 1000.0),
            ("0.0000001", 0, Some(0), "0.000000", 1e-7),
            ("123456789012.34", 0, Some(123_456_789_012), "123456789012.339996", 123_456_789_012.34),
            ("0.12345678901234567", 0, Some(0), "0.123457", 0.123_456_789_012_35),
        ] {
            assert_eq!(filter(value, Kind::Boolean), Ok(Sql::Integer(boolean)), "{value}");
            assert_eq!(filter(value, Kind::Integer).ok(), integer.map(Sql::Integer), "{value}");
            assert_eq!(filter(value, Kind::Decimal), Ok(text(decimal)), "{value}");
            assert_eq!(filter(value, Kind::Double), Ok(Sql::Real(real)), "{value}");
            assert_eq!(filter(value, Kind::AsIs), Ok(text(value)), "{value}");
        }
        assert_eq!(filter("", Kind::Integer), Ok(Sql::Null));
        assert_eq!(record(&json!(5), Kind::Boolean), Ok(Sql::Integer(0)));
        assert_eq!(record(&json!(true), Kind::Boolean), Ok(Sql::Integer(1)));
        assert_eq!(record(&json!(2.5), Kind::Integer), Ok(Sql::Real(2.5)));
        assert_eq!(record(&json!("http://internal/"), Kind::Binary), Ok(text("fetched from http://internal/")));
    }
}
