"""Statistics over seeds: intervals, rank correlations, and the table of a results dataset.

Shapes: R runs, S steps. Every interval is a 95 % interval unless ``confidence`` says otherwise, and every random
number comes from a fixed seed, so the same data always gives the same interval.

A run that diverged stays in the statistics. `FAILURE` holds what it counts as; where no such value makes sense (its
loss, its lag) the run has no value, the estimate is over the others, and the table says how many there were.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.interpolate
import scipy.stats
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from gandyn.text import printable

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


def expanded(confidence: float, n: int) -> float:
    """The confidence to ask a bootstrap of n entries for, so that its interval has the confidence wanted.

    1 - 2 Phi(-sqrt(n / (n - 1)) t), t Student's quantile with n - 1 degrees of freedom: on normal data the percentile
    interval of the mean then has the width of Student's, which it falls short of for want of both (Hesterberg 2015,
    section 5.3). The interval still cannot leave the range of the data.
    """
    t = scipy.stats.t.ppf((1 + confidence) / 2, n - 1)
    # Beyond a few in a million every resample is inside, and BCa would meet an infinite quantile.
    return 1 - 2 * max(float(scipy.stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)), 1e-6)


def _bootstrap(
    x: NDArray, statistic: Callable[..., NDArray], confidence: float, method: Literal["BCa", "percentile"]
) -> Estimate:
    """A statistic of x (n,) with its bootstrap interval, `expanded`; undefined and constant x as `mean_interval`."""
    if x.size == 0 or not np.isfinite(x).all():
        return UNDEFINED
    if x.size == 1:
        return Estimate(float(x[0]), _NAN, _NAN)
    if _is_constant(x):
        return Estimate(float(x[0]), float(x[0]), float(x[0]))
    result = scipy.stats.bootstrap(
        (x,),
        statistic,
        confidence_level=expanded(confidence, x.size),
        n_resamples=4999,
        batch=max(1, 10**6 // x.size),
        method=method,
        rng=np.random.default_rng(0),
    )
    return Estimate(float(statistic(x)), *map(float, result.confidence_interval))


def mean_interval(x: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of x (n,) with its BCa bootstrap interval (Efron 1987; `scipy.stats.bootstrap`), `expanded` for small n.

    A NaN in x makes the estimate NaN: leave undefined entries out before, and say how many. One entry has no
    interval. Equal entries have an interval of width zero: a bootstrap cannot see a spread that the data lacks.

    Counted coverage of the 95 % interval, 2,000 repetitions of n = 8, 16, 64 entries: normal 93.4, 94.6, 94.8 %;
    gamma of shape 4 93.3, 94.8, 94.8; exponential 89.8, 92.7, 94.5; modes of eight with a tail of one run in seven
    below five 85.2, 91.1, 96.0: few entries may lack a rare failure altogether, and no interval sees it then. Plain
    BCa has 88 % at n = 8 and 92 % at n = 16 of normal data.
    """
    return _bootstrap(np.asarray(x, float), np.mean, confidence, "BCa")


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


def iqm_interval(x: ArrayLike, confidence: float = 0.95) -> Estimate:
    """`interquartile_mean` of x (n,) with its percentile bootstrap interval, `expanded` for small n.

    The percentile interval is what Agarwal et al. 2021 use. Undefined, single and equal entries as `mean_interval`.

    Counted coverage of the 95 % interval, 1,000 repetitions of n = 8, 16, 64: normal 96.4, 96.7, 95.7 %; gamma of
    shape 4 97.4, 95.8, 95.4; exponential 97.6, 96.1, 96.8; modes of eight 96.6, 95.3, 94.7.
    """

    def iqm(x: NDArray, axis: int = -1) -> NDArray:
        return np.asarray(scipy.stats.trim_mean(x, 0.25, axis=axis))

    return _bootstrap(np.asarray(x, float), iqm, confidence, "percentile")


