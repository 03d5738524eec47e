//! Text → conditions: what a client may write, and what this module prints.

use super::{Class, Sql, Test, Value};
use crate::{
    Name,
    bundle::Component,
    code::{Code, Denial},
    predicate::CompareOp,
};

/// Nesting of conditions; a policy's filter (at most 32 deep) gains less than three levels per level here.
const MAX_DEPTH: usize = 100;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Number(Value),
    Sign(&'static str),
}

/// Resolves a column as SQLite does (without ASCII case); an undeclared one keeps the name that was asked for.
pub(in crate::dialect::datasette) fn resolve(component: Option<&Component>, name: &str) -> Name {
    component
        .and_then(|component| component.field_ignoring_case(name))
        .map_or_else(|| name.into(), |field| field.name.clone())
}

/// Parses a condition. `own`: the text was printed by this module, so the forms of a policy's filter are allowed too.
///
/// # Errors
/// `unsupported`, if the text is not in the subset.
pub(in crate::dialect::datasette) fn parse(
    text: &str,
    component: Option<&Component>,
    own: bool,
) -> Result<Sql, Denial> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, component, own };
    let sql = parser.or(0)?;
    if parser.at == parser.tokens.len() { Ok(sql) } else { Err(outside()) }
}

fn outside() -> Denial {
    Denial::new(
        Code::Unsupported,
        "`_where` goes beyond the supported conditions: comparisons of a column with a literal, IN, LIKE, GLOB, BETWEEN, IS NULL, AND, OR, NOT and parentheses.",
    )
}

fn tokens(text: &str) -> Result<Vec<Token>, Denial> {
    const SIGNS: [&str; 11] = ["<=", ">=", "<>", "!=", "==", "<", ">", "=", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_sign = rest.strip_prefix('-').unwrap_or(rest);
        if matches!(first, ' ' | '\t' | '\n' | '\r') {
            rest = rest.get(1..).unwrap_or_default();
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or_default();
        } else if matches!(first, '\'' | '"' | '`' | '[') {
            let (content, tail) = quoted(rest, first)?;
            tokens.push(if first == '\'' { Token::Text(content) } else { Token::Quoted(content) });
            rest = tail;
        } else if after_sign.starts_with(|letter: char| letter.is_ascii_digit()) {
            let (number, tail) = number(rest)?;
            tokens.push(Token::Number(number));
            rest = tail;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end =
                rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(rest.len());
            let (word, tail) = rest.split_at_checked(end).ok_or_else(outside)?;
            tokens.push(Token::Word(word.to_owned()));
            rest = tail;
        } else {
            return Err(outside());
        }
    }
    Ok(tokens)
}

