"""What a loss curve is made of, and what it tells about the generated distribution."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gandyn.analysis import stats
from gandyn.report.figures._style import (
    COLORS,
    T7,
    as_list,
    aside,
    count,
    draw_line,
    need,
    plain,
    position_of,
    robust_limits,
    run_label,
    runs_by_name,
    set_title,
    styled,
    unit,
    until_failure,
)

_LOSS_LABELS = {"loss_disc": "discriminator's loss", "loss_gen": "generator's loss", "loss_total": "sum of losses"}

_GAIN = "#56B4E9"

_METRICS = {"jsd": "JSD", "w1": "W1", "modes": "modes"}


def _shade_lag(ax: Axes, step: NDArray, value: NDArray, best: NDArray) -> None:
    both = np.isfinite(value) & np.isfinite(best)
    ax.fill_between(step[both], value[both], best[both], color=COLORS["lag"], alpha=0.25, linewidth=0, zorder=0.5)


@styled
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
        names = [str(results["recipe"].values[position_of(results, run)])]
        if recipe is not None and names != as_list(recipe, results):
            raise ValueError(f"run {run} is of recipe {names[0]!r}, not of {recipe!r}")
    else:
        names = as_list(recipe, results)
    step = np.asarray(results["step"].values)
    curves = {m: stats.values(results, m) for m in ("value_batch", "value", "value_se", "value_best")}
    finite = np.asarray(results["finite"].values, float)
    figure = Figure(figsize=(9.5, 0.7 + 2.45 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        runs = stats.runs_of(results, name)
        shown = int(runs[0]) if run is None else position_of(results, run)
        loss = str(results["loss"].values[shown])
        equilibrium = float(results["equilibrium"].values[shown])
        one = {m: x[shown] for m, x in curves.items()}
        bands = {m: stats.band(curves[m][runs]) for m in ("value_batch", "value", "value_best")}
        no_best = not np.isfinite(curves["value_best"][runs]).any()

        _shade_lag(left, step, one["value"], one["value_best"])
        _shade_lag(right, step, bands["value"].mean, bands["value_best"].mean)
        error = T7 * one["value_se"]
        draw_line(left, step, one["value_batch"], COLORS["value_batch"], linewidth=1)
        draw_line(left, step, one["value_best"], COLORS["value_best"], linestyle="--")
        draw_line(left, step, one["value"], COLORS["value"], one["value"] - error, one["value"] + error)
        batch, value, best = bands.values()
        draw_line(right, step, batch.mean, COLORS["value_batch"], linewidth=1)
        # Its band all but covers that of the value: edges only, lest the two mix to a third colour.
        for bound in (batch.low, batch.high):
            draw_line(right, step, bound, COLORS["value_batch"], linewidth=0.6, marker="")
        draw_line(right, step, best.mean, COLORS["value_best"], best.low, best.high, linestyle="--")
        draw_line(right, step, value.mean, COLORS["value"], value.low, value.high)
        for ax in (left, right):
            ax.axhline(equilibrium, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)

        drawn = [one[m] for m in bands] + [x for b in bands.values() for x in (b.mean, b.low, b.high)]
        low, high, _ = robust_limits(np.concatenate(drawn), [equilibrium])
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
        set_title(left, plain(name), ["; ".join([label, *notes])])
        gone = int(stats.diverged(results)[runs].sum())
        count = int((stats.last_step(results)[runs] >= 0).sum())
        notes = [f"{gone} diverged, counted until then"] if gone else []
        notes += ["no best value is known for this loss, hence no lag"] if no_best else []
        notes += outside([b.mean for b in bands.values()])
        mean = f"mean over {count} runs with 95 % interval" if count > 1 else f"{count} run: no interval"
        set_title(right, "", ["; ".join(notes), mean] if notes else [mean])
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


@styled
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
    names = as_list(recipe, results)
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
        x = k + aside(shown.size, 0.3)

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
        low, high, outside = robust_limits(y, [equilibrium, *curve], reach=3)
        ax.set(xlim=(-0.6, total + 0.6), ylim=(low, high))
        failed = used[fails[used]]
        if failed.size:
            # A strip of its own above every loss: the height of a cross must not read as a loss.
            top = high + 0.1 * (high - low)
            ax.set_ylim(low, top)
            ax.axhspan(high, top, color="#ececec", linewidth=0, zorder=0)
            middle = np.full(failed.size, (high + top) / 2)
            ax.plot(aside(failed.size, 0.3), middle, "x", color=COLORS["diverged"], zorder=3)
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
        set_title(ax, plain(name, 28), [summary, ", ".join(notes)], width=44)
        ax.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        ax.set_xlabel(f"modes covered, of {total}")
        unit = " (nats)" if str(results["loss"].values[runs[0]]) in stats.IN_NATS else ""
        ax.set_ylabel(f"final {_LOSS_LABELS.get(loss, plain(loss))}{unit}")
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


def _mean(x: NDArray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = x[np.isfinite(x)]
    return float(defined.mean()) if defined.size else math.nan


def _signed(x: float) -> str:
    # A true minus sign, as on the axes.
    return f"{x:+.3f}".replace("-", "−")


def _budget(ax: Axes, results: xr.Dataset, runs: NDArray) -> list[str]:
    """Draws the budget of these runs; what lies beyond the axis, and how it ends, in words."""
    step = np.asarray(results["step"].values)
    equilibrium = np.asarray(results["equilibrium"].values, float)[runs, None]
    value, best = (until_failure(results, m)[runs] - equilibrium for m in ("value", "value_best"))
    noise = stats.sampling_noise(results)[runs]
    # One run has one draw a measurement: its spread is over its measurements.
    square = stats.band(noise**2).mean if runs.size > 1 else np.full(step.size, _mean(noise**2))
    spread = np.sqrt(square)
    left, divergence = stats.band(value).mean, stats.band(best).mean
    lag = divergence - left
    both = np.isfinite(divergence) & np.isfinite(left)
    for edge, color in ((divergence, COLORS["value_best"]), (-lag, COLORS["lag"])):
        ax.fill_between(step[both], 0, edge[both], color=color, alpha=0.3, linewidth=0)
        draw_line(ax, step, np.where(both, edge, np.nan), color, linewidth=0.9, marker="" if both.sum() > 1 else "_")
    draw_line(ax, step, left, COLORS["value"])
    known = np.isfinite(left) & np.isfinite(spread)
    band = (left - spread)[known], (left + spread)[known]
    ax.fill_between(step[known], *band, color=COLORS["value_batch"], alpha=0.5, linewidth=0)
    drawn = [left, divergence, -lag, *band]
    if "value_best_deep" in results:
        deep = stats.band(until_failure(results, "value_best_deep")[runs] - equilibrium).mean
        draw_line(ax, step, deep, COLORS["value_best"], linestyle="none", marker="D", markersize=3.5)
        drawn.append(deep)
    low, high, _ = robust_limits(np.concatenate(drawn), [0], reach=3)
    ax.set_ylim(low, high)
    ax.axhline(0, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
    outside = sum(int(((y < low) | (y > high)).sum()) for y in drawn)
    notes = [f"{count(outside, 'point')} beyond the axis"] if outside else []
    if not both.any():
        return [*notes, "no best value is known for this loss, hence no parts" if known.any() else "not measured"]
    end = np.flatnonzero(both)[-1]
    parts = (float(x[end]) for x in (divergence, -lag, left))
    sum_ = "{} {} = {}".format(*map(_signed, parts))
    noisy = f", minibatch noise ±{spread[end]:.3f}" if math.isfinite(spread[end]) else ""
    return [*notes, f"at step {step[end]:,}: {sum_}{noisy}"]


def _gap(ax: Axes, results: xr.Dataset, runs: NDArray) -> list[str]:
    """Draws the duality gap of these runs and its two parts."""
    step = np.asarray(results["step"].values)
    gaps = until_failure(results, "duality_gap")[runs]
    lags = until_failure(results, "lag_deep" if "lag_deep" in results else "lag")[runs]
    gap, low, high, _ = stats.band(gaps)
    if runs.size == 1 and "duality_gap_se" in results:
        error = T7 * until_failure(results, "duality_gap_se")[runs[0]]
        low, high = gap - error, gap + error
    lag = stats.band(np.where(np.isfinite(gaps), lags, np.nan)).mean
    both = np.isfinite(gap) & np.isfinite(lag)
    ax.fill_between(step[both], 0, lag[both], color=COLORS["lag"], alpha=0.3, linewidth=0)
    ax.fill_between(step[both], lag[both], gap[both], color=_GAIN, alpha=0.4, linewidth=0)
    draw_line(ax, step, gap, COLORS["equilibrium"], low, high)
    ax.axhline(0, color=COLORS["equilibrium"], linestyle=":", linewidth=1.1)
    below, above, outside = robust_limits(np.concatenate([gap, low, high]), [0], reach=3)
    ax.set_ylim(below, above)
    notes = [f"{count(outside, 'point')} beyond the axis"] if outside else []
    return notes if np.isfinite(gap).any() else ["not measured"]


@styled
def gap_budget(results: xr.Dataset, recipe: str | Sequence[str] | None = None, run: int | None = None) -> Figure:
    """How far the minibatch value is from its value at equilibrium, and of which two large terms that is the sum.

        minibatch value - equilibrium  =  (max_D V - equilibrium)  -  lag  +  noise

    Left, the divergence that is left (never negative) upwards from zero, the lag of D (never negative) downwards, and
    the line that remains of the two: near zero a loss reads as converged, whatever the areas are. The band around it
    is one standard deviation of the minibatch value: over runs at each step, for a single run over its measurements.
    Diamonds are the best value of the deep measurement. Right, where it was measured, the duality gap, max_D V - min_G
    V: what D could gain (its lag) and what G could gain, stacked, with its 95 % interval; it is zero at an equilibrium
    only. Means over the runs of a recipe that have not diverged, one row a recipe; or one run.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        run: label of a run to draw instead of the mean over its recipe.

    Raises:
        ValueError: for results without a value at equilibrium, and for a run that is not of the recipe.
    """
    need(results, "value", "value_best", "value_batch", "equilibrium")
    rows = runs_by_name(results, recipe, run)
    columns = 1 + ("duality_gap" in results)
    figure = Figure(figsize=(6.0 if columns == 1 else 9.5, 0.75 + 2.5 * len(rows)), layout="constrained")
    axes = figure.subplots(
        len(rows), columns, sharex=True, squeeze=False, width_ratios=(1.0,) if columns == 1 else (1.25, 1.0)
    )
    fails, last = stats.diverged(results), stats.last_step(results)
    for row, (name, runs) in zip(axes, rows.items(), strict=True):
        used = int((last[runs] >= 0).sum())
        whose = run_label(results, int(runs[0])) if run is not None else f"mean over {count(used)}"
        gone = int(fails[runs].sum())
        whose += f", {gone} diverged, counted until then" if gone else ""
        *outside, ending = _budget(row[0], results, runs)
        set_title(row[0], plain(name), ["; ".join([whose, *outside]), ending])
        row[0].set_ylabel(f"above equilibrium{unit(results, int(runs[0]))}")
        if columns == 2:
            set_title(row[1], "duality gap", _gap(row[1], results, runs))
            row[1].set_ylabel(f"max over D − min over G{unit(results, int(runs[0]))}")
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
        ax.xaxis.set_major_locator(MaxNLocator(6 if columns == 1 else 5, integer=True))
    handles = [
        Patch(color=COLORS["value_best"], alpha=0.3, linewidth=0, label="divergence: best value − equilibrium"),
        Patch(color=COLORS["lag"], alpha=0.3, linewidth=0, label="lag of D, taken off"),
        Line2D([], [], color=COLORS["value"], label="what is left: value − equilibrium"),
        Patch(color=COLORS["value_batch"], alpha=0.5, linewidth=0, label="± sd of the minibatch value"),
    ]
    if "value_best_deep" in results:
        deep = {"marker": "D", "markersize": 3.5, "linestyle": "none"}
        handles.append(Line2D([], [], color=COLORS["value_best"], **deep, label="best value, deep measurement"))
    if columns == 2:
        handles.append(Patch(color=_GAIN, alpha=0.4, linewidth=0, label="what G could gain"))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns + 1)
    return figure


def _implied(results: xr.Dataset, player: Literal["disc", "gen"]) -> NDArray:
    """Modes that a player's loss implies, (R, S): as recorded, else computed; nothing where neither is possible."""
    if f"implied_modes_{player}" in results:
        return until_failure(results, f"implied_modes_{player}")
    if f"best_loss_{player}" not in results:
        return np.full((results.sizes["run"], results.sizes["step"]), np.nan)
    return stats.implied_modes(results, player)


