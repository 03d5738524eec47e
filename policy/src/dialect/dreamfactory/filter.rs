//! The filter grammar: client text and policy predicates become one tree, and the tree becomes text again.
//!
//! Trees are in negation normal form, because DreamFactory reads `NOT (…)` only at the very start of a filter. All that
//! is written is `field OP value`, `(x) AND (y)` and `(x) OR (y)`, with every string as a named parameter: DreamFactory splits
//! filters at `) AND (` wherever it stands, also inside a quoted string.

use super::{cast, literal::Literal, search, token::is_field, unsupported};
use crate::{
    Name,
    code::{Code, Denial},
    predicate::{CompareOp, MAX_DEPTH, Predicate, Resolved, operator, opposite},
    value::{self, FieldType},
};
use std::fmt::Write as _;

/// Most nodes in a filter.
pub(super) const MAX_NODES: usize = 400;
/// Most string parameters in a filter.
const MAX_PARAMETERS: usize = 200;

/// A filter in negation normal form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Test(Name, Test),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Compare(CompareOp, Literal),
    In { negated: bool, values: Vec<Literal> },
    Like { negated: bool, pattern: Literal },
    IsNull { negated: bool },
}

impl Filter {
    /// Conjunction of both.
    pub(super) fn and(self, other: Filter) -> Filter {
        Filter::And(vec![self, other])
    }

    /// Every field that is tested.
    pub(super) fn fields(&self, out: &mut Vec<Name>) {
        match self {
            Filter::And(all) | Filter::Or(all) => all.iter().for_each(|filter| filter.fields(out)),
            Filter::Test(field, _) => out.push(field.clone()),
        }
    }

    pub(super) fn nodes(&self) -> usize {
        match self {
            Filter::And(all) | Filter::Or(all) => all.iter().map(Filter::nodes).sum::<usize>() + 1,
            Filter::Test(_, Test::In { values, .. }) => values.len() + 1,
            Filter::Test(..) => 1,
        }
    }

    /// A test in a form that DreamFactory's search reads as this test.
    pub(super) fn of(field: Name, test: Test) -> Filter {
        match test {
            // `do_not IN (…)` is `NOT IN` on `do_` to it.
            Test::In { negated: false, values } if !search::finds(&field, "IN", false) => {
                let one = |value| Filter::Test(field.clone(), Test::Compare(CompareOp::Eq, value));
                join(false, values.into_iter().map(one).collect()).unwrap_or(Filter::Or(Vec::new()))
            }
            test => Filter::Test(field, test),
        }
    }

    /// The filter with every number also tested without a cast, so that rows which a cast would let in stay out: a column
    /// that DreamFactory takes for a boolean would else compare with 0 where the policy says 2.
    fn exact(self) -> Filter {
        let twin = |literal: &Literal| match literal {
            Literal::Number(text) => Literal::Exact(text.clone()),
            other => other.clone(),
        };
        // Every cast leaves 0 and 1 as they are.
        let plain =
            |literal: &Literal| !matches!(literal, Literal::Number(text) if !matches!(text.as_str(), "0" | "1"));
        let twin = match &self {
            Filter::And(_) | Filter::Or(_) => None,
            Filter::Test(field, Test::Compare(op, value)) if !plain(value) => {
                Some(Filter::Test(field.clone(), Test::Compare(*op, twin(value))))
            }
            Filter::Test(field, Test::In { negated, values }) if !values.iter().all(plain) => {
                let values = values.iter().map(twin).collect();
                Some(Filter::Test(field.clone(), Test::In { negated: *negated, values }))
            }
            Filter::Test(..) => None,
        };
        match (self, twin) {
            (Filter::And(all), _) => Filter::And(all.into_iter().map(Filter::exact).collect()),
            (Filter::Or(all), _) => Filter::Or(all.into_iter().map(Filter::exact).collect()),
            (test, Some(twin)) => test.and(twin),
            (test, None) => test,
        }
    }