fn quoted(text: &str, open: char) -> Result<(String, &str), Denial> {
    let close = if open == '[' { ']' } else { open };
    let mut content = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != close {
            content.push(letter);
        } else if close != ']' && letters.peek().is_some_and(|(_, next)| *next == close) {
            content.push(letter);
            letters.next();
        } else {
            return Ok((content, text.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(outside())
}

fn number(text: &str) -> Result<(Value, &str), Denial> {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(usize::from(text.starts_with('-')));
    let whole = end;
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let start = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(start);
        if end == start {
            return Err(outside());
        }
    }
    if bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
        return Err(outside());
    }
    let (digits, tail) = text.split_at_checked(end).ok_or_else(outside)?;
    let integer = if end == whole { digits.parse().ok().map(Value::Integer) } else { None };
    let real = || digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Real);
    Ok((integer.or_else(real).ok_or_else(outside)?, tail))
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    component: Option<&'a Component>,
    own: bool,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, Denial> {
        let token = self.tokens.get(self.at).cloned().ok_or_else(outside)?;
        self.at += 1;
        Ok(token)
    }

    fn word(&mut self, want: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(want));
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, want: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(sign)) if *sign == want);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Denial> {
        if self.sign(sign) { Ok(()) } else { Err(outside()) }
    }

    fn or(&mut self, depth: usize) -> Result<Sql, Denial> {
        let mut items = vec![self.and(depth)?];
        while self.word("OR") {
            items.push(self.and(depth)?);
        }
        Ok(Sql::any(items))
    }

    fn and(&mut self, depth: usize) -> Result<Sql, Denial> {
        let mut items = vec![self.unary(depth)?];
        while self.word("AND") {
            items.push(self.unary(depth)?);
        }
        Ok(Sql::all(items))
    }

    fn unary(&mut self, depth: usize) -> Result<Sql, Denial> {
        if depth > MAX_DEPTH {
            return Err(outside());
        }
        if self.word("NOT") {
            return Ok(Sql::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.sign("(") {
            let inner = self.or(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        match self.next()? {
            Token::Number(Value::Integer(left)) => {
                self.expect("=")?;
                match self.next()? {
                    Token::Number(Value::Integer(right)) => Ok(Sql::Const(left == right)),
                    _ => Err(outside()),
                }
            }
            Token::Quoted(name) => self.test(&name),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Ok(Sql::Const(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => Ok(Sql::Const(false)),
            Token::Word(word) if self.own && self.sign("(") => self.function(&word),
            Token::Word(word) => self.test(&word),
            _ => Err(outside()),
        }
    }

    /// The functions that a policy's filter prints.
    fn function(&mut self, name: &str) -> Result<Sql, Denial> {
        let field = self.column()?;
        self.expect(")")?;
        let test = match name {
            "typeof" => {
                let Test::In { negated: false, values, .. } = self.in_list(false, false)? else {
                    return Err(outside());
                };
                let text = |value: &str| Value::Text(value.to_owned());
                if values == [text("text")] {
                    Test::Is(Class::Text)
                } else if values == [text("integer"), text("real")] {
                    Test::Is(Class::Numeric)
                } else {
                    return Err(outside());
                }
            }
            "date" => {
                self.expect("=")?;
                if self.column()? != field {
                    return Err(outside());
                }
                Test::Date
            }
            "julianday" => {
                let op = self.operator()?;
                if !self.word("julianday") {
                    return Err(outside());
                }
                self.expect("(")?;
                let text = self.text()?;
                self.expect(")")?;
                Test::Instant { op, text }
            }
            _ => return Err(outside()),
        };
        Ok(Sql::Test(field, test))
    }

    fn column(&mut self) -> Result<Name, Denial> {
        match self.next()? {
            Token::Quoted(name) => Ok(resolve(self.component, &name)),
            _ => Err(outside()),
        }
    }

    fn operator(&mut self) -> Result<CompareOp, Denial> {
        match self.next()? {
            Token::Sign("=" | "==") => Ok(CompareOp::Eq),
            Token::Sign("!=" | "<>") => Ok(CompareOp::Ne),
            Token::Sign("<") => Ok(CompareOp::Lt),
            Token::Sign("<=") => Ok(CompareOp::Le),
            Token::Sign(">") => Ok(CompareOp::Gt),
            Token::Sign(">=") => Ok(CompareOp::Ge),
            _ => Err(outside()),
        }
    }

    fn value(&mut self) -> Result<Value, Denial> {
        match self.next()? {
            Token::Text(text) => Ok(Value::Text(text)),
            Token::Number(number) => Ok(number),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Ok(Value::Integer(1)),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => Ok(Value::Integer(0)),
            _ => Err(outside()),
        }
    }

    fn text(&mut self) -> Result<String, Denial> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            _ => Err(outside()),
        }
    }

    fn in_list(&mut self, negated: bool, binary: bool) -> Result<Test, Denial> {
        if !self.word("IN") {
            return Err(outside());
        }
        self.expect("(")?;
        let mut values = vec![self.value()?];
        while self.sign(",") {
            values.push(self.value()?);
        }
        self.expect(")")?;
        Ok(Test::In { negated, values, binary })
    }

    fn test(&mut self, name: &str) -> Result<Sql, Denial> {
        let field = resolve(self.component, name);
        let binary = self.own && self.word("COLLATE");
        if binary && !self.word("BINARY") {
            return Err(outside());
        }
        if self.word("IS") {
            let negated = self.word("NOT");
            return if self.word("NULL") { Ok(Sql::Test(field, Test::Null { negated })) } else { Err(outside()) };
        }
        let negated = self.word("NOT");
        let test = if self.word("LIKE") {
            Test::Like { negated, pattern: self.text()? }
        } else if self.word("GLOB") {
            Test::Glob { negated, pattern: self.text()? }
        } else if self.word("BETWEEN") {
            let low = Test::Compare { op: CompareOp::Ge, value: self.value()?, binary };
            if !self.word("AND") {
                return Err(outside());
            }
            let high = Test::Compare { op: CompareOp::Le, value: self.value()?, binary };
            let both = Sql::And(vec![Sql::Test(field.clone(), low), Sql::Test(field, high)]);
            return Ok(if negated { Sql::Not(Box::new(both)) } else { both });
        } else if negated || matches!(self.tokens.get(self.at), Some(Token::Word(_))) {
            self.in_list(negated, binary)?
        } else {
            Test::Compare { op: self.operator()?, value: self.value()?, binary }
        };
        Ok(Sql::Test(field, test))
    }
}
