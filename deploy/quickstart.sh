#!/usr/bin/env bash
# From nothing to a streamed answer: installs packages, builds, fetches a small
# model, starts the server, asks it a question.
#
#   deploy/quickstart.sh [--keep] [QUESTION]
#
#   --keep   leave the server running (a later quickstart uses it)
#
# The server's log and ports are kept in ${XDG_CACHE_HOME:-~/.cache}/sentencekv.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=no
question="Why is the sky blue? Answer in two sentences."
for argument in "$@"; do
  case "$argument" in
    --keep) keep=yes ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit
      ;;
    -*)
      echo "quickstart.sh: no such flag: $argument" >&2
      exit 2
      ;;
    *) question=$argument ;;
  esac
done

bin=build/release/bin
state=${XDG_CACHE_HOME:-$HOME/.cache}/sentencekv/quickstart
log=$state/server.log
port_file=$state/ports
pid_file=$state/server.pid
mkdir -p "$state"

step() { printf '\n== %s\n' "$*"; }

is_our_server() { # PID
  [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = sentencekv-serv ]
}

is_port_free() { # PORT
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

port_of() { # NAME: a port that the server wrote down
  sed -n "s/^$1=//p" "$port_file"
}

server_pid=
stop_server() {
  [ -n "$server_pid" ] || return 0
  local pid=$server_pid
  server_pid=
  rm -f "$pid_file"
  kill -TERM "$pid" 2>/dev/null || return 0
  for _ in $(seq 150); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "quickstart.sh: the server did not stop in 15 s; killing it" >&2
  kill -KILL "$pid" 2>/dev/null || true
}

fail_with_log() { # MESSAGE
  echo "quickstart.sh: $1; the end of $log:" >&2
  tail -n 20 "$log" >&2
  exit 1
}

# Starts the server and waits until it has written its ports.
start_server() {
  local grpc_port=50051 metrics_port=9400
  is_port_free "$grpc_port" || grpc_port=0
  is_port_free "$metrics_port" || metrics_port=0
  rm -f "$port_file"
  # In a session of its own, so that Ctrl-C here reaches this script alone.
  setsid "$bin/sentencekv-server" --model "$1" \
    --listen "127.0.0.1:$grpc_port" --metrics_listen "127.0.0.1:$metrics_port" \
    --port_file "$port_file" >"$log" 2>&1 </dev/null &
  server_pid=$!
  echo "$server_pid" >"$pid_file"
  for _ in $(seq 1200); do
    [ -f "$port_file" ] && return 0
    kill -0 "$server_pid" 2>/dev/null ||
      fail_with_log "the server ended while starting"
    sleep 0.1
  done
  fail_with_log "the server was not ready after 120 s"
}

step "Debian packages"
deploy/install_packages.sh build
echo "all there"

step "Build"
deploy/build.sh sentencekv sentencekv-server

step "Model: SmolLM2-135M-Instruct, 4 bits"
model=$(deploy/fetch_model.sh)
echo "$model"

trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "Server"
running_pid=$(cat "$pid_file" 2>/dev/null || true)
if is_our_server "$running_pid" && [ -f "$port_file" ]; then
  echo "using the one that an earlier run left, process $running_pid"
else
  start_server "$model"
  running_pid=$server_pid
fi
server=127.0.0.1:$(port_of grpc_port)
metrics=127.0.0.1:$(port_of metrics_port)
"$bin/sentencekv" health --server "$server" --wait 60 >/dev/null ||
  fail_with_log "the server's health service does not answer"
echo "serving on $server, metrics on http://$metrics/metrics"

step "Question: $question"
"$bin/sentencekv" generate --server "$server" --chat --prompt "$question" \
  --temperature 0 --max-tokens 128 --stats

step "How to go on"
if [ "$keep" = yes ] || [ -z "$server_pid" ]; then
  server_pid= # is left running
  at=
  if [ "$server" != 127.0.0.1:50051 ]; then at=" --server $server"; fi
  cat <<TEXT
  talk       $bin/sentencekv chat$at
  ask        $bin/sentencekv generate$at --chat --prompt "..." --json
  measure    $bin/sentencekv bench$at --concurrency 16
  look       $bin/sentencekv stats$at
  metrics    curl http://$metrics/metrics
  log        tail -f $log
  stop       kill -TERM $running_pid
TEXT
else
  stop_server
  cat <<TEXT
The server has been stopped. To talk with it:
  deploy/quickstart.sh --keep
  $bin/sentencekv chat
TEXT
fi
