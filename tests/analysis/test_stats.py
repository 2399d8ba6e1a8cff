import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import scipy.stats
import synthetic
import xarray as xr

from gandyn.analysis import intervals, loss_curves, reading, tables
from gandyn.gan.losses import of_modes

NAN = float("nan")


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=0, surface=0)


def column(digits: int = 2, percent: bool = False) -> tables.Column:
    return tables.Column("", "", digits, percent)


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
            ([2.0, 2.0, 2.0], (2.0, 2.0, 2.0)),
            ([0.1 + 0.2, 0.3, 0.3], (0.3, 0.3, 0.3)),
            ([0.0, 0.0], (0.0, 0.0, 0.0)),
            ([1.0, NAN, 3.0], (NAN, NAN, NAN)),
            ([1.0, math.inf], (NAN, NAN, NAN)),
        ],
    )
    def test_degenerate_data(self, x: list[float], expected: tuple[float, float, float]):
        assert intervals.mean_interval(x) == pytest.approx(expected, nan_ok=True)

    def test_one_outlier_among_equals(self):
        estimate = intervals.mean_interval([8.0] * 15 + [0.0])
        assert estimate.value == 7.5
        # Exact for a Poisson count of one: up to 5.57 such entries of 16.
        assert 8 - 8 * 6 / 16 <= estimate.low < 7.5 < estimate.high <= 8


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
        [([], (NAN, NAN, NAN)), ([2.0], (2.0, NAN, NAN)), ([3.0] * 4, (3.0, 3.0, 3.0)), ([1.0, NAN], (NAN, NAN, NAN))],
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
        assert 0.93 <= self.rate(lambda: getattr(intervals, name)(draw(n)), truth) <= 0.97

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

    @pytest.mark.parametrize("n", [16, 64, 200])
    def test_of_a_share(self, n: int):
        # The share is drawn, too: at one share the rate is not 95 % (the next test), on average over shares it is.
        rng = np.random.default_rng(24)
        shares = rng.uniform(0.02, 0.98, 500)
        found = [intervals.share_interval(rng.binomial(n, p), n) for p in shares]
        assert 0.93 <= np.mean([e.low <= p <= e.high for e, p in zip(found, shares, strict=True)]) <= 0.97

    def test_of_a_share_exactly(self):
        # Over all counts: Wilson's keeps its rate on average over p, not at each.
        shares = np.linspace(0.02, 0.98, 97)
        found = [intervals.share_interval(k, 64) for k in range(65)]
        hits = np.array([(e.low <= shares) & (shares <= e.high) for e in found])
        rates = (scipy.stats.binom.pmf(np.arange(65)[:, None], 64, shares) * hits).sum(axis=0)
        assert rates.mean() == pytest.approx(0.95, abs=0.003)
        assert rates.min() > 0.93

    @pytest.mark.parametrize("n", [16, 64])
    def test_of_a_band(self, n: int):
        band = intervals.band(np.random.default_rng(25).normal(size=(n, 500)))
        assert 0.93 <= np.mean((band.low <= 0) & (band.high >= 0)) <= 0.97


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
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n); the last is AlphaGAN's 46.5 % of 200 seeds.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (93, 200, 0.3972, 0.5342)],
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
    def test_against_brute_force(self):
        x = np.random.default_rng(0).gamma(2, size=(12, 3))
        band = intervals.band(x, resamples=16_000)
        np.testing.assert_allclose(band.mean, x.mean(axis=0))
        np.testing.assert_array_equal(band.count, 12)
        for s in range(3):
            brute = scipy.stats.bootstrap(
                (x[:, s],),
                np.mean,
                method="percentile",
                confidence_level=intervals.expanded(0.95, 12),
                n_resamples=16_000,
                rng=np.random.default_rng(1),
            ).confidence_interval
            # Two independent bootstraps of 16,000: a quantile at 1.1 % has a standard error of some 1 % of the width.
            width = brute.high - brute.low
            assert abs(band.low[s] - brute.low) < 0.05 * width
            assert abs(band.high[s] - brute.high) < 0.05 * width

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


