#!/usr/bin/env bash
# What has to pass before a change of the policies lands. DOORWARD names the command, if it is not in PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
doorward=${DOORWARD:-doorward}

# Each document alone, and against the others.
"$doorward" validate policies
# The requests that must be allowed, rewritten or denied.
"$doorward" test policies tests
# What proxies would get. The same documents give the same bytes, so the sum tells a reviewer whether anything changes for them.
bundle=$(mktemp)
trap 'rm -f "$bundle"' EXIT
"$doorward" compile policies -o "$bundle" >/dev/null
sha256sum "$bundle" | cut -c1-64
