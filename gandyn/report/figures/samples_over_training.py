"""Samples of single runs over training."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gandyn.analysis import reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    draws,
    plain,
    position_of,
    set_title,
)


def pick_covering_and_collapsed(results: xr.Dataset) -> tuple[int, int]:
    """Labels of two runs that differ in the seed alone: one that covers most modes at the end, one that covers fewest.

    The recipe is the one whose runs end with the largest difference in modes covered (the first such). Of its runs
    that did not diverge (and have samples, where any have), the first is the one with most modes, ties broken by the
    smaller JSD, then by order; the second the one with fewest modes, ties broken by the larger JSD, then by order.
    Where modes or JSD are not recorded, the other decides. The two are one run where there is no other.

    Raises:
        ValueError: where no run qualifies.
    """
    none = np.zeros(results.sizes["run"])
    modes, jsd = (reading.final(results, m) if m in results else none for m in ("modes", "jsd"))
    eligible = np.isfinite(modes) & ~reading.diverged(results) & (reading.last_step(results) >= 0)
    if "samples" in results:
        kept = _has_samples(results).any(axis=1)
        eligible &= kept if kept.any() else True
    if not eligible.any():
        raise ValueError("no run was measured without diverging")
    groups = (runs[eligible[runs]] for runs in (reading.runs_of(results, name) for name in reading.recipes(results)))
    jsd = np.where(np.isfinite(jsd), jsd, 0)
    differ = modes if "modes" in results else jsd
    runs = max((group for group in groups if group.size), key=lambda group: np.ptp(differ[group]))
    most = min(runs, key=lambda r: (-modes[r], jsd[r]))
    fewest = min(runs, key=lambda r: (modes[r], -jsd[r]))
    labels = results["run"].values
    return int(labels[most]), int(labels[fewest])


def _has_samples(results: xr.Dataset) -> NDArray:
    """Whether samples of a run at a step were kept, (R, S) bool."""
    # One coordinate tells: reading all of them could take gigabytes.
    samples = results["samples"]
    return np.isfinite(np.asarray(samples.isel({dim: 0 for dim in samples.dims if dim not in ("run", "step")}).values))


def _real_samples(results: xr.Dataset, run: int, n: int) -> NDArray:
    """Samples (n, 2) of a run's target, always the same ones: as recorded, or else drawn from its modes."""
    if "target_samples" in results:
        recorded = np.asarray(results["target_samples"].values[run], float)
        if np.isfinite(recorded).any():
            return recorded[np.isfinite(recorded).all(axis=1)]
    if "target_means" not in results:
        return np.zeros((0, 2))
    rng = np.random.default_rng(0)
    weights = np.asarray(results["target_weights"].values[run], float)
    modes = np.flatnonzero(np.isfinite(weights))
    mode = rng.choice(modes, n, p=weights[modes] / weights[modes].sum())
    means, stds = results["target_means"].values[run], results["target_stds"].values[run]
    return means[mode] + stds[mode, None] * rng.normal(size=(n, 2))


