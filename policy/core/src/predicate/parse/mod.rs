//! Text of a row filter → [`Template`], typed against the fields that a service declares.

mod error;
mod literal;
#[cfg(test)]
mod tests;
mod token;

pub use error::ParseError;
pub use literal::{is_date, is_timestamp, parse_literal, parse_rfc3339, type_name};
pub use token::parse_placeholder;

use super::{CompareOp, MAX_DEPTH, Operand, PlaceholderSource, Predicate, Template};
use crate::{Name, value::FieldType};
use error::fail;
use token::{Token, tokens};

/// Longest text of a predicate, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
/// Longest list after `IN`.
pub const MAX_LIST: usize = 1_000;

/// Parses a predicate; `schema` gives the type of a declared field.
///
/// # Errors
/// If the text is too long, too deeply nested or not in the grammar, names an undeclared field, or compares a field with
/// a value of another type.
pub fn parse(text: &str, schema: &dyn Fn(&str) -> Option<FieldType>) -> Result<Template, ParseError> {
    if text.len() > MAX_LENGTH {
        return fail(MAX_LENGTH, "predicate_limit", format!("the predicate is longer than {MAX_LENGTH} bytes"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.len(), schema };
    let predicate = parser.or(1)?;
    let (position, token) = parser.next();
    match token {
        Token::End => {}
        token => {
            return fail(
                position,
                "predicate_syntax",
                format!("expected AND, OR or the end of the predicate, found {token}"),
            );
        }
    }
    if depth(&predicate) > MAX_DEPTH {
        return fail(0, "predicate_limit", format!("the predicate is nested more than {MAX_DEPTH} levels deep"));
    }
    Ok(predicate)
}

/// Levels of a predicate's tree; recursion is bounded because the parser bounds it first.
fn depth<V>(predicate: &Predicate<V>) -> usize {
    1 + match predicate {
        Predicate::And(items) | Predicate::Or(items) => items.iter().map(depth).max().unwrap_or(0),
        Predicate::Not(inner) => depth(inner),
        _ => 0,
    }
}

/// True if a placeholder of this source may stand for a value of this type at all.
#[must_use]
pub fn placeholder_fits(source: PlaceholderSource, field_type: FieldType) -> bool {
    match field_type {
        FieldType::Json | FieldType::Binary | FieldType::Unspecified => false,
        FieldType::Timestamp | FieldType::Date => true,
        _ => source != PlaceholderSource::FromNow,
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    schema: &'a dyn Fn(&str) -> Option<FieldType>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> (usize, Token) {
        let token = self.tokens.get(self.at).cloned().unwrap_or((self.end, Token::End));
        self.at += 1;
        token
    }

    fn keyword(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.tokens.get(self.at + ahead), Some((_, Token::Word(word))) if word.eq_ignore_ascii_case(keyword))
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = self.keyword(0, keyword);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, expected: &Token) -> Result<(), ParseError> {
        match self.next() {
            (_, token) if token == *expected => Ok(()),
            (position, token) => fail(position, "predicate_syntax", format!("expected {expected}, found {token}")),
        }
    }

    fn or(&mut self, level: usize) -> Result<Template, ParseError> {
        let mut items = vec![self.and(level)?];
        while self.take("OR") {
            items.push(self.and(level)?);
        }
        Ok(single(items, Predicate::Or))
    }

    fn and(&mut self, level: usize) -> Result<Template, ParseError> {
        let mut items = vec![self.unary(level)?];
        while self.take("AND") {
            items.push(self.unary(level)?);
        }
        Ok(single(items, Predicate::And))
    }

    fn unary(&mut self, level: usize) -> Result<Template, ParseError> {
        if level > MAX_DEPTH {
            let position = self.tokens.get(self.at).map_or(self.end, |(position, _)| *position);
            return fail(position, "predicate_limit", format!("nested more than {MAX_DEPTH} levels deep"));
        }
        if self.take("NOT") {
            return Ok(Predicate::Not(Box::new(self.unary(level + 1)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.at += 1;
            let inner = self.or(level + 1)?;
            self.expect(&Token::Close)?;
            return Ok(inner);
        }
        if self.take("TRUE") {
            return Ok(Predicate::Constant(true));
        }
        if self.take("FALSE") {
            return Ok(Predicate::Constant(false));
        }
        self.test()
    }

    fn test(&mut self) -> Result<Template, ParseError> {
        let (position, token) = self.next();
        let name = match token {
            Token::Word(word)
                if !["AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL"].iter().any(|k| word.eq_ignore_ascii_case(k)) =>
            {
                word
            }
            Token::Quoted(word) => word,
            token => return fail(position, "predicate_syntax", format!("expected a field, found {token}")),
        };
        let Some(field_type) = (self.schema)(&name) else {
            return Err(ParseError {
                position,
                code: "unknown_field",
                message: format!("unknown field \"{name}\""),
                field: Some(name),
            });
        };
        let field = Name::from(name.as_str());
        if self.take("IS") {
            let negated = self.take("NOT");
            if !self.take("NULL") {
                let (position, token) = self.next();
                return fail(position, "predicate_syntax", format!("expected NULL after IS, found {token}"));
            }
            return Ok(Predicate::IsNull { field, negated });
        }
        let negated = self.keyword(0, "NOT") && (self.keyword(1, "IN") || self.keyword(1, "LIKE"));
        if negated {
            self.at += 1;
        }
        if self.take("IN") {
            return self.list(field, field_type, negated);
        }
        if self.take("LIKE") {
            let (at, token) = self.next();
            if field_type != FieldType::String {
                return fail(
                    position,
                    "type_mismatch",
                    format!("LIKE needs a string field; \"{field}\" is of type {}", type_name(field_type)),
                );
            }
            let Token::Text(pattern) = token else {
                return fail(at, "predicate_syntax", format!("expected a pattern in quotes after LIKE, found {token}"));
            };
            return Ok(Predicate::Like { field, negated, pattern: Name::from(pattern) });
        }
        let op = match self.next() {
            (_, Token::Operator(op)) => op,
            (position, token) => {
                return fail(
                    position,
                    "predicate_syntax",
                    format!("expected an operator, IN, LIKE or IS after \"{field}\", found {token}"),
                );
            }
        };
        if field_type == FieldType::Boolean && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return fail(position, "type_mismatch", format!("boolean field \"{field}\" has no order; use = or !="));
        }
        let value = self.value(&field, field_type)?;
        Ok(Predicate::Compare { field, field_type, op, value })
    }

    fn list(&mut self, field: Name, field_type: FieldType, negated: bool) -> Result<Template, ParseError> {
        self.expect(&Token::Open)?;
        let mut values = Vec::new();
        loop {
            if values.len() == MAX_LIST {
                let (position, _) = self.next();
                return fail(position, "predicate_limit", format!("a list may have at most {MAX_LIST} values"));
            }
            values.push(self.value(&field, field_type)?);
            match self.next() {
                (_, Token::Comma) => {}
                (_, Token::Close) => return Ok(Predicate::In { field, field_type, negated, values }),
                (position, token) => {
                    return fail(position, "predicate_syntax", format!("expected a comma or ), found {token}"));
                }
            }
        }
    }

    fn value(&mut self, field: &str, field_type: FieldType) -> Result<Operand, ParseError> {
        let (position, token) = self.next();
        let literal = match &token {
            Token::Placeholder(operand) => {
                if let Operand::Placeholder { source, .. } = operand
                    && !placeholder_fits(*source, field_type)
                {
                    return fail(
                        position,
                        "type_mismatch",
                        format!(
                            "this placeholder cannot stand for field \"{field}\" of type {}",
                            type_name(field_type)
                        ),
                    );
                }
                return Ok(operand.clone());
            }
            Token::Text(text) => matches!(field_type, FieldType::String | FieldType::Timestamp | FieldType::Date)
                .then(|| parse_literal(text, field_type))
                .flatten(),
            Token::Number(text) => matches!(field_type, FieldType::Integer | FieldType::Number | FieldType::Decimal)
                .then(|| parse_literal(text, field_type))
                .flatten(),
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => {
                return fail(position, "predicate_syntax", "nothing compares with NULL; write IS NULL or IS NOT NULL");
            }
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") || word.eq_ignore_ascii_case("FALSE") => {
                parse_literal(&word.to_ascii_lowercase(), field_type).filter(|_| field_type == FieldType::Boolean)
            }
            token => return fail(position, "predicate_syntax", format!("expected a value, found {token}")),
        };
        match literal {
            Some(literal) => Ok(Operand::Literal(literal)),
            None => fail(position, "type_mismatch", {
                let wanted = match field_type {
                    FieldType::String => "a string in single quotes",
                    FieldType::Integer => "a whole number of 64 bits",
                    FieldType::Number | FieldType::Decimal => "a number",
                    FieldType::Boolean => "true or false",
                    FieldType::Timestamp => "a timestamp such as '2026-01-31T12:00:00Z'",
                    FieldType::Date => "a date such as '2026-01-31'",
                    FieldType::Json | FieldType::Binary | FieldType::Unspecified => {
                        "IS NULL or IS NOT NULL, nothing else"
                    }
                };
                format!("field \"{field}\" of type {} needs {wanted}, found {token}", type_name(field_type))
            }),
        }
    }
}

/// A list of one is its element.
fn single(mut items: Vec<Template>, list: fn(Vec<Template>) -> Template) -> Template {
    match items.pop() {
        Some(only) if items.is_empty() => only,
        Some(last) => {
            items.push(last);
            list(items)
        }
        None => Predicate::Constant(true),
    }
}
