"""Every program lowers for GPUs and TPUs, from this machine: `jax.export` needs no such device."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game, without
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import ACTIVATIONS, AuxiliaryClassifier, VirtualBatchNormGenerator
from gandyn.gan.optimizers import OPTIMIZERS, clipped
from gandyn.gan.penalties import PENALTIES, lazy
from gandyn.gan.rules import RULES, lookahead, replay_pool
from gandyn.sweeps import ensemble
from gandyn.truth.measure import MEASUREMENTS, MeasureConfig, Past, Plan, plan_of

PLATFORMS = ("cuda", "rocm", "tpu")
BLOCK = 2
"""Runs that are vmapped together, as on such devices many are; on CPU a block is one."""
SMALL: dict[str, Any] = {"gen_width": 4, "gen_depth": 1, "disc_width": 4, "disc_depth": 1, "batch_size": 8}
MEASURE: dict[str, Any] = {
    "num_nodes": 16, "num_density_nodes": 64, "num_deep_nodes": 16, "num_deep_density_nodes": 64, "num_transport": 16,
    "num_quality": 16, "num_gradients": 2, "num_eigenvalues": 2,
}  # fmt: skip
SPAN = np.array([0, BLOCK], np.int32)


def lowered(program: Any, *arguments: Any) -> None:
    """One module for all platforms. What calls a library by name would be refused: another version may lack it."""
    exported = jax.export.export(program, platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    assert len(exported.mlir_module_serialized) > 1000


@functools.cache
def devices() -> tuple[Any, ...]:
    return tuple(jax.local_devices()[:1])


def placed(config: Config, target: Any) -> tuple[ensemble.Ensemble, ensemble.Runs]:
    games = [make_game(target, config)] * BLOCK
    plan = plan_of(MeasureConfig(measurements=(), **MEASURE), deep=False)
    many = ensemble.make_ensemble(config, plan, BLOCK, block_size=BLOCK, devices=devices())
    return many, many.place(ensemble.stack_runs(games, range(BLOCK)))


def states_of(runs: ensemble.Runs) -> Any:
    """Their shapes alone: nothing is compiled."""
    program = ensemble._init_program(devices(), BLOCK)
    return jax.eval_shape(program, SPAN, at_init(runs))


def at_init(runs: ensemble.Runs) -> ensemble.Runs:
    return runs._replace(game=without(runs.game, ensemble._NOT_IN_INIT))


def trains(target: Any = None, **fields: Any) -> None:
    """`init` and `advance` of a config."""
    config = Config(**{name: value for name, value in SMALL.items() if name.partition("_")[0] not in fields} | fields)
    _, runs = placed(config, targets.ring(4) if target is None else target)
    lowered(ensemble._init_program(devices(), BLOCK), SPAN, at_init(runs))
    advance = ensemble._advance_program(config.precision, devices(), BLOCK)
    lowered(advance, SPAN, states_of(runs), runs, np.int32(3))


def measures(plan: Plan, config: Config, target: Any) -> None:
    """The program of a plan."""
    many, runs = placed(config, target)
    states = states_of(runs)
    past = Past(states.params, states.params) if plan.deep else None
    module = ensemble.measure
    game, state = module.program_game(plan, runs.game), module.program_state(plan, states)
    index, bits = np.int32(module.loss_index(plan, config)), many._bits(plan, runs)
    lowered(ensemble._measure_program(plan, devices()), SPAN, game, state, past, index, bits)


OWN_STEPS = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"}
CLASSES = {"num_classes": 2, "disc": AuxiliaryClassifier(2, width=4, depth=1)}
BLURRED = targets.mixture(
    [[0.0, 0.0], [1.0, 1.0]], covariances=[[[0.02, 0.01], [0.01, 0.02]], [[0.03, 0.0], [0.0, 0.01]]]
)

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spectral, batch normalization": {"disc_norm": "spectral", "gen_norm": "batch", "penalties": ("clip",)},
    "packs, noise, path": {"packing": 2, "instance_noise": "annealed", "track_path": True, "penalties": ("r1", "r2")},
    "classes on a data set": {"num_classes": 2, "dataset_size": 10, "conditioning": "projection", "gen_average": "ema"},
    "lookahead, schedule, top k": {"lookahead": 2, "schedule": "cosine", "top_k": True, "real_batch": "stratified"},
    **{f"loss {name}": {"loss": name} | (CLASSES if name == "auxiliary_classifier" else {}) for name in LOSSES},
    **{f"penalty {name}": {"penalties": (name,)} for name in PENALTIES},
    "penalty r1, lazily": {"penalties": (lazy(PENALTIES["r1"], 4),)},
    **{f"rule {name}": {"rule": name} | (OWN_STEPS if rule.own_steps else {}) for name, rule in RULES.items()},
    "rule lookahead": {"rule": lookahead(RULES["alternating"], (2, 4))},
    "rule replay pool": {"rule": replay_pool(16)},
    **{f"optimizer {name}": {"gen_optimizer": name, "disc_optimizer": name} for name in OPTIMIZERS},
    "optimizer clipped": {"gen_optimizer": clipped(OPTIMIZERS["adam"])},
    **{f"activation {name}": {"gen_activation": name, "disc_activation": name} for name in ACTIVATIONS},
    "residual, layer normalization": {"gen_net": "residual", "disc_net": "residual", "disc_norm": "layer"},
    "maxout, minibatch discrimination": {"disc_net": "maxout", "minibatch_layer": "discrimination"},
    "minibatch stddev, Fourier": {"minibatch_layer": "stddev", "gen_fourier": 4, "disc_fourier": 4},
    "affine, quadratic": {"gen_net": "affine", "disc_net": "quadratic"},
    "virtual batch norm": {"gen": VirtualBatchNormGenerator(width=4, depth=1, num_reference=8)},
    "bfloat16": {"precision": "bfloat16"},
    "orthogonal": {"initializer": "orthogonal"},
    "gradient norm": {"gradient_norm": "both"},
}
QUICK = ("packs, noise, path",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in CONFIGS])
@pytest.mark.slow
def test_training_lowers(name):
    trains(**CONFIGS[name])


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow]) for n in targets.TARGETS])
def test_training_on_every_target_lowers(name):
    trains(targets.TARGETS[name]())


def test_what_is_measured_often_lowers():
    options = MeasureConfig(keep_samples=8, keep_surface=4, **MEASURE)
    target = targets.ring(4)
    measures(plan_of(options, deep=False), Config(gen_average="ema", **SMALL), target)


QUICKLY_MEASURED = ("transport",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICKLY_MEASURED)) for n in MEASUREMENTS]
)
def test_every_measurement_lowers(name):
    target = targets.ring(4)
    options = MeasureConfig(measurements=(), deep=(name,), **MEASURE)
    measures(plan_of(options, deep=True), Config(disc_norm="spectral", **SMALL), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", [BLURRED, targets.checkerboard(), targets.circles()], ids=["full", "table", "curve"])
def test_measuring_under_instance_noise_lowers(target):
    """Blurred densities: full covariances are factorized anew there."""
    options = MeasureConfig(measurements=(), deep=("best_response_deep", "quality"), **MEASURE)
    config = Config(instance_noise="constant", **SMALL)
    measures(plan_of(options, deep=True), config, target)


@pytest.mark.slow
def test_measuring_classes_and_packs_lowers():
    target = targets.ring(4)
    options = MeasureConfig(measurements=(), deep=("best_response_deep", "gap", "gradients", "spectrum"), **MEASURE)
    for fields in ({"num_classes": 2}, {"packing": 2}):
        measures(plan_of(options, deep=True), Config(**fields, **SMALL), target)
