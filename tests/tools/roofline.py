#!/usr/bin/env python3
"""A roofline of decode steps of Llama-3.1-8B's shape on an H100, from what the
launches do to memory on the simulated device (tests/bench/traffic_count.cc).

    roofline.py PROGRAM                  prints the tables
    roofline.py PROGRAM --write PAGE     puts them into docs/performance.md
    roofline.py PROGRAM --check PAGE     compares 4K tokens, for the tests

PROGRAM is traffic_count. Nothing here was measured on a GPU: every time is what
bytes, launches and additions cost at the rates of roofline_model.py.
"""
import argparse
import math
import subprocess
import sys

from marked_page import MarkedPage
from roofline_model import (Counts, LAYERS, PARTS, SECONDS_IN_GRAPH,
                            SECONDS_PER_LAUNCH, Step)

CONTEXTS = {"4K": 4096, "32K": 32768, "128K": 131072}
SENTENCE = [policy for policy in PARTS if policy != "full"]

# Milliseconds a token and GB at the peak, at 32K and 128K tokens.
PUBLISHED = {
    "full, Transformers with FlashAttention (SentenceKV, tables 4 and 5)":
        (20.2, 47.9, 24.5, 52.4),
    "SnapKV (the same)": (16.5, 16.5, 19.8, 33.9),
    "SentenceKV (the same), without its transfers": (17.8, 17.8, 19.8, 33.9),
    "full, vLLM 0.19 (its fit)": (7.9, 12.2, None, None),
}

PROGRAM = "roofline.py"

def table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"
    yield ""


def ms(seconds):
    return f"{1e3 * seconds:.2f}"


def steps_table(counts, contexts):
    """Rows by context and policy, for one sequence and for eight."""
    def rows():
        for label, tokens in contexts.items():
            for policy in PARTS:
                for number in (1, 8):
                    if number == 8 and (policy == "full" or label != "128K"):
                        continue
                    step = Step(counts, policy, tokens, number)
                    yield (
                        label, policy, number,
                        f"{step.traffic.hbm / 1e9:.2f}",
                        f"{(step.traffic.hbm - step.product_bytes) / 1e6:,.0f}",
                        f"{step.traffic.launches:.0f} + "
                        f"{step.traffic.copies:.0f}",
                        f"{step.traffic.to_device / 1e6:.1f}",
                        ms(step.seconds(SECONDS_IN_GRAPH)),
                        ms(step.seconds(SECONDS_IN_GRAPH, True)),
                        ms(step.seconds(SECONDS_PER_LAUNCH)))
    return table(
        ("tokens", "policy", "sequences", "GB of device memory",
         "MB of them beside products", "launches + copies", "MB to the device",
         "ms, one graph", "ms, and link hidden", "ms, no graph"), rows())


def kernels_table(counts, contexts):
    """Rows by kernel, of one layer; columns by context."""
    def rows():
        for part in ("dense", "full", "mean", "sign", "chosen"):
            of_contexts = [counts.of_part(part, tokens, 1, "layer")
                           for tokens in contexts.values()]
            for name, traffic in of_contexts[0].items():
                yield (f"`{name}`", part,
                       f"{traffic.launches + traffic.copies:.2g}",
                       *(f"{kernels[name].hbm / 1e3:,.1f}"
                         for kernels in of_contexts))
    return table(("kernel", "part", "launches", *contexts), rows())


def choices_table(counts, contexts):
    def rows():
        for label, tokens in contexts.items():
            c = counts.choices(tokens)
            pages = c["hits"] + c["misses"]
            gathered = c["bytes"] * LAYERS / (c["choices"] / 8)
            as_pages = (c["misses"] * c["run_bytes"] * LAYERS /
                        (c["choices"] / 8))
            yield (label, c["sentences_of_text"],
                   f"{c['sentences'] / c['choices']:.1f}",
                   f"{c['attended'] / c['choices']:.0f}",
                   f"{pages / c['choices']:.1f}", c["slots"],
                   f"{100 * c['hits'] / pages:.1f} %",
                   f"{gathered / 1e6:.1f}", f"{as_pages / 1e6:.1f}")
    return table(
        ("tokens", "sentences", "chosen", "tokens attended to",
         "pages in slots", "slots", "hits", "MB gathered",
         "MB as whole pages"), rows())


def memory_table(counts, contexts):
    kinds = ("index", "prior", "slots", "whole_pages", "tables", "lists")
    def rows():
        for label, tokens in contexts.items():
            for policy in PARTS:
                memory = counts.memory(policy, tokens)
                yield (label, policy,
                       *(f"{memory[kind] / 2**20:.1f}" for kind in kinds),
                       f"{sum(memory.values()) / 2**20:.0f}")
    return table(("tokens", "policy", "index", "prior", "slots", "whole pages",
                  "tables", "lists", "MiB in all"), rows())


