//! Requests and responses through the whole filter, on a scripted host.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::{JSON, PATH, ROOT, ROWS, SECRETS, World, borrowed, request, token};
use doorward_filter::{
    double::{Double, Exchange, value},
    proxy::{Direction, GrpcCall, Proxy as _},
};
use doorward_proto::v1::{SubscribeRequest, subscribe_request};
use prost::Message as _;
use std::time::Duration;

fn get<'a>(world: &'a World, context: u32) -> Exchange<'a> {
    let mut exchange = world.exchange(context);
    exchange.request(&borrowed(&request("GET", PATH, &token())), &[], true);
    exchange
}

fn code(exchange: &Exchange<'_>) -> String {
    exchange.answer().map(|(status, code)| format!("{status} {code}")).unwrap_or_default()
}

fn body(exchange: &Exchange<'_>) -> String {
    String::from_utf8(exchange.client.clone().unwrap().1).unwrap()
}

#[test]
fn without_a_configuration_or_a_policy_every_request_is_denied() {
    let world = World::new(false);
    assert_eq!(code(&get(&world, 2)), "503 policy_unavailable");
    world.configure();
    world.tick(0);
    let exchange = get(&world, 3);
    assert_eq!((code(&exchange).as_str(), exchange.upstream.is_none()), ("503 policy_unavailable", true));
    world.proxy.configure(&world.worker, ROOT, "{}");
    assert_eq!(code(&get(&world, 4)), "503 policy_unavailable");
    assert!(world.proxy.get().logs.iter().any(|line| line.contains("controlPlane")));
}

#[test]
fn a_pushed_policy_allows_and_rewrites_and_the_record_is_acknowledged() {
    let mut world = World::ready(false);
    let answers = world.proxy.take_sent("Subscribe");
    let accepted = SubscribeRequest::decode(answers.last().unwrap().as_slice()).unwrap();
    assert!(
        matches!(accepted.message, Some(subscribe_request::Message::Result(result)) if result.epoch == 1 && result.code.is_empty())
    );
    let exchange = get(&world, 2);
    let (head, _) = exchange.upstream.clone().unwrap();
    assert!(value(&head, ":path").contains("region"), "{}", value(&head, ":path"));
    assert_eq!(value(&head, "x-doorward-user"), "alice@example.com");
    assert_eq!(head.iter().filter(|(name, _)| name == b"x-doorward-user").count(), 1, "mallory's is gone");
    assert_eq!((value(&head, "authorization"), value(&head, "accept-encoding")), (String::new(), "identity".into()));
    world.tick(100);
    world.acknowledge();
    assert_eq!((world.records.len(), world.acknowledged), (1, 1));
    let record = &world.records[0];
    assert_eq!(record.decision.as_ref().unwrap().outcome, "rewrite");
    assert_eq!(record.principal.as_ref().unwrap().user, "alice@example.com");
    assert_eq!(world.worker.borrow().active.as_ref().unwrap().emitter.depth(), 0);
}

#[test]
fn a_request_and_its_response_cost_so_many_calls_and_no_more() {
    let world = World::ready(false);
    get(&world, 2);
    world.proxy.set().calls.clear();
    let mut exchange = get(&world, 3);
    let expected = ["now_nanos", "get_headers", "get_property", "now_nanos", "set_headers"];
    assert_eq!(world.proxy.get().calls, expected);
    world.proxy.set().calls.clear();
    exchange.response(&JSON, &[ROWS.as_bytes()]);
    let calls = world.proxy.get().calls.clone();
    let expected = ["get_headers", "remove_header", "remove_header", "now_nanos", "get_buffer", "set_buffer"];
    assert_eq!(calls, expected);
    exchange.done();
    let mut denied = world.exchange(4);
    world.proxy.set().calls.clear();
    denied.request(&borrowed(&request("GET", PATH, "")), &[], true);
    let expected = ["now_nanos", "get_headers", "get_property", "now_nanos", "send_local_response"];
    assert_eq!(world.proxy.get().calls, expected);
}

