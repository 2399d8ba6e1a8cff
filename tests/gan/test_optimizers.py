"""Optimizers against hand formulas in float64."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.number import HParams
from gandyn.gan.optimizers import OPTIMIZERS, Optimizer, clipped

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
FIRST, SECOND = np.array([0.3, -2.0, 1e-4]), np.array([-0.1, -1.0, 2e-4])
NUMBERS = {"lr": 0.05, "beta1": 0.7, "beta2": 0.9, "eps": 1e-3}


def optimizers(config: Config, **numbers: float) -> Any:
    return make_game(
        RING, config, HParams(**{name: jnp.float32(value) for name, value in numbers.items()})
    ).optimizers()


def updates(optimizer: Any, gradients: Sequence[Any], params: Any = (0.0, 0.0, 0.0)) -> list[np.ndarray]:
    """What is added to parameters that stay where they are, update by update."""
    params = jnp.asarray(params, jnp.float32)
    state, found = optimizer.init(params), []
    for gradient in gradients:
        moved, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        found.append(np.asarray(moved, np.float64))
    return found


class TestOptimizers:
    """Two updates of a vector with gradients FIRST and SECOND, by the formula that the code documents."""

    def moves(self, chosen: str | Optimizer, **changed: float) -> list[np.ndarray]:
        optimizer = OPTIMIZERS[chosen] if isinstance(chosen, str) else chosen
        numbers = {name: value for name, value in NUMBERS.items() if name == "lr" or name in optimizer.numbers}
        config = dataclasses.replace(SMALL, disc_optimizer=chosen)
        made = optimizers(config, **{f"{name}_disc": value for name, value in (numbers | changed).items()})
        return updates(made.disc, (FIRST, SECOND))

    def test_every_optimizer_is_here(self):
        named = {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")}
        assert set(OPTIMIZERS) == named & set(OPTIMIZERS)

    def test_sgd(self):
        np.testing.assert_allclose(self.moves("sgd"), [-0.05 * FIRST, -0.05 * SECOND], rtol=1e-6)

    @pytest.mark.parametrize("beta", [0.7, 0.0, -0.5])
    def test_momentum(self, beta):
        moves = self.moves("momentum", beta1=beta)
        np.testing.assert_allclose(moves, [-0.05 * FIRST, -0.05 * (SECOND + beta * FIRST)], rtol=1e-5)

    @pytest.mark.parametrize("beta1", [0.7, 0.0, -0.5])
    def test_adam(self, beta1):
        beta2, eps = 0.9, 1e-3
        m, v, want = np.zeros(3), np.zeros(3), []
        for t, g in enumerate((FIRST, SECOND), start=1):
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            want.append(-0.05 * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps))
        np.testing.assert_allclose(self.moves("adam", beta1=beta1), want, rtol=2e-5)

    def test_rmsprop(self):
        """From a second moment of zero, eps "added to the root of the second moment", not inside it: PyTorch's."""
        v, want = np.zeros(3), []
        for g in (FIRST, SECOND):
            v = 0.9 * v + 0.1 * g**2
            want.append(-0.05 * g / (np.sqrt(v) + 1e-3))
        np.testing.assert_allclose(self.moves("rmsprop"), want, rtol=2e-5)

    def test_rmsprop_tf1(self):
        """From a second moment of one, eps inside the root: TensorFlow 1's, whose first steps are shorter."""
        v, want = np.ones(3), []
        for g in (FIRST, SECOND):
            v = 0.9 * v + 0.1 * g**2
            want.append(-0.05 * g / np.sqrt(v + 1e-3))
        np.testing.assert_allclose(self.moves("rmsprop_tf1"), want, rtol=2e-5)

    def test_defaults_of_the_two_rmsprops(self):
        """PyTorch's alpha 0.99 and 1e-8, TensorFlow 1's decay 0.9 and 1e-10."""
        made = {name: {key: number.default for key, number in OPTIMIZERS[name].numbers.items()} for name in OPTIMIZERS}
        assert made["rmsprop"] == {"beta2": 0.99, "eps": 1e-8}
        assert made["rmsprop_tf1"] == {"beta2": 0.9, "eps": 1e-10}

    def test_adamw(self):
        # Decoupled: the decay of the weights is times the rate, and not in the moments.
        rates = {f"{name}_disc": value for name, value in NUMBERS.items()}
        plain = optimizers(dataclasses.replace(SMALL, disc_optimizer="adam"), **rates).disc
        decayed = optimizers(dataclasses.replace(SMALL, disc_optimizer="adamw"), **rates, weight_decay_disc=0.3).disc
        params = np.array([1.0, -2.0, 3.0])
        (without,), (moved,) = (updates(each, [FIRST], params) for each in (plain, decayed))
        np.testing.assert_allclose(moved, without - 0.05 * 0.3 * params, rtol=1e-5)
        np.testing.assert_allclose(self.moves("adamw", weight_decay=0.0), self.moves("adam"), rtol=1e-6)

    def test_optimistic_adam(self):
        """-2 lr a_t + lr a_(t-1), a_t = m_t / (sqrt v_t + eps) and a_0 = 0; Daskalakis et al. 2018, algorithm 1.

        So the first step is -2 lr a_1, where one that took a_0 for a_1 would make half of it.
        """
        adam = self.moves("adam")
        got = self.moves("optimistic_adam")
        np.testing.assert_allclose(got, [2 * adam[0], 2 * adam[1] - adam[0]], rtol=2e-5)

    def test_players_have_their_own(self):
        config = dataclasses.replace(SMALL, gen_optimizer="sgd", disc_optimizer="momentum")
        made = optimizers(config, lr_gen=2.0, lr_disc=3.0)
        for optimizer, rate in ((made.gen, 2.0), (made.disc, 3.0)):
            assert updates(optimizer, [np.ones(1)], np.zeros(1))[0] == -rate


