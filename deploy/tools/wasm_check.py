#!/usr/bin/env python3
"""Checks a Proxy-Wasm module and strips the exports that nothing needs.

    wasm_check.py MODULE --exports LIST [--output FILE] [--max-bytes N]

- Exports: only the names in LIST stay. The SDK exports every callback of the ABI, and each exported callback costs
  a crossing into the VM per request. A listed name that the module lacks is a warning.
- A line `NAME = SYMBOL` exports as NAME what the module has as SYMBOL, in place of the module's own NAME: so a filter
  answers a callback itself that the SDK defines too. A SYMBOL that the module lacks is an error, because the callback
  would be gone, or the SDK's.
- Imports: only what Envoy offers and the filter may use: `env.proxy_*` and a few functions of WASI. Any other import
  is an error that names it: such a module would not load, or would reach for something it has no business with.
- Size: a module over the budget is an error.

Exit code 0: the module is good, and written to FILE if one is given. 1: it is not. 2: the call is wrong.
"""

import argparse
import os
import sys

MAX_BYTES = 1_500_000

WASI = "wasi_snapshot_preview1"
WASI_ALLOWED = {
    "fd_write",
    "environ_get",
    "environ_sizes_get",
    "proc_exit",
    "random_get",
    "clock_time_get",
}

SECTION_IMPORT = 2
SECTION_EXPORT = 7
KINDS = {0: "function", 1: "table", 2: "memory", 3: "global", 4: "tag"}


class WasmError(Exception):
    """The module is malformed or breaks a rule; the message says how."""


class Reader:
    """Reads the binary format's primitives; every read is bounds-checked."""

    def __init__(self, data, offset=0, end=None):
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end

    def done(self):
        return self.offset >= self.end

    def byte(self):
        return self.take(1)[0]

    def take(self, count):
        if count < 0 or self.offset + count > self.end:
            raise WasmError(f"truncated at byte {self.offset}")
        start = self.offset
        self.offset += count
        return self.data[start : self.offset]

    def u32(self):
        """An unsigned LEB128 number, at most five bytes."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise WasmError(f"number too long at byte {self.offset}")

    def leb(self):
        """Skips a LEB128 number of up to 64 bits."""
        for _ in range(10):
            if not self.byte() & 0x80:
                return
        raise WasmError(f"number too long at byte {self.offset}")

    def name(self):
        try:
            return self.take(self.u32()).decode("utf-8")
        except UnicodeDecodeError:
            raise WasmError(f"name is not UTF-8 at byte {self.offset}") from None

    def limits(self):
        flags = self.byte()
        self.leb()
        if flags & 1:
            self.leb()

    def value_type(self):
        # (ref null ht) and (ref ht) carry a heap type; all others are one byte.
        if self.byte() in (0x63, 0x64):
            self.leb()


def u32(value):
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def sections(module):
    """[(id, payload)] of a module, in its order."""
    if module[:8] != b"\0asm\x01\0\0\0":
        raise WasmError("not a WebAssembly module of version 1")
    reader = Reader(module, 8)
    found = []
    while not reader.done():
        section = reader.byte()
        found.append((section, reader.take(reader.u32())))
    return found


def imports(module):
    """[(module, name, kind)] of everything the module imports."""
    found = []
    for section, payload in sections(module):
        if section != SECTION_IMPORT:
            continue
        reader = Reader(payload)
        for _ in range(reader.u32()):
            origin, name, kind = reader.name(), reader.name(), reader.byte()
            if kind == 0:
                reader.u32()
            elif kind == 1:
                reader.value_type()
                reader.limits()
            elif kind == 2:
                reader.limits()
            elif kind == 3:
                reader.value_type()
                reader.byte()
            elif kind == 4:
                reader.byte()
                reader.u32()
            else:
                raise WasmError(f"import {origin}.{name} has the unknown kind {kind}")
            found.append((origin, name, KINDS[kind]))
    return found


def exports(module):
    """[(name, kind, index)] of everything the module exports."""
    found = []
    for section, payload in sections(module):
        if section == SECTION_EXPORT:
            reader = Reader(payload)
            for _ in range(reader.u32()):
                found.append((reader.name(), reader.byte(), reader.u32()))
    return found


def import_allowed(origin, name, kind):
    if kind != "function":
        return False
    if origin == "env":
        return name.startswith("proxy_")
    return origin == WASI and name in WASI_ALLOWED


def forbidden_imports(module):
    """["module.name (kind)"] of the imports that the filter must not have."""
    return [
        f"{origin}.{name} ({kind})"
        for origin, name, kind in imports(module)
        if not import_allowed(origin, name, kind)
    ]


def keep_exports(module, keep):
    """The module with only the exports in `keep` {name: symbol}; everything else byte for byte as it was."""
    out = bytearray(module[:8])
    for section, payload in sections(module):
        if section == SECTION_EXPORT:
            kept = [
                (name, kind, index)
                for symbol, kind, index in exports(module)
                for name, wanted in keep.items()
                if wanted == symbol
            ]
            payload = bytearray(u32(len(kept)))
            for name, kind, index in kept:
                raw = name.encode("utf-8")
                payload += u32(len(raw)) + raw + bytes([kind]) + u32(index)
        out += bytes([section]) + u32(len(payload)) + payload
    return bytes(out)


def read_list(text):
    """{name: symbol} of an exports file: `NAME` or `NAME = SYMBOL`, one a line; `#` starts a comment."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        name, equals, symbol = (part.strip() for part in line.partition("="))
        if not equals:
            symbol = name
        if not name or not symbol or len(f"{name} {symbol}".split()) != 2:
            raise WasmError(f"line {number} of the list of exports is `{line}`; write NAME or NAME = SYMBOL")
        if name in found:
            raise WasmError(f"line {number} of the list of exports names {name} again; one line each")
        found[name] = symbol
    return found


