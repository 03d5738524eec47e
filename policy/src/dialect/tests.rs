//! The register: what holds of every dialect in it, and who may name one.

use super::*;
use crate::bundle::Tables;
use std::{fs, path::Path};

#[test]
fn every_dialect_has_a_name_of_its_own_and_is_found_by_its_number_on_the_wire() {
    for dialect in Registered::ALL {
        let name = dialect.name();
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
        assert_eq!(Registered::NAMES.iter().filter(|other| **other == name).count(), 1, "{name}");
        assert_eq!(Registered::of(dialect.wire()), Some(*dialect), "{name}");
        assert!(dialect.credential_headers().iter().all(|header| *header == header.to_ascii_lowercase()), "{name}");
    }
}

fn tables(dialect: i32) -> Result<Tables, &'static str> {
    let service = v1::Service { name: 1, dialect, ..v1::Service::default() };
    let strings = vec![String::new(), "shop".to_owned()];
    let bundle = v1::Bundle { format: 1, strings, services: vec![service], ..v1::Bundle::default() };
    Tables::build(&bundle, [0; 32], 1).map_err(|error| error.code)
}

#[test]
fn a_bundle_with_a_dialect_that_is_unknown_here_is_refused() {
    for dialect in Registered::ALL {
        assert!(tables(dialect.wire().into()).is_ok(), "{dialect:?}");
    }
    for number in [0, -1, 1_000_000] {
        assert_eq!(tables(number).unwrap_err(), "unknown", "{number}");
    }
}

#[test]
fn a_service_without_a_dialect_denies_every_request() {
    let tables = tables(Registered::ALL[0].wire().into()).unwrap();
    let service = Service { dialect: v1::Dialect::Unspecified, ..tables.service("shop").unwrap().clone() };
    let request =
        HttpRequest { method: "GET", authority: "", path: "/t", headers: &[], body: None, source_address: "" };
    assert_eq!(parse(&service, "", &request).unwrap_err().code, Code::Unsupported);
}

/// Every line of the product's own code below `folder` that has one of the names.
fn naming(folder: &Path, names: &[String], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && folder.ends_with("dialect") && Registered::NAMES.contains(&&*name) {
            // A dialect's own folder names no other dialect's.
            let others = Registered::NAMES.iter().filter(|other| **other != name);
            naming(&path, &others.map(|other| format!("{other}::")).collect::<Vec<_>>(), found);
        } else if path.is_dir() && name != "tests" && name != "target" {
            naming(&path, names, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let lines = code.filter(|line| names.iter().any(|name| line.contains(name)));
            found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
}

#[test]
fn no_dialect_is_named_outside_its_folder_and_the_register() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let of = |dialect: &Registered| {
        ["Dialect::", "Registered::"]
            .map(|of| format!("{of}{dialect:?}"))
            .into_iter()
            .chain([format!("dialect::{}", dialect.name())])
    };
    let names: Vec<String> = Registered::ALL.iter().flat_map(of).collect();
    let mut found = Vec::new();
    for folder in ["policy", "filter/src", "control-plane/src"] {
        naming(&root.join(folder), &names, &mut found);
    }
    assert!(found.is_empty(), "ask the register instead:\n{}", found.join("\n"));
}
