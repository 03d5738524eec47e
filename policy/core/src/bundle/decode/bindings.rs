//! The long lists of a big policy, strings and bindings, from the bundle's bytes to the tables without a copy in between.

use super::reader::{Decoder, Result, TablesError, malformed, position};
use crate::{
    Name,
    bundle::{subjects, tables::Tables},
};
use doorward_proto::v1;
use prost::{
    Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use std::{borrow::Cow, cmp::Reverse};

/// Field numbers of `Bundle` in bundle.proto.
const STRINGS: u32 = 3;
const BINDINGS: u32 = 7;

/// A bundle's bytes, taken apart.
pub(super) struct Outline<'a> {
    pub(super) strings: Vec<Name>,
    /// Bytes of each binding.
    pub(super) bindings: Vec<&'a [u8]>,
    /// All else.
    pub(super) rest: v1::Bundle,
}

impl<'a> Outline<'a> {
    /// `None`: the bytes are no bundle.
    pub(super) fn read(payload: &'a [u8]) -> Option<Outline<'a>> {
        let (mut strings, mut bindings, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = payload;
        while !bytes.is_empty() {
            let field = bytes;
            match decode_key(&mut bytes).ok()? {
                (number @ (STRINGS | BINDINGS), WireType::LengthDelimited) => {
                    let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                    let (value, after) = bytes.split_at_checked(length)?;
                    bytes = after;
                    if number == STRINGS {
                        strings.push(Name::from(std::str::from_utf8(value).ok()?));
                    } else {
                        bindings.push(value);
                    }
                }
                (number, wire_type) => {
                    skip_field(wire_type, number, &mut bytes, DecodeContext::default()).ok()?;
                    rest.extend_from_slice(field.get(..field.len().checked_sub(bytes.len())?)?);
                }
            }
        }
        Some(Outline { strings, bindings, rest: v1::Bundle::decode(rest.as_slice()).ok()? })
    }
}

/// A binding, or its bytes.
pub(super) trait AsBinding {
    fn binding(&self) -> Option<Cow<'_, v1::Binding>>;
}

impl AsBinding for v1::Binding {
    fn binding(&self) -> Option<Cow<'_, v1::Binding>> {
        Some(Cow::Borrowed(self))
    }
}

impl AsBinding for &[u8] {
    fn binding(&self) -> Option<Cow<'_, v1::Binding>> {
        v1::Binding::decode(*self).ok().map(Cow::Owned)
    }
}

impl Decoder {
    /// Bindings in the order of their rank: priority (high first), role, document.
    pub(super) fn bindings(&self, list: &[impl AsBinding], tables: &mut Tables) -> Result<()> {
        if self.ranked(list.iter().enumerate(), list.len(), tables)? {
            return Ok(());
        }
        // The compiler writes them in order. Whoever does not gets the same tables, later.
        let rank = |each: &(usize, _)| {
            let binding = AsBinding::binding(each.1).unwrap_or_default();
            let text = |index| self.text(index, "").unwrap_or_default();
            (Reverse(binding.priority), text(binding.role), text(binding.name))
        };
        let mut sorted: Vec<_> = list.iter().enumerate().collect();
        sorted.sort_by_cached_key(rank);
        self.ranked(sorted.into_iter(), list.len(), tables).map(|_| ())
    }

