import math
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from gandyn.analysis import intervals

NAN = float("nan")
ROOT = Path(__file__).parents[2]
COUNTED = runpy.run_path(str(ROOT / "benchmarks" / "interval_coverage.py"))
DOCS = (ROOT / "docs" / "intervals.md").read_text()


class TestMeanInterval:
    def test_covers_the_truth_at_its_rate(self):
        # Skewed data, for which BCa is made: 150 repetitions of n = 30 put 95 % within four standard errors.
        rng = np.random.default_rng(1)
        estimates = [intervals.mean_interval(rng.gamma(4, 1 / 4, 30)) for _ in range(150)]
        hits = [e.low <= 1 <= e.high for e in estimates]
        assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 150)

    def test_is_repeatable_and_holds_the_mean(self):
        x = np.random.default_rng(0).normal(size=16)
        estimate = intervals.mean_interval(x)
        assert estimate == intervals.mean_interval(x)
        assert estimate.value == pytest.approx(x.mean())
        assert estimate.low < estimate.value < estimate.high

    def test_is_wider_at_higher_confidence(self):
        x = np.random.default_rng(0).normal(size=16)
        narrow, wide = intervals.mean_interval(x, 0.8), intervals.mean_interval(x, 0.99)
        assert wide.low < narrow.low < narrow.high < wide.high

    @pytest.mark.parametrize(
        ("x", "expected"),
        [
            ([], (NAN, NAN, NAN)),
            ([2.0], (2.0, NAN, NAN)),
            ([2.0, 2.0, 2.0], (2.0, NAN, NAN)),
            ([0.1 + 0.2, 0.3, 0.3], (0.3, NAN, NAN)),
            ([0.0, 0.0], (0.0, NAN, NAN)),
            ([1.0, NAN, 3.0], (NAN, NAN, NAN)),
            ([1.0, math.inf], (NAN, NAN, NAN)),
        ],
    )
    def test_degenerate_data(self, x: list[float], expected: tuple[float, float, float]):
        assert intervals.mean_interval(x) == pytest.approx(expected, nan_ok=True)

    def test_one_outlier_among_equals(self):
        x = [8.0] * 15 + [0.0]
        estimate = intervals.mean_interval(x, bounds=(0, 8))
        assert (estimate.value, estimate.high) == (7.5, 8)
        # Exact for a Poisson count of one: up to 5.57 such entries of 16. Wider than Student's, by the tail.
        assert 8 - 8 * 6 / 16 <= estimate.low < 7.5 - scipy.stats.t.ppf(0.975, 15) * 0.5
        assert intervals.mean_interval(x).high > 8

    @pytest.mark.parametrize("n", [2, 3, 8])
    def test_of_symmetric_entries_is_students(self, n: int):
        x = np.random.default_rng(n).normal(size=(n + 1) // 2)
        x = np.concatenate([x, -x]) + 3
        found = intervals.mean_interval(x)
        student = scipy.stats.t.interval(0.95, x.size - 1, x.mean(), scipy.stats.sem(x))
        assert found[1:] == pytest.approx(student)
        # Towards a longer tail alone it is drawn out.
        tailed = intervals.mean_interval([*x, 20.0])
        low, high = scipy.stats.t.interval(0.95, x.size, *(f([*x, 20.0]) for f in (np.mean, scipy.stats.sem)))
        assert tailed.low == pytest.approx(low)
        assert tailed.high > high


@pytest.mark.parametrize("n", [5, 16, 200])
def test_expanded_percentile_interval_of_normal_data_is_students(n: int):
    # The bootstrap's mean is close to normal with variance s^2 (n - 1) / n^2, which Student's has not.
    z = scipy.stats.norm.ppf((1 + intervals.expanded(0.95, n)) / 2)
    half = z * math.sqrt((n - 1) / n**2)
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, n - 1) / math.sqrt(n))
    assert 0.95 < intervals.expanded(0.95, n) < intervals.expanded(0.95, 3) < 1