class TestReadingTheDataset:
    def test_recipes_keep_their_order(self, results: xr.Dataset):
        assert reading.recipes(results) == list(synthetic.RECIPES)
        np.testing.assert_array_equal(reading.runs_of(results, "minimax"), np.arange(32, 48))

    def test_wrong_names_are_refused_with_the_nearest(self, results: xr.Dataset):
        with pytest.raises(ValueError, match="did you mean 'minimax'"):
            reading.runs_of(results, "minmax")
        with pytest.raises(ValueError, match="did you mean 'modes'"):
            reading.values(results, "mode")

    def test_a_diverged_run_counts_as_a_failure(self, results: xr.Dataset):
        assert list(np.flatnonzero(reading.diverged(results))) == [1]
        assert reading.final(results, "modes")[1] == 0
        assert reading.final(results, "high_quality")[1] == 0
        assert reading.final(results, "jsd")[1] == pytest.approx(math.log(2))
        assert reading.final(results, "mode_tv")[1] == 1
        assert math.isnan(reading.final(results, "lag")[1])
        assert math.isnan(reading.final(results, "loss_disc")[1])
        np.testing.assert_array_equal(reading.values(results, "modes")[1, 12:], 0)
        assert (reading.values(results, "modes")[1, 3:12] > 0).all()

    def test_final_is_at_each_runs_last_measurement(self, results: xr.Dataset):
        cut = results.copy(deep=True)
        metrics = [str(name) for name, x in cut.data_vars.items() if x.dims == ("run", "step")]
        for name in metrics:
            cut[name].values[5, 10:] = np.nan
            cut[name].values[6] = np.nan
        assert reading.last_step(cut)[[0, 1, 5, 6]].tolist() == [20, 20, 9, -1]
        assert reading.final(cut, "value")[5] == results["value"].values[5, 9]
        assert math.isnan(reading.final(cut, "value")[6])
        # Never measured is not a failure.
        assert math.isnan(reading.final(cut, "modes")[6])

    def test_number_of_modes_leaves_padding_out(self, results: xr.Dataset):
        padded = results.copy(deep=True)
        padded["target_weights"].values[3, 5:] = np.nan
        assert reading.num_modes(padded)[2:4].tolist() == [8, 5]

    def test_within_runs_is_spearman_over_steps(self, results: xr.Dataset):
        r = tables.within_runs(results, "loss_disc")
        loss, modes = results["loss_disc"].values, results["modes"].values
        assert r[0] == pytest.approx(scipy.stats.spearmanr(loss[0, 1:], modes[0, 1:])[0])
        # Up to the divergence.
        assert r[1] == pytest.approx(scipy.stats.spearmanr(loss[1, 1:12], modes[1, 1:12])[0])
        assert np.isnan(tables.within_runs(results.isel(step=[0, 1, 2]), "loss_disc")).all()

    def test_looks_converged(self, results: xr.Dataset):
        near = loss_curves.looks_converged(results)
        loss = reading.final(results, "loss_disc")
        np.testing.assert_array_equal(near[:48], np.abs(loss[:48] / (2 * math.log(2)) - 1) <= 0.05)
        assert near.any()
        assert not near[1]
        assert not near[48:].any()


def two_curves(name: str, num_modes: int, loss: np.ndarray, player: str) -> xr.Dataset:
    """A run that reads these losses, of a loss by name with its curves."""
    disc, gen = of_modes(name, num_modes)
    return xr.Dataset(
        {
            f"loss_{player}": (("run", "step"), np.asarray(loss, float)[None]),
            "finite": (("run", "step"), np.ones((1, len(loss)))),
            "target_weights": (("run", "mode"), np.full((1, num_modes), 1 / num_modes)),
            "best_loss_disc": (("run", "mode"), disc[None]),
            "best_loss_gen": (("run", "mode"), gen[None]),
        }
    )


