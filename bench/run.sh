#!/usr/bin/env bash
# The benchmarks: run.sh [micro|proxies]... (default: both). Further settings: bench/side_by_side.py --help,
# handed over in SIDE_BY_SIDE_ARGS.
# Needs two cores that nothing else uses; see docs/performance.md for how the figures are measured.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
[ $# -gt 0 ] || set -- micro proxies
for part in "$@"; do
    case $part in
    micro) cargo bench --locked -p doorward-bench ;;
    proxies)
        deploy/tools/bench-tools.sh
        deploy/tools/python-env.sh
        deploy/tools/wasm-build.sh doorward-filter
        deploy/tools/wasm-build.sh doorward-bench-noop
        cargo build --locked --release -p doorward
        # shellcheck disable=SC2086 # a list of arguments
        python3 bench/side_by_side.py --doorward "${CARGO_TARGET_DIR:-target}/release/doorward" ${SIDE_BY_SIDE_ARGS:-}
        ;;
    *)
        echo "run.sh: there is no part \`$part\`; say micro or proxies" >&2
        exit 2
        ;;
    esac
done
