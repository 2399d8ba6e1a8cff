import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import synthetic
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import intervals, prediction

STEPS = 200 * np.arange(25)


def made(
    loss_disc: NDArray, modes: NDArray, loss_gen: NDArray | None = None, seeds: NDArray | None = None
) -> xr.Dataset:
    """Runs on a ring of eight with these losses of D and modes, (R, S) or (R, 1); G's loss is noise by default."""
    runs, shape = len(modes), (len(modes), STEPS.size)
    noise = np.random.default_rng(99).normal(size=shape)
    disc = np.broadcast_to(loss_disc, shape).copy()
    gen = np.broadcast_to(noise if loss_gen is None else loss_gen, shape).copy()
    disc[:, 0] = gen[:, 0] = np.nan
    metrics = {"loss_disc": disc, "loss_gen": gen, "loss_total": disc + gen, "finite": np.ones(shape)}
    metrics["modes"] = np.broadcast_to(modes, shape).astype(float)
    return xr.Dataset(
        {name: (("run", "step"), x) for name, x in metrics.items()}
        | {"target_weights": (("run", "mode"), np.full((runs, 8), 1 / 8))},
        coords={
            "run": np.arange(runs),
            "step": STEPS,
            "seed": ("run", np.arange(runs) if seeds is None else seeds),
            "recipe": ("run", np.full(runs, "one", object)),
        },
    )


def separable(d: float, runs: int, seed: int) -> xr.Dataset:
    """Half of the runs cover all modes; D's loss, but for a little noise, is N(d, 1) for these, else N(0, 1)."""
    rng = np.random.default_rng(seed)
    label = np.arange(runs) % 2
    level = d * label + rng.normal(size=runs)
    loss = level[:, None] + 0.02 * rng.normal(size=(runs, STEPS.size))
    return made(loss, np.where(label, 8, 5)[:, None])


class TestFeatures:
    def test_against_numpy(self):
        curve = np.random.default_rng(0).normal(size=24)
        found = prediction.features(curve[None, None], STEPS[1:])[0]
        assert found.shape == (10,)
        for w in range(3):
            x, t = curve[8 * w : 8 * w + 8], np.arange(8) / 7
            assert found[3 * w : 3 * w + 3] == pytest.approx([x.mean(), x.std(), np.polyfit(t, x, 1)[0]])
        assert found[9] == curve[-1]

    def test_gaps_are_left_out(self):
        curve = 3.0 * np.arange(9)
        curve[[0, 4, 8]] = np.nan
        found = prediction.features(curve[None, None], np.arange(9))[0]
        np.testing.assert_allclose(found[[0, 2, 3, 5, 9]], [4.5, 6, 12, 6, 21])
        curve[3:6] = np.nan
        assert np.isnan(prediction.features(curve[None, None], np.arange(9))[0, 3:6]).all()


class TestAuc:
    def test_is_mann_whitneys(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.random(60) < 0.4, np.round(rng.normal(size=60), 1)
        u = scipy.stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
        found = prediction.auc(scores, labels, np.zeros(60), np.arange(60))
        assert found.value == pytest.approx(u / (labels.sum() * (~labels).sum()))
        assert found.low < found.value < found.high

    def test_compares_within_strata_only(self):
        # Stratum 1 is higher and has more positives, but within a stratum the scores say nothing.
        scores, labels = [0, 0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1, 1, 0]
        assert prediction.auc(scores, labels, [0] * 4 + [1] * 4, range(8)).value == 0.5
        assert prediction.auc(scores, labels, [0] * 8, range(8)).value > 0.7

    def test_resamples_seeds_with_all_their_rows(self):
        rng = np.random.default_rng(1)
        labels = np.arange(40) % 2
        scores = labels + rng.normal(size=40)
        once = prediction.auc(scores, labels, np.zeros(40), np.arange(40))
        scores, labels, strata, seeds = (np.tile(x, 5) for x in (scores, labels, np.zeros(40), np.arange(40)))
        assert prediction.auc(scores, labels, strata, seeds) == pytest.approx(once)

    def test_undefined(self):
        assert all(map(math.isnan, prediction.auc([1, 2, 3], [1, 1, 1], [0, 0, 0], [1, 2, 3])))
        value, low, high = prediction.auc([1, 2], [0, 1], [0, 0], [1, 2])
        assert value == 1
        assert math.isnan(low)
        assert math.isnan(high)

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [32])
    def test_interval_covers_at_its_rate(self, n: int):
        # 500 repetitions: one standard deviation of the count is 1 %.
        rng, labels = np.random.default_rng(5), np.arange(n) % 2
        truth = scipy.stats.norm.cdf(1 / math.sqrt(2))
        found = [prediction.auc(labels + rng.normal(size=n), labels, np.zeros(n), np.arange(n)) for _ in range(500)]
        assert 0.93 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.97


