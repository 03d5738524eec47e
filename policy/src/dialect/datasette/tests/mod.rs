//! The rules one by one; against SQLite itself in `sqlite`.

mod sqlite;

use super::*;
use crate::{
    dialect::{Parsed, emit, fixture::limits, parse},
    predicate::{self, Operand, Predicate, Resolved},
    request::Clause,
    transform::MaskRule,
    value::{FieldType, Literal},
};
use doorward_proto::v1::{self, MaskKind};
use doorward_test_support::schema::{self, component};

const PEOPLE: [(&str, FieldType); 7] = [
    ("active", FieldType::Boolean),
    ("born", FieldType::Date),
    ("id", FieldType::Integer),
    ("region", FieldType::String),
    ("score", FieldType::Number),
    ("seen", FieldType::Timestamp),
    ("ssn", FieldType::String),
];

fn service_of(components: impl IntoIterator<Item = Component>) -> Service {
    schema::service("db", v1::Dialect::Datasette, components)
}

fn service() -> Service {
    service_of(
        [("people", &["id"][..]), ("pairs", &["id", "region"]), ("view", &[])]
            .map(|(name, key)| component(name, key, &PEOPLE)),
    )
}

fn read(service: &Service, path: &str) -> Result<Parsed, Denial> {
    let request = HttpRequest { method: "GET", authority: "", path, headers: &[], body: None, source_address: "" };
    parse(service, "/db", &request)
}

fn write_to(service: &Service, path: &str, limits: OperationConstraints) -> Result<Rewrite, Denial> {
    let parsed = read(service, path)?;
    emit(service, "/db", &parsed, &Constraints { operations: vec![limits] })
}

fn write(path: &str, limits: OperationConstraints) -> Result<Rewrite, Denial> {
    write_to(&service(), path, limits)
}

fn filter(text: &str) -> Resolved {
    fn literal(predicate: predicate::Template) -> Resolved {
        let known = |operand| match operand {
            Operand::Literal(literal) => literal,
            Operand::Placeholder { .. } => panic!("placeholder"),
        };
        match predicate {
            Predicate::Constant(value) => Predicate::Constant(value),
            Predicate::And(items) => Predicate::And(items.into_iter().map(literal).collect()),
            Predicate::Or(items) => Predicate::Or(items.into_iter().map(literal).collect()),
            Predicate::Not(inner) => Predicate::Not(Box::new(literal(*inner))),
            Predicate::Compare { field, field_type, op, value } => {
                Predicate::Compare { field, field_type, op, value: known(value) }
            }
            Predicate::In { field, field_type, negated, values } => {
                Predicate::In { field, field_type, negated, values: values.into_iter().map(known).collect() }
            }
            Predicate::Like { field, negated, pattern } => Predicate::Like { field, negated, pattern },
            Predicate::IsNull { field, negated } => Predicate::IsNull { field, negated },
        }
    }
    literal(
        predicate::parse::parse(text, &|name| {
            PEOPLE.iter().find(|(known, _)| *known == name).map(|(_, field_type)| *field_type)
        })
        .unwrap(),
    )
}

#[test]
fn a_row_filter_is_one_more_condition_in_parentheses() {
    let rewrite = write("/db/people.json?_where=id+>+1+or+id+<+0&_size=max", {
        let mut limits = limits(&["id", "region"], Some(filter("region = 'we''st' OR NOT (score > 1)")));
        limits.max_rows = Some(50);
        limits
    });
    let path = rewrite.unwrap().path.unwrap();
    let query: Vec<_> = path
        .split_once('?')
        .unwrap()
        .1
        .split('&')
        .map(|pair| url::decode_query(pair.split_once('=').unwrap().1).unwrap())
        .collect();
    assert!(
        path.starts_with("/db/people.json?_col=region&_sort=id&_size=50&_nofacet=1&_nosuggest=1&_where="),
        "{path}"
    );
    assert_eq!(query[5], "((`id` > 1) OR (`id` < 0))");
    assert_eq!(
        query[6],
        "(((typeof(`region`) IN ('text')) AND (`region` COLLATE BINARY = 'we''st')) OR ((typeof(`score`) IN ('integer', 'real')) AND (`score` <= 1)))"
    );
    assert!(query[7].starts_with("(abs(CASE WHEN (SELECT count(*) = 1"));
}

