"""What all measurements of one GAN share: the game as it is played, on nodes; candidates for its best response.

Shapes: M scrambles, N nodes in each, m points in a pack, A candidates.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from gandyn import truth
from gandyn.gan import gan, sampling
from gandyn.gan.gan import Config, HParams, Pairs, Players
from gandyn.gan.losses import LOSSES, Loss, LossParams
from gandyn.gan.targets import GaussianMixture

NUM_SCRAMBLES = 8
"""Independent scrambles of the nodes: enough for a standard error with a usable t interval (7 degrees of freedom)."""

CHUNK = 1024
"""Rows at a time: layers of so many stay in a core's cache (7.6 ms for G on 2^15 nodes, 35 ms in one piece)."""


def in_chunks(function: Callable[..., jax.Array], *arrays: jax.Array | None, size: int = CHUNK) -> jax.Array:
    """`function` over the rows of arrays (N, ...), some of which may be None, at most `size` rows at a time."""
    rows = len(jax.tree.leaves(arrays)[0])
    num_chunks = -(-rows // size)
    size = -(-rows // num_chunks)
    if num_chunks * size > rows:  # the last chunk is filled up with its last row
        index = np.minimum(np.arange(num_chunks * size), rows - 1)
        arrays = jax.tree.map(lambda x: x[index], arrays)
    chunks = jax.tree.map(lambda x: x.reshape(num_chunks, size, *x.shape[1:]), arrays)
    out = jax.lax.map(lambda chunk: function(*chunk), chunks)
    return out.reshape(-1, *out.shape[2:])[:rows]


def node_bits(config: Config, num_nodes: int, num_density_nodes: int):
    """Sobol bits: for the value (M, num_nodes, coordinates of a pack), for the density (1, num_density_nodes, Z)."""
    noise = 0 if config.instance_noise == "none" else 2
    return (
        truth.sobol_bits(NUM_SCRAMBLES, num_nodes, config.packing * gan.pair_coordinates(config)),
        truth.sobol_bits(1, num_density_nodes, config.latent_dim + noise, seed=1),
    )


def generate(config: Config, gen: Any, pairs: Pairs) -> jax.Array:
    """G's samples of pairs (N): (N, 2), without instance noise."""
    return in_chunks(functools.partial(gan.generate, config, gen), pairs.latents, pairs.labels)


def judged(pairs: Pairs, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What D sees: real and fake points (N, 2) each, from G's samples."""
    return pairs.real, fake if pairs.noise is None else fake + pairs.noise


class Nodes(NamedTuple):
    """The game on nodes: M N m pairs, and D's outputs.

    Attributes:
      real: (M N m, 2), real samples without instance noise.
      fake: (M N m, 2), G's, likewise.
      pairs: what they were made of.
      points: (2 M N m, 2), what D sees: real, then fake.
      labels: (2 M N m,), None where unconditional.
      logits: (2, M, N), D's outputs: real, then fake.
    """

    real: jax.Array
    fake: jax.Array
    pairs: Pairs
    points: jax.Array
    labels: jax.Array | None
    logits: jax.Array


def node_uniforms(config: Config, key: jax.Array, bits: jax.Array) -> jax.Array:
    """Uniforms (M, N, C): Sobol nodes under a digital shift from `key`; independent draws where D judges batches."""
    if config.minibatch_layer == "none":
        return truth.uniforms(key, bits)
    # Sobol points in a batch are spread more evenly than samples are, which such a D could see.
    num_scrambles, num_nodes, coordinates = bits.shape
    num_nodes = config.batch_size * max(1, num_nodes // config.batch_size)
    return sampling.uniform(key, (num_scrambles, num_nodes, coordinates))


def on_nodes(
    config: Config, hparams: HParams, target: GaussianMixture, variables: Players, key: jax.Array, bits: jax.Array
) -> Nodes:
    """Both players on the nodes of `node_uniforms`."""
    uniform = node_uniforms(config, key, bits)
    rows = CHUNK if config.minibatch_layer == "none" else config.batch_size
    num_scrambles, num_nodes, _ = uniform.shape
    uniform = uniform.reshape(-1, gan.pair_coordinates(config))
    pairs = gan.draw_pairs(config, hparams, target, uniform)
    fake = generate(config, variables.gen, pairs)
    points = jnp.concatenate(judged(pairs, fake))
    labels = None if pairs.labels is None else jnp.concatenate([pairs.labels, pairs.labels])
    logits = in_chunks(
        lambda x, labels: gan.discriminate(config, variables.disc, x.reshape(-1, 2), labels),
        gan.pack(config, points),
        labels,
        size=rows,
    )
    return Nodes(
        target.transform(uniform[:, :3]), fake, pairs, points, labels, logits.reshape(2, num_scrambles, num_nodes)
    )


class Blurs(NamedTuple):
    """How a density is estimated; static. Cells along a side, std of one blur, how many (`truth.log_ratios`)."""

    grid_size: int
    bandwidth: float
    num: int


def log_ratios(
    config: Config,
    hparams: HParams,
    target: GaussianMixture,
    gen: Any,
    nodes: Nodes,
    points: jax.Array,
    density_uniform: jax.Array,
    blurs: tuple[Blurs, ...],
    noisy: bool,
) -> jax.Array:
    """Candidates for log p/q at points (2 M N m, 2), real then fake: (A, 2, M, N, m).

    Args:
      config: of the GAN.
      hparams: of the GAN, as scheduled.
      target: p.
      gen: variables of G, or of its average.
      nodes: whose labels the points have.
      points: where.
      density_uniform: uniforms (N', Z), or (N', Z + 2) with instance noise, pushed through G for its density.
      blurs: one estimate of the density each; their candidates are joined.
      noisy: p and q with instance noise, rather than without.
    """
    latents = gan.latents(config, hparams, density_uniform[:, : config.latent_dim])
    noise = hparams.noise_std * ndtri(density_uniform[:, config.latent_dim :])

    def against(target: GaussianMixture, label: jax.Array | None) -> jax.Array:
        own = None if label is None else jnp.full(len(latents), label)
        fake = generate(config, gen, Pairs(latents, latents, own, None))
        if noisy:
            fake, target = fake + noise, target.blur(hparams.noise_std)
        return jnp.concatenate([truth.log_ratios(points, fake, target, *blur) for blur in blurs])

    if nodes.labels is None:
        ratios = against(target, None)
    else:
        of_class = lambda label: against(target.of_class(label, config.num_classes), label)  # noqa: E731
        each = jax.lax.map(of_class, jnp.arange(config.num_classes))
        ratios = jnp.take_along_axis(each, nodes.labels[None, None, :], axis=0)[0]
    return ratios.reshape(-1, *nodes.logits.shape, config.packing)


def values(loss: Loss, params: LossParams, logits: jax.Array, ratios: jax.Array) -> jax.Array:
    """V of every critic on every scramble (A + 1, M), D itself the last.

    From D's outputs on the nodes (2, M, N), and candidates for the log density ratio there (A, 2, M, N). Where no
    optimal critic is known, the A first are NaN.
    """
    if not len(ratios):
        return truth.value(loss, logits[None], params)
    critics = jnp.full_like(ratios, jnp.nan) if loss.critic is None else loss.critic(ratios, params)
    scale = loss.scale
    if scale is not None:
        # One number from all nodes: what it adapts to their noise is of the order of 1 / (M N).
        factor = jax.vmap(lambda outputs: scale(outputs[0], outputs[1]))(critics.reshape(len(critics), 2, -1))
        critics = factor[:, None, None, None] * critics
    return truth.value(loss, jnp.concatenate([critics, logits[None]]), params)


def divergence(loss: str, ratios: jax.Array) -> truth.Estimate:
    """max_D V of a loss over functions of single samples, from candidates (A, 2, M, N, m) and a constant critic."""
    ratios = ratios.reshape(*ratios.shape[:3], -1)
    one = LOSSES[loss]
    assert one.critic is not None
    return truth.best_value(truth.value(one, one.critic(jnp.concatenate([ratios, jnp.zeros_like(ratios[:1])]))))


def jensen_shannon(ratios: jax.Array) -> truth.Estimate:
    """JSD of single samples in nats, a lower bound: the logistic loss reads 2 JSD - log 4."""
    best = divergence("f_js", ratios)
    return truth.Estimate(best.mean / 2, best.se / 2)
