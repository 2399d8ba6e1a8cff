"""True gradients of both players, and what a minibatch shows of them.

xi = (grad_gen L_gen, grad_disc L_disc) is the field that both players descend (`Game.field`, penalties included).

Shapes: P parameters of both players, L layers, N nodes, M scrambles, B minibatch.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gandyn.gan import networks
from gandyn.gan.config import loss_of
from gandyn.gan.game import Game
from gandyn.gan.state import Batch, Players, State
from gandyn.truth.derived import slope_bound
from gandyn.truth.nodes import NUM_SCRAMBLES, sobol_bits, uniforms


def _coordinates(game: Game) -> tuple[int, int]:
    """Uniforms for one sample (pack), and for its penalty."""
    return game.config.packing * game.pair_coordinates, game.size * game.config.packing + 1


def _on_nodes(game: Game, step: jax.Array, uniform: jax.Array) -> Batch:
    """A batch of N samples (packs) from uniforms (N, the sum of `_coordinates`)."""
    draw, _ = _coordinates(game)
    pairs = uniform[:, :draw].reshape(-1, game.pair_coordinates)
    return Batch(game.pairs(pairs), uniform[:, draw:], step)


def node_batch(game: Game, state: State, key: jax.Array, num_nodes: int = 1024) -> Batch:
    """A fixed batch for the Jacobian, the spectrum and paths: scrambled Sobol nodes, under the schedules in force.

    Where a network couples the samples of a batch (batch normalization, a minibatch layer), a plain minibatch of the
    training size: there the game is one of minibatches. `num_nodes`: N, a power of two.
    """
    game = game.at(state.step)
    if game.couples:
        return game.draw(state, key)
    bits = sobol_bits(1, num_nodes, sum(_coordinates(game)))
    return _on_nodes(game, state.step, uniforms(key, jnp.asarray(bits))[0])


def sized(game: Game, batch: Batch) -> Game:
    """The game with the batch's own size, which top-k reads."""
    return dataclasses.replace(game, batch_size=len(batch.uniform))


def enlarged(game: Game, batch_size: int) -> Game:
    """The game with another training batch size."""
    return dataclasses.replace(game, config=dataclasses.replace(game.config, batch_size=batch_size))


def supremum(game: Game) -> jax.Array:
    """The largest slope of G's loss in D's output, (); NaN where the loss has none (least squares, exp(-D))."""
    return slope_bound(loss_of(game.config), game.hparams)


def layers(game: Game) -> Players:
    """Each player's layers with parameters, in the order in which a sample passes them: (L,) names each."""
    labels = game.config.num_classes
    return Players(
        networks.layer_names(game.generator, (game.config.latent_dim,), labels),
        networks.layer_names(game.discriminator, game.disc_shape, labels),
    )


def _squared(game: Game, gradient: Players) -> Players:
    """Squared norms of each layer's part of a gradient, (L,) each."""

    def of(names: tuple[str, ...], tree: Any) -> jax.Array:
        found = (networks.layer_at(tree["params"], name) for name in names)
        return jnp.stack([optax.tree.norm(layer, squared=True) for layer in found])

    return Players(*map(of, layers(game), gradient))


def _sensitivity(game: Game, params: Players, stats: Players, batch: Batch) -> jax.Array:
    play = game.play(params, stats, batch)
    loss = lambda logits: game.gen_loss(play._replace(fake_logits=logits))  # noqa: E731
    # The loss is a mean, so the sum over samples is the mean of each one's own slope.
    return jnp.sum(jnp.abs(jax.grad(loss)(play.fake_logits)))


class Gradients(NamedTuple):
    """Gradients at one state. g is the true gradient of a player's objective, penalties included, g_B a minibatch's.

    Attributes:
      grad_norm: |g|, for each player; zero where g is smaller than the nodes resolve.
      grad_norm_batch: root mean square of |g_B|.
      grad_cosine: mean of <g_B, g> / (|g_B| |g|); an estimate may pass 1 by its error. NaN where |g| is not resolved.
      grad_snr: |g|^2 / E |g_B - g|^2, in power, at the training batch size. Its estimate may be negative where |g| is
        not resolved, so that means over runs stay unbiased in the signal.
      noise_scale: B / grad_snr, the batch size at which signal and noise are equal (independent samples): McCandlish
        et al. 2018, eq. 2.9, tr(Sigma) / |g|^2. Infinite where |g| is not resolved.
      sensitivity: (), mean over samples of |d L_gen / d D(G(z))|.
      saturation: (), 1 - sensitivity / its supremum over outputs of D; NaN where that is infinite (`supremum`).
      layer_norms: |g| of each of the player's `layers`, (L,).
    """

    grad_norm: Players
    grad_norm_batch: Players
    grad_cosine: Players
    grad_snr: Players
    noise_scale: Players
    sensitivity: jax.Array
    saturation: jax.Array
    layer_norms: Players


