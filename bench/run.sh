#!/usr/bin/env bash
# The benchmarks: run.sh [PART]... Without a part: all of them, unattended, in less than twenty minutes once all is built.
# Each part prints one table; a part that fails is named at the end, and the others run all the same.
#   micro     decisions, dialects, masking, big policies: native code, by criterion
#   proxies   added CPU per request of Envoy with native filters, with Doorward, and with OPA beside it
#   masking   speed of masking inside Envoy's VM
#   bundle    CPU time and memory of a big policy in Envoy's VM
#   flood     what a flood of denials adds to the audit log
#   push      from a document's change to a hundred subscribed proxies
#   audit     records durable per second, and the time to their acknowledgement
#   scan      the time to acknowledgement while a log of a million records is searched, and deleted
# Settings: SIDE_BY_SIDE_ARGS for proxies (bench/side_by_side.py --help). Needs two cores that nothing else uses; see
# docs/performance.md for how the figures are measured.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
[ $# -gt 0 ] || set -- micro proxies masking bundle flood push audit scan
for part in "$@"; do
    case $part in
    micro | proxies | masking | bundle | flood | push | audit | scan) ;;
    *)
        sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" >&2
        exit 2
        ;;
    esac
done
RELEASE=${CARGO_TARGET_DIR:-target}/release

# Everything is built before anything is measured: compiling would disturb it.
case " $* " in
*" proxies "* | *" masking "* | *" bundle "* | *" flood "*)
    deploy/tools/bench-tools.sh
    deploy/tools/python-env.sh
    deploy/tools/wasm-build.sh doorward-filter-proxy-wasm
    deploy/tools/wasm-build.sh doorward-bench-noop
    ;;
esac
case " $* " in *" push "* | *" audit "* | *" scan "*) cargo build --locked --release -p doorward-bench --example fleet ;; esac
case " $* " in *" proxies "* | *" masking "* | *" bundle "* | *" flood "* | *" push "* | *" audit "* | *" scan "*) cargo build --locked --release -p doorward ;; esac
case " $* " in *" micro "*) cargo bench --locked -p doorward-bench --no-run ;; esac

failed=()
for part in "$@"; do
    printf '\n=== %s, %s\n' "$part" "$(date -u +%H:%M:%S)"
    case $part in
    micro) cargo bench --locked -p doorward-bench || failed+=("$part") ;;
    # shellcheck disable=SC2086 # a list of arguments
    proxies) python3 bench/side_by_side.py --doorward "$RELEASE/doorward" ${SIDE_BY_SIDE_ARGS:-} || failed+=("$part") ;;
    masking | bundle | flood) python3 bench/in_vm.py "$part" --doorward "$RELEASE/doorward" || failed+=("$part") ;;
    push | audit | scan) "$RELEASE/examples/fleet" "$part" "$RELEASE/doorward" || failed+=("$part") ;;
    esac
done
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nrun.sh: these parts failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
