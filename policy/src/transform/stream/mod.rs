//! The streaming transformer: a JSON machine that copies, drops and masks as it reads.
//!
//! It reads every byte once, keeps a frame per open container (at most [`MAX_DEPTH`]), what of a member name or of a scalar
//! being masked was in earlier chunks, what of a row in an array was, the plan's places, and nothing else. A token that lies in one chunk is read where it
//! is; what goes on unchanged is copied in spans. Insignificant whitespace is not copied. What is not JSON, is not of
//! the form the plan expects, or goes on and is not UTF-8, is an error: the response must then be withheld.

mod state;
mod token;

use super::{
    ResponsePlan,
    error::TransformError,
    mask::mask,
    paths::{Action, NOWHERE, Paths},
    tape::Tape,
    utf8::Utf8,
};
use state::{Frame, Number, State};
use zeroize::Zeroizing;

/// Containers open at once at most.
pub const MAX_DEPTH: usize = 128;
/// Longest member name in bytes of JSON text.
const MAX_KEY: usize = 4 << 10;
/// Longest row in an array that lies in several chunks, as it goes on.
const MAX_ROW: usize = 1 << 20;
/// Longest scalar that can be masked, in bytes of JSON text.
const MAX_MASKED: usize = 64 << 10;

/// Applies a [`ResponsePlan`] to a body that comes in chunks.
#[derive(Debug)]
pub struct Transformer {
    paths: Paths,
    token_key: Option<Zeroizing<Vec<u8>>>,
    state: State,
    frames: Vec<Frame>,
    /// Output is off until the container stack is back at this depth.
    muted_at: Option<usize>,
    /// What happens to the value that is being read or comes next.
    action: Action,
    /// Where that value is.
    place: usize,
    /// Text is a member name, not a value.
    in_key: bool,
    /// The text being read has a backslash in it.
    escaped: bool,
    /// What earlier chunks held of the member name or the masked scalar being read: raw JSON text, quotes included.
    carried: Vec<u8>,
    /// The required sites that were met, as bits.
    met: u64,
    /// Nothing goes on for now, because only a row is asked for.
    silent: bool,
    /// The only row that is asked for began; its depth.
    row: Option<usize>,
    /// A row in an array is open: at this depth, and its output begins here. It goes on as a whole, because only its length
    /// tells which column each value is of.
    columns: Option<(usize, usize)>,
    /// What of such a row was in earlier chunks.
    begun: Vec<u8>,
    /// What went on, as text.
    utf8: Utf8,
    failed: Option<TransformError>,
}

impl Transformer {
    /// A transformer for one response. `token_key` is needed where the plan tokenises.
    #[must_use]
    pub fn new(plan: ResponsePlan, token_key: Option<&[u8]>) -> Self {
        let paths = Paths::new(plan);
        let root = paths.root();
        Transformer {
            action: paths.at(root, Action::Copy),
            failed: paths.required().is_none().then_some(TransformError::Limit),
            met: 0,
            silent: paths.plan.one_row,
            row: None,
            columns: None,
            begun: Vec::new(),
            utf8: Utf8::default(),
            paths,
            token_key: token_key.map(|key| Zeroizing::new(key.to_vec())),
            state: State::Value,
            frames: Vec::new(),
            muted_at: None,
            place: root,
            in_key: false,
            escaped: false,
            carried: Vec::new(),
        }
    }

    /// Whether its plan asks for one row: then a body must come.
    #[must_use]
    pub fn asks_for_one_row(&self) -> bool {
        self.paths.plan.one_row
    }

