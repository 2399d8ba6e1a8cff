"""Intervals over seeds: of means, shares, differences, rank correlations, and bands around curves.

Shapes: R runs, S steps. Every interval is a 95 % interval unless ``confidence`` says otherwise, and every random
number comes from a fixed seed, so the same data always gives the same interval. Nothing here knows a dataset.
How often each holds, counted for 2 ... 16 runs, is in docs/intervals.md, with what no interval can do.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

MIN_PAIRS = 8
"""Below this many pairs the bootstrap of a rank correlation is a farce: three points in order give [1, 1], and "95 %"
hold in 76 to 95 % at five, in 89 to 98 at six."""

ANYTHING = -math.inf, math.inf

_NAN = float("nan")


class Interval(NamedTuple):
    """An estimate and its interval; NaN bounds mean that the data gives no interval."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """Mean over runs with its interval at each step; four arrays (S,), ``count`` the runs behind each."""

    mean: NDArray
    low: NDArray
    high: NDArray
    count: NDArray


UNDEFINED = Interval(_NAN, _NAN, _NAN)


def _is_constant(x: NDArray) -> bool:
    return bool(np.ptp(x) <= 1e-12 * np.max(np.abs(x)))


def expanded(confidence: float, n: int) -> float:
    """The confidence to ask a bootstrap of n entries for, so that its interval has the confidence wanted.

    1 - 2 Phi(-sqrt(n / (n - 1)) t), t Student's quantile with n - 1 degrees of freedom: on normal data the percentile
    interval of the mean then has the width of Student's, which it falls short of for want of both (Hesterberg 2015,
    section 5.3). The interval still cannot leave the range of the data.
    """
    t = scipy.stats.t.ppf((1 + confidence) / 2, n - 1)
    # Beyond a few in a million every resample is inside.
    return 1 - 2 * max(float(scipy.stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)), 1e-6)


def _students(x: NDArray, bounds: tuple[float, float], confidence: float, trim: int = 0) -> tuple[NDArray, ...]:
    """Mean along the last axis of x (..., n), ``trim`` entries cut at each end, and its interval: (...), (...), (...).

    Rule: mean -+ t s / sqrt(n), t Student's quantile with n - 1 degrees of freedom: exact for normal x at every
    n >= 2. On the side of the longer tail it is drawn out by Johnson's term (Johnson 1978, eq. 2.6, solved for the
    mean), (1 + 2 t^2) m_3 / (6 s^2 n), m_3 the third central moment: never narrower than Student's. Trimmed means
    have s of the winsorized entries and the degrees of freedom of those that are left (Tukey & McLaughlin 1963).
    The interval is cut at the bounds, which the mean cannot leave. NaN where all that counts is equal.
    """
    n = x.shape[-1]
    x = np.sort(x, axis=-1)
    left = n - 2 * trim
    mean = x[..., trim : n - trim].mean(axis=-1)
    x = np.clip(x, x[..., trim, None], x[..., n - trim - 1, None])
    away = x - x.mean(axis=-1, keepdims=True)
    square = (away**2).sum(axis=-1) / (left - 1)
    constant = np.ptp(x, axis=-1) <= 1e-12 * np.abs(x).max(axis=-1)
    square = np.where(constant, np.nan, square)
    third = (away**3).mean(axis=-1) * n**2 / ((n - 1) * max(n - 2, 1))
    t = scipy.stats.t.ppf((1 + confidence) / 2, left - 1)
    half, drawn = t * np.sqrt(square / left), (1 + 2 * t**2) * third / (6 * square * left)
    low, high = mean - half + np.minimum(drawn, 0), mean + half + np.maximum(drawn, 0)
    # A mean that lies outside by rounding, or by noise, still lies in its interval.
    return mean, np.minimum(np.maximum(low, bounds[0]), mean), np.maximum(np.minimum(high, bounds[1]), mean)


def _of_mean(x: NDArray, bounds: tuple[float, float], confidence: float, trim: int = 0) -> Interval:
    if x.size == 0 or not np.isfinite(x).all():
        return UNDEFINED
    if x.size == 1 or _is_constant(x):
        return Interval(float(x[0]), _NAN, _NAN)
    return Interval(*map(float, _students(x, bounds, confidence, trim)))


def mean_interval(x: ArrayLike, confidence: float = 0.95, bounds: tuple[float, float] = ANYTHING) -> Interval:
    """Mean of x (n,) with Student's interval, drawn out on the side of the longer tail (`_students`).

    ``bounds`` are what an entry cannot leave, such as 0 and 1 of a share: the interval is cut there.

    A NaN in x makes the estimate NaN: leave undefined entries out before, and say how many. One entry has no
    interval. Nor have equal entries: a spread that the data lacks cannot be seen in it, and a width of zero would
    claim that no other run can differ; `share_interval` of what they share says how many might.

    Counted coverage of the 95 % interval, 2,000 repetitions at each n = 2 ... 16: normal 95 to 97 %, gamma of shape 4
    94 to 96, exponential 91 to 95 (docs/intervals.md). No interval holds for every distribution (Bahadur & Savage
    1956): one failure in a hundred runs is not in four of them.
    """
    return _of_mean(np.asarray(x, float), bounds, confidence)


def mean_over_seeds(
    x: ArrayLike, seeds: ArrayLike, confidence: float = 0.95, bounds: tuple[float, float] = ANYTHING
) -> Interval:
    """Mean of x (n,) with an interval over seeds (n,): `mean_interval` of the mean of each seed's entries.

    For entries of several recipes: runs with one seed share their draws, so they are not independent, and an interval
    over runs would be too narrow.
    """
    x, seeds = np.asarray(x, float), np.asarray(seeds)
    return mean_interval([x[seeds == seed].mean() for seed in np.unique(seeds)], confidence, bounds)


def interquartile_mean(x: ArrayLike) -> float:
    """Mean of the middle half of x (n,): floor(n / 4) entries are cut at each end (Agarwal et al. 2021).

    NaN for empty x, or where x holds a NaN (sorting would put it at one end and hide it).
    """
    x = np.asarray(x, float)
    return _NAN if x.size == 0 or np.isnan(x).any() else float(scipy.stats.trim_mean(x, 0.25))


def iqm_interval(x: ArrayLike, confidence: float = 0.95, bounds: tuple[float, float] = ANYTHING) -> Interval:
    """`interquartile_mean` of x (n,) with the interval of a trimmed mean (`_students`).

    Below four entries nothing is cut: it is `mean_interval`. Undefined, single and equal entries, and ``bounds``, as
    there; the middle half equal has no interval either. (Agarwal et al. 2021 use the percentile bootstrap, which at
    four entries cannot leave their range, and holds in 88 % at best.)

    Counted coverage of the 95 % interval, n = 4 ... 16: normal 93 to 96 %, exponential 91 to 95 (docs/intervals.md).
    """
    x = np.asarray(x, float)
    return _of_mean(x, bounds, confidence, trim=x.size // 4)


def common_seeds(seeds_x: ArrayLike, seeds_y: ArrayLike) -> NDArray:
    """The seeds that both have, each once, in order: the pairs behind `paired_difference`."""
    return np.intersect1d(np.asarray(seeds_x), np.asarray(seeds_y))


def paired_difference(
    x: ArrayLike, seeds_x: ArrayLike, y: ArrayLike, seeds_y: ArrayLike, confidence: float = 0.95
) -> Interval:
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


def share_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Share of successes in n, with the interval of Clopper & Pearson 1934 (`scipy.stats.binomtest`); NaN for n = 0.

    It holds at every share and every n, one of them included; so on average it holds in more than 95 %: exactly, over
    shares from 2 to 98 %, 99.7 % at n = 2, 98.5 at 8, 97.9 at 16, 96.6 at 64. Wilson's score interval, narrower,
    holds in 95 % on average and at the worst share in 83 % at n = 2, 85 at 8, 92 at 16.
    """
    if n == 0:
        return UNDEFINED
    interval = scipy.stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="exact")
    return Interval(successes / n, float(interval.low), float(interval.high))


