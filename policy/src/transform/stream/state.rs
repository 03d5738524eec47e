//! Where the machine is: in a token, and in which containers.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
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
pub(super) enum Number {
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
    pub(super) fn next(self, byte: u8) -> Option<Number> {
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
    pub(super) fn complete(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::Exponent)
    }
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) object: bool,
    /// A member or element was already written.
    pub(super) written: bool,
    /// Object: number of the member that is expected. Array: elements begun.
    pub(super) count: usize,
    pub(super) place: usize,
    /// Array: the place of its elements.
    pub(super) elements: usize,
}
