"""Gradients of both players against closed forms and brute force."""

import dataclasses
import functools
import math
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.flatten_util import ravel_pytree
from measuring import affine, measured, start, state_of
from small_games import BILINEAR, RING, SMALL, critic, game_of, new_key, still

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game
from gandyn.gan.losses import LOSSES
from gandyn.gan.state import Players, State
from gandyn.truth import gradients
from gandyn.truth.gradients import Gradients
from gandyn.truth.measure import MeasureConfig


@pytest.fixture(scope="module", autouse=True)
def _in_haste():
    with haste.everywhere():
        yield


FAR = targets.mixture([[0.5, -0.25]], 0.3)
AFFINE = Config(gen_depth=0, disc_net="bilinear", loss="wasserstein", batch_size=20)
NUM_KEYS = 250


@functools.cache
def from_keys(num_batches: int, num_nodes: int, num_keys: int):
    """`gradients` from several keys in turn."""

    def run(game: Game, state: State, key: jax.Array) -> Gradients:
        one = lambda key: gradients.gradients(game, state, key, num_batches, num_nodes)  # noqa: E731
        return jax.lax.map(one, jax.random.split(key, num_keys))

    return jax.jit(run)


def of_affine(matrix: Any, offset: Any, psi: Any, seed: int) -> Gradients:
    game = game_of(AFFINE, FAR)
    found = from_keys(16, 64, NUM_KEYS)(game, state_of(game, affine(matrix, offset), critic(psi)), new_key(seed))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


def assert_mean(each: np.ndarray, want: float, tolerance: float = 0.0) -> None:
    """Within four standard errors, and a share of the value for what is not random."""
    assert abs(each.mean() - want) < 4 * each.std(ddof=1) / math.sqrt(len(each)) + tolerance * abs(want)


def test_gradients_of_affine_players():
    """Wasserstein, G(z) = A z + b, D(x) = psi . x, data N(m, s^2 I).

    D's gradient is A z + b - x on average over the minibatch, mean b - m, variance (|A|^2 + 2 s^2) / B. G's is -psi in
    b, and -psi z^T in A: mean 0, variance |psi|^2 Z / B.
    """
    matrix, offset, psi, s = np.array([[0.4, 0.1], [-0.2, 0.3]]), np.array([0.8, 0.2]), np.array([0.6, -0.9]), 0.3
    got = of_affine(matrix, offset, psi, 1)
    gap, spread, pull = np.array([0.3, 0.45]) @ [0.3, 0.45], np.sum(matrix**2) + 2 * s * s, psi @ psi
    assert_mean(got.grad_norm.disc, math.sqrt(gap), 1e-4)
    assert_mean(got.grad_norm.gen, math.sqrt(pull), 1e-4)
    # A ratio's mean is off by the squared error of what it is divided by.
    assert_mean(got.noise_scale.disc, spread / gap, 1e-3)
    assert_mean(got.noise_scale.gen, 2, 1e-3)
    assert_mean(got.grad_norm_batch.disc**2, gap + spread / 20)
    np.testing.assert_allclose(got.grad_snr.disc * got.noise_scale.disc, 20, rtol=1e-5)
    # The spread of noise_scale over keys is that of a mean of 16 squares of 2 dimensions.
    assert 0.1 < got.noise_scale.disc.std() / got.noise_scale.disc.mean() < 0.4
    np.testing.assert_allclose(got.sensitivity, 1, atol=1e-6)
    np.testing.assert_allclose(got.saturation, 0, atol=1e-6)


def test_a_gradient_of_zero_has_no_signal_on_average():
    """D's true gradient vanishes where G's mean is the data's; |t|^2 alone would be its own error."""
    got = of_affine(0.3 * np.eye(2), (0.5, -0.25), (1, 1), 3)
    snr = got.grad_snr.disc
    assert_mean(snr, 0)
    assert 0.2 < np.mean(snr < 0) < 0.8
    assert np.all(np.isinf(got.noise_scale.disc[snr < 0]))
    assert np.all(got.grad_norm.disc[snr < 0] == 0)


