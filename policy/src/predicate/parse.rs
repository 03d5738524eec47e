//! Text of a row filter → [`Template`], typed against the fields that a service declares.

use super::{CompareOp, MAX_DEPTH, Operand, PlaceholderSource, Predicate, Template};
use crate::{
    Name,
    value::{FieldType, Literal},
};

/// Longest text of a predicate, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
/// Longest list after `IN`.
pub const MAX_LIST: usize = 1_000;

/// Why a predicate's text is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {position})")]
pub struct ParseError {
    /// Byte offset in the text.
    pub position: usize,
    /// Stable code: `predicate_syntax`, `predicate_limit`, `unknown_field`, `unknown_placeholder`, `type_mismatch`.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// `unknown_field`: the name, so that a caller who knows all fields can suggest one.
    pub field: Option<String>,
}

fn fail<T>(position: usize, code: &'static str, message: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError { position, code, message: message.into(), field: None })
}

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

/// Reads a placeholder such as `{user.region}`; `None` if the text does not start with a brace.
///
/// # Errors
/// If it starts with a brace and is not a placeholder.
pub fn parse_placeholder(text: &str) -> Result<Option<Operand>, ParseError> {
    let Some(inner) = text.strip_prefix('{') else { return Ok(None) };
    let Some(inner) = inner.strip_suffix('}') else {
        return fail(0, "unknown_placeholder", "a placeholder must end with }");
    };
    let inner = inner.trim();
    let (source, name) = match inner.split_once('.') {
        None => match inner {
            "tenant" => (PlaceholderSource::FromTenant, ""),
            "now" => (PlaceholderSource::FromNow, ""),
            "user" | "agent" => {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!("{{{inner}}} names no attribute; the {inner} itself is {{{inner}.name}}"),
                );
            }
            _ => {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!(
                        "{{{inner}}} is no placeholder; use {{user.NAME}}, {{tenant}}, {{role.NAME}}, {{agent.NAME}}, {{key.NAME}} or {{now}}"
                    ),
                );
            }
        },
        Some((source, name)) => {
            let source = match source {
                "user" => PlaceholderSource::FromUser,
                "role" => PlaceholderSource::FromRole,
                "agent" => PlaceholderSource::FromAgent,
                "key" => PlaceholderSource::FromKey,
                _ => {
                    return fail(
                        0,
                        "unknown_placeholder",
                        format!("{{{inner}}} has an unknown source; use user, role, agent or key"),
                    );
                }
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                return fail(
                    0,
                    "unknown_placeholder",
                    format!("{{{inner}}} must name an attribute of letters, digits, _, - and ."),
                );
            }
            (source, name)
        }
    };
    Ok(Some(Operand::Placeholder { source, name: Name::from(name) }))
}

/// True if a placeholder of this source may stand for a value of this type at all.
#[must_use]
pub fn placeholder_fits(source: PlaceholderSource, field_type: FieldType) -> bool {
    match field_type {
        FieldType::Json | FieldType::Unspecified => false,
        FieldType::Timestamp | FieldType::Date => true,
        _ => source != PlaceholderSource::FromNow,
    }
}

/// Reads text as a literal of this type, strictly: no spaces, no other spelling of a boolean, no infinite number.
#[must_use]
pub fn parse_literal(text: &str, field_type: FieldType) -> Option<Literal> {
    match field_type {
        FieldType::String => Some(Literal::String(Name::from(text))),
        FieldType::Timestamp => is_timestamp(text).then(|| Literal::String(Name::from(text))),
        FieldType::Date => is_date(text).then(|| Literal::String(Name::from(text))),
        FieldType::Integer if !text.starts_with('+') => text.parse().ok().map(Literal::Integer),
        FieldType::Number if is_number(text) => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Literal::Number)
        }
        FieldType::Boolean => match text {
            "true" => Some(Literal::Boolean(true)),
            "false" => Some(Literal::Boolean(false)),
            _ => None,
        },
        _ => None,
    }
}

