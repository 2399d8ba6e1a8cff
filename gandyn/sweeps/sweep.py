"""From grids of fields to settings, and from settings and seeds to compile groups: what shares a program runs together.

A grid is a list of flat dicts of fields of the target, `Config` and `HParams`, as in a run file:

    settings = sweep.expand(
        {"target": "ring", "num_modes": 8, "batch_size": 128},
        sweep.product(loss=["hinge", "non_saturating"], lr_gen=[1e-4, 1e-3]),
        sweep.zipped(gen_width=[32, 64], disc_width=[32, 64]),
    )
    gandyn.run_sweep(gandyn.Sweep(settings, seeds=range(64)), out="runs/grid")
"""

import dataclasses
import functools
import inspect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from gandyn import checks, devices, environment
from gandyn.gan import targets
from gandyn.gan.config import Config, complete, declarations, numbers_of, unread
from gandyn.gan.game import Game
from gandyn.gan.number import HParams
from gandyn.gan.step import check
from gandyn.gan.targets import Target
from gandyn.sweeps import parts
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig

T = TypeVar("T")

MAX_SEEDS = 10**6
"""More runs of one setting than any machine trains, and few enough to be counted one by one."""

MAX_CELLS = 10**5
"""More settings than any plan can be read for."""

MAX_RUNS = 10**6
"""Runs of a sweep: each is planned by itself."""

MAX_MEASUREMENTS = 10**6
"""More measurements of one run than can be looked at, and few enough to be listed."""

TARGET_FIELDS = (
    "target",
    *dict.fromkeys(name for make in targets.TARGETS.values() for name in inspect.signature(make).parameters),
    "means", "stds", "covariances", "shapes", "groups",
)  # fmt: skip
CONFIG_FIELDS = tuple(field.name for field in dataclasses.fields(Config))
FIELDS = (*dict.fromkeys(TARGET_FIELDS), *CONFIG_FIELDS)
"""What an axis of a grid can be, beside the numbers that the chosen parts declare."""
NUMBERS = tuple(dict.fromkeys(name for numbers in declarations().values() for name in numbers))
"""Those of the parts that are built in."""