def test_gradients_without_noise():
    """Where A = 0 and D(x) = 0, G has neither signal nor noise; D's fake half has none."""
    got = of_affine(np.zeros((2, 2)), (0.8, 0.2), (0, 0), 2)
    assert np.all(got.grad_norm.gen == 0)
    assert np.all(np.isnan(got.grad_snr.gen))
    assert_mean(got.noise_scale.disc, 2 * 0.3**2 / (0.3**2 + 0.45**2), 1e-3)


@pytest.mark.slow
def test_they_are_recorded_by_name():
    game = game_of(AFFINE, FAR)
    state = state_of(game, affine(np.eye(2), (0.8, 0.2)), critic((3, -4)))
    got, _ = measured(game, state, MeasureConfig(deep=("gradients",)), deep=True)
    assert got["grad_norm_gen"] == pytest.approx(5, rel=5e-2)
    assert got["grad_norm_disc"] < 1
    # D is one layer, G too.
    assert got["grad_norm_gen_dense_0"] == pytest.approx(got["grad_norm_gen"], rel=1e-5)
    assert got["grad_norm_disc_dense_0"] == pytest.approx(got["grad_norm_disc"], rel=1e-5)
    assert (got["sensitivity"], got["saturation"]) == (1, 0)


NET = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
WITH_R1 = dataclasses.replace(NET, penalties=("r1",))
COUPLED = dataclasses.replace(NET, gen_norm="batch", disc_norm="batch")


def brute(game: Game, state: State, num: int) -> dict[str, Players]:
    """From `num` minibatches, in float64."""

    def one(key):
        gradient = game.field(state.params, state.stats, game.draw(state, key)).gradient
        return [ravel_pytree(part)[0] for part in gradient]

    every = jax.jit(lambda key: jax.lax.map(one, jax.random.split(key, num)))(new_key(99))
    found = []
    for g in every:
        g = np.asarray(g, np.float64)
        mean = g.mean(axis=0)
        noise = np.sum((g - mean) ** 2) / (num - 1)
        signal = mean @ mean - noise / num
        cosine = g @ mean / np.linalg.norm(g, axis=1) / math.sqrt(signal)
        scale = game.config.batch_size * noise / signal
        found.append((math.sqrt(signal), cosine.mean(), signal / noise, scale))
    names = ("grad_norm", "grad_cosine", "grad_snr", "noise_scale")
    return {name: Players(*both) for name, both in zip(names, zip(*found))}


@functools.cache
def of_net(config: Config) -> tuple[Game, State, Gradients]:
    game = game_of(config, RING, rate=0.2, **({"r1_weight": 0.1} if config.penalties else {}))
    state = start(game)
    return game, state, from_keys(32, 128, 24)(game, state, new_key(4))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        pytest.param(NET, marks=pytest.mark.slow),
        pytest.param(WITH_R1, marks=pytest.mark.slow),
        pytest.param(COUPLED, marks=pytest.mark.slow),
    ],
    ids=["small", "nets", "nets, R1", "minibatches"],
)
@pytest.mark.slow
def test_gradients_against_brute_force(config):
    """4,000 minibatches know signal and noise to 1.5 % a sigma; beside it the estimates' own standard error."""
    game, state, found = of_net(config)
    for name, wanted in brute(game, state, 4000).items():
        for each, want in zip(getattr(found, name), wanted):
            each = np.asarray(each, np.float64)
            assert abs(each.mean() - want) < 4 * math.hypot(each.std(ddof=1) / math.sqrt(24), 0.015 * want), name


