"""Files that are replaced whole: JSON in one move, and what is forced through the operating system's cache."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Larger than the manifest of any sweep that can be planned: 10^5 settings, 10^5 groups.
MOST_JSON_BYTES = 2**26


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Replaces a file in one move: a reader finds the old one or the new one, whole."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _replace(file, lambda opened: opened.write(text.encode()))


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The same of arrays, as NumPy's npz."""
    _replace(file, lambda opened: np.savez(opened, **arrays))  # pyright: ignore[reportArgumentType]


def _replace(file: Path, write: Callable[[BinaryIO], Any]) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)  # of a killed process; or a link, by which another file would be written to
    try:
        with partial.open("xb") as opened:
            write(opened)
        sync_file(partial)
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def read_json(file: Path) -> Any:
    """What a file holds. Raises ValueError for what is no JSON, too deep or too large, OSError where there is none."""
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    if file.stat().st_size > MOST_JSON_BYTES:
        raise ValueError(f"{file.stat().st_size} bytes, expected at most {MOST_JSON_BYTES}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from error


def sync_file(file: Path) -> None:
    """Forces a file through the operating system's cache."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
