//! What goes on of a response, through the whole engine: of every dialect and kind of request, the form that its data API
//! has, the hostile ones, and forms made from these at random, in chunks of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use doorward_policy::{
    bundle::Tables,
    engine::{Begin, Outcome, Settings, begin, finish},
    host::Host,
    identity::TokenCache,
    request::{Header, HttpRequest},
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite, TransformError, Transformer},
};
use doorward_policy_compiler::{
    compile::{NoKeys, compile},
    document::{Severity, parse_file},
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, sync::LazyLock};

/// In every cell that is hidden or masked, and in nothing else.
const SECRET: &str = "s3cret";

struct Now;

impl Host for Now {
    fn now_millis(&self) -> u64 {
        1_800_000_000_000
    }
    fn random(&self, buffer: &mut [u8]) -> bool {
        buffer.fill(7);
        true
    }
    fn update_limit(&self, _: u64, _: &mut dyn FnMut(Option<u64>) -> Option<u64>) -> bool {
        false
    }
}

const POLICY: &str = r#"
apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: db }
spec:
  dialect: datasette
  match: [{ path: /db }]
  components: { people: { key: [id], fields: { id: integer, name: string, email: string, ssn: string } } }
---
kind: DataService
metadata: { name: df }
spec:
  dialect: dreamfactory
  match: [{ path: /df }]
  components:
    _table/people:
      key: [id]
      fields: { id: integer, name: string, email: string, ssn: string }
      relations: { notes_by_person_id: _table/notes }
    _table/notes: { key: [id], fields: { id: integer, person_id: integer, text: string, secret: string } }
    _proc/report: { fields: { id: integer, ssn: string } }
---
kind: DataService
metadata: { name: rest }
spec:
  dialect: http
  match: [{ path: /rest }]
  components:
    people:
      key: [id]
      fields: { id: integer, name: string, email: string, ssn: string }
      operations:
        - { path: /people, verbs: [GET], rowsAt: /data/items, beside: [total, /data/page] }
        - { path: /people, verbs: [POST], single: true }
        - { path: '/people/{id}', verbs: [GET, PUT, PATCH, DELETE], single: true, parameters: { id: integer } }
        - { path: /list, verbs: [GET] }
        - { path: /one, verbs: [GET], rowsAt: /person, single: true }
---
kind: AccessRole
metadata: { name: app-open }
spec:
  grants:
    - { service: db, components: [people], verbs: [GET], fields: { read: [id, name, email], mask: { email: "null" } } }
    - service: df
      components: [_table/people]
      verbs: [GET, POST, PUT, PATCH, DELETE]
      fields: { read: [id, name, email], write: [id, name], mask: { email: "null" } }
    - { service: df, components: [_table/notes], verbs: [GET], fields: { read: [id, person_id, text] } }
    - { service: df, components: [_proc/report], verbs: [GET], fields: { read: [id] } }
    - service: rest
      components: [people]
      verbs: [GET, POST, PUT, PATCH, DELETE]
      fields: { read: [id, name, email], write: [id, name], mask: { email: "null" } }
---
kind: AccessRole
metadata: { name: app-limited }
spec:
  grants:
    - { service: df, components: [_table/people], verbs: [GET], fields: { read: [id, name, email], mask: { email: "null" } }, rows: "name = 'a'" }
    - { service: df, components: [_table/notes], verbs: [GET], fields: { read: [id, person_id, text] } }
---
kind: AccessRole
metadata: { name: app-all }
spec:
  grants:
    - { service: df, components: [_table/people], verbs: [GET], fields: { read: ["*"] } }
    - { service: rest, components: [people], verbs: [GET], fields: { read: ["*"] } }
"#;

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut text = POLICY.to_owned();
    for key in ["open", "limited", "all"] {
        let hash = Sha256::digest(key).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        write!(
            text,
            "---\nkind: AccessKey\nmetadata: {{ name: {key} }}\nspec: {{ hash: \"sha256:{hash}\", role: app-{key} }}\n"
        )
        .unwrap();
    }
    let parsed = parse_file("policy.yaml", &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, &NoKeys, "default");
    let error = compiled.diagnostics.iter().find(|found| found.severity == Severity::Error);
    assert!(error.is_none(), "{error:?}");
    Tables::build(&compiled.bundle, compiled.digest, 1).unwrap()
});

