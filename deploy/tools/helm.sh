#!/usr/bin/env bash
# Builds what the tests of the Helm chart and of the OCI artifact run, from Go modules at pinned versions:
#   .tools/helm/helm, .tools/helm/crane    about three minutes on two cores, once
#   .tools/helm/skopeo                     Debian's, where it can be had: a second, independent reader of registries
#   .tools/helm/buildah                    likewise: it builds what can be built of the image without a registry
# Without Go it says so in one line and ends well: the tests that need it are then skipped. With CI=true that is an error.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
lock_tools

HELM=3.22.0
CRANE=0.22.1
VERSION=helm-$HELM-crane-$CRANE-skopeo-buildah
OUT=$TOOLS/helm
if stamped helm "$VERSION" && [ -x "$OUT/helm" ] && [ -x "$OUT/crane" ]; then exit 0; fi

skip() {
    if [ "${CI:-}" = true ]; then die "the tests of the Helm chart cannot run" "$@"; fi
    say "SKIPPED: the tests of the Helm chart and of the OCI artifact. $*"
    exit 0
}
have go || skip "Install Go 1.26 or newer, and run deploy/tools/helm.sh."

mkdir -p "$OUT"
say "building helm $HELM and crane $CRANE (a few minutes)"
# Without its version helm calls itself v3.0-dev, and a chart's kubeVersion is compared with that of no Kubernetes.
GOBIN=$OUT CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/google/go-containerregistry/cmd/crane@v$CRANE" >&2 ||
    skip "crane $CRANE does not build: check GOPROXY, and run deploy/tools/helm.sh."
GOBIN=$OUT CGO_ENABLED=0 go install -trimpath \
    -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$HELM" "helm.sh/helm/v3/cmd/helm@v$HELM" >&2 ||
    skip "helm $HELM does not build: check GOPROXY, and run deploy/tools/helm.sh."

# debian TOOL PACKAGE...: the installed TOOL, or Debian's, unpacked beside its libraries and run by a wrapper. Optional.
debian() {
    local tool=$1 root=$OUT/$1-root debs=$TOOLS/$1-debs
    shift
    rm -rf "$debs" "$root" "$OUT/$tool"
    if have "$tool"; then
        ln -sf "$(command -v "$tool")" "$OUT/$tool"
    elif have dpkg && have apt-get && fetch_debs "$debs" "$@"; then
        mkdir -p "$root"
        for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root"; done
        printf '#!/bin/sh\nroot=$(dirname "$0")/%s-root\nlib=$(ls -d "$root"/usr/lib/*-linux-gnu*):$(ls -d "$root"/lib/*-linux-gnu*)\n%s\n' \
            "$tool" "LD_LIBRARY_PATH=\$lib exec \"\$root/usr/bin/$tool\" \"\$@\"" >"$OUT/$tool"
        chmod +x "$OUT/$tool"
    fi
    rm -rf "$debs"
    "$OUT/$tool" --version >/dev/null 2>&1 && return
    rm -rf "$OUT/$tool" "$root"
    say "no $tool here: its tests are skipped"
}
debian skopeo skopeo libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1
debian buildah buildah libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1 libsubid4
stamp helm "$VERSION"
