"""Figures of a results dataset.

Every function takes the dataset first and returns a matplotlib `Figure` that pyplot knows nothing of: nothing is
shown, nothing is left open, no global setting changes. Save one with ``figure.savefig(path)``.
"""

import functools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from gandyn import stats

STYLE = Path(__file__).with_name("gandyn.mplstyle")

COLORS = {
    "value_batch": "#E69F00",
    "value": "#0072B2",
    "value_best": "#009E73",
    "lag": "#CC79A7",
    "equilibrium": "#000000",
    "run": "#0072B2",
    "diverged": "#D55E00",
    "best_disc": "#009E73",
    "real": "#888888",
    "fake": "#000000",
}

# A standard error from eight independent scrambles: Student's t with 7 degrees of freedom.
_T7 = 2.365

_LOSS_LABELS = {"loss_disc": "discriminator's loss", "loss_gen": "generator's loss", "loss_total": "sum of losses"}

_P = ParamSpec("_P")


def _styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Draws in the package's style whatever the caller's settings, and leaves those alone."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            figure = draw(*args, **kwargs)
            # The first tick of an axis is made when it is asked for, from the settings that hold then; others copy it.
            for ax in figure.axes:
                ax.get_xticklabels()
                ax.get_yticklabels()
        return figure

    return styled


def _text(label: str, width: int = 40) -> str:
    """A label from the data as plain text: no mathematics between dollar signs, wrapped, at most two lines."""
    lines = textwrap.wrap(stats.printable(label), width, max_lines=2, placeholder=" …") or ["(no label)"]
    return "\n".join(lines).replace("$", r"\$")


def _title(ax: Axes, title: str, notes: Sequence[str] = (), width: int = 64) -> None:
    """A bold title with small text under it, in lines of ``width`` characters, above the axes where no data is."""
    notes = [line for note in notes for line in textwrap.wrap(note, width) or [""]]
    ax.set_title(title, pad=5 + 11 * len(notes))
    for i, note in enumerate(reversed(notes)):
        ax.annotate(note, (0, 1), (0, 4 + 11 * i), xycoords="axes fraction", textcoords="offset points", fontsize=8)


def _robust_limits(values: ArrayLike, always: ArrayLike = (), reach: float = 1.0) -> tuple[float, float, int]:
    """Limits of an axis that a few outliers cannot stretch, and how many values lie outside of them.

    The 5th to the 95th percentile, widened at each end by ``reach`` times their distance, but no further than the data;
    ``always`` is kept inside. Fewer than ten values are all inside.
    """
    values, always = (np.asarray(x, float) for x in (values, always))
    values, always = values[np.isfinite(values)], always[np.isfinite(always)]
    if values.size + always.size == 0:
        return 0.0, 1.0, 0
    low, high = math.inf, -math.inf
    if values.size:
        low, high = values.min(), values.max()
    if values.size >= 10:
        # Towards the middle, not interpolated: of sixteen values the largest must not set the limit.
        q05, q95 = np.quantile(values, 0.05, method="higher"), np.quantile(values, 0.95, method="lower")
        low, high = max(low, q05 - reach * (q95 - q05)), min(high, q95 + reach * (q95 - q05))
    low, high = min([low, *always]), max([high, *always])
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    low, high = float(low - margin), float(high + margin)
    return low, high, int(((values < low) | (values > high)).sum())


def _line(
    ax: Axes, step: NDArray, y: NDArray, color: str, low: NDArray | None = None, high: NDArray | None = None, **kw
):
    """A line over the steps at which y is defined, with a band where bounds are."""
    defined = np.isfinite(y)
    marker = "o" if defined.sum() <= 30 else ""
    ax.plot(step[defined], y[defined], color=color, **{"marker": marker, "markersize": 2.5, **kw})
    if low is None or high is None:
        return
    bounded = np.isfinite(low) & np.isfinite(high)
    if bounded.sum() == 1:
        ax.vlines(step[bounded], low[bounded], high[bounded], color=color, alpha=0.5)
    else:
        ax.fill_between(step[bounded], low[bounded], high[bounded], color=color, alpha=0.22, linewidth=0)


