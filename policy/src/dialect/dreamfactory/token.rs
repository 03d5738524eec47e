//! Tokens of a filter. Where a value stands, text without quotes is one literal up to the end of its test, as DreamFactory
//! reads it: `city = New York`, `name = O'Neil`.

use super::unparsable;
use crate::code::Denial;

#[derive(Debug, PartialEq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    Comma,
    /// A comparison in symbols, `&&` or `||`.
    Symbol(&'static str),
    Word(&'a str),
    Quoted(String),
    /// A literal without quotes.
    Bare(&'a str),
    /// `:name`
    Parameter(&'a str),
}

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// A field, a word, a parenthesis.
    Test,
    /// `IN` was read.
    List,
    /// A value, behind an operator that is a symbol or a word.
    Value { symbol: bool },
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Denial> {
    let mut tokens = Vec::with_capacity(16);
    let mut rest = text;
    // Inside the list of `IN`; inside the parentheses of one number.
    let (mut expect, mut list, mut number) = (Expect::Test, false, false);
    loop {
        rest = rest.trim_start_matches(' ');
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { return Ok(tokens) };
        let value = matches!(expect, Expect::Value { .. });
        let two = |second: char| chars.as_str().starts_with(second);
        let (token, length, next) = match c {
            // Of one number.
            '(' if value && !number => {
                number = true;
                (Token::Open, 1, expect)
            }
            '(' if expect == Expect::List => {
                list = true;
                (Token::Open, 1, Expect::Value { symbol: false })
            }
            '(' => (Token::Open, 1, Expect::Test),
            ')' => {
                list = list && number;
                number = false;
                (Token::Close, 1, Expect::Test)
            }
            ',' if list => (Token::Comma, 1, Expect::Value { symbol: false }),
            '\'' | '"' if value => {
                let (text, length) = quoted(rest, c)?;
                (Token::Quoted(text), length, Expect::Test)
            }
            ':' if value => {
                let name = |next: char| next.is_ascii_alphanumeric() || next == '_';
                let after = chars.as_str().trim_start_matches(name);
                let length = rest.len() - after.len();
                (Token::Parameter(rest.get(..length).unwrap_or_default()), length, Expect::Test)
            }
            _ if value => {
                let text = bare(rest, list, expect == Expect::Value { symbol: true })?;
                (Token::Bare(text), text.len(), Expect::Test)
            }
            '=' => (Token::Symbol("="), 1, Expect::Value { symbol: true }),
            '!' if two('=') => (Token::Symbol("!="), 2, Expect::Value { symbol: true }),
            '<' if two('=') => (Token::Symbol("<="), 2, Expect::Value { symbol: true }),
            '<' if two('>') => (Token::Symbol("!="), 2, Expect::Value { symbol: true }),
            '<' => (Token::Symbol("<"), 1, Expect::Value { symbol: true }),
            '>' if two('=') => (Token::Symbol(">="), 2, Expect::Value { symbol: true }),
            '>' => (Token::Symbol(">"), 1, Expect::Value { symbol: true }),
            '&' if two('&') => (Token::Symbol("AND"), 2, Expect::Test),
            '|' if two('|') => (Token::Symbol("OR"), 2, Expect::Test),
            c if c.is_alphanumeric() || c == '_' => {
                let after = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                let length = rest.len() - after.len();
                let word = rest.get(..length).unwrap_or_default();
                let next = match word {
                    _ if ["IN", "ALL"].iter().any(|of| of.eq_ignore_ascii_case(word)) => Expect::List,
                    _ if OPERATORS.iter().any(|of| of.eq_ignore_ascii_case(word)) => Expect::Value { symbol: false },
                    _ => Expect::Test,
                };
                (Token::Word(word), length, next)
            }
            _ => {
                return Err(unparsable(
                    "The filter has a character that has no meaning there: write field, operator and value, and put a literal in quotes.",
                ));
            }
        };
        rest = rest.get(length..).unwrap_or_default();
        expect = next;
        tokens.push(token);
    }
}

/// Words before a value.
const OPERATORS: [&str; 9] = ["EQ", "NE", "GT", "GTE", "LT", "LTE", "LIKE", "CONTAINS", "WITH"];
const JOINS: [&str; 4] = ["AND", "OR", "NOR", "XOR"];

/// A literal in quotes, a doubled quote in it standing for one, and the length of both.
fn quoted(text: &str, quote: char) -> Result<(String, usize), Denial> {
    let mut value = String::new();
    let mut rest = text.chars();
    rest.next();
    loop {
        match rest.next() {
            None => return Err(unparsable("The filter has an unbalanced quote.")),
            Some(next) if next == quote && !rest.as_str().starts_with(quote) => break,
            Some(next) if next == quote => value.extend(rest.next()),
            Some(next) => value.push(next),
        }
    }
    Ok((value, text.len() - rest.as_str().len()))
}

/// A literal without quotes: up to the parenthesis, the comma of a list or the logical operator that ends its test.
fn bare(text: &str, list: bool, symbol: bool) -> Result<&str, Denial> {
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        let rest = text.get(at..).unwrap_or_default();
        let join = c == ' ' && {
            let word = rest.trim_start_matches(' ').split([' ', '(', ')']).next().unwrap_or_default();
            JOINS.iter().any(|join| join.eq_ignore_ascii_case(word))
        };
        if c == ')' || join || (list && c == ',') || rest.starts_with("&&") || rest.starts_with("||") {
            end = at;
            break;
        }
        if matches!(c, '(' | '=' | '<' | '>') {
            return Err(unparsable(
                "A literal without quotes has a parenthesis or a comparison in it: put it in quotes, or into params.",
            ));
        }
    }
    let literal = text.get(..end).unwrap_or_default().trim_end_matches(' ');
    let first = literal.split(' ').next().unwrap_or_default();
    if first.is_empty() {
        return Err(unparsable("The filter has no value after an operator: write an empty text as ''."));
    }
    if first.eq_ignore_ascii_case("NULL") && literal.len() == first.len() {
        return Err(unparsable("NULL is not a value that a filter can compare with: write IS NULL or IS NOT NULL."));
    }
    // Behind an operator that is a word, DreamFactory may find another that stands in the literal first.
    if first.eq_ignore_ascii_case("NOT") || (!symbol && literal.split(' ').any(is_word)) {
        return Err(unparsable("A literal without quotes has a word of the filter language in it: put it in quotes."));
    }
    Ok(literal)
}

/// True for a plain identifier that cannot be taken for a word of the grammar.
pub(super) fn is_field(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        && (!is_word(name) || NAMES.iter().any(|word| word.eq_ignore_ascii_case(name)))
}

/// True for a word of the grammar.
pub(super) fn is_word(text: &str) -> bool {
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

const WORDS: [&str; 20] = [
    "AND", "OR", "NOR", "XOR", "NOT", "IN", "ALL", "LIKE", "CONTAINS", "EQ", "NE", "GT", "GTE", "LT", "LTE", "WITH",
    "STARTS", "ENDS", "IS", "NULL",
];
/// Words that stand behind a field only, so that a field may have their name.
const NAMES: [&str; 4] = ["STARTS", "ENDS", "IS", "NULL"];
