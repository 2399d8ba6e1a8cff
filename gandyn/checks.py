"""Checks of what people type. Each raises one ValueError: field, value, what is allowed, the nearest valid name."""

import difflib
import numbers
from collections.abc import Collection
from typing import Any

import numpy as np


def nearest(name: str, known: Collection[str]) -> str:
    """' (did you mean ...?)' for the known name nearest to `name`, or ''."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choice(field: str, value: Any, allowed: Collection[str]) -> None:
    """`value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{field}: got {value!r}; allowed: {', '.join(allowed)}{nearest(value, allowed)}")


def whole(field: str, value: Any, least: int = 1) -> None:
    """`value` is a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{field}: got {value!r}; allowed: a whole number of at least {least}")


def number(
    field: str, value: Any, low: float, high: float = np.inf, *, above: bool = False, below: bool = False
) -> None:
    """Each entry of `value` (number or array) is finite and in [low, high], less the ends if `above`, `below`."""
    try:
        entries = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{field}: got {value!r}; allowed: a number") from None
    inside = (entries > low if above else entries >= low) & (entries < high if below else entries <= high)
    if not np.all(inside & np.isfinite(entries)):
        ends = f"{'above' if above else 'at least'} {low:g}"
        if np.isfinite(high):
            ends += f", {'below' if below else 'at most'} {high:g}"
        raise ValueError(f"{field}: got {entries.tolist()}; allowed: {ends}, finite")
