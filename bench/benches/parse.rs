//! One request through its dialect: read, and written again with the constraints of the policy inside.
#![allow(missing_docs, reason = "what criterion's macros make")]

use criterion::{Criterion, criterion_group, criterion_main};
use doorward_bench::{HOST, REQUESTS, compiled, documents, get, principal, short};
use doorward_policy::{
    decide::decide,
    dialect::{emit, parse},
};
use doorward_test_support::{host::NOW, policy::indexed};
use std::hint::black_box;

fn dialects(criterion: &mut Criterion) {
    let tables = indexed(&compiled(&documents(10, 0, 0)));
    for (dialect, path) in REQUESTS {
        let (service, prefix) = tables.route(HOST, path).expect("a service");
        let request = get(path);
        let parsed = parse(service, prefix, &request).expect("a request that can be read");
        let decision = decide(&tables, service, &principal(), &parsed.request, None, NOW, None);
        let constraints = decision.outcome.expect("a request that is allowed");
        emit(service, prefix, &parsed, &constraints).expect("constraints that can be expressed");
        let mut group = criterion.benchmark_group(dialect);
        group.bench_function("parse", |bencher| {
            bencher.iter(|| parse(service, prefix, black_box(&request)));
        });
        group.bench_function("parse and emit", |bencher| {
            bencher.iter(|| {
                let parsed = parse(service, prefix, black_box(&request))?;
                emit(service, prefix, &parsed, &constraints)
            });
        });
        group.finish();
    }
}

criterion_group! { name = benches; config = short(); targets = dialects }
criterion_main!(benches);
