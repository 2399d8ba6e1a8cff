"""Update rules against hand formulas, a plain loop and stored values; conformity of all variants."""

import dataclasses
import functools
import itertools
import json
import logging
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gandyn.gan import dynamics, gan, targets
from gandyn.gan.dynamics import DYNAMICS
from gandyn.gan.gan import OPTIMIZERS, PRIORS, Config, HParams
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import ACTIVATIONS, INITIALIZERS
from gandyn.gan.penalties import PENALTIES
from gandyn.sweeps import ensemble
from gandyn.truth import grid_cells
from gandyn.truth.measure import MeasureConfig, named

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)


def make_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def hparams32(**fields: float) -> HParams:
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), HParams(**fields))


@functools.cache
def stepper(config: Config):
    """Programs of init and of one step of one GAN."""
    return haste.jit(functools.partial(gan.init, config)), haste.jit(functools.partial(dynamics.step, config))


def run(config: Config, num_steps: int, hparams: HParams | None = None, seed: int = 0) -> gan.State:
    hparams = hparams32() if hparams is None else hparams
    init, step = stepper(config)
    state = init(hparams, RING, make_key(seed))
    for _ in range(num_steps):
        state = step(hparams, RING, state)
    return state


def assert_trees_close(got, want, **tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), **tolerance)


# ---- one golden step


def summary(rule: str) -> dict[str, float]:
    state = run(dataclasses.replace(SMALL, dynamics=rule, loss="non_saturating", penalty="r1"), 1)
    out = {name: float(value) for name, value in state.logged._asdict().items()}
    for player, params in state.params._asdict().items():
        leaves = {
            jax.tree_util.keystr(path[1:]): np.asarray(leaf, np.float64)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        for path, leaf in leaves.items():
            out[f"{player}{path} sum of magnitudes"] = float(np.abs(leaf).sum())
    return out


BY_THEMSELVES = ("competitive", "heun", "runge_kutta")
"""Rules that make their own steps of the learning rates, for sgd alone."""

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
    " `.venv-3.11/bin/python tests/test_dynamics.py` into GOLDEN of that file"
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
    draw = jax.jit(lambda key: gan.draw_batch(batch_config, HParams(), key, None, RING).pairs)
    return draw, jax.jit(jax.value_and_grad(plain_disc_loss)), jax.jit(jax.value_and_grad(plain_gen_loss))


def train_key(seed: int, step: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(make_key(seed), gan.Stream.TRAIN), step)


TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-6}


class TestAgainstAPlainLoop:
    """Five steps: rounding alone separates the two (float32 gradients; Adam's ratio at small gradients)."""

    STEPS = 5

    def players(self, config: Config):
        state = run(config, 0)
        h = HParams()
        gen_opt = optax.adam(h.lr_gen, b1=h.beta1_gen, b2=h.beta2_gen, eps=h.eps)
        disc_opt = optax.adam(h.lr_disc, b1=h.beta1_disc, b2=h.beta2_disc, eps=h.eps)
        gen, disc = state.params
        return gen, disc, gen_opt, disc_opt, gen_opt.init(gen), disc_opt.init(disc)

    @pytest.mark.parametrize("disc_steps", [1, 3])
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
        assert_trees_close(state.params, gan.Players(gen, disc), **TOLERANCE)
        # The logged loss is that of the last update of D, before it was made.
        np.testing.assert_allclose([state.logged.loss_disc, state.logged.loss_gen], losses, **TOLERANCE)
        assert float(state.logged.penalty) == 0

    def test_simultaneous(self):
        """Both gradients at the same parameters, on the same minibatch."""
        config = dataclasses.replace(SMALL, dynamics="simultaneous")
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
        assert_trees_close(state.params, gan.Players(gen, disc), **TOLERANCE)
        np.testing.assert_allclose([state.logged.loss_disc, state.logged.loss_gen], losses, **TOLERANCE)


def with_rule(rule: str) -> Config:
    optimizers = {} if rule not in BY_THEMSELVES else {"gen_optimizer": "sgd", "disc_optimizer": "sgd"}
    return dataclasses.replace(SMALL, dynamics=rule, **optimizers)


_QUICK_RULES = ("alternating", "simultaneous", "unrolled", "past_extragradient")


