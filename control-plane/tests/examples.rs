//! The policies of `examples/` are valid, without a warning, and pass their own tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{path::Path, process::Command};

fn doorward(folder: &Path, command: &str) -> (bool, String) {
    let paths = ["policies", "tests"].into_iter().filter(|name| folder.join(name).is_dir());
    let output =
        Command::new(env!("CARGO_BIN_EXE_doorward")).arg(command).args(paths).current_dir(folder).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn every_example_is_valid_and_passes_its_own_tests() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders: Vec<_> = std::fs::read_dir(&examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("policies").is_dir())
        .collect();
    assert!(folders.len() >= 3, "{} has {} examples", examples.display(), folders.len());
    for folder in folders {
        let (valid, said) = doorward(&folder, "validate");
        assert!(valid && said.contains(" 0 warnings"), "{}: {said}", folder.display());
        let (passed, said) = doorward(&folder, "test");
        assert!(passed && !said.contains("0 passed"), "{}: {said}", folder.display());
    }
}
