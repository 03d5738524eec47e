//! Where in the document a value is, as far as the plan cares, and what happens to it.
//!
//! A *place* is the set of sites whose paths lead to a value, each with the steps taken. Places are found as the document
//! reaches them and remembered, with the members met there: rows of a list have the same members in the same order, so a
//! member is usually recognised by one comparison of its raw bytes with those of the member that came here before. Where
//! that fails, an index by hash finds it: its cost does not grow with the number of members.

use super::{MaskRule, PathStep, Plain, ResponsePlan, RowShape, error::TransformError};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Members remembered per place, and their bytes of JSON text over all places. More are looked up each time.
const MAX_KNOWN: usize = 1024;
const MAX_KNOWN_BYTES: usize = 64 << 10;
/// Members looked at one by one, from the expected one on, before the index is asked: rows often leave some out.
const NEAR: usize = 4;
/// Masks of a site that are looked at one by one.
const FEW_MASKS: usize = 8;
/// Different places at most. They are made of the plan's sites, so that only an absurd plan has more.
const MAX_PLACES: usize = 4 << 10;

/// Forms of values, as bits.
const OBJECT: u8 = 1;
const ARRAY: u8 = 2;
const TEXT: u8 = 4;
const NUMBER: u8 = 8;
const BOOLEAN: u8 = 16;
const SCALAR: u8 = TEXT | NUMBER | BOOLEAN;

/// The place that no site's path leads to or through.
pub(super) const NOWHERE: usize = 0;
/// The document itself.
pub(super) const ROOT: usize = 1;

/// What happens to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Copy,
    Drop,
    /// Index of site and of its mask.
    Mask(usize, usize),
    /// A text that is one of those that the site of this index knows.
    Known(usize),
}

/// A site whose path leads to this value: (index, steps taken).
type Matches = SmallVec<[(u16, u16); 2]>;

/// A member met at a place.
#[derive(Debug)]
struct Known {
    /// Where its raw JSON text is in `texts`.
    text: std::ops::Range<usize>,
    action: Action,
    place: usize,
}

#[derive(Debug, Default)]
struct Place {
    matches: Matches,
    /// The site of which a value here is a row.
    row: Option<usize>,
    /// Forms that a value here may have beside `null`.
    forms: u8,
    /// The required sites that are met with a value here, as bits.
    meets: u64,
    /// A value here is a row that is a bare field, or a text to be checked: what happens to it.
    bare: Option<Action>,
    /// A value here is a row in an array: what happens to each of its columns.
    columns: Option<Vec<Action>>,
    /// The place of an array's elements, once known.
    elements: Option<usize>,
    known: Vec<Known>,
    /// Numbers of the known members, by their text.
    index: HashTable<usize>,
}

/// A plan, and the places met so far.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) plan: ResponsePlan,
    /// Of each site with many masks: its masks' numbers, by field.
    masks: Vec<Vec<usize>>,
    places: Vec<Place>,
    texts: Vec<u8>,
    hasher: foldhash::fast::FixedState,
}

impl Paths {
    pub(super) fn new(plan: ResponsePlan) -> Self {
        let all = (0..plan.sites.len()).filter_map(|site| Some((u16::try_from(site).ok()?, 0))).collect();
        let sorted = |site: &super::RowSite| {
            let many = site.masks.len() > FEW_MASKS;
            let mut numbers: Vec<usize> = (0..if many { site.masks.len() } else { 0 }).collect();
            numbers.sort_by_key(|number| site.masks.get(*number).map(|mask| mask.field.clone()));
            numbers
        };
        let masks = plan.sites.iter().map(sorted).collect();
        let hasher = foldhash::fast::FixedState::default();
        let mut this = Paths { plan, masks, places: Vec::with_capacity(4), texts: Vec::new(), hasher };
        let nowhere = Place::default();
        let root = this.place(all);
        this.places.extend([nowhere, root]);
        this
    }

