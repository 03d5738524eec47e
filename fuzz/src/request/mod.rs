//! Requests of each dialect: parsed, decided, written anew. What goes upstream stays within the caller's rows and fields.

use crate::{
    input::{Choices, damaged, parts},
    policy::{Caller, TABLES},
};
use doorward_policy::{
    bundle::Component,
    decide::{Constraints, decide},
    dialect::{self, Parsed, Rewrite},
    request::{Clause, Header, HttpRequest, WriteKind},
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite, Transformer},
};
use doorward_test_support::host::NOW;
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// What no caller but the admin may see, in the responses below.
const SECRET: &str = "s3cret";

/// A request that was let through.
struct Passed {
    caller: Caller,
    text: String,
    parsed: Parsed,
    constraints: Constraints,
    rewrite: Rewrite,
}

/// Reads a request written as `METHOD PATH`, header lines, an empty line and a body, and takes it through all steps.
fn ask(choices: &mut Choices<'_>, service: &str, prefix: &str, seeds: &[&str], words: &[&str]) -> Option<Passed> {
    let caller = Caller::of(choices.byte());
    let bytes = damaged(choices, seeds, words);
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (&*bytes, &[][..]),
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n');
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut headers: Vec<Header<'_>> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| Header { name, value: value.as_bytes() })
        .collect();
    if !body.is_empty() && headers.iter().all(|header| header.name != "content-type") {
        headers.push(Header { name: "content-type", value: b"application/json" });
    }
    let body = (!body.is_empty()).then_some(body);
    let request = HttpRequest { method, authority: "a", path, headers: &headers, body, source_address: "10.1.2.3" };

    let service = TABLES.service(service)?;
    let _ = dialect::body_need(service, &request);
    let parsed = dialect::parse(service, prefix, &request).ok()?;
    assert!(!parsed.request.operations.is_empty(), "a request without an operation: {head}");
    let constraints = decide(&TABLES, service, &caller.principal(), &parsed.request, None, NOW, None).outcome.ok()?;
    let rewrite = dialect::emit(service, prefix, &parsed, &constraints).ok()?;
    let text = format!(
        "{caller:?}: {}\nbecame {} {:?}",
        String::from_utf8_lossy(&bytes),
        rewrite.path.as_deref().unwrap_or_default(),
        rewrite.body.as_deref().map(String::from_utf8_lossy)
    );
    let passed = Passed { caller, text, parsed, constraints, rewrite };
    well_formed(&passed.rewrite);
    passed.fields_are_visible();
    passed.the_response_is_covered(service.components.values().map(AsRef::as_ref).collect());
    Some(passed)
}

