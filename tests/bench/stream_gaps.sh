#!/usr/bin/env bash
# 16 clients stream, each in a conversation of PROMPT_TOKENS (512) tokens; a
# prompt of 8,000 tokens comes in beside them. While it is prefilled, the longest
# gap between their tokens may be 4 times the median gap before it came.
#
#   tests/bench/stream_gaps.sh [--json] [SERVER_FLAG...]
#
# Exits non-zero when the goal is missed. Run it on an idle machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

json=no
if [ "${1:-}" = --json ]; then
  json=yes
  shift
fi

deploy/install_packages.sh build >&2
model=$(deploy/fetch_model.sh)
deploy/build.sh sentencekv sentencekv-server >&2

work=$(mktemp -d)
build/release/bin/sentencekv-server --model "$model" --listen 127.0.0.1:0 \
  --metrics_listen "" --port_file "$work/ports" --log_level warning "$@" \
  >"$work/log" 2>&1 &
server_pid=$!
trap 'kill -TERM $server_pid 2>/dev/null; wait; rm -rf "$work"' EXIT
for _ in $(seq 600); do
  [ -f "$work/ports" ] && break
  if ! kill -0 $server_pid 2>/dev/null; then
    cat "$work/log" >&2
    exit 1
  fi
  sleep 0.1
done
server=127.0.0.1:$(sed -n 's/^grpc_port=//p' "$work/ports")

build/release/bin/sentencekv bench --server "$server" --json \
  --concurrency 16 --prompt-tokens "${PROMPT_TOKENS:-512}" --max-tokens 4000 \
  --intrude-prompt-tokens 8000 --intrude-after 5 |
  python3 -c '
import json, sys
result = json.load(sys.stdin)["intrusion"]
result.update(work="16 streams beside a prompt of 8,000 tokens", goal=4.0)
if sys.argv[1] == "yes":
    print(json.dumps(result))
else:
    print("median gap before  {median_gap_before_ms:8.1f} ms\n"
          "longest gap during {longest_gap_during_ms:8.1f} ms\n"
          "ratio              {ratio:8.2f}    (goal: at most {goal})\n"
          "its first token after {ttft_ms:.0f} ms".format(**result))
sys.exit(result["ratio"] > result["goal"])
' $json
