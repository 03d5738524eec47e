//! The transformer against a slow, obvious one, which has the whole document in memory and finds out by its path what
//! each value is.

use super::{super::mask::mask, *};
use crate::{
    bundle::FieldSet,
    transform::{MaskKind, MaskRule, PathStep, RowShape, RowSite},
};
use proptest::prelude::*;
use std::sync::Arc;

/// A JSON document: scalars and names are kept as they are written.
#[derive(Clone, Debug)]
enum Tree {
    Scalar(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The text, with the next of `spaces` wherever whitespace may be.
    fn print(&self, spaces: &mut impl Iterator<Item = &'static str>, out: &mut String) {
        let mut space = |out: &mut String| out.push_str(spaces.next().unwrap_or_default());
        space(out);
        match self {
            Tree::Scalar(raw) => out.push_str(raw),
            Tree::Array(elements) => {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    element.print(spaces, out);
                }
                out.push_str(spaces.next().unwrap_or_default());
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(spaces.next().unwrap_or_default());
                    out.push_str(name);
                    out.push_str(spaces.next().unwrap_or_default());
                    out.push(':');
                    value.print(spaces, out);
                }
                out.push_str(spaces.next().unwrap_or_default());
                out.push('}');
            }
        }
        out.push_str(spaces.next().unwrap_or_default());
    }
}

/// What becomes of a value.
enum Fate<'a> {
    Copied,
    Dropped,
    Masked(&'a MaskRule),
    Replaced(&'a str),
}

fn field<'a>(site: &'a RowSite, name: &str) -> Fate<'a> {
    let mask = site.masks.iter().find(|mask| mask.field.as_ref() == name);
    let nested = mask.is_none() && site.nested.iter().any(|nested| nested.as_ref() == name);
    match mask {
        _ if !nested && !site.visible.contains(name) => Fate::Dropped,
        Some(mask) => Fate::Masked(mask),
        None => Fate::Copied,
    }
}

