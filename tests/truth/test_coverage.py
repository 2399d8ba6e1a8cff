import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance

from gandyn.gan import targets
from gandyn.gan.targets import GaussianMixture
from gandyn.truth.coverage import CONVENTIONS, Convention, coverage, label_accuracy, nearest_mode, real_mass

# Known values: mass of a 2D Gaussian within this many std.
MASS = {1: 0.393469, 2: 0.864665, 3: 0.988891, 4: 0.999665}

RING = targets.ring(num_modes=8, radius=1.0, std=0.02)  # modes 38 std apart: no sample is near two
VEEGAN = CONVENTIONS["veegan"]

sample = jax.jit(GaussianMixture.sample, static_argnums=2)
compiled = jax.jit(coverage, static_argnums=2)


def measure(x, target: GaussianMixture = RING, convention: Convention = VEEGAN) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in compiled(jnp.asarray(x, jnp.float32), target, convention)._asdict().items()
        if name != "covered"
    }


def least_of(convention: Convention, weights: np.ndarray) -> np.ndarray:
    """Share of all samples that covers each mode."""
    return np.maximum(convention.cover_share, convention.cover_weight * weights)


def by_hand(x: np.ndarray, target: GaussianMixture, convention: Convention) -> dict[str, float]:
    """One sample at a time, in float64, from the definitions."""
    means, stds, weights = (np.asarray(part, np.float64) for part in (target.means, target.stds, target.weights))
    k, n = len(means), len(x)
    member, valid, good = np.zeros(k), np.zeros(k), 0
    for point in x.astype(np.float64):
        distance = np.linalg.norm(point - means, axis=1)
        if not np.isfinite(distance).all():
            continue
        mode = int(distance.argmin())
        member[mode] += 1
        valid[mode] += distance[mode] <= convention.cover_radius * stds[mode]
        good += distance[mode] <= convention.quality_radius * stds[mode]
    share = member / n
    return {
        "modes": float(np.sum((valid > 0) & (valid >= least_of(convention, weights) * n))),
        "high_quality": good / n,
        "mode_tv": 0.5 * np.sum(np.abs(valid / n - weights)) + 0.5 * (1 - valid.sum() / n),
        "reverse_kl": float(sum(p * np.log(p / w) for p, w in zip(share, weights) if p > 0)),
    }


def draw(num: int, seed: int = 0, target: GaussianMixture = RING) -> np.ndarray:
    return np.asarray(sample(target, jax.random.key(seed), num))


@pytest.mark.parametrize("name", CONVENTIONS)
class TestConventions:
    @pytest.mark.quick(2)
    def test_real_samples_reach_the_gaussian_mass(self, name):
        convention = CONVENTIONS[name]
        n = convention.num_samples
        mass = 1 - np.exp(-(convention.quality_radius**2) / 2)
        assert mass == pytest.approx(MASS[int(convention.quality_radius)], abs=1e-6)
        got = measure(draw(n, seed=1), convention=convention)
        assert abs(got["high_quality"] - mass) < 5 * np.sqrt(mass * (1 - mass) / n)  # five sigma
        assert got["modes"] == 8

    @pytest.mark.quick(2)
    def test_agrees_with_the_definitions(self, name):
        convention = CONVENTIONS[name]
        target = targets.mixture([[0, 0], [1, 0], [0, 2]], [0.1, 0.3, 0.2], [1, 2, 5])
        x = draw(400, seed=2, target=target) + 0.2 * np.random.default_rng(0).standard_normal((400, 2))
        x = x.astype(np.float32)
        assert measure(x, target, convention) == pytest.approx(by_hand(x, target, convention), rel=1e-5, abs=1e-6)
        x[:5] = np.nan
        x[5] = np.inf
        got, want = measure(x, target, convention), by_hand(x, target, convention)
        for metric in ("modes", "high_quality", "mode_tv"):
            assert got[metric] == pytest.approx(want[metric], rel=1e-5, abs=1e-6)


def test_published_conventions():
    """Known values: radii for quality and cover, share of all samples, number of samples."""
    assert {name: tuple(convention)[:4] for name, convention in CONVENTIONS.items()} == {
        "mass": (3, 3, 0.0, 2500),
        "veegan": (3, 3, 0.0, 2500),
        "share": (3, 3, 0.01, 10_000),
        "dyngan_1": (1, 1, 0.0, 2500),
        "dyngan_2": (2, 1, 0.0, 2500),
        "dyngan_3": (3, 1, 0.0, 2500),
        "top_k": (4, 4, 0.0, 10_000),
    }


