"""From settings and seeds to compile groups: what shares a program runs together."""

import dataclasses
import numbers
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gandyn import checks
from gandyn.gan import Config, HParams
from gandyn.targets import GaussianMixture

T = TypeVar("T")


class Setting(NamedTuple):
    """Everything about a run but its seed. `recipe` is the label it goes by in results, plots and tables."""

    recipe: str
    target: GaussianMixture
    config: Config
    hparams: HParams


class Group(NamedTuple):
    """Runs that share their programs: one `Config`, one number of modes, one size of what measures them.

    One (setting, seed) a run.
    """

    config: Config
    runs: tuple[tuple[Setting, int], ...]


def _as_list(field: str, given: T | Sequence[T], kind: type[T]) -> list[T]:
    entries = [given] if isinstance(given, kind) else given
    if not isinstance(entries, Sequence) or not entries or not all(isinstance(entry, kind) for entry in entries):
        raise ValueError(f"{field}: got {given!r}; allowed: a {kind.__name__} or a list of them")
    return list(entries)


def make_settings(
    target: GaussianMixture | Sequence[GaussianMixture],
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
        "target": _as_list("target", target, GaussianMixture),
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
        raise ValueError(f"recipes: got {labels}; allowed: {num} distinct labels")
    return [Setting(label, *row) for label, row in zip(labels, rows, strict=True)]


def _labels(rows: Sequence[tuple[GaussianMixture, Config, HParams]]) -> list[str]:
    """The loss and penalty of each row; where that is not enough, every other field that varies."""
    fields = [fields_of(*row) for row in rows]
    labels = [f["loss"] if f["penalty"] == "none" else f"{f['loss']} + {f['penalty']}" for f in fields]
    if len(set(labels)) < len(labels):
        varying = [name for name in fields[0] if len({field[name] for field in fields}) > 1]
        others = [name for name in varying if name not in ("loss", "penalty")]
        labels = [
            ", ".join([label, *(f"{name}={field[name]}" for name in others)])
            for label, field in zip(labels, fields, strict=True)
        ]
    counts, seen = Counter(labels), Counter()
    for i, label in enumerate(labels):
        if counts[label] > 1:  # equal fields, but targets that differ in their arrays
            seen[label] += 1
            labels[i] = f"{label} ({seen[label]})"
    return labels


def fields_of(target: GaussianMixture, config: Config, hparams: HParams) -> dict[str, Any]:
    """Every field of a setting as one number or one text: the coordinates of its runs in the results."""
    numbers_of_target = {"num_modes": target.num_modes, "target_std": float(np.min(target.stds))}
    return dataclasses.asdict(config) | dataclasses.asdict(hparams) | numbers_of_target


MAX_SEEDS = 10**6
"""More runs of one setting than any machine trains, and few enough to be counted one by one."""


def check_num_seeds(num: int) -> None:
    """Refused before they are listed."""
    if num > MAX_SEEDS:
        raise ValueError(f"seeds: got {num:,} of them; allowed: at most {MAX_SEEDS:,}")


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list: distinct whole numbers from 0 to 2^32 - 1."""
    if isinstance(seeds, numbers.Integral | str | bytes):
        raise ValueError(f"seeds: got {seeds!r}; allowed: a list of whole numbers, such as range(16)")
    check_num_seeds(len(seeds))
    seeds = list(seeds)
    for seed in seeds:
        checks.whole("seeds", seed, least=0)
        if seed >= 2**32:
            raise ValueError(f"seeds: got {seed}; allowed: below 2**32")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: got {seeds}; allowed: at least one, each once")
    return [int(seed) for seed in seeds]


def plan(
    settings: Sequence[Setting], seeds: Sequence[int], size_of: Callable[[GaussianMixture], Hashable] = lambda _: None
) -> list[Group]:
    """Every setting with every seed, in groups that share their programs, in the order of first appearance.

    `size_of` a target is what it fixes of the measuring program. It is part of what is shared, for were the largest of
    a group taken, a run's numbers would depend on its company.
    """
    groups: dict[Any, list[tuple[Setting, int]]] = {}
    for setting in settings:
        key = setting.config, setting.target.num_modes, size_of(setting.target)
        groups.setdefault(key, []).extend((setting, seed) for seed in seeds)
    return [Group(config, tuple(runs)) for (config, *_), runs in groups.items()]
