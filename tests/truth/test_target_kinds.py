"""The density on a grid, and the best response, for every kind of target: with blur, without, with full covariances."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn import truth
from gandyn.gan import targets

SIGMA = 5
COVARIANCE = np.array([[0.25, 0.12], [0.12, 0.1]])
KINDS: dict[str, Any] = {
    "ring": targets.ring(8, 1.0, 0.1),
    "covariances": targets.mixture([[0, 0], [1.5, 0]], covariances=COVARIANCE),
    "moons": targets.moons(std=0.1),
    "ribbon": targets.ribbon(std=0.1),
    "checkerboard": targets.checkerboard(cells=4),
    "samples": targets.from_samples(np.random.default_rng(0).normal(size=(60, 2)), 0.2),
}

log_ratios = jax.jit(truth.log_ratios, static_argnums=(3, 4, 5))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bare:
    """A target that has what is asked of every one and no more."""

    inner: Any
    event_shape = (2,)

    @property
    def num_uniforms(self):
        return self.inner.num_uniforms

    def transform(self, uniform):
        return self.inner.transform(uniform)

    def sample(self, key, num):
        return self.inner.sample(key, num)

    def log_prob(self, x):
        return self.inner.log_prob(x)

    def box(self):
        return self.inner.box()

    def scale(self):
        return self.inner.scale()


def nodes(target: Any) -> tuple[jax.Array, jax.Array]:
    """Points of the target moved by 0.1 along both axes, and where to ask for the ratio: of both."""
    draw = jax.jit(lambda target, key: target.sample(key, 8192))
    moved = draw(target, jax.random.key(0)) + 0.1
    return moved, jnp.concatenate([draw(target, jax.random.key(1))[:2048], moved[:2048]])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.quick(2)
def test_grid_holds_the_box_at_the_scale(name):
    target = KINDS[name]
    size = truth.grid_cells(target, 0.5)
    assert size % 64 == 0
    want = 2 * float(target.box()[1]) / (0.5 * float(target.scale()) / 2)
    assert want <= size - 1 < want + 65
    density = jax.jit(truth.bin_linearly, static_argnums=(2, 3))(jnp.zeros((4, 2)), target, size, 0.5)
    assert float(density.cell) == pytest.approx(0.25 * float(target.scale()), rel=1e-5)


@pytest.mark.parametrize("name", ["ring", "covariances", "checkerboard"])
@pytest.mark.slow
def test_a_target_without_blur_has_the_unblurred_candidates(name):
    target = KINDS[name]
    size = truth.grid_cells(target, 0.5, most=512)
    moved, x = nodes(target)
    every = log_ratios(x, moved, target, size, 0.5, 3)
    assert every.shape == (6, 4096)
    assert np.all(np.isfinite(every))
    bare = log_ratios(x, moved, Bare(target), size, 0.5, 3)
    assert bare.shape == (3, 4096)
    np.testing.assert_allclose(bare, every[:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.quick(2)
def test_each_candidate_bounds_a_divergence_from_below(name):
    """2 JSD(p, q) - log 4 for q = p moved by 0.1: the truth by its own log densities, on points that are independent.

    No candidate's V is above it by more than five standard errors, and the best is within a tenth of a nat below.
    """
    target = KINDS[name]
    log_prob = jax.jit(lambda target, x: target.log_prob(x))
    draw = jax.jit(lambda target, key: target.sample(key, 20_000))
    moved = draw(target, jax.random.key(0)) + 0.1
    real, fake = draw(target, jax.random.key(1)), draw(target, jax.random.key(2)) + 0.1

    def terms(at_real, at_fake):
        """log sigmoid(r) at real points and log sigmoid(-r) at fakes: V is the sum of their means."""
        return [-np.logaddexp(0, -np.asarray(at_real, np.float64)), -np.logaddexp(0, np.asarray(at_fake, np.float64))]

    with np.errstate(invalid="ignore"):
        ratios = [np.asarray(log_prob(target, x)) - np.asarray(log_prob(target, x - 0.1)) for x in (real, fake)]
    assert not any(np.isnan(one).any() for one in ratios)
    best = terms(*ratios)
    size = truth.grid_cells(target, 0.5, most=512)
    found = log_ratios(jnp.concatenate([real, fake]), moved, target, size, 0.5, 2)
    gaps = []
    for one in np.asarray(found):
        each = [a - b for a, b in zip(best, terms(one[:20_000], one[20_000:]))]
        error = np.hypot(*(part.std() / np.sqrt(len(part)) for part in each))
        gap = sum(part.mean() for part in each)
        assert gap > -SIGMA * error
        gaps.append(gap)
    assert min(gaps) < 0.1


def test_what_is_not_in_the_plane_is_refused():
    target = targets.mixture([[0, 0, 0]], 1.0)
    with pytest.raises(
        ValueError, match=r"target: got points of shape \(3,\); allowed for a density on a grid: \(2,\)"
    ):
        truth.grid_cells(target, 0.5)
