"""What is added to the discriminator's loss, or done to its weights.

Every gradient norm is taken per sample (per pack, where D sees packs). Strengths are traced (`HParams.penalty_weight`,
`HParams.clip_bound`), so a sweep over them is one program. Shapes: B batch, I inputs of D (2, or 2m for packs of m).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Disc = Callable[[jax.Array], jax.Array]
"""A discriminator with its parameters and labels bound: points (B, I) -> logits (B,), each from its own point alone."""


class Penalty(NamedTuple):
    """One penalty or constraint.

    Attributes:
      term: (disc, parameters of D, real (B, I), fake (B, I), uniform, weight) -> scalar added to D's loss, with
        uniforms in (0, 1) (B, I + 1) of its own; None if nothing is.
      project: (parameters of D, clip bound) -> parameters, after every update of D; None if nothing is.
      reference: formula, convention and paper.
      per_sample: whether `term` takes gradients at single samples, so that D must not couple the samples of a batch.
    """

    term: Callable[[Disc, Any, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array] | None
    project: Callable[[Any, jax.Array], Any] | None
    reference: str
    per_sample: bool = False


def _squared_norm(disc: Disc, x: jax.Array) -> jax.Array:
    """|grad D|^2 at each of x (B, I): (B,)."""
    # Each logit depends on its own point only, so the gradient of their sum holds that of each.
    return jnp.sum(jax.grad(lambda points: jnp.sum(disc(points)))(x) ** 2, axis=1)


def _norm(disc: Disc, x: jax.Array) -> jax.Array:
    squared = _squared_norm(disc, x)
    # The norm has no gradient at zero; the smallest normal float32 keeps that point finite and changes no other.
    return jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))


def _r1(disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array) -> jax.Array:
    """weight / 2 * E |grad D(x)|^2 over real x."""
    return 0.5 * weight * jnp.mean(_squared_norm(disc, real))


def _r2(disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array) -> jax.Array:
    """weight / 2 * E |grad D(x)|^2 over fake x."""
    return 0.5 * weight * jnp.mean(_squared_norm(disc, fake))


def _r1_r2(
    disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array
) -> jax.Array:
    """weight / 2 * (E |grad D(x)|^2 over real x + the same over fake x)."""
    return 0.5 * weight * (jnp.mean(_squared_norm(disc, real)) + jnp.mean(_squared_norm(disc, fake)))


def _between(real: jax.Array, fake: jax.Array, uniform: jax.Array) -> jax.Array:
    share = uniform[:, :1]
    return share * real + (1 - share) * fake


def _wgan_gp(
    disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array
) -> jax.Array:
    """weight * E (|grad D(x)| - 1)^2 over x uniform on the segments between real and fake pairs."""
    return weight * jnp.mean((_norm(disc, _between(real, fake, uniform)) - 1) ** 2)


def _wgan_lp(
    disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array
) -> jax.Array:
    """weight * E max(0, |grad D(x)| - 1)^2 over x uniform on the segments between real and fake pairs."""
    return weight * jnp.mean(jax.nn.relu(_norm(disc, _between(real, fake, uniform)) - 1) ** 2)


def _dragan(
    disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array
) -> jax.Array:
    """weight * E (|grad D(x + d)| - 1)^2 over real x, d = a s u / 2: a, u uniform in [0, 1], s the batch's std."""
    shift = 0.5 * jnp.std(real) * uniform[:, :1] * uniform[:, 1:]
    return weight * jnp.mean((_norm(disc, real + shift) - 1) ** 2)


def _weight_decay(
    disc: Disc, params: Any, real: jax.Array, fake: jax.Array, uniform: jax.Array, weight: jax.Array
) -> jax.Array:
    """weight / 2 * the sum of the squares of all of D's weights and biases."""
    return 0.5 * weight * optax.tree.norm(params, squared=True)


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
        per_sample=True,
    ),
    "wgan_lp": Penalty(
        _wgan_lp,
        None,
        "penalty_weight * E max(0, |grad D| - 1)^2 between pairs, per sample, one-sided; Petzka et al. 2018, eq. 8",
        per_sample=True,
    ),
    "dragan": Penalty(
        _dragan,
        None,
        "penalty_weight * E (|grad D(x + d)| - 1)^2 around real x, d up to half the batch's std; Kodali et al. 2017",
        per_sample=True,
    ),
    "r1": Penalty(
        _r1,
        None,
        "penalty_weight / 2 * E |grad D(x)|^2 over real x (with the 1/2); Mescheder et al. 2018, eq. 9",
        per_sample=True,
    ),
    "r2": Penalty(
        _r2,
        None,
        "penalty_weight / 2 * E |grad D(x)|^2 over fake x (with the 1/2); Mescheder et al. 2018, eq. 10",
        per_sample=True,
    ),
    "r1_r2": Penalty(
        _r1_r2,
        None,
        "R1 + R2, one penalty_weight for both (each with the 1/2); Huang et al. 2024 (R3GAN)",
        per_sample=True,
    ),
    "weight_decay": Penalty(
        _weight_decay, None, "penalty_weight / 2 * |parameters of D|^2, in the loss (decoupled: optimizer adamw)"
    ),
}
