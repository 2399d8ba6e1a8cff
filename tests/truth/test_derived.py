"""The truth of a loss from `disc` and `gen` alone: against closed forms, quadrature, brute force; losses gone wrong."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import relu, sigmoid, softplus
from scipy.special import xlogy
from scipy.stats import norm

from gandyn.gan.loss import Loss
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams, Number
from gandyn.truth import best_output
from gandyn.truth.derived import critic_of, separable, slope_bound, truth_of, why_not_separable

SEPARABLE = [name for name, loss in LOSSES.items() if loss.critic and not (loss.pairs or loss.couples or loss.aux)]
SLOW = pytest.mark.slow
# Two seconds of compiling each: most are slow.
SETTINGS = [
    *(pytest.param(name, {}, marks=SLOW if name != "hinge" else ()) for name in SEPARABLE),
    pytest.param("minimax", {"label_smoothing": 0.3, "label_smoothing_fake": 0.05}),
    *(
        pytest.param(name, numbers, marks=SLOW)
        for name, numbers in (
            ("minimax", {"label_smoothing": 0.1}),
            ("least_squares", {"label_fake": -1.0, "label_real": 1.0, "label_gen": 0.0}),
            ("least_squares_sigmoid", {"label_fake": 0.1, "label_real": 0.9}),
            ("alpha", {"alpha_disc": 0.5, "alpha_gen": 0.5}),
            ("alpha", {"alpha_disc": 2.0, "alpha_gen": 3.0}),
        )
    ),
]
SETTING = pytest.mark.parametrize(("name", "numbers"), SETTINGS)


@functools.cache
def bare(name):
    """A built-in loss of which only disc and gen are known."""
    return dataclasses.replace(
        LOSSES[name], critic=None, equilibrium=None, scale=None, slope_bound=None, zero_sum=False
    )


def both(name, numbers):
    """The truth in closed form and the derived one."""
    hparams = LOSSES[name].defaults.replace(**numbers)
    return truth_of(LOSSES[name], hparams), truth_of(bare(name), hparams)


def critic(loss, numbers=None):
    """The critic of a loss that has one."""
    found = truth_of(loss, numbers).critic
    assert found is not None
    return found


def own(disc, gen=None, **fields):
    return Loss("mine", disc=disc, gen=gen or (lambda real, fake, numbers: jnp.mean(softplus(-fake))), **fields)


def logistic(real, fake, numbers):
    return jnp.mean(softplus(-real)) + jnp.mean(softplus(fake))


class TestBuiltIn:
    """Derived against closed form."""

    @SETTING
    @pytest.mark.slow
    def test_critic(self, name, numbers):
        given, derived = both(name, numbers)
        log_ratio = jnp.linspace(-8, 8, 4000)  # not zero, about which hinge jumps
        want, got = critic(given.loss, given.numbers)(log_ratio), critic(derived.loss, derived.numbers)(log_ratio)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        assert derived.source == "derived"
        assert given.source == "given"

    @SETTING
    @pytest.mark.slow
    def test_numbers(self, name, numbers):
        given, derived = both(name, numbers)
        assert derived.equilibrium == pytest.approx(given.equilibrium, abs=1e-5)
        assert derived.decision == pytest.approx(given.decision, abs=1e-5)
        # At alpha = 0.5 and in least squares they are unbounded.
        assert derived.slope_bound == pytest.approx(given.slope_bound, rel=1e-5, nan_ok=True)

    @SETTING
    @pytest.mark.parametrize("packing", [1, 2])
    @pytest.mark.slow
    def test_mode_card(self, name, numbers, packing):
        given, derived = both(name, numbers)
        np.testing.assert_allclose(derived.of_modes(5, packing), given.of_modes(5, packing), rtol=1e-4, atol=1e-5)

    @SETTING
    @pytest.mark.slow
    def test_sound(self, name, numbers):
        given, derived = both(name, numbers)
        found = {
            (): (),
            ("label_gen",): (
                "gen rises with log p/q under the best D where log p/q is above 0.00: there G moves away from the data",
            ),
        }[("label_gen",) if numbers.get("label_gen") == 0 else ()]
        assert derived.problems == found
        if "label_smoothing_fake" in numbers:  # which G's loss does not have
            found = ("zero_sum: gen is not -disc's part of fake samples",)
        assert given.problems == found

    @pytest.mark.slow
    def test_zero_sum(self):
        assert [name for name in SEPARABLE if truth_of(bare(name)).zero_sum] == ["minimax", "alpha"]
        assert not truth_of(bare("alpha"), HParams(alpha_disc=2.0, alpha_gen=1.0)).zero_sum

    @pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.pairs or loss.couples or loss.aux])
    def test_not_derived(self, name):
        truth = truth_of(bare(name))
        assert truth.critic is None
        assert np.isnan(truth.equilibrium)
        assert np.isnan(truth.of_modes(4)).all()
        assert truth.source == why_not_separable(LOSSES[name], LOSSES[name].defaults) != ""
        assert truth.problems == ()

    @pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.pairs and not loss.aux])
    @pytest.mark.quick(1)
    def test_pairs_are_told_without_being_declared(self, name):
        undeclared = dataclasses.replace(bare(name), pairs=False, couples=False)
        assert not separable(undeclared, undeclared.defaults)
        assert "no sum of a loss of real samples and one of fake samples" in truth_of(undeclared).problems[0]

    def test_wasserstein(self):
        declared = truth_of(LOSSES["wasserstein"])
        assert declared.critic is None
        assert declared.source.startswith("no finite optimum")
        assert declared.problems == ()
        truth = truth_of(dataclasses.replace(LOSSES["wasserstein"], unbounded=False))
        assert truth.critic is None
        assert truth.equilibrium == 0
        assert truth.zero_sum
        assert truth.source.startswith("no finite optimum")
        assert truth.problems == (truth.source,)

    def test_equilibrium_follows_from_a_given_critic(self):
        for name in ("relativistic", "relativistic_least_squares", "relativistic_average_least_squares"):
            loss = dataclasses.replace(LOSSES[name], equilibrium=None)
            assert truth_of(loss).equilibrium == pytest.approx(truth_of(LOSSES[name]).equilibrium, abs=1e-6)


def divergence(name, numbers, d):
    """max_D V between N(0, 1) and N(d, 1): closed forms, or quadrature of the density formula in float64."""
    x = np.linspace(-30, 30 + d, 60_001)  # the trapezoidal rule converges exponentially here
    over = lambda f: np.sum(f(norm.logpdf(x), norm.logpdf(x, d))) * (x[1] - x[0])  # noqa: E731
    tv = 2 * norm.cdf(d / 2) - 1
    js = over(lambda p, q: sum(np.exp(s) * (s - np.logaddexp(p, q)) for s in (p, q)))
    alpha = numbers.get("alpha_disc", 1.0)
    e, e_fake = numbers.get("label_smoothing", 0.0), numbers.get("label_smoothing_fake", 0.0)

    def smoothed(p, q):
        p, q = np.exp(p), np.exp(q)
        real, fake = (1 - e) * p + e_fake * q, e * p + (1 - e_fake) * q
        return sum(xlogy(part, part / np.maximum(p + q, 1e-300)) for part in (real, fake))

    overlap = over(lambda p, q: np.exp(p + q - np.logaddexp(p, q)))
    labels = numbers.get("label_real", 1.0) - numbers.get("label_fake", 0.0)
    return {
        "minimax": lambda: over(smoothed),
        "hinge": lambda: 2 * tv - 2,
        "least_squares": lambda: -(labels**2) / 2 * overlap,
        "least_squares_sigmoid": lambda: -(labels**2) / 2 * overlap,
        "alpha": lambda: (
            js
            if alpha == 1
            else alpha / (alpha - 1) * (over(lambda p, q: np.exp(np.logaddexp(alpha * p, alpha * q) / alpha)) - 2)
        ),
        "f_kl": lambda: d * d / 2,
        "f_reverse_kl": lambda: d * d / 2,
        "f_pearson": lambda: math.expm1(d * d),
        "f_hellinger": lambda: 2 - 2 * math.exp(-d * d / 8),
        "f_js": lambda: js + 2 * math.log(2),
    }[name]()


def derived_divergence(name, numbers, d):
    """max_D V as an integral over the derived critic's outputs: the sum over 20,001 points in float64."""
    truth = both(name, numbers)[1]
    x = np.linspace(-10, 10 + d, 20_001)
    outputs = critic(truth.loss, truth.numbers)(jnp.asarray(norm.logpdf(x) - norm.logpdf(x, d), jnp.float32))
    here = jnp.zeros_like(outputs)
    of = lambda *at: np.asarray(best_output.single(truth.loss.disc, truth.numbers, *at), np.float64)  # noqa: E731
    # disc = a + b in one sample of each: what both sides have of it at zero is counted once.
    terms = norm.pdf(x) * of(outputs, here) + norm.pdf(x, d) * of(here, outputs)
    return float(of(here[:1], here[:1])[0] - np.sum(terms) * (x[1] - x[0]))


