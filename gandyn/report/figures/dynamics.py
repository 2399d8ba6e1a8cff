"""Gradients and game geometry over training."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from gandyn.analysis import stats
from gandyn.report.figures._style import (
    COLORS,
    as_list,
    count,
    draw_line,
    need,
    plain,
    position_of,
    robust_limits,
    run_label,
    set_title,
    styled,
    until_failure,
)

# Metric -> label, and the value on whose other side the state is unstable.
_STABILITY: dict[str, tuple[str, float | None]] = {
    "spectral_radius": ("spectral radius of the update", 1.0),
    "max_real": ("largest real part of the flow", 0.0),
    "rotation_share": ("rotation, share of the Jacobian", None),
}


def _signed_scale(values: NDArray) -> tuple[str, float]:
    """Scale of an axis with both signs: linear, or symmetric logarithmic (linear up to the number) for wide spreads."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if sizes.size < 3 or sizes.max() < 10 * np.median(sizes):
        return "linear", 0.0
    return "symlog", float(10 ** np.floor(np.log10(np.quantile(sizes, 0.25))))


def _set_signed(ax: Axes, axis: str, values: NDArray, scale: str, threshold: float) -> None:
    """Sets scale and limits of 'x' or 'y' around zero."""
    values = values[np.isfinite(values)]
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    set_limits, set_ticks = getattr(ax, f"set_{axis}lim"), getattr(ax, f"set_{axis}ticks")
    if scale == "linear":
        margin = 0.08 * (high - low) or 1.0
        set_limits(low - margin, high + margin)
        return
    getattr(ax, f"set_{axis}scale")("symlog", linthresh=threshold)
    low, high = min(2 * low, -threshold), max(2 * high, threshold)
    set_limits(low, high)
    # A tick each power of ten would be a thicket.
    first, last = round(math.log10(threshold)), math.floor(math.log10(max(-low, high)))
    powers = 10.0 ** np.arange(last, first - 1, -max(1, math.ceil((last - first + 1) / 3)))
    set_ticks([*(-powers[powers <= -low]), 0.0, *powers[powers <= high]])
    set_ticks([], minor=True)


