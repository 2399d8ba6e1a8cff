"""Arrays as text that a page can hold: bytes in planes, deflated, base64.

A `Pack` gathers arrays into one chunk. An array's entry says where it lies and how to read it: `kind` is what is stored
(a NumPy type's name), `shape` its shape, `low` and `unit` turn whole numbers back: value = low + unit * stored.
"""

import base64
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEVEL = 9


def deflated(data: bytes) -> str:
    """Bytes, deflated without a header (as DecompressionStream's "deflate-raw" takes them), in base64."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode("ascii")


def inflated(text: str) -> bytes:
    """The inverse of `deflated`."""
    return zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS)


class Pack:
    """Arrays on their way into one chunk.

    Attributes:
      entries: name -> where and how it is stored.
    """

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._offset = 0

    def add(self, name: str, values: ArrayLike, kind: str = "float32", **how: Any) -> None:
        """Stores an array as `kind`. Nothing is rounded where it holds the values; `how` goes into the entry."""
        array = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
        planes = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T  # alike bytes side by side: smaller
        data = planes.tobytes()
        self.entries[name] = {"offset": self._offset, "kind": kind, "shape": list(array.shape), **how}
        self._parts.append(data)
        self._offset += len(data)

    def add_rounded(self, name: str, values: ArrayLike, bits: int, largest: float | None = None) -> None:
        """Stores an array in whole numbers from -largest to largest (its own largest), NaN as the least of all."""
        given = np.asarray(values, float)
        finite = np.isfinite(given)
        most = 2 ** (bits - 1) - 1
        reach = float(np.abs(given[finite]).max(initial=0)) if largest is None else largest
        unit = reach / most or 1.0
        whole = np.clip(np.rint(np.where(finite, given, 0) / unit), -most, most)
        self.add(name, np.where(finite, whole, -most - 1), f"int{bits}", low=0.0, unit=unit)

    def text(self) -> str:
        """The chunk."""
        return deflated(b"".join(self._parts))


def logarithmic(values: ArrayLike) -> tuple[NDArray[np.uint8], float, float]:
    """Numbers from 0 on as bytes: 0 for 0, else value = exp(low + unit * (byte - 1)). Returns (bytes, low, unit).

    A byte tells apart what differs by a factor of exp(unit), the range of the logarithms over 254.
    """
    given = np.asarray(values, float)
    above = given > 0
    if not above.any():
        return np.zeros(given.shape, np.uint8), 0.0, 0.0
    logs = np.log(given[above])
    low, unit = float(logs.min()), float(logs.max() - logs.min()) / 254
    stored = np.zeros(given.shape, np.uint8)
    stored[above] = 1 + np.rint((logs - low) / unit if unit > 0 else 0 * logs).astype(np.uint8)
    return stored, low, unit


def unpacked(entry: dict[str, Any], data: bytes) -> NDArray[Any]:
    """The array of an entry out of an inflated chunk, as the page reads it; NaN where whole numbers say so."""
    kind = np.dtype(entry["kind"]).newbyteorder("<")
    count = math.prod(entry["shape"])
    planes = np.frombuffer(data, np.uint8, count * kind.itemsize, entry["offset"]).reshape(kind.itemsize, -1)
    array = np.ascontiguousarray(planes.T).view(kind).reshape(entry["shape"])
    if "unit" not in entry:
        return array
    least = np.iinfo(kind).min
    return np.where(array == least, np.nan, entry["low"] + entry["unit"] * array.astype(float))
