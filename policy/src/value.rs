//! Typed values of fields, as predicates and write checks see them.

use crate::{Name, number::Decimal};
pub use doorward_proto::v1::FieldType;

/// A literal of a field's type. There is no null: SQL's `NULL` is tested with `IS NULL` only.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `string`, and `timestamp` and `date` in their ISO 8601 text.
    String(Name),
    /// `integer`: 64 bits with a sign, as in SQLite, PostgreSQL's `bigint` and PHP.
    Integer(i64),
    /// `number`, exactly as it was written; always finite.
    Number(Decimal),
    /// `boolean`
    Boolean(bool),
}

/// A value of a row under evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// Anything else.
    Literal(Literal),
}
