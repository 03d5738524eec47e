//! The thin walk: who sees what, through a real Envoy in front of a real Datasette.

use doorward_proto::v1::{Filter, QueryRequest};
use doorward_test_support::policy::{access_key, key_hash};
use doorward_tests::{
    control,
    data::HIDDEN,
    stack::{SHOP_SERVICE, Stack, in_both_workers},
    token::Issuer,
    wait,
};
use serde_json::{Value, json};
use std::{
    sync::{Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

const POLICIES: &str = r#"
kind: AccessRole
metadata: { name: app-analyst }
spec:
  grants:
    - service: shop
      components: [customers]
      verbs: [GET]
      fields: { read: [id, first_name, last_name, company, city, state, country, region, status, email], mask: { email: email } }
      rows: region = {user.region}
    - service: shop
      components: [orders, products]
      verbs: [GET]
      fields: { read: ["*"] }
---
kind: AccessBinding
metadata: { name: analysts }
spec: { role: app-analyst, subjects: [{ group: analysts }] }
---
kind: AccessRole
metadata: { name: ai-assistant }
spec:
  grants:
    - service: shop
      components: [customers]
      verbs: [GET]
      fields: { read: [id, first_name, region, status] }
      rows: status = 'active'
---
kind: AccessBinding
metadata: { name: assistants }
spec: { role: ai-assistant, subjects: [{ agent: assistant }] }
---
kind: AccessRole
metadata: { name: ai-tool }
spec:
  grants:
    - service: shop
      components: [products]
      verbs: [GET]
      fields: { read: [id, name, price] }
"#;
const KEY: &str = "dwk_tool_0123456789abcdef0123456789abcdef";
const KEY2: &str = "dwk_other_0123456789abcdef0123456789abcde";

fn policies(extra: &str) -> String {
    let key = |name: &str, key: &str| access_key(name, key, "ai-tool", "");
    format!("{POLICIES}{}{}{extra}", key("tool", KEY), key("other", KEY2))
}

/// One stack for the file. Tests that change policy hold the lock, so do those that read: the walk is short.
fn stack() -> MutexGuard<'static, Stack> {
    static STACK: OnceLock<Mutex<Stack>> = OnceLock::new();
    let lock = STACK.get_or_init(|| Mutex::new(Stack::start(10_000, &policies(""))));
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn ann(stack: &Stack) -> String {
    stack.issuer.token("ann", &["analysts"], "west")
}

#[test]
fn without_a_token_nothing_is_shown() {
    stack().get("/shop/customers.json").send().denied(401, "credential_missing");
}

#[test]
fn an_analyst_sees_all_of_the_own_region_and_nothing_else() {
    let s = stack();
    let expected: Vec<i64> = s
        .shop
        .table("customers")
        .rows
        .iter()
        .filter(|row| row["region"] == "west")
        .map(|row| row["id"].as_i64().unwrap())
        .collect();
    let (mut seen, mut path) = (Vec::new(), "/shop/customers.json?_size=1000".to_owned());
    loop {
        let answer = s.get(&path).token(&ann(&s)).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        for row in answer.rows() {
            let stored = s.shop.table("customers").row(row["id"].as_i64().unwrap()).unwrap();
            assert_eq!(row["region"], "west");
            for hidden in HIDDEN.iter().filter(|name| **name != "email") {
                assert!(!row.contains_key(*hidden), "{hidden}");
                assert!(
                    !answer.text().contains(stored[*hidden].as_str().unwrap()) || *hidden == "internal_notes",
                    "{hidden}"
                );
            }
            let mail = stored["email"].as_str().unwrap();
            let (local, domain) = mail.split_once('@').unwrap();
            let shown = row["email"].as_str().unwrap();
            assert!(
                shown != mail && shown.ends_with(domain) && shown.starts_with(local.chars().next().unwrap()),
                "{shown}"
            );
            assert_eq!(row["city"], stored["city"]);
            seen.push(row["id"].as_i64().unwrap());
        }
        match answer.json()["next"].as_str() {
            Some(next) => path = format!("/shop/customers.json?_size=1000&_next={next}"),
            None => break,
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_hidden_field_cannot_be_asked_for_sorted_filtered_or_faceted_by() {
    let s = stack();
    for query in [
        "_col=ssn",
        "_sort=ssn",
        "_sort_desc=ssn",
        "ssn=1",
        "ssn__gt=5",
        "_facet=ssn",
        "_where=ssn+like+'1%25'",
        "_sort=email",
        "_facet=email",
        "email__startswith=a",
    ] {
        s.get(&format!("/shop/customers.json?{query}")).token(&ann(&s)).send().denied(403, "field_denied");
    }
    for query in ["sql=select+*+from+customers", "_search=1", "_labels=on", "_through={}"] {
        s.get(&format!("/shop/customers.json?{query}")).token(&ann(&s)).send().denied(400, "unsupported");
    }
    s.get("/shop.json?sql=select+1").token(&ann(&s)).send().denied(403, "no_route");
    s.get("/shop/.json?sql=select+1").token(&ann(&s)).send().denied(400, "unparsable");
    s.get("/shop/employees.json").token(&ann(&s)).send().denied(403, "component_denied");
    s.get("/shop/unknown.json").token(&ann(&s)).send().denied(403, "component_denied");
    s.get("/elsewhere").token(&ann(&s)).send().denied(403, "no_route");
    s.request("POST", "/shop/customers.json").token(&ann(&s)).send().denied(400, "unsupported");
}

#[test]
fn a_row_filter_cannot_be_widened() {
    let s = stack();
    for query in [
        "region=east",
        "_where=region='east'",
        "_where=1%3D1",
        "_where=region='east'+or+1%3D1",
        "_where=id>0)+or+(1%3D1",
        "region__in=east,north",
        "region__not=west",
    ] {
        let answer = s.get(&format!("/shop/customers.json?{query}&_shape=objects")).token(&ann(&s)).send();
        assert!(answer.status == 200 || answer.status == 400, "{query}: {}", answer.text());
        assert!(answer.rows().iter().all(|row| row["region"] == "west"), "{query}");
    }
    let east = s.shop.table("customers").rows.iter().find(|row| row["region"] == "east").unwrap()["id"].clone();
    let hidden = s.get(&format!("/shop/customers/{east}.json?_shape=objects")).token(&ann(&s)).send();
    let missing = s.get("/shop/customers/999999.json?_shape=objects").token(&ann(&s)).send();
    assert_eq!((hidden.status, hidden.rows().len()), (missing.status, 0), "{}", hidden.text());
}

#[test]
fn a_tools_key_sees_what_its_role_allows() {
    let s = stack();
    let answer = s.get("/shop/products.json?_shape=array").header("x-api-key", KEY).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.rows().len(), 60);
    assert!(answer.rows().iter().all(|row| row.keys().eq(["id", "name", "price"])));
    s.get("/shop/products.json").header("x-api-key", "dwk_wrong").send().denied(401, "credential_invalid");
    s.get("/shop/customers.json").header("x-api-key", KEY).send().denied(403, "component_denied");
}

#[test]
fn an_agent_gets_less_than_the_user_and_never_more() {
    let s = stack();
    let mut claims = s.issuer.claims("ann", &["analysts"]);
    claims["region"] = "west".into();
    claims["act"] = serde_json::json!({"sub": "assistant"});
    let answer = s.get("/shop/customers.json?_shape=objects&_size=max").token(&s.issuer.sign(&claims)).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.rows().is_empty());
    for row in answer.rows() {
        assert!(row.keys().all(|name| ["id", "first_name", "region", "status"].contains(&name.as_str())), "{row:?}");
        assert_eq!((row["region"].as_str(), row["status"].as_str()), (Some("west"), Some("active")));
    }
    // The agent holds no role for orders, which its user may read.
    s.get("/shop/orders.json").token(&s.issuer.sign(&claims)).send().denied(403, "component_denied");
    claims["act"]["sub"] = "stranger".into();
    s.get("/shop/customers.json").token(&s.issuer.sign(&claims)).send().denied(403, "delegation_denied");
}

/// What a provider can demand of its tokens, over the wire; also of those that were good until the policy changed.
#[test]
fn a_token_that_was_made_for_something_else_is_refused() {
    let s = stack();
    let issuer = Issuer::es256("https://strict.test", 9);
    let ask = |header: &Value, claims: &Value| {
        let header = json!({"alg": "ES256", "typ": header, "kid": "ec-9"});
        s.get("/shop/customers.json").token(&issuer.sign_with(&header, claims)).send()
    };
    let mut good = issuer.claims("ann", &["analysts"]);
    for (name, value) in [("region", "west"), ("token_use", "access")] {
        good[name] = value.into();
    }
    let with = |changes: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let refused = |header: &str, claims: &Value, why: &str| {
        let answer = ask(&header.into(), claims);
        answer.denied(401, "credential_invalid");
        assert!(answer.text().contains(why), "{}", answer.text());
    };

    s.policies(&(issuer.document("strict") + SHOP_SERVICE + &policies("")));
    let id_token = issuer.sign(&with(json!({"token_use": "id"})));
    let get = |token: &str| s.get("/shop/customers.json").token(token).send();
    assert!((0..8).all(|_| get(&id_token).status == 200), "nothing is demanded yet, and every worker knows the token");

    let demands = "  tokenTypes: [at+jwt]\n  audienceClaim: [aud, client_id]\n  \
                   requiredClaims: [region, { token_use: access, email_verified: true }]\n---\n";
    let document = issuer.document("strict");
    let document = document.strip_suffix("---\n").unwrap().to_owned() + demands;
    s.policies(&(document + SHOP_SERVICE + &policies("")));
    assert!((0..8).all(|_| get(&id_token).code() == "credential_invalid"), "a known token meets new demands");

    let good = with(json!({"email_verified": true}));
    let with = |changes: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    assert_eq!(ask(&"at+jwt".into(), &good).status, 200);
    assert_eq!(ask(&"application/AT+JWT".into(), &good).status, 200);
    refused("JWT", &good, "tokenTypes");
    ask(&Value::Null, &good).denied(401, "credential_invalid");
    refused("at+jwt", &with(json!({"token_use": "id"})), "token_use");
    refused("at+jwt", &with(json!({"email_verified": false})), "email_verified");
    refused("at+jwt", &with(json!({"email_verified": "true"})), "email_verified");
    refused("at+jwt", &with(json!({"region": null})), "region");
    refused("at+jwt", &with(json!({"aud": "other-api", "client_id": "data-api"})), "audience");
    assert_eq!(ask(&"at+jwt".into(), &with(json!({"aud": null, "client_id": "data-api"}))).status, 200);
    let elsewhere = json!({"groups": null, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.test"}}});
    refused("at+jwt", &with(elsewhere), "groups");
    refused("at+jwt", &with(json!({"hasgroups": true})), "groups");
    refused("at+jwt", &with(json!({"sub": " ann"})), "white space");
    s.policies(&(SHOP_SERVICE.to_owned() + &policies("")));
    ask(&"at+jwt".into(), &good).denied(401, "credential_invalid");
}

#[test]
fn an_edit_on_disk_takes_effect_within_a_second() {
    let s = stack();
    let ben = s.issuer.token("ben", &["analysts"], "east");
    assert_eq!(s.get("/shop/customers.json").token(&ben).send().status, 200);
    assert_eq!(s.get("/shop/products.json").header("x-api-key", KEY2).send().status, 200);
    let restriction =
        "---\nkind: AccessRestriction\nmetadata: { name: ben }\nspec: { subjects: [{ user: ben }], effect: deny }\n";
    let edited = policies(restriction)
        .replace("city, state, country, region, status, email]", "city, region, status, email]")
        .replace(
            &format!("{}\", role: ai-tool", key_hash(KEY2)),
            &format!("{}\", role: ai-tool, revoked: true", key_hash(KEY2)),
        );
    let start = Instant::now();
    s.control.write(&(s.issuer.document("corp") + SHOP_SERVICE + &edited));
    in_both_workers("the restriction", Duration::from_secs(10), || {
        s.get("/shop/customers.json").token(&ben).send().code() == "restricted"
    });
    let took = start.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    s.get("/shop/products.json").header("x-api-key", KEY2).send().denied(401, "credential_revoked");
    s.get("/shop/customers.json?_col=state").token(&ann(&s)).send().denied(403, "field_denied");
    s.policies(&(SHOP_SERVICE.to_owned() + &policies("")));
    assert_eq!(s.get("/shop/customers.json").token(&ben).send().status, 200);
}

#[test]
fn every_decision_is_in_the_log_within_a_second() {
    let s = stack();
    let before = Instant::now();
    let denied = s.get("/shop/customers.json?_col=ssn").token(&s.issuer.token("cleo", &["analysts"], "north")).send();
    let id = denied.json()["decision_id"].as_str().unwrap().to_owned();
    let filter = Some(Filter { decision_id: id, ..Default::default() });
    let found = wait("the record", Duration::from_secs(5), || {
        control::records(s.control.grpc, QueryRequest { filter: filter.clone(), limit: 10, ..Default::default() }).pop()
    });
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let record = found.record.unwrap();
    assert_eq!(record.principal.unwrap().user, "cleo");
    let decision = record.decision.unwrap();
    assert_eq!((decision.outcome.as_str(), decision.code.as_str()), ("deny", "field_denied"));
}
