use super::super::{MaskKind, MaskRule, PathStep, Plain, RowShape, RowSite};
use super::*;
use crate::bundle::FieldSet;
use proptest::prelude::*;
use std::sync::Arc;

fn site(path: Vec<PathStep>, shape: RowShape, visible: &[&str], masks: &[(&str, MaskKind)]) -> RowSite {
    RowSite {
        path,
        shape,
        visible: Arc::new(FieldSet::new(visible.iter().map(|name| (*name).into()).collect())),
        masks: masks
            .iter()
            .map(|(field, kind)| MaskRule {
                field: (*field).into(),
                kind: *kind,
                fixed: "hidden".into(),
                length: 4,
                filterable: false,
            })
            .collect(),
        nested: Vec::new(),
        required: false,
    }
}

fn member(name: &str) -> PathStep {
    PathStep::Member(name.into())
}

fn run(plan: &ResponsePlan, chunks: &[&[u8]]) -> Result<String, TransformError> {
    let mut transformer = Transformer::new(plan.clone(), Some(b"key"));
    let mut out = Vec::new();
    for chunk in chunks {
        transformer.push(chunk, &mut out)?;
    }
    transformer.finish(&mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn envelope() -> ResponsePlan {
    let mut resource = site(
        vec![member("resource"), PathStep::Elements],
        RowShape::Object,
        &["id", "name", "email"],
        &[("email", MaskKind::MaskEmail)],
    );
    resource.nested = vec!["orders".into()];
    let orders = site(
        vec![member("resource"), PathStep::Elements, member("orders"), PathStep::Elements],
        RowShape::Object,
        &["total"],
        &[],
    );
    let count = RowSite::plain(vec![member("meta"), member("count")], Plain::Number);
    ResponsePlan { sites: vec![resource.required(), orders, count], hide_error_bodies: true, ..ResponsePlan::default() }
}

const BODY: &str = r#" {"query" : {"sql":"select \"ssn\""}, "resource":[ {"ssn":"1","id":1,"name":"Zo\u00eb \"Q\"","email":"zoe@example.com",
  "orders":[{"total":-1.5e+3,"cost":[1,{"a":null}]},{"cost":2}]} , {"\u0073sn":"2","id":2,"email":null,"extra":{"ssn":[]}}, null ],
  "next":"/p?secret=1","meta":{"count":2,"ok":true}}  "#;
const WANT: &str = r#"{"resource":[{"id":1,"name":"Zo\u00eb \"Q\"","email":"z***@example.com","orders":[{"total":-1.5e+3},{}]},{"id":2,"email":null},null],"meta":{"count":2}}"#;

#[test]
fn hidden_members_go_masks_apply_and_the_rest_stays() {
    assert_eq!(run(&envelope(), &[BODY.as_bytes()]).unwrap(), WANT);
}

