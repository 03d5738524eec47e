//! What the audit log owes: nothing is answered without a record, a sum or a gap, and nobody fills it at will.

use doorward_proto::v1::{AuditRecord, QueryRequest, RecordKind};
use doorward_tests::{
    control, http,
    stack::{ControlPlane, Envoy, workers_tick},
    token::Issuer,
    upstream::{Answer, Upstream},
    wait,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const ITEMS: &str = "/api/v2/db/_table/items";
const POLICY: &str = "kind: DataService
metadata: { name: db }
spec:
  dialect: dreamfactory
  match: [{ path: /api/v2/db }]
  components: { _table/items: { key: [id], fields: { id: integer, name: string } } }
---
kind: AccessRole
metadata: { name: app-user }
spec: { grants: [{ service: db, components: [_table/items], verbs: [GET], fields: { read: [id, name] } }] }
---
kind: AccessBinding
metadata: { name: users }
spec: { role: app-user, subjects: [{ group: users }] }
";

struct Setup {
    folder: tempfile::TempDir,
    upstream: Upstream,
    token: String,
    control: ControlPlane,
}

impl Setup {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(|_| Answer::json(200, r#"{"resource":[{"id":1,"name":"one"}]}"#.to_owned()));
        let issuer = Issuer::es256("https://idp.test", 7);
        let mut control = ControlPlane::prepare(folder.path(), &(issuer.document("corp") + POLICY));
        control.start();
        Self { folder, upstream, token: issuer.token("ann", &["users"], "west"), control }
    }

    /// An Envoy that has policy, and was asked nothing yet.
    fn envoy(&self) -> Envoy {
        let envoy = Envoy::start(self.folder.path(), &self.control.options("envoy-1", self.upstream.port));
        wait("policy", LIMIT, || {
            let list = control::proxies(self.control.grpc)?;
            list.proxies.iter().any(|proxy| proxy.connected && proxy.current).then_some(())
        });
        workers_tick();
        envoy
    }

    fn records(&self) -> Vec<AuditRecord> {
        let all = QueryRequest { limit: 100_000, ..Default::default() };
        control::records(self.control.grpc, all).into_iter().filter_map(|stored| stored.record).collect()
    }
}

#[test]
fn answers_of_a_proxy_that_never_got_to_report_leave_a_gap_record() {
    let mut setup = Setup::start();
    let envoy = setup.envoy();
    setup.control.kill();
    let answered = (0..300).filter(|_| http::get(envoy.port, ITEMS).token(&setup.token).send().status == 200).count();
    assert!(answered > 250, "{answered}");
    // As by kill -9: what it had to report is gone.
    drop(envoy);
    setup.control.start();
    assert!(setup.records().is_empty(), "nothing was reported");
    let _envoy = setup.envoy();
    let gaps = wait("the gap record", LIMIT, || {
        let records = setup.records();
        let gaps: Vec<_> = records.into_iter().filter(|record| record.kind == i32::from(RecordKind::Gap)).collect();
        (!gaps.is_empty()).then_some(gaps)
    });
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].gap_reason == "emitter_lost" && gaps[0].lost_emitter.starts_with("envoy-1/"), "{gaps:?}");
}

#[test]
fn a_flood_of_denials_is_stored_as_a_few_records_and_one_sum_that_counts_the_others() {
    const FLOOD: u64 = 2_000;
    let setup = Setup::start();
    let envoy = setup.envoy();
    let path = format!("{ITEMS}/{}", "ü".repeat(10_000).replace('ü', "%C3%BC"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..FLOOD / 4 {
                    http::get(envoy.port, &path).send().denied(401, "credential_missing");
                }
            });
        }
    });
    // What is allowed is recorded one by one all the while.
    for _ in 0..200 {
        assert_eq!(http::get(envoy.port, ITEMS).token(&setup.token).send().status, 200);
    }
    let code = |record: &AuditRecord| record.decision.as_ref().map(|decision| decision.code.clone());
    let records = wait("every request to be accounted for", LIMIT, || {
        let records = setup.records();
        let denied = records.iter().filter(|record| code(record).as_deref() == Some("credential_missing"));
        let counted: u64 = denied.map(|record| record.summary.as_ref().map_or(1, |summary| summary.count)).sum();
        assert!(counted <= FLOOD, "{counted}");
        let allowed = records.iter().filter(|record| code(record).as_deref() == Some("")).count();
        (counted == FLOOD && allowed == 200).then_some(records)
    });
    let (mut whole, mut sums, mut allowed) = (0, 0, 0);
    for record in &records {
        match (record.summary.as_ref(), code(record).as_deref()) {
            (Some(summary), _) => {
                sums += 1;
                assert_eq!((record.source_address.as_str(), record.service.as_str()), ("127.0.0.1", "db"));
                assert!(summary.first_micros <= summary.last_micros && record.kind == i32::from(RecordKind::Summary));
            }
            (None, Some("credential_missing")) => {
                whole += 1;
                let asked = record.asked.as_ref().unwrap();
                assert!(asked.path.len() <= 2048 && asked.path.ends_with('…'), "{}", asked.path.len());
                assert_eq!(record.cut, ["asked.path"]);
            }
            _ => allowed += 1,
        }
    }
    assert!((1..=800).contains(&whole) && (1..=20).contains(&sums), "{whole} {sums}");
    assert_eq!(allowed, 200);
    let summed = wait("the figure", LIMIT, || envoy.stat("wasmcustom.doorward.audit.summed"));
    assert_eq!(summed, FLOOD - whole);
}
