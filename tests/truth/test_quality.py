"""Closed forms and plain NumPy for each metric; what real samples get; which way each number moves."""

import functools
import runpy
from pathlib import Path
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from gandyn.gan import targets
from gandyn.truth import quality as q
from gandyn.truth.coverage import CONVENTIONS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

N, K = 600, 5  # three chunks of rows, the last one filled up
NUM_IN_MODES = 6000
# Eight modes of different std and weight, off the origin; every small test has these shapes: one program each.
TARGET = targets.mixture(
    np.random.default_rng(0).uniform(-1, 1, (8, 2)) + [3, 1], np.linspace(0.05, 0.2, 8), np.arange(1, 9)
)
# One Gaussian in the shapes of eight, which `mixture` refuses.
GAUSSIAN = targets.GaussianMixture(jnp.tile(jnp.array([[1.0, -2.0]]), (8, 1)), jnp.full(8, 0.5), jnp.full(8, 0.125))
RING = targets.ring(num_modes=8, radius=1.0, std=0.02)
VEEGAN = CONVENTIONS["veegan"]

compiled = haste.jit(q.quality)
of_modes = jax.jit(q.mode_stats, static_argnums=(2, 4))
memorization = haste.jit(q.memorization)


def draw(num: int, seed: int, target=TARGET) -> np.ndarray:
    """Samples by NumPy, float32."""
    rng = np.random.default_rng(seed)
    means, stds, weights = (np.asarray(part, np.float64) for part in (target.means, target.stds, target.weights))
    mode = rng.choice(len(means), size=num, p=weights / weights.sum())
    return (means[mode] + stds[mode, None] * rng.standard_normal((num, 2))).astype(np.float32)


def measure(real, fake, target: Any = TARGET) -> dict[str, float]:
    real, fake = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    return {name: float(value) for name, value in compiled(real, fake, target)._asdict().items()}