class TestIqmInterval:
    def test_holds_the_interquartile_mean(self):
        x = np.random.default_rng(0).gamma(2, size=30)
        estimate = intervals.iqm_interval(x)
        assert estimate.value == intervals.interquartile_mean(x)
        assert estimate.low < estimate.value < estimate.high
        # What is cut off does not move it.
        assert intervals.iqm_interval(np.where(x == x.max(), 1e6, x)).value == estimate.value

    @pytest.mark.parametrize(
        ("x", "expected"),
        [
            ([], (NAN, NAN, NAN)),
            ([2.0], (2.0, NAN, NAN)),
            ([3.0] * 4, (3.0, NAN, NAN)),
            ([0.0, 3.0, 3.0, 9.0], (3.0, NAN, NAN)),
            ([1.0, NAN], (NAN, NAN, NAN)),
        ],
    )
    def test_degenerate_data(self, x: list[float], expected: tuple[float, float, float]):
        assert intervals.iqm_interval(x) == pytest.approx(expected, nan_ok=True)


class TestPairedDifference:
    def test_is_the_mean_of_differences_on_common_seeds(self):
        rng = np.random.default_rng(0)
        x, y, seeds = rng.normal(size=20), rng.normal(size=20), rng.permutation(20)
        order = np.argsort(seeds)
        expected = intervals.mean_interval((x - y)[order])
        shuffle = rng.permutation(20)
        assert intervals.paired_difference(x, seeds, y[shuffle], seeds[shuffle]) == expected
        more = intervals.paired_difference([*x, 100.0], [*seeds, 77], [*y, -100.0], [*seeds, 78])
        assert more == expected
        assert intervals.common_seeds([3, 1, 3, 9], [1, 3, 5]).tolist() == [1, 3]

    def test_is_narrower_where_both_move_together(self):
        rng = np.random.default_rng(0)
        shared, seeds = 5 * rng.normal(size=16), np.arange(16)
        x, y = shared + rng.normal(size=16), shared + rng.normal(size=16)
        paired = intervals.paired_difference(x, seeds, y, seeds)
        alone = intervals.mean_interval(x)
        assert paired.high - paired.low < 0.5 * (alone.high - alone.low)

    def test_several_entries_of_a_seed_count_once(self):
        assert intervals.paired_difference([1, 3, 5], [0, 0, 1], [1, 2], [0, 1]).value == pytest.approx((1 + 3) / 2)

    def test_undefined_and_refused(self):
        assert all(map(math.isnan, intervals.paired_difference([1], [0], [1], [1])))
        assert all(map(math.isnan, intervals.paired_difference([1, NAN], [0, 1], [1, 2], [0, 1])))
        with pytest.raises(ValueError, match="y must be a vector"):
            intervals.paired_difference([1], [0], [1, 2], [0])