/// A decimal number as JSON writes it, leading zeros allowed.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for a date `YYYY-MM-DD` that exists.
#[must_use]
pub fn is_date(text: &str) -> bool {
    days(text).is_some()
}

/// True for an ISO 8601 timestamp: a date, `T` or a space, `HH:MM:SS`, optionally a fraction, optionally `Z` or `±HH:MM`.
#[must_use]
pub fn is_timestamp(text: &str) -> bool {
    seconds(text).is_some()
}

/// Unix seconds of an RFC 3339 timestamp; its offset is required. A fraction is cut off.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    match seconds(text)? {
        (seconds, true) => Some(seconds),
        _ => None,
    }
}

/// Days since 1970-01-01 of a date (proleptic Gregorian).
fn days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (unsigned(year)?, unsigned(month)?, unsigned(day)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    // Years start in March here, so that the leap day is the last day of a year (Hinnant's days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Unix seconds, and whether an offset was given (UTC is assumed otherwise).
fn seconds(text: &str) -> Option<(i64, bool)> {
    let days = days(text.get(..10)?)?;
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let of_day = clock(text.get(11..19)?)?;
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 || length > 9 {
            return None;
        }
        rest = fraction.get(length..)?;
    }
    let offset = match rest {
        "" => None,
        "Z" | "z" => Some(0),
        _ => {
            let sign = match rest.as_bytes().first() {
                Some(b'+') => 1,
                Some(b'-') => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let (hours, minutes) = (unsigned(hours)?, unsigned(minutes)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            Some(sign * (hours * 3600 + minutes * 60))
        }
    };
    Some((days * 86_400 + of_day - offset.unwrap_or(0), offset.is_some()))
}

fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || hours.len() != 2 || minutes.len() != 2 || seconds.len() != 2 {
        return None;
    }
    let (hours, minutes, seconds) = (unsigned(hours)?, unsigned(minutes)?, unsigned(seconds)?);
    (hours <= 23 && minutes <= 59 && seconds <= 59).then_some(hours * 3600 + minutes * 60 + seconds)
}

fn unsigned(text: &str) -> Option<i64> {
    if digits(text) { text.parse().ok() } else { None }
}

/// Name of a type as documents write it.
#[must_use]
pub const fn type_name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::String => "string",
        FieldType::Integer => "integer",
        FieldType::Number => "number",
        FieldType::Boolean => "boolean",
        FieldType::Timestamp => "timestamp",
        FieldType::Date => "date",
        FieldType::Json => "json",
        FieldType::Unspecified => "unspecified",
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// An unquoted word: a keyword or a field.
    Word(String),
    /// A field in double quotes: never a keyword.
    Quoted(String),
    Text(String),
    Number(String),
    Placeholder(Operand),
    Operator(CompareOp),
    Open,
    Close,
    Comma,
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(word) => write!(f, "{word}"),
            Token::Quoted(word) => write!(f, "\"{word}\""),
            Token::Text(_) => f.write_str("a string"),
            Token::Number(text) => write!(f, "the number {text}"),
            Token::Placeholder(_) => f.write_str("a placeholder"),
            Token::Operator(_) => f.write_str("a comparison operator"),
            Token::Open => f.write_str("("),
            Token::Close => f.write_str(")"),
            Token::Comma => f.write_str("a comma"),
            Token::End => f.write_str("the end of the predicate"),
        }
    }
}