def by_hand(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """Precision, recall, density and coverage in float64, from the definitions."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)

    def distances(x, y):
        return np.linalg.norm(x[:, None] - y[None, :], axis=-1)

    def radii(x):
        return np.sort(distances(x, x), axis=1)[:, K]

    apart = distances(real, fake)
    in_real, in_fake = apart <= radii(real)[:, None], apart <= radii(fake)[None, :]
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": in_fake.any(axis=1).mean(),
        "density": in_real.sum(axis=0).mean() / K,
        "coverage": in_real.any(axis=1).mean(),
    }


NEIGHBOURS = ("precision", "recall", "density", "coverage")
DISTANCES = ("frechet", "mmd", "sliced_w2")


class TestNearestNeighbours:
    @pytest.mark.parametrize(
        "fake", [draw(N, 2), draw(N, 2) + 0.1, draw(200, 3).repeat(3, axis=0)], ids=["real", "off", "thrice"]
    )
    def test_agrees_with_the_definitions(self, fake):
        real = draw(N, 1)
        got, want = measure(real, fake), by_hand(real, fake)
        assert {name: got[name] for name in NEIGHBOURS} == pytest.approx(want, abs=1e-6)

    def test_one_point(self):
        """Its ball has no size."""
        real = draw(N, 1)
        got = measure(real, real[:1].repeat(N, axis=0))
        assert got["precision"] == 1
        assert got["recall"] == pytest.approx(1 / N)  # the real sample at that very place
        assert got["coverage"] < 0.1


def with_moments(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """N samples of exactly this mean and sample covariance."""
    x = np.random.default_rng(0).standard_normal((N, 2))
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return mean + whitened @ np.linalg.cholesky(covariance).T


class TestFrechet:
    COVARIANCES = ([[0.25, 0], [0, 0.25]], [[0.3, 0.2], [0.2, 0.5]], [[2.0, -0.9], [-0.9, 0.5]], [[1e-4, 0], [0, 4.0]])

    @pytest.mark.parametrize("covariance", COVARIANCES)
    @pytest.mark.quick(2)
    def test_of_gaussians(self, covariance):
        mean, other = np.array([1.0, -2.0]), np.array(covariance)
        root = scipy.linalg.sqrtm(0.25 * other)
        want = 0.5 + np.trace(0.25 * np.eye(2) + other - 2 * np.real(root))
        got = measure(draw(N, 1, GAUSSIAN), with_moments(mean + [0.5, -0.5], other), GAUSSIAN)["frechet"]
        assert got == pytest.approx(want, rel=2e-6, abs=1e-6)

    def test_moments_of_the_target_are_exact(self):
        means, stds, weights = (np.asarray(x, np.float64) for x in (TARGET.means, TARGET.stds, TARGET.weights))
        mean = weights @ means
        covariance = (weights[:, None] * (means - mean)).T @ (means - mean) + (weights @ stds**2) * np.eye(2)
        got = measure(draw(N, 1), with_moments(mean, covariance))["frechet"]
        assert got == pytest.approx(0, abs=2e-6)
        other = np.array([[0.5, 0.3], [0.3, 0.4]])
        want = np.trace(covariance + other - 2 * np.real(scipy.linalg.sqrtm(covariance @ other)))
        assert measure(draw(N, 1), with_moments(mean, other))["frechet"] == pytest.approx(want, rel=2e-5)

    def test_one_point(self):
        """tr S + |m - n|^2: nothing is left of the fakes' covariance."""
        got = measure(draw(N, 1, GAUSSIAN), np.tile([[1.0, -1.0]], (N, 1)), GAUSSIAN)["frechet"]
        assert got == pytest.approx(1.5, rel=1e-6)


def mmd_by_hand(fake: np.ndarray, target) -> float:
    """Both kernel means of the target by quadrature, axis by axis, the fakes' by a double sum; float64."""
    means, stds, weights = (np.asarray(x, np.float64) for x in (target.means, target.stds, target.weights))
    covariance = (weights[:, None] * (means - weights @ means)).T @ means + (weights @ stds**2) * np.eye(2)
    z = np.linspace(-9, 9, 201)

    def kernel(away, std, h2):
        """Mean of exp(-|away + std z|^2 / (2 h2)) over standard normals z: away (..., 2), std (...)."""
        moved = away[..., None] + np.broadcast_to(std, away.shape[:-1])[..., None, None] * z
        return np.trapezoid(np.exp(-(moved**2) / (2 * h2)) * scipy.stats.norm.pdf(z), z).prod(axis=-1)

    found = []
    for h2 in (stds.min() ** 2, np.trace(covariance) / 2):
        real = kernel(means[:, None] - means, np.hypot(stds[:, None], stds), h2)
        cross = kernel(fake[:, None] - means, stds, h2)
        among = np.exp(-((fake[:, None] - fake) ** 2).sum(axis=-1) / (2 * h2))
        np.fill_diagonal(among, 0)
        pairs = len(fake) * (len(fake) - 1)
        found.append(weights @ real @ weights - 2 * np.mean(cross @ weights) + among.sum() / pairs)
    return float(np.mean(found))


class TestMmd:
    @pytest.mark.parametrize("offset", [0.0, 0.1, 5.0])
    def test_agrees_with_a_double_sum(self, offset):
        fake = draw(N, 2) + np.float32(offset)
        want = mmd_by_hand(fake.astype(np.float64), TARGET)
        assert measure(draw(N, 1), fake)["mmd"] == pytest.approx(want, abs=1e-6)

    def test_between_gaussians_and_unbiased(self):
        """p = N(m, s^2 I), q = N(m + d, s^2 I), both bandwidths s: MMD^2 = 2/3 (1 - exp(-|d|^2 / (6 s^2))).

        Mean over 200 sets of fakes, five standard errors; at d = 0 the mean must be zero.
        """
        rng = np.random.default_rng(3)
        normal = jnp.asarray(0.5 * rng.standard_normal((200, 50, 2)) + [1.0, -2.0], jnp.float32)
        many = haste.jit(lambda x: jax.lax.map(lambda x: q._mmd(x, GAUSSIAN), x))
        for d in (0.0, 0.3, 1.0):
            found = np.asarray(many(normal + d))
            want = 2 / 3 * (1 - np.exp(-2 * d**2 / 1.5))
            assert abs(found.mean() - want) < 5 * found.std(ddof=1) / np.sqrt(200)

    def test_bandwidths(self):
        np.testing.assert_allclose(haste.jit(q.bandwidths)(RING), [0.02, np.sqrt(0.5 + 0.02**2)], rtol=1e-6)


# Full covariances: the same eight modes, each stretched and turned.
TURN = np.linspace(0, 3, 8)
AXES = np.stack([np.stack([np.cos(TURN), -np.sin(TURN)], 1), np.stack([np.sin(TURN), np.cos(TURN)], 1)], 1)
COVARIANCES = np.einsum("kij,kj,klj->kil", AXES, np.stack([0.3 * np.ones(8), np.linspace(0.05, 0.2, 8)], 1) ** 2, AXES)
STRETCHED = targets.mixture(TARGET.means, weights=TARGET.weights, covariances=COVARIANCES)


class TestFullCovariances:
    def test_round_ones_are_the_isotropic_mixture(self):
        stds = np.asarray(TARGET.stds, np.float64)
        same = targets.mixture(TARGET.means, weights=TARGET.weights, covariances=stds[:, None, None] ** 2 * np.eye(2))
        real, fake = draw(N, 1), draw(N, 2) + np.float32(0.05)
        assert measure(real, fake, same) == pytest.approx(measure(real, fake), rel=1e-4, abs=1e-6)

    def test_moments(self):
        means, weights = np.asarray(TARGET.means, np.float64), np.asarray(TARGET.weights, np.float64)
        mean = weights @ means
        covariance = np.einsum("k,kij->ij", weights, COVARIANCES + (means - mean)[:, :, None] * (means - mean)[:, None])
        got = measure(draw(N, 1), with_moments(mean, covariance), STRETCHED)["frechet"]
        assert got == pytest.approx(0, abs=3e-6)

    @pytest.mark.parametrize("offset", [0.0, 0.1, 5.0])
    def test_mmd_agrees_with_a_sum(self, offset):
        """E k = 2 pi h^2 N(away; 0, C + h^2 I), by scipy, in float64."""
        fake = draw(N, 2).astype(np.float64) + offset
        means, weights = np.asarray(TARGET.means, np.float64), np.asarray(TARGET.weights, np.float64)
        found = []
        for h in np.asarray(haste.jit(q.bandwidths)(STRETCHED), np.float64):
            normal = lambda c, h=h: scipy.stats.multivariate_normal(np.zeros(2), c + h**2 * np.eye(2))  # noqa: E731
            real = cross = 0.0
            for k in range(8):
                cross += weights[k] * np.mean(normal(COVARIANCES[k]).pdf(fake - means[k]))
                for j in range(8):
                    both = COVARIANCES[k] + COVARIANCES[j]
                    real += weights[k] * weights[j] * float(normal(both).pdf(means[k] - means[j]))
            among = np.exp(-((fake[:, None] - fake) ** 2).sum(axis=-1) / (2 * h**2))
            np.fill_diagonal(among, 0)
            found.append(2 * np.pi * h**2 * (real - 2 * cross) + among.sum() / (N * (N - 1)))
        assert measure(draw(N, 1), fake, STRETCHED)["mmd"] == pytest.approx(np.mean(found), abs=2e-6)

    @pytest.mark.parametrize("ratio", [1e2, 1e3])
    def test_mmd_of_thin_ones(self, ratio):
        """Two that are turned and long: a c - b^2 of float32 entries, their determinant once, was all rounding."""
        angle = np.array([0.7, 2.1])
        along = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        away = np.stack([-along[:, 1], along[:, 0]], axis=1)
        thin = 1 / ratio
        covariances = np.einsum("ki,kj->kij", along, along) + thin**2 * np.einsum("ki,kj->kij", away, away)
        target = targets.mixture([[4.0, 4.0], [4.0, 4.1]], covariances=covariances)
        fake = np.asarray(target.means)[np.arange(N) % 2] + 0.5 * thin * draw(N, 2)
        h2 = thin**2
        want = 0.0
        for k in (0, 1):
            both = covariances[k] + h2 * np.eye(2)
            x = fake.astype(np.float64) - np.asarray(target.means, np.float64)[k]
            square = np.einsum("ni,ij,nj->n", x, np.linalg.inv(both), x)
            want += 0.5 * h2 / np.sqrt(np.linalg.det(both)) * np.exp(-0.5 * square)
        _, across = q._kernel_means(jnp.asarray(fake, jnp.float32), target)
        got = np.asarray(haste.jit(lambda h2: across(h2))(jnp.float32(h2)), np.float64) @ np.array([0.5, 0.5])
        np.testing.assert_allclose(got, want, rtol=2e-3)

    def test_bandwidth_is_the_narrowest_axis(self):
        assert float(haste.jit(q.bandwidths)(STRETCHED)[0]) == pytest.approx(0.05, rel=1e-5)

    @pytest.mark.slow
    def test_a_perfect_generator_has_unit_modes(self):
        """Modes ten apart; std and offset within five standard errors, as for round ones."""
        means = 10 * np.stack([np.arange(8), np.zeros(8)], axis=1)
        target = targets.mixture(means, covariances=COVARIANCES)
        x = jax.jit(lambda t, key: t.sample(key, NUM_IN_MODES))(target, jax.random.key(0))
        got = of_modes(x, target, VEEGAN)
        each = NUM_IN_MODES / 8
        np.testing.assert_allclose(got.mass, (1 - np.exp(-4.5)) / 8, atol=5 * np.sqrt(1 / 8 / NUM_IN_MODES))
        np.testing.assert_allclose(got.std, 1, atol=5 / (2 * q.std_within(3) ** 2 * np.sqrt(each)))
        assert np.all(np.asarray(got.offset) < 5 / np.sqrt(each))
        own = jnp.asarray(means, jnp.float32)[jnp.round(x[:, 0] / 10).astype(int)]
        half = of_modes(own + (x - own) / 2, target, VEEGAN)
        assert np.all(np.asarray(half.std) < 0.6)


class TestGroups:
    MOONS = targets.moons(num_components=64, std=0.1, weights=[1, 3])

    def test_a_perfect_generator_has_unit_modes(self):
        x = jax.jit(lambda t, key: t.sample(key, NUM_IN_MODES))(self.MOONS, jax.random.key(0))
        mass, std, offset = of_modes(x, self.MOONS, VEEGAN)
        assert mass.shape == (2,)
        np.testing.assert_allclose(mass, [0.25, 0.75], atol=0.025)
        np.testing.assert_allclose(std, 1, atol=0.01 + 5 / np.sqrt(4 * NUM_IN_MODES / 4))
        assert np.all(np.asarray(offset) < 5 * np.sqrt(2) / np.sqrt(NUM_IN_MODES / 4))

    def test_by_hand(self):
        """Half of the upper moon alone: mean and spread in the moments of the whole moon, in float64."""
        means = np.asarray(self.MOONS.means, np.float64)[:32]
        covariance = (means - means.mean(0)).T @ (means - means.mean(0)) / 32 + 0.01 * np.eye(2)
        x = np.repeat(means[:16], 10, axis=0) + 0.01 * np.random.default_rng(0).standard_normal((160, 2))
        y = np.linalg.solve(np.linalg.cholesky(covariance), (x - means.mean(0)).T).T
        mass, std, offset = of_modes(jnp.asarray(x, jnp.float32), self.MOONS, VEEGAN)
        np.testing.assert_allclose(mass, [1, 0])
        assert float(std[0]) == pytest.approx(np.sqrt(y.var(axis=0, ddof=1).mean()), rel=1e-4)
        assert float(offset[0]) == pytest.approx(np.linalg.norm(y.mean(axis=0)), rel=1e-4)
        assert np.isnan(std[1])


@pytest.mark.parametrize("std", [0.05, 0.01, 0.003])
@pytest.mark.quick(1)
def test_what_is_measured_of_collapsed_samples(std):
    """All of G at (4, 4) + std N(0, I): width and place of the mode, both distances of moments, against float64."""
    target = targets.mixture([[4.0, 4.0], [-4.0, 4.0]], std)
    normal = np.random.default_rng(5).standard_normal((2, N, 2))
    real = (np.array([4.0, 4.0]) + std * normal[0]).astype(np.float32)
    fake = (np.array([4.0, 4.0]) + 0.5 * std * normal[1]).astype(np.float32)
    exact = fake.astype(np.float64)
    found = of_modes(jnp.asarray(fake), target, VEEGAN)
    away = (exact - np.asarray(target.means, np.float64)[0]) / float(np.float32(std))
    inside = away[np.linalg.norm(away, axis=1) <= 3]
    assert float(found.std[0]) == pytest.approx(np.sqrt(inside.var(axis=0, ddof=1).mean()) / q.std_within(3), rel=1e-4)
    assert float(found.offset[0]) == pytest.approx(np.linalg.norm(inside.mean(axis=0)), abs=2e-4)
    got = measure(real, fake, target)
    covariance = np.diag([16.0, 0.0]) + std**2 * np.eye(2)
    own = np.cov(exact.T)
    root = np.real(scipy.linalg.sqrtm(covariance @ own))
    want = ((exact.mean(axis=0) - [0, 4]) ** 2).sum() + np.trace(covariance + own - 2 * root)
    assert got["frechet"] == pytest.approx(want, rel=1e-5)
    assert got["mmd"] == pytest.approx(mmd_by_hand(exact, target), abs=2e-6)
    one = targets.mixture([[4.0, 4.0]], std)
    _, moments = q._sample_moments(jnp.asarray(fake))
    np.testing.assert_allclose(moments, own, rtol=1e-4, atol=1e-5 * std**2)
    narrow = measure(real, fake, one)["frechet"]
    exact_narrow = ((exact.mean(axis=0) - 4) ** 2).sum() + np.trace(
        std**2 * np.eye(2) + own - 2 * np.real(scipy.linalg.sqrtm(std**2 * own))
    )
    assert narrow == pytest.approx(exact_narrow, rel=2e-4)


def test_std_within_a_ball():
    """In one dimension the truncated normal's; in the plane as integrated; in three by its chi distribution."""
    assert q.std_within(2.0, 1) == pytest.approx(scipy.stats.truncnorm(-2, 2).std(), rel=1e-9)
    r = np.linspace(0, 2, 200_001)
    for dim in (2, 3):
        density = r ** (dim - 1) * np.exp(-(r**2) / 2)
        want = np.sqrt(np.trapezoid(r**2 * density, r) / np.trapezoid(density, r) / dim)
        assert q.std_within(2.0, dim) == pytest.approx(want, rel=1e-8)


class TestOtherTargets:
    """Without means and stds: what is exact for mixtures is estimated from the real samples."""

    BOARD = targets.checkerboard()

    def test_estimates_agree_with_plain_numpy(self):
        real, fake = draw(N, 1), draw(N, 2) * np.float32(0.9)
        got = measure(real, fake, self.BOARD)
        exact = measure(real, fake)
        for name in (*NEIGHBOURS, "sliced_w2"):
            assert got[name] == exact[name]
        s, t = np.cov(real.T.astype(np.float64)), np.cov(fake.T.astype(np.float64))
        away = real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
        want = away @ away + np.trace(s + t - 2 * np.real(scipy.linalg.sqrtm(s @ t)))
        assert got["frechet"] == pytest.approx(want, rel=1e-3)
        found = []
        for h in (float(self.BOARD.scale()), np.sqrt(np.trace(s) / 2)):
            kernel = lambda x, y, h=h: np.exp(-((x[:, None] - y) ** 2).sum(-1, dtype=np.float64) / (2 * h**2))  # noqa: E731
            pairs = N * (N - 1)
            among = (kernel(real, real).sum() - N) / pairs + (kernel(fake, fake).sum() - N) / pairs
            found.append(among - 2 * kernel(fake, real).mean())
        assert got["mmd"] == pytest.approx(np.mean(found), abs=2e-6)


class TestSlicedW2:
    def test_of_a_shift(self):
        real = draw(N, 1)
        for shift in ([0.3, 0.0], [-0.3, 0.4]):
            want = np.linalg.norm(shift) / np.sqrt(2)
            assert measure(real, real + np.array(shift))["sliced_w2"] == pytest.approx(want, rel=1e-5)

    def test_of_a_scaling(self):
        """W2^2 along a is (c - 1)^2 mean <a, x>^2; over all directions, half of (c - 1)^2 mean |x|^2."""
        real = draw(N, 1)
        want = 0.5 * np.sqrt(np.mean(np.sum(real.astype(np.float64) ** 2, axis=1)) / 2)
        assert measure(real, 1.5 * real)["sliced_w2"] == pytest.approx(want, rel=1e-5)

    def test_agrees_with_plain_sorting(self):
        real, fake = draw(N, 1) - [3, 1], draw(N, 2) - [3, 1.1]  # projections of both signs
        angle = np.pi * (np.arange(32) + 0.5) / 32
        directions = np.stack([np.cos(angle), np.sin(angle)])
        gaps = np.sort(real @ directions, axis=0) - np.sort(fake @ directions, axis=0)
        assert measure(real, fake)["sliced_w2"] == pytest.approx(np.sqrt(np.mean(gaps**2)), rel=1e-4)

    def test_order_of_floats(self):
        values = np.array([[0.0, -0.0, 1e-30, -1e-30, 3e38, -3e38, np.inf, -np.inf, 1.5, -1.5]], np.float32)
        np.testing.assert_array_equal(q._sorted(jnp.asarray(values)), np.sort(values))


class TestNotFinite:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
    def test_match_nothing(self, bad):
        real, fake = draw(N, 1), draw(N, 2)
        half = fake.copy()
        half[::2, 1] = bad
        got, whole = measure(real, half), measure(real, fake)
        inside = by_hand(real, fake[1::2])
        assert got["precision"] == pytest.approx(inside["precision"] / 2, abs=1e-6)
        assert got["density"] == pytest.approx(inside["density"] / 2, abs=1e-6)
        assert got["coverage"] == pytest.approx(inside["coverage"], abs=1e-6)
        assert got["coverage"] < whole["coverage"] - 0.05
        assert got["recall"] == pytest.approx(inside["recall"], abs=1e-6)
        everything = measure(real, np.full((N, 2), bad))
        assert [everything[name] for name in NEIGHBOURS] == [0] * 4
        if not np.isfinite(bad):
            assert [x[name] for x in (got, everything) for name in DISTANCES] == [np.inf] * 6
        else:  # finite, and farther than float32 can square
            assert got["frechet"] == got["sliced_w2"] == np.inf
            assert got["mmd"] > 10 * abs(whole["mmd"])

    def test_fewer_than_k_neighbours_make_no_ball(self):
        fake = np.full((N, 2), np.nan)
        fake[:K] = draw(K, 2)
        assert measure(draw(N, 1), fake)["recall"] == 0

    def test_belong_to_no_mode(self):
        x = draw(NUM_IN_MODES, 2)
        x[::3, 0] = np.nan
        got = of_modes(jnp.asarray(x), TARGET, VEEGAN)
        kept = np.delete(x, np.s_[::3], axis=0)
        want = stats_by_hand(kept, TARGET, VEEGAN.cover_radius)
        np.testing.assert_allclose(got.mass, want[0] * len(kept) / len(x), rtol=1e-6)
        np.testing.assert_allclose(got.std, want[1], rtol=1e-4)

    def test_no_verdict_on_copying(self):
        x = jnp.asarray(draw(N, 1))
        assert all(np.isnan(memorization(x.at[0, 0].set(jnp.nan), x, jnp.asarray(draw(N, 2)))))


def test_one_at_a_time_or_many():
    real, fake = (jnp.asarray(np.stack([draw(N, i), draw(N, i + 1)])) for i in (1, 5))
    both = haste.jit(jax.vmap(lambda real, fake: q.quality(real, fake, TARGET)))(real, fake)
    for i in range(2):
        want = measure(real[i], fake[i])
        assert {name: float(x[i]) for name, x in both._asdict().items()} == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_what_is_refused():
    x = jnp.zeros((10, 2))
    for bad in (0, 10, 2.5):
        with pytest.raises(ValueError, match="k: got"):
            q.quality(x, x, TARGET, k=bad)  # pyright: ignore[reportArgumentType]
    for shape in ((9, 2), (10, 3), (10,)):
        with pytest.raises(ValueError, match="fake: got shape"):
            q.quality(x, jnp.zeros(shape), TARGET)
    with pytest.raises(ValueError, match="fresh: got shape"):
        q.memorization(x, x, x[:5])
    for name, window, least in (("window", 0, 0.1), ("least", 3, 0.0), ("least", 3, 1.5)):
        with pytest.raises(ValueError, match=f"{name}: got"):
            q.modes_visited(np.ones((4, 2)), window, least)


def stats_by_hand(x: np.ndarray, target, radius: float) -> list[np.ndarray]:
    """Mass, std and offset of each mode, from the definitions in float64."""
    means, stds = np.asarray(target.means, np.float64), np.asarray(target.stds, np.float64)
    distance = np.linalg.norm(x.astype(np.float64)[:, None] - means, axis=-1)
    nearest = distance.argmin(axis=1)
    r = np.linspace(0, radius, 20_001)
    density = r * np.exp(-(r**2) / 2)
    per_coordinate = np.trapezoid(r**2 * density, r) / np.trapezoid(density, r) / 2
    found = []
    for mode in range(len(means)):
        own = x[(nearest == mode) & (distance[:, mode] <= radius * stds[mode])].astype(np.float64)
        std = np.sqrt(own.var(axis=0, ddof=1).mean() / per_coordinate) / stds[mode] if len(own) > 1 else np.nan
        offset = np.linalg.norm(own.mean(axis=0) - means[mode]) / stds[mode] if len(own) else np.nan
        found.append((len(own) / len(x), std, offset))
    return list(np.array(found).T)


class TestModeStats:
    @pytest.mark.parametrize("name", ["veegan", "dyngan_1"])
    def test_agrees_with_the_definitions(self, name):
        x = draw(NUM_IN_MODES, 1)
        got = of_modes(jnp.asarray(x), TARGET, CONVENTIONS[name])
        for one, want in zip(got, stats_by_hand(x, TARGET, CONVENTIONS[name].cover_radius)):
            np.testing.assert_allclose(one, want, rtol=2e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["veegan", "dyngan_1"])
    def test_a_perfect_generator(self, name):
        """Mass, std and offset of exact samples, within five standard errors."""
        convention, num = CONVENTIONS[name], NUM_IN_MODES
        got = of_modes(jnp.asarray(draw(num, 1, RING)), RING, convention)
        inside = 1 - np.exp(-(convention.cover_radius**2) / 2)
        mass = inside / 8
        each = num * mass
        cut = q.std_within(convention.cover_radius)
        np.testing.assert_allclose(got.mass, mass, atol=5 * np.sqrt(mass / num))
        # The variance of |x|^2 is below that of the whole Gaussian, 4: sd of the std below 1 / (2 cut^2 sqrt(n)).
        np.testing.assert_allclose(got.std, 1, atol=5 / (2 * cut**2 * np.sqrt(each)))
        assert np.all(np.asarray(got.offset) < 5 * cut / np.sqrt(each))

    def test_collapse_and_shift_inside_a_mode(self):
        """A tenth of the std, one std off: nothing is cut, so the std reads too wide by the correction."""
        normal = np.random.default_rng(0).standard_normal((NUM_IN_MODES, 2))
        x = np.asarray(RING.means)[3] + 0.02 * (0.1 * normal + [1, 0])
        got = of_modes(jnp.asarray(x, jnp.float32), RING, VEEGAN)
        assert float(got.std[3]) == pytest.approx(0.1 / q.std_within(3), rel=5 / np.sqrt(4 * NUM_IN_MODES))
        assert float(got.offset[3]) == pytest.approx(1, abs=5 * 0.1 / np.sqrt(NUM_IN_MODES))
        assert 1 / q.std_within(3) == pytest.approx(1.0263, abs=1e-4)
        assert 1 / q.std_within(1) == pytest.approx(2.0885, abs=1e-4)

    def test_too_few_samples(self):
        """Two samples in mode 0, one in mode 1, none elsewhere."""
        x = np.full((NUM_IN_MODES, 2), np.nan)
        x[:3] = np.asarray(RING.means)[[0, 0, 1]] + np.array([[0.01, 0], [-0.01, 0], [0, 0.02]])
        mass, std, offset = of_modes(jnp.asarray(x, jnp.float32), RING, VEEGAN)
        np.testing.assert_allclose(mass, np.array([2, 1] + [0] * 6) / NUM_IN_MODES, rtol=1e-6)
        np.testing.assert_allclose(std[:2], [0.5 / q.std_within(3), np.nan], rtol=1e-4)
        np.testing.assert_allclose(offset[:2], [0, 1], atol=1e-4)
        assert np.all(np.isnan(std[2:])) and np.all(np.isnan(offset[2:]))  # noqa: PT018

    def test_classes(self):
        """Samples at modes 0 and 1 that are all labelled class 0: those at mode 1 count nowhere."""
        x = jnp.asarray(np.asarray(RING.means)[[0, 0, 1, 1]])
        mass = of_modes(x, RING, VEEGAN, jnp.zeros(4, jnp.int32), 2).mass
        np.testing.assert_allclose(mass, [0.5] + [0] * 7)


class TestModesVisited:
    # Three modes; mass goes round, one is not measured, the last step holds two.
    MASS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [np.nan] * 3, [0, 1, 0], [0.5, 0.5, 0]], float)

    def test_by_hand(self):
        nan = np.nan
        np.testing.assert_array_equal(q.modes_held(self.MASS, 0.1), [1, 1, 1, nan, 1, 2])
        np.testing.assert_array_equal(q.modes_visited(self.MASS, 1, 0.1), [1, 1, 1, nan, 1, 2])
        np.testing.assert_array_equal(q.modes_visited(self.MASS, 2, 0.1), [1, 2, 2, nan, 1, 2])
        np.testing.assert_array_equal(q.modes_visited(self.MASS, 3, 0.1), [1, 2, 3, nan, 2, 2])
        np.testing.assert_array_equal(q.modes_visited(self.MASS, 100, 0.1), [1, 2, 3, nan, 3, 3])
        np.testing.assert_array_equal(q.modes_held(self.MASS, 0.6), [1, 1, 1, nan, 1, 0])

    def test_agrees_with_a_loop(self):
        rng = np.random.default_rng(0)
        mass = rng.dirichlet(np.full(8, 0.2), size=(3, 2, 20))
        mass[0, 0, rng.integers(20, size=5)] = np.nan
        mass[1, :, :, 5:] = np.nan  # runs on a target of five modes
        got = q.modes_visited(mass, 4, 0.05)
        for index in np.ndindex(3, 2, 20):
            *run, step = index
            window = np.nan_to_num(mass[tuple(run)][max(0, step - 3) : step + 1]) >= 0.05
            want = np.nan if np.isnan(mass[index]).all() else window.any(axis=0).sum()
            np.testing.assert_equal(got[index], want)

    def test_standing_still_is_no_cycling(self):
        still = np.tile(np.random.default_rng(0).dirichlet(np.ones(8)), (10, 1))
        np.testing.assert_array_equal(q.modes_visited(still, 5) - q.modes_held(still), 0)


