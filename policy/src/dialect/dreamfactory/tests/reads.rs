//! Reads of tables: what is refused, and what is asked for in place of what was asked.

use super::*;

#[test]
fn whatever_is_not_understood_is_denied() {
    let code = |result: Result<Parsed, Denial>| result.map(|_| ()).unwrap_err().code;
    for path in [
        "/_table/customers/",
        "//_table/customers",
        "/_table//customers",
        "/_table/%2e%2e/users",
        "/_table/../users",
        "/_table/customers%2Fusers",
        "/_table/customers%5Cusers",
        "/_table/customers;x",
        "/_table/customers%3Bx",
        "/_table/customers%2528",
        "/_table/customers%00",
        "/_table/customers%ff",
        "/_table/customers%2",
        "/_table/customers()",
        "/_table/customers(1)",
        "/_table/customers%20",
        "/_table/'customers'",
        "/_table/customers/1/2",
        "/_other/customers",
        "",
        "/",
        "/_schema/customers/_other/email",
        "/_table/customers?unknown=1",
        "/_table/customers?Filter=id%3E0",
        "/_table/customers?fields=id&fields=ssn",
        "/_table/customers?fields=id&select=ssn",
        "/_table/customers?filter=id%3E0&where=id%3E1",
        "/_table/customers?top=1&limit=2",
        "/_table/customers?order=id&sort=ssn",
        "/_table/customers?api_key=x",
        "/_table/customers?session_token=x",
        "/_table/customers?limit=-1",
        "/_table/customers?limit=1e3",
        "/_table/customers?fields=id,",
        "/_table/customers?fields=id;ssn",
        "/_table/customers?fields=SUM(score)",
        "/_table/customers?order=id;ssn",
        "/_table/customers?order=id%20sideways",
        "/_table/customers?method=DELETE",
        "/_table/customers?_method=DELETE",
        "/_table/customers?related=secrets",
        "/_table/customers?orders_by_customer_id.fields=id",
        "/_table/customers?orders_by_customer_id_fields=id",
        "/_table/customers?filter=id%3D:x",
    ] {
        assert_eq!(code(get(path)), Code::Unparsable, "{path}");
    }
    for path in [
        "/_table/customers?include_schema=true",
        "/_table/customers?related=*",
        "/_table/customers?as_list=true&fields=email",
        "/_table/customers?having=SUM(score)%3E1",
        "/_table/customers?group=region&fields=EVIL(score)",
        "/_table/customers?id_field=ssn&ids=1",
        "/_table/customers?ids=1&filter=id%3E0",
        "/_table/customers/1?ids=2",
        "/_table/customers/%7Buser.id%7D",
        "/_table/customers?ids=%7Buser.id%7D",
        "/_schema/customers?refresh=true",
    ] {
        assert_eq!(code(get(path)), Code::Unsupported, "{path}");
    }
}

#[test]
fn filters_that_break_out_or_look_up_are_denied() {
    for filter in [
        "id>0) OR (id>0",
        "(id>0",
        "id>0)",
        "id = 'a",
        "id = \"a",
        "id = 1 OR",
        "id",
        "id = NULL",
        "id = now()",
        "id = (select 1)",
        "region = '{user.email}'",
        "region = {session.token}",
        "region = {app.api_key}",
        "region = '(now())'",
        "region = west (east)",
        "region = NOT west",
        "region LIKE cats in hats",
        "region = a=b",
        "region =",
        "(region = ) AND (id = 1)",
        "id = abc",
        "id = 2.5",
        "id = ''",
        "id = 9223372036854775808",
        "id LIKE '1%'",
        "active = maybe",
        "active = (1)",
        "score = 0.123456789012345",
        "score = 1e3",
        "region = (5)",
        "region = (now())",
        "1 = 1",
        "id = 1; drop",
        "id = 1 -- x",
        "id = 1 /* x */",
        "t.id = 1",
        "`id` = 1",
        "id IN 1",
        "id IN ()",
        "id ALL (1)",
        "id BETWEEN 1 AND 2",
        "id = :p0",
        "'id' = 1",
    ] {
        assert!(filtered(filter).is_err(), "{filter}");
    }
    let deep = format!("{}id = 1{}", "(".repeat(200), ")".repeat(200));
    assert!(filtered(&deep).is_err());
    let wide = vec!["id = 1"; 5000].join(" OR ");
    assert!(filtered(&wide).is_err());
    let doubling = vec!["id = 1"; 40].join(" XOR ");
    assert!(filtered(&doubling).is_err());
}

