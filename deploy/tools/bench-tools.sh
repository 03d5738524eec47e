#!/usr/bin/env bash
# Provides what the benchmarks need beside the other tools: the load generator as .tools/bin/wrk (the installed wrk, else
# Debian's package unpacked beside the checkout, so that root is not needed), and the Open Policy Agent as .tools/bin/opa
# (built from its Go module). Without a Go toolchain the comparison with the agent is left out, and a sentence says so.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
WRK=$TOOLS/bin/wrk
OPA=$TOOLS/bin/opa
OPA_VERSION=v1.22.2
lock_tools
mkdir -p "$TOOLS/bin"

opa() {
    stamped opa "$OPA_VERSION" && [ -x "$OPA" ] && return
    if ! have go; then
        say "the comparison with OPA is left out: there is no Go toolchain to build it with. Install Go 1.26 or newer and run this again."
        return
    fi
    say "building OPA $OPA_VERSION (a minute or two)"
    # Nothing but the binary goes into the checkout; modules stay in Go's own cache.
    if GOFLAGS=-buildvcs=false GOBIN=$TOOLS/bin go install "github.com/open-policy-agent/opa@$OPA_VERSION" >"$TOOLS/opa.log" 2>&1; then
        stamp opa "$OPA_VERSION"
    else
        say "the comparison with OPA is left out: it does not build; see .tools/opa.log."
    fi
}
opa

# wrk -v prints its version and exits with 1, so only the text tells whether it starts.
starts() { [ -x "$1" ] && [[ $("$1" -v 2>/dev/null || true) == wrk* ]]; }

starts "$WRK" && exit 0
if have wrk; then
    ln -sf "$(command -v wrk)" "$WRK"
    exit 0
fi
have apt-get && have dpkg || die "wrk is missing" "Install wrk (most systems have a package of that name)."
say "fetching wrk"
rm -rf "$TOOLS/wrk"
fetch_debs "$TOOLS/wrk/debs" wrk libluajit-5.1-2 libluajit-5.1-common ||
    die "wrk cannot be fetched" "Install the package wrk, or run apt-get update as root and try again."
for deb in "$TOOLS"/wrk/debs/*.deb; do dpkg -x "$deb" "$TOOLS/wrk"; done
rm -rf "$TOOLS/wrk/debs"
cat >"$WRK" <<'END'
#!/bin/sh
# Runs the unpacked wrk with the libraries unpacked beside it.
here=$(cd "$(dirname "$0")/../wrk" && pwd)
libraries=$(echo "$here"/usr/lib/*-linux-gnu)
LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/usr/bin/wrk" "$@"
END
chmod +x "$WRK"
starts "$WRK" || die "the unpacked wrk does not start" "Run .tools/bin/wrk to see why, or install the package wrk."
