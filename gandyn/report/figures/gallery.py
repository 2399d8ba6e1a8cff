"""Recipes side by side at the last step."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from gandyn.analysis import intervals, reading, tables
from gandyn.report.figures.style import (
    COLORS,
    Figure,
    aside,
    draws,
    plain,
)


@draws(*tables.METRICS)
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
    fails = reading.diverged(results)
    for ax, metric in zip(axes, metrics, strict=False):
        final = reading.final(results, metric)
        if metric == "modes":
            final = final / reading.num_modes(results)
        for label, recipes in rows.items():
            for name, recipe in recipes.items():
                runs = reading.runs_of(results, recipe)
                y = places[label] + height * ((len(series) - 1) / 2 - series.index(name))
                x = final[runs][np.isfinite(final[runs])]
                if x.size == 0:
                    ax.text(0.5, y, "-", transform=ax.get_yaxis_transform(), ha="center", va="center")
                    continue
                ax.plot(x, y + aside(x.size, 0.8 * height), ".", color=colors[name], alpha=0.25, markersize=2.5)
                mean = intervals.mean_interval(x)
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