@draws("modes", "high_quality")
def samples_over_training(results: xr.Dataset, runs: int | Sequence[int], steps: Sequence[int] | None = None) -> Figure:
    """Generated samples over real ones as training goes on: one row a run, one column a step.

    Where D's surface was kept it is the background: red where D says real, blue where it says fake, white at its
    decision value (the median over the row where D is defined up to a constant only), on one scale a row.

    Args:
        results: the dataset, with ``samples``.
        runs: label of a run, or several; repeated labels are drawn once.
        steps: values of ``step``; by default five of those with samples, evenly spread from first to last.
    """
    if "samples" not in results or "xy" not in results["samples"].dims:
        raise ValueError("these results hold no samples in the plane")
    labels = list(dict.fromkeys([runs] if isinstance(runs, int | np.integer) else runs))
    positions = [position_of(results, label) for label in labels]
    axis = np.asarray(results["step"].values)
    kept = _has_samples(results)[positions]
    if steps is None:
        candidates = np.flatnonzero(kept.any(axis=0))
        columns = candidates[np.unique(np.linspace(0, candidates.size - 1, 5).round().astype(int))]
    else:
        missing = [s for s in steps if s not in axis]
        if missing:
            raise ValueError(f"no measurement at step {missing[0]}; there are {', '.join(map(str, axis))}")
        columns = np.array([int(np.flatnonzero(axis == s)[0]) for s in steps])
    if columns.size == 0:
        raise ValueError("none of these runs has samples")
    finite = np.asarray(results["finite"].values, float)
    modes, quality = (reading.values(results, m) if m in results else None for m in ("modes", "high_quality"))
    total = reading.num_modes(results)
    figure = Figure(figsize=(1.1 + 1.95 * max(columns.size, 2), 0.5 + 2.5 * len(labels)), layout="constrained")
    axes = figure.subplots(len(labels), columns.size, squeeze=False)
    for row, (position, label) in enumerate(zip(positions, labels, strict=True)):
        center = np.asarray(results["target_center"].values[position], float)
        half = float(results["extent"].values[position])
        real = _real_samples(results, position, 600)
        fakes = np.asarray(results["samples"].isel(run=position, step=columns).values, float)
        heights, norm, mappable = np.full(columns.size, np.nan), None, None
        if "surface" in results:
            heights = np.asarray(results["surface"].isel(run=position, step=columns).values, float)
            middle = float(results["decision"].values[position])
            if not math.isfinite(middle):
                middle = float(np.nanmedian(heights)) if np.isfinite(heights).any() else 0.0
            away = np.abs(heights[np.isfinite(heights)] - middle)
            spread = float(np.quantile(away, 0.98)) if away.size else 0.0
            norm = Normalize(middle - (spread or 1.0), middle + (spread or 1.0))
        for ax, column, fake, height in zip(axes[row], columns, fakes, heights, strict=True):
            if np.isfinite(height).any():
                x, y = (c + half * results[f"surface_{n}"].values for c, n in zip(center, "xy", strict=True))
                mappable = ax.pcolormesh(x, y, height, cmap="RdBu_r", norm=norm, alpha=0.55, shading="nearest")
            ax.plot(*real.T, ".", color=COLORS["real"], markersize=2, markeredgewidth=0, zorder=2)
            ax.plot(*fake.T, "o", color=COLORS["fake"], markersize=1.9, markeredgewidth=0, alpha=0.8, zorder=3)
            ax.set(xlim=center[0] + np.array([-half, half]), ylim=center[1] + np.array([-half, half]), aspect="equal")
            ax.grid(False)
            if row < len(labels) - 1 or column != columns[0]:
                ax.set(xticks=[], yticks=[])
            outside = int((np.abs(fake - center) > half).any(axis=1).sum())
            if finite[position, column] == 0:
                notes = ["diverged", ""]
            elif not np.isfinite(fake).any():
                notes = ["no samples", ""]
            else:
                beyond = [f"{outside:,} outside"] if outside else []
                covered = [] if modes is None else [f"{modes[position, column]:.0f} of {total[position]} modes"]
                good = "" if quality is None else f"{100 * quality[position, column]:.0f} % high quality"
                notes = ["; ".join(covered + beyond), good]
            set_title(ax, f"step {axis[column]:,}", notes)
        name, seed = plain(str(results["recipe"].values[position]), 22), results["seed"].values[position]
        axes[row, 0].set_ylabel(f"{name}\nrun {label}, seed {seed}")
        if mappable is not None:
            bar = figure.colorbar(mappable, ax=axes[row], shrink=0.8, pad=0.01)
            bar.set_label("D's output (fake to real)")
    figure.legend(
        handles=[
            Line2D([], [], color=COLORS["real"], marker=".", linestyle="none", label="real samples"),
            Line2D([], [], color=COLORS["fake"], marker="o", markersize=3, linestyle="none", label="generated samples"),
        ],
        loc="outside upper center",
        ncols=2,
    )
    return figure
