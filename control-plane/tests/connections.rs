//! Hostile and unlucky clients: connections that never speak, clients that take what they can, certificates that expire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    collections::VecDeque,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Authority, Proxy, Server, connect, role};
use doorward_proto::v1::{
    Hello, Label, ListProxiesRequest, ProxyIdentity, SubscribeRequest, admin_client::AdminClient,
    policy_discovery_client::PolicyDiscoveryClient, subscribe_request::Message as Request,
};
use doorward_test_support::wait_async;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};

const SOON: Duration = Duration::from_secs(5);
const PROXY: &str = "spiffe://corp/ns/edge/sa/envoy-1";
const HOSTILE: &str = "spiffe://corp/ns/edge/sa/envoy-2";

fn named(node: &str) -> ProxyIdentity {
    ProxyIdentity { node: node.into(), ..Default::default() }
}

/// Arguments for mutual TLS.
fn tls(root: &Path, authority: &Authority) -> Vec<String> {
    authority.write(root, "server", &["localhost"]);
    std::fs::write(root.join("ca.crt"), &authority.pem).unwrap();
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let mut args = vec!["--tls-cert".to_owned(), path("server.crt"), "--tls-key".to_owned(), path("server.key")];
    args.extend(["--tls-client-ca".to_owned(), path("ca.crt")]);
    args.extend(["--client".to_owned(), "proxy=spiffe://corp/ns/edge/*,admin=ops.corp".to_owned()]);
    args
}

fn hello(change: impl FnOnce(&mut ProxyIdentity)) -> SubscribeRequest {
    let mut proxy = ProxyIdentity { node: "node".into(), ..Default::default() };
    change(&mut proxy);
    let hello = Hello { protocol_version: 1, proxy: Some(proxy), scope: "default".into(), ..Default::default() };
    SubscribeRequest { message: Some(Request::Hello(hello)) }
}

/// Subscribes and keeps the stream; the status if it is refused.
async fn subscribe(channel: Channel, hello: SubscribeRequest) -> Result<impl Sized, Status> {
    // The stream ends when both of its directions are dropped.
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    requests.send(hello).await.unwrap();
    let mut updates = PolicyDiscoveryClient::new(channel).subscribe(ReceiverStream::new(stream)).await?.into_inner();
    updates.next().await.unwrap()?;
    Ok((requests, updates))
}

