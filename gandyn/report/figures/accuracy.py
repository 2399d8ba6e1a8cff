"""D's accuracy beside the best possible."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from gandyn.analysis import intervals, reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    count,
    draw_line,
    draws,
    keep_panels,
    need,
    plain,
    set_title,
    until_failure,
    whole_ticks,
)

_LINES: dict[str, tuple[str, str, Any]] = {
    "accuracy": ("D", COLORS["disc"], "-"),
    "accuracy_on_real": ("on real samples", COLORS["real"], ":"),
    "accuracy_on_fake": ("on G's samples", COLORS["gen"], ":"),
    "accuracy_best": ("the best D", COLORS["best_disc"], "--"),
}


@draws(*_LINES)
def accuracy(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """What D tells right at its decision threshold over training, beside the best possible, (1 + TV) / 2.

    Means over the runs of a recipe that have not diverged, with 95 % intervals of D's accuracy and of the best one; the
    dotted lines are the two halves of D's. At 50 % D knows nothing, or there is nothing to know: the best one says
    which.

    Args:
        results: the dataset, with ``accuracy``.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for results without it.
    """
    need(results, "accuracy")
    names = as_list(recipe, results)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    step = np.asarray(results["step"].values)
    curves = {name: until_failure(results, name) for name in _LINES if name in results}
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        runs = reading.runs_of(results, name)
        for metric, x in curves.items():
            band = intervals.band(x[runs], bounds=(0, 1))
            _, color, style = _LINES[metric]
            edges = (None, None) if "_on_" in metric else (band.low, band.high)
            draw_line(ax, step, band.mean, color, *edges, linestyle=style)
        ax.axhline(0.5, color=COLORS["equilibrium"], linewidth=0.8)
        known = np.isfinite(curves["accuracy"][runs]).any()
        set_title(ax, plain(name, 28), [count(runs.size) if known else "D has no decision threshold"])
        ax.set(ylim=(-0.04, 1.04))
        ax.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        ax.xaxis.set_major_locator(whole_ticks(4))
    keep_panels(axes, len(names), "generator updates")
    for ax in axes[:, 0]:
        ax.set_ylabel("told right")
    handles = [
        Line2D([], [], color=color, linestyle=style, label=label)
        for metric, (label, color, style) in _LINES.items()
        if metric in curves
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
