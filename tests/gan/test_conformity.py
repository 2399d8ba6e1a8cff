"""Conformity of all variants: every loss, penalty, rule, architecture and extra runs, is finite, compiles once."""

import dataclasses
import functools
import itertools
import logging
from typing import Any

import chex
import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import step as gan
from gandyn.gan import targets
from gandyn.gan.config import PRIORS, Config, loss_of, numbers_of
from gandyn.gan.game import make_game
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import ACTIVATIONS, INITIALIZERS, AuxiliaryClassifier
from gandyn.gan.number import HParams
from gandyn.gan.optimizers import OPTIMIZERS, clipped
from gandyn.gan.penalties import PENALTIES, lazy
from gandyn.gan.rules import RULES, lookahead, replay_pool
from gandyn.gan.state import State
from gandyn.sweeps import ensemble
from gandyn.truth.derived import truth_of
from gandyn.truth.measure import MeasureConfig, metrics_of, plan_of

RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
MEASURE = MeasureConfig(num_nodes=64, num_density_nodes=1024)
TINY = Config(
    gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=8, gen_optimizer="sgd", disc_optimizer="sgd"
)


def conforms(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """Three runs: init, three steps, a measurement; then other numbers through the same programs, without compiling."""
    rates = [1e-3, 2e-3, 5e-3]
    devices = jax.local_devices()[:1]
    plan = plan_of(MEASURE, deep=False)
    many = ensemble.make_ensemble(config, plan, 3, devices=devices)

    def train(factor: int, num_steps: int) -> tuple[ensemble.Runs, State, list[str]]:
        games = [make_game(RING, config, HParams(lr_gen=factor * rate, lr_disc=rate)) for rate in rates]
        runs = many.place(ensemble.stack_runs(games, [factor, 1, 2]))
        states = many.init(runs)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.DEBUG, "jax"):
            states = many.advance(states, runs, num_steps)
        np.testing.assert_array_equal(many.trim(states.step), num_steps)
        messages = [record.getMessage() for record in caplog.records]
        return runs, states, [message for message in messages if "Compiling" in message]

    runs, states, compiled = train(1, 3)
    assert len(compiled) == 1
    measured = many.trim(many.measure(states, runs).metrics)
    metrics = dict(zip(metrics_of(plan, make_game(RING, config)), measured.T, strict=True))
    np.testing.assert_array_equal(metrics["finite"], 1)
    known = truth_of(loss_of(config))
    absent = {"value_best": known.critic is None, "lag": known.critic is None, "accuracy": np.isnan(known.decision)}
    for name, values in metrics.items():
        # What D itself might best do is known whatever the loss.
        which = "" if name.startswith("accuracy_best") else name.removesuffix("_se")
        nan = next((nan for kind, nan in absent.items() if which.startswith(kind)), False)
        assert np.isnan(values).all() if nan else np.isfinite(values).all(), name
    kernels = many.trim(jax.tree.leaves(states.params.gen)[-1])
    assert len(np.unique(kernels.reshape(3, -1), axis=0)) == 3
    assert train(2, 2)[2] == []


@functools.cache
def refused(**fields: Any) -> bool:
    """Whether `check` refuses a configuration of such fields."""
    try:
        gan.check(make_game(RING, dataclasses.replace(TINY, **fields)))
    except ValueError:
        return True
    return False


def makes_sense(**fields: Any) -> Config | None:
    """The configuration, or None where `Config` or `check` refuses it."""
    try:
        config = dataclasses.replace(TINY, **fields)
    except ValueError:
        return None
    # What a loss asks of D and of labels, and a rule of labels, one by one: to try each whole takes long.
    common = {"num_classes": config.num_classes}
    of_disc = ("loss", "disc", "disc_width", "disc_depth", "disc_net")
    if loss_of(config).aux and refused(**common, **{name: getattr(config, name) for name in of_disc}):
        return None
    return None if not isinstance(config.rule, str) and refused(**common, rule=config.rule) else config


CLASSIFIER: dict[str, Any] = {
    "disc": AuxiliaryClassifier(num_classes=4, width=8, depth=1), "disc_width": 128, "disc_depth": 2, "num_classes": 4,
}  # fmt: skip
"""A module of D's own, beside which the fields that build one are at their defaults."""
LOSS_FIELDS: dict[str, dict[str, Any]] = {name: {"loss": name} for name in LOSSES}
LOSS_FIELDS["auxiliary_classifier"] |= CLASSIFIER


