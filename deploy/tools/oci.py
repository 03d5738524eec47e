#!/usr/bin/env python3
"""Writes the filter as an OCI image layout, in the form that Istio and Envoy Gateway fetch Wasm modules.

    oci.py [--module FILE] [--output FOLDER]

The form is the "compat" variant of the Wasm image specification: one layer, a tar packed by gzip, with the module as
`plugin.wasm`. So every registry takes it, and every reader of images can unpack it. The same module gives the same bytes, and so the
same digest: no time, no user and no name of a machine gets in. The last line of the output is the digest of the manifest.

Push it with any tool that reads layouts: `crane push FOLDER REGISTRY/NAME:TAG`, `skopeo copy oci:FOLDER:TAG docker://…`.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import struct
import sys
import tarfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "target-wasm/doorward_filter.wasm"
OUTPUT = ROOT / "target-wasm/oci"
# Media types of the OCI image specification.
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"


def packed(data):
    """The tar as gzip (RFC 1952) of stored blocks: compressors differ between versions of zlib, these bytes do not."""
    out = io.BytesIO()
    # No time, no name, system unknown.
    out.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    for at in range(0, len(data), 65535):
        block = data[at : at + 65535]
        last = at + len(block) == len(data)
        out.write(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF))
        out.write(block)
    out.write(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return out.getvalue()


def archive(module):
    """A tar with the module as plugin.wasm, of nobody, at no time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo("plugin.wasm")
        entry.size, entry.mode = len(module), 0o644
        tar.addfile(entry, io.BytesIO(module))
    return out.getvalue()


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def layout(module, version):
    """The files of the layout by their paths, and the digest of the manifest."""
    if module[:8] != b"\0asm\1\0\0\0":
        raise SystemExit("oci.py: this is no WebAssembly module of version 1")
    tar = archive(module)
    layer = packed(tar)
    # Fields that readers of images demand; a module has no operating system.
    config = canonical({"architecture": "wasm", "os": "wasi", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(tar)]}})
    manifest = canonical({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": len(layer)}],
        "annotations": {
            "org.opencontainers.image.title": "doorward-filter",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "Apache-2.0",
            # Says which of the two layouts of Wasm images this is.
            "module.wasm.image/variant": "compat",
        },
    })
    index = canonical({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": digest(manifest),
            "size": len(manifest),
            "annotations": {"org.opencontainers.image.ref.name": version},
        }],
    })
    files = {"oci-layout": canonical({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    for blob in (layer, config, manifest):
        files[f"blobs/{digest(blob).replace(':', '/')}"] = blob
    return files, digest(manifest)


def main(argv=None):
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--module", type=Path, default=MODULE, help="the module; default target-wasm/doorward_filter.wasm")
    arguments.add_argument("--output", type=Path, default=OUTPUT, help="the folder, which is replaced; default target-wasm/oci")
    options = arguments.parse_args(argv)
    try:
        module = options.module.read_bytes()
    except FileNotFoundError:
        raise SystemExit(f"oci.py: {options.module} is not there; `make wasm` builds it") from None
    # The first `version` of the file is the workspace's.
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    files, name = layout(module, version)
    folder = options.output
    if folder.exists():
        # Never a folder that is something else.
        if any(folder.iterdir()) and not (folder / "oci-layout").exists():
            raise SystemExit(f"oci.py: {folder} is not empty, and no OCI layout")
        shutil.rmtree(folder)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    print(f"oci.py: {folder}, version {version}", file=sys.stderr)
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
