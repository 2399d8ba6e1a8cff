"""What the runs show, in sentences that are computed from the data."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from gandyn.analysis import intervals, loss_curves, reading, tables
from gandyn.report.facts import count

_BIAS = tables.Column("bias", "minibatch value minus value, mean over runs and measurements", 4)


def _tells(interval: intervals.Interval) -> str:
    if not np.isfinite(interval.low):
        return "too few runs for an interval"
    if interval.low <= 0 <= interval.high:
        return "the interval includes 0, so the loss does not tell the runs apart by coverage"
    return f"a {'higher' if interval.value > 0 else 'lower'} loss goes with more modes"


def headlines(results: xr.Dataset, rows: Sequence[tables.Row] | None = None) -> list[str]:
    """The findings in sentences, each computed from the data. ``rows`` saves computing `tables.table` again."""
    rows = tables.table(results) if rows is None else rows
    used = reading.last_step(results) >= 0
    n = int(used.sum())
    if n == 0:
        return ["No run was measured."]
    fails, total = reading.diverged(results), reading.num_modes(results)
    if "modes" not in results:
        found = [f"{int(fails.sum()):,} of {count(n, 'run')} diverged. Coverage was not measured."]
        return [*found, *_about_values(results, used)]
    full = reading.final(results, "modes") >= total
    share = tables.format_interval(intervals.share_interval(int(full[used].sum()), n), tables.COLUMNS["all_modes"])
    found = [
        f"{int(full[used].sum()):,} of {count(n, 'run')} ended with all modes covered: {share}. "
        f"{int(fails.sum()):,} diverged."
    ]
    by_modes = sorted(
        (row for row in rows if np.isfinite(row.entries["modes"].interval.value)),
        key=lambda row: row.entries["modes"].interval.value,
    )
    if len(by_modes) > 1:
        fewest, most = (
            f"{row.recipe} ({tables.format_interval(row.entries['modes'].interval, tables.COLUMNS['modes'])})"
            for row in (by_modes[0], by_modes[-1])
        )
        found.append(f"Most modes covered, as a mean over runs: {most}. Fewest: {fewest}.")
    equilibrium = results["equilibrium"].values[used]
    if (np.isfinite(equilibrium) & (equilibrium != 0)).any():
        converged = loss_curves.looks_converged(results)
        missing = int((converged & ~full).sum())
        found.append(
            f"The discriminator's loss of {count(int(converged.sum()), 'run')} ended within 5 % of its value at "
            f"equilibrium, as if training had converged; {missing:,} of these "
            f"{'misses' if missing == 1 else 'miss'} at least one mode."
        )
    return found + _about_values(results, used) + _about_correlations(rows)


def _about_correlations(rows: Sequence[tables.Row]) -> list[str]:
    """Whether D's final loss tells the modes covered: a sentence a recipe, or the strongest of many."""
    found = []
    across = [row for row in rows if np.isfinite(row.entries["across_disc"].interval.value)]
    if len(across) > 4:
        each = [row.entries["across_disc"].interval for row in across]
        decided = [interval for interval in each if interval.low > 0 or interval.high < 0]
        strongest = max(across, key=lambda row: abs(row.entries["across_disc"].interval.value))
        found.append(
            f"In {len(decided)} of {len(across)} recipes with a rank correlation, over runs, of the "
            "discriminator's final loss with the modes covered, its interval excludes 0. The strongest follows."
        )
        across = [strongest]
    for row in across:
        entry, within = row.entries["across_disc"], row.entries["within_disc"]
        text = tables.format_interval(entry.interval, tables.COLUMNS["across_disc"])
        sentence = (
            f"Across {count(entry.count, 'seed')} of {row.recipe}, the discriminator's final loss and the modes "
            f"covered have rank correlation {text}: {_tells(entry.interval)}."
        )
        if np.isfinite(within.interval.value):
            text = tables.format_interval(within.interval, tables.COLUMNS["within_disc"])
            sentence += f" Along the steps of one run it is {text} on average."
        found.append(sentence)
    return found


def _about_values(results: xr.Dataset, used: np.ndarray) -> list[str]:
    """What minibatch value and lag show, over the runs used (R,) bool; nothing of what was not measured."""
    found = []
    logistic = used & reading.logistic(results)
    seeds = results["seed"].values
    nothing = np.full(results["finite"].shape, np.nan)
    noise = loss_curves.sampling_noise(results) if {"value", "value_batch"} <= set(results) else nothing
    never_failed = logistic & np.isfinite(noise).all(axis=1)
    if never_failed.any():
        bias = intervals.mean_over_seeds(noise[never_failed].mean(axis=1), seeds[never_failed])
        found.append(
            "At the same parameters the minibatch value scatters around the value with a standard deviation of "
            f"{noise[never_failed].std():.3f} nats, and differs from it by {tables.format_interval(bias, _BIAS)} nats "
            f"on average ({count(int(never_failed.sum()), 'run')} with a logistic loss, every measurement): what the "
            "minibatch loss measures is the value, not its maximum over discriminators."
        )
    found += _about_accuracy(results, used)
    lag = reading.final(results, "lag") if "lag" in results else nothing[:, 0]
    lagging = logistic & np.isfinite(lag)
    if lagging.any():
        mean = tables.format_interval(intervals.mean_over_seeds(lag[lagging], seeds[lagging]), tables.COLUMNS["lag"])
        found.append(
            f"At the end the discriminator lagged behind its best response by {mean} nats, as a mean over "
            f"{count(int(lagging.sum()), 'run')} with a logistic loss. Losing one mode of eight costs 0.09 nats."
        )
    return found


_NEAR_HALF = 0.05
"""Accuracy of D this near to a half: as good as none."""


def _about_accuracy(results: xr.Dataset, used: np.ndarray) -> list[str]:
    """What a D at 50 % hides, at the ends of the runs used (R,) bool."""
    if not {"accuracy", "accuracy_best"} <= set(results):
        return []
    own, best = (reading.final(results, name) for name in ("accuracy", "accuracy_best"))
    known = used & np.isfinite(own) & np.isfinite(best)
    blind = known & (np.abs(own - 0.5) <= _NEAR_HALF)
    if not blind.any():
        return []
    seeds = results["seed"].values
    mean = intervals.mean_over_seeds(best[blind], seeds[blind], bounds=(0, 1))
    return [
        f"D told real from fake no better than chance, within {100 * _NEAR_HALF:g} points of 50 %, at the end of "
        f"{int(blind.sum()):,} of {count(int(known.sum()), 'run')}; the best D would have told "
        f"{tables.format_interval(mean, tables.COLUMNS['accuracy_best'])} there, on average."
    ]