    pub(super) fn negate(self) -> Filter {
        match self {
            Filter::And(all) => Filter::Or(all.into_iter().map(Filter::negate).collect()),
            Filter::Or(all) => Filter::And(all.into_iter().map(Filter::negate).collect()),
            Filter::Test(field, test) => Filter::of(
                field,
                match test {
                    Test::Compare(op, value) => Test::Compare(opposite(op), value),
                    Test::In { negated, values } => Test::In { negated: !negated, values },
                    Test::Like { negated, pattern } => Test::Like { negated: !negated, pattern },
                    Test::IsNull { negated } => Test::IsNull { negated: !negated },
                },
            ),
        }
    }

    /// A policy's predicate as a filter; `None`: all rows. `any` is some field of the component, for a predicate that is
    /// false.
    pub(super) fn from_policy(rows: &Resolved, any: Option<&Name>) -> Result<Option<Filter>, Denial> {
        match convert(rows, false, 0)? {
            Known::Constant(true) => Ok(None),
            Known::Constant(false) => {
                let field =
                    any.ok_or_else(|| inexpressible("it permits no row and the component declares no field"))?;
                let test = |negated| Filter::Test(field.clone(), Test::IsNull { negated });
                Ok(Some(test(false).and(test(true))))
            }
            Known::Filter(filter) => Ok(Some(filter)),
        }
    }

    /// Writes the filter, and its parameters in the order of their numbers.
    pub(super) fn write(&self) -> Result<(String, Vec<String>), Denial> {
        let (mut out, mut parameters) = (String::with_capacity(256), Vec::new());
        // A policy's numbers are tested twice.
        if self.nodes() > 2 * MAX_NODES {
            return Err(unsupported("The filter, with the policy's part, has too many terms."));
        }
        self.write_to(&mut out, &mut parameters)?;
        if parameters.len() > MAX_PARAMETERS {
            return Err(unsupported("The filter, with the policy's part, has more than 200 string literals."));
        }
        Ok((out, parameters))
    }

    fn write_to(&self, out: &mut String, parameters: &mut Vec<String>) -> Result<(), Denial> {
        let mut literal = |out: &mut String, literal: &Literal| match literal {
            Literal::Number(text) => out.push_str(text),
            Literal::Exact(text) => out.extend(["(", text, ")"]),
            // Frameworks make null of a parameter that is empty.
            Literal::Text(text) if text.is_empty() => out.push_str("''"),
            Literal::Text(text) => {
                // Writing to a String cannot fail.
                let _ = write!(out, ":p{}", parameters.len());
                parameters.push(text.clone());
            }
        };
        match self {
            Filter::And(all) | Filter::Or(all) => {
                for (index, filter) in all.iter().enumerate() {
                    if index > 0 {
                        out.push_str(if matches!(self, Filter::And(_)) { " AND " } else { " OR " });
                    }
                    out.push('(');
                    filter.write_to(out, parameters)?;
                    out.push(')');
                }
            }
            Filter::Test(field, test) => {
                if !is_field(field) {
                    return Err(inexpressible("a field's name is not a plain identifier"));
                }
                if !test.is_found(field)? {
                    return Err(inexpressible("DreamFactory would read an operator across the end of a field's name"));
                }
                out.push_str(field);
                match test {
                    Test::Compare(op, value) => {
                        out.push(' ');
                        out.push_str(symbol(*op)?);
                        out.push(' ');
                        literal(out, value);
                    }
                    Test::In { negated, values } => {
                        out.push_str(if *negated { " NOT IN (" } else { " IN (" });
                        for (index, value) in values.iter().enumerate() {
                            if index > 0 {
                                out.push(',');
                            }
                            literal(out, value);
                        }
                        out.push(')');
                    }
                    Test::Like { negated, pattern } => {
                        out.push_str(if *negated { " NOT LIKE " } else { " LIKE " });
                        literal(out, pattern);
                    }
                    Test::IsNull { negated } => out.push_str(if *negated { " IS NOT NULL" } else { " IS NULL" }),
                }
            }
        }
        Ok(())
    }
}