#[test]
fn literals_without_quotes_and_empty_ones_are_read_as_dreamfactory_reads_them() {
    for (filter, written, first) in [
        ("region = ''", "region = ''", None),
        ("region != \"\"", "region != ''", None),
        ("region IN ('', 'west')", "region IN ('',:p0)", Some("west")),
        ("region = New York", "region = :p0", Some("New York")),
        ("(region = New York) AND (id > 3)", "(region = :p0) AND (id > 3)", Some("New York")),
        ("region = New York AND id > 3", "(region = :p0) AND (id > 3)", Some("New York")),
        ("region = O'Neil", "region = :p0", Some("O'Neil")),
        ("region = IN", "region = :p0", Some("IN")),
        ("region = cats in hats", "region = :p0", Some("cats in hats")),
        ("region EQ New York, NY", "region = :p0", Some("New York, NY")),
        ("region IN (New York,O'Neil)", "region IN (:p0,:p1)", Some("New York")),
        ("region contains New", "region LIKE :p0", Some("%New%")),
        ("status > 2024-01-31 10:00:00", "status > :p0", Some("2024-01-31 10:00:00")),
        ("region = 5", "region = 5", None),
        ("active = true", "active = 1", None),
        ("active != OFF", "active != 0", None),
        ("id = '007'", "id = 7", None),
        ("id IN ((2),3)", "id IN ((2),3)", None),
    ] {
        let rewrite = run(&filtered(filter).unwrap(), vec![limited(None, &["id"])]).unwrap();
        assert_eq!(parameter(&rewrite, "filter").as_deref(), Some(written), "{filter}");
        assert_eq!(parameter(&rewrite, "params[:p0]").as_deref(), first, "{filter}");
    }
}

#[test]
fn a_literal_that_holds_an_operator_stays_a_literal() {
    let parsed = filtered("(region = 'x) OR (region != ''y') AND id > 3").unwrap();
    let rewrite = run(&parsed, vec![limited(Some(equals("region", "a) OR (b")), &["id"])]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("((region = :p0) AND (id > 3)) AND (region = :p1)"));
    assert_eq!(parameter(&rewrite, "params[:p0]").as_deref(), Some("x) OR (region != 'y"));
    assert_eq!(parameter(&rewrite, "params[:p1]").as_deref(), Some("a) OR (b"));
}

#[test]
fn a_policy_value_that_dreamfactory_would_interpret_denies() {
    let parsed = get("/_table/customers").unwrap();
    for value in ["{session.token}", "(sleep(1))", "'x'", "\"x\"", " x", "x\u{0}"] {
        let denied = run(&parsed, vec![limited(Some(equals("region", value)), &["id"])]).unwrap_err();
        assert_eq!(denied.code, Code::RowDenied, "{value}");
    }
    let like = Predicate::Like { field: "region".into(), negated: true, pattern: "a\\%".into() };
    assert_eq!(run(&parsed, vec![limited(Some(like), &["id"])]).unwrap_err().code, Code::RowDenied);
}

#[test]
fn no_projection_becomes_the_visible_fields_and_the_cap_is_set() {
    let visible = ["id", "first_name", "region"];
    let parsed = get("/_table/Customers?limit=5000&filter=region%20eq%20west&include_count=true").unwrap();
    assert_eq!(&*parsed.request.operations[0].component, "_table/customers");
    let mut constraints = limited(Some(equals("status", "active")), &visible);
    constraints.max_rows = Some(1000);
    let rewrite = run(&parsed, vec![constraints]).unwrap();
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("first_name,id,region"));
    assert_eq!(parameter(&rewrite, "limit").as_deref(), Some("1000"));
    assert_eq!(parameter(&rewrite, "include_count").as_deref(), Some("true"));
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(region = :p0) AND (status = :p1)"));
    assert!(rewrite.response.hide_error_bodies);
    let site = &rewrite.response.sites[0];
    assert_eq!(site.path, [PathStep::Member("resource".into()), PathStep::Elements]);
    assert_eq!(site.shape, RowShape::Object);
    assert!(!site.visible.contains("ssn"));
    assert!(rewrite.remove_headers.iter().any(|name| name == "if-none-match"));
}

#[test]
fn every_use_of_a_field_is_named_with_its_clause() {
    let parsed = get(
        "/_table/customers?select=ID,SUM(SCORE),COUNT(*)&where=(Email%20like%20%27a%25%27)%26%26(SSN%20IS%20NOT%20NULL)\
         &sort=first_name%20desc&group_by=Region&top=3",
    )
    .unwrap();
    let operation = &parsed.request.operations[0];
    let uses: Vec<(&str, Clause)> = operation.fields.iter().map(|used| (&*used.field, used.clause)).collect();
    assert_eq!(
        uses,
        [
            ("id", Clause::Project),
            ("score", Clause::Aggregate),
            ("first_name", Clause::Sort),
            ("region", Clause::Group),
            ("email", Clause::Filter),
            ("ssn", Clause::Filter),
        ]
    );
    assert_eq!(operation.limit, Some(3));
    let rewrite = run(&parsed, vec![open(&service(), "_table/customers")]).unwrap();
    let site = &rewrite.response.sites[0];
    assert!(site.visible.contains("SUM_score") && site.visible.contains("COUNT_ALL"));
}

