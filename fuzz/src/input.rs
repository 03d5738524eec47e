//! Random bytes as choices: a seed, and edits that damage it.

/// Longest text that edits may grow to, in bytes.
const MAX_TEXT: usize = 8 * 1024;

/// Random bytes, taken from the front. When they are used up, every choice is the first one.
#[derive(Clone, Debug)]
pub struct Choices<'a>(
    /// What is left.
    pub &'a [u8],
);

impl Choices<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        number.checked_rem(end).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len())]
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let span = 1 + usize::from(self.byte() % 24);
        start..(start + span).min(length)
    }

    /// The word or number around some place, or the one sign there.
    fn token(&mut self, text: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(text.len());
        let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if !text.get(at).is_some_and(inside) {
            return at..(at + 1).min(text.len());
        }
        let start = text[..at].iter().rposition(|byte| !inside(byte)).map_or(0, |before| before + 1);
        let end = text[at..].iter().position(|byte| !inside(byte)).map_or(text.len(), |after| at + after);
        start..end
    }
}

/// A seed, damaged by few edits: bits flipped, tokens and pieces removed, repeated, moved, replaced by words of the grammar or
/// tokens of other seeds, spliced with another seed.
pub fn damaged<S: AsRef<[u8]>>(choices: &mut Choices<'_>, seeds: &[S], words: &[&str]) -> Vec<u8> {
    let seed = |choices: &mut Choices<'_>| seeds[choices.below(seeds.len())].as_ref();
    let mut text = seed(choices).to_vec();
    let edits = [0, 1, 1, 1, 2, 2, 3, 7][usize::from(choices.byte() % 8)];
    for _ in 0..edits {
        match choices.byte() % 16 {
            0 if !text.is_empty() => {
                let at = choices.below(text.len());
                text[at] ^= 1 << (choices.byte() % 8);
            }
            1 if !text.is_empty() => {
                let at = choices.below(text.len());
                text[at] = choices.byte();
            }
            2..=4 => {
                let token = choices.token(&text);
                let at = if choices.byte().is_multiple_of(2) { token.start } else { token.end };
                let word = choices.pick(words).bytes();
                text.splice(at..at, word);
            }
            5 | 6 => {
                let token = choices.token(&text);
                let word = choices.pick(words).bytes();
                text.splice(token, word);
            }
            7 | 8 => {
                let token = choices.token(&text);
                let other = seed(choices);
                let word = other[choices.token(other)].to_vec();
                text.splice(token, word);
            }
            9 => {
                let token = choices.token(&text);
                text.drain(token);
            }
            10 => {
                let range = choices.range(text.len());
                text.drain(range);
            }
            11 => {
                let piece = text[choices.range(text.len())].to_vec();
                let at = choices.below(text.len() + 1);
                text.splice(at..at, piece);
            }
            12 => {
                let range = choices.range(text.len());
                let piece = text[range.clone()].repeat(1 << (choices.byte() % 8));
                text.splice(range, piece);
            }
            13 => {
                let other = seed(choices);
                text.truncate(choices.below(text.len() + 1));
                text.extend_from_slice(&other[choices.below(other.len() + 1)..]);
            }
            14 => {
                let token = choices.token(&text);
                let piece: Vec<u8> =
                    text[token.clone()].iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect();
                text.splice(token, piece);
            }
            _ => {
                let token = choices.token(&text);
                for byte in &mut text[token] {
                    *byte ^= if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
                }
            }
        }
        text.truncate(MAX_TEXT);
    }
    text
}

/// As [`damaged`], as text.
pub fn damaged_text<S: AsRef<[u8]>>(choices: &mut Choices<'_>, seeds: &[S], words: &[&str]) -> String {
    String::from_utf8_lossy(&damaged(choices, seeds, words)).into_owned()
}

/// The parts of a seed file, which lines of three dashes separate.
#[must_use]
pub fn parts(file: &'static str) -> Vec<&'static str> {
    file.split("\n---\n").map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The lines of a seed file.
#[must_use]
pub fn lines(file: &'static str) -> Vec<&'static str> {
    file.lines().filter(|line| !line.is_empty()).collect()
}
