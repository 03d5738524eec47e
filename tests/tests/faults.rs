//! What happens while something is missing, late, forged or old: it stays closed or in force, and no record is lost.
#![allow(clippy::type_complexity, reason = "tests")]

use doorward_proto::v1::{
    Hello, Outcome, PolicyEnvelope, PolicyUpdate, ProxyIdentity, QueryRequest, RecordKind, StoredRecord,
    SubscribeRequest, UpdateResult,
    policy_discovery_client::PolicyDiscoveryClient,
    policy_discovery_server::{PolicyDiscovery, PolicyDiscoveryServer},
    subscribe_request::Message,
};
use doorward_tests::{
    control,
    data::Shop,
    http,
    stack::{ControlPlane, Datasette, Envoy, EnvoyOptions, OLDEST_ENVOY, SHOP_SERVICE, Stack, in_both_workers},
    token::Issuer,
    wait,
};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

const LIMIT: Duration = Duration::from_secs(30);
const PAGE: &str = "/shop/products.json?_shape=objects&_size=3";

/// Everybody may read these columns of the products.
fn policy(columns: &str, more: &str) -> String {
    format!(
        "{}kind: AccessRole\nmetadata: {{ name: app-reader }}\nspec:\n  {more}\n  grants:\n    - {{ service: shop, components: \
         [products], verbs: [GET], fields: {{ read: [{columns}] }} }}\n---\nkind: AccessBinding\nmetadata: {{ name: readers \
         }}\nspec: {{ role: app-reader, subjects: [{{ anyUser: true }}] }}\n",
        SHOP_SERVICE
    )
}

fn all_records(grpc: u16) -> Vec<StoredRecord> {
    let (mut found, mut after) = (Vec::<StoredRecord>::new(), 0);
    loop {
        let page = control::records(grpc, QueryRequest { limit: 1000, after_cursor: after, ..Default::default() });
        let Some(last) = page.last() else { return found };
        after = last.cursor;
        found.extend(page);
    }
}

/// Each emitter's sequence is 1, 2, 3 … without a hole, a duplicate or a gap record.
fn assert_complete(records: &[StoredRecord]) {
    let mut chains: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for stored in records {
        let record = stored.record.as_ref().unwrap();
        assert_ne!(record.kind, i32::from(RecordKind::Gap), "{record:?}");
        chains.entry(record.emitter.clone()).or_default().push(record.sequence);
    }
    assert!(!chains.is_empty());
    for (emitter, sequence) in chains {
        assert!(sequence.iter().copied().eq(1..=sequence.len() as u64), "{emitter}: {sequence:?}");
    }
}

