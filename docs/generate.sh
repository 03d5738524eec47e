#!/usr/bin/env bash
# Writes docs/policy-reference.md and deploy/crds anew from the types in policy/compiler/src/document.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
UPDATE_DOCS=1 cargo test --locked -p doorward-policy-compiler --lib -- \
    document::schema::tests::the_reference_page_says_what_the_types_say \
    document::crd::tests::the_definitions_in_the_repository_are_those_of_the_types
