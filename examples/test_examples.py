"""Runs the examples: each as a person would start it, and the policy repository's own check."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy/demo"))

from stand import DOORWARD, ENVOY  # noqa: E402 (the folder has to be known first)


def ran(*command, **environment):
    """The exit code, and all that was said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


class Examples(unittest.TestCase):
    def test_each_example_runs_and_answers_as_its_setup_says(self):
        for setup in sorted(HERE.glob("*/setup.json")):
            name = setup.parent.name
            with self.subTest(name):
                code, said = ran(sys.executable, str(HERE / "run.py"), name, "--check")
                self.assertEqual(code, 0, said)
                self.assertIn(f"{len(json.loads(setup.read_text(encoding='utf-8'))['walk'])} as expected, 0 not", said)

    def test_the_bootstrap_that_an_example_leaves_is_valid(self):
        for setup in sorted(HERE.glob("*/setup.json")):
            bootstrap = HERE.parent / ".demo" / setup.parent.name / "envoy.yaml"
            with self.subTest(bootstrap.parent.name):
                if not bootstrap.exists():
                    self.skipTest("the example has not run yet")
                code, said = ran(str(ENVOY), "--mode", "validate", "-c", str(bootstrap))
                self.assertEqual(code, 0, said)

    def test_the_policy_repository_passes_its_own_check(self):
        code, said = ran(str(HERE / "policy-repository/check.sh"), DOORWARD=str(DOORWARD))
        self.assertEqual(code, 0, said)


if __name__ == "__main__":
    unittest.main()
