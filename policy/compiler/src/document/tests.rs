//! Rules of reading documents, one table of mistakes.
use super::*;

fn find(text: &str) -> String {
    let parsed = parse_file("p.yaml", text);
    parsed.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const HEAD: &str = "apiVersion: doorward.dev/v1alpha1\n";

#[test]
fn every_mistake_of_form_has_its_code_path_and_line() {
    let cases: &[(&str, &str)] = &[
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec:\n  grantz: []\n",
            "p.yaml:5: AccessRole r: spec.grantz: unknown field \"grantz\"; did you mean \"grants\"? [unknown_field]",
        ),
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec:\n  grants:\n  - service: s\n    components: [a]\n    verbs: [GTE]\n",
            "p.yaml:8: AccessRole r: spec.grants[0].verbs[0]: unknown value; use one of GET, POST, PUT, PATCH, DELETE, CALL [unknown_value]",
        ),
        (
            "kind: AccessBinding\nmetadata: {name: b}\nspec:\n  subjects: []\n",
            "p.yaml:4: AccessBinding b: spec: field \"role\" is missing [missing_field]",
        ),
        ("kind: AccessRole\nmetadata: {name: R}\nspec: {}\n", "p.yaml:3: AccessRole R: metadata.name: a name has"),
        (
            "kind: AccessRole\nmetadata: {}\nspec: {}\n",
            "p.yaml:3: AccessRole: metadata: field \"name\" is missing [missing_field]",
        ),
        (
            "kind: AccesRole\nmetadata: {name: r}\n",
            "p.yaml:2: kind: unknown kind \"AccesRole\"; did you mean \"AccessRole\"? [unknown_kind]",
        ),
        ("metadata: {name: r}\n", "[unknown_kind]"),
        ("kind: AccessRole\nmetadata: {name: r}\n", "AccessRole r: spec: spec is missing [missing_field]"),
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec: {}\nspce: {}\n",
            "p.yaml:5: AccessRole r: spce: unknown field \"spce\"; did you mean \"spec\"? [unknown_field]",
        ),
        (
            "kind: AccessRole\nkind: AccessRole\n",
            "p.yaml:3: kind: the key is given twice in this mapping [duplicate_key]",
        ),
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec:\n  grants:\n    - {service: s, service: t}\n",
            "p.yaml:6: spec.grants[0].service: the key is given twice in this mapping [duplicate_key]",
        ),
        ("kind: [\n", "[yaml_syntax]"),
        ("kind: !x AccessRole\n", "[yaml_tag]"),
        ("kind: *nothing\n", "[yaml_"),
        ("? [a]\n: b\n", "[yaml_key]"),
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec: {maxRows: 0}\n",
            "p.yaml:4: AccessRole r: spec.maxRows: expected a nonzero u32 [invalid_value]",
        ),
        (
            "kind: AccessRole\nmetadata: {name: r}\nspec:\n  rateLimit:\n    - {requests: 1, per: 1 minute}\n",
            "p.yaml:5: AccessRole r: spec.rateLimit: [0].per: a duration is a positive",
        ),
        (
            "kind: AccessKey\nmetadata: {name: k}\nspec: {hash: top-secret-key, role: r}\n",
            "p.yaml:4: AccessKey k: spec.hash: a key is given by its hash",
        ),
        ("kind: AccessKey\nmetadata: {name: k}\nspec: {hash: [top-secret-key], role: r}\n", "[wrong_type]"),
        (
            "kind: AccessBinding\nmetadata: {name: b}\nspec: {role: r, subjects: [], from: 2026-01-31}\n",
            "p.yaml:4: AccessBinding b: spec.from: a moment is written as RFC 3339 with its offset, such as 2026-01-31T12:00:00Z; a date alone is not enough [invalid_value]",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {issuer: x, audiences: a, algorithms: [ES256]}\n",
            "spec.audiences: audiences is a list; only the word any stands alone, and demands no audience [invalid_value]",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {preset: entar, audiences: [a]}\n",
            "spec.preset: unknown value; use one of entra, entra-v1, okta,",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {preset: google, requiredClaims: {hd: }}\n",
            "spec.requiredClaims: a required claim has an allowed value, or a list of them",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {preset: google, requiredClaims: {hd: [1.5]}}\n",
            "spec.requiredClaims: a required claim has an allowed value, or a list of them",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {preset: google, requiredClaims: hd}\n",
            "spec.requiredClaims: requiredClaims is a list of names, a mapping",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {issuer: x, audiences: [a], algorithms: [none]}\n",
            "p.yaml:4: IdentityProvider i: spec.algorithms[0]: unknown value",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {issuer: x, audiences: [a], algorithms: [ES256], jwks: {secretRef: top-secret-key}}\n",
            "spec.jwks.secretRef: expected struct SecretRef [wrong_type]",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {issuer: x, audiences: [a], introspection: {url: 'https://x', clientId: a, clientSecret: top-secret-key}}\n",
            "spec.introspection.clientSecret: expected struct ClientSecret [wrong_type]",
        ),
        (
            "kind: IdentityProvider\nmetadata: {name: i}\nspec: {issuer: x, audiences: [a], algorithms: [ES256], claims: {user: a..b}}\n",
            "spec.claims.user: a claim path is",
        ),
        (
            "kind: DataService\nmetadata: {name: s}\nspec:\n  dialect: http\n  match: []\n  components:\n    a.b/c:\n      fields:\n        id: strng\n",
            "p.yaml:10: DataService s: spec.components.a.b/c.fields.id: expected a type (string,",
        ),
    ];
    for (text, want) in cases {
        let got = find(&format!("{HEAD}{text}"));
        assert!(got.contains(want), "{text}\n got {got}\nwant {want}");
        assert!(!got.contains("top-secret"), "{got}");
        assert_eq!(got.lines().count(), 1, "{got}");
    }
    let networks = ["10.0.0.1/8", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/+8"];
    for network in networks {
        let hash = "0".repeat(64);
        let text = format!(
            "{HEAD}kind: AccessKey\nmetadata: {{name: k}}\nspec: {{hash: 'sha256:{hash}', role: r, networks: ['{network}']}}\n"
        );
        assert!(find(&text).contains("spec.networks[0]"), "{network}: {}", find(&text));
    }
}

