"""Tests of doc_paths.py and rust_version.py, with small checkouts made in a folder."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import doc_paths
import rust_version


def checked(faults, files):
    """What `faults` says of a checkout with these files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return faults(root)


class Documents(unittest.TestCase):
    def said(self, page, **more):
        files = {"README.md": page, "src/a/mod.rs": "", "docs/x.md": "# One & Two\n\n## A `b`\n", "Makefile": "test:\n"}
        return checked(doc_paths.faults, {**files, **more})

    def test_what_is_there_passes(self):
        page = "[x](docs/x.md#one--two) [b](docs/x.md#a-b) [self](#top) `src/a/mod.rs` `src/a` `docs/x.md`\n# Top\n`make test`\n"
        self.assertEqual(self.said(page), [])

    def test_a_link_a_path_an_anchor_and_a_target_that_are_not_there_are_told(self):
        page = "[x](docs/y.md) [z](docs/x.md#three) `src/b.rs` and `make tests`\n"
        self.assertEqual(len(self.said(page)), 4)

    def test_a_chosen_name_needs_its_folder(self):
        self.assertEqual(self.said("`src/a/NAME.rs` `src/NAME/mod.rs`\n"), [])
        self.assertEqual(self.said("`src/b/NAME/mod.rs`\n"), ["README.md: `src/b/NAME/mod.rs` is not there"])

    def test_other_words_and_blocks_of_code_are_left_alone(self):
        self.assertEqual(self.said("`application/json` `/api/v2` `a b/c`\n```\nsrc/b.rs [x](y)\n```\n"), [])


class RustVersion(unittest.TestCase):
    FILES = {
        "Cargo.toml": '[workspace.package]\nrust-version = "1.95"\n',
        "rust-toolchain.toml": '[toolchain]\nchannel = "1.95.0"\n',
        "one/Cargo.toml": "[package]\nrust-version.workspace = true\n",
        "README.md": "Rust 1.95 or newer.\n",
    }

    def said(self, **changes):
        return checked(rust_version.faults, {**self.FILES, **changes})

    def test_one_number_everywhere_passes(self):
        self.assertEqual(self.said(), [])

    def test_each_place_that_says_another_is_told(self):
        changes = {
            "rust-toolchain.toml": '[toolchain]\nchannel = "1.96.0"\n',
            "README.md": "Rust 1.94 or newer.\n",
            "one/Cargo.toml": '[package]\nrust-version = "1.80"\n',
        }
        for name, text in changes.items():
            self.assertEqual(len(self.said(**{name: text})), 1, name)


if __name__ == "__main__":
    unittest.main()
