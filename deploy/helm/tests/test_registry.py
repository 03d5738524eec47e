"""The filter as an OCI artifact: pushed to a registry on the loopback, and read back by readers that did not write it."""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from chart import BIN, ROOT, environment, needs

sys.path.insert(0, str(ROOT / "deploy/tools"))
import oci  # noqa: E402

# A registry's answer is looked at for so long, in seconds.
SOON = 20


@needs(BIN / "crane")
@needs(oci.MODULE, how="make wasm builds the filter")
class Pushed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.layout = cls.folder / "layout"
        script = [sys.executable, str(ROOT / "deploy/tools/oci.py"), "--output", str(cls.layout)]
        cls.digest = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
        log = open(cls.folder / "registry.log", "w", encoding="utf-8")
        cls.addClassCleanup(log.close)
        cls.registry = subprocess.Popen([str(BIN / "crane"), "registry", "serve", "--address", "127.0.0.1:0"],
                                        stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment())
        cls.addClassCleanup(cls.registry.wait)
        cls.addClassCleanup(cls.registry.terminate)
        cls.host = cls.address()
        cls.name = f"{cls.host}/doorward/filter"
        cls.run_tool("crane", "push", cls.layout, f"{cls.name}:0.1.0")

    @classmethod
    def address(cls):
        """Where the registry listens, as its log says, once it answers."""
        deadline = time.monotonic() + SOON
        while time.monotonic() < deadline:
            said = re.search(r"serving on port (\d+)", (cls.folder / "registry.log").read_text(encoding="utf-8"))
            if said:
                host = f"127.0.0.1:{said[1]}"
                try:
                    urllib.request.urlopen(f"http://{host}/v2/", timeout=2).close()
                    return host
                except OSError:
                    pass
            time.sleep(0.05)
        raise AssertionError("the registry did not start: " + (cls.folder / "registry.log").read_text(encoding="utf-8"))

    @classmethod
    def run_tool(cls, tool, *arguments):
        done = subprocess.run([str(BIN / tool), *map(str, arguments)], capture_output=True, check=False, timeout=60, env=environment())
        if done.returncode != 0:
            raise AssertionError(f"{tool} {' '.join(map(str, arguments))}\n{done.stderr.decode()}")
        return done.stdout

    def module_of(self, tar):
        with tarfile.open(fileobj=io.BytesIO(tar)) as read:
            self.assertEqual(read.getnames(), ["plugin.wasm"])
            return read.extractfile("plugin.wasm").read()

    def test_the_registry_has_it_under_the_digest_that_the_script_said(self):
        self.assertEqual(self.run_tool("crane", "digest", f"{self.name}:0.1.0").decode().strip(), self.digest)
        self.run_tool("crane", "validate", "--remote", f"{self.name}@{self.digest}")

    def test_crane_reads_the_same_module(self):
        tar = self.run_tool("crane", "export", f"{self.name}@{self.digest}", "-")
        self.assertEqual(self.module_of(tar), oci.MODULE.read_bytes())

    def test_a_proxy_that_pins_the_digest_gets_one_layer_with_the_same_module(self):
        # What Istio's agent and Envoy Gateway do, without a library of theirs.
        def get(path):
            request = urllib.request.Request(f"http://{self.host}/v2/doorward/filter/{path}", headers={"accept": oci.MANIFEST})
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read()

        manifest = get(f"manifests/{self.digest}")
        self.assertEqual(f"sha256:{hashlib.sha256(manifest).hexdigest()}", self.digest)
        [layer] = json.loads(manifest)["layers"]
        self.assertIn(layer["mediaType"], {oci.LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip"})
        blob = get(f"blobs/{layer['digest']}")
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as read:
            self.assertEqual(read.extractfile("plugin.wasm").read(), oci.MODULE.read_bytes())

    @unittest.skipUnless((BIN / "skopeo").exists(), "no skopeo here")
    def test_skopeo_reads_the_same_module(self):
        said = json.loads(self.run_tool("skopeo", "inspect", "--tls-verify=false", f"docker://{self.name}:0.1.0"))
        self.assertEqual(said["Digest"], self.digest)
        policy = self.folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="utf-8")
        copy = self.folder / "copy"
        self.run_tool("skopeo", "--policy", policy, "--override-os", "wasi", "--override-arch", "wasm", "copy", "--src-tls-verify=false",
                      f"docker://{self.name}@{self.digest}", f"dir:{copy}")
        [layer] = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))["layers"]
        with tarfile.open(copy / layer["digest"].removeprefix("sha256:"), mode="r:gz") as read:
            self.assertEqual(read.extractfile("plugin.wasm").read(), oci.MODULE.read_bytes())


if __name__ == "__main__":
    unittest.main()
