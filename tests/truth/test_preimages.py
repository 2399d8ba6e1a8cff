"""G's density by a change of variables: closed forms, folds, brute force."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from measuring import AFFINE, IDENTITY, NORMAL, affine, measured, start, state_of

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.truth import preimages
from gandyn.truth.measure import MeasureConfig

MATRIX = np.array([[0.02, -0.3], [1.5, 0.4]])  # of determinant 0.458


class Fixed(nn.Module):
    """Latents through a function without parameters."""

    function: str

    @nn.compact
    def __call__(self, z, labels=None):
        self.param("unused", nn.initializers.zeros, (1,))
        return {
            "fold": lambda z: jnp.abs(z) * jnp.array([[1.0, -2.0]]),
            "point": lambda z: 0 * z,
            "circle": lambda z: z / jnp.linalg.norm(z, axis=1, keepdims=True),
            "swirl": lambda z: jnp.stack([z[:, 0] + jnp.sin(3 * z[:, 1]), jnp.sin(2 * z[:, 0])], axis=1),
        }[self.function](z)


def density(config, points, gen=None, own=None, target=NORMAL, labels=None):
    game = make_game(target, config)
    variables = start(game).variables.gen if gen is None else gen
    return preimages.density(game, variables, np.asarray(points, float), labels, own)


def test_affine_is_exact():
    points = np.random.default_rng(0).standard_normal((500, 2)) @ MATRIX + [1.0, -2.0]
    cov: Any = MATRIX.T @ MATRIX
    found = density(AFFINE, points, affine(MATRIX, [1.0, -2.0]))
    want = scipy.stats.multivariate_normal(np.array([1.0, -2.0]), cov).logpdf(points)
    np.testing.assert_allclose(found.log_q, want, atol=2e-3)
    assert found.num_preimages == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("prior", ["uniform", "truncated"])
def test_priors(prior):
    config = dataclasses.replace(AFFINE, prior=prior)
    reach = 1.0 if prior == "uniform" else float(make_game(NORMAL, config).hparams.truncation)
    inside, outside = np.array([[0.4, -0.7]]) * reach, np.array([[0.4, -1.2]]) * reach
    found = density(config, np.concatenate([inside, outside]), affine(IDENTITY, [0, 0]))
    one: Any = scipy.stats.uniform(-1, 2) if prior == "uniform" else scipy.stats.truncnorm(-reach, reach)
    np.testing.assert_allclose(found.log_q[0], one.logpdf(inside).sum(), atol=1e-4)
    assert found.log_q[1] == -math.inf


def test_folds_are_summed():
    points = np.random.default_rng(0).uniform([0.05, -4], [2, -0.1], (300, 2))
    found = density(Config(gen=Fixed("fold")), points)
    want = 4 * scipy.stats.norm.pdf(points[:, 0]) * scipy.stats.norm.pdf(points[:, 1] / 2) / 2
    np.testing.assert_allclose(found.log_q, np.log(want), atol=1e-3)
    assert found.num_preimages == pytest.approx(4, abs=0.02)


def test_known_latents_count_where_the_search_misses_them():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2000, 2)).astype(np.float32)
    points = np.asarray(Fixed("swirl").apply({"params": {"unused": jnp.zeros(1)}}, latents))
    found = density(Config(gen=Fixed("swirl")), points, own=latents)
    assert 0.95 < found.found <= 1
    # At a fold det = 0, and the last digits of a latent decide.
    assert np.mean(found.log_q >= found.log_q_found - 1e-3) > 0.99
    assert np.isfinite(found.log_q).all()


@pytest.mark.parametrize("function", ["point", "circle"])
def test_without_width(function):
    points = np.array([[0.0, 0.0], [0.3, 0.4], [1.0, 0.0]])
    found = density(Config(gen=Fixed(function)), points)
    assert (found.log_q_found[:2] == -math.inf).all()


def test_against_counted_samples():
    """Of a generator that folds, in cells: samples counted, and the mean of the density at a cell's points."""
    config = Config(gen=Fixed("swirl"))
    latents = np.asarray(jax.random.normal(jax.random.key(0), (2**20, 2)))
    samples = np.asarray(Fixed("swirl").apply({"params": {"unused": jnp.zeros(1)}}, latents))
    corners = np.array([[-1.5, -0.5], [0.2, 0.3], [0.9, 0.7]])
    counted = [np.mean(((samples >= corner) & (samples < corner + 0.2)).all(1)) for corner in corners]
    within = np.random.default_rng(1).random((2000, 2)) * 0.2
    found = density(config, (corners[:, None] + within).reshape(-1, 2)).log_q
    np.testing.assert_allclose(np.exp(found).reshape(3, -1).mean(axis=1) * 0.04, counted, rtol=0.05)