/// What is written is a request target and headers, whatever was put into it.
pub fn well_formed(rewrite: &Rewrite) {
    let path = rewrite.path.as_deref().expect("every dialect writes the path");
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{path}");
    for (name, value) in &rewrite.set_headers {
        assert!(!name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n', '\0']), "{name}: {value}");
    }
}

/// The decoded parameters of a request target.
fn query(path: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

impl Passed {
    fn query(&self) -> Vec<(String, String)> {
        query(self.rewrite.path.as_deref().unwrap_or_default())
    }

    fn body(&self) -> Value {
        serde_json::from_slice(self.rewrite.body.as_deref().unwrap_or_default()).unwrap_or_default()
    }

    fn limited(&self) -> bool {
        self.caller != Caller::Admin
    }

    /// No clause names a field that the caller may not see, or that is masked.
    fn fields_are_visible(&self) {
        for (operation, limits) in self.parsed.request.operations.iter().zip(&self.constraints.operations) {
            for used in operation.fields.iter().filter(|used| used.clause != Clause::Write) {
                let (field, said) = (&used.field, &self.text);
                let omitted = used.clause == Clause::Project && limits.omitted.contains(field);
                assert!(limits.visible.contains(field) || omitted, "{field} is hidden: {said}");
                let masked = limits.masks.iter().any(|mask| mask.field == *field && !mask.filterable);
                assert!(!masked || used.clause == Clause::Project, "{field} is masked: {said}");
            }
        }
    }

    /// A response in which each hidden field holds a secret loses it.
    fn the_response_is_covered(&self, components: Vec<&Component>) {
        let plan = &self.rewrite.response;
        if !self.limited() || !plan.reads() {
            return;
        }
        let document = respond(plan, &components).to_string();
        let mut transformer = Transformer::new(plan.clone(), Some(b"key"));
        let mut out = Vec::new();
        let result = transformer.push(document.as_bytes(), &mut out).and_then(|()| transformer.finish(&mut out));
        let out = String::from_utf8_lossy(&out);
        assert!(result.is_ok(), "{result:?}: the plan refuses the API's own form: {document}\n{}", self.text);
        assert!(!out.contains(SECRET), "{out} shows what is hidden: {}", self.text);
    }
}

/// What the API could answer: the form that the plan expects, with every declared field in it.
fn respond(plan: &ResponsePlan, components: &[&Component]) -> Value {
    let secret = |name: &str, site: &RowSite| {
        let masked = site.masks.iter().any(|mask| &*mask.field == name);
        if masked && name == "email" {
            json!(format!("{SECRET}@example.com"))
        } else if masked {
            json!(format!("{SECRET}-1234"))
        } else if site.visible.contains(name) {
            json!("shown")
        } else {
            json!({ "deep": [SECRET, {"x": SECRET}] })
        }
    };
    let row = |site: &RowSite| match &site.shape {
        RowShape::Object => {
            let fields = components.iter().flat_map(|component| &component.fields);
            let mut members: Map<String, Value> =
                fields.map(|field| (field.name.to_string(), secret(&field.name, site))).collect();
            members.insert("undeclared".into(), json!(SECRET));
            Value::Object(members)
        }
        RowShape::Array(columns) => columns.iter().map(|column| secret(column, site)).collect(),
        RowShape::Scalar(name) => json!(secret(name, site).as_str().unwrap_or("shown")),
        RowShape::Plain(Plain::Boolean) => json!(true),
        RowShape::Plain(Plain::Number | Plain::Scalar) => json!(1),
        RowShape::Plain(Plain::OneOf(known)) => known.iter().next().map_or(Value::Null, |name| json!(&**name)),
    };
    let mut document = Value::Null;
    // Sites come before those inside their rows.
    for site in &plan.sites {
        put(&mut document, &site.path, &row(site));
    }
    if plan.one_row {
        document.get_mut("resource").and_then(Value::as_array_mut).into_iter().for_each(|rows| rows.truncate(1));
    }
    if let Value::Object(members) = &mut document {
        // Rows in an object of their own names have no other member.
        if !plan.sites.iter().any(|site| matches!(site.path.first(), Some(PathStep::AnyMember))) {
            members.insert("undeclared".into(), json!([SECRET, {"rows": SECRET}]));
        }
    }
    document
}

fn put(value: &mut Value, path: &[PathStep], row: &Value) {
    match path.split_first() {
        None => *value = row.clone(),
        Some((PathStep::Member(name), rest)) => {
            if !value.is_object() {
                *value = json!({});
            }
            put(&mut value[&**name], rest, row);
        }
        Some((PathStep::AnyMember, rest)) => {
            if value.as_object().is_none_or(Map::is_empty) {
                *value = json!({ "1": null });
            }
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|value| put(value, rest, row));
        }
        Some((PathStep::Elements, rest)) => {
            if value.as_array().is_none_or(Vec::is_empty) {
                *value = json!([null, null]);
            }
            value.as_array_mut().into_iter().flatten().for_each(|value| put(value, rest, row));
        }
    }
}

static DATASETTE: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/datasette.txt")));
static DREAMFACTORY: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/dreamfactory.txt")));
static HTTP: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/http.txt")));

thread_local! {
    static SHOP: Connection = {
        let database = Connection::open_in_memory().expect("SQLite");
        database.execute_batch(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, region TEXT COLLATE NOCASE, status, score REAL, active, born, seen, email, phone, \
             ssn TEXT, notes);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
             INSERT INTO people SELECT i, CASE i % 5 WHEN 0 THEN 'west' WHEN 1 THEN 'WEST' WHEN 2 THEN NULL WHEN 3 THEN 'east' ELSE 'we''st' END,
               CASE i % 4 WHEN 0 THEN 'open' WHEN 1 THEN 'closed' WHEN 2 THEN 5 END, i * 3.5, i % 2, '2000-01-01', '2024-01-01T00:00:00Z',
               'a@b.c', '1', 'secret', '{}' FROM n;
             CREATE TABLE pairs (id INTEGER, region TEXT, status TEXT, ssn TEXT, PRIMARY KEY (id, region));
             INSERT INTO pairs SELECT id, coalesce(region, ''), status, ssn FROM people;
             CREATE VIEW overview AS SELECT id, region, status, ssn FROM people;",
        )
        .expect("a schema");
        database
    };
}