class TestMovement:
    def test_shares_of_known_terms(self):
        """A value of three independent terms with variances 4 : 1 : 1/4: shares of each, and they sum to one."""
        results = synthetic.make(samples=0, surface=0, steps=4001, seeds=2, recipes=["non_saturating"], diverged=False)
        rng = np.random.default_rng(0)
        best, lag, noise = (scale * rng.normal(size=results["value"].shape) for scale in (2, 1, 0.5))
        results = results.assign(
            value_best=results["value"].copy(data=best),
            value=results["value"].copy(data=best - lag),
            value_batch=results["value"].copy(data=best - lag + noise),
        )
        shares = loss_curves.movement(results)
        # Of 4,001 steps a correlation is known to 0.016: five sigma.
        for name, want in (("divergence", 4), ("lag", 1), ("noise", 0.25), ("known", 5)):
            np.testing.assert_allclose(shares[name], want / 5.25, atol=0.08 * math.sqrt(want))
        np.testing.assert_allclose(shares["divergence"] + shares["lag"] + shares["noise"], 1)
        np.testing.assert_allclose(shares["divergence"] + shares["lag"], shares["known"])

    def test_undefined_where_nothing_moves_or_no_best_value_is_known(self, results: xr.Dataset):
        shares = loss_curves.movement(results)
        wasserstein = results["loss"].values == "wasserstein"
        assert np.isnan(shares["divergence"][wasserstein]).all()
        assert np.isfinite(shares["noise"][wasserstein]).all()
        still = results.assign(value_batch=0 * results["value_batch"])
        assert all(np.isnan(share).all() for share in loss_curves.movement(still).values())
        assert all(np.isnan(share).all() for share in loss_curves.movement(results.isel(step=slice(2))).values())


def test_near_equilibrium_is_in_the_losses_own_units(results: xr.Dataset):
    near = loss_curves.near_equilibrium(results, 0.05)
    loss = reading.values(results, "loss_disc")
    logistic = results["loss"].values == "non_saturating"
    np.testing.assert_array_equal(near[logistic], np.abs(loss[logistic] - math.log(4)) <= 0.05)
    assert near.any()
    assert not near[np.isnan(loss)].any()


class TestImpliedModes:
    @pytest.mark.parametrize("player", ["disc", "gen"])
    def test_against_the_closed_form_between_whole_numbers(self, player: Literal["disc", "gen"]):
        k = np.linspace(1, 8, 29)
        loss = {"disc": k / 8 * np.log1p(8 / k) + np.log1p(k / 8), "gen": np.log1p(8 / k)}[player]
        found = loss_curves.implied_modes(two_curves("non_saturating", 8, loss, player), player)[0]
        # Monotone cubics through eight points; the ends, where their slope is a guess, are the worst.
        np.testing.assert_allclose(found, k, atol=0.03)
        np.testing.assert_allclose(found[::4], k[::4], atol=1e-5)

    def test_beyond_the_ends_is_the_end(self):
        results = two_curves("non_saturating", 8, np.array([0.0, 0.3, 1.4, 2.0, NAN]), "disc")
        np.testing.assert_allclose(loss_curves.implied_modes(results, "disc"), [[1, 1, 8, 8, NAN]], atol=1e-12)

    def test_unknown_where_the_loss_does_not_tell(self):
        # Hinge: G's loss under the best D is 1 for every k < K. Wasserstein has no curve. One mode is no curve.
        assert np.isnan(loss_curves.implied_modes(two_curves("hinge", 8, np.ones(3), "gen"), "gen")).all()
        assert np.isnan(loss_curves.implied_modes(two_curves("wasserstein", 8, np.ones(3), "disc"), "disc")).all()
        assert np.isnan(loss_curves.implied_modes(two_curves("non_saturating", 1, np.ones(3), "disc"), "disc")).all()
        hinge = loss_curves.implied_modes(two_curves("hinge", 8, np.array([0.5, 1.25]), "disc"), "disc")
        np.testing.assert_allclose(hinge, [[2, 5]], atol=1e-5)

    def test_padding_is_no_mode(self):
        results = two_curves("non_saturating", 4, np.array([1.2, 1.3]), "disc")
        padded = results.pad({"mode": (0, 3)})
        np.testing.assert_array_equal(
            loss_curves.implied_modes(padded, "disc"), loss_curves.implied_modes(results, "disc")
        )

    def test_disagreement(self, results: xr.Dataset):
        # The synthetic D lags, and G's loss is lowered by as much: D's loss implies more modes, and G's too.
        found = loss_curves.implied_disagreement(results)
        np.testing.assert_array_equal(
            found, loss_curves.implied_modes(results, "gen") - loss_curves.implied_modes(results, "disc")
        )
        assert np.isnan(found[1, 12:]).all()
        assert np.isnan(found[48:]).all()
        no_lag = results.copy(deep=True)
        modes = np.maximum(no_lag["modes"].values, 1).astype(float)
        no_lag["loss_disc"].values[:] = modes / 8 * np.log1p(8 / modes) + np.log1p(modes / 8)
        no_lag["loss_gen"].values[:] = np.log1p(8 / modes)
        np.testing.assert_allclose(loss_curves.implied_disagreement(no_lag)[2:32], 0, atol=1e-4)

    def test_refused(self, results: xr.Dataset):
        with pytest.raises(ValueError, match="player: got 'both'"):
            loss_curves.implied_modes(results, "both")  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="no best_loss_gen"):
            loss_curves.implied_modes(results.drop_vars("best_loss_gen"), "gen")
        with pytest.raises(ValueError, match="no metric 'loss_gen'"):
            loss_curves.implied_modes(results.drop_vars("loss_gen"), "gen")


