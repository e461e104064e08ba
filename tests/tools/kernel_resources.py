#!/usr/bin/env python3
"""What the compiler says of each CUDA kernel: registers, shared memory, spills,
and how many blocks of it a processor holds.

    kernel_resources.py REPORTS                 prints the table
    kernel_resources.py REPORTS --write PAGE    puts it into docs/kernels.md
    kernel_resources.py REPORTS --check PAGE    compares, for the tests

REPORTS is the folder of the object files: the build leaves what ptxas said of
each beside it (kernels/cuda/keep_ptxas_report.sh), nothing is compiled here.

Fails when a kernel of KERNELS marked as hot spills, when a kernel is missing
there, or has gone; with --check also when PAGE's table names other kernels.
Numbers are not compared: they change from one compiler to the next.
"""
import argparse
import collections
import glob
import math
import os
import re
import subprocess
import sys

from marked_page import MarkedPage

# Of one streaming multiprocessor: CUDA C++ Programming Guide, "Technical
# Specifications per Compute Capability". Registers come 256 at a time for a
# warp, from one of 4 quarters; shared memory 128 bytes at a time, with 1 KiB of
# the system's for each block.
Limits = collections.namedtuple("Limits", "warps blocks shared_kib")
ARCHITECTURES = {
    "sm_80": Limits(64, 32, 164),
    "sm_89": Limits(48, 24, 100),
    "sm_90a": Limits(64, 32, 228),
}
REGISTERS = 65536
QUARTERS = 4


def blocks_per_processor(limits, registers, shared_bytes, threads):
    """The least of what blocks, warps, registers and shared memory allow."""
    warps = math.ceil(threads / 32)
    warp_registers = math.ceil(registers * 32 / 256) * 256
    warps_of_registers = REGISTERS // QUARTERS // warp_registers * QUARTERS
    block_shared = math.ceil((shared_bytes + 1024) / 128) * 128
    return min(limits.blocks, limits.warps // warps,
               warps_of_registers // warps,
               limits.shared_kib * 1024 // block_shared)


# What ptxas cannot know, as the launch functions have it: threads of a block
# and dynamic shared memory, at the shape of Llama-3.1-8B. "Hot" is what every
# decoding or prefill step runs for each token.
D = 128
HEADS_OF_A_KV_HEAD = 4
KV_HEADS = 8


class Kernel:

    def __init__(self, threads, dynamic=0, hot=False):
        self.threads = threads
        self._dynamic = dynamic
        self.hot = hot

    def dynamic_bytes(self, arguments):
        """`arguments`: those of the template."""
        if callable(self._dynamic):
            return self._dynamic(arguments)
        return self._dynamic


def fma_bytes(arguments):
    """SharedFloats(TileQueries(size, f32, D), D) of attention_fma.h."""
    queries = 256 // D * int(arguments[1])
    return 4 * (64 * (D + 4) + queries * D + 64 * (queries + 4) + 7 * queries)


def mma_bytes(arguments):
    """SharedBytes(TileQueries(kMany, ., D), D) of MmaShape, at D = kDims."""
    head_dim = int(arguments[1])
    slots, queries = (3, 64) if head_dim <= 128 else (2, 32)
    return 2 * (slots * 64 + queries) * (head_dim + 8)


KERNELS = {
    "attention_kernels": {
        # Of prefill; a tile of decoding rows has fewer queries and threads.
        "MmaKernel": Kernel(128, mma_bytes, hot=True),
        "FmaKernel": Kernel(256, fma_bytes),
        "MergeKernel": Kernel(D, hot=True),
    },
    "attention_mass_kernels": {
        "ScoreKernel": Kernel(256, 4 * (64 * (D + 4) + 16 * D + 64 * 20)),
        "MergeKernel": Kernel(128),
    },
    # 128K tokens, 16K sentences, 512 pages of a choice, 1,024 slots.
    "choose_kernels": {
        "ChooseKernel": Kernel(512, 38944, hot=True),
    },
    "gather_kernels": {
        "GatherRunsKernel": Kernel(256, 4 * KV_HEADS, hot=True),
    },
    "page_kernels": {
        "CopyPagesKernel": Kernel(256),
        "ReadKeysKernel": Kernel(64),
    },
    "rope_kernels": {
        "RopeTableKernel": Kernel(256),
        "RopeStoreKernel": Kernel(64, hot=True),
    },
    "row_kernels": {
        "EmbedKernel": Kernel(256),
        "RmsNormKernel": Kernel(256, hot=True),
        "SwiGluKernel": Kernel(256, hot=True),
        "GatherRowsKernel": Kernel(256),
        "RoundRowsKernel": Kernel(256, hot=True),
    },
    "score_rows_kernels": {
        "ScoreRowsKernel": Kernel(128, 4 * 4 * D, hot=True),
    },
    "sentence_index_kernels": {
        "IndexKernel": Kernel(128, 4 * 2 * D),
    },
    "sentence_score_kernels": {
        "VectorsKernel": Kernel(128, 4 * 4 * D, hot=True),
        "SharesKernel": Kernel(
            512, 8 * HEADS_OF_A_KV_HEAD + 4096 + 16 + 16 * 4 * D, hot=True),
    },
}

Usage = collections.namedtuple("Usage", "registers shared spills")
PROGRAM = "kernel_resources.py"


def readable(demangled):
    """"MmaKernel<bf16, 128>" of what c++filt makes of the symbol."""
    name = demangled.replace("(anonymous namespace)::", "")
    name = re.sub(r"\(sentencekv::(\w+)\)(\d+)", r"\1 \2", name)
    name = re.sub(r"^void ", "", name).split("(")[0]
    name = name.replace("sentencekv::", "")
    for long, short in (("__nv_bfloat16", "bf16"), ("__half", "f16"),
                        ("float", "f32")):
        name = name.replace(long, short)
    return name


def parse_report(text):
    """{(symbol, architecture): Usage} of what ptxas -v printed."""
    usages = {}
    entry = spills = None
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'",
                              line):
            entry, spills = match.groups(), None
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill",
                                line):
            spills = int(match[1]) + int(match[2])
        elif entry and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            usages[entry] = Usage(int(match[1]),
                                  int(shared[1]) if shared else 0, spills)
            entry = None
    return usages


