#!/usr/bin/env bash
# Builds a Kubernetes API server for the tests, from the Go module k8s.io/kubernetes at a pinned version:
#   .tools/kubernetes/kube-apiserver, .tools/kubernetes/kubectl    about four minutes on two cores, once
#   .tools/kubernetes/etcd                                         Debian's
# Without Go, or where etcd cannot be had, it says so in one line and ends well: the tests that need it are then skipped. With
# CI=true that is an error.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
lock_tools

VERSION=1.36.3
OUT=$TOOLS/kubernetes
if stamped kubernetes "$VERSION" && [ -x "$OUT/kube-apiserver" ] && [ -x "$OUT/kubectl" ] && [ -x "$OUT/etcd" ]; then exit 0; fi

skip() {
    if [ "${CI:-}" = true ]; then die "the tests against Kubernetes cannot run" "$@"; fi
    say "SKIPPED: the tests against Kubernetes. $*"
    exit 0
}
have go || skip "Install Go 1.26 or newer, and run deploy/tools/kubernetes.sh."

mkdir -p "$OUT"
if have etcd; then
    ln -sf "$(command -v etcd)" "$OUT/etcd"
else
    debs=$TOOLS/kubernetes-debs
    fetch_debs "$debs" etcd-server || skip "Install etcd, and run deploy/tools/kubernetes.sh."
    rm -rf "$debs/root" && mkdir "$debs/root"
    dpkg -x "$debs"/etcd-server_*.deb "$debs/root" || skip "Install etcd, and run deploy/tools/kubernetes.sh."
    cp "$debs/root/usr/bin/etcd" "$OUT/etcd"
    rm -rf "$debs"
fi

say "building kube-apiserver and kubectl $VERSION (a few minutes)"
# `go install` refuses a module with replace directives. A module around it, with the same replacements, is built instead; the
# parts in its staging folder are modules of their own, v0.MINOR.PATCH.
work=$TOOLS/kubernetes-build
rm -rf "$work" && mkdir -p "$work"
cd "$work"
module=$(go mod download -json "k8s.io/kubernetes@v$VERSION" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') ||
    skip "The module k8s.io/kubernetes cannot be fetched: check GOPROXY, and run deploy/tools/kubernetes.sh."
{
    printf 'module doorward.dev/kubernetes-tools\n\ngo %s\n\nrequire k8s.io/kubernetes v%s\n\n' \
        "$(sed -n 's/^go //p' "$module/go.mod")" "$VERSION"
    sed -n 's#^\s*\(k8s.io/[^ ]*\) => ./staging/.*#replace \1 => \1 v0.'"${VERSION#1.}"'#p' "$module/go.mod"
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
GO
# Without its version the server calls itself v0.0.0-master, and compatibility checks fail.
base=k8s.io/component-base/version
flags="-s -w -X $base.gitVersion=v$VERSION -X $base.gitMajor=1 -X $base.gitMinor=$(cut -d. -f2 <<<"$VERSION")"
flags+=" -X k8s.io/client-go/pkg/version.gitVersion=v$VERSION"
for command in kube-apiserver kubectl; do
    CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "$flags" -o "$OUT/$command" "k8s.io/kubernetes/cmd/$command" >&2 ||
        die "$command does not build" "Its sources come from the Go module proxy: check GOPROXY, and try again."
done
rm -rf "$work"
stamp kubernetes "$VERSION"
