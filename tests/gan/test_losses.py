"""Every loss against its formula in NumPy float64, and its optimum against closed forms and quadrature."""

import functools
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from gandyn.gan.loss import Outputs
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams
from gandyn.truth.derived import truth_of

WITH_CRITIC = [name for name, loss in LOSSES.items() if loss.critic is not None]
POINTWISE = [name for name in WITH_CRITIC if not LOSSES[name].pairs and not LOSSES[name].aux]
OF_LOGITS = [name for name, loss in LOSSES.items() if not loss.aux]


def numbers_of(name: str, **numbers: float) -> HParams:
    """The defaults of a loss with some replaced."""
    assert set(numbers) <= set(LOSSES[name].numbers)
    return LOSSES[name].defaults.replace(**numbers)


@functools.cache
def disc_of(name: str):
    """Of the logits alone, at the defaults."""
    loss = LOSSES[name]
    return lambda real, fake: loss.disc(real, fake, loss.defaults)


@functools.cache
def gen_of(name: str):
    """Of the logits alone, at the defaults."""
    loss = LOSSES[name]
    return lambda real, fake: loss.gen(real, fake, loss.defaults)


def critic_of(name: str, log_ratio: Any, **numbers: float) -> jax.Array:
    critic = LOSSES[name].critic
    assert critic is not None
    return critic(jnp.asarray(log_ratio, jnp.float32), numbers_of(name, **numbers))


def log1pexp(x):
    """log(1 + e^x) without overflow, in float64; not through jax.nn.softplus."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# Independently of gandyn/gan/losses: r, f are the logits of real and fake samples.
FORMULAS = {
    "minimax": (lambda r, f: np.mean(log1pexp(-r) + log1pexp(f)), lambda r, f: -np.mean(log1pexp(f))),
    "non_saturating": (lambda r, f: np.mean(log1pexp(-r) + log1pexp(f)), lambda r, f: np.mean(log1pexp(-f))),
    "wasserstein": (lambda r, f: np.mean(f) - np.mean(r), lambda r, f: -np.mean(f)),
    "hinge": (
        lambda r, f: np.mean(np.where(r < 1, 1 - r, 0)) + np.mean(np.where(f > -1, 1 + f, 0)),
        lambda r, f: -np.mean(f),
    ),
    "least_squares": (
        lambda r, f: 0.5 * np.mean(np.square(r - 1)) + 0.5 * np.mean(np.square(f)),
        lambda r, f: 0.5 * np.mean(np.square(f - 1)),
    ),
    "mean_logit": (lambda r, f: np.mean(log1pexp(-r) + log1pexp(f)), lambda r, f: -np.mean(f)),
    "least_squares_sigmoid": (
        lambda r, f: 0.5 * np.mean((1 - expit(r)) ** 2) + 0.5 * np.mean(expit(f) ** 2),
        lambda r, f: 0.5 * np.mean((1 - expit(f)) ** 2),
    ),
    "relativistic": (lambda r, f: np.mean(log1pexp(-(r - f))), lambda r, f: np.mean(log1pexp(-(f - r)))),
    "relativistic_average": (
        lambda r, f: np.mean(log1pexp(-(r - f.mean()))) + np.mean(log1pexp(f - r.mean())),
        lambda r, f: np.mean(log1pexp(-(f - r.mean()))) + np.mean(log1pexp(r - f.mean())),
    ),
    "relativistic_hinge": (
        lambda r, f: np.mean(np.maximum(0, 1 - (r - f))),
        lambda r, f: np.mean(np.maximum(0, 1 - (f - r))),
    ),
    "relativistic_least_squares": (lambda r, f: np.mean((r - f - 1) ** 2), lambda r, f: np.mean((f - r - 1) ** 2)),
    "relativistic_average_hinge": (
        lambda r, f: np.mean(np.maximum(0, 1 - (r - f.mean()))) + np.mean(np.maximum(0, 1 + (f - r.mean()))),
        lambda r, f: np.mean(np.maximum(0, 1 - (f - r.mean()))) + np.mean(np.maximum(0, 1 + (r - f.mean()))),
    ),
    "relativistic_average_least_squares": (
        lambda r, f: np.mean((r - f.mean() - 1) ** 2) + np.mean((f - r.mean() + 1) ** 2),
        lambda r, f: np.mean((f - r.mean() - 1) ** 2) + np.mean((r - f.mean() + 1) ** 2),
    ),
    "alpha": (lambda r, f: np.mean(log1pexp(-r) + log1pexp(f)), lambda r, f: -np.mean(log1pexp(f))),
    "alpha_non_saturating": (lambda r, f: np.mean(log1pexp(-r) + log1pexp(f)), lambda r, f: np.mean(log1pexp(-f))),
    # f-GAN: E_q f*(T) - E_p T and -E_q T, with T = g(v) and the conjugates as published.
    "f_kl": (lambda r, f: np.mean(np.exp(f - 1)) - np.mean(r), lambda r, f: -np.mean(f)),
    "f_reverse_kl": (
        lambda r, f: np.mean(-1 - (-f)) - np.mean(-np.exp(-r)),
        lambda r, f: -np.mean(-np.exp(-f)),
    ),
    "f_pearson": (lambda r, f: np.mean(0.25 * f * f + f) - np.mean(r), lambda r, f: -np.mean(f)),
    "f_hellinger": (
        lambda r, f: np.mean(np.expm1(f)) - np.mean(1 - np.exp(-r)),
        lambda r, f: -np.mean(1 - np.exp(-f)),
    ),
    "f_js": (
        lambda r, f: np.mean(log1pexp(f) - np.log(2)) - np.mean(np.log(2) - log1pexp(-r)),
        lambda r, f: -np.mean(np.log(2) - log1pexp(-f)),
    ),
}

# Output activation g, conjugate f*, generator function f of each f-divergence: Nowozin et al. 2016, tables 1 and 2.
F_GAN = {
    "f_kl": (lambda v: v, lambda t: np.exp(t - 1), lambda u: u * np.log(u)),
    "f_reverse_kl": (lambda v: -np.exp(-v), lambda t: -1 - np.log(-t), lambda u: -np.log(u)),
    "f_pearson": (lambda v: v, lambda t: t * t / 4 + t, lambda u: (u - 1) ** 2),
    "f_hellinger": (lambda v: 1 - np.exp(-v), lambda t: t / (1 - t), lambda u: (np.sqrt(u) - 1) ** 2),
    "f_js": (
        lambda v: np.log(2) - log1pexp(-v),
        lambda t: -np.log(2 - np.exp(t)),
        lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
    ),
}

# Known values: N(0,1) against N(d,1): JSD, logistic disc*, non-saturating generator at D*, TV, integral of pq/(p+q).
GAUSSIANS = {
    0.5: (0.030311, 1.325672, 0.787836, 0.197413, 0.470527),
    1.0: (0.111421, 1.163451, 1.081726, 0.382925, 0.397973),
    2.0: (0.336831, 0.712633, 2.356316, 0.682689, 0.224800),
    3.0: (0.526777, 0.332740, 4.666370, 0.866386, 0.098621),
    4.0: (0.632720, 0.120854, 8.060427, 0.954500, 0.034299),
}

TABLE = 1e-5  # the bound on every quadrature below, absolute


@functools.partial(jax.jit, static_argnums=0)
def parts(function, logits):
    """A loss of one real and one fake sample: at (0, 0), at (s, 0) and at (0, s) for each logit s."""
    zero = jnp.zeros(1)
    real = jax.vmap(lambda s: function(s[None], zero))(logits)
    fake = jax.vmap(lambda s: function(zero, s[None]))(logits)
    return function(zero, zero), real, fake


@functools.partial(jax.jit, static_argnums=0)
def pairwise(function, scores):
    """A loss of one real and one fake sample, for every pair of scores (N,): (N, N)."""
    return jax.vmap(lambda r: jax.vmap(lambda f: function(r[None], f[None]))(scores))(scores)


class Pair:
    """N(0,1) against N(d,1): a quadrature that uses gandyn's own loss, one sample at a time."""

    def __init__(self, d: float):
        # Midpoints; a cell's edge lies on d/2, where the hinge critic jumps.
        cell = 4e-3
        self.x = d / 2 + (np.arange(-3000, 3000) + 0.5) * cell
        self.p = np.exp(-0.5 * self.x**2) / math.sqrt(2 * math.pi) * cell
        self.q = np.exp(-0.5 * (self.x - d) ** 2) / math.sqrt(2 * math.pi) * cell
        self.log_ratio = d * d / 2 - d * self.x

    def expected(self, function, logits) -> float:
        """E over x ~ p, y ~ q of a loss that is a sum of a real and a fake part."""
        both, real, fake = (np.asarray(part, np.float64) for part in parts(function, np.asarray(logits, np.float32)))
        return float(both + self.p @ (real - both) + self.q @ (fake - both))

    def critic(self, name, **numbers):
        return np.asarray(critic_of(name, self.log_ratio, **numbers))


