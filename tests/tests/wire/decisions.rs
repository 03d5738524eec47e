//! Who may see what, and the code of every refusal.

use crate::{CUSTOMERS, LOCKED, ORDERS, PRODUCTS, env, resource};
use doorward_tests::{
    data::HIDDEN,
    http::Response,
    token::{Issuer, now},
};
use serde_json::{Value, json};

#[test]
fn a_role_allows_what_it_lists_and_nothing_else() {
    let e = env();
    let service = "/api/v2/mysql_production";
    for path in ["_table/customers", "_table/orders", "_table/products", "_proc/get_summary?year=2024"] {
        assert_eq!(e.ask("support", &format!("{service}/{path}")).status, 200, "{path}");
    }
    let token = e.token("support");
    let send = |method: &str, path: &str| {
        let body = if path == CUSTOMERS { r#"{"id":1}"# } else { "{}" };
        e.stack.request(method, path).token(&token).json(body).send()
    };
    assert_eq!(send("POST", &format!("{service}/_proc/get_summary")).status, 200);
    assert_eq!(e.ask("support", "/api/v2/aws_s3_reports/2024/q1.pdf").status, 200);
    send("POST", CUSTOMERS).denied(403, "verb_denied");
    send("DELETE", &format!("{service}/_proc/get_summary")).denied(400, "unsupported");
    e.stack.request("DELETE", "/api/v2/aws_s3_reports/2024/q1.pdf").token(&token).send().denied(403, "verb_denied");
    e.ask("support", &format!("{service}/_table/users")).denied(403, "component_denied");
    e.ask("support", &format!("{service}/_table/audit_logs")).denied(403, "component_denied");
    e.ask("support", "/api/v2/email_service/_proc/send").denied(403, "service_denied");
}

#[test]
fn hidden_fields_are_neither_shown_nor_filtered_nor_sorted_by_and_rows_stay_within_the_region() {
    let e = env();
    let rows = resource(&e.ask("analyst", CUSTOMERS));
    let west = e.stack.shop.table("customers").rows.iter().filter(|row| row["region"] == "west").count();
    assert_eq!(rows.len(), west);
    for row in &rows {
        let names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(HIDDEN.iter().all(|hidden| !names.iter().any(|name| name == hidden)));
    }
    for hidden in HIDDEN {
        e.ask("analyst", &format!("{CUSTOMERS}?fields=id,{hidden}")).denied(403, "field_denied");
        e.ask("analyst", &format!("{CUSTOMERS}?filter={hidden}%3D'x'")).denied(403, "field_denied");
        e.ask("analyst", &format!("{CUSTOMERS}?order={hidden}")).denied(403, "field_denied");
    }
    let employees = "/api/v2/mysql_production/_table/employees";
    let keys =
        |group: &str| resource(&e.ask(group, employees))[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (hr, payroll) = (keys("hr"), keys("payroll"));
    assert!(hr.contains(&"review".into()) && !hr.contains(&"salary".into()) && !hr.contains(&"ssn".into()), "{hr:?}");
    assert!(payroll.contains(&"salary".into()) && !payroll.contains(&"review".into()), "{payroll:?}");
    e.ask("hr", &format!("{employees}?filter=salary%3E50000")).denied(403, "field_denied");
}

#[test]
fn the_clients_own_filter_stays_inside_the_policys() {
    let e = env();
    let shop = e.stack.shop.table("customers");
    let ids = |answer: &Response| resource(answer).iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>();
    let answer =
        e.ask("analyst", &format!("{CUSTOMERS}?filter=(id%20%3C%2050)%20OR%20(city%20%3D%20'Boston')&order=id"));
    let expected: Vec<i64> = shop
        .rows
        .iter()
        .filter(|row| row["region"] == "west")
        .filter(|row| row["id"].as_i64().unwrap() < 50 || row["city"] == "Boston")
        .map(|row| row["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids(&answer), expected, "{}", answer.text());
    for filter in [
        "id>0) OR (id>0",
        "1=1",
        "id>0 --",
        "id>0 /*",
        "id=1; drop table customers",
        "id in (select id from customers)",
        "id>0 union select 1",
    ] {
        let answer = e
            .stack
            .get(&format!("{CUSTOMERS}?filter={}", filter.replace(' ', "%20").replace(';', "%3B")))
            .token(&e.token("analyst"))
            .send();
        assert_eq!(answer.status, 400, "{filter}: {}", answer.text());
    }
    let east = shop.rows.iter().find(|row| row["region"] == "east").unwrap()["id"].clone();
    let (hidden, missing) =
        (e.ask("analyst", &format!("{CUSTOMERS}?ids={east}")), e.ask("analyst", &format!("{CUSTOMERS}?ids=999999")));
    assert_eq!((hidden.status, hidden.text()), (missing.status, missing.text()));
}

#[test]
fn a_record_by_its_key_comes_bare_and_one_out_of_reach_looks_like_none() {
    let e = env();
    let shop = e.stack.shop.table("customers");
    let of = |region: &str| shop.rows.iter().find(|row| row["region"] == region).unwrap()["id"].clone();
    let ask = |id: &str| e.ask("analyst", &format!("{CUSTOMERS}/{id}?fields=id,city"));
    let mine = ask(&of("west").to_string());
    assert_eq!((mine.status, &mine.json()["id"]), (200, &of("west")), "{}", mine.text());
    assert_eq!(mine.json().as_object().unwrap().len(), 2);
    let (hidden, missing) = (ask(&of("east").to_string()), ask("999999"));
    hidden.denied(404, "not_found");
    let told = |answer: &Response| {
        let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
        answer.text().replace(&id, "ID")
    };
    assert_eq!((missing.status, told(&missing)), (404, told(&hidden)));
}

#[test]
fn every_code_that_a_request_can_get() {
    let e = env();
    let s = &e.stack;
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = s.issuer.claims("ann", &["analyst"]);
        claims["region"] = json!("west");
        change(&mut claims);
        s.issuer.sign(&claims)
    };
    let with = |token: &str| s.get(CUSTOMERS).token(token).send();
    s.get(CUSTOMERS).send().denied(401, "credential_missing");
    with("nonsense").denied(401, "credential_invalid");
    with(&Issuer::es256("https://idp.test", 9).token("ann", &["analyst"], "west")).denied(401, "credential_invalid");
    with(&Issuer::es256("https://other.test", 7).token("ann", &["analyst"], "west")).denied(401, "credential_invalid");
    with(&claims(&|c| c["aud"] = json!("else"))).denied(401, "credential_invalid");
    with(&claims(&|c| {
        c["iat"] = json!(now() - 900);
        c["exp"] = json!(now() - 300)
    }))
    .denied(401, "credential_expired");
    let mut none = s.issuer.sign_with(&json!({"alg": "none"}), &s.issuer.claims("ann", &["analyst"]));
    with(&none).denied(401, "credential_invalid");
    none.truncate(none.rfind('.').unwrap() + 1);
    with(&none).denied(401, "credential_invalid");
    s.get(&format!("{CUSTOMERS}?access_token=x")).token(&e.token("analyst")).send().denied(401, "credential_invalid");
    with(&s.issuer.token("rita", &["analyst"], "west")).denied(401, "credential_revoked");
    s.get(CUSTOMERS).header("x-doorward-key", LOCKED).send().denied(401, "credential_locked");
    with(&s.issuer.token("ann", &[], "west")).denied(403, "role_none");
    s.get(CUSTOMERS).token(&e.token("analyst")).header("x-doorward-role", "app-hr").send().denied(403, "role_not_held");
    e.ask("old", PRODUCTS).denied(403, "role_inactive");
    with(&s.issuer.token("mallory", &["analyst"], "west")).denied(403, "restricted");
    e.ask("analyst", "/else").denied(403, "no_route");
    e.ask("analyst", "/api/v2/email_service/_proc/send").denied(403, "service_denied");
    e.ask("analyst", ORDERS).denied(403, "component_denied");
    s.request("DELETE", &format!("{CUSTOMERS}/1")).token(&e.token("analyst")).send().denied(403, "verb_denied");
    e.ask("analyst", &format!("{CUSTOMERS}?fields=ssn")).denied(403, "field_denied");
    e.write("POST", ORDERS, r#"{"resource":[{"customer_id":1,"status":"open","region":"east"}]}"#)
        .denied(403, "row_denied");
    e.ask("level", PRODUCTS).denied(403, "attribute_missing");
    let level = |level: Value| {
        let mut claims = s.issuer.claims("lea", &["level"]);
        claims["level"] = level;
        s.get(PRODUCTS).token(&s.issuer.sign(&claims)).send()
    };
    level(json!("1 or 1=1")).denied(403, "attribute_invalid");
    assert_eq!(resource(&level(json!(3))).len(), 3);
    with(&claims(&|c| c["act"] = json!({"sub": "stranger"}))).denied(403, "delegation_denied");
    e.ask("analyst", &format!("{CUSTOMERS}?nonsense=1")).denied(400, "unparsable");
    e.ask("analyst", &format!("{CUSTOMERS}?include_schema=true")).denied(400, "unsupported");
    for at in 0..2 {
        assert_eq!(e.ask("limited", PRODUCTS).status, 200, "{at}");
    }
    // Each worker counts by itself, so the second one allows two more.
    let limited = (0..6).map(|_| e.ask("limited", PRODUCTS)).find(|answer| answer.status == 429).unwrap();
    limited.denied(429, "rate_limited");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    e.ask("broken", "/api/v2/mysql_production/_table/zipped").denied(502, "response_unverifiable");
    let broken = e.ask("broken", "/api/v2/mysql_production/_table/broken");
    assert!(!broken.text().contains("secret-cell"), "{}", broken.text());
}