class TestMemorization:
    def test_agrees_with_the_definitions(self):
        fake, data, fresh = (draw(N, seed) for seed in (1, 2, 3))
        fake = np.concatenate([fake[: N // 2], data[: N // 2]])  # copies and ties

        def nearest(x, points):
            return np.linalg.norm(x[:, None].astype(np.float64) - points[None], axis=-1).min(axis=1)

        got = memorization(*map(jnp.asarray, (fake, data, fresh)))
        want = np.median(nearest(fake, data)) / np.median(nearest(fake, fresh))
        assert float(got.memorization) == pytest.approx(want, rel=1e-5)
        u = scipy.stats.mannwhitneyu(nearest(fake, data), nearest(fresh, data)).statistic
        want = (u - N * N / 2) / np.sqrt(N * N * (2 * N + 1) / 12)
        assert float(got.data_copying) == pytest.approx(want, abs=1e-2)  # float32 may part or make ties

    def test_copies(self):
        data, fresh = jnp.asarray(draw(N, 2)), jnp.asarray(draw(N, 3))
        got = memorization(data[::-1], data, fresh)
        assert float(got.memorization) == 0
        assert float(got.data_copying) == pytest.approx(-np.sqrt(3 * N * N / (2 * N + 1)), rel=1e-5)

    def test_real_samples(self):
        """Over 100 draws: the Z score has mean 0 and variance 1 (five standard errors), the ratio is about 1."""
        rng = np.random.default_rng(0)
        sets = (rng.standard_normal((3, N, 2)).astype(np.float32) for _ in range(100))
        ratio, score = np.array([memorization(*map(jnp.asarray, one)) for one in sets]).T
        assert abs(score.mean()) < 5 / np.sqrt(100)
        assert score.var() == pytest.approx(1, abs=5 * np.sqrt(2 / 100))
        # The mean of a ratio is above the ratio of means by its relative variance.
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(100) + ratio.var()


TABLE = runpy.run_path(str(ROOT / "benchmarks" / "metrics_table.py"))


@functools.cache
def figures() -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    return TABLE["figures"]()


# Which way each metric moves where one measurement shows it, and '.' where it is blind:
# mode dropped, mode shrunk, all modes shrunk, noise, mass skewed, mode shifted, training points copied.
# The std and the offset of a mode that is dropped are NaN, which is neither.
EXPECTED = {
    "modes": "↓......",
    "high_quality": "..↑↓...",
    "mode_tv": "↑..↑↑..",
    "reverse_kl": "↑...↑..",
    "precision": "...↓...",
    "recall": "↓↓↓....",
    "density": "...↓...",
    "coverage": "↓↓↓↓...",
    "frechet": "↑...↑..",
    "mmd": "↑↑↑↑↑↑.",
    "sliced_w2": "↑...↑..",
    "mode_mass": "↓..↓↑..",
    "mode_std": ".↓↓↑...",
    "mode_offset": ".....↑.",
    "memorization": "......↓",
    "data_copying": "..↓↑..↓",
}


class TestSensitivity:
    def test_every_metric_has_a_row(self):
        assert list(EXPECTED) == list(TABLE["DECIMALS"])
        assert {*q.QUALITY, *q.MODE_STATS} == set(EXPECTED) - {"modes", "high_quality", "mode_tv", "reverse_kl"}
        assert list(q.QUALITY) == [*q.Quality._fields, *q.Memorization._fields]
        assert list(q.MODE_STATS) == [f"mode_{name}" for name in q.ModeStats._fields]

    @pytest.mark.parametrize("name", EXPECTED)
    @pytest.mark.slow
    def test_moves_the_documented_way(self, name):
        real, changes = figures()
        got = [TABLE["arrow"](value, real[name]) or "." for value in changes[name]]
        assert "".join(got) == EXPECTED[name]

    @pytest.mark.slow
    def test_a_mode_without_samples_has_no_shape(self):
        _, changes = figures()
        assert np.isnan(changes["mode_std"][0])
        assert np.isnan(changes["mode_offset"][0])

    def test_the_table_in_the_docs(self):
        """Each number to one unit of the last digit shown; arrows exactly."""
        want = TABLE["table"](*figures()).splitlines()
        first = DOCS.splitlines().index(want[0])
        for line, row in zip(DOCS.splitlines()[first : first + len(want)], want, strict=True):
            for shown, cell in zip(line.split("|"), row.split("|"), strict=True):
                for one, other in zip(shown.split(), cell.split(), strict=True):
                    try:
                        unit = 10.0 ** -len(other.partition(".")[2])
                        assert float(one) == pytest.approx(float(other), abs=1.01 * unit, nan_ok=True), row
                    except ValueError:
                        assert one == other, row

    def test_every_metric_is_explained(self):
        for name in EXPECTED:
            assert f"\n| `{name}` |" in DOCS


NUM, NUM_REAL = TABLE["NUM"], TABLE["NUM_REAL"]
HIGH_QUALITY = 1 - np.exp(-4.5)
EXACT = {
    "modes": 8,
    "high_quality": HIGH_QUALITY,
    "reverse_kl": 7 / (2 * NUM),
    "density": 1,
    "coverage": 1 - np.prod([(NUM - i) / (2 * NUM - i) for i in range(1, K + 1)]),
    "frechet": 1.25 / NUM,
    "mmd": 0,
    "mode_mass": HIGH_QUALITY / 8,
    "mode_std": 1,
    "data_copying": 0,
}
"""What real samples get on average."""


class TestRealSamples:
    @pytest.mark.parametrize("name", EXACT)
    def test_closed_form(self, name):
        """By the mean of 12 sets of 2,500 samples, within five standard errors."""
        found = figures()[0][name]
        assert abs(found.mean() - EXACT[name]) <= 5 * found.std(ddof=1) / np.sqrt(NUM_REAL) + 1e-6

    def test_frechet_of_one_gaussian(self):
        """(tr S + 3/2 s^2) / N = 3.5 s^2 / N to first order in 1 / N; the next is below 1 %."""
        rng = np.random.default_rng(0)
        x = jnp.asarray(0.5 * rng.standard_normal((1000, NUM // 5, 2)) + [1.0, -2.0], jnp.float32)
        found = np.asarray(haste.jit(lambda x: jax.lax.map(lambda x: q._frechet(x, q._moments(GAUSSIAN)), x))(x))
        want = 3.5 * 0.25 / (NUM // 5)
        assert abs(found.mean() - want) < 5 * found.std() / np.sqrt(1000) + 0.01 * want
