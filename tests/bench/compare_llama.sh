#!/usr/bin/env bash
# Measures this engine and llama.cpp side by side, alternating.
#
#   tests/bench/compare_llama.sh [--json] [--long] [--busy-core] [--rounds N]
#                                [--threads N] [--model PATH]
#
#   --json       one JSON object a line instead of a table
#   --long       prefill of 4,000 tokens and decode after 2,000 and 8,000 too
#   --busy-core  decode once more with one core taken by a busy process (only
#                this engine: what it keeps of its own rate)
#
# llama.cpp comes with the PyPI source package llama-cpp-python and is built
# once, into ${XDG_CACHE_HOME:-~/.cache}/sentencekv/llama.cpp; LLAMA_BENCH=PATH
# uses a llama-bench that is there. Run it on an idle machine: the peer's
# threads spin, and slow down much when anything else runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=llama-cpp-python==0.3.36
archive_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sentencekv/llama.cpp

build_llama_bench() {
  local built=$cache/build/bin/llama-bench
  if [ ! -x "$built" ]; then
    deploy/install_packages.sh bench >&2
    rm -rf "$cache"
    mkdir -p "$cache/source"
    echo "Fetching and building $package (10 minutes on 2 cores)" >&2
    python3 -m pip download --no-deps --no-binary :all: \
      --disable-pip-version-check --dest "$cache" "$package" >&2
    echo "$archive_sha256  $(echo "$cache"/*.tar.gz)" | sha256sum -c - >&2
    tar -xzf "$cache"/*.tar.gz -C "$cache/source" --strip-components=1
    cmake -S "$cache/source/vendor/llama.cpp" -B "$cache/build" -G Ninja \
      -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
      -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
      -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON \
      -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF >&2
    cmake --build "$cache/build" --target llama-bench -j "$(nproc)" >&2
  fi
  echo "$built"
}

deploy/install_packages.sh tests >&2
model=$(deploy/fetch_model.sh)
deploy/build.sh --tests engine_bench >&2
llama_bench=${LLAMA_BENCH:-$(build_llama_bench)}
exec python3 tests/bench/compare_llama.py --model "$model" \
  --engine-bench build/release/bin/engine_bench \
  --llama-bench "$llama_bench" "$@"