class PlanePair:
    """The same on pairs (x, y), for losses that are no sum of two parts: quadrature over the plane."""

    def __init__(self, d: float):
        cell = 0.04
        self.x = d / 2 + (np.arange(-250, 250) + 0.5) * cell
        self.p = np.exp(-0.5 * self.x**2) / math.sqrt(2 * math.pi) * cell
        self.q = np.exp(-0.5 * (self.x - d) ** 2) / math.sqrt(2 * math.pi) * cell
        self.log_ratio = d * d / 2 - d * self.x

    def expected(self, function, scores) -> float:
        return float(self.p @ np.asarray(pairwise(function, np.asarray(scores, np.float32)), np.float64) @ self.q)


class TestFormulas:
    def test_every_loss_has_one_here(self):
        assert set(FORMULAS) == set(OF_LOGITS)  # `TestAux` has the others

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 90.0, 1e4])
    @pytest.mark.parametrize("name", OF_LOGITS)
    @pytest.mark.quick(25)
    def test_disc_and_gen_are_their_formula(self, name, scale):
        rng = np.random.default_rng(0)
        real, fake = (scale * rng.standard_normal((2, 257)) + 0.3 * scale).astype(np.float32)
        for function, formula in zip((disc_of(name), gen_of(name)), FORMULAS[name]):
            got = float(function(jnp.asarray(real), jnp.asarray(fake)))
            with np.errstate(over="ignore"):  # the exponential losses overflow, here and there alike
                want = float(np.float32(formula(real.astype(np.float64), fake.astype(np.float64))))
            # f_js is the logistic loss less its own size: a digit is lost near zero.
            assert got == pytest.approx(want, rel=1e-5, abs=3e-7 if name == "f_js" else 0)

    @pytest.mark.parametrize("logit", [-1e30, -200.0, 0.0, 200.0, 1e30])
    @pytest.mark.parametrize("name", ["minimax", "non_saturating", "relativistic", "hinge"])
    @pytest.mark.quick(5)
    def test_gradients_are_finite_at_any_logit(self, name, logit):
        for function in disc_of(name), gen_of(name):
            for argument in (0, 1):
                other = jnp.zeros(1)
                at = [other, other]
                at[argument] = jnp.full(1, logit)
                assert np.isfinite(np.asarray(jax.grad(function, argnums=argument)(*at))).all()

    @pytest.mark.parametrize("name", OF_LOGITS)
    def test_a_nan_logit_is_not_hidden(self, name):
        good, bad = jnp.zeros(4), jnp.asarray([0.0, jnp.nan, 0.0, 0.0])
        assert math.isnan(float(disc_of(name)(bad, good)))
        assert math.isnan(float(disc_of(name)(good, bad)))
        assert math.isnan(float(gen_of(name)(good, bad)))


