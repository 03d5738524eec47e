#!/usr/bin/env bash
# Builds what the tests of the Helm chart and of the OCI artifact run, from Go modules at pinned versions:
#   .tools/helm/helm, .tools/helm/crane    about three minutes on two cores, once
#   .tools/helm/skopeo                     Debian's, where it can be had: a second, independent reader of registries
# Without Go it says so in one line and ends well: the tests that need it are then skipped. With CI=true that is an error.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
lock_tools

HELM=3.22.0
CRANE=0.22.1
VERSION=helm-$HELM-crane-$CRANE
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

# Optional: a reader of registries that shares no code path with crane. Unpacked beside its libraries, run by a wrapper.
if have skopeo; then
    ln -sf "$(command -v skopeo)" "$OUT/skopeo"
elif have dpkg && have apt-get; then
    debs=$TOOLS/helm-debs
    root=$OUT/skopeo-root
    rm -rf "$debs" "$root"
    if fetch_debs "$debs" skopeo libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1; then
        mkdir -p "$root"
        for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root"; done
        printf '#!/bin/sh\nroot=$(dirname "$0")/skopeo-root\nlib=$(ls -d "$root"/usr/lib/*-linux-gnu*)\n%s\n' \
            'LD_LIBRARY_PATH=$lib:$(ls -d "$root"/lib/*-linux-gnu*) exec "$root/usr/bin/skopeo" "$@"' >"$OUT/skopeo"
        chmod +x "$OUT/skopeo"
    fi
    rm -rf "$debs"
fi
if ! "$OUT/skopeo" --version >/dev/null 2>&1; then
    rm -rf "$OUT/skopeo" "$OUT/skopeo-root"
    say "no skopeo here: only crane reads what the tests push"
fi
stamp helm "$VERSION"
