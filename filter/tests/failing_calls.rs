//! Every call into the host fails once, on whole walks: nothing unchecked goes on, in either direction.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::{ALICE, JSON, PATH, ROOT, ROWS, SECRETS, World, borrowed, claims, request, token};
use doorward_filter::double::{Double, Exchange, value};
use doorward_proto::v1::{AuditAck, AuditBatch, AuditRecord};
use prost::Message as _;

/// A walk of one request.
#[derive(Clone, Copy)]
struct Walk {
    method: &'static str,
    path: &'static str,
    /// The caller has a token.
    known: bool,
    required: bool,
    /// Only the provider knows the caller.
    asks: bool,
    pieces: &'static [&'static [u8]],
    status: &'static str,
    /// Without any failure, it reaches upstream.
    passes: bool,
}

const READ: Walk = Walk {
    method: "GET",
    path: PATH,
    known: true,
    required: false,
    asks: false,
    pieces: &[],
    status: "200",
    passes: true,
};
const WRITE: &[&[u8]] = &[br#"{"resource":[{"na"#, br#"me":"Eve"}]}"#];
const HIDDEN: &[&[u8]] = &[br#"{"resource":[{"na"#, br#"me":"Eve","ssn":"1"}]}"#];
const TABLE: &str = "/api/v2/mysql/_table/people";

const WALKS: [Walk; 12] = [
    READ,
    Walk { required: true, ..READ },
    Walk { status: "500", ..READ },
    Walk { known: false, passes: false, ..READ },
    Walk { path: "/api/v2/mysql/_table/people?fields=ssn", passes: false, ..READ },
    Walk { method: "POST", path: TABLE, pieces: WRITE, ..READ },
    Walk { method: "POST", path: TABLE, pieces: WRITE, required: true, ..READ },
    Walk { method: "POST", path: TABLE, pieces: HIDDEN, passes: false, ..READ },
    Walk { asks: true, ..READ },
    Walk { asks: true, required: true, ..READ },
    Walk { asks: true, method: "POST", path: TABLE, pieces: WRITE, ..READ },
    Walk { asks: true, method: "POST", path: TABLE, pieces: HIDDEN, passes: false, ..READ },
];

/// What the control plane has.
#[derive(Default)]
struct Ingest {
    records: Vec<AuditRecord>,
}

impl Ingest {
    /// Takes what was sent; acknowledges it on the open stream.
    fn acknowledge(&mut self, host: &Double, world: &World) {
        let mut emitter = String::new();
        for batch in host.take_sent("Report") {
            let batch = AuditBatch::decode(batch.as_slice()).unwrap();
            emitter.clone_from(&batch.emitter);
            self.records.extend(batch.records.iter().map(|record| AuditRecord::decode(record.as_slice()).unwrap()));
        }
        let sequence = self.records.iter().map(|record| record.sequence).max().unwrap_or(0);
        if let (false, Some(token)) = (emitter.is_empty(), host.token("Report")) {
            let ack = AuditAck { emitter, sequence, ..Default::default() };
            host.deliver(&world.worker, ROOT, token, ack.encode_to_vec());
        }
    }
}

/// Walks, and checks what went on. `fails_at`: this call fails; `setup`: counted from the beginning of the worker, else
/// from the beginning of the request; `keeps_failing`: and so do all after it. Gives whether a call failed, and whether the request reached upstream.
fn walk(walk: Walk, setup: bool, fails_at: Option<usize>, keeps_failing: bool) -> (Option<&'static str>, bool) {
    let mut world = World::new(walk.required);
    world.asks.set(walk.asks);
    world.proxy.set().keeps_failing = keeps_failing;
    if setup {
        world.proxy.set().fails_at = fails_at;
    }
    world.configure();
    world.tick(0);
    world.push();
    {
        let mut state = world.proxy.set();
        if !setup {
            (state.fallible, state.fails_at) = (0, fails_at);
        }
    }
    let host = std::mem::take(&mut world.proxy);
    let mut ingest = Ingest::default();
    let mut exchange = Exchange::new(&host, &world.worker, ROOT, 2);
    let token = match (walk.known, walk.asks) {
        (false, _) => String::new(),
        (true, false) => token(),
        (true, true) => "opaque".to_owned(),
    };
    let mut headers = request(walk.method, walk.path, &token);
    if !walk.pieces.is_empty() {
        headers.push(("content-type", "application/json".to_owned()));
        headers.push(("transfer-encoding", "chunked".to_owned()));
    }
    exchange.request(&borrowed(&headers), walk.pieces, true);
    if walk.asks {
        assert!(exchange.upstream.is_none(), "it went on before the answer");
    }
    if let Some(token) = host.token("Introspect") {
        host.deliver(&world.worker, ROOT, token, claims(ALICE));
        exchange.resume();
    }
    check_request(walk, &exchange);
    let mut head = JSON;
    head[0].1 = walk.status;
    let pieces: Vec<&[u8]> = ROWS.as_bytes().chunks(50).collect();
    exchange.response(&head, &pieces);
    check_response(walk, &exchange, &ingest);
    for _ in 0..4 {
        host.tick(&world.worker, ROOT, 100);
        exchange.resume();
        check_response(walk, &exchange, &ingest);
        ingest.acknowledge(&host, &world);
        exchange.resume();
        check_response(walk, &exchange, &ingest);
    }
    // What still waits is denied in the end, or let go where that is allowed.
    for _ in 0..30 {
        host.tick(&world.worker, ROOT, 1_000);
        exchange.resume();
        check_response(walk, &exchange, &ingest);
    }
    exchange.done();
    check_request(walk, &exchange);
    let failed = host.get().failed;
    (failed, exchange.upstream.is_some())
}

/// What reached upstream is allowed, rewritten, and says who the caller is.
fn check_request(walk: Walk, exchange: &Exchange<'_>) {
    let Some((head, body)) = &exchange.upstream else { return };
    assert!(walk.passes, "a request that is not allowed went on");
    assert_eq!(value(head, "x-doorward-user"), "alice@example.com");
    assert_eq!(head.iter().filter(|(name, _)| name == b"x-doorward-user").count(), 1);
    assert_eq!((value(head, "authorization"), value(head, "accept-encoding")), (String::new(), "identity".to_owned()));
    if walk.method == "GET" {
        assert!(value(head, ":path").contains("region"), "{}", value(head, ":path"));
    } else {
        assert!(!String::from_utf8_lossy(body).contains("ssn"));
    }
}

/// What reached the client is filtered, and its record is durable where it has to be.
fn check_response(walk: Walk, exchange: &Exchange<'_>, ingest: &Ingest) {
    let Some((head, body)) = &exchange.client else { return };
    let text = String::from_utf8_lossy(body);
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
    assert_eq!((value(head, "content-length"), value(head, "etag")), (String::new(), String::new()));
    if walk.required {
        assert!(!ingest.records.is_empty(), "the response went before its record");
    }
}

#[test]
fn whichever_call_of_a_request_fails_nothing_unchecked_goes_on() {
    let mut failed = std::collections::BTreeSet::new();
    for (index, of) in WALKS.into_iter().enumerate() {
        assert_eq!(walk(of, false, None, false), (None, of.passes), "walk {index}");
        for at in 0.. {
            walk(of, false, Some(at), true);
            let (name, _) = walk(of, false, Some(at), false);
            let Some(name) = name else { break };
            failed.insert(name);
            assert!(at < 2_000, "the walk has an end");
        }
    }
    for name in [
        "get_headers",
        "set_headers",
        "remove_header",
        "get_buffer",
        "set_buffer",
        "send_local_response",
        "continue_stream",
        "set_effective_context",
        "send_grpc",
        "get_shared",
        "grpc_call",
    ] {
        assert!(failed.contains(name), "{name} never failed: {failed:?}");
    }
}

#[test]
fn whichever_call_of_a_starting_worker_fails_nothing_unchecked_goes_on() {
    let mut failed = std::collections::BTreeSet::new();
    for of in [WALKS[0], WALKS[1], WALKS[3]] {
        for at in 0.. {
            walk(of, true, Some(at), true);
            let (name, _) = walk(of, true, Some(at), false);
            let Some(name) = name else { break };
            failed.insert(name);
            assert!(at < 2_000, "the walk has an end");
        }
    }
    assert!(failed.contains("open_grpc_stream"), "{failed:?}");
}
