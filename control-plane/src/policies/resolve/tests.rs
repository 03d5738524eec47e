use super::*;
use crate::source::Unread;
use doorward_proto::v1::Bundle;
use prost::Message as _;

const SERVICE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: { name: shop }\nspec:\n  dialect: datasette\n  match: [{ path: /shop }]\n  components:\n    shop/orders: { key: [id], fields: { id: integer, total: number } }\n";
const ROLE: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: ai-x }\nspec:\n  grants: [{ service: shop, components: [shop/orders], verbs: [GET], fields: { read: [FIELDS] } }]\n";
const RESTRICTION: &str = "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: cut }\nspec: { subjects: [{ user: bob }], effect: deny, services: [shop] }\n";

fn run(files: &[(&str, &str)], previous: &GoodDocuments) -> Resolution {
    run_parts(files.iter().map(|(name, text)| (*name, Ok((*text).to_owned()))).collect(), previous)
}

fn run_parts(parts: Vec<(&str, Result<String, Unread>)>, previous: &GoodDocuments) -> Resolution {
    let dir = tempfile::tempdir().unwrap();
    let (keys, _triggers) = crate::jwks::tests::key_sets(dir.path());
    let parts = parts.into_iter().map(|(origin, text)| Part { origin: origin.into(), text, generation: 0 }).collect();
    resolve(&Reading { parts, ..Reading::default() }, previous, &keys, "default")
}

/// What is published; `None`: nothing new.
fn bundle(resolution: &Resolution) -> Option<Bundle> {
    Some(Bundle::decode(resolution.compiled.as_ref().ok()?.bytes.as_slice()).unwrap())
}

fn restrictions(resolution: &Resolution) -> Option<usize> {
    bundle(resolution).map(|bundle| bundle.restrictions.len())
}

fn fates(resolution: &Resolution) -> Vec<(String, bool, bool)> {
    resolution.documents.iter().map(|d| (d.name.clone(), d.accepted, d.last_good)).collect()
}

#[test]
fn what_somebody_writes_in_one_namespace_keeps_no_other_one_from_going_on() {
    let restriction = |name: &str, effect: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: {{ name: {name} }}\nspec: {{ subjects: [{{ user: bob }}], effect: {effect} }}\n"
        )
    };
    let role = |name: &str, text: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: {{ name: {name} }}\nspec: {{ description: {text}, grants: [] }}\n"
        )
    };
    let in_namespaces = |texts: &[&str], previous: &GoodDocuments| {
        let names = ["1", "2", "3"];
        run(&names.into_iter().zip(texts.iter().copied()).collect::<Vec<_>>(), previous)
    };
    let first = in_namespaces(&[&role("a/ai-x", "one"), &role("b/ai-x", "one")], &GoodDocuments::new());
    assert!(first.compiled.is_ok());
    // In `b` something is broken that nobody knows, and without which more could be allowed.
    let broken = restriction("b/cut", "denyy");
    let second = in_namespaces(&[&role("a/ai-x", "two"), &role("b/ai-x", "two"), &broken], &first.good);
    assert!(second.compiled.is_ok(), "the others go on");
    let good = |resolution: &Resolution, key: &str| resolution.good.get(key).map(|good| good.text.clone());
    assert!(good(&second, "AccessRole/a/ai-x").unwrap().contains("two"));
    assert!(good(&second, "AccessRole/b/ai-x").unwrap().contains("one"), "b stays as it was as a whole");
    assert!(good(&second, "AccessRestriction/b/cut").is_none());
    let told: Vec<&str> = second.diagnostics.iter().map(|found| found.code.as_str()).collect();
    assert!(told.contains(&"namespace_held"), "{told:?}");
    // Without a namespace nobody else would be kept from anything.
    let alone = in_namespaces(&[&role("ai-x", "two"), &restriction("cut", "denyy")], &GoodDocuments::new());
    assert!(alone.compiled.is_err());
}