#[test]
fn every_mistake_of_a_spec_is_told_at_once_and_none_that_only_follows() {
    let text = "apiVersion: doorward.dev/v1alpha1
kind: AccessRole
metadata: { name: r }
spec:
  grantz: 1
  unchekd: true
  grants:
    - { service: db, components: [a], verbs: [GET], maxRows: many, feilds: {} }
    - { service: db, components: [b], verbs: [GET], rows: [x] }
    - { service: [db], components: [c], verbs: [GET] }
";
    let parsed = parse_file("p.yaml", text);
    assert!(parsed.documents.is_empty());
    let found: Vec<_> = parsed.diagnostics.iter().map(|one| (one.line, one.path.as_str(), one.code)).collect();
    let wanted = [
        (5, "spec.grantz", "unknown_field"),
        (6, "spec.unchekd", "unknown_field"),
        (8, "spec.grants[0].feilds", "unknown_field"),
        (8, "spec.grants[0].maxRows", "wrong_type"),
        (9, "spec.grants[1].rows", "wrong_type"),
        // The service that is then missing is not told, as it is there.
        (10, "spec.grants[2].service", "wrong_type"),
    ];
    for one in wanted {
        assert!(found.contains(&one), "{one:?} of {found:?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    // However many there are, the list ends.
    let many: String = (0..100).map(|number| format!("  x{number}: 1\n")).collect();
    let text = format!("apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: {{ name: r }}\nspec:\n{many}");
    assert_eq!(parse_file("p.yaml", &text).diagnostics.len(), 20);
}

#[test]
fn api_version_is_inherited_from_an_earlier_document_and_never_guessed() {
    let one = "kind: AccessRole\nmetadata: {name: r}\nspec: {}\n";
    assert!(find(one).contains("p.yaml:1: AccessRole r: apiVersion: apiVersion is missing"));
    assert!(find(&format!("apiVersion: v2\n{one}")).contains("[api_version]"));
    let parsed = parse_file("p.yaml", &format!("{HEAD}{one}---\n{one}--- # comment\n{one}"));
    assert_eq!((parsed.documents.len(), parsed.diagnostics.len()), (3, 0), "{:?}", parsed.diagnostics);
    assert_eq!(parsed.documents.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 6, 10]);
}

#[test]
fn one_bad_document_never_hides_another() {
    let good = |name: &str| format!("{HEAD}kind: AccessRole\nmetadata: {{name: {name}}}\nspec: {{}}\n");
    let bad = [
        "a: [\n",
        "a: 'open\n",
        "\t- x\n",
        "- list\n",
        "kind: AccessRole\nmetadata: {name: r}\nspec: {x: 1}\n",
        "a: *b\n",
        "}\n",
    ];
    for bad in bad {
        let parsed = parse_file("p.yaml", &format!("{}---\n{bad}---\n{}", good("one"), good("two")));
        let names: Vec<_> = parsed.documents.iter().map(|document| document.name.as_str()).collect();
        assert_eq!(names, ["one", "two"], "{bad:?}");
        assert_eq!(parsed.diagnostics.len(), 1, "{bad:?}: {:?}", parsed.diagnostics);
        assert!((6..=8).contains(&parsed.diagnostics[0].line), "{bad:?}: {}", parsed.diagnostics[0]);
    }
}

#[test]
fn aliases_and_sizes_are_bounded() {
    let mut bomb = format!("{HEAD}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let before = format!("*a{}", n - 1);
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(", ")));
    }
    assert!(find(&bomb).contains("[yaml_limit]"));
    assert!(find(&format!("a: {}", "[".repeat(5000))).contains("[yaml_"));
    assert!(find(&"#".repeat(MAX_FILE + 1)).contains("[file_too_large]"));
    let shared = format!(
        "{HEAD}kind: AccessRole\nmetadata: {{name: r}}\nspec:\n  grants:\n  - &g {{service: s, components: [a], verbs: [GET]}}\n  - *g\n"
    );
    let parsed = parse_file("p.yaml", &shared);
    let Spec::AccessRole(role) = &parsed.documents[0].spec else { panic!() };
    assert_eq!(role.grants[0], role.grants[1]);
}

