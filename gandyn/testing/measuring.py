"""Measurements: whether what is declared comes back, and nothing else is moved by it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.game import Game
from gandyn.gan.state import State
from gandyn.gan.step import init
from gandyn.testing.playing import ROUNDING, Context, run_key
from gandyn.testing.report import Skip, Suite
from gandyn.truth import measure
from gandyn.truth.measure import MEASUREMENTS, MeasureConfig, Measurement, Past, Plan, Subject

_SMALL: dict[str, Any] = {
    "num_nodes": 16,
    "num_density_nodes": 16,
    "num_deep_nodes": 16,
    "num_deep_density_nodes": 16,
    "num_transport": 16,
    "num_quality": 16,
    "num_gradients": 2,
    "num_eigenvalues": 2,
}


class _Moment:
    """One GAN at its start, and a plan of deep measurements of it."""

    def __init__(self, context: Context, *measurements: Measurement) -> None:
        self.game = context.game()
        options = MeasureConfig(measurements=(), deep=(), **_SMALL)
        self.plan = Plan(measurements, options, True)

    @property
    def subject(self) -> Subject:
        """What names and shapes may depend on."""
        return Subject(self.game, self.plan.options)

    def state(self) -> State:
        """At the start."""
        return init(self.game, run_key())

    def lowered(self, state: State) -> Any:
        """The measuring program and its arguments, as sweeps have them."""
        return _taken, (
            self.plan,
            self._game(),
            measure.program_state(self.plan, state),
            self._past(state),
            *self._rest(),
        )

    def taken(self, state: State) -> measure.Measured:
        """What it gives."""
        program, arguments = self.lowered(state)
        return program(*arguments)

    def _game(self) -> Game:
        return measure.program_game(self.plan, self.game)

    def _past(self, state: State) -> Past:
        return Past(jax.tree.map(lambda leaf: 0.9 * leaf, state.params), state.params)

    def _rest(self) -> tuple[Any, Any]:
        bits = tuple(map(jnp.asarray, measure.bits_of(self.plan, self.game)))
        return jnp.int32(measure.loss_index(self.plan, self.game.config)), bits

    def metrics(self, measured: measure.Measured) -> dict[str, float]:
        """By name."""
        return dict(zip(measure.metrics_of(self.plan, self.game), np.asarray(measured.metrics).tolist(), strict=True))


_taken = jax.jit(measure.measure, static_argnums=0)


def check_measurement(suite: Suite, one: Measurement, context: Context, play: bool) -> None:
    """All that measuring one small GAN shows. `play`: beside another one, and with all of the state, too."""
    made: list[tuple[_Moment, State, measure.Measured]] = []

    def returns() -> str:
        moment = _Moment(context, one)
        if not one.applies(moment.subject):
            raise AssertionError("applies: got False for the small game; give `target` or fields of one that it is of")
        state = moment.state()
        jax.eval_shape(lambda state: moment.lowered(state)[0](*moment.lowered(state)[1]), state)
        made.append((moment, state, moment.taken(state)))
        return ", ".join([*one.metrics_of(moment.subject), *one.fields_of(moment.subject)])

    suite.run("attributes", _attributes, one, context)
    if not suite.run("returns what it declares", returns):
        return
    (moment, state, measured) = made[0]
    found = moment.metrics(measured)
    suite.run("host", _host, one, moment, state, measured, found)
    suite.run("finite", _finite, found)
    suite.run("same bits again", _same_bits, moment, state, measured)
    if play:
        suite.run("moves no other", _moves_no_other, one, context, found)


def _attributes(one: Measurement, context: Context) -> None:
    subject = _Moment(context, one).subject
    metrics, fields = one.metrics_of(subject), one.fields_of(subject)
    for name, attrs in [*metrics.items(), *((name, spec.attrs) for name, spec in fields.items())]:
        for needed in ("long_name", "units"):
            if not isinstance(attrs.get(needed), str):
                raise AssertionError(f"{name}: got {dict(attrs)!r:.200}; allowed: with {needed}, a text")
    for name, spec in fields.items():
        if len(spec.dims) != len(spec.shape):
            raise AssertionError(f"{name}: got dims {spec.dims} of a shape {spec.shape}; allowed: one name an axis")
    if not metrics and not fields:
        raise AssertionError("metrics, fields: got none for the small game; allowed: at least one")


def _host(one: Measurement, moment: _Moment, state: State, measured: measure.Measured, found: dict[str, float]) -> str:
    """What the host adds is declared, and nothing that is declared is left over; `found` is filled up."""
    if one.host is None:
        raise Skip("it runs on the device alone")
    added = measure.host_metrics(moment.plan, moment.game, state, jax.tree.map(np.asarray, measured.more))
    found |= {name: float(value) for name, value in added.items() if name in found}
    return ", ".join(added)


def _finite(found: dict[str, float]) -> None:
    wrong = [name for name, value in found.items() if not np.isfinite(value)]
    if wrong:
        raise AssertionError(f"{', '.join(wrong)}: got NaN or infinity of a small GAN that has not begun to train")


def _same_bits(moment: _Moment, state: State, measured: measure.Measured) -> None:
    again = moment.taken(state)
    for first, second in zip(jax.tree.leaves(measured), jax.tree.leaves(again), strict=True):
        if not np.array_equal(first, second, equal_nan=True):
            raise AssertionError("got other values from the same state: it draws from something that is not its key")


def _moves_no_other(one: Measurement, context: Context, found: dict[str, float]) -> str:
    """Beside another measurement both give what they give alone; and so it does where all of the game is there."""
    other = MEASUREMENTS["value" if one.name != "value" else "coverage"]
    everything = dataclasses.replace(one, reads="all", host=one.host)
    together = _Moment(context, everything, other)
    both, alone = together.metrics(together.taken(together.state())), _Moment(context, other)
    for name, value in alone.metrics(alone.taken(alone.state())).items():
        if not np.isclose(both[name], value, **ROUNDING, equal_nan=True):
            raise AssertionError(f"{name} of {other.name!r}: got {both[name]:.6g} beside it, {value:.6g} alone")
    for name, value in found.items():
        if one.host is None and not np.isclose(both[name], value, **ROUNDING, equal_nan=True):
            raise AssertionError(
                f"{name}: got {both[name]:.6g} where all of the game is there, {value:.6g} where what it reads is; "
                f"reads: got {one.reads!r}; allowed: 'all', if it reads the update rule, its memory or the optimizers"
            )
    return f"beside {other.name!r}"