def alpha_loss(probability, alpha):
    """alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)): Welfert et al. 2023, eq. 3."""
    return alpha / (alpha - 1) * (1 - probability ** ((alpha - 1) / alpha))


# The same with numbers that are not the defaults.
WITH_NUMBERS = {
    ("minimax", (("label_smoothing", 0.1),)): (
        lambda r, f: np.mean(0.9 * log1pexp(-r) + 0.1 * log1pexp(r)) + np.mean(log1pexp(f)),
        lambda r, f: -np.mean(log1pexp(f)),
    ),
    ("non_saturating", (("label_smoothing", 0.25),)): (
        lambda r, f: np.mean(0.75 * log1pexp(-r) + 0.25 * log1pexp(r)) + np.mean(log1pexp(f)),
        lambda r, f: np.mean(log1pexp(-f)),
    ),
    ("minimax", (("label_smoothing", 0.2), ("label_smoothing_fake", 0.1))): (
        lambda r, f: np.mean(0.8 * log1pexp(-r) + 0.2 * log1pexp(r)) + np.mean(0.9 * log1pexp(f) + 0.1 * log1pexp(-f)),
        lambda r, f: -np.mean(log1pexp(f)),
    ),
    ("mean_logit", (("label_smoothing_fake", 0.3),)): (
        lambda r, f: np.mean(log1pexp(-r)) + np.mean(0.7 * log1pexp(f) + 0.3 * log1pexp(-f)),
        lambda r, f: -np.mean(f),
    ),
    ("least_squares_sigmoid", (("label_fake", 0.1), ("label_gen", 0.6), ("label_real", 0.8))): (
        lambda r, f: 0.5 * np.mean((expit(r) - 0.8) ** 2) + 0.5 * np.mean((expit(f) - 0.1) ** 2),
        lambda r, f: 0.5 * np.mean((expit(f) - 0.6) ** 2),
    ),
    ("least_squares", (("label_fake", -1.0), ("label_gen", 0.0), ("label_real", 2.0))): (
        lambda r, f: 0.5 * np.mean((r - 2) ** 2) + 0.5 * np.mean((f + 1) ** 2),
        lambda r, f: 0.5 * np.mean(f**2),
    ),
    **{
        (name, (("alpha_disc", a), ("alpha_gen", b))): (
            lambda r, f, a=a: np.mean(alpha_loss(expit(r), a)) + np.mean(alpha_loss(expit(-f), a)),
            (lambda r, f, b=b: -np.mean(alpha_loss(expit(-f), b)))
            if name == "alpha"
            else (lambda r, f, b=b: np.mean(alpha_loss(expit(f), b))),
        )
        for name in ("alpha", "alpha_non_saturating")
        for a, b in ((0.5, 3.0), (2.0, 0.7), (10.0, 1.00005))
    },
}


@pytest.mark.parametrize(("name", "numbers"), WITH_NUMBERS)
class TestNumbers:
    def logits(self):
        return (2 * np.random.default_rng(0).standard_normal((2, 257)) + 0.3).astype(np.float32)

    def test_disc_and_gen_are_their_formula(self, name, numbers):
        real, fake = self.logits()
        loss, formulas = LOSSES[name], WITH_NUMBERS[name, numbers]
        for function, formula in zip((loss.disc, loss.gen), formulas):
            got = function(jnp.asarray(real), jnp.asarray(fake), numbers_of(name, **dict(numbers)))
            assert float(got) == pytest.approx(formula(real.astype(float), fake.astype(float)), rel=2e-5)

    @pytest.mark.quick(3)
    def test_numbers_are_traced(self, name, numbers):
        real, fake = self.logits()
        disc = jax.jit(lambda *args: LOSSES[name].disc(*args))  # a program of its own, with a cache of its own
        given = numbers_of(name, **dict(numbers))
        want = float(disc(real, fake, jax.tree.map(jnp.float32, given)))
        assert want == pytest.approx(float(LOSSES[name].disc(real, fake, given)), rel=1e-5)
        assert float(disc(real, fake, jax.tree.map(jnp.float32, numbers_of(name)))) != pytest.approx(want, rel=1e-3)
        assert disc._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]

    @pytest.mark.quick(3)
    def test_critic_is_stationary_and_best(self, name, numbers):
        """At each point, among 4,001 outputs around it; p : q = e : 1 ... 1 : e^2."""
        loss, params = LOSSES[name], numbers_of(name, **dict(numbers))
        assert loss.critic is not None
        zero = jnp.zeros(1)
        for log_ratio in (-2.0, 0.3, 1.0):
            p, q = expit(log_ratio), expit(-log_ratio)
            integrand = jax.vmap(
                lambda s, p=p, q=q: -(p * loss.disc(s[None], zero, params) + q * loss.disc(zero, s[None], params))
            )
            best = float(loss.critic(jnp.asarray(log_ratio), params))
            values = np.asarray(integrand(best + jnp.linspace(-3, 3, 4001)), np.float64)
            assert values.max() <= values[2000] + 2e-6 * max(1, abs(values[2000]))

    def test_equilibrium(self, name, numbers):
        loss, params = LOSSES[name], numbers_of(name, **dict(numbers))
        assert loss.critic is not None
        logits = jnp.full(4, loss.critic(jnp.zeros(()), params))
        assert loss.equilibrium is not None
        assert -float(loss.disc(logits, logits, params)) == pytest.approx(float(loss.equilibrium(params)), rel=1e-5)


