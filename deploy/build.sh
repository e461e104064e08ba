#!/usr/bin/env bash
# Configures and builds the release preset.
#
#   deploy/build.sh [--tests] [TARGET...]      no target: everything
#
# Uses as many jobs as there are cores and memory for them.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --tests ]; then
  shift
  cmake --preset release -DSENTENCEKV_BUILD_TESTS=ON
elif [ ! -f build/release/build.ninja ]; then
  # The test libraries need not be installed.
  cmake --preset release -DSENTENCEKV_BUILD_TESTS=OFF
fi

# A compiler takes up to 1.5 GB on files that include gRPC.
cores=$(nproc)
memory_gb=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$((memory_gb * 2 / 3))
if [ "$jobs" -lt 1 ]; then jobs=1; fi
if [ "$jobs" -gt "$cores" ]; then jobs=$cores; fi

targets=()
if [ $# -gt 0 ]; then targets=(--target "$@"); fi
cmake --build --preset release -j "$jobs" "${targets[@]}"
