//! The real binary, and a tonic client that plays a proxy.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support"
)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use doorward_proto::v1::{
    AuditAck, AuditBatch, AuditRecord, Hello, Outcome, PolicyEnvelope, PolicyUpdate, ProxyIdentity, QueryRequest,
    RecordKind, StoredRecord, SubscribeRequest, UpdateResult, admin_client::AdminClient,
    audit_ingest_client::AuditIngestClient, audit_log_client::AuditLogClient,
    policy_discovery_client::PolicyDiscoveryClient, subscribe_request::Message as Request,
};
pub use doorward_test_support::certificate::Authority;
use doorward_test_support::wait;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

pub const ROLE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: NAME }\nspec:\n  description: TEXT\n  grants: []\n";

pub fn role(name: &str, text: &str) -> String {
    ROLE.replace("NAME", name).replace("TEXT", text)
}

pub struct Server {
    pub child: Child,
    pub grpc: u16,
    pub http: u16,
    pub root: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts on `root/policies` and `root/data`. With `file_limit`, files may not grow beyond so many KiB.
    pub fn start(root: &Path, extra: &[&str], file_limit: Option<u32>) -> Self {
        Self::start_on(root, extra, file_limit, free_port())
    }

    /// As [`Self::start`], on this port.
    pub fn start_on(root: &Path, extra: &[&str], file_limit: Option<u32>, grpc: u16) -> Self {
        // An ignored SIGXFSZ stays ignored over exec, so that a write fails with EFBIG as a full disk would with ENOSPC.
        let before = file_limit.map(|kib| format!("trap '' XFSZ; ulimit -f {kib}"));
        Self::start_after(root, extra, before.as_deref(), grpc)
    }

    /// With so many file descriptors.
    pub fn start_with_descriptors(root: &Path, extra: &[&str], descriptors: u32) -> Self {
        Self::start_after(root, extra, Some(&format!("ulimit -n {descriptors}")), free_port())
    }

    /// With these environment variables, as the shell writes them.
    pub fn start_in(root: &Path, extra: &[&str], variables: &str) -> Self {
        Self::start_after(root, extra, Some(&format!("export {variables}")), free_port())
    }

    /// Its log goes to this file, as JSON.
    pub fn start_logging(root: &Path, log: &Path) -> Self {
        let before = format!("exec 2>'{}'", log.display());
        Self::start_after(root, &["--log-format", "json"], Some(&before), free_port())
    }

    /// With policy from this source, and these environment variables.
    pub fn start_from(root: &Path, source: &str, variables: &str) -> Self {
        Self::launch(root, &["--policies", source], &[], Some(&format!("export {variables}")), free_port())
    }

    /// With the documents of a Kubernetes API server: `kubernetes` is the argument that says so.
    pub fn start_watching(root: &Path, kubernetes: &str, extra: &[&str], variables: &str) -> Self {
        Self::launch(root, &[kubernetes], extra, Some(&format!("export {variables}")), free_port())
    }

    fn start_after(root: &Path, extra: &[&str], before: Option<&str>, grpc: u16) -> Self {
        std::fs::create_dir_all(root.join("policies")).unwrap();
        let policies = root.join("policies");
        Self::launch(root, &["--policies", policies.to_str().unwrap()], extra, before, grpc)
    }

    fn launch(root: &Path, source: &[&str], extra: &[&str], before: Option<&str>, grpc: u16) -> Self {
        let http = free_port();
        let binary = env!("CARGO_BIN_EXE_doorward");
        let mut command = match before {
            Some(before) => {
                let mut shell = Command::new("bash");
                shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), binary]);
                shell
            }
            None => Command::new(binary),
        };
        command.arg("serve").args(source).arg("--data").arg(root.join("data"));
        command
            .args(["--listen", &format!("127.0.0.1:{grpc}"), "--metrics-listen", &format!("127.0.0.1:{http}")])
            .args(extra);
        let child = command.stderr(Stdio::inherit()).stdin(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, grpc, http, root: root.to_path_buf() };
        wait("the server to listen", Duration::from_secs(20), || {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended at once");
            TcpStream::connect(("127.0.0.1", grpc)).ok()
        });
        server
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.root.join("policies").join(file), text).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://127.0.0.1:{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await)
    }

    pub async fn log(&self) -> AuditLogClient<Channel> {
        AuditLogClient::new(self.channel().await)
    }

    pub async fn query(&self, request: QueryRequest) -> Vec<StoredRecord> {
        let mut stream = self.log().await.query(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(record) = stream.next().await {
            found.push(record.unwrap());
        }
        found
    }
}

/// A proxy: checks what it gets as the filter does, and remembers what it holds.
pub struct Proxy {
    pub requests: mpsc::Sender<SubscribeRequest>,
    pub updates: Streaming<PolicyUpdate>,
    key: ed25519_compact::PublicKey,
}