impl Test {
    /// True if DreamFactory's search for operators finds this test's, behind this field.
    fn is_found(&self, field: &str) -> Result<bool, Denial> {
        Ok(match self {
            Test::Compare(op, _) => search::finds(field, symbol(*op)?, false),
            // Its list of operators has `NOT IN` and `IS NOT NULL`; every other NOT it reads off the field.
            Test::In { negated: true, .. } => search::finds(field, "NOT IN", false),
            Test::In { negated: false, .. } => search::finds(field, "IN", false),
            Test::Like { negated, .. } => search::finds(field, "LIKE", *negated),
            Test::IsNull { negated: true } => search::finds(field, "IS NOT NULL", false),
            Test::IsNull { negated: false } => search::finds(field, "IS NULL", false),
        })
    }
}

fn inexpressible(why: &str) -> Denial {
    Denial::new(Code::RowDenied, format!("The row filter cannot be written as a DreamFactory filter: {why}."))
}

fn symbol(op: CompareOp) -> Result<&'static str, Denial> {
    match op {
        CompareOp::Unspecified => Err(inexpressible("an operator is unknown to this build")),
        known => Ok(operator(known)),
    }
}

enum Known {
    Constant(bool),
    Filter(Filter),
}

fn convert(rows: &Resolved, negate: bool, depth: usize) -> Result<Known, Denial> {
    if depth > MAX_DEPTH {
        return Err(inexpressible("it is nested too deeply"));
    }
    let literal = |value: &value::Literal, field_type: FieldType| match value {
        value::Literal::String(text) => {
            if text.is_empty() && field_type != FieldType::String {
                return Err(inexpressible("an empty text is compared with a field that is no string"));
            }
            Literal::text(text).map_err(|_| inexpressible("a value would be interpreted by DreamFactory"))
        }
        value::Literal::Boolean(value) => Ok(Literal::Number(u8::from(*value).to_string())),
        value::Literal::Integer(_) | value::Literal::Number(_) => {
            cast::number(value, field_type).map(Literal::Number).map_err(inexpressible)
        }
    };
    let test = |field: &Name, test| {
        let filter = Filter::of(field.clone(), test);
        Ok(Known::Filter(if negate { filter.negate() } else { filter }.exact()))
    };
    match rows {
        Predicate::Constant(value) => Ok(Known::Constant(*value != negate)),
        Predicate::Not(inner) => convert(inner, !negate, depth + 1),
        Predicate::And(all) | Predicate::Or(all) => {
            let conjunction = matches!(rows, Predicate::And(_)) != negate;
            let mut filters = Vec::with_capacity(all.len());
            for inner in all {
                match convert(inner, negate, depth + 1)? {
                    Known::Constant(value) if value == conjunction => {}
                    Known::Constant(value) => return Ok(Known::Constant(value)),
                    Known::Filter(filter) => filters.push(filter),
                }
            }
            Ok(match join(conjunction, filters) {
                Some(filter) => Known::Filter(filter),
                None => Known::Constant(conjunction),
            })
        }
        Predicate::Compare { field, field_type, op, value } => {
            test(field, Test::Compare(*op, literal(value, *field_type)?))
        }
        // An empty list makes the test false, also when negated; a surrounding NOT still applies.
        Predicate::In { values, .. } if values.is_empty() => Ok(Known::Constant(negate)),
        Predicate::In { field, field_type, negated, values } => {
            let values = values.iter().map(|value| literal(value, *field_type)).collect::<Result<_, _>>()?;
            test(field, Test::In { negated: *negated, values })
        }
        // MySQL and PostgreSQL take a backslash in a pattern for an escape; policies have none.
        Predicate::Like { pattern, .. } if pattern.contains('\\') => Err(inexpressible("a pattern has a backslash")),
        Predicate::Like { field, negated, pattern } => {
            let pattern = literal(&value::Literal::String(pattern.clone()), FieldType::String)?;
            test(field, Test::Like { negated: *negated, pattern })
        }
        Predicate::IsNull { field, negated } => test(field, Test::IsNull { negated: *negated }),
    }
}

pub(super) fn join(conjunction: bool, mut filters: Vec<Filter>) -> Option<Filter> {
    if filters.len() < 2 {
        return filters.pop();
    }
    Some(if conjunction { Filter::And(filters) } else { Filter::Or(filters) })
}
