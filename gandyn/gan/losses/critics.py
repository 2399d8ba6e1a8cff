"""Losses of a critic, whose outputs are scores: Wasserstein and hinge."""

import jax
import jax.numpy as jnp

from gandyn.gan.loss import Loss
from gandyn.gan.losses.shared import constant, negative_mean_gen
from gandyn.gan.number import HParams


def _wasserstein_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-(E D(x) - E D(G(z)))."""
    return jnp.mean(fake_logits) - jnp.mean(real_logits)


def _hinge_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
    return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


CRITICS = (
    Loss(
        "wasserstein",
        disc=_wasserstein_disc,
        gen=negative_mean_gen,
        equilibrium=constant(0.0),
        optimum="W1(p, q) over 1-Lipschitz D (a Kantorovich potential: no function of p/q)",
        reference="Arjovsky et al. 2017, eq. 2; the constraint on D is the penalty's business",
        unbounded=True,
        zero_sum=True,
        slope_bound=1.0,
    ),
    Loss(
        "hinge",
        disc=_hinge_disc,
        gen=negative_mean_gen,
        critic=lambda log_ratio, numbers: jnp.sign(log_ratio),
        equilibrium=constant(-2.0),
        optimum="2 TV(p, q) - 2",
        reference="Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17",
        slope_bound=1.0,
    ),
)
