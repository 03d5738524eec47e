#!/usr/bin/env bash
# Provides a Rust toolchain that compiles for wasm32-wasip1, the target of the filter.
#
# Two routes, tried in this order, because not every machine may download from rustup's servers:
#   present/rustup  the installed toolchain already has the target, or `rustup target add` brings it.
#   debian          Debian 12's rustc-web packages, unpacked into .tools/wasm-toolchain (they conflict with an
#                   installed rustup, so they are never installed), with the standard library built from its source.
# The route taken is written to .tools/wasm-route, which wasm-build.sh reads.
# DOORWARD_WASM_ROUTE=rustup|debian takes one route only.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

TARGET=wasm32-wasip1
# The Rust release whose Debian packages are known to build the filter. Debian keeps only the newest revision of a
# package, so the pin is the release; the exact revisions fetched are listed in .tools/wasm-toolchain/packages.
DEBIAN_RUST=1.96
WANT=${DOORWARD_WASM_ROUTE:-any}
TC=$TOOLS/wasm-toolchain

target_present() {
    local sysroot
    sysroot=$(cd "$ROOT" && rustc --print sysroot 2>/dev/null) || return 1
    compgen -G "$sysroot/lib/rustlib/$TARGET/lib/libstd-*.rlib" >/dev/null
}

by_rustup() {
    if ! target_present; then
        have rustup || return 1
        say "rustup target add $TARGET"
        (cd "$ROOT" && timeout 300 rustup target add "$TARGET") >&2 || return 1
        target_present || return 1
    fi
    stamp wasm-route rustup
}

# lld turns the objects into the wasm module; rustup's toolchain carries it, distributions have it as a package.
linker() {
    local sysroot found
    sysroot=$(rustc --print sysroot 2>/dev/null) || sysroot=
    for found in "$sysroot"/lib/rustlib/*/bin/rust-lld; do
        [ -x "$found" ] && { printf '%s\n' "$found"; return; }
    done
    for found in wasm-ld rust-lld /usr/lib/llvm-*/bin/wasm-ld; do
        have "$found" && { command -v "$found"; return; }
    done
    return 1
}

by_debian() {
    if stamped wasm-toolchain "debian $DEBIAN_RUST" && [ -x "$TC/usr/bin/cargo" ]; then
        stamp wasm-route debian
        return
    fi
    if ! have apt-get || ! have dpkg; then
        say "no apt-get or dpkg here, so no Debian packages"
        return 1
    fi
    local lld
    lld=$(linker) || {
        say "no rust-lld or wasm-ld here (a rustup toolchain has rust-lld, the package lld has wasm-ld)"
        return 1
    }
    rm -rf "$TC" "$TOOLS/wasm-toolchain.part"
    local part=$TOOLS/wasm-toolchain.part
    say "fetching Debian's Rust $DEBIAN_RUST (about 150 MB)"
    fetch_debs "$part/debs" \
        rustc-web cargo-web "libstd-rust-web-$DEBIAN_RUST" libstd-rust-web-dev rust-web-src \
        libllvm22 libgit2-1.5 libhttp-parser2.9 libmbedcrypto7 libmbedtls14 libmbedx509-1 wasi-libc || return 1
    local deb
    for deb in "$part"/debs/*.deb; do
        dpkg -x "$deb" "$part"
        basename "$deb" .deb
    done >"$part/packages"
    rm -rf "$part/debs" "$part/usr/share/doc" "$part/usr/share/man"
    ln -s "$lld" "$part/wasm-ld"
    LD_LIBRARY_PATH=$part/usr/lib/x86_64-linux-gnu "$part/usr/bin/rustc" --version >&2 || {
        say "the unpacked compiler does not start"
        return 1
    }
    mv "$part" "$TC"
    stamp wasm-toolchain "debian $DEBIAN_RUST"
    stamp wasm-route debian
}

have cargo || die "cargo is missing" "Install Rust 1.95 or newer, for example with rustup."
lock_tools
# The quick way out: what an earlier run chose still works.
case "$WANT:$(cat "$TOOLS/wasm-route.stamp" 2>/dev/null || true)" in
any:rustup | rustup:rustup) target_present && exit 0 ;;
any:debian | debian:debian) stamped wasm-toolchain "debian $DEBIAN_RUST" && [ -x "$TC/usr/bin/cargo" ] && exit 0 ;;
esac
case $WANT in
any) by_rustup || by_debian ;;
rustup) by_rustup ;;
debian) by_debian ;;
*) die "DOORWARD_WASM_ROUTE is '$WANT'" "It may be rustup, debian or unset." ;;
esac || die "no toolchain for $TARGET by route '$WANT'" \
    "Do one of these and try again:" \
    "- where rustup may download: rustup target add $TARGET" \
    "- on Debian 12 (apt-get and dpkg needed): apt-get update" \
    "- any other way: a cargo and rustc 1.95 or newer in PATH whose sysroot has $TARGET"
say "route: $(cat "$TOOLS/wasm-route.stamp")"