def _replicates(game: Game, state: State, key: jax.Array, num_nodes: int) -> tuple[Players, jax.Array]:
    """M replicates of both players' true gradients, with a leading axis, and of the sensitivity (M,)."""

    def at(sized: Game, batch: Batch) -> tuple[Players, jax.Array]:
        field = sized.field(state.params, state.stats, batch)
        return field.gradient, _sensitivity(sized, state.params, state.stats, batch)

    def on_nodes(uniform: jax.Array) -> tuple[Players, jax.Array]:
        batch = _on_nodes(game, state.step, uniform)
        return at(sized(game, batch), batch)

    def on_minibatches(key: jax.Array) -> tuple[Players, jax.Array]:
        keys = jax.random.split(key, max(1, num_nodes // game.config.batch_size))
        each = jax.lax.map(lambda key: at(game, game.draw(state, key)), keys)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), each)

    if game.couples:
        return jax.lax.map(on_minibatches, jax.random.split(key, NUM_SCRAMBLES))
    bits = sobol_bits(NUM_SCRAMBLES, num_nodes, sum(_coordinates(game)))
    return jax.lax.map(on_nodes, uniforms(key, jnp.asarray(bits)))


@jax.default_matmul_precision("float32")
def gradients(game: Game, state: State, key: jax.Array, num_batches: int = 16, num_nodes: int = 1024) -> Gradients:
    """The true gradient of both players and what a minibatch shows of it. Jit-able.

    g is the mean of M = 8 independent replicates t_m, each on its own scramble of Sobol nodes, independent of the
    minibatches, so <g_B, g> is unbiased. The mean's own error e = sum_m |t_m - t|^2 / (M (M - 1)) is measured and
    taken out of every square:

        |g|^2 = |t|^2 - e        E |g_B - g|^2 = mean_B |g_B - t|^2 - e

    (the first is the U-statistic over the replicates). Nodes rather than yet more minibatches, because V is measured
    on nodes too (the truth is the loss at the limit of a large batch, of fresh data) and e is smaller at the same
    cost. Where networks couple the samples of a batch (batch normalization, a minibatch layer), nodes would be another
    game: there t_m is a mean over independent minibatches of the training size, as many samples in all. With
    `dataset_size` the noise includes what the data set itself is off, which no batch size removes.

    Args:
      game: the GAN's; the schedules are applied here.
      state: where.
      key: () for all draws.
      num_batches: minibatches of the training size.
      num_nodes: N, nodes in each scramble, a power of two. Cost: (8 num_nodes / B + num_batches) fields.
    """
    game = game.at(state.step)
    node_key, batch_key = jax.random.split(key)

    replicates, sensitivity = _replicates(game, state, node_key, num_nodes)
    mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), replicates)
    off = jax.tree.map(lambda x, mean: x - mean[None], replicates, mean)
    layer_errors = jax.tree.map(
        lambda x: jnp.sum(x, axis=0) / (NUM_SCRAMBLES * (NUM_SCRAMBLES - 1)),
        jax.vmap(functools.partial(_squared, game))(off),
    )
    layer_signals = jax.tree.map(jnp.subtract, _squared(game, mean), layer_errors)
    error, signal = jax.tree.map(jnp.sum, (layer_errors, layer_signals))

    def of_minibatch(key: jax.Array) -> tuple[Players, Players, Players]:
        gradient = game.field(state.params, state.stats, game.draw(state, key)).gradient
        pairs = list(zip(gradient, mean))
        norm = Players(*(optax.tree.norm(g) for g, _ in pairs))
        cosine = Players(*(optax.tree.vdot(g, t) / n for (g, t), n in zip(pairs, norm)))
        return norm, cosine, Players(*(optax.tree.norm(optax.tree.sub(g, t), squared=True) for g, t in pairs))

    norms, along, distances = jax.lax.map(of_minibatch, jax.random.split(batch_key, num_batches))
    root = functools.partial(jax.tree.map, lambda square: jnp.sqrt(jnp.maximum(square, 0)))
    # Rounding may leave less than nothing of the noise where there is none.
    noise = jax.tree.map(lambda x, e: jnp.maximum(jnp.mean(x) - e, 0), distances, error)
    sensitivity = jnp.mean(sensitivity)
    return Gradients(
        grad_norm=root(signal),
        grad_norm_batch=jax.tree.map(lambda x: jnp.sqrt(jnp.mean(x**2)), norms),
        grad_cosine=jax.tree.map(lambda x, norm: jnp.where(norm > 0, jnp.mean(x) / norm, jnp.nan), along, root(signal)),
        grad_snr=jax.tree.map(jnp.divide, signal, noise),
        noise_scale=jax.tree.map(lambda s, n: game.config.batch_size * n / jnp.maximum(s, 0), signal, noise),
        sensitivity=sensitivity,
        saturation=1 - sensitivity / supremum(game),
        layer_norms=root(layer_signals),
    )
