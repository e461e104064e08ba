#!/usr/bin/env bash
# Unpacks the archive of deploy/gpu_bundle.sh in a bare Debian, without any of
# our packages and without a GPU, and runs what is in it there.
#
#   bare_debian_test.sh BUILD_FOLDER
#
# The Debian comes from debootstrap and the mirror that apt uses here, and is
# kept in ${XDG_CACHE_HOME:-~/.cache}/sentencekv for the next time. Ends with 77
# (skipped) where it cannot be made.
set -euo pipefail
skip() {
  echo "SKIPPED: $*"
  exit 77
}

# In mounts of its own, so that /proc in there goes with this process. The
# linker asks /proc for the folder of a program.
if [ "${2:-}" != inside ]; then
  [ "$(id -u)" -eq 0 ] || skip "chroot needs root"
  unshare --mount true || skip "there can be no mounts of our own"
  exec unshare --mount "$0" "$1" inside
fi
built=$1
cd "$(dirname "$0")/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sentencekv
debian=$cache/bare-bookworm

# The files of the packages that are essential, unpacked and not configured:
# barer than any machine that boots, and made in a third of the time.
make_debian() {
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' |
    awk '$2 == "bookworm" { print $1; exit }')
  [ -n "$mirror" ] || skip "apt has no source of Debian 12 here"
  rm -rf "$debian.new"
  echo "Making a bare Debian from $mirror"
  timeout 400 debootstrap --foreign --variant=minbase bookworm "$debian.new" \
    "$mirror" >"$cache/debootstrap.log" 2>&1 || {
    tail -n 5 "$cache/debootstrap.log"
    rm -rf "$debian.new"
    skip "debootstrap failed"
  }
  rm -rf "$debian.new"/var/cache/apt/archives/*.deb "$debian"
  # In a container debootstrap makes it a link to itself.
  rm -rf "$debian.new/proc"
  mkdir "$debian.new/proc"
  mv "$debian.new" "$debian"
}

command -v debootstrap >/dev/null || skip "there is no debootstrap"
mkdir -p "$cache"
exec 9>"$debian.lock"
flock 9
[ -d "$debian" ] || make_debian
mount -t proc proc "$debian/proc" || skip "/proc cannot be mounted here"
chroot "$debian" /bin/true || skip "chroot does not work here"

folder=$(mktemp -d "$debian/tmp/bundle.XXXXXX")
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
deploy/gpu_bundle.sh --built "$built" "$folder/bundle.tar.xz"
tar -C "$folder" -xf "$folder/bundle.tar.xz"
inside=/tmp/$(basename "$folder")/sentencekv-gpu
message="the CUDA backend needs an NVIDIA driver"

failed=no
# Runs a command in the root: its exit status, and what it must print.
expect() { # STATUS TEXT COMMAND...
  local wanted=$1 text=$2 status=0
  shift 2
  chroot "$debian" "$@" >"$folder/output" 2>&1 9>&- || status=$?
  if [ "$status" -ne "$wanted" ] || ! grep -qF -- "$text" "$folder/output"; then
    echo "FAILED: $*"
    echo "  expected status $wanted and \"$text\", got status $status and:"
    sed 's/^/  | /' "$folder/output" | tail -n 20
    failed=yes
  else
    echo "ok: $* (status $status)"
  fi
}

expect 0 "sentencekv-server " "$inside/bin/sentencekv-server" --version
expect 5 "$message" "$inside/bin/sentencekv-server" --backend cuda --model none
expect 5 "$message" "$inside/bin/copy_bench"
expect 5 "$message" /bin/bash "$inside/gpu_check.sh"
expect 0 "SKIPPED" "$inside/bin/cuda_gpu_test"
expect 1 "$message" /usr/bin/env SENTENCEKV_REQUIRE_CUDA=1 "$inside/bin/cuda_gpu_test"

# The daemon answers on the CPU, and says why there.
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -f "$model" ]; then
  ln "$model" "$folder/model.gguf" 2>/dev/null || cp "$model" "$folder/model.gguf"
  chroot "$debian" "$inside/bin/sentencekv-server" --model "$inside/../model.gguf" \
    --listen 127.0.0.1:0 --metrics_listen "" --port_file "$inside/ports" \
    >"$folder/log" 2>&1 9>&- &
  server_pid=$!
  for _ in $(seq 600); do
    [ ! -f "$debian$inside/ports" ] || break
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
  done
  port=$(sed -n 's/^grpc_port=//p' "$debian$inside/ports" || true)
  expect 0 " Paris" "$inside/bin/sentencekv" generate --server "127.0.0.1:$port" \
    --temperature 0 --max-tokens 4 --prompt "The capital of France is"
  if ! grep "computing on the CPU" "$folder/log" | grep -qF "$message"; then
    echo "FAILED: the daemon does not say why it computes on the CPU:"
    tail -n 20 "$folder/log"
    failed=yes
  fi
  kill -TERM "$server_pid"
  wait "$server_pid" || {
    echo "FAILED: the daemon ended with $?"
    failed=yes
  }
  server_pid=
else
  echo "without SmolLM2: no daemon was started on a model"
fi
[ "$failed" = no ]