/// What the response to this request needs.
fn plan(key: &str, request: &str) -> ResponsePlan {
    let (method, rest) = request.split_once(' ').unwrap();
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let length = body.len().to_string();
    let mut headers = vec![Header { name: "x-doorward-key", value: key.as_bytes() }];
    if !body.is_empty() {
        headers.push(Header { name: "content-type", value: b"application/json" });
        headers.push(Header { name: "content-length", value: length.as_bytes() });
    }
    let head = HttpRequest { method, authority: "h", path, headers: &headers, body: None, source_address: "192.0.2.1" };
    let (settings, mut cache) = (Settings { bodies: true, ..Settings::default() }, TokenCache::default());
    let verdict = match begin(&TABLES, &Now, &settings, &mut cache, &head) {
        Begin::Done(verdict) => *verdict,
        Begin::Ask { question, .. } => panic!("{question:?}"),
        Begin::Body { pending, .. } => {
            let whole = HttpRequest { body: Some(body.as_bytes()), ..head };
            finish(&TABLES, &Now, &settings, &mut cache, pending, &whole)
        }
    };
    match verdict.outcome {
        Outcome::Allow(rewrite) => rewrite.response,
        Outcome::Deny(denial) => panic!("{request}: {denial:?}"),
        Outcome::Pass => panic!("{request} passes"),
    }
}

fn run(plan: &ResponsePlan, body: &[u8], size: usize) -> Result<String, TransformError> {
    let mut transformer = Transformer::new(plan.clone(), None);
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        transformer.push(chunk, &mut out)?;
        // What has left cannot be called back.
        assert!(!String::from_utf8_lossy(&out).contains(SECRET), "{}", String::from_utf8_lossy(&out));
    }
    transformer.finish(&mut out)?;
    assert!(!String::from_utf8_lossy(&out).contains(SECRET), "{}", String::from_utf8_lossy(&out));
    Ok(String::from_utf8(out).unwrap())
}

fn person() -> Value {
    json!({"id": 1, "name": "a", "email": "s3cret@b.c", "ssn": "s3cret", "undeclared": [{"s3cret": 1}]})
}

fn shown() -> Value {
    json!({"id": 1, "name": "a", "email": null})
}

