//! A fleet without Envoys, against a real control plane: `fleet push DOORWARD` tells how long a changed document takes to
//! reach a hundred subscribed proxies, `fleet audit DOORWARD` how many records a second become durable, and when they are
//! acknowledged, `fleet scan DOORWARD` when they are while somebody searches a log of a million and while that is deleted.
//! DOORWARD is the binary; bench/run.sh builds both and calls this.
//!
//! The fleet runs on the same cores as the control plane, so the figures of a control plane alone are better.

use doorward_bench::PROVIDER;
use doorward_policy::audit::Chain;
use doorward_proto::v1::{
    AuditBatch, AuditRecord, Filter, Hello, Outcome, PolicyEnvelope, ProxyIdentity, QueryRequest, RecordDecision,
    RecordKind, RecordOperation, RecordPrincipal, RecordRequest, SubscribeRequest, UpdateResult,
    audit_ingest_client::AuditIngestClient, audit_log_client::AuditLogClient,
    policy_discovery_client::PolicyDiscoveryClient, subscribe_request::Message as Subscribe,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint};

const PROXIES: usize = 100;
const CHANGES: usize = 30;
/// The control plane waits until its directory has looked the same for two times 100 ms.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Each is a worker with a connection of its own.
const EMITTERS: usize = 16;
/// As the filter batches.
const BATCH: usize = 256;
/// Batches that an emitter leaves unanswered.
const IN_FLIGHT: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// After the provider.
const POLICY: &str = "kind: DataService
metadata: { name: people }
spec:
  dialect: datasette
  match: [{ hosts: [data.example.com], path: /db }]
  components: { people: { key: [id], fields: { id: integer, name: string, region: string } } }
---
kind: AccessRole
metadata: { name: support }
spec: { grants: [{ service: people, components: [people], verbs: [GET], fields: { read: [id, name] } }] }
";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["push", binary] => push(&ControlPlane::start(Path::new(binary)).await).await,
        ["audit", binary] => audit(&ControlPlane::start(Path::new(binary)).await).await,
        ["scan", binary] => scan(Path::new(binary)).await,
        _ => panic!("say: fleet push|audit|scan DOORWARD"),
    }
}