#[test]
fn omitted_fields_leave_the_projection_and_a_projection_of_nothing_is_denied() {
    let parsed = get("/_table/customers?fields=id,ssn").unwrap();
    let mut constraints = limited(None, &["id"]);
    assert_eq!(run(&parsed, vec![constraints.clone()]).unwrap_err().code, Code::FieldDenied);
    constraints.omitted = vec!["ssn".into()];
    let rewrite = run(&parsed, vec![constraints.clone()]).unwrap();
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("id"));
    constraints.omitted = vec!["ssn".into(), "id".into()];
    assert_eq!(run(&parsed, vec![constraints]).unwrap_err().code, Code::FieldDenied);
}

#[test]
fn rows_named_by_key_are_limited_as_a_filter_or_not_at_all() {
    let one = get("/_table/customers/7?fields=id,region&related=orders_by_customer_id").unwrap();
    assert!(one.request.operations[0].capabilities.rows);
    let orders = || open(&service(), "_table/orders");
    let west = || limited(Some(equals("region", "west")), &["id", "region"]);
    let rewrite = run(&one, vec![west(), orders()]).unwrap();
    assert_eq!(rewrite.path.as_deref().unwrap().split('?').next(), Some("/api/v2/mysql_production/_table/customers"));
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(id IN (7)) AND (region = :p0)"));
    assert_eq!(parameter(&rewrite, "limit").as_deref(), Some("2"));
    assert_eq!(parameter(&rewrite, "fields").as_deref(), Some("id,region"));
    assert_eq!(parameter(&rewrite, "related").as_deref(), Some("orders_by_customer_id"));
    assert!(rewrite.response.one_row && rewrite.response.sites.len() == 2);
    // A role that may see one row at most needs no second one to be told that the key is ambiguous.
    let capped = OperationConstraints { max_rows: Some(1), ..west() };
    assert_eq!(parameter(&run(&one, vec![capped, orders()]).unwrap(), "limit").as_deref(), Some("1"));
    // Of a list without its body nobody can tell whether there is a row in it.
    let head = |path| ask(&service(), "HEAD", path, &[], "").unwrap();
    let denied = run(&head("/_table/customers/7"), vec![west()]).unwrap_err();
    assert!(denied.code == Code::Unsupported && denied.detail.contains("HEAD"), "{denied:?}");
    assert!(run(&head("/_table/customers/7"), vec![open(&service(), "_table/customers")]).is_ok());
    assert!(run(&head("/_table/customers"), vec![west()]).is_ok());
    let one = get("/_table/customers/x%20y").unwrap_err();
    assert_eq!(one.code, Code::Unsupported);
    let named = get("/_table/customers/a-b").unwrap();
    // The key is an integer, and DreamFactory would make one of this.
    assert_eq!(run(&named, vec![west()]).unwrap_err().code, Code::Unsupported);
    let delete = ask(&service(), "DELETE", "/_table/customers/7", &[], "").unwrap();
    assert!(!delete.request.operations[0].capabilities.rows);
    assert_eq!(run(&delete, vec![west()]).unwrap_err().code, Code::RowDenied);
    let one = get("/_table/customers/7").unwrap();
    let rewrite = run(&one, vec![open(&service(), "_table/customers")]).unwrap();
    assert!(rewrite.path.as_deref().unwrap().starts_with("/api/v2/mysql_production/_table/customers/7?"));
    assert!(rewrite.response.sites[0].path.is_empty() && !rewrite.response.one_row);
    let several = get("/_table/customers?ids=7,8,%209").unwrap();
    let rewrite = run(&several, vec![limited(Some(equals("region", "west")), &["id"])]).unwrap();
    assert_eq!(parameter(&rewrite, "filter").as_deref(), Some("(id IN (7,8,9)) AND (region = :p0)"));
    assert_eq!(parameter(&rewrite, "ids"), None);
    let rewrite = run(&several, vec![open(&service(), "_table/customers")]).unwrap();
    assert_eq!(parameter(&rewrite, "ids").as_deref(), Some("7,8,9"));
    assert_eq!(get("/_table/customers?ids=7,x").unwrap_err().code, Code::Unsupported);
}
