"""f-GAN: T = g(D) with the output activation g of a divergence, disc = -E T(x) + E f*(T(G(z)))."""

import math

import jax
import jax.numpy as jnp
from jax.nn import softplus

from gandyn.gan.loss import Loss
from gandyn.gan.losses.shared import constant, identity, negative_mean_gen, non_saturating_gen
from gandyn.gan.number import HParams

# f-GAN: T = g(D) with the output activation g of the divergence, disc = -E T(x) + E f*(T(G(z))), and the generator of
# section 3.2, -E T(G(z)), which does not saturate. f*(g(v)) is written out where that is shorter and overflows later.


def _kl_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(x) + E exp(T(G(z)) - 1), T = D."""
    return jnp.mean(jnp.exp(fake_logits - 1)) - jnp.mean(real_logits)


def _reverse_kl_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(x) + E [-1 - log(-T(G(z)))], T = -exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(fake_logits)


def _reverse_kl_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(G(z)), T = -exp(-D)."""
    return jnp.mean(jnp.exp(-fake_logits))


def _pearson_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(x) + E [T(G(z))^2 / 4 + T(G(z))], T = D."""
    return jnp.mean(fake_logits * (fake_logits / 4 + 1)) - jnp.mean(real_logits)


def _hellinger_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(x) + E T(G(z)) / (1 - T(G(z))), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(jnp.expm1(fake_logits))


def _hellinger_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(G(z)), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-fake_logits))


def _js_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(x) + E [-log(2 - exp(T(G(z))))], T = log 2 - softplus(-D)."""
    return jnp.mean(softplus(-real_logits)) + jnp.mean(softplus(fake_logits)) - 2 * math.log(2)


def _js_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E T(G(z)), T = log 2 - softplus(-D)."""
    return non_saturating_gen(real_logits, fake_logits, numbers) - math.log(2)


DIVERGENCES = (
    Loss(
        "f_kl",
        disc=_kl_disc,
        gen=negative_mean_gen,
        critic=lambda log_ratio, numbers: 1 + log_ratio,
        equilibrium=constant(0.0),
        optimum="KL(p || q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Kullback-Leibler",
        slope_bound=1.0,
        units="nat",
    ),
    Loss(
        "f_reverse_kl",
        disc=_reverse_kl_disc,
        gen=_reverse_kl_gen,
        critic=identity,
        equilibrium=constant(0.0),
        optimum="KL(q || p)",
        slope_bound=math.nan,
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, reverse Kullback-Leibler",
        units="nat",
    ),
    Loss(
        "f_pearson",
        disc=_pearson_disc,
        gen=negative_mean_gen,
        critic=lambda log_ratio, numbers: 2 * jnp.expm1(log_ratio),
        equilibrium=constant(0.0),
        optimum="chi2(p || q) = integral of (p - q)^2 / q",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Pearson chi2",
        slope_bound=1.0,
    ),
    Loss(
        "f_hellinger",
        disc=_hellinger_disc,
        gen=_hellinger_gen,
        critic=lambda log_ratio, numbers: log_ratio / 2,
        equilibrium=constant(0.0),
        optimum="integral of (sqrt(p) - sqrt(q))^2",
        slope_bound=math.nan,
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, squared Hellinger",
    ),
    Loss(
        "f_js",
        disc=_js_disc,
        gen=_js_gen,
        critic=identity,
        equilibrium=constant(0.0),
        optimum="2 JSD(p, q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Jensen-Shannon (their divergence is 2 JSD)",
        slope_bound=1.0,
        units="nat",
        logistic=True,
    ),
)
