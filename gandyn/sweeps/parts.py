"""A person's own parts in a sweep: how they are recorded, told apart, and found again.

A results folder records of each part that is not built in its kind, name, numbers, module fields and a fingerprint: a
hash of the program that it traces to on abstract inputs. It never holds code. Whoever goes on with the folder hands the
parts in (`using`); what is missing is listed, and what is not the same is refused.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn

from gandyn.gan import targets
from gandyn.gan.config import Config, loss_of, optimizers_of, penalties_of, rule_of
from gandyn.gan.loss import Loss
from gandyn.gan.losses import LOSSES
from gandyn.gan.optimizers import OPTIMIZERS, Optimizer
from gandyn.gan.penalties import PENALTIES, Penalty
from gandyn.gan.rules import RULES, Rule
from gandyn.gan.targets import Target
from gandyn.sweeps.fingerprints import fingerprint, module_fields, numbers_of
from gandyn.truth.measure import MEASUREMENTS, MeasureConfig, Measurement

_NAMED: dict[str, tuple[type, Mapping[str, Any]]] = {
    "loss": (Loss, LOSSES),
    "penalty": (Penalty, PENALTIES),
    "rule": (Rule, RULES),
    "optimizer": (Optimizer, OPTIMIZERS),
    "measurement": (Measurement, MEASUREMENTS),
}
"""Kind -> its class, and those that are built in."""

FIELD_KINDS = {
    "loss": "loss",
    "penalties": "penalty",
    "rule": "rule",
    "gen_optimizer": "optimizer",
    "disc_optimizer": "optimizer",
    "gen": "network",
    "disc": "network",
    "measurements": "measurement",
    "deep": "measurement",
    "target": "target",
}
"""The fields that hold parts, and of which kind."""


class Part(NamedTuple):
    """One part that is not built in.

    Attributes:
      kind: "loss", "penalty", "rule", "optimizer", "measurement", "network" or "target".
      name: its own; of a network its class's.
      value: the object.
    """

    kind: str
    name: str
    value: Any


# ---- as texts


def text_of(value: Any) -> Any:
    """The value of a field as a results folder records it: numbers and texts as they are, parts by their names.

    A module is its class's name with its fields as JSON: 'MyDisc{"width": 32}'.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}{json.dumps(module_fields(value), sort_keys=True)}"
    if isinstance(value, tuple(kind for kind, _ in _NAMED.values())):
        return value.name
    if isinstance(value, tuple | list):
        return [text_of(one) for one in value]
    return value


def label_of(value: Any) -> Any:
    """The same as a coordinate: one number or one text."""
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}({', '.join(f'{name}={one}' for name, one in module_fields(value).items())})"
    text = text_of(value)
    return "" if text is None else "+".join(map(str, text)) if isinstance(text, list) else text


def described(config: Config) -> str:
    """A config as one text, the same in every process."""
    return repr({field.name: text_of(getattr(config, field.name)) for field in dataclasses.fields(config)})


# ---- what a sweep holds


def of_setting(target: Target, config: Config) -> list[Part]:
    """The parts of a setting that are not built in."""
    found = [Part("loss", loss_of(config).name, loss_of(config))]
    found += [Part("penalty", penalty.name, penalty) for penalty in penalties_of(config)]
    rule = rule_of(dataclasses.replace(config, lookahead=0))
    found.append(Part("rule", rule.name, rule))
    found += [Part("optimizer", optimizer.name, optimizer) for optimizer in optimizers_of(config)]
    found = [part for part in found if part.name not in _NAMED[part.kind][1]]
    modules = (module for module in (config.gen, config.disc) if module is not None)
    found += [Part("network", text_of(module), module) for module in modules]
    if not is_rebuilt(target):
        found.append(Part("target", target_name(target), target))
    return found


def is_rebuilt(target: Target) -> bool:
    """Whether a target is made again from what is recorded of it; else it is a part that a person hands in."""
    return targets.to_record(target).kind in (*targets.TARGETS, "mixture")


def target_name(target: Target) -> str:
    """What a target goes by that is not made again: the name that it was given."""
    kind, numbers = targets.to_record(target)
    return str(numbers.get("name", kind))


def of_measuring(options: MeasureConfig) -> list[Part]:
    """The measurements that are not built in."""
    own = (one for one in (*options.measurements, *options.deep) if isinstance(one, Measurement))
    return [Part("measurement", one.name, one) for one in own]


def distinct(parts: Iterable[Part]) -> list[Part]:
    """Parts, each once.

    Raises:
      ValueError: two of one kind and name.
    """
    found: dict[tuple[str, str], Part] = {}
    for part in parts:
        first = found.setdefault((part.kind, part.name), part)
        if first.value is not part.value and part.kind != "network":  # modules of one name are equal
            raise ValueError(f"{part.kind} {part.name!r}: two of one name in a sweep; allowed: names of their own")
    return list(found.values())


