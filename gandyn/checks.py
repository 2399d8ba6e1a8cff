"""Checks of what people type. Each raises one ValueError: field, value, what is allowed, the nearest valid name."""

import difflib
from collections.abc import Collection
from numbers import Integral
from typing import Any

import numpy as np


def nearest(name: str, known: Collection[str]) -> str:
    """' (did you mean ...?)' for the known name nearest to `name`, or ''."""
    close = difflib.get_close_matches(str(name)[:100], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choice(field: str, value: Any, allowed: Collection[str]) -> None:
    """`value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{field}: got {value!r:.200}; allowed: {', '.join(allowed)}{nearest(value, allowed)}")


def whole(field: str, value: Any, least: int = 1, most: int = 2**31 - 1) -> None:
    """`value` is a whole number from `least` to `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{field}: got {value!r:.200}; allowed: a whole number of at least {least}")
    if int(value) > most:
        raise ValueError(f"{field}: got {f'{value:,}':.200}; allowed: at most {most:,}")


def numbers(field: str, value: Any) -> np.ndarray:
    """`value`, a number or an array of them, in float64."""
    array = np.asarray(value if _rectangular(value) and not _holds_bool(value) else None)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{field}: got {value!r:.200}; allowed: numbers")
    return array.astype(np.float64)


def _rectangular(value: Any) -> bool:
    """Whether nested lists have one length at each depth, as an array needs."""
    if not isinstance(value, list | tuple):
        return True
    shapes = {np.shape(entry) if _rectangular(entry) else None for entry in value}
    return len(shapes) <= 1 and None not in shapes


def _holds_bool(value: Any) -> bool:
    """Whether an array would make a number of a truth value: [True, 0.5] is [1.0, 0.5] to NumPy."""
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


def shape(field: str, value: Any, allowed: Collection[int | None]) -> None:
    """`value` is an array of this shape, None being any size."""
    got = np.shape(value)
    if len(got) != len(allowed) or any(want is not None and size != want for size, want in zip(got, allowed)):
        wanted = ", ".join("N" if size is None else str(size) for size in allowed)
        raise ValueError(f"{field}: got shape {got}; allowed: ({wanted})")


_USUAL = 2.0**53  # whole numbers up to here are numbers to NumPy, too


def number(
    field: str, value: Any, low: float, high: float = np.inf, *, above: bool = False, below: bool = False
) -> None:
    """`value` is one finite number in [low, high], less the ends if `above`, `below`."""
    if type(value) in (float, int) and abs(value) < _USUAL and _inside(value, low, high, above, below):
        return  # by far the most frequent case, ten times as fast
    try:
        alone = numbers(field, value).ndim == 0
    except ValueError:
        alone = False
    if not alone:
        raise ValueError(f"{field}: got {value!r:.200}; allowed: a number")
    each(field, value, low, high, above=above, below=below)


def _inside(x: Any, low: float, high: float, above: bool, below: bool) -> Any:
    return (x > low if above else x >= low) & (x < high if below else x <= high)


def each(field: str, value: Any, low: float, high: float = np.inf, *, above: bool = False, below: bool = False) -> None:
    """`value` is a number or an array of them, every one as in `number`."""
    entries = numbers(field, value)
    if not np.all(_inside(entries, low, high, above, below) & np.isfinite(entries)):
        ends = f"{'above' if above else 'at least'} {low:.9g}"
        if np.isfinite(high):
            ends += f", {'below' if below else 'at most'} {high:.9g}"
        raise ValueError(f"{field}: got {entries.tolist()!r:.200}; allowed: {ends}, finite")
