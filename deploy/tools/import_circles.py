#!/usr/bin/env python3
"""Finds files of one crate that import each other in a circle.

    import_circles.py [--list] [--root FOLDER]

A circle means that no file of it can be read, tested or moved without the others. Which circles may stay, and why, is said in
ARCHITECTURE.md, in the list below the heading "Import circles": one line each, with the files in backticks. The check fails
on a circle that is not in that list, and on a line whose circle is gone. `--list` prints the circles, what ties each, and
the lines for the list.

How imports are read: each crate's `src/` is walked along its `mod` lines. A file imports another if it takes a name from
it: by `use`, or by a path that begins with `crate`, `self`, `super`, a child module or an imported module. A name that a
module only hands on (`pub use`) belongs to the file that defines it, so a `mod.rs` that is nothing but a front page is in
no circle. Code under `#[cfg(test)]` is passed over, and so are methods: they come with their type.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = "Import circles"

# Comments, texts and characters become blanks; then what matters is left. `/*` comes last: comments nest.
NOISE = re.compile(
    r"""
    //[^\n]*
  | \bb?r(?P<hashes>\#*)".*?"(?P=hashes)
  | b?c?"(?:\\.|[^"\\])*"
  | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'
  | /\*
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_PART = re.compile(r"/\*|\*/")
TOKEN = re.compile(r"'[A-Za-z_]\w*|r#[A-Za-z_]\w*|[A-Za-z_]\w*|::|=>|->|[{}()\[\];,*#!=]")
NAME = re.compile(r"(?:r#)?[A-Za-z_]\w*\Z")
DEFINES = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
OPEN, CLOSE = "{([", "})]"


def without_noise(text):
    """`text` without comments and literals."""
    parts, at = [], 0
    while noise := NOISE.search(text, at):
        parts.append(text[at : noise.start()])
        at = noise.end()
        depth = 1 if noise[0] == "/*" else 0
        while depth and (part := COMMENT_PART.search(text, at)):
            depth += 1 if part[0] == "/*" else -1
            at = part.end()
    return " ".join([*parts, text[at:]])


@dataclass
class Module:
    """One module: the file it is in, what it defines, hands on and takes."""

    path: tuple
    file: Path
    children: set = field(default_factory=set)
    defined: set = field(default_factory=set)
    bound: dict = field(default_factory=dict)  # name -> path from `use`
    globs: list = field(default_factory=list)
    taken: list = field(default_factory=list)  # paths in code, and in `use` that is not handed on
    words: set = field(default_factory=set)