class TestStep:
    @pytest.mark.parametrize(
        "rule", [pytest.param(n, marks=[pytest.mark.slow] * (n not in _QUICK_RULES)) for n in DYNAMICS]
    )
    def test_each_players_rate_is_its_own(self, rule):
        """And at rates of zero nothing moves, but the step and the losses are told."""
        config = with_rule(rule)
        for rates in ({}, {"lr_gen": 0.0}, {"lr_disc": 0.0}, {"lr_gen": 0.0, "lr_disc": 0.0}):
            h = hparams32(**rates)
            before, after = run(config, 0, h), run(config, 2, h)
            for player in ("gen", "disc"):
                moved = any(
                    not np.array_equal(a, b)
                    for a, b in zip(*(jax.tree.leaves(getattr(s.params, player)) for s in (before, after)))
                )
                assert moved == (f"lr_{player}" not in rates)
            assert int(after.step) == 2
            assert all(np.isnan(value) for value in before.logged)
            assert all(np.isfinite(value) for value in after.logged)

    def test_key_is_never_consumed(self):
        before, after = run(SMALL, 0), run(SMALL, 2)
        np.testing.assert_array_equal(jax.random.key_data(before.key), jax.random.key_data(after.key))

    def test_clip_holds_after_every_step(self):
        config = dataclasses.replace(SMALL, penalty="clip")
        h = hparams32(clip_bound=0.02)
        state = run(config, 3, h)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.params.disc)) <= np.float32(0.02)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.params.gen)) > 0.02

    def test_penalty_is_logged_apart_from_the_loss(self):
        with_r1, without = (run(dataclasses.replace(SMALL, penalty=name), 1) for name in ("r1", "none"))
        assert float(with_r1.logged.loss_disc) == pytest.approx(float(without.logged.loss_disc), rel=1e-6)
        assert float(with_r1.logged.penalty) > 0
        assert float(without.logged.penalty) == 0

    def test_data_set_is_drawn_once_and_reused(self):
        config = dataclasses.replace(SMALL, dataset_size=5)
        state = run(config, 0)
        assert state.data is not None
        batch = jax.jit(functools.partial(gan.draw_batch, config, HParams()))(make_key(3), state.data, RING)
        known = {tuple(row) for row in np.asarray(state.data.points).tolist()}
        assert len(known) == 5
        drawn = {tuple(row) for row in np.asarray(batch.pairs.real).tolist()}
        assert drawn <= known
        assert len(drawn) > 1
        after = run(config, 2).data
        assert after is not None
        np.testing.assert_array_equal(after.points, state.data.points)


# ---- optimizers against hand formulas

FIRST, SECOND = np.array([0.3, -2.0, 1e-4]), np.array([-0.1, -1.0, 2e-4])


RATES = {"lr_disc": 0.05, "beta1_disc": 0.7, "beta2_disc": 0.9, "eps": 1e-3}


