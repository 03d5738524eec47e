#!/usr/bin/env bash
# Writes docs/policy-reference.md anew from the types in policy/compiler/src/document.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
UPDATE_DOCS=1 cargo test --locked -p doorward-policy-compiler --lib -- \
    --exact document::schema::tests::the_reference_page_says_what_the_types_say
