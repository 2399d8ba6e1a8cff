"""alpha losses: l(u) = alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)) in place of -log u, its limit at alpha = 1."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import softplus
from jax.scipy.special import xlog1py, xlogy

from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams, Number

# alpha losses: l(u) = alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)) in place of -log u, its limit at alpha = 1.


def _alpha_log(surprise: jax.Array, alpha: Any) -> jax.Array:
    """l(u) from -log u: (1 - exp(-c surprise)) / c, c = (alpha - 1) / alpha."""
    c = (alpha - 1) / alpha
    small = jnp.abs(c) < 1e-4
    safe = jnp.where(small, 1.0, c)
    finite = jnp.where(jnp.isinf(surprise), 0.0, surprise)  # 0 times an infinite square would be NaN
    return jnp.where(small, surprise - c / 2 * finite**2, -jnp.expm1(-safe * surprise) / safe)


def _alpha_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E l(D(x)) + E l(1 - D(G(z))) of order alpha_disc."""
    alpha = numbers.alpha_disc
    return jnp.mean(_alpha_log(softplus(-real_logits), alpha)) + jnp.mean(_alpha_log(softplus(fake_logits), alpha))


def _alpha_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E l(1 - D(G(z))) of order alpha_gen."""
    return -jnp.mean(_alpha_log(softplus(fake_logits), numbers.alpha_gen))


def _alpha_non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E l(D(G(z))) of order alpha_gen."""
    return jnp.mean(_alpha_log(softplus(-fake_logits), numbers.alpha_gen))


def _alpha_critic(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    return numbers.alpha_disc * log_ratio


def _alpha_equilibrium(numbers: HParams) -> jax.Array:
    return -2 * _alpha_log(jnp.asarray(math.log(2)), numbers.alpha_disc)


def _alpha_slope(numbers: HParams) -> jax.Array:
    """Of u^c (1 - u) over u in (0, 1), c = (alpha_gen - 1) / alpha_gen: at u = c / (1 + c); unbounded where c < 0."""
    c = (jnp.asarray(numbers.alpha_gen) - 1) / numbers.alpha_gen
    at = jnp.maximum(c, 0)
    return jnp.where(c < 0, jnp.nan, jnp.exp(xlogy(at, at) - xlog1py(1 + at, at)))


_ORDERS = {
    "alpha_disc": Number(1.0, 0, above=True, text="order of D's loss; 1 is the logistic loss"),
    "alpha_gen": Number(1.0, 0, above=True, text="order of G's loss"),
}


_ALPHA: dict[str, Any] = {
    "numbers": _ORDERS,
    "critic": _alpha_critic,
    "equilibrium": _alpha_equilibrium,
    "optimum": "a / (a - 1) (integral of (p^a + q^a)^(1/a) - 2), a = alpha_disc",
    "slope_bound": _alpha_slope,
}


ALPHA = (
    Loss(
        "alpha",
        disc=_alpha_disc,
        gen=_alpha_gen,
        reference="Welfert et al. 2023, (alpha_D, alpha_G)-GANs, saturating",
        **_ALPHA,
    ),
    Loss(
        "alpha_non_saturating",
        disc=_alpha_disc,
        gen=_alpha_non_saturating_gen,
        reference="Welfert et al. 2023, (alpha_D, alpha_G)-GANs, non-saturating",
        **_ALPHA,
    ),
)
