"""The table of a results dataset, a row a recipe, and the correlations of its losses with the truth.

Shapes: R runs, S steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import intervals, reading
from gandyn.analysis.intervals import UNDEFINED, Interval
from gandyn.text import printable

_NAN = float("nan")


class Column(NamedTuple):
    """A column of the table: how it is headed, what it means, how it is printed."""

    heading: str
    meaning: str
    digits: int
    percent: bool = False


class Entry(NamedTuple):
    """An estimate, the number of runs behind it, and a note where it is undefined or leaves runs out."""

    interval: Interval
    count: int
    note: str = ""


class Row(NamedTuple):
    """One recipe: its entries by column, and what as many real samples and a diverged run get (where recorded)."""

    recipe: str
    loss: str
    runs: int
    measured: int
    entries: dict[str, Entry]
    real: dict[str, float]
    failed: dict[str, float]


COLUMNS = {
    "modes": Column("modes", "modes covered at the end, mean over runs, diverged ones too", 2),
    "all_modes": Column("all modes", "share of runs that cover every mode at the end", 0, True),
    "high_quality": Column(
        "high quality", "share of samples close to a mode, mean over runs, diverged ones too", 1, True
    ),
    "diverged": Column("diverged", "share of runs whose parameters were no longer finite", 0, True),
    "jsd": Column("JSD (nats)", "Jensen-Shannon divergence at the end, mean over runs, diverged ones too", 3),
    "lag": Column(
        "lag", "best value minus value at the end, mean over the runs that did not diverge; nats for logistic losses", 3
    ),
    "accuracy": Column(
        "D's accuracy",
        "share of samples, half real and half G's, that D tells right at its decision threshold, at the end, mean over "
        "the runs that did not diverge; 50 % is a D that knows nothing, or q = p: the next column tells them apart",
        1,
        True,
    ),
    "accuracy_best": Column(
        "best accuracy", "(1 + TV) / 2: what the best D would tell right against the same G, at the end", 1, True
    ),
    "across_disc": Column("D loss, across runs", "rank correlation, over runs, of D's final loss with final modes", 2),
    "across_gen": Column("G loss, across runs", "rank correlation, over runs, of G's final loss with final modes", 2),
    "within_disc": Column(
        "D loss, within runs", "rank correlation, over the steps of a run, of D's loss with modes; mean over runs", 2
    ),
    "within_gen": Column(
        "G loss, within runs", "rank correlation, over the steps of a run, of G's loss with modes; mean over runs", 2
    ),
}


def _not_recorded(metric: str) -> Entry:
    return Entry(UNDEFINED, 0, f"{metric} is not recorded in these results")


def _mean_entry(x: NDArray, missing: str, bounds: tuple[float, float] = intervals.ANYTHING) -> Entry:
    """Mean over the defined entries of x, one a measured run; ``missing`` says why a run may have none.

    ``bounds`` are what an entry cannot leave.
    """
    defined = x[np.isfinite(x)]
    if x.size == 0:
        return Entry(UNDEFINED, 0, "no run was measured")
    if defined.size == 0:
        return Entry(UNDEFINED, 0, f"no run has one: {missing}")
    notes = [f"over {defined.size} of {x.size} runs: {missing}"] if defined.size < x.size else []
    found = intervals.mean_interval(defined, bounds=bounds)
    if math.isnan(found.low):
        alike = "all runs read the same, so that nothing tells how far another would be"
        notes.append("one run gives no interval" if defined.size == 1 else f"no interval: {alike}")
    return Entry(found, defined.size, "; ".join(notes))


def _share_entry(hits: NDArray) -> Entry:
    return Entry(
        intervals.share_interval(int(hits.sum()), hits.size), hits.size, "" if hits.size else "no run was measured"
    )


def _correlation_entry(loss: NDArray, metric: NDArray, name: str = "modes") -> Entry:
    """Rank correlation of a loss with the named metric over the measured runs that have both."""
    defined = np.isfinite(loss) & np.isfinite(metric)
    x, y, n = loss[defined], metric[defined], int(defined.sum())
    if n < 3:
        return Entry(
            UNDEFINED, n, f"{n} {'run has' if n == 1 else 'runs have'} a final loss, too few for a correlation"
        )
    interval = intervals.rank_correlation(x, y)
    if math.isnan(interval.value):
        same = "the loss is" if np.ptp(y) > 0 else "modes are" if name == "modes" else f"{name} is"
        return Entry(interval, n, f"{same} the same in every run")
    why = "a diverged run has no loss" + ("" if name == "modes" else f", or {name} was not measured")
    notes = [f"over {n} of {loss.size} runs: {why}"] if n < loss.size else []
    notes += [f"fewer than {intervals.MIN_PAIRS} runs give no interval"] if n < intervals.MIN_PAIRS else []
    return Entry(interval, n, "; ".join(notes))


METRICS = ("modes", "high_quality", "jsd", "lag", "accuracy", "accuracy_best")
"""Metrics whose means at the end the table holds."""


def _bounds(metric: str, total: NDArray) -> tuple[float, float]:
    """What an entry of a metric cannot leave, with these numbers of modes (R,)."""
    most = {"modes": float(total.max(initial=0)), "high_quality": 1.0, "jsd": math.log(2), "accuracy": 1.0}
    most["accuracy_best"] = 1.0
    return (0.0, most[metric]) if metric in most else intervals.ANYTHING


_CORRELATION = -1.0, 1.0


_OF_LOSS = {
    "lag": "no best value is known for this loss",
    "accuracy": "this loss has no decision threshold",
    "accuracy_best": "not measured at the end",
}
"""Metrics that a diverged run has not, and why a loss has none."""


def table(results: xr.Dataset) -> list[Row]:
    """One `Row` a recipe, in order of appearance, with an `Entry` for each of `COLUMNS`.

    Entries are over the runs of the recipe that were measured at all, each at its own last measurement. Diverged runs
    are failures: they count as `reading.failed_value`. They have no lag and no loss; an entry that leaves them out says
    so in its note. A metric that the dataset lacks is undefined, with a note.
    """
    last = reading.last_step(results)
    fails, total = reading.diverged(results), reading.num_modes(results)
    recorded = [m for m in (*METRICS, "loss_disc", "loss_gen") if m in results]
    at_end = {m: reading.final(results, m) for m in recorded}
    within = {m: within_runs(results, m) for m in ("loss_disc", "loss_gen") if m in at_end and "modes" in at_end}
    real = {m: reading.values(results, f"{m}_real") for m in recorded if f"{m}_real" in results}
    counted = {m: reading.failed_value(results, m) for m in recorded}
    rows = []
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        used = runs[last[runs] >= 0]
        entries = {"diverged": _share_entry(fails[used])}
        for metric in METRICS:
            missing = "not measured at the end"
            if metric in _OF_LOSS:
                # Undefined in every run that did not diverge: the loss, not the run, is the reason.
                known = metric not in at_end or np.isfinite(at_end[metric][used]).any() or fails[used].all()
                missing = f"a diverged run has no {metric.partition('_')[0]}" if known else _OF_LOSS[metric]
            if metric in at_end:
                entries[metric] = _mean_entry(at_end[metric][used], missing, _bounds(metric, total[used]))
            else:
                entries[metric] = _not_recorded(metric)
        if "modes" in at_end:
            entries["all_modes"] = _share_entry(at_end["modes"][used] >= total[used])
        else:
            entries["all_modes"] = _not_recorded("modes")
        for player in ("disc", "gen"):
            loss = f"loss_{player}"
            if loss in within:
                missing = "the loss or the modes are constant, or there are fewer than 3 steps"
                entries[f"across_{player}"] = _correlation_entry(at_end[loss][used], at_end["modes"][used])
                entries[f"within_{player}"] = _mean_entry(within[loss][used], missing, _CORRELATION)
            else:
                lacking = _not_recorded(loss if "modes" in at_end else "modes")
                entries[f"across_{player}"] = entries[f"within_{player}"] = lacking
        reached = {m: x[runs][np.isfinite(x[runs])] for m, x in real.items()}
        rows.append(
            Row(
                recipe=recipe,
                loss=str(results["loss"].values[runs[0]]),
                runs=runs.size,
                measured=used.size,
                entries={key: entries[key] for key in COLUMNS},
                real={m: float(x.mean()) for m, x in reached.items() if x.size},
                failed={m: value for m, value in counted.items() if not math.isnan(value)},
            )
        )
    return rows


def within_runs(results: xr.Dataset, loss: str, metric: str = "modes") -> NDArray:
    """Spearman's correlation of a loss with a metric over the steps of each run, (R,) float64.

    Steps up to a divergence count. NaN where either curve is constant or has fewer than three steps. Both curves may
    follow training time, and neighbouring steps resemble each other: a large value says that the two move together
    in a run, not that the loss shows more than the clock does.
    """
    x, y = reading.values(results, loss), reading.values(results, metric)
    defined = np.isfinite(x) & np.isfinite(y)
    enough = defined.sum(axis=1) >= 3
    pairs = ((x[r, defined[r]], y[r, defined[r]]) if enough[r] else None for r in range(len(x)))
    return np.array([_NAN if pair is None else float(intervals.spearman(*pair)) for pair in pairs], float)


class Correlation(NamedTuple):
    """How one loss goes with one metric in one recipe: over the steps of a run, and over runs."""

    recipe: str
    loss: str
    metric: str
    within: Entry
    across: Entry


def _last_pairs(results: xr.Dataset, loss: str, metric: str) -> tuple[NDArray, NDArray]:
    """Loss and metric (R,) at each run's last step with both; NaN for a run that has none or diverged."""
    x, y = reading.values(results, loss), reading.values(results, metric)
    both = np.isfinite(x) & np.isfinite(y)
    last = both.shape[1] - 1 - both[:, ::-1].argmax(axis=1)
    use = both.any(axis=1) & ~reading.diverged(results)
    at = np.arange(len(x)), last
    return np.where(use, x[at], _NAN), np.where(use, y[at], _NAN)


