r"""GAN losses: what each player minimizes, as functions of the discriminator's outputs.

Conventions, for every entry of `LOSSES`:

- `disc` and `gen` take the logits of B real and B fake samples (pairs, for the relativistic loss) and return the mean
  over the batch, in nats for the logistic losses. Both are *minimized*; the value function is V(D, G) = -disc.
  (Accounts that write the Wasserstein critic's objective E D(x) - E D(G(z)) write the quantity that is maximized.)
- `gen` of "minimax" is E log(1 - D(G(z))), the *saturating* loss of Goodfellow et al. (2014), eq. 1;
  `gen` of "non_saturating" is -E log D(G(z)), their remedy in section 3. Some accounts swap the two names.
- The discriminator wants D(G(z)) low, the generator wants it high, in all of them.
- Logits are a raw output: D(x) = sigmoid(logit) for the logistic losses.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus


class Loss(NamedTuple):
    """One GAN loss.

    Attributes:
      disc: (real_logits (B,), fake_logits (B,)) -> what the discriminator minimizes, a scalar; V = -disc.
      gen: (real_logits (B,), fake_logits (B,)) -> what the generator minimizes, a scalar.
      critic: log density ratio log p/q (N,) -> output (N,) of the optimal discriminator; None where the optimum is
        not a function of the density ratio.
      equilibrium: V at q = p under the optimal discriminator.
      optimum: what max_D V measures, in words.
      reference: paper and equation.
    """

    disc: Callable[[jax.Array, jax.Array], jax.Array]
    gen: Callable[[jax.Array, jax.Array], jax.Array]
    critic: Callable[[jax.Array], jax.Array] | None
    equilibrium: float
    optimum: str
    reference: str


def _identity(log_ratio: jax.Array) -> jax.Array:
    return log_ratio


def _logistic_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    return jnp.mean(softplus(-real_logits)) + jnp.mean(softplus(fake_logits))


def _saturating_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E log(1 - D(G(z)))."""
    return -jnp.mean(softplus(fake_logits))


def _non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E log D(G(z))."""
    return jnp.mean(softplus(-fake_logits))


def _wasserstein_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-(E D(x) - E D(G(z)))."""
    return jnp.mean(fake_logits) - jnp.mean(real_logits)


def _negative_mean_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E D(G(z))."""
    return -jnp.mean(fake_logits)


def _hinge_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
    return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


def _least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2, on raw outputs."""
    return 0.5 * jnp.mean((real_logits - 1) ** 2) + 0.5 * jnp.mean(fake_logits**2)


def _least_squares_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """1/2 E (D(G(z)) - 1)^2, on raw outputs."""
    return 0.5 * jnp.mean((fake_logits - 1) ** 2)


def _relativistic_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E softplus(-(D(x) - D(G(z)))) over independent pairs (x, z)."""
    return jnp.mean(softplus(fake_logits - real_logits))


def _relativistic_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E softplus(-(D(G(z)) - D(x))) over independent pairs (x, z)."""
    return jnp.mean(softplus(real_logits - fake_logits))