def test_orders_near_one_join_the_logistic_loss():
    real, fake = (2 * np.random.default_rng(0).standard_normal((2, 257))).astype(np.float32)
    want = float(disc_of("minimax")(real, fake))
    for alpha in (1 - 3e-4, 1 - 5e-5, 1.0, 1 + 5e-5, 1 + 3e-4):
        got = LOSSES["alpha"].disc(real, fake, numbers_of("alpha", alpha_disc=alpha))
        assert float(got) == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
@pytest.mark.quick(2)
def test_alpha_optimum_on_gaussians(d, alpha):
    """a / (a - 1) (integral of (p^a + q^a)^(1/a) - 2), by quadrature in float64."""
    pair, params = Pair(d), numbers_of("alpha", alpha_disc=alpha)
    disc = LOSSES["alpha"].disc
    got = -pair.expected(lambda r, f: disc(r, f, params), pair.critic("alpha", alpha_disc=alpha))
    both = np.sum((pair.p**alpha + pair.q**alpha) ** (1 / alpha))
    assert got == pytest.approx(alpha / (alpha - 1) * (both - 2), abs=TABLE)


@pytest.mark.parametrize(("smoothing", "of_fake"), [(0.1, 0.0), (0.3, 0.0), (0.2, 0.1), (0.0, 0.3)])
@pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
@pytest.mark.quick(1)
def test_smoothed_optimum_on_gaussians(d, smoothing, of_fake):
    """D* = ((1 - e) p + e' q) / (p + q), Goodfellow 2016, section 4.1, with e' of fakes; no critic nearby is better."""
    numbers = {"label_smoothing": smoothing, "label_smoothing_fake": of_fake}
    pair, params = Pair(d), numbers_of("minimax", **numbers)
    disc = LOSSES["minimax"].disc
    critic = pair.critic("minimax", **numbers)
    want = ((1 - smoothing) * pair.p + of_fake * pair.q) / (pair.p + pair.q)
    np.testing.assert_allclose(expit(critic), want, rtol=1e-4, atol=1e-30)
    value = lambda scores: -pair.expected(lambda r, f: disc(r, f, params), scores)  # noqa: E731
    best = value(critic)
    for direction in (np.ones_like(pair.x), np.tanh(pair.x), np.sin(3 * pair.x)):
        for size in (0.3, -0.3):
            assert value(critic + size * direction) < best - 1e-5


@pytest.mark.parametrize(("smoothing", "of_fake"), [(0.1, 0.0), (0.2, 0.1), (0.0, 0.3), (0.25, 0.25)])
def test_smoothed_equilibrium(smoothing, of_fake):
    """At p = q D says (1 - e + e') / 2 =: u; V = (1 - e + e') log u + (1 + e - e') log(1 - u), shifted from -log 4."""
    loss, numbers = LOSSES["minimax"], numbers_of("minimax", label_smoothing=smoothing, label_smoothing_fake=of_fake)
    u = (1 - smoothing + of_fake) / 2
    assert loss.critic is not None
    assert loss.equilibrium is not None
    assert expit(float(loss.critic(jnp.zeros(()), numbers))) == pytest.approx(u, rel=1e-6)
    want = 2 * u * math.log(u) + 2 * (1 - u) * math.log(1 - u)
    assert float(loss.equilibrium(numbers)) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["relativistic_least_squares", "relativistic_average_least_squares"])
def test_relativistic_least_squares_optimum(name, d):
    """(S - 2) / (S + 2) over pairs, 2 (S - 2) / (3 S + 2) on average, S = integral of (p - q)^2 / (p + q)."""
    loss, pair = LOSSES[name], Pair(d)
    assert loss.critic is not None
    assert loss.scale is not None
    shape = np.asarray(critic_of(name, pair.log_ratio), np.float64)
    s = float(np.sum((pair.p - pair.q) ** 2 / (pair.p + pair.q)))
    assert s == pytest.approx(2 - 4 * GAUSSIANS[d][4], abs=TABLE)
    # The scale from two samples that have the mean of the shape under p and under q.
    factor = float(loss.scale(jnp.asarray([pair.p @ shape]), jnp.asarray([pair.q @ shape])))
    average = "average" in name

    def value(scores):
        mean, mean_fake = pair.p @ scores, pair.q @ scores
        spread = pair.p @ (scores - mean) ** 2 + pair.q @ (scores - mean_fake) ** 2
        return -(spread + (2 if average else 1) * (mean - mean_fake - 1) ** 2)

    want = 2 * (s - 2) / (3 * s + 2) if average else (s - 2) / (s + 2)
    assert value(factor * shape) == pytest.approx(want, abs=TABLE)
    for direction in (shape, np.tanh(pair.x), np.sin(3 * pair.x), np.cos(pair.x - d)):
        for size in (0.2, -0.2):
            assert value(factor * shape + size * direction) < want - 1e-5
    # `value` is the loss itself: on a sample, with its own means.
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal(400), d + rng.standard_normal(400)
    if average:
        spread = real.var() + fake.var() + 2 * (real.mean() - fake.mean() - 1) ** 2
        got = disc_of(name)(jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32))
    else:
        spread = real.var() + fake.var() + (real.mean() - fake.mean() - 1) ** 2
        every = [jnp.asarray(np.repeat(real, 400), jnp.float32), jnp.asarray(np.tile(fake, 400), jnp.float32)]
        got = disc_of(name)(*every)
    assert float(got) == pytest.approx(spread, rel=1e-4)


