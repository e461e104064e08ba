#!/usr/bin/env python3
"""Checks that files compiled for newer machines keep their code to themselves.

Usage: check_level_symbols.py OBJECT...

A weak symbol (an inline function or template instance) in such an object may
become the one copy that the whole program uses, and a static initialiser in
it runs on every machine: both would crash a machine that lacks the level.
Only objects named *_avx2* and *_avx512* are looked at.
"""

import re
import subprocess
import sys

# nm's types of symbols that the linker merges between objects.
SHARED_TYPES = "VvWwu"


def problems_of(path):
    listing = subprocess.run(["nm", "-C", path], check=True,
                             capture_output=True, text=True).stdout
    for line in listing.splitlines():
        match = re.match(r"([0-9a-f]+) (\w) (.*)", line)
        if not match:
            continue  # undefined here, defined elsewhere
        _, kind, name = match.groups()
        if kind in SHARED_TYPES:
            yield f"{path}: shared code: {name}"
        if name.startswith("_GLOBAL__"):
            yield f"{path}: static initialiser: {name}"


def main(paths):
    objects = [path for path in paths if re.search(r"_avx(2|512)\.cc", path)]
    problems = [problem for path in objects for problem in problems_of(path)]
    for problem in problems:
        print(problem)
    print(f"{len(objects)} objects checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