class TestFits:
    @pytest.mark.parametrize("penalty", [0.1, 10.0])
    def test_logistic_is_stationary(self, penalty: float):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(50, 4))
        y = (x[:, 0] + rng.normal(size=50) > 0).astype(float)
        theta = prediction.fit_logistic(x, y, penalty)

        def loss(theta: NDArray) -> float:
            z = theta[0] + x @ theta[1:]
            return np.sum(np.log1p(np.exp(-(2 * y - 1) * z))) + penalty / 2 * np.sum(theta[1:] ** 2)

        # An independent minimizer without a gradient.
        other = scipy.optimize.minimize(loss, np.zeros(5), method="Powell", options={"xtol": 1e-8, "ftol": 1e-12})
        np.testing.assert_allclose(theta, other.x, atol=1e-3)

    def test_linear_is_least_squares_with_rows_for_the_penalty(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(30, 3)), rng.normal(size=30)
        design = np.block([[np.ones((30, 1)), x], [np.zeros((3, 1)), math.sqrt(7) * np.eye(3)]])
        expected = np.linalg.lstsq(design, np.concatenate([y, np.zeros(3)]))[0]
        np.testing.assert_allclose(prediction.fit_linear(x, y, 7.0), expected)

    def test_folds_keep_a_seed_together(self):
        seeds = np.random.default_rng(0).integers(0, 17, 100)
        fold = prediction.folds(seeds)
        assert all(np.unique(fold[seeds == s]).size == 1 for s in seeds)
        per_fold = [np.unique(seeds[fold == f]).size for f in range(6)]
        assert sorted(per_fold) == [2, 3, 3, 3, 3, 3]
        assert prediction.folds([3, 3, 5]).max() == 1


class TestCoverage:
    @pytest.mark.parametrize("d", [1.0, 2.0])
    def test_known_separability(self, d: float):
        # Two normal levels d apart have AUC Phi(d / sqrt(2)).
        found = prediction.predict_coverage(separable(d, 120, seed=3))
        truth = scipy.stats.norm.cdf(d / math.sqrt(2))
        assert found.auc.low < truth < found.auc.high
        assert found.auc.low > 0.5
        assert (found.n_positive, found.n_negative, found.note) == (60, 60, "")

    def test_independent_labels(self):
        found = prediction.predict_coverage(separable(0.0, 120, seed=4))
        assert found.auc.low < 0.5 < found.auc.high

    def test_a_seed_is_never_on_both_sides(self):
        # Four runs of a seed have one loss curve and one outcome, drawn apart: told at once where a seed is on both
        # sides, not at all where it is not.
        rng = np.random.default_rng(7)
        seeds = np.repeat(np.arange(20), 4)
        loss, gen = rng.normal(size=(2, 20, STEPS.size))[:, seeds]
        modes = np.where(rng.permutation(20) < 10, 8, 4)[seeds][:, None]
        found = prediction.predict_coverage(made(loss, modes, gen, seeds))
        assert found.auc.low < 0.5 < found.auc.high
        leaky = prediction.predict_coverage(made(loss, modes, gen))
        assert leaky.auc.value > 0.95

    def test_up_to_a_step_sees_no_later_one(self):
        results = separable(3.0, 60, seed=1)
        late = np.where(STEPS > 2400, results["loss_disc"].values, np.random.default_rng(0).normal(size=(60, 25)))
        results = made(late, results["modes"].values)
        seen = prediction.predict_coverage(results)
        assert seen.auc.value > 0.9
        before = prediction.predict_coverage(results, up_to=2400)
        assert before.auc.low < 0.5 < before.auc.high
        with pytest.raises(ValueError, match="up_to: got 200"):
            prediction.predict_coverage(results, up_to=200)

    def test_one_class_is_undefined(self):
        results = separable(1.0, 20, seed=0)
        found = prediction.predict_coverage(results, at_least=0.5)
        assert all(map(math.isnan, found.auc))
        assert (found.n_positive, found.n_negative) == (20, 0)
        assert "cover fewer modes" in found.note

    def test_runs_without_an_end_are_left_out(self):
        results = separable(2.0, 40, seed=0)
        results["finite"].values[0, 15:] = 0
        results["finite"].values[1, 20:] = np.nan
        found = prediction.predict_coverage(results)
        assert found.n_positive + found.n_negative == 38
        assert found.note.startswith("2 of 40 runs left out")

    def test_recipes_are_mentioned_and_losses_needed(self):
        results = synthetic.make(samples=0, surface=0)
        found = prediction.predict_coverage(results.isel(run=slice(32)))
        assert "over 2 recipes" in found.note
        with pytest.raises(ValueError, match="no loss_gen"):
            prediction.predict_coverage(results.drop_vars("loss_gen"))


@pytest.mark.slow
def test_intervals_where_there_is_nothing_to_tell():
    # 100 data sets each: no less than 95 % minus three standard deviations of the count. Cross-validation had 86 %.
    def nothing(seed: int) -> xr.Dataset:
        rng = np.random.default_rng(1000 + seed)
        loss, gen = rng.normal(size=(2, 60, STEPS.size))
        return made(loss, np.where(rng.permutation(60) < 30, 8, rng.integers(1, 8, 60))[:, None], gen)

    coverage = [prediction.predict_coverage(nothing(i)).auc for i in range(100)]
    modes = [prediction.predict_modes(nothing(i)).correlation for i in range(100)]
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)
    assert np.mean([e.low <= 0.5 <= e.high for e in coverage]) >= least
    assert np.mean([e.low <= 0 <= e.high for e in modes]) >= least


