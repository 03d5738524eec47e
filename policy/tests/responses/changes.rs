//! Forms made from those of [`cases`] at random.

use super::{cases::cases, plan, run, slow::slow};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value, json};

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
