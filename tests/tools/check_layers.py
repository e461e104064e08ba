#!/usr/bin/env python3
"""Checks the folders of the source tree and the direction of its includes.

    check_layers.py ROOT

Rules:
  1. The top level holds exactly the entries of TOP_LEVEL, and dot files.
  2. A source file includes only headers of the folders that MAY_INCLUDE
     grants its folder, by the path from the root ("cache/page_pool.h").
  3. Only the folders of MAY_USE may include headers of a library named there.
  4. A .proto file imports only files below proto/ and google/protobuf.
  5. No folder is called common, utils or helpers.

Prints one line for each violation, "FILE:LINE: what is wrong", and exits 1
when there is any.
"""
import os
import re
import subprocess
import sys

TOP_LEVEL = {
    "CMakeLists.txt", "CMakePresets.json", "proto", "server", "engine",
    "cache", "kernels", "tokenizer", "deploy", "tests", "docs", "README.md",
    "LICENSE"
}
# kernels <- cache <- engine <- server; tokenizer and proto are leaves. What
# every layer needs (check.h, status_macros.h) sits in the lowest, kernels.
MAY_INCLUDE = {
    "kernels": {"kernels"},
    "tokenizer": {"tokenizer", "kernels"},
    "cache": {"cache", "kernels", "tokenizer"},
    "engine": {"engine", "cache", "kernels", "tokenizer"},
    "server": {"server", "engine", "cache", "kernels", "tokenizer"},
    "tests": {"tests", "server", "engine", "cache", "kernels", "tokenizer"},
}
# The wire and the exposition of metrics are the server's alone.
MAY_USE = {
    "gRPC and protobuf":
        (re.compile(r"^(grpc|grpcpp|grpc\+\+|google/protobuf|google/rpc|"
                    r"sentencekv/v1)/|\.pb\.h$"), {"server", "tests"}),
    "prometheus-cpp": (re.compile(r"^prometheus/"), {"server", "tests"}),
    "CUDA": (re.compile(r"^(cuda|cublas|nvrtc)"), {"kernels", "tests"}),
}
BANNED_FOLDERS = {"common", "utils", "util", "helpers", "misc"}

SOURCE = re.compile(r"\.(h|cc|cu|cuh)(\.in)?$")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
IMPORT = re.compile(r'^\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"')


def project_files(root):
    """Paths of the project's files, relative to root: those that git tracks or
    would track, or every file where root is not the top of a repository."""
    if os.path.exists(os.path.join(root, ".git")):
        listing = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if listing.returncode == 0:
            names = listing.stdout.decode().split("\0")
            return sorted(
                n for n in names if n and os.path.exists(os.path.join(root, n)))
    found = []
    for folder, subfolders, names in os.walk(root):
        at_top = folder == root
        subfolders[:] = [
            s for s in subfolders
            if s != "__pycache__" and not (at_top and
                                           (s == "build" or s[0] == "."))
        ]
        found += [
            os.path.relpath(os.path.join(folder, n), root) for n in names
        ]
    return sorted(found)


def check_places(paths):
    """Violations of rules 1 and 5."""
    violations = []
    entries = {path.split(os.sep)[0] for path in paths}
    for entry in sorted(entries - TOP_LEVEL):
        if not entry.startswith("."):
            violations.append(f"{entry}: not a top-level entry of this project")
    for entry in sorted(TOP_LEVEL - entries):
        violations.append(f"{entry}: missing at the top level")
    folders = {os.path.dirname(path) for path in paths}
    for folder in sorted(folders):
        if BANNED_FOLDERS & set(folder.split(os.sep)):
            violations.append(f"{folder}: say what the folder is for")
    return violations


def check_include(path, quote, target):
    """What is wrong with one include of the file at `path`, or None."""
    folder = path.split(os.sep)[0]
    for library, (pattern, allowed) in MAY_USE.items():
        if pattern.search(target):
            if folder in allowed:
                return None
            return f"{folder}/ may not use {library}: {target}"
    target_folder = target.split("/")[0]
    if target_folder in MAY_INCLUDE:
        if target_folder in MAY_INCLUDE[folder]:
            return None
        return f"{folder}/ may not include {target_folder}/: {target}"
    if quote == '"' and ("/" not in target or target.startswith(".")):
        return f"include by the path from the root, not: {target}"
    return None


def check_import(root, target):
    """What is wrong with one import of a .proto file, or None."""
    if target.startswith("google/protobuf/"):
        return None
    if os.path.exists(os.path.join(root, "proto", target)):
        return None
    return f"no such file below proto/: {target}"


def check_file(root, path):
    """Violations of rules 2, 3 and 4 in one file."""
    folder = path.split(os.sep)[0]
    is_source = SOURCE.search(path) and folder in MAY_INCLUDE
    is_proto = path.endswith(".proto")
    if not is_source and not is_proto:
        return []
    violations = []
    with open(os.path.join(root, path), encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            wrong = None
            if is_proto:
                match = IMPORT.match(line)
                if match:
                    wrong = check_import(root, match.group(1))
            else:
                match = INCLUDE.match(line)
                if match:
                    wrong = check_include(path, *match.groups())
            if wrong:
                violations.append(f"{path}:{number}: {wrong}")
    return violations


def check(root):
    """All violations in the tree below `root`, as printable lines."""
    paths = project_files(root)
    violations = check_places(paths)
    for path in paths:
        violations += check_file(root, path)
    return violations


def main(arguments):
    if len(arguments) != 2:
        print("usage: check_layers.py ROOT", file=sys.stderr)
        return 2
    violations = check(os.path.abspath(arguments[1]))
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