#[test]
fn lines_point_at_the_value_or_what_is_around_it() {
    let text = format!(
        "{HEAD}kind: AccessRole\nmetadata: {{name: r}}\nspec:\n  grants:\n    - service: s\n      components:\n        - a\n        - b\n      verbs: []\n      rows:\n        TRUE\n"
    );
    let document = parse_file("p.yaml", &text).documents.remove(0);
    let lines = [
        ("spec.grants[0].rows", 11),
        ("spec.grants[0].components[1]", 9),
        ("spec.grants[0].fields.read[0]", 6),
        ("nothing", 1),
    ];
    for (path, line) in lines {
        assert_eq!(document.lines.line(path), line, "{path}");
    }
}

#[test]
fn custom_resources_carry_server_side_metadata() {
    let value = serde_json::json!({"apiVersion": API_VERSION, "kind": "AccessRole", "spec": {}, "status": {},
        "metadata": {"name": "r", "uid": "x", "managedFields": []}});
    assert_eq!(from_json("cluster", value).unwrap().name, "r");
}

#[test]
fn scalars_keep_their_yaml_type_and_keys_stay_text() {
    let text = format!(
        "{HEAD}kind: AccessRole\nmetadata: {{name: r}}\nspec:\n  lookups: {{1: no, true: 7, a: '7', b: [x, 1.5]}}\n"
    );
    let document = parse_file("p.yaml", &text).documents.remove(0);
    let Spec::AccessRole(role) = document.spec else { panic!() };
    let show: Vec<_> = role.lookups.iter().map(|(k, v)| format!("{k}={:?}", v.as_slice())).collect();
    assert_eq!(show, ["1=[Text(\"no\")]", "a=[Text(\"7\")]", "b=[Text(\"x\"), Number(1.5)]", "true=[Integer(7)]"]);
}

#[test]
fn numbers_that_would_be_rounded_are_refused() {
    let code = |number: &str| {
        let text = format!("{HEAD}kind: AccessRole\nmetadata: {{name: r}}\nspec:\n  lookups: {{a: {number}}}\n");
        parse_file("p.yaml", &text).diagnostics.first().map(|found| found.code)
    };
    for number in ["1.5", "0.10", "+2.5", ".5", "0.30000000000000004", "9223372036854775807", "1e5", "-0.0"] {
        assert_eq!(code(number), None, "{number}");
    }
    for number in [
        "18446744073709551616",
        "9007199254740993.0",
        "0.1000000000000000000000000000000000000001",
        ".1000000000000000000000000000000000000001",
        "1e-400",
        "1e999",
        ".inf",
    ] {
        assert_eq!(code(number), Some("invalid_value"), "{number}");
    }
}

#[test]
fn inline_keys_are_not_printed() {
    let text = format!(
        "{HEAD}kind: IdentityProvider\nmetadata: {{name: i}}\nspec: {{issuer: x, audiences: [a], algorithms: [HS256], jwks: {{inline: {{keys: [{{k: top-secret}}]}}}}}}\n"
    );
    let parsed = parse_file("p.yaml", &text);
    assert_eq!(parsed.documents.len(), 1, "{:?}", parsed.diagnostics);
    assert!(!format!("{parsed:?}").contains("top-secret"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z]{1,3}: |- |  |\n|---\n|[\\[\\]{}&*!'\"#,:]|[a-z0-9]){0,60}") {
        let _ = parse_file("p.yaml", &text);
    }
}
