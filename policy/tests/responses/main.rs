//! What goes on of a response, through the whole engine: of every dialect and kind of request, the form that its data API
//! has, the hostile ones, and forms made from these at random, in chunks of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod cases;
mod changes;
mod slow;

use cases::cases;
use doorward_policy::{
    bundle::Tables,
    engine::Settings,
    identity::TokenCache,
    request::HttpRequest,
    transform::{ResponsePlan, TransformError, Transformer},
};
use doorward_test_support::{
    TestHost,
    engine::{headers, rewrite, verdict},
    policy::{self, access_key},
};
use serde_json::Value;
use slow::slow;
use std::sync::LazyLock;

/// In every cell that is hidden or masked, and in nothing else.
const SECRET: &str = "s3cret";

const POLICY: &str = include_str!("policy.yaml");

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let keys = ["open", "limited", "all"].map(|key| access_key(key, key, &format!("app-{key}"), ""));
    policy::tables(&(POLICY.to_owned() + &keys.concat()))
});

/// What the response to this request needs.
fn plan(key: &str, request: &str) -> ResponsePlan {
    let (method, rest) = request.split_once(' ').unwrap();
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let length = body.len().to_string();
    let mut pairs = vec![("x-doorward-key", key)];
    if !body.is_empty() {
        pairs.extend([("content-type", "application/json"), ("content-length", &length)]);
    }
    let (headers, body) = (headers(&pairs), Some(body.as_bytes()));
    let whole = HttpRequest { method, authority: "h", path, headers: &headers, body, source_address: "192.0.2.1" };
    let (settings, mut cache) = (Settings { bodies: true, ..Settings::default() }, TokenCache::default());
    match rewrite(verdict(&TABLES, &TestHost::new(), &settings, &mut cache, &whole)) {
        Ok(rewrite) => rewrite.response,
        Err(denial) => panic!("{request}: {denial:?}"),
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
