#!/usr/bin/env bash
# Installs Binaryen's wasm-opt, as deploy/tools/binaryen/package-lock.json pins it, into .tools/binaryen. It optimises the
# linked module as a whole, and drops what the removed exports leave unused: a seventh of the filter's size, which pays
# for compiling the request path for speed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
PINS=$ROOT/deploy/tools/binaryen
lock_tools

pin=$(pin_of "$PINS/package.json" "$PINS/package-lock.json")
if stamped binaryen "$pin" && [ -f "$TOOLS/binaryen/node_modules/binaryen/bin/wasm-opt" ] && good_node "$NODE"; then exit 0; fi

node_and_npm
say "installing wasm-opt (Binaryen), which makes the filter small"
mkdir -p "$TOOLS/binaryen"
cp "$PINS/package.json" "$PINS/package-lock.json" "$TOOLS/binaryen/"
# No install scripts: it needs none, and gets to run none.
(cd "$TOOLS/binaryen" && PATH=$TOOLS/node/bin:$PATH "${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ||
    die "wasm-opt cannot be installed" "It comes from the npm registry, as the package binaryen: check npm's access to it (npm ping)."
stamp binaryen "$pin"