def targets_table(counts):
    short, long = CONTEXTS["4K"], CONTEXTS["128K"]

    def row(what, policy, value, limit, unit=""):
        verdict = "met" if value <= limit else "**not met**"
        return (what, policy, f"{value:.4g}{unit}", f"{limit}{unit}", verdict)

    def rows():
        choices = counts.choices(long)
        hits = choices["hits"] / (choices["hits"] + choices["misses"])
        exact = Step(counts, "full", long)
        for policy in SENTENCE:
            step = Step(counts, policy, long)
            before = Step(counts, policy, short)
            yield row("bytes of a step at 128K over those at 4K", policy,
                      step.traffic.hbm / before.traffic.hbm, 1.15)
            yield row("ms of the same, one graph (predicted)", policy,
                      step.seconds(SECONDS_IN_GRAPH) /
                      before.seconds(SECONDS_IN_GRAPH), 1.15)
            yield row("ms of a step of 8 sequences of 128K (predicted)", policy,
                      1e3 * Step(counts, policy, long, 8).seconds(
                          SECONDS_IN_GRAPH), 10, " ms")
            limit = 1024 if policy.endswith("mean") else 1536
            yield row("device memory of a 128K sequence", policy,
                      sum(counts.memory(policy, long).values()) / 2**20, limit,
                      " MiB")
            # That of a step that ends a sentence, and makes its entry.
            yield row("launches a layer beyond the dense model", policy,
                      math.ceil(step.layer_launches) - exact.layer_launches, 4)
            yield row(f"MB to the device a step at {100 * hits:.0f} % hits",
                      policy, step.traffic.to_device / 1e6, 30, " MB")
    return table(("target", "policy", "counted", "at most", ""), rows())


def published_table(counts):
    def rows():
        for policy in PARTS:
            steps = [Step(counts, policy, CONTEXTS[label])
                     for label in ("32K", "128K")]
            memory = [(sum(counts.memory(policy, CONTEXTS[label]).values()) +
                       counts.weights()) / 1e9 for label in ("32K", "128K")]
            yield (f"{policy}: predicted, one graph",
                   *(ms(step.seconds(SECONDS_IN_GRAPH)) for step in steps),
                   *(f"{gigabytes:.1f}" for gigabytes in memory))
        for name, numbers in PUBLISHED.items():
            yield (f"{name}: published",
                   *("" if number is None else number for number in numbers))
    return table(("one sequence", "ms at 32K", "ms at 128K", "GB at 32K",
                  "GB at 128K"), rows())


def text(counts, contexts):
    """The tables; those that need all contexts only where all are there."""
    lines = ["Steps (predicted):", "", *steps_table(counts, contexts)]
    if contexts == CONTEXTS:
        lines += ["Targets (counted, not measured):", "",
                  *targets_table(counts)]
        lines += ["Beside published figures:", "", *published_table(counts)]
    lines += ["What was chosen, in a layer and KV head; MB of a step:", "",
              *choices_table(counts, contexts)]
    lines += ["Device memory of a sequence, MiB:", "",
              *memory_table(counts, contexts)]
    lines += ["KB of device memory that one layer reads and writes:", "",
              *kernels_table(counts, contexts)]
    return "\n".join(lines)


def complaints(page, counted, contexts):
    """Rows of `page` that do not begin as those that were counted. A row is of
    the contexts in its first cell, or begins with a kernel and has a column for
    each."""
    keys = tuple(f"| {label} |" for label in contexts) + ("| `",)

    def rows(of):
        return [line.removesuffix(" |") for line in of.splitlines()
                if line.startswith(keys)]

    def begins(row, start):
        return row == start or row.startswith(start + " |")

    written, fresh = rows(page), rows(counted)
    for row in fresh:
        if not any(begins(other, row) for other in written):
            yield f"the page lacks: {row}"
    for row in written:
        if not any(begins(row, other) for other in fresh):
            yield f"was not counted: {row}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--write", metavar="PAGE")
    parser.add_argument("--check", metavar="PAGE")
    options = parser.parse_args()
    contexts = CONTEXTS
    if options.check:
        contexts = {"4K": CONTEXTS["4K"]}
    printed = subprocess.run(
        [options.program, *map(str, contexts.values())], check=True, text=True,
        stdout=subprocess.PIPE).stdout
    counted = text(Counts(printed.splitlines()), contexts)
    wrong = []
    if options.check:
        page = MarkedPage(options.check, PROGRAM)
        wrong = list(complaints(page.between, counted, contexts))
    elif options.write:
        MarkedPage(options.write, PROGRAM).write(counted)
    else:
        print(counted)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"if launches were meant to change: {sys.argv[0]} "
              f"{options.program} --write {options.check}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