fn columns(answer: &http::Response) -> Vec<String> {
    answer.rows().first().map(|row| row.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn closed_without_a_policy_and_enforcing_without_the_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let datasette = Datasette::start(folder.path(), "shop", &Shop::new(7, 50));
    let issuer = Issuer::rs256("https://idp.test");
    let token = issuer.token("ann", &[], "west");
    let mut control = ControlPlane::prepare(folder.path(), &(issuer.document("corp") + &policy("id, name", "")));
    control.start();
    control.kill();

    // Absent at start: closed, and it stays so.
    // Each denial of this test has its record.
    let options = r#", "audit": { "repeatsInFull": 1000, "unidentifiedPerSecond": 1000 }"#;
    let options = EnvoyOptions { options, ..control.options("envoy-1", datasette.port) };
    let envoy = Envoy::start(folder.path(), &options);
    for _ in 0..10 {
        http::get(envoy.port, PAGE).token(&token).send().denied(503, "policy_unavailable");
    }
    control.start();
    in_both_workers("policy", LIMIT, || http::get(envoy.port, PAGE).token(&token).send().status == 200);

    // Killed: known and new tokens are still decided as before.
    let ids = Mutex::new(BTreeSet::new());
    let ask = || {
        for at in 0..60 {
            let token = if at % 2 == 0 { token.clone() } else { issuer.token(&format!("user-{at}"), &[], "west") };
            assert_eq!(http::get(envoy.port, PAGE).token(&token).send().status, 200);
            let denied = http::get(envoy.port, "/shop/products.json?_col=cost").token(&token).send();
            denied.denied(403, "field_denied");
            ids.lock().unwrap().insert(denied.json()["decision_id"].as_str().unwrap().to_owned());
        }
    };
    for _ in 0..2 {
        ask();
        control.kill();
        ask();
        control.start();
    }
    let wanted = ids.into_inner().unwrap();
    assert_eq!(wanted.len(), 240);
    let records = wait("every record", Duration::from_secs(60), || {
        let records = all_records(control.grpc);
        let have: BTreeSet<_> =
            records.iter().map(|stored| stored.record.as_ref().unwrap().decision_id.clone()).collect();
        wanted.is_subset(&have).then_some(records)
    });
    assert_complete(&records);
    for id in &wanted {
        let times = records.iter().filter(|stored| {
            let record = stored.record.as_ref().unwrap();
            record.decision_id == *id && record.kind == i32::from(RecordKind::Decision)
        });
        assert_eq!(times.count(), 1, "{id}");
    }
}

#[test]
fn a_required_record_that_nobody_acknowledges_denies() {
    let mut stack = Stack::start(50, policy("id, name", "audit: required").strip_prefix(SHOP_SERVICE).unwrap());
    let token = stack.issuer.token("ann", &[], "west");
    assert_eq!(stack.get(PAGE).token(&token).send().status, 200);
    stack.control.kill();
    wait("the missing acknowledgement to show", LIMIT, || {
        let answer = stack.get(PAGE).token(&token).send();
        (answer.code() == "audit_unavailable").then(|| answer.denied(503, "audit_unavailable"))
    });
    stack.control.start();
    wait("recovery", LIMIT, || (stack.get(PAGE).token(&token).send().status == 200).then_some(()));
    wait("complete records", LIMIT, || (all_records(stack.control.grpc).len() > 1).then_some(()));
    assert_complete(&all_records(stack.control.grpc));
}

#[test]
fn a_backlog_that_overflows_is_told_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::new(7, 50);
    let datasette = Datasette::start(folder.path(), "shop", &shop);
    let options = r#", "audit": { "maxRecords": 20 }"#;
    let mut stack = Stack::over(folder, datasette.port, shop, &policy("id, name", ""), options);
    let token = stack.issuer.token("ann", &[], "west");
    stack.control.kill();
    for _ in 0..150 {
        let answer = stack.get(PAGE).token(&token).send();
        assert!(answer.status == 200 || answer.code() == "audit_unavailable", "{}", answer.text());
    }
    stack.control.start();
    // Whatever could not be kept is counted: sequences go on, and gap records say how many are missing.
    let records = wait("the gap", Duration::from_secs(60), || {
        let _ = stack.get(PAGE).token(&token).send();
        let records = all_records(stack.control.grpc);
        let gaps = records.iter().filter(|stored| stored.record.as_ref().unwrap().gap > 0).count();
        (gaps > 0).then_some(records)
    });
    let mut chains: BTreeMap<String, u64> = BTreeMap::new();
    for stored in &records {
        let record = stored.record.as_ref().unwrap();
        let last = chains.entry(record.emitter.clone()).or_default();
        assert_eq!(record.sequence, *last + 1, "{record:?}");
        *last = record.sequence;
    }
    let missing: u64 = records.iter().map(|stored| stored.record.as_ref().unwrap().gap).sum();
    assert!((1..=300).contains(&missing), "{missing}");
}

// ---- forged policy --------------------------------------------------------------------------

/// A control plane that sends what the test tells it, and keeps the answers.
struct Forger {
    send: Arc<Mutex<Vec<mpsc::UnboundedSender<Result<PolicyUpdate, Status>>>>>,
    answers: Arc<Mutex<Vec<UpdateResult>>>,
}

