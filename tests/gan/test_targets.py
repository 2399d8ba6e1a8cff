import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import logsumexp

from gandyn.gan import sampling, targets
from gandyn.gan.targets import TARGETS, GaussianMixture

# Sigma of every statistical test below: five, at fixed seeds.
SIGMA = 5

# For what is refused: wrong types, which a type checker would refuse first.
anything: Any = targets

MADE = {
    "ring": TARGETS["ring"](num_modes=8, radius=2.0, std=0.2),
    "grid": TARGETS["grid"](num_modes=9, spacing=1.0, std=0.15),
    "spiral": TARGETS["spiral"](num_modes=6, radius=2.0, turns=1.5, std=0.2),
    "random": TARGETS["random"](num_modes=5, radius=2.0, std=0.3, layout_seed=3),
    "line": TARGETS["line"](num_modes=3, spacing=1.5, std=0.25),
    "weighted ring": TARGETS["ring"](num_modes=3, radius=1.0, std=0.1, weights=[1, 2, 5]),
    "mixed stds": targets.mixture([[0.0, 0.0], [2.0, 1.0]], [0.2, 0.5], [3, 1]),
}


# One compilation a number of modes and points, not one an operation.
log_prob = jax.jit(GaussianMixture.log_prob)
transform = jax.jit(GaussianMixture.transform)
sample = jax.jit(GaussianMixture.sample, static_argnums=2)


def as_float64(target: GaussianMixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.asarray(target.means, np.float64),
        np.asarray(target.stds, np.float64),
        np.asarray(target.weights, np.float64),
    )


def log_prob64(target: GaussianMixture, x: np.ndarray) -> np.ndarray:
    means, stds, weights = as_float64(target)
    modes = [scipy.stats.multivariate_normal(m, s**2 * np.eye(2)).logpdf(x) for m, s in zip(means, stds)]
    return np.asarray(logsumexp(np.stack(modes, axis=1) + np.log(weights), axis=1))


ARRANGED = ("ring", "grid", "spiral", "random", "line")


def test_every_arrangement_is_made_here():
    assert set(ARRANGED) == set(MADE) & set(TARGETS)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(2)
def test_log_prob_is_scipys(name):
    target = MADE[name]
    rng = np.random.default_rng(0)
    near = np.asarray(sample(target, jax.random.key(0), 500), np.float64)
    far = rng.uniform(-30, 30, (100, 2))
    x = np.concatenate([near, far]).astype(np.float32)
    got = np.asarray(log_prob(target, jnp.asarray(x)), np.float64)
    want = log_prob64(target, x.astype(np.float64))
    # 1e-5 nat where the density is, 1e-5 relative in the far tail.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(2)
def test_density_integrates_to_one(name):
    target = MADE[name]
    center, half = target.box()
    axis = np.linspace(-1, 1, 301) * float(half)
    cell = (axis[1] - axis[0]) ** 2
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2) + np.asarray(center)
    # The trapezoidal rule on a Gaussian, cells below a third of its std: exact but for the six-sigma tails.
    total = np.exp(np.asarray(log_prob(target, jnp.asarray(grid, jnp.float32)), np.float64)).sum() * cell
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(2)
def test_sample_moments(name):
    target = MADE[name]
    means, stds, weights = as_float64(target)
    n = 100_000
    x = np.asarray(sample(target, jax.random.key(1), n), np.float64)
    assert x.shape == (n, 2)
    mean = weights @ means
    second = np.einsum("k,ki,kj->ij", weights, means, means) + np.eye(2) * (weights @ stds**2)
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), SIGMA * x.std(0) / np.sqrt(n))
    products = x[:, :, None] * x[:, None, :]
    np.testing.assert_array_less(np.abs(products.mean(0) - second), SIGMA * products.std(0) / np.sqrt(n))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(2)
def test_share_of_each_mode_and_the_spread_inside(name):
    target = MADE[name]
    _, stds, weights = as_float64(target)
    n = 100_000
    uniform = np.asarray(sampling.uniform(jax.random.key(2), (n, 3)))
    edges = np.concatenate([[0], np.cumsum(weights)[:-1], [1]])
    x = np.asarray(transform(target, jnp.asarray(uniform)), np.float64)
    for k in range(target.num_modes):
        mine = (uniform[:, 0] >= edges[k]) & (uniform[:, 0] < edges[k + 1])
        sd = np.sqrt(weights[k] * (1 - weights[k]) / n)
        assert abs(mine.mean() - weights[k]) <= SIGMA * sd
        z = (x[mine] - np.asarray(target.means[k])) / stds[k]
        assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 1e-5


def test_extreme_uniforms_stay_finite():
    ends = sampling.from_bits(jnp.asarray([0, 2**32 - 1], jnp.uint32))
    assert float(ends[0]) > 0
    assert float(ends[1]) < 1
    corners = jnp.asarray(np.stack(np.meshgrid(ends, ends, ends), axis=-1).reshape(-1, 3))
    target = MADE["ring"]
    x = transform(target, corners)
    assert bool(jnp.all(jnp.isfinite(x)))
    # The extremes pick the first and the last mode.
    np.testing.assert_allclose(np.asarray(transform(target, jnp.asarray([[ends[0], 0.5, 0.5]])))[0], target.means[0])
    np.testing.assert_allclose(np.asarray(transform(target, jnp.asarray([[ends[1], 0.5, 0.5]])))[0], target.means[-1])


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(2)
def test_blur_is_the_convolution(name):
    target = MADE[name]
    std = 0.3
    blurred = target.blur(std)
    np.testing.assert_allclose(blurred.stds, np.hypot(np.asarray(target.stds, np.float64), std), rtol=1e-6)
    np.testing.assert_array_equal(blurred.means, target.means)
    np.testing.assert_array_equal(blurred.weights, target.weights)
    # Against the convolution itself, by Gauss-Hermite quadrature of order 64 in each dimension.
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    weight = weight / weight.sum()
    offset = std * np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    share = np.outer(weight, weight).ravel()
    x = np.asarray(sample(target, jax.random.key(3), 20), np.float32)
    convolved = [np.sum(share * np.exp(log_prob64(target, point - offset))) for point in x.astype(np.float64)]
    np.testing.assert_allclose(np.exp(np.asarray(log_prob(blurred, jnp.asarray(x)))), convolved, rtol=2e-5)