/// A key, a request, what its data API answers, and what of it goes on.
fn cases() -> Vec<(&'static str, &'static str, Value, Value)> {
    let table = |rows: Value| {
        json!({
            "database": "db", "table": "people", "is_view": false, "human_description_en": "where s3cret", "rows": rows,
            "truncated": false, "filtered_table_rows_count": 2, "expanded_columns": [["s3cret"]], "expandable_columns": [["s3cret"]],
            "columns": ["id", "email", "name"], "primary_keys": ["id"], "units": {"ssn": "s3cret"},
            "query": {"sql": "s3cret", "params": {}}, "facet_results": {
                "name": {"name": "name", "type": "column", "hideable": true, "toggle_url": "s3cret", "truncated": false, "results": [
                    {"value": "a", "label": "s3cret", "count": 2, "toggle_url": "s3cret", "selected": false}]},
                "ssn": {"name": "s3cret", "results": [{"value": "s3cret"}]}},
            "suggested_facets": [{"name": "s3cret"}], "next": "1,1", "next_url": "http://s3cret", "private": false,
            "allow_execute_sql": true, "query_ms": 1.5, "source": "s3cret",
        })
    };
    let listed = |rows: Value, facets: Value| {
        json!({
            "database": "db", "table": "people", "is_view": false, "rows": rows, "truncated": false,
            "filtered_table_rows_count": 2, "columns": ["id", "email", "name"], "primary_keys": ["id"],
            "facet_results": facets, "next": "1,1",
        })
    };
    let facet = json!({"name": {"name": "name", "type": "column", "hideable": true, "truncated": false, "results": [
        {"value": "a", "count": 2, "selected": false}]}});
    let resource =
        |row: Value| json!({"resource": [row, row], "meta": {"count": 2, "next": 2, "schema": {"s3cret": 1}}});
    let kept = |row: Value| json!({"resource": [row, row], "meta": {"count": 2, "next": 2}});
    let note = json!({"id": 3, "person_id": 1, "text": "t", "secret": "s3cret"});
    let with_notes = |row: Value, note: Value| {
        let mut row = row;
        row["notes_by_person_id"] = json!([note, note]);
        row
    };
    let related = with_notes(person(), note);
    let related_shown = with_notes(shown(), json!({"id": 3, "person_id": 1, "text": "t"}));
    let page =
        json!({"data": {"items": [person(), person()], "page": 1, "raw": [person()]}, "total": 2, "debug": person()});
    let page_shown = json!({"data": {"items": [shown(), shown()], "page": 1}, "total": 2});
    let cells = || json!([[1, "s3cret", "a"], [2, "s3cret", null]]);
    vec![
        ("open", "GET /db/people.json", table(cells()), listed(json!([[1, null, "a"], [2, null, null]]), json!({}))),
        (
            "open",
            "GET /db/people.json?_facet=name&_shape=arrays",
            table(cells()),
            listed(json!([[1, null, "a"], [2, null, null]]), facet),
        ),
        ("open", "GET /db/people.json?_shape=objects", table(json!([person()])), listed(json!([shown()]), json!({}))),
        ("open", "GET /db/people.json?_shape=array", json!([person(), person()]), json!([shown(), shown()])),
        (
            "open",
            "GET /db/people.json?_shape=object",
            json!({"1": person(), "2": person()}),
            json!({"1": shown(), "2": shown()}),
        ),
        ("open", "GET /db/people.json?_shape=arrayfirst&_col=name", json!([1, 2]), json!([1, 2])),
        (
            "open",
            "GET /db/people/1.json?_shape=objects",
            table(json!([person()])),
            json!({"database": "db", "table": "people", "rows": [shown()], "columns": ["id", "email", "name"], "primary_keys": ["id"]}),
        ),
        ("open", "GET /df/_table/people", resource(person()), kept(shown())),
        ("open", "GET /df/_table/people?include_count=true", resource(person()), kept(shown())),
        ("open", "GET /df/_table/people?ids=1,2", resource(person()), kept(shown())),
        (
            "open",
            "GET /df/_table/people?related=notes_by_person_id",
            resource(related.clone()),
            kept(related_shown.clone()),
        ),
        ("open", "GET /df/_table/people/1", person(), shown()),
        ("open", "GET /df/_table/people/1?related=notes_by_person_id", related.clone(), related_shown.clone()),
        ("open", "GET /df/_table/people?count_only=true", json!(17), json!(17)),
        ("open", r#"POST /df/_table/people {"resource":[{"name":"a"}]}"#, resource(person()), kept(shown())),
        ("open", r#"POST /df/_table/people {"name":"a"}"#, resource(person()), kept(shown())),
        ("open", r#"PATCH /df/_table/people?filter=id%3D1 {"name":"a"}"#, resource(person()), kept(shown())),
        ("open", r#"PATCH /df/_table/people/1 {"name":"a"}"#, person(), shown()),
        ("open", r#"PUT /df/_table/people {"resource":[{"id":1,"name":"a"}]}"#, resource(person()), kept(shown())),
        ("open", r#"PUT /df/_table/people/1 {"name":"a"}"#, person(), shown()),
        ("open", "DELETE /df/_table/people?filter=id%3D1", resource(person()), kept(shown())),
        ("open", "DELETE /df/_table/people/1", person(), shown()),
        (
            "open",
            "DELETE /df/_table/people?force=true",
            json!({"success": true, "rows": [person()]}),
            json!({"success": true}),
        ),
        ("open", "GET /df/_proc/report", json!([{"id": 1, "ssn": "s3cret"}]), json!([{"id": 1}])),
        ("limited", "GET /df/_table/people/1", json!({"resource": [person()], "meta": {"count": 1}}), shown()),
        (
            "limited",
            "GET /df/_table/people/1?related=notes_by_person_id",
            json!({"resource": [related]}),
            related_shown,
        ),
        ("open", "GET /rest/people", page, page_shown),
        ("open", r#"POST /rest/people {"name":"a"}"#, person(), shown()),
        ("open", "GET /rest/people/1", person(), shown()),
        ("open", r#"PUT /rest/people/1 {"name":"a"}"#, person(), shown()),
        ("open", r#"PATCH /rest/people/1 {"name":"a"}"#, person(), shown()),
        ("open", "DELETE /rest/people/1", json!({"deleted": "s3cret", "id": 1}), json!({"id": 1})),
        ("open", "GET /rest/list", json!([person(), person()]), json!([shown(), shown()])),
        ("open", "GET /rest/one", json!({"person": person(), "links": {"self": "s3cret"}}), json!({"person": shown()})),
    ]
}

#[test]
fn the_own_form_of_every_answer_goes_on_without_what_is_hidden() {
    for (key, request, body, want) in cases() {
        let plan = plan(key, request);
        let text = body.to_string();
        for size in (1..40).chain([text.len()]) {
            let out = run(&plan, text.as_bytes(), size).unwrap_or_else(|error| panic!("{request}: {error}: {text}"));
            assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), want, "{request}");
        }
        assert_eq!(slow(&plan, &body), Some(want), "{request}");
    }
}

/// Bodies with rows in other places than promised; `{row}` is one.
const HOSTILE: [&str; 34] = [
    "{row}",
    "[{row}]",
    "[[{row}]]",
    r#"{"records":[{row}]}"#,
    r#"{"Resource":[{row}]}"#,
    r#"{"RESOURCE":[{row}]}"#,
    r#"{"data":[{row}]}"#,
    r#"{"rows":[{row}]}"#,
    r#"{"ROWS":[{row}]}"#,
    r#"{"items":[{row}]}"#,
    r#"{"record":{row}}"#,
    r#"{"resource":{row}}"#,
    r#"{"resource":[[{row}]]}"#,
    r#"{"resource":[],"debug":[{row}]}"#,
    r#"{"resource":[],"meta":[{row}]}"#,
    r#"{"resource":[],"meta":{row}}"#,
    r#"{"resource":[],"meta":{"count":{row}}}"#,
    r#"{"resource":[],"meta":{"count":"s3cret"}}"#,
    r#"{"resource":[],"resource":[{row}]}"#,
    r#"{"resource":null,"rows":null,"items":[{row}]}"#,
    r#"{"error":{"context":{"resource":[{row}]}}}"#,
    r#"{"error":{"message":"s3cret"}}"#,
    r#"{"rows":[],"ROWS":[{row}],"next":[{row}]}"#,
    r#"{"rows":[],"columns":["s3cret"]}"#,
    r#"{"rows":[],"columns":[{row}],"primary_keys":["s3cret"]}"#,
    r#"{"rows":[],"filtered_table_rows_count":"s3cret"}"#,
    r#"{"rows":[],"truncated":"s3cret"}"#,
    r#"{"rows":[],"facet_results":{"name":{"name":{row},"results":[{row}]}}}"#,
    r#"{"data":{"items":[],"page":{row}},"total":1}"#,
    r#"{"data":{"items":[]},"total":[{row}]}"#,
    r#"{"data":{"Items":[{row}]}}"#,
    "\"s3cret\"",
    "{\"resource\":[]}\n{row}",
    "{row}\n{row}",
];

#[test]
fn rows_in_other_places_never_go_on_and_a_place_that_never_came_is_told() {
    // Without anything that may be seen, so that whatever goes on would be wrong.
    let row = r#"{"email":"s3cret@b.c","ssn":"s3cret","\u0065mail":"s3cret","x":["s3cret",{"email":"s3cret"}]}"#;
    let mut refused = 0;
    for (key, request, ..) in cases() {
        let plan = plan(key, request);
        for hostile in HOSTILE {
            let text = hostile.replace("{row}", row);
            let whole = run(&plan, text.as_bytes(), text.len());
            for size in 1..text.len() {
                assert_eq!(run(&plan, text.as_bytes(), size), whole, "{request}: {text}");
            }
            refused += usize::from(whole.is_err());
        }
        // Nothing but null, which stands for nothing, is no answer at all.
        for text in ["{}x", "", " ", "tru", "\"", "\"s3cret\"", "[1"] {
            assert!(run(&plan, text.as_bytes(), 3).is_err(), "{request}: {text}");
        }
    }
    assert!(refused > HOSTILE.len() * cases().len() / 2, "{refused}");
    // The bodies of a masked and narrowed list of DreamFactory, one by one.
    let list = plan("open", "GET /df/_table/people");
    for hostile in [
        "{row}",
        r#"{"records":[{row}]}"#,
        r#"{"Resource":[{row}]}"#,
        r#"{"data":[{row}]}"#,
        r#"{"error":{"context":{"resource":[{row}]}}}"#,
        r#"{"record":{row}}"#,
    ] {
        let text = hostile.replace("{row}", row);
        assert_eq!(run(&list, text.as_bytes(), 7), Err(TransformError::Unexpected), "{text}");
    }
    let debug = r#"{"resource":[],"debug":{"rows":[{row}]}}"#.replace("{row}", row);
    assert_eq!(run(&list, debug.as_bytes(), 7).unwrap(), r#"{"resource":[]}"#);
    let count = plan("open", "GET /df/_table/people?count_only=true");
    for text in ["{row}", "[{row}]", r#"{"resource":[{row}]}"#, "\"7\"", "true", "[7]"] {
        assert!(run(&count, text.replace("{row}", row).as_bytes(), 7).is_err(), "{text}");
    }
    let rest = plan("open", "GET /rest/people");
    for text in ["{row}", r#"{"rows":[{row}]}"#, r#"{"data":{"rows":[{row}]}}"#, r#"{"data":[{row}]}"#, "[]", "{}"] {
        assert_eq!(run(&rest, text.replace("{row}", row).as_bytes(), 7), Err(TransformError::Unexpected), "{text}");
    }
}

#[test]
fn an_error_shows_its_own_words_at_most_and_only_to_those_from_whom_nothing_is_hidden() {
    let batch = r#"{"error":{"code":400,"message":"Batch","context":{"resource":[{"ssn":"s3cret"}]},"trace":["s3cret"]},"resource":[{"ssn":"s3cret"}]}"#;
    let all = plan("all", "GET /df/_table/people");
    assert!(!all.hide_error_bodies);
    let errors = |plan: &ResponsePlan| ResponsePlan { sites: plan.error_sites.clone(), ..ResponsePlan::default() };
    for size in 1..batch.len() {
        let out = run(&errors(&all), batch.as_bytes(), size).unwrap();
        assert_eq!(out, r#"{"error":{"code":400,"message":"Batch"}}"#);
    }
    for text in
        [r#"{"error":{"message":{"ssn":"s3cret"}}}"#, r#"[{"ssn":"s3cret"}]"#, r#"{"error":[{"ssn":"s3cret"}]}"#]
    {
        assert!(run(&errors(&all), text.as_bytes(), 9).is_err(), "{text}");
    }
    let rest = plan("all", "GET /rest/people");
    let problem = r#"{"title":"No","status":400,"detail":"x","errors":{"ssn":"s3cret"},"ssn":"s3cret"}"#;
    assert_eq!(run(&errors(&rest), problem.as_bytes(), 9).unwrap(), r#"{"title":"No","status":400,"detail":"x"}"#);
    for (key, request, ..) in cases() {
        assert!(plan(key, request).hide_error_bodies, "{request}");
    }
}

/// The plan, carried out slowly and obviously on the whole document.
fn slow(plan: &ResponsePlan, body: &Value) -> Option<Value> {
    let mut rows = Vec::new();
    let out = walk(plan, &[], body, &mut rows)?;
    let met = |site: &RowSite| {
        !site.required || {
            let depth = match site.path.last() {
                Some(PathStep::Elements | PathStep::AnyMember) => site.path.len() - 1,
                _ => site.path.len(),
            };
            site.path[..depth]
                .iter()
                .try_fold(body, |value, step| match step {
                    PathStep::Member(name) => value.get(&**name),
                    _ => panic!("no required site is below a list"),
                })
                .is_some()
        }
    };
    if !plan.sites.iter().all(met) {
        return None;
    }
    match rows.as_slice() {
        _ if !plan.one_row => Some(out),
        [row] => Some(row.clone()),
        _ => None,
    }
}

fn walk(plan: &ResponsePlan, path: &[Option<String>], value: &Value, rows: &mut Vec<Value>) -> Option<Value> {
    let here = |path: &[Option<String>]| -> Vec<usize> {
        let leads = |site: &RowSite| {
            path.len() <= site.path.len()
                && site.path.iter().zip(path).all(|(step, have)| match (step, have) {
                    (PathStep::Member(name), Some(have)) => **name == **have,
                    (PathStep::AnyMember, Some(_)) | (PathStep::Elements, None) => true,
                    _ => false,
                })
        };
        (0..plan.sites.len()).filter(|at| leads(&plan.sites[*at])).collect()
    };
    let sites = here(path);
    let ends = |at: &&usize| plan.sites[**at].path.len() == path.len();
    let row = sites.iter().filter(ends).find(|at| !matches!(plan.sites[**at].shape, RowShape::Plain(_)));
    if value.is_null() || sites.is_empty() {
        return Some(value.clone());
    }
    for at in &sites {
        let site = &plan.sites[*at];
        let fits = match (site.path.get(path.len()), &site.shape) {
            (Some(PathStep::Elements), _) | (None, RowShape::Array(_)) => value.is_array(),
            (Some(_), _) | (None, RowShape::Object) => value.is_object(),
            (None, RowShape::Scalar(_) | RowShape::Plain(Plain::Scalar)) => !value.is_array() && !value.is_object(),
            (None, RowShape::Plain(Plain::Number)) => value.is_number(),
            (None, RowShape::Plain(Plain::Boolean)) => value.is_boolean(),
            (None, RowShape::Plain(Plain::OneOf(known))) => value.as_str().is_some_and(|text| known.contains(text)),
        };
        if !fits {
            return None;
        }
    }
    let field = |name: &str, leads: bool| match row.map(|at| &plan.sites[*at]) {
        None => leads.then_some(false),
        Some(site) if !site.visible.contains(name) => {
            (leads && site.nested.iter().any(|nested| **nested == *name)).then_some(false)
        }
        Some(site) => Some(site.masks.iter().any(|mask| *mask.field == *name)),
    };
    let below = |step: Option<String>| [path, &[step]].concat();
    let out = match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, value) in members {
                let path = below(Some(name.clone()));
                match field(name, !here(&path).is_empty()) {
                    None => {}
                    Some(true) => drop(kept.insert(name.clone(), Value::Null)),
                    Some(false) => drop(kept.insert(name.clone(), walk(plan, &path, value, rows)?)),
                }
            }
            Value::Object(kept)
        }
        Value::Array(elements) => {
            let columns = row.and_then(|at| match &plan.sites[*at].shape {
                RowShape::Array(columns) => Some(columns),
                _ => None,
            });
            if columns.is_some_and(|columns| columns.len() != elements.len()) {
                return None;
            }
            let mut kept = Vec::new();
            for (at, value) in elements.iter().enumerate() {
                match columns.map_or(Some(false), |columns| field(&columns[at], false)) {
                    None => {}
                    Some(true) => kept.push(Value::Null),
                    Some(false) => kept.push(walk(plan, &below(None), value, rows)?),
                }
            }
            Value::Array(kept)
        }
        scalar => scalar.clone(),
    };
    if row == Some(&0) && out.is_object() {
        rows.push(out.clone());
    }
    Some(out)
}

/// Names that servers give to parts of their answers; no field has one.
const NAMES: [&str; 20] = [
    "resource",
    "Resource",
    "rows",
    "ROWS",
    "items",
    "data",
    "meta",
    "count",
    "next",
    "total",
    "page",
    "columns",
    "primary_keys",
    "facet_results",
    "results",
    "record",
    "debug",
    "error",
    "person",
    "notes_by_person_id",
];

/// One change of a document: what, where (a share of all containers), and a name.
fn change() -> impl Strategy<Value = (u8, f64, &'static str)> {
    (0..9_u8, 0.0..1.0, prop::sample::select(NAMES.to_vec()))
}

/// All containers, the document first.
fn containers<'a>(value: &'a mut Value, pick: &mut usize) -> Option<&'a mut Value> {
    if !value.is_array() && !value.is_object() {
        return None;
    }
    if *pick == 0 {
        return Some(value);
    }
    *pick -= 1;
    match value {
        Value::Array(all) => all.iter_mut().find_map(|value| containers(value, pick)),
        Value::Object(all) => all.values_mut().find_map(|value| containers(value, pick)),
        _ => None,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(count).sum::<usize>(),
        Value::Object(all) => 1 + all.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Moves containers about. No scalar gets another name, so that a secret never comes to stand where it may be seen.
fn changed(mut body: Value, changes: &[(u8, f64, &str)]) -> Value {
    for (what, place, name) in changes {
        let mut pick = ((count(&body) as f64) * place) as usize;
        let whole = body.clone();
        let Some(found) = containers(&mut body, &mut pick) else { continue };
        let old = found.take();
        *found = match what {
            0 => json!({ *name: old }),
            1 => json!([old]),
            2 => json!({ *name: old, "resource": [], "rows": [], "data": {"items": []} }),
            3 => json!({ *name: whole }),
            4 => Value::Null,
            5 => match old {
                Value::Array(mut all) if all.len() == 1 => all.remove(0),
                Value::Object(all) => {
                    all.into_iter().map(|(_, value)| value).find(|value| count(value) > 0).unwrap_or(Value::Null)
                }
                other => other,
            },
            6 => match old {
                Value::Object(all) => {
                    let moved = |(have, value): (String, Value)| {
                        if count(&value) > 0 { ((*name).to_owned(), value) } else { (have, value) }
                    };
                    Value::Object(all.into_iter().map(moved).collect())
                }
                other => other,
            },
            7 => match old {
                Value::Object(mut all) => {
                    all.insert((*name).to_owned(), whole);
                    Value::Object(all)
                }
                Value::Array(mut all) => {
                    all.push(whole);
                    Value::Array(all)
                }
                other => other,
            },
            _ => match old {
                Value::Array(all) => {
                    Value::Object(all.into_iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect())
                }
                Value::Object(all) => {
                    all.into_iter().map(|(_, value)| value).filter(|value| count(value) > 0).collect()
                }
                other => other,
            },
        };
    }
    body
}

#[test]
fn whatever_form_an_answer_has_nothing_hidden_goes_on() {
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut passed) = (0, 0);
    for (key, request, body, _) in cases() {
        let plan = plan(key, request);
        for _ in 0..400 {
            let changes = prop::collection::vec(change(), 1..4).new_tree(&mut runner).unwrap().current();
            let body = changed(body.clone(), &changes);
            let text = body.to_string();
            let whole = run(&plan, text.as_bytes(), text.len());
            for size in [1, 2, 3, 5, 16, 64] {
                assert_eq!(run(&plan, text.as_bytes(), size), whole, "{request}: {text}");
            }
            let given = whole.ok().map(|out| serde_json::from_str::<Value>(&out).unwrap());
            assert_eq!(given, slow(&plan, &body), "{request}: {text}");
            if given.is_some() { passed += 1 } else { refused += 1 }
        }
    }
    assert!(refused > 1000 && passed > 1000, "{refused} refused, {passed} passed");
}
