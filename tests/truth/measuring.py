"""One GAN with parameters set by hand, and everything that is measured of it by name."""

import functools
from collections.abc import Callable
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, without
from gandyn.gan.state import Players, State
from gandyn.gan.step import init
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Past, Plan

NORMAL = targets.mixture(np.zeros((1, 2)), 1.0)
AFFINE = Config(gen_depth=0, disc_depth=0)
"""An affine G of Gaussian noise makes q exactly Gaussian."""
IDENTITY = np.eye(2)

_init = haste.jit(init)
_NOT_IN_A_START = ("loss", "penalties", "gradient_norm", "batch_size", "instance_noise")


def affine(matrix: Any, offset: Any) -> dict[str, Any]:
    """Parameters of a network without hidden layers."""
    kernel, bias = jnp.asarray(matrix, jnp.float32), jnp.asarray(offset, jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}


def traced(game: Game) -> Game:
    """With arrays for its numbers, so that games that differ in them share programs."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), game)


def start(game: Game, seed: int = 0) -> State:
    """As it starts."""
    key = jax.random.key(seed, impl="threefry2x32")
    return _init(without(traced(game), _NOT_IN_A_START), key)


def state_of(game: Game, gen: Any, disc: Any = None, seed: int = 0) -> State:
    """As it starts, with other parameters."""
    state = start(game, seed)
    params = Players(gen, state.params.disc if disc is None else disc)
    jax.tree.map(lambda mine, own: np.testing.assert_array_equal(mine.shape, own.shape), params, state.params)
    return state.replace(params=params)


@functools.cache
def program(plan: Plan, compiler: Callable):
    return compiler(functools.partial(measure.measure, plan))


def measured(
    game: Game,
    state: State,
    options: MeasureConfig = MeasureConfig(),  # noqa: B008 (frozen)
    deep: bool = False,
    past: Past | None = None,
    compiler: Callable = haste.jit,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and fields, those of the host among them. In depth without a past: the state is its own."""
    past = Past(state.params, state.params) if deep and past is None else past
    plan, game = measure.plan_of(options, deep), traced(game)
    found = program(plan, compiler)(
        measure.program_game(plan, game),
        measure.program_state(plan, state),
        past,
        np.int32(measure.loss_index(plan, game.config)),
        measure.bits_of(plan, game),
    )
    every = dict(zip(measure.metrics_of(plan, game), np.asarray(found.metrics), strict=True))
    every |= jax.tree.map(np.asarray, found.fields)
    every |= measure.host_metrics(plan, game, state, jax.tree.map(np.asarray, found.more))
    fields = measure.fields_of(plan, game)
    assert every.keys() == {*measure.metrics_of(plan, game), *fields}
    metrics = {name: float(value) for name, value in every.items() if name not in fields}
    return metrics, {name: every[name] for name in fields}
