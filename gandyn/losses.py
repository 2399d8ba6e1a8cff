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
}