class Setting(NamedTuple):
    """Everything about a run but its seed. `recipe` is the label it goes by in results, plots and tables."""

    recipe: str
    target: Any  # a `Target`, which may have more than the protocol says
    config: Config
    hparams: HParams

    @property
    def game(self) -> Game:
        """The GAN; its hyperparameters as they are here, which a `Sweep` has completed."""
        return Game(self.config, self.hparams, self.target)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Every setting with every seed, for how long, and what is measured of them.

    Equal seeds mean equal data, latents and, where shapes agree, initial weights, whatever the setting (common random
    numbers): differences between settings are to be taken seed by seed.

    Raises:
      ValueError: for what cannot be meant.
    """

    settings: Sequence[Setting]
    """With distinct labels."""
    seeds: Sequence[int] = range(16)
    """Whole numbers from 0 to 2^32 - 1."""
    num_steps: int = 5_000
    """Generator updates."""
    measure_every: int = 100
    """Generator updates between measurements; step 0 and the last step are always measured."""
    deep_every: int = 0
    """Generator updates between deep measurements (`MeasureConfig.deep`), a multiple of measure_every; step 0 and the
    last step are then among them. 0 takes none."""
    measure_config: MeasureConfig = MeasureConfig()  # noqa: RUF009 (frozen)
    """How the truth is measured and what is kept."""
    title: str = ""
    """Of the results and their report."""

    @environment.ours()
    def __post_init__(self) -> None:
        devices.prepare()  # parts are tried on a few numbers below, which starts jax
        set_field = functools.partial(object.__setattr__, self)
        checks.whole("num_steps", self.num_steps)
        checks.whole("measure_every", self.measure_every)
        checks.whole("deep_every", self.deep_every, least=0)
        if self.num_steps // self.measure_every > MAX_MEASUREMENTS:
            raise ValueError(
                f"measure_every: got {self.measure_every} with num_steps={self.num_steps:,}; allowed: at most "
                f"{MAX_MEASUREMENTS:,} measurements of a run"
            )
        if self.deep_every % self.measure_every:
            raise ValueError(
                f"deep_every: got {self.deep_every}; allowed: a multiple of measure_every, {self.measure_every}"
            )
        if self.deep_every and not self.measure_config.deep:
            raise ValueError(f"deep_every: got {self.deep_every}; allowed where `deep` names nothing to measure: 0")
        _check_text("title", self.title)
        set_field("seeds", tuple(check_seeds(self.seeds)))
        if not isinstance(self.settings, Sequence) or not all(isinstance(one, Setting) for one in self.settings):
            raise ValueError(f"settings: got {self.settings!r:.200}; allowed: a list of Setting")
        set_field("settings", tuple(self.settings))
        labels = Counter(setting.recipe for setting in self.settings)
        if not labels or len(labels) < len(self.settings):
            twice = [label for label, count in labels.items() if count > 1]
            raise ValueError(
                f"recipes: got {f'{twice!r:.200}' if twice else 'none'}; allowed: distinct labels, at least one"
            )
        num_runs = len(self.settings) * len(self.seeds)
        if num_runs > MAX_RUNS:
            raise ValueError(
                f"runs: got {len(self.settings):,} settings x {len(self.seeds):,} seeds = {num_runs:,}; allowed: at "
                f"most {MAX_RUNS:,}"
            )
        for label in labels:
            _check_text("recipe", label, least=1)
        for target in {id(setting.target): setting.target for setting in self.settings}.values():
            targets.check(target)
        set_field("settings", _completed(self.settings))
        for kind in {_kind(setting): setting for setting in self.settings}.values():
            check(kind.game)
            measure.check(kind.game, self.measure_config)
        parts.distinct(self.parts)

    @property
    def parts(self) -> list[parts.Part]:
        """The parts that are not built in."""
        kinds = {_kind(setting): setting for setting in self.settings}.values()
        of_settings = [part for setting in kinds for part in parts.of_setting(setting.target, setting.config)]
        return [*of_settings, *parts.of_measuring(self.measure_config)]

    @property
    def steps(self) -> list[int]:
        """Every step that is measured."""
        return [*range(0, self.num_steps, self.measure_every), self.num_steps]

    @property
    def deep_steps(self) -> list[int]:
        """Every step that is measured in depth."""
        return [*range(0, self.num_steps, self.deep_every), self.num_steps] if self.deep_every else []

    @property
    def measured(self) -> MeasureConfig:
        """The measuring that takes place: without deep measurements where none are scheduled."""
        return self.measure_config if self.deep_every else dataclasses.replace(self.measure_config, deep=())


def _completed(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """Settings with every number that their parts declare."""
    made: dict[tuple[int, int], HParams] = {}
    for setting in settings:
        key = id(setting.config), id(setting.hparams)
        if key not in made:
            try:
                made[key] = complete(setting.config, setting.hparams)
            except ValueError as error:
                where = f" (in {setting.recipe!r:.200})" if len(settings) > 1 else ""
                raise ValueError(f"{error}{where}") from None
            for name, value in made[key].as_dict().items():
                if type(value) not in (float, int):
                    checks.number(name, value, -1e38, 1e38)
    return tuple(one._replace(hparams=made[id(one.config), id(one.hparams)]) for one in settings)


def _kind(setting: Setting) -> tuple[int, int]:
    return id(setting.target), id(setting.config)


class Group(NamedTuple):
    """Runs that train side by side: one `Config`, targets of one kind and shape, one size of what measures them.

    Attributes:
      config: of all.
      runs: one (setting, seed) a run.
      capacity: rows that its programs are compiled for, so that groups of one kind compile once.
    """

    config: Config
    runs: tuple[tuple[Setting, int], ...]
    capacity: int

    @property
    def label(self) -> str:
        """The recipes in it."""
        recipes = list(dict.fromkeys(setting.recipe for setting, _ in self.runs))
        return "; ".join(recipes) if len(recipes) <= 3 else f"{recipes[0]}; ... ({len(recipes)} recipes)"


# ---- grids


def product(**axes: Sequence[Any] | np.ndarray) -> list[dict[str, Any]]:
    """Every combination of the values given for each field; the last field varies fastest."""
    _check_axes("product", axes)
    if math.prod(map(len, axes.values())) > MAX_CELLS:
        raise ValueError(f"product: got {math.prod(map(len, axes.values())):,} cells; allowed: at most {MAX_CELLS:,}")
    for name, values in axes.items():
        _check_distinct(f"product: {name}", values)
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def zipped(**lists: Sequence[Any] | np.ndarray) -> list[dict[str, Any]]:
    """The first values of each field together, the second together, ..."""
    _check_axes("zip", lists)
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zip: got lists of lengths {lengths}; allowed: one length for all")
    rows = list(zip(*lists.values(), strict=True))
    _check_distinct(f"zip: {', '.join(lists)}", rows)
    return [dict(zip(lists, values)) for values in rows]


def _check_axes(where: str, axes: Mapping[str, Any]) -> None:
    if not axes:
        raise ValueError(f"{where}: got no field; allowed: at least one field with a list of values")
    for name, values in axes.items():
        _check_field(where, name)
        if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray) or not len(values):
            raise ValueError(f"{where}: {name}: got {values!r:.200}; allowed: a list of values, at least one")
        if len(values) > MAX_CELLS:
            raise ValueError(f"{where}: {name}: got {len(values):,} values; allowed: at most {MAX_CELLS:,}")


def _check_distinct(where: str, values: Iterable[Any]) -> None:
    """Two equal cells are one setting, and would be the same runs twice."""
    seen: set[str] = set()
    for value in map(_plain, values):
        text = repr(_in_float32(value))
        if text in seen:
            raise ValueError(f"{where}: got {_listed(value)!r:.200} twice; allowed: distinct values")
        seen.add(text)


def alike(one: Any, other: Any) -> bool:
    """Whether two values of a field are one as a run has them."""
    return repr(_in_float32(_plain(one))) == repr(_in_float32(_plain(other)))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _in_float32(value: Any) -> Any:
    """Numbers as a run has them: 1 and 1.0 are one, and so is what float32 does not tell apart."""
    if isinstance(value, list | tuple):
        return [_in_float32(entry) for entry in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(np.float32(value)) if is_number and abs(value) < 2**100 else value


def _check_field(where: str, name: str) -> None:
    # Which numbers there are is known once the parts are chosen.
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{where}: unknown key {name!r:.200}{checks.nearest(name, FIELDS)}")


def _check_text(field: str, value: Any, least: int = 0) -> None:
    """A text of Unicode, so that it can be written; `least` characters at least."""
    fits = isinstance(value, str) and len(value) >= least and not any("\ud800" <= c <= "\udfff" for c in value)
    if not fits:
        raise ValueError(f"{field}: got {value!r:.200}; allowed: a text{' of at least one character' if least else ''}")


def _plain(value: Any) -> Any:
    """Arrays as lists, and NumPy's numbers as Python's: NumPy's own texts leave out digits and entries."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(entry) for entry in value] if type(value) in (list, tuple) else value


