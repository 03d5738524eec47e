//! SQL conditions: the part of SQLite's grammar that a client's `_where` may use, the encoding of a policy's row filter,
//! and the guard that makes Datasette refuse a table whose primary key is not the declared one.
//!
//! Every identifier is quoted with backticks: SQLite takes an unknown name in double quotes for a string, which would
//! turn a test of a missing column into a constant.

use crate::{
    Name,
    bundle::Component,
    code::{Code, Denial},
    predicate::{CompareOp, Predicate, Resolved},
    value::{FieldType, Literal},
};
use std::fmt::Write;

/// Nesting of conditions; a policy's filter (at most 32 deep) gains less than three levels per level here.
const MAX_DEPTH: usize = 100;

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
    out.push('\'');
    out.push_str(&text.replace('\'', "''"));
    out.push('\'');
}

fn print_name(name: &str, out: &mut String) {
    out.push('`');
    out.push_str(&name.replace('`', "``"));
    out.push('`');
}

fn operator(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "=",
        CompareOp::Ne => "!=",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
        // Not SQL: the output then fails its own check.
        CompareOp::Unspecified => "?",
    }
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

/// Encodes a policy's row filter. Negations are pushed down to the tests: then no test is under a negation, "false" and
/// "unknown" select alike, and each test may insist on the storage class and byte order that the policy means.
///
/// # Errors
/// `unsupported`, if a literal is not of its field's type.
pub(super) fn encode(filter: &Resolved, negated: bool) -> Result<Sql, Denial> {
    let items = |items: &[Resolved]| items.iter().map(|item| encode(item, negated)).collect::<Result<Vec<_>, _>>();
    Ok(match filter {
        Predicate::Constant(value) => Sql::Const(*value != negated),
        Predicate::And(list) if negated => Sql::any(items(list)?),
        Predicate::Or(list) if !negated => Sql::any(items(list)?),
        Predicate::And(list) | Predicate::Or(list) => Sql::all(items(list)?),
        Predicate::Not(inner) => encode(inner, !negated)?,
        Predicate::Compare { field, field_type, op, value } => {
            compare(field, *field_type, if negated { opposite(*op) } else { *op }, value)?
        }
        // A test over an empty list is false, negated by NOT IN or not.
        Predicate::In { values, .. } if values.is_empty() => Sql::Const(negated),
        Predicate::In { field, field_type, negated: not_in, values } => {
            let not_in = *not_in != negated;
            let op = if not_in { CompareOp::Ne } else { CompareOp::Eq };
            match field_type {
                FieldType::String | FieldType::Integer | FieldType::Number => {
                    let values = values.iter().map(|value| literal(*field_type, value)).collect::<Result<_, _>>()?;
                    let (class, binary) = class_of(*field_type);
                    typed(field, class, Test::In { negated: not_in, values, binary })
                }
                _ => {
                    let tests =
                        values.iter().map(|value| compare(field, *field_type, op, value)).collect::<Result<_, _>>()?;
                    if not_in { Sql::all(tests) } else { Sql::any(tests) }
                }
            }
        }
        Predicate::Like { field, negated: not_like, pattern } => {
            let mut glob = String::with_capacity(pattern.len());
            for letter in pattern.chars() {
                match letter {
                    '%' => glob.push('*'),
                    '_' => glob.push('?'),
                    '*' | '?' | '[' => {
                        let _ = write!(glob, "[{letter}]");
                    }
                    _ => glob.push(letter),
                }
            }
            typed(field, Class::Text, Test::Glob { negated: *not_like != negated, pattern: glob })
        }
        Predicate::IsNull { field, negated: not_null } => {
            Sql::Test(field.clone(), Test::Null { negated: *not_null != negated })
        }
    })
}

fn typed(field: &Name, class: Class, test: Test) -> Sql {
    Sql::And(vec![Sql::Test(field.clone(), Test::Is(class)), Sql::Test(field.clone(), test)])
}

fn class_of(field_type: FieldType) -> (Class, bool) {
    match field_type {
        FieldType::Integer | FieldType::Number | FieldType::Boolean => (Class::Numeric, false),
        _ => (Class::Text, true),
    }
}

fn literal(field_type: FieldType, value: &Literal) -> Result<Value, Denial> {
    match (field_type, value) {
        (FieldType::String | FieldType::Date, Literal::String(text)) => Ok(Value::Text(text.to_string())),
        (FieldType::Integer | FieldType::Number, Literal::Integer(value)) => Ok(Value::Integer(*value)),
        (FieldType::Integer | FieldType::Number, Literal::Number(value)) if value.is_finite() => {
            Ok(Value::Real(*value))
        }
        _ => Err(Denial::new(Code::Unsupported, "The row filter compares a field with a value of another type.")),
    }
}

fn compare(field: &Name, field_type: FieldType, op: CompareOp, value: &Literal) -> Result<Sql, Denial> {
    let (class, binary) = class_of(field_type);
    let test = match (field_type, value) {
        (FieldType::Boolean, Literal::Boolean(value)) => {
            let value = match op {
                CompareOp::Eq => *value,
                CompareOp::Ne => !*value,
                _ => return Err(Denial::new(Code::Unsupported, "The row filter orders truth values.")),
            };
            Test::Compare { op: CompareOp::Eq, value: Value::Integer(i64::from(value)), binary }
        }
        (FieldType::Timestamp, Literal::String(text)) => {
            // julianday() also reads times without a date and day numbers, so the form is tested too.
            let form =
                Test::Glob { negated: false, pattern: "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ]*:*".to_owned() };
            return Ok(Sql::And(vec![
                Sql::Test(field.clone(), Test::Is(Class::Text)),
                Sql::Test(field.clone(), form),
                Sql::Test(field.clone(), Test::Instant { op, text: text.to_string() }),
            ]));
        }
        (FieldType::Date, _) => {
            return Ok(Sql::And(vec![
                Sql::Test(field.clone(), Test::Is(Class::Text)),
                Sql::Test(field.clone(), Test::Date),
                Sql::Test(field.clone(), Test::Compare { op, value: literal(field_type, value)?, binary }),
            ]));
        }
        _ => Test::Compare { op, value: literal(field_type, value)?, binary },
    };
    Ok(typed(field, class, test))
}

fn opposite(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq => CompareOp::Ne,
        CompareOp::Ne => CompareOp::Eq,
        CompareOp::Lt => CompareOp::Ge,
        CompareOp::Ge => CompareOp::Lt,
        CompareOp::Le => CompareOp::Gt,
        CompareOp::Gt => CompareOp::Le,
        CompareOp::Unspecified => CompareOp::Unspecified,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Number(Value),
    Sign(&'static str),
}

/// Resolves a column as SQLite does (without ASCII case); an undeclared one keeps the name that was asked for.
pub(super) fn resolve(component: Option<&Component>, name: &str) -> Name {
    component
        .and_then(|component| component.field_ignoring_case(name))
        .map_or_else(|| name.into(), |field| field.name.clone())
}

/// Parses a condition. `own`: the text was printed by this module, so the forms of a policy's filter are allowed too.
///
/// # Errors
/// `unsupported`, if the text is not in the subset.
pub(super) fn parse(text: &str, component: Option<&Component>, own: bool) -> Result<Sql, Denial> {
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