class TestOptimizers:
    """Two updates of a vector with gradients FIRST and SECOND, in float64 by the formula that the code documents."""

    def moves(self, name: str, **changed: float) -> list[np.ndarray]:
        config = dataclasses.replace(SMALL, disc_optimizer=name)
        optimizer = gan.optimizers(config, hparams32(**(RATES | changed))).disc
        params = jnp.zeros(3)
        state, moves = optimizer.init(params), []
        for gradient in (FIRST, SECOND):
            updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
            moves.append(np.asarray(updates, np.float64))
        return moves

    def test_every_optimizer_is_here(self):
        assert set(OPTIMIZERS) == {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")} & set(
            OPTIMIZERS
        )

    def test_sgd(self):
        np.testing.assert_allclose(self.moves("sgd"), [-0.05 * FIRST, -0.05 * SECOND], rtol=1e-6)

    @pytest.mark.parametrize("beta", [0.7, 0.0, -0.5])
    def test_momentum(self, beta):
        moves = self.moves("momentum", beta1_disc=beta)
        np.testing.assert_allclose(moves, [-0.05 * FIRST, -0.05 * (SECOND + beta * FIRST)], rtol=1e-5)

    @pytest.mark.parametrize("beta1", [0.7, 0.0, -0.5])
    def test_adam(self, beta1):
        beta2, eps = 0.9, 1e-3
        m, v, want = np.zeros(3), np.zeros(3), []
        for t, g in enumerate((FIRST, SECOND), start=1):
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            want.append(-0.05 * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps))
        np.testing.assert_allclose(self.moves("adam", beta1_disc=beta1), want, rtol=2e-5)

    def test_rmsprop(self):
        # HParams.eps: "added to the root of the second moment", not inside it.
        v, want = np.zeros(3), []
        for g in (FIRST, SECOND):
            v = 0.9 * v + 0.1 * g**2
            want.append(-0.05 * g / (np.sqrt(v) + 1e-3))
        np.testing.assert_allclose(self.moves("rmsprop"), want, rtol=2e-5)

    def test_adamw(self):
        # Decoupled: the decay of the weights is times the rate, and not in the moments.
        config = dataclasses.replace(SMALL, disc_optimizer="adamw")
        plain, decayed = (
            gan.optimizers(each, hparams32(**RATES, weight_decay=0.3)).disc
            for each in (dataclasses.replace(SMALL, disc_optimizer="adam"), config)
        )
        params, gradient = jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray(FIRST, jnp.float32)
        moves = [opt.update(gradient, opt.init(params), params)[0] for opt in (plain, decayed)]
        np.testing.assert_allclose(moves[1], np.asarray(moves[0]) - 0.05 * 0.3 * np.asarray(params), rtol=1e-5)
        np.testing.assert_allclose(self.moves("adamw", weight_decay=0.0), self.moves("adam"), rtol=1e-6)

    def test_optimistic_adam(self):
        """-2 lr m_t / (sqrt v_t + eps) + lr m_(t-1) / (sqrt v_(t-1) + eps); Daskalakis et al. 2018, algorithm 1."""
        adam = self.moves("adam")
        got = self.moves("optimistic_adam")
        np.testing.assert_allclose(got, [adam[0], 2 * adam[1] - adam[0]], rtol=2e-5)

    def test_players_have_their_own(self):
        config = dataclasses.replace(SMALL, gen_optimizer="sgd", disc_optimizer="momentum")
        opt = gan.optimizers(config, hparams32(lr_gen=2.0, lr_disc=3.0))
        gradient = jnp.ones(1)
        for optimizer, rate in ((opt.gen, 2.0), (opt.disc, 3.0)):
            updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
            assert float(updates[0]) == -rate


# ---- conformity: every variant runs, is finite, compiles once

MEASURE = MeasureConfig(num_nodes=64, num_density_nodes=1024)
TINY = dataclasses.replace(SMALL, batch_size=8, gen_optimizer="sgd", disc_optimizer="sgd")


def conforms(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """Three runs: init, three steps, a measurement; then other numbers through the same programs, without compiling."""
    rates = [1e-3, 2e-3, 5e-3]
    devices = jax.local_devices()[:1]
    many = ensemble.make_ensemble(config, MEASURE, grid_cells(RING, MEASURE.bandwidth), 3, devices=devices)

    def train(factor: int, num_steps: int) -> tuple[ensemble.Runs, gan.State, list[str]]:
        hparams = [HParams(lr_gen=factor * rate, lr_disc=rate) for rate in rates]
        runs = many.place(ensemble.stack_runs([RING] * 3, hparams, [factor, 1, 2]))
        states = many.init(runs)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.DEBUG, "jax"):
            states = many.advance(states, runs, num_steps)
        np.testing.assert_array_equal(many.trim(states.step), num_steps)
        messages = [record.getMessage() for record in caplog.records]
        return runs, states, [message for message in messages if "Compiling" in message]

    runs, states, compiled = train(1, 3)
    assert len(compiled) == 1
    metrics = named(config, MEASURE, many.trim(many.measure(states, runs).metrics))
    np.testing.assert_array_equal(metrics["finite"], 1)
    for name, values in metrics.items():
        if name.startswith(("value_best", "lag")):
            assert np.isnan(values).all() == (LOSSES[config.loss].critic is None), name
        else:
            assert np.isfinite(values).all(), name
    kernels = many.trim(jax.tree.leaves(states.params.gen)[-1])
    assert len(np.unique(kernels.reshape(3, -1), axis=0)) == 3
    assert train(2, 2)[2] == []


