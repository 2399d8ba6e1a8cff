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
    penalty = "wgan_gp"

`[product]`, each `[[zip]]` and the `[[recipe]]` tables together are one grid each; all combinations of them are run.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandyn import checks, presets, sweep
from gandyn.measure import MeasureConfig
from gandyn.sweep import Setting, Sweep

MEASURE_FIELDS = tuple(field.name for field in dataclasses.fields(MeasureConfig))
RUN_FIELDS = ("seeds", "num_steps", "measure_every", "deep_every", "title")
_TABLES = ("target", "config", "hparams", "measure")
_GRIDS = ("product", "zip", "recipe")


def read(path: str | Path) -> dict[str, Any]:
    """The content of a file, its four tables of shared fields flattened into one.

    Raises:
      ValueError: the file cannot be read, is not TOML, or has a key that no sweep file has.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    return flatten(content, str(path))


def flatten(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Content with its four tables flattened into one and its keys checked; `where` begins messages."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        # A key of that name with no table behind it is the name of the target.
        own = value if name in _TABLES and isinstance(value, dict) else {name: value}
        for key, entry in own.items():
            known = (*RUN_FIELDS, *sweep.FIELDS, *MEASURE_FIELDS, *_GRIDS, "preset", "out", "overwrite")
            if key not in known:
                raise ValueError(f"{where}: unknown key {key!r}{checks.nearest(key, (*known, *_TABLES))}")
            if key in flat:
                raise ValueError(f"{where}: {key}: given twice")
            if isinstance(entry, dict) and key != "product":
                raise ValueError(f"{where}: {key} is a table; allowed: a number, a text or a list of them")
            flat[key] = entry
    for name, kind in (("product", dict), ("zip", list), ("recipe", list)):
        tables = [flat.get(name, kind())] if kind is dict else flat.get(name, kind())
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            form = "[product]" if kind is dict else f"[[{name}]]"
            raise ValueError(f"{where}: {name}: allowed: fields under {form}")
    return flat


def make(content: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of a `flatten`ed file; `overrides` are fields, of any kind, that win over it.

    Raises:
      ValueError: a field that varies is overridden; anything that `Sweep` and `sweep.expand` refuse.
    """
    overrides = overrides or {}
    preset = overrides.get("preset", content.get("preset", ""))
    flat = {**(presets.fields(preset) if preset else {}), **content, **overrides}
    recipes = flat.pop("recipe", [])
    for number, recipe in enumerate(recipes, 1):
        for name in recipe.keys() - {"recipe"}:
            sweep._check_field(f"recipe {recipe.get('recipe', number)}", name)
    grids = [
        # A flag holds for every recipe, as it does where a file has none.
        [{name: value for name, value in recipe.items() if name not in overrides} for recipe in recipes],
        *(sweep.zipped(**lists) for lists in flat.pop("zip", [])),
        *([sweep.product(**flat["product"])] if flat.get("product") else []),
    ]
    flat.pop("product", None)
    for name in overrides:
        if any(name in entry for grid in grids[1:] for entry in grid):
            raise ValueError(f"{name}: given as a flag, and varies in the file; allowed: one of them")
    settings = sweep.expand({name: flat[name] for name in sweep.FIELDS if name in flat}, *grids)
    if preset and len(settings) == 1 and not recipes:
        settings = [settings[0]._replace(recipe=preset)]
    return Sweep(
        settings,
        sweep.parse_seeds(flat.get("seeds", "0:16")),
        **{name: flat[name] for name in ("num_steps", "measure_every", "deep_every", "title") if name in flat},
        measure_config=MeasureConfig(**{name: _tuple(flat[name]) for name in MEASURE_FIELDS if name in flat}),
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def text(sweep_: Sweep) -> str:
    """TOML that `make` turns into the same sweep, to the bit: what all settings share, then one [[recipe]] each."""
    fields = [
        {"target": "mixture"}
        | {name: _shortest(value) for name, value in vars(setting.target).items()}
        | vars(setting.config)
        | {name: float(value) for name, value in vars(setting.hparams).items()}
        for setting in sweep_.settings
    ]
    shared = {name: value for name, value in fields[0].items() if all(field[name] == value for field in fields)}
    run = {name: getattr(sweep_, name) for name in RUN_FIELDS} | {"seeds": ranges(sweep_.seeds)}
    tables = [_toml(run | vars(sweep_.measure_config) | shared)]
    for setting, field in zip(sweep_.settings, fields, strict=True):
        own = {name: value for name, value in field.items() if name not in shared}
        tables.append("[[recipe]]\n" + _toml({"recipe": setting.recipe} | own))
    return "\n".join(tables)


def parse(recorded: str) -> Sweep:
    """The sweep of a `text`."""
    try:
        content = tomllib.loads(recorded)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"the recorded configuration is not TOML: {error}") from None
    return make(flatten(content, "the recorded configuration"))


def _shortest(array: Any) -> list[float]:
    """The entries of a float32 array, flat, in the fewest digits that give them back."""
    return [float(str(entry)) for entry in np.asarray(array, np.float32).ravel()]


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
    text_of = lambda value: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # noqa: E731
    return "".join(f"{name} = {text_of(value)}\n" for name, value in table.items())


def differences(old: Sweep, new: Sweep, most: int = 12) -> list[str]:
    """What `new` has otherwise than `old`, one line a field; empty where both are the same."""
    found = [
        f"{name}: {_short(getattr(old, name))} there, {_short(getattr(new, name))} here"
        for name in RUN_FIELDS
        if getattr(old, name) != getattr(new, name)
    ]
    found += _fields_that_differ("", vars(old.measure_config), vars(new.measure_config))
    ours = {setting.recipe: setting for setting in new.settings}
    theirs = {setting.recipe: setting for setting in old.settings}
    for label in [*theirs, *(label for label in ours if label not in theirs)]:
        if label not in ours or label not in theirs:
            found.append(f"recipe {label!r}: only {'there' if label in theirs else 'here'}")
        else:
            found += _fields_that_differ(f"{label}: ", _every_field(theirs[label]), _every_field(ours[label]))
    return found if len(found) <= most else [*found[:most], f"... and {len(found) - most} more"]


def _fields_that_differ(label: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{label}{name}: {_short(old[name])} there, {_short(new[name])} here" for name in old if old[name] != new[name]
    ]


def _every_field(setting: Setting) -> dict[str, Any]:
    target = {name: _shortest(value) for name, value in vars(setting.target).items()}
    return target | vars(setting.config) | {name: float(value) for name, value in vars(setting.hparams).items()}


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
