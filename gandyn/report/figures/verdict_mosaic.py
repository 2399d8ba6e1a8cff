"""What happened to every run of a sweep."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from gandyn.analysis import intervals, reading, tables
from gandyn.report.figures.style import (
    Figure,
    as_list,
    count,
    draws,
    need,
    plain,
    set_title,
)

VERDICT_MARKS: dict[str, tuple[str, str]] = {
    "converged": ("✓", "#009E73"),
    "imprecise": ("I", "#56B4E9"),
    "partial": ("P", "#0072B2"),
    "still_moving": ("→", "#F0E442"),
    "cycling": ("~", "#E69F00"),
    "collapsed": ("C", "#D55E00"),
    "spread": ("S", "#F4A582"),
    "off_target": ("O", "#8C510A"),
    "never_started": ("N", "#BFBFBF"),
    "vanishing_gradient": ("V", "#CC79A7"),
    "discriminator_won": ("D", "#7B2D6B"),
    "diverged": ("×", "#000000"),
    "unmeasured": ("–", "#DDDDDD"),
    "window": ("W", "#EEEEEE"),
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
    return [plain(f"{v:.3g}" if isinstance(v, float) else str(v) or "none", 22) for v in levels]


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
        title = ", ".join(f"{name} {v or 'none'}" for name, v in zip(others, key, strict=True))
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


@draws("finite")
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
    runs = np.concatenate([reading.runs_of(results, label) for label in as_list(recipe, results)])
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
        good = intervals.share_interval(int((verdict[group] == "converged").sum()), group.size)
        set_title(
            ax,
            plain(title, 34) if title else "",
            [f"{tables.format_interval(good, tables.COLUMNS['all_modes'])} of {count(group.size)} converged"],
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
