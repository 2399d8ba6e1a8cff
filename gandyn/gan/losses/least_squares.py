"""Least squares, of raw outputs and of probabilities."""

import math

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams, Number


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


_LABELS = {
    "label_fake": Number(0.0, text="what D aims at on fake samples, a"),
    "label_real": Number(1.0, text="what D aims at on real samples, b"),
    "label_gen": Number(1.0, text="what G wants D to say, c"),
}


LEAST_SQUARES = (
    Loss(
        "least_squares",
        disc=_least_squares_disc,
        gen=_least_squares_gen,
        numbers=_LABELS,
        critic=_least_squares_critic,
        equilibrium=_least_squares_equilibrium,
        optimum="-(b - a)^2 / 2 * integral of p q / (p + q)",
        slope_bound=math.nan,
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
)
