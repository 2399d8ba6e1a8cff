"""Losses of a logistic classifier, sigmoid(logit) being its estimate of p / (p + q)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import softplus

from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.losses.shared import negative_mean_gen, non_saturating_gen
from gandyn.gan.number import HParams, Number


def _more(surprise: jax.Array, share: Any, logits: jax.Array) -> jax.Array:
    """surprise + share * logits, also at infinite ones: none of it is none, and less of infinite surprise is that."""
    return surprise + jnp.where((share == 0) | jnp.isinf(surprise), 0.0, share * logits)


def _logistic_disc(real_logits: jax.Array, fake_logits: jax.Array, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    # Smoothing by e swaps e of softplus(-s) for softplus(s), which is s more.
    real = jnp.mean(_more(softplus(-real_logits), numbers.label_smoothing, real_logits))
    return real + jnp.mean(_more(softplus(fake_logits), numbers.label_smoothing_fake, -fake_logits))


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


# Of what D's module gives beside its logits.


def _logistic_disc_of_outputs(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z)))."""
    return _logistic_disc(real.logits, fake.logits, numbers)


def _sown(outputs: Outputs, name: str) -> jax.Array:
    if name not in outputs.aux:
        found = ", ".join(outputs.aux) or "nothing"
        raise ValueError(f"disc: got one that sows {found}; allowed with this loss: one that sows {name} into 'aux'")
    return outputs.aux[name]


def _feature_matching_gen(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """|E f(x) - E f(G(z))|^2, f the last hidden features of D."""
    apart = jnp.mean(_sown(real, "features"), axis=0) - jnp.mean(_sown(fake, "features"), axis=0)
    return jnp.sum(apart**2)


def _cross_entropy(outputs: Outputs) -> jax.Array:
    """-E log of the share that the head gives to the sample's label."""
    if outputs.labels is None:
        raise ValueError("num_classes: got 0; allowed with a loss that reads labels: at least 2")
    log_shares = jax.nn.log_softmax(_sown(outputs, "class_logits"))
    return -jnp.mean(jnp.take_along_axis(log_shares, outputs.labels[:, None], axis=1))


def _auxiliary_classifier_disc(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(x) - E log(1 - D(G(z))) + class_weight * the cross entropies of both labels."""
    classes = _cross_entropy(real) + _cross_entropy(fake)
    return _logistic_disc(real.logits, fake.logits, numbers) + numbers.class_weight * classes


def _auxiliary_classifier_gen(real: Outputs, fake: Outputs, numbers: HParams) -> jax.Array:
    """-E log D(G(z)) + class_weight * the cross entropy of the fakes' labels."""
    return non_saturating_gen(real.logits, fake.logits, numbers) + numbers.class_weight * _cross_entropy(fake)


_SMOOTHING = {
    "label_smoothing": Number(
        0.0, 0, 1, below=True, text="share of real samples that D is to call fake (Salimans et al. 2016, section 3.4)"
    ),
    "label_smoothing_fake": Number(0.0, 0, 1, below=True, text="share of fake samples that D is to call real"),
}


_LOGISTIC: dict[str, Any] = {
    "numbers": _SMOOTHING,
    "critic": _logistic_critic,
    "equilibrium": _logistic_equilibrium,
    "optimum": "2 JSD(p, q) - log 4 (without label smoothing)",
    "units": "nat",
    "logistic": True,
}


LOGISTIC = (
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
        gen=non_saturating_gen,
        reference="Goodfellow et al. 2014, section 3",
        slope_bound=1.0,
        **_LOGISTIC,
    ),
    Loss(
        "mean_logit",
        disc=_logistic_disc,
        gen=negative_mean_gen,
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
)
