"""How a final metric is distributed over seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gandyn.analysis import intervals, reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    aside,
    count,
    draws,
    keep_panels,
    metric_label,
    plain,
    robust_limits,
    set_title,
    whole_ticks,
)


def _bins(x: NDArray, total: float) -> tuple[NDArray, bool]:
    """Edges of a histogram that all recipes share, and whether each bin holds one whole number.

    Of modes, from none to all `total`; NaN for other metrics.
    """
    x = x[np.isfinite(x)]
    x = x if math.isnan(total) else np.append(x, [0, total])
    if x.size and (x == np.round(x)).all() and np.ptp(x) <= 60:
        return np.arange(x.min() - 0.5, x.max() + 1), True
    low, high, _ = robust_limits(x, reach=3)
    return np.linspace(low, high, 21), False


@draws("modes")
def distributions(results: xr.Dataset, metric: str = "modes", recipe: str | Sequence[str] | None = None) -> Figure:
    """How a final metric is distributed over the seeds of each recipe: bars, every run, two kinds of average.

    Bars are shares of runs, all panels on one scale; under them every run as a point, then the mean and the
    interquartile mean with 95 % intervals (`intervals.mean_interval`, `intervals.iqm_interval`). Where the runs fall
    into two groups, the mean lies where no run is. A run that diverged is a cross: at what it counts as where there is
    such a value (`reading.failed_value`), and it is then in bars and averages; else in a grey strip at the right.

    Args:
        results: the dataset.
        metric: name of a metric, e.g. ``modes``, ``jsd``, ``w1``, ``high_quality``.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for a metric that is not recorded.
    """
    names = as_list(recipe, results)
    end, fails, last = reading.final(results, metric), reading.diverged(results), reading.last_step(results)
    # A deep metric need not be measured at the last step.
    curves = reading.values(results, metric)
    earlier = np.isnan(end) & ~fails & np.isfinite(curves).any(axis=1)
    latest = curves.shape[1] - 1 - np.isfinite(curves[:, ::-1]).argmax(axis=1)
    end = np.where(earlier, curves[np.arange(end.size), latest], end)
    groups = {name: reading.runs_of(results, name) for name in names}
    shown_runs = np.concatenate(list(groups.values()))
    total = float(reading.num_modes(results)[shown_runs].max()) if metric == "modes" else math.nan
    edges, whole = _bins(end[shown_runs], total)
    width = edges[-1] - edges[0]
    shares = {}
    for name, runs in groups.items():
        x = end[runs]
        n = max(int(np.isfinite(x).sum()), 1)
        shares[name] = [np.histogram(x[group], edges)[0] / n for group in (~fails[runs], fails[runs])]
    top = max(float((good + bad).max()) for good, bad in shares.values()) or 1.0
    valueless = math.isnan(reading.failed_value(results, metric)) and fails[shown_runs].any()

    columns = 1 if len(names) < 4 else 2
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(6.2 if columns == 1 else 10, 0.8 + 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        runs = groups[name]
        x, failed = end[runs], fails[runs]
        good, bad = shares[name]
        gap = 0.86 if whole else 1.0
        look: dict[str, Any] = {"width": gap * np.diff(edges), "linewidth": 0}
        middles = (edges[:-1] + edges[1:]) / 2
        ax.bar(middles, good, color=COLORS["run"], alpha=0.45, **look)
        ax.bar(middles, bad, bottom=good, color=COLORS["diverged"], alpha=0.6, **look)
        shown = np.flatnonzero(np.isfinite(x))
        inside = np.clip(x, edges[0], edges[-1])
        # In order of the metric, so that neighbours are the ones spread apart.
        order = shown[np.argsort(x[shown], kind="stable")]
        side = aside(order.size, 0.22 * top) - 0.2 * top
        offset = aside(order.size, 0.6, 0.7548776662) if whole else np.zeros(order.size)
        for marker, color, group in (("o", COLORS["run"], ~failed[order]), ("x", COLORS["diverged"], failed[order])):
            ax.plot(
                (inside[order] + offset)[group],
                side[group],
                marker,
                color=color,
                markersize=3.5,
                markeredgewidth=0 if marker == "o" else 1,
                alpha=0.6,
                linestyle="none",
            )
        lost = np.flatnonzero(failed & ~np.isfinite(x))
        if valueless:
            strip = edges[-1] + np.array([0.02, 0.1]) * width
            ax.axvspan(*strip, color="#ececec", linewidth=0, zorder=0)
            place = np.full(lost.size, strip.mean())
            ax.plot(place, aside(lost.size, 0.22 * top) - 0.2 * top, "x", color=COLORS["diverged"], markersize=4)
        finite = x[np.isfinite(x)]
        notes = [count(int((last[runs] >= 0).sum()))]
        notes += [f"{int(failed.sum())} diverged (×)"] if failed.any() else []
        missing = int((~np.isfinite(x) & ~failed & (last[runs] >= 0)).sum())
        notes += [f"{missing} without a value"] if missing else []
        before = int(earlier[runs].sum())
        notes += [f"{before} not measured at the end, but before"] if before else []
        beyond = int(((finite < edges[0]) | (finite > edges[-1])).sum())
        notes += [f"{beyond} beyond the axis, drawn at its end"] if beyond else []
        for marker, level, estimate in (
            ("o", -0.46 * top, intervals.mean_interval(finite)),
            ("D", -0.64 * top, intervals.iqm_interval(finite)),
        ):
            if math.isfinite(estimate.value):
                color = COLORS["equilibrium"] if marker == "o" else COLORS["best_disc"]
                bar = np.clip(estimate[1:], edges[0], edges[-1])
                ax.plot(bar, [level, level], color=color, linewidth=1.8, solid_capstyle="butt")
                at = np.clip(estimate.value, edges[0], edges[-1])
                ax.plot(at, level, marker, color=color, markersize=5, markeredgecolor="white", zorder=4)
        ax.axhline(0, color="#555555", linewidth=0.7)
        set_title(ax, plain(name), [", ".join(notes)])
        room = 0.012 * width  # of a marker at an end
        right = edges[-1] + (0.1 * width if valueless else room)
        ax.set(ylim=(-0.76 * top, 1.06 * top), xlim=(edges[0] - room, right))
        ticks = [t for t in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, top) if 0 <= t <= 1.06 * top]
        ax.set_yticks(ticks, [f"{100 * t:g} %" for t in ticks])
        ax.xaxis.set_major_locator(whole_ticks(9) if whole else MaxNLocator(9))
    keep_panels(axes, len(names), f"{metric_label(results, metric)}, at the end")
    for ax in axes[:, 0]:
        ax.set_ylabel("share of runs")
    handles = [
        Line2D([], [], color=COLORS["run"], marker="o", markersize=3.5, alpha=0.6, linestyle="none", label="a run"),
        Line2D([], [], color=COLORS["equilibrium"], marker="o", markersize=5, linewidth=1.8, label="mean"),
        Line2D([], [], color=COLORS["best_disc"], marker="D", markersize=5, linewidth=1.8, label="interquartile mean"),
    ]
    if fails[shown_runs].any():
        handles.append(Line2D([], [], color=COLORS["diverged"], marker="x", linestyle="none", label="diverged"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