def _relativistic_average(own: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.mean(softplus(jnp.mean(other) - own)) + jnp.mean(softplus(other - jnp.mean(own)))


def _relativistic_average_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E softplus(-(D(x) - E D(G(z)))) + E softplus(D(G(z)) - E D(x)), the inner means over the batch."""
    return _relativistic_average(real_logits, fake_logits)


def _relativistic_average_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E softplus(-(D(G(z)) - E D(x))) + E softplus(D(x) - E D(G(z))), the inner means over the batch."""
    return _relativistic_average(fake_logits, real_logits)


# f-GAN: T = g(D) with the output activation g of the divergence, disc = -E T(x) + E f*(T(G(z))), and the generator of
# section 3.2, -E T(G(z)), which does not saturate. f*(g(v)) is written out where that is shorter and overflows later.


def _kl_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(x) + E exp(T(G(z)) - 1), T = D."""
    return jnp.mean(jnp.exp(fake_logits - 1)) - jnp.mean(real_logits)


def _reverse_kl_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(x) + E [-1 - log(-T(G(z)))], T = -exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(fake_logits)


def _reverse_kl_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(G(z)), T = -exp(-D)."""
    return jnp.mean(jnp.exp(-fake_logits))


def _pearson_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(x) + E [T(G(z))^2 / 4 + T(G(z))], T = D."""
    return jnp.mean(fake_logits**2 / 4 + fake_logits) - jnp.mean(real_logits)


def _hellinger_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(x) + E T(G(z)) / (1 - T(G(z))), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(jnp.expm1(fake_logits))


def _hellinger_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(G(z)), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-fake_logits))


def _js_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(x) + E [-log(2 - exp(T(G(z))))], T = log 2 - softplus(-D)."""
    return _logistic_disc(real_logits, fake_logits) - 2 * math.log(2)


def _js_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-E T(G(z)), T = log 2 - softplus(-D)."""
    return _non_saturating_gen(real_logits, fake_logits) - math.log(2)


LOSSES: dict[str, Loss] = {
    "minimax": Loss(
        disc=_logistic_disc,
        gen=_saturating_gen,
        critic=_identity,
        equilibrium=-2 * math.log(2),
        optimum="2 JSD(p, q) - log 4",
        reference="Goodfellow et al. 2014, eq. 1 (the saturating generator loss)",
    ),
    "non_saturating": Loss(
        disc=_logistic_disc,
        gen=_non_saturating_gen,
        critic=_identity,
        equilibrium=-2 * math.log(2),
        optimum="2 JSD(p, q) - log 4",
        reference="Goodfellow et al. 2014, section 3",
    ),
    "wasserstein": Loss(
        disc=_wasserstein_disc,
        gen=_negative_mean_gen,
        critic=None,
        equilibrium=0.0,
        optimum="W1(p, q) over 1-Lipschitz D (a Kantorovich potential: no function of p/q)",
        reference="Arjovsky et al. 2017, eq. 2; the constraint on D is the penalty's business",
    ),
    "hinge": Loss(
        disc=_hinge_disc,
        gen=_negative_mean_gen,
        critic=jnp.sign,
        equilibrium=-2.0,
        optimum="2 TV(p, q) - 2",
        reference="Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17",
    ),
    "least_squares": Loss(
        disc=_least_squares_disc,
        gen=_least_squares_gen,
        critic=sigmoid,
        equilibrium=-0.25,
        optimum="-1/2 * integral of p q / (p + q)",
        reference="Mao et al. 2017, eq. 9 (targets 1 and 0, with the factor 1/2, raw outputs)",
    ),
    "relativistic": Loss(
        disc=_relativistic_disc,
        gen=_relativistic_gen,
        critic=_identity,
        equilibrium=-math.log(2),
        optimum="JS(p x q, q x p) - log 2 over pairs",
        reference="Jolicoeur-Martineau 2019, relativistic pairing; Huang et al. 2024 (R3GAN), eq. 2",
    ),
    "relativistic_average": Loss(
        disc=_relativistic_average_disc,
        gen=_relativistic_average_gen,
        critic=None,
        equilibrium=-2 * math.log(2),
        optimum="no closed form known (the inner means couple all samples)",
        reference="Jolicoeur-Martineau 2019, relativistic average (RaSGAN), without the factor 1/2",
    ),
    "f_kl": Loss(
        disc=_kl_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio: 1 + log_ratio,
        equilibrium=0.0,
        optimum="KL(p || q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Kullback-Leibler",
    ),
    "f_reverse_kl": Loss(
        disc=_reverse_kl_disc,
        gen=_reverse_kl_gen,
        critic=_identity,
        equilibrium=0.0,
        optimum="KL(q || p)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, reverse Kullback-Leibler",
    ),
    "f_pearson": Loss(
        disc=_pearson_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio: 2 * jnp.expm1(log_ratio),
        equilibrium=0.0,
        optimum="chi2(p || q) = integral of (p - q)^2 / q",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Pearson chi2",
    ),
    "f_hellinger": Loss(
        disc=_hellinger_disc,
        gen=_hellinger_gen,
        critic=lambda log_ratio: log_ratio / 2,
        equilibrium=0.0,
        optimum="integral of (sqrt(p) - sqrt(q))^2",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, squared Hellinger",
    ),
    "f_js": Loss(
        disc=_js_disc,
        gen=_js_gen,
        critic=_identity,
        equilibrium=0.0,
        optimum="2 JSD(p, q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Jensen-Shannon (their divergence is 2 JSD)",
    ),
}