#[tonic::async_trait]
impl PolicyDiscovery for Forger {
    type SubscribeStream = UnboundedReceiverStream<Result<PolicyUpdate, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (mut stream, answers) = (request.into_inner(), Arc::clone(&self.answers));
        let senders = Arc::clone(&self.send);
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                match message.message {
                    Some(Message::Hello(_)) => senders.lock().unwrap().push(sender.clone()),
                    Some(Message::Result(result)) => answers.lock().unwrap().push(result),
                    None => {}
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

/// What the control plane would push to a new proxy.
fn signed_update(grpc: u16) -> PolicyUpdate {
    control::runtime().block_on(async {
        let mut client = PolicyDiscoveryClient::connect(format!("http://127.0.0.1:{grpc}")).await.unwrap();
        let (sender, receiver) = mpsc::channel(1);
        let proxy = Some(ProxyIdentity { node: "onlooker".into(), ..Default::default() });
        let hello = Hello { protocol_version: 1, proxy, scope: "default".into(), ..Default::default() };
        sender.send(SubscribeRequest { message: Some(Message::Hello(hello)) }).await.unwrap();
        let mut updates = client.subscribe(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        loop {
            let update = updates.message().await.unwrap().unwrap();
            if !update.heartbeat {
                return update;
            }
        }
    })
}

fn epoch_of(update: &PolicyUpdate) -> u64 {
    PolicyEnvelope::decode(update.envelope.as_slice()).unwrap().epoch
}

#[test]
fn forged_old_and_cut_policies_are_refused_and_the_old_one_stays() {
    let mut stack = Stack::start(50, policy("id, price", "").strip_prefix(SHOP_SERVICE).unwrap());
    let token = stack.issuer.token("ann", &[], "west");
    let first = signed_update(stack.control.grpc);
    stack.policies(&policy("id, name", ""));
    assert_eq!(columns(&stack.get(PAGE).token(&token).send()), ["id", "name"]);
    // A third policy that the proxy never gets from the control plane itself.
    let mut other = ControlPlane::prepare(&stack.folder.path().join("other"), "");
    std::fs::create_dir_all(other.folder.join("data")).unwrap();
    for file in std::fs::read_dir(stack.control.folder.join("data")).unwrap().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), other.folder.join("data").join(file.file_name())).unwrap();
        }
    }
    let second = epoch_of(&signed_update(stack.control.grpc));
    stack.control.kill();
    for file in std::fs::read_dir(stack.control.folder.join("data")).unwrap().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), other.folder.join("data").join(file.file_name())).unwrap();
        }
    }
    other.write(&(stack.issuer.document("corp") + &policy("id, category", "")));
    other.start();
    let third = wait("the third policy", LIMIT, || {
        let update = signed_update(other.grpc);
        (epoch_of(&update) > second).then_some(update)
    });
    other.kill();

    let forger = Forger { send: Arc::default(), answers: Arc::default() };
    let (senders, answers) = (Arc::clone(&forger.send), Arc::clone(&forger.answers));
    let address = format!("127.0.0.1:{}", stack.control.grpc).parse().unwrap();
    control::runtime().spawn(async move {
        tonic::transport::Server::builder()
            .add_service(PolicyDiscoveryServer::new(forger))
            .serve(address)
            .await
            .unwrap();
    });
    wait("the proxy to come", LIMIT, || (!senders.lock().unwrap().is_empty()).then_some(()));

    let mut nonce = 0;
    let mut push = |update: PolicyUpdate| -> UpdateResult {
        nonce += 1;
        let update = PolicyUpdate { nonce: nonce.to_string(), ..update };
        let mut told = 0;
        wait("an answer", LIMIT, || {
            // The stream may be made anew in between: then the update goes over the new one too.
            let senders = senders.lock().unwrap();
            senders.iter().skip(told).for_each(|sender| drop(sender.send(Ok(update.clone()))));
            told = senders.len();
            answers.lock().unwrap().iter().find(|answer| answer.nonce == update.nonce).cloned()
        })
    };
    let mut bad_signature = third.clone();
    bad_signature.signature[5] ^= 1;
    let mut bad_envelope = third.clone();
    *bad_envelope.envelope.last_mut().unwrap() ^= 1;
    let mut cut = third.clone();
    cut.payload.truncate(cut.payload.len() / 2);
    let mut nothing = third.clone();
    nothing.payload.clear();
    let mut noise = third.clone();
    noise.envelope = vec![0xff; 40];
    for (what, update, codes) in [
        ("signature", bad_signature, &["bad_signature"][..]),
        ("envelope", bad_envelope, &["bad_signature", "malformed", "unknown_key"]),
        ("payload cut", cut, &["digest_mismatch"]),
        ("no payload", nothing, &["digest_mismatch"]),
        ("noise", noise, &["malformed"]),
        ("old epoch", first, &["rollback"]),
    ] {
        let answer = push(update);
        assert_eq!(answer.outcome, i32::from(Outcome::Rejected), "{what}: {answer:?}");
        assert!(codes.contains(&answer.code.as_str()), "{what}: {answer:?}");
        assert!(!answer.message.is_empty());
        for _ in 0..6 {
            assert_eq!(columns(&stack.get(PAGE).token(&token).send()), ["id", "name"], "{what}");
        }
    }
    let answer = push(third);
    assert_eq!(answer.outcome, i32::from(Outcome::Accepted), "{answer:?}");
    in_both_workers("the third policy", LIMIT, || columns(&stack.get(PAGE).token(&token).send()) == ["id", "category"]);
}

