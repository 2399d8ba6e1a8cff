"""The value function V(D, G): the very loss that D minimizes, on quasi-random nodes instead of a minibatch.

Shapes: M scrambles, N nodes in each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.number import HParams

T_975 = 2.364624
"""97.5 % quantile of Student's t with 7 degrees of freedom: eight scrambles give `value +- T_975 * se` its 95 %."""


class Estimate(NamedTuple):
    """A mean over independent scrambles and its standard error, each a scalar."""

    mean: jax.Array
    se: jax.Array


def estimate(replicates: jax.Array) -> Estimate:
    """Mean and standard error of M independent, unbiased replicates (M,)."""
    return Estimate(jnp.mean(replicates), jnp.std(replicates, ddof=1) / jnp.sqrt(replicates.shape[0]))


def value(loss: Loss, outputs: jax.Array | Outputs, numbers: HParams) -> jax.Array:
    """V(D, G) = -disc on each scramble.

    There is no second formula: it is `loss.disc` itself, at the limit of a large batch.

    Args:
      loss: whose V.
      outputs: (..., 2, M, N), outputs of D, or of several critics, on the real and on the fake nodes; or `Outputs` of
        them, labels and what D's module sowed (2, M, N, ...) beside, for a loss that reads it.
      numbers: the loss's numbers.

    Returns:
      (..., M), one unbiased replicate of V a scramble.
    """
    logits = outputs.logits if isinstance(outputs, Outputs) else outputs
    if not loss.aux:
        real, fake = jnp.moveaxis(logits, -3, 0)
        disc = lambda real, fake: loss.disc(real, fake, numbers)  # noqa: E731
        return -jnp.vectorize(disc, signature="(n),(n)->()")(real, fake)
    assert isinstance(outputs, Outputs)
    beside = outputs._replace(logits=None)

    def on_scramble(logits: jax.Array, beside: Outputs) -> jax.Array:
        real, fake = (jax.tree.map(lambda x, i=i: x[i], beside._replace(logits=logits)) for i in range(2))
        return loss.disc(real, fake, numbers)

    over_scrambles = jax.vmap(on_scramble, in_axes=(1, 1))
    flat = logits.reshape(-1, *logits.shape[-3:])
    return -jax.vmap(over_scrambles, in_axes=(0, None))(flat, beside).reshape(*logits.shape[:-3], -1)