/// Datasette: the conditions, joined as bare text, run on SQLite, which has the last word on what they mean.
pub fn datasette(bytes: &[u8]) {
    const WORDS: [&str; 86] = [
        "&",
        "=",
        "?",
        "&_where=",
        "&_sort=",
        "&_sort_desc=",
        "&_facet=",
        "&_col=",
        "&_nocol=",
        "&_next=",
        "&_size=",
        "&_shape=",
        "&_json=",
        "&region=",
        "&ssn__startswith=",
        "&id__in=1,2",
        "&score__gte=",
        "&_search=x",
        "&_extra=",
        "&sql=select+1",
        "&_nofacet=1",
        "&_nocount=1",
        "id",
        "region",
        "status",
        "score",
        "ssn",
        "SSN",
        "%60ssn%60",
        "%22ssn%22",
        "[ssn]",
        "rowid",
        "arrays",
        "objects",
        "array",
        "object",
        "arrayfirst",
        "max",
        "+or+",
        "+and+",
        "+not+",
        "(",
        ")",
        ")+or+(",
        "1=1",
        "=",
        "!=",
        "<>",
        "'",
        "''",
        "%27",
        "%22",
        "%60",
        "--",
        "/*",
        "*/",
        ";",
        "%00",
        "%0a",
        "%2B",
        "~2F",
        "~00",
        "+in+(1,2)",
        "+is+null",
        "+like+'w%25'",
        "+glob+'[w]*'",
        "+between+1+and+5",
        "+collate+nocase",
        "typeof(",
        "julianday(",
        "abs(",
        "exists(select+1)",
        "union+select+1",
        "null",
        "true",
        "1e5",
        "-1",
        "9223372036854775808",
        "x'00'",
        "people",
        "pairs",
        "overview",
        ".json",
        "/",
        "..",
        "%2e",
    ];
    let Some(passed) = ask(&mut Choices(bytes), "db", "/db", &DATASETTE, &WORDS) else { return };
    if !passed.limited() {
        return;
    }
    let (path, said) = (passed.rewrite.path.as_deref().unwrap_or_default(), &passed.text);
    let table = path.strip_prefix("/db/").and_then(|rest| rest.split_once(".json")).map_or("", |(table, _)| table);
    assert!(["people", "pairs", "overview"].contains(&table), "{said}");
    let query = passed.query();
    let visible = &passed.constraints.operations[0].visible;
    for (name, value) in &query {
        if matches!(name.as_str(), "_col" | "_sort" | "_sort_desc" | "_facet" | "_json") {
            assert!(visible.contains(value), "{name}={value} is hidden: {said}");
        }
        let column = name.split("__").next().unwrap_or_default();
        assert!(name.starts_with('_') || visible.contains(column), "{name} is hidden: {said}");
    }
    assert!(query.iter().any(|(name, _)| name == "_col"), "without a column every column is shown: {said}");
    let wheres: Vec<&str> =
        query.iter().filter(|(name, _)| name == "_where").map(|(_, value)| value.as_str()).collect();
    let ids = |clauses: &[&str]| -> Vec<i64> {
        SHOP.with(|database| {
            let sql = format!("select id from {table} where {} limit 101", clauses.join(" and "));
            let mut statement = match database.prepare(&sql) {
                Ok(statement) => statement,
                // Datasette answers such a request with an error, too.
                Err(error) if error.to_string().contains("too large") || error.to_string().contains("overflow") => {
                    return Vec::new();
                }
                Err(error) => panic!("{error}: {sql}\n{said}"),
            };
            let rows = statement.query_map([], |row| row.get(0)).expect("no parameters");
            // An error while it runs, such as a pattern that is too complex, ends the response.
            rows.map_while(Result::ok).collect()
        })
    };
    let around = |first: &[&str], last: &[&str]| ids(&[first, &wheres, last].concat());
    assert!(around(&["1=0"], &[]).is_empty() && around(&[], &["1=0"]).is_empty(), "a condition breaks out: {said}");
    let allowed = ids(&[
        "typeof(region) = 'text' and region = 'west' collate binary and typeof(status) = 'text' and status <> 'closed' collate binary",
    ]);
    for id in around(&[], &[]) {
        assert!(allowed.contains(&id), "the row {id} comes back: {said}");
    }
}

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
    let Some(passed) = ask(&mut Choices(bytes), "crm", "/api/v2/crm", &DREAMFACTORY, &WORDS) else { return };
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
    let Some(passed) = ask(&mut Choices(bytes), "shop", "/shop", &HTTP, &WORDS) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_passes_for_somebody_and_most_for_the_limited() {
        for (service, prefix, seeds) in
            [("db", "/db", &DATASETTE), ("crm", "/api/v2/crm", &DREAMFACTORY), ("shop", "/shop", &HTTP)]
        {
            let mut limited = 0;
            for (at, seed) in seeds.iter().enumerate() {
                let at = u8::try_from(at).unwrap();
                let passes = |caller| ask(&mut Choices(&[caller, at, 0, 0]), service, prefix, seeds, &["x"]).is_some();
                assert!(passes(0) || passes(3), "nobody gets through with {seed}");
                limited += usize::from(passes(0));
            }
            assert!(limited * 2 > seeds.len(), "{service}: {limited} of {}", seeds.len());
        }
    }

    /// Damage that nothing survives would test the first line of a parser only.
    #[test]
    fn a_good_part_of_the_damaged_requests_still_passes() {
        for (service, prefix, seeds) in
            [("db", "/db", &DATASETTE), ("crm", "/api/v2/crm", &DREAMFACTORY), ("shop", "/shop", &HTTP)]
        {
            let (mut state, mut passed) = (1_u64, 0);
            for _ in 0..2000 {
                let bytes: Vec<u8> = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .take(60)
                .collect();
                passed +=
                    usize::from(ask(&mut Choices(&bytes), service, prefix, seeds, &["x", "&", "(", "1=1"]).is_some());
            }
            println!("{service}: {passed} of 2000");
            assert!(passed > 120, "{service}: only {passed} of 2000");
        }
    }
}