class TestAux:
    """Losses of what D's module says beside its logits."""

    def outputs(self, seed: int, size: int = 33) -> Outputs:
        rng = np.random.default_rng(seed)
        aux = {"features": rng.standard_normal((size, 5)), "class_logits": 2 * rng.standard_normal((size, 3))}
        labels = jnp.asarray(rng.integers(0, 3, size), jnp.int32)
        return Outputs(
            jnp.asarray(2 * rng.standard_normal(size), jnp.float32),
            labels,
            {name: jnp.asarray(value, jnp.float32) for name, value in aux.items()},
        )

    def entropy(self, outputs: Outputs) -> float:
        """Mean of -log softmax at the label, in float64."""
        logits = np.asarray(outputs.aux["class_logits"], np.float64)
        own = logits[np.arange(len(logits)), np.asarray(outputs.labels)]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - own))

    def test_these_are_all(self):
        assert {name for name, loss in LOSSES.items() if loss.aux} == {"feature_matching", "auxiliary_classifier"}

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_feature_matching(self, smoothing):
        """|E f(x) - E f(G(z))|^2; D's loss is the logistic one of its logits."""
        real, fake = self.outputs(0), self.outputs(1)
        loss, numbers = LOSSES["feature_matching"], numbers_of("feature_matching", label_smoothing=smoothing)
        means = [np.asarray(half.aux["features"], np.float64).mean(axis=0) for half in (real, fake)]
        assert float(loss.gen(real, fake, numbers)) == pytest.approx(np.sum((means[0] - means[1]) ** 2), rel=1e-5)
        want = LOSSES["minimax"].disc(real.logits, fake.logits, numbers)
        assert float(loss.disc(real, fake, numbers)) == float(want)

    def test_feature_matching_has_its_least_where_the_means_agree(self):
        real, loss = self.outputs(0), LOSSES["feature_matching"]
        shuffled = real._replace(aux={"features": real.aux["features"][::-1]})
        assert float(loss.gen(real, shuffled, loss.defaults)) == pytest.approx(0, abs=1e-10)

    @pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
    def test_auxiliary_classifier(self, weight):
        """Both players add the cross entropy of the labels: D of real and fake samples, G of its own."""
        real, fake = self.outputs(0), self.outputs(1)
        loss = LOSSES["auxiliary_classifier"]
        numbers = numbers_of("auxiliary_classifier", class_weight=weight, label_smoothing=0.1)
        r, f = (np.asarray(half.logits, np.float64) for half in (real, fake))
        of_source = np.mean(0.9 * log1pexp(-r) + 0.1 * log1pexp(r)) + np.mean(log1pexp(f))
        want = of_source + weight * (self.entropy(real) + self.entropy(fake))
        assert float(loss.disc(real, fake, numbers)) == pytest.approx(want, rel=1e-5)
        want = np.mean(log1pexp(-f)) + weight * self.entropy(fake)
        assert float(loss.gen(real, fake, numbers)) == pytest.approx(want, rel=1e-5)

    def test_what_is_not_sown_or_labelled_is_refused(self):
        outputs, loss = self.outputs(0), LOSSES["auxiliary_classifier"]
        bare = outputs._replace(aux={"features": outputs.aux["features"]})
        with pytest.raises(ValueError, match="disc: got one that sows features; allowed with this loss: one that sows"):
            loss.disc(bare, bare, loss.defaults)
        with pytest.raises(ValueError, match="num_classes: got 0; allowed with a loss that reads labels: at least 2"):
            loss.gen(outputs, outputs._replace(labels=None), loss.defaults)


class TestLeastSquaresOfProbabilities:
    """(sigmoid(s) - b)^2: D's optimum in probability is that of raw outputs, (a q + b p) / (p + q)."""

    @pytest.mark.parametrize("labels", [(0.0, 1.0), (0.1, 0.9), (0.3, 0.4)])
    @pytest.mark.parametrize("d", [0.5, 2.0])
    def test_optimum(self, d, labels):
        a, b = labels
        pair = Pair(d)
        critic = pair.critic("least_squares_sigmoid", label_fake=a, label_real=b)
        want = (a * pair.q + b * pair.p) / (pair.p + pair.q)
        np.testing.assert_allclose(expit(critic), want, atol=1e-6)
        params = numbers_of("least_squares_sigmoid", label_fake=a, label_real=b)
        disc = LOSSES["least_squares_sigmoid"].disc
        got = -pair.expected(lambda r, f: disc(r, f, params), critic)
        # max V = -(b - a)^2 / 2 times the integral of p q / (p + q).
        assert got == pytest.approx(-0.5 * (b - a) ** 2 * GAUSSIANS[d][4], abs=TABLE)

    def test_the_usual_labels_lose_nothing_far_out(self):
        np.testing.assert_allclose(critic_of("least_squares_sigmoid", [-60.0, -3.0, 60.0]), [-60, -3, 60], rtol=1e-6)

    def test_slope_bound_is_the_largest_slope(self):
        for aim in (0.0, 0.5, 1.0):
            numbers = numbers_of("least_squares_sigmoid", label_gen=aim)
            u = np.linspace(0, 1, 100_001)
            want = np.max(np.abs(u - aim) * u * (1 - u))
            bound = truth_of(LOSSES["least_squares_sigmoid"], numbers).slope_bound
            assert bound == pytest.approx(want, rel=1e-5)
        # At the usual label u (1 - u)^2: 4/27, at u = 1/3.
        assert truth_of(LOSSES["least_squares_sigmoid"]).slope_bound == pytest.approx(4 / 27, rel=1e-5)