def makes_sense(**fields: Any) -> Config | None:
    """The configuration, or None where `Config` refuses it."""
    try:
        return dataclasses.replace(TINY, **fields)
    except ValueError:
        return None


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "residual": {"gen_net": "residual", "disc_net": "residual", "gen_depth": 2, "disc_depth": 2},
    "affine against quadratic": {"gen_net": "affine", "disc_net": "quadratic"},
    "point against bilinear": {"gen_net": "point", "disc_net": "bilinear"},
    "maxout": {"disc_net": "maxout", "maxout_pieces": 3},
    "layer normalization": {"gen_norm": "layer", "disc_norm": "layer"},
    "batch normalization": {"gen_norm": "batch", "disc_norm": "batch"},
    "batch normalization of G, spectral of D": {"gen_norm": "batch", "disc_norm": "spectral"},
    "Fourier features": {"gen_fourier": 4, "disc_fourier": 4},
    "minibatch stddev": {"minibatch_layer": "stddev"},
    "minibatch discrimination": {"minibatch_layer": "discrimination"},
}
EXTRAS: dict[str, dict[str, Any]] = {
    "top k": {"top_k": True},
    "packs of 3": {"packing": 3},
    "packs of 2, stratified": {"packing": 2, "real_batch": "stratified"},
    "noise": {"instance_noise": "constant"},
    "annealed noise on a data set": {"instance_noise": "annealed", "dataset_size": 10},
    "average of G": {"gen_ema": True},
    "lookahead": {"lookahead": 2},
    "classes": {"num_classes": 4},
    "classes, projected, data set, stratified": {
        "num_classes": 2, "conditioning": "projection", "dataset_size": 12, "real_batch": "stratified",
    },
    "gradient norm, gen": {"gradient_norm": "gen"},
    "gradient norm, both": {"gradient_norm": "both"},
    "AdamW, cosine": {"gen_optimizer": "adamw", "disc_optimizer": "adamw", "schedule": "cosine"},
    "optimistic Adam, linear": {
        "gen_optimizer": "optimistic_adam", "disc_optimizer": "optimistic_adam", "schedule": "linear",
    },
    "truncated prior": {"prior": "truncated"},
    "turns": {"disc_steps": 2, "gen_steps": 2, "first": "gen", "second_batch": "same"},
}  # fmt: skip


def all_pairs() -> list[Config]:
    """Every loss with every penalty and every update rule, and every penalty with every update rule; and of each of
    these with every architecture and every extra; where `Config` allows it. The fewest rows that a greedy pass finds.
    """
    axes: list[list[dict[str, Any]]] = [
        [{"loss": name} for name in LOSSES],
        [{"penalty": name} for name in PENALTIES],
        [{"dynamics": name} for name in DYNAMICS],
        list(ARCHITECTURES.values()),
        [{}, *EXTRAS.values()],
    ]
    pairs = [
        ((i, a), (j, b))
        for i, j in itertools.combinations(range(len(axes)), 2)
        if (i, j) != (3, 4)  # an extra with an architecture means no more than each of them apart
        for a in range(len(axes[i]))
        for b in range(len(axes[j]))
    ]
    missing = dict.fromkeys(pairs)
    rows = []

    def configure(row: dict[int, int]) -> Config | None:
        return makes_sense(**functools.reduce(lambda fields, at: fields | axes[at[0]][at[1]], row.items(), {}))

    while missing:
        first = next(iter(missing))
        row = dict(first)
        if configure(row) is None:
            del missing[first]
            continue
        for axis in range(len(axes)):
            if axis in row:
                continue
            gains = [
                sum(tuple(sorted(((axis, value), at))) in missing for at in row.items())
                for value in range(len(axes[axis]))
            ]
            for value in sorted(range(len(axes[axis])), key=lambda value: -gains[value]):
                if configure(row | {axis: value}) is not None:
                    row[axis] = value
                    break
        config = configure(row)
        assert config is not None
        rows.append(config)
        for pair in itertools.combinations(sorted(row.items()), 2):
            missing.pop(pair, None)
    return rows


def of_each(axis: dict[str, dict[str, Any]]) -> list[Any]:
    """A row for each entry, with losses, penalties and update rules in turn."""
    rows, turns = [], [itertools.cycle(names) for names in (LOSSES, PENALTIES, DYNAMICS)]
    for label, fields in axis.items():
        config = None
        for _ in range(50):
            loss, penalty, dynamics = (next(turn) for turn in turns)
            config = makes_sense(**{"loss": loss, "penalty": penalty, "dynamics": dynamics} | fields)
            if config is not None:
                break
        assert config is not None, label
        rows.append(pytest.param(config, id=label))
    return rows


def with_losses() -> list[Any]:
    """A row for each loss, with penalties and update rules in turn."""
    return of_each({name: {"loss": name} for name in LOSSES})


