#!/usr/bin/env bash
# Installs oidc-provider, a certified OpenID Connect provider, as tests/oidc/package-lock.json pins it:
#   .tools/node/node_modules   the packages
#   .tools/node/bin/node       the Node.js to run it with: the installed one if it is 20 or newer, else one from PyPI
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
lock_tools

pin=$(pin_of "$ROOT/tests/oidc/package.json" "$ROOT/tests/oidc/package-lock.json")
if stamped oidc-provider "$pin" && [ -d "$TOOLS/node/node_modules/oidc-provider" ] && good_node "$NODE"; then exit 0; fi

node_and_npm

say "installing oidc-provider"
cp "$ROOT/tests/oidc/package.json" "$ROOT/tests/oidc/package-lock.json" "$TOOLS/node/"
# No install scripts: none of the packages needs one, and none gets to run one.
(cd "$TOOLS/node" && PATH=$TOOLS/node/bin:$PATH "${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ||
    die "oidc-provider cannot be installed" "It comes from the npm registry: check npm's access to it (npm ping)."
stamp oidc-provider "$pin"
