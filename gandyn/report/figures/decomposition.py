"""What a loss curve is made of: minibatch value, value, best value, lag."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gandyn.analysis import intervals, reading
from gandyn.report.figures.style import (
    COLORS,
    T7,
    Figure,
    as_list,
    draw_line,
    draws,
    plain,
    position_of,
    robust_limits,
    set_title,
    unit,
    whole_ticks,
)


def _shade_lag(ax: Axes, step: NDArray, value: NDArray, best: NDArray) -> None:
    both = np.isfinite(value) & np.isfinite(best)
    ax.fill_between(step[both], value[both], best[both], color=COLORS["lag"], alpha=0.25, linewidth=0, zorder=0.5)


@draws("value_batch", "value", "value_se", "value_best")
def decomposition(results: xr.Dataset, recipe: str | Sequence[str] | None = None, run: int | None = None) -> Figure:
    """How the minibatch value comes apart: value, best value, lag. One row a recipe.

    Left, one run: the minibatch value, V(D, G) with its 95 % interval (2.365 standard errors), the best value, the
    lag shaded between the two, the value at equilibrium. Right, the same as means over the runs of the recipe with
    95 % intervals, over the runs that have not diverged.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        run: label of the run on the left; then its recipe is the only row. By default the first run of each recipe.
    """
    if run is not None:
        names = [str(results["recipe"].values[position_of(results, run)])]
        if recipe is not None and names != as_list(recipe, results):
            raise ValueError(f"run {run} is of recipe {names[0]!r}, not of {recipe!r}")
    else:
        names = as_list(recipe, results)
    step = np.asarray(results["step"].values)
    curves = {m: reading.values(results, m) for m in ("value_batch", "value", "value_se", "value_best")}
    finite = np.asarray(results["finite"].values, float)
    figure = Figure(figsize=(9.5, 0.7 + 2.45 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        runs = reading.runs_of(results, name)
        shown = int(runs[0]) if run is None else position_of(results, run)
        equilibrium = float(results["equilibrium"].values[shown])
        one = {m: x[shown] for m, x in curves.items()}
        bands = {m: intervals.band(curves[m][runs]) for m in ("value_batch", "value", "value_best")}
        no_best = not np.isfinite(curves["value_best"][runs]).any()

        _shade_lag(left, step, one["value"], one["value_best"])
        _shade_lag(right, step, bands["value"].mean, bands["value_best"].mean)
        error = T7 * one["value_se"]
        draw_line(left, step, one["value_batch"], COLORS["value_batch"], linewidth=1)
        draw_line(left, step, one["value_best"], COLORS["value_best"], linestyle="--")
        draw_line(left, step, one["value"], COLORS["value"], one["value"] - error, one["value"] + error)
        batch, value, best = bands.values()
        draw_line(right, step, batch.mean, COLORS["value_batch"], linewidth=1)
        # Its band all but covers that of the value: edges only, lest the two mix to a third colour.
        for bound in (batch.low, batch.high):
            draw_line(right, step, bound, COLORS["value_batch"], linewidth=0.6, marker="")
        draw_line(right, step, best.mean, COLORS["value_best"], best.low, best.high, linestyle="--")
        draw_line(right, step, value.mean, COLORS["value"], value.low, value.high)
        for ax in (left, right):
            ax.axhline(equilibrium, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)

        drawn = [one[m] for m in bands] + [x for b in bands.values() for x in (b.mean, b.low, b.high)]
        low, high, _ = robust_limits(np.concatenate(drawn), [equilibrium])
        left.set_ylim(low, high)
        left.xaxis.set_major_locator(whole_ticks(6))
        left.set_ylabel(f"value of the game{unit(results, shown)}")

        def outside(values: Sequence[NDArray], low: float = low, high: float = high) -> list[str]:
            y = np.concatenate(values)
            count = int(((y < low) | (y > high)).sum())
            return [f"{count} {'point' if count == 1 else 'points'} beyond the axis"] if count else []

        failed = np.flatnonzero(finite[shown] == 0)
        notes = [f"diverged by step {step[failed[0]]:,}"] if failed.size else []
        notes += outside([one[m] for m in bands])
        label = f"run {results['run'].values[shown]}, seed {results['seed'].values[shown]}"
        set_title(left, plain(name), ["; ".join([label, *notes])])
        gone = int(reading.diverged(results)[runs].sum())
        count = int((reading.last_step(results)[runs] >= 0).sum())
        notes = [f"{gone} diverged, counted until then"] if gone else []
        notes += ["no best value is known for this loss, hence no lag"] if no_best else []
        notes += outside([b.mean for b in bands.values()])
        mean = f"mean over {count} runs with 95 % interval" if count > 1 else f"{count} run: no interval"
        set_title(right, "", ["; ".join(notes), mean] if notes else [mean])
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
    figure.legend(
        handles=[
            Line2D([], [], color=COLORS["value_batch"], linewidth=1, label="minibatch value"),
            Line2D([], [], color=COLORS["value"], label="value V(D, G)"),
            Line2D([], [], color=COLORS["value_best"], linestyle="--", label="best value, max over D"),
            Patch(color=COLORS["lag"], alpha=0.25, linewidth=0, label="lag of D"),
            Line2D([], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="value at equilibrium"),
        ],
        loc="outside upper center",
        ncols=5,
    )
    return figure
