"""The duality gap: zero where the game is at its equilibrium, closed forms elsewhere, and never negative."""

import functools

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn import truth
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.loss import Loss
from gandyn.gan.losses import LOSSES
from gandyn.sweeps import ensemble
from gandyn.truth import duality, measure
from gandyn.truth.measure import MeasureConfig
from gandyn.truth.value import T_975

BOX = (jnp.asarray([0.5, -0.25]), jnp.asarray(2.0))
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 64)), jnp.float32)
WASSERSTEIN = LOSSES["wasserstein"]
# Losses that read what D sows beside its outputs have no V of outputs alone.
OF_OUTPUTS = {name: loss for name, loss in LOSSES.items() if not loss.aux}
EACH_V = list({loss.disc: name for name, loss in OF_OUTPUTS.items()}.values())


def disc_of(loss: Loss, real, fake):
    """D's loss with its numbers' defaults."""
    return loss.disc(real, fake, loss.defaults)


def landscape(x, constant, slope, bend, peak, wave):
    """A discriminator: linear, with a bump, with a lattice of peaks."""
    bump = jnp.sum((x - peak[None, :]) ** 2, axis=1)
    return constant + x @ slope - bend * bump + wave * jnp.sum(jnp.cos(2 * jnp.pi * x), axis=1)


@haste.jit
def _ends_of(parts) -> duality.Extremes:
    return duality.extremes(lambda x: landscape(x, **parts), BOX)


def parts_of(constant=0.0, slope=(0.0, 0.0), bend=0.0, peak=(0.0, 0.0), wave=0.0) -> dict:
    parts = {"constant": constant, "slope": slope, "bend": bend, "peak": peak, "wave": wave}
    return {name: jnp.asarray(part, jnp.float32) for name, part in parts.items()}


def ends_of(**parts) -> duality.Extremes:
    """Of a landscape in the box: one program for all of them."""
    return _ends_of(parts_of(**parts))


def worst(loss: str, **parts) -> duality.Worst:
    return duality.worst_value(LOSSES[loss], LOGITS, ends_of(**parts), LOSSES[loss].defaults)


def value_at(loss: str, logit: float) -> float:
    """V with every fake output alike, over all scrambles."""
    return float(np.mean([-disc_of(LOSSES[loss], real, jnp.full_like(real, logit)) for real in LOGITS]))


def decision(loss: Loss) -> jax.Array:
    """What the optimal D says where p = q."""
    return jnp.zeros(()) if loss.critic is None else loss.critic(jnp.zeros(1), loss.defaults)[0]


def of_each_v(function) -> dict:
    """`function` of every loss whose V differs, in one program."""
    return jax.tree.map(np.asarray, haste.jit(lambda: {loss: function(LOSSES[loss]) for loss in EACH_V})())


class TestReduction:
    def test_v_at_one_point_is_least_at_an_end_of_the_range_of_d(self):
        logits = jnp.linspace(-2.5, 1.5, 161)
        value = lambda loss, logit: -disc_of(loss, LOGITS[0], jnp.full_like(LOGITS[0], logit))  # noqa: E731
        found = of_each_v(lambda loss: jax.lax.map(functools.partial(value, loss), logits))
        for loss, values in found.items():
            assert values.min() == pytest.approx(min(values[0], values[-1]), abs=1e-6), loss

    def test_one_point_is_worse_than_any_spread(self):
        # Random distributions of G over five outputs, against the best single output: 40 fake nodes, each with each
        # of 20 real ones, as losses on pairs want it.
        rng = np.random.default_rng(1)
        outputs = np.asarray([-2.0, -0.7, 0.1, 0.8, 1.5], np.float32)
        picks = [rng.choice(5, size=40, p=rng.dirichlet(np.full(5, 0.5))) for _ in range(50)]
        fakes = np.stack([*outputs[np.stack(picks)], *np.repeat(outputs[:, None], 40, axis=1)])
        real, fakes = np.tile(LOGITS[0, :20], 40), np.repeat(fakes, 20, axis=1)
        found = of_each_v(
            lambda loss: jax.lax.map(lambda fake: -disc_of(loss, jnp.asarray(real), fake), jnp.asarray(fakes))
        )
        for loss, values in found.items():
            assert values[:50].min() >= values[50:].min() - 1e-5, loss