def check(module, keep, max_bytes=MAX_BYTES):
    """(module with only the kept exports, warnings, summary); raises WasmError if a rule is broken."""
    bad = forbidden_imports(module)
    if bad:
        raise WasmError(
            "forbidden imports: "
            + ", ".join(bad)
            + f" (allowed: env.proxy_* and {WASI}.{{{', '.join(sorted(WASI_ALLOWED))}}})"
        )
    before = exports(module)
    present = {name for name, _, _ in before}
    lost = [f"{symbol} (for {name})" for name, symbol in keep.items() if name != symbol and symbol not in present]
    if lost:
        raise WasmError(
            f"the list of exports renames what the module lacks: {', '.join(lost)}; correct the list, or define it"
        )
    module = keep_exports(module, keep)
    after = exports(module)
    missing = [name for name, symbol in keep.items() if symbol not in present]
    warnings = [f"listed exports that the module lacks: {', '.join(missing)}"] if missing else []
    if len(module) > max_bytes:
        raise WasmError(f"the module has {len(module):,} bytes, more than the {max_bytes:,} allowed")
    summary = (
        f"{len(module):,} bytes, {len(imports(module))} imports, "
        f"{len(after)} exports kept, {len(before) - len(after)} removed"
    )
    return module, warnings, summary


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("--exports", required=True, help="file with the names of the exports to keep")
    parser.add_argument("--output", help="where to write the module; without it, only check")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    args = parser.parse_args(argv)
    try:
        with open(args.module, "rb") as file:
            module = file.read()
        with open(args.exports, encoding="utf-8") as file:
            keep = read_list(file.read())
        module, warnings, summary = check(module, keep, args.max_bytes)
        if args.output:
            # Written beside and renamed: an Envoy that is just starting never reads half a module.
            part = args.output + ".part"
            with open(part, "wb") as file:
                file.write(module)
            os.replace(part, args.output)
    except (WasmError, OSError) as error:
        print(f"wasm_check: error: {args.module}: {error}", file=sys.stderr)
        return 1
    for warning in warnings:
        print(f"wasm_check: warning: {warning}", file=sys.stderr)
    print(f"wasm_check: {os.path.basename(args.output or args.module)}: {summary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
