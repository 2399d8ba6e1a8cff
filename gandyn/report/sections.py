"""What each section of the report shows and says: tables in cells, figures with their captions."""

import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gandyn.analysis import intervals, reading, tables
from gandyn.report import figures as plots
from gandyn.report.facts import count
from gandyn.text import printable

MAX_RECIPES = 12
"""A figure has a row or a panel a recipe; past this many it is no longer read. The table has them all."""


class Section(NamedTuple):
    """A figure of the report, with what stands above and below it."""

    heading: str
    caption: str
    draw: Callable[[xr.Dataset, Sequence[str]], plots.Figure]
    """Takes the results and the recipes to draw."""
    needs: tuple[str, ...] = ()
    """Variables without which there is nothing to draw."""
    any_of: tuple[str, ...] = ()
    """Variables of which one at least must have a value somewhere."""
    all_recipes: bool = False
    """Whether every recipe is drawn, however many there are."""


OVERVIEW = Section(
    "The table as a picture",
    "Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run sits at what it "
    "counts as), grey ticks what as many real samples get. Lag is the best value minus the value: 0 means that the "
    "discriminator answers the generator as well as any could. Lag is in nats for the logistic losses. Where an "
    "estimate is undefined, the notes of the table say why.",
    plots.overview,
)

DECOMPOSITION = Section(
    "What a loss curve is made of",
    "Left, the first run of each recipe; right, means over its runs with 95 % intervals (thin lines for the minibatch "
    "value, of which log files show the negative). The value is the truth that the minibatch value estimates. The best "
    "value is what the best discriminator would reach against the same generator: it falls to the equilibrium line as "
    "the generated distribution comes closer to the target, and only there. The shaded gap between the two is the lag. "
    "A value on the equilibrium line under a large lag looks converged, and is not: the discriminator is behind.",
    plots.decomposition,
    needs=("value", "value_se", "value_batch", "value_best"),
)

DISTRIBUTIONS = Section(
    "How the seeds are distributed",
    "Modes covered at the end: bars are shares of the runs, points single runs, crosses diverged ones. Below, the mean "
    "and the mean of the middle half with 95 % intervals. Where the runs fall into two groups, the mean lies where no "
    "run is.",
    lambda results, recipes: plots.distributions(results, "modes", recipes),
    needs=("modes",),
)

TRACKING = Section(
    "Which loss tracks the truth?",
    "Spearman's rank correlation of each loss with the truth, with 95 % intervals: above over the steps of a run, as "
    "a mean over runs, below over runs at their ends. A loss far from 0 on either side tracks the metric; one that "
    "does so within runs but not across them tells time, not quality. Where a correlation is undefined, it says so.",
    plots.tracking,
    needs=("loss_disc",),
    any_of=("jsd", "w1", "modes"),
)

IMPLIED_MODES = Section(
    "How many modes the losses imply",
    "Left the first run of each recipe, right means over its runs with 95 % intervals. Each loss is turned into the "
    "number of modes at which it would read so, were the discriminator at its best and the mass even over the modes. "
    "Where the two players' numbers part, one of the two does not hold. Where they agree, that proves nothing: under a "
    "weak discriminator both losses stay near equilibrium, and imply all modes where none may be covered. The line of "
    "the modes that are covered is drawn beside them.",
    plots.implied_modes,
    needs=("modes",),
    any_of=("implied_modes_disc", "implied_modes_gen", "best_loss_disc", "best_loss_gen"),
)

GRADIENT_SNR = Section(
    "How much of a gradient is signal",
    "Medians over runs with quartiles. Below a signal to noise of 1 a minibatch gradient is more noise than signal; "
    "the noise scale is the batch size at which the two are equal. Saturation is the share of the generator's "
    "gradient that is lost to a discriminator that is too sure. A half of it lost is no sign of health: a "
    "discriminator that knows nothing gives just that.",
    plots.gradient_snr,
    any_of=("grad_snr_gen", "grad_snr_disc"),
)


