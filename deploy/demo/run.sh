#!/usr/bin/env bash
# The demo: control plane, Envoy with the filter, Datasette over generated data, and a walk through what they do.
#   run.sh          walks, then stays up until Ctrl-C
#   run.sh --check  walks without a terminal and fails if anything differs from what it should be
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec python3 deploy/demo/demo.py "$@"
