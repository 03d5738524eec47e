"""Tests of run_tests.py's reading of the runners' lines."""

import unittest

import run_tests


def read(text):
    parser = run_tests.Parser()
    for line in text.splitlines(keepends=True):
        parser.line(line)
    return parser


class Lines(unittest.TestCase):
    def test_the_results_of_several_cargo_binaries_are_added_up(self):
        parser = read(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
            "test decide::denies ... FAILED\n"
            "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
        )
        self.assertEqual(str(parser.counts), "7 passed, 1 failed, 1 skipped")
        self.assertEqual(parser.failures, ["decide::denies"])

    def test_colours_do_not_hide_a_result(self):
        parser = read("test result: \x1b[32mok\x1b[0m. 2 passed; 0 failed; 0 ignored; 0 measured\n")
        self.assertEqual(parser.counts.passed, 2)

    def test_unittest_counts_failures_errors_and_skips(self):
        parser = read("FAIL: test_a (m.C.test_a)\nRan 9 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n")
        self.assertEqual(str(parser.counts), "3 passed, 3 failed, 3 skipped")
        self.assertEqual(parser.failures, ["test_a (m.C.test_a)"])

    def test_unittest_all_well(self):
        self.assertEqual(str(read("Ran 9 tests in 0.1s\n\nOK\n").counts), "9 passed, 0 failed, 0 skipped")

    def test_an_ok_that_no_runner_said_counts_nothing(self):
        self.assertEqual(str(read("OK\nok. 3 passed\n").counts), "0 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main()
