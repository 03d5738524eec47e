//! All mistakes of form in a document's spec, not only the first: what a mistake was about is taken out, and the rest is
//! read again.

use super::{
    kind::{Kind, Spec},
    serde_error,
};
use serde_json::Value;
use serde_path_to_error::Segment;

/// Mistakes told about one document.
const MAX_MISTAKES: usize = 20;

/// One mistake, by its path into the document.
pub(super) struct Mistake {
    pub path: String,
    pub code: &'static str,
    pub message: String,
}

/// Reads a spec of this kind.
///
/// # Errors
/// The mistakes, one or more. A list's element of a wrong type, and a missing field, end the search: without them, the rest
/// would be read as something else than what was written.
pub(super) fn read(kind: Kind, mut spec: Value) -> Result<Spec, Vec<Mistake>> {
    let mut all: Vec<Mistake> = Vec::new();
    loop {
        let error = match Spec::read(kind, spec.clone()) {
            Ok(read) if all.is_empty() => return Ok(read),
            Ok(_) => return Err(all),
            Err(error) => error,
        };
        let (path, code, message) = serde_error::explain("spec", &error);
        if code == "missing_field" && !all.is_empty() {
            // Perhaps it is missing because it was taken out here.
            return Err(all);
        }
        let mut keys: Vec<Key> = error.path().iter().filter_map(Key::of).collect();
        if code == "unknown_field" {
            let field = message.split('"').nth(1).unwrap_or_default();
            if !matches!(keys.last(), Some(Key::Name(last)) if last == field) {
                keys.push(Key::Name(field.to_owned()));
            }
        }
        let goes_on = take_out(&mut spec, &keys);
        all.push(Mistake { path, code, message });
        if !goes_on || all.len() >= MAX_MISTAKES {
            return Err(all);
        }
    }
}

enum Key {
    Name(String),
    Place(usize),
}

impl Key {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Key::Name(key.clone())),
            Segment::Seq { index } => Some(Key::Place(*index)),
            // A variant's name is also the key in front of it, or nothing in the value.
            Segment::Enum { .. } | Segment::Unknown => None,
        }
    }
}

/// Removes a mapping's member. False: there is none at this path.
fn take_out(spec: &mut Value, keys: &[Key]) -> bool {
    let Some((Key::Name(last), parents)) = keys.split_last() else { return false };
    let mut at = spec;
    for key in parents {
        let next = match key {
            Key::Name(name) => at.get_mut(name),
            Key::Place(index) => at.get_mut(index),
        };
        let Some(next) = next else { return false };
        at = next;
    }
    at.as_object_mut().is_some_and(|members| members.shift_remove(last).is_some())
}
