"""Sweeps as TOML: what a person writes, and what is recorded so that the same sweep can be made again.

    num_steps = 5_000              # of the run: seeds, num_steps, measure_every, deep_every, title, preset
    seeds = "0:64"

    [target]                       # fields that all settings share, in these tables or at the top
    num_modes = 8
    [config]
    batch_size = 128
    [hparams]
    beta1_gen = 0.5
    [measure]
    keep_samples = 400

    [product]                      # every combination
    loss = ["hinge", "non_saturating"]
    lr_gen = [1e-4, 1e-3]

    [[zip]]                        # the first of each, the second of each, ...
    gen_width = [32, 64]
    disc_width = [32, 64]

    [[recipe]]                     # one entry a table, with a label
    recipe = "gradient penalty"
    penalties = ["wgan_gp"]

`[product]`, each `[[zip]]` and the `[[recipe]]` tables together are one grid each; all combinations of them are run.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gandyn import checks, environment
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.targets import Target
from gandyn.sweeps import parts, presets, sweep
from gandyn.sweeps.parts import Using, collect, resolved
from gandyn.sweeps.sweep import Setting, Sweep
from gandyn.text import printable
from gandyn.truth.measure import MeasureConfig

MEASURE_FIELDS = tuple(field.name for field in dataclasses.fields(MeasureConfig))
RUN_FIELDS = ("seeds", "num_steps", "measure_every", "deep_every", "title")
_TABLES = ("target", "config", "hparams", "measure")
_GRIDS = ("product", "zip", "recipe")
_KNOWN = (*RUN_FIELDS, *sweep.FIELDS, *sweep.NUMBERS, *MEASURE_FIELDS, *_GRIDS, "preset", "out", "overwrite")
_DEEPEST = 4


def read(path: str | Path) -> dict[str, Any]:
    """The content of a file, its four tables of shared fields flattened into one.

    Raises:
      ValueError: the file cannot be read, is not TOML, or has a key that no sweep file has.
    """
    try:
        # Editors of Windows put a byte order mark in front.
        content = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, UnicodeDecodeError, too many digits
        raise ValueError(f"{path}: not TOML: {error}") from None
    return flatten(content, str(path))


def flatten(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Content with its four tables flattened into one and its keys checked; `where` begins messages."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        # A key of that name with no table behind it is the name of the target.
        own = value if name in _TABLES and isinstance(value, dict) else {name: value}
        for key, entry in own.items():
            # Which numbers a person's own parts have is known later; [target], [config], [measure] hold none.
            fields = {"target": sweep.TARGET_FIELDS, "config": sweep.CONFIG_FIELDS, "measure": MEASURE_FIELDS}
            known = fields.get(name, _KNOWN) if own is value else _KNOWN
            if key not in known and (known is not _KNOWN or isinstance(entry, str | list | dict)):
                raise ValueError(f"{where}: unknown key {key!r:.200}{checks.nearest(key, (*known, *_TABLES))}")
            if key in flat:
                raise ValueError(f"{where}: {key}: given twice")
            if key not in _GRIDS:
                _check_value(where, key, entry)
            flat[key] = entry
    for name, kind in (("product", dict), ("zip", list), ("recipe", list)):
        tables = [flat.get(name, kind())] if kind is dict else flat.get(name, kind())
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            form = "[product]" if kind is dict else f"[[{name}]]"
            raise ValueError(f"{where}: {name}: allowed: fields under {form}")
        for key, entry in (field for table in tables for field in table.items()):
            if key in (*RUN_FIELDS, *MEASURE_FIELDS):
                raise ValueError(f"{where}: {name}: {key}: holds for the whole sweep; allowed: at the top of the file")
            _check_value(f"{where}: {name}", key, entry)
    return flat


def _check_value(where: str, key: str, value: Any, depth: int = 0) -> None:
    """A number, a text or a list of them; under an axis lists of lists, for weights."""
    if isinstance(value, dict):
        raise ValueError(f"{where}: {key} is a table; allowed: a number, a text or a list of them")
    if isinstance(value, list) and depth < _DEEPEST:
        for entry in value:
            _check_value(where, key, entry, depth + 1)
    elif not isinstance(value, int | float | str):
        raise ValueError(f"{where}: {key}: got {value!r:.200}; allowed: a number, a text or a list of them")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: {key}: got a whole number of more than 64 bits; allowed: what TOML has")


@environment.ours()
def make(
    content: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    using: Using | None = None,
    distinct: bool = True,
) -> Sweep:
    """The sweep of a `flatten`ed file; `overrides` are fields, of any kind, that win over it.

    `using` are a person's own parts, which the file names; `distinct` as of `sweep.expand`.

    Raises:
      ValueError: a field that varies, or that a labelled recipe sets, is overridden; anything that `Sweep` and
        `sweep.expand` refuse.
    """
    overrides = overrides or {}
    preset = overrides.get("preset", content.get("preset", ""))
    flat = {**(presets.fields(preset) if preset != "" else {}), **content, **overrides}
    flat = _with_parts(flat, using or collect(()))
    recipes = flat.pop("recipe", [])
    for recipe in recipes:
        _refuse_to_mislabel(recipe, overrides)
    grids = [
        # A flag holds for every recipe, as it does where a file has none.
        [{name: value for name, value in recipe.items() if name not in overrides} for recipe in recipes],
        *(sweep.zipped(**lists) for lists in flat.pop("zip", [])),
        *([sweep.product(**flat.pop("product"))] if "product" in flat else []),
    ]
    for name in overrides:
        if any(name in entry for grid in grids[1:] for entry in grid):
            raise ValueError(f"{name}: given as a flag, and varies in the file; allowed: one of them")
    own = (*RUN_FIELDS, *MEASURE_FIELDS, "preset", "out", "overwrite")
    shared = {name: value for name, value in flat.items() if name not in own}
    settings = sweep.expand(shared, *grids, distinct=distinct)
    if preset and len(settings) == 1 and not recipes:
        settings = [settings[0]._replace(recipe=preset)]
    return Sweep(
        settings,
        sweep.parse_seeds(flat.get("seeds", "0:16")),
        **{name: flat[name] for name in ("num_steps", "measure_every", "deep_every", "title") if name in flat},
        measure_config=MeasureConfig(**{name: _tuple(flat[name]) for name in MEASURE_FIELDS if name in flat}),
    )


def _refuse_to_mislabel(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """A label that a person wrote stays; so what it stands for must stay, too."""
    for name, value in recipe.items():
        if recipe.get("recipe") and name in overrides and not sweep.alike(value, overrides[name]):
            raise ValueError(
                f"{name}: got {overrides[name]!r:.200} as a flag, and {value!r:.200} in the recipe "
                f"{recipe['recipe']!r:.200}; allowed: one of them"
            )


def _with_parts(flat: Mapping[str, Any], using: Using) -> dict[str, Any]:
    """Fields with the names of a person's own parts replaced by them, in grids too."""
    in_table = lambda table: {name: resolved(name, value, using) for name, value in table.items()}  # noqa: E731
    in_lists = lambda table: {  # noqa: E731
        name: [resolved(name, value, using) for value in values] if isinstance(values, list) else values
        for name, values in table.items()
    }
    tables = {
        "product": in_lists,
        "zip": lambda all_: list(map(in_lists, all_)),
        "recipe": lambda all_: list(map(in_table, all_)),
    }
    return {
        name: tables[name](value) if name in tables else resolved(name, value, using) for name, value in flat.items()
    }


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def text(sweep_: Sweep) -> str:
    """TOML that `make` turns into the same sweep, to the bit: what all settings share, then one [[recipe]] each."""
    of_target = {id(setting.target): _target_fields(setting.target) for setting in sweep_.settings}
    of_config = {id(setting.config): _config_fields(setting.config) for setting in sweep_.settings}
    fields = [
        of_target[id(setting.target)]
        | of_config[id(setting.config)]
        | {name: float(value) for name, value in setting.hparams.as_dict().items()}
        for setting in sweep_.settings
    ]
    shared = {name: value for name, value in fields[0].items() if all(field.get(name) == value for field in fields)}
    run = {name: getattr(sweep_, name) for name in RUN_FIELDS} | {"seeds": ranges(sweep_.seeds)}
    tables = [_toml(run | _measuring(sweep_) | shared)]
    for setting, field in zip(sweep_.settings, fields, strict=True):
        own = {name: value for name, value in field.items() if name not in shared}
        tables.append("[[recipe]]\n" + _toml({"recipe": setting.recipe} | own))
    return "\n".join(tables)


