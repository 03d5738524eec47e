//! Writes with bodies of a megabyte in hostile and in usual shapes, from the buffered body to the verdict with its
//! rewritten body and record. `cargo bench -p doorward-bench --bench body [PART OF A NAME]`
//!
//! Prints the mean CPU time of forty runs; the scheduler's count is too coarse for one. What others do on the machine slows
//! them down, so run it alone.
#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a benchmark")]

use doorward_bench::{HOST, NOW, compiled, documents, known_token, tables};
use doorward_policy::{
    bundle::Tables,
    engine::{Begin, Outcome, Settings, begin, finish},
    host::Host,
    identity::TokenCache,
    request::{Header, HttpRequest},
};
use doorward_policy_compiler::document::parse_file;
use std::{fmt::Write as _, hint::black_box, time::Duration};

struct Still;

impl Host for Still {
    fn now_millis(&self) -> u64 {
        u64::try_from(NOW).unwrap_or(0) * 1000
    }
    fn random(&self, buffer: &mut [u8]) -> bool {
        buffer.fill(7);
        true
    }
    fn update_limit(&self, _: u64, _: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        false
    }
}

/// Time of this thread on a processor.
fn on_cpu() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux with statistics of its scheduler");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

const MEGABYTE: usize = 1_000_000;