impl Proxy {
    pub async fn connect(server: &Server, node: &str, digest: Vec<u8>, epoch: u64) -> Self {
        let proxy = ProxyIdentity { node: node.into(), ..Default::default() };
        Self::connect_as(server, proxy, digest, epoch).await
    }

    pub async fn connect_as(server: &Server, proxy: ProxyIdentity, digest: Vec<u8>, epoch: u64) -> Self {
        Self::connect_over(server.channel().await, server, proxy, digest, epoch).await
    }

    /// Over this connection.
    pub async fn connect_over(
        channel: Channel,
        server: &Server,
        proxy: ProxyIdentity,
        digest: Vec<u8>,
        epoch: u64,
    ) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let key = std::fs::read_to_string(server.root.join("data/policy-signing.pub")).unwrap();
        let key = ed25519_compact::PublicKey::from_slice(&STANDARD.decode(key.trim()).unwrap()).unwrap();
        let (requests, stream) = mpsc::channel(16);
        let hello = Hello { protocol_version: 1, proxy: Some(proxy), scope: "default".into(), digest, epoch };
        requests.send(SubscribeRequest { message: Some(Request::Hello(hello)) }).await.unwrap();
        let mut client = PolicyDiscoveryClient::new(channel);
        let updates = client.subscribe(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Self { requests, updates, key }
    }

    /// The next message within `limit`; an update's signature and hashes are checked.
    pub async fn next(&mut self, limit: Duration) -> Option<(PolicyUpdate, PolicyEnvelope)> {
        let update = tokio::time::timeout(limit, self.updates.next()).await.ok()??.unwrap();
        let envelope = PolicyEnvelope::decode(update.envelope.as_slice()).unwrap();
        if !update.heartbeat {
            let signature = ed25519_compact::Signature::from_slice(&update.signature).unwrap();
            self.key.verify([b"doorward.dev/policy/v1\0", update.envelope.as_slice()].concat(), &signature).unwrap();
            assert_eq!(envelope.payload_sha256, Sha256::digest(&update.payload).to_vec());
            assert_eq!(envelope.digest, envelope.payload_sha256);
        }
        Some((update, envelope))
    }

    /// The next update that is no heartbeat.
    pub async fn policy(&mut self, limit: Duration) -> Option<(PolicyUpdate, PolicyEnvelope)> {
        loop {
            let next = self.next(limit).await?;
            if !next.0.heartbeat {
                return Some(next);
            }
        }
    }

    pub async fn answer(&self, nonce: &str, envelope: &PolicyEnvelope, outcome: Outcome, code: &str) {
        let result = UpdateResult {
            nonce: nonce.into(),
            digest: envelope.digest.clone(),
            epoch: envelope.epoch,
            outcome: outcome.into(),
            code: code.into(),
            ..Default::default()
        };
        self.requests.send(SubscribeRequest { message: Some(Request::Result(result)) }).await.unwrap();
    }
}

/// An emitter that builds its chain.
pub struct Emitter {
    pub name: String,
    pub sequence: u64,
    pub hash: [u8; 32],
}

impl Emitter {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), sequence: 0, hash: [0; 32] }
    }

    pub fn batch(&mut self, count: usize, padding: usize) -> AuditBatch {
        let records = (0..count)
            .map(|_| {
                self.sequence += 1;
                let record = AuditRecord {
                    decision_id: format!("{}-{}", self.name, self.sequence),
                    time_micros: 1_000_000 + self.sequence as i64,
                    emitter: self.name.clone(),
                    sequence: self.sequence,
                    previous_hash: self.hash.to_vec(),
                    kind: RecordKind::Decision.into(),
                    role: if self.sequence.is_multiple_of(2) { "even".into() } else { "odd".into() },
                    trace_id: "x".repeat(padding),
                    ..Default::default()
                };
                let bytes = record.encode_to_vec();
                self.hash = Sha256::new().chain_update(self.hash).chain_update(&bytes).finalize().into();
                bytes
            })
            .collect();
        AuditBatch { emitter: self.name.clone(), records, last_hash: self.hash.to_vec(), ..Default::default() }
    }
}

pub struct Report {
    pub batches: mpsc::Sender<AuditBatch>,
    pub acks: Streaming<AuditAck>,
}

impl Report {
    pub async fn open(server: &Server) -> Self {
        let (batches, stream) = mpsc::channel(16);
        let acks = AuditIngestClient::new(server.channel().await)
            .report(ReceiverStream::new(stream))
            .await
            .unwrap()
            .into_inner();
        Self { batches, acks }
    }

    pub async fn send(&mut self, batch: AuditBatch) -> AuditAck {
        self.batches.send(batch).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.acks.next()).await.unwrap().unwrap().unwrap()
    }
}

pub async fn connect(
    server: &Server,
    trusted: &Authority,
    identity: Option<(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&trusted.pem)).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", server.grpc)).unwrap();
    endpoint.tls_config(tls).unwrap().connect_timeout(Duration::from_secs(5)).connect().await
}