def test_mean_logit_is_both_generator_losses_at_once():
    fake = jnp.linspace(-5, 5, 11)
    both = sum(float(gen_of(name)(fake, fake)) for name in ("minimax", "non_saturating"))
    assert float(gen_of("mean_logit")(fake, fake + 1)) == pytest.approx(both - 1, abs=1e-5)
    assert float(gen_of("mean_logit")(fake, fake)) == pytest.approx(both, abs=1e-5)


class TestSigns:
    @pytest.mark.parametrize("name", OF_LOGITS)
    @pytest.mark.quick(5)
    def test_disc_wants_fake_low_and_real_high(self, name):
        # Inside the reach of all: hinge is flat past +-1, least squares aims at 1 and 0.
        real, fake = jnp.full(3, 0.5), jnp.full(3, 0.5)
        real_gradient, fake_gradient = jax.grad(disc_of(name), argnums=(0, 1))(real, fake)
        assert np.all(np.asarray(real_gradient) < 0)
        assert np.all(np.asarray(fake_gradient) > 0)

    @pytest.mark.parametrize("name", OF_LOGITS)
    def test_gen_wants_fake_high(self, name):
        real, fake = jnp.full(3, 0.5), jnp.full(3, 0.5)
        assert np.all(np.asarray(jax.grad(gen_of(name), argnums=1)(real, fake)) < 0)

    @pytest.mark.parametrize("name", ["minimax", "wasserstein"])
    def test_zero_sum_gen_is_the_fake_part_of_v(self, name):
        real, fake = jnp.zeros(5), jnp.linspace(-3, 3, 5)
        disc, gen = (jax.grad(f, argnums=1)(real, fake) for f in (disc_of(name), gen_of(name)))
        np.testing.assert_allclose(gen, -np.asarray(disc), rtol=1e-6)

    def test_saturating_against_non_saturating_gradient(self):
        """Weight on the fake logit s: sigmoid(s) saturates where D wins (s << 0); sigmoid(-s) does not."""
        s = np.linspace(-12, 12, 49)
        fake = jnp.asarray(s, jnp.float32)
        gradient = {
            name: len(s) * np.asarray(jax.grad(gen_of(name), argnums=1)(jnp.zeros(len(s)), fake), np.float64)
            for name in ("minimax", "non_saturating")
        }
        np.testing.assert_allclose(gradient["minimax"], -expit(s), rtol=1e-5)
        np.testing.assert_allclose(gradient["non_saturating"], -expit(-s), rtol=1e-5)


class TestEquilibrium:
    @pytest.mark.parametrize("name", OF_LOGITS)
    @pytest.mark.quick(5)
    def test_value_where_q_is_p(self, name):
        loss = LOSSES[name]
        logits = jnp.zeros(16) if loss.critic is None else critic_of(name, jnp.zeros(16))
        assert loss.equilibrium is not None
        want = float(loss.equilibrium(loss.defaults))
        assert -float(disc_of(name)(logits, logits)) == pytest.approx(want, abs=1e-6)

    def test_numbers_everyone_quotes(self):
        zero = jnp.zeros(1)
        assert float(disc_of("non_saturating")(zero, zero)) == pytest.approx(1.386294, abs=1e-6)
        assert float(gen_of("non_saturating")(zero, zero)) == pytest.approx(0.693147, abs=1e-6)


class TestFGan:
    def test_each_is_one_here(self):
        assert set(F_GAN) == {name for name in LOSSES if name.startswith("f_")}

    @pytest.mark.parametrize("name", F_GAN)
    def test_disc_is_activation_and_conjugate(self, name):
        activation, conjugate, _ = F_GAN[name]
        real, fake = np.random.default_rng(0).standard_normal((2, 64))
        want = np.mean(conjugate(activation(fake))) - np.mean(activation(real))
        got = disc_of(name)(jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32))
        assert float(got) == pytest.approx(want, rel=1e-5)
        got = gen_of(name)(jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32))
        assert float(got) == pytest.approx(-np.mean(activation(fake)), rel=1e-5)

    @pytest.mark.parametrize("name", F_GAN)
    def test_conjugate_is_that_of_f(self, name):
        """f*(t) = sup_u [u t - f(u)], by search; and T* = f'(u)."""
        activation, conjugate, f = F_GAN[name]
        u = np.exp(np.linspace(-12, 12, 200_001))
        for log_ratio in (-1.5, 0.0, 1.5):
            t = activation(float(critic_of(name, log_ratio)))
            assert np.max(u * t - f(u)) == pytest.approx(conjugate(t), abs=1e-6)
            ratio, h = math.exp(log_ratio), 1e-5
            assert t == pytest.approx((f(ratio + h) - f(ratio - h)) / (2 * h), abs=1e-5)

    @pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
    def test_optimum_on_gaussians(self, d):
        """KL both ways d^2 / 2, chi2 exp(d^2) - 1, squared Hellinger 2 - 2 exp(-d^2 / 8), and 2 JSD."""
        pair = Pair(d)
        want = {
            "f_kl": d * d / 2,
            "f_reverse_kl": d * d / 2,
            "f_pearson": math.expm1(d * d),
            "f_hellinger": -2 * math.expm1(-d * d / 8),
            "f_js": 2 * GAUSSIANS[d][0],
        }
        for name, value in want.items():
            got = -pair.expected(disc_of(name), pair.critic(name))
            assert got == pytest.approx(value, rel=1e-5, abs=TABLE), name


