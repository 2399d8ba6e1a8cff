"""Statistics over seeds: intervals, rank correlations, and the table of a results dataset.

Shapes: R runs, S steps. Every interval is a 95 % interval unless ``confidence`` says otherwise, and every random
number comes from a fixed seed, so the same data always gives the same interval.

A run that diverged stays in the statistics. `FAILURE` holds what it counts as; where no such value makes sense (its
loss, its lag) the run has no value, the estimate is over the others, and the table says how many there were.
"""

import difflib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike, NDArray

# A diverged generator has no samples: it covers nothing, and shares no mass with the target.
FAILURE = {"modes": 0.0, "high_quality": 0.0, "jsd": math.log(2), "mode_tv": 1.0}

# Losses of the logistic kind, on one scale; and all whose value, and so the lag, is in nats.
LOGISTIC = ("minimax", "non_saturating", "relativistic", "relativistic_average", "f_js")
IN_NATS = (*LOGISTIC, "f_kl", "f_reverse_kl")

# Below this many pairs the bootstrap of a rank correlation is a farce: three points in order give [1, 1].
MIN_PAIRS = 5

_NAN = float("nan")


class Estimate(NamedTuple):
    """A value with its interval; NaN bounds mean that the data gives no interval."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """Mean over runs with its interval at each step; four arrays (S,), ``count`` the runs behind each."""

    mean: NDArray
    low: NDArray
    high: NDArray
    count: NDArray


UNDEFINED = Estimate(_NAN, _NAN, _NAN)


def _is_constant(x: NDArray) -> bool:
    return bool(np.ptp(x) <= 1e-12 * np.max(np.abs(x)))


def mean_interval(x: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of x (n,) with its BCa bootstrap interval (Efron 1987; `scipy.stats.bootstrap`).

    A NaN in x makes the estimate NaN: leave undefined entries out before, and say how many. One entry has no
    interval. Equal entries have an interval of width zero: a bootstrap cannot see a spread that the data lacks.
    """
    x = np.asarray(x, float)
    if x.size == 0 or not np.isfinite(x).all():
        return UNDEFINED
    if x.size == 1:
        return Estimate(float(x[0]), _NAN, _NAN)
    if _is_constant(x):
        return Estimate(float(x[0]), float(x[0]), float(x[0]))
    result = scipy.stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=confidence,
        n_resamples=4999,
        batch=max(1, 10**6 // x.size),
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return Estimate(float(x.mean()), *map(float, result.confidence_interval))


def mean_over_seeds(x: ArrayLike, seeds: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of x (n,) with an interval over seeds (n,): `mean_interval` of the mean of each seed's entries.

    For entries of several recipes: runs with one seed share their draws, so they are not independent, and an interval
    over runs would be too narrow.
    """
    x, seeds = np.asarray(x, float), np.asarray(seeds)
    return mean_interval([x[seeds == seed].mean() for seed in np.unique(seeds)], confidence)


def interquartile_mean(x: ArrayLike) -> float:
    """Mean of the middle half of x (n,): floor(n / 4) entries are cut at each end (Agarwal et al. 2021).

    NaN for empty x, or where x holds a NaN (sorting would put it at one end and hide it).
    """
    x = np.asarray(x, float)
    return _NAN if x.size == 0 or np.isnan(x).any() else float(scipy.stats.trim_mean(x, 0.25))


def share_interval(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Share of successes in n, with its Wilson score interval (Wilson 1927; `scipy.stats.binomtest`); NaN for n = 0."""
    if n == 0:
        return UNDEFINED
    interval = scipy.stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high))


def _spearman(x: NDArray, y: NDArray) -> NDArray:
    """Spearman's rank correlation along the last axis, NaN where either side is constant."""
    x, y = (scipy.stats.rankdata(a, axis=-1) for a in (x, y))
    x, y = (a - a.mean(axis=-1, keepdims=True) for a in (x, y))
    norm = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), norm, out=np.full(norm.shape, np.nan), where=norm > 0)


