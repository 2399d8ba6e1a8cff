"""Reading a results dataset: its recipes, which runs failed, and its metrics with what a failed run counts as.

Shapes: R runs, S steps. A run that diverged stays in the statistics. What it counts as is an attribute of the metric,
``failed``; where there is none (its loss, its lag) the run has no value, an average is over the others, and says over
how many.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn import checks

_NAN = float("nan")


def recipes(results: xr.Dataset) -> list[str]:
    """The recipes of the dataset, in the order in which they first appear."""
    return list(dict.fromkeys(str(recipe) for recipe in results["recipe"].values))


def runs_of(results: xr.Dataset, recipe: str) -> NDArray:
    """Positions (not labels) along ``run`` of the runs of one recipe."""
    positions = np.flatnonzero([str(label) == recipe for label in results["recipe"].values])
    if positions.size == 0:
        known = recipes(results)
        near = checks.nearest(recipe, known) or f"; there are {', '.join(map(repr, known))}"
        raise ValueError(f"no recipe {recipe!r}{near}")
    return positions


def measured(results: xr.Dataset) -> NDArray:
    """Whether a run was measured at a step, (R, S) bool. Only an interrupted run has steps without a measurement."""
    return ~np.isnan(np.asarray(results["finite"].values, float))


def last_step(results: xr.Dataset) -> NDArray:
    """Position along ``step`` of each run's last measurement, (R,) int; -1 for a run that was never measured."""
    done = measured(results)
    return np.where(done.any(axis=1), done.shape[1] - 1 - done[:, ::-1].argmax(axis=1), -1)


def diverged(results: xr.Dataset) -> NDArray:
    """Whether a run's parameters were no longer finite at its last measurement, (R,) bool."""
    return (np.asarray(results["finite"].values, float) == 0).any(axis=1)


def num_modes(results: xr.Dataset) -> NDArray:
    """How many modes each run's target has, (R,) int; 0 for a target without modes."""
    if "target_weights" not in results:
        return np.zeros(results.sizes["run"], int)
    return np.isfinite(np.asarray(results["target_weights"].values, float)).sum(axis=1)


def failed_value(results: xr.Dataset, metric: str) -> float:
    """What a run counts as from its divergence on: the metric's attribute ``failed``; NaN where it has none.

    Raises:
      ValueError: for an attribute that is no number.
    """
    text = results[metric].attrs.get("failed", "nan")
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{metric}: attribute failed: got {text!r:.200}; allowed: the text of a number") from None


def values(results: xr.Dataset, metric: str) -> NDArray:
    """A metric as (R, S) float64 in which a run counts as `failed_value` from the step at which it diverged.

    NaN where nothing was measured, and from a divergence on where the metric has no such value.
    """
    if metric not in results:
        raise ValueError(
            f"no metric {metric!r:.200}{checks.nearest(metric, [str(name) for name in results.data_vars])}"
        )
    failed = np.asarray(results["finite"].values, float) == 0
    return np.where(failed, failed_value(results, metric), np.asarray(results[metric].values, float))


def final(results: xr.Dataset, metric: str) -> NDArray:
    """A metric at each run's last measurement, (R,) float64; NaN where undefined or never measured.

    A diverged run counts as the metric's `failed_value`: 0 modes, JSD = log 2, no loss.
    """
    last = last_step(results)
    at_last = np.take_along_axis(values(results, metric), np.maximum(last, 0)[:, None], axis=1)[:, 0]
    return np.where(last >= 0, at_last, _NAN)


class Verdict(NamedTuple):
    """What happened to a run, as it is recorded: texts from a folder, to be made printable.

    Attributes:
      run: its number.
      verdict: its name.
      step: when; NaN where at no step.
      reason: what the rule saw.
      fragile: what the verdict would be, were the run measured more rarely; "" where the same.
    """

    run: int
    verdict: str
    step: float
    reason: str
    fragile: str


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """One a run, in order; empty where the results have none."""
    if "verdict" not in results:
        return []

    def read(name: str, kind: Callable[[Any], Any], default: Any) -> list[Any]:
        return [kind(x) for x in results[name].values] if name in results else [default] * results.sizes["run"]

    columns = (
        read("run", int, 0),
        read("verdict", str, ""),
        read("verdict_step", float, _NAN),
        read("verdict_detail", str, ""),
        read("verdict_fragile", str, ""),
    )
    return [Verdict(*row) for row in zip(*columns, strict=True)]


def _flag(results: xr.Dataset, name: str) -> NDArray:
    if name not in results:
        raise ValueError(f"these results hold no {name}; gandyn.run records it (docs/results.md)")
    return np.asarray(results[name].values, float) == 1


def in_nats(results: xr.Dataset) -> NDArray:
    """Whether the value of each run's game, and so its lag, is in nats, (R,) bool: recorded by its loss."""
    return _flag(results, "in_nats")


def logistic(results: xr.Dataset) -> NDArray:
    """Whether each run's loss is of the logistic kind, all of which are on one scale, (R,) bool: recorded by it."""
    return _flag(results, "logistic")
