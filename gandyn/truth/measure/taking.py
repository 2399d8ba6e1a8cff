"""How a set of measurements is taken of one GAN: one program for the device, and what the host adds."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.config import Config
from gandyn.gan.game import Game, without
from gandyn.gan.state import Players, State, Stream
from gandyn.truth.measure import cheap
from gandyn.truth.measure.measurement import READS, Attributes, FieldSpec, HostView, Measurement, Subject
from gandyn.truth.measure.options import MEASUREMENTS, MeasureConfig, of_names
from gandyn.truth.measure.view import SHARED, SHARED_NUMBERS, Past, View, losses_of, node_bits


class Plan(NamedTuple):
    """One set of measurements; static, and the key of its program.

    Attributes:
      measurements: those taken.
      options: how.
      deep: with the nodes and stream of randomness of deep measurements.
    """

    measurements: tuple[Measurement, ...]
    options: MeasureConfig
    deep: bool

    @property
    def reads(self) -> str:
        """The most that any of them reads."""
        return max((one.reads for one in self.measurements), key=READS.index, default=READS[0])


def plan_of(options: MeasureConfig, deep: bool) -> Plan:
    """What is taken: often, or in depth."""
    chosen = of_names(options.deep if deep else options.measurements)
    if not deep:
        chosen = (cheap.LOSSES, *chosen, cheap.SAMPLES, cheap.SURFACE)
    return Plan(chosen, options, deep)


class Measured(NamedTuple):
    """What a measurement returns, with one more leading axis of runs when many are measured.

    Attributes:
      metrics: (number of `metrics_of`,), in their order; NaN for those that the host makes.
      fields: those of `fields_of` that the device makes.
      more: of measurements with a part on the host all that they computed, measurement -> name -> array.
    """

    metrics: jax.Array
    fields: dict[str, jax.Array]
    more: dict[str, dict[str, jax.Array]]


def metrics_of(plan: Plan, game: Game) -> dict[str, Attributes]:
    """The metrics of a GAN, in the order of storage.

    Raises:
      ValueError: two measurements record one.
    """

    def of(one: Measurement, subject: Subject) -> dict[str, Attributes]:
        return {name: _marked(one, attrs) for name, attrs in one.metrics_of(subject).items()}

    return _gathered(plan, game, of)


def fields_of(plan: Plan, game: Game) -> dict[str, FieldSpec]:
    """What is kept beside the metrics. Raises as `metrics_of` does."""
    return _gathered(plan, game, Measurement.fields_of)


def _gathered(plan: Plan, game: Game, of: Callable[[Measurement, Subject], Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in plan.measurements:
        own = of(one, Subject(game, plan.options))
        twice = found.keys() & own.keys()
        if twice:
            raise ValueError(
                f"measurement {one.name!r}: {', '.join(sorted(twice))}: another measurement records it, too"
            )
        found |= own
    return found


def _marked(one: Measurement, attrs: Attributes) -> Attributes:
    """The attributes of a metric, with the measurement that a person brought beside them."""
    return attrs if one.name in _BUILT_IN else {**attrs, "measurement": one.name}


_BUILT_IN = (*MEASUREMENTS, *(one.name for one in (cheap.LOSSES, cheap.SAMPLES, cheap.SURFACE)))


def axes_of(plan: Plan, game: Game) -> dict[str, list]:
    """Coordinate values along the axes of the fields that are kept, where an axis has any."""
    axes: dict[str, list] = {}
    for one in plan.measurements:
        if one.fields_of(Subject(game, plan.options)):
            axes |= {name: list(values) for name, values in one.axes(plan.options).items()}
    return axes


def check(game: Game, options: MeasureConfig) -> None:
    """Raises ValueError for what a GAN and its measuring each allow alone but not together."""
    if options.keep_surface and game.judges_batches:
        raise ValueError(
            f"keep_surface: got {options.keep_surface}; allowed where D's output at a point depends on the batch "
            "around it: 0"
        )
    plans = (plan_of(options, deep) for deep in (False, True))
    often, in_depth = ({**metrics_of(plan, game), **fields_of(plan, game)} for plan in plans)
    if often.keys() & in_depth.keys():
        names = ", ".join(sorted(often.keys() & in_depth.keys()))
        raise ValueError(f"deep: {names}: a measurement that is taken often records it, too")


# ---- what is shared

# What a measurement that reads so much does not read of a Config is set to its default there, so that runs which differ
# in it alone share a program.
_ONLY_IN_STEPS = ("disc_steps", "gen_steps", "first", "second_batch", "unroll_steps", "lookahead", "precision")
_ONLY_IN_UPDATES = ("rule", "gen_optimizer", "disc_optimizer", "initializer", "bias_initializer", *_ONLY_IN_STEPS)
_NOT_READ: dict[str, tuple[str, ...]] = {
    "networks": ("penalties", "gradient_norm", "top_k", "schedule", "track_path", "disc_batches", *_ONLY_IN_UPDATES),
    "objectives": _ONLY_IN_UPDATES,
    "all": (),
}


def not_read(plan: Plan, config: Config) -> tuple[str, ...]:
    """Fields of a config that none of the plan's measurements reads: configs that differ there share its program."""
    shares = plan.reads == "networks" and losses_of(config, True)[0] is SHARED
    return (*_NOT_READ[plan.reads], "loss") if shares else _NOT_READ[plan.reads]


