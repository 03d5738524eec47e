//! Over the wire: plain REST (`http`), documents in shadow mode, and users with several roles. The upstream is a small REST
//! service over the shop's orders that honours its declared parameters and shows every field it has.

use doorward_proto::v1::{AuditRecord, Filter, QueryRequest};
use doorward_tests::{
    control,
    data::Shop,
    dreamfactory::decode,
    http::Response,
    stack::Stack,
    upstream::{Answer, Seen, Upstream},
    wait,
};
use serde_json::{Value, json};
use std::{
    sync::{Mutex, MutexGuard, OnceLock},
    time::Duration,
};

const COMPONENTS: &str = "
  components:
    orders:
      key: [id]
      fields: { id: integer, customer_id: integer, product_id: integer, quantity: integer, total: number,
        status: string, region: string, created_at: timestamp }
      operations:
        - path: /orders
          verbs: [GET]
          rowsAt: /items
          parameters:
            limit: integer
            region: { type: string, filters: region }
            status: { type: string, filters: status, allowed: [open, paid, shipped] }
        - { path: /orders, verbs: [POST], single: true }
        - { path: '/orders/{id}', verbs: [GET, DELETE], single: true, parameters: { id: integer } }
";
const POLICIES: &str = r#"---
kind: AccessRole
metadata: { name: app-west }
spec:
  grants:
    - service: rest
      components: [orders]
      verbs: [GET, POST]
      fields: { read: [id, region, status, quantity], write: [status, region], mask: { quantity: "null" } }
      rows: region = {user.region}
      maxRows: 20
    - { service: watched, components: [orders], verbs: [GET], fields: { read: [id, region] }, rows: "region = {user.region}" }
---
kind: AccessRole
metadata: { name: app-finance }
spec: { grants: [{ service: rest, components: [orders], verbs: [GET], fields: { read: [id, total] } }] }
---
kind: AccessRole
metadata: { name: app-try }
spec:
  enforcement: shadow
  grants: [{ service: rest, components: [orders], verbs: [GET, DELETE], fields: { read: [id] } }]
---
kind: AccessBinding
metadata: { name: west }
spec: { role: app-west, priority: 10, subjects: [{ group: west }] }
---
kind: AccessBinding
metadata: { name: finance }
spec: { role: app-finance, subjects: [{ group: finance }] }
---
kind: AccessBinding
metadata: { name: try }
spec: { role: app-try, subjects: [{ group: try }] }
---
kind: AccessRestriction
metadata: { name: mallory }
spec: { subjects: [{ user: mallory }], effect: deny }
---
kind: AccessRestriction
metadata: { name: sam }
spec: { enforcement: shadow, subjects: [{ user: sam }], effect: deny }
"#;

struct Env {
    stack: Stack,
    upstream: Upstream,
}

/// The orders, as a REST service would give them.
fn rest(shop: &Shop, seen: &Seen) -> Answer {
    let orders = &shop.table("orders").rows;
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let parameter = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| decode(value))
    };
    let segments: Vec<&str> = path.split('/').skip(2).collect();
    let answer = match (seen.method.as_str(), segments.as_slice()) {
        ("GET", ["orders"]) => {
            let limit = parameter("limit").map_or(50, |limit| limit.parse().unwrap());
            let fits = |field: &str, row: &Value| parameter(field).is_none_or(|wanted| row[field] == wanted);
            let rows = orders.iter().map(|row| json!(row)).filter(|row| fits("region", row) && fits("status", row));
            json!({"items": rows.take(limit).collect::<Vec<_>>(), "asked": seen.path})
        }
        ("GET", ["orders", id]) => json!(id.parse::<i64>().ok().and_then(|id| shop.table("orders").row(id))),
        ("POST", ["orders"]) => {
            let mut made: Value = serde_json::from_slice(&seen.body).unwrap();
            made["id"] = json!(9_999);
            made["total"] = json!(1.5);
            made
        }
        ("DELETE", ["orders", _]) => json!({}),
        _ => json!({"everything": "of a path that nobody declared"}),
    };
    Answer::json(200, answer.to_string())
}

