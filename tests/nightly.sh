#!/usr/bin/env bash
# The long runs: sanitizers, fuzzing, soak, chunk sizes on the real network.
#
#   tests/nightly.sh [NAME...]     no name: all of them
#   tests/nightly.sh --list        the names, with what they do
#
# Runs everything it was asked for, even after a failure; the last lines say
# what failed, and the exit status is non-zero when anything did.
# FUZZ_SECONDS (60) and SOAK_REQUESTS (10000) can be set.
set -uo pipefail
cd "$(dirname "$0")/.."

fuzz_seconds=${FUZZ_SECONDS:-60}
soak_requests=${SOAK_REQUESTS:-10000}

# NAME, then what it does. run_NAME below, with '-' as '_', does it.
jobs_text="
release       all tests of the release preset
debug         all tests with every own check on
asan          all tests under AddressSanitizer and UndefinedBehaviorSanitizer
tsan          all tests under ThreadSanitizer
fuzz          each libFuzzer target for $fuzz_seconds seconds
cuda          the daemon on the simulated device, with 200 orders of its streams
cuda-asan     tests of the CUDA engine and of the simulated device, as under asan
mutations     the CUDA engine broken in one place at a time: its tests must fail
soak          $soak_requests requests that end in every way there is
stream-gaps   gaps in 16 streams while a prompt of 8,000 tokens comes in
"

run_preset() { # PRESET
  cmake --preset "$1" -DSENTENCEKV_BUILD_TESTS=ON &&
    cmake --build --preset "$1" -j "$(nproc)" &&
    ctest --preset "$1" -j "$(nproc)"
}
run_release() { run_preset release; }
run_debug() { run_preset debug; }
run_asan() { run_preset asan; }
run_tsan() { run_preset tsan; }

run_fuzz() {
  cmake --preset fuzz -DSENTENCEKV_BUILD_TESTS=ON || return 1
  local failed=0 name corpus
  for corpus in tests/fuzz/corpus/*/; do
    name=$(basename "$corpus")
    cmake --build --preset fuzz -j "$(nproc)" --target "$name" || return 1
    # New inputs go to the first folder; a crash writes its input there too.
    mkdir -p "build/fuzz/found/$name"
    echo "== $name, $fuzz_seconds seconds"
    "build/fuzz/bin/$name" -max_total_time="$fuzz_seconds" -timeout=10 \
      -rss_limit_mb=4096 -print_final_stats=1 \
      -artifact_prefix="build/fuzz/found/$name/" \
      "build/fuzz/found/$name" "$corpus" >"build/fuzz/$name.log" 2>&1 ||
      failed=1
    tail -n 8 "build/fuzz/$name.log"
  done
  return $failed
}

run_cuda() {
  deploy/build.sh --tests simulated_daemon_test &&
    SENTENCEKV_SIM_SEEDS=200 build/release/bin/simulated_daemon_test
}

run_cuda_asan() {
  local failed=0 test leaks
  local tests=(cuda_{attention,backend,choice,memory}_test
    simulated_{faults,graphs,kernels,matrices,memory,streams}_test)
  cmake --preset cuda-asan -DSENTENCEKV_BUILD_TESTS=ON &&
    cmake --build --preset cuda-asan -j "$(nproc)" --target "${tests[@]}" ||
    return 1
  for test in "${tests[@]}"; do
    echo "== $test"
    # A thread stopped by a finding never leaves its frames, nor what they own.
    case $test in simulated_*) leaks=0 ;; *) leaks=1 ;; esac
    ASAN_OPTIONS=detect_leaks=$leaks \
      "build/cuda-asan/bin/$test" --gtest_brief=1 || failed=1
  done
  return $failed
}

run_mutations() { tests/cuda/mutations.py; }

run_soak() {
  deploy/build.sh --tests integration_test &&
    SENTENCEKV_SOAK_REQUESTS=$soak_requests \
      build/release/bin/integration_test --gtest_filter='Soak.*'
}

run_stream_gaps() { tests/bench/stream_gaps.sh; }

all_names=$(awk 'NF { print $1 }' <<<"$jobs_text")
case "${1:-}" in
  --list)
    sed '/^$/d' <<<"$jobs_text"
    exit
    ;;
  -*)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
[ $# -gt 0 ] || set -- $all_names
for name in "$@"; do
  if ! grep -qx -- "$name" <<<"$all_names"; then
    echo "nightly.sh: no run is called '$name'; see tests/nightly.sh --list" >&2
    exit 2
  fi
done

deploy/install_packages.sh nightly || exit 1
deploy/fetch_model.sh || echo "nightly.sh: without SmolLM2" >&2

report=
status=0
for name in "$@"; do
  printf '\n=== %s\n' "$name"
  started=$SECONDS
  if "run_${name//-/_}"; then result=passed; else result=FAILED status=1; fi
  report+=$(printf '%-12s %s after %d s' "$name" "$result" \
    $((SECONDS - started)))$'\n'
done
printf '\n=== nightly\n%s' "$report"
exit $status
