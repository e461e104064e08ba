#!/usr/bin/env bash
# Evaluates the ways to read the KV cache (docs/quality.md).
#
#   tests/eval/run.sh [FLAG...]          asks; --help lists the flags
#   tests/eval/run.sh report [FLAG...]   writes tables and plots into docs/
#
# Installs what it needs into build/eval/venv, builds the daemon and fetches the
# model, unless --server, --daemon or --model names another.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=build/eval/venv
if ! cmp -s tests/eval/requirements.txt "$venv/installed.txt"; then
  deploy/install_packages.sh eval >&2
  echo "Installing tests/eval/requirements.txt into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r tests/eval/requirements.txt >&2
  cp tests/eval/requirements.txt "$venv/installed.txt"
fi

if [ "${1:-}" = report ]; then
  shift
  exec "$venv/bin/python" tests/eval/report.py "$@"
fi

wants() { # FLAG ARGUMENT...: it is not among the arguments
  local flag=$1 argument
  shift
  for argument in "$@"; do
    case "$argument" in
      "$flag" | "$flag="* | --server | --server=* | --list | -h | --help)
        return 1
        ;;
    esac
  done
}

if wants --daemon "$@"; then
  deploy/build.sh sentencekv-server >&2
fi
if wants --model "$@"; then
  set -- --model "$(deploy/fetch_model.sh)" "$@"
fi
exec "$venv/bin/python" tests/eval/run.py "$@"
