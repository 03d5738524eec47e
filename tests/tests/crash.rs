//! A worker's VM crashes: policy is back without the control plane, and nothing is open meanwhile.

use doorward_proto::v1::QueryRequest;
use doorward_tests::{
    control, crash,
    http::{self, Request, Response},
    process,
    stack::{ControlPlane, ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY},
    token::Issuer,
    upstream::{Answer, Upstream},
    wait,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);
const ITEMS: &str = "/api/v2/db/_table/items";
/// Headers and bytes from which on the module traps.
const HEADERS: u32 = 70;
const BYTES: u32 = 100_000;

fn policy(read: &str) -> String {
    format!(
        "kind: DataService
metadata: {{ name: db }}
spec:
  dialect: dreamfactory
  match: [{{ path: /api/v2/db }}]
  components: {{ _table/items: {{ key: [id], fields: {{ id: integer, name: string, kind: string, cost: string }} }} }}
---
kind: AccessRole
metadata: {{ name: app-user }}
spec:
  grants:
    - {{ service: db, components: [_table/items], verbs: [GET, POST], fields: {{ read: [{read}], write: [name] }} }}
---
kind: AccessBinding
metadata: {{ name: users }}
spec: {{ role: app-user, subjects: [{{ group: users }}] }}
"
    )
}

/// Sends more than it was asked for, whatever it was asked: what hides `cost` is the filter alone.
fn leaky(path: &str) -> Answer {
    let rows = if path.contains("long") { 20_000 } else { 3 };
    let rows: Vec<_> =
        (0..rows).map(|id| format!(r#"{{"id":{id},"name":"open","kind":"open","cost":"secret-cell"}}"#)).collect();
    let mut answer = Answer::json(200, format!(r#"{{"resource":[{}]}}"#, rows.join(",")));
    if path.contains("many") {
        answer.head.extend((0..HEADERS).map(|at| format!("x-more-{at}: 1")));
    }
    answer
}

fn columns(answer: &Response) -> Vec<String> {
    let json = answer.json();
    json["resource"][0].as_object().map(|row| row.keys().cloned().collect()).unwrap_or_default()
}

/// What may come back at any time: what policy says, or that there is nothing.
fn assert_closed(answer: &Response, otherwise: u16) {
    assert!([0, otherwise, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(!answer.text().contains("secret-cell"), "{}", answer.text());
}

fn crash_and_return(version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|seen| leaky(&seen.path));
    let issuer = Issuer::es256("https://idp.test", 7);
    let token = issuer.token("ann", &["users"], "west");
    let mut control = ControlPlane::prepare(folder.path(), &(issuer.document("corp") + &policy("id, name")));
    control.start();

    let module = folder.path().join("trapping.wasm");
    let callbacks = [
        ("proxy_on_request_headers", HEADERS),
        ("proxy_on_request_body", BYTES),
        ("proxy_on_response_headers", HEADERS),
        ("proxy_on_response_body", BYTES),
    ];
    let shipped = std::fs::read(process::filter()).unwrap();
    std::fs::write(&module, crash::trapping(&shipped, &callbacks)).unwrap();
    let options = EnvoyOptions { version, ..control.options("envoy-1", upstream.port) };
    let module = |config: String| config.replace(process::filter().to_str().unwrap(), module.to_str().unwrap());
    let envoy = Envoy::start_edited(folder.path(), &options, &module);
    let get = |path: &str| http::get(envoy.port, path).token(&token);
    let works = |columns_now: &[&str]| (0..16).all(|_| columns(&get(ITEMS).send()) == columns_now).then_some(());
    wait("policy in both workers", LIMIT, || works(&["id", "name"]));

    // From here on nobody but shared data has the policy.
    control.kill();
    let crashes: [(&str, Request); 4] = [
        ("request headers", (0..HEADERS).fold(get(ITEMS), |request, at| request.header(&format!("x-more-{at}"), "1"))),
        ("request body", {
            let text = "a".repeat(BYTES as usize);
            http::request("POST", envoy.port, ITEMS)
                .token(&token)
                .json(&format!(r#"{{"resource":[{{"name":"{text}"}}]}}"#))
        }),
        ("response headers", get(&format!("{ITEMS}?filter=name%3D'many'"))),
        ("response body", get(&format!("{ITEMS}?filter=name%3D'long'"))),
    ];
    let reloads = || {
        let line = envoy.stats();
        line.lines().find_map(|line| line.split_once("vm_reload_success: ")?.1.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert_closed(&get(ITEMS).send(), 200);
                        assert_closed(&http::get(envoy.port, ITEMS).send(), 401);
                        assert_closed(&get(&format!("{ITEMS}?fields=cost")).send(), 403);
                        assert_closed(&get("/api/v2/db/_table/others").send(), 403);
                    }
                })
            })
            .collect();
        for (what, request) in &crashes {
            let before = reloads();
            // Each worker should have its turn.
            for _ in 0..6 {
                let answer = request.send();
                // An answer that has begun is cut off.
                assert_closed(&answer, 200);
                assert!(
                    answer.status != 200 || serde_json::from_slice::<serde_json::Value>(&answer.body).is_err(),
                    "{what}"
                );
            }
            wait("policy after a crash", LIMIT, || works(&["id", "name"]));
            assert!(reloads() > before, "{what}: the VM did not crash: {}", envoy.log());
            get(&format!("{ITEMS}?fields=cost")).send().denied(403, "field_denied");
            http::get(envoy.port, ITEMS).send().denied(401, "credential_missing");
        }
        over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    for seen in upstream.take() {
        assert_eq!(seen.header("x-doorward-user"), Some("ann"), "an undecided request reached the data API: {seen:?}");
        assert!(seen.header("authorization").is_none());
    }

    // The new VMs are full workers: they take the lease and new policy, and their records arrive.
    let denied = get(&format!("{ITEMS}?fields=cost")).send();
    let id = denied.json()["decision_id"].as_str().unwrap().to_owned();
    control.start();
    control.write(&(issuer.document("corp") + &policy("id, kind")));
    wait("new policy after the crashes", LIMIT, || works(&["id", "kind"]));
    wait("the record of a decision made after the crashes", LIMIT, || {
        let records =
            control::records(control.grpc, QueryRequest { limit: 1000, newest_first: true, ..Default::default() });
        records.iter().any(|stored| stored.record.as_ref().unwrap().decision_id == id).then_some(())
    });
    // What the dead VMs had not sent is missing, and the log says of whom.
    wait("a gap record of a worker that crashed", LIMIT, || {
        let records = control::records(control.grpc, QueryRequest { limit: 100_000, ..Default::default() });
        let records = records.into_iter().filter_map(|stored| stored.record);
        let (gaps, others): (Vec<_>, Vec<_>) = records.partition(|record| record.emitter.starts_with("control-plane/"));
        gaps.iter()
            .inspect(|gap| assert_eq!(gap.gap_reason, "emitter_lost"))
            .any(|gap| {
                gap.lost_emitter.starts_with("envoy-1/")
                    && others.iter().any(|record| record.lost_emitter == gap.lost_emitter)
            })
            .then_some(())
    });
}

#[test]
fn a_crashed_worker_has_policy_again_without_the_control_plane_and_opens_nothing_meanwhile() {
    crash_and_return(ENVOY);
}

#[test]
fn so_it_is_on_the_oldest_envoy() {
    crash_and_return(OLDEST_ENVOY);
}
