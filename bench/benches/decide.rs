//! The decision alone: its cost must not depend on how many bindings, roles and grants the policy has.
#![allow(missing_docs, reason = "what criterion's macros make")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use doorward_bench::{HOST, REQUESTS, compiled, documents, get, principal, short};
use doorward_policy::{decide::decide, dialect::parse};
use doorward_test_support::{host::NOW, policy::indexed};
use std::hint::black_box;

fn decisions(criterion: &mut Criterion) {
    let principal = principal();
    let sizes = [(10, 0, 0), (1_000, 100, 1), (10_000, 1_000, 2), (100_000, 1_000, 8)];
    // A test run leaves out the sizes that take seconds to compile.
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let sizes = sizes.iter().take(if testing { 2 } else { sizes.len() });
    for (dialect, path) in REQUESTS {
        let mut group = criterion.benchmark_group(format!("decide/{dialect}"));
        for (bindings, roles, grants) in sizes.clone().copied() {
            let tables = indexed(&compiled(&documents(bindings, roles, grants)));
            let (service, prefix) = tables.route(HOST, path).expect("a service");
            let parsed = parse(service, prefix, &get(path)).expect("a request that can be read");
            let decision = decide(&tables, service, &principal, &parsed.request, None, NOW, None);
            decision.outcome.expect("a request that is allowed");
            group.bench_function(BenchmarkId::from_parameter(format!("{bindings} bindings")), |bencher| {
                bencher.iter(|| decide(&tables, service, black_box(&principal), &parsed.request, None, NOW, None));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = short(); targets = decisions }
criterion_main!(benches);
