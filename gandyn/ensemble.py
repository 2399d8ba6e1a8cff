"""MANY GANs: the only place that knows there are many.

An ensemble is laid out as devices x blocks x runs in a block: a mesh axis over devices, `lax.map` over blocks inside
a device, `vmap` inside a block. A block stays on its device's cores (and in their cache) for all of a chunk's steps,
and there is no communication. On CPU a block is one run: a wide vmap thrashes the cache (docs/decisions.md).

Every run gives the same bits whatever else shares the ensemble, for each program has the same block shape whatever
the number of runs. Shapes: R runs.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gandyn import checks, dynamics, gan
from gandyn.gan import Config, HParams, Players, State
from gandyn.measure import MeasureConfig, Measurement, measure, node_bits, value_index
from gandyn.targets import GaussianMixture

Device = Any  # jax.Device, which type checkers take for a variable

_RUNS = PartitionSpec("runs")
_SAME = PartitionSpec()


def use_every_core() -> None:
    """Give the CPU backend one virtual device per core, unless the caller has set a number or started the backend."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ and jax.config.jax_num_cpu_devices <= 0:  # pyright: ignore
        # Refused where the backend runs already, unknown where the platform has no affinity: keep what is there.
        with contextlib.suppress(RuntimeError, AttributeError):
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def _mesh(devices: tuple[Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("runs",))


def default_block_size(platform: str) -> int:
    """Runs that are vmapped together. One number for each kind of device, for a run's bits may depend on it.

    On CPU one, as measured (docs/decisions.md, 1). Elsewhere 128: by estimate, a block of width 128 then takes a large
    GPU about as long as starting its kernels does.
    """
    return 1 if platform == "cpu" else 128


class Runs(NamedTuple):
    """What differs between the runs of one program, every leaf with a leading axis R."""

    key: jax.Array
    hparams: HParams
    target: GaussianMixture


def stack_runs(targets: Sequence[GaussianMixture], hparams: Sequence[HParams], seeds: Sequence[int]) -> Runs:
    """One run for each entry of three sequences of one length R. Targets must have one number of modes."""
    # Threefry by name: under vmap, `rbg` ties the members of a batch together.
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl="threefry2x32"))(np.asarray(seeds, np.uint32))
    stack = lambda *leaves: jnp.stack([jnp.asarray(leaf, jnp.float32) for leaf in leaves])  # noqa: E731
    return Runs(keys, jax.tree.map(stack, *hparams), jax.tree.map(stack, *targets))