PENALTY_SETS: list[tuple[Any, ...]] = [(), *((name,) for name in PENALTIES), (lazy(PENALTIES["r1"], 2), "r2")]
RULE_PARTS: list[Any] = [*RULES, replay_pool(16), lookahead(RULES["simultaneous"], (2, 4))]
"""Names, and objects that functions make."""
AXES: dict[str, list[Any]] = {"loss": list(LOSSES), "penalties": PENALTY_SETS, "rule": RULE_PARTS}


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
    "batch normalization in joint batches": {"gen_norm": "batch", "disc_norm": "batch", "disc_batches": "joint"},
    "auxiliary classifier": CLASSIFIER,
}
EXTRAS: dict[str, dict[str, Any]] = {
    "top k": {"top_k": True},
    "packs of 3": {"packing": 3},
    "packs of 2, stratified": {"packing": 2, "real_batch": "stratified"},
    "noise": {"instance_noise": "constant"},
    "annealed noise on a data set": {"instance_noise": "annealed", "dataset_size": 10},
    "average of G": {"gen_average": "ema"},
    "mean of G": {"gen_average": "uniform"},
    "lookahead": {"lookahead": 2},
    "joint batches": {"disc_batches": "joint"},
    "the path": {"track_path": True},
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
        list(LOSS_FIELDS.values()),
        [{"penalties": penalties} for penalties in PENALTY_SETS],
        [{"rule": rule} for rule in RULE_PARTS],
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
    rows, turns = [], [itertools.cycle(each) for each in AXES.values()]
    for label, fields in axis.items():
        config = None
        for _ in range(50):
            loss, penalties, rule = (next(turn) for turn in turns)
            config = makes_sense(**{**LOSS_FIELDS[loss], "penalties": penalties, "rule": rule} | fields)
            if config is not None:
                break
        assert config is not None, label
        rows.append(pytest.param(config, id=label))
    return rows


def with_losses() -> list[Any]:
    """A row for each loss, with penalties and update rules in turn."""
    return of_each(LOSS_FIELDS)


def mixed() -> list[Any]:
    """Every loss, penalty, update rule, architecture and extra in about as few rows as there are losses."""
    rows, extras = [], dict(EXTRAS)
    turns: list[Any] = [itertools.cycle(each) for each in (PENALTY_SETS, RULE_PARTS, ARCHITECTURES)]
    for loss in LOSSES:
        penalties, rule, label = (next(turn) for turn in turns)
        fields = {**LOSS_FIELDS[loss], "penalties": penalties, "rule": rule} | ARCHITECTURES[label]
        fits = [extra for extra in extras if makes_sense(**fields | extras[extra]) is not None]
        if fits:
            fields |= extras.pop(fits[0])
        config = makes_sense(**fields)
        if config is not None:
            rows.append(pytest.param(config, id=", ".join([loss, label, *fits[:1]])))
    seen = [row.values[0] for row in rows]
    left_out = ARCHITECTURES | extras
    for axis, known in AXES.items():
        left_out |= {
            f"{axis} {getattr(part, 'name', part)}": LOSS_FIELDS[part] if axis == "loss" else {axis: part}
            for part in known
        }
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
@pytest.mark.quick(2)
def test_everything_trains(config):
    """Without a measurement, whose program is the longest to compile."""
    trains(config)


def test_the_mixed_ones_have_everything():
    configs = [row.values[0] for row in mixed()]
    for name, known in AXES.items():
        assert {getattr(config, name) for config in configs} >= set(known), name
    for fields in (*ARCHITECTURES.values(), *EXTRAS.values()):
        assert any(all(getattr(config, name) == value for name, value in fields.items()) for config in configs)


@pytest.mark.parametrize("config", with_losses()[1:2])
@pytest.mark.slow
def test_conforms(config, caplog):
    conforms(config, caplog)


def trains(config: Config) -> None:
    """Three steps, compiled in haste: what is asked here is only that they exist and are finite.

    Small steps from small weights, for the exponential losses and the terms of second order diverge soon enough.
    """
    numbers = {"lr_gen": 1e-4, "lr_disc": 1e-4, "init_scale": 0.5, "gradient_norm_weight": 0.01, "adjustment": 0.01}
    read = {name: value for name, value in numbers.items() if name in numbers_of(config)}
    game = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), make_game(RING, config, HParams(**read)))
    chex.clear_trace_counter()
    init, step = (haste.jit(chex.assert_max_traces(function, n=1)) for function in (gan.init, gan.step))
    state = init(game, jax.random.key(0, impl="threefry2x32"))
    for _ in range(3):
        state = step(game, state)
    assert int(state.step) == 3
    chex.assert_tree_all_finite((state.params, state.stats, state.average, state.memory, state.travelled, state.logged))


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
OTHERS: dict[str, list[Any]] = {
    "gen_activation": list(ACTIVATIONS),
    "disc_activation": list(reversed(ACTIVATIONS)),
    "initializer": list(INITIALIZERS),
    "prior": list(PRIORS),
    "gen_optimizer": [*OPTIMIZERS, clipped(OPTIMIZERS["adam"])],
    "disc_optimizer": [clipped(OPTIMIZERS["sgd"]), *reversed(OPTIMIZERS)],
    "precision": ["tensorfloat32", "bfloat16", "float32"],
    "disc_steps": [2, 1],
    "dataset_size": [0, 10],
    "gen_depth": [1, 0, 3],
    "latent_dim": [3, 1],
}


def other_choices(i: int) -> Config:
    return dataclasses.replace(TINY, **{name: values[i % len(values)] for name, values in OTHERS.items()})


@pytest.mark.parametrize("i", range(4))
@pytest.mark.quick(1)
def test_every_other_choice_trains(i):
    """Others are slow: `test_every_other_choice_conforms` has them all."""
    trains(other_choices(i))


@pytest.mark.slow
@pytest.mark.parametrize("i", range(max(len(values) for values in OTHERS.values())))
def test_every_other_choice_conforms(i, caplog):
    conforms(other_choices(i), caplog)
