"""MANY GANs: the only place that knows there are many.

An ensemble is laid out as devices x blocks x runs in a block: a mesh axis over devices, `lax.map` over blocks inside
a device, `vmap` inside a block. A block stays on its device's cores (and in their cache) for all of a chunk's steps,
and there is no communication. On CPU a block is one run: a wide vmap thrashes the cache (docs/decisions.md).

Every run gives the same bits whatever else shares the ensemble, for each program has the same block shape whatever
the number of runs. Shapes: R runs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gandyn import checks
from gandyn.devices import prepare
from gandyn.gan import step as gan_step
from gandyn.gan.config import Config
from gandyn.gan.game import Game, without
from gandyn.gan.state import Players, State
from gandyn.truth import measure
from gandyn.truth.measure import Measured, Past, Plan

Device = Any  # jax.Device, which type checkers take for a variable

_PRNG = "threefry2x32"  # by name: under vmap, `rbg` ties the members of a batch together

_RUNS = PartitionSpec("runs")
_SAME = PartitionSpec()


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
    game: Game


def stack_runs(games: Sequence[Game], seeds: Sequence[int]) -> Runs:
    """One run for each entry of two sequences of one length R. Games must have one config, targets one shape."""
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl=_PRNG))(np.asarray(seeds, np.uint32))
    stack = lambda *leaves: jnp.stack([jnp.asarray(leaf, jnp.float32) for leaf in leaves])  # noqa: E731
    return Runs(keys, jax.tree.map(stack, *games))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _map(one: Callable, rows: Any, span: jax.Array) -> Any:
    """`one` of the rows `span[0]` ... `span[1] - 1` of a tree of arrays with one leading axis; zeros for other rows.

    Not `lax.map`: a loop known to go round once is no loop to the compiler, nor is the first of one row a slice; it
    then fuses and rounds what is inside differently, and a run alone would have other bits than among others
    (docs/decisions.md, 25). So the span is traced, and there are at least two rows.
    """
    # Keys go through the loop as plain numbers: those can be zeros, and be set at an index.
    plain = lambda tree: jax.tree.map(key_data, tree)  # noqa: E731
    plain_rows, size = plain(rows), len(jax.tree.leaves(rows)[0])
    assert size >= 2
    shapes = jax.eval_shape(lambda: one(jax.tree.map(lambda leaf: leaf[0], rows)))

    def put(i: jax.Array, out: Any) -> Any:
        row = wrap_keys(jax.tree.map(lambda leaf: leaf[i], plain_rows), rows)
        return jax.tree.map(lambda every, own: every.at[i].set(own), out, plain(one(row)))

    blank = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), jax.eval_shape(plain, shapes))
    return wrap_keys(jax.lax.fori_loop(span[0], span[1], put, blank), shapes)


def _spread(
    one: Callable, devices: tuple[Device, ...], block_size: int, *, mapped: int, donate: bool = False
) -> Callable:
    """jit of `one` over all runs: shard_map over devices, map over blocks, vmap inside a block.

    The program takes which blocks of each device to go through, (2,), then `mapped` arguments with a leading axis of
    runs, then those that are the same for all. `donate` gives up the memory of the first argument with runs.
    """

    def on_device(span, *args):
        # A block of one run is mapped as it is: a vmap over one would turn products into batched ones.
        if block_size == 1:
            return _map(lambda run: one(*run, *args[mapped:]), args[:mapped], span)
        block = jax.vmap(one, in_axes=(0,) * mapped + (None,) * (len(args) - mapped))
        split = lambda leaf: leaf.reshape(leaf.shape[0] // block_size, block_size, *leaf.shape[1:])  # noqa: E731
        join = lambda leaf: leaf.reshape(leaf.shape[0] * block_size, *leaf.shape[2:])  # noqa: E731
        runs = jax.tree.map(split, args[:mapped])
        return jax.tree.map(join, _map(lambda run: block(*run, *args[mapped:]), runs, span))

    def everywhere(span, *args):
        specs = (_SAME,) + (_RUNS,) * mapped + (_SAME,) * (len(args) - mapped)
        spread = jax.shard_map(on_device, mesh=_mesh(devices), in_specs=specs, out_specs=_RUNS, check_vma=False)
        return spread(span, *args)

    return jax.jit(everywhere, donate_argnums=1 if donate else ())


# The programs are kept by what they depend on, so that a second ensemble of the same kind compiles nothing, and
# settings that differ in their loss or optimizer alone share what they can.


@functools.lru_cache(maxsize=64)
def _init_program(devices: tuple[Device, ...], block_size: int) -> Callable:
    return _spread(lambda runs: gan_step.init(runs.game, runs.key), devices, block_size, mapped=1)


@functools.lru_cache(maxsize=64)
def _begin_program(devices: tuple[Device, ...], block_size: int) -> Callable:
    begin_one = lambda variables, runs: gan_step.begin(runs.game, variables, runs.key)  # noqa: E731
    return _spread(begin_one, devices, block_size, mapped=2)


@functools.lru_cache(maxsize=64)
def _advance_program(precision: str, devices: tuple[Device, ...], block_size: int) -> Callable:
    def advance_one(state: State, runs: Runs, num_steps: jax.Array) -> State:
        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, num_steps, lambda _, state: gan_step.step(runs.game, state), state)

    return _spread(advance_one, devices, block_size, mapped=2, donate=True)


@functools.lru_cache(maxsize=256)
def _measure_program(plan: Plan, devices: tuple[Device, ...]) -> Callable:
    # One run at a time: a measurement fills its device by itself, and its density grid is large.
    return _spread(functools.partial(measure.measure, plan), devices, 1, mapped=3)


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


# What init does not read is set to its default there, so that configurations that differ in it alone share a program.
_NOT_IN_INIT = (
    "gradient_norm", "top_k", "disc_steps", "gen_steps", "first", "second_batch", "unroll_steps", "schedule",
    "precision", "disc_batches", "batch_size", "instance_noise", "prior", "gen_activation", "disc_activation",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """R runs of one `Config`, laid out on devices.

    Attributes:
      config: static; what is compiled.
      often: what is measured often.
      in_depth: what is measured in depth; None where nothing is.
      num_runs: R.
      capacity: runs that there is room for; ensembles of one capacity share their programs.
      block_size: runs that are vmapped together.
      devices: the local devices in use.
    """

    config: Config
    often: Plan
    in_depth: Plan | None
    num_runs: int
    block_size: int
    devices: tuple[Device, ...]
    capacity: int

    @property
    def blocks(self) -> int:
        """Blocks that each device goes through: R rounded up to whole blocks on every device."""
        return self._blocks_of(self.num_runs)

    def _blocks_of(self, num_runs: int) -> int:
        return math.ceil(num_runs / (self.block_size * len(self.devices)))

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Which run is in each row of the arrays, device by device; R where none is (only a copy of the last one)."""
        # At least two blocks a device are stored, whatever is gone through: see `_map`.
        rows = np.arange(len(self.devices) * self.blocks * self.block_size).reshape(len(self.devices), -1)
        empty = (max(2, self._blocks_of(self.capacity)) - self.blocks) * self.block_size
        return np.minimum(np.pad(rows, ((0, 0), (0, empty)), constant_values=self.num_runs), self.num_runs).ravel()

    def place(self, tree: Any) -> Any:
        """A tree over R runs (`Runs`, or states on the host), padded with copies of the last, on the devices."""
        index = np.minimum(self.rows, self.num_runs - 1)
        sharding = NamedSharding(_mesh(self.devices), _RUNS)
        return jax.device_put(jax.tree.map(lambda leaf: leaf[index], tree), sharding)

    def init(self, runs: Runs, variables: Players | None = None) -> State:
        """States before training, from `place`d runs; of players that are there (`State.variables`), `place`d too."""
        runs = runs._replace(game=without(runs.game, _NOT_IN_INIT))
        if variables is not None:
            return _begin_program(self.devices, self.block_size)(_span(self.blocks), variables, runs)
        return _init_program(self.devices, self.block_size)(_span(self.blocks), runs)

    def advance(self, states: State, runs: Runs, num_steps: int) -> State:
        """States after `num_steps` more steps (a traced count: one program for any). Gives up `states`."""
        program = _advance_program(self.config.precision, self.devices, self.block_size)
        return program(_span(self.blocks), states, runs, np.int32(num_steps))

    def measure(self, states: State, runs: Runs, span: slice | None = None, past: Past | None = None) -> Measured:
        """A measurement of every run, or of those in a `span`; `trim` brings it to the host.

        With `past`, earlier `keep_params`, it is taken in depth.
        """
        plan = self.often if past is None else self.in_depth
        assert plan is not None
        program = _measure_program(plan, self.devices)
        game, states = measure.program_game(plan, runs.game), measure.program_state(plan, states)
        index, bits = np.int32(measure.loss_index(plan, self.config)), self._bits(plan, runs)
        return program(self._measured(span), game, states, past, index, bits)

    def _bits(self, plan: Plan, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
        blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), runs.game.target)
        return measure.bits_of(plan, dataclasses.replace(runs.game, target=blank))

    @property
    def rows_measured(self) -> int:
        """Runs that each device measures, one by one: there are no blocks to fill up."""
        return min(self.num_runs, self.blocks * self.block_size)

    def _measured(self, span: slice | None) -> np.ndarray:
        return _span(self.rows_measured) if span is None else np.array([span.start, span.stop], np.int32)

    def runs_in(self, span: slice) -> np.ndarray:
        """The runs that are measured in a span of each device's rows."""
        runs = self.rows.reshape(len(self.devices), -1)[:, span].ravel()
        return runs[runs < self.num_runs]

    def keep(self, tree: Any) -> Any:
        """A copy, which outlives `advance`."""
        return _copy(tree)

    def keep_params(self, states: State) -> Players:
        """A copy of all parameters, which outlives `advance`."""
        return self.keep(states.params)

    def one(self, tree: Any, run: int) -> Any:
        """The entry of one run in a tree over padded runs, on the first device alone."""
        row = int(np.flatnonzero(self.rows == run)[0])
        return jax.device_put(jax.tree.map(lambda leaf: leaf[row], tree), self.devices[0])

    def trim(self, tree: Any) -> Any:
        """A tree over padded runs as NumPy arrays over the R runs (keys as their data); waits for the devices."""
        used = np.flatnonzero(self.rows < self.num_runs)
        return jax.tree.map(lambda leaf: np.asarray(key_data(leaf))[used], tree)


