"""Recipes side by side at the end of training: estimates, distributions over seeds, verdicts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gandyn.analysis import stats
from gandyn.report.figures._style import COLORS, as_list, aside, count, need, plain, robust_limits, set_title, styled

# Columns of the overview: metric of which single runs are drawn, if any; limits of the axis.
_OVERVIEW: dict[str, tuple[str | None, tuple[float | None, float | None]]] = {
    "modes": ("modes", (-0.3, None)),
    "high_quality": ("high_quality", (-0.04, 1.04)),
    "jsd": ("jsd", (-0.03, None)),
    "lag": ("lag", (None, None)),
    "across_disc": (None, (-1.1, 1.1)),
    "within_disc": (None, (-1.1, 1.1)),
}


_TICK: dict[str, Any] = {"marker": "|", "markersize": 12, "markeredgewidth": 1.6, "linestyle": "none"}


@styled
def overview(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """The table as dots and intervals: one row a recipe, in one order for all panels.

    Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run at 0 modes, 0 high
    quality, JSD = log 2), grey ticks what as many real samples get. A dash is an estimate that is not defined.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
    """
    names = as_list(recipe, results)
    rows = {row.recipe: row for row in stats.table(results)}
    ends = {m: stats.final(results, m) for m, _ in _OVERVIEW.values() if m is not None and m in results}
    figure = Figure(figsize=(11.0, 1.5 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(_OVERVIEW), sharey=True)
    y = np.arange(len(names))
    for ax, (key, (metric, limits)) in zip(axes, _OVERVIEW.items(), strict=True):
        column = stats.COLUMNS[key]
        scale = 100 if column.percent else 1
        heading, _, rest = column.heading.partition(", ")
        ax.set_title(
            heading + (f" and modes,\n{rest}" if rest else " (%)" if column.percent else ""), fontweight="bold"
        )
        for at, name in zip(y, names, strict=True):
            row = rows[name]
            value, low, high = (scale * x for x in row.entries[key].estimate)
            if metric in ends:
                end = scale * ends[metric][stats.runs_of(results, name)]
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
                ax.text(0.5, at, "–", transform=ax.get_yaxis_transform(), ha="center", va="center")
        if metric is None:
            ax.set_xlabel("rank correlation")
        if metric is None or metric == "lag":
            ax.axvline(0, color="#555555", linewidth=0.8)
        for at in y[1::2]:
            ax.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        ax.set_xlim(*(None if bound is None else scale * bound for bound in limits))
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


@styled
def gallery(
    results: xr.Dataset,
    rows: Mapping[str, Mapping[str, str]],
    metrics: Sequence[str] = ("modes", "high_quality", "jsd", "lag"),
    costs: Mapping[str, float] | None = None,
) -> Figure:
    """Recipes side by side at the last step: one row a recipe, one panel a metric, one colour a series.

    Dots with bars are means over seeds with 95 % intervals, faint points are single runs. Modes are a share of the
    target's. A metric that a loss does not have is a dash; runs that diverged are counted at the right of the first
    panel and are in no mean.

    Args:
        results: the dataset.
        rows: label of a row -> label of a series -> recipe.
        metrics: names of metrics.
        costs: label of a row -> cost of a step relative to one of them, drawn as bars in a last panel.
    """
    series = list(dict.fromkeys(name for each in rows.values() for name in each))
    columns = len(metrics) + (costs is not None)
    figure = Figure(figsize=(2.2 + 2.1 * columns, 1.2 + 0.19 * len(rows) * (len(series) + 0.6)), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    places = {label: -float(i) for i, label in enumerate(rows)}
    height = 0.8 / len(series)
    colors = dict(zip(series, (COLORS["value"], COLORS["value_batch"], COLORS["best_disc"]), strict=False))
    fails = stats.diverged(results)
    for ax, metric in zip(axes, metrics, strict=False):
        final = stats.final(results, metric)
        if metric == "modes":
            final = final / stats.num_modes(results)
        for label, recipes in rows.items():
            for name, recipe in recipes.items():
                runs = stats.runs_of(results, recipe)
                y = places[label] + height * ((len(series) - 1) / 2 - series.index(name))
                x = final[runs][np.isfinite(final[runs])]
                if x.size == 0:
                    ax.text(0.5, y, "-", transform=ax.get_yaxis_transform(), ha="center", va="center")
                    continue
                ax.plot(x, y + aside(x.size, 0.8 * height), ".", color=colors[name], alpha=0.25, markersize=2.5)
                mean = stats.mean_interval(x)
                ax.plot([mean.low, mean.high], [y, y], color=colors[name], linewidth=1.6)
                ax.plot(mean.value, y, "o", color=colors[name], markersize=4, markeredgecolor="white")
                if fails[runs].any() and ax is axes[0]:
                    text = f"{int(fails[runs].sum())} diverged"
                    ax.text(1.0, y, text, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=6)
        attrs = results[metric].attrs
        ax.set_xlabel("modes covered, share" if metric == "modes" else attrs.get("long_name", metric).split(",")[0])
    if costs is not None:
        ax = axes[-1]
        known = {label: cost for label, cost in costs.items() if label in places}
        ax.barh([places[label] for label in known], list(known.values()), height=0.5, color=COLORS["real"])
        for label, cost in known.items():
            ax.text(cost, places[label], f" {cost:.1f}", va="center", fontsize=7)
        ax.set_xlabel("cost of a step, relative")
        ax.margins(x=0.2)
    axes[0].set_yticks(list(places.values()), [plain(label, 26) for label in places])
    axes[0].set_ylim(-len(rows) + 0.5, 0.5)
    handles = [Line2D([], [], color=colors[name], marker="o", markersize=4, label=plain(name)) for name in series]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(series))
    return figure


_METRICS = {
    "modes": "modes covered",
    "high_quality": "high quality, share of samples",
    "jsd": "JSD (nats)",
    "w1": "W1 (data units)",
}


def _bins(x: NDArray) -> tuple[NDArray, bool]:
    """Edges of a histogram that all recipes share, and whether each bin holds one whole number."""
    x = x[np.isfinite(x)]
    if x.size and (x == np.round(x)).all() and np.ptp(x) <= 60:
        return np.arange(x.min() - 0.5, x.max() + 1), True
    low, high, _ = robust_limits(x, reach=3)
    return np.linspace(low, high, 21), False


@styled
def distributions(results: xr.Dataset, metric: str = "modes", recipe: str | Sequence[str] | None = None) -> Figure:
    """How a final metric is distributed over the seeds of each recipe: bars, every run, two kinds of average.

    Bars are shares of runs, all panels on one scale; under them every run as a point, then the mean and the
    interquartile mean with 95 % intervals (`stats.mean_interval`, `stats.iqm_interval`). Where the runs fall into two
    groups, the mean lies where no run is. A run that diverged is a cross: at what it counts as where there is such a
    value (`stats.FAILURE`), and it is then in bars and averages; else in a grey strip at the right.

    Args:
        results: the dataset.
        metric: name of a metric, e.g. ``modes``, ``jsd``, ``w1``, ``high_quality``.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for a metric that is not recorded.
    """
    names = as_list(recipe, results)
    end, fails, last = stats.final(results, metric), stats.diverged(results), stats.last_step(results)
    # A deep metric need not be measured at the last step.
    curves = stats.values(results, metric)
    earlier = np.isnan(end) & ~fails & np.isfinite(curves).any(axis=1)
    latest = curves.shape[1] - 1 - np.isfinite(curves[:, ::-1]).argmax(axis=1)
    end = np.where(earlier, curves[np.arange(end.size), latest], end)
    groups = {name: stats.runs_of(results, name) for name in names}
    everything = end[np.concatenate(list(groups.values()))]
    edges, whole = _bins(everything)
    width = edges[-1] - edges[0]
    shares = {}
    for name, runs in groups.items():
        x = end[runs]
        n = max(int(np.isfinite(x).sum()), 1)
        shares[name] = [np.histogram(x[group], edges)[0] / n for group in (~fails[runs], fails[runs])]
    top = max(float((good + bad).max()) for good, bad in shares.values()) or 1.0
    valueless = metric not in stats.FAILURE and fails[np.concatenate(list(groups.values()))].any()

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
            ("o", -0.46 * top, stats.mean_interval(finite)),
            ("D", -0.64 * top, stats.iqm_interval(finite)),
        ):
            if math.isfinite(estimate.value):
                color = COLORS["equilibrium"] if marker == "o" else COLORS["best_disc"]
                bar = np.clip(estimate[1:], edges[0], edges[-1])
                ax.plot(bar, [level, level], color=color, linewidth=1.8, solid_capstyle="butt")
                at = np.clip(estimate.value, edges[0], edges[-1])
                ax.plot(at, level, marker, color=color, markersize=5, markeredgecolor="white", zorder=4)
        ax.axhline(0, color="#555555", linewidth=0.7)
        set_title(ax, plain(name), [", ".join(notes)])
        ax.set(ylim=(-0.76 * top, 1.06 * top), xlim=(edges[0], edges[-1] + (0.1 * width if valueless else 0)))
        ticks = [t for t in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, top) if 0 <= t <= 1.06 * top]
        ax.set_yticks(ticks, [f"{100 * t:g} %" for t in ticks])
        ax.xaxis.set_major_locator(MaxNLocator(9, integer=whole))
    for ax in axes.flat[len(names) :]:
        ax.remove()
    for column in range(columns):
        # The lowest panel of a column need not be in the last row.
        lowest = axes.flat[[i for i in range(len(names)) if i % columns == column][-1]]
        lowest.set_xlabel(f"{_METRICS.get(metric, plain(metric))}, at the end")
        lowest.tick_params(axis="x", labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("share of runs")
    handles = [
        Line2D([], [], color=COLORS["run"], marker="o", markersize=3.5, alpha=0.6, linestyle="none", label="a run"),
        Line2D([], [], color=COLORS["equilibrium"], marker="o", markersize=5, linewidth=1.8, label="mean"),
        Line2D([], [], color=COLORS["best_disc"], marker="D", markersize=5, linewidth=1.8, label="interquartile mean"),
    ]
    if fails[np.concatenate(list(groups.values()))].any():
        handles.append(Line2D([], [], color=COLORS["diverged"], marker="x", linestyle="none", label="diverged"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


VERDICT_MARKS: dict[str, tuple[str, str]] = {
    "converged": ("✓", "#009E73"),
    "imprecise": ("I", "#56B4E9"),
    "partial": ("P", "#0072B2"),
    "still_moving": ("→", "#F0E442"),
    "cycling": ("~", "#E69F00"),
    "collapsed": ("C", "#D55E00"),
    "vanishing_gradient": ("V", "#CC79A7"),
    "discriminator_won": ("D", "#7B2D6B"),
    "diverged": ("×", "#000000"),
    "unmeasured": ("–", "#DDDDDD"),
    "undecided": ("?", "#999999"),
}
"""Verdict -> its sign and its colour, in the order in which figures and tables list them."""


def _verdicts(results: xr.Dataset) -> tuple[NDArray, dict[str, tuple[str, str]]]:
    """Each run's verdict (R,), and the signs and colours of those that occur: of unknown ones, the initial on white."""
    found = np.array([str(v) for v in results["verdict"].values], object)
    initial = lambda v: next((c.upper() for c in v if c.isalnum()), "?")  # noqa: E731
    unknown = {v: (initial(v), "#FFFFFF") for v in found if v not in VERDICT_MARKS}
    return found, {v: mark for v, mark in (VERDICT_MARKS | unknown).items() if v in set(found)}


