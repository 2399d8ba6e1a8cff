"""Push-forward kernels against brute force, and singular generators, of which all is known."""

import math
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from measuring import measured, state_of

from gandyn import truth
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.number import HParams
from gandyn.truth import pushforward
from gandyn.truth.measure import MeasureConfig

RESPONSE = MeasureConfig(measurements=("best_response",))
MATRIX = np.array([[0.7, 0.1], [-0.2, 0.3]])


def curve(z):
    return jnp.stack([jnp.sin(2 * z[:, 0]) + 0.1 * z[:, 1], jnp.tanh(z[:, 0] * z[:, 1])], axis=1)


def random_kernels(rng: np.random.Generator, num: int, size: int) -> pushforward.Kernels:
    shapes = (num, size), (num, 2), (num, 2, size)
    latents, images, jacobians = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    return pushforward.Kernels(latents, images, jacobians)


def test_kernels_are_images_and_jacobians():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((7, 2)), jnp.float32)
    found = haste.jit(lambda z: truth.kernels(curve, z))(z)
    np.testing.assert_allclose(found.images, curve(z), rtol=1e-6)
    want = jax.vmap(jax.jacfwd(lambda z: curve(z[None])[0]))(z)
    np.testing.assert_allclose(found.jacobians, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_mixture_is_scipys(size):
    rng = np.random.default_rng(1)
    kernels = random_kernels(rng, 24, size)
    width, largest, noise, x = 0.3, 0.01, 0.002, rng.standard_normal((50, 2)).astype(np.float32)
    latents = np.where(np.arange(50)[:, None] < 25, np.inf, kernels.latents[np.arange(50) % 24]).astype(np.float32)
    found = haste.jit(pushforward.log_densities)(
        kernels, width, pushforward.Across(jnp.asarray(largest), jnp.asarray(noise)), x, latents
    )
    want = np.zeros((2, 50))
    for z, image, jacobian in zip(*(np.asarray(a, np.float64) for a in kernels)):
        center = image - (1 - math.sqrt(1 - width**2)) * jacobian @ z
        variance = np.clip(width**2 * np.linalg.norm(jacobian, 2) ** 2 / 4, 0, largest) + noise
        covariance = width**2 * jacobian @ jacobian.T + variance * np.eye(2)
        one = scipy.stats.multivariate_normal(center, covariance).pdf(x) / 24
        far = np.sum((latents - z) ** 2, axis=1) > (pushforward.NEAR * width) ** 2
        want += np.stack([one, np.where(far, one, 0)])
    np.testing.assert_allclose(np.exp(found), want, rtol=2e-4, atol=1e-9)


def test_both_ways_of_summing_agree():
    rng = np.random.default_rng(2)
    kernels = random_kernels(rng, 32, 2)
    axes = pushforward._axes(kernels, jnp.asarray(0.3), pushforward.Across(jnp.asarray(0.01), jnp.zeros(())))
    x = rng.standard_normal((9, 2)).astype(np.float32)
    of = lambda few: jnp.sum(pushforward._weights(few, *x.T), axis=0)  # noqa: E731
    np.testing.assert_allclose(haste.jit(lambda axes: pushforward._summed(of, axes))(axes), of(axes), rtol=1e-5)


def test_a_thin_sheet_keeps_its_thickness_in_float32():
    """J with singular values 1 and 1e-6, turned by 30 degrees: a d - b c would keep no digit of it."""
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn = np.array([[cos, -sin], [sin, cos]])
    jacobian = (turn @ np.diag([1.0, 1e-6]) @ turn.T).astype(np.float32)
    _, large, small = pushforward._principal(jnp.asarray(jacobian)[None])
    want = np.linalg.svd(jacobian.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(np.sqrt([float(large[0]), float(small[0])]), want, rtol=0.1)


@pytest.mark.parametrize("prior", ["gaussian", "uniform", "truncated"])
def test_log_prior(prior):
    game = make_game(
        targets.ring(),
        Config(prior=prior, latent_dim=3),
        HParams(truncation=1.5) if prior == "truncated" else HParams(),
    )
    z = np.random.default_rng(0).uniform(-1.6, 1.6, (200, 3)).astype(np.float32)
    per_axis: Any = {
        "gaussian": scipy.stats.norm(),
        "uniform": scipy.stats.uniform(-1, 2),
        "truncated": scipy.stats.truncnorm(-1.5, 1.5),
    }[prior]
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(game.log_prior(jnp.asarray(z)), per_axis.logpdf(z).sum(axis=1), rtol=1e-5)


SINGULAR = {
    "a point on a mode": (np.zeros((2, 2)), (1.0, 0.0)),
    "a point between modes": (np.zeros((2, 2)), (0.3, 0.2)),
    "a segment through two modes": (np.array([[1.0, 0.0], [0.0, 0.0]]), (0.0, 0.0)),
    "a thin segment": (np.array([[1.0, 0.0], [0.0, 1e-7]]), (0.0, 0.0)),
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.quick(2)
def test_what_has_no_density_shares_no_mass_with_what_has_one(name):
    """JSD log 2 and a best accuracy of 1, but for the width e that a kernel has where G is flat."""
    matrix, offset = SINGULAR[name]
    game = make_game(targets.ring(8, 1.0, 0.1), Config(gen_depth=0, disc_depth=0))
    gen = {
        "params": {"Dense_0": {"kernel": jnp.asarray(matrix, jnp.float32), "bias": jnp.asarray(offset, jnp.float32)}}
    }
    found = measured(game, state_of(game, gen), RESPONSE)[0]
    assert found["jsd"] == pytest.approx(math.log(2), abs=0.01)
    assert found["jsd_low"] <= math.log(2) <= found["jsd_high"] + 1e-3  # e blurs a point
    assert found["accuracy_best_low"] <= 1


@pytest.mark.parametrize(("std", "radius"), [(1e-4, 1.0), (1e-2, 1.0), (1.0, 1.0), (0.02, 1e3), (1e-3, 1e-3)])
@pytest.mark.quick(2)
def test_whatever_the_scales(std, radius):
    """One Gaussian of its own std beside another two std away: 2 JSD - log 4 is that of the unit."""
    game = make_game(targets.mixture([[radius, 0.0]], std), Config(gen_depth=0, disc_depth=0))
    kernel, bias = np.eye(2) * std, (radius + 2 * std, 0.0)
    gen = {"params": {"Dense_0": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}}
    found = measured(game, state_of(game, gen), RESPONSE)[0]
    assert found["jsd"] == pytest.approx(0.336831, abs=0.01)
    assert found["jsd_low"] <= 0.336831 <= found["jsd_high"]


def test_stds_of_1e_3_beside_1_in_one_mixture():
    """q is the wide half of p, and has nothing of the thin one: log p/q is -log 2 where q is."""
    game = make_game(targets.mixture([[0.0, 0.0], [9.0, 0.0]], [1.0, 1e-3]), Config(gen_depth=0, disc_depth=0))
    gen = {"params": {"Dense_0": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    found = measured(game, state_of(game, gen), RESPONSE)[0]
    want = (math.log(2) / 2 + math.log(2 / 3) / 2 + math.log(4 / 3)) / 2
    assert found["jsd"] == pytest.approx(want, abs=0.01)
    assert found["jsd_low"] <= want <= found["jsd_high"]