def expand(shared: Mapping[str, Any], *grids: Sequence[Mapping[str, Any]], distinct: bool = True) -> list[Setting]:
    """A setting for every combination of one entry of each grid, on top of the shared fields.

    Labels: an entry's own `recipe`, else the values of its fields, those of `loss` and `penalties` without their names;
    the last grid varies fastest.

    Args:
      shared: fields of all settings.
      grids: lists of fields: `product`, `zipped`, or one entry a recipe.
      distinct: refuse two settings that are one as their runs have them.

    Raises:
      ValueError: an unknown field, a field in two grids, a label given twice, a value that its field cannot have.
    """
    grids = tuple([_checked_entry(entry) for entry in grid] for grid in grids if len(grid))
    if math.prod(map(len, grids)) > MAX_CELLS:
        raise ValueError(f"sweep: got {math.prod(map(len, grids)):,} settings; allowed: at most {MAX_CELLS:,}")
    owners: dict[str, int] = {}
    for index, grid in enumerate(grids):
        for name in {name for entry in grid for name in entry} - {"recipe"}:
            if owners.setdefault(name, index) != index:
                raise ValueError(f"{name}: varies in two grids; allowed: in one, for its values multiply with others'")
        _check_distinct("recipe", [entry["recipe"] for entry in grid if entry.get("recipe")])
    labels, cells = [], []
    of_grids = [[_label(entry) for entry in grid] for grid in grids]
    for entries, label in zip(itertools.product(*grids), itertools.product(*of_grids), strict=True):
        labels.append(", ".join(filter(None, label)))
        cells.append({name: value for entry in entries for name, value in entry.items() if name != "recipe"})
    shared = _checked_entry(shared)
    build = _builder(shared)
    made = [build(cell) for cell in cells]
    _refuse_unread(shared, made)
    if not any(labels):
        labels = _labels([setting[1:] for setting in made])
    labels = [label or _loss_and_penalty(setting.config) for label, setting in zip(labels, made, strict=True)]
    labels = _distinct(labels)
    if distinct:
        _refuse_twice(labels, made)
    return [setting._replace(recipe=label) for setting, label in zip(made, labels, strict=True)]


