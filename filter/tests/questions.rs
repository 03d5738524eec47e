//! Requests whose caller only the identity provider knows: who is asked, what goes on meanwhile, and what an answer does.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::{ALICE, JSON, PATH, ROOT, ROWS, World, borrowed, claims, request};
use doorward_filter::double::{Exchange, value};
use doorward_proto::v1::{IntrospectRequest, IntrospectResponse, Unavailable, introspect_response::Outcome as Said};
use prost::Message as _;

fn get<'a>(world: &'a World, context: u32, token: &str) -> Exchange<'a> {
    let mut exchange = world.exchange(context);
    exchange.request(&borrowed(&request("GET", PATH, token)), &[], true);
    exchange
}

fn post<'a>(world: &'a World, context: u32, pieces: &[&[u8]], whole: bool) -> Exchange<'a> {
    let mut headers = request("POST", "/api/v2/mysql/_table/people", "opaque");
    headers.push(("content-type", "application/json".to_owned()));
    headers.push(("transfer-encoding", "chunked".to_owned()));
    let mut exchange = world.exchange(context);
    exchange.request(&borrowed(&headers), pieces, whole);
    exchange
}

fn code(exchange: &Exchange<'_>) -> String {
    exchange.answer().map(|(status, code)| format!("{status} {code}")).unwrap_or_default()
}

fn calls(world: &World) -> usize {
    world.proxy.get().grpc.iter().filter(|grpc| grpc.method.ends_with("Introspect")).count()
}

fn in_flight(world: &World) -> usize {
    world.worker.borrow().active.as_ref().unwrap().questions.in_flight()
}

fn answer(world: &World, message: Vec<u8>) {
    world.proxy.deliver(&world.worker, ROOT, world.proxy.token("Introspect").unwrap(), message);
}

#[test]
fn a_request_waits_for_the_answer_and_goes_on_rewritten_for_the_person_it_names() {
    let mut world = World::asking(false);
    {
        let mut exchange = get(&world, 2, "opaque");
        assert!(exchange.upstream.is_none() && exchange.answer().is_none(), "it waits");
        let asked = world.proxy.get().grpc.last().cloned().unwrap();
        assert_eq!((asked.method.as_str(), asked.timeout_millis), ("doorward.v1.Identity/Introspect", Some(11_000)));
        let question = IntrospectRequest::decode(asked.sent[0].as_slice()).unwrap();
        assert_eq!((&*question.node, &*question.scope), ("n", "default"));
        assert_eq!((&*question.provider, &*question.token), ("corp", "opaque"));
        answer(&world, claims(ALICE));
        assert_eq!(world.proxy.get().context, ROOT);
        exchange.resume();
        let (head, _) = exchange.upstream.clone().unwrap_or_else(|| panic!("{}", code(&exchange)));
        assert!(value(&head, ":path").contains("region"), "{}", value(&head, ":path"));
        assert_eq!(value(&head, "x-doorward-user"), "alice@example.com");
        assert_eq!(value(&head, "authorization"), "");
        exchange.response(&JSON, &[ROWS.as_bytes()]);
        let text = String::from_utf8(exchange.client.clone().unwrap().1).unwrap();
        assert!(text.contains("Ann") && !text.contains("555-00-1234"), "{text}");
        // The answer is remembered.
        assert!(get(&world, 3, "opaque").upstream.is_some());
        assert_eq!((calls(&world), in_flight(&world)), (1, 0));
        exchange.done();
    }
    world.tick(100);
    world.acknowledge();
    let outcomes: Vec<&str> = world.records.iter().map(|record| &*record.decision.as_ref().unwrap().outcome).collect();
    assert_eq!(outcomes, ["rewrite", "rewrite"]);
    assert!(!format!("{:?}", world.records).contains("opaque") && !world.proxy.get().logs.concat().contains("opaque"));
    let metrics = world.proxy.get().metrics.clone();
    assert!(metrics.iter().any(|(name, value)| name.ends_with("questions.asked") && *value == 1), "{metrics:?}");
}

