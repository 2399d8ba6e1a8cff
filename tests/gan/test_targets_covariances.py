"""Full covariances, groups of components, coincident modes: against scipy and brute force in float64."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gandyn.gan import targets

SIGMA = 5
anything: Any = targets

log_prob = jax.jit(lambda target, x: target.log_prob(x))
sample = jax.jit(lambda target, key, num: target.sample(key, num), static_argnums=2)


def rotated(angle: float, *stds: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    axes = np.array([[c, -s], [s, c]])
    return axes @ np.diag(np.square(stds)) @ axes.T


PLANE = np.array([rotated(0.7, 0.5, 0.05), rotated(-0.4, 0.2, 0.2), rotated(2.0, 0.3, 0.1)])
SPACE = np.array([np.diag([1.0, 0.25, 0.04]) + 0.05, np.eye(3) * 0.2])
MEANS = {"plane": np.array([[0, 0], [1.5, 0], [0.0, 1.5]]), "space": np.array([[0, 0, 0], [1, -1, 2.0]])}
COVARIANCES = {"plane": PLANE, "space": SPACE}
WEIGHTS = {"plane": np.array([1, 2, 1]) / 4, "space": np.array([1, 3]) / 4}
MADE = {
    name: targets.mixture(MEANS[name], covariances=COVARIANCES[name], weights=WEIGHTS[name]) for name in COVARIANCES
}


def log_prob64(name: str, x: np.ndarray, blur: float = 0.0) -> np.ndarray:
    eye = np.eye(x.shape[1])
    components = [
        scipy.stats.multivariate_normal(mean, covariance + blur**2 * eye).logpdf(x)
        for mean, covariance in zip(MEANS[name], COVARIANCES[name])
    ]
    return np.asarray(scipy.special.logsumexp(np.stack(components, axis=1) + np.log(WEIGHTS[name]), axis=1))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.quick(1)
def test_log_prob_and_blur_are_scipys(name):
    target = MADE[name]
    near = np.asarray(sample(target, jax.random.key(0), 400))
    far = np.random.default_rng(0).uniform(-20, 20, (100, near.shape[1])).astype(np.float32)
    x = np.concatenate([near, far])
    for blur, one in ((0.0, target), (0.3, target.blur(0.3)), (1e-3, target.blur(1e-3))):
        want = log_prob64(name, x.astype(np.float64), blur)
        np.testing.assert_allclose(log_prob(one, x), want, rtol=2e-5, atol=2e-4)


def test_a_thin_mode_keeps_its_narrow_axis():
    """A thousand to one: where the covariance itself, in float32, would have lost the narrow axis."""
    covariance = rotated(0.6, 1.0, 1e-3)
    target = targets.mixture([[0.0, 0.0]], covariances=covariance)
    assert float(target.scale()) == pytest.approx(1e-3, rel=1e-3)
    blurred = target.blur(2e-3)
    assert float(blurred.scale()) == pytest.approx(np.sqrt(5) * 1e-3, rel=1e-3)
    np.testing.assert_allclose(target.covariances()[0], covariance, rtol=1e-6)
    across = 1e-3 * np.array([[-np.sin(0.6), np.cos(0.6)]])
    got = log_prob(target, across.astype(np.float32)) - log_prob(target, np.zeros((1, 2), np.float32))
    assert float(got[0]) == pytest.approx(-0.5, abs=2e-3)


@pytest.mark.parametrize("name", MADE)
def test_moments_of_samples(name):
    n = 100_000
    x = np.asarray(sample(MADE[name], jax.random.key(1), n), np.float64)
    weights, means = WEIGHTS[name], MEANS[name]
    second = np.einsum("k,ki,kj->ij", weights, means, means) + np.einsum("k,kij->ij", weights, COVARIANCES[name])
    np.testing.assert_array_less(np.abs(x.mean(0) - weights @ means), SIGMA * x.std(0) / np.sqrt(n))
    products = x[:, :, None] * x[:, None, :]
    np.testing.assert_array_less(np.abs(products.mean(0) - second), SIGMA * products.std(0) / np.sqrt(n))


def test_samples_match_the_density():
    """Chi-square on a grid, cells that expect at least 20; five sigma of its normal limit."""
    target, n = MADE["plane"], 100_000
    x = np.asarray(sample(target, jax.random.key(2), n))
    edges = np.linspace(-2.5, 3.0, 45)
    fine = np.linspace(-2.5, 3.0, 441)
    middle = (fine[1:] + fine[:-1]) / 2
    points = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(log_prob64("plane", points)) * (fine[1] - fine[0]) ** 2
    want = n * mass.reshape(44, 10, 44, 10).sum(axis=(1, 3)).ravel()
    got = np.histogram2d(x[:, 0], x[:, 1], bins=[edges, edges])[0].ravel()
    enough = want >= 20
    want, got = np.append(want[enough], n - want[enough].sum()), np.append(got[enough], n - got[enough].sum())
    statistic = np.sum((got - want) ** 2 / want)
    assert len(want) > 150
    assert abs(statistic - (len(want) - 1)) < SIGMA * np.sqrt(2 * (len(want) - 1))


@pytest.mark.parametrize("name", MADE)
def test_box_scale_and_shapes(name):
    target = MADE[name]
    covariances = COVARIANCES[name]
    dim = covariances.shape[-1]
    assert (target.event_shape, target.num_uniforms) == ((dim,), dim + 1)
    assert np.linalg.det(np.asarray(target.shapes, np.float64)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(target.stds, np.linalg.det(covariances) ** (0.5 / dim), rtol=1e-6)
    np.testing.assert_allclose(target.covariances(), covariances, rtol=1e-5, atol=1e-7)
    want = np.sqrt(np.linalg.eigvalsh(covariances).min())
    assert float(target.scale()) == pytest.approx(want, rel=1e-5)
    center, half = target.box()
    reach = 6 * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    assert float(half) == pytest.approx(
        ((MEANS[name] + reach).max(axis=0) - (MEANS[name] - reach).min(axis=0)).max() / 2, rel=1e-5
    )
    traced = jax.jit(lambda target: (target.box(), target.scale()))(target)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-6), traced, ((center, half), want))


def test_round_covariances_are_the_isotropic_mixture():
    means, stds = [[0.0, 0.0], [1.0, 1.0]], np.array([0.2, 0.5])
    round_ = targets.mixture(means, covariances=stds[:, None, None] ** 2 * np.eye(2))
    plain = targets.mixture(means, stds)
    x = np.asarray(sample(plain, jax.random.key(0), 300))
    np.testing.assert_allclose(log_prob(round_, x), log_prob(plain, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(round_.box()[1], plain.box()[1], rtol=1e-6)
    np.testing.assert_allclose(round_.blur(0.3).stds, plain.blur(0.3).stds, rtol=1e-6)


class TestGroups:
    TARGET = targets.mixture([[0, 0], [0.1, 0], [3, 0], [0, 3], [0.1, 3]], 0.1, [1, 2, 3, 4, 5], groups=[0, 0, 1, 2, 2])

    def test_modes(self):
        assert (self.TARGET.num_modes, self.TARGET.num_components) == (3, 5)
        np.testing.assert_allclose(self.TARGET.mode_weights, np.array([3, 3, 9]) / 15, rtol=1e-6)
        np.testing.assert_array_equal(self.TARGET.mode_of(jnp.arange(5)), [0, 0, 1, 2, 2])
        np.testing.assert_array_equal(targets.ring(4).mode_of(jnp.arange(4)), np.arange(4))

    def test_means_and_stds_of_modes(self):
        """A third at 0 and two thirds at 0.1: their variance along x is 0.1^2 * 2 / 9, half of which counts a mode."""
        np.testing.assert_allclose(self.TARGET.mode_means[:2], [[0.2 / 3, 0], [3, 0]], atol=1e-6)
        stds = [np.sqrt(0.01 + 0.01 / 9), 0.1, np.sqrt(0.01 + 0.01 * 20 / 81 / 2)]
        np.testing.assert_allclose(self.TARGET.mode_stds, stds, rtol=1e-5)

    @pytest.mark.parametrize("label", [0, 1])
    def test_of_class(self, label):
        got = jax.jit(lambda target, label: target.of_class(label, 2))(self.TARGET, label)
        want = np.where(np.array([0, 0, 1, 2, 2]) % 2 == label, np.arange(1, 6), 0)
        np.testing.assert_allclose(got.weights, want / want.sum(), rtol=1e-6)
        uniform = jnp.linspace(0.01, 0.99, 50)
        assert set(np.asarray(got.mode_of(got.pick(uniform)) % 2)) == {label}

    def test_no_modes(self):
        target = targets.mixture([[0, 0], [0.1, 0]], 0.1, groups=())
        assert target.num_modes == 0
        for refused in (lambda: target.of_class(0, 2), lambda: target.mode_of(jnp.arange(2))):
            with pytest.raises(ValueError, match="target: got one whose modes are not counted"):
                refused()


class TestCoincident:
    def test_refused(self):
        message = "means: got modes 0 and 2 in one place, [0.0, 0.0]; allowed: at least 0.01 std apart"
        with pytest.raises(ValueError, match=re.escape(message)):
            targets.mixture([[0, 0], [1, 0], [0.0009, 0]], 0.1)
        with pytest.raises(ValueError, match="in one place"):
            targets.ring(1_000, radius=1e-4, std=0.1)

    def test_not_refused(self):
        targets.mixture([[0, 0], [0.0011, 0]], 0.1)  # farther
        targets.mixture([[0, 0], [0, 0]], [0.1, 0.2])  # a peak on a plateau
        targets.mixture([[0, 0], [0, 0]], covariances=PLANE[[0, 2]])  # a cross
        targets.mixture([[0, 0], [0, 0]], 0.1, groups=[0, 0])  # one mode
        targets.mixture([[0, 0], [0, 0]], 0.1, groups=())  # no mode

    @pytest.mark.parametrize("covariance", [None, PLANE[0]])
    def test_merged_with_a_word(self, covariance):
        means = [[0, 0], [1, 0], [0, 0], [2, 0], [1, 1e-5], [0, 0]]
        spread = {"stds": 0.1} if covariance is None else {"covariances": covariance}
        with pytest.warns(UserWarning, match=r"2 into 0, 4 into 1, 5 into 0; 3 of 6 modes are left"):
            got = targets.mixture(means, weights=[1, 2, 3, 4, 5, 6], merge=True, **spread)
        np.testing.assert_allclose(got.means, [[0, 0], [1, 0], [2, 0]])
        np.testing.assert_allclose(got.weights, np.array([10, 7, 4]) / 21, rtol=1e-6)
        apart = targets.mixture([[0, 0], [1, 0]], merge=True, **spread)
        assert apart.num_modes == 2

    def test_found_whatever_the_order_as_by_all_pairs(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            means = rng.uniform(0, 0.3, (30, 2))
            nearest = min(float(np.linalg.norm(means[i] - means[j])) for i in range(30) for j in range(i))
            targets.mixture(means, nearest * 99)
            with pytest.raises(ValueError, match="in one place"):
                targets.mixture(means, nearest * 101)

    def test_checked_of_what_was_made_elsewhere(self):
        twice = anything.GaussianMixture(
            np.zeros((2, 2), np.float32), np.ones(2, np.float32), np.full(2, 0.5, np.float32)
        )
        with pytest.raises(ValueError, match="in one place"):
            targets.check(twice)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anything.mixture([[0, 0]]), "std: got none; allowed: stds or covariances"),
        (lambda: anything.mixture([[0, 0]], 1, covariances=np.eye(2)), "std: got stds and covariances; allowed"),
        (lambda: anything.mixture([[0, 0]], covariances=np.eye(3)), "covariances: got shape (3, 3); allowed: (2, 2)"),
        (lambda: anything.mixture([[0, 0]], covariances=[[1, 2], [0, 1]]), "allowed: finite, symmetric"),
        (lambda: anything.mixture([[0, 0]], covariances=[[1, 2], [2, 1]]), "allowed: above 0 (positive definite)"),
        (lambda: anything.mixture([[0, 0]], covariances=[[1, np.nan], [0, 1]]), "allowed: finite, symmetric"),
        (lambda: anything.mixture([[0, 0]], covariances=np.diag([1, 1e-9])), "allowed: at most 10,000 times"),
        (lambda: anything.mixture([[0, 0], [1, 1]], 1, groups=[0]), "groups: got [0.0]; allowed: for each of 2"),
        (lambda: anything.mixture([[0, 0], [1, 1]], 1, groups=[0, 2]), "from 0 on without a gap"),
        (lambda: anything.mixture([[0, 0], [1, 1]], 1, groups=[0, 0.5]), "from 0 on without a gap"),
        (lambda: anything.mixture(np.zeros((1_025, 2)), 1), "means: got 1,025 modes; allowed: at most 1,024"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shapes", np.tile(np.array([[1, 1], [0, 1]], np.float32), (3, 1, 1))),
        ("shapes", np.tile(np.float32(2 * np.eye(2)), (3, 1, 1))),
        ("shapes", np.eye(2, dtype=np.float32)),
        ("groups", np.ones((3, 2), np.float32)),
        ("groups", np.eye(3, 4, dtype=np.float32)),
        ("weights", np.array([1, 1, 1], np.float32)),
    ],
)
def test_check_refuses_what_mixture_would_not_make(field, value):
    targets.check(MADE["plane"])
    with pytest.raises(ValueError, match=f"{field}: got"):
        targets.check(dataclasses.replace(MADE["plane"], **{field: value}))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_lowers_for_every_platform(platform):
    def everything(target, key, x):
        blurred = target.blur(0.1)
        return target.sample(key, 4), blurred.log_prob(x), blurred.box(), blurred.scale()

    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), MADE["plane"])
    keys = jax.random.split(jax.random.key(0), 2)
    program = jax.jit(jax.vmap(everything, in_axes=(0, 0, None)))
    jax.export.export(program, platforms=[platform])(stacked, keys, jnp.zeros((3, 2)))
