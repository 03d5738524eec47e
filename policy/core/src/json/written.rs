//! Whether a text is a value as it would be written, read without a second tree.

use super::{
    read::{Fault, Scalar, name, scalar},
    tree::{Map, Text, Value},
};
use hifijson::{SliceLexer, token::Lex as _};

impl Value {
    /// True if the text is this very value. Nothing is allocated for texts without escapes.
    #[must_use]
    pub fn is_written_as(&self, bytes: &[u8]) -> bool {
        let mut lexer = SliceLexer::new(bytes);
        lexer.exactly_one(SliceLexer::ws_peek, |next, lexer| same(next, lexer, self)).is_ok()
    }
}

impl Map {
    /// True if the text is an object with these very members in their order.
    #[must_use]
    pub fn is_written_as(&self, bytes: &[u8]) -> bool {
        let mut lexer = SliceLexer::new(bytes);
        let members = |next, lexer: &mut SliceLexer<'_>| match next {
            b'{' => same_members(lexer, &self.0),
            _ => Err(Fault::Syntax),
        };
        lexer.exactly_one(SliceLexer::ws_peek, members) == Ok(true)
    }
}

/// Compares what is read with a value.
fn same(next: u8, lexer: &mut SliceLexer<'_>, expected: &Value) -> Result<(), Fault> {
    let equal = match expected {
        Value::Array(items) if next == b'[' => {
            let mut items = items.iter();
            lexer
                .discarded()
                .seq(b']', SliceLexer::ws_peek, |next, lexer| same(next, lexer, items.next().ok_or(Fault::Syntax)?))?;
            items.next().is_none()
        }
        Value::Object(Map(members)) if next == b'{' => same_members(lexer, members)?,
        expected => match (scalar(next, lexer, true)?, expected) {
            (Scalar::Null, Value::Null) => true,
            (Scalar::Bool(have), Value::Bool(want)) => have == *want,
            (Scalar::Number(have), Value::Number(want)) => have == want.as_str(),
            (Scalar::Text(have), Value::String(want)) => have == want.as_str(),
            _ => false,
        },
    };
    if equal { Ok(()) } else { Err(Fault::Syntax) }
}

fn same_members(lexer: &mut SliceLexer<'_>, members: &[(Text, Value)]) -> Result<bool, Fault> {
    let mut members = members.iter();
    lexer.discarded().seq(b'}', SliceLexer::ws_peek, |next, lexer| {
        let (expected, inner) = members.next().ok_or(Fault::Syntax)?;
        if name(next, lexer, true)? != expected.as_str() {
            return Err(Fault::Syntax);
        }
        same(lexer.ws_peek().ok_or(Fault::Syntax)?, lexer, inner)
    })?;
    Ok(members.next().is_none())
}