def rank_correlation(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Spearman's rank correlation of x (n,) and y (n,) with its percentile bootstrap interval over pairs.

    NaN where x or y is constant, holds a NaN, or n < 3. No interval below `MIN_PAIRS` pairs. A resample in which
    either side is constant shows no relation, and counts as 0: were it left out, one run that differs from all others
    would look like proof.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"rank_correlation: x and y must be two vectors of one length, got {x.shape} and {y.shape}")
    if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return UNDEFINED
    value = float(_spearman(x, y))
    if math.isnan(value) or x.size < MIN_PAIRS:
        return Estimate(value, _NAN, _NAN)
    pairs = np.random.default_rng(0).integers(x.size, size=(2000, x.size))
    resampled = _spearman(x[pairs], y[pairs])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.nan_to_num(resampled, nan=0.0), [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def band(x: ArrayLike, confidence: float = 0.95, resamples: int = 1000) -> Band:
    """Mean over runs at each step of x (R, S), with the percentile bootstrap interval of that mean.

    At each step the runs that are finite there count, and ``count`` says how many: none gives NaN, one gives no
    interval. Steps with as many runs share one resampling matrix (resamples, R), which makes the whole band a matrix
    product and keeps its edges free of jitter from step to step. For runs that diverged, `values` gives the curves in
    which they still count, for the metrics that have such a value.
    """
    x = np.asarray(x, float)
    defined = np.isfinite(x)
    count = defined.sum(axis=0)
    mean, low, high = np.full((3, x.shape[1]), np.nan)
    tail = (1 - confidence) / 2
    for n in np.unique(count[count > 0]):
        steps = np.flatnonzero(count == n)
        # Of each step the n defined runs, in order: a stable sort puts them first.
        order = np.argsort(~defined[:, steps], axis=0, kind="stable")[:n]
        block = np.take_along_axis(x[:, steps], order, axis=0)
        mean[steps] = block.mean(axis=0)
        if n > 1:
            weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples) / n
            low[steps], high[steps] = np.quantile(weights @ block, [tail, 1 - tail], axis=0)
    return Band(mean, low, high, count)


def recipes(results: xr.Dataset) -> list[str]:
    """The recipes of the dataset, in the order in which they first appear."""
    return list(dict.fromkeys(str(recipe) for recipe in results["recipe"].values))


def runs_of(results: xr.Dataset, recipe: str) -> NDArray:
    """Positions (not labels) along ``run`` of the runs of one recipe."""
    positions = np.flatnonzero([str(label) == recipe for label in results["recipe"].values])
    if positions.size == 0:
        known = recipes(results)
        near = difflib.get_close_matches(recipe, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, known))}"
        raise ValueError(f"no recipe {recipe!r}{hint}")
    return positions


def measured(results: xr.Dataset) -> NDArray:
    """Whether a run was measured at a step, (R, S) bool. Only an interrupted run has steps without a measurement."""
    return ~np.isnan(np.asarray(results["finite"].values, float))


def last_step(results: xr.Dataset) -> NDArray:
    """Position along ``step`` of each run's last measurement, (R,) int; -1 for a run that was never measured."""
    done = measured(results)
    return np.where(done.any(axis=1), done.shape[1] - 1 - done[:, ::-1].argmax(axis=1), -1)


def diverged(results: xr.Dataset) -> NDArray:
    """Whether a run's parameters were no longer finite at its last measurement, (R,) bool."""
    return (np.asarray(results["finite"].values, float) == 0).any(axis=1)


def num_modes(results: xr.Dataset) -> NDArray:
    """How many modes each run's target has, (R,) int."""
    return np.isfinite(np.asarray(results["target_weights"].values, float)).sum(axis=1)