#[test]
fn a_refused_policy_is_seen_by_the_operator() {
    let mut stack = Stack::start(50, policy("id, name", "").strip_prefix(SHOP_SERVICE).unwrap());
    let token = stack.issuer.token("ann", &[], "west");
    // Another control plane, with another signing key, at the same address.
    stack.control.kill();
    std::fs::rename(stack.control.folder.join("data"), stack.control.folder.join("data-before")).unwrap();
    stack.control.write(&(stack.issuer.document("corp") + &policy("id, name, price, cost, category", "")));
    stack.control.start();
    let rejected = wait("the refusal", LIMIT, || {
        let list = control::proxies(stack.control.grpc)?;
        list.proxies.into_iter().find_map(|proxy| proxy.last_rejection)
    });
    assert_eq!(rejected.code, "unknown_key", "{rejected:?}");
    for _ in 0..10 {
        assert_eq!(columns(&stack.get(PAGE).token(&token).send()), ["id", "name"]);
    }
}

#[test]
fn the_oldest_envoy_enforces_too() {
    let stack = Stack::start(200, policy("id, name", "").strip_prefix(SHOP_SERVICE).unwrap());
    let options = EnvoyOptions { version: OLDEST_ENVOY, ..stack.control.options("envoy-old", stack.upstream) };
    let old = Envoy::start(stack.folder.path(), &options);
    let token = stack.issuer.token("ann", &[], "west");
    let get = |path: &str| http::get(old.port, path).token(&token).send();
    in_both_workers("policy", LIMIT, || get(PAGE).status == 200);
    assert_eq!(columns(&get(PAGE)), ["id", "name"]);
    http::get(old.port, PAGE).send().denied(401, "credential_missing");
    get("/shop/products.json?_sort=cost").denied(403, "field_denied");
    get("/shop/employees.json").denied(403, "component_denied");
    stack.policies(&policy("id, category", ""));
    in_both_workers("the edit", LIMIT, || columns(&get(PAGE)) == ["id", "category"]);
    let denied = get("/shop/products.json?_col=name");
    let id = denied.json()["decision_id"].as_str().unwrap().to_owned();
    wait("its record", LIMIT, || {
        let records = all_records(stack.control.grpc);
        records.iter().any(|stored| stored.record.as_ref().unwrap().decision_id == id).then_some(())
    });
}
