# The front door. `make help` lists the targets; the work is done by the scripts they name.
# Prerequisites: Rust 1.95 or newer, Python 3.10 or newer, make and a C compiler. Everything else is fetched
# into .tools/ by the targets that need it; a second run needs no network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

T := deploy/tools

.PHONY: help tools wasm build test demo demo-check demo-kubernetes demo-kubernetes-check test-istio test-kubernetes-scale lint fmt bench docs crds chart oci image clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## install the pinned tools into .tools/ (Envoy, Datasette, the OIDC provider, wasm32 toolchain, Kubernetes, Helm)
	@$(T)/wasm-toolchain.sh
	@$(T)/python-env.sh
	@$(T)/oidc-provider.sh
	@$(T)/kubernetes.sh
	@$(T)/helm.sh

wasm: ## build the filter: target-wasm/doorward_filter.wasm
	@$(T)/wasm-build.sh doorward-filter-proxy-wasm

build: wasm ## build the filter and the doorward binary (target/debug/doorward)
	@cargo build --locked -p doorward

test: ## run every test: unit, property, end-to-end against real Envoys, tool scripts
	@python3 $(T)/run_tests.py

test-istio: build ## build istiod (eleven minutes, once), and test the manifests of istio/ against it
	@$(T)/python-env.sh
	@$(T)/kubernetes.sh
	@$(T)/istio.sh
	@python3 $(T)/run_tests.py --only istio

demo: build ## start the demo on this machine, walk through it, and keep it up until Ctrl-C
	@$(T)/python-env.sh
	@deploy/demo/run.sh

demo-check: build ## run the demo's walk unattended; fails if anything differs
	@$(T)/python-env.sh
	@deploy/demo/run.sh --check

demo-kubernetes: build ## the same demo with documents that kubectl applies to a Kubernetes API server on this machine
	@$(T)/python-env.sh
	@$(T)/kubernetes.sh
	@deploy/demo/run.sh --kubernetes

demo-kubernetes-check: build ## run that walk unattended; fails if anything differs
	@$(T)/python-env.sh
	@$(T)/kubernetes.sh
	@deploy/demo/run.sh --kubernetes --check

test-kubernetes-scale: ## ten thousand documents against a Kubernetes API server: minutes, in a release build
	@$(T)/kubernetes.sh
	@cargo test --release --locked --workspace --test kubernetes ten_thousand -- --ignored --nocapture

lint: ## check formatting, documents, imports, clippy, rustdoc, licences, sources and advisories
	@cargo fmt --all --check
	@python3 $(T)/rust_version.py
	@python3 $(T)/doc_paths.py
	@python3 $(T)/import_circles.py
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@$(T)/cargo-deny.sh

fmt: ## format the Rust code
	@cargo fmt --all

bench: ## build what the benchmarks need and run them all; parts: bench/run.sh micro|proxies|masking|bundle|push|audit
	@bench/run.sh

docs: ## regenerate the documents that are generated from code
	@docs/generate.sh
	@$(MAKE) chart

crds: ## regenerate Kubernetes' definitions of the kinds (deploy/crds) from their types
	@UPDATE_DOCS=1 cargo test --quiet --locked -p doorward-policy-compiler --lib document::crd
	@$(MAKE) chart

chart: ## copy into the Helm chart what it shares with deploy/: definitions and dashboard
	@rm -f deploy/helm/doorward/crds/*.yaml
	@cp deploy/crds/*.yaml deploy/helm/doorward/crds/
	@cp deploy/grafana/doorward.json deploy/helm/doorward/files/dashboard.json

oci: wasm ## write the filter as an OCI artifact: target-wasm/oci, an image layout; prints its digest
	@python3 $(T)/oci.py

image: ## build the image of the control plane with buildah or podman: localhost/doorward:VERSION
	@$(T)/image.sh

clean: ## remove build output
	@rm -rf target target-wasm .demo

distclean: clean ## remove build output and the fetched tools
	@rm -rf .tools
