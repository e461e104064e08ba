#!/usr/bin/env python3
"""Evaluates the ways to read the KV cache, over gRPC. Started by run.sh.

Every question is asked under every configuration, one after the other, so that
the prefix cache serves all but the first. Each answer is a line of
OUT/results.jsonl (results.py); what is there already is not asked again.
"""
import argparse
import contextlib
import fnmatch
import os
import signal
import sys

import tqdm

import client
import configurations
import evaluation
import results
import tasks


def numbers(kind):
    """Parses "1,2,3" into a list."""
    return lambda text: [kind(part) for part in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    server = parser.add_argument_group("server")
    server.add_argument("--server", help="HOST:PORT of one that runs; without "
                        "it, one is started")
    server.add_argument(
        "--daemon", help="the program that is started", default=os.path.join(
            client.ROOT, "build/release/bin/sentencekv-server"))
    server.add_argument("--model", help="GGUF file or folder")
    server.add_argument("--kv_host_memory", default="2GiB",
                        help="of the daemon that is started")
    server.add_argument("--daemon_flag", action="append", default=[],
                        help="another flag for it: --daemon_flag=--threads=2")
    server.add_argument("--timeout", type=float, default=1800,
                        help="seconds for one answer")

    what = parser.add_argument_group("what is asked")
    what.add_argument("--tasks", type=numbers(str), default=["*"],
                      help="patterns of suites (ruler, own, grid, turns, "
                      "question_first, perplexity) or SUITE/TASK")
    what.add_argument("--examples", type=int, default=5,
                      help="of each task and length but those of the grid and "
                      "of perplexity")
    what.add_argument("--ruler", metavar="DIR",
                      help="folder of RULER files; none: no suite ruler")
    what.add_argument("--seed", type=int, default=1)
    what.add_argument("--lengths", type=numbers(int),
                      default=[2048, 4096],
                      help="of own, turns and question_first, in tokens")
    what.add_argument("--grid_examples", type=int, default=2,
                      help="of each depth and length")
    what.add_argument("--grid_lengths", type=numbers(int),
                      default=[1024, 2048, 4096, 6144, 8192])
    what.add_argument("--grid_depths", type=numbers(float),
                      default=[i / 10 for i in range(11)])
    what.add_argument("--perplexity_examples", type=int, default=4,
                      help="texts, or windows of each --text")
    what.add_argument("--perplexity_length", type=int, default=8000)
    what.add_argument("--forced", type=int, default=512,
                      help="tokens whose loss is measured")
    what.add_argument("--text", action="append", default=[], metavar="FILE",
                      help="for perplexity, beside prose of our own")
    what.add_argument("--max_tokens", type=int, default=tasks.ANSWER_TOKENS)

    how = parser.add_argument_group("configurations")
    how.add_argument("--configs", type=numbers(str), default=["*"],
                     help="patterns of names, as full, recent, sentence-*, "
                     "*@512")
    how.add_argument("--budgets", type=numbers(int),
                     default=list(configurations.BUDGETS))
    how.add_argument("--add", action="append", default=[],
                     metavar="NAME:FIELD=VALUE,...",
                     help="another family: `sentence` with these fields")

    parser.add_argument("--out", help="folder of the results",
                        default=os.path.join(client.ROOT, "build/eval"))
    parser.add_argument("--list", action="store_true",
                        help="print questions and configurations, ask nothing")
    options = parser.parse_args()
    if options.forced % evaluation.LOSS_STRETCH:
        parser.error("--forced must be a multiple of "
                     f"{evaluation.LOSS_STRETCH}")
    if not options.server and not options.model and not options.list:
        parser.error("--model or --server is needed")
    return options


def all_questions(options):
    count, seed = options.examples, options.seed
    found = tasks.ruler(options.ruler, count) if options.ruler else []
    found += tasks.own(options.lengths, count, seed)
    found += tasks.turns(options.lengths, count, seed)
    found += tasks.question_first(options.lengths, count, seed)
    found += tasks.grid(options.grid_lengths, options.grid_depths,
                        options.grid_examples, seed)
    for path in [None] + options.text:
        found += tasks.perplexity(options.perplexity_length, options.forced,
                                  options.perplexity_examples, seed, path)
    chosen = {}
    for pattern in options.tasks:
        matching = [
            q for q in found if fnmatch.fnmatchcase(q.suite, pattern) or
            fnmatch.fnmatchcase(q.name, pattern)
        ]
        if not matching:
            raise ValueError(f"no task is called {pattern}")
        # One that several patterns match is asked once.
        chosen.update((id(q), q) for q in matching)
    return list(chosen.values())


def own_daemon(options):
    flags = ["--kv_host_memory", options.kv_host_memory] + options.daemon_flag
    return client.Daemon(options.daemon, options.model, flags,
                         os.path.join(options.out, "daemon.log"))


def evaluate(options, questions, chosen):
    """Asks all of it; returns what failed."""
    store = results.Results(os.path.join(options.out, "results.jsonl"))
    stubs = client.load_stubs(os.path.join(options.out, "stubs"))
    with contextlib.ExitStack() as cleanup:
        daemon = None
        if not options.server:
            daemon = own_daemon(options)
            cleanup.callback(daemon.stop)

        def connect():
            address = options.server or daemon.restart()
            return client.Client(address, stubs, options.timeout)

        # A line now and then where nobody watches it move.
        interval = 0.1 if sys.stderr.isatty() else 60
        bar = cleanup.enter_context(
            tqdm.tqdm(total=len(questions) * len(chosen), unit="answer",
                      smoothing=0.02, mininterval=interval,
                      maxinterval=interval))
        run = evaluation.Evaluation(connect, store, bar, options.max_tokens)
        cleanup.callback(run.close)
        run.run(questions, chosen)
        return run.failures


def interrupt(signal_number, frame):
    raise KeyboardInterrupt


def main():
    # Our daemon must not outlive us.
    signal.signal(signal.SIGTERM, interrupt)
    options = parse_arguments()
    try:
        questions = all_questions(options)
        chosen = configurations.select(
            configurations.all_configurations(options.budgets, options.add),
            options.configs)
    except (OSError, ValueError) as error:
        sys.exit(f"run.py: {error}")
    print(f"{len(questions)} questions, {len(chosen)} configurations")
    if options.list:
        names = sorted({f"{q.name} {q.length}" for q in questions})
        print("\n".join(names + [c.name for c in chosen]))
        return

    try:
        failures = evaluate(options, questions, chosen)
    except (evaluation.RefusedError, evaluation.LostError) as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit("run.py: interrupted; the same command goes on from here")
    if failures:
        sys.exit(f"run.py: {len(failures)} answers are missing:\n" +
                 "\n".join(failures))


if __name__ == "__main__":
    main()
