//! A big policy: 100,000 bindings of a user each, 1,000 roles, 10,000 grants. Compiled by the control plane, and decoded
//! and indexed by every worker of every proxy. A test run takes a small one.
#![allow(missing_docs, reason = "what criterion's macros make")]

use criterion::{Criterion, criterion_group, criterion_main};
use doorward_bench::{compiled, documents, short};
use doorward_test_support::policy::indexed;
use std::hint::black_box;

fn policies(criterion: &mut Criterion) {
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let (bindings, roles, grants) = if testing { (100, 10, 8) } else { (100_000, 1_000, 8) };
    let documents = documents(bindings, roles, grants);
    let policy = compiled(&documents);
    let mut group = criterion.benchmark_group("big policy");
    group.sample_size(10);
    group.bench_function("compile", |bencher| bencher.iter(|| compiled(black_box(&documents))));
    group.bench_function("build tables", |bencher| bencher.iter(|| indexed(black_box(&policy))));
    group.finish();
}

criterion_group! { name = benches; config = short(); targets = policies }
criterion_main!(benches);