#[test]
fn what_breaks_out_of_a_condition_is_refused() {
    for text in [
        "id>0)+or+(id>0",
        "id>0--",
        "id>0/*x*/",
        "id>0;select+1",
        "id+in+(select+1)",
        "exists(select+1)",
        "1",
        "ssn",
        "id=ssn",
        "upper(ssn)='X'",
        "load_extension('x')",
        "id='x",
        "typeof(id)+in+('text')",
        "id+collate+nocase=1",
        "x'00'=id",
        "id=%22ssn%22",
        "id+like+'a'+escape+'b'",
        "case+when+1+then+1+end",
        "id=:p0",
        "id->'a'=1",
        "id=1+union+select+1",
        "",
    ] {
        let path = format!("/db/people.json?_where={text}");
        assert!(read(&service(), &path).is_err(), "{path}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for path in [
        "/db",
        "/db.json",
        "/db/people",
        "/db/people.csv",
        "/db/people.jsono",
        "/db/people/1",
        "/db//people.json",
        "/db/../people.json",
        "/db/people%2Fx.json",
        "/db/pe%6Fple.json",
        "/db/people.json;x",
        "/db/people~.json",
        "/db/people~00.json",
        "/db/people~FF.json",
        "/db/people/1/2.json",
        "/db/people/1,2.json",
        "/db/view/1.json",
        "/db/-/x/y.json",
        "/db/people.json#x",
        "/other/people.json",
        "/db/people.json?",
        "/db/people.json?a",
        "/db/people.json?id=%00",
        "/db/people.json?id=%FF",
        "/db/people.json?id=%4",
        "/db/people.json?id=1;2",
        "/db/people.json?_size=1&_size=2",
        "/db/people.json?_sort=id&_sort_desc=id",
        "/db/people.json?_size=-1",
        "/db/people.json?_size=%201",
        "/db/people.json?_labels=on",
        "/db/people.json?_label=id",
        "/db/people.json?_trace=1",
        "/db/people.json?_nl=on",
        "/db/people.json?_search=x",
        "/db/people.json?_search_id=x",
        "/db/people.json?_search__exact=x",
        "/db/people.json?_facet_array=id",
        "/db/people.json?_facet_date=born",
        "/db/people.json?_facet=%7B%22column%22:%22ssn%22%7D",
        "/db/people.json?_filter_column=id",
        "/db/people.json?_filter_column_1__x=id",
        "/db/people.json?_through=x",
        "/db/people.json?_where__exact=1",
        "/db/people.json?id__arraycontains=1",
        "/db/people.json?id__regex=1",
        "/db/people.json?sql=select+1",
        "/db/people.json?_extra=x",
        "/db/people.json?_unknown=x",
        "/db/people.json?_shape=x",
        "/db/people.json?_next=a,b,c",
        "/db/people.json?_next=1,2",
        "/db/view.json?_next=x",
        "/db/people.json?_nocol=id",
        "/db/people/1.json?_where=1=1",
        "/db/people/1.json?_extras=foreign_key_tables",
        "/db/people.json?_timelimit=1",
    ] {
        assert!(read(&service(), path).is_err(), "{path}");
    }
    let request = HttpRequest {
        method: "POST",
        authority: "",
        path: "/db/people.json",
        headers: &[],
        body: None,
        source_address: "",
    };
    assert_eq!(parse(&service(), "/db", &request).unwrap_err().code, Code::Unsupported);
    let request = HttpRequest { method: "GET", body: Some(b"x"), ..request };
    assert_eq!(parse(&service(), "/db", &request).unwrap_err().code, Code::Unparsable);
}

#[test]
fn every_named_field_is_reported_by_its_declared_name() {
    let path = "/db/people.json?SSN__gt=1&_where=%60Region%60+is+null&_sort=Score&_facet=ACTIVE&_next=2,1&_col=born&_json=Seen";
    let fields = read(&service(), path).unwrap().request.operations.remove(0).fields;
    for (field, clause) in [
        ("ssn", Clause::Filter),
        ("region", Clause::Filter),
        ("score", Clause::Sort),
        ("score", Clause::Cursor),
        ("id", Clause::Cursor),
        ("active", Clause::Group),
        ("born", Clause::Project),
        ("seen", Clause::Project),
    ] {
        assert!(fields.iter().any(|used| used.field.as_ref() == field && used.clause == clause), "{field}");
    }
}

/// Whether anything of the root member of this name goes on.
fn goes_on(rewrite: &Rewrite, name: &str) -> bool {
    rewrite.response.sites.iter().any(|site| site.path.first() == Some(&super::member(name)))
}

#[test]
fn hidden_fields_and_hidden_keys_are_not_emitted() {
    assert_eq!(write("/db/people.json?ssn=1", limits(&["id"], None)).unwrap_err().code, Code::FieldDenied);
    assert_eq!(write("/db/people.json", limits(&["region"], None)).unwrap_err().code, Code::Unsupported);
    let mut masked = limits(&["id", "region"], None);
    let rule = |field: &str| MaskRule {
        field: field.into(),
        kind: MaskKind::MaskNull,
        fixed: "".into(),
        length: 0,
        filterable: true,
    };
    masked.masks = Arc::from([rule("region")]);
    assert_eq!(write("/db/people.json?_facet=region", masked.clone()).unwrap_err().code, Code::FieldDenied);
    let sorted = write("/db/people.json?_sort=region", masked.clone()).unwrap();
    assert!(!goes_on(&sorted, "next"));
    let plain = write("/db/people.json?_sort=id", masked.clone()).unwrap();
    assert!(goes_on(&plain, "next"));
    masked.masks = Arc::from([rule("id")]);
    assert_eq!(write("/db/people.json", masked).unwrap_err().code, Code::Unsupported);
}

#[test]
fn a_row_page_becomes_a_table_query_for_its_key() {
    let rewrite =
        write("/db/pairs/1,a~2Fb.json?_shape=objects", limits(&["id", "region"], Some(filter("id < 5")))).unwrap();
    let path = rewrite.path.as_deref().unwrap();
    assert!(
        path.starts_with("/db/pairs.json?id=1&region=a%2Fb&_col=id&_sort=id&_next=%24null%2C%2C&_shape=objects&"),
        "{path}"
    );
    assert!(!goes_on(&rewrite, "filtered_table_rows_count") && goes_on(&rewrite, "rows"));
}

#[test]
fn cursors_carry_the_key_with_and_without_an_order() {
    for (path, want) in [
        ("/db/people.json?_next=5", "_sort=id&_next=5%2C5&"),
        ("/db/people.json?_next=5,5", "_sort=id&_next=5%2C5&"),
        ("/db/people.json?_sort_desc=region&_next=$null,5", "_sort_desc=region&_next=%24null%2C5&"),
        ("/db/view.json?_next=100", "_sort=id&_next=100&"),
    ] {
        let path = write(path, limits(&["id", "region"], None)).unwrap().path.unwrap();
        assert!(path.contains(want), "{path}");
    }
}

#[test]
fn literals_keep_their_type_and_a_nul_never_gets_through() {
    let nul = Predicate::Compare {
        field: "region".into(),
        field_type: FieldType::String,
        op: predicate::CompareOp::Eq,
        value: Literal::String("a\0b".into()),
    };
    assert_eq!(write("/db/people.json", limits(&["id"], Some(nul))).unwrap_err().code, Code::Unsupported);
    for text in [
        "score = -1.5",
        "active != true",
        "born >= '2024-01-31'",
        "seen < '2024-01-31T00:00:00Z'",
        "region LIKE 'a*[%_'",
    ] {
        assert!(write("/db/people.json", limits(&["id"], Some(filter(text)))).is_ok(), "{text}");
    }
}

#[test]
fn a_cache_buster_is_left_out_and_a_column_named_as_a_credential_is_never_asked_for_by_its_bare_name() {
    let path = write("/db/people.json?_=1712345678901&_size=5", limits(&["id", "region"], None)).unwrap().path.unwrap();
    assert!(!path.contains("_=1712345678901"), "{path}");
    assert!(read(&service(), "/db/people.json?_=x").is_err());
    assert!(read(&service(), "/db/people/1.json?_=17").is_ok());
    let service =
        service_of([component("keys", &["id"], &[("id", FieldType::Integer), ("api_key", FieldType::String)])]);
    for query in ["api_key__exact=x", "api_key=x"] {
        let path = write_to(&service, &format!("/db/keys.json?{query}"), limits(&["id", "api_key"], None))
            .unwrap()
            .path
            .unwrap();
        assert!(path.contains("api_key__exact=x") && !path.contains("api_key=x"), "{path}");
    }
}