def _spread(
    one: Callable, devices: tuple[Device, ...], block_size: int, *, mapped: int, donate: bool = False
) -> Callable:
    """jit of `one` over all runs: shard_map over devices, map over blocks, vmap inside a block.

    The first `mapped` arguments have a leading axis of runs, the others are the same for all. `donate` gives up the
    first argument's memory.
    """

    def on_device(*args):
        # A block of one run is mapped as it is: a vmap over one would turn products into batched ones.
        if block_size == 1:
            return jax.lax.map(lambda run: one(*run, *args[mapped:]), args[:mapped])
        block = jax.vmap(one, in_axes=(0,) * mapped + (None,) * (len(args) - mapped))
        split = lambda leaf: leaf.reshape(leaf.shape[0] // block_size, block_size, *leaf.shape[1:])  # noqa: E731
        join = lambda leaf: leaf.reshape(leaf.shape[0] * block_size, *leaf.shape[2:])  # noqa: E731
        runs = jax.tree.map(split, args[:mapped])
        return jax.tree.map(join, jax.lax.map(lambda run: block(*run, *args[mapped:]), runs))

    def everywhere(*args):
        specs = (_RUNS,) * mapped + (_SAME,) * (len(args) - mapped)
        spread = jax.shard_map(on_device, mesh=_mesh(devices), in_specs=specs, out_specs=_RUNS, check_vma=False)
        return spread(*args)

    return jax.jit(everywhere, donate_argnums=0 if donate else ())


# The programs are kept by what they depend on, so that a second ensemble of the same kind compiles nothing, and
# settings that differ in their loss or optimizer alone share what they can.


@functools.lru_cache(maxsize=256)
def _init_program(config: Config, devices: tuple[Device, ...], block_size: int) -> Callable:
    def init_one(runs: Runs) -> State:
        return gan.init(config, runs.hparams, runs.target, runs.key)

    return _spread(init_one, devices, block_size, mapped=1)


@functools.lru_cache(maxsize=256)
def _advance_program(config: Config, devices: tuple[Device, ...], block_size: int) -> Callable:
    def advance_one(state: State, runs: Runs, num_steps: jax.Array) -> State:
        step = functools.partial(dynamics.step, config, runs.hparams, runs.target)
        with jax.default_matmul_precision(config.precision):
            return jax.lax.fori_loop(0, num_steps, lambda _, state: step(state), state)

    return _spread(advance_one, devices, block_size, mapped=2, donate=True)


@functools.lru_cache(maxsize=256)
def _measure_program(
    config: Config, measure_config: MeasureConfig, grid_size: int, devices: tuple[Device, ...]
) -> Callable:
    # One run at a time: a measurement fills its device by itself, and its density grid is large.
    return _spread(functools.partial(measure, config, measure_config, grid_size), devices, 1, mapped=3)


# What init and measure do not read is set to its default, so that configurations that differ there share a program.
_DEFAULT = Config()
_ONLY_IN_STEPS = (
    "loss", "penalty", "gradient_norm", "top_k", "disc_steps", "gen_steps", "first", "second_batch", "unroll_steps",
    "schedule", "precision",
)  # fmt: skip
_NOT_IN_INIT = (*_ONLY_IN_STEPS, "batch_size", "instance_noise", "prior", "gen_activation", "disc_activation")
_NOT_IN_MEASURE = (*_ONLY_IN_STEPS, "dynamics", "lookahead", "gen_optimizer", "disc_optimizer", "initializer")


def _without(config: Config, names: Sequence[str]) -> Config:
    return dataclasses.replace(config, **{name: getattr(_DEFAULT, name) for name in names})


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """R runs of one `Config`, laid out on devices.

    Attributes:
      config, measure_config: static; what is compiled.
      grid_size: cells along each side of the density grid (`truth.grid_cells` of the widest target).
      num_runs: R.
      block_size: runs that are vmapped together.
      devices: the local devices in use.
    """

    config: Config
    measure_config: MeasureConfig
    grid_size: int
    num_runs: int
    block_size: int
    devices: tuple[Device, ...]

    @property
    def padded(self) -> int:
        """R rounded up to whole blocks on every device."""
        whole = self.block_size * len(self.devices)
        return whole * math.ceil(self.num_runs / whole)

    def place(self, runs: Runs) -> Runs:
        """Runs padded (with copies of the last one) and placed on the devices."""
        index = np.minimum(np.arange(self.padded), self.num_runs - 1)
        sharding = NamedSharding(_mesh(self.devices), _RUNS)
        return jax.device_put(jax.tree.map(lambda leaf: leaf[index], runs), sharding)

    def init(self, runs: Runs) -> State:
        """States before training, from `place`d runs."""
        return _init_program(_without(self.config, _NOT_IN_INIT), self.devices, self.block_size)(runs)

    def advance(self, states: State, runs: Runs, num_steps: int) -> State:
        """States after `num_steps` more steps (a traced count: one program for any). Gives up `states`."""
        return _advance_program(self.config, self.devices, self.block_size)(states, runs, np.int32(num_steps))

    def measure(self, states: State, runs: Runs) -> Measurement:
        """A measurement of every run; `trim` brings it to the host."""
        config = _without(self.config, _NOT_IN_MEASURE)
        program = _measure_program(config, self.measure_config, self.grid_size, self.devices)
        # Nothing that is measured reads what the update rules remember; without it they share a program.
        states = dataclasses.replace(states, opt_state=Players((), ()), slow=None, past=None)
        index = np.int32(value_index(self.config.loss))
        return program(runs.target, runs.hparams, states, index, node_bits(self.config, self.measure_config))

    def trim(self, tree: Any) -> Any:
        """A tree over padded runs as NumPy arrays over the R runs; waits for the devices."""
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.num_runs], tree)


def make_ensemble(
    config: Config,
    measure_config: MeasureConfig,
    grid_size: int,
    num_runs: int,
    block_size: int | None = None,
    devices: Sequence[Device] | None = None,
) -> Ensemble:
    """An ensemble over all local devices, in blocks of `default_block_size`.

    All devices take part and blocks are filled up however few the runs: programs for other numbers of devices or other
    blocks are compiled differently, and a run that is repeated alone must give the same bits.
    """
    checks.whole("num_runs", num_runs)
    devices = tuple(devices or jax.local_devices())
    if block_size is None:
        block_size = default_block_size(devices[0].platform)
    checks.whole("block_size", block_size)
    return Ensemble(config, measure_config, grid_size, num_runs, block_size, devices)
