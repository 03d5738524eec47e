//! The streaming transformer: a JSON machine that copies, drops and masks as it reads.
//!
//! It reads every byte once, keeps a frame per open container (at most [`MAX_DEPTH`]), the member name being read and
//! the one scalar being masked, and nothing else. Insignificant whitespace is not copied. What is not JSON, or is not of
//! the form the plan expects, is an error: the response must then be withheld.

use super::{PathStep, ResponsePlan, RowShape, mask::masked};
use smallvec::SmallVec;
use zeroize::Zeroizing;

/// Containers open at once at most.
pub const MAX_DEPTH: usize = 128;
/// Longest member name in bytes of JSON text.
const MAX_KEY: usize = 4 << 10;
/// Longest scalar that can be masked, in bytes of JSON text.
const MAX_MASKED: usize = 64 << 10;

/// Why a response cannot be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// Not JSON.
    #[error("the response is not well-formed JSON")]
    Malformed,
    /// JSON of another form than the service's API has.
    #[error("the response does not have the form that the service's dialect promises")]
    Unexpected,
    /// Nested too deeply, or a name or masked value is too long.
    #[error("the response exceeds a limit of the transformer")]
    Limit,
    /// A value cannot be masked (no tokenisation key, or not valid Unicode).
    #[error("a value of the response cannot be masked")]
    Unmaskable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// A value or `]` must come.
    FirstElement,
    /// A member name or `}` must come.
    FirstMember,
    /// A member name must come.
    Member,
    Colon,
    /// `,` or the container's end must come; at the root, nothing.
    After,
    Text,
    Escape,
    /// Hex digits still to come.
    Unicode(u8),
    Number(Number),
    /// Rest of `true`, `false` or `null`.
    Literal(&'static [u8]),
}

/// Where in a number (RFC 8259 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    fn next(self, byte: u8) -> Option<Number> {
        use Number::{E, Exponent, Fraction, Integer, Minus, Point, Sign, Zero};
        match (self, byte) {
            (Minus, b'0') => Some(Zero),
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Some(Integer),
            (Zero | Integer, b'.') => Some(Point),
            (Point | Fraction, b'0'..=b'9') => Some(Fraction),
            (Zero | Integer | Fraction, b'e' | b'E') => Some(E),
            (E, b'+' | b'-') => Some(Sign),
            (E | Sign | Exponent, b'0'..=b'9') => Some(Exponent),
            _ => None,
        }
    }
    fn complete(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::Exponent)
    }
}

/// What happens to the value that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Copy,
    Drop,
    /// Index of site and of its mask.
    Mask(usize, usize),
    /// Index into `replace_keys`.
    Replace(usize),
}

/// A site whose path leads to this value: (index, steps taken).
type Matches = SmallVec<[(u16, u16); 2]>;

#[derive(Debug)]
struct Frame {
    object: bool,
    /// A member or element was already written.
    written: bool,
    /// Elements begun.
    count: usize,
    matches: Matches,
    /// The site of which this container is a row.
    row: Option<usize>,
}

/// Applies a [`ResponsePlan`] to a body that comes in chunks.
#[derive(Debug)]
pub struct Transformer {
    plan: ResponsePlan,
    token_key: Option<Zeroizing<Vec<u8>>>,
    state: State,
    frames: Vec<Frame>,
    /// Output is off until the container stack is back at this depth.
    muted_at: Option<usize>,
    action: Action,
    /// Text is a member name, not a value.
    in_key: bool,
    /// Raw JSON text of the member name, quotes included.
    key: Vec<u8>,
    /// Raw JSON text of the scalar being masked.
    captured: Vec<u8>,
    /// Matches of the value that comes next.
    matches: Matches,
    /// Site of which the value that comes next is a row.
    row: Option<usize>,
    failed: Option<TransformError>,
}

impl Transformer {
    /// A transformer for one response. `token_key` is needed where the plan tokenises.
    #[must_use]
    pub fn new(plan: ResponsePlan, token_key: Option<&[u8]>) -> Self {
        let mut this = Transformer {
            plan,
            token_key: token_key.map(|key| Zeroizing::new(key.to_vec())),
            state: State::Value,
            frames: Vec::new(),
            muted_at: None,
            action: Action::Copy,
            in_key: false,
            key: Vec::new(),
            captured: Vec::new(),
            matches: Matches::new(),
            row: None,
            failed: None,
        };
        this.matches = (0..this.plan.sites.len()).filter_map(|site| Some((u16::try_from(site).ok()?, 0))).collect();
        this.row = this.row_of(&this.matches);
        this
    }

