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

/// How large the values of a field are; 0 where that was not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// `integer`: 8, 16, 32 or 64.
    pub bits: u32,
    /// `decimal`: digits in all.
    pub digits: u32,
    /// `decimal`: digits behind the point.
    pub scale: u32,
}

impl Size {
    /// True if a field of this size can hold the number: an integer with or without a sign, a decimal without rounding.
    #[must_use]
    pub fn holds(self, literal: &Literal) -> bool {
        match literal {
            Literal::Integer(value) if (1..64).contains(&self.bits) => {
                let (least, most) = (-(1_i64 << (self.bits - 1)), (1_i64 << self.bits) - 1);
                (least..=most).contains(value)
            }
            Literal::Integer(value) if self.digits > 0 => self.holds_places(&Decimal::from_i64(*value)),
            Literal::Number(number) if self.digits > 0 => self.holds_places(number),
            _ => true,
        }
    }

    fn holds_places(self, number: &Decimal) -> bool {
        let (whole, scale) = number.places();
        scale <= self.scale && whole <= self.digits.saturating_sub(self.scale)
    }
}

/// A value of a row under evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// Anything else.
    Literal(Literal),
}