/// Applies the plan to the value at `path`, where `None` is a step to an element. `Ok(None)`: nothing of it is left.
fn slow(plan: &ResponsePlan, path: &[Option<String>], tree: &Tree, fate: Fate<'_>) -> Result<Option<Tree>, ()> {
    let leads = |site: &&RowSite| {
        path.len() <= site.path.len()
            && site.path.iter().zip(path).all(|(want, have)| match (want, have) {
                (PathStep::Member(want), Some(have)) => want.as_ref() == have,
                (PathStep::AnyMember, Some(_)) | (PathStep::Elements, None) => true,
                _ => false,
            })
    };
    let row = plan.sites.iter().filter(leads).find(|site| site.path.len() == path.len());
    let fate = match row.map(|row| &row.shape) {
        Some(RowShape::Scalar(name)) => field(row.unwrap(), name),
        _ => fate,
    };
    let masked = |rule: &MaskRule, raw: &str| {
        let mut out = Vec::new();
        mask(rule, raw.as_bytes(), Some(b"key"), &mut out).ok_or(())?;
        Ok(Some(Tree::Scalar(String::from_utf8(out).unwrap())))
    };
    match (fate, tree) {
        (Fate::Dropped, _) => return Ok(None),
        (Fate::Replaced(text), _) => return Ok(Some(Tree::Scalar(serde_json::to_string(text).unwrap()))),
        (Fate::Masked(rule), Tree::Scalar(raw)) => return masked(rule, raw),
        (Fate::Masked(rule), _) => return masked(rule, "null"),
        (Fate::Copied, _) => {}
    }
    let null = matches!(tree, Tree::Scalar(raw) if raw == "null");
    let fits = |site: &RowSite| match (site.path.get(path.len()), &site.shape) {
        _ if null => true,
        (Some(PathStep::Member(_) | PathStep::AnyMember), _) | (None, RowShape::Object) => {
            matches!(tree, Tree::Object(_))
        }
        (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => matches!(tree, Tree::Array(_)),
        (None, RowShape::Scalar(_)) => matches!(tree, Tree::Scalar(_)),
    };
    if !plan.sites.iter().filter(leads).all(fits) {
        return Err(());
    }
    let below = |step: Option<String>| [path, &[step]].concat();
    match tree {
        Tree::Scalar(raw) => Ok(Some(Tree::Scalar(raw.clone()))),
        Tree::Array(elements) => {
            let columns = match row.map(|row| &row.shape) {
                Some(RowShape::Array(columns)) if columns.len() != elements.len() => return Err(()),
                Some(RowShape::Array(columns)) => Some(columns),
                _ => None,
            };
            let mut kept = Vec::new();
            for (at, element) in elements.iter().enumerate() {
                let fate = columns.map_or(Fate::Copied, |columns| field(row.unwrap(), &columns[at]));
                kept.extend(slow(plan, &below(None), element, fate)?);
            }
            Ok(Some(Tree::Array(kept)))
        }
        Tree::Object(members) => {
            let mut kept = Vec::new();
            for (raw, value) in members {
                let name: String = serde_json::from_str(raw).map_err(|_| ())?;
                let fate = if let Some(row) = row {
                    field(row, &name)
                } else if path.is_empty() && plan.remove_keys.iter().any(|key| **key == *name) {
                    Fate::Dropped
                } else if path.is_empty()
                    && let Some((_, text)) = plan.replace_keys.iter().find(|(key, _)| **key == *name)
                {
                    Fate::Replaced(text)
                } else {
                    Fate::Copied
                };
                let value = slow(plan, &below(Some(name)), value, fate)?;
                kept.extend(value.map(|value| (raw.clone(), value)));
            }
            Ok(Some(Tree::Object(kept)))
        }
    }
}

/// The forms of rows and of the ways to them that dialects have.
fn plan(kind: usize) -> ResponsePlan {
    let rule = |(field, kind): &(&str, MaskKind)| MaskRule {
        field: (*field).into(),
        kind: *kind,
        fixed: "<\"hidden\">".into(),
        length: 2,
        filterable: false,
    };
    let masks =
        [("b", MaskKind::MaskFixed), ("c", MaskKind::MaskEmail), ("d", MaskKind::MaskLast), ("x", MaskKind::MaskNull)];
    let site = |path: &[PathStep], shape: RowShape, visible: &[&str]| RowSite {
        path: path.to_vec(),
        shape,
        visible: Arc::new(FieldSet::new(visible.iter().map(|name| (*name).into()).collect())),
        masks: masks.iter().map(rule).collect(),
        nested: vec!["o".into()],
    };
    let member = |name: &str| PathStep::Member(name.into());
    let (any, elements) = (PathStep::AnyMember, PathStep::Elements);
    let visible = ["a", "b", "c", "d", "é\""];
    let sites = match kind {
        0 => vec![site(&[], RowShape::Object, &visible)],
        1 => vec![
            site(&[member("r"), elements.clone()], RowShape::Object, &visible),
            site(&[member("r"), elements.clone(), member("o"), elements], RowShape::Object, &["a", "c"]),
        ],
        2 => vec![site(&[elements], RowShape::Array(["a", "b", "e"].map(Into::into).to_vec()), &visible)],
        3 => vec![site(&[elements], RowShape::Scalar("d".into()), &visible)],
        4 => vec![site(&[elements], RowShape::Scalar("e".into()), &visible)],
        5 => vec![site(&[any, elements], RowShape::Object, &visible)],
        6 => vec![
            site(&[member("r"), elements], RowShape::Object, &visible),
            site(&[any, member("o")], RowShape::Object, &["a"]),
        ],
        7 => vec![site(&[member("r")], RowShape::Scalar("d".into()), &visible)],
        _ => Vec::new(),
    };
    ResponsePlan {
        sites,
        remove_keys: vec!["q".into()],
        replace_keys: vec![("n".into(), "/p?\"x\"=1".into())],
        ..ResponsePlan::default()
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "\"[a-ero]\"", 1 => "\"[qn]\"", 1 => Just(r#""é\"""#.to_owned()), 1 => Just(r#""\u0062""#.to_owned()), 1 => "\"[a-d]{2,9}\""]
}

fn tree() -> impl Strategy<Value = Tree> {
    let text = |text: String| serde_json::to_string(&text).unwrap();
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "12",
            "1e9",
            "-1.25E-3",
            r#""""#,
            r#""\ud83d\ude00é""#
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,12}".prop_map(text),
        "[a-z]{1,30}@[a-z]{1,9}".prop_map(text),
    ];
    leaf.prop_map(Tree::Scalar).prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
            prop::collection::vec((name(), inner), 0..5).prop_map(Tree::Object),
        ]
    })
}

