//! Predicates as a bundle carries them.

use super::{CompareOp, MAX_DEPTH, Operand, PlaceholderSource, Predicate, Template};
use crate::{
    Name,
    number::Decimal,
    value::{FieldType, Literal},
};
use doorward_proto::v1::{self, operand::Value, predicate::Node};

/// Nodes and values that one predicate may have at most.
pub const MAX_NODES: usize = 20_000;

/// Resolves a string index of the bundle.
pub type Strings<'a> = dyn Fn(u32) -> Option<Name> + 'a;

/// Decodes a predicate of a bundle.
///
/// # Errors
/// With a sentence, if it is too deep or too large, has an index or a number out of range, or is unknown to this build.
pub fn decode(predicate: &v1::Predicate, strings: &Strings<'_>) -> Result<Template, &'static str> {
    Decoder { strings, left: MAX_NODES }.predicate(predicate, MAX_DEPTH)
}

/// Decodes an operand that must fit `field_type` (`Unspecified`: any scalar).
///
/// # Errors
/// As [`decode`].
pub fn decode_operand(
    operand: &v1::Operand,
    field_type: FieldType,
    strings: &Strings<'_>,
) -> Result<Operand, &'static str> {
    Decoder { strings, left: 1 }.operand(operand, field_type)
}

struct Decoder<'a> {
    strings: &'a Strings<'a>,
    left: usize,
}

impl Decoder<'_> {
    fn spend(&mut self) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(1).ok_or("the predicate is too large")?;
        Ok(())
    }

    fn name(&self, index: u32) -> Result<Name, &'static str> {
        match (self.strings)(index) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err("a field's string index is out of range or empty"),
        }
    }

    fn predicate(&mut self, predicate: &v1::Predicate, depth: usize) -> Result<Template, &'static str> {
        let depth = depth.checked_sub(1).ok_or("the predicate is nested too deeply")?;
        self.spend()?;
        Ok(match predicate.node.as_ref().ok_or("the predicate has a node of a kind unknown to this build")? {
            Node::Constant(value) => Predicate::Constant(*value),
            Node::And(list) => Predicate::And(self.list(list, depth)?),
            Node::Or(list) => Predicate::Or(self.list(list, depth)?),
            Node::Not(inner) => Predicate::Not(Box::new(self.predicate(inner, depth)?)),
            Node::Compare(compare) => {
                let field_type = scalar(compare.r#type)?;
                let op = match CompareOp::try_from(compare.op) {
                    Ok(op) if op != CompareOp::Unspecified => op,
                    _ => return Err("a comparison operator is unknown to this build"),
                };
                let value = self.operand(compare.value.as_ref().ok_or("a comparison has no value")?, field_type)?;
                Predicate::Compare { field: self.name(compare.field)?, field_type, op, value }
            }
            Node::In(membership) => {
                let field_type = scalar(membership.r#type)?;
                let values = membership.values.iter().map(|value| {
                    self.spend()?;
                    self.operand(value, field_type)
                });
                let values = values.collect::<Result<Vec<_>, _>>()?;
                Predicate::In { field: self.name(membership.field)?, field_type, negated: membership.negated, values }
            }
            Node::Like(like) => Predicate::Like {
                field: self.name(like.field)?,
                negated: like.negated,
                pattern: (self.strings)(like.pattern).ok_or("a pattern's string index is out of range")?,
            },
            Node::IsNull(test) => Predicate::IsNull { field: self.name(test.field)?, negated: test.negated },
        })
    }

    fn list(&mut self, list: &v1::PredicateList, depth: usize) -> Result<Vec<Template>, &'static str> {
        list.items.iter().map(|item| self.predicate(item, depth)).collect()
    }

    fn operand(&self, operand: &v1::Operand, field_type: FieldType) -> Result<Operand, &'static str> {
        let literal = match operand.value.as_ref().ok_or("a value is of a kind unknown to this build")? {
            Value::String(index) => {
                Literal::String((self.strings)(*index).ok_or("a value's string index is out of range")?)
            }
            Value::Integer(value) => Literal::Integer(*value),
            Value::Decimal(index) => {
                let text = (self.strings)(*index).ok_or("a number's string index is out of range")?;
                Literal::Number(Decimal::parse(&text).ok_or("a number is not one or is not finite")?)
            }
            Value::Boolean(value) => Literal::Boolean(*value),
            Value::Placeholder(placeholder) => {
                let source = match PlaceholderSource::try_from(placeholder.source) {
                    Ok(source) if source != PlaceholderSource::Unspecified => source,
                    _ => return Err("a placeholder's source is unknown to this build"),
                };
                let name = (self.strings)(placeholder.name).ok_or("a placeholder's string index is out of range")?;
                return Ok(Operand::Placeholder { source, name });
            }
        };
        let fits = match field_type {
            FieldType::String | FieldType::Timestamp | FieldType::Date => matches!(literal, Literal::String(_)),
            FieldType::Integer => matches!(literal, Literal::Integer(_)),
            FieldType::Number | FieldType::Decimal => matches!(literal, Literal::Number(_) | Literal::Integer(_)),
            FieldType::Boolean => matches!(literal, Literal::Boolean(_)),
            FieldType::Unspecified => true,
            FieldType::Json | FieldType::Binary => false,
        };
        if fits { Ok(Operand::Literal(literal)) } else { Err("a value does not have the type of its field") }
    }
}

