//! Where in the document a value is, as far as the plan cares, and what happens to it.
//!
//! A *place* is the set of sites whose paths lead to a value, each with the steps taken. Places are found as the document
//! reaches them and remembered, with the members met there: rows of a list have the same members in the same order, so a
//! member is usually recognised by one comparison of its raw bytes with those of the member that came here before.

use super::{MaskRule, PathStep, ResponsePlan, RowShape, TransformError};
use smallvec::SmallVec;

/// Members remembered per place, and their bytes of JSON text over all places. More are looked up each time.
const MAX_KNOWN: usize = 256;
const MAX_KNOWN_BYTES: usize = 16 << 10;
/// Different places at most. They are made of the plan's sites, so that only an absurd plan has more.
const MAX_PLACES: usize = 4 << 10;

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
    /// Index into `replace_keys`.
    Replace(usize),
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
    object: bool,
    array: bool,
    scalar: bool,
    /// A value here is a row that is a bare field: what happens to it.
    bare: Option<Action>,
    /// A value here is a row in an array: what happens to each of its columns.
    columns: Option<Vec<Action>>,
    /// The place of an array's elements, once known.
    elements: Option<usize>,
    known: Vec<Known>,
}

/// A plan, and the places met so far.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) plan: ResponsePlan,
    places: Vec<Place>,
    texts: Vec<u8>,
}

impl Paths {
    pub(super) fn new(plan: ResponsePlan) -> Self {
        let all = (0..plan.sites.len()).filter_map(|site| Some((u16::try_from(site).ok()?, 0))).collect();
        let mut this = Paths { plan, places: Vec::with_capacity(4), texts: Vec::new() };
        let nowhere = this.place(Matches::new());
        let root = this.place(all);
        this.places.extend([nowhere, root]);
        this
    }

    /// What happens to a value at this place, of which its container says `action`.
    #[inline]
    pub(super) fn at(&self, place: usize, action: Action) -> Action {
        if place == NOWHERE {
            return action;
        }
        self.places.get(place).and_then(|place| place.bare).unwrap_or(action)
    }

    /// Whether a value that begins with this byte may be here: a value on the way to rows, or a row itself, must be of the
    /// form the plan says; `null` stands for nothing.
    #[inline]
    pub(super) fn fits(&self, place: usize, byte: u8) -> bool {
        if place == NOWHERE {
            return true;
        }
        self.places.get(place).is_some_and(|place| match byte {
            b'n' => true,
            b'{' => place.object,
            b'[' => place.array,
            _ => place.scalar,
        })
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
            (None, None) => Ok(Action::Copy),
            (None, Some(_)) => Err(TransformError::Unexpected),
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
        let here = self.places.get(place).ok_or(TransformError::Malformed)?;
        // Rows often leave members out: look on from where this one was expected.
        let (before, after) = here.known.split_at_checked(number).unwrap_or((&here.known, &[]));
        let numbered = after.iter().zip(number..).chain(before.iter().zip(0..));
        for (known, number) in numbered {
            if known.text.len() == raw.len() && self.texts.get(known.text.clone()) == Some(raw) {
                return Ok((known.action, known.place, number + 1));
            }
        }
        let (action, matches) =
            name_of(raw, escaped, |name| (self.action(place, name), self.matches(place, Some(name))))?;
        let found = self.intern(matches)?;
        let action = self.at(found, action);
        let mut next = number;
        let start = self.texts.len();
        if let Some(here) = self.places.get_mut(place)
            && here.known.len() < MAX_KNOWN
            && start + raw.len() <= MAX_KNOWN_BYTES
        {
            self.texts.extend_from_slice(raw);
            here.known.push(Known { text: start..self.texts.len(), action, place: found });
            next = here.known.len();
        }
        Ok((action, found, next))
    }

    /// What happens to a member of this name.
    fn action(&self, place: usize, name: &str) -> Action {
        if let Some(site) = self.places.get(place).and_then(|here| here.row) {
            return field(&self.plan, site, name);
        }
        if place != ROOT {
            return Action::Copy;
        }
        if self.plan.remove_keys.iter().any(|key| key.as_ref() == name) {
            return Action::Drop;
        }
        self.plan.replace_keys.iter().position(|(key, _)| key.as_ref() == name).map_or(Action::Copy, Action::Replace)
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
        let mut place = Place { object: true, array: true, scalar: true, ..Place::default() };
        for &(index, step) in &matches {
            let Some(site) = self.plan.sites.get(usize::from(index)) else { continue };
            let step = site.path.get(usize::from(step));
            if step.is_none() && place.row.is_none() {
                place.row = Some(usize::from(index));
                match &site.shape {
                    RowShape::Object => {}
                    RowShape::Array(columns) => {
                        let action = |name: &crate::Name| field(&self.plan, usize::from(index), name);
                        place.columns = Some(columns.iter().map(action).collect());
                    }
                    RowShape::Scalar(name) => place.bare = Some(field(&self.plan, usize::from(index), name)),
                }
            }
            let (object, array, scalar) = match (step, &site.shape) {
                (Some(PathStep::Member(_) | PathStep::AnyMember), _) | (None, RowShape::Object) => (true, false, false),
                (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => (false, true, false),
                (None, RowShape::Scalar(_)) => (false, false, true),
            };
            place.object &= object;
            place.array &= array;
            place.scalar &= scalar;
        }
        place.matches = matches;
        place
    }

    /// The mask of this number of this site.
    pub(super) fn mask(&self, site: usize, mask: usize) -> Option<&MaskRule> {
        self.plan.sites.get(site)?.masks.get(mask)
    }
}

/// What to do with a field of a row.
fn field(plan: &ResponsePlan, site_at: usize, name: &str) -> Action {
    let Some(site) = plan.sites.get(site_at) else { return Action::Drop };
    if let Some(mask) = site.masks.iter().position(|mask| mask.field.as_ref() == name) {
        return if site.visible.contains(name) { Action::Mask(site_at, mask) } else { Action::Drop };
    }
    if site.visible.contains(name) || site.nested.iter().any(|nested| nested.as_ref() == name) {
        Action::Copy
    } else {
        Action::Drop
    }
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
