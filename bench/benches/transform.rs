//! Response filtering: two of nine fields of every record masked, at the chunk sizes in which bodies arrive; and records of
//! 256 members whose order changes from record to record, of which nothing can be recognised by what came before.
#![allow(missing_docs, reason = "what criterion's macros make")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorward_bench::short;
use doorward_policy::{
    bundle::FieldSet,
    transform::{MaskKind, MaskRule, PathStep, ResponsePlan, RowShape, RowSite, Transformer},
};
use std::{fmt::Write as _, hint::black_box, sync::Arc};

const FIELDS: [&str; 9] = ["id", "first_name", "last_name", "company", "city", "notes", "created", "email", "ssn"];

fn records(count: usize) -> String {
    let mut text = String::from(r#"{"resource":["#);
    for at in 0..count {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":{at},"first_name":"Alice","last_name":"Example","company":"Example & Sons Ltd","city":"Springfield","notes":"Called on Monday; wants the \"large\" box, and asked twice when it would come.","created":"2026-11-02T10:00:00Z","email":"alice{at}@example.com","ssn":"123-45-6789"}}"#
        );
    }
    text + "]}"
}

fn plan(masks: &[(&str, MaskKind)]) -> ResponsePlan {
    let rule = |(field, kind): &(&str, MaskKind)| MaskRule {
        field: (*field).into(),
        kind: *kind,
        fixed: "***".into(),
        length: 4,
        filterable: false,
    };
    let site = RowSite {
        path: vec![PathStep::Member("resource".into()), PathStep::Elements],
        shape: RowShape::Object,
        visible: Arc::new(FieldSet::new(FIELDS.iter().map(|field| (*field).into()).collect())),
        masks: masks.iter().map(rule).collect(),
        nested: Vec::new(),
        required: true,
    };
    ResponsePlan { sites: vec![site], ..ResponsePlan::default() }
}

fn bodies(criterion: &mut Criterion) {
    let text = records(4_000);
    let plan = plan(&[("email", MaskKind::MaskEmail), ("ssn", MaskKind::MaskLast)]);
    let run = |chunk: usize, out: &mut Vec<u8>| {
        out.clear();
        let mut transformer = Transformer::new(plan.clone(), None);
        for part in text.as_bytes().chunks(chunk) {
            transformer.push(black_box(part), out)?;
        }
        transformer.finish(out)
    };
    let mut out = Vec::with_capacity(text.len());
    run(16 << 10, &mut out).expect("a body of the promised form");
    assert!(!String::from_utf8_lossy(&out).contains("123-45"), "a masked value came through");
    let mut group = criterion.benchmark_group("mask two fields");
    group.throughput(Throughput::Bytes(u64::try_from(text.len()).unwrap_or(u64::MAX)));
    for chunk in [4 << 10, 16 << 10, 64 << 10] {
        group.bench_function(BenchmarkId::from_parameter(format!("{} KiB chunks", chunk >> 10)), |bencher| {
            bencher.iter(|| run(chunk, &mut out));
        });
    }
    group.finish();
}

/// Each record has the same 256 members, rotated and stepped through differently.
fn shuffled(count: usize) -> String {
    let mut text = String::from(r#"{"resource":["#);
    for at in 0..count {
        text.push_str(if at == 0 { "{" } else { ",{" });
        for member in 0..256 {
            // An odd step visits every member once.
            let number = (member * (2 * at + 1) + 7 * at) % 256;
            let comma = if member == 0 { "" } else { "," };
            let _ = write!(text, r#"{comma}"m{number}":{at}"#);
        }
        text.push('}');
    }
    text + "]}"
}

fn changing_order(criterion: &mut Criterion) {
    let text = shuffled(400);
    let mut plan = plan(&[("m3", MaskKind::MaskNull), ("m200", MaskKind::MaskNull)]);
    if let Some(site) = plan.sites.first_mut() {
        let visible = (0..256).filter(|number| number % 5 != 0).map(|number| format!("m{number}").into());
        site.visible = Arc::new(FieldSet::new(visible.collect()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut group = criterion.benchmark_group("members in changing order");
    group.throughput(Throughput::Bytes(u64::try_from(text.len()).unwrap_or(u64::MAX)));
    group.bench_function("256 members, 16 KiB chunks", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut transformer = Transformer::new(plan.clone(), None);
            for part in text.as_bytes().chunks(16 << 10) {
                transformer.push(black_box(part), &mut out)?;
            }
            transformer.finish(&mut out)
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = short(); targets = bodies, changing_order }
criterion_main!(benches);
