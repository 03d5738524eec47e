//! Names and values that some server takes for others.

use super::{BASE, EC, GET, compiled, found, role};
use doorward_policy::bundle::Tables;
use doorward_policy_compiler::document::Diagnostic;

#[test]
fn names_that_a_server_reads_as_something_else_are_told() {
    let customers =
        "fields: {id: integer, region: string, status: string, email: {type: string, class: pii}, ssn: string}";
    let db = |from: &str, to: &str| found(&BASE.replace(from, to), EC);
    let field = db(customers, &customers.replace("ssn:", "api_key: string, ssn:"));
    assert!(field.contains("warning: DataService db: spec.components._table/Customers.fields.api_key:"), "{field}");
    assert!(field.contains("[credential_name]"), "{field}");
    let years = "{year: integer, region: string}";
    for (parameters, code) in [
        ("{year: integer, region: string, session_token: string}", "[credential_name]"),
        ("{year: integer, region: string, the.year: integer}", "[invalid_name]"),
        ("{year: integer, region: string, 'a b': integer}", "[invalid_name]"),
    ] {
        let said = db(years, parameters);
        assert!(said.contains(code) && !said.contains("warning: DataService"), "{parameters}: {said}");
    }
    assert!(db("{orders_by_customer_id:", "{orders.by:").contains("[invalid_name]"));
    for (wrapper, code) in [
        ("data", ""),
        ("my-rows_2", ""),
        ("''", "[invalid_value]"),
        ("a.b", "[invalid_value]"),
        ("filter", "[invalid_value]"),
        ("api_key", "[invalid_value]"),
    ] {
        let said =
            db("  dialect: dreamfactory\n", &format!("  dialect: dreamfactory\n  resourcesWrapper: {wrapper}\n"));
        assert!(if code.is_empty() { said.is_empty() } else { said.contains(code) }, "{wrapper}: {said}");
    }
    let set =
        role("app-x", &format!("{GET}      fields: {{read: [id], write: [api_key]}}\n      set: {{api_key: w}}\n"))
            .replace(customers, &customers.replace("ssn:", "api_key: string, ssn:"));
    assert!(found(&set, EC).contains("spec.grants[0].set.api_key: servers take a credential"), "{}", found(&set, EC));
    let http = "kind: DataService\nmetadata: {name: web}\nspec:\n  dialect: http\n  match: [{path: /web}]\n  components:\n    orders:\n      fields: {id: integer}\n      operations: [{path: /orders, verbs: [GET], parameters: PARAMETERS}]\n";
    for (parameters, code) in [
        ("{a.b: string, a_b: string}", "[same_name]"),
        ("{access_token: string}", "[credential_name]"),
        ("{_method: string}", "[invalid_name]"),
        ("{/auth/api_key: {type: string, body: true}}", "[credential_name]"),
        ("{token: string, page: integer}", ""),
    ] {
        let said = found(&format!("{BASE}---\n{}", http.replace("PARAMETERS", parameters)), EC);
        assert!(if code.is_empty() { said.is_empty() } else { said.contains(code) }, "{parameters}: {said}");
    }
    let wrapped =
        http.replace("  dialect: http", "  dialect: http\n  resourcesWrapper: data").replace("PARAMETERS", "{}");
    assert!(found(&format!("{BASE}---\n{wrapped}"), EC).contains("[wrong_dialect]"));
}