class Crate:
    """The modules of one crate, read from its root file on."""

    def __init__(self, root_file):
        self.modules = {}
        self.read((), root_file)

    def read(self, path, file):
        tokens = TOKEN.findall(without_noise(file.read_text(encoding="utf-8")))
        folder = file.parent if file.name in ("lib.rs", "main.rs", "mod.rs") else file.parent / file.stem
        self.block(path, file, folder, tokens, 0)

    def block(self, path, file, folder, tokens, at):
        """Reads one module's tokens from `at` to its closing brace; returns the place behind it."""
        module = self.modules.setdefault(path, Module(path, file))
        depth, test, public = 0, False, False
        while at < len(tokens):
            token = tokens[at]
            if token == "#":
                at += 1 + (at + 1 < len(tokens) and tokens[at + 1] == "!")
                end = closing(tokens, at)
                attribute = tokens[at:end]
                test = test or attribute[1:5] == ["cfg", "(", "test", ")"]
                at = end
                continue
            if test:
                at, test, public = after_item(tokens, at), False, False
                continue
            if token == "pub":
                at = closing(tokens, at + 1) if at + 1 < len(tokens) and tokens[at + 1] == "(" else at + 1
                public = True
                continue
            if token == "mod" and depth == 0 and tokens[at + 2] in ";{":
                name = tokens[at + 1]
                module.children.add(name)
                if tokens[at + 2] == ";":
                    for candidate in (folder / f"{name}.rs", folder / name / "mod.rs"):
                        if candidate.exists():
                            self.read((*path, name), candidate)
                    at += 3
                else:
                    at = self.block((*path, name), file, folder / name, tokens, at + 3)
            elif token == "use":
                at = self.use(module, tokens, at + 1, handed_on=public and depth == 0)
            elif token == "macro_rules" and depth == 0:
                module.defined.add(tokens[at + 2])
                at += 3
            elif token in DEFINES and depth == 0 and at + 1 < len(tokens) and NAME.match(tokens[at + 1]):
                if tokens[at + 1] not in DEFINES:
                    module.defined.add(tokens[at + 1])
                at += 2 if tokens[at + 1] not in DEFINES else 1
            elif NAME.match(token):
                end = at + 1
                while end + 1 < len(tokens) and tokens[end] == "::" and NAME.match(tokens[end + 1]):
                    end += 2
                module.words.add(token)
                if end > at + 1 and (at == 0 or tokens[at - 1] != "::"):
                    module.taken.append(tuple(tokens[at:end:2]))
                at = end
            else:
                if token in OPEN:
                    depth += 1
                elif token in CLOSE:
                    depth -= 1
                    if depth < 0:
                        return at + 1
                at += 1
            public = False
        return at

    def use(self, module, tokens, at, handed_on):
        """Reads a `use` tree up to its semicolon."""

        def tree(at, prefix):
            path = prefix
            while at < len(tokens):
                token = tokens[at]
                if token == "{":
                    at += 1
                    while at < len(tokens) and tokens[at] != "}":
                        before, at = at, tree(at, path)
                        at += tokens[at : at + 1] == [","] or at == before
                    return at + 1
                if token == "*":
                    module.globs.append(path)
                    return at + 1
                if token == "::":
                    at += 1
                elif NAME.match(token) and token != "as":
                    path = path if token == "self" and path else (*path, token)
                    at += 1
                else:
                    break
            if at < len(tokens) and tokens[at] == "as":
                name, at = tokens[at + 1], at + 2
            else:
                name = path[-1] if path else "_"
            if not path:
                return at
            module.bound[name] = path
            if not handed_on:
                module.taken.append(path)
            return at

        at = tree(at, ())
        while at < len(tokens) and tokens[at] != ";":
            at += 1
        return at + 1

    def resolve(self, module, path, seen=()):
        """The module that defines what `path`, written in `module`, names, or that it is; None if it is of another crate."""
        if (module.path, path) in seen:
            return None
        seen = (*seen, (module.path, path))
        head, rest = path[0], path[1:]
        if head == "crate":
            here = self.modules[()]
        elif head == "self":
            here = module
        elif head == "super":
            here = self.modules[module.path[:-1]]
        elif (child := (*module.path, head)) in self.modules:
            here = self.modules[child]
        elif head in module.bound and module.bound[head] != path:
            found = self.resolve(module, module.bound[head], seen)
            return found and self.within(found, module.bound[head][-1], rest, seen)
        else:
            return None
        while rest and rest[0] == "super":
            here, rest = self.modules[here.path[:-1]], rest[1:]
        return self.within(here, None, rest, seen)

    def within(self, module, last, rest, seen):
        """Follows `rest` from `module`; `last` is the name by which it was reached, if that names an item of it."""
        if not rest or (last is not None and (not module.path or module.path[-1] != last)):
            return module
        name = rest[0]
        if (child := (*module.path, name)) in self.modules:
            return self.within(self.modules[child], None, rest[1:], seen)
        if name in module.defined:
            return module
        if name in module.bound:
            found = self.resolve(module, module.bound[name], seen)
            return found and self.within(found, module.bound[name][-1], rest[1:], seen)
        for glob in module.globs:
            target = self.resolve(module, glob, seen)
            if target and target is not module and (name in target.defined or name in target.bound or name in target.children):
                return self.within(target, None, rest, seen)
        # Made by a macro, or a name of another crate that is handed on.
        return module

    def imports(self):
        """{file: {file: names}}"""
        edges = {}

        def tie(module, target, name):
            if target and target.file != module.file:
                edges.setdefault(module.file, {}).setdefault(target.file, set()).add(name)

        for module in self.modules.values():
            for path in module.taken:
                target = self.resolve(module, path)
                # A module that is only imported ties nothing; what is taken from it does.
                if target and not (target.path and target.path[-1] == path[-1] and path[-1] not in target.defined):
                    tie(module, target, next((name for name in path if name[0].isupper()), path[-1]))
            for glob in module.globs:
                source = self.resolve(module, glob)
                if source and source is not module:
                    for word in module.words & (source.defined | set(source.bound)) - module.defined - set(module.bound):
                        tie(module, self.within(source, None, (word,), ()), word)
        return edges