def _ink(color: str) -> str:
    """Black or white, whichever is read on this colour: by its luma (ITU-R BT.601)."""
    return "black" if np.dot(to_rgb(color), [0.299, 0.587, 0.114]) > 0.45 else "white"


def _levels(results: xr.Dataset, name: str, runs: NDArray) -> list[Any]:
    """The values of a coordinate over these runs: numbers in order, texts as they first come."""
    found = results[name].values[runs]
    return sorted(set(found.tolist())) if found.dtype.kind in "iufb" else list(dict.fromkeys(found.tolist()))


def _level_labels(levels: Sequence[Any]) -> list[str]:
    return [plain(f"{v:.3g}" if isinstance(v, float) else str(v), 22) for v in levels]


def _panels(results: xr.Dataset, by: Sequence[str], runs: NDArray) -> dict[str, NDArray]:
    """Title -> positions of runs that differ in ``by`` and the seed alone; by recipe where that cannot be told."""
    labels = np.array([str(r) for r in results["recipe"].values], object)
    if "recipe" in by:
        return {"": runs}
    place = list(zip(*(results[name].values[runs].tolist() for name in by), strict=True))

    def told_by_place(found: Sequence[Any]) -> bool:
        return len(set(zip(place, found, strict=True))) == len(set(place))

    others = {
        str(name): [str(v) for v in c.values[runs].tolist()]
        for name, c in results.coords.items()
        if c.dims == ("run",) and name not in {"run", "seed", "recipe", *by}
    }
    others = {name: found for name, found in others.items() if len(set(found)) > 1 and not told_by_place(found)}
    keys = list(zip(*others.values(), strict=True)) if others else [()] * runs.size
    cells = list(zip(keys, place, results["seed"].values[runs].tolist(), strict=True))
    if len(set(cells)) < len(cells):
        keys = [(label,) for label in labels[runs]]
        others = {"recipe": []}
    panels = {}
    for key in dict.fromkeys(keys):
        group = runs[[k == key for k in keys]]
        recipe = set(labels[group])
        title = ", ".join(f"{name} {v}" for name, v in zip(others, key, strict=True))
        panels[recipe.pop() if len(recipe) == 1 else title] = group
    return panels