def common_seeds(seeds_x: ArrayLike, seeds_y: ArrayLike) -> NDArray:
    """The seeds that both have, each once, in order: the pairs behind `paired_difference`."""
    return np.intersect1d(np.asarray(seeds_x), np.asarray(seeds_y))


def paired_difference(
    x: ArrayLike, seeds_x: ArrayLike, y: ArrayLike, seeds_y: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Mean over the common seeds of x minus y, with `mean_interval` of the differences.

    Runs with one seed share their draws, so the difference varies less than either side where the two move together.
    x (n,) has the seeds (n,), y (m,) the seeds (m,); a side with several entries for a seed counts with their mean.
    NaN without a common seed, or where an entry of one is NaN; `common_seeds` says how many there are.

    Raises:
      ValueError: where entries and seeds differ in number.
    """
    sides = []
    for name, entries, seeds in (("x", x, seeds_x), ("y", y, seeds_y)):
        entries, seeds = np.asarray(entries, float), np.asarray(seeds)
        if entries.shape != seeds.shape or entries.ndim != 1:
            raise ValueError(
                f"paired_difference: {name} must be a vector with a seed an entry; got {entries.shape}, {seeds.shape}"
            )
        sides.append((entries, seeds))
    means = [
        np.array([entries[seeds == seed].mean() for seed in common_seeds(seeds_x, seeds_y)]) for entries, seeds in sides
    ]
    return mean_interval(means[0] - means[1], confidence)


def share_interval(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Share of successes in n, with its Wilson score interval (Wilson 1927; `scipy.stats.binomtest`); NaN for n = 0.

    Exact coverage of the 95 % interval, mean over shares from 2 to 98 % and the least of them: n = 16 95.4, 91.8 %;
    n = 64 95.1, 93.2; n = 200 95.0, 93.3.
    """
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


def _resampled_clusters(clusters: NDArray, resamples: int) -> list[NDArray]:
    """Positions of the rows of as many clusters as there are, drawn with replacement, once a resample."""
    names, index = np.unique(clusters, return_inverse=True)
    rows = [np.flatnonzero(index == c) for c in range(names.size)]
    drawn = np.random.default_rng(0).integers(names.size, size=(resamples, names.size))
    return [np.concatenate([rows[c] for c in draw]) for draw in drawn]


def rank_correlation(
    x: ArrayLike, y: ArrayLike, confidence: float = 0.95, clusters: ArrayLike | None = None
) -> Estimate:
    """Spearman's rank correlation of x (n,) and y (n,) with its percentile bootstrap interval over pairs.

    Where pairs are not independent, ``clusters`` (n,) names those that are resampled together: runs of one seed.

    NaN where x or y is constant, holds a NaN, or n < 3. No interval below `MIN_PAIRS` pairs. A resample in which
    either side is constant shows no relation, and counts as 0: were it left out, one run that differs from all others
    would look like proof.

    Counted coverage of the 95 % interval, 1,000 repetitions of n = 8, 16, 32, 64 pairs: independent 95.8, 95.3, 95.3,
    95.1 %; normal with correlation 0.6 96.6, 96.6, 95.9, 96.1; the same rounded to 1 ... 8 modes 91.7, 95.2, 94.5,
    94.1.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"rank_correlation: x and y must be two vectors of one length, got {x.shape} and {y.shape}")
    if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return UNDEFINED
    value = float(_spearman(x, y))
    units = x.size if clusters is None else np.unique(np.asarray(clusters)).size
    if math.isnan(value) or units < MIN_PAIRS:
        return Estimate(value, _NAN, _NAN)
    if units == x.size:
        pairs = np.random.default_rng(0).integers(x.size, size=(2000, x.size))
        resampled = _spearman(x[pairs], y[pairs])
    else:
        resampled = np.array([_spearman(x[rows], y[rows]) for rows in _resampled_clusters(np.asarray(clusters), 2000)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.nan_to_num(resampled, nan=0.0), [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def band(x: ArrayLike, confidence: float = 0.95, resamples: int = 1000) -> Band:
    """Mean over runs at each step of x (R, S), with the percentile bootstrap interval of that mean, `expanded`.

    Counted coverage of the 95 % interval at a step, n = 16, 64 runs: normal 94.7, 94.6 %; gamma of shape 4 93.8, 94.3;
    exponential 92.2, 93.7.

    At each step the runs that are finite there count, and ``count`` says how many: none gives NaN, one gives no
    interval. Steps with as many runs share one resampling matrix (resamples, R), which makes the whole band a matrix
    product and keeps its edges free of jitter from step to step. For runs that diverged, `values` gives the curves in
    which they still count, for the metrics that have such a value.
    """
    x = np.asarray(x, float)
    defined = np.isfinite(x)
    count = defined.sum(axis=0)
    mean, low, high = np.full((3, x.shape[1]), np.nan)
    for n in np.unique(count[count > 0]):
        steps = np.flatnonzero(count == n)
        # Of each step the n defined runs, in order: a stable sort puts them first.
        order = np.argsort(~defined[:, steps], axis=0, kind="stable")[:n]
        block = np.take_along_axis(x[:, steps], order, axis=0)
        mean[steps] = block.mean(axis=0)
        if n > 1:
            weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples) / n
            tail = (1 - expanded(confidence, int(n))) / 2
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


def _inverse(curve: NDArray) -> Callable[[NDArray], NDArray] | None:
    """The number of modes as a function of a loss, from the losses (K,) of k = 1 ... K; None where there is none."""
    rises = np.diff(curve)
    if curve.size < 2 or not np.isfinite(curve).all() or not ((rises > 0).all() or (rises < 0).all()):
        return None
    order = np.argsort(curve)
    inverse = scipy.interpolate.PchipInterpolator(curve[order], 1.0 + order)
    return lambda loss: inverse(np.clip(loss, curve.min(), curve.max()))


def implied_modes(results: xr.Dataset, player: Literal["disc", "gen"]) -> NDArray:
    """How many modes a player's loss says G covers, were D optimal and G even over its modes: (R, S) float64.

    The k in [1, K] at which ``best_loss_disc`` or ``best_loss_gen`` equals the training loss, by monotone cubic
    interpolation of k over the K losses (Fritsch & Carlson 1980): the alarm that needs no samples. A loss beyond the
    ends of the curve counts as the end, exactly 1 or K: a D that lags raises D's loss past all K modes.

    NaN where the loss was not measured, from a divergence on, and for a run whose curve is unknown, has one point, or
    is not strictly monotone (hinge's generator loss is the same for every k < K).

    Raises:
      ValueError: for another player, or results without the curve or the loss.
    """
    if player not in ("disc", "gen"):
        raise ValueError(f"player: got {player!r}; allowed: 'disc', 'gen'")
    if f"best_loss_{player}" not in results:
        raise ValueError(f"implied_modes: the results have no best_loss_{player}")
    loss, curves = values(results, f"loss_{player}"), np.asarray(results[f"best_loss_{player}"].values, float)
    # Runs of one target and loss share their curve.
    sharing: dict[bytes, list[int]] = {}
    for run, (curve, k) in enumerate(zip(curves, num_modes(results), strict=True)):
        sharing.setdefault(curve[:k].tobytes(), []).append(run)
    implied = np.full(loss.shape, _NAN)
    for curve, runs in sharing.items():
        inverse = _inverse(np.frombuffer(curve))
        if inverse is not None:
            implied[runs] = inverse(loss[runs])
    return implied


def implied_disagreement(results: xr.Dataset) -> NDArray:
    """`implied_modes` of G's loss minus that of D's, (R, S) float64, in modes; NaN where either is.

    Zero where D is optimal and G even over the modes it covers; away from zero one of the two fails. Both are cut at
    1 and K, so that it is never more than K - 1, and two losses beyond the same end agree.
    """
    return implied_modes(results, "gen") - implied_modes(results, "disc")


def sampling_noise(results: xr.Dataset) -> NDArray:
    """Minibatch value minus value at the same parameters, (R, S) float64: what a loss curve shows beside the value.

    NaN from a divergence on, and where nothing was measured.
    """
    return values(results, "value_batch") - values(results, "value")


def movement(results: xr.Dataset) -> dict[str, NDArray]:
    """What moves a minibatch value over the steps of a run: shares of its variance, name -> (R,) float64.

    value_batch = value_best - lag + noise at the same parameters, so Var(value_batch), over steps, is the sum of the
    three terms' covariances with it. `divergence`, `lag` and `noise` are those covariances over the variance: they sum
    to one, and a share is negative where its term moves against the sum. `known` is the first two together, V itself.

    NaN for a run with fewer than three measurements up to a divergence or a value that never moves; the first two are
    NaN where no best value is known.
    """
    batch, value = values(results, "value_batch"), values(results, "value")
    best = values(results, "value_best") if "value_best" in results else np.full_like(value, _NAN)
    terms = {"divergence": best, "lag": value - best, "noise": batch - value, "known": value}
    shares = {name: np.full(len(batch), _NAN) for name in terms}
    for r in range(len(batch)):
        used = np.isfinite(batch[r]) & np.isfinite(value[r])
        known = np.isfinite(best[r])
        # The steps of all terms alike, so that the shares sum to one.
        used &= known if known.any() else True
        if used.sum() >= 3 and np.ptp(batch[r, used]) > 0:
            for name, term in terms.items():
                covariance = np.cov(term[r, used], batch[r, used])
                shares[name][r] = covariance[0, 1] / covariance[1, 1]
    return shares


def near_equilibrium(results: xr.Dataset, tolerance: float = 0.05) -> NDArray:
    """Whether D's minibatch loss is within `tolerance` (in its own units) of its value at equilibrium, (R, S) bool.

    For the logistic losses of log 4: what "the loss has converged" looks like at a step.
    """
    equilibrium = np.asarray(results["equilibrium"].values, float)[:, None]
    return np.abs(values(results, "loss_disc") + equilibrium) <= tolerance


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


def _correlation_entry(loss: NDArray, metric: NDArray, name: str = "modes") -> Entry:
    """Rank correlation of a loss with the named metric over the measured runs that have both."""
    defined = np.isfinite(loss) & np.isfinite(metric)
    x, y, n = loss[defined], metric[defined], int(defined.sum())
    if n < 3:
        return Entry(
            UNDEFINED, n, f"{n} {'run has' if n == 1 else 'runs have'} a final loss, too few for a correlation"
        )
    estimate = rank_correlation(x, y)
    if math.isnan(estimate.value):
        same = "the loss is" if np.ptp(y) > 0 else "modes are" if name == "modes" else f"{name} is"
        return Entry(estimate, n, f"{same} the same in every run")
    why = "a diverged run has no loss" + ("" if name == "modes" else f", or {name} was not measured")
    notes = [f"over {n} of {loss.size} runs: {why}"] if n < loss.size else []
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


class Correlation(NamedTuple):
    """How one loss goes with one metric in one recipe: over the steps of a run, and over runs."""

    recipe: str
    loss: str
    metric: str
    within: Entry
    across: Entry


def _last_pairs(results: xr.Dataset, loss: str, metric: str) -> tuple[NDArray, NDArray]:
    """Loss and metric (R,) at each run's last step with both; NaN for a run that has none or diverged."""
    x, y = values(results, loss), values(results, metric)
    both = np.isfinite(x) & np.isfinite(y)
    last = both.shape[1] - 1 - both[:, ::-1].argmax(axis=1)
    use = both.any(axis=1) & ~diverged(results)
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
    last = last_step(results)
    rows = []
    for recipe in recipes(results):
        used = runs_of(results, recipe)
        used = used[last[used] >= 0]
        for loss, metric in pairs:
            if (loss, metric) in known:
                missing = f"{loss} or {metric} is constant, or there are fewer than 3 steps with both"
                x, y = at_end[loss, metric]
                entries = _mean_entry(within[loss, metric][used], missing), _correlation_entry(x[used], y[used], metric)
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
