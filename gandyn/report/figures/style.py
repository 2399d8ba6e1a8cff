"""What the figures have in common: how they show themselves, style, colours, lines, labels and titles."""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from gandyn.analysis import reading
from gandyn.text import printable

STYLE = Path(__file__).parents[1] / "gandyn.mplstyle"

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
    "disc": "#0072B2",
    "gen": "#E69F00",
    "total": "#009E73",
}

GAIN = "#56B4E9"
"""What G could gain in the duality gap."""

LOSS_LABELS = {"loss_disc": "discriminator's loss", "loss_gen": "generator's loss", "loss_total": "sum of losses"}

# A standard error from eight independent scrambles: Student's t with 7 degrees of freedom.
T7 = 2.365

# How to get what a figure lacks, for variables that not every dataset has.
_DEEP = "gandyn.run records it with deep_every and {!r} in deep"
_HOW = {
    "verdict": "gandyn.verdicts.judge(results) adds it",
    "eigenvalues": _DEEP.format("spectrum"),
    "grad_snr_gen": _DEEP.format("gradients"),
    "value": "gandyn.run records it with 'value' among its measurements",
    "accuracy": "gandyn.run records it with 'value' among its measurements",
    "value_batch": "gandyn.run records it with 'value' among its measurements",
    "value_best": "gandyn.run records it with 'best_response' among its measurements",
    "implied_modes_disc": "it follows from best_loss_disc, which gandyn.run records",
    "modes": "gandyn.run records it with 'coverage' among its measurements",
}

