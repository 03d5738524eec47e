"""Tests of oci.py, with a module of eight bytes."""

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import tempfile
import unittest
from pathlib import Path

import oci

MODULE = b"\0asm\1\0\0\0"


def run(folder, module=MODULE):
    """The digest that is printed, and the files."""
    file = Path(folder) / "some.wasm"
    file.write_bytes(module)
    out = Path(folder) / "layout"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        oci.main(["--module", str(file), "--output", str(out)])
    return said.getvalue().strip(), {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()}


class Layout(unittest.TestCase):
    def test_the_same_module_gives_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            self.assertEqual(run(one), run(other))
            self.assertEqual(run(one), run(one), "over a layout that is there")

    def test_the_digest_is_that_of_yesterday(self):
        # If this changes, every manifest that pins a digest has to change: then it should be on purpose.
        files, digest = oci.layout(MODULE, "0.0.0")
        self.assertEqual(digest, "sha256:84e5b41e2e900fc6ee2d6e6bd810581a3cde8553f7f6a12a49e07358cd781724")
        self.assertEqual(len(files), 5)

    def test_the_layer_holds_the_module_as_plugin_wasm_and_nothing_else(self):
        for size in (0, 1, 65_527, 200_000):
            module = MODULE + bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            files, digest = oci.layout(module, "1.2.3")
            manifest = json.loads(files[f"blobs/{digest.replace(':', '/')}"])
            [layer] = manifest["layers"]
            self.assertEqual(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip")
            self.assertEqual(manifest["annotations"]["module.wasm.image/variant"], "compat")
            data = files[f"blobs/{layer['digest'].replace(':', '/')}"]
            self.assertEqual(len(data), layer["size"])
            tar = gzip.decompress(data)
            config = json.loads(files[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
            self.assertEqual(config["rootfs"]["diff_ids"], [f"sha256:{hashlib.sha256(tar).hexdigest()}"])
            with tarfile.open(fileobj=io.BytesIO(tar)) as read:
                self.assertEqual(read.getnames(), ["plugin.wasm"])
                self.assertEqual(read.extractfile("plugin.wasm").read(), module)

    def test_every_blob_has_the_name_of_its_content(self):
        files, _ = oci.layout(MODULE, "1.2.3")
        for path, data in files.items():
            if path.startswith("blobs/"):
                self.assertEqual(path, f"blobs/sha256/{hashlib.sha256(data).hexdigest()}")

    def test_what_is_no_module_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "no WebAssembly module"):
            oci.layout(b"\x7fELF", "1.2.3")

    def test_a_folder_that_is_something_else_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "layout").mkdir()
            (Path(folder) / "layout/precious").write_text("", encoding="utf-8")
            with self.assertRaisesRegex(SystemExit, "no OCI layout"):
                run(folder)
            self.assertTrue((Path(folder) / "layout/precious").exists())
