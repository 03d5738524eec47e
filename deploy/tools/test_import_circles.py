"""Tests of import_circles.py, with small crates made in a folder."""

import contextlib
import io
import subprocess
import tempfile
import unittest
from pathlib import Path

import import_circles


def circles_of(files):
    """The circles of a crate with these files below src/, as tuples of names."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text, encoding="utf-8")
        edges = import_circles.Crate(source / "lib.rs").imports()
        return [tuple(str(file.relative_to(source)) for file in circle) for circle in import_circles.circles(edges)]


class Circles(unittest.TestCase):
    def test_two_files_that_import_each_other_are_a_circle(self):
        files = {
            "lib.rs": "mod a; mod b;",
            "a.rs": "use crate::b::Two; pub struct One;",
            "b.rs": "use super::a::One; pub struct Two;",
        }
        self.assertEqual(circles_of(files), [("a.rs", "b.rs")])

    def test_one_direction_is_none(self):
        files = {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::Two;", "b.rs": "pub struct Two;"}
        self.assertEqual(circles_of(files), [])

    def test_a_path_in_code_is_an_import(self):
        files = {
            "lib.rs": "mod a; mod b;",
            "a.rs": "pub fn one() { crate::b::two() }",
            "b.rs": "use crate::a; pub fn two() { a::one() }",
        }
        self.assertEqual(circles_of(files), [("a.rs", "b.rs")])

    def test_a_circle_may_go_over_three_files_in_groups_and_other_names(self):
        files = {
            "lib.rs": "mod a; mod b; mod c;",
            "a.rs": "use crate::{b::{self, Two as Other}, c}; pub struct One(Other);",
            "b.rs": "use crate::c::*; pub struct Two(Three);",
            "c.rs": "pub struct Three; fn f(_: super::a::One) {}",
        }
        self.assertEqual(circles_of(files), [("a.rs", "b.rs", "c.rs")])

    def test_a_front_page_that_only_hands_names_on_is_in_no_circle(self):
        files = {
            "lib.rs": "mod room;",
            "room/mod.rs": "mod a; mod b; pub use a::One; pub use b::Two;",
            "room/a.rs": "pub struct One;",
            "room/b.rs": "use super::One; pub struct Two(One);",
        }
        self.assertEqual(circles_of(files), [])

    def test_a_name_that_is_handed_on_belongs_to_the_file_that_defines_it(self):
        files = {
            "lib.rs": "mod room; mod far;",
            "room/mod.rs": "mod a; pub use a::One;",
            "room/a.rs": "use crate::far::Far; pub struct One(Far);",
            "far.rs": "use crate::room::One; pub struct Far(Option<Box<One>>);",
        }
        self.assertEqual(circles_of(files), [("far.rs", "room/a.rs")])

    def test_a_parent_that_uses_a_child_that_uses_the_parent_is_a_circle(self):
        files = {
            "lib.rs": "mod room;",
            "room/mod.rs": "mod a; pub struct Own; pub fn run() { a::walk(Own) }",
            "room/a.rs": "use super::Own; pub fn walk(_: Own) {}",
        }
        self.assertEqual(circles_of(files), [("room/a.rs", "room/mod.rs")])

    def test_tests_comments_and_texts_are_no_imports(self):
        files = {
            "lib.rs": "mod a; mod b;",
            "a.rs": "use crate::b::Two; pub struct One;",
            "b.rs": """
                pub struct Two;
                // use crate::a::One;
                /* use crate::a::One; /* nested */ use crate::a::One; */
                const TEXT: &str = "crate::a::One /* ";
                const RAW: &str = r#"use crate::a::One; " "#;
                const QUOTE: char = '"';
                #[cfg(test)]
                use crate::a::One;
                #[cfg(test)]
                mod tests { use crate::a::One; fn f() { let x = [1; 2]; } }
            """,
        }
        self.assertEqual(circles_of(files), [])

    def test_what_follows_a_test_is_read_again(self):
        files = {
            "lib.rs": "mod a; mod b;",
            "a.rs": "use crate::b::Two; pub struct One;",
            "b.rs": "#[cfg(test)] mod tests { fn f<'a>(_: &'a str) {} } pub struct Two; fn f(_: crate::a::One) {}",
        }
        self.assertEqual(circles_of(files), [("a.rs", "b.rs")])


class TheList(unittest.TestCase):
    def run_check(self, page):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            subprocess.run(["git", "init", "-q", folder], check=True)
            (root / "one/src").mkdir(parents=True)
            (root / "one/Cargo.toml").write_text("[package]\n", encoding="utf-8")
            (root / "one/src/lib.rs").write_text("mod a; mod b;", encoding="utf-8")
            (root / "one/src/a.rs").write_text("use crate::b::Two; pub struct One;", encoding="utf-8")
            (root / "one/src/b.rs").write_text("use crate::a::One; pub struct Two;", encoding="utf-8")
            (root / "ARCHITECTURE.md").write_text(page, encoding="utf-8")
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = import_circles.main(["--root", folder])
            return code, out.getvalue()

    def test_a_circle_that_is_not_named_fails_and_says_what_ties_it(self):
        code, said = self.run_check("# Map\n")
        self.assertEqual(code, 1)
        self.assertIn("one/src/a.rs takes from one/src/b.rs: Two", said)

    def test_a_circle_that_is_named_passes(self):
        page = "## Import circles\n\n- `one/src/a.rs`,\n  `one/src/b.rs`: two halves of one thing.\n\n## Next\n"
        self.assertEqual(self.run_check(page)[0], 0)

    def test_a_named_circle_that_is_gone_fails(self):
        page = "## Import circles\n- `one/src/a.rs`, `one/src/b.rs`: a reason.\n- `one/src/b.rs`, `one/src/c.rs`: gone.\n"
        code, said = self.run_check(page)
        self.assertEqual(code, 1)
        self.assertIn("one/src/b.rs, one/src/c.rs", said)


if __name__ == "__main__":
    unittest.main()
