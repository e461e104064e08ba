#!/usr/bin/env bash
# Installs the Debian 12 packages that SentenceKV Server needs.
#
#   deploy/install_packages.sh [GROUP...]
#
#   build    compile the daemon and the client, fetch the model (default)
#   tests    build, and the test libraries
#   nightly  tests, and what the fuzz targets need
#   runtime  only the shared libraries of the finished programs
#   bench    what llama.cpp needs to be built for comparison
#   eval     build, and what the evaluation needs
#   list     prints the names of the group that follows, and installs nothing
#
# Nothing happens when all are there already. Needs root or sudo otherwise.
set -euo pipefail

build_packages=(
  ca-certificates cmake g++ ninja-build pkg-config
  python3 python3-pip
  libabsl-dev libcli11-dev libfmt-dev libgrpc++-dev libpcre2-dev
  libprotobuf-dev libsentencepiece-dev libspdlog-dev nlohmann-json3-dev
  prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc)
test_packages=(
  debootstrap git libbenchmark-dev libboost-context-dev libgmock-dev libgtest-dev
  xz-utils)
nightly_packages=(clang libclang-rt-14-dev)
runtime_packages=(
  ca-certificates libabsl20220623 libfmt9 libgrpc++1.51 libpcre2-8-0
  libprometheus-cpp-core1.0 libprometheus-cpp-pull1.0
  libsentencepiece0 libspdlog1.10)
bench_packages=(git)
eval_packages=(python3-venv)

packages_of() {
  case "$1" in
    build) printf '%s\n' "${build_packages[@]}" ;;
    tests) printf '%s\n' "${build_packages[@]}" "${test_packages[@]}" ;;
    nightly)
      printf '%s\n' "${build_packages[@]}" "${test_packages[@]}" \
        "${nightly_packages[@]}"
      ;;
    runtime) printf '%s\n' "${runtime_packages[@]}" ;;
    bench) printf '%s\n' "${build_packages[@]}" "${bench_packages[@]}" ;;
    eval) printf '%s\n' "${build_packages[@]}" "${eval_packages[@]}" ;;
    *)
      echo "install_packages.sh: no group '$1'; there are build, tests," \
        "nightly, runtime, bench, eval" >&2
      return 2
      ;;
  esac
}

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if [ "${1:-}" = list ]; then
  packages_of "${2:-build}"
  exit
fi

[ $# -gt 0 ] || set -- build
missing=()
for group in "$@"; do
  names=$(packages_of "$group")
  for name in $names; do
    is_installed "$name" || missing+=("$name")
  done
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  echo "install_packages.sh: this is not a Debian system (no apt-get)." \
    "Install what corresponds to: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: these packages are missing, and there is" \
      "neither root nor sudo to install them. As root, run:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A foreign source that does not answer must not stop the installation.
"${as_root[@]}" apt-get update -qq ||
  echo "install_packages.sh: apt-get update failed; going on" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null </dev/null