@SETTING
@pytest.mark.parametrize("d", [0.5, 1.0, 2.0, 3.0, 4.0])
@pytest.mark.slow
def test_divergence_of_gaussians(name, numbers, d):
    if name in ("non_saturating", "mean_logit", "alpha_non_saturating"):
        pytest.skip("D's loss is another one's")
    if name == "f_pearson" and d > 3:
        pytest.skip("its integral lies where log p/q is beyond 37, outputs beyond 1e16")
    want = divergence(name, numbers, d)
    assert derived_divergence(name, numbers, d) == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_known_values_of_gaussians():
    """disc at the optimum of N(0, 1) against N(1, 1) as published: logistic, hinge, least squares."""
    for name, want in (("minimax", 1.163451), ("hinge", 2 * (1 - 0.382925)), ("least_squares", 0.397973 / 2)):
        assert -derived_divergence(name, {}, 1.0) == pytest.approx(want, abs=3e-6)


class TestTraced:
    @pytest.mark.slow
    def test_numbers_are_traced_and_vmapped(self):
        loss, log_ratio = bare("minimax"), jnp.linspace(-8, 8, 501)
        shares, traces = jnp.asarray([0.0, 0.05, 0.3]), []

        @jax.jit
        def outputs(shares):
            traces.append(1)
            best = critic(loss)
            return jax.vmap(lambda e: best(log_ratio, HParams(label_smoothing=e, label_smoothing_fake=0.0)))(shares)

        for factor in (1, 0.5):
            got = outputs(factor * shares)
            for row, share in zip(got, factor * shares):
                want = critic(LOSSES["minimax"])(log_ratio, HParams(label_smoothing=share, label_smoothing_fake=0.0))
                np.testing.assert_allclose(row, want, atol=2e-5)
        assert len(traces) == 1

    @pytest.mark.slow
    def test_any_shape_and_any_ratio(self):
        log_ratio = jnp.asarray([[-jnp.inf, -300.0, -80.0], [0.0, 95.0, jnp.nan]])
        got = critic(bare("minimax"))(log_ratio)
        np.testing.assert_allclose(got, [[-1e4, -300, -80], [0, 95, np.nan]], rtol=2e-3, atol=1e-6)

    @pytest.mark.slow
    def test_of_a_loss_for_a_program(self):
        given = LOSSES["hinge"]
        assert critic_of(given) is given.critic
        assert critic_of(LOSSES["relativistic_hinge"]) is None
        assert critic_of(bare("hinge")) is truth_of(bare("hinge")).critic

    @pytest.mark.slow
    def test_numbers_that_couple_give_nan(self):
        def disc(real, fake, numbers):
            return logistic(real, fake, numbers) + numbers.weight * (jnp.mean(real) - jnp.mean(fake)) ** 2

        best = critic(own(disc, numbers={"weight": Number(0.0)}))
        assert best(jnp.asarray([1.0]), HParams(weight=0.0)) == pytest.approx(1.0, abs=1e-4)
        assert jnp.isnan(best(jnp.asarray([1.0]), HParams(weight=0.1))).all()

    @pytest.mark.slow
    def test_slope_bound_is_traced(self):
        orders = jnp.asarray([1.0, 2.0, 5.0, 0.5])
        got = jax.jit(jax.vmap(lambda a: slope_bound(bare("alpha"), HParams(alpha_disc=1.0, alpha_gen=a))))(orders)
        c = (1 - 1 / np.asarray([1.0, 2.0, 5.0])).astype(float)
        want = [*((c / (1 + c)) ** c / (1 + c)), np.nan]  # of u^c (1 - u)
        np.testing.assert_allclose(got, want, rtol=1e-5)