def _mosaic(ax: Axes, results: xr.Dataset, name: str, runs: NDArray, verdict: NDArray, marks: Mapping) -> None:
    """Seeds by the values of one coordinate, one cell a run."""
    levels = _levels(results, name, runs)
    columns = [runs[[v == level for v in results[name].values[runs]]] for level in levels]
    seeds = results["seed"].values
    rows = _levels(results, "seed", runs)
    if any(len(set(seeds[column])) < column.size for column in columns):
        # Several runs of one seed: each has a row, in order, lest one hides another.
        rows = list(range(max(column.size for column in columns)))
        columns = [column[np.argsort(seeds[column], kind="stable")] for column in columns]
        places = [range(column.size) for column in columns]
        ax.set_ylabel("run, in order of seed")
    else:
        places = [[rows.index(seed) for seed in seeds[column]] for column in columns]
        ax.set_ylabel("seed")
    image = np.ones((len(rows), len(levels), 3))
    size = float(np.clip(9 * 16 / len(rows), 4.5, 9))
    for x, (column, place) in enumerate(zip(columns, places, strict=True)):
        for r, y in zip(column, place, strict=True):
            sign, color = marks[verdict[r]]
            image[y, x] = to_rgb(color)
            sign = ax.text(x, y, sign, ha="center", va="center_baseline", fontsize=size, color=_ink(color))
            sign.set_in_layout(False)
    ax.imshow(image, aspect="auto", interpolation="nearest", origin="upper")
    every = math.ceil(len(rows) / 16)
    ax.set_yticks(range(0, len(rows), every), [str(row) for row in rows[::every]])
    # White lines between the cells.
    ax.set_xticks(np.arange(len(levels) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="white", linewidth=1 if len(rows) <= 32 else 0.4)
    ax.tick_params(which="both", length=0)


def _strips(ax: Axes, results: xr.Dataset, by: Sequence[str], runs: NDArray, verdict: NDArray, marks: Mapping) -> None:
    """Two coordinates: in each cell a strip of the shares of verdicts, over it how many of the runs converged."""
    columns, rows = (_levels(results, name, runs) for name in by)
    at = [results[name].values[runs] for name in by]
    for x, column in enumerate(columns):
        for y, row in enumerate(rows):
            here = verdict[runs[(at[0] == column) & (at[1] == row)]]
            if here.size == 0:
                continue
            left = x - 0.43
            for name, (sign, color) in marks.items():
                share = float((here == name).mean())
                ax.add_patch(
                    Rectangle((left, y - 0.08), 0.86 * share, 0.42, facecolor=color, edgecolor="white", linewidth=0.6)
                )
                if share >= 0.12:
                    middle = left + 0.43 * share, y + 0.13
                    ax.text(*middle, sign, ha="center", va="center", fontsize=7.5, color=_ink(color))
                left += 0.86 * share
            text = f"{int((here == 'converged').sum())}/{here.size}"
            ax.text(x - 0.43, y - 0.14, text, ha="left", va="bottom", fontsize=8)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), _level_labels(rows))
    ax.set_ylabel(by[1])
    ax.grid(False)
    ax.tick_params(length=0)


