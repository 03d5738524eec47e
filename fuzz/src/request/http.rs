//! Declared REST.

use super::ask;
use crate::input::{Choices, parts};
use doorward_policy::request::WriteKind;
use serde_json::Value;
use std::sync::LazyLock;

pub(super) static SEEDS: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/http.txt")));

/// Declared REST: the parameter that filters is set, once.
pub fn http(bytes: &[u8]) {
    const WORDS: [&str; 50] = [
        "&",
        "=",
        "?",
        "&region=west",
        "&region=east",
        "&region=",
        "&Region=west",
        "&region%5B%5D=west",
        "&status=open",
        "&status=x",
        "&limit=5",
        "&limit=-1",
        "/orders",
        "/orders/search",
        "/orders/7",
        "/orders/latest",
        "/",
        "//",
        "..",
        "%2F",
        "%2e",
        "%00",
        ";",
        "%25",
        "GET ",
        "POST ",
        "PUT ",
        "PATCH ",
        "DELETE ",
        "HEAD ",
        "\"where\":{\"region\":\"west\"}",
        "\"where\":{\"region\":[\"west\"]}",
        "\"where\":null,",
        "\"region\":\"east\",",
        "\"region\":\"west\",",
        "\"page\":1,",
        "\"ssn\":\"1\",",
        "\"note\":{}",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "null",
        "\\u0000",
        "content-type: text/plain",
        "x-http-method: DELETE",
        "\n",
        "7",
        "west",
    ];
    let Some(passed) = ask(&mut Choices(bytes), "shop", "/shop", &SEEDS, &WORDS) else { return };
    if !passed.limited() {
        return;
    }
    let said = &passed.text;
    let west = |value: &Value| value == "west";
    let body = passed.body();
    let path = passed.rewrite.path.as_deref().unwrap_or_default();
    match passed.parsed.request.operations[0].write {
        WriteKind::None if path.starts_with("/shop/orders/search") => {
            assert!(west(&body["where"]["region"]), "{said}");
        }
        WriteKind::None => {
            assert!(path.starts_with("/shop/orders?"), "{said}");
            let regions: Vec<_> = passed.query().into_iter().filter(|(name, _)| name == "region").collect();
            assert_eq!(regions, [("region".to_owned(), "west".to_owned())], "{said}");
        }
        WriteKind::Create => match &body {
            Value::Array(rows) => assert!(rows.iter().all(|row| west(&row["region"])), "{said}"),
            row => assert!(west(&row["region"]), "{said}"),
        },
        _ => panic!("a row named by its key alone was written: {said}"),
    }
}