ACCURACY = Section(
    "What the discriminator tells right",
    "Means over runs with 95 % intervals: how many samples, half of them real, D tells right at its decision "
    "threshold, beside what the best D would. 50 % hides which of two things is true: that nothing is left to tell "
    "apart (then the best D has 50 %, too), or that D knows nothing. Nor need a D at 50 % be undecided: the dotted "
    "lines show one that calls everything real, or everything fake.",
    plots.accuracy,
    any_of=("accuracy",),
)


def gap_budget(results: xr.Dataset) -> Section:
    """The two large terms of a loss, and the duality gap where it was measured."""
    caption = (
        "Means over runs. Upwards from zero, what is left of the divergence: the best value minus the value at "
        "equilibrium. Downwards, the discriminator's lag. The line is what remains of the two, and all that a loss "
        "curve can show, within the band of its minibatch noise: it reads zero where the two cancel, however large "
        "they are. The numbers above each panel are the two terms and their sum at the end."
    )
    if "duality_gap" in results:
        caption += (
            " Right, the duality gap: what the discriminator and what the generator could gain; it is zero at an "
            "equilibrium only."
        )
    heading = "A loss near equilibrium is a sum of two large terms"
    return Section(heading, caption, plots.gap_budget, ("value", "value_batch", "equilibrium"), ("value_best",))


def loss_against_coverage(loss: str, player: str) -> Section:
    """One player's final loss against the modes covered."""
    return Section(
        f"Does the {player}'s loss show the coverage?",
        f"One point a run: the {player}'s final minibatch loss against the modes it ended with (points are moved aside "
        "a little so that they do not hide each other). Diamonds are what the loss would read if the discriminator "
        "were at its best and k modes were covered evenly; the dotted line is the loss at equilibrium. If the loss "
        "told the coverage, points would lie on the diamonds. Above each panel, Spearman's rank correlation over runs "
        "with its 95 % interval. Crosses in a grey strip are diverged runs, which have no loss.",
        lambda results, recipes: plots.loss_against_coverage(results, loss, recipes),
        needs=(loss, "modes"),
    )


def mosaic_by(results: xr.Dataset) -> str | tuple[str, str]:
    """What spans the mosaic: the one or two numbers that a sweep varies within its settings, else the recipe."""
    settings = {
        str(name): c.values.tolist()
        for name, c in results.coords.items()
        if c.dims == ("run",) and name not in {"run", "seed", "recipe"} and len(set(c.values.tolist())) > 1
    }
    swept = [name for name in settings if results[name].dtype.kind in "iuf"]
    recipes = [str(label) for label in results["recipe"].values]
    # A grid has each value of one with each value of the rest, which recipes that differ in all things have not.
    others = [found for name, found in settings.items() if name not in swept]
    rest = list(zip(*others, strict=True)) or [()] * len(recipes)
    cells = math.prod(len(set(settings[name])) for name in swept) * len(set(rest))
    if len(swept) not in (1, 2) or cells != len(set(recipes)):
        return "recipe"
    return swept[0] if len(swept) == 1 else (swept[0], swept[1])


def verdict_mosaic(results: xr.Dataset) -> Section:
    """Every run's verdict, by what a sweep varies."""
    by = mosaic_by(results)
    if isinstance(by, tuple):
        caption = (
            "A strip for each pair of values, of the shares of its verdicts, coloured and signed as in the legend, "
            "which counts them; above each strip how many of its runs converged."
        )
    else:
        caption = (
            "One cell a run, coloured and signed by verdict; the legend counts them. Runs in one row of a panel share "
            "their seed."
        )
    return Section(
        "What happened to each run",
        caption,
        lambda results, recipes: plots.verdict_mosaic(results, by, recipes),
        needs=("verdict",),
        # A sweep's recipes are its columns: all of them are needed, and take little room.
        all_recipes=by != "recipe",
    )