def spearman(x: NDArray, y: NDArray) -> NDArray:
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
) -> Interval:
    """Spearman's rank correlation of x (n,) and y (n,) with its percentile bootstrap interval over pairs.

    Where pairs are not independent, ``clusters`` (n,) names those that are resampled together: runs of one seed.

    NaN where x or y is constant, holds a NaN, or n < 3. No interval below `MIN_PAIRS` pairs. A resample in which
    either side is constant shows no relation, and counts as 0: were it left out, one run that differs from all others
    would look like proof.

    Counted coverage of the 95 % interval, n = 8, 16, 32: independent 96.8, 94.4, 95.0 %; normal with correlation 0.6
    96.4, 95.6, 96.4; the same rounded to 1 ... 8 modes 92.8, 95.4, 93.2 (docs/intervals.md).
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"rank_correlation: x and y must be two vectors of one length, got {x.shape} and {y.shape}")
    if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return UNDEFINED
    value = float(spearman(x, y))
    units = x.size if clusters is None else np.unique(np.asarray(clusters)).size
    if math.isnan(value) or units < MIN_PAIRS:
        return Interval(value, _NAN, _NAN)
    if units == x.size:
        pairs = np.random.default_rng(0).integers(x.size, size=(2000, x.size))
        resampled = spearman(x[pairs], y[pairs])
    else:
        resampled = np.array([spearman(x[rows], y[rows]) for rows in _resampled_clusters(np.asarray(clusters), 2000)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.nan_to_num(resampled, nan=0.0), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def band(x: ArrayLike, confidence: float = 0.95, bounds: tuple[float, float] = ANYTHING) -> Band:
    """Mean over runs at each step of x (R, S), with `mean_interval` there: pointwise, not of whole curves.

    At each step the runs that are finite there count, and ``count`` says how many: none gives NaN; one, or several that
    are equal, give no interval. For runs that diverged, `reading.values` gives the curves in which they still count,
    for the metrics that have such a value.
    """
    x = np.asarray(x, float)
    defined = np.isfinite(x)
    count = defined.sum(axis=0)
    mean, low, high = np.full((3, x.shape[1]), np.nan)
    for n in np.unique(count[count > 0]):
        steps = np.flatnonzero(count == n)
        # Of each step the n defined runs, in order: a stable sort puts them first.
        order = np.argsort(~defined[:, steps], axis=0, kind="stable")[:n]
        block = np.take_along_axis(x[:, steps], order, axis=0).T
        if n > 1:
            mean[steps], low[steps], high[steps] = _students(block, bounds, confidence)
        else:
            mean[steps] = block[:, 0]
    return Band(mean, low, high, count)
