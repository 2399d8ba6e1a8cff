"""The modes that losses imply, beside those covered."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gandyn.analysis import intervals, loss_curves, reading
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    as_list,
    count,
    draw_line,
    draws,
    limits_of_modes,
    need,
    plain,
    run_label,
    set_title,
    until_failure,
    whole_ticks,
)


def _implied(results: xr.Dataset, player: Literal["disc", "gen"]) -> NDArray:
    """Modes that a player's loss implies, (R, S): as recorded, else computed; nothing where neither is possible."""
    if f"implied_modes_{player}" in results:
        return until_failure(results, f"implied_modes_{player}")
    if f"best_loss_{player}" not in results:
        return np.full((results.sizes["run"], results.sizes["step"]), np.nan)
    return loss_curves.implied_modes(results, player)


@draws("implied_modes_disc", "implied_modes_gen", "modes")
def implied_modes(results: xr.Dataset, recipe: str | Sequence[str] | None = None) -> Figure:
    """Modes covered, beside how many the players' losses imply, were D optimal and G even over its modes.

    Left the first run of a recipe, right means over its runs that have not diverged with 95 % intervals; one row a
    recipe. Where the two implied numbers part, D is not optimal or the mass is uneven (`loss_curves.implied_modes`).

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
    fails, total = reading.diverged(results), reading.num_modes(results)
    figure = Figure(figsize=(9.5, 0.7 + 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        runs = reading.runs_of(results, name)
        lacking = [player for player in ("disc", "gen") if not np.isfinite(curves[player][0][runs]).any()]
        for x, color, style in curves.values():
            draw_line(left, step, x[runs[0]], color, linestyle=style)
            band = intervals.band(x[runs], bounds=(0, float(total[runs].max())))
            draw_line(right, step, band.mean, color, band.low, band.high, linestyle=style)
        left.axhline(total[runs[0]], color=COLORS["real"], linewidth=0.8)
        right.axhline(total[runs].max(), color=COLORS["real"], linewidth=0.8)
        left.set(ylim=limits_of_modes(total[runs].max()), ylabel="modes")
        left.yaxis.set_major_locator(whole_ticks(5))
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
        ax.xaxis.set_major_locator(whole_ticks(6))
    handles = [
        Line2D([], [], color=COLORS["equilibrium"], label="modes covered"),
        Line2D([], [], color=COLORS["disc"], label="implied by D's loss"),
        Line2D([], [], color=COLORS["gen"], linestyle="--", label="implied by G's loss"),
        Line2D([], [], color=COLORS["real"], linewidth=0.8, label="all modes"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