@pytest.mark.parametrize("name", MADE)
def test_box_holds_six_std(name):
    target = MADE[name]
    center, half = (np.asarray(part, np.float64) for part in target.box())
    means, stds, _ = as_float64(target)
    assert np.all(np.abs(means - center) + 6 * stds[:, None] <= half * (1 + 1e-6))


@pytest.mark.parametrize("num_modes", [1, 2, 3, 8, 25])
def test_ring_has_that_many_distinct_modes(num_modes):
    # linspace(0, 2 pi, 8) with both ends makes seven: a bug in two public codes.
    means = np.asarray(targets.ring(num_modes, radius=2.0).means, np.float64)
    assert means.shape == (num_modes, 2)
    np.testing.assert_allclose(np.hypot(*means.T), 2, rtol=1e-6)
    np.testing.assert_allclose(means[0], [2, 0], atol=1e-6)
    distance = np.linalg.norm(means[:, None] - means, axis=-1) + 10 * np.eye(num_modes)
    if num_modes > 1:
        np.testing.assert_allclose(distance.min(axis=1), 4 * np.sin(np.pi / num_modes), rtol=1e-5)


def test_grid_line_and_spiral_by_hand():
    grid = np.asarray(targets.grid(4, spacing=2.0).means)
    assert {tuple(row) for row in grid.tolist()} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}
    default = np.asarray(targets.grid().means)
    assert sorted(set(default[:, 0].tolist())) == [-4, -2, 0, 2, 4]
    np.testing.assert_array_equal(targets.line(3, spacing=2.0).means, [[-2, 0], [0, 0], [2, 0]])
    spiral = np.asarray(targets.spiral(4, radius=2.0, turns=1.0).means, np.float64)
    np.testing.assert_allclose(spiral, [[0, 0.5], [-1, 0], [0, -1.5], [2, 0]], atol=1e-6)


def test_random_is_fixed_by_its_seed():
    one, same, other = (np.asarray(targets.random(8, radius=2.0, layout_seed=s).means) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.all(np.abs(one) <= 2)


@pytest.mark.parametrize("name", ARRANGED)
def test_defaults_are_float32_with_equal_weights(name):
    target = TARGETS[name]()
    k = target.num_modes
    assert (target.means.shape, target.stds.shape, target.weights.shape) == ((k, 2), (k,), (k,))
    assert {leaf.dtype for leaf in jax.tree.leaves(target)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(target.weights, 1 / k, rtol=1e-6)


@pytest.mark.parametrize("name", ARRANGED)
def test_unequal_weights_are_scaled(name):
    target = TARGETS[name](num_modes=4, weights=[1, 2, 3, 4])
    np.testing.assert_allclose(target.weights, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anything.ring(0), "num_modes: got 0; allowed: a whole number of at least 1"),
        (lambda: anything.ring(2.0), "num_modes: got 2.0; allowed: a whole number of at least 1"),
        (lambda: anything.ring(True), "num_modes: got True; allowed: a whole number of at least 1"),
        (lambda: anything.ring(radius=-1), "radius: got -1.0; allowed: above 0, finite"),
        (lambda: anything.ring(radius=np.inf), "radius: got inf; allowed: above 0, finite"),
        (lambda: anything.ring(radius="wide"), "radius: got 'wide'; allowed: a number"),
        (lambda: anything.ring(std=0), "std: got 0.0; allowed: above 0, finite"),
        (lambda: anything.ring(std=np.nan), "std: got nan; allowed: above 0, finite"),
        (lambda: anything.ring(3, weights=[1, 2]), "weights: got shape (2,); allowed: one per mode, 3"),
        (lambda: anything.ring(2, weights=[1, 0]), "weights: got [1.0, 0.0]; allowed: above 0, finite"),
        (lambda: anything.grid(24), "num_modes: got 24; allowed for a grid: a square number (nearest: 25)"),
        (lambda: anything.grid(9, spacing=0), "spacing: got 0.0; allowed: above 0, finite"),
        (lambda: anything.spiral(turns=0), "turns: got 0.0; allowed: above 0, finite"),
        (lambda: anything.random(layout_seed=-1), "layout_seed: got -1; allowed: a whole number of at least 0"),
        (lambda: anything.line(spacing=-2), "spacing: got -2.0; allowed: above 0, finite"),
        (lambda: anything.mixture([0, 0], 1), "means: got shape (2,); allowed: (number of modes, d), finite"),
        (lambda: anything.mixture(np.zeros((0, 2)), 1), "means: got shape (0, 2)"),
        (lambda: anything.mixture([[0, 0]], [1, 2]), "std: got shape (2,); allowed: one per mode, 1"),
    ],
)
def test_refusals_name_field_value_and_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