_P = ParamSpec("_P")


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that pyplot knows nothing of, and that shows itself where a notebook's cell ends with it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def draws(*metrics: str) -> Callable[[Callable[_P, Figure]], Callable[_P, Figure]]:
    """Makes a figure's function draw in the package's style whatever the caller's settings, and leave those alone.

    Args:
        metrics: what the figure shows of the recorded metrics, kept as its attribute ``draws``. A metric that no figure
            shows has a default curve in the report.
    """

    def decorate(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
        @functools.wraps(draw)
        def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
            with matplotlib.style.context(["default", STYLE]):
                figure = draw(*args, **kwargs)
                # The first tick of an axis is made when it is asked for, from the settings of then; others copy it.
                for ax in figure.axes:
                    ax.get_xticklabels()
                    ax.get_yticklabels()
            return figure

        styled.draws = metrics  # pyright: ignore[reportAttributeAccessIssue]
        return styled

    return decorate


def plain(label: str, width: int = 40) -> str:
    """A label from the data as plain text: no mathematics between dollar signs, wrapped, at most two lines."""
    lines = textwrap.wrap(printable(label), width, max_lines=2, placeholder=" …") or ["(no label)"]
    return "\n".join(lines).replace("$", r"\$")


def set_title(ax: Axes, title: str, notes: Sequence[str] = (), width: int = 64) -> None:
    """A bold title with small text under it, in lines of ``width`` characters, above the axes where no data is."""
    notes = [line for note in notes for line in textwrap.wrap(note, width) or [""]]
    ax.set_title(title, pad=5 + 11 * len(notes))
    for i, note in enumerate(reversed(notes)):
        ax.annotate(note, (0, 1), (0, 4 + 11 * i), xycoords="axes fraction", textcoords="offset points", fontsize=8)


def robust_limits(values: ArrayLike, always: ArrayLike = (), reach: float = 1.0) -> tuple[float, float, int]:
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


def whole_ticks(most: int) -> MaxNLocator:
    """Ticks at whole numbers alone: where the axis shows one, a single tick, and never 3.75 modes."""
    return MaxNLocator(most, integer=True, min_n_ticks=1)


def limits_of_modes(total: float) -> tuple[float, float]:
    """An axis of modes, from none to all ``total`` whatever was covered, with room for markers at both ends."""
    total = max(float(total), 1.0)
    return -0.05 * total, 1.05 * total


def keep_panels(axes: NDArray, used: int, xlabel: str) -> None:
    """Removes the panels (rows, columns) behind the first ``used``, and labels the lowest one left of each column."""
    for ax in axes.flat[used:]:
        ax.remove()
    for column in range(axes.shape[1]):
        # It need not be in the last row.
        lowest = axes.flat[[i for i in range(used) if i % axes.shape[1] == column][-1]]
        lowest.set_xlabel(xlabel)
        lowest.tick_params(axis="x", labelbottom=True)


def undefined(ax: Axes, y: float, color: str = "#222222") -> None:
    """The word for an estimate that is not defined, away from the lines of the axis: a dash on one reads as a value."""
    at = ax.get_yaxis_transform()
    ax.text(0.26, y, "undefined", color=color, transform=at, ha="center", va="center_baseline", fontsize=6)


def draw_line(
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


def quartiles(x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Median, lower and upper quartile over runs (R, S) -> (S,) each: entries of x itself, for infinity has no mean."""
    result = np.full((3, x.shape[1]), np.nan)
    for s in np.flatnonzero(~np.isnan(x).all(axis=0)):
        result[:, s] = np.quantile(x[~np.isnan(x[:, s]), s], [0.5, 0.25, 0.75], method="inverted_cdf")
    return result[0], result[1], result[2]


def aside(n: int, width: float, ratio: float = 0.6180339887) -> NDArray:
    """Offsets (n,) that spread points over a width, evenly however many there are: golden ratio multiples, modulo 1.

    The first is 0: a point alone stands where it belongs.

    Offsets along a second axis take another irrational ``ratio``, or all points would lie on a diagonal.
    """
    return width * ((0.5 + np.arange(n) * ratio) % 1 - 0.5)


def as_list(recipe: str | Sequence[str] | None, results: xr.Dataset) -> list[str]:
    """The recipes asked for: one, several, or all."""
    if recipe is None:
        return reading.recipes(results)
    return [recipe] if isinstance(recipe, str) else list(recipe)


def position_of(results: xr.Dataset, run: int) -> int:
    """Position along ``run`` of the run with this label."""
    found = np.flatnonzero(results["run"].values == run)
    if found.size == 0:
        raise ValueError(f"no run {run} in these results")
    return int(found[0])


def need(results: xr.Dataset, *names: str) -> None:
    """ValueError where the dataset lacks a variable, with how to record it."""
    for name in names:
        if name not in results:
            how = _HOW.get(name, "gandyn.run records it (docs/results.md)")
            raise ValueError(f"these results hold no {name}; {how}")


def runs_by_name(results: xr.Dataset, recipe: str | Sequence[str] | None, run: int | None) -> dict[str, NDArray]:
    """Recipe -> positions of its runs; of the one run alone where its label is given.

    ValueError for a run that is not of the recipe.
    """
    if run is None:
        return {name: reading.runs_of(results, name) for name in as_list(recipe, results)}
    position = position_of(results, run)
    name = str(results["recipe"].values[position])
    if recipe is not None and [name] != as_list(recipe, results):
        raise ValueError(f"run {run} is of recipe {name!r}, not of {recipe!r}")
    return {name: np.array([position])}


def until_failure(results: xr.Dataset, metric: str) -> NDArray:
    """A metric (R, S) with nothing from a divergence on, also where a failed run counts as something."""
    failed = np.asarray(results["finite"].values, float) == 0
    return np.where(failed, np.nan, np.asarray(results[metric].values, float))


def run_label(results: xr.Dataset, position: int) -> str:
    """'run 3, seed 3'."""
    return f"run {results['run'].values[position]}, seed {results['seed'].values[position]}"


def unit(results: xr.Dataset, position: int) -> str:
    """' (nats)' where the value of the run's game is in nats."""
    return " (nats)" if reading.in_nats(results)[position] else ""


def metric_label(results: xr.Dataset, metric: str) -> str:
    """'Jensen-Shannon divergence, lower bound (nat)': a metric's long name with its unit, else its name."""
    attrs = results[metric].attrs
    label, units = str(attrs.get("long_name", "")) or metric, str(attrs.get("units", ""))
    return plain(label if units in ("", "1") or units in label else f"{label} ({units})")


def count(n: int, noun: str = "run") -> str:
    """'1 run', '2 runs'."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