class TestModes:
    def test_rank_correlation_with_the_truth(self):
        rng = np.random.default_rng(0)
        modes = rng.integers(1, 9, 80)[:, None]
        good = prediction.predict_modes(made(0.3 * modes + 0.1 * rng.normal(size=(80, 25)), modes))
        assert good.correlation.low > 0.9
        none = prediction.predict_modes(made(rng.normal(size=(80, 25)), modes))
        assert none.correlation.low < 0 < none.correlation.high
        assert none.count == 80

    def test_interval_is_over_seeds(self):
        rng = np.random.default_rng(0)
        modes = rng.integers(1, 9, 16)[:, None]
        seeds = np.repeat(np.arange(16), 4)
        loss = (0.2 * modes + rng.normal(size=(16, 1)) + 0.01 * rng.normal(size=(16, 25)))[seeds]
        together = prediction.predict_modes(made(loss, modes[seeds], seeds=seeds)).correlation
        apart = intervals.rank_correlation(loss.mean(axis=1), modes[seeds][:, 0])
        assert together.high - together.low > 1.5 * (apart.high - apart.low)

    def test_undefined(self):
        found = prediction.predict_modes(made(np.zeros((8, 1)), np.full((8, 1), 8)))
        assert math.isnan(found.correlation.value)
        assert found.note == "modes are all the same"
        assert "fewer than 8 seeds" in prediction.predict_modes(separable(1.0, 7, seed=0)).note


def collapsing(
    warns: Callable[[NDArray, NDArray], NDArray], late: bool = False, runs: int = 60
) -> tuple[xr.Dataset, NDArray]:
    """Runs that cover 8 modes, half of which collapse to 1 at some step; D's loss is noise plus a warning of it."""
    rng = np.random.default_rng(11)
    onset = np.where(np.arange(runs) % 2, STEPS[rng.integers(16 if late else 8, 23, runs)], np.inf)
    modes = np.where(onset[:, None] <= STEPS, 1, 8)
    modes[:, 0] = 0
    return made(warns(onset[:, None], STEPS) + 0.3 * rng.normal(size=modes.shape), modes), onset


class TestCollapse:
    def test_a_warning_within_the_horizon_is_told(self):
        results, onset = collapsing(lambda onset, t: 2.0 * ((t >= onset - 800) & (t < onset)))
        found = prediction.predict_collapse(results, horizon=600)
        assert found.auc.value > 0.95
        assert found.n_positive == ((onset > 1200) & (onset <= 3600)).sum()
        assert "600 steps ahead" in found.note

    def test_what_shows_only_afterwards_is_not(self):
        results, _ = collapsing(lambda onset, t: 2.0 * (t >= onset))
        found = prediction.predict_collapse(results, horizon=600)
        assert found.auc.low < 0.5 < found.auc.high

    def test_the_clock_tells_nothing(self):
        # All collapse late, and the loss shows the time.
        results, _ = collapsing(lambda onset, t: t / 500.0 + np.zeros_like(onset), late=True)
        found = prediction.predict_collapse(results, horizon=600)
        assert found.auc.low < 0.5 < found.auc.high

    def test_only_runs_at_risk_are_asked(self):
        results, onset = collapsing(lambda onset, t: np.zeros((1, t.size)))
        # One that never covered more, one that collapsed before anything is asked, one that diverged.
        results["modes"].values[1] = 1
        results["modes"].values[3] = np.where(STEPS >= 600, 1, 8)
        results["finite"].values[5, 20:] = 0
        found = prediction.predict_collapse(results, horizon=600)
        left = [r for r in range(60) if r not in (1, 3, 5)]
        assert found.n_positive == ((onset[left] > 1200) & (onset[left] <= 3600)).sum()
        moments = (1200, 1800, 2400, 3000)
        assert found.n_negative + found.n_positive == sum((onset[left] > t).sum() for t in moments)
        assert "1 of 60 runs left out" in found.note

    def test_undefined_and_refused(self):
        never = made(np.zeros((20, 1)), np.full((20, 1), 8))
        found = prediction.predict_collapse(never)
        assert math.isnan(found.auc.value)
        assert found.n_positive == 0
        assert "collapse" in found.note
        nothing_to_lose = prediction.predict_collapse(made(np.zeros((20, 1)), np.full((20, 1), 2)))
        assert nothing_to_lose.note.startswith("no run is at risk")
        with pytest.raises(ValueError, match="horizon: got 4000"):
            prediction.predict_collapse(never, horizon=4000)
        with pytest.raises(ValueError, match="history: got 300"):
            prediction.predict_collapse(never, horizon=600, history=300)