def closing(tokens, at):
    """The place behind the bracket that closes the one at `at`."""
    depth = 0
    while at < len(tokens):
        depth += (tokens[at] in OPEN) - (tokens[at] in CLOSE)
        at += 1
        if depth == 0:
            return at
    return at


def after_item(tokens, at):
    """The place behind the item, or statement, at `at`: its semicolon, or the end of its braces."""
    plain = False
    while at < len(tokens):
        token = tokens[at]
        if token == "#":
            at = closing(tokens, at + 1)
            continue
        plain = plain or token in ("use", "=")
        if token in (";", ","):
            return at + 1
        if token in CLOSE:
            return at
        if token in OPEN:
            at = closing(tokens, at)
            if token == "{" and not plain:
                return at
        else:
            at += 1
    return at


def circles(edges):
    """The strongly connected components of more than one file (Tarjan's algorithm), each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(found)


def crate_roots(root):
    """The root files of all crates: `src/lib.rs` or else `src/main.rs` beside each Cargo.toml that git knows."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "*Cargo.toml"],
        capture_output=True, text=True, check=True,
    ).stdout.split()
    for manifest in sorted(listed):
        for name in ("lib.rs", "main.rs"):
            file = root / Path(manifest).parent / "src" / name
            if file.exists():
                yield file
                break


def allowed(text):
    """The lists of files below the heading, with the line of each."""
    section = re.search(rf"^#+ {HEADING}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    result = {}
    for item in re.findall(r"^- (.*(?:\n  .*)*)", section[1] if section else "", re.MULTILINE):
        files = re.findall(r"`([^`]+\.rs)`", item)
        if files:
            result[tuple(sorted(set(files)))] = item
    return result


def main(argv=None):
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--list", action="store_true", help="print all circles, also those that are allowed")
    arguments.add_argument("--root", type=Path, default=ROOT, help="the checkout to look at")
    options = arguments.parse_args(argv)
    root = options.root.resolve()

    found = {}
    for file in crate_roots(root):
        edges = Crate(file).imports()
        for circle in circles(edges):
            names = tuple(str(member.relative_to(root)) for member in circle)
            found[names] = [
                f"    {source.relative_to(root)} takes from {target.relative_to(root)}: {', '.join(sorted(taken))}"
                for source in circle
                for target, taken in sorted(edges.get(source, {}).items())
                if target in circle
            ]
    if options.list:
        for circle, ties in found.items():
            print(f"- {', '.join(f'`{name}`' for name in circle)}: to be removed.")
            print("\n".join(ties))
        return 0

    page = root / "ARCHITECTURE.md"
    known = allowed(page.read_text(encoding="utf-8")) if page.exists() else {}
    failed = False
    for circle, ties in found.items():
        if circle not in known:
            failed = True
            print("These files import each other in a circle:\n" + "\n".join(ties))
    for circle in known:
        if circle not in found:
            failed = True
            print(f"ARCHITECTURE.md allows a circle that is not there: {', '.join(circle)}. Take the line out.")
    if failed:
        print(f'Move what they share to a file below both. If a circle has a reason, say it in ARCHITECTURE.md, "{HEADING}".')
        return 1
    print(f"import circles: {len(found)}, all of them named in ARCHITECTURE.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
