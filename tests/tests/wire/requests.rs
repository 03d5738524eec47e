//! What a request may try besides its question, what reaches the upstream of it, and what comes back beside the answer.

use crate::{CUSTOMERS, ORDERS, PRODUCTS, env};
use doorward_tests::{control, dreamfactory::decode, http, wait};
use std::time::Duration;

#[test]
fn path_and_parameter_tricks_reach_nothing() {
    let e = env();
    let _ = e.upstream.take();
    for path in [
        "/api/v2/mysql_production/_table/customers/../users",
        "/api/v2/mysql_production/_table/%2e%2e/_table/users",
        "/api/v2/mysql_production/_table%2Fusers",
        "/api/v2/mysql_production/_table/users;x",
        "/api/v2/mysql_production/_table/customers%00",
        "/api/v2/mysql_production/_table/customers%2F..%2Fusers",
        "/api/v2//mysql_production/_table/users",
        "/API/v2/mysql_production/_table/users",
        "/api/v2/mysql_production/_TABLE/users",
        "/api/v2/mysql_production",
        "/api/v2/mysql_production/_schema/users",
        "/api/v2/system/user",
        "/api/v2/mysql_production/_table/customers?fields=id&fields=ssn",
        "/api/v2/mysql_production/_table/customers?fields=id&select=ssn",
        "/api/v2/mysql_production/_table/customers?related=*",
        "/api/v2/mysql_production/_table/customers?fields=*,ssn",
        "/api/v2/mysql_production/_table/customers?group=ssn",
        "/api/v2/mysql_production/_table/customers?ids=1&id_field=ssn",
    ] {
        let answer = e.ask("analyst", path);
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(e.upstream.take(), []);
}

#[test]
fn the_upstream_gets_the_verified_identity_and_no_credential() {
    let e = env();
    let _ = e.upstream.take();
    let request = e.stack.get(PRODUCTS).token(&e.token("support"));
    assert_eq!(request.header("x-doorward-user", "root").header("x-doorward-role", "app-support").send().status, 200);
    let [seen] = e.upstream.take().try_into().unwrap();
    assert_eq!(
        (seen.header("x-doorward-user"), seen.header("x-doorward-role")),
        (Some("support-user"), Some("app-support"))
    );
    assert_eq!(seen.headers.iter().filter(|(name, _)| name == "x-doorward-user").count(), 1);
    assert!(seen.header("authorization").is_none() && !format!("{seen:?}").contains("eyJ"), "{seen:?}");
    assert!(decode(&seen.path).contains("fields=id"), "{}", seen.path);
}

#[test]
fn hashes_of_the_original_body_do_not_reach_the_client() {
    let e = env();
    let answer = e.ask("analyst", CUSTOMERS);
    assert_eq!(answer.status, 200);
    for name in ["etag", "content-md5"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[test]
fn headers_with_underscores_stand_for_no_other_header() {
    // This Envoy is configured to refuse them; the engine's own tests show what happens where one is not.
    let e = env();
    let _ = e.upstream.take();
    for name in ["x_doorward_user", "x-doorward_role", "x_http_method_override", "x_original_url"] {
        assert_eq!(e.stack.get(PRODUCTS).token(&e.token("support")).header(name, "x").send().status, 400, "{name}");
    }
    assert_eq!(e.upstream.take(), []);
}

#[test]
fn envoys_statistics_count_decisions_denials_and_known_tokens() {
    let e = env();
    let stat = |name: &str| e.stack.envoy.stat(&format!("wasmcustom.doorward.{name}")).unwrap_or(0);
    let names = ["decisions.allow", "decisions.field_denied", "token_cache.hit", "token_cache.miss"];
    let before = names.map(stat);
    // A token that no other test has shown to a worker in this second.
    let token = e.stack.issuer.token("counted", &["analyst"], "west");
    for _ in 0..6 {
        let get = |path: &str| http::get(e.stack.envoy.port, path).token(&token).send().status;
        assert_eq!((get(CUSTOMERS), get(&format!("{CUSTOMERS}?fields=ssn"))), (200, 403));
    }
    // Two workers, each with a cache of its own, and perhaps with other tests' requests.
    let least = [6, 6, 10, 1];
    wait("statistics of twelve requests", Duration::from_secs(5), || {
        let more = names.map(stat).into_iter().zip(before).map(|(now, then)| now - then);
        more.zip(least).all(|(more, least)| more >= least).then_some(())
    });
    assert_eq!(stat("stream.connected"), 1);
    assert!(stat("policy.epoch") >= 1);
}

#[test]
fn http_2_gets_the_same_answers() {
    let e = env();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base = format!("http://127.0.0.1:{}", e.stack.envoy.port);
    let (analyst, writer) = (e.token("analyst"), e.token("writer"));
    let body = r#"{"resource":[{"customer_id":9,"status":"h2","region":"REGION"}]}"#;
    control::runtime().block_on(async {
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let get = client.get(format!("{base}{CUSTOMERS}?order=id")).bearer_auth(&analyst).send().await.unwrap();
        assert_eq!((get.version(), get.status().as_u16()), (reqwest::Version::HTTP_2, 200));
        let text = get.text().await.unwrap();
        assert_eq!(text, e.ask("analyst", &format!("{CUSTOMERS}?order=id")).text());
        let denied = client.get(format!("{base}{CUSTOMERS}?fields=ssn")).bearer_auth(&analyst).send().await.unwrap();
        assert_eq!(denied.status().as_u16(), 403);
        for (region, status) in [("west", 200), ("east", 403)] {
            let post =
                client.post(format!("{base}{ORDERS}")).bearer_auth(&writer).header("content-type", "application/json");
            let answer = post.body(body.replace("REGION", region)).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{region}");
        }
    });
}