def test_share_covers_at_one_per_cent_and_not_below():
    """Known values: a mode counts as covered when *at least* 1 % of all samples are valid in it."""
    target = targets.line(2, spacing=1.0, std=0.1)
    means = np.asarray(target.means)
    for num, modes in ((99, 1), (101, 2), (100, 2)):
        x = np.concatenate([np.repeat(means[:1], 10_000 - num, axis=0), np.repeat(means[1:], num, axis=0)])
        assert measure(x, target, CONVENTIONS["share"])["modes"] == modes, num


class TestRightDirection:
    N = 2500

    def test_dropped_mode(self):
        full, x = measure(draw(self.N)), draw(self.N)
        mode = np.asarray(nearest_mode(jnp.asarray(x), RING)[0])
        dropped = x.copy()
        dropped[mode == 3] = x[mode == 4][0]
        got = measure(dropped)
        assert got["modes"] == full["modes"] - 1 == 7
        assert got["mode_tv"] > full["mode_tv"] + 0.1
        assert got["reverse_kl"] > full["reverse_kl"] + 0.05

    @pytest.mark.parametrize("k", [1, 2, 4, 7, 8])
    @pytest.mark.quick(2)
    def test_k_of_eight_modes(self, k):
        x = np.repeat(np.asarray(RING.means)[:k], 50, axis=0)
        got = measure(x)
        assert got["modes"] == k
        assert got["high_quality"] == 1
        assert got["reverse_kl"] == pytest.approx(np.log(8 / k), abs=1e-6)
        assert got["mode_tv"] == pytest.approx(1 - k / 8, abs=1e-6)

    def test_shrinking_is_over_concentration(self):
        x = draw(self.N)
        mode = np.asarray(nearest_mode(jnp.asarray(x), RING)[0])
        means = np.asarray(RING.means)[mode]
        real, shrunk = measure(x), measure(means + 0.5 * (x - means))
        assert shrunk["high_quality"] > MASS[3] + 5 * np.sqrt(MASS[3] * (1 - MASS[3]) / self.N)
        assert shrunk["high_quality"] > real["high_quality"]
        assert shrunk["modes"] == 8
        assert shrunk["mode_tv"] < real["mode_tv"]  # no invalid mass left
        assert shrunk["reverse_kl"] == pytest.approx(real["reverse_kl"], abs=1e-6)

    def test_noise_lowers_quality(self):
        x = draw(self.N)
        noise = 0.06 * np.random.default_rng(0).standard_normal(x.shape)
        real, noisy = measure(x), measure(x + noise)
        # Std sqrt(1 + 9) of the target's: mass 1 - exp(-0.45) = 0.362 within 3 of its std; five sigma.
        mass = 1 - np.exp(-4.5 / 10)
        assert abs(noisy["high_quality"] - mass) < 5 * np.sqrt(mass * (1 - mass) / self.N)
        assert noisy["mode_tv"] > real["mode_tv"] + 0.2
        assert noisy["modes"] == 8

    def test_skew_moves_the_weights_only(self):
        skewed = targets.ring(num_modes=8, radius=1.0, std=0.02, weights=[8, 1, 1, 1, 1, 1, 1, 1])
        x = draw(self.N, target=skewed)
        real, got = measure(draw(self.N)), measure(x)
        assert got["modes"] == 8
        assert abs(got["high_quality"] - real["high_quality"]) < 0.02
        # In the limit: TV 8/15 - 1/8 (and half of the 1.1 % invalid), KL log 8 - entropy.
        p = np.array([8] + [1] * 7) / 15
        assert got["mode_tv"] == pytest.approx(8 / 15 - 1 / 8, abs=0.04)
        assert got["reverse_kl"] == pytest.approx(np.sum(p * np.log(8 * p)), abs=0.06)
        # Against the right weights the same samples are as good as real ones.
        assert measure(x, skewed)["mode_tv"] < 0.05


