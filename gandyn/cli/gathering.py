"""Writes `catalogue.json` from the real objects: `python -m gandyn.cli.gathering`. A test says when that is due."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gandyn.cli import catalogue
from gandyn.cli.options import Option, options_of
from gandyn.gan import config as configs
from gandyn.gan import networks, targets
from gandyn.gan.config import Config
from gandyn.gan.losses import LOSSES, Loss
from gandyn.gan.number import Number
from gandyn.gan.optimizers import OPTIMIZERS
from gandyn.gan.penalties import PENALTIES
from gandyn.gan.rules import RULES, Rule
from gandyn.sweeps import presets, sweep, sweep_file
from gandyn.sweeps.parts import FIELD_KINDS
from gandyn.sweeps.sweep import Sweep
from gandyn.truth import coverage
from gandyn.truth.measure import MEASUREMENTS, MeasureConfig

FILE = Path(__file__).with_name(catalogue.FILE)
_MOST_READERS = 3


def text() -> str:
    """What the file is to hold."""
    options = {
        "target": _target_options(),
        "config": _config_options(),
        "numbers": _number_options(),
        "measure": options_of(MeasureConfig),
        "run": _run_options(),
    }
    entries = {group: [_entry(option) for option in of_group] for group, of_group in options.items()}
    return json.dumps({"options": entries, "lists": _lists()}, indent=1, ensure_ascii=False) + "\n"


def _entry(option: Option) -> dict[str, Any]:
    """The fields of an option that are not at their default."""
    return {
        field.name: getattr(option, field.name)
        for field in dataclasses.fields(option)
        if getattr(option, field.name) != field.default
    }


def _target_options() -> list[Option]:
    """The kind of target, and what any of them takes; beside each, which targets do and what they have by default."""
    takers: dict[str, dict[str, Any]] = {name: {} for name in sweep.TARGET_FIELDS}
    for target, make in targets.TARGETS.items():
        for name, parameter in inspect.signature(make).parameters.items():
            takers.setdefault(name, {})[target] = parameter.default
    del takers["target"]
    made = [
        Option(
            "target",
            "text",
            choices=(*targets.TARGETS, "mixture"),
            open=True,
            default="ring",
            text="Arrangement of the modes (`gandyn list targets`); mixture takes means (x, y of each) and stds.",
        )
    ]
    for name, defaults in takers.items():
        given = [value for value in defaults.values() if isinstance(value, int | float | str)]
        kind = type(given[0]).__name__.replace("str", "text") if given else "float"
        of = ", ".join(f"{target} ({value})" if value is not None else target for target, value in defaults.items())
        text = f"Taken by {of or 'mixture'}."
        made.append(Option(name, kind, many=not given, text=text))  # pyright: ignore[reportArgumentType]
    return made


def _config_options() -> list[Option]:
    """The fields of `Config`; a network of one's own goes by its class, with its fields in JSON."""
    own = "Linen module of your own, as MyNet or 'MyNet{\"width\": 32}'; if left out, it is built of the fields {}_..."
    made = {option.name: option for option in options_of(Config)}
    made |= {
        name: Option(name, "text", text=own.replace("{}", name))
        for name, kind in FIELD_KINDS.items()
        if kind == "network"
    }
    return [made[field.name] for field in dataclasses.fields(Config) if field.name in made]


def _number_options() -> list[Option]:
    """The numbers that parts which come with gandyn declare, each once: what it is, who reads it, its default."""
    declared: dict[str, dict[str, Number]] = {}
    for part, numbers in configs.declarations().items():
        for name, number in numbers.items():
            declared.setdefault(name, {})[part] = number
    made = []
    for name, of_parts in declared.items():
        first, *others = of_parts.values()
        alike = all(number.default == first.default for number in others)
        readers = [part if alike else f"{part} ({number.default:g})" for part, number in of_parts.items()]
        text = f"{first.text[:1].upper()}{first.text[1:]}. Read by {', '.join(readers[:_MOST_READERS])}"
        text += ", ..." if len(readers) > _MOST_READERS else "."
        made.append(Option(name, "float", default=first.default if alike else None, text=text))
    return made


def _run_options() -> list[Option]:
    """The fields of a sweep that hold for all its settings, and the protocol that they start from."""
    seeds = "Whole numbers, and ranges such as 0:64 (0 ... 63): one run of every recipe for each."
    own = {option.name: option for option in options_of(Sweep)}
    own["seeds"] = Option("seeds", "text", many=True, default="0:16", text=seeds)
    start = "A published protocol to start from; what a file or a flag gives wins over it (`gandyn list presets`)."
    preset = Option("preset", "text", choices=tuple(presets.PRESETS), text=start)
    return [*(own[name] for name in sweep_file.RUN_FIELDS), preset]


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _lists() -> dict[str, dict[str, str]]:
    return {
        "targets": {
            name: f"{_first_line(make)} Options: {', '.join(inspect.signature(make).parameters)}."
            for name, make in targets.TARGETS.items()
        },
        "losses": {name: _of_loss(loss) for name, loss in LOSSES.items()},
        "penalties": {name: _with_numbers(one.reference, one.numbers) for name, one in PENALTIES.items()},
        "rules": {name: _of_rule(rule) for name, rule in RULES.items()},
        "optimizers": {name: _with_numbers(one.reference, one.numbers) for name, one in OPTIMIZERS.items()},
        "presets": {name: preset.reference for name, preset in presets.PRESETS.items()},
        "measurements": {name: one.text for name, one in MEASUREMENTS.items()},
        "conventions": {name: convention.reference for name, convention in coverage.CONVENTIONS.items()},
        "schedules": configs.SCHEDULES,
        "priors": configs.PRIORS,
        "instance_noise": configs.INSTANCE_NOISE,
        "averages": configs.AVERAGES,
        "generators": networks.GENERATORS,
        "discriminators": networks.DISCRIMINATORS,
        "norms": networks.NORMS,
        "minibatch_layers": networks.MINIBATCH_LAYERS,
        "activations": dict.fromkeys(networks.ACTIVATIONS, ""),
        "initializers": dict.fromkeys(networks.INITIALIZERS, ""),
        "bias_initializers": dict.fromkeys(("matching", *networks.BIAS_INITIALIZERS), ""),
    }


def _of_loss(loss: Loss) -> str:
    line = f"D minimizes {_first_line(loss.disc)} G minimizes {_first_line(loss.gen)} At the optimum V = {loss.optimum}"
    return _with_numbers(f"{line}. {loss.reference}", loss.numbers)


def _of_rule(rule: Rule) -> str:
    return _with_numbers(f"{_first_line(rule.step)} {rule.reference}", rule.numbers)


def _with_numbers(line: str, numbers: Mapping[str, Number]) -> str:
    end = "" if line.endswith(".") else "."
    return f"{line}{end} Numbers: {', '.join(numbers)}." if numbers else f"{line}{end}"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)
