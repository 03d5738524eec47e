//! What each registered dialect permits and demands of a `DataService`, part by part.

use super::*;
use crate::document::parse_file;
use doorward_policy::{
    bundle::Tables,
    dialect::{Registered, Rules},
};

/// A service with `spec` beside its components, and components of one `member` more each.
fn service(dialect: Registered, spec: &str, components: &str) -> String {
    format!(
        "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{name: s}}\nspec:\n  dialect: {}\n  match: [{{path: /s}}]\n{spec}  components:\n{components}",
        dialect.name()
    )
}

fn compiled(text: &str) -> Compiled {
    let parsed = parse_file("p.yaml", text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    compile(&parsed.documents, &NoKeys, "default")
}

#[test]
fn what_a_dialect_says_of_each_part_of_a_data_service_is_what_the_compiler_checks() {
    for dialect in Registered::ALL {
        // Without `..`: a part that is new in the rules has no test before it has a line below.
        let Rules { about, folds_components, folds_fields, files, wrapper, operations, writes, casts, renames, takes } =
            *dialect.rules();
        assert!(about.ends_with('.'), "{about}");
        let reached = if operations { ", operations: [{path: /t, verbs: [GET]}]" } else { "" };
        let t = |member: &str| format!("    t: {{{member}{reached}}}\n");
        let id = "fields: {id: integer}";
        let field = |field: &str| (String::new(), t(&format!("fields: {{id: integer, {field}}}")));
        let parameter = |name: &str| (String::new(), t(&format!("{id}, parameters: {{{name}: string}}")));
        let parts = [
            ("files", ("  files: true\n".to_owned(), t(id)), "wrong_dialect", !files),
            ("wrapper", ("  resourcesWrapper: rows\n".to_owned(), t(id)), "wrong_dialect", wrapper.is_none()),
            (
                "operations",
                (String::new(), format!("    t: {{{id}, operations: [{{path: /t, verbs: [GET]}}]}}\n")),
                "wrong_dialect",
                !operations,
            ),
            ("no operations", (String::new(), format!("    t: {{{id}}}\n")), "never_matches", operations),
            (
                "components that differ in case",
                (String::new(), t(id) + &t(id).replace("t:", "T:").replace("/t", "/T")),
                "duplicate_component",
                folds_components,
            ),
            ("fields that differ in case", field("ID: integer"), "duplicate_field", folds_fields),
            ("a credential's name", field("api_key: string"), "credential_name", writes),
            (
                "a decimal of many places",
                field("price: {type: decimal, digits: 40, scale: 30}"),
                "value_cast",
                casts.is_some_and(|casts| casts.places < 30),
            ),
            (
                "a relation with a dot",
                (String::new(), t(&format!("{id}, relations: {{a.b: t}}"))),
                "invalid_name",
                renames("a.b").is_some(),
            ),
            ("a parameter with a dot", parameter("a.b"), "invalid_name", renames("a.b").is_some()),
            ("a parameter `_method`", parameter("_method"), "invalid_name", takes("_method").is_some()),
        ];
        for (part, (spec, components), code, reported) in parts {
            let text = service(*dialect, &spec, &components);
            let compiled = compiled(&text);
            let codes: Vec<_> = compiled.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
            assert_eq!(codes, if reported { vec![code] } else { vec![] }, "{part}: {text}");
            let tables = Tables::build(&compiled.bundle, compiled.digest, 1).unwrap();
            assert!(tables.services().iter().all(|service| service.dialect == dialect.wire()), "{part}");
        }
    }
}

#[test]
fn a_denied_part_names_the_dialects_that_permit_it() {
    let said = |dialect: &str, spec: &str| {
        let dialect = Registered::ALL.iter().find(|one| one.name() == dialect).unwrap();
        let text = service(*dialect, spec, "    t: {fields: {id: integer}}\n");
        compiled(&text).diagnostics.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(said("datasette", "  files: true\n").contains("only the dialect dreamfactory has file services"));
    assert!(said("datasette", "  resourcesWrapper: rows\n").contains("only the dialect dreamfactory wraps records"));
}

#[test]
fn a_dialect_that_is_not_registered_is_refused_with_the_names_of_those_that_are() {
    let text = service(Registered::ALL[0], "", "    t: {}\n")
        .replace(&format!("dialect: {}", Registered::ALL[0].name()), "dialect: gopher");
    let said: String = parse_file("p.yaml", &text).diagnostics.iter().map(ToString::to_string).collect();
    for name in Registered::NAMES {
        assert!(said.contains(name), "{said}");
    }
}