/// Seconds of processor time that the server has used.
fn cpu(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Many connections that say nothing, opened anew as soon as the server has closed one.
struct Silent {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Silent {
    fn start(port: u16, count: usize, pause: Duration) -> Self {
        let (stop, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopping, counter) = (Arc::clone(&stop), Arc::clone(&opened));
        let thread = std::thread::spawn(move || {
            let mut open = VecDeque::new();
            while !stopping.load(Ordering::Relaxed) {
                if let Ok(stream) = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)) {
                    open.push_back(stream);
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                if open.len() > count {
                    open.pop_front();
                    // The rate at which new ones come; without it this thread would take the core that the server needs.
                    std::thread::sleep(pause);
                }
            }
        });
        Self { stop, opened, thread: Some(thread) }
    }

    async fn reach(&self, count: usize) {
        wait_async("so many silent connections", Duration::from_secs(180), async || {
            (self.opened.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await;
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_never_speak_keep_nobody_out() {
    // Of this process, which holds the other ends.
    let descriptors = usize::try_from(doorward::connections::descriptors()).unwrap();
    let wanted = std::env::var("DOORWARD_TEST_CONNECTIONS").map_or(1_100, |count| count.parse().unwrap());
    let count = wanted.min(descriptors - 200);
    for mutual in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let args = if mutual { tls(dir.path(), &authority) } else { vec![] };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let server = Server::start_with_descriptors(dir.path(), &args, 256);
        server.write("a.yaml", &role("a", "x"));
        let silent = Silent::start(server.grpc, count, Duration::from_millis(2));
        silent.reach(count).await;
        let before = (Instant::now(), cpu(&server));
        let started = Instant::now();
        let channel = if mutual {
            connect(&server, &authority, Some(authority.issue(&[PROXY]))).await.unwrap()
        } else {
            server.channel().await
        };
        let mut proxy = Proxy::connect_over(channel, &server, named("node"), Vec::new(), 0).await;
        let (_, first) = proxy.policy(SOON).await.unwrap();
        let first_policy = started.elapsed();
        let edited = Instant::now();
        server.write("b.yaml", &role("b", "y"));
        let (_, second) = proxy.policy(SOON).await.unwrap();
        assert!(second.epoch > first.epoch);
        let edit = edited.elapsed();
        // Time for the share of a core to be a share of.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let share = (cpu(&server) - before.1) / before.0.elapsed().as_secs_f64();
        eprintln!(
            "{count} silent connections held, {} opened, certificates {mutual}: first policy after {first_policy:?}, an edit after {edit:?}, \
            {share:.2} of a core",
            silent.opened.load(Ordering::Relaxed)
        );
        assert!(share < 0.7, "accepting takes {share} of a core");
        assert!(server.get("/healthz").contains("200 OK"));
        assert!(server.get("/metrics").contains("doorward_connections_refused_total"));
    }
}

#[test]
fn the_metrics_port_answers_beside_connections_that_never_speak() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with_descriptors(dir.path(), &[], 256);
    let _silent: Vec<_> = (0..300).map(|_| TcpStream::connect(("127.0.0.1", server.http)).unwrap()).collect();
    for _ in 0..50 {
        assert!(server.get("/healthz").contains("200 OK"));
    }
}

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let mut args = tls(dir.path(), &authority);
    args.extend(["--max-connections".to_owned(), "16".to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::start(dir.path(), &args, None);
    let (mut held, mut refused) = (vec![], vec![]);
    for at in 0..40 {
        let channel = connect(&server, &authority, Some(authority.issue(&[HOSTILE]))).await.unwrap();
        match subscribe(channel, hello(|proxy| proxy.node = format!("h{at}"))).await {
            Ok(stream) => held.push(stream),
            Err(status) => refused.push(status),
        }
    }
    assert_eq!((held.len(), refused.len()), (8, 32));
    let said = |status: &Status| status.code() == Code::ResourceExhausted && status.message().contains("connections");
    assert!(refused.iter().all(said), "{:?}", refused[0]);
    let channel = connect(&server, &authority, Some(authority.issue(&[PROXY]))).await.unwrap();
    assert!(subscribe(channel, hello(|_| {})).await.is_ok());
    drop(held);
    wait_async("what is closed to be free again", SOON, async || {
        let channel = connect(&server, &authority, Some(authority.issue(&[HOSTILE]))).await.unwrap();
        subscribe(channel, hello(|_| {})).await.ok()
    })
    .await;
}

#[tokio::test]
async fn large_hellos_are_refused_with_a_sentence_and_many_proxies_are_listed_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let args = tls(dir.path(), &authority);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::start(dir.path(), &args, None);
    let hostile = connect(&server, &authority, Some(authority.issue(&[HOSTILE]))).await.unwrap();
    for at in 0..75 {
        let large = hello(|proxy| (proxy.node, proxy.cluster) = (format!("h{at}"), "x".repeat(60_000)));
        let refused = subscribe(hostile.clone(), large).await.err().unwrap();
        assert!(refused.message().contains("16384"), "{refused:?}");
        let long = hello(|proxy| (proxy.node, proxy.cluster) = (format!("h{at}"), "x".repeat(6_000)));
        let refused = subscribe(hostile.clone(), long).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("`cluster`") && refused.message().contains("256"), "{refused:?}");
    }
    let label = Label { name: "n".repeat(64), value: "v".repeat(256) };
    let mut held = vec![];
    for connection in 0..3 {
        let channel = connect(&server, &authority, Some(authority.issue(&[HOSTILE]))).await.unwrap();
        for at in 0..120 {
            let hello = hello(|proxy| {
                (proxy.node, proxy.labels) = (format!("{:0>250}", connection * 120 + at), vec![label.clone(); 16]);
            });
            held.push(subscribe(channel.clone(), hello).await.unwrap());
        }
    }
    let admin = connect(&server, &authority, Some(authority.issue(&["ops.corp"]))).await.unwrap();
    let page = AdminClient::new(admin).list_proxies(ListProxiesRequest::default()).await.unwrap().into_inner();
    assert!(!page.next_page_token.is_empty() && page.proxies.len() < 360, "{}", page.proxies.len());
    authority.write(dir.path(), "admin", &["ops.corp"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["proxies", "--format", "json", "--server", &format!("https://localhost:{}", server.grpc)]);
    for (flag, file) in [("--ca", "ca.crt"), ("--cert", "admin.crt"), ("--key", "admin.key")] {
        command.arg(flag).arg(dir.path().join(file));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("\"node\"").count(), 360);
}

#[tokio::test]
async fn rights_end_with_the_certificate_on_open_connections_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let args = tls(dir.path(), &authority);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::start(dir.path(), &args, None);
    server.write("a.yaml", &role("a", "x"));
    let lasting = connect(&server, &authority, Some(authority.issue(&[PROXY]))).await.unwrap();
    let mut lasting = Proxy::connect_over(lasting, &server, named("lasting"), Vec::new(), 0).await;
    let short = authority.issue_for(&[HOSTILE], Duration::from_secs(4));
    let short = connect(&server, &authority, Some(short)).await.unwrap();
    let mut proxy = Proxy::connect_over(short.clone(), &server, named("short"), Vec::new(), 0).await;
    assert!(proxy.policy(SOON).await.is_some());
    let ended = async {
        loop {
            if let Err(status) = proxy.updates.next().await.unwrap() {
                break status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(8), ended).await.unwrap();
    assert!(status.code() == Code::Unauthenticated && status.message().contains("expired"), "{status:?}");
    // Neither is anything new begun, on this connection or on a new one.
    assert!(subscribe(short.clone(), hello(|_| {})).await.is_err());
    // Nor later: what never happens cannot be awaited.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(subscribe(short, hello(|_| {})).await.is_err());
    // The other one was sent its policy, and is still told of edits.
    assert!(lasting.policy(SOON).await.is_some());
    server.write("b.yaml", &role("b", "y"));
    assert!(lasting.policy(SOON).await.is_some());
}

#[tokio::test]
async fn a_connection_has_a_greatest_age() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--max-connection-age", "1s"], None);
    let channel = server.channel().await;
    let list = async || AdminClient::new(channel.clone()).list_proxies(ListProxiesRequest::default()).await;
    list().await.unwrap();
    let connections = || {
        let text = server.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix("doorward_connections ")).unwrap().to_owned()
    };
    assert_eq!(connections(), "1");
    wait_async("the server to close it", Duration::from_secs(2), async || (connections() == "0").then_some(())).await;
    list().await.unwrap();
}
