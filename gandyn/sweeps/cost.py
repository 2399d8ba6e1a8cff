"""What a sweep will cost, before it starts: operations, bytes, and seconds on this machine.

Nothing here knows a loss, a rule or a network. What a step and a measurement do is read off their traced programs
(`tracing`), of few settings for many (`interpolation`); nothing compiles. From the counts:

- seconds are a linear model, `Rates`: measured once over some fifty programs (steps of every rule, measurements), and
  scaled by what a short calibration finds of this machine;
- seconds to compile are a line in the number of equations;
- bytes of a state are those of its shapes, bytes at work the most that a program holds at once.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.state import State
from gandyn.gan.step import init, step
from gandyn.sweeps import ensemble, interpolation, tracing
from gandyn.sweeps.sweep import Setting
from gandyn.sweeps.tracing import Term, Trace
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Past, Subject

# ---- the programs: all that is asked of the rooms below


def _shapes(tree: Any) -> Any:
    """A tree of numbers as the shapes that programs take, in float32."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.float32), tree)


def _init_program(game: Game) -> tuple[ClosedJaxpr, State]:
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    return jax.make_jaxpr(init, return_shape=True)(_shapes(game), key)


def _step_program(game: Game, state: State) -> ClosedJaxpr:
    return jax.make_jaxpr(step)(_shapes(game), state)


def _measure_program(plan: measure.Plan, game: Game, state: State) -> tuple[ClosedJaxpr, list[tuple[int, ...]]]:
    """And the shapes of what is recorded of it, by the device and by the host."""
    past = Past(state.params, state.params) if plan.deep else None
    index, bits = np.int32(measure.loss_index(plan, game.config)), measure.bits_of(plan, game)
    known, kept = measure.program_game(plan, game), measure.program_state(plan, state)
    program = jax.make_jaxpr(functools.partial(measure.measure, plan))(_shapes(known), kept, past, index, bits)
    fields = measure.fields_of(plan, game).values()
    return program, [(len(measure.metrics_of(plan, game)),), *(tuple(field.shape) for field in fields)]


# ---- counts of many settings

_MOST_STEPS, _MOST_OFTEN, _MOST_DEEP, _MOST_STATES = 12, 5, 3, 24
"""Programs that are traced for a plan: about a tenth, three tenths, seven tenths and a hundredth of a second each."""


class _Kinds:
    """Settings as points, each kind (of config and target) once."""

    def __init__(self, settings: Sequence[Setting], measure_config: MeasureConfig | None = None) -> None:
        self._targets: dict[Hashable, Any] = {}
        places: dict[tuple[int, int], int] = {}
        of_targets: dict[int, dict[str, Hashable]] = {}
        self.settings: list[Setting] = []
        self.points: list[dict[str, Any]] = []
        self.at: list[int] = []
        for setting in settings:
            own = id(setting.config), id(setting.target)
            if own not in places:
                places[own] = len(self.points)
                if own[1] not in of_targets:
                    of_targets[own[1]] = self._of_target(setting.target, measure_config)
                self.settings.append(setting)
                self.points.append({**vars(setting.config), **of_targets[own[1]]})
            self.at.append(places[own])

    def _of_target(self, target: Any, measure_config: MeasureConfig | None) -> dict[str, Hashable]:
        leaves, structure = jax.tree.flatten(target)
        kind = structure, tuple(np.ndim(leaf) for leaf in leaves)
        size = sum(np.size(leaf) for leaf in leaves)
        self._targets.setdefault((kind, size), target)
        point: dict[str, Hashable] = {"target": kind, "target_size": size}
        for name in ("often", "deep") if measure_config is not None else ():
            if name == "deep" and not measure_config.deep:  # pyright: ignore[reportOptionalMemberAccess]
                continue
            point[name] = measure.plan_of(measure_config, name == "deep")  # pyright: ignore[reportArgumentType]
        return point

    def game(self, point: interpolation.Point) -> Game:
        """Of a point; ValueError where there is none."""
        kind = point["target"], point["target_size"]
        if kind not in self._targets:
            raise ValueError("target: none of this size")
        fields: dict[str, Any] = {name: point[name] for name in _DEFAULT}
        return make_game(self._targets[kind], Config(**fields))


def _trace_state(kinds: _Kinds, point: interpolation.Point) -> Trace:
    state = _init_program(kinds.game(point))[1]
    return Trace([*tracing.sizes("state", state), *tracing.sizes("params", state.params)], [], [])