def correlations(
    results: xr.Dataset,
    losses: Sequence[str] = ("loss_disc", "loss_gen", "loss_total"),
    metrics: Sequence[str] = ("jsd", "w1", "modes"),
) -> list[Correlation]:
    """Every loss with every metric, recipe by recipe: Spearman's rank correlation within runs and across runs.

    within: over the steps of each run (`within_runs`), averaged over the recipe's runs, with `mean_interval` over
    them, which is over seeds. across: `rank_correlation` over the recipe's runs, each at its last step with both.
    Steps at which one of the two was not measured are left out; so is a diverged run across runs, for it has no loss.
    What is not recorded is undefined, with a note.
    """
    recorded = {name for name in (*losses, *metrics) if name in results}
    pairs = [(loss, metric) for loss in losses for metric in metrics]
    known = [(loss, metric) for loss, metric in pairs if {loss, metric} <= recorded]
    within = {pair: within_runs(results, *pair) for pair in known}
    at_end = {pair: _last_pairs(results, *pair) for pair in known}
    last = reading.last_step(results)
    rows = []
    for recipe in reading.recipes(results):
        used = reading.runs_of(results, recipe)
        used = used[last[used] >= 0]
        for loss, metric in pairs:
            if (loss, metric) in known:
                missing = f"{loss} or {metric} is constant, or there are fewer than 3 steps with both"
                x, y = at_end[loss, metric]
                told = _mean_entry(within[loss, metric][used], missing, _CORRELATION)
                entries = told, _correlation_entry(x[used], y[used], metric)
            else:
                entries = (_not_recorded(metric if loss in recorded else loss),) * 2
            rows.append(Correlation(recipe, loss, metric, *entries))
    return rows


