"""Moons, circles, ribbons and smoothed data sets: where they lie, what they count, what they refuse."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance

from gandyn.gan import targets

SIGMA = 5
anything: Any = targets

log_prob = jax.jit(lambda target, x: target.log_prob(x))
sample = jax.jit(lambda target, key, num: target.sample(key, num), static_argnums=2)

HEART = np.stack([16 * np.sin(np.linspace(0, 2 * np.pi, 100)) ** 3, 13 * np.cos(np.linspace(0, 2 * np.pi, 100))], 1)
CURVES = {
    "moons": targets.moons(std=0.08),
    "circles": targets.circles(std=0.08),
    "ribbon": targets.ribbon(std=0.05),
    "vertices": targets.ribbon(HEART, radius=0.1, std=0.1),
    "function": targets.ribbon(lambda share: np.stack([share, share**2], axis=1), std=0.05, num_modes=4),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.quick(2)
def test_density_integrates_to_one(name):
    target = CURVES[name]
    center, half = target.box()
    axis = np.linspace(-1, 1, 241) * float(half)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + np.asarray(center)
    density = np.exp(np.asarray(log_prob(target, jnp.asarray(grid, jnp.float32)), np.float64))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.quick(2)
def test_samples_match_the_density(name):
    """Mean of log p over samples against its integral, by quadrature; five standard errors."""
    target = CURVES[name]
    center, half = target.box()
    axis = np.linspace(-1, 1, 241) * float(half)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + np.asarray(center)
    logs = np.asarray(log_prob(target, jnp.asarray(grid, jnp.float32)), np.float64)
    want = np.sum(np.exp(logs) * logs) * (axis[1] - axis[0]) ** 2
    got = np.asarray(log_prob(target, sample(target, jax.random.key(0), 20_000)), np.float64)
    assert abs(got.mean() - want) < SIGMA * got.std() / np.sqrt(len(got))


def test_moons_lie_where_they_are_known_to():
    """As scikit-learn's: half circles around (0, 0) and (1, 1/2), here shifted to be centred."""
    target = targets.moons(num_components=64, radius=2.0, std=0.2, weights=[1, 3])
    points = np.asarray(target.means, np.float64) / 2 + [0.5, 0.25]
    upper, lower = points[:32], points[32:]
    np.testing.assert_allclose(np.hypot(*upper.T), 1, rtol=1e-5)
    np.testing.assert_allclose(np.hypot(*(lower - [1, 0.5]).T), 1, rtol=1e-5)
    assert np.all(upper[:, 1] > 0)
    assert np.all(lower[:, 1] < 0.5)
    np.testing.assert_allclose(np.asarray(target.means).mean(axis=0), 0, atol=1e-5)
    assert target.num_modes == 2
    np.testing.assert_allclose(target.mode_weights, [0.25, 0.75], rtol=1e-5)
    np.testing.assert_array_equal(target.mode_of(jnp.arange(64)), np.repeat([0, 1], 32))


def test_circles_lie_where_they_are_known_to():
    target = targets.circles(num_components=128, radius=2.0, factor=0.25, std=0.1)
    np.testing.assert_allclose(np.hypot(*np.asarray(target.means).T), np.repeat([2, 0.5], 64), rtol=1e-5)
    assert target.num_modes == 2
    np.testing.assert_allclose(target.mode_weights, 0.5, rtol=1e-5)


