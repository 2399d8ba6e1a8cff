"""Fingerprints of a person's own parts: short texts that are other ones where a part computes something else.

A part is traced on small abstract inputs, and its program hashed with the constants in it, whatever it is called and
wherever it stands. What cannot be traced so (a convolution meets no points in the plane) is told by its bytecode.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from gandyn.gan import networks, targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.number import HParams, Number
from gandyn.gan.optimizers import Optimizer
from gandyn.gan.penalties import At, Penalty
from gandyn.gan.rules import Rule
from gandyn.gan.step import init
from gandyn.gan.targets import Target
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Measurement


def fingerprint(kind: str, value: Any) -> str:
    """Of a part of a kind, as `parts.Part` has them."""
    text = hashlib.sha256()
    for program in _PROGRAMS[kind](value):
        text.update(_without_addresses(str(program)).encode())
        for constant in _constants(program) if isinstance(program, ClosedJaxpr) else ():
            text.update(np.asarray(constant).tobytes())
    text.update(repr([(name, number.default) for name, number in numbers_of(value).items()]).encode())
    return text.hexdigest()[:16]


def numbers_of(value: Any) -> Mapping[str, Number]:
    """The numbers that a part declares; networks and targets have none."""
    return {} if isinstance(value, nn.Module) else getattr(value, "numbers", {})


def module_fields(module: nn.Module) -> dict[str, Any]:
    """A module's own fields as JSON has them: what is no number, text or list of them by its name or repr."""
    found = {}
    for field in dataclasses.fields(module):
        if field.name not in ("parent", "name"):
            value = getattr(module, field.name)
            try:
                json.dumps(value)
            except TypeError:
                value = _without_addresses(getattr(value, "__qualname__", None) or repr(value))
            found[field.name] = value
    return found


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}", "", text)


# ---- of functions


def _traced(function: Callable[..., Any], *arguments: Any, source: Any = None) -> Any:
    """The program of a function; where it cannot be traced here, the bytecode of it, or of `source`."""
    try:
        # Of a function made anew: jax keeps what it traced, and a part that draws at random would look the same twice.
        return jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    except Exception as error:  # noqa: BLE001 (a person's own code, which may need what is not here)
        return type(error).__name__, _code(function if source is None else source)


def _constants(program: ClosedJaxpr) -> Iterator[Any]:
    """The arrays in a program, those in its inner ones included, which its text leaves out."""
    yield from program.consts
    yield from _constants_inside(program.jaxpr)


def _constants_inside(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield from (value.val for value in equation.invars if isinstance(value, Literal) and np.ndim(value.val))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if isinstance(inner, ClosedJaxpr):
                yield from _constants(inner)
            elif isinstance(inner, Jaxpr):
                yield from _constants_inside(inner)


def _is_program(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _code(value: Any) -> Any:
    """What a function, or the functions of a class, do, as a text that is the same in every process."""
    if isinstance(value, type):
        return [(name, _code(one)) for name, one in sorted(vars(value).items()) if callable(one)]
    if isinstance(value, functools.partial):
        return _code(value.func), _plain(value.args), _plain(sorted(value.keywords.items()))
    value = getattr(value, "__wrapped__", value)
    code = getattr(value, "__code__", None)
    if code is None:
        return getattr(value, "__qualname__", type(value).__qualname__)
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    named = [value.__globals__.get(name) for name in code.co_names]
    return _plain(code), [_plain(one) for one in (*cells, *named, *(value.__defaults__ or ()))]


def _plain(value: Any) -> Any:
    """Numbers, texts, arrays, code and what holds them; of anything else nothing."""
    if isinstance(value, CodeType):
        return value.co_code.hex(), value.co_names, [_plain(one) for one in value.co_consts]
    if isinstance(value, np.ndarray | jax.Array):
        return hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
    if isinstance(value, frozenset | set):
        return sorted(map(repr, value))
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if isinstance(value, int | float | complex | str | bytes | None) else ""


# ---- of each kind: the programs, and what else decides


def _canonical(**fields: Any) -> Game:
    """A small game of built-in parts, in which a part of one's own is traced."""
    return make_game(targets.ring(4), Config(gen_width=4, disc_width=4, batch_size=8, **fields))


def _abstract(hparams: HParams) -> HParams:
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), hparams)


def _key() -> jax.Array:
    return jax.random.key(0, impl="threefry2x32")


