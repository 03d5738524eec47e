//! Row filters: parsed, typed, resolved per request, evaluated in SQL's three-valued logic.
//!
//! ```text
//! predicate := or ;  or := and {OR and} ;  and := unary {AND unary} ;  unary := NOT unary | '(' or ')' | test | TRUE | FALSE
//! test := field (= | != | < | <= | > | >=) value | field [NOT] IN (value, …) | field [NOT] LIKE 'pattern' | field IS [NOT] NULL
//! value := 'string' | number | true | false | {user.NAME} | {tenant} | {role.NAME} | {agent.NAME} | {key.NAME} | {now}
//! ```
//!
//! Documents and bundles use [`Template`], [`parse`] and [`wire`]. Resolution, evaluation, [`simplify()`] and the display of
//! operators ([`Context`], [`eval()`], [`operator`], [`opposite`], [`quoted`]) are meant for the engine alone: they follow what a
//! decision and a dialect need.

mod display;
mod eval;
pub mod parse;
mod resolve;
mod simplify;
pub mod wire;

pub use display::quoted;
pub use display::{operator, opposite, placeholder};
pub use eval::{Truth, eval};
pub use resolve::{Context, rfc3339};
pub use simplify::simplify;

use crate::{
    Name,
    value::{FieldType, Literal},
};
pub use doorward_proto::v1::{CompareOp, PlaceholderSource};

/// Nesting that a predicate may have at most, in documents, bundles and requests.
pub const MAX_DEPTH: usize = 32;

/// A row filter over operands of type `V`: [`Operand`] in a policy, [`Literal`] once resolved for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate<V> {
    /// `TRUE` or `FALSE`
    Constant(bool),
    /// Conjunction; empty is true.
    And(Vec<Predicate<V>>),
    /// Disjunction; empty is false.
    Or(Vec<Predicate<V>>),
    /// Negation.
    Not(Box<Predicate<V>>),
    /// `field op value`
    Compare {
        /// Declared field.
        field: Name,
        /// Its declared type.
        field_type: FieldType,
        /// Operator.
        op: CompareOp,
        /// Right-hand side.
        value: V,
    },
    /// `field [NOT] IN (…)`; a list attribute as operand stands for all its values, an empty list makes the test FALSE
    /// (also when negated).
    In {
        /// Declared field.
        field: Name,
        /// Its declared type.
        field_type: FieldType,
        /// `NOT IN`
        negated: bool,
        /// Right-hand sides.
        values: Vec<V>,
    },
    /// `field [NOT] LIKE 'pattern'`: `%` any run, `_` one character, no escape character; case-sensitive.
    Like {
        /// Declared field (a string).
        field: Name,
        /// `NOT LIKE`
        negated: bool,
        /// Pattern.
        pattern: Name,
    },
    /// `field IS [NOT] NULL`
    IsNull {
        /// Declared field.
        field: Name,
        /// `IS NOT NULL`
        negated: bool,
    },
}

/// A value in a policy's predicate: known, or known once the request's principal is.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Known at compile time.
    Literal(Literal),
    /// Filled per request, strictly parsed as the field's type.
    Placeholder {
        /// Where the value comes from.
        source: PlaceholderSource,
        /// Attribute name; "" for `{tenant}` and `{now}`.
        name: Name,
    },
}

/// A predicate as a policy states it.
pub type Template = Predicate<Operand>;
/// A predicate whose every operand is known.
pub type Resolved = Predicate<Literal>;
