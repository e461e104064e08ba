#!/usr/bin/env python3
"""Tables and plots of an evaluation: docs/quality.md and docs/quality/.

Reads the lines that run.py wrote. In docs/quality.md it replaces what is
between <!-- report: NAME --> and <!-- end of report: NAME -->; sections without
results keep what they have, and so does all other text.
"""
import argparse
import csv
import functools
import os
import re
import statistics
import sys

import results
import scoring

ROOT = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Sections with a score of 0 to 100, in the order of the document.
SCORED = ("ruler", "own", "turns", "question_first", "grid")
SUITES = SCORED + ("perplexity",)
SECTIONS = ("summary",) + SUITES


class Group:
    """All answers of one configuration to one suite, or a part of it."""

    def __init__(self, lines, full):
        self.lines = lines
        self.mean = statistics.fmean(self._values(lines))
        # Compared are questions that `full` has answered too.
        pairs = [(line, full[question_of(line)])
                 for line in lines
                 if question_of(line) in full]
        differences = [
            value - base for line, reference in pairs for value, base in zip(
                self._values([line]), self._values([reference]))
        ]
        self.compared = len(pairs)
        # Those that `full` answers completely, and of them those answered so.
        right = [line for line, reference in pairs if is_right(reference)]
        self.right = len(right)
        self.kept = sum(is_right(line) for line in right)
        self.difference = statistics.fmean(
            differences) if differences else None
        self._differences = differences

    @functools.cached_property
    def interval(self):
        """Of the mean difference, 95 %."""
        return scoring.bootstrap_interval(self._differences)

    @property
    def attended(self):
        """Mean tokens that one step of an answer reads."""
        return statistics.fmean(attended_tokens(line) for line in self.lines)

    @property
    def seconds(self):
        return statistics.median(line["seconds"] for line in self.lines)

    @staticmethod
    def _values(lines):
        return [
            value for line in lines
            for value in line.get("losses", [line["score"]])
        ]


def is_right(line):
    return "losses" not in line and line["score"] == 100


def attended_tokens(line):
    if line["family"] == "full":
        return line["prompt_tokens"] + line["generated_tokens"] / 2
    return line["tokens_attended_per_step"]


def question_of(line):
    return tuple(line[field] for field in ("model", "suite", "task", "length",
                                           "index", "source"))


def order_of(line):
    """`full` first; then what is to be compared, the families of a budget."""
    return (line["budget"], line["family"])


def groups_of(lines):
    """{configuration name: Group}, in the order of tables."""
    full = {
        question_of(line): line for line in lines if line["family"] == "full"
    }
    by_name = {}
    for line in sorted(lines, key=order_of):
        by_name.setdefault(line["configuration"], []).append(line)
    return {name: Group(found, full) for name, found in by_name.items()}


# --- Markdown ---------------------------------------------------------------


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def signed(value, digits):
    return "-" if value is None else f"{value:+.{digits}f}"


def interval_text(interval, digits):
    if interval is None:
        return "-"
    if interval[0] == interval[1]:
        # Nothing to resample: it says little with few questions.
        return "all alike"
    return f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"


def score_table(groups):
    """One row a configuration: mean score, and the difference to `full`."""
    rows = []
    for name, group in groups.items():
        rows.append([name, f"{group.mean:.1f}"] + comparison(group, 1) + [
            f"{group.kept} of {group.right}",
            str(len(group.lines)), attended_text(group),
            f"{group.seconds:.2f}"
        ])
    return table([
        "configuration", "score", "difference to full", "95 % interval",
        "kept of full's right answers", "questions", "tokens read a step",
        "median s"
    ], rows)


def loss_table(groups):
    rows = []
    for name, group in groups.items():
        rows.append([name, f"{group.mean:.3f}"] + comparison(group, 3) + [
            str(len(group.lines)), attended_text(group),
            f"{group.seconds:.2f}"
        ])
    return table([
        "configuration", "loss, nats a token", "difference to full",
        "95 % interval", "texts", "tokens read a step", "median s"
    ], rows)


def attended_text(group):
    """Servers that do not count it say 0."""
    return f"{group.attended:,.0f}" if group.attended else "-"


def comparison(group, digits):
    """Two cells: the difference to `full` and its interval."""
    if group.lines[0]["family"] == "full":
        return ["", ""]
    return [
        signed(group.difference, digits),
        interval_text(group.interval, digits)
    ]


def overview_table(lines):
    """The difference to `full` in every suite, one row a configuration."""
    suites = [
        suite for suite in SUITES
        if any(line["suite"] == suite for line in lines)
    ]
    groups = {
        suite: groups_of([line for line in lines if line["suite"] == suite])
        for suite in suites
    }
    names = list(groups_of(lines))
    rows = [[name] + [
        overview_cell(groups[suite].get(name), suite) for suite in suites
    ] for name in names]
    return table(["configuration"] + [
        "perplexity (loss)" if suite == "perplexity" else suite.replace(
            "_", " ") for suite in suites
    ], rows)


def overview_cell(group, suite):
    digits = 3 if suite == "perplexity" else 1
    if group is None:
        return "-"
    if group.lines[0]["family"] == "full":
        return f"{group.mean:.{digits}f} ({len(group.lines)})"
    return f"{signed(group.difference, digits)} ({group.compared})"


