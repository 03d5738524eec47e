//! SQL conditions: the part of SQLite's grammar that a client's `_where` may use, the encoding of a policy's row filter,
//! and the guard that makes Datasette refuse a table whose primary key is not the declared one.
//!
//! Every identifier is quoted with backticks: SQLite takes an unknown name in double quotes for a string, which would
//! turn a test of a missing column into a constant.

mod encode;
mod parse;

pub(super) use encode::encode;
pub(super) use parse::{parse, resolve};

use crate::{
    Name,
    predicate::{CompareOp, operator, quoted},
};
use std::fmt::Write;

/// A condition on the rows of one table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sql {
    Const(bool),
    And(Vec<Sql>),
    Or(Vec<Sql>),
    Not(Box<Sql>),
    Test(Name, Test),
}

/// A test of one column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `binary`: compares bytes, whatever collation the column has.
    Compare {
        op: CompareOp,
        value: Value,
        binary: bool,
    },
    In {
        negated: bool,
        values: Vec<Value>,
        binary: bool,
    },
    Like {
        negated: bool,
        pattern: String,
    },
    Glob {
        negated: bool,
        pattern: String,
    },
    Null {
        negated: bool,
    },
    /// The stored value is of this storage class; only in a policy's filter.
    Is(Class),
    /// The stored text is a date that exists; only in a policy's filter.
    Date,
    /// Compares instants; only in a policy's filter.
    Instant {
        op: CompareOp,
        text: String,
    },
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Real(f64),
}

/// Storage classes that a declared type accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Text,
    Numeric,
}

impl Sql {
    /// Conjunction without needless levels, so that printing and parsing give the same tree.
    pub(super) fn all(mut items: Vec<Sql>) -> Sql {
        if items.len() == 1 { items.pop().unwrap_or(Sql::Const(true)) } else { Sql::group(items, true) }
    }

    fn any(mut items: Vec<Sql>) -> Sql {
        if items.len() == 1 { items.pop().unwrap_or(Sql::Const(false)) } else { Sql::group(items, false) }
    }

    fn group(items: Vec<Sql>, all: bool) -> Sql {
        match (items.is_empty(), all) {
            (true, _) => Sql::Const(all),
            (false, true) => Sql::And(items),
            (false, false) => Sql::Or(items),
        }
    }

    /// Calls `seen` with every column.
    pub(super) fn fields(&self, seen: &mut dyn FnMut(&Name)) {
        match self {
            Sql::Const(_) => {}
            Sql::And(items) | Sql::Or(items) => items.iter().for_each(|item| item.fields(seen)),
            Sql::Not(inner) => inner.fields(seen),
            Sql::Test(field, _) => seen(field),
        }
    }

    /// Prints the condition in parentheses: Datasette joins its clauses with `and` as bare text.
    pub(super) fn print(&self, out: &mut String) {
        match self {
            Sql::Const(true) => out.push_str("(1 = 1)"),
            Sql::Const(false) => out.push_str("(1 = 0)"),
            Sql::And(items) => print_joined(items, " AND ", out),
            Sql::Or(items) => print_joined(items, " OR ", out),
            Sql::Not(inner) => {
                out.push_str("(NOT ");
                inner.print(out);
                out.push(')');
            }
            Sql::Test(field, test) => {
                out.push('(');
                test.print(field, out);
                out.push(')');
            }
        }
    }
}

fn print_joined(items: &[Sql], glue: &str, out: &mut String) {
    out.push('(');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(glue);
        }
        item.print(out);
    }
    out.push(')');
}

impl Test {
    fn print(&self, field: &str, out: &mut String) {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Test::Is(class) => {
                out.push_str("typeof(");
                print_name(field, out);
                out.push_str(match class {
                    Class::Text => ") IN ('text')",
                    Class::Numeric => ") IN ('integer', 'real')",
                });
                return;
            }
            Test::Date => {
                out.push_str("date(");
                print_name(field, out);
                out.push_str(") = ");
                print_name(field, out);
                return;
            }
            Test::Instant { op, text } => {
                out.push_str("julianday(");
                print_name(field, out);
                let _ = write!(out, ") {} julianday(", operator(*op));
                print_text(text, out);
                out.push(')');
                return;
            }
            _ => print_name(field, out),
        }
        match self {
            Test::Compare { op, value, binary } => {
                let _ = write!(out, "{} {} ", if *binary { " COLLATE BINARY" } else { "" }, operator(*op));
                value.print(out);
            }
            Test::In { negated, values, binary } => {
                let _ = write!(out, "{}{} IN (", if *binary { " COLLATE BINARY" } else { "" }, not(negated));
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    value.print(out);
                }
                out.push(')');
            }
            Test::Like { negated, pattern } => {
                let _ = write!(out, "{} LIKE ", not(negated));
                print_text(pattern, out);
            }
            Test::Glob { negated, pattern } => {
                let _ = write!(out, "{} GLOB ", not(negated));
                print_text(pattern, out);
            }
            Test::Null { negated } => {
                let _ = write!(out, " IS{} NULL", not(negated));
            }
            Test::Is(_) | Test::Date | Test::Instant { .. } => {}
        }
    }
}

impl Value {
    fn print(&self, out: &mut String) {
        let _ = match self {
            Value::Text(text) => {
                print_text(text, out);
                Ok(())
            }
            Value::Integer(value) => write!(out, "{value}"),
            // The debug form always has a point or an exponent and reads back as the same number.
            Value::Real(value) => write!(out, "{value:?}"),
        };
    }
}

fn print_text(text: &str, out: &mut String) {
    // Writing into a string cannot fail.
    let _ = quoted(out, text, '\'');
}

fn print_name(name: &str, out: &mut String) {
    let _ = quoted(out, name, '`');
}

/// A clause that holds where `key` is exactly the primary key of `table`, and is an error otherwise, so that a wrong
/// declaration is noticed instead of quietly showing what Datasette adds to every row and cursor: the real key.
/// `[rowid]` stands for a table without a primary key, an empty key for a view.
pub(super) fn guard(table: &str, key: &[Name]) -> String {
    let mut quoted = String::new();
    print_text(table, &mut quoted);
    let condition = match key {
        [] => format!("EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = {quoted})"),
        [only] if only.as_ref() == "rowid" => format!(
            "NOT EXISTS (SELECT 1 FROM pragma_table_info({quoted}) WHERE pk > 0 AND name != 'rowid') AND EXISTS (SELECT 1 \
             FROM sqlite_master WHERE type = 'table' AND name = {quoted})"
        ),
        _ => {
            let mut each = String::new();
            for (at, name) in key.iter().enumerate() {
                let _ = write!(each, "{}(pk = {} AND name = ", if at > 0 { " OR " } else { "" }, at + 1);
                print_text(name, &mut each);
                each.push(')');
            }
            let count = key.len();
            format!(
                "(SELECT count(*) = {count} AND sum(CASE WHEN {each} THEN 1 ELSE 0 END) = {count} FROM \
                 pragma_table_info({quoted}) WHERE pk > 0)"
            )
        }
    };
    // abs() of the smallest integer is an overflow, that is, an error.
    format!("(abs(CASE WHEN {condition} THEN 1 ELSE -9223372036854775808 END) = 1)")
}