/// Rows as servers write them, with members mostly in one order, in the form that the plan expects, mostly.
fn document(kind: usize) -> impl Strategy<Value = Tree> {
    let order = prop::collection::vec(name(), 0..7);
    let rows = prop::collection::vec(
        (prop::collection::vec(tree(), 7), any::<u8>(), prop::option::of((name(), tree()))),
        0..5,
    );
    (order, rows, tree(), prop::bool::weighted(0.1)).prop_map(move |(order, rows, other, odd)| {
        let object = |(values, leave_out, more): (Vec<Tree>, u8, Option<(String, Tree)>)| {
            let value = |name: &String, value| match value {
                // Nested rows have to be a list of objects.
                value if name != "\"o\"" || odd => value,
                Tree::Array(_) => {
                    Tree::Array(vec![Tree::Object(vec![("\"a\"".into(), value.clone()), ("\"e\"".into(), value)])])
                }
                Tree::Object(_) if kind == 6 => value,
                _ => Tree::Scalar("null".into()),
            };
            let members = order.iter().zip(values).map(|(name, have)| (name.clone(), value(name, have)));
            let kept = members.enumerate().filter(|(at, _)| leave_out < 128 || leave_out & (1 << at) == 0);
            Tree::Object(
                kept.map(|(_, member)| member).chain(more.filter(|(name, _)| name != "\"o\"" || odd)).collect(),
            )
        };
        let list = |rows: Vec<_>| Tree::Array(rows.into_iter().map(object).collect());
        match kind {
            0 => rows.into_iter().map(object).next().unwrap_or(other),
            2 => {
                let columns = if odd { 2 } else { 3 };
                Tree::Array(
                    rows.into_iter().map(|row| Tree::Array(row.0.into_iter().take(columns).collect())).collect(),
                )
            }
            3 | 4 => Tree::Array(
                rows.into_iter().flat_map(|row| row.0).filter(|have| odd || matches!(have, Tree::Scalar(_))).collect(),
            ),
            5 => Tree::Object(vec![("\"r\"".into(), list(rows.clone())), ("\"s\"".into(), list(rows))]),
            7 => Tree::Object(vec![("\"r\"".into(), other.clone()), ("\"s\"".into(), other)]),
            _ => {
                let other = if kind == 6 { Tree::Object(Vec::new()) } else { other };
                Tree::Object(vec![
                    ("\"q\"".into(), other.clone()),
                    ("\"r\"".into(), list(rows)),
                    ("\"n\"".into(), other),
                ])
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn streaming_agrees_with_the_slow_obvious_transformer(
        (kind, document) in (0..9_usize).prop_flat_map(|kind| (Just(kind), document(kind))),
        cuts in prop::collection::vec(prop_oneof![1_usize..9, 1_usize..200], 1..4),
        spaces in prop::collection::vec(prop::sample::select(vec!["", "", "", " ", "\r\n\t"]), 0..4),
    ) {
        let plan = plan(kind);
        let mut text = String::new();
        document.print(&mut spaces.iter().copied().cycle(), &mut text);
        let mut transformer = Transformer::new(plan.clone(), Some(b"key"));
        let (mut out, mut rest, mut good) = (Vec::new(), text.as_bytes(), true);
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            good = good && transformer.push(chunk, &mut out).is_ok();
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        good = good && transformer.finish(&mut out).is_ok();
        let have = good.then(|| String::from_utf8(out).unwrap());
        let want = slow(&plan, &[], &document, Fate::Copied).ok().map(|tree| {
            let mut text = String::new();
            tree.expect("no plan drops the document").print(&mut std::iter::empty(), &mut text);
            text
        });
        prop_assert_eq!(have, want, "{}", text);
    }
}