def mixed() -> list[Any]:
    """Every loss, penalty, update rule, architecture and extra in about as few rows as there are losses."""
    rows, extras = [], dict(EXTRAS)
    turns = [itertools.cycle(each) for each in (PENALTIES, DYNAMICS, ARCHITECTURES)]
    for loss in LOSSES:
        penalty, rule, label = (next(turn) for turn in turns)
        fields = {"loss": loss, "penalty": penalty, "dynamics": rule} | ARCHITECTURES[label]
        fits = [extra for extra in extras if makes_sense(**fields | extras[extra]) is not None]
        if fits:
            fields |= extras.pop(fits[0])
        config = makes_sense(**fields)
        if config is not None:
            rows.append(pytest.param(config, id=", ".join([loss, label, *fits[:1]])))
    seen = [row.values[0] for row in rows]
    left_out = ARCHITECTURES | extras
    for axis, known in (("loss", LOSSES), ("penalty", PENALTIES), ("dynamics", DYNAMICS)):
        left_out |= {name: {axis: name} for name in known}
    left_out = {
        label: fields
        for label, fields in left_out.items()
        if label in extras or not any(all(getattr(c, key) == value for key, value in fields.items()) for c in seen)
    }
    return rows + of_each(left_out)


@pytest.mark.parametrize(
    "config",
    # Every fourth one here; `test_all_pairs_train` has them all and more.
    [pytest.param(*row.values, id=row.id, marks=[pytest.mark.slow] * (i % 4 > 0)) for i, row in enumerate(mixed())],
)
def test_everything_trains(config):
    """Without a measurement, whose program is the longest to compile."""
    trains(config)


def test_the_mixed_ones_have_everything():
    configs = [row.values[0] for row in mixed()]
    for name, known in (("loss", LOSSES), ("penalty", PENALTIES), ("dynamics", DYNAMICS)):
        assert {getattr(config, name) for config in configs} == set(known), name
    for fields in (*ARCHITECTURES.values(), *EXTRAS.values()):
        assert any(all(getattr(config, name) == value for name, value in fields.items()) for config in configs)


@pytest.mark.parametrize("config", with_losses()[1:2])
def test_conforms(config, caplog):
    conforms(config, caplog)


def trains(config: Config) -> None:
    """Three steps, compiled in haste: what is asked here is only that they exist and are finite.

    Small steps from small weights, for the exponential losses and the terms of second order diverge soon enough.
    """
    hparams = hparams32(lr_gen=1e-4, lr_disc=1e-4, init_scale=0.5, gradient_norm_weight=0.01, adjustment=0.01)
    state = haste.jit(functools.partial(gan.init, config))(hparams, RING, make_key())
    step = haste.jit(functools.partial(dynamics.step, config))
    for _ in range(3):
        state = step(hparams, RING, state)
    assert step._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert int(state.step) == 3
    numbers = (state.params, state.stats, state.ema, state.logged)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(numbers))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [*with_losses(), *of_each({name: each for name, each in (ARCHITECTURES | EXTRAS).items() if each})]
)
def test_everything_conforms(config, caplog):
    conforms(config, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(8))
def test_all_pairs_train(shard):
    rows = all_pairs()
    assert len(rows) > 200
    for config in rows[shard::8]:
        trains(config)


# Every other choice once, several to a program.
OTHERS = {
    "gen_activation": list(ACTIVATIONS),
    "disc_activation": list(reversed(ACTIVATIONS)),
    "initializer": list(INITIALIZERS),
    "prior": list(PRIORS),
    "gen_optimizer": list(OPTIMIZERS),
    "disc_optimizer": list(reversed(OPTIMIZERS)),
    "precision": ["tensorfloat32", "bfloat16", "float32"],
    "disc_steps": [2, 1],
    "dataset_size": [0, 10],
    "gen_depth": [1, 0, 3],
    "latent_dim": [3, 1],
}


def other_choices(i: int) -> Config:
    return dataclasses.replace(TINY, **{name: values[i % len(values)] for name, values in OTHERS.items()})


@pytest.mark.parametrize("i", range(4))
def test_every_other_choice_trains(i):
    """All but three activations and two optimizers."""
    trains(other_choices(i))


@pytest.mark.slow
@pytest.mark.parametrize("i", range(max(len(values) for values in OTHERS.values())))
def test_every_other_choice_conforms(i, caplog):
    conforms(other_choices(i), caplog)


if __name__ == "__main__":
    print(json.dumps({name: summary(name) for name in GOLDEN}, indent=2))
