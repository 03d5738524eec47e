# The front door. `make help` lists the targets; the work is done by the scripts they name.
# Prerequisites: Rust 1.95 or newer, Python 3.10 or newer, make and a C compiler. Everything else is fetched
# into .tools/ by the targets that need it; a second run needs no network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

T := deploy/tools

.PHONY: help tools wasm build test test-istio demo demo-check lint fmt bench docs crds clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## install the pinned tools into .tools/ (Envoy, Datasette, the OIDC provider, wasm32 toolchain, Kubernetes)
	@$(T)/wasm-toolchain.sh
	@$(T)/python-env.sh
	@$(T)/oidc-provider.sh
	@$(T)/kubernetes.sh

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

crds: ## regenerate Kubernetes' definitions of the kinds (deploy/crds) from their types
	@UPDATE_DOCS=1 cargo test --quiet --locked -p doorward-policy-compiler --lib document::crd

clean: ## remove build output
	@rm -rf target target-wasm .demo

distclean: clean ## remove build output and the fetched tools
	@rm -rf .tools
