//! Responses: the streaming transformer at any chunking, against one that works on the whole document.

use crate::input::{Choices, damaged, parts};
use doorward_policy::{
    bundle::FieldSet,
    transform::{MaskKind, MaskRule, PathStep, Plain, ResponsePlan, RowShape, RowSite, TransformError, Transformer},
};
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};

const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\\"",
    "\\u0073",
    "\\ud83d\\ude00",
    "\\ud800",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "01",
    "1.5e+3",
    "1e400",
    " ",
    "\t\r\n",
    "\u{b}",
    "\0",
    "\"ssn\":\"s3cret\",",
    "\"\\u0073sn\":[{}],",
    "\"rows\":",
    "\"resource\":[",
    "\"orders\":",
    "\"email\":{\"ssn\":1},",
    "\"query\":[[]],",
    "\"next\":{},",
    "\"meta\":",
    "{\"id\":1}",
    "[[1,2,3]]",
    "[]",
    "{}",
    "\"é\u{1f600}\"",
    "[[[[[[[[",
    "\u{feff}",
];

static SEEDS: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../seeds/responses.txt")));

fn member(name: &str) -> PathStep {
    PathStep::Member(name.into())
}

fn site(path: Vec<PathStep>, shape: RowShape, visible: &[&str], nested: &[&str]) -> RowSite {
    let mask = |field: &str, kind| MaskRule {
        field: field.into(),
        kind,
        fixed: "hidden".into(),
        length: 4,
        filterable: false,
    };
    RowSite {
        path,
        shape,
        visible: Arc::new(FieldSet::new(visible.iter().map(|name| (*name).into()).collect())),
        masks: [
            mask("email", MaskKind::MaskEmail),
            mask("name", MaskKind::MaskFixed),
            mask("note", MaskKind::MaskNull),
        ]
        .into(),
        nested: nested.iter().map(|name| (*name).into()).collect(),
        required: false,
    }
}

static PLANS: LazyLock<Vec<ResponsePlan>> = LazyLock::new(|| {
    use PathStep::{AnyMember, Elements};
    let seen = ["id", "name", "email", "note", "é\""];
    let envelope = ResponsePlan {
        sites: vec![
            site(vec![member("resource"), Elements], RowShape::Object, &seen, &["orders"]).required(),
            site(vec![member("resource"), Elements, member("orders"), Elements], RowShape::Object, &["total"], &[]),
            RowSite::plain(vec![member("meta"), member("count")], Plain::Number),
            RowSite::plain(vec![member("next")], Plain::Scalar),
        ],
        ..ResponsePlan::default()
    };
    let columns = RowShape::Array(vec!["id".into(), "ssn".into(), "email".into()]);
    let one = |site| ResponsePlan { sites: vec![site], ..ResponsePlan::default() };
    vec![
        envelope,
        ResponsePlan {
            sites: vec![
                site(vec![member("rows"), Elements], columns, &["id", "email"], &[]).required(),
                RowSite::plain(vec![member("truncated")], Plain::Boolean),
            ],
            ..ResponsePlan::default()
        },
        one(site(vec![Elements], RowShape::Object, &seen, &[])),
        one(site(vec![AnyMember], RowShape::Object, &seen, &[])),
        one(site(vec![Elements], RowShape::Scalar("email".into()), &["email"], &[])),
        one(site(Vec::new(), RowShape::Object, &seen, &["meta"])),
        ResponsePlan::default(),
    ]
});

fn run<'c>(plan: &ResponsePlan, chunks: impl IntoIterator<Item = &'c [u8]>) -> (Result<(), TransformError>, Vec<u8>) {
    let mut transformer = Transformer::new(plan.clone(), None);
    let mut out = Vec::new();
    for chunk in chunks {
        if let Err(error) = transformer.push(chunk, &mut out) {
            return (Err(error), out);
        }
    }
    (transformer.finish(&mut out), out)
}

/// A response's text, damaged.
pub fn json(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let plan = &PLANS[choices.below(PLANS.len())];
    let body = damaged(&mut choices, &SEEDS, &WORDS);
    let said = || String::from_utf8_lossy(&body).into_owned();

    let (whole, out) = run(plan, [&*body]);
    let single = run(plan, body.chunks(1));
    // Of a body with several faults, the chunks decide which is met first where one is in its bytes: they are checked when a
    // chunk is done.
    let agree = |one: &Result<(), TransformError>, other: &Result<(), TransformError>| {
        one == other || (one.is_err() && other.is_err() && std::str::from_utf8(&body).is_err())
    };
    assert!(agree(&whole, &single.0), "byte by byte: {whole:?}, {:?}: {}", single.0, said());
    let (mut rest, mut chunks) = (&*body, Vec::new());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at((1 + choices.below(40)).min(rest.len()));
        chunks.push(chunk);
        rest = tail;
    }
    let cut = run(plan, chunks);
    assert!(agree(&whole, &cut.0), "in chunks: {whole:?}, {:?}: {}", cut.0, said());
    if whole.is_err() {
        return;
    }
    assert!(out == single.1 && out == cut.1, "the output depends on the chunks: {}", said());

    // serde_json is stricter about Unicode and the size of numbers.
    let Ok(mut document) = serde_json::from_slice::<Value>(&body) else { return };
    let given: Value = serde_json::from_slice(&out).unwrap_or_else(|error| {
        panic!("the output is not JSON: {error}\n{}\n{}", said(), String::from_utf8_lossy(&out))
    });
    let matches: Vec<(usize, usize)> = (0..plan.sites.len()).map(|site| (site, 0)).collect();
    slow(plan, &mut document, &matches);
    assert_eq!(given, document, "{}", said());
}

