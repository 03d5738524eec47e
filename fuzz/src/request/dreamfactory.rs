//! DreamFactory, whose filter is one text.

use super::ask;
use crate::{
    input::{Choices, parts},
    policy::TABLES,
};
use doorward_policy::{
    dialect::{self, Parsed},
    request::{Header, HttpRequest, WriteKind},
};
use serde_json::Value;
use std::sync::LazyLock;

pub(super) static SEEDS: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/dreamfactory.txt")));

/// DreamFactory: the policy's filter is the last conjunct of what is written, and what is written says itself again.
pub fn dreamfactory(bytes: &[u8]) {
    const WORDS: [&str; 88] = [
        "&",
        "=",
        "?",
        "&filter=",
        "&where=",
        "&fields=",
        "&select=",
        "&ids=",
        "&limit=",
        "&top=",
        "&offset=",
        "&order=",
        "&group=",
        "&having=",
        "&related=orders_by_customer_id",
        "&orders_by_customer_id.fields=",
        "&include_count=true",
        "&count_only=true",
        "&include_schema=true",
        "&method=DELETE",
        "&params=",
        "&api_key=x",
        "&id_field=ssn",
        "&continue=1",
        "&as_list=1",
        "id",
        "region",
        "status",
        "score",
        "email",
        "ssn",
        "SSN",
        "*",
        "COUNT(*)",
        "SUM(score)",
        "MAX(ssn)",
        "%20AND%20",
        "%20OR%20",
        "%20NOT%20",
        "%20XOR%20",
        "%20NOR%20",
        "%26%26",
        "%7C%7C",
        "(",
        ")",
        ")%20OR%20(",
        ")OR(",
        "%3D",
        "!%3D",
        "%3E",
        "%3C%3D",
        "%20LIKE%20",
        "%20CONTAINS%20",
        "%20IN%20(1,2)",
        "%20IS%20NULL",
        "'west'",
        "%27",
        "%22",
        ":p0",
        "%7Buser.id%7D",
        "{\"expression\":\"now()\"}",
        "\"resource\":[",
        "\"ids\":[1]",
        "\"filter\":\"id>0\"",
        "\"params\":{}",
        "\"region\":\"east\"",
        "\"region\":\"west\",",
        "\"ssn\":1,",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\u0000",
        "null",
        "x-http-method: GET",
        "x-method-override: DELETE",
        "x-http-method-override: PATCH",
        "\n",
        "%2F",
        "%00",
        "..",
        ";",
        "%25",
        "--",
        "_table/",
        "_schema/",
        "_proc/",
    ];
    let Some(passed) = ask(&mut Choices(bytes), "crm", "/api/v2/crm", &SEEDS, &WORDS) else { return };
    let (said, rewrite) = (&passed.text, &passed.rewrite);
    let headers: Vec<Header<'_>> =
        rewrite.set_headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let operation = &passed.parsed.request.operations[0];
    let tunnelled = rewrite.set_headers.iter().any(|(name, _)| name == "x-http-method");
    let again = HttpRequest {
        method: if tunnelled { "POST" } else { doorward_policy::request::verb_name(operation.verb) },
        authority: "",
        path: rewrite.path.as_deref().unwrap_or_default(),
        headers: &headers,
        body: rewrite.body.as_deref(),
        source_address: "",
    };
    let service = TABLES.service("crm").expect("declared");
    let again = dialect::parse(service, "/api/v2/crm", &again).unwrap_or_else(|denial| panic!("{denial}: {said}"));
    let outline = |parsed: &Parsed| -> Vec<_> {
        parsed.request.operations.iter().map(|o| (o.component.clone(), o.verb, o.write, o.parent)).collect()
    };
    assert_eq!(outline(&again), outline(&passed.parsed), "{said}");

    if !passed.limited() || &*operation.component != "_table/customers" {
        return;
    }
    if operation.write == WriteKind::Create {
        let body = passed.body();
        let records = match body.get("resource") {
            Some(Value::Array(records)) => records.as_slice(),
            _ => std::slice::from_ref(&body),
        };
        assert!(records.iter().all(|record| record["region"] == "west"), "a row outside the region is written: {said}");
        return;
    }
    let query = passed.query();
    let given = |name: &str| query.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    let filter = given("filter").unwrap_or_else(|| panic!("no filter: {said}"));
    let policy = filter.rsplit_once(" AND (").map_or(filter, |(_, last)| last.trim_end_matches(')'));
    let parameter =
        policy.strip_prefix("region = ").unwrap_or_else(|| panic!("the policy is not the last test: {said}"));
    assert_eq!(given(&format!("params[{parameter}]")), Some("west"), "{said}");
    // Texts are parameters, but for the empty one.
    let mut words = filter.split([' ', '(', ')', ',']).filter(|word| *word != "''");
    let plain = |word: &str| !word.contains(['\'', '"', '{', '}', ';', '`', '\\']);
    assert!(words.all(plain), "text in the filter: {said}");
    let (mut depth, mut closed) = (0_i32, 0);
    for c in filter.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        closed += i32::from(c == ')' && depth == 0);
        assert!(depth >= 0, "unbalanced: {said}");
    }
    // (client) AND (policy), nothing beside.
    assert!(depth == 0 && (filter == policy || closed == 2), "the filter is not one conjunction: {said}");
}
