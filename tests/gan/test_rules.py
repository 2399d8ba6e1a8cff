"""Update rules against a plain loop and stored values: golden steps, rates of zero, what a step keeps."""

import dataclasses
import functools
import json
from typing import Any

import chex
import haste
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gandyn.gan import step as gan
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams
from gandyn.gan.rules import RULES
from gandyn.gan.state import Players, State, Stream

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)


def make_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def make(config: Config, target: Any = RING, **numbers: float) -> Game:
    """Every number and every array of the target in float32, as in an ensemble."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), make_game(target, config, HParams(**numbers)))


init, step = haste.jit(gan.init), haste.jit(gan.step)


def run(config: Config, num_steps: int, seed: int = 0, **numbers: float) -> State:
    game = make(config, **numbers)
    state = init(game, make_key(seed))
    for _ in range(num_steps):
        state = step(game, state)
    return state


# ---- one golden step


def summary(rule: str) -> dict[str, float]:
    state = run(dataclasses.replace(SMALL, rule=rule, loss="non_saturating", penalties=("r1",)), 1)
    out = {name: float(value) for name, value in state.logged._asdict().items()}
    for player, params in state.params._asdict().items():
        leaves = {
            jax.tree_util.keystr(path[1:]): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        for path, leaf in leaves.items():
            out[f"{player}{path} sum of magnitudes"] = float(np.abs(leaf).sum())
    return out


GOLDEN: dict[str, dict[str, float]] = {
    "alternating": {
        "loss_disc": 1.63063133,
        "loss_gen": 1.21957612,
        "penalty": 0.510911822,
        "gen['Dense_0']['bias'] sum of magnitudes": 0.00799998967,
        "gen['Dense_0']['kernel'] sum of magnitudes": 14.2832917,
        "gen['Dense_1']['bias'] sum of magnitudes": 0.00199999963,
        "gen['Dense_1']['kernel'] sum of magnitudes": 6.21910238,
        "disc['Dense_0']['bias'] sum of magnitudes": 0.00799998827,
        "disc['Dense_0']['kernel'] sum of magnitudes": 14.3955244,
        "disc['Dense_1']['bias'] sum of magnitudes": 0.00100000005,
        "disc['Dense_1']['kernel'] sum of magnitudes": 2.72798757,
    },
    "simultaneous": {
        "loss_disc": 1.55681324,
        "loss_gen": 1.02242398,
        "penalty": 0.504036248,
        "gen['Dense_0']['bias'] sum of magnitudes": 0.00799998466,
        "gen['Dense_0']['kernel'] sum of magnitudes": 14.2812916,
        "gen['Dense_1']['bias'] sum of magnitudes": 0.00199999916,
        "gen['Dense_1']['kernel'] sum of magnitudes": 6.21910237,
        "disc['Dense_0']['bias'] sum of magnitudes": 0.00799999596,
        "disc['Dense_0']['kernel'] sum of magnitudes": 14.3975243,
        "disc['Dense_1']['bias'] sum of magnitudes": 0.00100000005,
        "disc['Dense_1']['kernel'] sum of magnitudes": 2.73398754,
    },
}

REGENERATE = (
    "one training step no longer gives the stored values. If the change of the training course is intended (every"
    " stored result then replays differently: say so in CHANGELOG.md), put the output of"
    " `.venv-3.11/bin/python tests/gan/test_rules.py` into GOLDEN of that file"
)


@pytest.mark.parametrize("rule", GOLDEN)
def test_golden_step(rule):
    assert summary(rule) == pytest.approx(GOLDEN[rule], rel=1e-5), REGENERATE


# ---- against a plain loop, written without gandyn's networks, losses or optimizers


def forward(params, x, activation):
    layers = params["params"]
    for i in range(len(layers)):
        x = jnp.dot(x, layers[f"Dense_{i}"]["kernel"]) + layers[f"Dense_{i}"]["bias"][None, :]
        x = activation(x) if i < len(layers) - 1 else x
    return x


def plain_disc_loss(disc, gen, batch):
    real, fake = (
        forward(disc, x, lambda x: jnp.where(x > 0, x, 0.2 * x))[:, 0]
        for x in (batch.real, forward(gen, batch.latents, lambda x: jnp.maximum(x, 0)))
    )
    return jnp.mean(jnp.logaddexp(0, -real)) + jnp.mean(jnp.logaddexp(0, fake))


def plain_gen_loss(gen, disc, batch):
    fake = forward(
        disc, forward(gen, batch.latents, lambda x: jnp.maximum(x, 0)), lambda x: jnp.where(x > 0, x, 0.2 * x)
    )
    return jnp.mean(jnp.logaddexp(0, -fake[:, 0]))


@functools.cache
def plain(batch_config: Config):
    game = make(batch_config)
    start = init(game, make_key())
    draw = jax.jit(lambda key: game.draw(start, key).pairs)
    return draw, jax.jit(jax.value_and_grad(plain_disc_loss)), jax.jit(jax.value_and_grad(plain_gen_loss))


def train_key(seed: int, step: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(make_key(seed), Stream.TRAIN), step)


TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-6}


class TestAgainstAPlainLoop:
    """Five steps: rounding alone separates the two (float32 gradients; Adam's ratio at small gradients)."""

    STEPS = 5

    def players(self, config: Config):
        state = run(config, 0)
        h = make_game(RING, config).hparams
        gen_opt = optax.adam(h.lr_gen, b1=h.beta1_gen, b2=h.beta2_gen, eps=h.eps_gen)
        disc_opt = optax.adam(h.lr_disc, b1=h.beta1_disc, b2=h.beta2_disc, eps=h.eps_disc)
        gen, disc = state.params
        return gen, disc, gen_opt, disc_opt, gen_opt.init(gen), disc_opt.init(disc)

    @pytest.mark.parametrize("disc_steps", [1, 3])
    @pytest.mark.slow
    def test_alternating(self, disc_steps):
        config = dataclasses.replace(SMALL, disc_steps=disc_steps)
        draw, disc_loss, gen_loss = plain(SMALL)
        gen, disc, gen_opt, disc_opt, gen_state, disc_state = self.players(config)
        losses = []
        for step in range(self.STEPS):
            disc_key, gen_key = jax.random.split(train_key(0, step))
            for k in range(disc_steps):
                loss, gradient = disc_loss(disc, gen, draw(jax.random.fold_in(disc_key, k)))
                updates, disc_state = disc_opt.update(gradient, disc_state)
                disc = optax.apply_updates(disc, updates)
            last, gradient = gen_loss(gen, disc, draw(jax.random.fold_in(gen_key, 0)))
            updates, gen_state = gen_opt.update(gradient, gen_state)
            gen = optax.apply_updates(gen, updates)
            losses = [float(loss), float(last)]
        state = run(config, self.STEPS)
        assert int(state.step) == self.STEPS
        chex.assert_trees_all_close(state.params, Players(gen, disc), **TOLERANCE)
        # The logged loss is that of the last update of D, before it was made.
        np.testing.assert_allclose([state.logged.loss_disc, state.logged.loss_gen], losses, **TOLERANCE)
        assert float(state.logged.penalty) == 0

    @pytest.mark.slow
    def test_simultaneous(self):
        """Both gradients at the same parameters, on the same minibatch."""
        config = dataclasses.replace(SMALL, rule="simultaneous")
        draw, disc_loss, gen_loss = plain(SMALL)
        gen, disc, gen_opt, disc_opt, gen_state, disc_state = self.players(config)
        losses = []
        for step in range(self.STEPS):
            batch = draw(train_key(0, step))
            loss_disc, disc_gradient = disc_loss(disc, gen, batch)
            loss_gen, gen_gradient = gen_loss(gen, disc, batch)
            disc_updates, disc_state = disc_opt.update(disc_gradient, disc_state)
            gen_updates, gen_state = gen_opt.update(gen_gradient, gen_state)
            disc, gen = optax.apply_updates(disc, disc_updates), optax.apply_updates(gen, gen_updates)
            losses = [float(loss_disc), float(loss_gen)]
        state = run(config, self.STEPS)
        chex.assert_trees_all_close(state.params, Players(gen, disc), **TOLERANCE)
        np.testing.assert_allclose([state.logged.loss_disc, state.logged.loss_gen], losses, **TOLERANCE)


def with_rule(rule: str) -> Config:
    optimizers = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"} if RULES[rule].own_steps else {}
    return dataclasses.replace(SMALL, rule=rule, **optimizers)


_QUICK_RULES = ("alternating", "simultaneous", "unrolled", "past_extragradient")


class TestStep:
    @pytest.mark.parametrize(
        "rule", [pytest.param(n, marks=[pytest.mark.slow] * (n not in _QUICK_RULES)) for n in RULES]
    )
    @pytest.mark.slow
    def test_each_players_rate_is_its_own(self, rule):
        """And at rates of zero nothing moves, but the step and the losses are told."""
        config = with_rule(rule)
        choices: list[dict[str, Any]] = [{}, {"lr_gen": 0.0}, {"lr_disc": 0.0}, {"lr_gen": 0.0, "lr_disc": 0.0}]
        for rates in choices:
            before, after = run(config, 0, **rates), run(config, 2, **rates)
            still = {name.removeprefix("lr_") for name in rates}
            if rule == "follow_the_ridge" and "gen" not in still:
                still.discard("disc")  # D also moves by G's rate, along the ridge
            for player in ("gen", "disc"):
                moved = any(
                    not np.array_equal(a, b)
                    for a, b in zip(*(jax.tree.leaves(getattr(s.params, player)) for s in (before, after)))
                )
                assert moved == (player not in still)
            assert int(after.step) == 2
            assert all(np.isnan(value) for value in before.logged)
            assert all(np.isfinite(value) for value in after.logged)

    def test_key_is_never_consumed(self):
        before, after = run(SMALL, 0), run(SMALL, 2)
        np.testing.assert_array_equal(jax.random.key_data(before.key), jax.random.key_data(after.key))

    def test_clip_holds_after_every_step(self):
        state = run(dataclasses.replace(SMALL, penalties=("clip",)), 3, clip_bound=0.02)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.params.disc)) <= np.float32(0.02)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.params.gen)) > 0.02

    def test_penalty_is_logged_apart_from_the_loss(self):
        with_r1, without = (run(dataclasses.replace(SMALL, penalties=penalties), 1) for penalties in (("r1",), ()))
        assert float(with_r1.logged.loss_disc) == pytest.approx(float(without.logged.loss_disc), rel=1e-6)
        assert float(with_r1.logged.penalty) > 0
        assert float(without.logged.penalty) == 0

    @pytest.mark.slow
    def test_data_set_is_drawn_once_and_reused(self):
        config = dataclasses.replace(SMALL, dataset_size=5)
        state = run(config, 0)
        assert state.data is not None
        batch = jax.jit(Game.draw)(make(config), state, make_key(3))
        known = {tuple(row) for row in np.asarray(state.data.points).tolist()}
        assert len(known) == 5
        drawn = {tuple(row) for row in np.asarray(batch.pairs.real).tolist()}
        assert drawn <= known
        assert len(drawn) > 1
        after = run(config, 2).data
        assert after is not None
        np.testing.assert_array_equal(after.points, state.data.points)


if __name__ == "__main__":
    print(json.dumps({name: summary(name) for name in GOLDEN}, indent=2))