def test_starts_are_those_of_every_triangle_and_point():
    rng = np.random.default_rng(0)
    axis = np.linspace(-2, 2, 12)
    latents = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    bent = np.stack([latents[..., 0] + np.sin(2 * latents[..., 1]), latents[..., 0] ** 2], axis=-1)
    points = rng.uniform([-2, 0], [2, 3], (60, 2))
    triangles, images = preimages._triangles(latents), preimages._triangles(bent)
    index = preimages.starts(triangles, images, points)[1]
    slack = (preimages.GROWN - 1) / 3
    pairs = set()
    for t, (a, b, c) in enumerate(images):
        for i, point in enumerate(points):
            try:
                u, v = np.linalg.solve(np.stack([b - a, c - a], axis=1), point - a)
            except np.linalg.LinAlgError:
                continue
            if min(u, v) >= -slack and u + v <= 1 + slack:
                corner, first, second = triangles[t]
                z = corner + u * (first - corner) + v * (second - corner)
                side = int(np.linalg.det(np.stack([b - a, c - a])) > 0)
                pairs.add((i, side, *np.floor((z - axis[0] + 1) / (axis[1] - axis[0])).astype(int)))
    assert len(index) == pytest.approx(len(pairs), rel=0.1)  # cells are counted from another corner
    assert set(index) == {i for i, *_ in pairs}


def test_what_is_not_square_is_refused():
    with pytest.raises(ValueError, match="latents of 3 coordinates"):
        density(Config(latent_dim=3), np.zeros((1, 2)))


def test_labels():
    config = Config(num_classes=2, gen_width=8, gen_depth=1)
    game = make_game(targets.ring(num_modes=4, std=0.2), config)
    gen = start(game).variables.gen
    latents = np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32)
    labels = np.arange(400) % 2
    points = np.asarray(game.generate(gen, jnp.asarray(latents), jnp.asarray(labels)))
    found = preimages.density(game, gen, points, labels, latents)
    assert found.found > 0.9
    other = preimages.density(game, gen, points, 1 - labels)
    assert np.abs(found.log_q - other.log_q)[np.isfinite(other.log_q)].max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("d", [0.0, 0.5, 2.0])
def test_intervals_hold_the_divergences_of_gaussians(d):
    game = make_game(NORMAL, AFFINE)
    state = state_of(game, affine(IDENTITY, [d, 0]), affine([[-0.5], [0]], [0.0]))
    got, _ = measured(game, state, MeasureConfig(deep=("best_response_deep",)), deep=True)
    x = np.linspace(-12, 12 + d, 100_001)
    p, q = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, d)
    jsd = 0.5 * float(np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), x))
    wanted = {"jsd_deep": jsd, "value_best_deep": 2 * jsd - 2 * math.log(2), "tv": 2 * scipy.stats.norm.cdf(d / 2) - 1}
    for name, want in wanted.items():
        assert got[f"{name}_low"] - 1e-4 <= want <= got[f"{name}_high"] + 1e-4, name
        assert got[name] == pytest.approx(want, abs=2e-3), name