def _trace_step(kinds: _Kinds, point: interpolation.Point) -> Trace:
    game = kinds.game(point)
    start, state = _init_program(game)
    found = tracing.of(_step_program(game, state))
    more = [*tracing.sizes("state", state), *tracing.sizes("params", state.params)]
    more.append(Term("init", tracing.of(start).counts()["equations"], ()))
    return found._replace(terms=[*found.terms, *more])


def _trace_measure(kinds: _Kinds, name: str, point: interpolation.Point) -> Trace:
    game, plan = kinds.game(point), cast(measure.Plan, point[name])
    program, recorded = _measure_program(plan, game, _init_program(game)[1])
    found, subject = tracing.of(program), Subject(game, plan.options)
    on_host = sum(one.host_seconds(subject) for one in plan.measurements if one.host and one.applies(subject))
    more = [Term("recorded", 1, shape) for shape in recorded] + [Term("host", 1e-6, (round(1e6 * on_host),))]
    return found._replace(terms=[*found.terms, *more])


Program = tuple[str, Hashable]
"""The name of a program: "init", "advance", "often" or "deep", and what it is made from."""

Counts = dict[str, float]
"""Each of `tracing.FEATURES`, and what is of one program alone."""


class Work(NamedTuple):
    """What one run does, and takes.

    Attributes:
      step: of one step; also bytes of the "state" and of its "params", and equations of "init".
      often, deep: of one measurement; also the numbers "recorded", and seconds on the "host" of the machine of
        `REFERENCE`. `deep` is empty where nothing is measured in depth.
      programs: what compiles: a name of each program -> its equations. Groups that share a program name it alike.
    """

    step: Counts
    often: Counts
    deep: Counts
    programs: dict[Program, float]


def works(settings: Sequence[Setting], measure_config: MeasureConfig) -> list[Work]:
    """What a run of each setting does. `measure_config`: of the sweep, without `deep` where nothing is (`measured`)."""
    kinds = _Kinds(settings, measure_config)
    steps = _counted(kinds.points, functools.partial(_trace_step, kinds), _MOST_STEPS)
    programs: list[dict[Program, float]] = [{} for _ in kinds.points]
    measured: dict[str, list[Counts]] = {"often": [], "deep": [{}] * len(kinds.points)}
    for name, most in (("often", _MOST_OFTEN), ("deep", _MOST_DEEP)):
        if name == "often" or measure_config.deep:
            read = [
                _reading(point, name, measure.not_read(point[name], setting.config))
                for point, setting in zip(kinds.points, kinds.settings, strict=True)
            ]
            measured[name] = _counted(read, functools.partial(_trace_measure, kinds, name), most)
            for own, point, counts in zip(programs, read, measured[name], strict=True):
                own[name, tuple(point.values())] = counts["equations"]
    found = []
    for i, point in enumerate(kinds.points):
        programs[i]["init", tuple(_reading(point, "", ensemble._NOT_IN_INIT).values())] = steps[i]["init"]
        programs[i]["advance", tuple(_reading(point, "", ()).values())] = steps[i]["equations"]
        found.append(Work(steps[i], measured["often"][i], measured["deep"][i], programs[i]))
    return [found[i] for i in kinds.at]


def state_bytes(settings: Sequence[Setting]) -> list[float]:
    """Of one run's `State` of each setting."""
    kinds = _Kinds(settings)
    found = _counted(kinds.points, functools.partial(_trace_state, kinds), _MOST_STATES)
    return [found[i]["state"] for i in kinds.at]


def _reading(point: dict[str, Any], name: str, unread: Sequence[str]) -> dict[str, Any]:
    """The point as a program sees it: fields that it does not read at their defaults; of what is measured its own."""
    others = {"often", "deep"} - {name}
    kept = {key: value for key, value in point.items() if key.split()[0] not in others}
    return kept | {key: _DEFAULT[key] for key in unread}


_DEFAULT = {field.name: field.default for field in dataclasses.fields(Config)}


def _counted(
    points: Sequence[dict[str, Any]], trace: Callable[[interpolation.Point], Trace], most: int
) -> list[Counts]:
    """Counts of each point; equal ones are counted once."""
    places: dict[Hashable, int] = {}
    asked: list[dict[str, Any]] = []
    at = []
    for point in points:
        values = tuple(point.values())
        if values not in places:
            places[values] = len(asked)
            asked.append(point)
        at.append(places[values])
    whole = interpolation.counts(asked, trace, most)
    rows = [dict(zip(whole, map(float, values), strict=True)) for values in zip(*whole.values(), strict=True)]
    return [rows[i] for i in at]


