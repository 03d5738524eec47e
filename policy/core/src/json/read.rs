//! Text → whatever a [`Tree`] is, within limits.

use crate::number::MAX_LENGTH;
use foldhash::quality::FixedState;
use hifijson::{
    Expect, SliceLexer, num,
    num::LexWrite as _,
    str::{self as text, LexAlloc as _},
    token::Lex as _,
};
use std::{borrow::Cow, hash::BuildHasher};

/// What one text of JSON may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values at most: every scalar, list and object counts.
    pub values: usize,
    /// Lists and objects inside each other at most.
    pub depth: usize,
}

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not JSON in UTF-8.
    Syntax,
    /// An object has the same name twice.
    Duplicate,
    /// It has more values than the limit.
    Values,
    /// It is nested deeper than the limit.
    Depth,
    /// A number is longer than [`MAX_LENGTH`], or larger than a double.
    Number,
    /// A string has a NUL, where servers written in C would end it.
    Nul,
    /// An object has more members than the reader takes.
    Members,
}

/// A value that is neither list nor object, as it is read.
pub enum Scalar<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// In JSON's grammar, and within the limits of [`Fault::Number`].
    Number(&'a str),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
}

/// What [`read`] builds.
pub trait Tree<'a>: Sized {
    /// Name of a member.
    type Name: AsRef<str>;
    /// Whether strings may have the character NUL.
    const NUL: bool;
    /// A member's name.
    fn name(text: Cow<'a, str>) -> Self::Name;
    /// A value that is neither list nor object.
    fn scalar(scalar: Scalar<'a>) -> Self;
    /// A list.
    fn array(items: Vec<Self>) -> Self;
    /// An object, whose names are distinct.
    ///
    /// # Errors
    /// [`Fault::Members`], if it has more members than the reader takes.
    fn object(members: Vec<(Self::Name, Self)>) -> Result<Self, Fault>;
}

/// Reads a whole text.
///
/// # Errors
/// The first [`Fault`]: what the text costs is bounded by `limits` while it is read.
pub fn read<'a, T: Tree<'a>>(bytes: &'a [u8], limits: Limits) -> Result<T, Fault> {
    let mut left = limits.values;
    SliceLexer::new(bytes).exactly_one(SliceLexer::ws_peek, |next, lexer| value(next, lexer, &mut left, limits.depth))
}

fn value<'a, T: Tree<'a>>(next: u8, lexer: &mut SliceLexer<'a>, left: &mut usize, depth: usize) -> Result<T, Fault> {
    *left = left.checked_sub(1).ok_or(Fault::Values)?;
    Ok(match next {
        b'[' => {
            let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
            let mut items = Vec::new();
            lexer.discarded().seq(b']', SliceLexer::ws_peek, |next, lexer| {
                items.push(value(next, lexer, left, depth)?);
                Ok::<_, Fault>(())
            })?;
            T::array(items)
        }
        b'{' => {
            let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
            let mut members = Vec::new();
            lexer.discarded().seq(b'}', SliceLexer::ws_peek, |next, lexer| {
                let name = T::name(name(next, lexer, T::NUL)?);
                let next = lexer.ws_peek().ok_or(Fault::Syntax)?;
                members.push((name, value(next, lexer, left, depth)?));
                Ok::<_, Fault>(())
            })?;
            if !distinct(&members) {
                return Err(Fault::Duplicate);
            }
            T::object(members)?
        }
        next => T::scalar(scalar(next, lexer, T::NUL)?),
    })
}

/// A member's name and the colon after it.
pub(super) fn name<'a>(next: u8, lexer: &mut SliceLexer<'a>, nul: bool) -> Result<Cow<'a, str>, Fault> {
    if next != b'"' {
        return Err(Fault::Syntax);
    }
    let name = string(lexer, nul)?;
    lexer.expect(SliceLexer::ws_peek, b':').ok_or(Fault::Syntax)?;
    Ok(name)
}

fn string<'a>(lexer: &mut SliceLexer<'a>, nul: bool) -> Result<Cow<'a, str>, Fault> {
    let text = lexer.discarded().str_string()?;
    // A NUL cannot stand in a string but as an escape.
    if matches!(&text, Cow::Owned(text) if !nul && text.contains('\0')) { Err(Fault::Nul) } else { Ok(text) }
}

pub(super) fn scalar<'a>(next: u8, lexer: &mut SliceLexer<'a>, nul: bool) -> Result<Scalar<'a>, Fault> {
    Ok(match next {
        b'"' => Scalar::Text(string(lexer, nul)?),
        b'-' | b'0'..=b'9' => {
            let (text, parts) = lexer.num_string().validated()?;
            // Servers read what is larger than a double as infinite. Only such a text can be.
            let large = parts.exp || text.len() > 308;
            if text.len() > MAX_LENGTH || large && !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return Err(Fault::Number);
            }
            Scalar::Number(text)
        }
        _ => match lexer.null_or_bool().ok_or(Fault::Syntax)? {
            None => Scalar::Null,
            Some(value) => Scalar::Bool(value),
        },
    })
}

/// True if no two members have the same name. The hash is not secret: whoever makes two different names collide is refused
/// as if they were equal, so that no work can be made of it.
pub(super) fn distinct<T>(members: &[(impl AsRef<str>, T)]) -> bool {
    const FEW: usize = 8;
    if members.len() <= FEW {
        return members
            .iter()
            .enumerate()
            .all(|(at, (name, _))| members.iter().take(at).all(|(before, _)| before.as_ref() != name.as_ref()));
    }
    let hasher = FixedState::default();
    let mut hashes: Vec<u64> = members.iter().map(|(name, _)| hasher.hash_one(name.as_ref())).collect();
    hashes.sort_unstable();
    hashes.windows(2).all(|pair| !matches!(pair, [one, two] if one == two))
}

impl From<Expect> for Fault {
    fn from(_: Expect) -> Fault {
        Fault::Syntax
    }
}

impl From<num::Error> for Fault {
    fn from(_: num::Error) -> Fault {
        Fault::Syntax
    }
}

impl From<text::Error> for Fault {
    fn from(_: text::Error) -> Fault {
        Fault::Syntax
    }
}
