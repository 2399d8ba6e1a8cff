"""What losses are made of, in sentences: what moves them, what they hide, what can be told from them alone."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import intervals, loss_curves, prediction, reading, tables
from gandyn.analysis.intervals import Interval


def answers(results: xr.Dataset) -> list[str]:
    """All of them: the answers that `experiments/anatomy.py` gives, of any results with value and coverage."""
    return [*what_moves_it(results), *what_it_predicts(results), *what_it_hides(results)]


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.0f} % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def _number(interval: Interval, digits: int = 2) -> str:
    bounds = "" if np.isnan(interval.low) else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{interval.value:.{digits}f}{bounds}"


def what_moves_it(results: xr.Dataset) -> list[str]:
    """The shares of the minibatch value's movement: over all runs with a best value, then a sentence a recipe."""
    shares = loss_curves.movement(results)
    seeds = results["seed"].values
    found = []
    known = np.isfinite(shares["lag"])
    if known.any():
        pooled = {name: intervals.mean_over_seeds(x[known], seeds[known]) for name, x in shares.items()}
        parts = ", ".join(f"{name} {_percent(pooled[name])}" for name in ("divergence", "lag", "noise"))
        found.append(
            f"What moves the loss? Of the variance of the minibatch value over a run's measurements, {parts} "
            f"(mean over the {int(known.sum())} runs with a known best value, interval over seeds)."
        )
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        means = {name: intervals.mean_interval(x[runs][np.isfinite(x[runs])]) for name, x in shares.items()}
        if np.isfinite(means["lag"].value):
            parts = ", ".join(f"{name} {_percent(means[name])}" for name in ("divergence", "lag", "noise"))
        elif np.isfinite(means["noise"].value):
            parts = f"V itself {_percent(means['known'])}, noise {_percent(means['noise'])} (no best value is known)"
        else:
            parts = "nothing can be said: no run has three measurements before it diverged"
        found.append(f"{recipe}: {parts}.")
    return found


def what_it_hides(results: xr.Dataset, tolerance: float = 0.05) -> list[str]:
    """How often a loss near its value at equilibrium goes with a missing mode: over all runs, then a recipe."""
    modes, jsd = reading.values(results, "modes"), reading.values(results, "jsd")
    missing = modes < reading.num_modes(results)[:, None]
    # From the second half on: at the start every mode is missing, whatever the loss.
    steps = np.asarray(results["step"].values)
    near = loss_curves.near_equilibrium(results, tolerance) & (steps >= steps.max() / 2) & np.isfinite(modes)
    any_near = near.any(axis=1)
    shares = np.full(len(near), np.nan)
    shares[any_near] = (near & missing)[any_near].sum(axis=1) / near[any_near].sum(axis=1)

    def sentence(runs: NDArray, interval: Interval) -> str:
        return (
            f"D's loss was within {tolerance} of its value at equilibrium at {int(near[runs].sum()):,} measurements of "
            f"{int(any_near[runs].sum())} runs in the second half; a mode was missing at {_percent(interval)} of them "
            f"(mean over runs), and JSD there was {np.median(jsd[runs][near[runs]]):.3f} nats at the median."
        )

    found = []
    if any_near.any():
        pooled = intervals.mean_over_seeds(shares[any_near], results["seed"].values[any_near])
        found.append(f"What does it hide? {sentence(np.arange(len(near)), pooled)}")
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        used = runs[any_near[runs]]
        text = sentence(used, intervals.mean_interval(shares[used])) if used.size else "D's loss was never so near."
        found.append(f"{recipe}: {text}")
    return found


def _told(found: prediction.Prediction) -> str:
    if np.isnan(found.auc.value):
        return f"cannot be asked ({found.note})"
    counts = f"{found.n_positive} against {found.n_negative}"
    return f"AUC {_number(found.auc)} ({'; '.join(filter(None, (counts, found.note)))})"


def what_it_predicts(results: xr.Dataset) -> list[str]:
    """How loss curves go with JSD, and whether they alone tell coverage and collapse on held-out seeds."""
    rows = [
        row
        for row in tables.correlations(results, metrics=("jsd",))
        if np.isfinite([row.within.interval.low, row.across.interval.low]).all()
    ]
    found = []
    if rows:
        clear = [row for row in rows if row.across.interval.low > 0 or row.across.interval.high < 0]
        best = max(rows, key=lambda row: abs(row.across.interval.value))
        wrong = sum(row.loss == "loss_disc" and row.within.interval.high < 0 for row in rows)
        found.append(
            f"Does it tell JSD? Of {len(rows)} pairs of a loss curve and a recipe, {len(clear)} have a rank "
            f"correlation with JSD across seeds whose interval excludes 0; the strongest is "
            f"{_number(best.across.interval)} ({best.loss}, {best.recipe}), which within a run is "
            f"{_number(best.within.interval)}. Within a run, D's loss falls as JSD rises in {wrong} recipes."
        )
    half = float(np.max(results["step"].values)) / 2
    enough = results.sizes["step"] >= 16  # a collapse is asked for from a quarter of them
    for recipe in reading.recipes(results):
        own = results.isel(run=reading.runs_of(results, recipe))
        collapse = _told(prediction.predict_collapse(own)) if enough else "not asked (fewer than 16 measurements)"
        found.append(
            f"{recipe}: whether all modes are covered at the end, told from the loss curves of the whole run: "
            f"{_told(prediction.predict_coverage(own))}; of its first half: "
            f"{_told(prediction.predict_coverage(own, up_to=half))}. A collapse before it happens: {collapse}."
        )
    return found
