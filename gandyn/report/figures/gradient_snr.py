"""How much of a gradient is signal."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from gandyn.analysis import reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    count,
    draw_line,
    draws,
    need,
    plain,
    quartiles,
    set_title,
    until_failure,
    whole_ticks,
)


def _on_log_axis(ax: Axes, step: NDArray, curves: dict[str, NDArray], always: float) -> str:
    """Draws medians and quartiles of both players' positive quantity (R, S); says what the axis cannot show."""
    bands = {player: quartiles(x) for player, x in curves.items()}
    drawn = np.concatenate([x for band in bands.values() for x in band])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    ax.set_yscale("log")
    drawn = np.append(drawn, always) if math.isfinite(always) else drawn
    bottom, top = (drawn.min() / 2, drawn.max() * 2) if drawn.size else (0.5, 2.0)
    # More than a decade, so that a power of ten is on the axis: ticks between are crowded, and bear no label.
    wider = max(1.0, math.sqrt(12 * bottom / top))
    bottom, top = bottom / wider, top * wider
    for player, (middle, low, high) in bands.items():
        # A quartile below zero, or infinite, reaches the end of the axis.
        low, high = np.clip(low, bottom, top), np.clip(high, bottom, top)
        drawable = np.where(np.isfinite(middle) & (middle > 0), middle, np.nan)
        draw_line(ax, step, drawable, COLORS[player], low, high, linestyle="-" if player == "disc" else "--")
    ax.set_ylim(bottom, top)
    ax.yaxis.set_minor_formatter(NullFormatter())
    x = np.concatenate([x.ravel() for x in curves.values()]) if curves else np.array([])
    known = ~np.isnan(x)
    lost = int((known & ((x <= 0) | np.isinf(x))).sum())
    if not known.any():
        return "not measured"
    return f"{lost} of {known.sum():,} unresolved" if lost else ""


def _batch_size(results: xr.Dataset, runs: NDArray) -> float:
    """Training batch size of these runs: noise scale times signal to noise, by definition; NaN where unknown."""
    for player in ("gen", "disc"):
        if {f"noise_scale_{player}", f"grad_snr_{player}"} <= set(results):
            found = results[f"noise_scale_{player}"].values[runs] * results[f"grad_snr_{player}"].values[runs]
            found = found[np.isfinite(found) & (found > 0)]
            if found.size:
                return float(np.median(found))
    return math.nan


@draws("grad_snr_disc", "grad_snr_gen", "noise_scale_disc", "noise_scale_gen", "saturation")
def gradient_snr(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """How much of a minibatch gradient is signal, for both players over training, and how saturated G's loss is.

    From the left: signal to noise in power, at 1 as much noise as signal; the noise scale, the batch size at which
    the two would be equal (McCandlish et al. 2018), with the training batch size as a dotted line; saturation, the
    share of G's gradient that is lost to a D that is too sure. Lines are medians over the runs of a recipe, bands
    their quartiles (a ratio has no useful mean). A measurement whose signal is below what is resolved has no place on a
    logarithmic axis: it counts in median and band, which then reach the end of the axis, and is counted above.

    Args:
        results: the dataset, with ``grad_snr_gen`` or ``grad_snr_disc``.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for results without either.
    """
    if "grad_snr_disc" not in results:
        need(results, "grad_snr_gen")
    names = as_list(recipe, results)
    step = np.asarray(results["step"].values)
    columns = ["grad_snr"]
    columns += ["noise_scale"] if {"noise_scale_gen", "noise_scale_disc"} & set(results) else []
    columns += ["saturation"] if "saturation" in results else []
    headings = {"grad_snr": "signal to noise", "noise_scale": "noise scale", "saturation": "saturation"}
    labels = {"grad_snr": "power ratio", "noise_scale": "batch size", "saturation": "share lost"}
    figure = Figure(figsize=(1.0 + 3.0 * len(columns), 0.8 + 2.3 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(columns), sharex=True, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        runs = reading.runs_of(results, name)
        for ax, column in zip(row, columns, strict=True):
            if column == "saturation":
                x = until_failure(results, column)[runs]
                middle, low, high = quartiles(x)
                draw_line(ax, step, middle, COLORS["gen"], low, high, linestyle="--")
                ax.set_ylim(-0.04, 1.04)
                note = "" if np.isfinite(x).any() else "not defined, or not measured"
            else:
                border = 1.0 if column == "grad_snr" else _batch_size(results, runs)
                players = {p: f"{column}_{p}" for p in ("disc", "gen") if f"{column}_{p}" in results}
                curves = {p: until_failure(results, m)[runs] for p, m in players.items()}
                note = _on_log_axis(ax, step, curves, border)
                if math.isfinite(border):
                    ax.axhline(border, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
                if column == "noise_scale" and math.isfinite(border):
                    # What is not resolved is the same as in the signal to noise, whose reciprocal this is.
                    note = f"trained with {border:,.0f}"
            gone = int(reading.diverged(results)[runs].sum())
            who = f"{count(runs.size)}, median and quartiles" + (f"; {gone} diverged" if gone else "")
            first = column == columns[0]
            set_title(
                ax,
                plain(name, 28) if first else "",
                [who if first else "", headings[column] + (f": {note}" if note else "")],
                width=48,
            )
            ax.set_ylabel(labels[column])
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
        ax.xaxis.set_major_locator(whole_ticks(4))
    handles = [
        Line2D([], [], color=COLORS["disc"], label="discriminator"),
        Line2D([], [], color=COLORS["gen"], linestyle="--", label="generator"),
        Patch(color="#888888", alpha=0.3, linewidth=0, label="quartiles over runs"),
        Line2D([], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="signal = noise; batch size"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
