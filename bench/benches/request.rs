//! One request through everything that the filter does with it, without the host: identity from the cache, decision,
//! rewriting with its proof, upstream headers, and the sealed record.
//!
//! `REQUESTS=1000 valgrind --tool=callgrind BINARY DIALECT` counts instructions: it runs that many requests and ends.
#![allow(missing_docs, reason = "what criterion's macros make")]

use criterion::{Criterion, criterion_group, criterion_main};
use doorward_bench::{HOST, REQUESTS, compiled, documents, known_token, short};
use doorward_policy::{
    audit::Chain,
    bundle::Tables,
    engine::{Begin, Outcome, Settings, begin},
    identity::TokenCache,
    request::{Header, HttpRequest},
};
use doorward_test_support::{TestHost, policy::indexed};
use std::hint::black_box;

/// What a worker keeps between requests.
struct Worker<'a> {
    tables: &'a Tables,
    host: TestHost<'a>,
    settings: Settings,
    cache: TokenCache,
    chain: Chain,
}

impl Worker<'_> {
    fn serve(&mut self, path: &str, authorization: &str) -> usize {
        // As Envoy hands them over.
        let headers = [
            ("authorization", authorization),
            ("user-agent", "bench/1.0"),
            ("accept", "*/*"),
            ("x-forwarded-for", "10.0.0.7"),
            ("x-forwarded-proto", "http"),
            ("x-envoy-internal", "true"),
            ("x-request-id", "2d9a8a5e-6c2b-4a0e-9a63-2a7c5a4c7f11"),
        ]
        .map(|(name, value)| Header { name, value: value.as_bytes() });
        let request = HttpRequest {
            method: "GET",
            authority: HOST,
            path,
            headers: &headers,
            body: None,
            source_address: "10.0.0.7",
        };
        match begin(self.tables, &self.host, &self.settings, &mut self.cache, black_box(&request)) {
            Begin::Done(verdict) if matches!(verdict.outcome, Outcome::Allow(_)) => {
                self.chain.seal(verdict.record).bytes.len()
            }
            _ => 0,
        }
    }
}

fn requests(criterion: &mut Criterion) {
    let tables = indexed(&compiled(&documents(1_000, 10, 1)));
    let authorization = format!("Bearer {}", known_token());
    let mut group = criterion.benchmark_group("request, token known");
    for (dialect, path) in REQUESTS {
        let mut worker = Worker {
            tables: &tables,
            host: TestHost::new(),
            settings: Settings::default(),
            cache: TokenCache::default(),
            chain: Chain::new("node/1/boot".to_owned()),
        };
        assert!(worker.serve(path, &authorization) > 0, "a request that is allowed");
        if let Some(count) = std::env::var("REQUESTS").ok().and_then(|count| count.parse::<u32>().ok()) {
            if std::env::args().any(|argument| argument == dialect) {
                (0..count).for_each(|_| {
                    black_box(worker.serve(path, &authorization));
                });
            }
            continue;
        }
        group.bench_function(dialect, |bencher| bencher.iter(|| worker.serve(path, &authorization)));
    }
    group.finish();
}

criterion_group! { name = benches; config = short(); targets = requests }
criterion_main!(benches);
