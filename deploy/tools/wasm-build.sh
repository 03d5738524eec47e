#!/usr/bin/env bash
# Builds a Proxy-Wasm module: wasm-build.sh [PACKAGE [EXPORTS_FILE]]
# PACKAGE is a cdylib crate of this workspace (default doorward-filter-proxy-wasm); EXPORTS_FILE lists the exports to keep
# (default: exports.txt beside the package's Cargo.toml if it has one, else filter/proxy-wasm/exports.txt).
# The result is target-wasm/<package_with_underscores>.wasm, without a _proxy_wasm at its end (doorward_filter.wasm): compiled for wasm32-wasip1 with the profile "wasm" and
# Cargo.lock as it is, checked and stripped of unused exports by wasm_check.py, made small by wasm-opt, and checked again.
# Extra cargo arguments: DOORWARD_WASM_CARGO_ARGS.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGE=${1:-doorward-filter-proxy-wasm}
TARGET=wasm32-wasip1
OUT=$ROOT/target-wasm
NAME=${PACKAGE//-/_}
cd "$ROOT"

"$ROOT/deploy/tools/wasm-toolchain.sh"
"$ROOT/deploy/tools/wasm-opt.sh"
ROUTE=$(cat "$TOOLS/wasm-route.stamp")

args=(build --locked -p "$PACKAGE" --profile wasm --target "$TARGET")
# Two modules of different packages share this folder; the two routes do not, as their compilers differ.
export CARGO_TARGET_DIR=$OUT/$ROUTE
if [ "$ROUTE" = debian ]; then
    TC=$TOOLS/wasm-toolchain
    # build-std is a nightly option; this says that we know.
    export RUSTC_BOOTSTRAP=1
    export LD_LIBRARY_PATH=$TC/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export RUSTC=$TC/usr/bin/rustc CARGO=$TC/usr/bin/cargo
    unset RUSTUP_TOOLCHAIN
    # No crt1-reactor.o: the SDK defines _initialize itself.
    export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-L native=$TC/usr/lib/wasm32-wasi -C link-self-contained=no -C linker=$TC/wasm-ld -C linker-flavor=wasm-ld"
    args+=(-Z build-std=std,panic_abort)
else
    CARGO=cargo
fi
# shellcheck disable=SC2086 # a list of arguments
"$CARGO" "${args[@]}" ${DOORWARD_WASM_CARGO_ARGS:-} || die "$PACKAGE does not build for $TARGET (route: $ROUTE)" \
    "If a crate could not be downloaded: run this once with access to the crates registry; later runs need no network." \
    "If the compiler itself is at fault: rm -r .tools/wasm-toolchain* .tools/wasm-route.stamp and try again."

EXPORTS=${2:-}
if [ -z "$EXPORTS" ]; then
    manifest=$(cargo pkgid --locked -p "$PACKAGE" 2>/dev/null | sed -E 's|^path\+file://||; s|#.*$||') || manifest=
    EXPORTS=$manifest/exports.txt
    [ -f "$EXPORTS" ] || EXPORTS=$ROOT/filter/proxy-wasm/exports.txt
fi
built=$CARGO_TARGET_DIR/$TARGET/wasm/$NAME.wasm
result=$OUT/${NAME%_proxy_wasm}.wasm
check=$ROOT/deploy/tools/wasm_check.py
# What LLVM may use for this target by default; the stripped module does not say it itself.
features=(--enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int
    --enable-reference-types --enable-sign-ext)
if [ -f "$result" ] && [ "$result" -nt "$built" ] && [ "$result" -nt "$EXPORTS" ] && [ "$result" -nt "$check" ] &&
    [ "$result" -nt "$TOOLS/binaryen.stamp" ] && [ "$result" -nt "${BASH_SOURCE[0]}" ] &&
    [ "$(cat "$result.route" 2>/dev/null)" = "$ROUTE" ]; then
    say "$NAME.wasm is fresh"
else
    rm -f "$result"
    stripped=$built.stripped
    # The budget is for what is shipped: checked after wasm-opt.
    python3 "$check" "$built" --exports "$EXPORTS" --output "$stripped" --max-bytes 4000000
    say "optimising $NAME.wasm as a whole (half a minute for the filter)"
    "$NODE" "$TOOLS/binaryen/node_modules/binaryen/bin/wasm-opt" -Os "${features[@]}" "$stripped" -o "$stripped.opt" ||
        die "wasm-opt refuses $NAME.wasm" "rm -r .tools/binaryen* and try again; if it stays so, it is a defect: report it."
    # `NAME = SYMBOL` lines are done already: NAME is there now.
    sed -E 's/[[:space:]]*=.*//' "$EXPORTS" >"$stripped.exports"
    python3 "$check" "$stripped.opt" --exports "$stripped.exports" --output "$result"
    printf '%s\n' "$ROUTE" >"$result.route"
fi