def _skewed_modes(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([5.0, 6.0, 7.0, 8.0], p=[0.15, 0.2, 0.35, 0.3], size=n)


@pytest.mark.slow
class TestIntervalsCoverAtTheirRate:
    """500 repetitions with fixed seeds: the standard deviation of the count is 1 %, so 93-97 % is two of them."""

    def rate(self, interval: Callable[[], intervals.Interval], truth: float) -> float:
        found = [interval() for _ in range(500)]
        return float(np.mean([e.low <= truth <= e.high for e in found]))

    @pytest.mark.parametrize("n", [16, 64])
    @pytest.mark.parametrize("shape", ["normal", "gamma"])
    @pytest.mark.parametrize("name", ["mean_interval", "iqm_interval"])
    def test_of_a_mean(self, name: str, shape: str, n: int):
        rng = np.random.default_rng(20)
        draw = {"normal": lambda n: rng.normal(size=n), "gamma": lambda n: rng.gamma(4, 1 / 4, n)}[shape]
        mean = {"normal": 0.0, "gamma": 1.0}[shape]
        truth = mean if name == "mean_interval" else intervals.interquartile_mean(draw(4_000_000))
        least = 0.93 if name == "mean_interval" else 0.92  # of a trimmed mean some less holds, as the docs say
        assert least <= self.rate(lambda: getattr(intervals, name)(draw(n)), truth) <= 0.97

    @pytest.mark.parametrize("n", [16, 64])
    def test_of_whole_numbers_of_modes(self, n: int):
        rng = np.random.default_rng(21)
        assert 0.93 <= self.rate(lambda: intervals.mean_interval(_skewed_modes(rng, n)), 6.8) <= 0.97

    @pytest.mark.parametrize("n", [16, 64])
    def test_of_a_paired_difference(self, n: int):
        rng, seeds = np.random.default_rng(22), np.arange(n)

        def interval() -> intervals.Interval:
            shared = 3 * rng.normal(size=n)
            return intervals.paired_difference(
                shared + rng.gamma(4, 1 / 4, n), seeds, shared + rng.normal(size=n), seeds
            )

        assert 0.93 <= self.rate(interval, 1.0) <= 0.97

    @pytest.mark.parametrize(
        ("rho", "whole", "n"), [(0.0, False, 16), (0.6, False, 16), (0.6, True, 16), (0.6, True, 64)]
    )
    def test_of_a_rank_correlation(self, rho: float, whole: bool, n: int):
        rng = np.random.default_rng(23)

        def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
            x, e = rng.normal(size=(2, n))
            y = rho * x + math.sqrt(1 - rho**2) * e
            return x, np.clip(np.round(1.2 * y + 7), 1, 8) if whole else y

        truth = float(np.asarray(scipy.stats.spearmanr(*draw(1_000_000)))[0])
        assert 0.93 <= self.rate(lambda: intervals.rank_correlation(*draw(n)), truth) <= 0.97

    @pytest.mark.parametrize("n", COUNTED["SIZES"])
    @pytest.mark.parametrize("kind", COUNTED["DRAW"])
    def test_of_a_band_of_few_runs(self, kind: str, n: int):
        """2,000 repetitions: a standard deviation of 0.5 %. Of skewed entries less holds, as the docs say."""
        rate, without = COUNTED["of_mean"](kind, n)
        assert rate >= (0.90 if kind == "exponential" else 0.93)
        assert rate <= 0.975 or "modes" in kind
        assert f"{100 * rate:.1f}" in DOCS
        assert without == 0 or "modes" in kind

    @pytest.mark.parametrize("n", [n for n in COUNTED["SIZES"] if n >= 4])
    @pytest.mark.parametrize("kind", ["normal", "exponential"])
    def test_of_an_interquartile_mean_of_few_runs(self, kind: str, n: int):
        rate, _ = COUNTED["of_iqm"](kind, n)
        assert 0.91 <= rate <= 0.97
        assert f"{100 * rate:.1f}" in DOCS


@pytest.mark.parametrize("n", [*range(2, 17), 64])
def test_a_share_holds_at_every_share(n: int):
    """Over all counts, so exactly."""
    mean, least = COUNTED["of_share"](n)
    assert least >= 0.95
    assert mean < 0.998


def test_mean_over_seeds_counts_seeds_and_not_runs():
    # Four recipes whose runs repeat one another: as sure as one recipe, not twice as sure.
    x, seeds = np.random.default_rng(0).normal(size=16), np.arange(16)
    assert intervals.mean_over_seeds(np.tile(x, 4), np.tile(seeds, 4)) == pytest.approx(intervals.mean_interval(x))
    assert intervals.mean_over_seeds([1.0, 3.0], [0, 0]) == pytest.approx((2.0, NAN, NAN), nan_ok=True)
    assert all(map(math.isnan, intervals.mean_over_seeds([], [])))


def test_interquartile_mean():
    assert intervals.interquartile_mean([100, 1, 2, 3, -50, 4, 2, 3]) == pytest.approx(2.5)
    assert math.isnan(intervals.interquartile_mean([]))
    assert math.isnan(intervals.interquartile_mean([1, 2, 3, NAN, 5]))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # 1 - 0.025^(1/10), and quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k).
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (8, 10, 0.4439, 0.9748), (1, 2, 0.0126, 0.9874)],
)
def test_share_interval(successes: int, n: int, low: float, high: float):
    assert intervals.share_interval(successes, n) == pytest.approx((successes / n, low, high), abs=6e-4)


def test_share_of_nothing_is_undefined():
    assert all(map(math.isnan, intervals.share_interval(0, 0)))