def _of_loss(loss: Loss) -> list[Any]:
    logits: Any = jnp.zeros(8)
    if loss.aux:
        aux = {"features": jnp.zeros((8, 4)), "class_logits": jnp.zeros((8, 4))}
        logits = Outputs(logits, jnp.zeros(8, jnp.int32), aux)
    numbers = _abstract(loss.defaults)
    found = [_traced(function, logits, logits, numbers) for function in (loss.disc, loss.gen)]
    # What is measured rests on what else the loss says of itself.
    points = jnp.zeros(8)
    found += [] if loss.critic is None else [_traced(loss.critic, points, numbers)]
    found += [] if loss.scale is None else [_traced(loss.scale, points, points)]
    found += [] if loss.equilibrium is None else [_traced(loss.equilibrium, numbers)]
    return [*found, (loss.zero_sum, loss.couples, loss.pairs, loss.units, loss.logistic, loss.aux)]


def _of_penalty(penalty: Penalty) -> list[Any]:
    points, logits, params = jnp.zeros((8, 2)), jnp.zeros(8), {"kernel": jnp.zeros((2, 1))}
    memory = penalty.init() if penalty.init is not None else None
    numbers = _abstract(penalty.defaults)

    def at(kernel: Any) -> At:
        disc = lambda x: jnp.sum(jnp.tanh(x @ kernel["kernel"]), axis=1)  # noqa: E731
        step = jnp.zeros((), jnp.int32)
        return At(disc, kernel, points, points, logits, logits, jnp.zeros((8, 3)), step, memory)

    found = [
        _traced(lambda kernel, own=function: own(at(kernel), numbers), params, source=function)
        for function in (penalty.term, penalty.remember)
        if function is not None
    ]
    if penalty.project is not None:
        found.append(_traced(penalty.project, params, numbers))
    return [*found, [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(memory)]]


def _of_rule(rule: Rule) -> list[Any]:
    plain = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"} if rule.own_steps else {}
    game = _canonical(rule=rule, **plain)
    state = jax.eval_shape(init, game, _key())
    return [_traced(rule.init, game, state.params), _traced(rule.step, game, state, _key())]


def _of_optimizer(optimizer: Optimizer) -> list[Any]:
    def update(gradient: Any, numbers: HParams) -> Any:
        made = optimizer.make(0.1, **numbers.as_dict())
        return made.update(gradient, made.init(gradient), gradient)[0]

    defaults = HParams(**{name: number.default for name, number in optimizer.numbers.items()})
    return [_traced(update, {"kernel": jnp.zeros((2, 3))}, _abstract(defaults), source=optimizer.make)]


def _of_network(module: nn.Module) -> list[Any]:
    accepted = networks.accepted(type(module))
    labels = {"labels": jnp.zeros(4, jnp.int32)} if "labels" in accepted else {}

    def applied(train: dict[str, bool], key: jax.Array, x: jax.Array) -> Any:
        given: Any = labels | train
        return module.init_with_output(key, x, **given)

    # Whether it is G's or D's, and of what points, it need not know: of two numbers it can be both.
    modes: list[dict[str, bool]] = [{"train": False}, {"train": True}] if "train" in accepted else [{}]
    program = functools.partial(_traced, source=type(module))
    found = [program(functools.partial(applied, mode), _key(), jnp.zeros((4, 2))) for mode in modes]
    return [json.dumps(module_fields(module), sort_keys=True), *found]


def _of_measurement(one: Measurement) -> list[Any]:
    game = _canonical(num_classes=2)
    options = MeasureConfig(
        measurements=(), deep=(one,), num_deep_nodes=16, num_deep_density_nodes=16, num_transport=16
    )
    plan = measure.plan_of(options, deep=True)
    state = jax.eval_shape(init, game, _key())
    past = measure.Past(state.params, state.params)
    bits: Any = tuple(map(jnp.asarray, measure.bits_of(plan, game)))

    def taken(state: Any, past: Any) -> Any:
        return measure.measure(plan, measure.program_game(plan, game), state, past, jnp.zeros((), jnp.int32), bits)

    declared = repr((one.metrics_of(measure.Subject(game, options)), one.fields_of(measure.Subject(game, options))))
    return [declared, _code(one.host), _traced(taken, state, past, source=one.compute)]


def _of_target(target: Target) -> list[Any]:
    uniform, points = jnp.full((4, target.num_uniforms), 0.5), jnp.zeros((4, *target.event_shape))
    return [targets.fingerprint(target), _traced(target.transform, uniform), _traced(target.log_prob, points)]


_PROGRAMS: dict[str, Callable[[Any], list[Any]]] = {
    "loss": _of_loss,
    "penalty": _of_penalty,
    "rule": _of_rule,
    "optimizer": _of_optimizer,
    "network": _of_network,
    "measurement": _of_measurement,
    "target": _of_target,
}
