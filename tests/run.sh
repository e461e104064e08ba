#!/usr/bin/env bash
# Installs what the tests need, builds everything and runs every test.
#
#   tests/run.sh [CTEST_ARGUMENT...]     e.g. tests/run.sh -R Tokenizer
#
# Exits non-zero when anything fails. Tests whose files cannot be had here say
# so and are listed as skipped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

# A compiler takes up to 1.5 GB on files that include gRPC.
cores=$(nproc)
memory_gb=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
build_jobs=$((memory_gb * 2 / 3))
if [ "$build_jobs" -lt 1 ]; then build_jobs=1; fi
if [ "$build_jobs" -gt "$cores" ]; then build_jobs=$cores; fi

deploy/install_packages.sh tests
if ! deploy/fetch_model.sh; then
  echo "tests/run.sh: SmolLM2 could not be fetched;" \
    "the tests that need it are skipped and listed below" >&2
fi
cmake --preset release
cmake --build --preset release -j "$build_jobs"
ctest --preset release -j "$cores" "$@"