/// `doorward serve` with a directory of its own; ends with this.
struct ControlPlane {
    child: Child,
    folder: tempfile::TempDir,
    endpoint: Endpoint,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ControlPlane {
    async fn start(binary: &Path) -> ControlPlane {
        Self::start_in(binary, tempfile::tempdir().expect("a folder for the control plane"), &[]).await
    }

    /// Ends it and starts it again over the same data.
    async fn again(mut self, binary: &Path, arguments: &[&str]) -> ControlPlane {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let empty = tempfile::tempdir().expect("a folder");
        Self::start_in(binary, std::mem::replace(&mut self.folder, empty), arguments).await
    }

    async fn start_in(binary: &Path, folder: tempfile::TempDir, arguments: &[&str]) -> ControlPlane {
        let policies = folder.path().join("policies");
        std::fs::create_dir_all(&policies).expect("a folder for policies");
        std::fs::write(policies.join("policy.yaml"), PROVIDER.to_owned() + POLICY).expect("the policy is written");
        let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let (listen, metrics) = (free().expect("a free port"), free().expect("a free port"));
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new(binary)
            .arg("serve")
            .arg("--policies")
            .arg(&policies)
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--listen", &listen.to_string(), "--metrics-listen", &metrics.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        let endpoint = Endpoint::from_shared(format!("http://{listen}")).expect("an address");
        let this = ControlPlane { child, folder, endpoint };
        let _ = this.connect().await;
        this
    }

    async fn connect(&self) -> Channel {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.endpoint.connect().await {
                Ok(channel) => return channel,
                Err(error) if Instant::now() > until => panic!("the control plane does not answer: {error}"),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// The value below which this share of the sorted values lies, in milliseconds.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |value| value.as_secs_f64() * 1e3)
}

// --- policy ---

/// A proxy: checks what it gets by its hash, answers it, and tells when that was.
async fn subscribe(channel: Channel, number: usize, arrived: mpsc::UnboundedSender<(usize, u64, Instant)>) {
    let (send, requests) = mpsc::channel(4);
    let hello = Hello {
        protocol_version: 1,
        proxy: Some(ProxyIdentity { node: format!("bench-{number}"), ..ProxyIdentity::default() }),
        scope: "default".to_owned(),
        ..Hello::default()
    };
    let _ = send.send(SubscribeRequest { message: Some(Subscribe::Hello(hello)) }).await;
    let mut client = PolicyDiscoveryClient::new(channel).max_decoding_message_size(64 << 20);
    let updates = client.subscribe(ReceiverStream::new(requests)).await.expect("the subscription is taken");
    let mut updates = updates.into_inner();
    while let Some(update) = updates.next().await {
        let update = update.expect("the subscription holds");
        if update.heartbeat {
            continue;
        }
        let envelope = PolicyEnvelope::decode(update.envelope.as_slice()).expect("an envelope");
        assert_eq!(
            Sha256::digest(&update.payload).to_vec(),
            envelope.payload_sha256,
            "the payload is not the signed one"
        );
        let result = UpdateResult {
            nonce: update.nonce,
            digest: envelope.digest,
            epoch: envelope.epoch,
            outcome: Outcome::Accepted.into(),
            ..UpdateResult::default()
        };
        let _ = arrived.send((number, envelope.epoch, Instant::now()));
        if send.send(SubscribeRequest { message: Some(Subscribe::Result(result)) }).await.is_err() {
            return;
        }
    }
}

async fn push(control_plane: &ControlPlane) {
    let write = |change: usize| {
        let mut text = "apiVersion: doorward.dev/v1alpha1\n".to_owned();
        for at in 0..1000 {
            let user = if at == 0 { format!("changed-{change}") } else { format!("user-{at}") };
            let _ = writeln!(
                text,
                "{}kind: AccessBinding\nmetadata: {{ name: b{at} }}\nspec: {{ role: support, subjects: [{{ user: {user}@example.com }}] }}",
                if at == 0 { "" } else { "---\n" }
            );
        }
        let folder = control_plane.folder.path().join("policies");
        // A name with a dot before it is no policy; the rename shows the new text at once.
        std::fs::write(folder.join(".next"), text).expect("the document is written");
        let before = Instant::now();
        std::fs::rename(folder.join(".next"), folder.join("bindings.yaml")).expect("the document is put in place");
        before
    };
    let (send, mut arrived) = mpsc::unbounded_channel();
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..PROXIES {
        fleet.spawn(subscribe(control_plane.connect().await, number, send.clone()));
    }
    // All have the first policy, whose epoch is not the same for those that come late.
    let mut epoch = 0;
    let mut waiting: BTreeSet<usize> = (0..PROXIES).collect();
    while !waiting.is_empty() {
        let (number, have, _) =
            timeout(PATIENCE, arrived.recv()).await.expect("all proxies get policy").expect("proxies");
        waiting.remove(&number);
        epoch = epoch.max(have);
    }
    let (mut all, mut last) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        // Not in step with the control plane's looks at its directory.
        sleep(Duration::from_millis(300 + 37 * change as u64 % 100)).await;
        let before = write(change);
        let mut waiting: BTreeSet<usize> = (0..PROXIES).collect();
        let (mut newest, mut slowest) = (epoch, Duration::ZERO);
        while !waiting.is_empty() {
            let (number, have, at) =
                timeout(PATIENCE, arrived.recv()).await.expect("all proxies get the change").expect("proxies");
            if have > epoch && waiting.remove(&number) {
                newest = newest.max(have);
                slowest = at - before;
                all.push(slowest);
            }
        }
        epoch = newest;
        last.push(slowest);
    }
    fleet.shutdown().await;
    all.sort_unstable();
    last.sort_unstable();
    println!("| from a document's change, {PROXIES} proxies, {CHANGES} changes | p50, ms | p99, ms | most, ms |");
    println!("| --- | --- | --- | --- |");
    for (what, values) in [("until a proxy has it", &all), ("until the last proxy has it", &last)] {
        let [half, most, end] = [0.5, 0.99, 1.0].map(|share| percentile(values, share));
        println!("| {what} | {half:.0} | {most:.0} | {end:.0} |");
        let debounce = DEBOUNCE.as_secs_f64() * 1e3;
        println!(
            "| the same beyond the debounce of {debounce:.0} ms | {:.0} | {:.0} | {:.0} |",
            half - debounce,
            most - debounce,
            end - debounce
        );
    }
}

// --- audit ---

/// A record as the filter makes it for a rewritten request.
fn record(number: usize) -> AuditRecord {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    AuditRecord {
        decision_id: format!("0197b2c8-5d2e-7c4a-9f00-{number:012x}"),
        time_micros: i64::try_from(time.as_micros()).unwrap_or_default(),
        kind: RecordKind::Decision.into(),
        principal: Some(RecordPrincipal {
            user: format!("user{}@example.com", number % 1000),
            provider: "corp".into(),
            groups: vec!["support".into(), "staff".into()],
            token_id: format!("t{number}"),
            token_sha256: "0123456789abcdef".into(),
            ..RecordPrincipal::default()
        }),
        role: "support".into(),
        service: "mysql".into(),
        dialect: "dreamfactory".into(),
        operations: vec![RecordOperation {
            component: "_table/people".into(),
            verb: "GET".into(),
            visible: ["id", "name", "region", "status"].map(Into::into).to_vec(),
            rows: "region = 'EU' AND status = 'active'".into(),
            ..RecordOperation::default()
        }],
        asked: Some(request()),
        sent: Some(request()),
        decision: Some(RecordDecision {
            outcome: "rewrite".into(),
            duration_nanos: 21_000,
            ..RecordDecision::default()
        }),
        bundle_digest: vec![7; 32],
        bundle_epoch: 42,
        source_address: "10.0.0.7".into(),
        ..AuditRecord::default()
    }
}

fn request() -> RecordRequest {
    RecordRequest {
        method: "GET".into(),
        authority: "data.example.com".into(),
        path: "/api/v2/mysql/_table/people".into(),
        sha256: vec![9; 32],
        ..RecordRequest::default()
    }
}

/// `records` in batches, of one emitter.
fn batches(name: &str, records: usize) -> Vec<AuditBatch> {
    let mut chain = Chain::new(name.to_owned());
    let mut out = Vec::new();
    for from in (0..records).step_by(BATCH) {
        let records = (from..records.min(from + BATCH)).map(|number| chain.seal(record(number)).bytes).collect();
        let last_hash = chain.last_hash().to_vec();
        out.push(AuditBatch {
            emitter: name.to_owned(),
            records,
            last_hash,
            node: "bench".into(),
            ..AuditBatch::default()
        });
    }
    out
}

/// Sends the batches, one every `pause` and never more than [`IN_FLIGHT`] unanswered, and gives the time that each took
/// from when it was due to its acknowledgement.
async fn report(channel: Channel, batches: Vec<AuditBatch>, start: Instant, pause: Duration) -> Vec<Duration> {
    let (send, stream) = mpsc::channel(IN_FLIGHT);
    let mut client = AuditIngestClient::new(channel);
    let mut acks = client.report(ReceiverStream::new(stream)).await.expect("the stream is taken").into_inner();
    let mut unanswered: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut taken = Vec::with_capacity(batches.len());
    let (mut sequence, mut due) = (0, start);
    for batch in batches {
        while unanswered.len() >= IN_FLIGHT || (!unanswered.is_empty() && Instant::now() < due) {
            let ack = tokio::select! {
                ack = acks.next() => ack.expect("the stream holds").expect("the stream holds"),
                () = sleep_until(due.into()), if unanswered.len() < IN_FLIGHT => break,
            };
            answered(&ack, &mut unanswered, &mut taken);
        }
        sleep_until(due.into()).await;
        sequence += batch.records.len() as u64;
        unanswered.push_back((sequence, if pause.is_zero() { Instant::now() } else { due }));
        assert!(send.send(batch).await.is_ok(), "the control plane ended the stream");
        due += pause;
    }
    while !unanswered.is_empty() {
        let ack = timeout(PATIENCE, acks.next()).await.expect("an answer in time");
        answered(&ack.expect("the stream holds").expect("the stream holds"), &mut unanswered, &mut taken);
    }
    taken
}

fn answered(ack: &doorward_proto::v1::AuditAck, unanswered: &mut VecDeque<(u64, Instant)>, taken: &mut Vec<Duration>) {
    assert_eq!(ack.error, "", "the control plane refuses a batch");
    while let Some((sequence, since)) = unanswered.front()
        && *sequence <= ack.sequence
    {
        taken.push(since.elapsed());
        unanswered.pop_front();
    }
}

async fn audit(control_plane: &ControlPlane) {
    println!(
        "| load, {EMITTERS} emitters, batches of {BATCH} | records | durable per second | ack p50, ms | p99, ms |"
    );
    println!("| --- | --- | --- | --- | --- |");
    // A first run warms up and is not shown.
    for (run, rate, seconds) in [(0, 0, 2), (1, 0, 6), (2, 10_000, 6), (3, 25_000, 6), (4, 50_000, 6)] {
        let total = if rate == 0 { 50_000 * seconds } else { rate * seconds };
        let prepared: Vec<_> = (0..EMITTERS)
            .map(|number| batches(&format!("bench-{number}/{run}/boot-{run}"), total / EMITTERS))
            .collect();
        let pause = (BATCH * EMITTERS * 1_000_000).checked_div(rate).unwrap_or(0);
        let pause = Duration::from_micros(pause as u64);
        let mut channels = Vec::new();
        for _ in 0..EMITTERS {
            channels.push(control_plane.connect().await);
        }
        let start = Instant::now() + Duration::from_millis(100);
        let tasks: Vec<_> = prepared
            .into_iter()
            .zip(channels)
            // Workers do not send in step.
            .enumerate()
            .map(|(at, (batches, channel))| {
                let start = start + pause * u32::try_from(at).unwrap_or(0) / u32::try_from(EMITTERS).unwrap_or(1);
                tokio::spawn(report(channel, batches, start, pause))
            })
            .collect();
        let mut taken = Vec::new();
        for task in tasks {
            taken.extend(task.await.expect("an emitter ends well"));
        }
        let seconds = start.elapsed().as_secs_f64();
        taken.sort_unstable();
        if run == 0 {
            continue;
        }
        let load = if rate == 0 { "as much as it takes".to_owned() } else { format!("{rate} a second") };
        let sent = total / EMITTERS * EMITTERS;
        #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
        let per_second = sent as f64 / seconds;
        println!(
            "| {load} | {sent} | {per_second:.0} | {:.1} | {:.1} |",
            percentile(&taken, 0.5),
            percentile(&taken, 0.99)
        );
    }
}

// --- searching and deleting ---

/// Records in the log that is searched, and then deleted.
const STORED: usize = 1_000_000;

/// How long it takes until records are acknowledged, at 10,000 a second from a few emitters: half of them, and all but one
/// in a hundred, in milliseconds.
async fn acknowledged(control_plane: &ControlPlane, run: usize, seconds: usize) -> [f64; 2] {
    let (emitters, rate) = (4, 10_000);
    let pause = Duration::from_micros((BATCH * emitters * 1_000_000 / rate) as u64);
    let start = Instant::now() + Duration::from_millis(100);
    let mut tasks = Vec::new();
    for number in 0..emitters {
        let batches = batches(&format!("scan-{number}/{run}/boot"), rate * seconds / emitters);
        tasks.push(tokio::spawn(report(control_plane.connect().await, batches, start, pause)));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.expect("an emitter ends well"));
    }
    taken.sort_unstable();
    [0.5, 0.99].map(|share| percentile(&taken, share))
}

/// A search that finds nothing, so that it reads the whole log.
async fn search(channel: Channel) {
    let filter = Filter { user: "nobody".into(), ..Filter::default() };
    let request = QueryRequest { filter: Some(filter), limit: 1, ..QueryRequest::default() };
    let mut found = AuditLogClient::new(channel).query(request).await.expect("the query is taken").into_inner();
    assert!(found.next().await.is_none(), "nobody is in the log");
}

/// The oldest cursor that is left.
async fn oldest(channel: Channel) -> u64 {
    let request = QueryRequest { limit: 1, ..QueryRequest::default() };
    let mut found = AuditLogClient::new(channel).query(request).await.expect("the query is taken").into_inner();
    found.next().await.map_or(0, |stored| stored.expect("a record").cursor)
}

async fn scan(binary: &Path) {
    let control_plane = ControlPlane::start(binary).await;
    for run in 0..10 {
        let batches = batches(&format!("fill/{run}/boot"), STORED / 10);
        report(control_plane.connect().await, batches, Instant::now(), Duration::ZERO).await;
    }
    println!("| a log of {STORED} records, 10,000 more a second | ack p50, ms | p99, ms |");
    println!("| --- | --- | --- |");
    for (run, searches) in [0, 1, 4].into_iter().enumerate() {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..searches {
            let channel = control_plane.connect().await;
            running.spawn(async move {
                loop {
                    search(channel.clone()).await;
                }
            });
        }
        let [half, most] = acknowledged(&control_plane, run, 8).await;
        running.shutdown().await;
        println!("| {searches} searches at once | {half:.1} | {most:.1} |");
    }
    let start = Instant::now();
    search(control_plane.connect().await).await;
    println!("\nA search over the whole log, alone: {:.1} s", start.elapsed().as_secs_f64());

    let control_plane = control_plane.again(binary, &["--audit-retention", "1s"]).await;
    let start = Instant::now();
    let deleting = async {
        while oldest(control_plane.connect().await).await <= STORED as u64 {
            sleep(Duration::from_millis(50)).await;
        }
        start.elapsed().as_secs_f64()
    };
    let ([half, most], seconds) = tokio::join!(acknowledged(&control_plane, 9, 8), deleting);
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = STORED as f64 / seconds;
    println!(
        "Deleting all of them: {rate:.0} records a second, ack p50 {half:.1} ms, p99 {most:.1} ms for 10,000 more a second"
    );
}
