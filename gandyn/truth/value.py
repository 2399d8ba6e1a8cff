"""The value function V(D, G): the very loss that D minimizes, on quasi-random nodes instead of a minibatch.

Shapes: M scrambles, N nodes in each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gandyn.gan.losses import DEFAULTS, Loss, LossParams

T_975 = 2.364624
"""97.5 % quantile of Student's t with 7 degrees of freedom: eight scrambles give `value +- T_975 * se` its 95 %."""


class Estimate(NamedTuple):
    """A mean over independent scrambles and its standard error, each a scalar."""

    mean: jax.Array
    se: jax.Array


def estimate(replicates: jax.Array) -> Estimate:
    """Mean and standard error of M independent, unbiased replicates (M,)."""
    return Estimate(jnp.mean(replicates), jnp.std(replicates, ddof=1) / jnp.sqrt(replicates.shape[0]))


def value(loss: Loss, outputs: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """V(D, G) = -disc on each scramble.

    There is no second formula: it is `loss.disc` itself, at the limit of a large batch.

    Args:
      loss: whose V.
      outputs: (..., 2, M, N), outputs of D, or of several critics, on the real and on the fake nodes.
      params: the loss's numbers.

    Returns:
      (..., M), one unbiased replicate of V a scramble.
    """
    real, fake = jnp.moveaxis(outputs, -3, 0)
    disc = lambda real, fake: loss.disc(real, fake, params)  # noqa: E731
    return -jnp.vectorize(disc, signature="(n),(n)->()")(real, fake)