#[test]
fn an_inactive_token_is_refused_and_nothing_goes_on() {
    let world = World::asking(false);
    let mut exchange = get(&world, 2, "opaque");
    answer(&world, claims(r#"{"active":false}"#));
    exchange.resume();
    assert!(exchange.upstream.is_none() && code(&exchange).starts_with("401"), "{}", code(&exchange));
}

#[test]
fn what_is_no_answer_denies() {
    let unavailable = Said::Unavailable(Unavailable { reason: "timeout".into() });
    for message in [
        Vec::new(),
        b"\xff\xff\xff".to_vec(),
        claims("<html>"),
        IntrospectResponse { outcome: Some(unavailable) }.encode_to_vec(),
    ] {
        let world = World::asking(false);
        let mut exchange = get(&world, 2, "opaque");
        answer(&world, message);
        exchange.resume();
        assert_eq!((code(&exchange).as_str(), exchange.upstream.is_none()), ("503 identity_unavailable", true));
        assert_eq!(in_flight(&world), 0);
    }
}

#[test]
fn a_call_that_fails_ends_or_is_forgotten_by_the_host_denies() {
    let world = World::asking(false);
    for (context, status) in (2..).zip([0, 4, 14]) {
        let mut exchange = get(&world, context, "opaque");
        world.proxy.enter(ROOT);
        let token = world.proxy.token("Introspect").unwrap();
        world.worker.borrow_mut().grpc_close(&world.proxy, token, status);
        world.proxy.set().grpc[token as usize - 1].is_closed = true;
        exchange.resume();
        assert_eq!((code(&exchange).as_str(), exchange.upstream.is_none()), ("503 identity_unavailable", true));
    }
    let mut exchange = get(&world, 5, "opaque");
    world.tick(11_900);
    assert_eq!(code(&exchange), "");
    world.tick(200);
    exchange.resume();
    assert_eq!((code(&exchange).as_str(), in_flight(&world)), ("503 identity_unavailable", 0));
    assert!(world.proxy.token("Introspect").is_none(), "cancelled");
    world.proxy.set().has_no_cluster = true;
    let exchange = get(&world, 6, "opaque");
    assert_eq!((code(&exchange).as_str(), exchange.upstream.is_none()), ("503 identity_unavailable", true));
}

#[test]
fn a_stream_that_ends_while_it_waits_gives_up_its_call_and_a_later_answer_does_nothing() {
    let mut world = World::asking(false);
    {
        let mut exchange = get(&world, 2, "opaque");
        let token = world.proxy.token("Introspect").unwrap();
        exchange.done();
        assert!(world.proxy.token("Introspect").is_none() && in_flight(&world) == 0);
        world.proxy.deliver(&world.worker, ROOT, token, claims(ALICE));
        exchange.resume();
        assert!(exchange.upstream.is_none() && exchange.answer().is_none());
    }
    world.tick(100);
    world.acknowledge();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].decision.as_ref().unwrap().code, "identity_unavailable");
}

