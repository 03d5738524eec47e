//! Texts, numbers and literals, which may lie in several chunks.

use super::{
    MAX_KEY, MAX_MASKED, Transformer,
    state::{Number, State},
};
use crate::transform::{error::TransformError, paths::Action, tape::Tape};

impl Transformer {
    /// Reads on in a text, to its end or to the chunk's.
    pub(super) fn text(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        loop {
            match self.state {
                State::Text => match tape.stop() {
                    Some(b'"') => {
                        tape.at += 1;
                        return if self.in_key { self.end_key(tape) } else { self.end_scalar(tape) };
                    }
                    Some(b'\\') => {
                        tape.at += 1;
                        self.escaped = true;
                        self.state = State::Escape;
                    }
                    Some(_) => return Err(TransformError::Malformed),
                    None => return self.suspend(tape),
                },
                State::Escape => {
                    let Some(byte) = tape.peek() else { return self.suspend(tape) };
                    self.state = match byte {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text,
                        b'u' => State::Unicode(4),
                        _ => return Err(TransformError::Malformed),
                    };
                    tape.at += 1;
                }
                State::Unicode(left) => {
                    let Some(byte) = tape.peek() else { return self.suspend(tape) };
                    if !byte.is_ascii_hexdigit() {
                        return Err(TransformError::Malformed);
                    }
                    self.state = if left <= 1 { State::Text } else { State::Unicode(left - 1) };
                    tape.at += 1;
                }
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn number(&mut self, mut number: Number, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        while let Some(byte) = tape.peek() {
            match number.next(byte) {
                Some(next) => number = next,
                None if number.complete() => return self.end_scalar(tape),
                None => return Err(TransformError::Malformed),
            }
            tape.at += 1;
        }
        self.state = State::Number(number);
        self.suspend(tape)
    }

    pub(super) fn literal(&mut self, rest: &'static [u8], tape: &mut Tape<'_>) -> Result<(), TransformError> {
        let have = tape.rest();
        let length = rest.len().min(have.len());
        let (want, more) = rest.split_at_checked(length).ok_or(TransformError::Malformed)?;
        if !have.starts_with(want) {
            return Err(TransformError::Malformed);
        }
        tape.at += length;
        if more.is_empty() {
            return self.end_scalar(tape);
        }
        self.state = State::Literal(more);
        self.suspend(tape)
    }

    /// The chunk ends inside a token: what will be needed of it is carried into the next.
    fn suspend(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        if self.in_key {
            self.carry(tape, MAX_KEY)?;
        } else if self.muted_at.is_none() {
            match self.action {
                Action::Copy => tape.keep_piece(),
                Action::Mask(..) => self.carry(tape, MAX_MASKED)?,
                Action::Known(_) => self.carry(tape, MAX_KEY)?,
                Action::Drop => {}
            }
        }
        tape.token = tape.at;
        Ok(())
    }

    pub(super) fn carry(&mut self, tape: &Tape<'_>, most: usize) -> Result<(), TransformError> {
        let piece = tape.piece();
        if self.carried.len() + piece.len() > most {
            return Err(TransformError::Limit);
        }
        self.carried.extend_from_slice(piece);
        Ok(())
    }
}