#[derive(Clone, Copy)]
enum Fate {
    Stays,
    Goes,
    Masked(MaskKind),
}

/// `leads`: a site is at this member, or below it.
fn fate(site: &RowSite, name: &str, leads: bool) -> Fate {
    if leads && !site.visible.contains(name) && site.nested.iter().any(|nested| &**nested == name) {
        return Fate::Stays;
    }
    match site.masks.iter().find(|mask| &*mask.field == name) {
        _ if !site.visible.contains(name) => Fate::Goes,
        Some(mask) => Fate::Masked(mask.kind),
        None => Fate::Stays,
    }
}

fn mask(kind: MaskKind, value: &mut Value) {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => String::new(),
        _ if kind == MaskKind::MaskFixed => String::new(),
        _ => {
            *value = Value::Null;
            return;
        }
    };
    *value = match kind {
        MaskKind::MaskNull => Value::Null,
        MaskKind::MaskFixed => "hidden".into(),
        _ => match text.rsplit_once('@') {
            Some((local, domain)) if !domain.is_empty() && !local.is_empty() => {
                format!("{}***@{domain}", local.chars().next().expect("not empty")).into()
            }
            _ => "***".into(),
        },
    };
}

/// The plan, carried out on a document in memory whose form the fast transformer has accepted.
fn slow(plan: &ResponsePlan, value: &mut Value, matches: &[(usize, usize)]) {
    let is_row = |(site, step): &&(usize, usize)| {
        plan.sites[*site].path.len() == *step && !matches!(plan.sites[*site].shape, RowShape::Plain(_))
    };
    let row = matches.iter().find(is_row).map(|(site, _)| &plan.sites[*site]);
    let below = |member: Option<&str>| -> Vec<(usize, usize)> {
        let fits = |(site, step): &&(usize, usize)| match (plan.sites[*site].path.get(*step), member) {
            (Some(PathStep::Member(name)), Some(member)) => &**name == member,
            (Some(PathStep::AnyMember), Some(_)) | (Some(PathStep::Elements), None) => true,
            _ => false,
        };
        matches.iter().filter(fits).map(|(site, step)| (*site, step + 1)).collect()
    };
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, mut value) in std::mem::take(members) {
                let inner = below(Some(&name));
                let stays = if inner.is_empty() && !matches.is_empty() { Fate::Goes } else { Fate::Stays };
                match row.map_or(stays, |site| fate(site, &name, !inner.is_empty())) {
                    Fate::Goes => continue,
                    Fate::Masked(kind) => mask(kind, &mut value),
                    Fate::Stays => slow(plan, &mut value, &inner),
                }
                kept.insert(name, value);
            }
            *members = kept;
        }
        Value::Array(items) => {
            let columns = row.map(|site| match &site.shape {
                RowShape::Array(columns) => (site, columns),
                _ => panic!("a row that is no array was accepted as one"),
            });
            let mut kept = Vec::new();
            for (at, mut value) in std::mem::take(items).into_iter().enumerate() {
                let inner = below(None);
                let scalar = inner.iter().map(|(site, step)| (&plan.sites[*site], *step)).find_map(|(site, step)| {
                    match &site.shape {
                        RowShape::Scalar(name) if site.path.len() == step => Some(fate(site, name, false)),
                        _ => None,
                    }
                });
                match scalar.or(columns.map(|(site, columns)| fate(site, &columns[at], false))).unwrap_or(Fate::Stays) {
                    Fate::Goes => continue,
                    Fate::Masked(kind) => mask(kind, &mut value),
                    Fate::Stays => slow(plan, &mut value, &inner),
                }
                kept.push(value);
            }
            *items = kept;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_fits_a_plan_that_changes_it() {
        for seed in SEEDS.iter() {
            let changed = |plan: &ResponsePlan| {
                let (result, out) = run(plan, [seed.as_bytes()]);
                result.is_ok() && (out != seed.as_bytes() || seed.len() < 20)
            };
            assert!(PLANS.iter().filter(|plan| !plan.is_passthrough()).any(changed), "{seed}");
        }
    }
}
