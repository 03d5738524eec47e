//! What every part of a bundle is read with: the strings that it refers to, and the checks of single numbers.

use crate::{
    Name,
    bundle::{access, subjects},
    request::Verb,
};
use doorward_proto::v1;

/// Why a bundle cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TablesError {
    /// Where in the bundle, e.g. `roles[3].grants[0].rows`.
    pub path: String,
    /// Stable code: `malformed`, `unknown` (to this build), `duplicate` or `limit`.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

pub(super) type Result<T> = std::result::Result<T, TablesError>;

pub(super) fn error(code: &'static str, path: &str, message: impl Into<String>) -> TablesError {
    TablesError { path: path.to_owned(), code, message: message.into() }
}
pub(super) fn malformed(path: &str, message: &str) -> TablesError {
    error("malformed", path, message)
}
pub(super) fn duplicate(path: &str, message: &str) -> TablesError {
    error("duplicate", path, message)
}

/// An enum value that this build knows; 0 (unspecified) counts as unknown.
pub(super) fn known<E: TryFrom<i32>>(number: i32, path: &str) -> Result<E> {
    E::try_from(number).ok().filter(|_| number != 0).ok_or_else(|| {
        error("unknown", path, format!("the number {number} means nothing to this build; upgrade the proxy first"))
    })
}
/// As [`known`], but 0 means `default`.
pub(super) fn known_or<E: TryFrom<i32>>(number: i32, default: E, path: &str) -> Result<E> {
    if number == 0 { Ok(default) } else { known(number, path) }
}
pub(super) fn positive(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}
pub(super) fn time(seconds: i64) -> Option<i64> {
    (seconds != 0).then_some(seconds)
}
pub(super) fn position(number: usize, path: &str) -> Result<u32> {
    u32::try_from(number).map_err(|_| error("limit", path, "too many entries"))
}

pub(super) fn verbs(numbers: &[i32], path: &str) -> Result<Vec<Verb>> {
    numbers.iter().map(|number| known(*number, path)).collect()
}

/// Looks up the strings that the parts of a bundle refer to.
pub(super) struct Decoder {
    /// By index, as the bundle has them.
    pub(super) strings: Vec<Name>,
}

impl Decoder {
    pub(super) fn string(&self, index: u32) -> Option<Name> {
        self.strings.get(usize::try_from(index).ok()?).cloned()
    }
    /// A string that may be empty.
    pub(super) fn text(&self, index: u32, path: &str) -> Result<Name> {
        self.string(index).ok_or_else(|| malformed(path, "a string index is out of range"))
    }
    /// A string that may not be empty.
    pub(super) fn name(&self, index: u32, path: &str) -> Result<Name> {
        match self.text(index, path)? {
            name if name.is_empty() => Err(malformed(path, "a name is missing")),
            name => Ok(name),
        }
    }
    pub(super) fn optional(&self, index: u32, path: &str) -> Result<Option<Name>> {
        Ok(Some(self.text(index, path)?).filter(|text| !text.is_empty()))
    }
    pub(super) fn texts(&self, indices: &[u32], path: &str) -> Result<Vec<Name>> {
        indices.iter().map(|index| self.text(*index, path)).collect()
    }
    pub(super) fn names(&self, indices: &[u32], path: &str) -> Result<Vec<Name>> {
        indices.iter().map(|index| self.name(*index, path)).collect()
    }

    pub(super) fn claim_paths(&self, paths: &[v1::ClaimPath], path: &str) -> Result<Vec<access::ClaimPath>> {
        let one = |claim: &v1::ClaimPath| match claim.segments.len() {
            1..=16 => self.texts(&claim.segments, path),
            _ => Err(malformed(path, "a claim path must have 1 to 16 segments")),
        };
        paths.iter().map(one).collect()
    }

    /// Attributes sorted by name.
    pub(super) fn attributes(&self, attributes: &[v1::Attribute], path: &str) -> Result<Vec<(Name, Vec<Name>)>> {
        let one = |each: &v1::Attribute| Ok((self.name(each.name, path)?, self.texts(&each.values, path)?));
        let mut out = attributes.iter().map(one).collect::<Result<Vec<_>>>()?;
        out.sort();
        if out.windows(2).any(|pair| matches!(pair, [left, right] if left.0 == right.0)) {
            return Err(duplicate(path, "an attribute is given twice"));
        }
        Ok(out)
    }

    pub(super) fn subjects(
        &self,
        list: &[v1::Subject],
        into: &mut subjects::Subjects,
        at: u32,
        path: &str,
    ) -> Result<()> {
        for subject in list {
            let kind: v1::SubjectKind = known(subject.kind, path)?;
            let value = match kind {
                v1::SubjectKind::SubjectAnyUser | v1::SubjectKind::SubjectUnidentified => Name::default(),
                _ => self.name(subject.value, path)?,
            };
            let claim = usize::try_from(subject.claim_path).unwrap_or(usize::MAX);
            if !into.insert(kind, &value, claim, at) {
                return Err(malformed(path, "a subject's claim path is out of range"));
            }
        }
        Ok(())
    }
}
