"""The measurements that are taken where asked for, against closed forms on an exactly Gaussian q."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from measuring import AFFINE, IDENTITY, NORMAL, affine, measured, state_of
from scipy.special import rel_entr

from gandyn.gan import targets
from gandyn.gan.game import make_game
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig

LIKELIHOOD = MeasureConfig(measurements=("log_likelihood",), deep=())
VALID = MeasureConfig(measurements=("valid_jsd", "coverage"), deep=(), convention="share")


def test_by_default_they_are_not_taken():
    for deep in (False, True):
        names = {one.name for one in measure.plan_of(MeasureConfig(), deep).measurements}
        assert not names & {"valid_jsd", "log_likelihood"}


class TestLogLikelihood:
    GAME = make_game(NORMAL, AFFINE)

    def check(self, d, std, tolerance, deep=False):
        """q = N((d, 0), std^2 I): E_p log q = -log(2 pi std^2) - (2 + d^2) / (2 std^2)."""
        options = MeasureConfig(measurements=(), deep=("log_likelihood",)) if deep else LIKELIHOOD
        got, _ = measured(self.GAME, state_of(self.GAME, affine(std * IDENTITY, [d, 0])), options, deep)
        want = -math.log(2 * math.pi * std**2) - (2 + d * d) / (2 * std**2)
        assert got["log_likelihood"] == pytest.approx(want, abs=tolerance)
        assert got["log_likelihood"] > want - 3.5 * got["log_likelihood_se"]  # an upper bound
        assert got["log_likelihood_real"] == pytest.approx(-1 - math.log(2 * math.pi), abs=2e-3)

    @pytest.mark.parametrize(("d", "std"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 1.5), (0.0, 0.7)])
    @pytest.mark.quick(2)
    def test_gaussians(self, d, std):
        self.check(d, std, 1e-2)

    def test_gaussians_far_apart(self):
        self.check(2.0, 1.0, 6e-2)

    @pytest.mark.slow
    def test_in_depth(self):
        self.check(2.0, 1.0, 2e-2, deep=True)

    def test_a_missed_mode_is_far_down_and_finite(self):
        target = targets.mixture([[0, 0], [8, 0]], 1.0)
        game = make_game(target, AFFINE)
        got, _ = measured(game, state_of(game, affine(IDENTITY, [0, 0])), LIKELIHOOD)
        want = -math.log(2 * math.pi) - (2 + 64 / 2) / 2
        lost = got["log_likelihood_real"] - got["log_likelihood"]
        assert want < got["log_likelihood"]
        assert 3 < lost < math.log(4096)

    @pytest.mark.parametrize(
        ("target", "fields"),
        [(targets.ring(4), {"num_classes": 2}), (targets.mixture(np.zeros((1, 3)), 1.0), {})],
        ids=["classes", "space"],
    )
    def test_it_does_not_apply(self, target, fields):
        game = make_game(target, dataclasses.replace(AFFINE, **fields))
        names = measure.metrics_of(measure.plan_of(LIKELIHOOD, False), game)
        assert not [name for name in names if "likelihood" in name]


WEIGHTS = np.array([0.5, 0.3, 0.2])
MODES = targets.mixture([[0, 0], [8, 0], [0, 9]], [1.0, 1.0, 1.5], WEIGHTS)


def jsd(share, weights=WEIGHTS) -> float:
    middle = (share + weights) / 2
    return (np.sum(rel_entr(share, middle)) + np.sum(rel_entr(weights, middle))) / 2


def valid_jsd(matrix, offset, target=MODES, **fields) -> float:
    game = make_game(target, dataclasses.replace(AFFINE, **fields))
    return measured(game, state_of(game, affine(matrix, offset)), VALID)[0]["valid_jsd"]


class TestValidJsd:
    @pytest.mark.parametrize("std", [1.0, 4.0, 9.0])
    def test_a_gaussian_over_three_modes(self, std):
        """The mass of N((1, 2), std^2 I) in three disks: noncentral chi2; how 10,000 samples spread, drawn."""
        stds, away = np.asarray(MODES.stds), np.linalg.norm(np.asarray(MODES.means) - [1, 2], axis=1)
        mass = scipy.stats.ncx2.cdf((3 * stds / std) ** 2, 2, (away / std) ** 2)
        counts = np.random.default_rng(0).multinomial(10_000, [*mass, 1 - mass.sum()], size=400)[:, :3]
        drawn = np.array([jsd(count / count.sum()) for count in counts])
        assert drawn.mean() == pytest.approx(jsd(mass / mass.sum()), abs=2e-3)
        assert valid_jsd(std * IDENTITY, [1, 2]) == pytest.approx(drawn.mean(), abs=4 * drawn.std())

    def test_one_mode_of_two(self):
        """w = (1/2, 1/2), r = (1, 0): 3/4 log 4/3 nats."""
        target = targets.mixture([[0, 0], [30, 0]], 1.0)
        assert valid_jsd(IDENTITY, [0, 0], target) == pytest.approx(0.75 * math.log(4 / 3), abs=1e-6)

    @pytest.mark.parametrize("offset", [[100, 100], [np.nan, 0]])
    def test_no_valid_sample_has_nothing_in_common_with_the_target(self, offset):
        assert valid_jsd(0.1 * IDENTITY, offset) == pytest.approx(math.log(2), abs=1e-6)

    def test_what_lies_elsewhere_does_not_count(self):
        """Half of the samples near the one mode, the other half at no mode: unlike reverse KL and mode TV."""
        target = targets.mixture([[0, 0]], 1.0)
        game = make_game(target, AFFINE)
        got, _ = measured(game, state_of(game, affine(4 * IDENTITY, [0, 0])), VALID)
        assert got["high_quality"] < 0.5
        assert got["mode_tv"] > 0.5
        assert got["valid_jsd"] == 0

    def test_a_sample_counts_for_the_modes_of_its_class(self):
        """Classes swapped: no sample is near a mode of its own class."""
        places = np.array([[0.0, 0.0], [0.0, 20.0]])
        target = targets.mixture(places, 1.0)
        right, swapped = (
            valid_jsd(np.concatenate([IDENTITY, at]), [0, 0], target, num_classes=2) for at in (places, places[::-1])
        )
        assert right < 1e-3
        assert swapped == pytest.approx(math.log(2), abs=1e-6)

    def test_real_samples_get_what_their_number_allows(self):
        """(K - 1) / (8 N) on average, as the docstring says: over 2,000 multinomial draws."""
        shares = np.random.default_rng(1).multinomial(2500, WEIGHTS, size=2000) / 2500
        assert np.mean([jsd(share) for share in shares]) == pytest.approx(2 / (8 * 2500), rel=0.1)

    def test_it_needs_modes(self):
        target = targets.mixture([[0, 0], [0.1, 0]], 0.1, groups=())
        names = measure.metrics_of(measure.plan_of(VALID, False), make_game(target, AFFINE))
        assert "valid_jsd" not in names