#[test]
fn a_broken_service_does_not_take_a_good_edit_of_a_role_with_it() {
    let first = run(&[("r.yaml", &ROLE.replace("FIELDS", "id")), ("s.yaml", SERVICE)], &GoodDocuments::new());
    assert!(first.compiled.is_ok() && first.good.len() == 2, "{:?}", first.diagnostics);
    let broken = SERVICE.replace("datasette", "datasett");
    let second = run(&[("r.yaml", &ROLE.replace("FIELDS", "id, total")), ("s.yaml", &broken)], &first.good);
    assert_eq!(
        fates(&second),
        [("ai-x".into(), true, false), ("shop".into(), false, true)],
        "{:?}",
        second.diagnostics
    );
    assert!(second.good["AccessRole/ai-x"].text.contains("total"));
    assert_eq!(second.good["DataService/shop"], first.good["DataService/shop"]);
    // The same over a file that cannot be read at all, and over one whose document cannot even be named.
    let third = run(&[("r.yaml", &ROLE.replace("FIELDS", "id")), ("s.yaml", "]")], &second.good);
    assert_eq!(fates(&third), [("ai-x".into(), true, false), ("shop".into(), false, true)], "{:?}", third.diagnostics);
}

#[test]
fn a_broken_role_without_a_good_version_is_left_out_alone() {
    let other = ROLE.replace("FIELDS", "id").replace("ai-x", "ai-y");
    let broken = ROLE.replace("FIELDS", "nothing");
    let found = run(&[("r.yaml", &(broken + "---\n" + &other)), ("s.yaml", SERVICE)], &GoodDocuments::new());
    assert!(found.compiled.is_ok());
    assert_eq!(
        fates(&found),
        [("ai-x".into(), false, false), ("ai-y".into(), true, false), ("shop".into(), true, false)]
    );
    assert!(!found.good.contains_key("AccessRole/ai-x"));
}

#[test]
fn a_restriction_in_force_never_falls_away_because_it_no_longer_compiles() {
    let first = run(&[("c.yaml", RESTRICTION), ("s.yaml", SERVICE)], &GoodDocuments::new());
    assert!(first.good.contains_key("AccessRestriction/cut"), "{:?}", first.diagnostics);
    let broken = RESTRICTION.replace("shop", "gone");
    let held = run(&[("c.yaml", &broken), ("s.yaml", SERVICE)], &first.good);
    assert!(held.compiled.is_ok() && fates(&held)[0] == ("cut".into(), false, true), "{:?}", held.diagnostics);
    let renamed = SERVICE.replace("name: shop", "name: store");
    let blocked = run(&[("c.yaml", &broken), ("s.yaml", &renamed)], &first.good);
    assert!(blocked.compiled.as_ref().is_err_and(|reason| reason.to_string().contains("AccessRestriction/cut")));
    assert_eq!(blocked.good, first.good);
}

#[test]
fn a_restriction_that_never_compiled_is_not_left_out_beside_new_grants() {
    let role = ROLE.replace("FIELDS", "id");
    for (wrong, right) in [
        ("deny", "forbid"),
        ("kind: AccessRestriction", "kind: AccesRestriction"),
        ("apiVersion: doorward.dev/v1alpha1\n", ""),
        ("metadata: { name: cut }", "metadata: { nam"),
        ("[shop]", "[shpo]"),
    ] {
        let broken = RESTRICTION.replace(wrong, right);
        let found = run(&[("c.yaml", &broken), ("r.yaml", &role), ("s.yaml", SERVICE)], &GoodDocuments::new());
        assert!(found.compiled.as_ref().is_err_and(|reason| reason.to_string().contains("widen")), "{broken}");
        assert!(found.good.is_empty());
    }
    let twice = run(
        &[("c.yaml", RESTRICTION), ("d.yaml", RESTRICTION), ("r.yaml", &role), ("s.yaml", SERVICE)],
        &GoodDocuments::new(),
    );
    assert!(twice.compiled.is_err());
    // What is not ours, and what only grants, holds nothing up.
    let foreign = "apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\nresources: [a.yaml]\n";
    let grants = ROLE.replace("metadata: { name: ai-x }", "metadata: { nam");
    let found = run(&[("k.yaml", foreign), ("r.yaml", &grants), ("s.yaml", SERVICE)], &GoodDocuments::new());
    assert!(found.compiled.is_ok() && !found.diagnostics.is_empty());
}

