"""How well the end of a run can be told from its loss curves alone: ridge regressions, judged on held-out seeds.

Nothing but ``loss_disc``, ``loss_gen`` and ``loss_total`` is read to predict. Folds are split by seed: runs with one
seed share their draws, and are never on both sides. A fold is scored by a fit to the folds before it, and never the
reverse (Dawid 1984, prequential): in cross-validation each two folds are compared twice, and where there is nothing to
tell the two agree, so that an interval over seeds is too narrow. Shapes: R runs, S steps, N rows (runs, or runs at
some step), F features.

Losses of different kinds are on different scales: give one recipe at a time (`reading.runs_of`), or part of what is
told is which recipe a run belongs to.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from gandyn.analysis import intervals, reading, verdicts
from gandyn.analysis.intervals import UNDEFINED, Interval
from gandyn.analysis.verdicts import Rules

LOSSES = ("loss_disc", "loss_gen", "loss_total")

NUM_WINDOWS = 3
FOLDS = 6
FIRST_SCORED = 2
"""The first of the folds that is scored: before it there is too little to fit to."""
INNER_FOLDS = 4
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Weights c of c / 2 |w|^2 that are tried, on standardized features, beside a sum over rows."""

_RESAMPLES = 2000


class Prediction(NamedTuple):
    """How well a yes or no was told: AUC with its interval over seeds, all rows of either kind, and what else to know.

    AUC is the chance that of two rows, one of either kind, the one that happened has the higher score; 0.5 is chance.
    """

    auc: Interval
    n_positive: int
    n_negative: int
    note: str = ""


class Ranking(NamedTuple):
    """How well a number was told: rank correlation of prediction and truth with its interval over seeds."""

    correlation: Interval
    count: int
    note: str = ""


def features(curves: ArrayLike, steps: ArrayLike) -> NDArray:
    """Summaries of curves (N, C, S) measured at the steps (S,): (N, F), F = C * (3 * `NUM_WINDOWS` + 1).

    Of each curve: mean, standard deviation and slope (of a line over the window, a unit being its length) in each of
    `NUM_WINDOWS` equal windows, and the last value. Entries that are NaN are left out; a window without an entry makes
    its summaries NaN, one entry has slope and standard deviation 0.
    """
    curves, steps = np.asarray(curves, float), np.asarray(steps, float)
    summaries = []
    for window in np.array_split(np.arange(steps.size), NUM_WINDOWS):
        x, length = curves[..., window], max(float(np.ptp(steps[window])), 1.0)
        defined = np.isfinite(x)
        count = np.where(defined.any(axis=-1), defined.sum(axis=-1), np.nan)
        mean = np.where(defined, x, 0).sum(axis=-1) / count
        t = np.broadcast_to(steps[window] / length, x.shape)
        t = np.where(defined, t - (np.where(defined, t, 0).sum(axis=-1) / count)[..., None], 0)
        x = np.where(defined, x - mean[..., None], 0)
        spread = (t * t).sum(axis=-1)
        slope = np.divide((t * x).sum(axis=-1), spread, out=np.zeros(spread.shape), where=spread > 0)
        summaries += [mean, np.sqrt((x * x).sum(axis=-1) / count), np.where(np.isfinite(mean), slope, np.nan)]
    defined = np.isfinite(curves)
    last = curves.shape[-1] - 1 - defined[..., ::-1].argmax(axis=-1)
    summaries.append(np.take_along_axis(curves, last[..., None], axis=-1)[..., 0])
    return np.concatenate(summaries, axis=-1)


