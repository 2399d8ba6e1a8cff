"""How often the intervals of `gandyn.analysis.intervals` hold what they are of: the tables in docs/intervals.md.

2,000 repetitions each (rank correlations 500), fixed seeds; shares exactly, over all counts. Entries that are all
equal have no interval: they are left out of the count, and their percentage stands in brackets. `python
benchmarks/interval_coverage.py` prints the tables.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from gandyn.analysis import intervals

REPETITIONS, OF_PAIRS = 2000, 500
SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
PAIRS = tuple(n for n in (*SIZES, 32) if n >= intervals.MIN_PAIRS)
MODES, RARE = ([5, 6, 7, 8], [0.15, 0.2, 0.35, 0.3]), ([1, 8], [0.15, 0.85])
DRAW: dict[str, tuple[Callable[[np.random.Generator, int, int], NDArray], float]] = {
    "normal": (lambda rng, r, n: rng.normal(size=(r, n)), 0.0),
    "gamma of shape 4": (lambda rng, r, n: rng.gamma(4, 1 / 4, (r, n)), 1.0),
    "exponential": (lambda rng, r, n: rng.exponential(size=(r, n)), 1.0),
    "5 to 8 modes": (lambda rng, r, n: rng.choice(MODES[0], size=(r, n), p=MODES[1]).astype(float), 6.8),
    "8 modes, or 1 in 15 %": (lambda rng, r, n: rng.choice(RARE[0], size=(r, n), p=RARE[1]).astype(float), 6.95),
}
"""Heading -> entries (r, n), and their mean."""


def of_mean(kind: str, n: int) -> tuple[float, float]:
    """Share of the intervals that hold the mean, and share of the repetitions that have none: `band`, a step each."""
    draw, mean = DRAW[kind]
    x = draw(np.random.default_rng(n), REPETITIONS, n)
    found = intervals.band(x.T)
    has = np.isfinite(found.low)
    return float(((found.low <= mean) & (mean <= found.high))[has].mean()), float((~has).mean())


def of_iqm(kind: str, n: int) -> tuple[float, float]:
    """The same of `iqm_interval`."""
    draw, _ = DRAW[kind]
    truth = intervals.interquartile_mean(draw(np.random.default_rng(0), 1, 4_000_000)[0])
    found = [intervals.iqm_interval(x) for x in draw(np.random.default_rng(n), REPETITIONS, n)]
    has = [one for one in found if math.isfinite(one.low)]
    return float(np.mean([one.low <= truth <= one.high for one in has])), 1 - len(has) / len(found)


def of_share(n: int) -> tuple[float, float]:
    """Mean over shares from 2 to 98 %, and the least of them, exactly."""
    shares = np.linspace(0.02, 0.98, 97)
    found = [intervals.share_interval(k, n) for k in range(n + 1)]
    hits = np.array([(one.low <= shares) & (shares <= one.high) for one in found])
    rates = (scipy.stats.binom.pmf(np.arange(n + 1)[:, None], n, shares) * hits).sum(axis=0)
    return float(rates.mean()), float(rates.min())


def pairs(rng: np.random.Generator, rho: float, whole: bool, n: int) -> tuple[NDArray, NDArray]:
    """Normal pairs of this correlation; whole: one side rounded to 1 ... 8 modes."""
    x, e = rng.normal(size=(2, n))
    y = rho * x + math.sqrt(1 - rho**2) * e
    return x, np.clip(np.round(1.2 * y + 7), 1, 8) if whole else y


def of_correlation(rho: float, whole: bool, n: int) -> float:
    """Share of the intervals of `rank_correlation` that hold the true one."""
    truth = float(intervals.spearman(*pairs(np.random.default_rng(0), rho, whole, 1_000_000)))
    rng = np.random.default_rng(n)
    found = [intervals.rank_correlation(*pairs(rng, rho, whole, n)) for _ in range(OF_PAIRS)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def _cell(rate: float, none: float) -> str:
    return f"{100 * rate:.1f}" + (f" ({100 * none:.0f})" if none > 0.0005 else "")


def table(of: Callable[[str, int], tuple[float, float]], sizes: tuple[int, ...]) -> list[str]:
    """Lines of a table: a row a number of entries, a column a distribution."""
    lines = ["| n | " + " | ".join(DRAW) + " |", "| --: |" + " --: |" * len(DRAW)]
    return lines + [f"| {n} | " + " | ".join(_cell(*of(kind, n)) for kind in DRAW) + " |" for n in sizes]


if __name__ == "__main__":
    print("\n".join([*table(of_mean, SIZES), "", *table(of_iqm, tuple(n for n in SIZES if n >= 4)), ""]))
    print("| n | mean over shares | least |\n| --: | --: | --: |")
    for n in (*SIZES, 64, 200):
        print(f"| {n} | " + " | ".join(f"{100 * rate:.1f}" for rate in of_share(n)) + " |")
    kinds = {"independent": (0.0, False), "0.6": (0.6, False), "0.6, whole modes": (0.6, True), "0.9": (0.9, False)}
    print("\n| n | " + " | ".join(kinds) + " |\n| --: |" + " --: |" * len(kinds))
    for n in PAIRS:
        print(f"| {n} | " + " | ".join(f"{100 * of_correlation(*kind, n):.1f}" for kind in kinds.values()) + " |")