    /// Transforms the next chunk, appending to `out` what may be released.
    ///
    /// # Errors
    /// See [`TransformError`]; once one occurred every later call returns it again, and nothing more is released.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let start = out.len();
        if let Some((_, begins)) = &mut self.columns {
            *begins = start;
            out.append(&mut self.begun);
        }
        let mut tape = Tape::new(chunk, self.silent, out);
        let mut result = self.run(&mut tape);
        if result.is_ok() {
            tape.flush();
            self.silent = tape.silent;
            if let Some((_, begins)) = self.columns {
                self.begun.extend_from_slice(out.get(begins..).unwrap_or_default());
                out.truncate(begins);
            }
            if self.begun.len() > MAX_ROW {
                result = Err(TransformError::Limit);
            }
            if !self.utf8.push(out.get(start..).unwrap_or_default()) {
                result = Err(TransformError::Malformed);
            }
        }
        if result.is_err() {
            out.truncate(start);
        }
        self.failed = result.err();
        result
    }

    /// Ends the body.
    ///
    /// # Errors
    /// If the document is not complete, or lacks a place that it must have.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let State::Number(number) = self.state
            && number.complete()
            && self.frames.is_empty()
        {
            let mut tape = Tape::new(&[], self.silent, out);
            self.failed = self.end_scalar(&mut tape).err();
            tape.flush();
        }
        if self.failed.is_none() && !(self.state == State::After && self.frames.is_empty()) {
            self.failed = Some(TransformError::Malformed);
        }
        if self.failed.is_none() && self.paths.required() != Some(self.met) {
            self.failed = Some(TransformError::Unexpected);
        }
        if self.failed.is_none() && self.paths.plan.one_row && self.row.is_none() {
            self.failed = Some(TransformError::Absent);
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn run(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        loop {
            match self.state {
                State::Text | State::Escape | State::Unicode(_) => self.text(tape)?,
                State::Number(number) => self.number(number, tape)?,
                State::Literal(rest) => self.literal(rest, tape)?,
                _ => {}
            }
            // Tokens of the same chunk follow here; only the chunk's end leaves one open.
            let Some(byte) = tape.significant() else { return Ok(()) };
            match self.state {
                State::Value => self.value(byte, tape)?,
                State::FirstElement if byte == b']' => self.close(false, tape)?,
                State::FirstElement => self.value(byte, tape)?,
                State::FirstMember if byte == b'}' => self.close(true, tape)?,
                State::FirstMember | State::Member => {
                    if byte != b'"' {
                        return Err(TransformError::Malformed);
                    }
                    self.key(tape)?;
                }
                State::Colon => {
                    if byte != b':' {
                        return Err(TransformError::Malformed);
                    }
                    if self.muted_at.is_none() && self.action != Action::Drop {
                        tape.keep_next();
                    } else {
                        tape.at += 1;
                    }
                    self.state = State::Value;
                }
                State::After => match (byte, self.frames.last().map(|frame| frame.object)) {
                    (b',', Some(object)) => {
                        tape.comma = Some(tape.at);
                        tape.at += 1;
                        self.state = if object { State::Member } else { State::Value };
                    }
                    (b'}', Some(true)) => self.close(true, tape)?,
                    (b']', Some(false)) => self.close(false, tape)?,
                    _ => return Err(TransformError::Malformed),
                },
                // Nothing but the chunk's end leaves a token open, and then no byte is left.
                State::Text | State::Escape | State::Unicode(_) | State::Number(_) | State::Literal(_) => {}
            }
        }
    }

    /// A member name begins.
    fn key(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        tape.token = tape.at;
        if self.muted_at.is_none()
            && let Some(frame) = self.frames.last_mut()
            && frame.place != NOWHERE
            && let Some(expected) = self.paths.expected(frame.place, frame.count)
            && tape.rest().starts_with(expected)
        {
            tape.at += expected.len();
            let (action, place) = self.paths.known(frame.place, frame.count).ok_or(TransformError::Malformed)?;
            frame.count += 1;
            return self.begin_member(action, place, tape);
        }
        tape.at += 1;
        self.in_key = true;
        self.escaped = false;
        self.state = State::Text;
        self.text(tape)
    }

    fn end_key(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        self.in_key = false;
        if self.carried.is_empty() {
            let raw = tape.piece();
            if raw.len() > MAX_KEY {
                return Err(TransformError::Limit);
            }
            return match self.resolve(raw)? {
                Some((action, place)) => self.begin_member(action, place, tape),
                None => Ok(()),
            };
        }
        self.carry(tape, MAX_KEY)?;
        let raw = std::mem::take(&mut self.carried);
        let Some((action, place)) = self.resolve(&raw)? else { return Ok(()) };
        // The name is no more in this chunk as a whole, so it goes out by hand.
        self.begin(action, place, tape);
        if action != Action::Drop {
            tape.put(&raw);
        }
        Ok(())
    }

    /// What happens to the member of this name, and the place of its value. `None`: nothing comes out here anyway.
    fn resolve(&mut self, raw: &[u8]) -> Result<Option<(Action, usize)>, TransformError> {
        self.state = State::Colon;
        if self.muted_at.is_some() {
            self.action = Action::Drop;
            return Ok(None);
        }
        let frame = self.frames.last_mut().ok_or(TransformError::Malformed)?;
        let (action, place, next) = self.paths.member(frame.place, raw, self.escaped, frame.count)?;
        frame.count = next;
        Ok(Some((action, place)))
    }

    /// A member begins, whose name is the token.
    fn begin_member(&mut self, action: Action, place: usize, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        self.begin(action, place, tape);
        if action != Action::Drop {
            tape.keep_piece();
        }
        self.state = State::Colon;
        Ok(())
    }

    /// A member or element begins: notes what happens to it, and separates it from the one before.
    fn begin(&mut self, action: Action, place: usize, tape: &mut Tape<'_>) {
        self.action = action;
        self.place = place;
        if action != Action::Drop
            && let Some(frame) = self.frames.last_mut()
            && std::mem::replace(&mut frame.written, true)
        {
            tape.keep_comma();
        }
    }

    fn value(&mut self, byte: u8, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        if self.muted_at.is_none() {
            match self.frames.last_mut() {
                Some(frame) if !frame.object => {
                    let action = self.paths.element(frame.place, frame.count)?;
                    let place = frame.elements;
                    frame.count += 1;
                    let action = self.paths.at(place, action);
                    self.begin(action, place, tape);
                }
                _ => {}
            }
            if matches!(self.action, Action::Copy | Action::Known(_)) {
                self.met |= self.paths.enter(self.place, byte).ok_or(TransformError::Unexpected)?;
            }
        }
        if byte == b'{' || byte == b'[' {
            return self.open(byte == b'{', tape);
        }
        tape.token = tape.at;
        tape.at += 1;
        match byte {
            b'"' => {
                self.escaped = false;
                self.state = State::Text;
                self.text(tape)
            }
            b'-' => self.number(Number::Minus, tape),
            b'0' => self.number(Number::Zero, tape),
            b'1'..=b'9' => self.number(Number::Integer, tape),
            b't' => self.literal(b"rue", tape),
            b'f' => self.literal(b"alse", tape),
            b'n' => self.literal(b"ull", tape),
            _ => Err(TransformError::Malformed),
        }
    }

    fn open(&mut self, object: bool, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(TransformError::Limit);
        }
        if self.muted_at.is_none() && self.action != Action::Copy {
            // A masked container shows nothing of what it holds: it is masked as an absent value.
            match self.action {
                Action::Mask(site, mask) => self.masked(site, mask, b"null", tape)?,
                Action::Copy | Action::Drop | Action::Known(_) => {}
            }
            self.muted_at = Some(self.frames.len());
        }
        let (mut place, mut elements) = (NOWHERE, NOWHERE);
        if self.muted_at.is_some() {
            tape.at += 1;
        } else {
            place = self.place;
            if self.paths.plan.one_row && object && self.paths.is_first_row(place) {
                if self.row.replace(self.frames.len()).is_some() {
                    return Err(TransformError::Unexpected);
                }
                tape.silent = false;
            }
            if !object {
                elements = self.paths.elements(place)?;
                if self.columns.is_none() && self.paths.has_columns(place) {
                    self.columns = Some((self.frames.len(), tape.output().len()));
                }
            }
            tape.keep_next();
        }
        self.frames.push(Frame { object, written: false, count: 0, place, elements });
        self.state = if object { State::FirstMember } else { State::FirstElement };
        Ok(())
    }

    fn masked(&self, site: usize, number: usize, raw: &[u8], tape: &mut Tape<'_>) -> Result<(), TransformError> {
        if tape.silent {
            return Ok(());
        }
        let rule = self.paths.mask(site, number).ok_or(TransformError::Unexpected)?;
        let key = self.token_key.as_ref().map(|key| key.as_slice());
        mask(rule, raw, key, tape.output()).ok_or(TransformError::Unmaskable)
    }

    fn end_scalar(&mut self, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        self.state = State::After;
        if self.muted_at.is_some() {
            return Ok(());
        }
        match std::mem::replace(&mut self.action, Action::Copy) {
            Action::Copy => tape.keep_piece(),
            Action::Mask(site, mask) if self.carried.is_empty() => {
                let raw = tape.piece();
                if raw.len() > MAX_MASKED {
                    return Err(TransformError::Limit);
                }
                self.masked(site, mask, raw, tape)?;
            }
            Action::Mask(site, mask) => {
                self.carry(tape, MAX_MASKED)?;
                let raw = std::mem::take(&mut self.carried);
                self.masked(site, mask, &raw, tape)?;
            }
            Action::Known(site) if self.carried.is_empty() => {
                let raw = tape.piece();
                if raw.len() > MAX_KEY || !self.paths.is_known(site, raw)? {
                    return Err(TransformError::Unexpected);
                }
                tape.keep_piece();
            }
            Action::Known(site) => {
                self.carry(tape, MAX_KEY)?;
                let raw = std::mem::take(&mut self.carried);
                if !self.paths.is_known(site, &raw)? {
                    return Err(TransformError::Unexpected);
                }
                tape.put(&raw);
            }
            Action::Drop => {}
        }
        Ok(())
    }

    fn close(&mut self, object: bool, tape: &mut Tape<'_>) -> Result<(), TransformError> {
        let frame = self.frames.pop().ok_or(TransformError::Malformed)?;
        if frame.object != object {
            return Err(TransformError::Malformed);
        }
        self.state = State::After;
        self.action = Action::Copy;
        match self.muted_at {
            None => {
                if !object && !self.paths.complete(frame.place, frame.count) {
                    return Err(TransformError::Unexpected);
                }
                tape.keep_next();
                if self.columns.is_some_and(|(depth, _)| depth == self.frames.len()) {
                    self.columns = None;
                }
                if self.paths.plan.one_row && self.row == Some(self.frames.len()) {
                    tape.silent = true;
                }
            }
            muted => {
                tape.at += 1;
                if muted == Some(self.frames.len()) {
                    self.muted_at = None;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
