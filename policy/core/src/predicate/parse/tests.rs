use super::*;

fn schema(name: &str) -> Option<FieldType> {
    Some(match name {
        "region" | "status" | "in" => FieldType::String,
        "id" => FieldType::Integer,
        "amount" => FieldType::Number,
        "open" => FieldType::Boolean,
        "created" => FieldType::Timestamp,
        "day" => FieldType::Date,
        "extra" => FieldType::Json,
        _ => return None,
    })
}

fn code(text: &str) -> &'static str {
    match parse(text, &schema) {
        Ok(_) => "ok",
        Err(error) => error.code,
    }
}

#[test]
fn not_binds_tighter_than_and_than_or() {
    let predicate = parse("not id = 1 AND region = 'w' or open = true", &schema).unwrap();
    let Predicate::Or(items) = predicate else { panic!() };
    assert!(matches!(&items[0], Predicate::And(items) if matches!(items[0], Predicate::Not(_))));
    assert!(matches!(&items[1], Predicate::Compare { .. }));
}

#[test]
fn literals_and_placeholders_take_the_type_of_their_field() {
    let cases = [
        ("region = {user.region} AND status = 'active'", "ok"),
        ("region = 'O''Hara'", "ok"),
        ("\"in\" = 'x'", "ok"),
        ("amount >= -1.5e3", "ok"),
        ("amount = 7", "ok"),
        ("id = 7.5", "type_mismatch"),
        ("id = '7'", "type_mismatch"),
        ("id = 9223372036854775808", "type_mismatch"),
        ("amount = 1e999", "type_mismatch"),
        ("region = 7", "type_mismatch"),
        ("region = true", "type_mismatch"),
        ("open = 'true'", "type_mismatch"),
        ("open < true", "type_mismatch"),
        ("created < '2024-02-29T10:00:00+02:00'", "ok"),
        ("created < '2023-02-29T10:00:00Z'", "type_mismatch"),
        ("created < {now}", "ok"),
        ("region = {now}", "type_mismatch"),
        ("day = '2024-12-31'", "ok"),
        ("day = '2024-13-01'", "type_mismatch"),
        ("extra = 'x'", "type_mismatch"),
        ("extra = {user.x}", "type_mismatch"),
        ("extra is not null", "ok"),
        ("id LIKE '1%'", "type_mismatch"),
        ("region NOT like 'w%'", "ok"),
        ("region LIKE {user.region}", "predicate_syntax"),
        ("id not in (1, 2, {user.ids})", "ok"),
        ("TRUE", "ok"),
    ];
    for (text, want) in cases {
        assert_eq!(code(text), want, "{text}");
    }
}

#[test]
fn anything_outside_the_grammar_is_refused_with_its_place() {
    let cases = [
        ("", 0, "predicate_syntax"),
        ("regoin = 'w'", 0, "unknown_field"),
        ("region = 'w' OR", 15, "predicate_syntax"),
        ("region = 'w", 9, "predicate_syntax"),
        ("region = 'w') OR (TRUE", 12, "predicate_syntax"),
        ("region == 'w'", 8, "predicate_syntax"),
        ("region = NULL", 9, "predicate_syntax"),
        ("id <> 1", 3, "predicate_syntax"),
        ("id IN ()", 7, "predicate_syntax"),
        ("id = 1 -- x", 7, "predicate_syntax"),
        ("id = 1; id", 6, "predicate_syntax"),
        ("id = {user}", 5, "unknown_placeholder"),
        ("id = {user.a b}", 5, "unknown_placeholder"),
        ("id = {session.token}", 5, "unknown_placeholder"),
        ("id = 12x", 5, "predicate_syntax"),
    ];
    for (text, position, want) in cases {
        let error = parse(text, &schema).unwrap_err();
        assert_eq!((error.position, error.code), (position, want), "{text}: {error}");
    }
}

#[test]
fn length_depth_and_lists_are_bounded() {
    let nested = |n: usize| format!("{}TRUE{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(code(&nested(MAX_DEPTH - 1)), "ok");
    assert_eq!(code(&nested(MAX_DEPTH)), "predicate_limit");
    assert_eq!(code(&"NOT ".repeat(2000)), "predicate_limit");
    let list = |n: usize| format!("id IN ({})", vec!["1"; n].join(","));
    assert_eq!(code(&list(MAX_LIST)), "ok");
    assert_eq!(code(&list(MAX_LIST + 1)), "predicate_limit");
    assert_eq!(code(&" ".repeat(MAX_LENGTH + 1)), "predicate_limit");
    let tower = (0..20).fold("id = 1".to_owned(), |inner, _| format!("(id = 2 AND (id = 3 OR {inner}))"));
    assert_eq!(code(&tower), "predicate_limit");
}

#[test]
fn timestamps_count_from_the_epoch() {
    assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(parse_rfc3339("2000-03-01T01:00:00.5+01:00"), Some(951_868_800));
    assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), Some(-1));
    assert_eq!(parse_rfc3339("2024-01-01T00:00:00"), None);
    assert!(
        is_timestamp("2024-01-01 00:00:00") && !is_timestamp("2024-01-01") && !is_timestamp("2024-01-01T24:00:00Z")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z'\"{}()=<>!,. 0-9e+é-]{0,80}") {
        let _ = parse(&text, &schema);
    }
}
