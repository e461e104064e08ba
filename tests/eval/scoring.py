"""Scores of answers, and how sure their means are."""
import random
import statistics


def string_match_all(prediction, outputs):
    """The share of `outputs` that the prediction contains, in any case of
    letters, times 100: RULER's metric."""
    text = prediction.lower()
    found = sum(output.lower() in text for output in outputs)
    return 100.0 * found / len(outputs)


def bootstrap_interval(values, resamples=1000, seed=1):
    """The 95 % interval of the mean of `values`: from means of samples drawn
    from them with replacement. For paired data, `values` are differences."""
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return (values[0], values[0])
    draw = random.Random(seed)
    means = sorted(
        statistics.fmean(draw.choices(values, k=len(values)))
        for _ in range(resamples))
    return (means[round(0.025 * (resamples - 1))],
            means[round(0.975 * (resamples - 1))])