def values(results: xr.Dataset, metric: str) -> NDArray:
    """A metric as (R, S) float64 in which a run counts as `FAILURE` from the step at which it diverged.

    Metrics without a failure value are NaN from that step on. NaN, too, where nothing was measured.
    """
    if metric not in results:
        near = difflib.get_close_matches(metric, [str(name) for name in results.data_vars], n=1)
        raise ValueError(f"no metric {metric!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    failed = np.asarray(results["finite"].values, float) == 0
    return np.where(failed, FAILURE.get(metric, _NAN), np.asarray(results[metric].values, float))


def final(results: xr.Dataset, metric: str) -> NDArray:
    """A metric at each run's last measurement, (R,) float64; NaN where undefined or never measured.

    A diverged run counts as `FAILURE`: 0 modes, 0 high quality, JSD = log 2, mode TV = 1; its other metrics are NaN.
    """
    last = last_step(results)
    at_last = np.take_along_axis(values(results, metric), np.maximum(last, 0)[:, None], axis=1)[:, 0]
    return np.where(last >= 0, at_last, _NAN)


def within_runs(results: xr.Dataset, loss: str, metric: str = "modes") -> NDArray:
    """Spearman's correlation of a loss with a metric over the steps of each run, (R,) float64.

    Steps up to a divergence count. NaN where either curve is constant or has fewer than three steps. Both curves may
    follow training time, and neighbouring steps resemble each other: a large value says that the two move together
    in a run, not that the loss shows more than the clock does.
    """
    x, y = values(results, loss), values(results, metric)
    defined = np.isfinite(x) & np.isfinite(y)
    enough = defined.sum(axis=1) >= 3
    pairs = ((x[r, defined[r]], y[r, defined[r]]) if enough[r] else None for r in range(len(x)))
    return np.array([_NAN if pair is None else float(_spearman(*pair)) for pair in pairs], float)


def sampling_noise(results: xr.Dataset) -> NDArray:
    """Minibatch value minus value at the same parameters, (R, S) float64: what a loss curve shows beside the value.

    NaN from a divergence on, and where nothing was measured.
    """
    return values(results, "value_batch") - values(results, "value")


def looks_converged(results: xr.Dataset, tolerance: float = 0.05) -> NDArray:
    """Whether a run's final minibatch loss of D is near its value at equilibrium, (R,) bool.

    |loss_disc + equilibrium| <= tolerance * |equilibrium|: what a reader of the loss curve would call converged. False
    for a run that diverged, and where the value at equilibrium is 0 (nothing to be relative to).
    """
    equilibrium = np.asarray(results["equilibrium"].values, float)
    near = np.abs(final(results, "loss_disc") + equilibrium) <= tolerance * np.abs(equilibrium)
    return near & (equilibrium != 0)


class Column(NamedTuple):
    """A column of the table: how it is headed, what it means, how it is printed."""

    heading: str
    meaning: str
    digits: int
    percent: bool = False


class Entry(NamedTuple):
    """An estimate, the number of runs behind it, and a note where it is undefined or leaves runs out."""

    estimate: Estimate
    count: int
    note: str = ""


class Row(NamedTuple):
    """One recipe: its entries by column, and what as many real samples get (where recorded)."""

    recipe: str
    loss: str
    runs: int
    measured: int
    entries: dict[str, Entry]
    real: dict[str, float]


COLUMNS = {
    "modes": Column("modes", "modes covered at the end, mean over runs; a diverged run counts as 0", 2),
    "all_modes": Column("all modes", "share of runs that cover every mode at the end", 0, True),
    "high_quality": Column("high quality", "share of samples close to a mode; a diverged run counts as 0", 1, True),
    "diverged": Column("diverged", "share of runs whose parameters were no longer finite", 0, True),
    "jsd": Column(
        "JSD (nats)", "Jensen-Shannon divergence at the end, mean over runs; a diverged run counts as log 2", 3
    ),
    "lag": Column(
        "lag", "best value minus value at the end, mean over the runs that did not diverge; nats for logistic losses", 3
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


def _mean_entry(x: NDArray, missing: str) -> Entry:
    """Mean over the defined entries of x, one a measured run; ``missing`` says why a run may have none."""
    defined = x[np.isfinite(x)]
    if x.size == 0:
        return Entry(UNDEFINED, 0, "no run was measured")
    if defined.size == 0:
        return Entry(UNDEFINED, 0, f"no run has one: {missing}")
    notes = [f"over {defined.size} of {x.size} runs: {missing}"] if defined.size < x.size else []
    notes += ["one run gives no interval"] if defined.size == 1 else []
    return Entry(mean_interval(defined), defined.size, "; ".join(notes))


def _share_entry(hits: NDArray) -> Entry:
    return Entry(share_interval(int(hits.sum()), hits.size), hits.size, "" if hits.size else "no run was measured")


def _correlation_entry(loss: NDArray, modes: NDArray) -> Entry:
    """Rank correlation over the measured runs that have a loss."""
    defined = np.isfinite(loss) & np.isfinite(modes)
    x, y, n = loss[defined], modes[defined], int(defined.sum())
    if n < 3:
        return Entry(
            UNDEFINED, n, f"{n} {'run has' if n == 1 else 'runs have'} a final loss, too few for a correlation"
        )
    estimate = rank_correlation(x, y)
    if math.isnan(estimate.value):
        return Entry(estimate, n, f"{'modes are' if np.ptp(y) == 0 else 'the loss is'} the same in every run")
    notes = [f"over {n} of {loss.size} runs: a diverged run has no loss"] if n < loss.size else []
    notes += [f"fewer than {MIN_PAIRS} runs give no interval"] if n < MIN_PAIRS else []
    return Entry(estimate, n, "; ".join(notes))


def table(results: xr.Dataset) -> list[Row]:
    """One `Row` a recipe, in order of appearance, with an `Entry` for each of `COLUMNS`.

    Entries are over the runs of the recipe that were measured at all, each at its own last measurement. Diverged runs
    are failures: 0 modes, 0 high quality, JSD = log 2. They have no lag and no loss; an entry that leaves them
    out says so in its note. A metric that the dataset lacks is undefined, with a note.
    """
    last = last_step(results)
    fails, total = diverged(results), num_modes(results)
    recorded = [m for m in ("modes", "high_quality", "jsd", "lag", "loss_disc", "loss_gen") if m in results]
    at_end = {m: final(results, m) for m in recorded}
    within = {m: within_runs(results, m) for m in ("loss_disc", "loss_gen") if m in at_end and "modes" in at_end}
    real = {m: values(results, f"{m}_real") for m in ("modes", "high_quality") if f"{m}_real" in results}
    rows = []
    for recipe in recipes(results):
        runs = runs_of(results, recipe)
        used = runs[last[runs] >= 0]
        entries = {"diverged": _share_entry(fails[used])}
        for metric in ("modes", "high_quality", "jsd", "lag"):
            missing = "not measured at the end"
            if metric == "lag":
                # Undefined in every run that did not diverge: the loss, not the run, is the reason.
                of_loss = not np.isfinite(at_end["lag"][used]).any() and not fails[used].all() if "lag" in at_end else 0
                missing = "no best value is known for this loss" if of_loss else "a diverged run has no lag"
            entries[metric] = _mean_entry(at_end[metric][used], missing) if metric in at_end else _not_recorded(metric)
        if "modes" in at_end:
            entries["all_modes"] = _share_entry(at_end["modes"][used] >= total[used])
        else:
            entries["all_modes"] = _not_recorded("modes")
        for player in ("disc", "gen"):
            loss = f"loss_{player}"
            if loss in within:
                missing = "the loss or the modes are constant, or there are fewer than 3 steps"
                entries[f"across_{player}"] = _correlation_entry(at_end[loss][used], at_end["modes"][used])
                entries[f"within_{player}"] = _mean_entry(within[loss][used], missing)
            else:
                lacking = _not_recorded(loss if "modes" in at_end else "modes")
                entries[f"across_{player}"] = entries[f"within_{player}"] = lacking
        references = {m: x[runs][np.isfinite(x[runs])] for m, x in real.items()}
        rows.append(
            Row(
                recipe=recipe,
                loss=str(results["loss"].values[runs[0]]),
                runs=runs.size,
                measured=used.size,
                entries={key: entries[key] for key in COLUMNS},
                real={m: float(x.mean()) for m, x in references.items() if x.size},
            )
        )
    return rows


def format_value(value: float, column: Column) -> str:
    """A number as the column prints it, without a unit; '-' for NaN."""
    if math.isnan(value):
        return "-"
    text = f"{value * (100 if column.percent else 1):.{column.digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def format_estimate(estimate: Estimate, column: Column) -> str:
    """'7.81 [7.50, 8.00]', '62 % [39, 82]'; the value alone where there is no interval, '-' where there is no value."""
    text = format_value(estimate.value, column)
    if text == "-":
        return text
    text += " %" if column.percent else ""
    if math.isnan(estimate.low):
        return text
    return f"{text} [{format_value(estimate.low, column)}, {format_value(estimate.high, column)}]"


def footnotes(rows: Sequence[Row]) -> dict[str, int]:
    """Each distinct note of the table with its number, from 1, in the order in which a reader meets them."""
    notes = (row.entries[key].note for key in COLUMNS for row in rows)
    return {note: number for number, note in enumerate(dict.fromkeys(filter(None, notes)), start=1)}


def printable(label: str) -> str:
    """A label with line breaks and control characters (a terminal would obey them) replaced by '?'."""
    return "".join(c if c.isprintable() else "?" for c in label)


def format_table(rows: Sequence[Row], width: int = 110) -> str:
    """The table as aligned plain text, in as many blocks of columns as lines of ``width`` characters take.

    Under it, what each column means, what as many real samples get, and a footnote for each '-' and each entry that
    leaves runs out.
    """
    notes = footnotes(rows)
    stub = [["recipe", "runs"], *([printable(row.recipe), str(row.measured)] for row in rows)]
    body = []
    for key, column in COLUMNS.items():
        cells = [column.heading]
        for row in rows:
            entry = row.entries[key]
            cells.append(format_estimate(entry.estimate, column) + (f" ({notes[entry.note]})" if entry.note else ""))
        body.append(cells)

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
    for metric in dict.fromkeys(metric for row in rows for metric in row.real):
        texts = dict.fromkeys(format_value(row.real[metric], COLUMNS[metric]) for row in rows if metric in row.real)
        unit = " %" if COLUMNS[metric].percent else ""
        lines.append(f"as many real samples get: {COLUMNS[metric].heading} {', '.join(texts)}{unit}")
    lines += [f"({number}) {note}" for note, number in notes.items()]
    return "\n".join(lines)