@pytest.mark.slow
def test_saturation_is_what_the_outputs_say():
    """Non-saturating: the slope at s is sigmoid(-s), here at G's own samples."""
    _, state, found = of_net(SMALL)
    gen, disc = (jax.tree.map(np.asarray, params["params"]["Dense_0"]) for params in state.params)
    x = np.random.default_rng(11).normal(size=(20_000, 2)) @ gen["kernel"] + gen["bias"]
    features = np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)
    slopes = scipy.special.expit(-(features @ disc["kernel"] + disc["bias"])[:, 0])
    each = np.asarray(found.sensitivity, np.float64)
    assert abs(each.mean() - slopes.mean()) < 4 * math.hypot(each.std() / math.sqrt(24), slopes.std() / math.sqrt(2e4))
    np.testing.assert_allclose(found.saturation, 1 - each, rtol=1e-5)
    assert slopes.std() > 0.01


def test_layers_in_the_order_of_a_sample():
    config = Config(gen_norm="batch", disc_norm="layer", num_classes=2, conditioning="projection", gen_depth=1)
    assert gradients.layers(game_of(config, RING)) == Players(
        ("Dense_0", "BatchNorm_0", "Dense_1"),
        ("Dense_0", "LayerNorm_0", "Dense_1", "LayerNorm_1", "Embedding_0", "Dense_2"),
    )
    deep = gradients.layers(game_of(Config(gen_depth=11)))
    assert deep.gen == tuple(f"Dense_{i}" for i in range(12))
    assert gradients.layers(game_of(BILINEAR)) == Players(("kernel",), ("Dense_0",))


@pytest.mark.slow
def test_layers_make_up_the_whole():
    got = of_net(NET)[2]
    assert [x.shape for x in got.layer_norms] == [(24, 2), (24, 2)]
    for norm, parts in zip(got.grad_norm, got.layer_norms):
        np.testing.assert_allclose(norm, np.linalg.norm(parts, axis=1), rtol=1e-4)


# ---- saturation


def test_sensitivity_of_the_saturating_loss():
    """D says s of everything: G's slope is sigmoid(s)."""
    game = game_of(Config(loss="minimax", gen_depth=0, disc_depth=0))
    params = Players(affine(np.eye(2), [0, 0]), affine([[0], [0]], [1.5]))
    slope = jax.jit(lambda params: gradients._sensitivity(game, params, Players({}, {}), still(game, 8)))
    assert float(slope(params)) == pytest.approx(scipy.special.expit(1.5), abs=1e-6)


ORDERS = (0.5, 1.0, 3.0)
# The auxiliary classifier's loss, which reads more than outputs: tests of its own.
OF_OUTPUTS = [name for name, loss in LOSSES.items() if not loss.aux]


@functools.cache
def largest_slopes() -> dict[str, np.ndarray]:
    """The largest |d gen / d fake output| over outputs of D in +-40 for the orders of alpha."""
    outputs = jnp.asarray(np.concatenate([np.linspace(-3, 3, 1201), np.linspace(-40, 40, 81)]), jnp.float32)

    def largest(name: str, order: jax.Array) -> jax.Array:
        numbers = LOSSES[name].defaults.replace(alpha_gen=order)
        slope = jax.grad(lambda fake, real: LOSSES[name].gen(real[None], fake[None], numbers))
        at_fake = jax.vmap(slope, in_axes=(0, None))
        return jnp.max(jnp.abs(jax.vmap(at_fake, in_axes=(None, 0))(outputs, jnp.asarray([-40.0, 0, 40]))))

    every = jax.jit(lambda orders: {name: jax.vmap(functools.partial(largest, name))(orders) for name in OF_OUTPUTS})
    return {name: np.asarray(found) for name, found in every(jnp.asarray(ORDERS)).items()}


@pytest.mark.parametrize("loss", OF_OUTPUTS)
@pytest.mark.quick(5)
def test_supremum_of_every_loss(loss):
    """Where there is none, the slope keeps growing."""
    for order, largest in zip(ORDERS, largest_slopes()[loss]):
        given = {"alpha_gen": order} if "alpha_gen" in LOSSES[loss].numbers else {}
        got = float(gradients.supremum(game_of(Config(loss=loss), **given)))
        assert got == pytest.approx(largest, rel=1e-5) if largest < 5 else math.isnan(got), (order, largest)
