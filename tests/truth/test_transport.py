"""Exact transport against closed forms, brute force and a linear program."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from scipy.stats import qmc

from gandyn.truth import transport
from gandyn.truth.value import T_975


def sobol(num: int, seed: int, coordinates: int = 5, num_scrambles: int = 8) -> np.ndarray:
    """(M, N, C) uniforms in (0, 1): joint scrambled Sobol nodes, by default of mode, data and latents."""
    rng = np.random.default_rng(seed)
    draws = [qmc.Sobol(coordinates, scramble=True, rng=rng).random(num) for _ in range(num_scrambles)]
    return np.clip(np.stack(draws), 1e-9, 1 - 1e-9)


def gaussians(d: float, num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent pairs of samples of N(0, I) and N((d, 0), I): W1 = d."""
    normal = scipy.special.ndtri(sobol(num, seed))
    return normal[..., 1:3], normal[..., 3:] + np.array([d, 0])


def ring(uniform: np.ndarray, num_covered: int = 8) -> np.ndarray:
    angle = 2 * np.pi * np.floor(uniform[..., 0] * num_covered) / 8
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1) + 0.02 * scipy.special.ndtri(uniform[..., 1:3])


def points(num: int, seed: int, *lead: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*lead, num, 2))


class TestW1:
    def test_every_matching_of_six(self):
        x, y = points(6, 0), points(6, 1)
        cost = np.linalg.norm(x[:, None] - y[None], axis=-1)
        least = min(np.mean(cost[range(6), p]) for p in itertools.permutations(range(6)))
        assert transport.w1(x, y) == pytest.approx(least, abs=1e-12)

    def test_linear_program(self):
        x, y = points(12, 2), points(12, 3) + 1.0
        cost = np.linalg.norm(x[:, None] - y[None], axis=-1)
        marginals = np.concatenate([np.kron(np.eye(12), np.ones(12)), np.kron(np.ones(12), np.eye(12))])
        solved = scipy.optimize.linprog(cost.ravel(), A_eq=marginals, b_eq=np.full(24, 1 / 12))
        assert transport.w1(x, y) == pytest.approx(solved.fun, abs=1e-9)

    def test_on_a_line_it_is_that_of_sorted_numbers(self):
        x, y = points(200, 4) * [1, 0], points(200, 5) * [2, 0] + [0.3, 0]
        assert transport.w1(x, y) == pytest.approx(scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]), abs=1e-12)

    @pytest.mark.parametrize("shift", [(0.5, 0.0), (-3.0, 4.0), (0.0, 0.0)])
    def test_translation(self, shift):
        x = points(100, 6)
        moved = np.random.default_rng(7).permutation(x + np.array(shift))
        assert transport.w1(x, moved) == pytest.approx(np.hypot(*shift), abs=1e-12)

    def test_metric(self):
        x, y, z = points(50, 8), points(50, 9), points(50, 10)
        assert transport.w1(x, y) == pytest.approx(transport.w1(y, x), abs=1e-12)
        assert transport.w1(x, z) <= transport.w1(x, y) + transport.w1(y, z)

    def test_dead_gan(self):
        # All fake samples in one point: the mean distance to it.
        x = points(64, 11)
        assert transport.w1(x, np.full((64, 2), 5.0)) == pytest.approx(np.mean(np.linalg.norm(x - 5, axis=1)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite_is_infinitely_far(self, bad):
        x, y = points(8, 0, 2), points(8, 1, 2)
        y[1, 3, 0] = bad
        assert transport.w1(x[1], y[1]) == np.inf
        for found in (transport.w1_estimate(x, y), transport.w1_extrapolated(x, y), *transport.w1_bounds(x, y)):
            assert found.mean == np.inf
            assert np.isnan(found.se)

    def test_shapes(self):
        with pytest.raises(ValueError, match="got shapes"):
            transport.w1(points(8, 0), points(9, 0))
        with pytest.raises(ValueError, match=r"allowed: \(M, N, 2\)"):
            transport.w1_estimate(points(8, 0), points(8, 0))
        with pytest.raises(ValueError, match="M > 1"):
            transport.w1_bounds(points(8, 0, 1), points(8, 0, 1))
        with pytest.raises(ValueError, match="an even number"):
            transport.w1_extrapolated(points(9, 0, 2), points(9, 0, 2))


class TestEstimates:
    def test_mean_and_standard_error(self):
        x, y = points(16, 0, 5), points(16, 1, 5)
        each = [transport.w1(*pair) for pair in zip(x, y)]
        got = transport.w1_estimate(x, y)
        assert isinstance(got.mean, float)
        assert got.mean == pytest.approx(np.mean(each))
        assert got.se == pytest.approx(scipy.stats.sem(each))
        assert transport.w1_bounds(x, y).high == got

    def test_floor(self):
        x = points(16, 0, 6)
        each = [transport.w1(x[m], x[m + 1]) for m in (0, 2, 4)]
        assert transport.w1_floor(x).mean == pytest.approx(np.mean(each))

    @pytest.mark.parametrize("d", [0.5, 1, 2, 3])
    def test_gaussians_to_2e_3_or_the_interval(self, d):
        real, fake = gaussians(d, 512, 0)
        got = transport.w1_extrapolated(real, fake)
        assert abs(got.mean - d) < max(2e-3, T_975 * got.se)
        assert got.se < 2e-3

    @pytest.mark.parametrize("d", [0, 0.5, 2])
    def test_bounds_hold_the_truth(self, d):
        # At least 95 % of the intervals should; more than 4 failures of 20 then have probability 0.003.
        held = 0
        for seed in range(20):
            low, high = transport.w1_bounds(*gaussians(d, 64, seed))
            held += low.mean - T_975 * low.se <= d <= high.mean + T_975 * high.se
        assert held >= 16

    def test_bounds_are_close(self):
        apart, alike = (transport.w1_bounds(*gaussians(d, 256, 1)) for d in (1, 0))
        assert 0 < apart.high.mean - apart.low.mean < 0.03
        assert 0 < alike.high.mean - alike.low.mean < 0.16

    def test_lost_mode(self):
        # Between point masses W1 is a linear program. A blur of both by n changes E_p f - E_q f by at most E|n| times
        # the mass by which p and q differ, for 1-Lipschitz f, and makes W1 no larger.
        uniform = sobol(256, 2, coordinates=6)
        low, high = transport.w1_bounds(ring(uniform), ring(uniform[..., 3:], 7))
        exact, blur = lost_mode_w1(), 0.02 * np.sqrt(np.pi / 2) * (1 / 8 + 7 / 56)
        assert low.mean - T_975 * low.se <= exact
        assert high.mean + T_975 * high.se >= exact - blur
        assert high.mean - low.mean < 0.02

    def test_potential_is_optimal(self):
        # Strong duality: on its own sample the potential reaches the distance itself; and it is 1-Lipschitz.
        real, fake = points(60, 3), points(60, 4) + 0.7
        distance, v = transport._match(real, fake, potential=True)

        def f(x):
            return np.min(np.linalg.norm(x[:, None] - fake[None], axis=-1) - v[None], axis=1)

        assert np.mean(f(real)) - np.mean(f(fake)) == pytest.approx(distance, abs=1e-6)
        x, y = 3 * points(500, 5), 3 * points(500, 6)
        assert np.all(np.abs(f(x) - f(y)) <= np.linalg.norm(x - y, axis=1) + 1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize("d", [0.25, 0.5, 1, 2, 3])
    def test_gaussians_over_seeds(self, d):
        held, errors = 0, []
        for seed in range(10):
            real, fake = gaussians(d, 512, seed)
            low, high = transport.w1_bounds(real, fake)
            got = transport.w1_extrapolated(real, fake)
            errors.append(got.mean - d)
            held += low.mean - T_975 * low.se <= d <= high.mean + T_975 * high.se
            # Nearer than that the extrapolation leaves more.
            assert d < 0.5 or abs(errors[-1]) < max(2e-3, T_975 * got.se)
        print(f"\nd = {d}: mean error {np.mean(errors):.5f}, largest {np.max(np.abs(errors)):.5f}; bounds held {held}")
        # From both sides at once they should hold more often than 95 %; 3 failures of 10 have probability 0.01.
        assert held >= 8


def lost_mode_w1() -> float:
    """W1 between 8 equal point masses on the unit circle and 7 of them, as a linear program."""
    angle = 2 * np.pi * np.arange(8) / 8
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cost = np.linalg.norm(at[:, None] - at[None, :7], axis=-1)
    marginals = np.concatenate([np.kron(np.eye(8), np.ones(7)), np.kron(np.ones(8), np.eye(7))])
    weights = np.concatenate([np.full(8, 1 / 8), np.full(7, 1 / 7)])
    return scipy.optimize.linprog(cost.ravel(), A_eq=marginals, b_eq=weights).fun