#[test]
fn of_two_documents_with_one_name_neither_wins() {
    let role = |fields: &str| ROLE.replace("FIELDS", fields);
    let first = run(&[("a.yaml", &role("id")), ("s.yaml", SERVICE)], &GoodDocuments::new());
    let second = run(&[("a.yaml", &role("total")), ("b.yaml", &role("id, total")), ("s.yaml", SERVICE)], &first.good);
    assert!(second.compiled.is_ok() && second.diagnostics.iter().any(|d| d.code == "duplicate"));
    assert_eq!(second.good["AccessRole/ai-x"], first.good["AccessRole/ai-x"]);
    assert!(!fates(&second).iter().any(|(name, accepted, _)| name == "ai-x" && *accepted));
}

#[test]
fn of_a_document_that_is_defined_twice_nothing_but_its_last_good_version_is_in_force() {
    let (narrow, wide) = (ROLE.replace("FIELDS", "id"), ROLE.replace("FIELDS", "id, total"));
    let alone = run(&[("a.yaml", &narrow), ("s.yaml", SERVICE)], &GoodDocuments::new());
    for (first, second) in [(&narrow, &wide), (&wide, &narrow), (&wide, &wide)] {
        let both = [("a.yaml", first.as_str()), ("b.yaml", second.as_str()), ("s.yaml", SERVICE)];
        let fresh = bundle(&run(&both, &GoodDocuments::new())).unwrap();
        assert!(fresh.roles.is_empty(), "{fresh:?}");
        assert_eq!(bundle(&run(&both, &alone.good)), bundle(&alone));
    }
}

#[test]
fn a_copy_of_a_key_as_it_was_does_not_take_back_its_revocation() {
    let key = |revoked: bool| {
        let hash = "0".repeat(63);
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessKey\nmetadata: {{ name: tool }}\nspec: {{ hash: 'sha256:{hash}1', \
             role: ai-x, revoked: {revoked} }}\n"
        )
    };
    let role = ROLE.replace("FIELDS", "id");
    let revoked = run(&[("k.yaml", &key(true)), ("r.yaml", &role), ("s.yaml", SERVICE)], &GoodDocuments::new());
    for copy in ["a.yaml", "z.yaml"] {
        let files = [("k.yaml", &*key(true)), (copy, &*key(false)), ("r.yaml", &*role), ("s.yaml", SERVICE)];
        for previous in [&revoked.good, &GoodDocuments::new()] {
            let after = bundle(&run(&files, previous)).unwrap();
            assert!(after.keys.iter().all(|key| key.revoked), "{:?}", after.keys);
        }
    }
}

#[test]
fn a_part_that_cannot_be_read_and_held_nothing_that_is_known_could_be_a_restriction() {
    let role = ROLE.replace("FIELDS", "id");
    let unread = || [Unread::Empty, Unread::Io(std::io::ErrorKind::PermissionDenied.into())];
    let parts = |origin: &'static str, unread| {
        vec![(origin, Err(unread)), ("r.yaml", Ok(role.clone())), ("s.yaml", Ok(SERVICE.to_owned()))]
    };
    for unread in unread() {
        let found = run_parts(parts("cut.yaml", unread), &GoodDocuments::new());
        let reason = found.compiled.err().map(|reason| reason.to_string()).unwrap_or_default();
        assert!(reason.contains("cut.yaml cannot be read"), "{reason}");
    }
    let first = run(&[("ops/cut.yaml", RESTRICTION), ("r.yaml", &role), ("s.yaml", SERVICE)], &GoodDocuments::new());
    assert_eq!(restrictions(&first), Some(1));
    for unread in unread() {
        // What it held is known, and stays.
        assert_eq!(restrictions(&run_parts(parts("ops/cut.yaml", unread), &first.good)), Some(1));
    }
    for unread in unread() {
        // Its folder has another name now.
        let moved = run_parts(parts("oncall/cut.yaml", unread), &first.good);
        assert_eq!((restrictions(&moved), moved.good == first.good), (None, true));
    }
}

