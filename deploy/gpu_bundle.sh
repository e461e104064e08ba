#!/usr/bin/env bash
# Packs what a GPU machine needs into one archive that runs from any folder:
# daemon, client, tests and benchmarks of the CUDA engine, the shared libraries
# they need, and gpu_check.sh. docs/cuda.md says how it is used.
#
#   deploy/gpu_bundle.sh [--built FOLDER] [ARCHIVE]
#
#   --built FOLDER  pack what was built there; else the release preset is built
#   ARCHIVE         build/sentencekv-gpu.tar.xz unless told
#
# Needs nvcc. The machine that runs it needs glibc 2.36, an NVIDIA driver and
# cuBLAS; the CUDA runtime is inside the programs.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(sentencekv-server sentencekv cuda_gpu_test copy_bench engine_bench)
newest_glibc=2.36
most_bytes=60000000

built=
archive=build/sentencekv-gpu.tar.xz
while [ $# -gt 0 ]; do
  case "$1" in
    --built)
      built=${2:?--built needs a folder}
      shift 2
      ;;
    -*)
      sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
    *)
      archive=$1
      shift
      ;;
  esac
done
if [ -z "$built" ]; then
  deploy/install_packages.sh tests
  deploy/build.sh --tests "${programs[@]}"
  built=build/release
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/sentencekv-gpu
mkdir -p "$root/bin" "$root/lib" "$root/licenses"

for program in "${programs[@]}"; do
  if [ ! -x "$built/bin/$program" ]; then
    echo "gpu_bundle.sh: $built/bin/$program is missing; was it built, with nvcc?" >&2
    exit 1
  fi
  strip -o "$root/bin/$program" "$built/bin/$program"
done

# All that the linker finds but glibc, which belongs to the machine.
libraries_of() { ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u; }
is_glibc='/(libc|libm|libmvec|libdl|libpthread|librt|libresolv|libutil|libanl)\.so'
libraries_of "$root"/bin/* | grep -vE "$is_glibc" | while read -r library; do
  cp -L "$library" "$root/lib/"
  # dpkg may know it in /lib or in /usr/lib.
  package=$(dpkg-query -S "*/$(basename "$(realpath "$library")")" 2>/dev/null |
    head -n 1 | cut -d: -f1) || true
  if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
    cp "/usr/share/doc/$package/copyright" "$root/licenses/$package"
  fi
done

outside=$(libraries_of "$root"/bin/* | grep -vE "$is_glibc" | grep -v "^$root/" || true)
if [ -n "$outside" ]; then
  echo "gpu_bundle.sh: found outside of the archive: $outside" >&2
  exit 1
fi
glibc=$(objdump -T "$root"/bin/* "$root"/lib/* 2>/dev/null |
  grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -Vu | tail -n 1)
if [ "$(printf '%s\n' "$glibc" "$newest_glibc" | sort -V | tail -n 1)" != "$newest_glibc" ]; then
  echo "gpu_bundle.sh: needs glibc $glibc; $newest_glibc is the newest allowed" >&2
  exit 1
fi

cp deploy/gpu_check.sh "$root/"
cp LICENSE "$root/licenses/sentencekv"
"$root/bin/sentencekv-server" --version >"$root/VERSION"
if git rev-parse HEAD >/dev/null 2>&1; then
  echo "commit $(git rev-parse --short HEAD)" >>"$root/VERSION"
fi

mkdir -p "$(dirname "$archive")"
# Level 3 is 10 % larger than level 6, in a fifth of the time.
tar -C "$work" --owner=0 --group=0 -cf - sentencekv-gpu | xz -3 -T0 >"$archive"
size=$(stat -c %s "$archive")
if [ "$size" -gt $most_bytes ]; then
  echo "gpu_bundle.sh: $archive has $size bytes, more than $most_bytes" >&2
  exit 1
fi
echo "$archive: $((size / 1000000)) MB, glibc $glibc"
