"""Final losses against the modes covered."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gandyn.analysis import intervals, reading, tables
from gandyn.report.figures.style import (
    COLORS,
    LOSS_LABELS,
    Figure,
    as_list,
    aside,
    draws,
    metric_label,
    plain,
    robust_limits,
    set_title,
    unit,
    whole_ticks,
)


def _with_best_disc(results: xr.Dataset, loss: str, run: int) -> NDArray:
    """What a run's loss would read with the best D and 1, 2, ... modes covered; empty where that is not known."""
    if loss not in ("loss_disc", "loss_gen"):
        return np.array([])
    curve = np.asarray(results["best_" + loss].values[run], float)
    return curve[: int(reading.num_modes(results)[run])] if np.isfinite(curve).any() else np.array([])


@draws("loss_disc", "loss_gen", "modes")
def loss_against_coverage(
    results: xr.Dataset, loss: str = "loss_disc", recipe: str | Sequence[str] | None = None
) -> Figure:
    """A final loss against the modes covered: one panel a recipe, one point a run.

    Modes are whole numbers: points are moved aside by up to 0.15, by a fixed rule, so that runs do not hide each other.
    Diamonds are what the loss would read with the best D, were k equal modes covered evenly (where that is known and
    the target's weights are equal). A run that diverged has no loss: it is a cross in a grey strip above, at 0 modes.

    Args:
        results: the dataset.
        loss: ``loss_disc``, ``loss_gen`` or another metric.
        recipe: one recipe or several; all by default.
    """
    names = as_list(recipe, results)
    y_end, modes_end = reading.final(results, loss), reading.final(results, "modes")
    last, fails = reading.last_step(results), reading.diverged(results)
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(5.2, 3.25 * columns), 0.7 + 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn = set()
    for ax, name in zip(axes.flat, names, strict=False):
        runs = reading.runs_of(results, name)
        total = int(reading.num_modes(results)[runs].max())
        used = runs[last[runs] >= 0]
        shown = used[np.isfinite(y_end[used]) & np.isfinite(modes_end[used])]
        y, k = y_end[shown], modes_end[shown]
        x = k + aside(shown.size, 0.3)

        curve = _with_best_disc(results, loss, int(runs[0]))
        equilibrium = float(curve[-1]) if curve.size else math.nan
        if loss == "loss_disc":
            equilibrium = -float(results["equilibrium"].values[runs[0]])
        if curve.size:
            ax.plot(
                1 + np.arange(curve.size),
                curve,
                "D-",
                color=COLORS["best_disc"],
                markersize=4,
                markerfacecolor="white",
                linewidth=0.8,
            )
            drawn.add("best")
        if math.isfinite(equilibrium):
            ax.axhline(equilibrium, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
            drawn.add("equilibrium")
        low, high, outside = robust_limits(y, [equilibrium, *curve], reach=3)
        ax.set(xlim=(-0.6, total + 0.6), ylim=(low, high))
        failed = used[fails[used]]
        if failed.size:
            # A strip of its own above every loss: the height of a cross must not read as a loss.
            top = high + 0.1 * (high - low)
            ax.set_ylim(low, top)
            ax.axhspan(high, top, color="#ececec", linewidth=0, zorder=0)
            middle = np.full(failed.size, (high + top) / 2)
            ax.plot(aside(failed.size, 0.3), middle, "x", color=COLORS["diverged"], zorder=3)
            drawn.add("diverged")
        inside = (y >= low) & (y <= high)
        look = {"color": COLORS["run"], "alpha": 0.65, "linestyle": "none", "markeredgewidth": 0, "zorder": 3}
        ax.plot(x[inside], y[inside], "o", markersize=5, **look)
        for beyond, edge, marker in ((y < low, low, "v"), (y > high, high, "^")):
            # Not where there are none: the layout takes an unclipped line without points to reach the figure's corner.
            if beyond.any():
                ax.plot(x[beyond], np.full(beyond.sum(), edge), marker, markersize=6, clip_on=False, **look)

        r = intervals.rank_correlation(y, k)
        column = tables.COLUMNS["across_disc"]
        if math.isfinite(r.value):
            summary = f"rank correlation {tables.format_interval(r, column)}"
        elif shown.size < 3:
            summary = "rank correlation -: too few runs"
        else:
            summary = f"rank correlation -: {'modes' if np.ptp(k) == 0 else 'losses'} all the same"
        notes = [f"{shown.size} {'run' if shown.size == 1 else 'runs'}"]
        notes += [f"{failed.size} diverged (×)"] if failed.size else []
        lost = runs.size - shown.size - failed.size
        notes += [f"{lost} without a value"] if lost else []
        notes += [f"{outside} beyond the axis (▲▼)"] if outside else []
        set_title(ax, plain(name, 28), [summary, ", ".join(notes)], width=44)
        ax.xaxis.set_major_locator(whole_ticks(9))
        ax.set_xlabel(f"modes covered, of {total}")
        label = LOSS_LABELS[loss] + unit(results, int(runs[0])) if loss in LOSS_LABELS else metric_label(results, loss)
        ax.set_ylabel(f"final {label}")
    for ax in axes.flat[len(names) :]:
        ax.remove()
    handles = {
        "run": Line2D([], [], color=COLORS["run"], alpha=0.65, marker="o", linestyle="none", label="a run"),
        "best": Line2D(
            [],
            [],
            color=COLORS["best_disc"],
            marker="D",
            markersize=4,
            markerfacecolor="white",
            linewidth=0.8,
            label="best D, k modes covered evenly",
        ),
        "equilibrium": Line2D(
            [], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="loss at equilibrium"
        ),
        "diverged": Line2D([], [], color=COLORS["diverged"], marker="x", linestyle="none", label="diverged, no loss"),
    }
    shown_handles = [handle for key, handle in handles.items() if key == "run" or key in drawn]
    figure.legend(handles=shown_handles, loc="outside upper center", ncols=4 if columns == 3 else 2)
    return figure
