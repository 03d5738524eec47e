//! The same for DreamFactory, before an emulator of it: reads and writes.

mod judge;
mod requests;

use crate::{
    Row,
    policy::{Caller, Grant, Policy, Target},
    shops::shop,
};
use doorward_tests::{
    Random, emulator,
    http::{self, Request},
    seed,
    stack::Stack,
};
use judge::{check, check_write, stored};
use requests::BASE;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

const SERVICE: &str = "kind: DataService
metadata: { name: shop }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/shop }]
  components:
    _table/customers:
      key: [id]
      fields: { id: integer, first_name: string, last_name: string, company: string, city: string, state: string,
        country: string, region: string, status: string, email: string, phone: string, ssn: string,
        credit_card: string, date_of_birth: date, internal_notes: string, do_not: string, do_: string, xnot: string, band: string,
        xisnull: string, alike: string, starts: string, for_in: string }
      relations: { orders_by_customer_id: _table/orders }
    _table/orders:
      key: [id]
      fields: { id: integer, customer_id: integer, product_id: integer, quantity: integer, total: number,
        status: string, region: string, created_at: timestamp }
    _table/employees: { key: [id], fields: { id: integer, review: string } }
";
/// Columns in whose names the server finds operators, or may.
const WORDS: [&str; 8] = ["do_not", "do_", "xnot", "band", "xisnull", "alike", "starts", "for_in"];
const MORE: &str = "    - { service: shop, components: [_table/orders], verbs: [GET], fields: { read: [id, customer_id, quantity] } }\n";

#[test]
fn through_dreamfactory_nothing_comes_back_and_nothing_is_written_that_the_slow_evaluator_forbids() {
    let seed = seed("dreamfactory");
    let mut random = Random(seed);
    let mut shop = shop();
    let table = shop.table_mut("customers");
    table.columns.extend(WORDS.map(|name| (name, "TEXT")));
    for row in &mut table.rows {
        for (at, name) in WORDS.iter().enumerate() {
            let value = if at % 2 == 0 { row["region"].clone() } else { row["status"].clone() };
            row.insert((*name).into(), value);
        }
    }
    let columns: Vec<_> = shop.table("customers").names().collect();
    let cases: usize = std::env::var("DOORWARD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_200);
    let rounds = (cases / 150).max(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    shop.write(&file);
    let upstream = emulator::start(&file);
    let stack = Stack::over(folder, upstream.port, shop.clone(), SERVICE, "");

    let (mut reads, mut with_rows, mut refused, mut writes, mut written) = (0, 0, 0, 0, 0);
    for round in 0..rounds {
        let policy = Policy { user: Grant::random(&mut random, &columns), agent: Grant::random(&mut random, &columns) };
        let writable: BTreeSet<&str> = ["status", "region", "company"]
            .into_iter()
            .chain(columns.iter().copied().filter(|_| random.one_in(4)))
            .filter(|name| *name != "id")
            .collect();
        let write: Vec<&str> = writable.iter().copied().collect();
        let target = Target {
            service: SERVICE,
            component: "_table/customers",
            verbs: "GET, POST, PUT, PATCH, DELETE",
            write: &write.join(", "),
            more: MORE,
        };
        let document = policy.document_on(&target);
        stack.policies(&document);
        let callers = Caller::four(&mut random, "west') OR ('1'='1");
        let tokens: Vec<String> = callers.iter().map(|caller| caller.token(&stack.issuer)).collect();
        let visible: Vec<Vec<Row>> = callers
            .iter()
            .map(|caller| shop.table("customers").rows.iter().filter(|row| policy.row(row, caller)).cloned().collect())
            .collect();
        let say = |who: usize, request: &Request, what: &str| {
            let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
            let (method, path, headers) = (&request.method, &request.path, &request.headers);
            format!(
                "seed {seed}, round {round}: {what}\n{method} {path} {headers:?} {body}\n{:?}\n{document}",
                callers[who]
            )
        };

        // The honest question gets everything that is allowed, and not a row less.
        for (who, token) in tokens.iter().enumerate() {
            let request = http::get(stack.envoy.port, &format!("{BASE}?order=id"));
            let answer = request.clone().token(token).send();
            assert_eq!(answer.status, 200, "{}\n{}", say(who, &request, "the honest question"), answer.text());
            let json = answer.json();
            let got: Vec<_> = json["resource"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
            let expected: Vec<_> =
                visible[who].iter().map(|row| row["id"].clone()).take(policy.cap(&callers[who])).collect();
            assert_eq!(got, expected, "{}", say(who, &request, "the honest question"));
        }

        let requests: Vec<(usize, Request)> = (0..cases.div_ceil(rounds) * 3 / 4)
            .map(|_| (random.below(callers.len()), requests::read(stack.envoy.port, &mut random, &columns)))
            .collect();
        let next = AtomicUsize::new(0);
        let results: Vec<(usize, u16)> = std::thread::scope(|scope| {
            let work = || {
                let mut results = Vec::new();
                while let Some((who, request)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = request.clone().token(&tokens[*who]).send();
                    assert!(answer.status > 0 && answer.status != 503, "{}", say(*who, request, &answer.text()));
                    match check(request, &shop, &policy, &callers[*who], &visible[*who], &answer) {
                        Ok(rows) => results.push((rows, answer.status)),
                        Err(problem) => panic!("{}\n{}", say(*who, request, &problem), answer.text()),
                    }
                }
                results
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        reads += results.len();
        with_rows += results.iter().filter(|(rows, _)| *rows > 0).count();
        refused += results.iter().filter(|(_, status)| *status >= 400).count();

        let original = stored(&file, &shop);
        for _ in 0..cases.div_ceil(rounds) / 4 {
            let who = random.below(callers.len());
            let request = requests::write(stack.envoy.port, &mut random, &columns);
            let answer = request.clone().token(&tokens[who]).send();
            let after = stored(&file, &shop);
            let changed = check_write(&policy, &callers[who], &writable, &original, &after)
                .unwrap_or_else(|problem| panic!("{}\n{}", say(who, &request, &problem), answer.text()));
            // The answer may show a row as it was, or as it is.
            let mut allowed = visible[who].clone();
            allowed.extend(after.values().filter(|row| policy.row(row, &callers[who])).cloned());
            if let Err(problem) = check(&request, &shop, &policy, &callers[who], &allowed, &answer) {
                panic!("{}\n{}", say(who, &request, &problem), answer.text());
            }
            writes += 1;
            if changed > 0 {
                written += 1;
                shop.replace(&file);
            }
        }
    }
    println!(
        "{reads} reads: {with_rows} brought rows, {refused} were refused; {writes} writes: {written} changed rows"
    );
    assert!(with_rows * 20 > reads && refused * 5 > reads, "the reads do not test both sides: {with_rows}, {refused}");
    assert!(written * 50 > writes, "hardly a write passed: {written} of {writes}");
}
