"""The table as dots and intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gandyn.analysis import reading, tables
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    aside,
    draws,
    plain,
)

# Columns of the overview: metric of which single runs are drawn, if any; limits of the axis.
_OVERVIEW: dict[str, tuple[str | None, tuple[float | None, float | None]]] = {
    "modes": ("modes", (-0.3, None)),
    "high_quality": ("high_quality", (-0.04, 1.04)),
    "jsd": ("jsd", (-0.03, None)),
    "lag": ("lag", (None, None)),
    "accuracy": ("accuracy", (-0.04, 1.04)),
    "across_disc": (None, (-1.1, 1.1)),
    "within_disc": (None, (-1.1, 1.1)),
}


_TICK: dict[str, Any] = {"marker": "|", "markersize": 12, "markeredgewidth": 1.6, "linestyle": "none"}


@draws(*tables.METRICS)
def overview(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """The table as dots and intervals: one row a recipe, in one order for all panels.

    Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run at what
    it counts as), grey ticks what as many real samples get. A dash is an estimate that is not defined.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
    """
    names = as_list(recipe, results)
    rows = {row.recipe: row for row in tables.table(results)}
    ends = {m: reading.final(results, m) for m, _ in _OVERVIEW.values() if m is not None and m in results}
    figure = Figure(figsize=(11.0, 1.5 + 0.45 * len(names)), layout="constrained")
    panels = {key: panel for key, panel in _OVERVIEW.items() if key != "accuracy" or "accuracy" in results}
    axes = figure.subplots(1, len(panels), sharey=True)
    y = np.arange(len(names))
    for ax, (key, (metric, limits)) in zip(axes, panels.items(), strict=True):
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
            if key == "accuracy":
                best = scale * row.entries["accuracy_best"].interval.value
                ax.plot(best, at, "D", color=COLORS["best_disc"], markersize=5, fillstyle="none", zorder=5)
            if math.isfinite(value):
                ax.plot([low, high], [at, at], color=COLORS["run"], linewidth=2.2, solid_capstyle="butt")
                ax.plot(value, at, "o", color=COLORS["run"], markersize=6, markeredgecolor="white", zorder=4)
            else:
                ax.text(0.5, at, "–", transform=ax.get_yaxis_transform(), ha="center", va="center")
        if metric is None:
            ax.set_xlabel("rank correlation")
        if metric is None or metric in ("lag", "accuracy"):
            ax.axvline(50 if metric == "accuracy" else 0, color="#555555", linewidth=0.8)
        for at in y[1::2]:
            ax.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        ax.set_xlim(*(None if bound is None else scale * bound for bound in limits))
        ax.xaxis.set_major_locator(MaxNLocator(5 if key == "modes" else 4, steps=[1, 2, 2.5, 5, 10]))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(y, [plain(name, 26) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=COLORS["run"], marker="o", linewidth=2.2, label="estimate, 95 % interval"),
        Line2D([], [], color=COLORS["run"], alpha=0.45, marker=".", linestyle="none", label="a run"),
        Line2D([], [], color=COLORS["real"], **_TICK, label="as many real samples"),
    ]
    if "accuracy" in panels:
        style: dict[str, Any] = {"color": COLORS["best_disc"], "marker": "D", "fillstyle": "none", "linestyle": "none"}
        handles.append(Line2D([], [], **style, label="the best accuracy possible"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
