"""What losses of several families share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import softplus

from gandyn.gan.number import HParams


def identity(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    """The critic that is the log ratio itself."""
    return log_ratio


def constant(value: float) -> Callable[..., jax.Array]:
    """numbers -> the value, whatever they are."""
    return lambda numbers: jnp.asarray(value, jnp.float32)


def negative_mean_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E D(G(z))."""
    return -jnp.mean(fake_logits)


def non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E log D(G(z))."""
    return jnp.mean(softplus(-fake_logits))
