#!/usr/bin/env python3
"""Holds together what is said of the oldest Rust release that builds this project.

    rust_version.py [--root FOLDER]

`rust-version` in Cargo.toml is the promise. rust-toolchain.toml names a release of it, so that every build, test and lint in
a checkout is one with the minimum. Wherever prose or a script says "Rust 1.95" or "rustc 1.95", it must be the same number,
and each package must take the workspace's word.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAID = re.compile(r"\b(?:Rust|rustc) (\d+\.\d+)(?:\.\d+)?(?= or newer)")
PLACES = ("*.md", "Makefile", "*.sh")


def field(text, name):
    """The text of `name = "…"`, or None."""
    found = re.search(rf'^{name}\s*=\s*"([^"]*)"', text, re.MULTILINE)
    return found and found[1]


def faults(root):
    """What does not agree, a sentence each."""
    tracked = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "*Cargo.toml", *PLACES],
        capture_output=True, text=True, check=True,
    ).stdout.split()
    promised = field((root / "Cargo.toml").read_text(encoding="utf-8"), "rust-version")
    if not promised:
        return ["Cargo.toml says no rust-version"]
    found = []
    channel = field((root / "rust-toolchain.toml").read_text(encoding="utf-8"), "channel")
    if not re.fullmatch(rf"{re.escape(promised)}(\.\d+)?", channel or ""):
        found.append(f"rust-toolchain.toml names {channel}, which is no release of {promised}, the rust-version in Cargo.toml")
    for name in sorted(tracked):
        text = (root / name).read_text(encoding="utf-8")
        if name.endswith("Cargo.toml"):
            if "[package]" in text and not re.search(r"^rust-version(\.workspace = true| = \{ workspace = true \})$", text, re.MULTILINE):
                found.append(f"{name} does not take the workspace's rust-version")
            continue
        for other in SAID.findall(text):
            if other != promised:
                found.append(f"{name} says Rust {other}, and Cargo.toml {promised}")
    return found


def main(argv=None):
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--root", type=Path, default=ROOT, help="the checkout to look at")
    found = faults(arguments.parse_args(argv).root.resolve())
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
