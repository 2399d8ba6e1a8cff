"""The spectrum of the game."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gandyn.report.figures.style import (
    COLORS,
    Figure,
    count,
    draw_line,
    draws,
    need,
    plain,
    position_of,
    robust_limits,
    run_label,
    set_title,
    whole_ticks,
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


@draws(*_STABILITY)
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
    bar.ax.yaxis.set_major_locator(whole_ticks(5))
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
        ax.xaxis.set_major_locator(whole_ticks(5))
        ax.tick_params(labelbottom=ax is panels[-1])
    if panels:
        panels[-1].set_xlabel("generator updates")
    return figure
