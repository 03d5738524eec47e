//! What comes back is never more than the slow evaluator allows on the same data, and tells nothing about the rest:
//! random policies, random data, thousands of hostile requests, two upstreams that differ only in what is invisible.
#![allow(clippy::explicit_auto_deref, clippy::type_complexity, reason = "tests")]

mod dreamfactory;
mod judge;
mod policy;
mod requests;
mod shops;

use doorward_tests::{
    Random, seed,
    stack::{Datasette, Envoy, SHOP_SERVICE, Stack, workers_tick},
};
use judge::{check, comparable};
use policy::{Caller, Grant, Policy};
use requests::{ask, hostile};
use serde_json::{Map, Value};
use shops::{shop, twin};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

type Row = Map<String, Value>;
const CUSTOMERS: usize = 240;
const CANARIES: [&str; 6] = ["company", "email", "phone", "ssn", "credit_card", "internal_notes"];

#[test]
fn nothing_comes_back_that_the_slow_evaluator_forbids_and_twins_answer_alike() {
    let seed = seed("hostile");
    let mut random = Random(seed);
    let shop = shop();
    let columns: Vec<_> = shop.table("customers").names().collect();
    let cases: usize = std::env::var("DOORWARD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_400);
    let policies = (cases / 200).max(1);

    let folder = tempfile::tempdir().unwrap();
    let first = Datasette::start(folder.path(), "first", &shop);
    let second = Datasette::start(folder.path(), "second", &shop);
    let second_file = folder.path().join("second/shop.db");
    let stack = Stack::over(folder, first.port, shop.clone(), SHOP_SERVICE, "");
    let twin_envoy = Envoy::start(stack.folder.path(), &stack.control.options("envoy-2", second.port));

    let (mut total, mut with_rows, mut denied) = (0, 0, 0);
    for round in 0..policies {
        let policy = Policy { user: Grant::random(&mut random, &columns), agent: Grant::random(&mut random, &columns) };
        let callers = Caller::four(&mut random, "west' or '1'='1");
        let tokens: Vec<String> = callers.iter().map(|caller| caller.token(&stack.issuer)).collect();
        twin(&shop, &policy, &callers, &mut random).replace(&second_file);
        stack.policies(&policy.document());
        doorward_tests::wait("the twin's policy", std::time::Duration::from_secs(10), || {
            let list = doorward_tests::control::proxies(stack.control.grpc)?;
            (list.proxies.iter().filter(|proxy| proxy.connected && proxy.current).count() == 2).then_some(())
        });
        workers_tick();

        // The honest question gets everything that is allowed, and not a row less.
        for (caller, token) in callers.iter().zip(&tokens) {
            let expected: Vec<i64> = shop
                .table("customers")
                .rows
                .iter()
                .filter(|row| policy.row(row, caller))
                .map(|row| row["id"].as_i64().unwrap())
                .take(policy.cap(caller))
                .collect();
            let answer = stack.get("/shop/customers.json?_shape=objects&_size=max").token(token).send();
            assert_eq!(answer.status, 200, "seed {seed}: {} {}", answer.text(), policy.document());
            let got: Vec<i64> = answer.rows().iter().map(|row| row["id"].as_i64().unwrap()).collect();
            assert_eq!(got, expected, "seed {seed}, round {round}, {caller:?}: {}", policy.document());
        }

        let requests: Vec<(usize, String, Option<(&str, &str)>)> = (0..cases.div_ceil(policies))
            .map(|_| {
                let header = match random.below(30) {
                    0 => Some(("x-original-url", "/shop/employees.json")),
                    1 => Some(("x-http-method-override", "POST")),
                    2 => Some(("if-none-match", "\"a\"")),
                    3 => Some(("range", "bytes=0-10")),
                    4 => Some(("accept-encoding", "gzip")),
                    5 => Some(("x-doorward-user", "root")),
                    6 => Some(("x-doorward-role", "ai-agent")),
                    _ => None,
                };
                (random.below(callers.len()), hostile(&mut random, &columns), header)
            })
            .collect();
        let next = AtomicUsize::new(0);
        let results: Vec<(usize, u16)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut results = Vec::new();
                        while let Some((who, path, header)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let say = |what: &str| {
                                format!(
                                    "seed {seed}, round {round}: {what}\n{path} {header:?}\n{:?}\n{}",
                                    callers[*who],
                                    policy.document()
                                )
                            };
                            let a = ask(stack.envoy.port, path, &tokens[*who], *header);
                            let b = ask(twin_envoy.port, path, &tokens[*who], *header);
                            assert!(a.status > 0 && a.status != 503, "{}", say(&a.text()));
                            match check(path, &shop, &policy, &callers[*who], &a) {
                                Ok(rows) => results.push((rows, a.status)),
                                Err(problem) => panic!("{}\n{}", say(&problem), a.text()),
                            }
                            assert_eq!(comparable(&a), comparable(&b), "{}", say("the twins differ"));
                        }
                        results
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        total += results.len();
        with_rows += results.iter().filter(|(rows, _)| *rows > 0).count();
        denied += results.iter().filter(|(_, status)| *status >= 400).count();
    }
    println!("{total} requests: {with_rows} brought rows, {denied} were refused");
    assert!(with_rows * 20 > total && denied * 5 > total, "the requests do not test both sides: {with_rows}, {denied}");
}

#[test]
fn a_policy_that_permits_everything_changes_no_answer() {
    let stack = Stack::start(
        300,
        "kind: AccessRole\nmetadata: { name: app-all }\nspec:\n  grants:\n    - { service: shop, components: [customers, orders, \
         products, employees], verbs: [GET], fields: { read: [\"*\"] } }\n---\nkind: AccessBinding\nmetadata: { name: all }\nspec: \
         { role: app-all, subjects: [{ anyUser: true }] }\n",
    );
    let token = stack.issuer.token("ann", &[], "west");
    for table in ["customers", "orders", "products", "employees"] {
        for query in [
            "",
            "_size=7",
            "_size=max",
            "_sort_desc=id&_size=3",
            "_shape=array&_size=9",
            "_shape=objects",
            "_shape=object",
            "_shape=arrayfirst",
            "id__gt=20&id__lt=40",
            "_where=id+%3C+9",
            "_where=id+in+(1,2,3)+or+id+%3D+50",
            "_facet=id",
            "_next=12",
            "_next=100&_size=5",
            "id__in=1,5,77777",
            "_nocount=1&_size=2",
            "id__isnull=1",
        ] {
            let path = format!("/shop/{table}.json?{query}");
            let through = stack.get(path.trim_end_matches('?')).token(&token).send();
            let direct = stack.direct(path.trim_end_matches('?')).send();
            assert_eq!((through.status, direct.status), (200, 200), "{path}: {}", through.text());
            // Columns come in the order of their names, so rows compare as objects.
            assert!(through.rows() == direct.rows(), "{path}: the rows differ");
            let (a, b) = (through.json(), direct.json());
            if a.is_array() {
                assert!(a == b, "{path}: the lists differ");
            } else if !path.contains("_shape=object&") && !path.ends_with("_shape=object") {
                for (name, value) in a.as_object().unwrap() {
                    match name.as_str() {
                        "rows" => {}
                        "columns" => {
                            let set = |value: &Value| -> BTreeSet<String> {
                                value.as_array().unwrap().iter().map(Value::to_string).collect()
                            };
                            assert_eq!(set(value), set(&b[name]), "{path}");
                        }
                        // With an explicit order, a cursor begins with the sort column's value.
                        "next" => assert_eq!(value.is_null(), b[name].is_null(), "{path}"),
                        "facet_results" => {
                            for (facet, result) in value.as_object().unwrap() {
                                let counts = |value: &Value| -> Vec<(Value, Value)> {
                                    let list = value["results"].as_array().unwrap();
                                    list.iter().map(|entry| (entry["value"].clone(), entry["count"].clone())).collect()
                                };
                                assert_eq!(counts(result), counts(&b[name][facet]), "{path}: {facet}");
                            }
                        }
                        _ => assert_eq!(value, &b[name], "{path}: {name}"),
                    }
                }
            }
        }
        let row = format!("/shop/{table}/5.json?_shape=objects");
        assert_eq!(stack.get(&row).token(&token).send().rows(), stack.direct(&row).send().rows());
    }
}
