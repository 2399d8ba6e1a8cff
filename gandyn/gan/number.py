"""The numbers that a person sweeps: what a part declares of each (`Number`), and those of one run (`HParams`).

A part of a GAN (a loss, a penalty, an update rule, an optimizer) declares its numbers by name. `HParams` holds what a
person gives; `complete` fills up what the chosen parts declare and refuses what none of them reads. Numbers are traced:
sweeping them recompiles nothing.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from gandyn import checks

# In float32, what they are computed in, 1e-60 is zero and 1e60 infinite.
_LEAST, _MOST = 1e-30, 1e38


@dataclasses.dataclass(frozen=True)
class Number:
    """What a part says of one of its numbers.

    Attributes:
      default: its value where none is given.
      low: least value.
      high: largest value.
      above: whether `low` itself is left out.
      below: whether `high` itself is left out.
      text: what it is, in one line.
    """

    default: float
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    text: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError where `value` is not one number in the range, or is not in float32."""
        checks.number(name, value, self.low, self.high, above=self.above, below=self.below)
        checks.number(name, value, *self._ends)

    @functools.cached_property
    def _ends(self) -> tuple[float, float]:
        """The least and the largest value in float32."""
        low, high = float(np.float32(self.low)), float(np.float32(self.high))
        if self.above:
            low = float(np.nextafter(np.float32(low), np.float32(np.inf))) if low else _LEAST
        if self.below:
            high = float(np.nextafter(np.float32(high), np.float32(-np.inf)))
        return max(low, -_MOST), min(high, _MOST)


@jax.tree_util.register_pytree_with_keys_class
class HParams:
    """Named numbers of one run, read as attributes: `HParams(lr_gen=1e-3, gamma=0.02).gamma`. A pytree of scalars.

    Which names are legal, and the defaults of those left out, follows from the parts of a `Config` (`complete`).
    """

    __slots__ = ("_numbers",)

    def __init__(self, **numbers: Any) -> None:
        object.__setattr__(self, "_numbers", numbers)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._numbers:
            raise AttributeError(f"{name}: no number of this name; there are {', '.join(self._numbers) or 'none'}")
        return self._numbers[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: HParams do not change; replace({name}=...) gives others")

    def __getstate__(self) -> dict[str, Any]:
        return self._numbers

    def __setstate__(self, numbers: dict[str, Any]) -> None:
        object.__setattr__(self, "_numbers", numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HParams) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(tuple(self._numbers.items()))

    def __repr__(self) -> str:
        return f"HParams({', '.join(f'{name}={value!r}' for name, value in self._numbers.items())})"

    def as_dict(self) -> dict[str, Any]:
        """Name -> value, a copy."""
        return dict(self._numbers)

    def replace(self, **numbers: Any) -> "HParams":
        """With other values, and new names behind the old."""
        return HParams(**{**self._numbers, **numbers})

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """As jax asks."""
        entries = [(jax.tree_util.GetAttrKey(name), value) for name, value in self._numbers.items()]
        return entries, tuple(self._numbers)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Iterable[Any]) -> "HParams":
        """As jax asks."""
        return cls(**dict(zip(names, values, strict=True)))


def defaults(numbers: Mapping[str, Number]) -> HParams:
    """The defaults of declared numbers."""
    return HParams(**{name: number.default for name, number in numbers.items()})


def gathered(parts: Iterable[tuple[str, Mapping[str, Number]]]) -> dict[str, Number]:
    """The numbers that parts, each with its name, declare together.

    Raises:
      ValueError: two parts mean different things by one name.
    """
    found: dict[str, Number] = {}
    owners: dict[str, str] = {}
    for part, numbers in parts:
        for name, number in numbers.items():
            if not isinstance(number, Number):
                raise ValueError(f"{part}: numbers: {name}: got {number!r:.200}; allowed: a gandyn.Number")
            if not name.isidentifier() or name.startswith("_"):
                raise ValueError(f"{part}: numbers: got {name!r}; allowed: a name such as 'gamma'")
            if found.setdefault(name, number) != number:
                raise ValueError(f"{name}: declared otherwise by {owners[name]} and by {part}; allowed: one meaning")
            owners.setdefault(name, part)
    return found


def filled(declared: Mapping[str, Number], given: HParams) -> HParams:
    """`given`, of declared names, with the defaults of what is left out, in declared order.

    Raises:
      ValueError: a value out of its range. Arrays and tracers are not looked into.
    """
    numbers = given.as_dict()
    for name, value in numbers.items():
        if not isinstance(value, jax.Array):
            declared[name].check(name, value)
    return HParams(**{name: numbers.get(name, number.default) for name, number in declared.items()})