    /// Transforms the next chunk, appending to `out` what may be released.
    ///
    /// # Errors
    /// See [`TransformError`]; once one occurred every later call returns it again, and nothing more is released.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.run(chunk, out);
        self.failed = result.err();
        result
    }

    /// Ends the body.
    ///
    /// # Errors
    /// If the document is not complete.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let State::Number(number) = self.state
            && number.complete()
            && self.frames.is_empty()
        {
            self.end_scalar(out)?;
        }
        if self.state == State::After && self.frames.is_empty() {
            return Ok(());
        }
        self.failed = Some(TransformError::Malformed);
        Err(TransformError::Malformed)
    }

    fn run(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            match self.state {
                State::Text => {
                    // The bulk of most bodies: copy up to the next byte that means something.
                    let rest = chunk.get(at..).unwrap_or_default();
                    let plain = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < b' ').unwrap_or(rest.len());
                    self.write(rest.get(..plain).unwrap_or_default(), out)?;
                    at += plain;
                    if let Some(&stop) = rest.get(plain) {
                        at += 1;
                        if stop < b' ' {
                            return Err(TransformError::Malformed);
                        }
                        self.write(&[stop], out)?;
                        if stop == b'\\' {
                            self.state = State::Escape;
                        } else if self.in_key {
                            self.end_key(out)?;
                        } else {
                            self.end_scalar(out)?;
                        }
                    }
                    continue;
                }
                State::Escape => {
                    self.state = match byte {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text,
                        b'u' => State::Unicode(4),
                        _ => return Err(TransformError::Malformed),
                    };
                    self.write(&[byte], out)?;
                }
                State::Unicode(left) => {
                    if !byte.is_ascii_hexdigit() {
                        return Err(TransformError::Malformed);
                    }
                    self.state = if left <= 1 { State::Text } else { State::Unicode(left - 1) };
                    self.write(&[byte], out)?;
                }
                State::Number(number) => match number.next(byte) {
                    Some(next) => {
                        self.state = State::Number(next);
                        self.write(&[byte], out)?;
                    }
                    None if number.complete() => {
                        self.end_scalar(out)?;
                        continue;
                    }
                    None => return Err(TransformError::Malformed),
                },
                State::Literal(rest) => {
                    if rest.first() != Some(&byte) {
                        return Err(TransformError::Malformed);
                    }
                    self.write(&[byte], out)?;
                    match rest.get(1..) {
                        Some(rest) if !rest.is_empty() => self.state = State::Literal(rest),
                        _ => self.end_scalar(out)?,
                    }
                }
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                State::Value | State::FirstElement => {
                    if byte == b']' && self.state == State::FirstElement {
                        self.close(false, out)?;
                    } else {
                        self.begin_value(byte, out)?;
                    }
                }
                State::FirstMember | State::Member => match byte {
                    b'"' => {
                        self.in_key = true;
                        self.key.clear();
                        self.key.push(b'"');
                        self.state = State::Text;
                    }
                    b'}' if self.state == State::FirstMember => self.close(true, out)?,
                    _ => return Err(TransformError::Malformed),
                },
                State::Colon => {
                    if byte != b':' {
                        return Err(TransformError::Malformed);
                    }
                    self.state = State::Value;
                }
                State::After => match (byte, self.frames.last().map(|frame| frame.object)) {
                    (b',', Some(true)) => self.state = State::Member,
                    (b',', Some(false)) => self.state = State::Value,
                    (b'}', Some(true)) => self.close(true, out)?,
                    (b']', Some(false)) => self.close(false, out)?,
                    _ => return Err(TransformError::Malformed),
                },
            }
            at += 1;
        }
        Ok(())
    }

    /// Bytes of the text, number or literal being read.
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        if self.in_key {
            if self.key.len() + bytes.len() > MAX_KEY {
                return Err(TransformError::Limit);
            }
            self.key.extend_from_slice(bytes);
        } else if self.muted_at.is_none() {
            match self.action {
                Action::Copy => out.extend_from_slice(bytes),
                Action::Mask(..) => {
                    if self.captured.len() + bytes.len() > MAX_MASKED {
                        return Err(TransformError::Limit);
                    }
                    self.captured.extend_from_slice(bytes);
                }
                Action::Drop | Action::Replace(_) => {}
            }
        }
        Ok(())
    }

    /// The site, if any, whose path ends at a value with these matches.
    fn row_of(&self, matches: &Matches) -> Option<usize> {
        matches
            .iter()
            .map(|&(site, step)| (usize::from(site), usize::from(step)))
            .find(|&(site, step)| self.plan.sites.get(site).is_some_and(|site| site.path.len() == step))
            .map(|(site, _)| site)
    }

    /// What to do with a field of a row.
    fn field_action(&self, site_at: usize, name: &str) -> Action {
        let Some(site) = self.plan.sites.get(site_at) else { return Action::Drop };
        if let Some(mask) = site.masks.iter().position(|mask| mask.field.as_ref() == name) {
            return if site.visible.contains(name) { Action::Mask(site_at, mask) } else { Action::Drop };
        }
        if site.visible.contains(name) || site.nested.iter().any(|nested| nested.as_ref() == name) {
            Action::Copy
        } else {
            Action::Drop
        }
    }

    fn end_key(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        self.in_key = false;
        self.state = State::Colon;
        if self.muted_at.is_some() {
            self.action = Action::Drop;
            return Ok(());
        }
        let name: String = serde_json::from_slice(&self.key).map_err(|_| TransformError::Malformed)?;
        let frame = self.frames.last().ok_or(TransformError::Malformed)?;
        let matches = self.descend(&frame.matches, Some(&name));
        let mut action = frame.row.map_or(Action::Copy, |site| self.field_action(site, &name));
        if self.frames.len() == 1 && frame.row.is_none() {
            if self.plan.remove_keys.iter().any(|key| key.as_ref() == name) {
                action = Action::Drop;
            } else if let Some(at) = self.plan.replace_keys.iter().position(|(key, _)| key.as_ref() == name) {
                action = Action::Replace(at);
            }
        }
        self.row = self.row_of(&matches);
        self.matches = matches;
        self.action = action;
        if action != Action::Drop {
            let written = self.frames.last_mut().map(|frame| std::mem::replace(&mut frame.written, true));
            if written == Some(true) {
                out.push(b',');
            }
            out.extend_from_slice(&self.key);
            out.push(b':');
        }
        Ok(())
    }

    fn descend(&self, matches: &Matches, member: Option<&str>) -> Matches {
        matches
            .iter()
            .filter(|&&(site, step)| {
                let step = self.plan.sites.get(usize::from(site)).and_then(|site| site.path.get(usize::from(step)));
                match (step, member) {
                    (Some(PathStep::Member(name)), Some(member)) => name.as_ref() == member,
                    (Some(PathStep::AnyMember), Some(_)) | (Some(PathStep::Elements), None) => true,
                    _ => false,
                }
            })
            .map(|&(site, step)| (site, step + 1))
            .collect()
    }

    /// An element of an array begins: what to do with it.
    fn begin_element(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let matches = self.descend(&frame.matches, None);
        self.action = match frame.row {
            None => Action::Copy,
            Some(site) => match self.plan.sites.get(site).map(|site| &site.shape) {
                Some(RowShape::Array(columns)) => {
                    let column = columns.get(frame.count).ok_or(TransformError::Unexpected)?;
                    self.field_action(site, column)
                }
                _ => return Err(TransformError::Unexpected),
            },
        };
        self.row = self.row_of(&matches);
        self.matches = matches;
        if let Some(site) = self.row
            && let Some(RowShape::Scalar(name)) = self.plan.sites.get(site).map(|site| &site.shape)
        {
            self.action = self.field_action(site, name);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.count += 1;
            if self.action != Action::Drop && std::mem::replace(&mut frame.written, true) {
                out.push(b',');
            }
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), TransformError> {
        let muted = self.muted_at.is_some();
        if !muted && self.frames.last().is_some_and(|frame| !frame.object) {
            self.begin_element(out)?;
        }
        if !muted && self.action == Action::Copy {
            self.expect_form(byte)?;
        }
        match byte {
            b'{' | b'[' => {
                if self.frames.len() >= MAX_DEPTH {
                    return Err(TransformError::Limit);
                }
                if !muted && self.action != Action::Copy {
                    // A masked container shows nothing of what it holds: it is masked as an absent value.
                    match self.action {
                        Action::Mask(site, mask) => self.masked_scalar(site, mask, b"null", out)?,
                        Action::Replace(at) => self.replace(at, out)?,
                        Action::Copy | Action::Drop => {}
                    }
                    self.muted_at = Some(self.frames.len());
                }
                if self.muted_at.is_none() {
                    out.push(byte);
                }
                let muted = self.muted_at.is_some();
                self.frames.push(Frame {
                    object: byte == b'{',
                    written: false,
                    count: 0,
                    matches: if muted { Matches::new() } else { std::mem::take(&mut self.matches) },
                    row: if muted { None } else { self.row.take() },
                });
                self.state = if byte == b'{' { State::FirstMember } else { State::FirstElement };
                return Ok(());
            }
            b'"' => self.state = State::Text,
            b'-' => self.state = State::Number(Number::Minus),
            b'0' => self.state = State::Number(Number::Zero),
            b'1'..=b'9' => self.state = State::Number(Number::Integer),
            b't' => self.state = State::Literal(b"rue"),
            b'f' => self.state = State::Literal(b"alse"),
            b'n' => self.state = State::Literal(b"ull"),
            _ => return Err(TransformError::Malformed),
        }
        self.captured.clear();
        self.write(&[byte], out)
    }

    /// A value on the way to rows, or a row itself, must be of the form the plan says; `null` stands for nothing.
    fn expect_form(&self, byte: u8) -> Result<(), TransformError> {
        if byte == b'n' {
            return Ok(());
        }
        for &(site, step) in &self.matches {
            let Some(site) = self.plan.sites.get(usize::from(site)) else { continue };
            let fits = match (site.path.get(usize::from(step)), &site.shape) {
                (Some(PathStep::Member(_) | PathStep::AnyMember), _) | (None, RowShape::Object) => byte == b'{',
                (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => byte == b'[',
                (None, RowShape::Scalar(_)) => byte != b'{' && byte != b'[',
            };
            if !fits {
                return Err(TransformError::Unexpected);
            }
        }
        Ok(())
    }

    fn replace(&self, at: usize, out: &mut Vec<u8>) -> Result<(), TransformError> {
        let (_, value) = self.plan.replace_keys.get(at).ok_or(TransformError::Unexpected)?;
        let text = serde_json::to_string(value).map_err(|_| TransformError::Unexpected)?;
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn masked_scalar(&self, site: usize, mask: usize, raw: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let rule = self.plan.sites.get(site).and_then(|site| site.masks.get(mask)).ok_or(TransformError::Unexpected)?;
        let key = self.token_key.as_ref().map(|key| key.as_slice());
        let text = masked(rule, raw, key).ok_or(TransformError::Unmaskable)?;
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn end_scalar(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        self.state = State::After;
        if self.muted_at.is_some() {
            return Ok(());
        }
        match std::mem::replace(&mut self.action, Action::Copy) {
            Action::Mask(site, mask) => self.masked_scalar(site, mask, &self.captured, out)?,
            Action::Replace(at) => self.replace(at, out)?,
            Action::Copy | Action::Drop => {}
        }
        self.captured.clear();
        Ok(())
    }

    fn close(&mut self, object: bool, out: &mut Vec<u8>) -> Result<(), TransformError> {
        let frame = self.frames.pop().ok_or(TransformError::Malformed)?;
        if frame.object != object {
            return Err(TransformError::Malformed);
        }
        self.state = State::After;
        self.action = Action::Copy;
        match self.muted_at {
            Some(depth) if depth == self.frames.len() => self.muted_at = None,
            Some(_) => {}
            None => {
                if let Some(RowShape::Array(columns)) =
                    frame.row.and_then(|site| self.plan.sites.get(site)).map(|site| &site.shape)
                    && frame.count != columns.len()
                {
                    return Err(TransformError::Unexpected);
                }
                out.push(if object { b'}' } else { b']' });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