@pytest.mark.parametrize("d", GAUSSIANS)
class TestGaussians:
    @pytest.mark.parametrize("name", ["minimax", "non_saturating"])
    def test_logistic_optimum(self, d, name):
        pair = Pair(d)
        jsd, disc, *_ = GAUSSIANS[d]
        value = pair.expected(disc_of(name), pair.critic(name))
        assert value == pytest.approx(disc, abs=TABLE)
        assert math.log(2) - value / 2 == pytest.approx(jsd, abs=TABLE)

    def test_non_saturating_gen(self, d):
        pair = Pair(d)
        value = pair.expected(gen_of("non_saturating"), pair.critic("non_saturating"))
        assert value == pytest.approx(GAUSSIANS[d][2], abs=TABLE)

    def test_minimax_gen_plus_non_saturating_gen_is_kl(self, d):
        pair = Pair(d)
        critic = pair.critic("minimax")
        total = sum(pair.expected(gen_of(name), critic) for name in ("minimax", "non_saturating"))
        assert total == pytest.approx(d * d / 2, abs=TABLE)  # KL(q || p)

    def test_hinge_optimum_is_total_variation(self, d):
        pair = Pair(d)
        assert pair.expected(disc_of("hinge"), pair.critic("hinge")) == pytest.approx(
            2 * (1 - GAUSSIANS[d][3]), abs=TABLE
        )

    def test_least_squares_optimum(self, d):
        pair = Pair(d)
        assert pair.expected(disc_of("least_squares"), pair.critic("least_squares")) == pytest.approx(
            GAUSSIANS[d][4] / 2, abs=TABLE
        )

    def test_relativistic_optimum_is_between_js_and_log_2(self, d):
        # The pair (x, y) ~ p x q against (y, x): sup V + log 2 = JS(p x q, q x p) >= JS(p, q).
        pair = PlanePair(d)
        value = math.log(2) - pair.expected(disc_of("relativistic"), pair.log_ratio)
        assert GAUSSIANS[d][0] < value < math.log(2)
        # lambda(x) - lambda(y) is N(+-d^2, 2 d^2) under the two hypotheses: a one-dimensional Gaussian pair, distance
        # d sqrt(2) apart in its own std.
        far = Pair(d * math.sqrt(2))
        js = math.log(2) - far.expected(disc_of("minimax"), far.critic("minimax")) / 2
        assert value == pytest.approx(js, abs=TABLE)

    @pytest.mark.parametrize("name", POINTWISE)
    def test_the_critic_maximizes_v(self, d, name):
        """V falls whichever way the critic is perturbed, and without a slope at the optimum where V is smooth."""
        if name == "f_pearson" and d > 1:
            pytest.skip("V is in the thousands, and float32 too coarse for the slope")
        pair = Pair(d)
        disc = disc_of(name)
        critic = pair.critic(name)
        best = -pair.expected(disc, critic)
        directions = [np.ones_like(pair.x), np.tanh(pair.x), np.sin(3 * pair.x), np.cos(pair.x - d)]
        least = 1e-6 if name == "least_squares_sigmoid" else 1e-5  # the flattest of them
        for direction in directions:
            for size in (0.5, -0.5, 0.1, -0.1):
                assert -pair.expected(disc, critic + size * direction) < best - least
            if name != "hinge":
                slope = (
                    pair.expected(disc, critic + 0.05 * direction) - pair.expected(disc, critic - 0.05 * direction)
                ) / 0.1
                assert abs(slope) < 1e-3  # third-order term of a difference of width 0.1
        assert -pair.expected(disc, -critic) < best

    def test_the_relativistic_critic_maximizes_v(self, d):
        pair = PlanePair(d)
        x, critic = pair.x, pair.log_ratio

        def value(scores):
            return -pair.expected(disc_of("relativistic"), scores)

        best = value(critic)
        # A constant changes nothing: only differences count.
        assert value(critic + 0.7) == pytest.approx(best, abs=TABLE)
        for direction in (np.tanh(x), np.sin(3 * x)):
            for size in (0.5, -0.5):
                assert value(critic + size * direction) < best - 1e-6


@pytest.mark.parametrize("log_ratio", [-4.0, -1.0, -0.1, 0.1, 1.0, 4.0])
@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.quick(19)
def test_critic_maximizes_the_integrand_at_every_point(name, log_ratio):
    """Where (p, q) = (sigmoid(lambda), sigmoid(-lambda)) the integrand is -(p d(s, .) + q d(., s))."""
    disc = disc_of(name)
    zero = jnp.zeros(1)
    p, q = expit(log_ratio), expit(-log_ratio)

    def integrand(s):
        return -(p * disc(s[None], zero) + q * disc(zero, s[None]))

    best = critic_of(name, log_ratio)
    # 2,001 outputs around it: none is better than by rounding.
    others = best + jnp.linspace(-6, 6, 2001)
    assert float(jnp.max(jax.vmap(integrand)(others))) <= float(integrand(best)) + 1e-6 * max(1, abs(float(best)))
    if name != "hinge":
        assert float(jax.grad(integrand)(best)) == pytest.approx(0, abs=1e-6)


def of_modes(name: str, num_modes: int, packing: int = 1, **numbers: float) -> np.ndarray:
    return truth_of(LOSSES[name], numbers_of(name, **numbers)).of_modes(num_modes, packing)


# Known values, K = 8: k modes covered, logistic disc, non-saturating generator.
MODES = {
    8: (1.3863, 0.6931),
    7: (1.2955, 0.7621),
    6: (1.1951, 0.8473),
    4: (0.9548, 1.0986),
    2: (0.6255, 1.6094),
    1: (0.3924, 2.1972),
}