def read_reports(folder):
    """{(file, kernel): {architecture: Usage}}, in order of files and names."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.cu.o.ptxas"))):
        file = os.path.basename(path).split(".")[0]
        with open(path, encoding="utf-8") as report:
            usages = parse_report(report.read())
        symbols = sorted({symbol for symbol, _ in usages})
        names = subprocess.run(["c++filt"], input="\n".join(symbols), text=True,
                               check=True, capture_output=True).stdout
        name_of = dict(zip(symbols, map(readable, names.splitlines())))
        for (symbol, architecture), usage in sorted(
                usages.items(), key=lambda item: name_of[item[0][0]]):
            found.setdefault((file, name_of[symbol]), {})[architecture] = usage
    return found


def complaints(found):
    """What must not be, a line each."""
    if not found:
        yield "no reports of ptxas there: build the target sentencekv_cuda"
    seen = set()
    for (file, name), usages in found.items():
        kernel = KERNELS.get(file, {}).get(name.split("<")[0])
        if kernel is None:
            yield f"{file}: {name} is not in KERNELS of kernel_resources.py"
            continue
        seen.add((file, name.split("<")[0]))
        for architecture in ARCHITECTURES:
            if architecture not in usages:
                yield f"{file}: {name} was not compiled for {architecture}"
            elif kernel.hot and usages[architecture].spills:
                yield (f"{file}: {name} spills "
                       f"{usages[architecture].spills} bytes on {architecture}")
    for file, kernels in KERNELS.items():
        for name in kernels:
            if found and (file, name) not in seen:
                yield f"{file}: no {name} was compiled"


def joined(values):
    """"40" where all architectures agree, else "40 / 40 / 38"."""
    return " / ".join(map(str, values if len(set(values)) > 1 else values[:1]))


def table(found):
    lines = [
        "| file | kernel | threads | registers | shared memory, static + dynamic"
        " | spilled bytes | blocks per processor |",
        "|---|---|---|---|---|---|---|",
    ]
    for (file, name), usages in found.items():
        kernel = KERNELS[file][name.split("<")[0]]
        dynamic = kernel.dynamic_bytes(
            [argument.strip(" >") for argument in
             name.partition("<")[2].split(",")])
        of_all = [usages[architecture] for architecture in ARCHITECTURES]
        blocks = [
            blocks_per_processor(limits, usages[architecture].registers,
                                 usages[architecture].shared + dynamic,
                                 kernel.threads)
            for architecture, limits in ARCHITECTURES.items()
        ]
        lines.append(
            f"| {file} | `{name}`{' *' if kernel.hot else ''} | {kernel.threads}"
            f" | {joined([usage.registers for usage in of_all])}"
            f" | {joined([usage.shared for usage in of_all])} + {dynamic}"
            f" | {joined([usage.spills for usage in of_all])}"
            f" | {joined(blocks)} |")
    return "\n".join(lines)


def kernels_of(text):
    return re.findall(r"^\| (\w+) \| `([^`]+)`", text, re.MULTILINE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("reports")
    parser.add_argument("--write", metavar="PAGE")
    parser.add_argument("--check", metavar="PAGE")
    options = parser.parse_args()
    found = read_reports(options.reports)
    wrong = list(complaints(found))
    if options.check:
        written = set(kernels_of(MarkedPage(options.check, PROGRAM).between))
        for file, name in sorted(written ^ set(found)):
            wrong.append(f"{file}: {name} is only in the " +
                         ("page" if (file, name) in written else "build"))
    elif options.write:
        MarkedPage(options.write, PROGRAM).write(table(found))
    elif found:
        print(table(found))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