    /// False: they are not in order.
    fn ranked<'b, B: AsBinding + 'b>(
        &self,
        list: impl Iterator<Item = (usize, &'b B)>,
        count: usize,
        tables: &mut Tables,
    ) -> Result<bool> {
        tables.bound = subjects::Subjects::new(tables.claim_paths.len());
        tables.bindings = Vec::with_capacity(count);
        let mut before: Option<(Reverse<i32>, Name, Name)> = None;
        // Bindings of one role lie together.
        let mut known: Option<(u32, Option<usize>)> = None;
        for (at, each) in list {
            // The path is text, so it is made for errors only.
            let placed = |mut error: TablesError| {
                error.path = format!("bindings[{at}]");
                error
            };
            let binding = each.binding().ok_or_else(|| placed(malformed("", "the binding does not decode")))?;
            let role = self.name(binding.role, "").map_err(placed)?;
            let role_at = match known {
                Some((index, found)) if index == binding.role => found,
                _ => tables.role_position(&role),
            };
            known = Some((binding.role, role_at));
            // A role outside this scope grants nothing here.
            let Some(role_at) = role_at else { continue };
            let name = self.name(binding.name, "").map_err(placed)?;
            let rank = (Reverse(binding.priority), role, name.clone());
            if before.is_some_and(|before| rank < before) {
                return Ok(false);
            }
            before = Some(rank);
            let number = position(tables.bindings.len(), "").map_err(placed)?;
            self.subjects(&binding.subjects, &mut tables.bound, number, "").map_err(placed)?;
            tables.bindings.push(subjects::Binding {
                name,
                role: role_at,
                tenants: self.names(&binding.tenants, "").map_err(placed)?,
                period: subjects::Period::new(binding.from, binding.until),
                providers: match binding.providers_only {
                    true => Some(self.names(&binding.providers, "").map_err(placed)?),
                    false => None,
                },
            });
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundle() -> impl Strategy<Value = v1::Bundle> {
        let binding =
            (0_u32..6, 0_u32..6, -2_i32..3, prop::collection::vec((0_i32..8, 0_u32..6), 0..3), prop::bool::ANY);
        let bindings = prop::collection::vec(binding, 0..8);
        (bindings, any::<bool>()).prop_map(|(bindings, sorted)| {
            let strings: Vec<String> = ["", "a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
            let role = |name| v1::Role { name, active: true, ..v1::Role::default() };
            let one = |(name, role, priority, subjects, period): (u32, u32, i32, Vec<(i32, u32)>, bool)| v1::Binding {
                name,
                role,
                priority,
                subjects: subjects
                    .into_iter()
                    .map(|(kind, value)| v1::Subject { kind, value, claim_path: 0 })
                    .collect(),
                tenants: vec![1],
                from: i64::from(period),
                until: 0,
                providers: vec![2],
                providers_only: period,
            };
            let mut bindings: Vec<v1::Binding> = bindings.into_iter().map(one).collect();
            if sorted {
                bindings.sort_by_key(|each| (Reverse(each.priority), each.role, each.name));
            }
            let claim_paths = vec![v1::ClaimPath { segments: vec![1] }];
            v1::Bundle {
                format: 1,
                strings,
                roles: vec![role(1), role(2)],
                bindings,
                claim_paths,
                ..v1::Bundle::default()
            }
        })
    }

    fn shown(tables: Result<Tables>) -> std::result::Result<String, (String, &'static str)> {
        tables.map(|tables| format!("{:?}", (tables.bindings, tables.roles))).map_err(|error| (error.path, error.code))
    }

    proptest! {
        #[test]
        fn a_bundles_bytes_make_the_same_tables_as_the_bundle(bundle in bundle()) {
            let whole = Tables::build(&bundle, [0; 32], 1);
            let bytes = Tables::decode(&bundle.encode_to_vec(), [0; 32], 1);
            if let (Ok(whole), Ok(bytes)) = (&whole, &bytes) {
                for user in ["a", "b", "c", "d", "e"] {
                    let principal = crate::principal::Principal { user: Some(user.into()), ..Default::default() };
                    prop_assert_eq!(whole.bound.person(&principal), bytes.bound.person(&principal));
                    prop_assert_eq!(whole.bound.agent(user), bytes.bound.agent(user));
                }
            }
            prop_assert_eq!(shown(whole), shown(bytes));
        }

        #[test]
        fn bytes_that_are_no_bundle_are_refused_as_prost_refuses_them(bundle in bundle(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = bundle.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(Outline::read(&bytes).is_some_and(|outline| outline.bindings.iter().all(|each| each.binding().is_some())), v1::Bundle::decode(bytes.as_slice()).is_ok());
        }
    }
}