def _aside(n: int, width: float) -> NDArray:
    """Offsets (n,) that spread points over a width, evenly however many there are: golden ratio multiples, modulo 1."""
    return width * ((np.arange(n) * 0.6180339887) % 1 - 0.5)


def _shade_lag(ax: Axes, step: NDArray, value: NDArray, best: NDArray) -> None:
    both = np.isfinite(value) & np.isfinite(best)
    ax.fill_between(step[both], value[both], best[both], color=COLORS["lag"], alpha=0.25, linewidth=0, zorder=0.5)


def _as_list(recipe: str | Sequence[str] | None, results: xr.Dataset) -> list[str]:
    if recipe is None:
        return stats.recipes(results)
    return [recipe] if isinstance(recipe, str) else list(recipe)


def _position(results: xr.Dataset, run: int) -> int:
    """Position along ``run`` of the run with this label."""
    found = np.flatnonzero(results["run"].values == run)
    if found.size == 0:
        raise ValueError(f"no run {run} in these results")
    return int(found[0])


@_styled
def decomposition(results: xr.Dataset, recipe: str | Sequence[str] | None = None, run: int | None = None) -> Figure:
    """How the minibatch value comes apart: value, best value, lag. One row a recipe.

    Left, one run: the minibatch value, V(D, G) with its 95 % interval (2.365 standard errors), the best value, the
    lag shaded between the two, the value at equilibrium. Right, the same as means over the runs of the recipe with
    95 % intervals, over the runs that have not diverged.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        run: label of the run on the left; then its recipe is the only row. By default the first run of each recipe.
    """
    if run is not None:
        names = [str(results["recipe"].values[_position(results, run)])]
        if recipe is not None and names != _as_list(recipe, results):
            raise ValueError(f"run {run} is of recipe {names[0]!r}, not of {recipe!r}")
    else:
        names = _as_list(recipe, results)
    step = np.asarray(results["step"].values)
    curves = {m: stats.values(results, m) for m in ("value_batch", "value", "value_se", "value_best")}
    finite = np.asarray(results["finite"].values, float)
    figure = Figure(figsize=(9.5, 0.7 + 2.45 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        runs = stats.runs_of(results, name)
        shown = int(runs[0]) if run is None else _position(results, run)
        loss = str(results["loss"].values[shown])
        equilibrium = float(results["equilibrium"].values[shown])
        one = {m: x[shown] for m, x in curves.items()}
        bands = {m: stats.band(curves[m][runs]) for m in ("value_batch", "value", "value_best")}
        no_best = not np.isfinite(curves["value_best"][runs]).any()

        _shade_lag(left, step, one["value"], one["value_best"])
        _shade_lag(right, step, bands["value"].mean, bands["value_best"].mean)
        error = _T7 * one["value_se"]
        _line(left, step, one["value_batch"], COLORS["value_batch"], linewidth=1)
        _line(left, step, one["value_best"], COLORS["value_best"], linestyle="--")
        _line(left, step, one["value"], COLORS["value"], one["value"] - error, one["value"] + error)
        batch, value, best = bands.values()
        _line(right, step, batch.mean, COLORS["value_batch"], linewidth=1)
        # Its band all but covers that of the value: edges only, lest the two mix to a third colour.
        for bound in (batch.low, batch.high):
            _line(right, step, bound, COLORS["value_batch"], linewidth=0.6, marker="")
        _line(right, step, best.mean, COLORS["value_best"], best.low, best.high, linestyle="--")
        _line(right, step, value.mean, COLORS["value"], value.low, value.high)
        for ax in (left, right):
            ax.axhline(equilibrium, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)

        drawn = [one[m] for m in bands] + [x for b in bands.values() for x in (b.mean, b.low, b.high)]
        low, high, _ = _robust_limits(np.concatenate(drawn), [equilibrium])
        left.set_ylim(low, high)
        left.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        left.set_ylabel("value of the game" + (" (nats)" if loss in stats.IN_NATS else ""))

        def outside(values: Sequence[NDArray], low: float = low, high: float = high) -> list[str]:
            y = np.concatenate(values)
            count = int(((y < low) | (y > high)).sum())
            return [f"{count} {'point' if count == 1 else 'points'} beyond the axis"] if count else []

        failed = np.flatnonzero(finite[shown] == 0)
        notes = [f"diverged by step {step[failed[0]]:,}"] if failed.size else []
        notes += outside([one[m] for m in bands])
        label = f"run {results['run'].values[shown]}, seed {results['seed'].values[shown]}"
        _title(left, _text(name), ["; ".join([label, *notes])])
        gone = int(stats.diverged(results)[runs].sum())
        count = int((stats.last_step(results)[runs] >= 0).sum())
        notes = [f"{gone} diverged, counted until then"] if gone else []
        notes += ["no best value is known for this loss, hence no lag"] if no_best else []
        notes += outside([b.mean for b in bands.values()])
        mean = f"mean over {count} runs with 95 % interval" if count > 1 else f"{count} run: no interval"
        _title(right, "", ["; ".join(notes), mean] if notes else [mean])
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
    figure.legend(
        handles=[
            Line2D([], [], color=COLORS["value_batch"], linewidth=1, label="minibatch value"),
            Line2D([], [], color=COLORS["value"], label="value V(D, G)"),
            Line2D([], [], color=COLORS["value_best"], linestyle="--", label="best value, max over D"),
            Patch(color=COLORS["lag"], alpha=0.25, linewidth=0, label="lag of D"),
            Line2D([], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="value at equilibrium"),
        ],
        loc="outside upper center",
        ncols=5,
    )
    return figure


def _with_best_disc(results: xr.Dataset, loss: str, run: int) -> NDArray:
    """What a run's loss would read with the best D and 1, 2, ... modes covered; empty where that is not known."""
    if loss not in ("loss_disc", "loss_gen"):
        return np.array([])
    curve = np.asarray(results["best_" + loss].values[run], float)
    return curve[: int(stats.num_modes(results)[run])] if np.isfinite(curve).any() else np.array([])


@_styled
def loss_against_coverage(
    results: xr.Dataset, loss: str = "loss_disc", recipe: str | Sequence[str] | None = None
) -> Figure:
    """A final loss against the modes covered: one panel a recipe, one point a run.

    Modes are whole numbers: points are moved aside by up to 0.15, by a fixed rule, so that runs do not hide each other.
    Diamonds are what the loss would read with the best D, were k equal modes covered evenly (where that is known and
    the target's weights are equal). A run that diverged has no loss: it is a cross in a grey strip above, at 0 modes.

    Args:
        results: the dataset.
        loss: ``loss_disc``, ``loss_gen`` or another metric.
        recipe: one recipe or several; all by default.
    """
    names = _as_list(recipe, results)
    y_end, modes_end = stats.final(results, loss), stats.final(results, "modes")
    last, fails = stats.last_step(results), stats.diverged(results)
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(5.2, 3.25 * columns), 0.7 + 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn = set()
    for ax, name in zip(axes.flat, names, strict=False):
        runs = stats.runs_of(results, name)
        total = int(stats.num_modes(results)[runs].max())
        used = runs[last[runs] >= 0]
        shown = used[np.isfinite(y_end[used]) & np.isfinite(modes_end[used])]
        y, k = y_end[shown], modes_end[shown]
        x = k + _aside(shown.size, 0.3)

        curve = _with_best_disc(results, loss, int(runs[0]))
        equilibrium = float(curve[-1]) if curve.size else math.nan
        if loss == "loss_disc":
            equilibrium = -float(results["equilibrium"].values[runs[0]])
        if curve.size:
            ax.plot(
                1 + np.arange(curve.size),
                curve,
                "D-",
                color=COLORS["best_disc"],
                markersize=4,
                markerfacecolor="white",
                linewidth=0.8,
            )
            drawn.add("best")
        if math.isfinite(equilibrium):
            ax.axhline(equilibrium, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
            drawn.add("equilibrium")
        low, high, outside = _robust_limits(y, [equilibrium, *curve], reach=3)
        ax.set(xlim=(-0.6, total + 0.6), ylim=(low, high))
        failed = used[fails[used]]
        if failed.size:
            # A strip of its own above every loss: the height of a cross must not read as a loss.
            top = high + 0.1 * (high - low)
            ax.set_ylim(low, top)
            ax.axhspan(high, top, color="#ececec", linewidth=0, zorder=0)
            middle = np.full(failed.size, (high + top) / 2)
            ax.plot(_aside(failed.size, 0.3), middle, "x", color=COLORS["diverged"], zorder=3)
            drawn.add("diverged")
        inside = (y >= low) & (y <= high)
        look = {"color": COLORS["run"], "alpha": 0.65, "linestyle": "none", "markeredgewidth": 0, "zorder": 3}
        ax.plot(x[inside], y[inside], "o", markersize=5, **look)
        for beyond, edge, marker in ((y < low, low, "v"), (y > high, high, "^")):
            # Not where there are none: the layout takes an unclipped line without points to reach the figure's corner.
            if beyond.any():
                ax.plot(x[beyond], np.full(beyond.sum(), edge), marker, markersize=6, clip_on=False, **look)

        r = stats.rank_correlation(y, k)
        column = stats.COLUMNS["across_disc"]
        if math.isfinite(r.value):
            summary = f"rank correlation {stats.format_estimate(r, column)}"
        elif shown.size < 3:
            summary = "rank correlation -: too few runs"
        else:
            summary = f"rank correlation -: {'modes' if np.ptp(k) == 0 else 'losses'} all the same"
        notes = [f"{shown.size} {'run' if shown.size == 1 else 'runs'}"]
        notes += [f"{failed.size} diverged (×)"] if failed.size else []
        lost = runs.size - shown.size - failed.size
        notes += [f"{lost} without a value"] if lost else []
        notes += [f"{outside} beyond the axis (▲▼)"] if outside else []
        _title(ax, _text(name, 28), [summary, ", ".join(notes)], width=44)
        ax.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        ax.set_xlabel(f"modes covered, of {total}")
        unit = " (nats)" if str(results["loss"].values[runs[0]]) in stats.IN_NATS else ""
        ax.set_ylabel(f"final {_LOSS_LABELS.get(loss, _text(loss))}{unit}")
    for ax in axes.flat[len(names) :]:
        ax.remove()
    handles = {
        "run": Line2D([], [], color=COLORS["run"], alpha=0.65, marker="o", linestyle="none", label="a run"),
        "best": Line2D(
            [],
            [],
            color=COLORS["best_disc"],
            marker="D",
            markersize=4,
            markerfacecolor="white",
            linewidth=0.8,
            label="best D, k modes covered evenly",
        ),
        "equilibrium": Line2D(
            [], [], color=COLORS["equilibrium"], linestyle=":", linewidth=1.1, label="loss at equilibrium"
        ),
        "diverged": Line2D([], [], color=COLORS["diverged"], marker="x", linestyle="none", label="diverged, no loss"),
    }
    shown_handles = [handle for key, handle in handles.items() if key == "run" or key in drawn]
    figure.legend(handles=shown_handles, loc="outside upper center", ncols=4 if columns == 3 else 2)
    return figure


def pick_covering_and_collapsed(results: xr.Dataset) -> tuple[int, int]:
    """Labels of two runs that differ in the seed alone: one that covers most modes at the end, one that covers fewest.

    The recipe is the one whose runs end with the largest difference in modes covered (the first such). Of its runs
    that did not diverge (and have samples, where any have), the first is the one with most modes, ties broken by the
    smaller JSD, then by order; the second the one with fewest modes, ties broken by the larger JSD, then by order.
    The two are one run where there is no other. ValueError where no run qualifies.
    """
    modes, jsd = stats.final(results, "modes"), stats.final(results, "jsd")
    eligible = np.isfinite(modes) & ~stats.diverged(results)
    if "samples" in results:
        kept = _has_samples(results).any(axis=1)
        eligible &= kept if kept.any() else True
    if not eligible.any():
        raise ValueError("no run was measured without diverging")
    groups = (runs[eligible[runs]] for runs in (stats.runs_of(results, name) for name in stats.recipes(results)))
    runs = max((group for group in groups if group.size), key=lambda group: np.ptp(modes[group]))
    jsd = np.where(np.isfinite(jsd), jsd, 0)
    most = min(runs, key=lambda r: (-modes[r], jsd[r]))
    fewest = min(runs, key=lambda r: (modes[r], -jsd[r]))
    labels = results["run"].values
    return int(labels[most]), int(labels[fewest])


def _has_samples(results: xr.Dataset) -> NDArray:
    """Whether samples of a run at a step were kept, (R, S) bool."""
    # One coordinate tells: reading all of them could take gigabytes.
    return np.isfinite(np.asarray(results["samples"].isel(sample=0, xy=0).values))


def _real_samples(results: xr.Dataset, run: int, n: int) -> NDArray:
    """Samples (n, 2) of a run's target, always the same ones."""
    rng = np.random.default_rng(0)
    weights = np.asarray(results["target_weights"].values[run], float)
    modes = np.flatnonzero(np.isfinite(weights))
    mode = rng.choice(modes, n, p=weights[modes] / weights[modes].sum())
    means, stds = results["target_means"].values[run], results["target_stds"].values[run]
    return means[mode] + stds[mode, None] * rng.normal(size=(n, 2))


@_styled
def samples_over_training(results: xr.Dataset, runs: int | Sequence[int], steps: Sequence[int] | None = None) -> Figure:
    """Generated samples over real ones as training goes on: one row a run, one column a step.

    Where D's surface was kept it is the background: red where D says real, blue where it says fake, white at its
    decision value (the median over the row where D is defined up to a constant only), on one scale a row.

    Args:
        results: the dataset, with ``samples``.
        runs: label of a run, or several; repeated labels are drawn once.
        steps: values of ``step``; by default five of those with samples, evenly spread from first to last.
    """
    if "samples" not in results:
        raise ValueError("these results hold no samples")
    labels = list(dict.fromkeys([runs] if isinstance(runs, int | np.integer) else runs))
    positions = [_position(results, label) for label in labels]
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
    modes, quality = stats.values(results, "modes"), stats.values(results, "high_quality")
    total = stats.num_modes(results)
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
                covered = f"{modes[position, column]:.0f} of {total[position]} modes"
                notes = [
                    covered + (f"; {outside:,} outside" if outside else ""),
                    f"{100 * quality[position, column]:.0f} % high quality",
                ]
            _title(ax, f"step {axis[column]:,}", notes)
        name, seed = _text(str(results["recipe"].values[position]), 22), results["seed"].values[position]
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


@_styled
def overview(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """The table as dots and intervals: one row a recipe, in one order for all panels.

    Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run at 0 modes, 0 high
    quality, JSD = log 2), grey ticks what as many real samples get. A dash is an estimate that is not defined.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
    """
    names = _as_list(recipe, results)
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
                    at + _aside(end.size, 0.4),
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
    axes[0].set_yticks(y, [_text(name, 26) for name in names])
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


@_styled
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
                ax.plot(x, y + _aside(x.size, 0.8 * height), ".", color=colors[name], alpha=0.25, markersize=2.5)
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
    axes[0].set_yticks(list(places.values()), [_text(label, 26) for label in places])
    axes[0].set_ylim(-len(rows) + 0.5, 0.5)
    handles = [Line2D([], [], color=colors[name], marker="o", markersize=4, label=_text(name)) for name in series]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(series))
    return figure