# ---- seconds


class Rates(NamedTuple):
    """Seconds of one device for each of what is counted of the same name."""

    flops: float
    moved: float
    elements: float
    curves: float
    calls: float
    bits: float
    indexed: float
    launches: float


class Calibration(NamedTuple):
    """How fast this machine is, with all of its devices busy.

    Attributes:
      num_devices: that share the runs.
      block_size: runs that a device trains together.
      rates: of one device.
      slower: than the machine of `REFERENCE`, in what is no matrix product: for compiling, and for the host.
    """

    num_devices: int
    block_size: int
    rates: Rates
    slower: float = 1.0

    def seconds(self, counts: Counts) -> float:
        """Of one device, of a program once."""
        return sum(rate * counts[name] for name, rate in zip(Rates._fields, self.rates, strict=True))


REFERENCE = Calibration(2, 1, Rates(4.5e-12, 7.5e-11, 3.9e-11, 4.9e-10, 6e-9, 1.5e-9, 1.8e-9, 5.7e-8))
"""The machine on which seconds were measured: AMD EPYC, two cores. Of the 56 programs that the rates were fitted to
(steps of every rule at widths 16 to 512, measurements one by one) they give 0.65 to 1.6 times what these took, 0.97 in
the middle; of 14 others (tests/sweeps/test_cost.py) 0.6 to 1.6 times."""

_CALL = 1e-4
"""Seconds from one call of a program to the next."""

_COMPILING, _STEPPING, _MEASURING = 0.5, 1.2e-3, 3.3e-3
"""Seconds to compile a program: of any, and for each equation of a step (nine of them: 0.4 to 1.4 times what they took)
and of a measurement, whose loops over many nodes take the compiler longer."""

_MEASURED = ("often", "deep")
_ROWS, _WIDTHS = 256, (16, 256)


@functools.lru_cache(maxsize=8)
def calibrate(devices: tuple[Any, ...] | None = None) -> Calibration:
    """This machine. Kept for the process.

    Takes 0.3 to 0.5 s, most of it to compile one small program: products that numbers are moved for, products that are
    work, and operations on single numbers. All devices work at once, for they share memory, cores and power; what else
    the machine does meanwhile counts, too.
    """
    devices = devices or tuple(jax.local_devices())
    block_size = ensemble.default_block_size(devices[0].platform)
    block = (block_size,) if block_size > 1 else ()
    product = lambda x, kernel: jnp.matmul(x, kernel, precision="float32")  # noqa: E731
    curve = lambda x, kernel: jnp.exp(-x) * kernel + 0.5 * x  # noqa: E731
    bodies = [product] * len(_WIDTHS) + [curve]

    def on_device(turns: jax.Array, carries: list[jax.Array], kernels: list[jax.Array]) -> list[jax.Array]:
        return [
            jax.lax.fori_loop(0, turns[i], lambda _, x, i=i: bodies[i](x, kernels[i]), carries[i])
            for i in range(len(bodies))
        ]

    same = PartitionSpec()
    mesh = Mesh(np.array(devices), ("device",))
    program = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=same, out_specs=same, check_vma=False))
    carries = [np.ones((*block, _ROWS, width), np.float32) for width in (*_WIDTHS, _ROWS)]
    kernels: list[Any] = [np.broadcast_to(np.eye(width, dtype=np.float32), (*block, width, width)) for width in _WIDTHS]
    kernels.append(np.float32(0.5))
    placed = jax.device_put((carries, kernels), NamedSharding(mesh, same))
    expected = [
        REFERENCE.seconds(tracing.trace(body, carry, kernel).counts())
        for body, carry, kernel in zip(bodies, carries, kernels, strict=True)
    ]
    # About 5 ms each on a core of today: far more than the clock resolves.
    repeats = [max(3, round(5e-3 / seconds)) for seconds in expected]

    def seconds(i: int) -> float:
        turns = np.zeros(len(bodies), np.int32)
        turns[i] = repeats[i]
        start = time.perf_counter()
        jax.block_until_ready(program(turns, *placed))
        return time.perf_counter() - start

    seconds(0)  # compiles
    slower = [min(seconds(i) for _ in range(3)) / (repeats[i] * expected[i]) for i in range(len(bodies))]
    moving, working, others = slower
    factors = [working if name == "flops" else moving if name == "moved" else others for name in Rates._fields]
    rates = Rates(*(rate * factor for rate, factor in zip(REFERENCE.rates, factors, strict=True)))
    return Calibration(len(devices), block_size, rates, others)