@styled
def spectrum(results: xr.Dataset, run: int, steps: Sequence[int] | None = None) -> Figure:
    """Eigenvalues of the game's Jacobian in the complex plane as training goes on, and whether it is stable.

    Left, the eigenvalues of the flow's Jacobian, -J (Mescheder et al. 2018): the flow is stable where all lie left of
    the imaginary axis; the grey side is unstable, and a pair far from the real axis rotates. Earlier steps are darker.
    Axes over widely spread values are symmetric logarithmic. Right, where measured, the spectral radius of the
    update itself (a step contracts below 1), the largest real part, and the share of rotation.

    Args:
        results: the dataset, with ``eigenvalues``.
        run: label of a run.
        steps: values of ``step``; by default up to eight of those with eigenvalues, evenly spread from first to last.

    Raises:
        ValueError: for results without eigenvalues, a run that has none, and a step at which there are none.
    """
    need(results, "eigenvalues")
    position = position_of(results, run)
    axis = np.asarray(results["step"].values)
    values = results["eigenvalues"].isel(run=position).transpose("step", "eigenvalue", "part").values.astype(float)
    there = np.flatnonzero(np.isfinite(values).all(axis=-1).any(axis=-1))
    if there.size == 0:
        raise ValueError(f"run {run} has no eigenvalues: it was not measured, or was never finite")
    if steps is None:
        shown = there[np.unique(np.linspace(0, there.size - 1, 8).round().astype(int))]
    else:
        lacking = [s for s in steps if s not in axis[there]]
        if lacking or not len(steps):
            what = f"no eigenvalues at step {lacking[0]}" if lacking else "steps: got none"
            raise ValueError(f"{what}; there are some at {', '.join(map(str, axis[there]))}")
        shown = np.array([int(np.flatnonzero(axis == s)[0]) for s in steps])
    beside = [m for m in _STABILITY if m in results and np.isfinite(results[m].values[position].astype(float)).any()]
    figure = Figure(figsize=(9.5 if beside else 6.2, max(4.0, 0.6 + 1.55 * len(beside))), layout="constrained")
    rows = max(len(beside), 1)
    grid = figure.add_gridspec(rows, 2 if beside else 1, width_ratios=(1.35, 1) if beside else None)
    plane = figure.add_subplot(grid[:, 0])
    panels = [figure.add_subplot(grid[i, 1]) for i in range(len(beside))]
    norm = Normalize(float(axis[there].min()), float(axis[there].max()) or 1.0)
    colors = ScalarMappable(norm, "viridis")
    for i in shown:
        real, imaginary = values[i][np.isfinite(values[i]).all(axis=-1)].T
        plane.plot(
            real,
            imaginary,
            "o",
            color=colors.to_rgba(axis[i]),
            markersize=4,
            markeredgecolor="#333333",
            markeredgewidth=0.25,
            alpha=0.85,
        )
    # One scale for both, or a circle would be no circle and a direction no direction.
    scale, threshold = _signed_scale(values[shown])
    for part, name in enumerate("xy"):
        _set_signed(plane, name, values[shown][..., part], scale, threshold)
    plane.axvspan(0, plane.get_xlim()[1], color="#ececec", linewidth=0, zorder=0)
    plane.axvline(0, color=COLORS["equilibrium"], linewidth=1.1)
    plane.axhline(0, color="#999999", linewidth=0.7, zorder=1)
    log = " (log scale, both signs)" if scale == "symlog" else ""
    plane.set(xlabel=f"real part{log}", ylabel=f"imaginary part{log}")
    unstable = int((values[shown[-1]][:, 0] > 0).sum())
    kept = int(np.isfinite(values[shown[-1]]).all(axis=-1).sum())
    set_title(
        plane,
        plain(str(results["recipe"].values[position]), 44),
        [
            run_label(results, position),
            f"at step {axis[shown[-1]]:,}: {unstable} of {count(kept, 'recorded eigenvalue')} unstable (grey side)",
        ],
    )
    bar = figure.colorbar(colors, ax=plane, pad=0.02)
    bar.set_label("generator updates")
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for ax, metric in zip(panels, beside, strict=True):
        label, border = _STABILITY[metric]
        y = np.asarray(results[metric].values[position], float)
        low, high, outside = robust_limits(y, [] if border is None else [border], reach=3)
        if border is not None:
            ax.axhspan(border, high, color="#ececec", linewidth=0, zorder=0)
            ax.axhline(border, color=COLORS["equilibrium"], linewidth=1.1)
        draw_line(ax, axis, y, COLORS["run"])
        ax.set_ylim((low, high) if border is not None else (-0.04, 1.04))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        set_title(ax, label, [f"{count(outside, 'point')} beyond the axis"] if outside and border is not None else [])
        ax.set_xlim(axis[0] - 0.04 * np.ptp(axis) - 0.5, axis[-1] + 0.04 * np.ptp(axis) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.tick_params(labelbottom=ax is panels[-1])
    if panels:
        panels[-1].set_xlabel("generator updates")
    return figure


def _quartiles(x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Median, lower and upper quartile over runs (R, S) -> (S,) each: entries of x itself, for infinity has no mean."""
    result = np.full((3, x.shape[1]), np.nan)
    for s in np.flatnonzero(~np.isnan(x).all(axis=0)):
        result[:, s] = np.quantile(x[~np.isnan(x[:, s]), s], [0.5, 0.25, 0.75], method="inverted_cdf")
    return result[0], result[1], result[2]


def _on_log_axis(ax: Axes, step: NDArray, curves: dict[str, NDArray], always: float) -> str:
    """Draws medians and quartiles of both players' positive quantity (R, S); says what the axis cannot show."""
    bands = {player: _quartiles(x) for player, x in curves.items()}
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


@styled
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
        runs = stats.runs_of(results, name)
        for ax, column in zip(row, columns, strict=True):
            if column == "saturation":
                x = until_failure(results, column)[runs]
                middle, low, high = _quartiles(x)
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
            gone = int(stats.diverged(results)[runs].sum())
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
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    handles = [
        Line2D([], [], color=COLORS["disc"], label="discriminator"),
        Line2D([], [], color=COLORS["gen"], linestyle="--", label="generator"),
        Patch(color="#888888", alpha=0.3, linewidth=0, label="quartiles over runs"),
        Line2D([], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="signal = noise; batch size"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