class TestEquilibrium:
    def test_gap_is_zero_for_every_loss(self):
        """q = p, and D undecided everywhere: V is what it is, whoever moves."""

        def gap(loss):
            outputs = jnp.full_like(LOGITS, decision(loss))
            ends = duality.Extremes(jnp.zeros((2, 2)), outputs[0, :2])
            values = duality.worst_value(loss, outputs, ends, loss.defaults).values
            played = truth.value(loss, jnp.stack([outputs, outputs]), loss.defaults)
            return duality.duality_gap(played, values), values

        for loss, (estimate, values) in of_each_v(gap).items():
            equilibrium = LOSSES[loss].equilibrium
            assert equilibrium is not None
            np.testing.assert_allclose(values, equilibrium(LOSSES[loss].defaults), atol=1e-6, err_msg=loss)
            assert abs(estimate.mean) < 1e-6, loss
            assert estimate.se < 1e-6, loss

    @pytest.mark.slow
    def test_constant_discriminator(self):
        found = ends_of(constant=0.5)
        np.testing.assert_array_equal(found.logits, 0.5)
        assert np.all(np.abs(found.points - BOX[0][None, :]) <= BOX[1])


class TestWorst:
    @pytest.mark.slow
    def test_linear_discriminator(self):
        found = worst("minimax", slope=(0.3, -0.7))
        np.testing.assert_allclose(found.point, [2.5, -2.25], atol=1e-6)
        assert float(found.logit) == pytest.approx(0.3 * 2.5 + 0.7 * 2.25, rel=1e-6)
        assert float(truth.estimate(found.values).mean) == pytest.approx(value_at("minimax", 2.325), abs=1e-5)

    def test_least_squares_is_fooled_by_either_end(self):
        # D from -4 to 2.7: least squares, whose fakes aim at 0, is furthest off at the low end.
        found = worst("least_squares", slope=(0.8375, 0.8375), constant=-0.8375)
        np.testing.assert_allclose(found.point, [-1.5, -2.25], atol=1e-6)
        low = 0.8375 * -3.75 - 0.8375
        assert float(truth.estimate(found.values).mean) == pytest.approx(value_at("least_squares", low), rel=1e-5)

    def test_quadratic_discriminator_between_grid_points(self):
        peak = (0.1234, -0.4321)
        found = worst("hinge", constant=1.5, bend=1.0, peak=peak)
        np.testing.assert_allclose(found.point, peak, atol=1e-3)
        assert float(found.logit) == pytest.approx(1.5, abs=1e-6)
        assert float(truth.estimate(found.values).mean) == pytest.approx(value_at("hinge", 1.5), abs=1e-5)

    def test_highest_of_many_peaks(self):
        # 4 x 4 peaks, of which a slope makes one the highest.
        parts = {"wave": 1.0, "slope": (0.05, -0.03)}
        axis = np.linspace(-1, 1, 1501)
        dense = np.stack(np.meshgrid(0.5 + 2 * axis, -0.25 + 2 * axis), axis=-1).reshape(-1, 2)
        best = float(np.max(landscape(jnp.asarray(dense, jnp.float32), **parts_of(**parts))))
        assert best - 1e-6 <= float(ends_of(**parts).logits[0]) < best + 1e-3

    def test_replicates_are_of_their_own_scrambles(self):
        ends = duality.Extremes(jnp.zeros((2, 2)), jnp.asarray([2.5, -1.5]))
        found = duality.worst_value(WASSERSTEIN, LOGITS, ends, WASSERSTEIN.defaults)
        np.testing.assert_allclose(found.values, np.mean(LOGITS, axis=1) - 2.5, atol=1e-6)


class TestCrossFitted:
    def test_choice_of_the_largest_of_noise_is_not_biased(self):
        values = jnp.asarray(np.random.default_rng(1).normal(size=(4000, 2, 8)), jnp.float32)
        means = np.asarray(jax.vmap(lambda v: jnp.mean(truth.cross_fitted(v)))(values))
        assert abs(means.mean()) < 4 * means.std() / np.sqrt(4000)


