#!/usr/bin/env bash
# Builds the image of the control plane for this machine's architecture: image.sh [NAME]   (default localhost/doorward:VERSION)
# It takes buildah, which needs no daemon and no root where user namespaces are allowed, or podman. More arguments of the builder,
# such as --platform linux/arm64: DOORWARD_IMAGE_ARGS.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=${1:-localhost/doorward:$version}
if have buildah; then
    build=(buildah bud --layers)
elif have podman; then
    build=(podman build)
else
    die "neither buildah nor podman is here" "On Debian: install the package buildah. Docker: docker buildx build -f Containerfile ."
fi
# What the Containerfile asks for and older builders do not set.
case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) die "no image for $(uname -m): amd64 and arm64 are" ;;
esac
args=(--build-arg "BUILDARCH=$arch" --build-arg "BUILDPLATFORM=linux/$arch")
[[ "${DOORWARD_IMAGE_ARGS:-}" == *--platform* ]] || args+=(--build-arg "TARGETARCH=$arch")
# shellcheck disable=SC2086 # a list of arguments
"${build[@]}" "${args[@]}" ${DOORWARD_IMAGE_ARGS:-} -f Containerfile -t "$name" . ||
    die "the image cannot be built" "Its bases come from docker.io and gcr.io. Where user namespaces are off, a builder needs root: buildah unshare true"
say "$name"
