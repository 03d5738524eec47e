#!/usr/bin/env bash
# Builds Istio's control plane for `make test-istio`, from the Go module istio.io/istio at a pinned version:
#   .tools/istio/pilot-discovery, pilot-agent, istioctl      istiod, the agent of proxies, and the tool: about eleven minutes on
#                                                            two cores, once
#   .tools/istio/crds.yaml, .tools/istio/gateway-api.yaml    the definitions of the kinds that belong to it
# Without Go it says so in one line and ends well: the tests that need it are then skipped. With CI=true that is an error.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Istio's tags have no "v", so for Go only pseudo-versions exist.
VERSION=v0.0.0-20260827124520-eed52ebb66ad
OUT=$TOOLS/istio
# A lock of its own: the build is long, touches nothing but its own folder, and must not keep other installers waiting.
if have flock; then
    exec 7>"$TOOLS/istio.lock"
    flock 7
fi
if stamped istio "$VERSION" && [ -x "$OUT/pilot-discovery" ] && [ -x "$OUT/pilot-agent" ] && [ -x "$OUT/istioctl" ] &&
    [ -s "$OUT/crds.yaml" ] && [ -s "$OUT/gateway-api.yaml" ]; then exit 0; fi

skip() {
    if [ "${CI:-}" = true ]; then die "the tests against Istio cannot run" "$@"; fi
    say "SKIPPED: the tests against Istio. $*"
    exit 0
}
have go || skip "Install Go 1.26 or newer, and run deploy/tools/istio.sh."

# folder_of MODULE@VERSION: where Go keeps the module's files.
folder_of() { go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'; }

say "building istiod, its agent and istioctl $VERSION (about eleven minutes)"
mkdir -p "$OUT"
module=$(folder_of "istio.io/istio@$VERSION") && [ -d "$module" ] ||
    skip "The module istio.io/istio cannot be fetched: check GOPROXY, and run deploy/tools/istio.sh."
gateway_api=$(sed -n 's/^\s*sigs.k8s.io\/gateway-api \(v[^ ]*\).*/\1/p' "$module/go.mod")
definitions=$(folder_of "sigs.k8s.io/gateway-api@$gateway_api") && [ -d "$definitions/config/crd/standard" ] ||
    die "the definitions of the Gateway API cannot be fetched" "Check GOPROXY, and try again."
install -m 644 "$module/manifests/charts/base/files/crd-all.gen.yaml" "$OUT/crds.yaml"
for file in "$definitions"/config/crd/standard/gateway.networking*.yaml; do
    echo ---
    cat "$file"
done >"$OUT/gateway-api.yaml"
for command in pilot/cmd/pilot-discovery pilot/cmd/pilot-agent istioctl/cmd/istioctl; do
    CGO_ENABLED=0 GOBIN=$OUT nice -n 5 go install -trimpath -ldflags '-s -w' "istio.io/istio/$command@$VERSION" >&2 ||
        die "$command does not build" "Its sources come from the Go module proxy: check GOPROXY, and try again."
done
stamp istio "$VERSION"
