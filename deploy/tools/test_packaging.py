"""Tests of the Containerfile and of the unit for systemd, as far as they can be tried without building or installing anything."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL",
    "USER", "VOLUME", "WORKDIR",
}


def instructions(text):
    """The instructions of a Containerfile with what follows them; lines that go on are joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined]


class Containerfile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = instructions((ROOT / "Containerfile").read_text(encoding="utf-8"))
        starts = [at for at, (name, _) in enumerate(cls.all) if name == "FROM"]
        cls.stages = [cls.all[start:end] for start, end in zip(starts, [*starts[1:], None])]

    def test_it_consists_of_instructions(self):
        self.assertLessEqual({name for name, _ in self.all}, INSTRUCTIONS)
        self.assertEqual(self.all[0][0], "FROM")

    def test_shell_parts_are_shell(self):
        for name, text in self.all:
            if name == "RUN":
                done = subprocess.run(["sh", "-n", "-c", text], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(text.startswith("set -eu;"), "a step that fails must end the build")

    def test_bases_are_pinned_to_a_version(self):
        for (_, base), *_ in self.stages:
            image = [word for word in base.split() if not word.startswith("--")][0]
            self.assertRegex(image, r"^[a-z.]+/[a-z0-9/-]+:[a-z0-9.-]+$")
            self.assertNotIn(":latest", image)

    def test_the_compiler_is_the_one_of_rust_toolchain(self):
        channel = re.search(r'^channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
        self.assertIn(f"/rust:{channel}-", self.stages[0][0][1])
        self.assertIn(("ENV", f"RUSTUP_TOOLCHAIN={channel}"), self.stages[0])

    def test_the_last_stage_has_no_shell_and_runs_as_a_numeric_user(self):
        last = self.stages[-1]
        self.assertIn("distroless", last[0][1])
        self.assertNotIn("RUN", {name for name, _ in last})
        [user] = [text for name, text in last if name == "USER"]
        self.assertRegex(user, r"^[1-9]\d*:[1-9]\d*$")
        values = (ROOT / "deploy/helm/doorward/values.yaml").read_text(encoding="utf-8")
        self.assertIn(f"\nrunAsUser: {user.split(':')[0]}\n", values, "the chart runs it as the same user")
        [entry] = [text for name, text in last if name == "ENTRYPOINT"]
        self.assertTrue(entry.startswith("["), "without a shell only the exec form works")

    def test_both_architectures_have_a_target(self):
        text = " ".join(text for name, text in self.stages[0] if name == "RUN")
        for arch, target in (("amd64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")):
            self.assertRegex(text, rf"{arch}\) target={target};")

    def test_output_and_tools_are_not_sent_to_the_builder(self):
        ignored = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
        self.assertLessEqual({".git", ".tools", "target", "target-wasm"}, set(ignored))


class Unit(unittest.TestCase):
    UNIT = ROOT / "deploy/systemd/doorward.service"

    def test_the_variables_are_those_of_serve(self):
        source = (ROOT / "control-plane/src/cli/serve.rs").read_text(encoding="utf-8")
        known = set(re.findall(r'env = "(DOORWARD_\w+)"', source))
        text = (ROOT / "deploy/systemd/doorward.env").read_text(encoding="utf-8") + self.UNIT.read_text(encoding="utf-8")
        used = set(re.findall(r"^#?(?:Environment=)?(DOORWARD_\w+)=", text, re.MULTILINE))
        self.assertLessEqual({"DOORWARD_POLICIES", "DOORWARD_DATA", "DOORWARD_LISTEN"}, used)
        self.assertEqual(used - known, set())

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
    def test_systemd_understands_the_unit_and_finds_little_exposed(self):
        with tempfile.TemporaryDirectory() as folder:
            # The binary is not installed here.
            unit = Path(folder) / "doorward.service"
            unit.write_text(self.UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/doorward", "/bin/true"), encoding="utf-8")
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            # From 0 (nothing is exposed) to 10, times ten.
            security = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit)]
            done = subprocess.run(security, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout[-300:] + done.stderr)
