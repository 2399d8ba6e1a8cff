"""The table as dots and intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gandyn.analysis import reading, tables
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    aside,
    draws,
    limits_of_modes,
    plain,
    undefined,
)

# Columns of the overview: metric of which single runs are drawn, if any; limits of the axis.
_OVERVIEW: dict[str, tuple[str | None, tuple[float | None, float | None]]] = {
    "modes": ("modes", (None, None)),  # `limits_of_modes`
    "high_quality": ("high_quality", (-0.04, 1.04)),
    "jsd": ("jsd", (0.0, None)),
    "lag": ("lag", (None, None)),
    "across_disc": (None, (-1.1, 1.1)),
    "within_disc": (None, (-1.1, 1.1)),
}


_TICK: dict[str, Any] = {"marker": "|", "markersize": 12, "markeredgewidth": 1.6, "linestyle": "none"}


def _limits(ax: Axes, low: float | None, high: float | None, scale: float) -> tuple[float, float]:
    """What an axis shows: between bounds, or what is drawn and `low` with room for a marker at both ends."""
    if low is not None and high is not None:
        return scale * low, scale * high
    left, right = ax.dataLim.intervalx
    left = left if low is None else min(left, scale * low)
    if not np.isfinite([left, right]).all():
        return 0.0, 1.0
    room = 0.06 * (right - left) or 0.5 * abs(right) or 0.5
    return float(left - room), float(right + room)


@draws(*tables.METRICS)
def overview(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """The table as dots and intervals: one row a recipe, in one order for all panels.

    Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run at what
    it counts as), grey ticks what as many real samples get. Where an estimate is undefined, it says so.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
    """
    names = as_list(recipe, results)
    rows = {row.recipe: row for row in tables.table(results)}
    ends = {m: reading.final(results, m) for m, _ in _OVERVIEW.values() if m is not None and m in results}
    figure = Figure(figsize=(11.0, 1.5 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(_OVERVIEW), sharey=True)
    y = np.arange(len(names))
    total = max(float(reading.num_modes(results)[reading.runs_of(results, name)].max()) for name in names)
    for ax, (key, (metric, limits)) in zip(axes, _OVERVIEW.items(), strict=True):
        column = tables.COLUMNS[key]
        scale = 100 if column.percent else 1
        heading, _, rest = column.heading.partition(", ")
        ax.set_title(
            heading + (f" and modes,\n{rest}" if rest else " (%)" if column.percent else ""), fontweight="bold"
        )
        for at, name in zip(y, names, strict=True):
            row = rows[name]
            value, low, high = (scale * x for x in row.entries[key].interval)
            if metric in ends:
                end = scale * ends[metric][reading.runs_of(results, name)]
                ax.plot(
                    end,
                    at + aside(end.size, 0.4),
                    ".",
                    color=COLORS["run"],
                    alpha=0.45,
                    markersize=4,
                    markeredgewidth=0,
                )
            if key in row.real:
                ax.plot(
                    [scale * row.real[key]] * 2, [at - 0.36, at + 0.36], color=COLORS["real"], linewidth=1.6, zorder=1
                )
            if math.isfinite(value):
                ax.plot([low, high], [at, at], color=COLORS["run"], linewidth=2.2, solid_capstyle="butt")
                ax.plot(value, at, "o", color=COLORS["run"], markersize=6, markeredgecolor="white", zorder=4)
            else:
                undefined(ax, float(at))
        if metric is None:
            ax.set_xlabel("rank correlation")
        if metric is None or metric == "lag":
            ax.axvline(0, color="#555555", linewidth=0.8)
        for at in y[1::2]:
            ax.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        ax.set_xlim(limits_of_modes(total) if key == "modes" else _limits(ax, *limits, scale))
        ax.xaxis.set_major_locator(MaxNLocator(5 if key == "modes" else 4, steps=[1, 2, 2.5, 5, 10]))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(y, [plain(name, 26) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.legend(
        handles=[
            Line2D([], [], color=COLORS["run"], marker="o", linewidth=2.2, label="estimate, 95 % interval"),
            Line2D([], [], color=COLORS["run"], alpha=0.45, marker=".", linestyle="none", label="a run"),
            Line2D([], [], color=COLORS["real"], **_TICK, label="as many real samples"),
        ],
        loc="outside upper center",
        ncols=3,
    )
    return figure