def record(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """What a results folder says of parts, each once."""
    return [
        {
            "kind": part.kind,
            "name": part.name,
            "numbers": {name: number.default for name, number in numbers_of(part.value).items()},
            "fields": module_fields(part.value) if part.kind == "network" else {},
            "fingerprint": fingerprint(part.kind, part.value),
        }
        for part in distinct(parts)
    ]


# ---- found again


class Using(NamedTuple):
    """Parts that a person hands in: kind -> name -> object; of networks, classes and instances by class name."""

    named: dict[str, dict[str, Any]]
    networks: dict[str, list[Any]]


def collect(given: Iterable[Any]) -> Using:
    """What parts, classes of modules, and Python modules full of them hold.

    Raises:
      ValueError: something that is no part; two of one kind and name.
    """
    found = Using({kind: {} for kind in (*_NAMED, "target")}, {})
    for value in given:
        members = [value]
        if isinstance(value, ModuleType):
            members = [one for name, one in vars(value).items() if not name.startswith("_") and _is_part(one, value)]
        for one in members:
            _add(found, one)
    return found


def _is_part(value: Any, module: ModuleType) -> bool:
    if isinstance(value, type):
        return issubclass(value, nn.Module) and value.__module__ == module.__name__
    return _kind_of(value) is not None


def _kind_of(value: Any) -> str | None:
    for kind, (own, _) in _NAMED.items():
        if isinstance(value, own):
            return kind
    return "target" if _is_target(value) else "network" if isinstance(value, nn.Module) else None


def _is_target(value: Any) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("log_prob", "transform", "event_shape")
    )


def _add(found: Using, value: Any) -> None:
    if isinstance(value, type) and issubclass(value, nn.Module):
        found.networks.setdefault(value.__name__, []).append(value)
        return
    kind = _kind_of(value)
    if kind is None:
        raise ValueError(
            f"using: got {value!r:.200}; allowed: losses, penalties, rules, optimizers, measurements, targets, modules "
            "and their classes"
        )
    if kind == "network":
        found.networks.setdefault(type(value).__name__, []).append(value)
        return
    name = target_name(value) if kind == "target" else value.name  # pyright: ignore
    if found.named[kind].setdefault(name, value) is not value:
        raise ValueError(f"using: two parts of kind {kind} are named {name!r}; allowed: one of each")


def resolved(field: str, value: Any, using: Using) -> Any:
    """The recorded value of a field with names of a person's own parts replaced by the parts.

    Raises:
      KeyError: a part that is not there, (kind, name).
    """
    kind = FIELD_KINDS.get(field)
    if kind is None or value is None:
        return value
    if isinstance(value, list | tuple):
        return tuple(resolved(field, one, using) for one in value)
    if not isinstance(value, str):
        return value
    if kind == "network":
        return _network(value, using)
    if kind in _NAMED and value in _NAMED[kind][1]:
        return value
    if value in using.named[kind]:
        return using.named[kind][value]
    return value


def _network(text: str, using: Using) -> Any:
    name, brace, fields = text.partition("{")
    for given in using.networks.get(name, ()):
        if isinstance(given, type):
            return given(**_hashable(json.loads(brace + fields))) if brace else given()
        if not brace or text_of(given) == text:
            return given
    return text


def _hashable(value: Any) -> Any:
    """JSON's lists as tuples, for a module's fields are to be hashable."""
    if isinstance(value, dict):
        return {name: _hashable(one) for name, one in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


_AT_HAND: dict[tuple[str, str, str], Any] = {}
"""Parts that this process has trained with, by kind, name and fingerprint."""


def remember(parts: Iterable[Part], recorded: Iterable[Mapping[str, Any]]) -> None:
    """Keeps parts, beside what is recorded of them, for who only reads what they made (`at_hand`)."""
    values = {(part.kind, part.name): part.value for part in parts}
    for entry in recorded:
        _AT_HAND[entry["kind"], entry["name"], entry["fingerprint"]] = values[entry["kind"], entry["name"]]


def at_hand(recorded: Iterable[Mapping[str, Any]], using: Using) -> list[Any]:
    """The recorded parts that are not handed in, as far as this process has trained with the very same."""
    wanted = [entry for entry in recorded if missing([entry], using)]
    keys = ((entry["kind"], entry["name"], entry["fingerprint"]) for entry in wanted)
    return [_AT_HAND[key] for key in keys if key in _AT_HAND]


def missing(recorded: Sequence[Mapping[str, Any]], using: Using) -> list[str]:
    """The recorded parts that were not handed in, one line each."""
    lines = []
    for entry in recorded:
        kind, name = entry["kind"], entry["name"]
        if kind == "network" and isinstance(_network(name, using), str):
            own = name.partition("{")[0]
            lines.append(f"network {name if own in using.networks else own}")
        elif kind != "network" and name not in using.named[kind]:
            lines.append(f"{kind} {name!r}")
    return list(dict.fromkeys(lines))


def changed(recorded: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parts that are not those of the recording, one line each."""
    ours = {(entry["kind"], entry["name"]): entry for entry in here}
    lines = []
    for entry in recorded:
        own = ours.get((entry["kind"], entry["name"]))
        if own is not None and own["fingerprint"] != entry["fingerprint"]:
            lines.append(f"{entry['kind']} {entry['name']!r}: computes something else than there")
    return lines
