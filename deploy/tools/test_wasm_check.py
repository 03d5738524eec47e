"""Tests of wasm_check.py, with modules made by hand."""

import contextlib
import io
import os
import tempfile
import unittest

import wasm_check
from wasm_check import WasmError, u32


def name(text):
    raw = text.encode()
    return u32(len(raw)) + raw


def section(number, payload):
    return bytes([number]) + u32(len(payload)) + payload


def vector(entries):
    return u32(len(entries)) + b"".join(entries)


FUNCTION = b"\x00\x00"  # a function of type 0


def module(imports=(), exports=(), code=b""):
    """A module with one type `() -> ()`, one memory, and as many functions as `exports` names."""
    body = b"\x02\x00\x0b"
    functions = max(1, len(exports))
    first = sum(1 for _, _, kind in imports if kind == FUNCTION)
    entries = [name("memory") + b"\x02\x00"]
    entries += [name(export) + b"\x00" + u32(first + index) for index, export in enumerate(exports)]
    return (
        b"\0asm\x01\0\0\0"
        + section(1, vector([b"\x60\x00\x00"]))
        + section(2, vector([name(origin) + name(item) + kind for origin, item, kind in imports]))
        + section(3, vector([b"\x00"] * functions))
        + section(5, vector([b"\x00\x01"]))
        + section(7, vector(entries))
        + section(10, vector([body] * functions))
        + (section(0, name("padding") + code) if code else b"")
    )


def listed(*lines):
    return wasm_check.read_list("\n".join(lines))


def names(binary):
    return [entry[0] for entry in wasm_check.exports(binary)]


class Exports(unittest.TestCase):
    def test_only_listed_exports_stay_in_their_order(self):
        before = module(exports=["proxy_on_tick", "proxy_on_log", "proxy_on_done"])
        after, warnings, _ = wasm_check.check(before, listed("proxy_on_done", "memory", "proxy_on_tick"))
        self.assertEqual(names(after), ["memory", "proxy_on_tick", "proxy_on_done"])
        self.assertEqual(warnings, [])

    def test_kept_exports_keep_their_kind_and_index(self):
        before = module(exports=["a", "b", "c"])
        after = wasm_check.keep_exports(before, listed("memory", "c"))
        self.assertEqual(wasm_check.exports(after), [("memory", 2, 0), ("c", 0, 2)])

    def test_all_other_sections_stay_byte_for_byte(self):
        before = module(imports=[("env", "proxy_log", FUNCTION)], exports=["a", "b"], code=b"\x80" * 300)
        after = wasm_check.keep_exports(before, listed("a"))
        others = [entry for entry in wasm_check.sections(before) if entry[0] != 7]
        self.assertEqual([entry for entry in wasm_check.sections(after) if entry[0] != 7], others)

    def test_listed_exports_that_are_missing_are_one_warning_that_names_them(self):
        _, warnings, _ = wasm_check.check(module(exports=["a"]), listed("memory", "a", "proxy_on_tick", "b"))
        self.assertEqual(warnings, ["listed exports that the module lacks: proxy_on_tick, b"])

    def test_an_export_section_over_127_bytes_is_read_and_written(self):
        many = [f"proxy_on_something_{number}" for number in range(200)]
        after = wasm_check.keep_exports(module(exports=many), listed(*many))
        self.assertEqual(names(after), many)

    def test_the_list_ignores_comments_and_blank_lines(self):
        text = "# all\n\nmemory  # the linear memory\n  proxy_on_tick\n"
        self.assertEqual(wasm_check.read_list(text), {"memory": "memory", "proxy_on_tick": "proxy_on_tick"})

    def test_a_renamed_export_takes_the_place_of_the_one_of_that_name(self):
        before = module(exports=["proxy_on_grpc_close", "other", "ours_on_grpc_close"])
        after, warnings, _ = wasm_check.check(before, listed("memory", "proxy_on_grpc_close = ours_on_grpc_close"))
        self.assertEqual(wasm_check.exports(after), [("memory", 2, 0), ("proxy_on_grpc_close", 0, 2)])
        self.assertEqual(warnings, [])

    def test_one_symbol_can_be_exported_by_two_names(self):
        after = wasm_check.keep_exports(module(exports=["a"]), listed("a", "b = a"))
        self.assertEqual(wasm_check.exports(after), [("a", 0, 0), ("b", 0, 0)])

    def test_renaming_what_the_module_lacks_is_an_error_that_names_both(self):
        with self.assertRaises(WasmError) as caught:
            wasm_check.check(module(exports=["proxy_on_tick"]), listed("proxy_on_tick = ours"))
        self.assertIn("ours (for proxy_on_tick)", str(caught.exception))

    def test_a_line_that_is_neither_a_name_nor_a_renaming_is_an_error_with_its_number(self):
        for line in ("a b", "= b", "a =", "a = b = c", "a = b c"):
            with self.subTest(line), self.assertRaises(WasmError) as caught:
                listed("memory", line)
            self.assertIn("line 2", str(caught.exception))

    def test_a_name_listed_twice_is_an_error(self):
        with self.assertRaises(WasmError) as caught:
            listed("a", "b", "a = b")
        self.assertIn("line 3", str(caught.exception))