@styled
def verdict_mosaic(
    results: xr.Dataset, by: str | tuple[str, str] = "lr_gen", recipe: str | Sequence[str] | None = None
) -> Figure:
    """What happened to every run of a sweep: seeds by the values of a coordinate, coloured by verdict.

    Each verdict has a colour and a sign, so that the figure is read in grey, too; the legend counts them. One panel
    for each setting of whatever else varies. With two coordinates, a cell for each pair of their values: a strip of
    the shares of its verdicts, in the order of the legend, so that its left end is the share of converged runs, whose
    number stands above it.

    Args:
        results: the dataset, with ``verdict`` (`gandyn.verdicts.judge`).
        by: a coordinate on ``run``, or ``recipe``; or two of them, columns first.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for results without verdicts, and for a coordinate that they lack.
    """
    need(results, "verdict")
    names = [by] if isinstance(by, str) else list(by)
    known = [str(name) for name, c in results.coords.items() if c.dims == ("run",) and name != "run"]
    for name in names:
        if name not in known:
            raise ValueError(f"no coordinate {name!r} on run: it does not vary over these runs; there are {known}")
    if len(set(names)) != len(names) or len(names) not in (1, 2):
        raise ValueError(f"by: got {by!r}; allowed: a coordinate, or two different ones")
    runs = np.concatenate([stats.runs_of(results, label) for label in as_list(recipe, results)])
    verdict, _ = _verdicts(results)
    _, marks = _verdicts(results.isel(run=runs))
    panels = _panels(results, names, runs)
    first, second = [*names, "seed"][:2]
    sizes = [(len(_levels(results, first, group)), len(_levels(results, second, group))) for group in panels.values()]
    wide, tall = (max(size) for size in zip(*sizes, strict=True))
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width = max(2.6, 0.8 + (0.75 if len(names) == 2 else 0.4) * wide)
    height = 0.6 + (0.55 * tall if len(names) == 2 else float(np.clip(4.5, 0.09 * tall, 0.25 * tall)))
    labels = _level_labels(list(dict.fromkeys(v for g in panels.values() for v in _levels(results, first, g))))
    slanted = wide * max(map(len, labels)) * 0.075 > width - 0.8
    figure = Figure(
        figsize=(float(np.clip(columns * width, 5.5, 12)), 1.1 + rows * (height + 0.5 + 0.6 * slanted)),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, (ax, (title, group)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        if len(names) == 1:
            _mosaic(ax, results, first, group, verdict, marks)
        else:
            _strips(ax, results, names, group, verdict, marks)
        levels = _levels(results, first, group)
        turn: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        ax.set_xticks(range(len(levels)), _level_labels(levels), **turn)
        if i + columns >= len(panels):
            ax.set_xlabel(first)
        if i % columns:
            ax.set_ylabel("")
        good = stats.share_interval(int((verdict[group] == "converged").sum()), group.size)
        set_title(
            ax,
            plain(title, 34) if title else "",
            [f"{stats.format_estimate(good, stats.COLUMNS['all_modes'])} of {count(group.size)} converged"],
        )
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    handles = [
        Patch(
            facecolor=color,
            edgecolor="#555555",
            linewidth=0.5,
            label=f"{sign}  {plain(name.replace('_', ' '))}: {int((verdict[runs] == name).sum())}",
        )
        for name, (sign, color) in marks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3))
    return figure