fn env() -> MutexGuard<'static, Env> {
    static ENV: OnceLock<Mutex<Env>> = OnceLock::new();
    ENV.get_or_init(|| {
        let shop = Shop::new(7, 100);
        let data = shop.clone();
        let upstream = Upstream::start(move |seen| rest(&data, seen));
        let service = |name: &str, more: &str| {
            format!(
                "kind: DataService\nmetadata: {{ name: {name} }}\nspec:\n  dialect: http\n  match: [{{ path: /{name} }}]{more}{COMPONENTS}"
            )
        };
        let policies = format!("{}---\n{}{POLICIES}", service("rest", ""), service("watched", "\n  enforcement: shadow"));
        let folder = tempfile::tempdir().unwrap();
        let stack = Stack::over(folder, upstream.port, shop, &policies, "");
        Mutex::new(Env { stack, upstream })
    })
    .lock()
    .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Env {
    fn send(&self, user: &str, groups: &[&str], method: &str, path: &str, body: &str) -> Response {
        let request = self.stack.request(method, path).token(&self.stack.issuer.token(user, groups, "west"));
        if body.is_empty() { request.send() } else { request.json(body).send() }
    }

    fn get(&self, groups: &[&str], path: &str) -> Response {
        self.send("ann", groups, "GET", path, "")
    }

    /// What reached the data API since the last call.
    fn seen(&self) -> Vec<Seen> {
        self.upstream.take()
    }

    /// The record of the one request that reached the data API.
    fn record(&self) -> AuditRecord {
        let [seen] = self.seen().try_into().unwrap();
        assert!(seen.header("authorization").is_none(), "the credential reached the data API");
        self.record_of(seen.header("x-doorward-decision").unwrap())
    }

    fn record_of(&self, id: &str) -> AuditRecord {
        wait("the record", Duration::from_secs(20), || {
            let filter = Some(Filter { decision_id: id.to_owned(), ..Default::default() });
            let found =
                control::records(self.stack.control.grpc, QueryRequest { filter, limit: 2, ..Default::default() });
            found.into_iter().next().and_then(|stored| stored.record)
        })
    }
}

