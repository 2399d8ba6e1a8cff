r"""GAN losses: what each player minimizes, as functions of the discriminator's outputs.

Conventions, for every entry of `LOSSES`:

- `disc` and `gen` take the logits of B real and B fake samples (pairs, for the relativistic loss) and return the mean
  over the batch, in nats for the logistic losses. Both are *minimized*; the value function is V(D, G) = -disc.
  (Accounts that write the Wasserstein critic's objective E D(x) - E D(G(z)) write the quantity that is maximized.)
- `gen` of "minimax" is E log(1 - D(G(z))), the *saturating* loss of Goodfellow et al. (2014), eq. 1;
  `gen` of "non_saturating" is -E log D(G(z)), their remedy in section 3. Some accounts swap the two names.
- The discriminator wants D(G(z)) low, the generator wants it high, in all of them.
- Logits are a raw output: D(x) = sigmoid(logit) for the logistic losses.
- What is a number in a loss (its target labels, its order alpha) is in `LossParams`, and traced.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid, softplus

Number = Any
"""A Python number or a traced scalar."""


class LossParams(NamedTuple):
    """The numbers of the losses, scalars; each loss reads its own. All are fields of `HParams`.

    Attributes:
      label_smoothing: share e of the real samples that D is to call fake, one-sided (Salimans et al. 2016, 3.4): the
        real part becomes -(1 - e) E log D(x) - e E log(1 - D(x)). Read by "minimax" and "non_saturating".
      label_fake, label_real, label_gen: a, b, c of least squares, what D aims at on fake and on real samples and what
        G wants D to say (Mao et al. 2017, eq. 2).
      alpha_disc, alpha_gen: the orders of the alpha losses.
    """

    label_smoothing: Number = 0.0
    label_fake: Number = 0.0
    label_real: Number = 1.0
    label_gen: Number = 1.0
    alpha_disc: Number = 1.0
    alpha_gen: Number = 1.0


DEFAULTS = LossParams()


class Loss(NamedTuple):
    """One GAN loss. Every function takes `LossParams` as its last argument, and the defaults where it is left out.

    Attributes:
      disc: (real_logits (B,), fake_logits (B,)) -> what the discriminator minimizes, a scalar; V = -disc.
      gen: (real_logits (B,), fake_logits (B,)) -> what the generator minimizes, a scalar.
      critic: log density ratio log p/q (N,) -> output (N,) of the optimal discriminator, up to `scale`; None where no
        formula is known.
      equilibrium: () -> V at q = p under the optimal discriminator.
      optimum: what max_D V measures, in words.
      reference: paper and equation.
      scale: where the optimum has a factor that is an integral over p and q: (critic's real (N,), fake outputs (N,))
        -> that factor; None where the critic needs none.
      zero_sum: whether G minimizes V itself (of which `gen` is the part that moves with G's samples).
    """

    disc: Callable[..., jax.Array]
    gen: Callable[..., jax.Array]
    critic: Callable[..., jax.Array] | None
    equilibrium: Callable[..., jax.Array]
    optimum: str
    reference: str
    scale: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    zero_sum: bool = False


def _identity(log_ratio: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    return log_ratio


def _constant(value: float) -> Callable[..., jax.Array]:
    return lambda params=DEFAULTS: jnp.asarray(value, jnp.float32)


def _logistic_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    # Smoothing by e swaps e of softplus(-s) for softplus(s), which is s more.
    real = jnp.mean(softplus(-real_logits) + params.label_smoothing * real_logits)
    return real + jnp.mean(softplus(fake_logits))


def _logistic_critic(log_ratio: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """log of (1 - e) p / (q + e p)."""
    e = params.label_smoothing
    return log_ratio + jnp.log1p(-e) - jnp.logaddexp(0.0, jnp.log(e) + log_ratio)


def _logistic_equilibrium(params: LossParams = DEFAULTS) -> jax.Array:
    e = params.label_smoothing
    return (1 - e) * jnp.log1p(-e) + (1 + e) * jnp.log1p(e) - 2 * math.log(2)


def _saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """E log(1 - D(G(z)))."""
    return -jnp.mean(softplus(fake_logits))


def _non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E log D(G(z))."""
    return jnp.mean(softplus(-fake_logits))


def _wasserstein_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-(E D(x) - E D(G(z)))."""
    return jnp.mean(fake_logits) - jnp.mean(real_logits)


def _negative_mean_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E D(G(z))."""
    return -jnp.mean(fake_logits)


def _hinge_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
    return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


def _least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """1/2 E (D(x) - b)^2 + 1/2 E (D(G(z)) - a)^2, on raw outputs."""
    real = jnp.mean((real_logits - params.label_real) ** 2)
    return 0.5 * real + 0.5 * jnp.mean((fake_logits - params.label_fake) ** 2)


def _least_squares_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """1/2 E (D(G(z)) - c)^2, on raw outputs."""
    return 0.5 * jnp.mean((fake_logits - params.label_gen) ** 2)


def _least_squares_critic(log_ratio: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    return params.label_fake + (params.label_real - params.label_fake) * sigmoid(log_ratio)


def _least_squares_equilibrium(params: LossParams = DEFAULTS) -> jax.Array:
    return jnp.asarray(-0.25 * (params.label_real - params.label_fake) ** 2)


def _relativistic_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """E softplus(-(D(x) - D(G(z)))) over independent pairs (x, z)."""
    return jnp.mean(softplus(fake_logits - real_logits))


def _relativistic_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
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


def _relativistic_average_disc(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E softplus(-(D(x) - E D(G(z)))) + E softplus(D(G(z)) - E D(x)), the inner means over the batch."""
    return _average(lambda d: softplus(-d), real_logits, fake_logits)


def _relativistic_average_gen(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E softplus(-(D(G(z)) - E D(x))) + E softplus(D(x) - E D(G(z))), the inner means over the batch."""
    return _average(lambda d: softplus(-d), fake_logits, real_logits)


def _relativistic_hinge_disc(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E max(0, 1 - (D(x) - D(G(z)))) over independent pairs (x, z)."""
    return jnp.mean(_hinge(real_logits - fake_logits))


def _relativistic_hinge_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """E max(0, 1 - (D(G(z)) - D(x))) over independent pairs (x, z)."""
    return jnp.mean(_hinge(fake_logits - real_logits))


def _relativistic_average_hinge_disc(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E max(0, 1 - (D(x) - E D(G(z)))) + E max(0, 1 + (D(G(z)) - E D(x)))."""
    return _average(_hinge, real_logits, fake_logits)


def _relativistic_average_hinge_gen(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E max(0, 1 - (D(G(z)) - E D(x))) + E max(0, 1 + (D(x) - E D(G(z))))."""
    return _average(_hinge, fake_logits, real_logits)


def _relativistic_least_squares_disc(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E (D(x) - D(G(z)) - 1)^2 over independent pairs (x, z)."""
    return jnp.mean(_square(real_logits - fake_logits))


def _relativistic_least_squares_gen(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E (D(G(z)) - D(x) - 1)^2 over independent pairs (x, z)."""
    return jnp.mean(_square(fake_logits - real_logits))


def _relativistic_average_least_squares_disc(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E (D(x) - E D(G(z)) - 1)^2 + E (D(G(z)) - E D(x) + 1)^2."""
    return _average(_square, real_logits, fake_logits)


def _relativistic_average_least_squares_gen(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E (D(G(z)) - E D(x) - 1)^2 + E (D(x) - E D(G(z)) + 1)^2."""
    return _average(_square, fake_logits, real_logits)


def _tanh_half(log_ratio: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """(p - q) / (p + q): the stationary critic of the relativistic least squares, up to a factor."""
    return jnp.tanh(log_ratio / 2)


# With C = k t, t = (p - q) / (p + q) and S = E_p t - E_q t = integral of (p - q)^2 / (p + q), the loss is a quadratic
# in k, for Var_p t + Var_q t = S - S^2 / 2: pairing k^2 (S - S^2/2) + (k S - 1)^2, average the same with 2 (k S - 1)^2.


def _pairing_scale(real: jax.Array, fake: jax.Array) -> jax.Array:
    return 2 / (2 + (jnp.mean(real) - jnp.mean(fake)))


def _average_scale(real: jax.Array, fake: jax.Array) -> jax.Array:
    return 4 / (2 + 3 * (jnp.mean(real) - jnp.mean(fake)))


# alpha losses: l(u) = alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)) in place of -log u, its limit at alpha = 1.


def _alpha_log(surprise: jax.Array, alpha: Number) -> jax.Array:
    """l(u) from -log u: (1 - exp(-c surprise)) / c, c = (alpha - 1) / alpha."""
    c = (alpha - 1) / alpha
    small = jnp.abs(c) < 1e-4
    safe = jnp.where(small, 1.0, c)
    return jnp.where(small, surprise - c / 2 * surprise**2, -jnp.expm1(-safe * surprise) / safe)


def _alpha_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """E l(D(x)) + E l(1 - D(G(z))) of order alpha_disc."""
    alpha = params.alpha_disc
    return jnp.mean(_alpha_log(softplus(-real_logits), alpha)) + jnp.mean(_alpha_log(softplus(fake_logits), alpha))


def _alpha_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E l(1 - D(G(z))) of order alpha_gen."""
    return -jnp.mean(_alpha_log(softplus(fake_logits), params.alpha_gen))


def _alpha_non_saturating_gen(
    real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS
) -> jax.Array:
    """E l(D(G(z))) of order alpha_gen."""
    return jnp.mean(_alpha_log(softplus(-fake_logits), params.alpha_gen))


def _alpha_critic(log_ratio: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    return params.alpha_disc * log_ratio


def _alpha_equilibrium(params: LossParams = DEFAULTS) -> jax.Array:
    return -2 * _alpha_log(jnp.asarray(math.log(2)), params.alpha_disc)


# f-GAN: T = g(D) with the output activation g of the divergence, disc = -E T(x) + E f*(T(G(z))), and the generator of
# section 3.2, -E T(G(z)), which does not saturate. f*(g(v)) is written out where that is shorter and overflows later.


def _kl_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(x) + E exp(T(G(z)) - 1), T = D."""
    return jnp.mean(jnp.exp(fake_logits - 1)) - jnp.mean(real_logits)


def _reverse_kl_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(x) + E [-1 - log(-T(G(z)))], T = -exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(fake_logits)


def _reverse_kl_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(G(z)), T = -exp(-D)."""
    return jnp.mean(jnp.exp(-fake_logits))


def _pearson_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(x) + E [T(G(z))^2 / 4 + T(G(z))], T = D."""
    return jnp.mean(fake_logits**2 / 4 + fake_logits) - jnp.mean(real_logits)


def _hellinger_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(x) + E T(G(z)) / (1 - T(G(z))), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-real_logits)) + jnp.mean(jnp.expm1(fake_logits))


def _hellinger_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(G(z)), T = 1 - exp(-D)."""
    return jnp.mean(jnp.expm1(-fake_logits))


def _js_disc(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(x) + E [-log(2 - exp(T(G(z))))], T = log 2 - softplus(-D)."""
    return _logistic_disc(real_logits, fake_logits) - 2 * math.log(2)


def _js_gen(real_logits: jax.Array, fake_logits: jax.Array, params: LossParams = DEFAULTS) -> jax.Array:
    """-E T(G(z)), T = log 2 - softplus(-D)."""
    return _non_saturating_gen(real_logits, fake_logits) - math.log(2)


LOSSES: dict[str, Loss] = {
    "minimax": Loss(
        disc=_logistic_disc,
        gen=_saturating_gen,
        critic=_logistic_critic,
        equilibrium=_logistic_equilibrium,
        optimum="2 JSD(p, q) - log 4 (without label smoothing)",
        reference="Goodfellow et al. 2014, eq. 1 (the saturating generator loss)",
        zero_sum=True,
    ),
    "non_saturating": Loss(
        disc=_logistic_disc,
        gen=_non_saturating_gen,
        critic=_logistic_critic,
        equilibrium=_logistic_equilibrium,
        optimum="2 JSD(p, q) - log 4 (without label smoothing)",
        reference="Goodfellow et al. 2014, section 3",
    ),
    "wasserstein": Loss(
        disc=_wasserstein_disc,
        gen=_negative_mean_gen,
        critic=None,
        equilibrium=_constant(0.0),
        optimum="W1(p, q) over 1-Lipschitz D (a Kantorovich potential: no function of p/q)",
        reference="Arjovsky et al. 2017, eq. 2; the constraint on D is the penalty's business",
        zero_sum=True,
    ),
    "hinge": Loss(
        disc=_hinge_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, params=DEFAULTS: jnp.sign(log_ratio),
        equilibrium=_constant(-2.0),
        optimum="2 TV(p, q) - 2",
        reference="Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17",
    ),
    "least_squares": Loss(
        disc=_least_squares_disc,
        gen=_least_squares_gen,
        critic=_least_squares_critic,
        equilibrium=_least_squares_equilibrium,
        optimum="-(b - a)^2 / 2 * integral of p q / (p + q)",
        reference="Mao et al. 2017, eq. 2 (labels a, b, c; with the factor 1/2, raw outputs); 0, 1, 1 are their eq. 9",
    ),
    "relativistic": Loss(
        disc=_relativistic_disc,
        gen=_relativistic_gen,
        critic=_identity,
        equilibrium=_constant(-math.log(2)),
        optimum="JS(p x q, q x p) - log 2 over pairs",
        reference="Jolicoeur-Martineau 2019, relativistic pairing; Huang et al. 2024 (R3GAN), eq. 2",
    ),
    "relativistic_average": Loss(
        disc=_relativistic_average_disc,
        gen=_relativistic_average_gen,
        critic=None,
        equilibrium=_constant(-2 * math.log(2)),
        optimum="no closed form known (the inner means couple all samples)",
        reference="Jolicoeur-Martineau 2019, relativistic average (RaSGAN), without the factor 1/2",
    ),
    "relativistic_hinge": Loss(
        disc=_relativistic_hinge_disc,
        gen=_relativistic_hinge_gen,
        critic=None,
        equilibrium=_constant(-1.0),
        optimum="no closed form known (the best pair function, a sign, is no difference of two outputs)",
        reference="Jolicoeur-Martineau 2020, relativistic f-divergences (RpHinge)",
    ),
    "relativistic_least_squares": Loss(
        disc=_relativistic_least_squares_disc,
        gen=_relativistic_least_squares_gen,
        critic=_tanh_half,
        equilibrium=_constant(-1.0),
        optimum="(S - 2) / (S + 2), S = integral of (p - q)^2 / (p + q)",
        reference="Jolicoeur-Martineau 2020, relativistic f-divergences (RpLS); optimum derived here",
        scale=_pairing_scale,
    ),
    "relativistic_average_hinge": Loss(
        disc=_relativistic_average_hinge_disc,
        gen=_relativistic_average_hinge_gen,
        critic=None,
        equilibrium=_constant(-2.0),
        optimum="no closed form known (the inner means couple all samples)",
        reference="Jolicoeur-Martineau 2019, relativistic average hinge (RaHingeGAN), without the factor 1/2",
    ),
    "relativistic_average_least_squares": Loss(
        disc=_relativistic_average_least_squares_disc,
        gen=_relativistic_average_least_squares_gen,
        critic=_tanh_half,
        equilibrium=_constant(-2.0),
        optimum="2 (S - 2) / (3 S + 2), S = integral of (p - q)^2 / (p + q)",
        reference="Jolicoeur-Martineau 2019, RaLSGAN, without the factor 1/2; optimum derived here",
        scale=_average_scale,
    ),
    "alpha": Loss(
        disc=_alpha_disc,
        gen=_alpha_gen,
        critic=_alpha_critic,
        equilibrium=_alpha_equilibrium,
        optimum="a / (a - 1) (integral of (p^a + q^a)^(1/a) - 2), a = alpha_disc",
        reference="Welfert et al. 2023, (alpha_D, alpha_G)-GANs, saturating",
    ),
    "alpha_non_saturating": Loss(
        disc=_alpha_disc,
        gen=_alpha_non_saturating_gen,
        critic=_alpha_critic,
        equilibrium=_alpha_equilibrium,
        optimum="a / (a - 1) (integral of (p^a + q^a)^(1/a) - 2), a = alpha_disc",
        reference="Welfert et al. 2023, (alpha_D, alpha_G)-GANs, non-saturating",
    ),
    "f_kl": Loss(
        disc=_kl_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, params=DEFAULTS: 1 + log_ratio,
        equilibrium=_constant(0.0),
        optimum="KL(p || q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Kullback-Leibler",
    ),
    "f_reverse_kl": Loss(
        disc=_reverse_kl_disc,
        gen=_reverse_kl_gen,
        critic=_identity,
        equilibrium=_constant(0.0),
        optimum="KL(q || p)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, reverse Kullback-Leibler",
    ),
    "f_pearson": Loss(
        disc=_pearson_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, params=DEFAULTS: 2 * jnp.expm1(log_ratio),
        equilibrium=_constant(0.0),
        optimum="chi2(p || q) = integral of (p - q)^2 / q",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Pearson chi2",
    ),
    "f_hellinger": Loss(
        disc=_hellinger_disc,
        gen=_hellinger_gen,
        critic=lambda log_ratio, params=DEFAULTS: log_ratio / 2,
        equilibrium=_constant(0.0),
        optimum="integral of (sqrt(p) - sqrt(q))^2",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, squared Hellinger",
    ),
    "f_js": Loss(
        disc=_js_disc,
        gen=_js_gen,
        critic=_identity,
        equilibrium=_constant(0.0),
        optimum="2 JSD(p, q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Jensen-Shannon (their divergence is 2 JSD)",
    ),
}


@functools.lru_cache(maxsize=1024)
def of_modes(name: str, num_modes: int, params: LossParams = DEFAULTS, packing: int = 1) -> np.ndarray:
    """What both losses read under the best D where G covers k = 1 ... K of K equal, disjoint modes evenly: (2, K).

    D's loss, then G's. A pack of m samples lies in covered modes alone with probability (k/K)^m. NaN where no optimal
    critic is known, and where the loss has no finite value once a mode is missing.
    """
    loss = LOSSES[name]
    found = np.full((2, num_modes), np.nan)
    if loss.critic is None:
        return found
    for k in range(1, num_modes + 1):
        log_ratio = packing * math.log(k / num_modes)
        total, covered = num_modes**packing, k**packing
        sides = []
        # Where q is zero the ratio is infinite: two stand-ins, which a finite value does not tell apart.
        for infinity in (40.0, 80.0):
            real = loss.critic(jnp.where(jnp.arange(total) < covered, log_ratio, infinity), params)
            fake = loss.critic(jnp.full(total, log_ratio), params)
            factor = 1.0 if loss.scale is None else loss.scale(real, fake)
            sides.append([float(f(factor * real, factor * fake, params)) for f in (loss.disc, loss.gen)])
        found[:, k - 1] = np.where(np.isclose(*sides, rtol=1e-4, atol=1e-6), sides[1], np.nan)
    return found
