//! JSONTestSuite through the streaming transformer: what must be refused is, what must be accepted is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_policy::transform::{ResponsePlan, Transformer};
use doorward_test_support::vectors::corpus;

fn accepted(bytes: &[u8], chunk: usize) -> bool {
    // A plan that changes nothing but makes the transformer read.
    let mut transformer = Transformer::new(ResponsePlan { hide_error_bodies: true, ..ResponsePlan::default() }, None);
    let mut out = Vec::new();
    bytes.chunks(chunk).all(|part| transformer.push(part, &mut out).is_ok()) && transformer.finish(&mut out).is_ok()
}

#[test]
fn transformer_accepts_and_refuses_as_the_json_test_suite_says() {
    let Some(suite) = corpus("json/jsontestsuite.json") else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for item in suite["items"].as_array().unwrap() {
        let decode = |key: &str| STANDARD.decode(item[key].as_str().unwrap_or_default()).unwrap();
        let bytes = match item.get("gen") {
            Some(made) => {
                let part = |key: &str| STANDARD.decode(made[key].as_str().unwrap_or_default()).unwrap();
                let times = usize::try_from(made["times"].as_u64().unwrap()).unwrap();
                [part("repeat_b64").repeat(times), part("tail_b64")].concat()
            }
            None => decode("b64"),
        };
        let name = item["name"].as_str().unwrap();
        let (whole, split) = (accepted(&bytes, usize::MAX), accepted(&bytes, 1));
        if whole != split {
            wrong.push(format!("{name}: depends on chunks"));
        }
        match item["expect"].as_str().unwrap() {
            "accept" if !whole => wrong.push(format!("{name}: refused")),
            "reject" if whole => wrong.push(format!("{name}: accepted")),
            _ => {}
        }
        seen += 1;
    }
    assert!(seen > 300, "{seen} items");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