    /// Where the document itself is: nowhere, if the plan does not read it.
    pub(super) fn root(&self) -> usize {
        if self.plan.reads() { ROOT } else { NOWHERE }
    }

    /// Bits of all required sites. `None`: the plan has one that has no bit.
    pub(super) fn required(&self) -> Option<u64> {
        let required = self.plan.sites.iter().enumerate().filter(|(_, site)| site.required);
        required.map(|(site, _)| bit(site)).try_fold(0, |all, bit| Some(all | bit?))
    }

    /// Whether a value here is a row of the first site.
    pub(super) fn is_first_row(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|place| place.row == Some(0))
    }

    /// Whether a value here is a row in an array.
    pub(super) fn has_columns(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|place| place.columns.is_some())
    }

    /// What happens to a value at this place, of which its container says `action`.
    #[inline]
    pub(super) fn at(&self, place: usize, action: Action) -> Action {
        if place == NOWHERE || action != Action::Copy {
            return action;
        }
        self.places.get(place).and_then(|place| place.bare).unwrap_or(action)
    }

    /// The required sites that are met with a value here that begins with this byte. `None`: no such value may be here. A value
    /// on the way to rows, or a row itself, must be of the form the plan says; `null` stands for nothing.
    #[inline]
    pub(super) fn enter(&self, place: usize, byte: u8) -> Option<u64> {
        if place == NOWHERE {
            return Some(0);
        }
        let form = match byte {
            b'n' => u8::MAX,
            b'{' => OBJECT,
            b'[' => ARRAY,
            b'"' => TEXT,
            b't' | b'f' => BOOLEAN,
            _ => NUMBER,
        };
        self.places.get(place).filter(|place| place.forms & form != 0 || byte == b'n').map(|place| place.meets)
    }

    /// Place of an array's elements.
    pub(super) fn elements(&mut self, place: usize) -> Result<usize, TransformError> {
        if place == NOWHERE {
            return Ok(NOWHERE);
        }
        let here = self.places.get(place).ok_or(TransformError::Malformed)?;
        if let Some(known) = here.elements {
            return Ok(known);
        }
        let found = self.descend(place, None)?;
        if let Some(here) = self.places.get_mut(place) {
            here.elements = Some(found);
        }
        Ok(found)
    }

    /// What happens to the element of this number in an array here.
    #[inline]
    pub(super) fn element(&self, place: usize, number: usize) -> Result<Action, TransformError> {
        if place == NOWHERE {
            return Ok(Action::Copy);
        }
        let here = self.places.get(place).ok_or(TransformError::Malformed)?;
        match (&here.columns, here.row) {
            (Some(columns), _) => columns.get(number).copied().ok_or(TransformError::Unexpected),
            (None, None) if here.elements.is_some_and(|place| place != NOWHERE) => Ok(Action::Copy),
            (None, _) => Err(TransformError::Unexpected),
        }
    }

    /// Whether an array here may end after this many elements.
    #[inline]
    pub(super) fn complete(&self, place: usize, count: usize) -> bool {
        self.places.get(place).and_then(|here| here.columns.as_ref()).is_none_or(|columns| columns.len() == count)
    }

    /// The member that is expected here, by the number of members met so far: its raw text.
    #[inline]
    pub(super) fn expected(&self, place: usize, number: usize) -> Option<&[u8]> {
        let known = self.places.get(place)?.known.get(number)?;
        self.texts.get(known.text.clone())
    }

    /// What happens to the expected member, and the place of its value.
    #[inline]
    pub(super) fn known(&self, place: usize, number: usize) -> Option<(Action, usize)> {
        let known = self.places.get(place)?.known.get(number)?;
        Some((known.action, known.place))
    }

    /// What happens to a member of this raw text (valid but for its Unicode), the place of its value, and the number of
    /// the member that is expected next. `number`: the number of the one that was expected.
    pub(super) fn member(
        &mut self,
        place: usize,
        raw: &[u8],
        escaped: bool,
        number: usize,
    ) -> Result<(Action, usize, usize), TransformError> {
        if place == NOWHERE {
            name_of(raw, escaped, |_| ())?;
            return Ok((Action::Copy, NOWHERE, 0));
        }
        if let Some(known) = self.find(place, raw, number) {
            let (action, place) = self.known(place, known).ok_or(TransformError::Malformed)?;
            return Ok((action, place, known + 1));
        }
        let row = self.places.get(place).ok_or(TransformError::Malformed)?.row;
        let (action, matches) = name_of(raw, escaped, |name| {
            let matches = self.matches(place, Some(name));
            (self.action(row, name, !matches.is_empty()), matches)
        })?;
        let found = self.intern(matches)?;
        let action = self.at(found, action);
        let mut next = number;
        let start = self.texts.len();
        let Paths { places, texts, hasher, .. } = self;
        if let Some(here) = places.get_mut(place)
            && here.known.len() < MAX_KNOWN
            && start + raw.len() <= MAX_KNOWN_BYTES
        {
            texts.extend_from_slice(raw);
            let (number, known) = (here.known.len(), &mut here.known);
            known.push(Known { text: start..texts.len(), action, place: found });
            let hash = |known: &Known| hasher.hash_one(texts.get(known.text.clone()));
            here.index.insert_unique(hasher.hash_one(Some(raw)), number, |number| known.get(*number).map_or(0, hash));
            next = number + 1;
        }
        Ok((action, found, next))
    }

    /// The number of the known member of this text.
    fn find(&self, place: usize, raw: &[u8], number: usize) -> Option<usize> {
        let here = self.places.get(place)?;
        let is = |number: usize| {
            let known = here.known.get(number)?;
            (known.text.len() == raw.len() && self.texts.get(known.text.clone()) == Some(raw)).then_some(number)
        };
        if let Some(found) = (number..number.saturating_add(NEAR)).find_map(is) {
            return Some(found);
        }
        here.index.find(self.hasher.hash_one(Some(raw)), |number| is(*number).is_some()).copied()
    }

    /// What happens to a member of this name, in a row of this site or on the way to one; `leads`: it is on the way to a site.
    fn action(&self, row: Option<usize>, name: &str, leads: bool) -> Action {
        match row {
            Some(site) => match self.field(site, name) {
                Action::Drop if leads && self.is_nested(site, name) => Action::Copy,
                action => action,
            },
            None if leads => Action::Copy,
            None => Action::Drop,
        }
    }

    fn is_nested(&self, site: usize, name: &str) -> bool {
        self.plan.sites.get(site).is_some_and(|site| site.nested.iter().any(|nested| nested.as_ref() == name))
    }

    /// What to do with a field of a row.
    fn field(&self, at: usize, name: &str) -> Action {
        let Some(site) = self.plan.sites.get(at).filter(|site| site.visible.contains(name)) else {
            return Action::Drop;
        };
        let field = |number: usize| site.masks.get(number).map(|mask| mask.field.as_ref());
        let mask = match self.masks.get(at) {
            Some(sorted) if !sorted.is_empty() => {
                let first = sorted.partition_point(|number| field(*number) < Some(name));
                sorted.get(first).copied().filter(|number| field(*number) == Some(name))
            }
            _ => (0..site.masks.len()).find(|number| field(*number) == Some(name)),
        };
        mask.map_or(Action::Copy, |mask| Action::Mask(at, mask))
    }

    fn matches(&self, place: usize, member: Option<&str>) -> Matches {
        let Some(here) = self.places.get(place) else { return Matches::new() };
        let leads = |&&(site, step): &&(u16, u16)| {
            let step = self.plan.sites.get(usize::from(site)).and_then(|site| site.path.get(usize::from(step)));
            match (step, member) {
                (Some(PathStep::Member(name)), Some(member)) => name.as_ref() == member,
                (Some(PathStep::AnyMember), Some(_)) | (Some(PathStep::Elements), None) => true,
                _ => false,
            }
        };
        here.matches.iter().filter(leads).map(|&(site, step)| (site, step + 1)).collect()
    }

    fn descend(&mut self, place: usize, member: Option<&str>) -> Result<usize, TransformError> {
        let matches = self.matches(place, member);
        self.intern(matches)
    }

    /// The place of these matches.
    fn intern(&mut self, matches: Matches) -> Result<usize, TransformError> {
        if matches.is_empty() {
            return Ok(NOWHERE);
        }
        if let Some(found) = self.places.iter().position(|place| place.matches == matches) {
            return Ok(found);
        }
        if self.places.len() >= MAX_PLACES {
            return Err(TransformError::Limit);
        }
        let place = self.place(matches);
        self.places.push(place);
        Ok(self.places.len() - 1)
    }

    fn place(&self, matches: Matches) -> Place {
        let mut place = Place { forms: u8::MAX, ..Place::default() };
        for &(index, step) in &matches {
            let index = usize::from(index);
            let Some(site) = self.plan.sites.get(index) else { continue };
            let (step, left) = (site.path.get(usize::from(step)), site.path.len().saturating_sub(usize::from(step)));
            if step.is_none() && place.row.is_none() {
                match &site.shape {
                    RowShape::Object => place.row = Some(index),
                    RowShape::Array(columns) => {
                        place.row = Some(index);
                        place.columns = Some(columns.iter().map(|name| self.field(index, name)).collect());
                    }
                    RowShape::Scalar(name) => {
                        place.row = Some(index);
                        place.bare = Some(self.field(index, name));
                    }
                    RowShape::Plain(Plain::OneOf(_)) => place.bare = Some(Action::Known(index)),
                    RowShape::Plain(_) => {}
                }
            }
            place.forms &= match (step, &site.shape) {
                (Some(PathStep::Member(_) | PathStep::AnyMember), _) | (None, RowShape::Object) => OBJECT,
                (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => ARRAY,
                (None, RowShape::Scalar(_) | RowShape::Plain(Plain::Scalar)) => SCALAR,
                (None, RowShape::Plain(Plain::Number)) => NUMBER,
                (None, RowShape::Plain(Plain::Boolean)) => BOOLEAN,
                (None, RowShape::Plain(Plain::OneOf(_))) => TEXT,
            };
            // A list or a map of rows need not have any.
            let is_last = match site.path.last() {
                Some(PathStep::Elements | PathStep::AnyMember) => left == 1,
                _ => left == 0,
            };
            if site.required && is_last {
                place.meets |= bit(index).unwrap_or(0);
            }
        }
        place.matches = matches;
        place
    }

    /// Whether this raw text, or `null`, is what the site of this index knows.
    pub(super) fn is_known(&self, site: usize, raw: &[u8]) -> Result<bool, TransformError> {
        let Some(RowShape::Plain(Plain::OneOf(known))) = self.plan.sites.get(site).map(|site| &site.shape) else {
            return Ok(false);
        };
        Ok(raw == b"null" || name_of(raw, raw.contains(&b'\\'), |text| known.contains(text))?)
    }

    /// The mask of this number of this site.
    pub(super) fn mask(&self, site: usize, mask: usize) -> Option<&MaskRule> {
        self.plan.sites.get(site)?.masks.get(mask)
    }
}

/// The bit of a required site.
fn bit(site: usize) -> Option<u64> {
    1_u64.checked_shl(u32::try_from(site).ok()?)
}

/// Gives the name that this raw text says to `then`.
fn name_of<T>(raw: &[u8], escaped: bool, then: impl FnOnce(&str) -> T) -> Result<T, TransformError> {
    if escaped {
        let name: String = serde_json::from_slice(raw).map_err(|_| TransformError::Malformed)?;
        return Ok(then(&name));
    }
    let name = raw.get(1..raw.len().saturating_sub(1)).and_then(|name| std::str::from_utf8(name).ok());
    name.map(then).ok_or(TransformError::Malformed)
}