fn scalar(number: i32) -> Result<FieldType, &'static str> {
    match FieldType::try_from(number) {
        Ok(field_type) if !matches!(field_type, FieldType::Unspecified | FieldType::Json | FieldType::Binary) => {
            Ok(field_type)
        }
        _ => Err("a field's type is unknown to this build or has no order"),
    }
}

/// Encodes a predicate; `intern` gives the index of a string in the bundle.
pub fn encode(predicate: &Template, intern: &mut dyn FnMut(&str) -> u32) -> v1::Predicate {
    let node = match predicate {
        Predicate::Constant(value) => Node::Constant(*value),
        Predicate::And(items) => {
            Node::And(v1::PredicateList { items: items.iter().map(|item| encode(item, intern)).collect() })
        }
        Predicate::Or(items) => {
            Node::Or(v1::PredicateList { items: items.iter().map(|item| encode(item, intern)).collect() })
        }
        Predicate::Not(inner) => Node::Not(Box::new(encode(inner, intern))),
        Predicate::Compare { field, field_type, op, value } => Node::Compare(v1::Comparison {
            field: intern(field),
            r#type: (*field_type).into(),
            op: (*op).into(),
            value: Some(encode_operand(value, intern)),
        }),
        Predicate::In { field, field_type, negated, values } => Node::In(v1::Membership {
            field: intern(field),
            r#type: (*field_type).into(),
            negated: *negated,
            values: values.iter().map(|value| encode_operand(value, intern)).collect(),
        }),
        Predicate::Like { field, negated, pattern } => {
            Node::Like(v1::Like { field: intern(field), negated: *negated, pattern: intern(pattern) })
        }
        Predicate::IsNull { field, negated } => Node::IsNull(v1::NullTest { field: intern(field), negated: *negated }),
    };
    v1::Predicate { node: Some(node) }
}

/// Encodes an operand; `intern` gives the index of a string in the bundle.
pub fn encode_operand(operand: &Operand, intern: &mut dyn FnMut(&str) -> u32) -> v1::Operand {
    let value = match operand {
        Operand::Literal(Literal::String(text)) => Value::String(intern(text)),
        Operand::Literal(Literal::Integer(value)) => Value::Integer(*value),
        Operand::Literal(Literal::Number(value)) => Value::Decimal(intern(value.as_str())),
        Operand::Literal(Literal::Boolean(value)) => Value::Boolean(*value),
        Operand::Placeholder { source, name } => {
            Value::Placeholder(v1::Placeholder { source: (*source).into(), name: intern(name) })
        }
    };
    v1::Operand { value: Some(value) }
}
