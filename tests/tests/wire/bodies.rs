//! Bodies: what they may write, and that nothing about how they come changes what is decided.

use crate::{CUSTOMERS, ORDERS, env, resource};
use doorward_tests::{control, http, upstream::Seen};
use serde_json::json;

#[test]
fn a_reader_cannot_write_through_a_capable_agent_nor_by_another_methods_name() {
    let e = env();
    let mut claims = e.stack.issuer.claims("rea", &["reader"]);
    claims["region"] = json!("west");
    claims["act"] = json!({"sub": "assistant"});
    let token = e.stack.issuer.sign(&claims);
    assert_eq!(e.stack.get(ORDERS).token(&token).send().status, 200);
    let _ = e.upstream.take();
    let body = r#"{"resource":[{"status":"open","region":"west"}]}"#;
    e.stack.request("POST", ORDERS).token(&token).json(body).send().denied(403, "verb_denied");
    for header in ["x-http-method", "x-http-method-override", "x-method-override"] {
        let request = e.stack.request("POST", &format!("{ORDERS}?filter=id%3E0")).token(&e.token("reader"));
        request.header(header, "DELETE").send().denied(403, "verb_denied");
        assert!(e.stack.get(ORDERS).token(&e.token("reader")).header(header, "DELETE").send().status >= 400);
    }
    assert_eq!(e.upstream.take(), [], "nothing may have reached the upstream");
}

#[test]
fn writes_stay_within_the_rows_and_fields_of_the_role() {
    let e = env();
    let made = e.write("POST", ORDERS, r#"{"resource":[{"customer_id":1,"status":"written","region":"west"}]}"#);
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(resource(&e.ask("writer", &format!("{ORDERS}?filter=status%3D'written'"))).len(), 1);
    e.write("POST", ORDERS, r#"{"resource":[{"total":1,"status":"x","region":"west"}]}"#).denied(403, "field_denied");
    e.write("POST", ORDERS, r#"{"resource":[{"status":"x","region":"west"},{"status":"x","region":"east"}]}"#)
        .denied(403, "row_denied");
    e.write("PATCH", &format!("{ORDERS}?filter=id%3E0"), r#"{"region":"east"}"#).denied(403, "row_denied");
    let patched = e.write("PATCH", &format!("{ORDERS}?filter=id%3E0"), r#"{"status":"patched"}"#);
    assert_eq!(patched.status, 200, "{}", patched.text());
    let _ = e.upstream.take();
    let all = http::get(e.upstream.port, &format!("{ORDERS}?limit=100000")).send();
    for row in resource(&all) {
        assert_eq!(row["status"] == "patched", row["region"] == "west", "{row}");
    }
    e.write("POST", ORDERS, r#"{"resource":[{"status":"a","status":"b","region":"west"}]}"#).denied(400, "unparsable");
    e.write("POST", ORDERS, r#"{"resource":[{"status":"{user.email}","region":"west"}]}"#);
    let seen = e.upstream.take();
    assert!(seen.iter().all(|seen| !seen.body.windows(5).any(|w| w == b"{user")), "a lookup reached the upstream");
}

#[test]
fn a_body_is_the_same_however_it_is_split() {
    let e = env();
    let body = r#"{"resource":[{"customer_id":7,"status":"späť","region":"west"}]}"#.as_bytes();
    let request = e.stack.request("POST", ORDERS).token(&e.token("writer")).header("content-type", "application/json");
    let canonical = |seen: Vec<Seen>| -> (String, Vec<u8>, Option<String>) {
        let [seen] = seen.as_slice() else { panic!("{seen:?}") };
        assert!(seen.header("transfer-encoding").is_none() || seen.header("content-length").is_none());
        (seen.path.clone(), seen.body.clone(), seen.header("x-doorward-user").map(str::to_owned))
    };
    let _ = e.upstream.take();
    assert_eq!(http::Request { body: Some(body.to_vec()), ..request.clone() }.send().status, 200);
    let whole = canonical(e.upstream.take());
    for at in 0..=body.len() {
        let (head, tail) = body.split_at(at);
        let answer = request.send_pieces(&[head, tail], if at % 2 == 0 { "" } else { "x-late: 1\r\n" });
        assert_eq!(answer.status, 200, "split at {at}: {}", answer.text());
        assert_eq!(canonical(e.upstream.take()), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(request.send_pieces(&bytes, "").status, 200);
    assert_eq!(canonical(e.upstream.take()), whole);
    // A denial inside the body is one however late it comes.
    let east = br#"{"resource":[{"status":"x","region":"east"}]}"#;
    for at in [0, 1, east.len() / 2, east.len() - 1] {
        let (head, tail) = east.split_at(at);
        request.send_pieces(&[head, tail], "x-late: 1\r\n").denied(403, "row_denied");
    }
    assert_eq!(e.upstream.take(), []);
}

#[test]
fn large_compressed_and_ambiguous_bodies() {
    let e = env();
    let record = |size: usize| format!(r#"{{"resource":[{{"status":"{}","region":"west"}}]}}"#, "a".repeat(size));
    let large = e.write("POST", ORDERS, &record(1_000_000));
    assert_eq!(large.status, 200, "{}", large.text());
    let request =
        |path: &str| e.stack.request("POST", path).token(&e.token("writer")).header("content-type", "application/json");
    let _ = e.upstream.take();
    // Over the service's own limit: told before the body is read, and found while it is.
    let small = "/api/v2/small/_table/orders";
    let text = r#"{"resource":[{"status":"LONG"}]}"#.replace("LONG", &"a".repeat(2_000));
    e.write("POST", small, &text).denied(413, "too_large");
    request(small).send_pieces(&text.as_bytes().chunks(300).collect::<Vec<_>>(), "").denied(413, "too_large");
    // Over Envoy's buffer: Envoy itself refuses.
    let text = record(1_100_000);
    assert_eq!(e.write("POST", ORDERS, &text).status, 413);
    assert_eq!(request(ORDERS).send_pieces(&text.as_bytes().chunks(60_000).collect::<Vec<_>>(), "").status, 413);
    let request = request(ORDERS);
    let zipped = request.clone().header("content-encoding", "gzip");
    let answer = http::Request { body: Some(b"\x1f\x8b\x08".to_vec()), ..zipped }.send();
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    // Two lengths, or a length and chunks: nobody may read the body differently than the filter did.
    let both = format!(
        "POST {ORDERS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        e.token("writer")
    );
    assert_eq!(http::exchange(e.stack.envoy.port, &[both.as_bytes()]).status, 400);
    let two = both.replace("transfer-encoding: chunked", "content-length: 5");
    assert_eq!(http::exchange(e.stack.envoy.port, &[two.as_bytes()]).status, 400);
    assert_eq!(e.upstream.take(), []);
}

#[test]
fn an_http_2_body_that_no_header_announces_is_not_passed_unread() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let e = env();
    let base = format!("http://127.0.0.1:{}", e.stack.envoy.port);
    let analyst = e.token("analyst");
    drop(e.upstream.take());
    control::runtime().block_on(async {
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let hidden = tokio_stream::iter([Ok::<_, std::io::Error>(r#"{"fields":"ssn","filter":"id > 0"}"#)]);
        let get = client.get(format!("{base}{CUSTOMERS}?fields=id")).bearer_auth(&analyst);
        let answer = get.body(reqwest::Body::wrap_stream(hidden)).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 400));
        assert!(answer.text().await.unwrap().contains("unparsable"));
    });
    assert!(e.upstream.take().is_empty(), "the request reached the data API");
}
