#!/usr/bin/env bash
# Provides the load generator of the benchmarks as .tools/bin/wrk: the installed wrk, else Debian's package
# unpacked beside the checkout, so that root is not needed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
WRK=$TOOLS/bin/wrk
lock_tools

# wrk -v prints its version and exits with 1, so only the text tells whether it starts.
starts() { [ -x "$1" ] && [[ $("$1" -v 2>/dev/null || true) == wrk* ]]; }

starts "$WRK" && exit 0
mkdir -p "$TOOLS/bin"
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
