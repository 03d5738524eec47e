//! Bounds on what a record holds: callers choose most of its text, and nobody may fill the log with it.
//!
//! | what | at most |
//! | --- | --- |
//! | a name (user, agent, tenant, group, key, token id, component, attribute, value, …) | 256 bytes |
//! | method; authority; source address | 32; 300; 64 bytes |
//! | path, with the query where that is recorded | 2048 bytes |
//! | `rows`, `check` | 2048 bytes each |
//! | detail of a decision; mesh identity | 1024; 512 bytes |
//! | groups; attributes; operations | 12; 8; 24 KiB, each text counted with 32 bytes more, an operation with 256 |
//! | the whole record | [`MAX_RECORD_BYTES`] |
//!
//! A text that is longer is cut between two characters and ends in `…`; a name, so that two long ones stay apart, in `…` and
//! the first 16 hex digits of the SHA-256 of the whole. `cut` in the record lists what is not whole. The hashes of the
//! request cover all of it, cut or not.

use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// No record is larger, in canonical bytes.
pub const MAX_RECORD_BYTES: usize = 64 << 10;
/// Longest name.
pub const MAX_NAME_BYTES: usize = 256;
pub(crate) const METHOD: usize = 32;
pub(crate) const AUTHORITY: usize = 300;
pub(crate) const ADDRESS: usize = 64;
pub(crate) const PATH: usize = 2048;
pub(crate) const PREDICATE: usize = 2048;
pub(crate) const DETAIL: usize = 1024;
pub(crate) const MESH: usize = 512;
pub(crate) const GROUPS: usize = 12 << 10;
pub(crate) const ATTRIBUTES: usize = 8 << 10;
pub(crate) const OPERATIONS: usize = 24 << 10;
/// What each text in a list counts beside its own length.
const ITEM: usize = 32;
/// What an operation counts beside its texts.
pub(crate) const OPERATION: usize = 256;
const MARK: &str = "…";
const DIGITS: usize = 16;

/// A name as records hold it: cut, if it is longer than [`MAX_NAME_BYTES`]. Whoever looks for a name cuts it first.
#[must_use]
pub fn cut_name(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_NAME_BYTES {
        return Cow::Borrowed(name);
    }
    let mut text = head(name, MAX_NAME_BYTES - MARK.len() - DIGITS).to_owned();
    text.push_str(MARK);
    for byte in Sha256::digest(name.as_bytes()).iter().take(DIGITS / 2) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Cow::Owned(text)
}

/// The longest part of a text's beginning that has at most so many bytes.
fn head(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// What was cut so far in one record.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Vec<&'static str>);

impl Cuts {
    pub(crate) fn add(&mut self, place: &'static str) {
        if !self.0.contains(&place) {
            self.0.push(place);
        }
    }

    /// For the record's `cut`.
    pub(crate) fn into_places(self) -> Vec<String> {
        self.0.into_iter().map(str::to_owned).collect()
    }

    /// A text of at most so many bytes, the mark included.
    pub(crate) fn text(&mut self, place: &'static str, text: &str, most: usize) -> String {
        if text.len() <= most {
            return text.to_owned();
        }
        self.add(place);
        [head(text, most.saturating_sub(MARK.len())), MARK].concat()
    }

    pub(crate) fn name(&mut self, place: &'static str, name: &str) -> String {
        if name.len() > MAX_NAME_BYTES {
            self.add(place);
        }
        cut_name(name).into_owned()
    }

    /// What something displays; it is asked for no more than that.
    pub(crate) fn display(&mut self, place: &'static str, what: &impl fmt::Display, most: usize) -> String {
        let mut limited = Limited { text: String::new(), most };
        // Fails where there is no more room, which the length tells.
        let _ = write!(limited, "{what}");
        self.text(place, &limited.text, most)
    }

    /// Names, as many as fit into what is left.
    pub(crate) fn names<'a>(
        &mut self,
        place: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        left: &mut usize,
    ) -> Vec<String> {
        let mut kept = Vec::new();
        for name in names {
            if !spend(left, name.len().min(MAX_NAME_BYTES).saturating_add(ITEM)) {
                self.add(place);
                break;
            }
            kept.push(self.name(place, name));
        }
        kept
    }
}

/// Takes so much of what is left. False: there is not so much.
pub(crate) fn spend(left: &mut usize, cost: usize) -> bool {
    match left.checked_sub(cost) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

struct Limited {
    text: String,
    most: usize,
}

impl fmt::Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        // One character more than the bound, so that the cut is seen.
        let room = self.most.saturating_add(4).saturating_sub(self.text.len());
        self.text.push_str(head(part, room));
        if self.text.len() > self.most { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_names_that_begin_alike_stay_apart() {
        let (a, b) = ("x".repeat(5000) + "a", "x".repeat(5000) + "b");
        assert_ne!(cut_name(&a), cut_name(&b));
        assert_eq!(cut_name(&a), cut_name(&a));
        assert_eq!(cut_name(&"y".repeat(256)), "y".repeat(256));
        let cut = cut_name(&a);
        assert!(cut.len() <= MAX_NAME_BYTES && cut.contains('…'));
        assert!(cut.ends_with(&format!("{:x}", Sha256::digest(&a))[..16]));
    }

    #[test]
    fn a_display_that_never_ends_is_not_followed() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("ü")?;
                }
            }
        }
        let mut cuts = Cuts::default();
        let text = cuts.display("rows", &Endless, 100);
        assert!(text.len() <= 100 && text.ends_with("ü…"), "{text}");
        assert_eq!(cuts.into_places(), ["rows"]);
    }

    proptest! {
        #[test]
        fn a_cut_text_is_within_its_bound_and_begins_as_the_whole_does(text in "\\PC{0,200}", most in 3_usize..300) {
            let mut cuts = Cuts::default();
            let kept = cuts.text("p", &text, most);
            prop_assert!(kept.len() <= most);
            match kept.strip_suffix(MARK).filter(|_| kept != text) {
                Some(start) => {
                    prop_assert!(text.starts_with(start) && start.len() + 4 + MARK.len() > most);
                    prop_assert_eq!(cuts.into_places(), ["p"]);
                }
                None => {
                    prop_assert_eq!(kept, text);
                    prop_assert!(cuts.into_places().is_empty());
                }
            }
        }

        #[test]
        fn a_list_keeps_what_fits(names in proptest::collection::vec("[a-zü]{0,400}", 0..40), room in 0_usize..4000) {
            let (mut cuts, mut left) = (Cuts::default(), room);
            let kept = cuts.names("l", names.iter().map(String::as_str), &mut left);
            prop_assert!(kept.iter().map(|name| name.len() + ITEM).sum::<usize>() <= room - left);
            prop_assert_eq!(kept.len() < names.len() || names.iter().any(|n| n.len() > MAX_NAME_BYTES && kept.contains(&cut_name(n).into_owned())), !cuts.into_places().is_empty());
        }
    }
}
