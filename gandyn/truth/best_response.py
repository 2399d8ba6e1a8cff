"""The best response: what max_D V is, from below and nearly.

The log ratio of the target's density to the generator's (`pushforward`) gives, by each loss's formula, a critic that is
nearly optimal. Any critic gives a lower bound of max_D V.

Shapes: A candidates, M scrambles, N points.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gandyn.gan.game import Game
from gandyn.gan.targets import Target
from gandyn.truth import pushforward
from gandyn.truth.pushforward import Kernels
from gandyn.truth.value import T_975, estimate

RESOLUTION = 0.75
"""Of `bounded`: with it the upper end was above the truth in 119 of 120 measurements of sixty trained GANs."""


def log_ratios(
    game: Game,
    target: Target,
    kernels: Kernels,
    own: Kernels | None,
    real: jax.Array,
    fake: jax.Array,
    pilot: tuple[jax.Array, jax.Array],
    noise: jax.Array,
) -> jax.Array:
    """log p/q, in nats, at real and at fake points (N, 2) each: (A, 2, N).

    The first candidate is a function of the point, and so its critic's V a lower bound of max_D V. The second, where it
    is known on which of G's sheets a sample lies (`own`), is what is known at each sample: exact on its sheet, by
    kernels on others. With its own sheet exact, what is left of a kernel's error is of how it blurs, and half the width
    is best; of a point on no known sheet, kernels of that width still overlap.

    Args:
      game: whose prior the latents have.
      target: p.
      kernels: of q.
      own: G at the fake points; None where latents have more or fewer than two coordinates, or noise is added.
      real: where, of p.
      fake: where, of q.
      pilot: real and fake samples (P, 2), by which the kernels' width is chosen.
      noise: (), variance of instance noise on both.
    """
    across = pushforward.Across((pushforward.FLOOR * target.scale()) ** 2, noise)
    width = pushforward.best_width(kernels, across, target, *pilot)
    points, latents = jnp.concatenate([real, fake]), None
    if own is not None:
        width = width / 2
        latents = jnp.concatenate([jnp.full_like(own.latents, jnp.inf), own.latents])
    every, others = pushforward.log_densities(kernels, width, across, points, latents)
    log_q = [every]
    if own is not None:
        of_fake = jnp.logaddexp(others[len(real) :], pushforward.log_own(game, own))
        log_q.append(jnp.concatenate([every[: len(real)], of_fake]))
    log_p = target.log_prob(points)
    return jnp.stack([pushforward.log_ratio(log_p, one, kernels, target) for one in log_q]).reshape(-1, 2, len(real))


class Bounded(NamedTuple):
    """An estimate in its interval: four scalars.

    Attributes:
      mean, se: and standard error over scrambles.
      low, high: of the 95 % interval.
    """

    mean: jax.Array
    se: jax.Array
    low: jax.Array
    high: jax.Array


def bounded(best: jax.Array, bound: jax.Array, resolution: float = RESOLUTION) -> Bounded:
    """What replicates (M,) of an estimate and of a lower bound of one number, max_D V or a divergence, say about it.

    Args:
      best: replicates of the estimate.
      bound: of the bound, on the same nodes.
      resolution: by how much the number may exceed the estimate, beside sampling, in units of by how much the estimate
        exceeds the bound, which is what the known sheets resolve and the kernels do not.
    """
    mean, se = estimate(best)
    below, below_se = estimate(bound)
    spread = resolution * jnp.maximum(mean - below, 0)
    return Bounded(mean, se, jnp.minimum(below - T_975 * below_se, mean), mean + T_975 * se + spread)


def cross_fitted(values: jax.Array) -> jax.Array:
    """The largest V over candidate critics on each scramble, (M,); NaN where a candidate's V is.

    Args:
      values: (A, M), V of each candidate on each scramble (`value`).

    The candidate is chosen on one half of the scrambles and evaluated on the other, and the reverse, so that choosing
    the largest of several noisy values does not push the bound above the truth.
    """
    half = values.shape[1] // 2
    first, second = values[:, :half], values[:, half:]
    # argmax takes a NaN for the largest: what is undefined stays so.
    chosen = [first[jnp.argmax(jnp.mean(second, axis=1))], second[jnp.argmax(jnp.mean(first, axis=1))]]
    return jnp.concatenate(chosen)
