# Shared by the scripts of this folder: sourced, never run.
# Everything a script installs goes below .tools/ of the checkout, never into the system, and leaves a stamp
# holding the pinned version: a second run reads the stamp and needs neither time nor network.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=$ROOT/.tools
mkdir -p "$TOOLS"

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# die MESSAGE...: each argument is a line; the last ones say what to do.
die() {
    say "error: $1"
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# stamped NAME VERSION: true when NAME is installed at VERSION.
stamped() { [ -f "$TOOLS/$1.stamp" ] && [ "$(cat "$TOOLS/$1.stamp")" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$TOOLS/$1.stamp"; }

# One installer at a time: two `make` runs in one checkout must not unpack over each other.
lock_tools() {
    if have flock; then
        exec 7>"$TOOLS/lock"
        flock 7
    fi
}

# fetch_debs FOLDER PACKAGE...: Debian packages, fetched without installing them and without root.
fetch_debs() {
    local folder=$1
    shift
    mkdir -p "$folder"
    # apt writes as the user _apt when started by root; a folder it cannot enter only costs a warning.
    if ! (cd "$folder" && apt-get download "$@") >"$folder/apt.log" 2>&1; then
        say "package lists are missing or stale: apt-get update"
        apt-get update >>"$folder/apt.log" 2>&1 || true
        (cd "$folder" && apt-get download "$@") >>"$folder/apt.log" 2>&1 || {
            tail -n 5 "$folder/apt.log" >&2
            return 1
        }
    fi
}