class Imports(unittest.TestCase):
    def test_proxy_functions_and_the_listed_wasi_functions_pass(self):
        allowed = [("env", "proxy_log", FUNCTION)]
        allowed += [("wasi_snapshot_preview1", item, FUNCTION) for item in wasm_check.WASI_ALLOWED]
        _, _, summary = wasm_check.check(module(imports=allowed, exports=["a"]), listed("memory", "a"))
        self.assertIn("7 imports", summary)

    def test_other_imports_are_errors_that_name_them(self):
        cases = [
            ("env", "abort", FUNCTION, "env.abort (function)"),
            ("wasi_snapshot_preview1", "sock_open", FUNCTION, "wasi_snapshot_preview1.sock_open (function)"),
            ("wasi_snapshot_preview1", "proxy_log", FUNCTION, "wasi_snapshot_preview1.proxy_log (function)"),
            ("__wbindgen_placeholder__", "now", FUNCTION, "__wbindgen_placeholder__.now (function)"),
            ("env", "proxy_table", b"\x01\x70\x01\x00\x08", "env.proxy_table (table)"),
            ("env", "memory", b"\x02\x00\x01", "env.memory (memory)"),
            ("env", "proxy_global", b"\x03\x7f\x01", "env.proxy_global (global)"),
            ("env", "proxy_tag", b"\x04\x00\x00", "env.proxy_tag (tag)"),
        ]
        for origin, item, kind, text in cases:
            with self.subTest(text):
                bad = module(imports=[(origin, item, kind), ("env", "proxy_log", FUNCTION)])
                with self.assertRaises(WasmError) as caught:
                    wasm_check.check(bad, {})
                self.assertIn(text, str(caught.exception))
                self.assertNotIn("env.proxy_log (", str(caught.exception))


class Size(unittest.TestCase):
    def test_a_module_over_the_budget_is_an_error_with_both_sizes(self):
        big = module(code=b"\0" * 2000)
        with self.assertRaises(WasmError) as caught:
            wasm_check.check(big, listed("memory"), max_bytes=1000)
        self.assertIn("1,000", str(caught.exception))

    def test_the_budget_is_one_and_a_half_megabytes(self):
        self.assertEqual(wasm_check.MAX_BYTES, 1_500_000)


class Malformed(unittest.TestCase):
    def test_every_truncation_of_a_module_is_an_error_or_a_shorter_module(self):
        whole = module(imports=[("env", "proxy_log", FUNCTION)], exports=["a"])
        for length in range(len(whole)):
            with self.subTest(length), contextlib.suppress(WasmError):
                wasm_check.check(whole[:length], listed("memory"))

    def test_what_is_no_module_is_an_error(self):
        for data in (b"", b"\0asm", b"\x7fELF\x02\x01\x01\0", b"\0asm\x0d\0\x01\0"):
            with self.subTest(data), self.assertRaises(WasmError):
                wasm_check.check(data, {})

    def test_a_number_of_more_than_five_bytes_is_an_error(self):
        with self.assertRaises(WasmError):
            wasm_check.Reader(b"\x80" * 6).u32()

    def test_a_section_longer_than_the_file_is_an_error(self):
        with self.assertRaises(WasmError):
            wasm_check.sections(b"\0asm\x01\0\0\0" + b"\x07\x7f\x00")


class Command(unittest.TestCase):
    def run_main(self, binary, lines, *extra):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "in.wasm")
            keep = os.path.join(folder, "exports.txt")
            target = os.path.join(folder, "out.wasm")
            with open(source, "wb") as file:
                file.write(binary)
            with open(keep, "w", encoding="utf-8") as file:
                file.write(lines)
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = wasm_check.main([source, "--exports", keep, "--output", target, *extra])
            written = None
            if os.path.exists(target):
                with open(target, "rb") as file:
                    written = file.read()
            return code, out.getvalue(), err.getvalue(), written

    def test_a_good_module_is_written_and_summed_up_in_one_line(self):
        code, out, err, written = self.run_main(module(exports=["a", "b"]), "memory\na\n")
        self.assertEqual(code, 0)
        self.assertEqual(names(written), ["memory", "a"])
        self.assertRegex(out, r"^wasm_check: out\.wasm: \d+ bytes, 0 imports, 2 exports kept, 1 removed\n$")
        self.assertEqual(err, "")

    def test_a_bad_module_is_not_written(self):
        code, out, err, written = self.run_main(module(imports=[("env", "abort", FUNCTION)]), "memory\n")
        self.assertEqual((code, out, written), (1, "", None))
        self.assertIn("env.abort", err)


if __name__ == "__main__":
    unittest.main()