def program_game(plan: Plan, game: Game) -> Game:
    """The game as the plan's program takes it: without what none of its measurements reads; leaves may have runs."""
    fields = not_read(plan, game.config)
    return without(game, fields, SHARED_NUMBERS if "loss" in fields else {})


def program_state(plan: Plan, state: State) -> State:
    """The state as the plan's program takes it: without what none of its measurements reads."""
    if plan.reads == "all":
        return state
    travelled = state.travelled if plan.reads == "objectives" else None
    return state.replace(opt_state=Players((), ()), memory=None, travelled=travelled)


def loss_index(plan: Plan, config: Config) -> int:
    """What `measure` takes for the loss of a config."""
    return losses_of(config, plan.reads == "networks")[1]


def bits_of(plan: Plan, game: Game) -> tuple[np.ndarray, np.ndarray]:
    """The Sobol bits that `measure` takes."""
    options = plan.options
    if plan.deep:
        return node_bits(game, options.num_deep_nodes, options.num_deep_density_nodes)
    return node_bits(game, options.num_nodes, options.num_density_nodes)


# ---- taking it


@jax.default_matmul_precision("float32")
def measure(
    plan: Plan, game: Game, state: State, past: Past | None, loss_index: jax.Array, bits: tuple[jax.Array, jax.Array]
) -> Measured:
    """Measure one GAN.

    V is that of the game being played: of packs where D judges packs, of noisy samples at the present level of
    instance noise; JSD and coverage are always of G's samples against the target's. Normalization uses its running
    statistics.

    Args:
      plan: what and how; static.
      game: of the GAN, as `program_game` makes it.
      state: what is measured.
      past: earlier parameters; None where nothing compares with them.
      loss_index: () which of `losses_of` is played. Traced: those that share a program are many, for this is the
        program that takes longest to compile.
      bits: `bits_of`.

    Raises:
      ValueError: a measurement computes something else than it declares.
    """
    stream = Stream.DEEP if plan.deep else Stream.MEASURE
    num_response = plan.options.num_deep_response_nodes if plan.deep else plan.options.num_response_nodes
    losses = losses_of(game.config, plan.reads == "networks")[0]
    view = View(game, state, plan.options, bits, num_response, losses, loss_index, stream, past)
    metrics, fields = metrics_of(plan, game), fields_of(plan, game)
    subject, found, more = Subject(game, plan.options), {}, {}
    for one in plan.measurements:
        if not one.applies(subject):
            continue
        own = dict(one.compute(view, view.key(one.name)))
        declared = _shapes(one, subject)
        if one.host is None:
            _check_names(one, own, declared)
        else:
            more[one.name] = own
        own = {name: value for name, value in own.items() if name in declared}
        _check_shapes(one, own, declared)
        found |= own
    # One array rather than two dozen: over many runs it compiles faster.
    nan = jnp.full((), jnp.nan, jnp.float32)
    stacked = [jnp.asarray(found.get(name, nan)).astype(jnp.float32) for name in metrics]
    return Measured(
        jnp.stack(stacked) if stacked else jnp.zeros((0,), jnp.float32),
        {name: found[name] for name in fields if name in found},
        more,
    )


def _shapes(one: Measurement, subject: Subject) -> dict[str, tuple[int, ...]]:
    """What a measurement declares."""
    fields = {name: tuple(spec.shape) for name, spec in one.fields_of(subject).items()}
    return dict.fromkeys(one.metrics_of(subject), ()) | fields


def _check_names(one: Measurement, found: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for what, names in (
        ("declared, but not computed", declared.keys() - found.keys()),
        ("computed, but not declared", found.keys() - declared.keys()),
    ):
        if names:
            raise ValueError(f"measurement {one.name!r}: {', '.join(sorted(names))}: {what}")


def _check_shapes(one: Measurement, found: Mapping[str, Any], declared: Mapping[str, tuple[int, ...]]) -> None:
    for name, value in found.items():
        shape, own = jnp.shape(value), declared[name]
        if shape != own:
            raise ValueError(f"measurement {one.name!r}: {name}: got shape {shape}; allowed: {own}, as declared")


def host_metrics(plan: Plan, game: Game, state: State, more: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the host adds of one run: name -> number or array. `more`: of `Measured`, for this run.

    Raises:
      ValueError: a measurement gives on the device and on the host together something else than it declares.
    """
    subject, found = Subject(game, plan.options), {}
    for one in plan.measurements:
        if one.host is None or not one.applies(subject):
            continue
        computed, declared = more[one.name], _shapes(one, subject)
        own = one.host(HostView(game, state, plan.options, computed))
        _check_names(one, {name: None for name in computed if name in declared} | dict(own), declared)
        _check_shapes(one, own, declared)
        found |= own
    return found