/// DreamFactory casts what it compares and stores: literals that would become others are errors, and integers that may be
/// booleans to it a warning where rows are written.
#[test]
fn literals_that_dreamfactory_would_cast_to_others_are_told() {
    let service = "kind: DataService\nmetadata: {name: df}\nspec:\n  dialect: DIALECT\n  match: [{path: /api/v2/df}]\n  components:\n    _table/t:\n      fields: {id: integer, flag: boolean, level: {type: integer, bits: 16}, price: {type: decimal, digits: 20, scale: 3}, score: number, photo: binary}\n";
    let found = |dialect: &str, grant: &str| {
        let role = format!(
            "---\nkind: AccessRole\nmetadata: {{name: r}}\nspec:\n  lookups: {{prices: [1.5, 0.0000001]}}\n  grants:\n    - service: df\n      components: [_table/t]\n      fields: {{read: [id], write: [id, score]}}\n      {}\n",
            grant.replace(" | ", "\n      ")
        );
        let text = format!("apiVersion: doorward.dev/v1alpha1\n{}{role}", service.replace("DIALECT", dialect));
        let compiled = compiled(&text, "");
        let said = |found: &Diagnostic| (found.code, found.message.clone());
        let of_types = |(code, _): &(&str, String)| matches!(*code, "value_cast" | "integer_size" | "type_mismatch");
        compiled.diagnostics.iter().map(said).filter(of_types).collect::<Vec<_>>()
    };
    for (grant, field, why) in [
        ("verbs: [GET] | rows: price > 0.0000001", "price", "six places"),
        ("verbs: [GET] | rows: id = 1 OR NOT price IN (1, 123456789012.34)", "price", "six places"),
        ("verbs: [GET] | rows: score = 0.123456789012345", "score", "14 digits"),
        ("verbs: [GET] | rows: score = 123456789012345", "score", "14 digits"),
        ("verbs: [GET] | rows: level < 65536", "level", "more digits"),
        ("verbs: [GET] | rows: 'price IN ({role.prices})'", "price", "six places"),
        ("verbs: [POST] | set: {price: 0.0001}", "price", "more digits"),
        ("verbs: [POST] | set: {level: 70000}", "level", "more digits"),
        ("verbs: [POST] | set: {score: 0.123456789012345}", "score", "14 digits"),
    ] {
        let found = found("dreamfactory", grant);
        let told = |(code, message): &(&str, String)| {
            *code == "value_cast" && message.contains(&format!("\"{field}\"")) && message.contains(why)
        };
        assert!(found.iter().any(told), "{grant}: {found:?}");
    }
    for grant in [
        "verbs: [GET] | rows: id > 5 AND price = 1.5 AND score < 0.25 AND flag = true AND level > 3",
        "verbs: [GET, POST] | rows: id IN (0, 1) AND level > 3",
        "verbs: [GET, POST] | rows: id > 5 | check: id = 1",
        "verbs: [POST] | set: {id: 1, level: 7, price: 1.125, flag: true}",
    ] {
        assert_eq!(found("dreamfactory", grant), [], "{grant}");
    }
    for grant in [
        "verbs: [GET, PATCH] | rows: id > 5",
        "verbs: [POST] | rows: id = 7",
        "verbs: [POST] | check: id >= 1",
        "verbs: [POST] | set: {id: 2}",
        "verbs: [POST] | set: {id: '{key.name}'}",
    ] {
        let found = found("dreamfactory", grant);
        let told = |(code, message): &(&str, String)| *code == "integer_size" && message.contains("bits: 32");
        assert!(found.iter().any(told), "{grant}: {found:?}");
    }
    // Other servers cast nothing.
    assert_eq!(found("datasette", "verbs: [GET, POST] | rows: id > 5 AND price > 0.0000001"), []);
    // Nothing is compared with bytes, and none are preset.
    for grant in [
        "verbs: [GET] | rows: photo = 'aGk='",
        "verbs: [POST] | set: {photo: aGk=}",
        "verbs: [GET] | rows: photo = {user.name}",
    ] {
        assert!(found("dreamfactory", grant).iter().any(|(code, _)| *code == "type_mismatch"), "{grant}");
    }
}

#[test]
fn a_size_is_one_that_the_type_has() {
    for (field, sound) in [
        ("{type: decimal, digits: 12, scale: 2}", true),
        ("{type: decimal, digits: 12}", true),
        ("{type: integer, bits: 64}", true),
        ("{type: decimal, digits: 2, scale: 3}", false),
        ("{type: decimal, scale: 3}", false),
        ("{type: decimal, digits: 66}", false),
        ("{type: number, digits: 5}", false),
        ("{type: integer, bits: 1}", false),
        ("{type: number, bits: 32}", false),
    ] {
        let text = format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{name: df}}\nspec:\n  dialect: dreamfactory\n  match: [{{path: /api/v2/df}}]\n  components: {{_table/t: {{fields: {{a: {field}}}}}}}\n"
        );
        let compiled = compiled(&text, "");
        assert_eq!(!compiled.diagnostics.iter().any(Diagnostic::is_error), sound, "{field}");
        if sound {
            let declared = &compiled.bundle.services[0].components[0].fields[0];
            let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
            let size = tables.services()[0].components["_table/t"].fields[0].size;
            assert_eq!((size.bits, size.digits, size.scale), (declared.bits, declared.digits, declared.scale));
        }
    }
}
