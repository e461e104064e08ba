#!/usr/bin/env bash
# Installs what the tests need, builds everything and runs every test.
#
#   tests/run.sh [CTEST_ARGUMENT...]     e.g. tests/run.sh -R Tokenizer
#
# Exits non-zero when anything fails. Tests whose files cannot be had here say
# so and are listed as skipped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install_packages.sh tests
if ! deploy/fetch_model.sh; then
  echo "tests/run.sh: SmolLM2 could not be fetched;" \
    "the tests that need it are skipped and listed below" >&2
fi
deploy/build.sh --tests
ctest --preset release -j "$(nproc)" "$@"