def auc(
    scores: ArrayLike, labels: ArrayLike, strata: ArrayLike, seeds: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Area under the ROC curve within strata, with its percentile bootstrap interval over seeds, `intervals.expanded`.

    U / (n_1 n_0), Mann & Whitney's U (`scipy.stats.mannwhitneyu`): the share of pairs of a positive and a negative row
    in which the positive has the higher score, ties counting half. Only rows of one stratum are compared. All four
    (N,), labels 0 or 1. Seeds are resampled with all their rows; a resample without a pair counts as 0.5.

    NaN without a pair; no interval from fewer than `intervals.MIN_PAIRS` seeds.
    """
    scores, labels, strata = np.asarray(scores, float), np.asarray(labels, bool), np.asarray(strata)
    names, cluster = np.unique(np.asarray(seeds), return_inverse=True)
    rng, n = np.random.default_rng(0), max(names.size, 1)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    weights = np.concatenate([np.ones((1, n), int), weights])[:, cluster]  # the data itself first
    won, pairs = np.zeros((2, len(weights)))
    for stratum in np.unique(strata):
        positive, negative = np.flatnonzero(labels & (strata == stratum)), np.flatnonzero(~labels & (strata == stratum))
        above = scores[positive, None] - scores[negative]
        above = (above > 0) + 0.5 * (above == 0)
        won += ((weights[:, positive] @ above) * weights[:, negative]).sum(axis=1)
        pairs += weights[:, positive].sum(axis=1) * weights[:, negative].sum(axis=1)
    if pairs[0] == 0:
        return UNDEFINED
    areas = np.divide(won, pairs, out=np.full(len(won), 0.5), where=pairs > 0)
    if names.size < intervals.MIN_PAIRS:
        return Interval(float(areas[0]), math.nan, math.nan)
    tail = (1 - intervals.expanded(confidence, n)) / 2
    low, high = np.quantile(areas[1:], [tail, 1 - tail])
    return Interval(float(areas[0]), float(low), float(high))


def folds(seeds: ArrayLike, count: int = FOLDS) -> NDArray:
    """The fold of each row, (N,) int, from its seed: seeds in random order (always the same) dealt out in turn."""
    names, index = np.unique(np.asarray(seeds), return_inverse=True)
    return (np.random.default_rng(0).permutation(names.size) % max(1, min(count, names.size)))[index]


def _standardize(x: NDArray) -> tuple[NDArray, NDArray]:
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 1e-12 * np.abs(x).max(axis=0), spread, np.inf)  # inf: no use of it


def fit_logistic(x: NDArray, y: NDArray, penalty: float) -> NDArray:
    """Intercept and weights (1 + F,) that minimize the ridge logistic loss of labels y (N,) in {0, 1}.

    sum_i log(1 + exp(-s_i (b + w x_i))) + penalty / 2 |w|^2, s = 2 y - 1, by Newton's method in a trust region,
    gradient and Hessian in closed form.
    """
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    ridge = np.concatenate([[0.0], np.full(x.shape[1], penalty)])

    def loss(theta: NDArray) -> tuple[float, NDArray]:
        z = design @ theta
        value = -(y * log_expit(z) + (1 - y) * log_expit(-z)).sum() + (ridge * theta**2).sum() / 2
        return float(value), design.T @ (expit(z) - y) + ridge * theta

    def hessian(theta: NDArray) -> NDArray:
        p = expit(design @ theta)
        return design.T @ (design * (p * (1 - p))[:, None]) + np.diag(ridge)

    start = np.zeros(design.shape[1])
    return scipy.optimize.minimize(loss, start, jac=True, hess=hessian, method="trust-exact").x


def fit_linear(x: NDArray, y: NDArray, penalty: float) -> NDArray:
    """Intercept and weights (1 + F,) that minimize sum_i (b + w x_i - y_i)^2 / 2 + penalty / 2 |w|^2."""
    mean_x, mean_y = x.mean(axis=0), y.mean()
    centred = x - mean_x
    w = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - mean_y))
    return np.concatenate([[mean_y - mean_x @ w], w])


_Fit = Callable[[NDArray, NDArray, float], NDArray]
_Error = Callable[[NDArray, NDArray], float]


def _logistic_error(z: NDArray, y: NDArray) -> float:
    return float(-(y * log_expit(z) + (1 - y) * log_expit(-z)).sum())


def _squared_error(z: NDArray, y: NDArray) -> float:
    return float(((z - y) ** 2).sum())


def _predict(x: NDArray, y: NDArray, train: NDArray, test: NDArray, fit: _Fit, penalty: float) -> tuple[NDArray, float]:
    """Predictions of the test rows, and the intercept in them, by a fit to the train rows, standardized by these."""
    mean, spread = _standardize(x[train])
    theta = fit((x[train] - mean) / spread, y[train], penalty)
    return theta[0] + (x[test] - mean) / spread @ theta[1:], float(theta[0])


def held_out_scores(x: NDArray, y: NDArray, seeds: NDArray, fit: _Fit, error: _Error) -> NDArray:
    """The score (N,) of each row by a fit to the rows of the folds before its own, without the intercept.

    NaN in the folds before `FIRST_SCORED` (1 where there are fewer folds). The penalty is that of `PENALTIES` with the
    least error over inner folds of the training seeds. The intercept is left out: it differs between folds, and would
    tell their rows apart by chance.
    """
    outer, scores = folds(seeds), np.full(len(y), np.nan)
    for fold in range(min(FIRST_SCORED, int(outer.max())), int(outer.max()) + 1):
        train, test = np.flatnonzero(outer < fold), np.flatnonzero(outer == fold)
        inner = folds(seeds[train], INNER_FOLDS)
        errors = np.zeros(len(PENALTIES))
        for i in np.unique(inner):
            fitted, left_out = train[inner != i], train[inner == i]
            if fitted.size:
                errors += [error(_predict(x, y, fitted, left_out, fit, c)[0], y[left_out]) for c in PENALTIES]
        predicted, intercept = _predict(x, y, train, test, fit, PENALTIES[int(errors.argmin())])
        scores[test] = predicted - intercept
    return scores


def _curves(results: xr.Dataset) -> NDArray:
    """The loss curves (R, 3, S)."""
    lacking = [name for name in LOSSES if name not in results]
    if lacking:
        raise ValueError(f"prediction: the results have no {' and no '.join(lacking)}")
    return np.stack([reading.values(results, name) for name in LOSSES], axis=1)


def _left_out(results: xr.Dataset) -> tuple[NDArray, str]:
    """Which runs are left out, (R,) bool, for having no loss up to the end; and the note that says so."""
    out = reading.diverged(results) | (reading.last_step(results) < results.sizes["step"] - 1)
    note = f"{out.sum()} of {out.size} runs left out: diverged or interrupted, so without a loss at the end"
    return out, note if out.any() else ""


def _recipes_note(results: xr.Dataset) -> str:
    n = len(reading.recipes(results)) if "recipe" in results else 1
    return f"over {n} recipes: part of what is told is the recipe" if n > 1 else ""


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _at_end(results: xr.Dataset, up_to: float | None) -> tuple[NDArray, NDArray, NDArray, str]:
    """Features and final modes of the runs that count, their positions, and a note."""
    steps = np.asarray(results["step"].values, float)
    seen = np.flatnonzero(steps <= (np.inf if up_to is None else up_to))
    if seen.size < NUM_WINDOWS:
        raise ValueError(f"up_to: got {up_to}; allowed: a step with at least {NUM_WINDOWS} measurements up to it")
    out, note = _left_out(results)
    x = features(_curves(results)[..., seen], steps[seen])
    lacking = ~np.isfinite(x).all(axis=1) & ~out
    gaps = f"{lacking.sum()} of {out.size} runs left out: the losses were not measured often enough"
    used = np.flatnonzero(~out & ~lacking)
    note = _join(note, gaps if lacking.any() else "", _recipes_note(results))
    return x[used], reading.final(results, "modes")[used], used, note


def _tell(x: NDArray, y: NDArray, strata: NDArray, seeds: NDArray, note: str, kinds: tuple[str, str]) -> Prediction:
    """`Prediction` of labels y (N,); ``kinds`` name what 1 and 0 are, for the note where one of them lacks."""
    positive, negative = int(y.sum()), int((1 - y).sum())
    if np.unique(seeds[y == 1]).size < 2 or np.unique(seeds[y == 0]).size < 2:
        lacking = kinds[0] if np.unique(seeds[y == 1]).size < 2 else kinds[1]
        return Prediction(
            UNDEFINED, positive, negative, _join(f"fewer than two seeds {lacking}: nothing to tell", note)
        )
    scores = held_out_scores(x, y, seeds, fit_logistic, _logistic_error)
    # Fits of different folds are on different scales: pairs are compared within a fold.
    strata = np.unique(np.stack([strata, folds(seeds)]), axis=1, return_inverse=True)[1]
    scored = np.isfinite(scores)
    area = auc(scores[scored], y[scored], strata[scored], seeds[scored])
    without = "no fold has rows of both kinds" if math.isnan(area.value) else ""
    return Prediction(area, positive, negative, _join(without, note))


def predict_coverage(results: xr.Dataset, up_to: float | None = None, at_least: float = 1.0) -> Prediction:
    """How well the losses up to a step tell whether a run covers at least a share of its modes at the end.

    A ridge logistic regression on `features` of the losses, scored on held-out seeds (`held_out_scores`); AUC over
    pairs of runs in one fold. Diverged and interrupted runs are left out, and the note says how many.

    Args:
      results: of one recipe (see the module), with ``modes``.
      up_to: the last step that is seen; all of them by default.
      at_least: share of the modes that counts as covered.

    Raises:
      ValueError: for results without the losses or ``modes``, and for an ``up_to`` with too few measurements.
    """
    x, modes, used, note = _at_end(results, up_to)
    covered = (modes >= at_least * reading.num_modes(results)[used]).astype(float)
    seeds = results["seed"].values[used]
    return _tell(x, covered, np.zeros(used.size), seeds, note, ("cover that many modes", "cover fewer modes"))


def predict_modes(results: xr.Dataset, up_to: float | None = None) -> Ranking:
    """Rank correlation of the modes covered at the end with a ridge regression's prediction from the losses.

    As `predict_coverage`, with a linear fit to the number of modes. The interval resamples seeds with all their runs.
    """
    x, modes, used, note = _at_end(results, up_to)
    seeds = results["seed"].values[used]
    if np.unique(seeds).size < intervals.MIN_PAIRS or np.ptp(modes) == 0:
        why = (
            f"fewer than {intervals.MIN_PAIRS} seeds"
            if np.unique(seeds).size < intervals.MIN_PAIRS
            else "modes are all the same"
        )
        return Ranking(UNDEFINED, used.size, _join(why, note))
    scores = held_out_scores(x, modes, seeds, fit_linear, _squared_error)
    scored = np.isfinite(scores)
    found = intervals.rank_correlation(scores[scored], modes[scored], clusters=seeds[scored])
    return Ranking(found, used.size, note)


def predict_collapse(
    results: xr.Dataset, horizon: float | None = None, history: float | None = None, rules: Rules | None = None
) -> Prediction:
    """How well the losses up to a step tell that a run collapses within the horizon after it.

    Asked at every multiple t of the horizon, of every run that by t has covered more than the collapsed share of its
    modes and is not collapsed: one row a run and t, 1 where its collapse (`verdicts.collapse_onset`) is in
    (t, t + horizon]. Seen are the losses in (t - history, t]. A fold's fit is of all t at once, but pairs are compared
    at one t: how late it is tells nothing. Nothing is asked whose answer lies in the window of the verdicts, where a
    collapse has not lasted yet. Diverged and interrupted runs are left out, and the note says how many.

    Args:
      results: of one recipe (see the module), with ``modes``.
      horizon: in steps; an eighth of the run by default.
      history: in steps; two horizons by default. Before so many steps nothing is asked.
      rules: thresholds of a collapse.

    Raises:
      ValueError: for results without the losses or ``modes``, and where horizon or history holds too few measurements.
    """
    rules = rules or Rules()
    steps = np.asarray(results["step"].values, float)
    end = float(steps[-1]) if steps.size else 0.0
    horizon = end / 8 if horizon is None else horizon
    history = 2 * horizon if history is None else history
    if not 0 < horizon <= end / 2:
        raise ValueError(f"horizon: got {horizon:g}; allowed: above 0, at most half of the run, {end / 2:g}")
    curves, modes = _curves(results), reading.values(results, "modes")
    onset, (out, note) = verdicts.collapse_onset(results, rules), _left_out(results)
    enough = rules.modes_collapsed * reading.num_modes(results)
    # A later collapse has not lasted long enough to be called one.
    confirmed = verdicts.window_start(steps, rules)
    moments = [t for t in np.arange(horizon, end, horizon) if t >= history and t + horizon <= confirmed]
    rows: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
    for t in moments:
        seen = np.flatnonzero((steps > t - history) & (steps <= t))
        if seen.size < NUM_WINDOWS:
            raise ValueError(
                f"history: got {history:g} steps with {seen.size} measurements; allowed: {NUM_WINDOWS} at least"
            )
        had_more = (modes[:, steps <= t] > enough[:, None]).any(axis=1)
        x = features(curves[..., seen], steps[seen])
        used = np.flatnonzero(~out & had_more & ~(onset <= t) & np.isfinite(x).all(axis=1))
        soon = (onset[used] > t) & (onset[used] <= t + horizon)
        rows.append((x[used], soon.astype(float), np.full(used.size, t), results["seed"].values[used]))
    if not rows or not sum(len(row[1]) for row in rows):
        return Prediction(UNDEFINED, 0, 0, _join("no run is at risk of collapsing at any moment asked", note))
    x, y, strata, seeds = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    asked = f"asked at {len(moments)} moments, {horizon:g} steps ahead"
    note = _join(asked, note, _recipes_note(results))
    return _tell(x, y, strata, seeds, note, ("collapse", "do not collapse"))
