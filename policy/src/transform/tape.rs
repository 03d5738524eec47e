//! One chunk of a body under the reader's hands, and what of it goes on.
//!
//! What is kept mostly lies in the chunk side by side: neighbouring pieces are joined, and copied at once.

/// A chunk, the place in it, and the output.
pub(super) struct Tape<'a> {
    chunk: &'a [u8],
    /// The next byte to read.
    pub(super) at: usize,
    /// Where the text, number or literal being read begins in this chunk; 0 if it began in an earlier one.
    pub(super) token: usize,
    /// Where the last comma is, if it is in this chunk.
    pub(super) comma: Option<usize>,
    /// Nothing goes on for now.
    pub(super) silent: bool,
    /// The piece that is to go on, but was not copied yet.
    kept: std::ops::Range<usize>,
    out: &'a mut Vec<u8>,
}

impl<'a> Tape<'a> {
    pub(super) fn new(chunk: &'a [u8], silent: bool, out: &'a mut Vec<u8>) -> Self {
        Tape { chunk, at: 0, token: 0, comma: None, silent, kept: 0..0, out }
    }

    /// The next byte.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.chunk.get(self.at).copied()
    }

    /// The next byte that is not insignificant whitespace.
    #[inline]
    pub(super) fn significant(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// What is left of the chunk.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.chunk.get(self.at..).unwrap_or_default()
    }

    /// What was read of the token in this chunk.
    #[inline]
    pub(super) fn piece(&self) -> &'a [u8] {
        self.chunk.get(self.token..self.at).unwrap_or_default()
    }

    /// Goes on to the next byte that ends plain text: a quote, a backslash, or a control character. `None`: the chunk
    /// ends before.
    #[inline]
    pub(super) fn stop(&mut self) -> Option<u8> {
        self.at += plain(self.rest());
        self.peek()
    }

    /// These bytes of the chunk go on.
    #[inline]
    pub(super) fn keep(&mut self, from: usize, to: usize) {
        if self.silent {
            return;
        }
        if self.kept.end != from {
            self.flush();
            self.kept.start = from;
        }
        self.kept.end = to;
    }

    /// The next byte is read and goes on.
    #[inline]
    pub(super) fn keep_next(&mut self) {
        self.keep(self.at, self.at + 1);
        self.at += 1;
    }

    /// What was read of the token goes on.
    #[inline]
    pub(super) fn keep_piece(&mut self) {
        self.keep(self.token, self.at);
    }

    /// The comma before the value or member goes on.
    #[inline]
    pub(super) fn keep_comma(&mut self) {
        match self.comma {
            Some(at) => self.keep(at, at + 1),
            None => self.put(b","),
        }
    }

    /// These bytes go on, which are not in the chunk.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if !self.silent {
            self.output().extend_from_slice(bytes);
        }
    }

    /// The output, with all that is kept so far.
    #[inline]
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        self.flush();
        self.out
    }

    /// Copies what is kept.
    #[inline]
    pub(super) fn flush(&mut self) {
        self.out.extend_from_slice(self.chunk.get(self.kept.clone()).unwrap_or_default());
        self.kept.start = self.kept.end;
    }
}

/// Length of the plain text at the start: up to a quote, a backslash or a control character.
///
/// Eight bytes at a time, in a register: the texts of most bodies are too short for anything wider to pay, and wasm32
/// without SIMD has nothing wider.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte is set where a byte is below the subtrahend. A borrow can set it too, but only above a
        // true hit, and the lowest is taken.
        let below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word;
        let hits = (below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1) | below(word, 0x20)) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() >> 3) as usize;
        }
        at += 8;
    }
    at + tail.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ').unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_text_ends_at_a_quote_a_backslash_or_a_control_character(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 20 => b'!'..=b'~', 4 => 0x20_u8..0x23], 0..40),
        ) {
            let want = bytes.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ').unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), want);
        }
    }
}
