"""Files that are replaced whole, and can be told from damaged ones; and the names of folders."""

import contextlib
import errno
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Larger than the manifest of any sweep that can be planned: 10^5 settings, 10^5 groups.
MOST_JSON_BYTES = 2**26

# What is made below a results folder is at most so long, in bytes.
_LONGEST_INSIDE = 200
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class Damaged(ValueError):
    """A file is not what was written: gone, changed, or of another run."""


class Lost(OSError):
    """A file that is read late is not what it was when its folder was opened.

    No ValueError: who draws what there is would take it for a figure that these results have nothing for.
    """


_MOST_NAMED = 5


def not_measured(problems: Sequence[str]) -> str:
    """What to warn of where files of measurements are damaged or gone, one text a file."""
    more = f"; and {len(problems) - _MOST_NAMED:,} files more" if len(problems) > _MOST_NAMED else ""
    hold = "they hold" if len(problems) > 1 else "it holds"
    return f"{'; '.join(problems[:_MOST_NAMED])}{more}: what {hold} counts as not measured"


def folder_of(path: str | os.PathLike[str], field: str = "out") -> Path:
    """A folder as a person names it, as a path that stays the same wherever the program works: `~` replaced, whole.

    Raises:
      ValueError: "", which would be the folder that one works in; an address; `~` of nobody; no name that can be.
    """
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(f"{field}: got {name!r}; allowed: the name of a folder")
    if _ADDRESS.match(name):
        raise ValueError(f"{field}: got {name!r}; allowed: a folder; that is an address")
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{field}: got {name!r}; allowed: a folder ({error})") from None


def check_length(folder: Path) -> None:
    """Raises ValueError for a name that the file system could not hold, or under which its files would not fit."""
    above = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    most_name, most = (_limit(above, of, default) for of, default in (("PC_NAME_MAX", 255), ("PC_PATH_MAX", 4096)))
    for part in folder.parts:
        size = len(os.fsencode(part))
        if size > most_name:
            raise ValueError(f"out: got a name of {size:,} bytes, {part[:40]!r}...; allowed: {most_name}")
    size = len(os.fsencode(folder)) + _LONGEST_INSIDE
    if size > most:
        raise ValueError(f"out: got a path that makes those of its files {size:,} bytes; allowed: {most:,}")


def _limit(folder: Path, of: str, default: int) -> int:
    try:
        return os.pathconf(folder, of)
    except (OSError, ValueError, AttributeError):  # not of this file system, or not of this platform
        return default


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Replaces a file in one move: a reader finds the old one or the new one, whole. It carries its checksum.

    Raises:
      OSError: it cannot be written.
    """
    text = json.dumps(signed(content), indent=2, allow_nan=False) + "\n"
    _replace(file, lambda opened: opened.write(text.encode()))


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content with its checksum as the entry `sum`."""
    plain = {name: value for name, value in content.items() if name != "sum"}
    return plain | {"sum": zlib.crc32(json.dumps(plain, sort_keys=True).encode())}


def check_signed(content: Any) -> dict[str, Any]:
    """What `write_json` was given. Raises Damaged where the checksum says that it is something else."""
    if not isinstance(content, dict) or content.get("sum") != signed(content)["sum"]:
        raise Damaged("its checksum is wrong")
    return {name: value for name, value in content.items() if name != "sum"}


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], *, sync: bool = True) -> None:
    """The same of arrays, as NumPy's npz; `sync=False` leaves it to the system when that is on disk."""
    _replace(file, lambda opened: np.savez(opened, **arrays), sync)  # pyright: ignore[reportArgumentType]


def write_bytes(file: Path, content: bytes) -> None:
    """The same of bytes."""
    _replace(file, lambda opened: opened.write(content))


def _replace(file: Path, write: Callable[[BinaryIO], Any], sync: bool = True) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)  # of a killed process; or a link, by which another file would be written to
    try:
        with partial.open("xb") as opened:
            write(opened)
        if sync:
            sync_file(partial)
        make_way(file)
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_way(file: Path) -> None:
    """Removes an empty folder where a file is to be. Raises OSError for one with something in it."""
    if file.is_dir() and not file.is_symlink():
        file.rmdir()


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
