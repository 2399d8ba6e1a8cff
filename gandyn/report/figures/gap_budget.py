"""A loss near equilibrium is the sum of two large terms."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gandyn.analysis import intervals, loss_curves, reading
from gandyn.report.figures.style import (
    COLORS,
    GAIN,
    T7,
    Figure,
    count,
    draw_line,
    draws,
    need,
    plain,
    robust_limits,
    run_label,
    runs_by_name,
    set_title,
    unit,
    until_failure,
    whole_ticks,
)


def _mean(x: NDArray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = x[np.isfinite(x)]
    return float(defined.mean()) if defined.size else math.nan


def _signed(x: float) -> str:
    # A true minus sign, as on the axes.
    return f"{x:+.3f}".replace("-", "−")


def _budget(ax: Axes, results: xr.Dataset, runs: NDArray) -> list[str]:
    """Draws the budget of these runs; what lies beyond the axis, and how it ends, in words."""
    step = np.asarray(results["step"].values)
    equilibrium = np.asarray(results["equilibrium"].values, float)[runs, None]
    value, best = (until_failure(results, m)[runs] - equilibrium for m in ("value", "value_best"))
    noise = loss_curves.sampling_noise(results)[runs]
    # One run has one draw a measurement: its spread is over its measurements.
    square = intervals.band(noise**2).mean if runs.size > 1 else np.full(step.size, _mean(noise**2))
    spread = np.sqrt(square)
    left, divergence = intervals.band(value).mean, intervals.band(best).mean
    lag = divergence - left
    both = np.isfinite(divergence) & np.isfinite(left)
    for edge, color in ((divergence, COLORS["value_best"]), (-lag, COLORS["lag"])):
        ax.fill_between(step[both], 0, edge[both], color=color, alpha=0.3, linewidth=0)
        draw_line(ax, step, np.where(both, edge, np.nan), color, linewidth=0.9, marker="" if both.sum() > 1 else "_")
    draw_line(ax, step, left, COLORS["value"])
    known = np.isfinite(left) & np.isfinite(spread)
    band = (left - spread)[known], (left + spread)[known]
    ax.fill_between(step[known], *band, color=COLORS["value_batch"], alpha=0.5, linewidth=0)
    drawn = [left, divergence, -lag, *band]
    if "value_best_deep" in results:
        deep = intervals.band(until_failure(results, "value_best_deep")[runs] - equilibrium).mean
        draw_line(ax, step, deep, COLORS["value_best"], linestyle="none", marker="D", markersize=3.5)
        drawn.append(deep)
    low, high, _ = robust_limits(np.concatenate(drawn), [0], reach=3)
    ax.set_ylim(low, high)
    ax.axhline(0, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
    outside = sum(int(((y < low) | (y > high)).sum()) for y in drawn)
    notes = [f"{count(outside, 'point')} beyond the axis"] if outside else []
    if not both.any():
        return [*notes, "no best value is known for this loss, hence no parts" if known.any() else "not measured"]
    end = np.flatnonzero(both)[-1]
    parts = (float(x[end]) for x in (divergence, -lag, left))
    sum_ = "{} {} = {}".format(*map(_signed, parts))
    noisy = f", minibatch noise ±{spread[end]:.3f}" if math.isfinite(spread[end]) else ""
    return [*notes, f"at step {step[end]:,}: {sum_}{noisy}"]


def _gap(ax: Axes, results: xr.Dataset, runs: NDArray) -> list[str]:
    """Draws the duality gap of these runs and its two parts."""
    step = np.asarray(results["step"].values)
    gaps = until_failure(results, "duality_gap")[runs]
    lags = until_failure(results, "lag_deep" if "lag_deep" in results else "lag")[runs]
    gap, low, high, _ = intervals.band(gaps)
    if runs.size == 1 and "duality_gap_se" in results:
        error = T7 * until_failure(results, "duality_gap_se")[runs[0]]
        low, high = gap - error, gap + error
    lag = intervals.band(np.where(np.isfinite(gaps), lags, np.nan)).mean
    both = np.isfinite(gap) & np.isfinite(lag)
    ax.fill_between(step[both], 0, lag[both], color=COLORS["lag"], alpha=0.3, linewidth=0)
    ax.fill_between(step[both], lag[both], gap[both], color=GAIN, alpha=0.4, linewidth=0)
    draw_line(ax, step, gap, COLORS["equilibrium"], low, high)
    ax.axhline(0, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
    below, above, outside = robust_limits(np.concatenate([gap, low, high]), [0], reach=3)
    ax.set_ylim(below, above)
    notes = [f"{count(outside, 'point')} beyond the axis"] if outside else []
    return notes if np.isfinite(gap).any() else ["not measured"]


@draws("value", "value_best", "value_batch", "value_best_deep", "lag", "lag_deep", "duality_gap")
def gap_budget(results: xr.Dataset, recipe: str | Sequence[str] | None = None, run: int | None = None) -> Figure:
    """How far the minibatch value is from its value at equilibrium, and of which two large terms that is the sum.

        minibatch value - equilibrium  =  (max_D V - equilibrium)  -  lag  +  noise

    Left, the divergence that is left (never negative) upwards from zero, the lag of D (never negative) downwards, and
    the line that remains of the two: near zero a loss reads as converged, whatever the areas are. The band around it
    is one standard deviation of the minibatch value: over runs at each step, for a single run over its measurements.
    Diamonds are the best value of the deep measurement. Right, where it was measured, the duality gap, max_D V - min_G
    V: what D could gain (its lag) and what G could gain, stacked, with its 95 % interval; it is zero at an equilibrium
    only. Means over the runs of a recipe that have not diverged, one row a recipe; or one run.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        run: label of a run to draw instead of the mean over its recipe.

    Raises:
        ValueError: for results without a value at equilibrium, and for a run that is not of the recipe.
    """
    need(results, "value", "value_best", "value_batch", "equilibrium")
    rows = runs_by_name(results, recipe, run)
    columns = 1 + ("duality_gap" in results)
    figure = Figure(figsize=(6.0 if columns == 1 else 9.5, 0.75 + 2.5 * len(rows)), layout="constrained")
    axes = figure.subplots(
        len(rows), columns, sharex=True, squeeze=False, width_ratios=(1.0,) if columns == 1 else (1.25, 1.0)
    )
    fails, last = reading.diverged(results), reading.last_step(results)
    for row, (name, runs) in zip(axes, rows.items(), strict=True):
        used = int((last[runs] >= 0).sum())
        whose = run_label(results, int(runs[0])) if run is not None else f"mean over {count(used)}"
        gone = int(fails[runs].sum())
        whose += f", {gone} diverged, counted until then" if gone else ""
        *outside, ending = _budget(row[0], results, runs)
        set_title(row[0], plain(name), ["; ".join([whose, *outside]), ending])
        row[0].set_ylabel(f"above equilibrium{unit(results, int(runs[0]))}")
        if columns == 2:
            set_title(row[1], "duality gap", _gap(row[1], results, runs))
            row[1].set_ylabel(f"max over D − min over G{unit(results, int(runs[0]))}")
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
        ax.xaxis.set_major_locator(whole_ticks(6 if columns == 1 else 5))
    handles = [
        Patch(color=COLORS["value_best"], alpha=0.3, linewidth=0, label="divergence: best value − equilibrium"),
        Patch(color=COLORS["lag"], alpha=0.3, linewidth=0, label="lag of D, taken off"),
        Line2D([], [], color=COLORS["value"], label="what is left: value − equilibrium"),
        Patch(color=COLORS["value_batch"], alpha=0.5, linewidth=0, label="± sd of the minibatch value"),
    ]
    if "value_best_deep" in results:
        deep = {"marker": "D", "markersize": 3.5, "linestyle": "none"}
        handles.append(Line2D([], [], color=COLORS["value_best"], **deep, label="best value, deep measurement"))
    if columns == 2:
        handles.append(Patch(color=GAIN, alpha=0.4, linewidth=0, label="what G could gain"))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns + 1)
    return figure
