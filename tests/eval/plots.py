"""Plots of an evaluation, as small PNG files."""
import io
import os
import statistics

import matplotlib

matplotlib.use("Agg")
# pylint: disable=wrong-import-position
import matplotlib.pyplot as plt
import PIL.Image

# Pixels an inch, and colours: a plot has 10 to 40 KB.
RESOLUTION = 90
COLOURS = 128


def _save(folder, name):
    drawn = io.BytesIO()
    plt.savefig(drawn, dpi=RESOLUTION)
    plt.close()
    image = PIL.Image.open(drawn).convert("RGB").quantize(COLOURS)
    image.save(os.path.join(folder, name), optimize=True)
    return name


def over_budget(folder, suite, groups):
    """A line for each family, a level for `full`."""
    _, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    families = {}
    for group in groups.values():
        first = group.lines[0]
        families.setdefault(first["family"], []).append(
            (first["budget"], group.mean))
    colours = plt.get_cmap("tab20").colors
    for i, (family, points) in enumerate(families.items()):
        if family == "full":
            axes.axhline(points[0][1], color="black", linestyle="--",
                         label="full")
            continue
        budgets, means = zip(*sorted(points))
        axes.plot(budgets, means, marker="o", markersize=4,
                  color=colours[i % len(colours)], label=family)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({b for points in families.values()
                            for b, _ in points if b}))
    axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel("budget, tokens")
    axes.set_ylabel("loss, nats a token" if suite == "perplexity" else "score")
    axes.set_title(suite.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(folder, f"{suite}_over_budget.png")


def _cells(lines, configuration, row, column):
    """{(row, column): mean score} of a configuration."""
    found = {}
    for line in lines:
        if line["configuration"] == configuration:
            found.setdefault((line[row], line[column]),
                             []).append(line["score"])
    return {cell: statistics.fmean(scores) for cell, scores in found.items()}


def heat_maps(folder, lines, shown):
    """Score over length (across) and depth (down), one map a configuration."""
    shown = [name for name in shown
             if any(line["configuration"] == name for line in lines)]
    lengths = sorted({line["length"] for line in lines})
    depths = sorted({line["depth"] for line in lines})
    _, all_axes = plt.subplots(1, max(1, len(shown)), squeeze=False,
                               sharey=True, layout="constrained",
                               figsize=(1 + 2.3 * max(1, len(shown)), 3.6))
    for axes, name in zip(all_axes[0], shown):
        cells = _cells(lines, name, "depth", "length")
        image = axes.imshow(
            [[cells.get((depth, length), float("nan")) for length in lengths]
             for depth in depths], vmin=0, vmax=100, cmap="RdYlGn",
            aspect="auto")
        axes.set_xticks(range(len(lengths)),
                        [f"{length / 1024:g}K" for length in lengths],
                        fontsize=8)
        axes.set_yticks(range(len(depths)),
                        [f"{100 * depth:g} %" for depth in depths], fontsize=8)
        axes.set_title(name, fontsize=8)
    if shown:
        all_axes[0][0].set_ylabel("depth of the needle")
        plt.colorbar(image, ax=list(all_axes[0]), shrink=0.8)
    return _save(folder, "grid_heat_maps.png")


def task_bars(folder, suite, lines, shown):
    """A group of bars for each task, a bar for each configuration."""
    shown = [name for name in shown
             if any(line["configuration"] == name for line in lines)]
    names = sorted({line["task"] for line in lines})
    _, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / max(1, len(shown))
    for i, name in enumerate(shown):
        cells = _cells(lines, name, "suite", "task")
        axes.bar([x + i * width for x in range(len(names))],
                 [cells.get((suite, task), float("nan")) for task in names],
                 width=width, label=name)
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(names))],
                    [task.replace("_", "\n") for task in names], fontsize=8)
    axes.set_ylabel("score, " + suite.replace("_", " "))
    axes.grid(axis="y", alpha=0.3)
    if shown:
        axes.legend(fontsize=8, loc="lower center", ncols=len(shown),
                    bbox_to_anchor=(0.5, 1.0), frameon=False)
    return _save(folder, f"{suite}_tasks.png")
