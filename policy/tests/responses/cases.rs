//! Requests of every dialect and kind, with the answer of its data API and what of it may go on.

use serde_json::{Value, json};

fn person() -> Value {
    json!({"id": 1, "name": "a", "email": "s3cret@b.c", "ssn": "s3cret", "undeclared": [{"s3cret": 1}]})
}

fn shown() -> Value {
    json!({"id": 1, "name": "a", "email": null})
}

/// A key, a request, what its data API answers, and what of it goes on.
pub fn cases() -> Vec<(&'static str, &'static str, Value, Value)> {
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
