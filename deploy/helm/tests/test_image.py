"""The Containerfile, read and in part built by buildah. The bases are in registries that tests do not reach, so the last stage is built
over an empty one, with a stand-in for the binary; everything else of it is as it is shipped."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from chart import BIN, ROOT, environment

BUILDAH = BIN / "buildah"


@unittest.skipUnless(BUILDAH.exists(), "no buildah here")
class Built(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        (cls.folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="utf-8")
        (cls.folder / "registries.conf").write_text("unqualified-search-registries = []\n", encoding="utf-8")
        done = cls.run_buildah("from", *cls.policy(), "scratch", check=False)
        if done.returncode != 0:
            # In a user namespace of one user nothing can belong to another one.
            raise unittest.SkipTest(f"buildah needs root here, or /etc/subuid: {done.stderr.strip().splitlines()[-1]}")
        container = done.stdout.strip()
        stub = cls.folder / "stub"
        (stub / "state").mkdir(parents=True)
        (stub / "doorward").write_text("a stand-in\n", encoding="utf-8")
        (stub / "doorward").chmod(0o755)
        cls.run_buildah("copy", container, stub, "/out")
        cls.run_buildah("commit", *cls.policy(), container, "localhost/stub")

    @classmethod
    def policy(cls):
        return ("--signature-policy", cls.folder / "policy.json")

    @classmethod
    def run_buildah(cls, *arguments, check=True):
        place = ("--root", cls.folder / "store", "--runroot", cls.folder / "run", "--storage-driver", "vfs")
        command = [BUILDAH, *place, "--registries-conf", cls.folder / "registries.conf", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120,
                              env={**environment(), "TMPDIR": str(cls.folder)})
        if check and done.returncode != 0:
            raise AssertionError(f"buildah {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def build(self, file, *arguments, check=True):
        return self.run_buildah("bud", *self.policy(), "--isolation=chroot", "--pull-never", "-f", file, *arguments, check=check)

    def test_buildah_understands_the_whole_file_for_both_architectures(self):
        for arch in ("amd64", "arm64"):
            sets = [f"--build-arg={name}" for name in ("BUILDARCH=amd64", "BUILDPLATFORM=linux/amd64", f"TARGETARCH={arch}")]
            done = self.build(ROOT / "Containerfile", *sets, self.folder / "stub", check=False)
            # It ends where the first base would be fetched, and after everything was read.
            self.assertRegex(done.stderr.strip().splitlines()[-1], r"library/rust:\S+: image not known$")

    def test_the_last_stage_has_the_binary_and_a_folder_that_its_user_owns(self):
        text = (ROOT / "Containerfile").read_text(encoding="utf-8")
        last = re.sub(r"^FROM \S+", "FROM scratch", text[text.rindex("\nFROM ") + 1 :])
        derived = self.folder / "Containerfile"
        derived.write_text(f"FROM localhost/stub AS build\n{last}", encoding="utf-8")
        self.build(derived, "-t", "localhost/derived", self.folder / "stub")
        config = json.loads(self.run_buildah("inspect", "--type", "image", "localhost/derived").stdout)["OCIv1"]["config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["/usr/local/bin/doorward"])
        self.assertIn("DOORWARD_DATA=/var/lib/doorward", config["Env"])
        self.assertEqual(set(config["ExposedPorts"]), {"7070/tcp", "7071/tcp", "9443/tcp"})
        if os.geteuid() != 0:
            return
        container = self.run_buildah("from", *self.policy(), "localhost/derived").stdout.strip()
        root = Path(self.run_buildah("mount", container).stdout.strip())
        binary, state = (root / "usr/local/bin/doorward").stat(), (root / "var/lib/doorward").stat()
        self.assertEqual((binary.st_uid, binary.st_mode & 0o7777), (0, 0o755))
        self.assertEqual((state.st_uid, state.st_gid), (65532, 65532))
        self.run_buildah("umount", container)


if __name__ == "__main__":
    unittest.main()