#[test]
fn a_broken_document_is_not_taken_for_another_one() {
    let role = ROLE.replace("FIELDS", "id");
    let foo = RESTRICTION.replace("name: cut", "name: foo");
    for metadata in [
        "metadata:\n  labels:\n    name: foo\n  name: bar",
        "metadata: { labels: { name: foo }, name: bar }",
        "metadata: { labels: { app.kubernetes.io/name: foo }, name: bar }",
        "metadata: { annotations: { owner-name: foo }, name: bar }",
        "metadata: { name: 'bar' }",
    ] {
        let bar = RESTRICTION.replace("metadata: { name: cut }", metadata);
        let files = |bar: &str| [("a.yaml", foo.clone()), ("b.yaml", bar.to_owned()), ("r.yaml", role.clone())];
        let resolved = |bar: &str, previous: &GoodDocuments| {
            let files = files(bar);
            let mut files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            for _ in 0..files.len() {
                // Whichever comes first.
                files.rotate_left(1);
                let mut all = files.clone();
                all.push(("s.yaml", SERVICE));
                let found = run(&all, previous);
                assert!(matches!(restrictions(&found), None | Some(2)), "{metadata}: {:?}", found.diagnostics);
            }
            files.push(("s.yaml", SERVICE));
            run(&files, previous)
        };
        let first = resolved(&bar, &GoodDocuments::new());
        assert_eq!(restrictions(&first), Some(2), "{metadata}: {:?}", first.diagnostics);
        for broken in [bar.replace("effect: deny", "effect: denyy"), bar.replace("spec: {", "spec: [")] {
            assert_ne!(broken, bar);
            resolved(&broken, &first.good);
            resolved(&broken, &GoodDocuments::new());
        }
    }
}

#[test]
fn a_restriction_after_an_end_marker_or_a_byte_order_mark_is_one() {
    let role = ROLE.replace("FIELDS", "id");
    let other = role.replace("ai-x", "app-other");
    for (first, second) in [
        (other.clone(), RESTRICTION.to_owned()),
        (other.replace("service: shop", "service: shopp"), RESTRICTION.to_owned()),
        (other.replace("grants:", "grantss:"), RESTRICTION.to_owned()),
        (other.clone(), RESTRICTION.replace("effect: deny", "effect: denyy")),
    ] {
        let file = format!("{first}...\n{second}");
        let found = run(&[("c.yaml", &file), ("r.yaml", &role), ("s.yaml", SERVICE)], &GoodDocuments::new());
        assert_ne!(restrictions(&found), Some(0), "{file}");
    }
    let typo = RESTRICTION.replace("AccessRestriction", "AccessRestricton");
    let typo = typo.replace("apiVersion: doorward.dev/v1alpha1\n", "");
    for before in ["", "\u{feff}"] {
        let file = format!("{before}{role}---\n{typo}");
        let found = run(&[("c.yaml", &file), ("s.yaml", SERVICE)], &GoodDocuments::new());
        assert_eq!(restrictions(&found), None, "{file}");
    }
}