def spectrum(results: xr.Dataset) -> Section | None:
    """The spectrum of the first run that has eigenvalues; None where there is none."""
    if "eigenvalues" not in results:
        return None
    first = results["eigenvalues"].isel(eigenvalue=0, part=0).transpose("run", "step").values
    runs = np.flatnonzero(np.isfinite(first.astype(float)).any(axis=1))
    if runs.size == 0:
        return None
    label = int(results["run"].values[runs[0]])
    return Section(
        "The spectrum of the game",
        "Eigenvalues of the flow's Jacobian in the complex plane, for the first run that has them; later steps are "
        "brighter. On the grey side of the imaginary axis the flow is unstable; far from the real axis it rotates. "
        "Right, where measured: a step of training contracts where the spectral radius is below 1.",
        lambda results, _: plots.spectrum(results, label),
        all_recipes=True,
    )


def samples_over_training(results: xr.Dataset) -> Section | None:
    """Samples of two runs that differ most; None where no run has any in the plane."""
    if "samples" not in results or "xy" not in results["samples"].dims:
        return None
    try:
        runs = plots.pick_covering_and_collapsed(results)
    except ValueError:
        return None
    caption = "Generated samples (black) over real ones (grey)."
    if runs[0] != runs[1]:
        caption += (
            " The runs are of one recipe, the one whose runs end furthest apart: above the one that covers most modes "
            "at the end (or has the smaller JSD), below the one that covers fewest; they differ in the seed alone."
        )
    if "surface" in results:
        caption += (
            " The background is the discriminator's output: red where it says real, blue where it says fake, white "
            "where it is undecided."
        )
    return Section(
        "Samples over training",
        caption,
        lambda results, _: plots.samples_over_training(results, runs),
        all_recipes=True,
    )


def figures(results: xr.Dataset) -> Iterator[Section]:
    """The figures of these results, in the order of the page."""
    for section in (
        OVERVIEW,
        DECOMPOSITION,
        gap_budget(results),
        ACCURACY,
        verdict_mosaic(results),
        DISTRIBUTIONS,
        loss_against_coverage("loss_disc", "discriminator"),
        loss_against_coverage("loss_gen", "generator"),
        TRACKING,
        IMPLIED_MODES,
        GRADIENT_SNR,
        spectrum(results),
        samples_over_training(results),
    ):
        if section is not None and set(section.needs) <= set(results) and _any_of(results, section.any_of):
            yield section


def _has_value(results: xr.Dataset, name: str) -> bool:
    return name in results and bool(np.isfinite(results[name].values.astype(float)).any())


def _any_of(results: xr.Dataset, names: Sequence[str]) -> bool:
    return not names or any(_has_value(results, name) for name in names)


_COMPANIONS = ("_se", "_real", "_floor")
"""Endings of metrics that stand beside another one: its standard error, its value for real samples."""


def undrawn(results: xr.Dataset) -> list[str]:
    """The metrics of a person's own measurements that no figure and no table shows, less companions of others."""
    drawn = set(tables.METRICS).union(*(getattr(vars(plots)[name], "draws", ()) for name in plots.__all__))
    metrics = [
        str(name) for name, x in results.data_vars.items() if x.dims == ("run", "step") and "measurement" in x.attrs
    ]
    companions = {name + ending for name in metrics for ending in _COMPANIONS}
    return [name for name in metrics if name not in drawn | companions]


def others(results: xr.Dataset) -> tuple[list[str], list[Section]]:
    """What else was measured: sentences on the metrics without a curve, and a default curve for each of the others."""
    names = undrawn(results)
    never = [name for name in names if not _has_value(results, name)]
    zero = [name for name in names if name not in never and not np.nan_to_num(results[name].values).any()]
    told = lambda names: ", ".join(f"{results[name].attrs.get('long_name', name)} ({name})" for name in names)  # noqa: E731
    sentences = [f"Zero throughout: {told(zero)}."] if zero else []
    sentences += [f"Without a value in any run: {told(never)}."] if never else []
    return sentences, [_curve(results, name) for name in names if name not in (*never, *zero)]