class TestRankCorrelation:
    def test_value_is_scipys_also_with_ties(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=40), rng.integers(0, 4, 40)
        assert intervals.rank_correlation(x, y).value == pytest.approx(scipy.stats.spearmanr(x, y)[0])

    @pytest.mark.parametrize(("rho", "whole"), [(0.0, False), (0.6, True)])
    def test_interval_covers_the_truth(self, rho: float, whole: bool):
        # 100 repetitions of 24 pairs; the true value by a large sample. No less than 95 % minus four standard errors.
        rng = np.random.default_rng(2)

        def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
            x, e = rng.normal(size=(2, n))
            y = rho * x + math.sqrt(1 - rho**2) * e
            return x, np.clip(np.round(1.2 * y + 7), 1, 8) if whole else y

        truth = float(np.asarray(scipy.stats.spearmanr(*draw(100_000)))[0])
        hits = [e.low <= truth <= e.high for e in (intervals.rank_correlation(*draw(24)) for _ in range(100))]
        assert np.mean(hits) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 100)

    @pytest.mark.parametrize(
        ("x", "y"),
        [([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), ([1, 2], [1, 2]), ([], []), ([1, 2, 3, NAN, 5], [1, 2, 3, 4, 5])],
    )
    def test_undefined(self, x: list[float], y: list[float]):
        assert all(map(math.isnan, intervals.rank_correlation(x, y)))

    def test_few_pairs_have_no_interval(self):
        value, low, high = intervals.rank_correlation([1, 2, 3, 4], [1, 2, 3, 4])
        assert value == pytest.approx(1)
        assert math.isnan(low)
        assert math.isnan(high)

    def test_clusters_are_resampled_together(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 20))
        once = intervals.rank_correlation(x, y)
        assert intervals.rank_correlation(x, y, clusters=np.arange(20)) == once
        five = intervals.rank_correlation(np.tile(x, 5), np.tile(y, 5), clusters=np.tile(np.arange(20), 5))
        # One table of draws is used in another order: two bootstraps of 2,000.
        assert five.value == pytest.approx(once.value)
        assert five.low == pytest.approx(once.low, abs=0.06)
        assert five.high == pytest.approx(once.high, abs=0.06)
        assert math.isnan(intervals.rank_correlation(x, y, clusters=np.arange(20) % 4).low)

    @pytest.mark.parametrize("others", [1, 2])
    def test_a_few_runs_that_differ_prove_nothing(self, others: int):
        # Many a resample lacks them altogether.
        value, low, high = intervals.rank_correlation(np.arange(16), [8] * (16 - others) + [1] * others)
        assert -1 <= low <= value < 0
        assert high == 0

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
            intervals.rank_correlation([1, 2, 3], [1, 2])


class TestBand:
    def test_is_the_mean_interval_at_each_step(self):
        x = np.random.default_rng(0).gamma(2, size=(12, 3))
        x[:, 2] = 7
        band = intervals.band(x, bounds=(0, 3))
        np.testing.assert_array_equal(band.count, 12)
        for s in range(3):
            alone = intervals.mean_interval(x[:, s], bounds=(0, 3))
            assert (band.mean[s], band.low[s], band.high[s]) == pytest.approx(alone, nan_ok=True)

    def test_undefined_entries_count_step_by_step(self):
        x = np.random.default_rng(0).normal(size=(6, 4))
        x[0, 1:] = np.nan
        x[1:, 2] = np.nan
        x[:5, 3] = math.inf
        band = intervals.band(np.concatenate([x, np.full((6, 1), np.nan)], axis=1))
        np.testing.assert_array_equal(band.count, [6, 5, 0, 1, 0])
        assert band.mean[1] == pytest.approx(x[1:, 1].mean())
        assert band.mean[3] == x[5, 3]
        np.testing.assert_array_equal(np.isnan(band.low), [False, False, True, True, True])
        np.testing.assert_array_equal(np.isnan(band.mean), [False, False, True, False, True])

    def test_the_runs_of_a_step_do_not_depend_on_other_steps(self):
        x = np.random.default_rng(0).normal(size=(6, 2))
        x[2, 1] = np.nan
        alone = intervals.band(x[:, 1:])
        both = intervals.band(x)
        assert (both.low[1], both.high[1]) == (alone.low[0], alone.high[0])