class TestRibbon:
    def test_spiral_at_equal_steps(self):
        target = targets.ribbon(num_components=200, radius=2.0, turns=1.5, std=0.05)
        points = np.asarray(target.means, np.float64)
        radius, angle = np.hypot(*points.T), np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
        np.testing.assert_allclose(radius, 2 * angle / (3 * np.pi), atol=2e-3)
        # Length of r = a t is a / 2 (t (1 + t^2)^(1/2) + arcsinh t).
        end = 3 * np.pi
        length = 2 / end / 2 * (end * np.hypot(1, end) + np.arcsinh(end))
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        np.testing.assert_allclose(steps[10:], length / 200, rtol=2e-3)
        assert target.num_modes == 0

    def test_line(self):
        target = targets.ribbon([[0, 0], [3, 0], [3, 1]], num_components=8, radius=2.0, std=1.0)
        want = [[0.5, 0], [1.5, 0], [2.5, 0], [3.5, 0], [4.5, 0], [5.5, 0], [6, 0.5], [6, 1.5]]
        np.testing.assert_allclose(target.means, want, atol=1e-6)

    def test_modes_if_asked(self):
        target = targets.ribbon(num_modes=3, num_components=200)
        assert target.num_modes == 3
        mode = np.asarray(target.mode_of(jnp.arange(200)))
        assert np.all(np.diff(mode) >= 0)
        np.testing.assert_allclose(np.bincount(mode), 200 / 3, atol=1)

    def test_even_along_the_curve(self):
        """Density on the middle of the ribbon, away from ends and bends: to 3 %."""
        target = targets.ribbon([[0, 0], [10, 0]], num_components=100, std=0.0501)
        x = np.stack([np.linspace(2, 8, 500), np.zeros(500)], axis=1).astype(np.float32)
        density = np.exp(np.asarray(log_prob(target, x), np.float64))
        assert np.ptp(density) / density.mean() < 0.06


class TestSamples:
    POINTS = np.random.default_rng(0).normal(size=(3_000, 3)) * [1, 2, 0.5]

    def test_density_is_the_kernel_estimate(self):
        target = targets.from_samples(self.POINTS, 0.3)
        assert (target.event_shape, target.num_modes, float(target.scale())) == ((3,), 0, pytest.approx(0.3))
        x = np.random.default_rng(1).normal(size=(2_000, 3)).astype(np.float32)
        squared = scipy.spatial.distance.cdist(x.astype(np.float64), self.POINTS, "sqeuclidean")
        want = np.log(np.mean(np.exp(-squared / (2 * 0.3**2)), axis=1)) - 1.5 * np.log(2 * np.pi * 0.3**2)
        np.testing.assert_allclose(log_prob(target, x), want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(target.blur(0.4).stds, 0.5, rtol=1e-6)

    def test_every_point_is_picked_by_its_stratum(self):
        target = targets.from_samples(self.POINTS, 0.3)
        uniform = (np.arange(3_000) + 0.5) / 3_000
        np.testing.assert_array_equal(jax.jit(lambda t, u: t.pick(u))(target, uniform.astype(np.float32)), range(3_000))

    def test_samples(self):
        target = targets.from_samples(self.POINTS, 0.3)
        x = np.asarray(sample(target, jax.random.key(0), 50_000), np.float64)
        np.testing.assert_array_less(np.abs(x.mean(0) - self.POINTS.mean(0)), SIGMA * x.std(0) / np.sqrt(50_000))
        want = np.sqrt(self.POINTS.var(axis=0) + 0.09)
        np.testing.assert_allclose(x.std(axis=0), want, rtol=SIGMA / np.sqrt(2 * 50_000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anything.moons(7), "num_components: got 7; allowed: an even number"),
        (lambda: anything.moons(std=0.01), "allowed: at most 2 std apart, so at least 316 for std=0.01"),
        (lambda: anything.moons(weights=[1, 2, 3]), "weights: got shape (3,); allowed: one per mode, 2"),
        (lambda: anything.circles(factor=1), "factor: got 1.0; allowed: above 0, below 1"),
        (lambda: anything.ribbon("snake"), "curve: got 'snake'; allowed: spiral"),
        (lambda: anything.ribbon([[0, 0]]), "curve: got shape (1, 2); allowed: (at least 2 vertices, 2), finite"),
        (lambda: anything.ribbon([[0, 0], [0, 0]]), "curve: got one of length 0.0; allowed: above 0"),
        (lambda: anything.ribbon(std=0), "std: got 0.0; allowed: above 0, finite"),
        (lambda: anything.from_samples([[0, 0]], -1), "std: got -1.0; allowed: above 0, finite"),
        (lambda: anything.from_samples([0, 0], 1), "points: got shape (2,); allowed: (number of points, d), finite"),
        (lambda: anything.from_samples(np.zeros((131_073, 1)), 1), "means: got 131,073 components; allowed: at most"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
