"""What is added to the discriminator's loss, or done to its weights.

Every gradient norm is taken per sample. Strengths are traced (`HParams.penalty_weight`, `HParams.clip_bound`), so a
sweep over them is one program. Shapes: B batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Disc = Callable[[jax.Array], jax.Array]
"""A discriminator with its parameters bound: points (B, 2) -> logits (B,)."""


class Penalty(NamedTuple):
    """One penalty or constraint.

    Attributes:
      term: (disc, real (B, 2), fake (B, 2), key, weight) -> scalar added to D's loss; None if nothing is.
      project: (parameters of D, clip bound) -> parameters, after every update of D; None if nothing is.
      reference: formula, convention and paper.
    """

    term: Callable[[Disc, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array] | None
    project: Callable[[Any, jax.Array], Any] | None
    reference: str


def _input_gradient(disc: Disc, x: jax.Array) -> jax.Array:
    """Gradient of D at each of x (B, 2), per sample: (B, 2)."""
    return jax.vmap(jax.grad(lambda point: disc(point[None, :])[0]))(x)


def _r1(disc: Disc, real: jax.Array, fake: jax.Array, key: jax.Array, weight: jax.Array) -> jax.Array:
    """weight / 2 * E |grad D(x)|^2 over real x."""
    return 0.5 * weight * jnp.mean(jnp.sum(_input_gradient(disc, real) ** 2, axis=1))


def _wgan_gp(disc: Disc, real: jax.Array, fake: jax.Array, key: jax.Array, weight: jax.Array) -> jax.Array:
    """weight * E (|grad D(x)| - 1)^2 over x uniform on the segments between real and fake pairs."""
    share = jax.random.uniform(key, (real.shape[0], 1))
    squared = jnp.sum(_input_gradient(disc, share * real + (1 - share) * fake) ** 2, axis=1)
    # The norm has no gradient at zero; the smallest normal float32 keeps that point finite and changes no other.
    norm = jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))
    return weight * jnp.mean((norm - 1) ** 2)


def _clip(params: Any, bound: jax.Array) -> Any:
    """Every weight and bias of D clipped to [-bound, bound]."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -bound, bound), params)


PENALTIES: dict[str, Penalty] = {
    "none": Penalty(None, None, "nothing added"),
    "clip": Penalty(
        None, _clip, "every weight and bias of D clipped to +-clip_bound after its update; Arjovsky et al. 2017"
    ),
    "wgan_gp": Penalty(
        _wgan_gp,
        None,
        "penalty_weight * E (|grad D| - 1)^2 between pairs, per sample, two-sided; Gulrajani et al. 2017, eq. 3",
    ),
    "r1": Penalty(
        _r1,
        None,
        "penalty_weight / 2 * E |grad D(x)|^2 over real x (with the 1/2); Mescheder et al. 2018, eq. 9",
    ),
}