/// Splits the text; every token with its byte offset.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let position = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(out) };
        let tail = rest.get(first.len_utf8()..).unwrap_or("");
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Operator(CompareOp::Eq), 1),
            '!' if tail.starts_with('=') => (Token::Operator(CompareOp::Ne), 2),
            '<' if tail.starts_with('=') => (Token::Operator(CompareOp::Le), 2),
            '>' if tail.starts_with('=') => (Token::Operator(CompareOp::Ge), 2),
            '<' if tail.starts_with('>') => {
                return fail(position, "predicate_syntax", "<> is not an operator here; write !=");
            }
            '<' => (Token::Operator(CompareOp::Lt), 1),
            '>' => (Token::Operator(CompareOp::Gt), 1),
            '\'' | '"' => {
                let (content, length) = quoted(rest, first, position)?;
                (if first == '"' { Token::Quoted(content) } else { Token::Text(content) }, length)
            }
            '{' => {
                let Some(end) = rest.find('}') else {
                    return fail(position, "unknown_placeholder", "a placeholder must end with }");
                };
                match parse_placeholder(rest.get(..=end).unwrap_or("")) {
                    Ok(Some(operand)) => (Token::Placeholder(operand), end + 1),
                    Ok(None) => return fail(position, "predicate_syntax", "expected a placeholder"),
                    Err(error) => return Err(ParseError { position, ..error }),
                }
            }
            '-' | '0'..='9' => {
                let length = rest
                    .char_indices()
                    .find(|&(at, c)| {
                        let sign = matches!(c, '-' | '+')
                            && (at == 0 || rest.get(..at).is_some_and(|before| before.ends_with(['e', 'E'])));
                        !(sign || c.is_ascii_alphanumeric() || c == '.')
                    })
                    .map_or(rest.len(), |(at, _)| at);
                let number = rest.get(..length).unwrap_or("");
                if !is_number(number) {
                    return fail(position, "predicate_syntax", format!("{number} is not a number"));
                }
                (Token::Number(number.to_owned()), length)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let length =
                    rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
                (Token::Word(rest.get(..length).unwrap_or("").to_owned()), length)
            }
            other => {
                return fail(
                    position,
                    "predicate_syntax",
                    format!(
                        "unexpected character {other:?}; a field with unusual characters is written in double quotes"
                    ),
                );
            }
        };
        out.push((position, token));
        rest = rest.get(length..).unwrap_or("");
    }
}

