#!/usr/bin/env bash
# Checks SentenceKV Server on this machine's GPU, and writes a report (Markdown).
# It lies beside bin/ and lib/ in the archive that deploy/gpu_bundle.sh makes.
#
#   ./gpu_check.sh [--model PATH] [--random-weights CONFIG] [--report FILE]
#
#   --model PATH   GGUF file or Hugging Face folder: its answers on the GPU are
#                  compared with those on the CPU, and both are measured
#   --random-weights CONFIG
#                  a Hugging Face config.json: the GPU is measured on that
#                  network, with weights that nobody trained
#   --report FILE  gpu_report.md unless told; FILE.log gets what the tests print
#
# With SENTENCEKV_REQUIRE_CUDA=1 a test that is skipped has failed.
#
# Exit status: 0 all is well, 1 something failed (the report says what), 2 wrong
# usage, 5 there is no GPU that can be used (the message says what is missing).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/bin

model=
random_weights=
report=gpu_report.md
while [ $# -gt 0 ]; do
  case "$1" in
    --model | --random-weights | --report)
      if [ $# -lt 2 ]; then
        echo "gpu_check.sh: $1 needs a value" >&2
        exit 2
      fi
      name=${1#--}
      printf -v "${name//-/_}" '%s' "$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,18s/^# \{0,1\}//p' "$0"
      exit
      ;;
    *)
      echo "gpu_check.sh: no such argument: $1; see --help" >&2
      exit 2
      ;;
  esac
done
for path in "$model" "$random_weights"; do
  if [ -n "$path" ] && [ ! -e "$path" ]; then
    echo "gpu_check.sh: no such file or folder: $path" >&2
    exit 2
  fi
done

work=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

failures=()
fail() { failures+=("$*"); }
say() { printf '%s\n' "$*" >>"$report"; }

# What there is --------------------------------------------------------------

"$bin/copy_bench" >"$work/copies" 2>"$work/error"
status=$?
if [ $status -eq 5 ]; then
  sed 's/^copy_bench: /gpu_check.sh: /' "$work/error" >&2
  exit 5
fi
: >"$report" || exit 2
log=$report.log
: >"$log" || exit 2
say "# GPU check"
say ""
say "$(date -u '+%Y-%m-%d %H:%M UTC'), $(cat "$here/VERSION" 2>/dev/null)"
say ""
say "## Machine"
say ""
say "- GPU: $(head -n 1 "$work/copies")"
if command -v nvidia-smi >/dev/null; then
  say "- nvidia-smi: $(nvidia-smi --format=csv,noheader \
    --query-gpu=name,driver_version,pcie.link.gen.max,pcie.link.width.max,clocks.max.sm,power.limit)"
fi
say "- CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) threads"
say "- system: $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r), $(getconf GNU_LIBC_VERSION)"
say ""
say "## Copies"
say ""
tail -n +3 "$work/copies" >>"$report"
if [ $status -ne 0 ]; then
  say "$(cat "$work/error")"
  fail "copies: $(cat "$work/error")"
fi
if grep -q '^WARNING' "$work/copies"; then
  grep '^WARNING' "$work/copies" >&2
fi

# Every kernel and operation against the CPU ---------------------------------

echo "Kernel tests..." >&2
"$bin/cuda_gpu_test" >"$work/tests" 2>&1
status=$?
cat "$work/tests" >>"$log"
count() { # WORD: of googletest's summary
  local number
  number=$(sed -n "s/^\[ *$1 *\] \([0-9]*\) tests\{0,1\}[,.].*/\1/p" \
    "$work/tests" | tail -n 1)
  echo "${number:-0}"
}
passed=$(count PASSED) failed=$(count FAILED) skipped=$(count SKIPPED)
say ""
say "## Kernel tests, against the CPU"
say ""
say "| passed | failed | skipped |"
say "|---|---|---|"
say "| $passed | $failed | $skipped |"
if [ "$failed" -gt 0 ]; then
  say ""
  sed -n 's/^\[ *FAILED *\] \([^ ,]*\.[^ ,]*\).*/- \1/p' "$work/tests" |
    sort -u >>"$report"
  fail "$failed kernel tests failed"
elif [ $status -ne 0 ]; then
  say ""
  say "cuda_gpu_test ended with $status; its last lines:"
  say ""
  tail -n 15 "$work/tests" | sed 's/^/    /' >>"$report"
  fail "cuda_gpu_test ended with $status"
elif [ "$passed" -eq 0 ]; then
  fail "no kernel test passed"
fi
if [ "$skipped" -gt 0 ] && [ "${SENTENCEKV_REQUIRE_CUDA:-}" = 1 ]; then
  fail "$skipped kernel tests were skipped"
fi

# The daemon ------------------------------------------------------------------

start_server() { # BACKEND FLAG...: sets server_pid and port; may fail
  rm -f "$work/ports"
  "$bin/sentencekv-server" --backend "$@" --listen 127.0.0.1:0 \
    --metrics_listen "" --port_file "$work/ports" >>"$log" 2>&1 &
  server_pid=$!
  while [ ! -f "$work/ports" ]; do
    if ! kill -0 "$server_pid" 2>/dev/null; then
      wait "$server_pid"
      fail "the server with --backend $1 ended with $?; see $log"
      server_pid=
      return 1
    fi
    sleep 0.2
  done
  port=$(sed -n 's/^grpc_port=//p' "$work/ports")
}

stop_server() {
  kill -TERM "$server_pid" 2>/dev/null
  wait "$server_pid"
  local status=$?
  server_pid=
  [ $status -eq 0 ] || fail "the server ended with $status; see $log"
}

client() { # SUBCOMMAND ARGUMENT...
  local subcommand=$1
  shift
  "$bin/sentencekv" "$subcommand" --server "127.0.0.1:$port" "$@" 2>>"$log"
}

# A model, on the GPU and on the CPU ------------------------------------------

prompts=(
  "The capital of France is"
  "Once upon a time there was a lighthouse keeper who"
  "List three reasons why the sea is salty."
  "In 1969 the first human being walked on the Moon. The name of"
)
max_tokens=48

# The ids of each answer, one prompt a line; then the times.
run_model() { # BACKEND
  start_server "$1" --model "$model" || return 1
  local prompt ids
  for prompt in "${prompts[@]}"; do
    ids=$(client generate --json --temperature 0 --max-tokens $max_tokens \
      --prompt "$prompt" | sed -n 's/.*"token_ids":\[\([0-9,]*\)\].*/\1/p')
    [ -n "$ids" ] || fail "$1: no answer to \"$prompt\"; see $log"
    echo "$ids" >>"$work/ids.$1"
  done
  for clients in 1 8; do
    {
      echo "$1, $clients at once:"
      client bench --concurrency $clients --requests $((2 * clients)) \
        --warmup "$clients" --prompt-tokens 256 --max-tokens 64 ||
        fail "$1: bench with $clients clients failed; see $log"
    } >>"$work/times"
  done
  stop_server
}

common_prefix() { # IDS IDS: how many ids at the beginning are the same
  local -a a b
  IFS=, read -ra a <<<"$1"
  IFS=, read -ra b <<<"$2"
  local i=0
  while [ $i -lt ${#a[@]} ] && [ "${a[i]}" = "${b[i]:-}" ]; do i=$((i + 1)); done
  echo $i
}

if [ -n "$model" ]; then
  echo "Model on the GPU, then on the CPU..." >&2
  say ""
  say "## $(basename "$model"), on the GPU and on the CPU"
  say ""
  if run_model cuda && run_model cpu; then
    say "Likeliest tokens. The GPU multiplies in bf16, the CPU in f32: answers may"
    say "part where two tokens are nearly as likely, but not at the first one."
    say ""
    say "| prompt | tokens on the CPU | the same on the GPU, from the first |"
    say "|---|---|---|"
    for i in "${!prompts[@]}"; do
      cpu=$(sed -n "$((i + 1))p" "$work/ids.cpu")
      cuda=$(sed -n "$((i + 1))p" "$work/ids.cuda")
      same=$(common_prefix "$cpu" "$cuda")
      say "| ${prompts[i]} | $(tr , '\n' <<<"$cpu" | grep -c .) | $same |"
      [ "$same" -gt 0 ] ||
        fail "GPU and CPU part at the first token after \"${prompts[i]}\""
    done
    say ""
    say "Prompts of 256 tokens, answers of 64:"
    say ""
    sed 's/^/    /' "$work/times" >>"$report"
  fi
fi

# A network of random weights, on the GPU ------------------------------------

if [ -n "$random_weights" ]; then
  echo "Random weights on the GPU..." >&2
  say ""
  say "## Random weights, $(basename "$random_weights"), on the GPU"
  say ""
  say "One client, answers of 64 tokens, after prompts of so many:"
  say ""
  if start_server cuda --random_weights "$random_weights"; then
    for tokens in 1024 16384; do
      for policy in full sentence; do
        client bench --requests 2 --prompt-tokens $tokens --max-tokens 64 \
          --kv-policy $policy >"$work/times" ||
          fail "bench of $tokens tokens, policy $policy, failed; see $log"
        say "    $tokens, policy $policy:"
        sed 's/^/    /' "$work/times" >>"$report"
      done
    done
    stop_server
  fi
fi

say ""
say "## Result"
say ""
if [ ${#failures[@]} -eq 0 ]; then
  say "All is well."
  echo "gpu_check.sh: all is well; the report is $report" >&2
  exit 0
fi
for failure in "${failures[@]}"; do
  say "- FAILED: $failure"
  echo "gpu_check.sh: $failure" >&2
done
echo "gpu_check.sh: the report is $report" >&2
exit 1
