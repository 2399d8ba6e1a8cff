"""The report of a results dataset: one self-contained HTML page, and the same in plain text.

The page loads nothing and runs nothing. Whatever comes from the data is escaped before it goes in.
"""

import base64
import html
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gandyn import checks
from gandyn.analysis import intervals, loss_curves, reading, tables
from gandyn.report import figures as plots

# A figure has a row or a panel a recipe; past this many it is no longer read. The table has them all.
MAX_RECIPES = 12

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5f6368; --line: #dcdde0; --paper: #ffffff; --shade: #f5f6f7;
  --accent: #0072b2; --warn: #fff3e0; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --soft: #a2a5ab; --line: #3a3c40; --paper: #17181a; --shade: #212327; --accent: #56b4e9;
    --warn: #33280f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p, li, dd, figcaption { max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
.facts, figcaption, .notes, dd, small { color: var(--soft); font-size: .875rem; }
.facts { margin: 0; }
.incomplete { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .7rem 1rem; margin: 1.2rem 0; }
.incomplete p { margin: .2rem 0; }
.headlines li { margin: .45rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .45rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; line-height: 1.25; border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; min-width: 8rem; max-width: 14rem; overflow-wrap: break-word; }
thead th:first-child, tbody th, tfoot th { position: sticky; left: 0; background: var(--paper); }
td { white-space: nowrap; }
td small { display: block; font-size: .92em; }
tfoot td, tfoot th { color: var(--soft); font-weight: 400; border-bottom: 0; }
sup { line-height: 0; }
dt { font-weight: 600; margin-top: .5rem; font-size: .875rem; }
dd { margin: 0; }
figure { margin: 1.2rem 0 2.2rem; }
figure .wide { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
img { display: block; width: 100%; min-width: 30rem; height: auto; margin: 0 auto; }
figcaption { margin-top: .6rem; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; font: .82rem/1.5 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="facts">$facts</p>
</header>
$incomplete
<h2>What this is</h2>
<p>$about</p>
<h2>What the runs show</h2>
<ul class="headlines">
$headlines
</ul>
<h2>Every recipe in numbers</h2>
<p>Estimates over the runs of a recipe, each at its last measurement, with 95&nbsp;% intervals below. Diverged runs
count as failures; a number in brackets leads to a note on what is undefined or left out.</p>
<div class="wide">
$table
</div>
<div class="notes">
$notes
</div>
<details>
<summary>What the columns mean</summary>
<dl>
$columns
</dl>
</details>
$verdicts
<h2>Figures</h2>
$figures
<h2>How to get these results again</h2>
<p>Command</p>
<pre>$command</pre>
<p>Configuration</p>
<pre>$configuration</pre>
<div class="wide">
<table>
<tbody>
$provenance
</tbody>
</table>
</div>
</body>
</html>
""")

_ABOUT = (
    "Many small generative adversarial networks were trained on targets in the plane whose density is known, so "
    "that the truth could be measured beside every loss. The minibatch loss that a training log shows is minus the "
    "value V(D, G) plus sampling noise, and that value is the best value any discriminator could reach (a distance "
    "between the generated and the true distribution) minus the lag, which is how far the discriminator is behind "
    "its best response. This page shows the three apart, and how far the losses tell which runs cover the target."
)


_BIAS = tables.Column("bias", "minibatch value minus value, mean over runs and measurements", 4)


class _Drawing(NamedTuple):
    heading: str
    caption: str
    draw: Callable[[], Figure]
    needs: tuple[str, ...] = ()
    """Variables without which there is nothing to draw."""


def _escape(text: str) -> str:
    """Text as inert HTML, with numbers held together with their percent signs."""
    return html.escape(text).replace(" %", "&nbsp;%")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _status(results: xr.Dataset) -> str:
    return str(results.attrs.get("status", "not recorded"))


def incompleteness(results: xr.Dataset) -> list[str]:
    """What these results lack, in sentences; empty where every run was measured to the last step."""
    status = _status(results)
    last, steps = reading.last_step(results), np.asarray(results["step"].values)
    never = int((last < 0).sum())
    short = (last >= 0) & (last < steps.size - 1)
    lacking = [f"{_count(never, 'run')} of {last.size:,} never measured."] if never else []
    if short.any():
        earliest = steps[last[short].min()]
        verb = "has" if short.sum() == 1 else "have"
        lacking.append(
            f"{_count(int(short.sum()), 'run')} of {last.size:,} {verb} no measurement at the last step, {steps[-1]:,} "
            f"(the earliest end is step {earliest:,}); every number below is from each run's own last measurement."
        )
    return [f"These results are incomplete: their status is {status}.", *lacking] if status != "complete" else lacking


def _tells(estimate: intervals.Interval) -> str:
    if not np.isfinite(estimate.low):
        return "too few runs for an interval"
    if estimate.low <= 0 <= estimate.high:
        return "the interval includes 0, so the loss does not tell the runs apart by coverage"
    return f"a {'higher' if estimate.value > 0 else 'lower'} loss goes with more modes"


def headlines(results: xr.Dataset, rows: Sequence[tables.Row] | None = None) -> list[str]:
    """The findings in sentences, each computed from the data. ``rows`` saves computing `tables.table` again."""
    rows = tables.table(results) if rows is None else rows
    used = reading.last_step(results) >= 0
    n = int(used.sum())
    if n == 0:
        return ["No run was measured."]
    fails, total = reading.diverged(results), reading.num_modes(results)
    if "modes" not in results:
        found = [f"{int(fails.sum()):,} of {_count(n, 'run')} diverged. Coverage was not measured."]
        return [*found, *_about_values(results, used)]
    full = reading.final(results, "modes") >= total
    share = tables.format_interval(intervals.share_interval(int(full[used].sum()), n), tables.COLUMNS["all_modes"])
    found = [
        f"{int(full[used].sum()):,} of {_count(n, 'run')} ended with all modes covered: {share}. "
        f"{int(fails.sum()):,} diverged."
    ]
    by_modes = sorted(
        (row for row in rows if np.isfinite(row.entries["modes"].interval.value)),
        key=lambda row: row.entries["modes"].interval.value,
    )
    if len(by_modes) > 1:
        fewest, most = (
            f"{row.recipe} ({tables.format_interval(row.entries['modes'].interval, tables.COLUMNS['modes'])})"
            for row in (by_modes[0], by_modes[-1])
        )
        found.append(f"Most modes covered, as a mean over runs: {most}. Fewest: {fewest}.")
    converged = loss_curves.looks_converged(results)
    if (results["equilibrium"].values[used] != 0).any():
        missing = int((converged & ~full).sum())
        found.append(
            f"The discriminator's loss of {_count(int(converged.sum()), 'run')} ended within 5 % of its value at "
            f"equilibrium, as if training had converged; {missing:,} of these "
            f"{'misses' if missing == 1 else 'miss'} at least one mode."
        )
    found += _about_values(results, used)
    across = [row for row in rows if np.isfinite(row.entries["across_disc"].interval.value)]
    if len(across) > 4:
        decided = [row.entries["across_disc"].interval for row in across]
        decided = [e for e in decided if e.low > 0 or e.high < 0]
        strongest = max(across, key=lambda row: abs(row.entries["across_disc"].interval.value))
        found.append(
            f"In {len(decided)} of {len(across)} recipes with a rank correlation, over runs, of the "
            "discriminator's final loss with the modes covered, its interval excludes 0. The strongest follows."
        )
        across = [strongest]
    for row in across:
        entry, within = row.entries["across_disc"], row.entries["within_disc"]
        text = tables.format_interval(entry.interval, tables.COLUMNS["across_disc"])
        sentence = (
            f"Across {_count(entry.count, 'seed')} of {row.recipe}, the discriminator's final loss and the modes "
            f"covered have rank correlation {text}: {_tells(entry.interval)}."
        )
        if np.isfinite(within.interval.value):
            text = tables.format_interval(within.interval, tables.COLUMNS["within_disc"])
            sentence += f" Along the steps of one run it is {text} on average."
        found.append(sentence)
    return found


def _about_values(results: xr.Dataset, used: np.ndarray) -> list[str]:
    """What minibatch value and lag show, over the runs used (R,) bool; nothing of what was not measured."""
    found = []
    logistic = used & reading.logistic(results)
    seeds = results["seed"].values
    nothing = np.full(results["finite"].shape, np.nan)
    noise = loss_curves.sampling_noise(results) if {"value", "value_batch"} <= set(results) else nothing
    never_failed = logistic & np.isfinite(noise).all(axis=1)
    if never_failed.any():
        bias = intervals.mean_over_seeds(noise[never_failed].mean(axis=1), seeds[never_failed])
        found.append(
            "At the same parameters the minibatch value scatters around the value with a standard deviation of "
            f"{noise[never_failed].std():.3f} nats, and differs from it by {tables.format_interval(bias, _BIAS)} nats "
            f"on average ({_count(int(never_failed.sum()), 'run')} with a logistic loss, every measurement): what the "
            "minibatch loss measures is the value, not its maximum over discriminators."
        )
    lag = reading.final(results, "lag") if "lag" in results else nothing[:, 0]
    lagging = logistic & np.isfinite(lag)
    if lagging.any():
        mean = tables.format_interval(intervals.mean_over_seeds(lag[lagging], seeds[lagging]), tables.COLUMNS["lag"])
        found.append(
            f"At the end the discriminator lagged behind its best response by {mean} nats, as a mean over "
            f"{_count(int(lagging.sum()), 'run')} with a logistic loss. Losing one mode of eight costs 0.09 nats."
        )
    return found


def _verdict_rules(results: xr.Dataset) -> dict[str, str]:
    """Verdict -> its rule in words, as recorded with the verdicts; empty where that is not readable."""
    attrs = results["verdict"].attrs
    try:
        rules = json.loads(str(attrs.get("rule", attrs.get("rules", ""))))
    except ValueError:
        return {}
    return {str(name): str(rule) for name, rule in rules.items()} if isinstance(rules, dict) else {}


def _verdicts(results: xr.Dataset) -> str:
    """How many runs of each recipe had which verdict, and the rules; nothing for results without verdicts."""
    if "verdict" not in results:
        return ""
    found = np.array([str(v) for v in results["verdict"].values], object)
    names = [v for v in dict.fromkeys([*plots.VERDICT_MARKS, *found]) if (found == v).any()]
    head = "".join(f"<th>{_escape(checks.printable(v).replace('_', ' '))}</th>" for v in names)
    body = []
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        cells = [f"<th>{_escape(checks.printable(recipe))}</th><td>{runs.size}</td>"]
        for name in names:
            count = int((found[runs] == name).sum())
            estimate = tables.format_interval(intervals.share_interval(count, runs.size), tables.COLUMNS["all_modes"])
            cells.append(f"<td>{count}<small>{_escape(estimate)}</small></td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rules = _verdict_rules(results)
    terms = [(name, rules[name]) for name in [*names, *(r for r in rules if r not in names)] if name in rules]
    words = "\n".join(
        f"<dt>{_escape(checks.printable(name).replace('_', ' '))}</dt><dd>{_escape(checks.printable(rule))}</dd>"
        for name, rule in terms
    )
    details = f"<details>\n<summary>What the verdicts mean</summary>\n<dl>\n{words}\n</dl>\n</details>" if words else ""
    joined = "\n".join(body)
    return (
        "<h2>What happened to the runs</h2>\n<p>Runs by verdict, which stated rules give from the recorded curves; "
        "below each count its share of the recipe's runs with Wilson's 95&nbsp;% interval.</p>\n"
        f'<div class="wide">\n<table>\n<thead><tr><th>recipe</th><th>runs</th>{head}</tr></thead>\n'
        f"<tbody>\n{joined}\n</tbody>\n</table>\n</div>\n{details}"
    )


def _mosaic_by(results: xr.Dataset) -> str | tuple[str, str]:
    """What spans the mosaic: the one or two numbers that a sweep varies within its settings, else the recipe."""
    settings = {
        str(name): c.values.tolist()
        for name, c in results.coords.items()
        if c.dims == ("run",) and name not in {"run", "seed", "recipe"} and len(set(c.values.tolist())) > 1
    }
    swept = [name for name in settings if results[name].dtype.kind in "iuf"]
    recipes = [str(label) for label in results["recipe"].values]
    # A grid has each value of one with each value of the rest, which recipes that differ in all things have not.
    rest = list(zip(*(found for name, found in settings.items() if name not in swept), strict=True)) or [()] * len(
        recipes
    )
    cells = math.prod(len(set(settings[name])) for name in swept) * len(set(rest))
    if len(swept) not in (1, 2) or cells != len(set(recipes)):
        return "recipe"
    return swept[0] if len(swept) == 1 else (swept[0], swept[1])


def _verdict_drawing(results: xr.Dataset) -> _Drawing:
    names, by = reading.recipes(results), _mosaic_by(results)
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
    # A sweep's recipes are its columns: all of them are needed, and take little room.
    shown = names[:MAX_RECIPES] if by == "recipe" else names
    if len(shown) < len(names):
        caption += f" The first {len(shown)} of {len(names)} recipes are drawn."
    return _Drawing(
        "What happened to each run", caption, lambda: plots.verdict_mosaic(results, by, shown), ("verdict",)
    )


def _known(results: xr.Dataset, *names: str) -> bool:
    """Whether any of these is recorded and has a value somewhere."""
    return any(name in results and bool(np.isfinite(results[name].values.astype(float)).any()) for name in names)


def _first_with_spectrum(results: xr.Dataset) -> int | None:
    """Label of the first run with eigenvalues; None where there is none."""
    if "eigenvalues" not in results:
        return None
    first = results["eigenvalues"].isel(eigenvalue=0, part=0).transpose("run", "step").values
    runs = np.flatnonzero(np.isfinite(first.astype(float)).any(axis=1))
    return int(results["run"].values[runs[0]]) if runs.size else None


def _drawings(results: xr.Dataset) -> Iterator[_Drawing]:
    names = reading.recipes(results)
    shown = names[:MAX_RECIPES]
    left_out = f" The first {len(shown)} of {len(names)} recipes are drawn." if len(shown) < len(names) else ""
    yield _Drawing(
        "The table as a picture",
        "Large dots with bars are estimates with 95 % intervals, small dots single runs (a diverged run sits at 0 "
        "modes, 0 % high quality and a JSD of log 2), grey ticks what as many real samples get. Lag is the best "
        "value minus the value: 0 means that the discriminator answers the generator as well as any could. Lag is "
        "in nats for the logistic losses. A dash is an estimate that is not defined; the notes of the table say "
        "why." + left_out,
        lambda: plots.overview(results, shown),
    )
    yield _Drawing(
        "What a loss curve is made of",
        "Left, the first run of each recipe; right, means over its runs with 95 % intervals (thin lines for the "
        "minibatch value, of which log files show the negative). The value is the truth that the minibatch value "
        "estimates. The best value is what the best discriminator would reach against the same generator: it falls "
        "to the equilibrium line as the generated distribution comes closer to the target, and only there. The "
        "shaded gap between the two is the lag. A value on the equilibrium line under a large lag looks converged, "
        "and is not: the discriminator is behind." + left_out,
        lambda: plots.decomposition(results, shown),
        needs=("value", "value_se", "value_batch", "value_best"),
    )
    if _known(results, "value_best"):
        yield _Drawing(
            "A loss near equilibrium is a sum of two large terms",
            "Means over runs. Upwards from zero, what is left of the divergence: the best value minus the value at "
            "equilibrium. Downwards, the discriminator's lag. The line is what remains of the two, and all that a loss "
            "curve can show, within the band of its minibatch noise: it reads zero where the two cancel, however large "
            "they are. The numbers above each panel are the two terms and their sum at the end."
            + (
                " Right, the duality gap: what the discriminator and what the generator could gain; it is zero at an "
                "equilibrium only."
                if "duality_gap" in results
                else ""
            )
            + left_out,
            lambda: plots.gap_budget(results, shown),
            needs=("value", "value_batch"),
        )
    yield _verdict_drawing(results)
    yield _Drawing(
        "How the seeds are distributed",
        "Modes covered at the end: bars are shares of the runs, points single runs, crosses diverged ones, which count "
        "as 0. Below, the mean and the mean of the middle half with 95 % intervals. Where the runs fall into two "
        "groups, the mean lies where no run is." + left_out,
        lambda: plots.distributions(results, "modes", shown),
        needs=("modes",),
    )
    for loss, player in (("loss_disc", "discriminator"), ("loss_gen", "generator")):
        yield _Drawing(
            f"Does the {player}'s loss show the coverage?",
            f"One point a run: the {player}'s final minibatch loss against the modes it ended with (points are "
            "moved aside a little so that they do not hide each other). Diamonds are what the loss would read if "
            "the discriminator were at its best and k modes were covered evenly; the dotted line is the loss at "
            "equilibrium. If the loss told the coverage, points would lie on the diamonds. Above each panel, "
            "Spearman's rank correlation over runs with its 95 % interval. Crosses in a grey strip are diverged "
            "runs, which have no loss." + left_out,
            lambda loss=loss: plots.loss_against_coverage(results, loss, shown),
            needs=(loss, "modes"),
        )
    if {"jsd", "w1", "modes"} & set(results):
        yield _Drawing(
            "Which loss tracks the truth?",
            "Spearman's rank correlation of each loss with the truth, with 95 % intervals: above over the steps of a "
            "run, as a mean over runs, below over runs at their ends. A loss far from 0 on either side tracks the "
            "metric; one that does so within runs but not across them tells time, not quality. A dash is a correlation "
            "that is not defined." + left_out,
            lambda: plots.tracking(results, shown),
        )
    if _known(results, "implied_modes_disc", "implied_modes_gen", "best_loss_disc", "best_loss_gen"):
        yield _Drawing(
            "How many modes the losses imply",
            "Left the first run of each recipe, right means over its runs with 95 % intervals. Each loss is turned "
            "into the number of modes at which it would read so, were the discriminator at its best and the mass even "
            "over the modes. Where the two players' numbers part, one of the two does not hold." + left_out,
            lambda: plots.implied_modes(results, shown),
            needs=("modes",),
        )
    if {"grad_snr_gen", "grad_snr_disc"} & set(results):
        yield _Drawing(
            "How much of a gradient is signal",
            "Medians over runs with quartiles. Below a signal to noise of 1 a minibatch gradient is more noise than "
            "signal; the noise scale is the batch size at which the two are equal. Saturation is the share of the "
            "generator's gradient that is lost to a discriminator that is too sure." + left_out,
            lambda: plots.gradient_snr(results, shown),
        )
    spectral = _first_with_spectrum(results)
    if spectral is not None:
        yield _Drawing(
            "The spectrum of the game",
            "Eigenvalues of the flow's Jacobian in the complex plane, for the first run that has them; later steps are "
            "brighter. On the grey side of the imaginary axis the flow is unstable; far from the real axis it rotates. "
            "Right, where measured: a step of training contracts where the spectral radius is below 1.",
            lambda: plots.spectrum(results, spectral),
        )
    if "samples" in results:
        try:
            runs = plots.pick_covering_and_collapsed(results)
        except ValueError:
            return
        yield _Drawing(
            "Samples over training",
            "Generated samples (black) over real ones (grey). "
            + (
                "The runs are of one recipe, the one whose runs end furthest apart: above the one that covers most "
                "modes at the end, below the one that covers fewest; they differ in the seed alone. "
                if runs[0] != runs[1]
                else ""
            )
            + (
                "The background is the discriminator's output: red where it says real, blue where it says fake, white "
                "where it is undecided."
                if "surface" in results
                else ""
            ),
            lambda: plots.samples_over_training(results, runs),
            needs=("modes", "high_quality"),
        )


def _figure(drawing: _Drawing) -> str:
    figure = drawing.draw()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    heading = _escape(drawing.heading)
    # No wider than the text in it takes: letters in figures and page are then of one size.
    style = f"max-width: {100 * figure.get_figwidth():.0f}px"
    image = f'<img style="{style}" src="data:image/png;base64,{data}" alt="{heading}">'
    return (
        f'<figure>\n<h3>{heading}</h3>\n<div class="wide">{image}</div>\n'
        f"<figcaption>{_escape(drawing.caption)}</figcaption>\n</figure>"
    )


def _table(rows: Sequence[tables.Row]) -> str:
    notes = tables.footnotes(rows)
    head = "".join(f"<th>{_escape(column.heading)}</th>" for column in tables.COLUMNS.values())
    body = []
    for row in rows:
        runs = str(row.runs) if row.measured == row.runs else f"{row.measured} of {row.runs}"
        cells = [f"<th>{_escape(checks.printable(row.recipe))}</th><td>{runs}</td>"]
        for key, column in tables.COLUMNS.items():
            entry = row.entries[key]
            value, _, interval = tables.format_interval(entry.interval, column).partition(" [")
            value = "–" if value == "-" else value
            number = notes.get(entry.note)
            mark = f'<sup><a href="#note-{number}">({number})</a></sup>' if number else ""
            below = f"<small>[{_escape(interval)}</small>" if interval else ""
            cells.append(f"<td>{_escape(value)}{mark}{below}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    real = []
    for key, column in tables.COLUMNS.items():
        values = dict.fromkeys(tables.format_value(row.real[key], column) for row in rows if key in row.real)
        real.append(f"<td>{', '.join(values)}{'&nbsp;%' if values and column.percent else ''}</td>")
    foot = f"<tfoot><tr><th>as many real samples</th><td></td>{''.join(real)}</tr></tfoot>"
    joined = "\n".join(body)
    top = f"<thead><tr><th>recipe</th><th>runs</th>{head}</tr></thead>"
    return f"<table>\n{top}\n<tbody>\n{joined}\n</tbody>\n{foot}\n</table>"


def _versions(results: xr.Dataset) -> str:
    text = str(results.attrs.get("versions", ""))
    try:
        versions = json.loads(text)
    except ValueError:
        return text
    return ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else text


def _provenance(results: xr.Dataset) -> dict[str, str]:
    attrs = results.attrs
    wall = attrs.get("wall_time_s")
    return {
        "device": str(attrs.get("device", "")),
        "precision": str(attrs.get("precision", "")),
        "wall time": _duration(float(wall)) if isinstance(wall, int | float | np.number) else "",
        "created": str(attrs.get("created", "")),
        "versions": _versions(results),
        "commit": str(attrs.get("commit", "")),
        "coverage convention": str(attrs.get("coverage_convention", "")),
        "format version": str(attrs.get("format_version", "")),
    }


def _facts(results: xr.Dataset) -> str:
    names, steps = reading.recipes(results), np.asarray(results["step"].values)
    size = f"{_count(results.sizes['run'], 'run')} of {_count(len(names), 'recipe')}"
    return f"{size}, measured at {_count(steps.size, 'step')} from {steps[0]:,} to {steps[-1]:,}"


def write(results: xr.Dataset, path: str | os.PathLike[str], answers: Sequence[str] = ()) -> Path:
    """Writes the report as one HTML file that needs no other file and no network, and returns its path.

    Args:
        results: the dataset of `gandyn.open_results`.
        path: the file to write. Its folder is made where it is lacking; a file that is there is replaced, at once.
        answers: sentences that stand before the findings that every report has.
    """
    rows = tables.table(results)
    attrs = results.attrs
    lacking = "".join(f"<p>{_escape(sentence)}</p>" for sentence in incompleteness(results))
    notes = "".join(f'<li id="note-{i}">{_escape(note)}</li>' for note, i in tables.footnotes(rows).items())
    columns = tables.COLUMNS.values()
    page = _PAGE.substitute(
        title=_escape(str(attrs.get("title") or "Results of gandyn")),
        facts=_escape(f"{_facts(results)}; {_status(results)}"),
        incomplete=f'<div class="incomplete" role="note">{lacking}</div>' if lacking else "",
        about=_escape(_ABOUT),
        headlines="\n".join(f"<li>{_escape(sentence)}</li>" for sentence in [*answers, *headlines(results, rows)]),
        table=_table(rows),
        notes=f"<ol>{notes}</ol>" if notes else "",
        columns="\n".join(f"<dt>{_escape(c.heading)}</dt><dd>{_escape(c.meaning)}</dd>" for c in columns),
        verdicts=_verdicts(results),
        figures="\n".join(_figure(drawing) for drawing in _drawings(results) if set(drawing.needs) <= set(results)),
        command=html.escape(str(attrs.get("command", "not recorded"))),
        configuration=html.escape(str(attrs.get("configuration", "not recorded"))),
        provenance="\n".join(
            f"<tr><th>{_escape(name)}</th><td>{_escape(text) or 'not recorded'}</td></tr>"
            for name, text in _provenance(results).items()
        ),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader who reloads the page while it is written never sees half of it.
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # in a folder from elsewhere it might be a link to somewhere else
    with partial.open("x", encoding="utf-8", errors="replace") as file:
        file.write(page)
    partial.replace(path)
    return path


def summary(results: xr.Dataset, width: int = 110) -> str:
    """The results in plain text, for a terminal: what they are, what they lack, and the table."""
    lines = [checks.printable(str(results.attrs.get("title") or "Results of gandyn"))]
    lines.append(_facts(results))
    provenance = _provenance(results)
    lines += [
        f"{key}: {checks.printable(provenance[key])}" for key in ("device", "wall time", "created") if provenance[key]
    ]
    lines += [f"status: {checks.printable(_status(results))}", *map(checks.printable, incompleteness(results)), ""]
    return "\n".join([*lines, tables.format_table(tables.table(results), width)])
