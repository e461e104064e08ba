#!/usr/bin/env python3
"""Runs engine_bench and llama-bench alternately and prints their ratio.

Started by compare_llama.sh. The figure of a program is the median over the
rounds; llama.cpp's is that of its better setting of flash attention.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

# name: (engine_bench's work, llama-bench's flags, goal of the ratio, long)
WORKS = {
    "prefill 512": ("prefill:512", ["-p", "512", "-n", "0"], 3.0, False),
    "decode short": ("decode:0:128", ["-p", "0", "-n", "128"], 1.5, False),
    "prefill 4000": ("prefill:4000", ["-p", "4000", "-n", "0"], 3.0, True),
    "decode at 2000": ("decode:2000:64",
                       ["-p", "0", "-n", "64", "-d", "2000"], 1.5, True),
    "decode at 8000": ("decode:8000:32",
                       ["-p", "0", "-n", "32", "-d", "8000"], 1.5, True),
}
# Share of its decode rate that the engine keeps with one core taken.
BUSY_GOAL = 0.5


def run_engine(options, work):
    """Tokens per second of one repetition."""
    output = subprocess.run([
        options.engine_bench, "--model", options.model, "--threads",
        str(options.threads), "--repetitions", "1", work
    ], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output)["tokens_per_second"][0]


def run_llama(options, flags, flash_attention):
    """Tokens per second of one repetition, after llama-bench's own warm-up."""
    output = subprocess.run([
        options.llama_bench, "-m", options.model, "-t",
        str(options.threads), "-fa", flash_attention, "-r", "1", "-o", "json"
    ] + flags, check=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True).stdout
    return json.loads(output)[0]["avg_ts"]


def compare(options, name):
    """One line of the result: both programs in turn, `rounds` times."""
    work, flags, goal, _ = WORKS[name]
    ours = []
    peer = {"0": [], "1": []}
    for _ in range(options.rounds):
        ours.append(run_engine(options, work))
        for flash_attention, rates in peer.items():
            rates.append(run_llama(options, flags, flash_attention))
    medians = {fa: statistics.median(rates) for fa, rates in peer.items()}
    best = max(medians, key=medians.get)
    return {
        "work": name,
        "ours": round(statistics.median(ours), 2),
        "peer": round(medians[best], 2),
        "ratio": round(statistics.median(ours) / medians[best], 3),
        "goal": goal,
        "unit": "tokens/s",
        "peer_flash_attention": int(best),
        "ours_runs": [round(rate, 2) for rate in ours],
        "peer_runs": [round(rate, 2) for rate in peer[best]],
        "threads": options.threads,
    }


@contextlib.contextmanager
def busy_core():
    """A process that never rests, bound to the first core we may use."""
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen([
        sys.executable, "-c",
        f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    ])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare_busy(options):
    """Our decode rate beside a busy process against that on an idle machine;
    `peer` is ourselves, undisturbed."""
    work = WORKS["decode short"][0]
    idle = []
    busy = []
    for _ in range(options.rounds):
        idle.append(run_engine(options, work))
        with busy_core():
            busy.append(run_engine(options, work))
    return {
        "work": "decode short, one core busy",
        "ours": round(statistics.median(busy), 2),
        "peer": round(statistics.median(idle), 2),
        "ratio": round(statistics.median(busy) / statistics.median(idle), 3),
        "goal": BUSY_GOAL,
        "unit": "tokens/s",
        "peer_is": "ours on the idle machine",
        "ours_runs": [round(rate, 2) for rate in busy],
        "peer_runs": [round(rate, 2) for rate in idle],
        "threads": options.threads,
    }


def cpu_name():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def print_line(options, line):
    if options.json:
        print(json.dumps(line), flush=True)
        return
    print(f"{line['work']:28} {line['ours']:9.1f} {line['peer']:9.1f} "
          f"{line['ratio']:7.2f} {line['goal']:6.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine-bench", required=True)
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--busy-core", action="store_true")
    options = parser.parse_args()

    if not options.json:
        print(f"{cpu_name()}, {options.threads} threads, load "
              f"{os.getloadavg()[0]:.1f}, {options.rounds} rounds")
        print(f"{'tokens/s':28} {'ours':>9} {'peer':>9} {'ratio':>7} "
              f"{'goal':>6}")
    for name, (_, _, _, is_long) in WORKS.items():
        if options.long or not is_long:
            print_line(options, compare(options, name))
    if options.busy_core:
        print_line(options, compare_busy(options))


if __name__ == "__main__":
    main()