fn policy() -> Tables {
    let mut fields = "id: integer, region: string, price: number, doc: json, note: string".to_owned();
    for at in 0..90 {
        let _ = write!(fields, ", f{at}: string");
    }
    let text = format!(
        "
apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: {{ name: shop }}
spec:
  dialect: http
  match: [{{ hosts: [{HOST}], path: /shop }}]
  components:
    items: {{ fields: {{ {fields} }}, operations: [{{ path: /items, verbs: [POST] }}] }}
---
kind: DataService
metadata: {{ name: write }}
spec:
  dialect: dreamfactory
  match: [{{ hosts: [{HOST}], path: /api/v2/write }}]
  components:
    _table/items: {{ fields: {{ {fields} }} }}
---
kind: AccessRole
metadata: {{ name: writer }}
spec:
  grants:
    - {{ service: shop, components: [items], verbs: [POST], check: \"region = {{user.region}}\", fields: {{ read: ['*'], write: ['*'] }} }}
    - {{ service: write, components: [_table/items], verbs: [POST], check: \"region = {{user.region}}\", fields: {{ read: ['*'], write: ['*'] }}, set: {{ note: kept }} }}
---
kind: AccessBinding
metadata: {{ name: writer }}
spec: {{ role: writer, subjects: [{{ user: alice@example.com }}] }}
"
    );
    let mut all = documents(1, 0, 0);
    let parsed = parse_file("body.yaml", &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    all.extend(parsed.documents);
    tables(&compiled(&all))
}

/// `[unit,unit,…]` of so many values, filled up with a string to a megabyte.
fn filled(unit: &str, values_in_unit: usize, most: usize) -> String {
    let times = (most / values_in_unit).min((MEGABYTE - 300) / (unit.len() + 1));
    let mut list = vec![unit; times].join(",");
    list.insert(0, '[');
    let _ = write!(list, ",\"{}\"]", "a".repeat(MEGABYTE.saturating_sub(list.len() + 100)));
    list
}

fn shapes() -> Vec<(String, String)> {
    const MOST: usize = 16_300;
    let row = |doc: &str| format!("[{{\"region\":\"EU\",\"doc\":{doc}}}]");
    let mut all = Vec::new();
    for (name, unit, values) in [
        ("[[]],", "[[]]", 2),
        ("{\"\":0},", "{\"\":0}", 2),
        ("{\"a\":{}},", "{\"a\":{}}", 2),
        ("0,", "0", 1),
        ("\"\",", "\"\"", 1),
        ("null,", "null", 1),
        ("1.5e3,", "1.5e3", 1),
        ("{seven members},", r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7}"#, 8),
    ] {
        all.push((format!("accepted/{name}"), row(&filled(unit, values, MOST))));
        all.push((format!("refused/{name}"), row(&filled(unit, values, usize::MAX))));
    }
    let long = "\"aaaaaaaaaaaaaaaaaaaaaaaa\"";
    all.push(("accepted/texts of 24 bytes".into(), row(&filled(long, 1, MOST))));
    for (name, unit) in [("\\n", "\\n"), ("\\u0041", "\\u0041"), ("\\u00e9", "\\u00e9"), ("é", "é"), ("a", "a")] {
        let text = unit.repeat((MEGABYTE - 100) / unit.len());
        all.push((format!("accepted/one text of {name}"), row(&format!("\"{text}\""))));
    }
    let members = |count: usize| {
        let all: Vec<String> = (0..count).map(|at| format!("\"member{at}\":{at}")).collect();
        format!("{{{}}}", all.join(","))
    };
    all.push(("accepted/one object of many members".into(), row(&members(16_000))));
    all.push(("refused/one row of many fields".into(), format!("[{}]", members(48_000))));
    let text = "0.".to_owned() + &"1234567890".repeat(100);
    all.push(("accepted/numbers of 1,000 digits".into(), row(&filled(&text, 1, MOST))));
    let fields: Vec<String> = (0..45).map(|at| format!("\"f{at}\":\"a\"")).collect();
    let wide = format!("{{\"region\":\"EU\",\"price\":0.30000000000000004,{}}}", fields.join(","));
    all.push(("accepted/330 rows of 47 fields".into(), format!("[{}]", vec![wide.as_str(); 330].join(","))));
    let long = format!("{{\"id\":1,\"region\":\"EU\",\"price\":12.50,\"f1\":\"{}\"}}", "a".repeat(940));
    all.push(("accepted/1,000 rows of a text".into(), format!("[{}]", vec![long.as_str(); 1000].join(","))));
    all.push(("refused/an error at the end".into(), row(&filled("{\"a\":{}}", 2, MOST)) + "x"));
    all
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let tables = policy();
    let authorization = format!("Bearer {}", known_token());
    let settings = Settings { bodies: true, ..Settings::default() };
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")]
        .map(|(name, value)| Header { name, value: value.as_bytes() });
    for (dialect, path) in [("http", "/shop/items"), ("dreamfactory", "/api/v2/write/_table/items")] {
        let mut cache = TokenCache::default();
        for (name, body) in shapes() {
            let name = format!("{dialect}/{name}");
            if !wanted.iter().all(|part| name.contains(part.as_str())) {
                continue;
            }
            let request = HttpRequest {
                method: "POST",
                authority: HOST,
                path,
                headers: &headers,
                body: Some(body.as_bytes()),
                source_address: "10.0.0.7",
            };
            const RUNS: u32 = 40;
            let from = on_cpu();
            for _ in 0..RUNS {
                let verdict = match begin(&tables, &Still, &settings, &mut cache, &request) {
                    Begin::Body { pending, .. } => {
                        finish(&tables, &Still, &settings, &mut cache, pending, black_box(&request))
                    }
                    Begin::Done(verdict) => *verdict,
                    Begin::Ask { question, .. } => panic!("{question:?}"),
                };
                match (&verdict.outcome, name.contains("accepted")) {
                    (Outcome::Allow(_), true) | (Outcome::Deny(_), false) => {}
                    (Outcome::Deny(denial), _) => panic!("{name}: {}", denial.detail),
                    _ => panic!("{name} is allowed"),
                }
                drop(verdict);
            }
            let mean = on_cpu().saturating_sub(from) / RUNS;
            let megabytes = body.len() as f64 / 1e6;
            println!("{name:<60} {:>7.2} ms {megabytes:>6.2} MB", mean.as_secs_f64() * 1000.0);
        }
    }
}
