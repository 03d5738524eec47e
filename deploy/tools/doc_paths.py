#!/usr/bin/env python3
"""Holds the documents to the repository: what they name must be there.

    doc_paths.py [--root FOLDER]

In every Markdown file that git knows:
- a link to a file leads to a file of the repository, and its #anchor to a heading there;
- a path in backticks that begins with a folder of the root, such as `deploy/tools`, is a file or folder;
- `make TARGET` is a target of the Makefile.
A word in capitals in a path, as in `policy/src/dialect/NAME/mod.rs`, stands for what a reader chooses: then the folder above it
must be there. Blocks of code are looked at for `make` only.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+/?")
CHOSEN = re.compile(r"[A-Z][A-Z_]+")
MAKE = re.compile(r"(?:^|`|&& |; )make ([a-z][a-z-]*)", re.MULTILINE)


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def faults(root):
    """What the documents name and the repository does not have, a sentence each."""
    tracked = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    tracked = [name for name in tracked if (root / name).exists()]
    there = set(tracked) | {str(parent) for name in tracked for parent in Path(name).parents}
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    makefile = root / "Makefile"
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile.read_text(encoding="utf-8"), re.MULTILINE)) if makefile.exists() else set()
    found = []
    for page in (name for name in tracked if name.endswith(".md")):
        text = (root / page).read_text(encoding="utf-8")
        prose = FENCE.sub("", text)
        for target in MAKE.findall(text):
            if target not in targets:
                found.append(f"{page}: `make {target}` is no target of the Makefile")
        for link in LINK.findall(prose):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (root / page).parent / file if file else root / page
            name = str(target.resolve().relative_to(root)) if target.resolve().is_relative_to(root) else None
            if name not in there:
                found.append(f"{page}: the link {link} leads nowhere")
            elif anchor and name.endswith(".md") and anchor not in anchors((root / name).read_text(encoding="utf-8")):
                found.append(f"{page}: no heading of {name} has the anchor #{anchor}")
        for span in SPAN.findall(prose):
            if not PATH.fullmatch(span) or span.split("/")[0] not in folders:
                continue
            parts = span.rstrip("/").split("/")
            chosen = next((at for at, part in enumerate(parts) if CHOSEN.fullmatch(part.split(".")[0])), None)
            if "/".join(parts[:chosen]) not in there and span.rstrip("/") not in there:
                found.append(f"{page}: `{span}` is not there")
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