class TestCorrelations:
    def test_every_loss_with_every_metric_of_every_recipe(self, results: xr.Dataset):
        found = tables.correlations(results)
        assert len(found) == 4 * 3 * 3
        by_name = {(c.recipe, c.loss, c.metric): c for c in found}
        one = by_name["minimax", "loss_gen", "jsd"]
        loss, jsd = results["loss_gen"].values[32:48], results["jsd"].values[32:48]
        each = [float(np.asarray(scipy.stats.spearmanr(x[1:], y[1:])[0])) for x, y in zip(loss, jsd, strict=True)]
        assert one.within.interval.value == pytest.approx(np.mean(each))
        assert one.within.interval == intervals.mean_interval(tables.within_runs(results, "loss_gen", "jsd")[32:48])
        assert one.across.interval == intervals.rank_correlation(loss[:, -1], jsd[:, -1])
        table = tables.table(results)[0]
        assert by_name["non_saturating", "loss_disc", "modes"].across == table.entries["across_disc"]
        assert by_name["non_saturating", "loss_disc", "modes"].within == table.entries["within_disc"]

    def test_what_is_not_recorded_has_a_note(self, results: xr.Dataset):
        one = next(c for c in tables.correlations(results) if c.metric == "w1")
        assert one.within == one.across
        assert one.within.note == "w1 is not recorded in these results"

    def test_a_metric_measured_rarely_is_paired_where_it_was(self, results: xr.Dataset):
        w1 = np.full(results["jsd"].shape, np.nan)
        w1[:, ::4] = np.random.default_rng(0).random(w1[:, ::4].shape)
        w1[:, -1] = np.nan
        with_w1 = results.assign(w1=(("run", "step"), w1))
        one = next(c for c in tables.correlations(with_w1) if (c.loss, c.metric) == ("loss_gen", "w1"))
        loss = results["loss_gen"].values[:16]
        each = [scipy.stats.spearmanr(x[4:20:4], y[4:20:4])[0] for x, y in zip(loss, w1[:16], strict=True)]
        each[1] = scipy.stats.spearmanr(loss[1, 4:12:4], w1[1, 4:12:4])[0]  # two steps before it diverged: no value
        assert one.within.count == 15
        assert one.within.interval.value == pytest.approx(np.delete(each, 1).mean())
        assert one.across.count == 15
        left = np.delete(np.arange(16), 1)
        assert one.across.interval == intervals.rank_correlation(loss[left, 16], w1[left, 16])
        assert one.across.note.startswith("over 15 of 16 runs")