/// Reads a quoted text in which the quote is written twice; its content and its length with quotes.
fn quoted(rest: &str, quote: char, position: usize) -> Result<(String, usize), ParseError> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\0' {
            return fail(position + at, "predicate_syntax", "a string may not contain NUL");
        }
        if c != quote {
            content.push(c);
        } else if chars.peek().is_some_and(|&(_, next)| next == quote) {
            chars.next();
            content.push(quote);
        } else {
            return Ok((content, at + 1));
        }
    }
    fail(position, "predicate_syntax", format!("the text that starts here has no closing {quote}"))
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
            Token::Number(text) => matches!(field_type, FieldType::Integer | FieldType::Number)
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
                    FieldType::Number => "a number",
                    FieldType::Boolean => "true or false",
                    FieldType::Timestamp => "a timestamp such as '2026-01-31T12:00:00Z'",
                    FieldType::Date => "a date such as '2026-01-31'",
                    FieldType::Json | FieldType::Unspecified => "IS NULL or IS NOT NULL, nothing else",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(name: &str) -> Option<FieldType> {
        Some(match name {
            "region" | "status" | "in" => FieldType::String,
            "id" => FieldType::Integer,
            "amount" => FieldType::Number,
            "open" => FieldType::Boolean,
            "created" => FieldType::Timestamp,
            "day" => FieldType::Date,
            "extra" => FieldType::Json,
            _ => return None,
        })
    }

    fn code(text: &str) -> &'static str {
        match parse(text, &schema) {
            Ok(_) => "ok",
            Err(error) => error.code,
        }
    }

    #[test]
    fn not_binds_tighter_than_and_than_or() {
        let predicate = parse("not id = 1 AND region = 'w' or open = true", &schema).unwrap();
        let Predicate::Or(items) = predicate else { panic!() };
        assert!(matches!(&items[0], Predicate::And(items) if matches!(items[0], Predicate::Not(_))));
        assert!(matches!(&items[1], Predicate::Compare { .. }));
    }

    #[test]
    fn literals_and_placeholders_take_the_type_of_their_field() {
        let cases = [
            ("region = {user.region} AND status = 'active'", "ok"),
            ("region = 'O''Hara'", "ok"),
            ("\"in\" = 'x'", "ok"),
            ("amount >= -1.5e3", "ok"),
            ("amount = 7", "ok"),
            ("id = 7.5", "type_mismatch"),
            ("id = '7'", "type_mismatch"),
            ("id = 9223372036854775808", "type_mismatch"),
            ("amount = 1e999", "type_mismatch"),
            ("region = 7", "type_mismatch"),
            ("region = true", "type_mismatch"),
            ("open = 'true'", "type_mismatch"),
            ("open < true", "type_mismatch"),
            ("created < '2024-02-29T10:00:00+02:00'", "ok"),
            ("created < '2023-02-29T10:00:00Z'", "type_mismatch"),
            ("created < {now}", "ok"),
            ("region = {now}", "type_mismatch"),
            ("day = '2024-12-31'", "ok"),
            ("day = '2024-13-01'", "type_mismatch"),
            ("extra = 'x'", "type_mismatch"),
            ("extra = {user.x}", "type_mismatch"),
            ("extra is not null", "ok"),
            ("id LIKE '1%'", "type_mismatch"),
            ("region NOT like 'w%'", "ok"),
            ("region LIKE {user.region}", "predicate_syntax"),
            ("id not in (1, 2, {user.ids})", "ok"),
            ("TRUE", "ok"),
        ];
        for (text, want) in cases {
            assert_eq!(code(text), want, "{text}");
        }
    }

    #[test]
    fn anything_outside_the_grammar_is_refused_with_its_place() {
        let cases = [
            ("", 0, "predicate_syntax"),
            ("regoin = 'w'", 0, "unknown_field"),
            ("region = 'w' OR", 15, "predicate_syntax"),
            ("region = 'w", 9, "predicate_syntax"),
            ("region = 'w') OR (TRUE", 12, "predicate_syntax"),
            ("region == 'w'", 8, "predicate_syntax"),
            ("region = NULL", 9, "predicate_syntax"),
            ("id <> 1", 3, "predicate_syntax"),
            ("id IN ()", 7, "predicate_syntax"),
            ("id = 1 -- x", 7, "predicate_syntax"),
            ("id = 1; id", 6, "predicate_syntax"),
            ("id = {user}", 5, "unknown_placeholder"),
            ("id = {user.a b}", 5, "unknown_placeholder"),
            ("id = {session.token}", 5, "unknown_placeholder"),
            ("id = 12x", 5, "predicate_syntax"),
        ];
        for (text, position, want) in cases {
            let error = parse(text, &schema).unwrap_err();
            assert_eq!((error.position, error.code), (position, want), "{text}: {error}");
        }
    }

    #[test]
    fn length_depth_and_lists_are_bounded() {
        let nested = |n: usize| format!("{}TRUE{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(code(&nested(MAX_DEPTH - 1)), "ok");
        assert_eq!(code(&nested(MAX_DEPTH)), "predicate_limit");
        assert_eq!(code(&"NOT ".repeat(2000)), "predicate_limit");
        let list = |n: usize| format!("id IN ({})", vec!["1"; n].join(","));
        assert_eq!(code(&list(MAX_LIST)), "ok");
        assert_eq!(code(&list(MAX_LIST + 1)), "predicate_limit");
        assert_eq!(code(&" ".repeat(MAX_LENGTH + 1)), "predicate_limit");
        let tower = (0..20).fold("id = 1".to_owned(), |inner, _| format!("(id = 2 AND (id = 3 OR {inner}))"));
        assert_eq!(code(&tower), "predicate_limit");
    }

    #[test]
    fn timestamps_count_from_the_epoch() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2000-03-01T01:00:00.5+01:00"), Some(951_868_800));
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), Some(-1));
        assert_eq!(parse_rfc3339("2024-01-01T00:00:00"), None);
        assert!(
            is_timestamp("2024-01-01 00:00:00") && !is_timestamp("2024-01-01") && !is_timestamp("2024-01-01T24:00:00Z")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z'\"{}()=<>!,. 0-9e+é-]{0,80}") {
            let _ = parse(&text, &schema);
        }
    }
}