#[test]
fn result_is_the_same_at_any_chunk_boundary() {
    let bytes = BODY.as_bytes();
    for at in 0..=bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert_eq!(run(&envelope(), &[left, right]).unwrap(), WANT, "split at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(run(&envelope(), &single).unwrap(), WANT);
}

#[test]
fn rows_as_arrays_are_filtered_by_column() {
    let shape = RowShape::Array(vec!["id".into(), "ssn".into(), "email".into()]);
    let plan = ResponsePlan {
        sites: vec![site(
            vec![member("rows"), PathStep::Elements],
            shape,
            &["id", "email"],
            &[("email", MaskKind::MaskEmail)],
        )],
        ..ResponsePlan::default()
    };
    let out = run(&plan, &[br#"{"rows":[[1,"x","a@b.c"],[2,{"deep":[1]},["a"]]]}"#]).unwrap();
    assert_eq!(out, r#"{"rows":[[1,"a***@b.c"],[2,null]]}"#);
    assert_eq!(run(&plan, &[br#"{"rows":[[1,"x"]]}"#]), Err(TransformError::Unexpected));
    assert_eq!(run(&plan, &[br#"{"rows":[[1,"x","y","z"]]}"#]), Err(TransformError::Unexpected));
    assert_eq!(run(&plan, &[br#"{"rows":[{"id":1}]}"#]), Err(TransformError::Unexpected));
    // Of a row of another length, nobody knows which column a value is of: nothing of it goes on.
    let mut transformer = Transformer::new(plan.clone(), None);
    let mut released = Vec::new();
    for chunk in br#"{"rows":[[1,"x","a@b.c"],["secret"]]}"#.chunks(1) {
        if transformer.push(chunk, &mut released).is_err() {
            break;
        }
    }
    assert_eq!(String::from_utf8(released).unwrap(), r#"{"rows":[[1,"a***@b.c"],"#);
    let long = format!(r#"{{"rows":[[1,"x","y"],["{}",2,3]]}}"#, "z".repeat(MAX_ROW + 8192));
    assert!(run(&plan, &[long.as_bytes()]).is_ok());
    let parts = run(&plan, &long.as_bytes().chunks(4096).collect::<Vec<_>>());
    assert_eq!(parts.err(), Some(TransformError::Limit));
}

#[test]
fn rows_elsewhere_than_promised_are_refused() {
    for body in [
        r#"{"resource":{"id":1}}"#,
        r#"{"resource":[[1]]}"#,
        r#"[{"ssn":1}]"#,
        r#"{"resource":"x"}"#,
        r#"{"id":1,"email":"a@b.c"}"#,
        r#"{"records":[{"id":1}]}"#,
        r#"{"Resource":[{"id":1}]}"#,
        r#"{"error":{"context":{"resource":[{"id":1}]}}}"#,
        r#"{"resource":[],"meta":[{"ssn":1}]}"#,
        r#"{"resource":[],"meta":{"count":"ssn"}}"#,
        r#"{"resource":[],"meta":{"count":{"ssn":1}}}"#,
        "{}",
        "7",
        "\"ssn\"",
    ] {
        for size in 1..=body.len() {
            let out = run(&envelope(), &body.as_bytes().chunks(size).collect::<Vec<_>>());
            assert_eq!(out, Err(TransformError::Unexpected), "{body}");
        }
    }
}

#[test]
fn what_stands_beside_the_rows_goes_but_for_what_is_known_to_be_harmless() {
    for (body, want) in [
        (
            r#"{"resource":[],"debug":[{"ssn":1}],"meta":{"count":7,"rows":[1]},"next":"ssn"}"#,
            r#"{"resource":[],"meta":{"count":7}}"#,
        ),
        (r#"{"resource":null,"resource":[{"ssn":1}]}"#, r#"{"resource":null,"resource":[{}]}"#),
        (r#"{"\u0072esource":[{"ssn":1,"id":2}],"RESOURCE":[{"ssn":1}]}"#, r#"{"\u0072esource":[{"id":2}]}"#),
    ] {
        for size in 1..=body.len() {
            let out = run(&envelope(), &body.as_bytes().chunks(size).collect::<Vec<_>>());
            assert_eq!(out.as_deref(), Ok(want), "{body}");
        }
    }
}

#[test]
fn one_row_comes_bare_and_neither_none_nor_two_come_at_all() {
    let plan = ResponsePlan { one_row: true, ..envelope() };
    let row = r#"{"ssn":"1","id":1,"email":"zoe@b.c","orders":[{"total":1,"cost":2},{"total":3}]}"#;
    let want = r#"{"id":1,"email":"z***@b.c","orders":[{"total":1},{"total":3}]}"#;
    for (body, want) in [
        (format!(r#"{{"meta":{{"count":1}},"resource":[{row}],"x":[1]}}"#), Ok(want)),
        (r#"{"resource":[{}]}"#.to_owned(), Ok("{}")),
        (r#"{"resource":[],"meta":{"count":0}}"#.to_owned(), Err(TransformError::Absent)),
        (r#"{"resource":null}"#.to_owned(), Err(TransformError::Absent)),
        (format!(r#"{{"resource":[{row},{row}]}}"#), Err(TransformError::Unexpected)),
        (format!(r#"{{"resource":[{row}],"resource":[{row}]}}"#), Err(TransformError::Unexpected)),
        (row.to_owned(), Err(TransformError::Unexpected)),
        (r#"{"resource":[7]}"#.to_owned(), Err(TransformError::Unexpected)),
    ] {
        for size in 1..=body.len() {
            let out = run(&plan, &body.as_bytes().chunks(size).collect::<Vec<_>>());
            assert_eq!(out.as_deref(), want.as_ref().map(|text| *text), "{body}");
        }
    }
}

#[test]
fn what_goes_on_is_utf_8_at_any_chunk_boundary() {
    for (name, value, good) in [
        (&b"id"[..], "é😀".as_bytes(), true),
        (b"id", b"\xc3", false),
        (b"id", b"\xff", false),
        (b"id", b"\xed\xa0\x80", false),
        (b"id", b"\xc0\xaf", false),
        (b"email", b"\xe9", false),
        (b"na\xffme", b"x", false),
        // Nobody gets this.
        (b"ssn", b"\xff", true),
    ] {
        let body = [&b"{\"resource\":[{\""[..], name, b"\":\"", value, b"\"}]}"].concat();
        for size in 1..=body.len() {
            let out = run(&envelope(), &body.chunks(size).collect::<Vec<_>>());
            assert_eq!(out.is_ok(), good, "{} in chunks of {size}", String::from_utf8_lossy(&body));
        }
    }
    for body in [&b"\xef\xbb\xbf{\"resource\":[]}"[..], b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}", b"{\0\"\0", b"\0\0\0{"] {
        assert!(run(&envelope(), &[body]).is_err());
    }
}

#[test]
fn what_is_not_json_is_refused() {
    let plan = envelope();
    for body in [
        "",
        " ",
        "{\"resource\":[]}{\"resource\":[]}",
        "{\"resource\":[]}\n{\"resource\":[]}",
        "{\"resource\":[]},{}",
        "{",
        "{]",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":nul",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\n\"}",
        "{} {}",
        "{}x",
        "{\"a\":1 2}",
        "{\"a\":[1,]}",
        "{\"a\":+1}",
        "{\"\\ud800\":1}",
    ] {
        assert!(run(&plan, &[body.as_bytes()]).is_err(), "{body}");
    }
    let deep = format!("{{\"a\":{}", "[".repeat(MAX_DEPTH + 1));
    assert_eq!(run(&plan, &[deep.as_bytes()]), Err(TransformError::Limit));
}

#[test]
fn nothing_is_released_after_an_error() {
    let mut transformer = Transformer::new(envelope(), None);
    let mut out = Vec::new();
    assert!(transformer.push(b"{\"resource\":3", &mut out).is_err());
    let before = out.len();
    assert!(transformer.push(br#","a":1}"#, &mut out).is_err());
    assert!(transformer.finish(&mut out).is_err());
    assert_eq!(out.len(), before);
}

#[test]
fn members_are_told_apart_whatever_came_in_the_rows_before() {
    let plan = ResponsePlan {
        sites: vec![site(vec![PathStep::Elements], RowShape::Object, &["a", "ab", "b"], &[("b", MaskKind::MaskFixed)])],
        ..ResponsePlan::default()
    };
    let body =
        r#"[{"a":1,"ab":2,"b":3},{"ab":2,"a":1,"abc":0},{"b":3,"b":4,"\u0062":5,"a":1},{},{"A":1,"a\u0000":2,"ab":3}]"#;
    let want = r#"[{"a":1,"ab":2,"b":"hidden"},{"ab":2,"a":1},{"b":"hidden","b":"hidden","\u0062":"hidden","a":1},{},{"ab":3}]"#;
    for size in 1..=body.len() {
        assert_eq!(run(&plan, &body.as_bytes().chunks(size).collect::<Vec<_>>()).unwrap(), want, "chunks of {size}");
    }
}

#[test]
fn rows_of_very_many_members_are_filtered_all_the_same() {
    let plan = ResponsePlan {
        sites: vec![site(vec![PathStep::Elements], RowShape::Object, &["n700"], &[])],
        ..ResponsePlan::default()
    };
    let members: Vec<String> = (0..1000).map(|at| format!("\"n{at}\":{at}")).collect();
    let body = format!("[{{{0}}},{{{0}}}]", members.join(","));
    assert_eq!(run(&plan, &[body.as_bytes()]).unwrap(), r#"[{"n700":700},{"n700":700}]"#);
}

#[test]
fn members_in_changing_order_are_filtered_by_their_names() {
    let members: Vec<String> = (0..300).map(|at| format!("m{at}")).collect();
    let visible: Vec<&str> = members.iter().step_by(3).map(String::as_str).collect();
    let masks: Vec<(&str, MaskKind)> = visible.iter().step_by(2).map(|name| (*name, MaskKind::MaskFixed)).collect();
    let plan = ResponsePlan {
        sites: vec![site(vec![PathStep::Elements], RowShape::Object, &visible, &masks)],
        ..ResponsePlan::default()
    };
    let (mut body, mut want) = (String::from("["), String::from("["));
    for row in 0..40_usize {
        let (mut given, mut kept) = (Vec::new(), Vec::new());
        for at in 0..members.len() {
            // A step that has no part in common with 300 visits every member once.
            let number = (at * [1, 7, 11, 13, 299][row % 5] + row) % members.len();
            given.push(format!("\"m{number}\":{row}"));
            match number % 6 {
                0 => kept.push(format!("\"m{number}\":\"hidden\"")),
                3 => kept.push(format!("\"m{number}\":{row}")),
                _ => {}
            }
        }
        let comma = if row == 0 { "" } else { "," };
        body += &format!("{comma}{{{}}}", given.join(","));
        want += &format!("{comma}{{{}}}", kept.join(","));
    }
    body.push(']');
    want.push(']');
    for size in [1, 7, 1000, 1 << 20] {
        let out = run(&plan, &body.as_bytes().chunks(size).collect::<Vec<_>>());
        assert_eq!(out.as_ref(), Ok(&want), "chunks of {size}");
    }
}

#[test]
fn names_and_masked_values_have_their_limits_at_any_chunk_size() {
    let plan = envelope();
    let name = |length: usize| format!("{{\"resource\":[],\"{}\":1}}", "n".repeat(length - 2));
    let value = |length: usize| format!("{{\"resource\":[{{\"email\":\"{}\"}}]}}", "v".repeat(length - 2));
    for size in [1000, 1 << 20] {
        let run = |body: String| run(&plan, &body.as_bytes().chunks(size).collect::<Vec<_>>());
        assert!(run(name(MAX_KEY)).is_ok());
        assert_eq!(run(name(MAX_KEY + 1)), Err(TransformError::Limit));
        assert!(run(value(MAX_MASKED)).is_ok());
        assert_eq!(run(value(MAX_MASKED + 1)), Err(TransformError::Limit));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = run(&envelope(), &[&bytes]);
    }
}
