//! Client text → filter: the grammar that DreamFactory reads, as far as it can be written again.

use super::{
    cast,
    filter::{Filter, MAX_NODES, Test, join},
    literal::Literal,
    token::{self, Token, is_field},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::Component,
    code::Denial,
    predicate::{CompareOp, MAX_DEPTH, opposite},
    value::FieldType,
};

/// Longest filter text that is read.
const MAX_TEXT: usize = 16 * 1024;

/// Parses a client's filter. Fields are resolved against `component`; parameters are replaced by their values.
pub(super) fn parse(
    text: &str,
    parameters: &[(String, Literal)],
    component: Option<&Component>,
) -> Result<Filter, Denial> {
    if text.len() > MAX_TEXT {
        return Err(unparsable("The filter is longer than 16 KiB."));
    }
    let mut parser = Parser { tokens: token::tokens(text)?, at: 0, parameters, component };
    let filter = parser.or(0)?;
    if parser.at < parser.tokens.len() {
        return Err(unparsable("The filter goes on after its end: check parentheses and operators."));
    }
    Ok(filter)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    parameters: &'a [(String, Literal)],
    component: Option<&'a Component>,
}

impl Parser<'_> {
    fn word(&mut self, word: &str) -> bool {
        let found = match self.tokens.get(self.at) {
            Some(Token::Word(have)) => have.eq_ignore_ascii_case(word),
            Some(Token::Symbol(have)) => *have == word,
            _ => false,
        };
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, token: &Token<'_>) -> bool {
        let found = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Filter, Denial> {
        let first = self.xor(depth)?;
        if self.word("NOR") {
            let second = self.xor(depth)?;
            return Ok(Filter::Or(vec![first, second]).negate());
        }
        let mut all = vec![first];
        while self.word("OR") {
            all.push(self.xor(depth)?);
        }
        join(false, all).ok_or_else(|| unparsable("The filter is empty."))
    }

    fn xor(&mut self, depth: usize) -> Result<Filter, Denial> {
        let mut left = self.and(depth)?;
        while self.word("XOR") {
            let right = self.and(depth)?;
            let (not_left, not_right) = (left.clone().negate(), right.clone().negate());
            left = Filter::Or(vec![left, right]).and(Filter::Or(vec![not_left, not_right]));
            // Each XOR doubles what is before it.
            if left.nodes() > MAX_NODES {
                return Err(unparsable("The filter has too many terms."));
            }
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Filter, Denial> {
        let mut all = vec![self.unary(depth)?];
        while self.word("AND") {
            all.push(self.unary(depth)?);
        }
        join(true, all).ok_or_else(|| unparsable("The filter is empty."))
    }

    fn unary(&mut self, depth: usize) -> Result<Filter, Denial> {
        if depth > MAX_DEPTH {
            return Err(unparsable("The filter is nested too deeply."));
        }
        if self.at > MAX_NODES * 16 {
            return Err(unparsable("The filter has too many terms."));
        }
        if self.word("NOT") {
            return Ok(self.unary(depth + 1)?.negate());
        }
        if self.take(&Token::Open) {
            let filter = self.or(depth + 1)?;
            if !self.take(&Token::Close) {
                return Err(unparsable("The filter has unbalanced parentheses."));
            }
            return Ok(filter);
        }
        self.test()
    }

    fn test(&mut self) -> Result<Filter, Denial> {
        let name = match self.tokens.get(self.at) {
            Some(Token::Word(name)) if is_field(name) => *name,
            _ => return Err(unparsable("The filter has no field where one must be.")),
        };
        let declared = self.component.and_then(|component| component.field_ignoring_case(name));
        let (field, field_type): (Name, FieldType) = match declared {
            Some(field) => (field.name.clone(), field.field_type),
            None => (name.into(), FieldType::Unspecified),
        };
        self.at += 1;
        if self.word("IS") {
            let negated = self.word("NOT");
            if !self.word("NULL") {
                return Err(unparsable("IS in the filter must be followed by NULL or NOT NULL."));
            }
            return Ok(Filter::Test(field, Test::IsNull { negated }));
        }
        let negated = self.word("NOT");
        let test = if self.word("IN") {
            Test::In { negated, values: self.list(field_type)? }
        } else if self.word("LIKE") {
            Test::Like { negated, pattern: self.pattern(field_type, "", "")? }
        } else if self.word("CONTAINS") {
            Test::Like { negated, pattern: self.pattern(field_type, "%", "%")? }
        } else if self.word("STARTS") && self.word("WITH") {
            Test::Like { negated, pattern: self.pattern(field_type, "", "%")? }
        } else if self.word("ENDS") && self.word("WITH") {
            Test::Like { negated, pattern: self.pattern(field_type, "%", "")? }
        } else if self.word("ALL") {
            return Err(unsupported("The filter operator ALL is not supported: use IN, or tests joined by AND."));
        } else {
            let op = self.comparison()?;
            Test::Compare(if negated { opposite(op) } else { op }, self.value(field_type)?)
        };
        Ok(Filter::of(field, test))
    }

    fn comparison(&mut self) -> Result<CompareOp, Denial> {
        const OPERATORS: [(&str, &str, CompareOp); 6] = [
            ("=", "EQ", CompareOp::Eq),
            ("!=", "NE", CompareOp::Ne),
            (">", "GT", CompareOp::Gt),
            (">=", "GTE", CompareOp::Ge),
            ("<", "LT", CompareOp::Lt),
            ("<=", "LTE", CompareOp::Le),
        ];
        for (symbol, word, op) in OPERATORS {
            if self.word(symbol) || self.word(word) {
                return Ok(op);
            }
        }
        Err(unparsable("The filter has no operator after a field."))
    }

    /// The next literal as it is written.
    fn raw(&mut self) -> Result<Literal, Denial> {
        let exact = self.take(&Token::Open);
        let value = match self.tokens.get(self.at) {
            Some(Token::Quoted(text)) if !exact => Literal::text(text)?,
            Some(Token::Parameter(name)) if !exact => match self.parameters.iter().find(|(have, _)| have == name) {
                Some((_, value)) => value.clone(),
                None => return Err(unparsable("The filter uses a parameter that params does not give.")),
            },
            Some(Token::Bare(text)) if cast::is_plain(text) => match exact {
                true => Literal::Exact((*text).to_owned()),
                false => Literal::Number((*text).to_owned()),
            },
            Some(Token::Bare(text)) if !exact => Literal::text(text)?,
            _ if exact => {
                return Err(unsupported(
                    "In parentheses, a value of the filter can only be a number: quote a literal.",
                ));
            }
            _ => return Err(unparsable("The filter has no value after an operator: write an empty text as ''.")),
        };
        self.at += 1;
        if exact && !self.take(&Token::Close) {
            return Err(unparsable("The filter has unbalanced parentheses."));
        }
        Ok(value)
    }

    /// The next literal, as DreamFactory casts it for a field of this type; refused if the cast would change it.
    fn value(&mut self, field_type: FieldType) -> Result<Literal, Denial> {
        cast::literal(self.raw()?, field_type)
    }

    fn pattern(&mut self, field_type: FieldType, before: &str, after: &str) -> Result<Literal, Denial> {
        if !cast::is_text(field_type) {
            return Err(unsupported(
                "LIKE, CONTAINS, STARTS WITH and ENDS WITH need a text field: DreamFactory casts their pattern to the field's type.",
            ));
        }
        match self.raw()? {
            Literal::Text(text) | Literal::Number(text) => Literal::text(&format!("{before}{text}{after}")),
            Literal::Exact(_) => Err(unsupported("A pattern of the filter cannot be in parentheses.")),
        }
    }

    fn list(&mut self, field_type: FieldType) -> Result<Vec<Literal>, Denial> {
        if !self.take(&Token::Open) {
            return Err(unparsable("IN in the filter must be followed by a list in parentheses."));
        }
        let mut values = vec![self.value(field_type)?];
        while self.take(&Token::Comma) {
            values.push(self.value(field_type)?);
        }
        if !self.take(&Token::Close) || values.len() > MAX_NODES {
            return Err(unparsable("A list in the filter is not closed, or is too long."));
        }
        Ok(values)
    }
}