# ---- all of it

_STATES, _BUFFERS = 2.6, 2.0

PROGRAM_BYTES = 40 * 2**20
"""What a process keeps of each program that it has compiled, about (measured: 15 to 60 MiB)."""


def block_size(setting: Setting, measure_config: MeasureConfig) -> int:
    """Runs that a device trains together: the default of its kind, halved until their work fits into half its memory.

    It depends on the setting and the kind of device alone, as a run's bits may depend on it.
    """
    device = jax.local_devices()[0]
    size = ensemble.default_block_size(device.platform)
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    if size > 1 and limit < math.inf:
        (work,) = works([setting], measure_config)
        while size > 1 and _at_work(work, size) > limit / 2:
            size //= 2
    return size


def _at_work(work: Work, block_size: int) -> float:
    """Bytes that one device needs beside the states: the larger of a block's step and one run's measurement.

    The compiler reuses less than could be (measured: 0.9 to 3.7 times what is alive at once, 1.8 in the middle).
    """
    return _BUFFERS * max(block_size * work.step["peak"], work.often["peak"], work.deep.get("peak", 0.0))


class Estimate(NamedTuple):
    """What a group of runs of one configuration costs.

    Attributes:
      run_steps: steps of all runs together.
      programs: what compiles: a name of each program -> seconds; the union over groups is what a sweep compiles.
      training, measuring: seconds with every device at work.
      host_bytes: what the host keeps of results, beside the process itself, its programs (`PROGRAM_BYTES`) and what
        compiling them takes for a moment (0.5 GiB, 1 GiB with deep measurements).
      device_bytes: states and work on all devices together; on CPU they share the host's memory.
      disk_bytes: of the results, before compression.
    """

    run_steps: int
    programs: dict[Program, float]
    training: float
    measuring: float
    host_bytes: float
    device_bytes: float
    disk_bytes: float

    @property
    def compiling(self) -> float:
        """Seconds, where nothing was compiled before."""
        return sum(self.programs.values())

    @property
    def seconds(self) -> float:
        """Training, measuring and compiling."""
        return self.training + self.measuring + self.compiling


def estimate(
    work: Work,
    num_runs: int,
    num_steps: int,
    measure_every: int,
    deep_every: int = 0,
    *,
    calibration: Calibration = REFERENCE,
    in_memory: bool = False,
) -> Estimate:
    """What `num_runs` runs of one configuration cost, trained together.

    Args:
      work: of one of them.
      num_runs: R.
      num_steps: generator updates of each.
      measure_every: generator updates between measurements.
      deep_every: the same of deep ones; 0 takes none.
      calibration: of the machine.
      in_memory: results are kept in memory rather than written.
    """
    num_devices, block_size = calibration.num_devices, calibration.block_size
    blocks = math.ceil(num_runs / (block_size * num_devices))
    num_often = -(-num_steps // measure_every) + 1
    num_deep = -(-num_steps // deep_every) + 1 if deep_every else 0
    each = math.ceil(num_runs / num_devices)
    measuring = num_often * (_CALL + each * calibration.seconds(work.often))
    recorded = work.often["recorded"]
    if num_deep:
        on_device = _CALL + each * calibration.seconds(work.deep)
        measuring += num_deep * (on_device + num_runs * work.deep["host"] * calibration.slower)
        recorded += work.deep["recorded"]
    held = 4.0 * num_runs * recorded
    # Every array has at least two blocks a device (`ensemble._map`). Old and new states live side by side for a moment,
    # and a part of them a third time (measured: 2.6 states a run at width 64, between 64 and 512 runs).
    padded = num_devices * max(2, blocks) * block_size
    states = padded * (_STATES * work.step["state"] + (2.0 * work.step["params"] if num_deep else 0.0))
    return Estimate(
        run_steps=num_runs * num_steps,
        programs={
            name: calibration.slower * (_COMPILING + (_MEASURING if name[0] in _MEASURED else _STEPPING) * equations)
            for name, equations in work.programs.items()
            if num_deep or name[0] != "deep"
        },
        training=blocks * block_size * num_steps * calibration.seconds(work.step),
        measuring=measuring,
        host_bytes=held * (num_often if in_memory else 2),
        device_bytes=states + num_devices * _at_work(work, block_size) + 2 * held,
        disk_bytes=held * num_often,
    )