def test_mode_tv_by_hand():
    """Two modes of weight 3/4 and 1/4; four samples: two valid in the first, one valid in the second, one nowhere.

    TV = (|1/2 - 3/4| + |1/4 - 1/4|) / 2 + (1/4) / 2 = 1/4; the stray one is nearest to the first, so KL = 0.
    """
    target = targets.mixture([[0.0, 0.0], [10.0, 0.0]], 1.0, [3, 1])
    got = measure([[0.0, 0.0], [1.0, 1.0], [10.0, 2.0], [0.0, 4.0]], target)
    assert got == pytest.approx({"modes": 2, "high_quality": 0.75, "mode_tv": 0.25, "reverse_kl": 0}, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_that_are_not_finite_are_invalid_not_left_out(bad):
    x = draw(400)
    half = x.copy()
    half[::2, 1] = bad
    got, good = measure(half), measure(x[1::2])
    assert got["high_quality"] == pytest.approx(0.5 * good["high_quality"], abs=1e-6)
    assert got["modes"] == good["modes"] == 8
    assert got["mode_tv"] >= 0.5
    everything = measure(np.full((100, 2), bad))
    assert everything["high_quality"] == 0
    assert everything["modes"] == 0
    assert everything["mode_tv"] == pytest.approx(1, abs=1e-6)


def test_reverse_kl_of_samples_that_are_not_finite_does_not_look_good():
    real = measure(draw(400))["reverse_kl"]
    for share in (0.5, 0.9, 1.0):
        x = draw(400).copy()
        x[: int(400 * share)] = np.nan
        got = measure(x)["reverse_kl"]
        assert not got <= real, f"{share:.0%} of the samples are NaN, and reverse_kl is {got} (real samples: {real})"


def test_nearest_is_by_euclidean_distance_and_counted_in_that_modes_std():
    target = targets.mixture([[0.0, 0.0], [4.0, 0.0]], [0.1, 2.0])
    mode, distance = nearest_mode(jnp.asarray([[1.0, 0.0], [3.0, 0.0]]), target)
    np.testing.assert_array_equal(mode, [0, 1])
    np.testing.assert_allclose(distance, [10, 0.5], rtol=1e-6)


def rotated(angle: float, *stds: float) -> np.ndarray:
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return axes @ np.diag(np.square(stds)) @ axes.T


class TestFullCovariances:
    MEANS = np.array([[0, 0], [1, 0], [0, 1.0]])
    COVARIANCES = np.array([rotated(0.7, 0.6, 0.05), rotated(-0.4, 0.2, 0.2), rotated(2.0, 0.3, 0.1)])
    TARGET = targets.mixture(MEANS, covariances=COVARIANCES, weights=[1, 2, 5])

    @pytest.mark.parametrize("name", CONVENTIONS)
    @pytest.mark.quick(2)
    def test_agrees_with_the_definitions(self, name):
        """Nearest by Mahalanobis' distance, counted in it; one sample at a time, in float64."""
        convention = CONVENTIONS[name]
        x = draw(400, seed=2, target=self.TARGET) + 0.1 * np.random.default_rng(0).standard_normal((400, 2))
        x = x.astype(np.float32)
        member, valid, good = np.zeros(3), np.zeros(3), 0
        for point in x.astype(np.float64):
            distance = [scipy.spatial.distance.mahalanobis(point, m, np.linalg.inv(c)) for m, c in self.modes()]
            mode = int(np.argmin(distance))
            member[mode] += 1
            valid[mode] += distance[mode] <= convention.cover_radius
            good += distance[mode] <= convention.quality_radius
        weights, share = np.array([1, 2, 5]) / 8, member / 400
        got = measure(x, self.TARGET, convention)
        assert got == pytest.approx(
            {
                "modes": np.sum(
                    (valid > 0) & (valid >= np.maximum(convention.cover_share, convention.cover_weight * weights) * 400)
                ),
                "high_quality": good / 400,
                "mode_tv": 0.5 * np.abs(valid / 400 - weights).sum() + 0.5 * (1 - valid.sum() / 400),
                "reverse_kl": np.sum(share * np.log(share / weights)),
            },
            rel=1e-4,
            abs=1e-6,
        )

    def modes(self):
        return zip(self.MEANS, self.COVARIANCES)

    def test_along_a_thin_mode_its_own_samples_count(self):
        """2.5 std out along the long axis: nearer to another's mean, and 25 std from it."""
        target = targets.mixture([[0, 0], [1, 0.5]], covariances=[np.diag([0.25, 1e-4]), 4e-4 * np.eye(2)])
        mode, distance = nearest_mode(jnp.asarray([[1.25, 0.0]]), target)
        assert (int(mode[0]), float(distance[0])) == (0, pytest.approx(2.5, rel=1e-5))

    def test_round_ones_are_the_isotropic_mixture(self):
        same = targets.mixture(RING.means, covariances=4e-4 * np.eye(2))
        x = draw(1000) + np.float32(0.01)
        assert measure(x, same) == pytest.approx(measure(x), abs=1e-6)

    def test_real_samples_reach_the_gaussian_mass(self):
        far = targets.mixture(10 * self.MEANS, covariances=self.COVARIANCES)
        got = measure(draw(2500, seed=1, target=far), far)
        assert abs(got["high_quality"] - MASS[3]) < 5 * np.sqrt(MASS[3] * (1 - MASS[3]) / 2500)
        assert got["modes"] == 3


class TestGroups:
    """A mode of several components: the one of the nearest component, within so many of its std."""

    @pytest.mark.parametrize("name", CONVENTIONS)
    @pytest.mark.quick(2)
    def test_agrees_with_the_definitions(self, name):
        convention = CONVENTIONS[name]
        groups = np.array([0, 1, 0, 2, 1])
        means = np.random.default_rng(3).uniform(-1, 1, (5, 2))
        target = targets.mixture(means, [0.1, 0.2, 0.3, 0.2, 0.1], [1, 2, 3, 4, 5], groups=groups)
        x = draw(400, seed=2, target=target) + 0.1 * np.random.default_rng(0).standard_normal((400, 2))
        x = x.astype(np.float32)
        stds, member, valid, good = np.asarray(target.stds, np.float64), np.zeros(3), np.zeros(3), 0
        for point in x.astype(np.float64):
            distance = np.linalg.norm(point - np.asarray(target.means, np.float64), axis=1)
            component = int(distance.argmin())
            within = distance[component] / stds[component]
            member[groups[component]] += 1
            valid[groups[component]] += within <= convention.cover_radius
            good += within <= convention.quality_radius
        weights, share = np.array([4, 7, 4]) / 15, member / 400
        assert measure(x, target, convention) == pytest.approx(
            {
                "modes": np.sum(
                    (valid > 0) & (valid >= np.maximum(convention.cover_share, convention.cover_weight * weights) * 400)
                ),
                "high_quality": good / 400,
                "mode_tv": 0.5 * np.abs(valid / 400 - weights).sum() + 0.5 * (1 - valid.sum() / 400),
                "reverse_kl": np.sum(share * np.log(share / weights)),
            },
            rel=1e-4,
            abs=1e-6,
        )

    def test_one_moon_of_two(self):
        moons = targets.moons()
        x = np.asarray(moons.means)[:64]
        got = measure(x, moons)
        assert (got["modes"], got["high_quality"]) == (1, 1)
        assert got["mode_tv"] == pytest.approx(0.5, abs=1e-5)
        assert got["reverse_kl"] == pytest.approx(np.log(2), abs=1e-5)
        accuracy = jax.jit(lambda x, labels: label_accuracy(x, moons, labels, 2))
        covered = jax.jit(lambda x, labels: coverage(x, moons, VEEGAN, labels, 2).covered)
        labels = jnp.ones(64, jnp.int32)
        assert (float(accuracy(x, labels)), float(accuracy(x, 0 * labels))) == (0, 1)
        np.testing.assert_array_equal(covered(x, labels), [0, 0])
        np.testing.assert_array_equal(covered(x, 0 * labels), [1, 0])


class TestClasses:
    """Ring of eight in two classes: modes 0, 2, 4, 6 and 1, 3, 5, 7."""

    X = np.asarray(RING.means)[[0, 2, 4, 1, 1, 3]].astype(np.float32)

    def found(self, labels):
        labels = jnp.asarray(labels)
        return coverage(jnp.asarray(self.X), RING, VEEGAN, labels, 2), label_accuracy(
            jnp.asarray(self.X), RING, labels, 2
        )

    @pytest.mark.slow
    def test_right_labels(self):
        got, accuracy = self.found([0, 0, 0, 1, 1, 1])
        np.testing.assert_array_equal(got.covered, [1, 1, 1, 1, 1, 0, 0, 0])
        assert float(got.modes) == 5
        assert float(got.high_quality) == float(accuracy) == 1

    def test_a_mode_is_covered_by_samples_of_its_own_class_alone(self):
        got, accuracy = self.found([0, 0, 1, 1, 0, 0])
        np.testing.assert_array_equal(got.covered, [1, 1, 1, 0, 0, 0, 0, 0])
        assert float(got.high_quality) == float(accuracy) == pytest.approx(3 / 6)

    def test_what_is_not_finite_has_no_class(self):
        x = jnp.full((4, 2), jnp.nan)
        assert float(label_accuracy(x, RING, jnp.zeros(4, jnp.int32), 2)) == 0


class TestRealMass:
    """What real samples put into each mode, which masses are compared with."""

    def test_is_weight_times_what_lies_within_the_radius(self):
        target = targets.ring(8, 1.0, 0.02)
        for radius in (1, 3):
            got = real_mass(jnp.asarray(draw(2**14, seed=0, target=target)), target, radius)
            np.testing.assert_allclose(got, MASS[radius] / 8, atol=4 * math.sqrt(0.11 / 2**14))

    def test_of_modes_that_overlap_and_of_labels(self):
        target = targets.mixture([[0, 0], [1, 0]], 1.0)
        x = jnp.asarray(draw(2**14, seed=0, target=target))
        inside = np.linalg.norm(np.asarray(x), axis=1) <= 3
        left = np.asarray(x)[:, 0] < 0.5
        got = real_mass(x, target, 3.0)
        assert got[0] == pytest.approx((inside & left).mean())
        own = real_mass(x, target, 3.0, jnp.zeros(len(x), jnp.int32), 2)
        assert own.tolist() == pytest.approx([inside.mean(), 0])