def _span(stop: int) -> np.ndarray:
    return np.array([0, stop], np.int32)


def key_data(leaf: Any) -> Any:
    """An array as it is; of typed keys, their plain numbers."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def wrap_keys(tree: Any, like: Any) -> Any:
    """A tree of plain arrays with typed keys where `like` has them."""
    return jax.tree.map(lambda x, of: jax.random.wrap_key_data(x, impl=_PRNG) if _is_key(of) else x, tree, like)


def make_ensemble(
    config: Config,
    often: Plan,
    num_runs: int,
    block_size: int | None = None,
    devices: Sequence[Device] | None = None,
    in_depth: Plan | None = None,
    capacity: int | None = None,
) -> Ensemble:
    """An ensemble over all local devices, in blocks of `default_block_size`.

    All devices take part and blocks are filled up however few the runs: programs for other numbers of devices or other
    blocks are compiled differently, and a run that is repeated alone must give the same bits.
    """
    checks.whole("num_runs", num_runs)
    prepare()
    devices = tuple(devices or jax.local_devices())
    if block_size is None:
        block_size = default_block_size(devices[0].platform)
    checks.whole("block_size", block_size)
    capacity = max(num_runs, capacity or 0)
    return Ensemble(config, often, in_depth, num_runs, block_size, devices, capacity)
