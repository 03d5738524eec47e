//! Datasette, before the SQLite that it would ask.

use super::ask;
use crate::input::{Choices, parts};
use rusqlite::Connection;
use std::sync::LazyLock;

pub(super) static SEEDS: LazyLock<Vec<&str>> = LazyLock::new(|| parts(include_str!("../../seeds/datasette.txt")));

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
    let Some(passed) = ask(&mut Choices(bytes), "db", "/db", &SEEDS, &WORDS) else { return };
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