class TestGap:
    def test_wasserstein_with_a_linear_critic(self):
        # p = N(0, I), q = N((1, 0), I), D = -x_1 of slope 1: max_D V = W1 = 1, min_G V = E_p D - max D = -1.5.
        noise = np.random.default_rng(2).normal(size=(2, 8, 64)).astype(np.float32)
        real, fake = -noise[0], -noise[1] - 1
        ends = duality.Extremes(jnp.asarray([[-1.5, 0.0], [2.5, 0.0]]), jnp.asarray([1.5, -2.5]))
        found = duality.worst_value(WASSERSTEIN, jnp.asarray(real), ends, WASSERSTEIN.defaults)
        value = truth.value(WASSERSTEIN, jnp.stack([real, fake]), WASSERSTEIN.defaults)
        gap = duality.duality_gap(value, found.values)
        assert abs(float(gap.mean) - 2.5) < 4 * float(gap.se)
        # The real nodes cancel: what is left is the noise of the fake ones.
        assert float(gap.se) == pytest.approx(np.std(fake.mean(axis=1), ddof=1) / np.sqrt(8), rel=1e-4)

    @pytest.mark.slow
    def test_not_negative_for_random_discriminators(self):
        # Against the exact best response between Gaussians, which is not among D's own outputs.
        game = make_game(targets.mixture([[0.0, 0.0]], 1.0), Config(disc_width=8))
        noise = np.random.default_rng(3).normal(size=(2, 8, 128, 2))
        nodes = jnp.asarray(noise + np.array([[0, 0], [1, 0]])[:, None, None, :], jnp.float32)
        losses = {name: LOSSES[name] for name in ("minimax", "hinge", "least_squares", "relativistic")}

        def of_net(key):
            variables = game.discriminator.init(key, jnp.zeros((1, 2)))
            disc = functools.partial(game.discriminate, variables)
            own = disc(nodes.reshape(-1, 2)).reshape(2, 8, 128)
            ends = duality.extremes(disc, game.target.box(), size=32)

            def gap(loss):
                best = loss.critic(0.5 - nodes[..., 0], loss.defaults)  # the log density ratio
                values = truth.cross_fitted(truth.value(loss, jnp.stack([own, best]), loss.defaults))
                return duality.duality_gap(values, duality.worst_value(loss, own[0], ends, loss.defaults).values)

            return ends.logits, {name: gap(loss) for name, loss in losses.items()}

        logits, gaps = haste.jit(jax.vmap(of_net))(jax.random.split(jax.random.key(4), 6))
        assert np.all(logits[:, 0] > logits[:, 1])
        for loss, gap in gaps.items():
            assert np.all(gap.mean >= -T_975 * gap.se), loss

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["non_saturating", "hinge", "least_squares", "relativistic"])
    def test_not_negative_while_training(self, loss):
        """12 GANs after 0, 100 and 1,000 steps; the best response as `measure` finds it."""
        target = targets.ring()
        game = make_game(target, Config(loss=loss, gen_width=32, disc_width=32, batch_size=64))
        plan = measure.plan_of(MeasureConfig(num_nodes=512), deep=False)
        many = ensemble.make_ensemble(game.config, plan, 12)
        placed = many.place(ensemble.stack_runs([game] * 12, range(12)))
        real = target.transform(
            truth.uniforms(jax.random.key(1), jnp.asarray(truth.sobol_bits(8, 512, 3))).reshape(-1, 3)
        )

        @jax.jit
        def of_disc(variables):
            disc = functools.partial(game.discriminate, variables)
            ends = duality.extremes(disc, target.box())
            found = duality.worst_value(LOSSES[loss], disc(real).reshape(8, 512), ends, game.hparams)
            return truth.estimate(found.values)

        states, gaps, names = many.init(placed), [], list(measure.metrics_of(plan, game))
        for steps in (0, 100, 900):
            states = many.advance(states, placed, steps)
            found = dict(zip(names, many.trim(many.measure(states, placed)).metrics.T, strict=True))
            least = jax.lax.map(of_disc, many.trim(states.variables.disc))
            gap = found["value_best"] - np.asarray(least.mean)
            assert np.all(gap >= -T_975 * np.hypot(found["value_best_se"], least.se))
            gaps.append(gap.mean())
        print(f"\n{loss}: mean gap after 0, 100, 1000 steps: {np.round(gaps, 3)}")
