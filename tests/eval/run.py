#!/usr/bin/env python3
"""Evaluates the ways to read the KV cache, over gRPC. Started by run.sh.

Every question is asked under every configuration, one after the other, so that
the prefix cache serves all but the first. Each answer is a line of
OUT/results.jsonl (results.py); what is there already is not asked again.
"""
import argparse
import datetime
import fnmatch
import os
import statistics
import sys

import tqdm

import client
import configurations
import results
import scoring
import tasks

# A question that ends the daemon so often is left out.
ATTEMPTS = 2
# Tokens whose mean loss is one number of a result.
LOSS_STRETCH = 64


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
                        help="another flag for it, as --daemon_flag=--threads=2")
    server.add_argument("--timeout", type=float, default=1800,
                        help="seconds for one answer")

    what = parser.add_argument_group("what is asked")
    what.add_argument("--tasks", type=numbers(str), default=["*"],
                      help="patterns of suites (ruler, own, grid, turns, "
                      "question_first, perplexity) or SUITE/TASK")
    what.add_argument("--examples", type=int, default=5,
                      help="of each task and length")
    what.add_argument("--ruler", metavar="DIR",
                      help="folder of RULER files; none: no suite ruler")
    what.add_argument("--seed", type=int, default=1)
    what.add_argument("--lengths", type=numbers(int), default=[4096],
                      help="of own, turns and question_first, in tokens")
    what.add_argument("--grid_lengths", type=numbers(int),
                      default=[1024, 2048, 4096, 6144, 8192])
    what.add_argument("--grid_depths", type=numbers(float),
                      default=[i / 10 for i in range(11)])
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
    if options.forced % LOSS_STRETCH:
        parser.error(f"--forced must be a multiple of {LOSS_STRETCH}")
    if not options.server and not options.model and not options.list:
        parser.error("--model or --server is needed")
    return options


def all_questions(options):
    count, seed = options.examples, options.seed
    found = tasks.ruler(options.ruler, count) if options.ruler else []
    found += tasks.own(options.lengths, count, seed)
    found += tasks.turns(options.lengths, count, seed)
    found += tasks.question_first(options.lengths, count, seed)
    found += tasks.grid(options.grid_lengths, options.grid_depths, count, seed)
    for path in [None] + options.text:
        found += tasks.perplexity(options.perplexity_length, options.forced,
                                  count, seed, path)
    return [
        q for q in found if any(
            fnmatch.fnmatchcase(name, pattern)
            for pattern in options.tasks
            for name in (q.suite, q.name))
    ]


class Evaluation:
    """Asks what is not known yet, and keeps the answers."""

    def __init__(self, options, daemon, stubs, store):
        self._options = options
        self._daemon = daemon
        self._stubs = stubs
        self._store = store
        self._client = None
        self._scores = {}  # of this run, by configuration
        self.failures = []

    def connect(self):
        address = self._options.server
        if self._daemon is not None:
            if self._client is not None:
                self._client.close()
            self._daemon.stop()
            address = self._daemon.start()
        self._client = client.Client(address, self._stubs,
                                     self._options.timeout)

    def close(self):
        if self._client is not None:
            self._client.close()

    def run(self, questions, chosen):
        self._client.check_fields(chosen)
        with tqdm.tqdm(total=len(questions) * len(chosen), unit="answer",
                       smoothing=0.02) as bar:
            for question in questions:
                self._ask(question, chosen, bar)

    def _ask(self, question, chosen, bar):
        """One question under all configurations."""
        missing = [
            c for c in chosen if self._store.get(self._key(question, c)) is None
        ]
        bar.update(len(chosen) - len(missing))
        if not missing:
            return
        bar.set_description(f"{question.name} {question.length} "
                            f"#{question.index}")
        try:
            row = question.write(self._client)
        except (ValueError, client.RefusedError, client.LostError) as error:
            self._fail(bar, f"{question.name} #{question.index}: {error}")
            if isinstance(error, client.LostError):
                self.connect()
            bar.update(len(missing))
            return
        for configuration in missing:
            self._ask_under(question, row, configuration, bar)
            bar.update(1)

    def _ask_under(self, question, row, configuration, bar):
        what = f"{question.name} #{question.index} {configuration.name}"
        for _ in range(ATTEMPTS):
            try:
                answer = self._answer(row, configuration)
            except client.RefusedError as error:
                self._fail(bar, f"{what}: {error}")
                return
            except client.LostError as error:
                bar.write(f"{what}: {error}; connecting again")
                self.connect()
                continue
            line = dict(self._key(question, configuration), **answer)
            if "depth" in row:
                line["depth"] = row["depth"]
            line.update(
                configuration=configuration.name,
                family=configuration.family,
                budget=configuration.budget,
                server=self._client.model.server_version,
                time=datetime.datetime.now(
                    datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
            self._store.add(line)
            self._show(configuration, line, bar)
            return
        self._fail(bar, f"{what}: no answer in {ATTEMPTS} attempts")

    def _answer(self, row, configuration):
        if "forced" in row:
            answer = self._client.loss(row, configuration.fields)
            losses = answer["losses"]
            answer["score"] = round(statistics.fmean(losses), 5)
            answer["losses"] = [
                round(statistics.fmean(losses[i:i + LOSS_STRETCH]), 5)
                for i in range(0, len(losses), LOSS_STRETCH)
            ]
            return answer
        answer = self._client.answer(row, configuration.fields,
                                     self._options.max_tokens)
        del answer["losses"]
        answer["outputs"] = row["outputs"]
        answer["score"] = scoring.string_match_all(answer["prediction"],
                                                   row["outputs"])
        return answer

    def _key(self, question, configuration):
        return dict(question.key(), model=self._client.model.name,
                    kv=configuration.fields)

    def _show(self, configuration, line, bar):
        if "losses" in line:
            return
        scores = self._scores.setdefault(configuration.name, [])
        scores.append(line["score"])
        bar.set_postfix_str(
            f"{configuration.name} {statistics.fmean(scores):.1f}")

    def _fail(self, bar, text):
        self.failures.append(text)
        bar.write(f"failed: {text}", file=sys.stderr)


def main():
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

    store = results.Results(os.path.join(options.out, "results.jsonl"))
    stubs = client.load_stubs(os.path.join(options.out, "stubs"))
    daemon = None
    if not options.server:
        flags = ["--kv_host_memory", options.kv_host_memory
                ] + options.daemon_flag
        daemon = client.Daemon(options.daemon, options.model, flags,
                               os.path.join(options.out, "daemon.log"))
    evaluation = Evaluation(options, daemon, stubs, store)
    try:
        evaluation.connect()
        evaluation.run(questions, chosen)
    except (client.RefusedError, client.LostError) as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit("run.py: interrupted; the same command goes on from here")
    finally:
        evaluation.close()
        if daemon is not None:
            daemon.stop()
    if evaluation.failures:
        sys.exit(f"run.py: {len(evaluation.failures)} answers are missing")


if __name__ == "__main__":
    main()