#[test]
fn what_the_trusted_namespace_restricts_is_never_left_out() {
    let restriction = |name: &str, effect: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: {{ name: {name} }}\nspec: {{ subjects: [{{ user: bob }}], effect: \
             {effect} }}\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let (keys, _triggers) = crate::jwks::tests::key_sets(dir.path());
    let part = |origin: &str, text: String| Part { origin: origin.into(), text: Ok(text), generation: 0 };
    let boundary = Boundary { trusted: Some("doorward".to_owned()) };
    // A replica without a memory finds one that does not compile.
    let parts = vec![part("1", restriction("doorward/cut", "denyy")), part("2", restriction("doorward/other", "deny"))];
    let reading = Reading { parts, boundary, ..Reading::default() };
    let resolution = resolve(&reading, &GoodDocuments::new(), &keys, "default");
    assert!(matches!(resolution.compiled, Err(Unpublished::Needed { .. })));
}

#[test]
fn a_new_service_whose_host_is_anothers_holds_nothing_up() {
    let service = |name: &str, day: u8, component: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{ name: {name}, creationTimestamp: \"2026-01-0{day}T00:00:00Z\" }}\nspec: {{ \
             dialect: http, match: [{{ hosts: [x.example.com] }}], components: {{ {component}: {{ operations: [{{ path: /x, verbs: [GET] }}] }} }} }}\n"
        )
    };
    let role = |text: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: {{ name: b/ai-x }}\nspec: {{ description: {text}, grants: [] }}\n"
        )
    };
    let first = run(&[("1", &service("a/one", 1, "c")), ("2", &role("one"))], &GoodDocuments::new());
    let both = [("1", service("a/one", 1, "c")), ("2", role("two")), ("3", service("b/two", 2, "c"))];
    let both: Vec<(&str, &str)> = both.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let second = run(&both, &first.good);
    assert_eq!(bundle(&second).unwrap().services.len(), 1);
    assert!(second.good["AccessRole/b/ai-x"].text.contains("two"), "its namespace goes on");
}

#[test]
fn a_namespace_of_which_nothing_good_is_left_stays_known_and_closed() {
    let service = |name: &str, allowed: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: DataService\nmetadata: {{ name: {name} }}\nspec: {{ dialect: http, allowedNamespaces: \
             [{allowed}], match: [{{ hosts: [{}.example.com] }}], components: {{ c: {{ operations: [{{ path: /x, verbs: [GET] }}] }} }} }}\n",
            name.replace('/', ".")
        )
    };
    let role = |name: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: {{ name: {name} }}\nspec: {{ grants: [{{ service: b/own, components: [c], verbs: \
             [GET] }}] }}\n"
        )
    };
    let restriction = |effect: &str| {
        format!(
            "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: {{ name: b/cut }}\nspec: {{ subjects: [{{ user: bob }}], effect: {effect}, \
             services: [a/one] }}\n"
        )
    };
    let names = |resolution: &Resolution| {
        let bundle = bundle(resolution).expect("the others go on");
        let name = |at: u32| bundle.strings[at as usize].clone();
        let services: Vec<String> = bundle.services.iter().map(|service| name(service.name)).collect();
        (services, bundle.roles.iter().map(|role| name(role.name)).collect::<Vec<_>>(), bundle.restrictions.len())
    };
    let all = ["a/one".to_owned(), "b/own".to_owned()];
    let closed = (all.to_vec(), Vec::new(), 0);
    // A replica without a memory.
    let (one, own) = (service("a/one", "b"), service("b/own", "c"));
    let (theirs, others) = (role("b/ai-x"), role("c/ai-x"));
    let run = |one: &str, restriction: &str, previous: &GoodDocuments| {
        run(&[("1", one), ("2", &own), ("3", &theirs), ("4", &others), ("5", restriction)], previous)
    };
    assert_eq!(names(&run(&one, &restriction("denyy"), &GoodDocuments::new())), closed);
    let good = run(&one, &restriction("deny"), &GoodDocuments::new());
    assert_eq!(names(&good), (all.to_vec(), vec!["b/ai-x".to_owned(), "c/ai-x".to_owned()], 1));
    // What its restriction needs is no longer allowed, neither as written nor as it was.
    let second = run(&service("a/one", ""), &restriction("deny"), &good.good);
    assert_eq!(names(&second), closed);
}