fn items(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

fn names(row: &Value) -> Vec<&str> {
    let mut names: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn would(record: &AuditRecord) -> (&str, &str, &str) {
    let decision = record.decision.as_ref().unwrap();
    (&decision.outcome, &decision.would, &decision.would_code)
}

#[test]
fn a_rest_services_rows_fields_and_caps_are_limited_by_its_declared_parameters() {
    let e = env();
    let rows = items(&e.get(&["west"], "/rest/orders"));
    assert_eq!(rows.len(), 20, "the cap");
    for row in &rows {
        assert_eq!(names(row), ["id", "quantity", "region", "status"]);
        assert_eq!((&row["region"], &row["quantity"]), (&json!("west"), &Value::Null));
    }
    let open = items(&e.get(&["west"], "/rest/orders?status=open&limit=3"));
    assert!(open.len() == 3 && open.iter().all(|row| row["status"] == "open" && row["region"] == "west"), "{open:?}");
    let _ = e.seen();
    assert!(!e.get(&["west"], "/rest/orders?limit=500").text().is_empty());
    let [seen] = e.seen().try_into().unwrap();
    assert!(seen.path.contains("region=west") && seen.path.contains("limit=20"), "{}", seen.path);
    e.get(&["west"], "/rest/orders?region=east").denied(403, "row_denied");
    // A row by its key cannot be limited, but by a role that limits none it can be read.
    e.get(&["west"], "/rest/orders/7").denied(403, "row_denied");
    let _ = e.seen();
    assert_eq!(names(&e.get(&["finance"], "/rest/orders/7").json()), ["id", "total"]);
    assert_eq!(e.seen().len(), 1);
    for (path, code, status) in [
        ("/rest/orders?unknown=1", "unparsable", 400),
        ("/rest/orders?status=open&status=paid", "unparsable", 400),
        ("/rest/orders?status=lost", "unparsable", 400),
        ("/rest/orders?limit=x", "unparsable", 400),
        ("/rest/orders/7/secret", "unparsable", 400),
        ("/rest/secrets", "unparsable", 400),
        ("/rest/ORDERS", "unparsable", 400),
        ("/rest/orders/x", "unparsable", 400),
        ("/other", "no_route", 403),
    ] {
        let answer = e.get(&["west"], path);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}: {}", answer.text());
    }
    let order = e.stack.request("GET", "/rest/orders").token(&e.stack.issuer.token("ann", &["west"], "west"));
    assert!(order.header("x-http-method-override", "DELETE").send().status >= 400);
    e.send("ann", &["finance"], "DELETE", "/rest/orders/7", "").denied(403, "verb_denied");
    assert_eq!(e.seen(), []);
}

#[test]
fn a_write_to_a_rest_service_stays_within_rows_and_fields() {
    let e = env();
    let _ = e.seen();
    let post = |body: &str| e.send("ann", &["west"], "POST", "/rest/orders", body);
    post(r#"{"status":"open","region":"east"}"#).denied(403, "row_denied");
    post(r#"[{"status":"open","region":"west"},{"status":"open","region":"east"}]"#).denied(403, "row_denied");
    post(r#"{"status":"open","region":"west","total":1}"#).denied(403, "field_denied");
    post(r#"{"status":"open","region":"west","region":"east"}"#).denied(400, "unparsable");
    post(r#"{"status":"open""#).denied(400, "unparsable");
    assert_eq!(e.seen(), []);
    let made = post(r#"{"status":"open","region":"west"}"#);
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(names(&made.json()), ["id", "region", "status"]);
    let [seen] = e.seen().try_into().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap(), json!({"status": "open", "region": "west"}));
}

#[test]
fn one_role_decides_a_request_and_rights_of_several_are_not_mixed() {
    let e = env();
    let both = ["west", "finance"];
    let _ = e.seen();
    let told = || {
        let [seen] = e.seen().try_into().unwrap();
        seen.header("x-doorward-role").unwrap().to_owned()
    };
    // The binding with the higher priority goes first.
    let rows = items(&e.get(&both, "/rest/orders"));
    assert!(rows.iter().all(|row| row["region"] == "west" && row.get("total").is_none()), "{rows:?}");
    assert_eq!(told(), "app-west");
    // What it does not permit whole, the next one does, with its own fields only.
    assert_eq!(names(&e.get(&both, "/rest/orders/7").json()), ["id", "total"]);
    assert_eq!(told(), "app-finance");
    // One may see the region but not this one, the other all rows but not their region.
    let answer = e.get(&both, "/rest/orders?region=east");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(e.seen(), []);
}

#[test]
fn the_role_header_picks_one_of_the_roles_held() {
    let e = env();
    let both = ["west", "finance"];
    let token = e.stack.issuer.token("bo", &both, "west");
    let pick = |role: &str, path: &str| e.stack.get(path).token(&token).header("x-doorward-role", role).send();
    let rows = items(&pick("app-finance", "/rest/orders"));
    assert_eq!(rows.len(), 50);
    assert!(rows.iter().all(|row| names(row) == ["id", "total"]), "{rows:?}");
    assert_eq!(items(&pick("app-west", "/rest/orders")).len(), 20);
    let _ = e.seen();
    pick("app-west", "/rest/orders/7").denied(403, "row_denied");
    pick("app-finance", "/rest/orders?status=open").denied(403, "field_denied");
    pick("app-try", "/rest/orders").denied(403, "role_not_held");
    pick("app-finance, app-west", "/rest/orders").denied(403, "role_not_held");
    let twice = e.stack.get("/rest/orders").token(&token).header("x-doorward-role", "app-west");
    assert!((400..500).contains(&twice.header("x-doorward-role", "app-finance").send().status));
    let post = e.stack.request("POST", "/rest/orders").token(&token).header("x-doorward-role", "app-finance");
    post.json(r#"{"status":"open","region":"west"}"#).send().denied(403, "verb_denied");
    assert_eq!(e.seen(), []);
}

#[test]
fn a_service_in_shadow_mode_lets_pass_and_records_what_it_would_do() {
    let e = env();
    let _ = e.seen();
    let rows = items(&e.get(&["nobody"], "/watched/orders"));
    assert!(rows.len() == 50 && rows[0].get("total").is_some());
    assert_eq!(would(&e.record()), ("allow", "would_deny", "role_none"));
    assert_eq!(items(&e.get(&["west"], "/watched/orders")).len(), 50);
    assert_eq!(would(&e.record()), ("allow", "would_rewrite", ""));
    assert_eq!(e.send("ann", &["west"], "DELETE", "/watched/orders/7", "").status, 200);
    assert_eq!(would(&e.record()), ("allow", "would_deny", "verb_denied"));
    assert_eq!(e.get(&["west"], "/watched/unknown?x=1").status, 200);
    assert_eq!(would(&e.record()), ("allow", "would_deny", "unparsable"));
    // What it never lifts: identity, and persons who are cut back.
    e.stack.get("/watched/orders").send().denied(401, "credential_missing");
    e.stack.get("/watched/orders").token("nonsense").send().denied(401, "credential_invalid");
    for path in ["/watched/orders", "/watched/unknown?x=1"] {
        e.send("mallory", &["west"], "GET", path, "").denied(403, "restricted");
    }
    assert_eq!(e.seen(), []);
}

#[test]
fn roles_and_restrictions_in_shadow_mode_change_nothing_but_the_record() {
    let e = env();
    let _ = e.seen();
    let denied = e.send("ann", &["try"], "DELETE", "/rest/orders/7", "");
    denied.denied(403, "role_none");
    let record = e.record_of(denied.json()["decision_id"].as_str().unwrap());
    assert_eq!(would(&record), ("deny", "would_allow", ""));
    assert_eq!(e.seen(), []);
    assert_eq!(items(&e.send("sam", &["west"], "GET", "/rest/orders", "")).len(), 20);
    assert_eq!(would(&e.record()), ("rewrite", "would_deny", "restricted"));
}