def _refuse_twice(labels: Sequence[str], settings: Sequence[Setting]) -> None:
    """Raises for two settings that are one as their runs have them: the same runs under two labels."""
    arrays: dict[int, bytes] = {}
    seen: dict[Any, str] = {}
    for label, setting in zip(labels, settings, strict=True):
        own = id(setting.target)
        if own not in arrays:
            leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(setting.target)]
            arrays[own] = b"".join(repr(leaf.shape).encode() + leaf.tobytes() for leaf in leaves)
        numbers = {name: _in_float32(value) for name, value in setting.hparams.as_dict().items()}
        key = type(setting.target), arrays[own], setting.config, repr(numbers)
        if key in seen:
            raise ValueError(
                f"recipes: got {seen[key]!r:.200} and {label!r:.200}, which are one setting, and would be the same "
                "runs twice; allowed: settings that differ"
            )
        seen[key] = label


def _refuse_unread(shared: Mapping[str, Any], settings: Sequence[Setting]) -> None:
    """Raises for a number that all settings share and none of them reads."""
    configs = {id(setting.config): setting.config for setting in settings}.values()
    read = {name for config in configs for name in numbers_of(config)}
    for name in shared:
        if name not in read and name not in FIELDS:
            raise ValueError(unread(name, shared[name], sorted(read), FIELDS))


def _checked_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    for name in entry:
        if name == "recipe":
            _check_text("recipe", entry[name])
        else:
            _check_field("sweep", name)
    return {name: _plain(value) for name, value in entry.items()}


def _label(entry: Mapping[str, Any]) -> str:
    if entry.get("recipe"):
        return entry["recipe"]
    return ", ".join(
        str(parts.label_of(value)) if name in ("loss", "penalties") else f"{name}={_text(_named(name, value))}"
        for name, value in entry.items()
        if name != "recipe" and not (name == "penalties" and not value)
    )


def _named(name: str, value: Any) -> Any:
    return parts.target_name(value) if name == "target" and not isinstance(value, str) else parts.label_of(value)


_LONGEST = 60