#[test]
fn requests_with_the_same_token_share_one_call() {
    let world = World::asking(false);
    let (mut first, mut second, mut third) =
        (get(&world, 2, "opaque"), get(&world, 3, "opaque"), get(&world, 4, "other"));
    assert_eq!((calls(&world), in_flight(&world)), (2, 2));
    let mut left = get(&world, 5, "opaque");
    left.done();
    assert_eq!(in_flight(&world), 2, "others wait for it");
    answer(&world, claims(r#"{"active":false}"#));
    answer(&world, claims(ALICE));
    for exchange in [&mut first, &mut second, &mut third] {
        exchange.resume();
    }
    assert!(first.upstream.is_some() && second.upstream.is_some());
    assert!(third.upstream.is_none() && code(&third).starts_with("401"));
}

/// Whose requests come from now on.
fn from(world: &World, address: &str) {
    world.proxy.set().properties.insert("source\0address".into(), address.as_bytes().to_vec());
}

#[test]
fn one_call_too_many_is_not_made_and_no_client_takes_the_calls_of_all() {
    let world = World::asking(false);
    from(&world, "203.0.113.9:1");
    let mut waiting: Vec<Exchange<'_>> = (0..128).map(|n| get(&world, 2 + n, &format!("invented{n}"))).collect();
    assert_eq!((in_flight(&world), waiting.len()), (128, 128));
    from(&world, "203.0.113.9:2");
    assert_eq!(code(&get(&world, 300, "opaque")), "503 identity_unavailable", "its half is taken, whatever its port");
    from(&world, "10.0.0.7:1");
    let other = get(&world, 301, "opaque");
    assert_eq!(code(&other), "", "another client is asked about");
    // One network of IPv6 is one client.
    for n in 0..100 {
        from(&world, &format!("[2001:db8::{n:x}]:9"));
        waiting.push(get(&world, 400 + n, &format!("more{n}")));
    }
    assert_eq!(in_flight(&world), 128 + 1 + 64, "half of what was free, with the one that was there");
    assert_eq!(calls(&world), 128 + 1 + 64);
    waiting.swap_remove(0).done();
    from(&world, "203.0.113.9:3");
    assert_eq!(code(&get(&world, 600, "opaque2")), "503 identity_unavailable", "others have taken of its half");
    for mut gone in waiting.drain(..100) {
        gone.done();
    }
    assert_eq!(code(&get(&world, 601, "opaque3")), "", "there is room again");
}

#[test]
fn no_client_takes_all_places_of_those_who_wait() {
    let world = World::asking(false);
    from(&world, "203.0.113.9:1");
    let waiting: Vec<Exchange<'_>> = (0..2_050).map(|n| get(&world, 2 + n, "invented")).collect();
    assert_eq!(calls(&world), 1);
    let refused = waiting.iter().filter(|exchange| code(exchange) == "503 identity_unavailable").count();
    assert_eq!(refused, 2, "of 4096 it has half");
    from(&world, "10.0.0.7:1");
    assert_eq!(code(&get(&world, 5_000, "opaque")), "", "another client waits");
}

#[test]
fn a_body_that_comes_while_the_caller_is_asked_about_is_decided_whole() {
    let world = World::asking(false);
    let good: [&[u8]; 2] = [br#"{"resource":[{"na"#, br#"me":"Eve"}]}"#];
    // All of it came before the answer.
    let mut exchange = post(&world, 2, &good, true);
    assert!(exchange.upstream.is_none() && exchange.answer().is_none());
    answer(&world, claims(ALICE));
    exchange.resume();
    let (_, sent) = exchange.upstream.clone().unwrap_or_else(|| panic!("{}", code(&exchange)));
    assert!(String::from_utf8(sent).unwrap().contains("Eve"));
    // What may not be written is not, nor is what is too large.
    let world = World::asking(false);
    let mut hidden = post(&world, 2, &[br#"{"resource":[{"ssn":"1"}]}"#], true);
    let mut large = post(&world, 3, &[&[b' '; 600], &[b' '; 600]], false);
    answer(&world, claims(ALICE));
    hidden.resume();
    large.resume();
    assert!(hidden.upstream.is_none() && code(&hidden).starts_with("403"), "{}", code(&hidden));
    assert!(large.upstream.is_none() && code(&large).starts_with("413"), "{}", code(&large));
}

#[test]
fn a_body_whose_end_comes_after_the_answer_or_as_trailers_is_decided_whole() {
    let world = World::asking(false);
    let whole = br#"{"resource":[{"name":"Eve"}]}"#;
    let mut late = post(&world, 2, &[whole], false);
    answer(&world, claims(ALICE));
    late.resume();
    assert!(late.upstream.is_none() && late.answer().is_none(), "its end has not come");
    world.proxy.enter(2);
    let flow = late.stream.request_body(&world.proxy, whole.len(), true);
    assert_eq!(flow, doorward_filter::stream::Flow::CONTINUE);
    let world = World::asking(false);
    let mut trailed = post(&world, 3, &[whole], false);
    world.proxy.enter(3);
    world.proxy.set().http.get_mut(&3).unwrap().headers[1] =
        doorward_filter::double::pairs(&[("x-doorward-user", "eve")]);
    assert_eq!(trailed.stream.request_trailers(&world.proxy), doorward_filter::stream::Flow::STOP);
    answer(&world, claims(ALICE));
    trailed.resume();
    assert!(trailed.upstream.is_some(), "{}", code(&trailed));
    assert!(trailed.http().headers[1].is_empty(), "nothing of the trailers goes on");
}

#[test]
fn a_worker_that_is_configured_anew_denies_who_waits() {
    let world = World::asking(false);
    let mut exchange = get(&world, 2, "opaque");
    world.proxy.configure(&world.worker, ROOT, "{}");
    exchange.resume();
    assert_eq!((code(&exchange).as_str(), exchange.upstream.is_none()), ("503 identity_unavailable", true));
    assert!(world.proxy.token("Introspect").is_none());
}

#[test]
fn a_required_record_is_queued_before_the_request_goes_on() {
    let mut world = World::asking(true);
    {
        let mut exchange = get(&world, 2, "opaque");
        answer(&world, claims(ALICE));
        exchange.resume();
        assert!(exchange.upstream.is_some());
        exchange.response(&JSON, &[ROWS.as_bytes()]);
        assert!(exchange.client.is_none(), "not before the record is durable");
    }
    world.acknowledge();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn the_policy_that_is_in_force_when_the_answer_comes_decides() {
    let world = World::asking(false);
    let mut exchange = get(&world, 2, "opaque");
    world.asks.set(false);
    world.push();
    answer(&world, claims(ALICE));
    exchange.resume();
    assert!(exchange.upstream.is_none() && code(&exchange).starts_with("401"), "{}", code(&exchange));
}

#[test]
fn an_answer_of_the_policy_before_lets_nobody_in_and_is_not_kept() {
    let world = World::asking(false);
    let mut before = get(&world, 2, "opaque");
    let old = world.proxy.token("Introspect").unwrap();
    world.push();
    // It began under the new policy, and does not share the call of the old one.
    let mut after = get(&world, 3, "opaque");
    assert_eq!(calls(&world), 2);
    world.proxy.deliver(&world.worker, ROOT, old, claims(ALICE));
    before.resume();
    after.resume();
    let third = get(&world, 4, "opaque");
    assert!(before.upstream.is_none() && after.upstream.is_none() && third.upstream.is_none());
    assert_eq!(calls(&world), 2, "the first waits for the newer call now");
    answer(&world, claims(ALICE));
    for exchange in [&mut before, &mut after] {
        exchange.resume();
        assert!(exchange.upstream.is_some());
    }
}
