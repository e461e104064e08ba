#!/usr/bin/env bash
# Runs a compilation by nvcc with -Xptxas=-v, and keeps what ptxas says of each
# kernel (registers, shared memory, spills) beside the object file, as
# OBJECT.ptxas; deploy/kernel_resources.py reads it. All else that the compiler
# says goes where it would have gone.
#
#   keep_ptxas_report.sh COMPILER ARGUMENT... -o OBJECT ...
set -uo pipefail

object=
previous=
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
if [ -z "$object" ]; then exec "$@"; fi

"$@" -Xptxas=-v 2>"$object.messages"
status=$?
# Facts of one kernel are two lines that begin with white space or "ptxas info".
facts='^ptxas info |^    [0-9]+ bytes stack frame'
grep -E "$facts" "$object.messages" >"$object.ptxas"
grep -vE "$facts" "$object.messages" >&2
rm -f "$object.messages"
exit $status