def _target_fields(target: Target) -> dict[str, Any]:
    if not parts.is_rebuilt(target):
        return {"target": parts.target_name(target)}
    kind, numbers = targets.to_record(target)
    return {"target": kind} | {name: value for name, value in numbers.items() if value is not None}


def _measuring(sweep_: Sweep) -> dict[str, Any]:
    return {name: parts.text_of(value) for name, value in vars(sweep_.measure_config).items()}


def _config_fields(config: Config) -> dict[str, Any]:
    texts = {field.name: parts.text_of(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {name: value for name, value in texts.items() if value is not None}


def parse(recorded: str, using: Using | None = None) -> Sweep:
    """The sweep of a `text`; `using` are the person's own parts that it names."""
    try:
        content = tomllib.loads(recorded)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"the recorded configuration is not TOML: {error}") from None
    return make(flatten(content, "the recorded configuration"), using=using, distinct=False)


def ranges(seeds: Sequence[int]) -> list[str]:
    """Seeds with runs of neighbours as ranges 'a:b'."""
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][1]:
            spans[-1][1] += 1
        else:
            spans.append([seed, seed + 1])
    return [f"{first}:{stop}" if stop > first + 1 else str(first) for first, stop in spans]


def _toml(table: Mapping[str, Any]) -> str:
    # JSON's numbers, strings and lists of them are TOML's, too.
    plain = lambda value: value.item()  # noqa: E731 (of NumPy's numbers)
    text_of = lambda value: json.dumps(value, ensure_ascii=False, default=plain).replace("\x7f", "\\u007f")  # noqa: E731
    return "".join(f"{name} = {text_of(value)}\n" for name, value in table.items())


def differences(old: Sweep, new: Sweep, most: int = 12) -> list[str]:
    """What `new` has otherwise than `old`, one line a field; empty where both are the same."""
    found = [
        f"{name}: {_short(getattr(old, name))} there, {_short(getattr(new, name))} here"
        for name in RUN_FIELDS
        if getattr(old, name) != getattr(new, name)
    ]
    found += _fields_that_differ("", _measuring(old), _measuring(new))
    ours = {setting.recipe: setting for setting in new.settings}
    theirs = {setting.recipe: setting for setting in old.settings}
    for label in [*theirs, *(label for label in ours if label not in theirs)]:
        if label not in ours or label not in theirs:
            found.append(f"recipe {label!r}: only {'there' if label in theirs else 'here'}")
        else:
            found += _fields_that_differ(
                f"{printable(label)}: ", _every_field(theirs[label]), _every_field(ours[label])
            )
    return found if len(found) <= most else [*found[:most], f"... and {len(found) - most} more"]


def _fields_that_differ(label: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{label}{name}: {_short(old.get(name))} there, {_short(new.get(name))} here"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _every_field(setting: Setting) -> dict[str, Any]:
    return _target_fields(setting.target) | _config_fields(setting.config) | setting.hparams.as_dict()


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