#[test]
fn a_required_record_holds_the_response_until_it_is_durable() {
    let mut world = World::ready(true);
    let (worker, records) = (world.worker.clone(), ROWS.as_bytes());
    // The exchange borrows the host alone, so that the world can acknowledge meanwhile.
    let host = std::mem::take(&mut world.proxy);
    let mut exchange = Exchange::new(&host, &worker, ROOT, 2);
    exchange.request(&borrowed(&request("GET", PATH, &token())), &[], true);
    assert!(exchange.upstream.is_some());
    exchange.response(&JSON, &[records]);
    assert!(exchange.client.is_none() && exchange.answer().is_none(), "neither head nor body before the record");
    exchange.resume();
    assert!(exchange.client.is_none());
    acknowledge(&host, &world);
    exchange.resume();
    let text = body(&exchange);
    assert!(text.contains("Ann") && !SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
}

/// Acknowledges what was sent so far.
fn acknowledge(host: &Double, world: &World) {
    use doorward_proto::v1::{AuditAck, AuditBatch};
    let sent = host.take_sent("Report");
    let batch = AuditBatch::decode(sent.last().unwrap().as_slice()).unwrap();
    let sequence = batch.records.len() as u64;
    let ack = AuditAck { emitter: batch.emitter, sequence, ..Default::default() };
    host.deliver(&world.worker, ROOT, host.token("Report").unwrap(), ack.encode_to_vec());
}

#[test]
fn a_required_record_that_is_not_acknowledged_in_time_denies() {
    let world = World::ready(true);
    let mut exchange = get(&world, 2);
    exchange.response(&JSON, &[ROWS.as_bytes()]);
    world.tick(9_900);
    assert_eq!(code(&exchange), "");
    world.tick(200);
    exchange.resume();
    assert_eq!((code(&exchange).as_str(), exchange.client.is_none()), ("503 audit_unavailable", true));
}

#[test]
fn a_response_in_any_pieces_is_filtered_as_a_whole_one_is() {
    let whole = {
        let world = World::ready(false);
        let mut exchange = get(&world, 2);
        exchange.response(&JSON, &[ROWS.as_bytes()]);
        body(&exchange)
    };
    assert!(whole.contains("Ann") && !SECRETS.iter().any(|secret| whole.contains(secret)), "{whole}");
    let world = World::ready(false);
    for (context, size) in (3..).zip([1, 2, 3, 7, 16, 64, 169]) {
        let mut exchange = get(&world, context);
        let pieces: Vec<&[u8]> = ROWS.as_bytes().chunks(size).collect();
        exchange.response(&JSON, &pieces);
        assert_eq!(body(&exchange), whole, "pieces of {size}");
        let (head, _) = exchange.client.clone().unwrap();
        assert_eq!((value(&head, "content-length"), value(&head, "etag")), (String::new(), String::new()));
    }
}

#[test]
fn a_response_that_cannot_be_verified_is_replaced() {
    let world = World::ready(false);
    let html = [(":status", "200"), ("content-type", "text/html")];
    let gzip = [(":status", "200"), ("content-type", "application/json"), ("content-encoding", "gzip")];
    for (context, head, text) in
        [(2, html.as_slice(), ROWS), (3, gzip.as_slice(), ROWS), (4, JSON.as_slice(), r#"{"resource":[{"id":1,"#)]
    {
        let mut exchange = get(&world, context);
        exchange.response(head, &[text.as_bytes()]);
        assert_eq!(code(&exchange), "502 response_unverifiable", "{context}");
        assert!(exchange.client.is_none());
    }
}

#[test]
fn the_headers_of_a_hidden_error_body_are_not_shown_to_head() {
    let world = World::ready(false);
    let mut exchange = get(&world, 2);
    let head = [
        (":status", "500"),
        ("content-type", "text/html"),
        ("content-length", "1234"),
        ("etag", "\"x\""),
        ("content-md5", "x"),
        ("digest", "x"),
        ("x-other", "stays"),
    ];
    exchange.response(&head, &[]);
    let (head, _) = exchange.client.clone().unwrap();
    for name in ["content-length", "etag", "content-md5", "digest"] {
        assert_eq!(value(&head, name), "", "{name}");
    }
    assert_eq!((value(&head, ":status").as_str(), value(&head, "x-other").as_str()), ("500", "stays"));
}

const POST: &str = "/api/v2/mysql/_table/people";

fn post(world: &World, context: u32) -> (Exchange<'_>, Vec<(&'static str, String)>) {
    let mut headers = request("POST", POST, &token());
    headers.push(("content-type", "application/json".to_owned()));
    headers.push(("transfer-encoding", "chunked".to_owned()));
    (world.exchange(context), headers)
}

#[test]
fn a_body_is_awaited_and_goes_on_only_whole_and_allowed() {
    let world = World::ready(false);
    let (mut exchange, headers) = post(&world, 2);
    exchange.request(&borrowed(&headers), &[br#"{"resource":[{"na"#], false);
    assert!(exchange.upstream.is_none() && exchange.answer().is_none(), "it waits");
    let (mut exchange, headers) = post(&world, 3);
    exchange.request(&borrowed(&headers), &[br#"{"resource":[{"na"#, br#"me":"Eve"}]}"#], true);
    let (_, sent) = exchange.upstream.clone().unwrap_or_else(|| panic!("{}", code(&exchange)));
    assert!(String::from_utf8(sent).unwrap().contains("Eve"));
    let (mut exchange, headers) = post(&world, 4);
    exchange.request(&borrowed(&headers), &[br#"{"resource":[{"ssn":"1"}]}"#], true);
    assert!(exchange.upstream.is_none() && code(&exchange).starts_with("403"), "{}", code(&exchange));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_its_end() {
    let world = World::ready(false);
    let (mut exchange, headers) = post(&world, 2);
    exchange.request(&borrowed(&headers), &[&[b' '; 600], &[b' '; 600]], false);
    assert!(exchange.upstream.is_none() && code(&exchange).starts_with("413"), "{}", code(&exchange));
}

#[test]
fn a_body_that_never_ends_leaves_a_record_and_one_that_never_comes_is_denied() {
    let mut world = World::ready(false);
    {
        let (mut silent, headers) = post(&world, 2);
        silent.request(&borrowed(&headers), &[], false);
        world.tick(9_900);
        assert_eq!(code(&silent), "");
        world.tick(200);
        assert_eq!(code(&silent), "503 policy_unavailable");
        silent.done();
        let (mut cut, headers) = post(&world, 3);
        cut.request(&borrowed(&headers), &[b"{"], false);
        cut.done();
        assert!(cut.upstream.is_none());
    }
    world.tick(100);
    world.acknowledge();
    let codes: Vec<&str> =
        world.records.iter().filter_map(|record| Some(record.decision.as_ref()?.code.as_str())).collect();
    assert_eq!(codes, ["policy_unavailable", "unparsable"]);
}

#[test]
fn a_lost_stream_is_opened_again_after_a_pause_and_policy_stays_in_force() {
    let world = World::ready(false);
    let token = world.proxy.token("Subscribe").unwrap();
    world.proxy.enter(ROOT);
    world.worker.borrow_mut().grpc_close(&world.proxy, token, 14);
    assert!(world.proxy.token("Subscribe").is_none());
    world.tick(100);
    assert!(world.proxy.token("Subscribe").is_none(), "not before the first pause");
    assert!(get(&world, 2).upstream.is_some());
    world.tick(30_000);
    assert!(world.proxy.token("Subscribe").is_some());
}

#[test]
fn a_stream_that_waits_in_its_head_goes_on_from_a_callback_of_the_worker() {
    let world = World::ready(false);
    let (mut exchange, headers) = post(&world, 2);
    exchange.request(&borrowed(&headers), &[], false);
    assert!(exchange.upstream.is_none(), "it waits in its head");
    world.proxy.enter(ROOT);
    let call = GrpcCall {
        cluster: "cp",
        service: "s.S",
        method: "Ask",
        metadata: &[("authorization", b"x")],
        message: b"question",
        timeout: Duration::from_millis(250),
    };
    let token = world.proxy.grpc_call(&call).unwrap();
    assert_eq!(world.proxy.get().grpc.last().unwrap().timeout_millis, Some(250));
    // A token that no part of the worker knows changes nothing.
    world.proxy.deliver(&world.worker, ROOT, token, b"answer".to_vec());
    exchange.resume();
    assert!(exchange.upstream.is_none());
    // What whoever asked does with an answer that allows, from the root's callback.
    world.proxy.set_effective_context(exchange.context).unwrap();
    world.proxy.continue_stream(Direction::Request).unwrap();
    world.proxy.set_effective_context(ROOT).unwrap();
    exchange.resume();
    assert!(exchange.upstream.is_some());
}
