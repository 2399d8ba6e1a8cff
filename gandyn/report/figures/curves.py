"""Any metric over training: what a metric has that no other figure draws."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gandyn.analysis import reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    count,
    draw_line,
    draws,
    keep_panels,
    limits_of_modes,
    metric_label,
    plain,
    quartiles,
    robust_limits,
    set_title,
    whole_ticks,
)


@draws()
def curves(results: xr.Dataset, metric: str, recipe: str | Sequence[str] | None = None) -> Figure:
    """A metric over training: one panel a recipe, all on one scale, median and quartiles over its runs.

    A run that diverged counts from then on as the metric's `reading.failed_value`; where there is none, median and
    quartiles are over the others. Its long name and units are the label.

    Args:
        results: the dataset.
        metric: name of a metric.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for a metric that is not recorded, and for a variable that is none, such as ``samples``.
    """
    if metric in results and set(results[metric].dims) != {"run", "step"}:
        raise ValueError(f"metric: got {metric!r}, over {', '.join(map(str, results[metric].dims))}; allowed: a metric")
    names = as_list(recipe, results)
    x = reading.values(results, metric)
    step = np.asarray(results["step"].values)
    fails, last = reading.diverged(results), reading.last_step(results)
    groups = {name: reading.runs_of(results, name) for name in names}
    bands = {name: quartiles(np.where(np.isfinite(x[runs]), x[runs], np.nan)) for name, runs in groups.items()}
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(5.2, 3.25 * columns), 0.7 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    if metric == "modes":
        bottom, top = limits_of_modes(reading.num_modes(results)[np.concatenate(list(groups.values()))].max())
    else:
        bottom, top, _ = robust_limits(np.concatenate([y for band in bands.values() for y in band]), reach=3)
    for ax, (name, runs) in zip(axes.flat, groups.items(), strict=False):
        middle, low, high = bands[name]
        draw_line(ax, step, middle, COLORS["run"], low, high)
        used = runs[last[runs] >= 0]
        notes = [count(used.size)]
        notes += [f"{int(fails[used].sum())} diverged"] if fails[used].any() else []
        none = int((~np.isfinite(x[used]).any(axis=1)).sum())
        notes += [f"{none} without a value"] if none else []
        outside = int(((middle < bottom) | (middle > top)).sum())
        notes += [f"{count(outside, 'point')} beyond the axis"] if outside else []
        set_title(ax, plain(name, 28), [", ".join(notes)], width=44)
        ax.set_ylim(bottom, top)
        ax.xaxis.set_major_locator(whole_ticks(5))
    keep_panels(axes, len(names), "generator updates")
    figure.supylabel(metric_label(results, metric), fontsize=9)
    handles = [
        Line2D([], [], color=COLORS["run"], label="median over runs"),
        Patch(color=COLORS["run"], alpha=0.22, linewidth=0, label="quartiles"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