class TestModes:
    """K = 8 disjoint equal modes, G on k of them: what each loss reads under the optimal discriminator."""

    K = np.arange(1, 9)

    def test_published_table(self):
        disc, gen = of_modes("non_saturating", 8)
        for k, (want_disc, want_gen) in MODES.items():
            assert disc[k - 1] == pytest.approx(want_disc, abs=5e-5)
            assert gen[k - 1] == pytest.approx(want_gen, abs=5e-5)

    @pytest.mark.parametrize(
        ("name", "disc", "gen"),
        [
            ("non_saturating", lambda c: c * np.log1p(1 / c) + np.log1p(c), lambda c: np.log1p(1 / c)),
            ("minimax", lambda c: c * np.log1p(1 / c) + np.log1p(c), lambda c: -np.log1p(c)),
            ("least_squares", lambda c: c / (2 * (1 + c)), lambda c: 1 / (1 + c) ** 2 / 2),
            (
                "mean_logit",
                lambda c: c * np.log1p(1 / c) + np.log1p(c),
                lambda c: -np.log(c),  # the sum of the two above
            ),
            ("least_squares_sigmoid", lambda c: c / (2 * (1 + c)), lambda c: 1 / (1 + c) ** 2 / 2),
            ("hinge", lambda c: 2 * c, None),
            ("relativistic", lambda c: c * np.log(2), None),
            ("relativistic_least_squares", lambda c: c, None),
            ("relativistic_average_least_squares", lambda c: 2 * c / (2 - c), None),
            ("f_reverse_kl", lambda c: np.log(c), lambda c: 1 / c),
            ("f_hellinger", lambda c: 2 * np.sqrt(c) - 2, lambda c: 1 / np.sqrt(c) - 1),
            (
                "f_js",
                lambda c: c * np.log1p(1 / c) + np.log1p(c) - 2 * np.log(2),
                lambda c: np.log1p(1 / c) - np.log(2),
            ),
        ],
    )
    @pytest.mark.parametrize("packing", [1, 2])
    @pytest.mark.quick(6)
    def test_formulas(self, name, disc, gen, packing):
        """c = (k/K)^m, the share of real packs that lie in covered modes."""
        got, share = of_modes(name, 8, packing=packing), (self.K / 8.0) ** packing
        np.testing.assert_allclose(got[0], disc(share), atol=2e-5)
        if gen is not None:
            np.testing.assert_allclose(got[1], gen(share), rtol=2e-5, atol=2e-6)

    def test_labels_of_least_squares(self):
        # D's loss by the square of b - a; known for 0 and 1.
        got = of_modes("least_squares", 8, label_fake=-1.0, label_real=1.0)
        np.testing.assert_allclose(got[0], 4 * self.K / (2 * (self.K + 8)), atol=1e-5)

    @pytest.mark.parametrize("name", ["wasserstein", "relativistic_average", "relativistic_hinge"])
    def test_none_without_a_known_critic(self, name):
        assert np.isnan(of_modes(name, 8)).all()

    @pytest.mark.parametrize("name", ["f_kl", "f_pearson"])
    def test_none_where_a_missing_mode_makes_the_divergence_infinite(self, name):
        disc, _ = of_modes(name, 8)
        assert np.isnan(disc[:7]).all()
        assert disc[7] == pytest.approx(0, abs=1e-6)


class TestInfiniteLogits:
    """A D that is sure without bound: the value is the limit of ever surer ones, NaN only where that has none."""

    SIDES = ((math.inf, -math.inf), (math.inf, 0.0), (0.0, -math.inf), (-math.inf, 0.0), (0.0, math.inf))
    UNDEFINED = frozenset([("f_pearson", "disc", math.inf, -math.inf)])  # infinite less infinite
    SMOOTHED = types.MappingProxyType({"label_smoothing": 0.1, "label_smoothing_fake": 0.2})

    @staticmethod
    def limit(f, real: float, fake: float, numbers: HParams) -> float:
        near, far = (
            float(f(*(jnp.full(4, np.sign(x) * at if x else 0.0, jnp.float32) for x in (real, fake)), numbers))
            for at in (30.0, 60.0)
        )
        return far if near == pytest.approx(far, rel=1e-6, abs=1e-6) else math.copysign(math.inf, far - near)

    @pytest.mark.parametrize("name", OF_LOGITS)
    def test_is_the_limit(self, name):
        loss = LOSSES[name]
        smoothed = [self.SMOOTHED] if "label_smoothing" in loss.numbers else []
        for numbers in (numbers_of(name, **more) for more in ({}, *smoothed)):
            for player in ("disc", "gen"):
                f = getattr(loss, player)
                for real, fake in self.SIDES:
                    if (name, player, real, fake) in self.UNDEFINED:
                        continue
                    got = float(f(jnp.full(4, real), jnp.full(4, fake), numbers))
                    want = self.limit(f, real, fake, numbers)
                    assert got == pytest.approx(want, rel=1e-5, abs=1e-6), (player, real, fake)

    @pytest.mark.parametrize("name", ["minimax", "non_saturating", "mean_logit", "alpha", "hinge", "f_js"])
    def test_a_perfect_disc_has_nothing_to_gain(self, name):
        loss = LOSSES[name]
        sure = jnp.full(4, jnp.inf)
        value, slopes = jax.value_and_grad(lambda r, f: loss.disc(r, f, loss.defaults), (0, 1))(sure, -sure)
        assert float(value) == pytest.approx(-2 * math.log(2) if name == "f_js" else 0.0)
        np.testing.assert_array_equal(slopes, 0)