def _curve(results: xr.Dataset, name: str) -> Section:
    label = str(results[name].attrs.get("long_name", "") or name)
    failed = reading.failed_value(results, name)
    caption = f"{name}: median and quartiles over the runs of each recipe, those that diverged "
    caption += "until then." if math.isnan(failed) else f"counting as {failed:g} from then on."
    return Section(label, caption, functools.partial(_draw_curve, metric=name))


def _draw_curve(results: xr.Dataset, recipes: Sequence[str], metric: str) -> plots.Figure:
    return plots.curves(results, metric, recipes)


def table(rows: Sequence[tables.Row]) -> dict[str, Any]:
    """The cells of the table: what its template reads."""
    notes = tables.footnotes(rows)
    found = []
    for row in rows:
        cells = []
        for key, column in tables.COLUMNS.items():
            entry = row.entries[key]
            value, space, interval = tables.format_interval(entry.interval, column).partition(" [")
            cells.append(
                {
                    "value": "–" if value == "-" else value,
                    "interval": space.strip() + interval,
                    "note": notes.get(entry.note),
                }
            )
        runs = str(row.runs) if row.measured == row.runs else f"{row.measured} of {row.runs}"
        found.append({"recipe": printable(row.recipe), "runs": runs, "cells": cells})
    references = {
        who.removesuffix(" get"): [texts.get(key, "") for key in tables.COLUMNS]
        for who, texts in tables.references(rows).items()
    }
    return {"columns": list(tables.COLUMNS.values()), "rows": found, "references": references, "notes": notes}


def _verdict_rules(results: xr.Dataset) -> dict[str, str]:
    """Verdict -> its rule in words, as recorded with the verdicts; empty where that is not readable."""
    try:
        rules = json.loads(str(results["verdict"].attrs.get("rule", "")))
    except ValueError:
        return {}
    return {str(name): str(rule) for name, rule in rules.items()} if isinstance(rules, dict) else {}


MAX_REASONS = 200
"""Runs whose reason the page gives."""


def verdicts(results: xr.Dataset) -> dict[str, Any] | None:
    """How many runs of each recipe had which verdict, and the rules; None for results without verdicts."""
    told = reading.verdicts(results)
    if not told:
        return None
    found = np.array([one.verdict for one in told], object)
    names = [v for v in dict.fromkeys([*plots.VERDICT_MARKS, *found]) if (found == v).any()]
    rows = []
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        counts = [int((found[runs] == name).sum()) for name in names]
        shares = [intervals.share_interval(n, runs.size) for n in counts]
        texts = [tables.format_interval(share, tables.COLUMNS["all_modes"]) for share in shares]
        cells = list(zip(counts, texts, strict=True))
        marked = sum(bool(told[r].fragile) for r in runs)
        rows.append({"recipe": printable(recipe), "runs": runs.size, "cells": cells, "fragile": marked})
    worded = lambda name: printable(name).replace("_", " ")  # noqa: E731
    reasons = []
    for one in told[:MAX_REASONS]:
        fragile = f" (fragile: {printable(one.fragile)})" if one.fragile else ""
        reasons.append((f"run {one.run}: {worded(one.verdict)}", printable(one.reason) + fragile))
    rules = _verdict_rules(results)
    ordered = [name for name in dict.fromkeys([*names, *rules]) if name in rules]
    return {
        "names": [worded(name) for name in names],
        "rows": rows,
        "reasons": reasons,
        "left": found.size - len(reasons),
        "rules": [(worded(name), printable(rules[name])) for name in ordered],
    }


def left_out(results: xr.Dataset, section: Section) -> tuple[list[str], str]:
    """The recipes that a figure draws, and what its caption says of those that it does not."""
    names = reading.recipes(results)
    if section.all_recipes or len(names) <= MAX_RECIPES:
        return names, ""
    return names[:MAX_RECIPES], f" The first {MAX_RECIPES} of {count(len(names), 'recipe')} are drawn."