def task_table(lines):
    """Mean score of every task under every configuration."""
    tasks = sorted({line["task"] for line in lines})
    cells = {}
    for line in sorted(lines, key=order_of):
        cells.setdefault(line["configuration"], {}).setdefault(
            line["task"], []).append(line["score"])
    rows = [[name] + [
        f"{statistics.fmean(found[task]):.1f} ({len(found[task])})"
        if task in found else "-" for task in tasks
    ] for name, found in cells.items()]
    return table(["configuration"] + [t.replace("_", " ") for t in tasks],
                 rows)


def origin(lines):
    """Which model, how many questions, when."""
    models = sorted({line["model"] for line in lines})
    days = sorted({line["time"][:10] for line in lines})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    questions = {question_of(line) for line in lines}
    lengths = sorted({line["length"] for line in lines})
    return (f"{', '.join(models)}; {len(questions)} questions of "
            f"{', '.join(f'{n:,}' for n in lengths)} tokens; {span}.\n")


def section(suite, lines, images):
    groups = groups_of(lines)
    if suite == "perplexity":
        parts = [origin(lines), loss_table(groups)]
    else:
        parts = [origin(lines), score_table(groups)]
        if suite != "grid":
            parts.append("Score of each task (questions):\n")
            parts.append(task_table(lines))
    parts += [f"![{title}](quality/{file})\n" for title, file in images]
    return "\n".join(parts)


def replace_section(document, name, content):
    """The document with `content` between the markers of `name`."""
    pattern = re.compile(
        rf"(<!-- report: {name} -->\n).*?(<!-- end of report: {name} -->)",
        re.DOTALL)
    replaced, count = pattern.subn(
        lambda match: match[1] + content + match[2], document)
    if count != 1:
        raise ValueError(f"{count} places are marked <!-- report: {name} -->")
    return replaced


# --- CSV --------------------------------------------------------------------

COLUMNS = ("model", "suite", "task", "length", "configuration", "family",
           "budget", "questions", "right_of_full", "kept", "mean",
           "difference", "low", "high", "tokens_read", "median_seconds")


def csv_rows(lines):
    """One row for each task, length and configuration, and one for each suite
    and configuration as a whole (task and length empty)."""
    for model in sorted({line["model"] for line in lines}):
        for suite in SUITES:
            of_suite = [
                line for line in lines
                if line["suite"] == suite and line["model"] == model
            ]
            parts = sorted({(line["task"], line["length"])
                            for line in of_suite})
            yield from _csv_part(model, suite, "", "", of_suite)
            for task, length in parts:
                yield from _csv_part(model, suite, task, length, [
                    line for line in of_suite
                    if (line["task"], line["length"]) == (task, length)
                ])


def _csv_part(model, suite, task, length, lines):
    for name, group in groups_of(lines).items():
        low, high = group.interval or (None, None)
        yield [model, suite, task, length, name, group.lines[0]["family"],
               group.lines[0]["budget"],
               len(group.lines), group.right, group.kept] + [
                   "" if value is None else f"{value:.5g}"
                   for value in (group.mean, group.difference, low, high,
                                 group.attended, group.seconds)
               ]


def write_csv(path, lines):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(csv_rows(lines))


# --- All --------------------------------------------------------------------


def draw(folder, suite, lines, shown):
    """Plots of a suite: a list of (title, file name)."""
    # Not at the top: only plots need matplotlib.
    import plots  # pylint: disable=import-outside-toplevel
    images = [(f"{suite}: mean over budget",
               plots.over_budget(folder, suite, groups_of(lines)))]
    if suite == "grid":
        images.append(("grid: score over length and depth",
                       plots.heat_maps(folder, lines, shown)))
    elif suite != "perplexity":
        images.append((f"{suite}: score of each task",
                       plots.task_bars(folder, suite, lines, shown)))
    return images


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--results", nargs="+", metavar="FILE", default=[
        os.path.join(ROOT, "build/eval/results.jsonl")])
    parser.add_argument("--docs", default=os.path.join(ROOT, "docs"))
    parser.add_argument(
        "--shown", metavar="NAMES", help="configurations of bars and heat maps",
        default="full,sentence-mean-heads@512,paper-r2@512,recent@512")
    parser.add_argument("--no_plots", action="store_true")
    options = parser.parse_args()

    lines = [line for path in options.results for line in results.read(path)]
    if not lines:
        sys.exit("report.py: no results in " + ", ".join(options.results))
    folder = os.path.join(options.docs, "quality")
    os.makedirs(folder, exist_ok=True)
    page = os.path.join(options.docs, "quality.md")
    with open(page, encoding="utf-8") as file:
        document = file.read()
    document = replace_section(document, "summary", overview_table(lines))
    for suite in SUITES:
        of_suite = [line for line in lines if line["suite"] == suite]
        if not of_suite:
            continue
        images = []
        if not options.no_plots:
            images = draw(folder, suite, of_suite, options.shown.split(","))
        document = replace_section(document, suite,
                                   section(suite, of_suite, images))
    with open(page, "w", encoding="utf-8") as file:
        file.write(document)
    write_csv(os.path.join(folder, "scores.csv"), lines)
    print(f"{len(lines)} results in {page} and {folder}")


if __name__ == "__main__":
    main()