class TestTable:
    def test_entries(self, results: xr.Dataset):
        row = tables.table(results)[0]
        modes = results["modes"].values[:16, -1].astype(float)
        assert np.isnan(modes[1])
        modes[1] = 0
        assert (row.recipe, row.loss, row.runs, row.measured) == ("non_saturating", "non_saturating", 16, 16)
        assert row.entries["modes"].interval == intervals.mean_interval(modes)
        assert row.entries["all_modes"].interval == intervals.share_interval(int((modes == 8).sum()), 16)
        assert row.entries["diverged"].interval.value == 1 / 16
        assert row.entries["lag"].count == 15
        assert "15 of 16 runs" in row.entries["lag"].note
        assert row.entries["across_disc"].count == 15
        loss = np.delete(results["loss_disc"].values[:16, -1], 1)
        expected = scipy.stats.spearmanr(loss, np.delete(modes, 1))[0]
        assert row.entries["across_disc"].interval.value == pytest.approx(expected)
        within = tables.within_runs(results, "loss_disc")[:16]
        assert row.entries["within_disc"].interval.value == pytest.approx(within.mean())
        assert row.real == pytest.approx({"modes": 8, "high_quality": 0.989})

    def test_undefined_entries_give_the_reason(self, results: xr.Dataset):
        rows = {row.recipe: row for row in tables.table(results)}
        lag = rows["wasserstein, gradient penalty"].entries["lag"]
        assert math.isnan(lag.interval.value)
        assert "no best value is known" in lag.note

        same = results.isel(run=slice(16, 32)).copy(deep=True)
        same["modes"].values[:] = 8
        entries = tables.table(same)[0].entries
        assert entries["across_disc"].note == "modes are the same in every run"
        assert "constant" in entries["within_disc"].note
        assert entries["modes"].interval == (8, 8, 8)

        every_run_failed = results.isel(run=[1])
        entries = tables.table(every_run_failed)[0].entries
        assert "a diverged run has no lag" in entries["lag"].note
        assert entries["modes"].interval.value == 0

    def test_few_runs(self, results: xr.Dataset):
        one = tables.table(results.isel(run=[0]))[0].entries
        assert "no interval" in one["modes"].note
        assert "too few" in one["across_disc"].note
        four = tables.table(results.isel(run=[0, 2, 3, 4]))[0].entries
        assert "fewer than 5 runs give no interval" in four["across_disc"].note

    def test_lacking_metrics_and_unmeasured_runs(self, results: xr.Dataset):
        entries = tables.table(results.drop_vars(["jsd", "lag"]))[0].entries
        assert entries["jsd"].note == "jsd is not recorded in these results"
        assert entries["lag"].note == "lag is not recorded in these results"
        empty = results.where(False)
        for name in ("recipe", "loss", "target_weights", "equilibrium"):
            empty[name] = results[name]
        row = tables.table(empty)[0]
        assert (row.runs, row.measured) == (16, 0)
        assert all(math.isnan(entry.interval.value) and entry.note for entry in row.entries.values())


class TestText:
    @pytest.mark.parametrize(
        ("estimate", "look", "text"),
        [
            (intervals.Interval(7.812, 7.5, 8), column(), "7.81 [7.50, 8.00]"),
            (intervals.Interval(0.625, 0.39, 0.816), column(0, True), "62 % [39, 82]"),
            (intervals.Interval(1.0, NAN, NAN), column(), "1.00"),
            (intervals.UNDEFINED, column(), "-"),
            (intervals.Interval(-0.0001, -0.2, 0.1), column(), "0.00 [-0.20, 0.10]"),
        ],
    )
    def test_format_estimate(self, estimate: intervals.Interval, look: tables.Column, text: str):
        assert tables.format_interval(estimate, look) == text

    def test_table_is_aligned_complete_and_as_wide_as_asked(self, results: xr.Dataset):
        rows = tables.table(results)
        text = tables.format_table(rows, width=100)
        lines = text.splitlines()
        body = lines[: lines.index("modes: " + tables.COLUMNS["modes"].meaning)]
        assert max(map(len, body)) <= 100
        headings = [line for line in lines if line.startswith("recipe ")]
        assert all(any(c.heading in line for line in headings) for c in tables.COLUMNS.values())
        for number, heading in ((i, line) for i, line in enumerate(lines) if line in headings):
            start = heading.index("runs")
            assert all(
                line[start - 1] == " " and line[start : start + 2] == "16" for line in lines[number + 2 : number + 6]
            )
        assert text.count("minimax") == len(headings)
        assert "- (2)" in text
        assert "(2) no run has one: no best value is known for this loss" in text
        assert "as many real samples get: high quality 98.9 %" in text

    def test_labels_cannot_steer_the_terminal(self, results: xr.Dataset):
        hostile = results.isel(run=slice(0, 16)).assign_coords(recipe=("run", np.array(["a\x1b[2J\nb"] * 16, object)))
        text = tables.format_table(tables.table(hostile))
        assert "\x1b" not in text
        assert "a?[2J?b" in text
