//! Predicates as text, in the grammar that documents use: what is printed parses back to the same tree.

use super::{CompareOp, Operand, PlaceholderSource, Predicate};
use crate::value::Literal;
use std::fmt::{self, Display, Formatter, Write as _};

const KEYWORDS: [&str; 9] = ["AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "TRUE", "FALSE"];

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::String(text) => quoted(f, text, '\''),
            Literal::Integer(value) => write!(f, "{value}"),
            Literal::Number(value) => write!(f, "{value}"),
            Literal::Boolean(value) => write!(f, "{value}"),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Literal(literal) => literal.fmt(f),
            Operand::Placeholder { source, name } => write!(f, "{{{}}}", placeholder(*source, name)),
        }
    }
}

/// Text of a placeholder without its braces, e.g. `user.region`.
#[must_use]
pub fn placeholder(source: PlaceholderSource, name: &str) -> String {
    let word = match source {
        PlaceholderSource::FromUser => "user",
        PlaceholderSource::FromRole => "role",
        PlaceholderSource::FromAgent => "agent",
        PlaceholderSource::FromKey => "key",
        PlaceholderSource::FromTenant => return "tenant".to_owned(),
        PlaceholderSource::FromNow => return "now".to_owned(),
        PlaceholderSource::Unspecified => "?",
    };
    format!("{word}.{name}")
}

/// The operator as written.
#[must_use]
pub const fn operator(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "=",
        CompareOp::Ne => "!=",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
        CompareOp::Unspecified => "?",
    }
}

/// The operator that holds for two values, neither of them NULL, where this one does not.
#[must_use]
pub const fn opposite(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq => CompareOp::Ne,
        CompareOp::Ne => CompareOp::Eq,
        CompareOp::Lt => CompareOp::Ge,
        CompareOp::Ge => CompareOp::Lt,
        CompareOp::Gt => CompareOp::Le,
        CompareOp::Le => CompareOp::Gt,
        CompareOp::Unspecified => CompareOp::Unspecified,
    }
}

impl<V: Display> Display for Predicate<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Predicate::Constant(true) => f.write_str("TRUE"),
            Predicate::Constant(false) => f.write_str("FALSE"),
            Predicate::And(items) => list(f, items, "TRUE", " AND "),
            Predicate::Or(items) => list(f, items, "FALSE", " OR "),
            Predicate::Not(inner) => {
                f.write_str("NOT ")?;
                member(f, inner, is_list(inner))
            }
            Predicate::Compare { field, op, value, .. } => {
                name(f, field)?;
                write!(f, " {} {value}", operator(*op))
            }
            Predicate::In { values, .. } if values.is_empty() => f.write_str("FALSE"),
            Predicate::In { field, negated, values, .. } => {
                name(f, field)?;
                write!(f, " {}IN (", not(*negated))?;
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    value.fmt(f)?;
                }
                f.write_char(')')
            }
            Predicate::Like { field, negated, pattern } => {
                name(f, field)?;
                write!(f, " {}LIKE ", not(*negated))?;
                quoted(f, pattern, '\'')
            }
            Predicate::IsNull { field, negated } => {
                name(f, field)?;
                write!(f, " IS {}NULL", not(*negated))
            }
        }
    }
}

fn is_list<V>(predicate: &Predicate<V>) -> bool {
    matches!(predicate, Predicate::And(items) | Predicate::Or(items) if items.len() > 1)
}

fn list<V: Display>(f: &mut Formatter<'_>, items: &[Predicate<V>], empty: &str, word: &str) -> fmt::Result {
    if items.is_empty() {
        return f.write_str(empty);
    }
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(word)?;
        }
        // AND binds tighter than OR: only a conjunction inside a disjunction reads right without parentheses.
        let bare = items.len() == 1 || word == " OR " && matches!(item, Predicate::And(_));
        member(f, item, is_list(item) && !bare)?;
    }
    Ok(())
}

fn member<V: Display>(f: &mut Formatter<'_>, item: &Predicate<V>, parentheses: bool) -> fmt::Result {
    if parentheses { write!(f, "({item})") } else { item.fmt(f) }
}

fn name(f: &mut Formatter<'_>, field: &str) -> fmt::Result {
    let plain = field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && field.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && !KEYWORDS.iter().any(|keyword| field.eq_ignore_ascii_case(keyword));
    if plain { f.write_str(field) } else { quoted(f, field, '"') }
}

/// Writes text in quotes, with every quote in it twice.
pub fn quoted(f: &mut impl fmt::Write, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for c in text.chars() {
        if c == quote {
            f.write_char(quote)?;
        }
        f.write_char(c)?;
    }
    f.write_char(quote)
}