def format_value(value: float, column: Column) -> str:
    """A number as the column prints it, without a unit; '-' for NaN."""
    if math.isnan(value):
        return "-"
    text = f"{value * (100 if column.percent else 1):.{column.digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def format_interval(interval: Interval, column: Column) -> str:
    """'7.81 [7.50, 8.00]', '62 % [39, 82]'; the value alone where there is no interval, '-' where there is no value."""
    text = format_value(interval.value, column)
    if text == "-":
        return text
    text += " %" if column.percent else ""
    if math.isnan(interval.low):
        return text
    return f"{text} [{format_value(interval.low, column)}, {format_value(interval.high, column)}]"


def footnotes(rows: Sequence[Row]) -> dict[str, int]:
    """Each distinct note of the table with its number, from 1, in the order in which a reader meets them."""
    notes = (row.entries[key].note for key in COLUMNS for row in rows)
    return {note: number for number, note in enumerate(dict.fromkeys(filter(None, notes)), start=1)}


def references(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """What the columns hold for as many real samples, and for a diverged run: who -> column -> text, '4, 8' for two."""
    found: dict[str, dict[str, str]] = {}
    numbers_of = {
        "as many real samples get": [row.real for row in rows],
        "a diverged run counts as": [row.failed for row in rows],
    }
    for who, of in numbers_of.items():
        for key, column in COLUMNS.items():
            texts = dict.fromkeys(format_value(numbers[key], column) for numbers in of if key in numbers)
            if texts:
                found.setdefault(who, {})[key] = ", ".join(texts) + (" %" if column.percent else "")
    return found


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The table as a data frame, a row a recipe: what it prints is one table, whatever its width.

    Cells are texts such as '7.81 [7.50, 8.00] (1)'; the notes, by number, are in ``frame.attrs["notes"]``, and in
    ``frame.attrs["columns"]`` what each column means. Numbers are in the rows themselves.
    """
    notes = footnotes(rows)
    cells = {
        column.heading: [_cell(row.entries[key], column, notes) for row in rows] for key, column in COLUMNS.items()
    }
    made = pd.DataFrame(
        {"runs": [row.measured for row in rows]} | cells,
        index=pd.Index([printable(row.recipe) for row in rows], name="recipe"),
    )
    made.attrs["notes"] = {number: note for note, number in notes.items()}
    made.attrs["columns"] = {column.heading: column.meaning for column in COLUMNS.values()}
    return made


def _cell(entry: Entry, column: Column, notes: dict[str, int]) -> str:
    return format_interval(entry.interval, column) + (f" ({notes[entry.note]})" if entry.note else "")


def format_table(rows: Sequence[Row], width: int = 110) -> str:
    """The table as aligned plain text, in as many blocks of columns as lines of ``width`` characters take.

    Under it, what each column means, what as many real samples get and a diverged run counts as, and a footnote for
    each '-' and each entry that leaves runs out.
    """
    notes = footnotes(rows)
    stub = [["recipe", "runs"], *([printable(row.recipe), str(row.measured)] for row in rows)]
    body = []
    for key, column in COLUMNS.items():
        body.append([column.heading, *(_cell(row.entries[key], column, notes) for row in rows)])

    def pad(columns: Sequence[Sequence[str]]) -> list[str]:
        widths = [max(map(len, column)) for column in columns]
        lines = (
            "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) for cells in zip(*columns, strict=True)
        )
        return [line.rstrip() for line in lines]

    stub_columns = [list(column) for column in zip(*stub, strict=True)]
    blocks: list[list[list[str]]] = []
    for cells in body:
        if not blocks or max(map(len, pad([*stub_columns, *blocks[-1], cells]))) > width:
            blocks.append([])
        blocks[-1].append(cells)
    lines = []
    for block in blocks:
        heading, *rest = pad([*stub_columns, *block])
        lines += [heading, "-" * max(map(len, [heading, *rest])), *rest, ""]
    lines += [f"{column.heading}: {column.meaning}" for column in COLUMNS.values()]
    for who, found in references(rows).items():
        lines += [f"{who}: {COLUMNS[key].heading} {text}" for key, text in found.items()]
    lines += [f"({number}) {note}" for note, number in notes.items()]
    return "\n".join(lines)
