"""The density on a grid, and the best response, for every kind of target: with blur, without, with full covariances."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn import truth
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game

SIGMA = 5
SIZES = 4096, 4096, 64
COVARIANCE = np.array([[0.25, 0.12], [0.12, 0.1]])
KINDS: dict[str, Any] = {
    "ring": targets.ring(8, 1.0, 0.1),
    "covariances": targets.mixture([[0, 0], [1.5, 0]], covariances=COVARIANCE),
    "moons": targets.moons(std=0.1),
    "ribbon": targets.ribbon(std=0.1),
    "checkerboard": targets.checkerboard(cells=4),
    "samples": targets.from_samples(np.random.default_rng(0).normal(size=(60, 2)), 0.2),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.quick(2)
def test_a_gaussian_generator_against_every_kind(name):
    """2 JSD(p, q) - log 4: the truth by both log densities on independent points.

    The first candidate's V is above it by no more than five standard errors; the second's is within 0.05 of it, which
    is 0.025 of the JSD.
    """
    target = KINDS[name]
    matrix, shift = jnp.asarray([[0.8, 0.3], [0.0, 0.4]], jnp.float32), jnp.asarray([0.3, -0.1], jnp.float32)
    game = make_game(target, Config(gen_depth=0, disc_depth=0))

    @jax.jit
    def at(target, key):
        generate = lambda z: z @ matrix + shift[None]  # noqa: E731
        uniforms = [
            jax.random.uniform(one, (size, 2), minval=1e-7) for one, size in zip(jax.random.split(key, 3), SIZES)
        ]
        density, fake, pilot = map(game.latents, uniforms)
        real, pilot_real = (target.sample(jax.random.fold_in(key, size), size) for size in SIZES[1:])
        kernels, own = truth.kernels(generate, density), truth.kernels(generate, fake)
        pilots = pilot_real, generate(pilot)
        ratios = truth.log_ratios(game, target, kernels, own, real, generate(fake), pilots, jnp.zeros(()))
        points = jnp.stack([real, generate(fake)])
        with jax.numpy_rank_promotion("allow"):
            log_q = jax.scipy.stats.multivariate_normal.logpdf(
                (points - shift[None, None]).reshape(-1, 2), np.zeros(2), matrix.T @ matrix
            )
        return ratios, (target.log_prob(points.reshape(-1, 2)) - log_q).reshape(2, -1)

    ratios, exact = (np.asarray(x, np.float64) for x in at(target, jax.random.key(0)))
    terms = lambda r: np.stack([-np.logaddexp(0, -r[0]), -np.logaddexp(0, r[1])])  # noqa: E731
    gaps = []
    for one in ratios:
        each = terms(exact) - terms(one)
        gaps.append((each.mean(axis=1).sum(), np.hypot(*(each.std(axis=1) / np.sqrt(each.shape[1])))))
    (below, error), (off, _) = gaps
    assert -SIGMA * error < below < 0.25
    assert abs(off) < 0.05
