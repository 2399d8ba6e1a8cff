"""Relativistic losses: of the difference of D's outputs on real and fake samples, in pairs or to the batch's mean."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import softplus

from gandyn.gan.loss import Loss
from gandyn.gan.losses.shared import constant, identity
from gandyn.gan.number import HParams


def _relativistic_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E softplus(-(D(x) - D(G(z)))) over independent pairs (x, z)."""
    return jnp.mean(softplus(fake_logits - real_logits))


def _relativistic_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E softplus(-(D(G(z)) - D(x))) over independent pairs (x, z)."""
    return jnp.mean(softplus(real_logits - fake_logits))


# One factor f of the difference of two outputs makes three of these: f = softplus(-d), max(0, 1 - d), (d - 1)^2.


def _hinge(difference: jax.Array) -> jax.Array:
    return jax.nn.relu(1 - difference)


def _square(difference: jax.Array) -> jax.Array:
    return (difference - 1) ** 2


def _average(f: Callable[[jax.Array], jax.Array], own: jax.Array, other: jax.Array) -> jax.Array:
    """E f(own - E other) + E f(E own - other)."""
    return jnp.mean(f(own - jnp.mean(other))) + jnp.mean(f(jnp.mean(own) - other))


def _relativistic_average_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E softplus(-(D(x) - E D(G(z)))) + E softplus(D(G(z)) - E D(x)), the inner means over the batch."""
    return _average(lambda d: softplus(-d), real_logits, fake_logits)


def _relativistic_average_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E softplus(-(D(G(z)) - E D(x))) + E softplus(D(x) - E D(G(z))), the inner means over the batch."""
    return _average(lambda d: softplus(-d), fake_logits, real_logits)


def _relativistic_hinge_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - (D(x) - D(G(z)))) over independent pairs (x, z)."""
    return jnp.mean(_hinge(real_logits - fake_logits))


def _relativistic_hinge_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - (D(G(z)) - D(x))) over independent pairs (x, z)."""
    return jnp.mean(_hinge(fake_logits - real_logits))


def _relativistic_average_hinge_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - (D(x) - E D(G(z)))) + E max(0, 1 + (D(G(z)) - E D(x)))."""
    return _average(_hinge, real_logits, fake_logits)


def _relativistic_average_hinge_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - (D(G(z)) - E D(x))) + E max(0, 1 + (D(x) - E D(G(z))))."""
    return _average(_hinge, fake_logits, real_logits)


def _relativistic_least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E (D(x) - D(G(z)) - 1)^2 over independent pairs (x, z)."""
    return jnp.mean(_square(real_logits - fake_logits))


def _relativistic_least_squares_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E (D(G(z)) - D(x) - 1)^2 over independent pairs (x, z)."""
    return jnp.mean(_square(fake_logits - real_logits))


def _relativistic_average_least_squares_disc(
    real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams
) -> jax.Array:
    """E (D(x) - E D(G(z)) - 1)^2 + E (D(G(z)) - E D(x) + 1)^2."""
    return _average(_square, real_logits, fake_logits)


def _relativistic_average_least_squares_gen(
    real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams
) -> jax.Array:
    """E (D(G(z)) - E D(x) - 1)^2 + E (D(x) - E D(G(z)) + 1)^2."""
    return _average(_square, fake_logits, real_logits)


def _tanh_half(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    """(p - q) / (p + q): the stationary critic of the relativistic least squares, up to a factor."""
    return jnp.tanh(log_ratio / 2)


# With C = k t, t = (p - q) / (p + q) and S = E_p t - E_q t = integral of (p - q)^2 / (p + q), the loss is a quadratic
# in k, for Var_p t + Var_q t = S - S^2 / 2: pairing k^2 (S - S^2/2) + (k S - 1)^2, average the same with 2 (k S - 1)^2.


def _pairing_scale(real: jax.Array, fake: jax.Array) -> jax.Array:
    return 2 / (2 + (jnp.mean(real) - jnp.mean(fake)))


def _average_scale(real: jax.Array, fake: jax.Array) -> jax.Array:
    return 4 / (2 + 3 * (jnp.mean(real) - jnp.mean(fake)))


RELATIVISTIC = (
    Loss(
        "relativistic",
        disc=_relativistic_disc,
        gen=_relativistic_gen,
        critic=identity,
        equilibrium=constant(-math.log(2)),
        optimum="JS(p x q, q x p) - log 2 over pairs",
        reference="Jolicoeur-Martineau 2019, relativistic pairing; Huang et al. 2024 (R3GAN), eq. 2",
        slope_bound=1.0,
        pairs=True,
        units="nat",
        logistic=True,
    ),
    Loss(
        "relativistic_average",
        disc=_relativistic_average_disc,
        gen=_relativistic_average_gen,
        equilibrium=constant(-2 * math.log(2)),
        optimum="no closed form known (the inner means couple all samples)",
        reference="Jolicoeur-Martineau 2019, relativistic average (RaSGAN), without the factor 1/2",
        slope_bound=2.0,
        couples=True,
        pairs=True,
        units="nat",
        logistic=True,
    ),
    Loss(
        "relativistic_hinge",
        disc=_relativistic_hinge_disc,
        gen=_relativistic_hinge_gen,
        equilibrium=constant(-1.0),
        optimum="no closed form known (the best pair function, a sign, is no difference of two outputs)",
        reference="Jolicoeur-Martineau 2020, relativistic f-divergences (RpHinge)",
        slope_bound=1.0,
        pairs=True,
    ),
    Loss(
        "relativistic_least_squares",
        disc=_relativistic_least_squares_disc,
        gen=_relativistic_least_squares_gen,
        critic=_tanh_half,
        equilibrium=constant(-1.0),
        optimum="(S - 2) / (S + 2), S = integral of (p - q)^2 / (p + q)",
        slope_bound=math.nan,
        reference="Jolicoeur-Martineau 2020, relativistic f-divergences (RpLS); optimum derived here",
        scale=_pairing_scale,
        pairs=True,
    ),
    Loss(
        "relativistic_average_hinge",
        disc=_relativistic_average_hinge_disc,
        gen=_relativistic_average_hinge_gen,
        equilibrium=constant(-2.0),
        optimum="no closed form known (the inner means couple all samples)",
        reference="Jolicoeur-Martineau 2019, relativistic average hinge (RaHingeGAN), without the factor 1/2",
        slope_bound=2.0,
        couples=True,
        pairs=True,
    ),
    Loss(
        "relativistic_average_least_squares",
        disc=_relativistic_average_least_squares_disc,
        gen=_relativistic_average_least_squares_gen,
        critic=_tanh_half,
        equilibrium=constant(-2.0),
        optimum="2 (S - 2) / (3 S + 2), S = integral of (p - q)^2 / (p + q)",
        slope_bound=math.nan,
        reference="Jolicoeur-Martineau 2019, RaLSGAN, without the factor 1/2; optimum derived here",
        scale=_average_scale,
        couples=True,
        pairs=True,
    ),
)
