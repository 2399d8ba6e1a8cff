r"""GAN losses: what each player minimizes, as functions of the discriminator's outputs.

Conventions, for every entry of `LOSSES`:

- `disc` and `gen` take the logits of B real and B fake samples (pairs, for the relativistic loss) and return the mean
  over the batch, in nats for the logistic losses. Both are *minimized*; the value function is V(D, G) = -disc.
  (Accounts that write the Wasserstein critic's objective E D(x) - E D(G(z)) write the quantity that is maximized.)
- `gen` of "minimax" is E log(1 - D(G(z))), the *saturating* loss of Goodfellow et al. (2014), eq. 1;
  `gen` of "non_saturating" is -E log D(G(z)), their remedy in section 3. Some accounts swap the two names.
- The discriminator wants D(G(z)) low, the generator wants it high, in all of them.
- Logits are a raw output: D(x) = sigmoid(logit) for the logistic losses.
- What is a number in a loss (its target labels, its order alpha) is declared by it, and traced.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus
from jax.scipy.special import xlog1py, xlogy

from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.number import HParams, Number


def _identity(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    return log_ratio


def _constant(value: float) -> Callable[..., jax.Array]:
    return lambda numbers: jnp.asarray(value, jnp.float32)


def _logistic_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    # Smoothing by e swaps e of softplus(-s) for softplus(s), which is s more.
    real = jnp.mean(softplus(-real_logits) + numbers.label_smoothing * real_logits)
    return real + jnp.mean(softplus(fake_logits) - numbers.label_smoothing_fake * fake_logits)


def _logistic_critic(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    """log of ((1 - e) p + e' q) / (e p + (1 - e') q)."""
    e, e_fake = numbers.label_smoothing, numbers.label_smoothing_fake
    real = jnp.logaddexp(jnp.log1p(-e) + log_ratio, jnp.log(e_fake))
    return real - jnp.logaddexp(jnp.log(e) + log_ratio, jnp.log1p(-e_fake))


def _logistic_equilibrium(numbers: HParams) -> jax.Array:
    shift = numbers.label_smoothing_fake - numbers.label_smoothing
    return (1 + shift) * jnp.log1p(shift) + (1 - shift) * jnp.log1p(-shift) - 2 * math.log(2)


def _saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E log(1 - D(G(z)))."""
    return -jnp.mean(softplus(fake_logits))


def _non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E log D(G(z))."""
    return jnp.mean(softplus(-fake_logits))


def _wasserstein_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-(E D(x) - E D(G(z)))."""
    return jnp.mean(fake_logits) - jnp.mean(real_logits)


def _negative_mean_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E D(G(z))."""
    return -jnp.mean(fake_logits)


def _hinge_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
    return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


def _least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """1/2 E (D(x) - b)^2 + 1/2 E (D(G(z)) - a)^2, on raw outputs."""
    real = jnp.mean((real_logits - numbers.label_real) ** 2)
    return 0.5 * real + 0.5 * jnp.mean((fake_logits - numbers.label_fake) ** 2)


def _least_squares_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """1/2 E (D(G(z)) - c)^2, on raw outputs."""
    return 0.5 * jnp.mean((fake_logits - numbers.label_gen) ** 2)


def _least_squares_critic(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    return numbers.label_fake + (numbers.label_real - numbers.label_fake) * sigmoid(log_ratio)


def _least_squares_equilibrium(numbers: HParams) -> jax.Array:
    return jnp.asarray(-0.25 * (numbers.label_real - numbers.label_fake) ** 2)


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


# alpha losses: l(u) = alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)) in place of -log u, its limit at alpha = 1.


def _alpha_log(surprise: jax.Array, alpha: Any) -> jax.Array:
    """l(u) from -log u: (1 - exp(-c surprise)) / c, c = (alpha - 1) / alpha."""
    c = (alpha - 1) / alpha
    small = jnp.abs(c) < 1e-4
    safe = jnp.where(small, 1.0, c)
    return jnp.where(small, surprise - c / 2 * surprise**2, -jnp.expm1(-safe * surprise) / safe)


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
    return jnp.mean(fake_logits**2 / 4 + fake_logits) - jnp.mean(real_logits)


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
    return _non_saturating_gen(real_logits, fake_logits, numbers) - math.log(2)


# Of what D's module gives beside its logits.


def _logistic_disc_of_outputs(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    return _logistic_disc(real.logits, fake.logits, numbers)


def _feature_matching_gen(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """|E f(x) - E f(G(z))|^2, f the last hidden features of D."""
    apart = jnp.mean(real.aux["features"], axis=0) - jnp.mean(fake.aux["features"], axis=0)
    return jnp.sum(apart**2)


def _cross_entropy(outputs: Outputs) -> jax.Array:
    """-E log of the share that the head gives to the sample's label."""
    assert outputs.labels is not None
    log_shares = jax.nn.log_softmax(outputs.aux["class_logits"])
    return -jnp.mean(jnp.take_along_axis(log_shares, outputs.labels[:, None], axis=1))