@styled
def implied_modes(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """Modes covered, beside how many the players' losses imply, were D optimal and G even over its modes.

    Left the first run of a recipe, right means over its runs that have not diverged with 95 % intervals; one row a
    recipe. Where the two implied numbers part, D is not optimal or the mass is uneven (`stats.implied_modes`).

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.

    Raises:
        ValueError: for results from which neither player's number follows.
    """
    if not {"implied_modes_disc", "implied_modes_gen", "best_loss_disc", "best_loss_gen"} & set(results):
        need(results, "implied_modes_disc")
    need(results, "modes")
    names = as_list(recipe, results)
    step = np.asarray(results["step"].values)
    curves = {
        "disc": (_implied(results, "disc"), COLORS["disc"], "-"),
        "gen": (_implied(results, "gen"), COLORS["gen"], "--"),
        "modes": (until_failure(results, "modes"), COLORS["equilibrium"], "-"),
    }
    fails, total = stats.diverged(results), stats.num_modes(results)
    figure = Figure(figsize=(9.5, 0.7 + 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        runs = stats.runs_of(results, name)
        lacking = [player for player in ("disc", "gen") if not np.isfinite(curves[player][0][runs]).any()]
        for x, color, style in curves.values():
            draw_line(left, step, x[runs[0]], color, linestyle=style)
            band = stats.band(x[runs])
            draw_line(right, step, band.mean, color, band.low, band.high, linestyle=style)
        left.axhline(total[runs[0]], color=COLORS["real"], linewidth=0.8)
        right.axhline(total[runs].max(), color=COLORS["real"], linewidth=0.8)
        left.set(ylim=(-0.04 * total[runs].max(), 1.08 * total[runs].max()), ylabel="modes")
        left.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        notes = [run_label(results, int(runs[0]))]
        if len(lacking) == 2:
            notes += ["what this recipe's losses imply is not known"]
        elif lacking:
            notes += [f"what {'D' if lacking[0] == 'disc' else 'G'}'s loss implies is not known"]
        set_title(left, plain(name), ["; ".join(notes)])
        gone = int(fails[runs].sum())
        mean = f"mean over {count(runs.size)}" + (f"; {gone} diverged, counted until then" if gone else "")
        set_title(right, "", [mean])
    for ax in axes[-1]:
        ax.set_xlabel("generator updates")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles = [
        Line2D([], [], color=COLORS["equilibrium"], label="modes covered"),
        Line2D([], [], color=COLORS["disc"], label="implied by D's loss"),
        Line2D([], [], color=COLORS["gen"], linestyle="--", label="implied by G's loss"),
        Line2D([], [], color=COLORS["real"], linewidth=0.8, label="all modes"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


_PLAYERS = {
    "loss_disc": (COLORS["disc"], "o"),
    "loss_gen": (COLORS["gen"], "s"),
    "loss_total": (COLORS["total"], "D"),
}


@styled
def tracking(
    results: xr.Dataset,
    recipe: str | Sequence[str] | None = None,
    table: Sequence[stats.Correlation] | None = None,
) -> Figure:
    """Which loss tracks the truth: rank correlation of each loss with JSD, W1 and modes, with 95 % intervals.

    Above, over the steps of a run, as a mean over runs; below, over runs, each at its end. One row a recipe, one
    column a metric, one dot a loss. A loss tracks a metric where its dot is far from 0 on either side; a loss that
    does so within runs and not across them tells time, not quality. A dash is a correlation that is not defined.

    Args:
        results: the dataset.
        recipe: one recipe or several; all by default.
        table: what `stats.correlations` returns, to save computing it again.

    Raises:
        ValueError: where none of the metrics is recorded.
    """
    names = as_list(recipe, results)
    table = stats.correlations(results) if table is None else table
    found = {(row.recipe, row.loss, row.metric): row for row in table}
    metrics = [m for m in dict.fromkeys(row.metric for row in table) if m in results]
    losses = [loss for loss in dict.fromkeys(row.loss for row in table) if loss in results]
    if not metrics or not losses:
        raise ValueError("these results hold none of the losses and metrics of the table; gandyn.run records them")
    figure = Figure(figsize=(2.0 + 2.5 * len(metrics), 1.3 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots(2, len(metrics), sharex=True, sharey=True, squeeze=False)
    shifts = 0.26 * (np.arange(len(losses)) - (len(losses) - 1) / 2)
    for row, kind in zip(axes, ("within", "across"), strict=True):
        for ax, metric in zip(row, metrics, strict=True):
            for at, name in enumerate(names):
                for loss, shift in zip(losses, shifts, strict=True):
                    value, low, high = getattr(found[name, loss, metric], kind).estimate
                    color, marker = _PLAYERS.get(loss, (COLORS["real"], "v"))
                    y = at + shift
                    if math.isfinite(value):
                        ax.plot([low, high], [y, y], color=color, linewidth=1.8, solid_capstyle="butt")
                        ax.plot(value, y, marker, color=color, markersize=4.5, markeredgecolor="white", zorder=4)
                    else:
                        ax.text(0, y, "–", color=color, ha="center", va="center_baseline", fontsize=8)
                if at % 2:
                    ax.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
            ax.axvline(0, color="#555555", linewidth=0.8, zorder=1)
            ax.set_xlim(-1.1, 1.1)
            ax.grid(axis="y", visible=False)
            ax.tick_params(axis="y", length=0)
            set_title(ax, f"{_METRICS.get(metric, plain(metric))}, {kind} runs")
    for ax in axes[-1]:
        ax.set_xlabel("rank correlation")
    axes[0, 0].set_yticks(range(len(names)), [plain(name, 26) for name in names])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D(
            [],
            [],
            color=_PLAYERS.get(loss, (COLORS["real"], "v"))[0],
            marker=_PLAYERS.get(loss, (COLORS["real"], "v"))[1],
            markersize=4.5,
            linewidth=1.8,
            label=_LOSS_LABELS.get(loss, plain(loss)),
        )
        for loss in losses
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
