"""Whether a loss is a mean over single samples, E_p a(s) + E_q b(s): tried on batches, in float32."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gandyn.truth.best_output import single

TRIED = (-20.0, -3.0, -1.0, -0.3, 0.0, 0.4, 1.0, 2.5, 15.0)
"""Outputs."""
ROUNDING = 1e-5
"""Of what is compared: a smaller share is rounding."""


def residuals(loss: Callable[..., Any], numbers: Any) -> jax.Array:
    """How far a loss is from a mean over single samples, (2,), as a share of the sizes of what is compared.

    The mixed second difference of its values on batches of one real and one fake sample; its value on batches less the
    mean over their samples. Only at those of the outputs tried at which it is a finite number; NaN if at none.
    """
    tried = jnp.asarray(TRIED)
    defined = jnp.isfinite(single(loss, numbers, tried, tried))
    here = jnp.argmin(jnp.where(defined, jnp.abs(tried), jnp.inf))
    tried = jnp.where(defined, tried, tried[here])
    size = len(TRIED), len(TRIED)
    pairs = jnp.repeat(tried, size[0]), jnp.tile(tried, size[0])
    values = jnp.reshape(single(loss, numbers, *pairs), size)
    row, column = jnp.broadcast_to(values[here][None, :], size), jnp.broadcast_to(values[:, here][:, None], size)
    mixed = jnp.abs(values - row - column + values[here, here])
    sizes = jnp.abs(values) + jnp.abs(row) + jnp.abs(column) + jnp.abs(values[here, here])
    adds = jnp.max(mixed / jnp.maximum(sizes, 1e-30))

    def away(of: slice) -> jax.Array:
        """From the mean, of the batch of some of the outputs."""
        real, fake = tried[of], jnp.roll(tried[of], 2)
        alone = single(loss, numbers, real, fake)
        return jnp.abs(loss(real, fake, numbers) - jnp.mean(alone)) / jnp.maximum(jnp.mean(jnp.abs(alone)), 1e-30)

    # Those next to zero by themselves, too: beside exp(20) nothing else counts.
    averages = jnp.maximum(away(slice(None)), away(slice(2, 7)))
    return jnp.where(jnp.any(defined), jnp.stack([adds, averages]), jnp.nan)


def why_not(name: str, adds: float, averages: float) -> str:
    """What `residuals` say of the loss of a name: why it is no mean over single samples, "" where it is."""
    if math.isnan(adds):
        return f"{name} is a finite number at none of the outputs {', '.join(f'{s:g}' for s in TRIED)}"
    if not adds <= ROUNDING:
        return f"{name} is no sum of a loss of real samples and one of fake samples (relative difference {adds:.2g})"
    if not averages <= ROUNDING:
        return (
            f"{name} of a batch is not the mean of {name} over its samples: a sum, or a statistic of the batch "
            f"(relative difference {averages:.2g})"
        )
    return ""