class TestClipped:
    """A gradient of norm above max_norm is scaled down to it; below it is left alone."""

    def test_norm(self):
        got = TestOptimizers().moves(clipped(OPTIMIZERS["sgd"]), max_norm=1.5)
        norms = [np.linalg.norm(FIRST), np.linalg.norm(SECOND)]
        assert norms[0] > 1.5 > norms[1]
        np.testing.assert_allclose(got, [-0.05 * FIRST * 1.5 / norms[0], -0.05 * SECOND], rtol=1e-5)

    def test_over_all_parameters_together(self):
        optimizer = optimizers(
            dataclasses.replace(SMALL, disc_optimizer=clipped(OPTIMIZERS["sgd"])), lr_disc=1.0, max_norm_disc=1.0
        ).disc
        gradient = {"a": jnp.asarray([3.0]), "b": jnp.asarray([[4.0]])}
        moved, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
        np.testing.assert_allclose([moved["a"][0], moved["b"][0, 0]], [-0.6, -0.8], rtol=1e-6)

    def test_what_the_moments_see(self):
        """Adam on gradients that were clipped before, by numpy's loop."""
        beta1, beta2, eps = 0.7, 0.9, 1e-3
        m, v, want = np.zeros(3), np.zeros(3), []
        for t, g in enumerate((FIRST, SECOND), start=1):
            g = g * min(1, 0.5 / np.linalg.norm(g))
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            want.append(-0.05 * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps))
        np.testing.assert_allclose(TestOptimizers().moves(clipped(OPTIMIZERS["adam"]), max_norm=0.5), want, rtol=2e-5)

    def test_declares_its_bound_beside_the_rest(self):
        mine = clipped(OPTIMIZERS["adam"], default=3.0)
        assert {name: number.default for name, number in mine.numbers.items()} == {
            "beta1": 0.5, "beta2": 0.999, "eps": 1e-8, "max_norm": 3.0,
        }  # fmt: skip
        config = dataclasses.replace(SMALL, disc_optimizer=mine)
        assert make_game(RING, config).hparams.max_norm_disc == 3.0
        with pytest.raises(ValueError, match=r"max_norm_gen: got 1\.0, and nothing chosen reads it"):
            make_game(RING, config, HParams(max_norm_gen=1.0))

    def test_stays_optimistic(self):
        """So that an optimistic rule refuses it as it refuses the bare one."""
        mine = clipped(OPTIMIZERS["optimistic_adam"])
        with pytest.raises(ValueError, match="optimistic"):
            Config(rule="optimistic", disc_optimizer=mine)

    @pytest.mark.parametrize("gradient", [[0.0, 1.0], [0.0, 0.0], [3.0, 4.0]])
    @pytest.mark.quick(1)
    def test_has_a_derivative_like_the_bare_one(self, gradient):
        """`unrolled` differentiates through D's updates, also where a gradient is exactly zero."""
        game = make_game(RING, dataclasses.replace(SMALL, disc_optimizer=clipped(OPTIMIZERS["adam"])))

        def moved(gradient: Any) -> Any:
            optimizer = game.optimizers(smooth=True).disc
            return jnp.sum(optimizer.update(gradient, optimizer.init(gradient), gradient)[0])

        assert np.isfinite(np.asarray(jax.grad(moved)(jnp.asarray(gradient)))).all()

    def test_a_diverged_gradient_is_not_repaired(self):
        moves = updates(clipped(OPTIMIZERS["sgd"]).make(jnp.float32(1.0), jnp.float32(1.0)), [[np.nan, 1.0, 2.0]])
        assert np.isnan(moves[0]).all()