def _text(value: Any) -> str:
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels with a number behind those that repeat."""
    counts, numbers, taken = Counter(labels), Counter(), set(labels)
    numbered = []
    for label in labels:
        unlike = label
        while counts[label] > 1 and unlike in taken:
            numbers[label] += 1
            unlike = f"{label} ({numbers[label]})"
        taken.add(unlike)
        numbered.append(unlike)
    return numbered


def _builder(shared: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Setting]:
    """What makes a setting of the fields of a cell; parts that several settings share are made once."""
    made: dict[Any, Any] = {}

    def part(kind: Callable[..., T], fields: Mapping[str, Any], key: Hashable) -> T:
        if key not in made:
            made[key] = kind(**fields)
        return made[key]

    def build(cell: Mapping[str, Any]) -> Setting:
        try:
            given = {**shared, **cell}
            of = lambda names: {name: value for name, value in given.items() if name in names}  # noqa: E731
            text = lambda names: repr([(n, _key(v)) for n, v in cell.items() if n in names])  # noqa: E731
            target = part(_target, of(_TARGET), ("target", text(_TARGET)))
            config = part(_config, of(_CONFIG), ("config", text(_CONFIG)))
            numbers = {name: value for name, value in given.items() if name not in _TARGET | _CONFIG}
            declared = numbers_of(config)
            # What all settings share may be read by some of them alone.
            numbers = {name: value for name, value in numbers.items() if name in declared or name in cell}
            for name in numbers.keys() - declared.keys():
                raise ValueError(unread(name, numbers[name], declared, FIELDS))
            hparams = part(_hparams, numbers, ("hparams", repr(numbers)))
            return Setting(
                "", target, config, part(complete, {"config": config, "hparams": hparams}, (config, hparams))
            )
        except ValueError as error:
            if not cell:
                raise
            fields = ", ".join(f"{name}={parts.label_of(value)!r:.100}" for name, value in cell.items())
            raise ValueError(f"{error} (in the setting {fields:.300})") from error

    return build


_TARGET, _CONFIG = frozenset(TARGET_FIELDS), frozenset(CONFIG_FIELDS)


def _key(value: Any) -> Any:
    """What tells values apart: objects by themselves."""
    plain = isinstance(value, str | int | float | list | tuple | None)
    return value if plain else f"{type(value).__name__} {id(value)}"


def _target(target: Any = "ring", **options: Any) -> Target:
    if isinstance(target, str):
        return targets.build(target, **options)
    if options:
        raise ValueError(f"{next(iter(options))}: got it beside a target that is an object; allowed: with a name")
    return target


def _config(**fields: Any) -> Config:
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Config(**given)


def _hparams(**fields: Any) -> HParams:
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}: got {value!r:.200}; allowed: a number")
    return HParams(**{name: float(value) if abs(value) < 2**1000 else value for name, value in fields.items()})


# ---- settings from objects


def _as_list(field: str, given: T | Sequence[T], kind: type[T]) -> list[T]:
    entries = [given] if isinstance(given, kind) else given
    if not isinstance(entries, Sequence) or not entries or not all(isinstance(entry, kind) for entry in entries):
        raise ValueError(f"{field}: got {given!r:.200}; allowed: a {kind.__name__} or a list of them")
    return list(entries)


def make_settings(
    target: Target | Sequence[Target],
    config: Config | Sequence[Config],
    hparams: HParams | Sequence[HParams],
    recipes: Sequence[str] | None = None,
) -> list[Setting]:
    """One setting for each position of the lists given; what is given once holds for all.

    Args:
      target: one, or one a setting.
      config: one, or one a setting.
      hparams: one, or one a setting.
      recipes: a distinct label for each setting; by default what tells the settings apart.

    Raises:
      ValueError: lists of different lengths, labels that repeat.
    """
    given: dict[str, list[Any]] = {
        "target": _as_list("target", target, Target),
        "config": _as_list("config", config, Config),
        "hparams": _as_list("hparams", hparams, HParams),
    }
    num = max(map(len, given.values()))
    for name, entries in given.items():
        if len(entries) not in (1, num):
            raise ValueError(f"{name}: got a list of {len(entries)}; allowed beside a list of {num}: one, or {num}")
        given[name] = entries * num if len(entries) == 1 else entries
    rows = list(zip(given["target"], given["config"], given["hparams"], strict=True))
    labels = _labels(rows) if recipes is None else [str(label) for label in recipes]
    if len(labels) != num or len(set(labels)) != num:
        raise ValueError(f"recipes: got {labels!r:.200}; allowed: {num} distinct labels")
    return [Setting(label, *row) for label, row in zip(labels, rows, strict=True)]


def _labels(rows: Sequence[tuple[Target, Config, HParams]]) -> list[str]:
    """The loss and penalties of each row; where that is not enough, every other field that varies."""
    fields = [fields_of(*row) for row in rows]
    labels = [_loss_and_penalty(row[1]) for row in rows]
    if len(set(labels)) < len(labels):
        names = dict.fromkeys(name for field in fields for name in field)
        varying = [name for name in names if len({field.get(name) for field in fields}) > 1]
        others = [name for name in varying if name not in ("loss", "penalties")]
        labels = [
            ", ".join([label, *(f"{name}={field[name]}" for name in others if name in field)])
            for label, field in zip(labels, fields, strict=True)
        ]
    return _distinct(labels)  # equal fields, but targets that differ in their arrays


def _loss_and_penalty(config: Config) -> str:
    loss, penalties = parts.label_of(config.loss), parts.label_of(config.penalties)
    return f"{loss} + {penalties}" if penalties else loss


def fields_of(target: Target, config: Config, hparams: HParams) -> dict[str, Any]:
    """Every field of a setting as one number or one text: the coordinates of its runs in the results."""
    of_config = {field.name: parts.label_of(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return of_config | hparams.as_dict() | targets.fields_of(target)


# ---- seeds


def check_num_seeds(num: int) -> None:
    """Refused before they are listed."""
    if num > MAX_SEEDS:
        raise ValueError(f"seeds: got {num:,} of them; allowed: at most {MAX_SEEDS:,}")


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds as a list: distinct whole numbers from 0 to 2^32 - 1."""
    if isinstance(seeds, Integral | str | bytes) or not hasattr(seeds, "__len__"):
        raise ValueError(f"seeds: got {seeds!r:.200}; allowed: a list of whole numbers, such as range(16)")
    check_num_seeds(len(seeds))  # pyright: ignore[reportArgumentType]
    in_doubt = [*seeds[:1], *seeds[-1:]] if isinstance(seeds, range) else list(seeds)
    seeds = list(seeds)
    for seed in in_doubt:
        checks.whole("seeds", seed, least=0, most=2**32 - 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: got {seeds!r:.200}; allowed: at least one, each once")
    return [int(seed) for seed in seeds]


def parse_seeds(entries: str | int | Sequence[str | int]) -> list[int]:
    """Whole numbers and ranges 'a:b' (a ... b - 1), one or a list of them, as a list of seeds."""
    listed = [entries] if isinstance(entries, str | int) else entries
    if not isinstance(listed, Sequence):
        raise ValueError(f"seeds: got {entries!r:.200}; allowed: whole numbers, and ranges such as 0:64")
    parsed: list[range] = []
    for entry in listed:
        try:
            if isinstance(entry, bool | float) or len(str(entry)) > 40:
                raise ValueError
            ends = [int(end) for end in str(entry).split(":")]
        except ValueError:
            ends = []
        if len(ends) not in (1, 2):
            raise ValueError(f"seeds: got {entry!r:.200}; allowed: whole numbers, and ranges such as 0:64")
        parsed.append(range(*ends) if len(ends) == 2 else range(ends[0], ends[0] + 1))
    # Not len of a range: it is refused above 2^63.
    check_num_seeds(sum(max(0, span.stop - span.start) for span in parsed))
    return check_seeds(parsed[0] if len(parsed) == 1 else list(itertools.chain.from_iterable(parsed)))


# ---- groups

MOST_RUNS = 512
"""Runs of a group, unless memory asks for fewer: enough to fill a device, few enough that a group is measured, and its
state written, in seconds. What a cluster restarts is one group."""


def plan(
    runs: Iterable[tuple[Setting, int]],
    size_of: Callable[[Target], Hashable] = lambda _: None,
    most: Mapping[Config, int] | None = None,
    parts: int = 1,
) -> list[Group]:
    """Runs in groups that share their programs, kinds in the order of first appearance.

    A kind of more than `most` runs, or of which at least `parts` groups are wanted, is cut into groups of equal size
    (but for the last).

    Args:
      runs: (setting, seed) of each.
      size_of: what a target fixes of the measuring program. It is part of what is shared, for were the largest of a
        group taken, a run's numbers would depend on its company.
      most: runs of a group, for each `Config`; `MOST_RUNS` if left out.
      parts: groups that a kind is cut into at least, where it has so many runs.
    """
    kinds: dict[Any, list[tuple[Setting, int]]] = {}
    sizes: dict[int, Hashable] = {}
    of_setting: dict[int, list[tuple[Setting, int]]] = {}  # hashing a Config takes longer than all else here
    for run in runs:
        setting = run[0]
        if id(setting) not in of_setting:
            own = id(setting.target)
            if own not in sizes:
                leaves, structure = jax.tree.flatten(setting.target)
                shapes = tuple(np.shape(leaf) for leaf in leaves)
                sizes[own] = structure, shapes, size_of(setting.target)
            of_setting[id(setting)] = kinds.setdefault((setting.config, sizes[own]), [])
        of_setting[id(setting)].append(run)
    groups = []
    for (config, _), of_kind in kinds.items():
        limit = MOST_RUNS if most is None else most[config]
        number = max(math.ceil(len(of_kind) / limit), min(parts, len(of_kind)))
        size = math.ceil(len(of_kind) / number)
        groups += [Group(config, tuple(part), size) for part in _batched(of_kind, size)]
    return groups


def _batched(entries: Sequence[T], size: int) -> list[tuple[T, ...]]:
    return [tuple(entries[first : first + size]) for first in range(0, len(entries), size)]
