"""Which loss tracks the truth."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from gandyn.analysis import tables
from gandyn.report.figures.style import (
    COLORS,
    LOSS_LABELS,
    Figure,
    as_list,
    draws,
    plain,
    set_title,
    undefined,
)

_HEADINGS = {"jsd": "JSD", "w1": "W1"}

_PLAYERS = {
    "loss_disc": (COLORS["disc"], "o"),
    "loss_gen": (COLORS["gen"], "s"),
    "loss_total": (COLORS["total"], "D"),
}


@draws("loss_disc", "loss_gen", "loss_total", "jsd", "w1", "modes")
def tracking(
    results: xr.Dataset,
    recipe: str | Sequence[str] | None = None,
    table: Sequence[tables.Correlation] | None = None,
) -> Figure:
    """Which loss tracks the truth: rank correlation of each loss with JSD, W1 and modes, with 95 % intervals.

    Above, over the steps of a run, as a mean over runs; below, over runs, each at its end. One row a recipe, one
    column a metric, one dot a loss. A loss tracks a metric where its dot is far from 0 on either side; a loss that
    does so within runs and not across them tells time, not quality. Where a correlation is undefined, it says so.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        table: what `tables.correlations` returns, to save computing it again.

    Raises:
        ValueError: where none of the metrics is recorded.
    """
    names = as_list(recipe, results)
    table = tables.correlations(results) if table is None else table
    found = {(row.recipe, row.loss, row.metric): row for row in table}
    metrics = [m for m in dict.fromkeys(row.metric for row in table) if m in results]
    losses = [loss for loss in dict.fromkeys(row.loss for row in table) if loss in results]
    if not metrics or not losses:
        raise ValueError("these results hold none of the losses and metrics of the table; gandyn.run records them")
    figure = Figure(figsize=(2.0 + 2.5 * len(metrics), 1.3 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots(2, len(metrics), sharex=True, sharey=True, squeeze=False)
    shifts = 0.26 * (np.arange(len(losses)) - (len(losses) - 1) / 2)
    for row, kind in zip(axes, ("within", "across"), strict=True):
        for ax, metric in zip(row, metrics, strict=True):
            for at, name in enumerate(names):
                for loss, shift in zip(losses, shifts, strict=True):
                    value, low, high = getattr(found[name, loss, metric], kind).interval
                    color, marker = _PLAYERS.get(loss, (COLORS["real"], "v"))
                    y = at + shift
                    if math.isfinite(value):
                        ax.plot([low, high], [y, y], color=color, linewidth=1.8, solid_capstyle="butt")
                        ax.plot(value, y, marker, color=color, markersize=4.5, markeredgecolor="white", zorder=4)
                    else:
                        undefined(ax, y, color)
                if at % 2:
                    ax.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
            ax.axvline(0, color="#555555", linewidth=0.8, zorder=1)
            ax.set_xlim(-1.1, 1.1)
            ax.grid(axis="y", visible=False)
            ax.tick_params(axis="y", length=0)
            set_title(ax, f"{_HEADINGS.get(metric, plain(metric))}, {kind} runs")
    for ax in axes[-1]:
        ax.set_xlabel("rank correlation")
    axes[0, 0].set_yticks(range(len(names)), [plain(name, 26) for name in names])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D(
            [],
            [],
            color=_PLAYERS.get(loss, (COLORS["real"], "v"))[0],
            marker=_PLAYERS.get(loss, (COLORS["real"], "v"))[1],
            markersize=4.5,
            linewidth=1.8,
            label=LOSS_LABELS.get(loss, plain(loss)),
        )
        for loss in losses
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