def _auxiliary_classifier_disc(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z))) + class_weight * the cross entropies of both labels."""
    classes = _cross_entropy(real) + _cross_entropy(fake)
    return _logistic_disc(real.logits, fake.logits, numbers) + numbers.class_weight * classes


def _auxiliary_classifier_gen(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(G(z)) + class_weight * the cross entropy of the fakes' labels."""
    return _non_saturating_gen(real.logits, fake.logits, numbers) + numbers.class_weight * _cross_entropy(fake)


# Least squares of probabilities: (sigmoid(s) - b)^2 where Mao et al. have raw outputs.


def _sigmoid_squares_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """1/2 E (D(x) - b)^2 + 1/2 E (D(G(z)) - a)^2, D = sigmoid(logit)."""
    return _least_squares_disc(sigmoid(real_logits), sigmoid(fake_logits), numbers)


def _sigmoid_squares_gen(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """1/2 E (D(G(z)) - c)^2, D = sigmoid(logit)."""
    return _least_squares_gen(sigmoid(real_logits), sigmoid(fake_logits), numbers)


def _sigmoid_squares_critic(log_ratio: jax.Array, numbers: HParams) -> jax.Array:
    """The logit of what least squares aims at, in (0, 1)."""
    # Of 0 and 1, as usual, the log ratio itself, which a logit of its sigmoid would lose beyond +-17.
    usual = (numbers.label_fake == 0) & (numbers.label_real == 1)
    tiny = jnp.finfo(jnp.float32).eps
    aim = jnp.clip(_least_squares_critic(log_ratio, numbers), tiny, 1 - tiny)
    return jnp.where(usual, log_ratio, jnp.log(aim) - jnp.log1p(-aim))


def _sigmoid_squares_equilibrium(numbers: HParams) -> jax.Array:
    aim = jnp.clip((numbers.label_real + numbers.label_fake) / 2, 0, 1)
    return -0.5 * ((aim - numbers.label_real) ** 2 + (aim - numbers.label_fake) ** 2)


def _sigmoid_squares_slope(numbers: HParams) -> jax.Array:
    share = jnp.linspace(0, 1, 4001)
    return jnp.max(jnp.abs((share - numbers.label_gen) * share * (1 - share)))


def _alpha_slope(numbers: HParams) -> jax.Array:
    """Of u^c (1 - u) over u in (0, 1), c = (alpha_gen - 1) / alpha_gen: at u = c / (1 + c); unbounded where c < 0."""
    c = (jnp.asarray(numbers.alpha_gen) - 1) / numbers.alpha_gen
    at = jnp.maximum(c, 0)
    return jnp.where(c < 0, jnp.nan, jnp.exp(xlogy(at, at) - xlog1py(1 + at, at)))


_SMOOTHING = {
    "label_smoothing": Number(
        0.0, 0, 1, below=True, text="share of real samples that D is to call fake (Salimans et al. 2016, section 3.4)"
    ),
    "label_smoothing_fake": Number(0.0, 0, 1, below=True, text="share of fake samples that D is to call real"),
}
_LABELS = {
    "label_fake": Number(0.0, text="what D aims at on fake samples, a"),
    "label_real": Number(1.0, text="what D aims at on real samples, b"),
    "label_gen": Number(1.0, text="what G wants D to say, c"),
}
_ORDERS = {
    "alpha_disc": Number(1.0, 0, above=True, text="order of D's loss; 1 is the logistic loss"),
    "alpha_gen": Number(1.0, 0, above=True, text="order of G's loss"),
}
_LOGISTIC: dict[str, Any] = {
    "numbers": _SMOOTHING,
    "critic": _logistic_critic,
    "equilibrium": _logistic_equilibrium,
    "optimum": "2 JSD(p, q) - log 4 (without label smoothing)",
    "units": "nat",
    "logistic": True,
}
"""What the losses share of which D is a logistic classifier."""
_ALPHA: dict[str, Any] = {
    "numbers": _ORDERS,
    "critic": _alpha_critic,
    "equilibrium": _alpha_equilibrium,
    "optimum": "a / (a - 1) (integral of (p^a + q^a)^(1/a) - 2), a = alpha_disc",
    "slope_bound": _alpha_slope,
}
_BUILT_IN = (
    Loss(
        "minimax",
        disc=_logistic_disc,
        gen=_saturating_gen,
        reference="Goodfellow et al. 2014, eq. 1 (the saturating generator loss)",
        zero_sum=True,
        slope_bound=1.0,
        **_LOGISTIC,
    ),
    Loss(
        "non_saturating",
        disc=_logistic_disc,
        gen=_non_saturating_gen,
        reference="Goodfellow et al. 2014, section 3",
        slope_bound=1.0,
        **_LOGISTIC,
    ),
    Loss(
        "mean_logit",
        disc=_logistic_disc,
        gen=_negative_mean_gen,
        reference="G descends the mean logit, the saturating and the non-saturating loss together; code of VEEGAN 2017",
        slope_bound=1.0,
        **_LOGISTIC,
    ),
    Loss(
        "feature_matching",
        disc=_logistic_disc_of_outputs,
        gen=_feature_matching_gen,
        reference="Salimans et al. 2016, section 3.1; f are the features that D's module sows",
        couples=True,
        aux=True,
        **_LOGISTIC,
    ),
    Loss(
        "auxiliary_classifier",
        disc=_auxiliary_classifier_disc,
        gen=_auxiliary_classifier_gen,
        reference="Odena et al. 2017 (AC-GAN), with the non-saturating loss; D's module sows class_logits (B, classes)",
        numbers=_SMOOTHING | {"class_weight": Number(1.0, 0, text="weight of the cross entropy of the labels")},
        units="nat",
        logistic=True,
        aux=True,
    ),
    Loss(
        "wasserstein",
        disc=_wasserstein_disc,
        gen=_negative_mean_gen,
        equilibrium=_constant(0.0),
        optimum="W1(p, q) over 1-Lipschitz D (a Kantorovich potential: no function of p/q)",
        reference="Arjovsky et al. 2017, eq. 2; the constraint on D is the penalty's business",
        unbounded=True,
        zero_sum=True,
        slope_bound=1.0,
    ),
    Loss(
        "hinge",
        disc=_hinge_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, numbers: jnp.sign(log_ratio),
        equilibrium=_constant(-2.0),
        optimum="2 TV(p, q) - 2",
        reference="Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17",
        slope_bound=1.0,
    ),
    Loss(
        "least_squares",
        disc=_least_squares_disc,
        gen=_least_squares_gen,
        numbers=_LABELS,
        critic=_least_squares_critic,
        equilibrium=_least_squares_equilibrium,
        optimum="-(b - a)^2 / 2 * integral of p q / (p + q)",
        reference="Mao et al. 2017, eq. 2 (labels a, b, c; with the factor 1/2, raw outputs); 0, 1, 1 are their eq. 9",
    ),
    Loss(
        "least_squares_sigmoid",
        disc=_sigmoid_squares_disc,
        gen=_sigmoid_squares_gen,
        numbers=_LABELS,
        critic=_sigmoid_squares_critic,
        equilibrium=_sigmoid_squares_equilibrium,
        optimum="-(b - a)^2 / 2 * integral of p q / (p + q), for labels in [0, 1]",
        reference="Mao et al. 2017, eq. 2, with D = sigmoid(logit), as many codes have it",
        slope_bound=_sigmoid_squares_slope,
    ),
    Loss(
        "relativistic",
        disc=_relativistic_disc,
        gen=_relativistic_gen,
        critic=_identity,
        equilibrium=_constant(-math.log(2)),
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
        equilibrium=_constant(-2 * math.log(2)),
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
        equilibrium=_constant(-1.0),
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
        equilibrium=_constant(-1.0),
        optimum="(S - 2) / (S + 2), S = integral of (p - q)^2 / (p + q)",
        reference="Jolicoeur-Martineau 2020, relativistic f-divergences (RpLS); optimum derived here",
        scale=_pairing_scale,
        pairs=True,
    ),
    Loss(
        "relativistic_average_hinge",
        disc=_relativistic_average_hinge_disc,
        gen=_relativistic_average_hinge_gen,
        equilibrium=_constant(-2.0),
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
        equilibrium=_constant(-2.0),
        optimum="2 (S - 2) / (3 S + 2), S = integral of (p - q)^2 / (p + q)",
        reference="Jolicoeur-Martineau 2019, RaLSGAN, without the factor 1/2; optimum derived here",
        scale=_average_scale,
        couples=True,
        pairs=True,
    ),
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
    Loss(
        "f_kl",
        disc=_kl_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, numbers: 1 + log_ratio,
        equilibrium=_constant(0.0),
        optimum="KL(p || q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Kullback-Leibler",
        slope_bound=1.0,
        units="nat",
    ),
    Loss(
        "f_reverse_kl",
        disc=_reverse_kl_disc,
        gen=_reverse_kl_gen,
        critic=_identity,
        equilibrium=_constant(0.0),
        optimum="KL(q || p)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, reverse Kullback-Leibler",
        units="nat",
    ),
    Loss(
        "f_pearson",
        disc=_pearson_disc,
        gen=_negative_mean_gen,
        critic=lambda log_ratio, numbers: 2 * jnp.expm1(log_ratio),
        equilibrium=_constant(0.0),
        optimum="chi2(p || q) = integral of (p - q)^2 / q",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Pearson chi2",
        slope_bound=1.0,
    ),
    Loss(
        "f_hellinger",
        disc=_hellinger_disc,
        gen=_hellinger_gen,
        critic=lambda log_ratio, numbers: log_ratio / 2,
        equilibrium=_constant(0.0),
        optimum="integral of (sqrt(p) - sqrt(q))^2",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, squared Hellinger",
    ),
    Loss(
        "f_js",
        disc=_js_disc,
        gen=_js_gen,
        critic=_identity,
        equilibrium=_constant(0.0),
        optimum="2 JSD(p, q)",
        reference="Nowozin et al. 2016 (f-GAN), tables 1 and 2, Jensen-Shannon (their divergence is 2 JSD)",
        slope_bound=1.0,
        units="nat",
        logistic=True,
    ),
)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in _BUILT_IN}