def brute_force(loss, numbers, log_ratio):
    """argmin of e^r a(s) + b(s) over a fine grid of outputs."""
    outputs = jnp.linspace(-12, 12, 240_001)
    heights = best_output.integrand(loss.disc, numbers, jnp.full_like(outputs, log_ratio), outputs, jnp.ones(()))
    return float(outputs[jnp.nanargmin(heights[0])])


def wells(real, fake, numbers):
    """Not convex: two minima on either side."""
    return jnp.mean((real**2 - 4) ** 2 / 8 - real) + jnp.mean((fake**2 - 1) ** 2 / 4 + 0.3 * fake)


class TestOtherLosses:
    @pytest.mark.parametrize(
        "disc",
        [
            wells,
            pytest.param(lambda real, fake, numbers: jnp.mean((real - 1) ** 4 + (fake + 1) ** 4), marks=SLOW),
            lambda real, fake, numbers: jnp.mean(jnp.exp(-5 * real)) + jnp.mean(jnp.exp(5 * fake)),  # overflows
            pytest.param(
                lambda real, fake, numbers: jnp.mean(-jnp.log(sigmoid(real)) - jnp.log(1 - sigmoid(fake))),  # does, too
                marks=SLOW,
            ),
            lambda real, fake, numbers: jnp.mean(fake) - jnp.mean(jnp.log(real)),  # NaN below zero
            pytest.param(lambda real, fake, numbers: 1e4 + logistic(real, fake, numbers), marks=SLOW),
            pytest.param(lambda real, fake, numbers: 1e-6 * logistic(real, fake, numbers), marks=SLOW),
        ],
    )
    @pytest.mark.slow
    def test_best_output_is_that_of_brute_force(self, disc):
        loss = own(disc)
        truth = truth_of(loss)
        assert truth.source == "derived"
        ratios = np.asarray([-2.3, -1.1, -0.45, 0.2, 0.9, 2.1], np.float32)
        found = np.asarray(critic(loss)(jnp.asarray(ratios)))
        for log_ratio, output in zip(ratios, found):
            heights, sizes = best_output.integrand(
                disc,
                truth.numbers,
                jnp.repeat(log_ratio, 2),
                jnp.asarray([output, brute_force(loss, truth.numbers, log_ratio)]),
                jnp.ones(()),
            )
            assert heights[0] <= heights[1] + 2e-6 * sizes[0]

    @pytest.mark.slow
    def test_jumps_are_exact_between_the_nodes_of_the_table(self):
        log_ratio = jnp.asarray([-0.02, -1e-3, -1e-4, 0.0, 1e-4, 1e-3, 0.02])
        np.testing.assert_allclose(critic(bare("hinge"))(log_ratio), [-1, -1, -1, 0, 1, 1, 1], atol=1e-6)
        # Here D's best output jumps where log p/q is log 2, between two nodes.
        uneven = own(lambda real, fake, numbers: jnp.mean(relu(1 - real)) + 2 * jnp.mean(relu(1 + fake)))
        got = critic(uneven)(math.log(2) + jnp.asarray([-2e-3, 2e-3]))
        np.testing.assert_allclose(got, [-1, 1], atol=1e-4)

    @pytest.mark.parametrize(("weight", "where"), [(3.0, "at every log p/q"), (-0.5, "where log p/q is below -0.70")])
    @pytest.mark.slow
    def test_no_finite_optimum_at_some_values_of_a_number(self, weight, where):
        def disc(real, fake, numbers):
            return jnp.mean(relu(1 - real)) + jnp.mean(relu(1 + fake)) - numbers.weight * jnp.mean(fake)

        loss = own(disc, numbers={"weight": Number(0.0)})
        assert truth_of(loss).problems == ()
        truth = truth_of(loss, HParams(weight=weight))
        assert truth.critic is None
        assert truth.source.startswith("no finite optimum")
        assert truth.source.endswith(where)
        # In a program whose numbers are traced that is a NaN.
        assert jnp.isnan(critic(loss)(jnp.asarray([-3.0]), HParams(weight=weight))).all()

    @pytest.mark.parametrize(
        ("disc", "problem"),
        [
            (lambda real, fake, numbers: jnp.asarray(3.0), "max_D V is the same whatever q is"),
            (lambda real, fake, numbers: jnp.mean(sigmoid(fake) - sigmoid(real)), "runs to infinity"),
            pytest.param(
                lambda real, fake, numbers: jnp.mean(relu(jnp.abs(real) - 1) + relu(jnp.abs(fake) - 1)),
                "max_D V is the same whatever q is",
                marks=SLOW,
            ),
            (
                lambda real, fake, numbers: (
                    jnp.mean(relu(1 - real) + jnp.abs(real) / 2) + jnp.mean(relu(1 + fake) + jnp.abs(fake) / 2)
                ),
                "max_D V does not see log p/q within +-1.1",
            ),
            (
                lambda real, fake, numbers: jnp.mean(jnp.where(real > 0, 0.0, 1.0) + jnp.where(fake > 0, 1.0, 0.0)),
                "the derivative of disc does not lead to its minimum",
            ),
            pytest.param(
                lambda real, fake, numbers: jnp.mean(softplus(fake)) - jnp.mean(jnp.log1p(real**2)),
                "no finite optimum",
                marks=SLOW,
            ),
            (lambda real, fake, numbers: jnp.mean(jnp.log(jnp.abs(real)) + fake**2), "no finite optimum"),
            (lambda real, fake, numbers: jnp.mean(real + fake) * jnp.nan, "finite number at none of the outputs"),
            (lambda real, fake, numbers: jnp.sum(softplus(-real)) + jnp.sum(softplus(fake)), "is not the mean"),
            (lambda real, fake, numbers: logistic(real, fake, numbers) + jnp.var(fake), "is not the mean"),
        ],
    )
    @pytest.mark.quick(1)
    def test_problems_of_disc(self, disc, problem):
        problems = truth_of(own(disc)).problems
        assert any(problem in text for text in problems), problems

    @pytest.mark.parametrize(
        ("gen", "problem"),
        [
            (lambda real, fake, numbers: jnp.mean(softplus(fake)), "gen rises with log p/q at zero under the best D"),
            (lambda real, fake, numbers: jnp.mean(fake) * 0 + 1, "gen does not change with D's best output"),
            (lambda real, fake, numbers: (jnp.mean(real) - jnp.mean(fake)) ** 2, "not judged"),
            (lambda real, fake, numbers: jnp.mean(jnp.log(fake)), "gen is no finite number"),
            (lambda real, fake, numbers: jnp.mean(jnp.abs(fake - 2)), "where log p/q is above 1."),
        ],
    )
    @pytest.mark.slow
    def test_problems_of_gen(self, gen, problem):
        (text,) = truth_of(own(logistic, gen)).problems
        assert problem in text

    @pytest.mark.slow
    def test_both_players_with_the_sign_swapped_are_sound(self):
        swapped = own(
            lambda real, fake, numbers: logistic(fake, real, numbers),
            lambda real, fake, numbers: jnp.mean(softplus(fake)),
        )
        assert truth_of(swapped).problems == ()
        assert critic(swapped)(jnp.asarray([2.0])) == pytest.approx(-2.0, abs=1e-4)

    @pytest.mark.slow
    def test_claims_that_disc_contradicts(self):
        claims = own(
            logistic,
            critic=lambda log_ratio, numbers: 2 * log_ratio,
            equilibrium=lambda numbers: -1.0,
            zero_sum=True,
        )
        critic, equilibrium, zero_sum = truth_of(claims).problems
        assert critic.startswith("critic: -0.11")
        assert equilibrium == "equilibrium: -1, where -disc at D's best output for q = p is -1.38629"
        assert zero_sum == "zero_sum: gen is not -disc's part of fake samples"

    def test_numbers_that_the_loss_does_not_declare_are_left_out(self):
        loss = bare("least_squares")
        assert truth_of(loss, loss.defaults.replace(lr_gen=1e-3)) is truth_of(loss)
