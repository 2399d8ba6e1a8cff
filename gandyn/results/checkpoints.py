"""States of a group on disk: written whole and in the background, checked when read, the one before kept.

A checkpoint holds all that training needs to go on (for R runs in order, whatever devices they trained on), and says
how many measurements were recorded before it was taken: those come first, so a checkpoint is never ahead of the
results. It is one file of NumPy's, `1200.npz`, named for its step.
"""

import contextlib
import json
import re
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gandyn.results.files import write_arrays

CHECKPOINT_SECONDS = 60.0
"""Between checkpoints of a group, at least, unless asked otherwise."""

KEPT = 2
"""Checkpoints of a group that are kept: were the newest one damaged, the one before it is used."""

_NAME = re.compile(r"([0-9]{1,18})\.npz")
_ABOUT = "about"
_MOST_ABOUT_BYTES = 2**16


class Checkpoint(NamedTuple):
    """Attributes:
    step: steps made.
    recorded: measurements recorded before.
    tree: name -> NumPy array over R runs, as they were given to `save`.
    """

    step: int
    recorded: int
    tree: Mapping[str, np.ndarray]


class Checkpoints:
    """The checkpoints of one group.

    Args:
      folder: of their own; made at the first `save`.
      identity: text that says what trains; a checkpoint that says otherwise is not gone on from.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder.absolute()
        self._identity = identity
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._recorded: dict[int, int] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to write a checkpoint; returns while that goes on. The arrays must not change any more.

        Raises:
          OSError: it, or the checkpoint before, could not be written.
          ValueError: there is a link where checkpoints are kept.
        """
        self.wait()
        if self._recorded.get(checkpoint.step) == checkpoint.recorded:
            return
        self._refuse_links()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(self._write, checkpoint)

    def wait(self) -> None:
        """Returns once everything is on disk. Raises what went wrong while it was written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, checkpoint: Checkpoint) -> None:
        about = {"step": checkpoint.step, "recorded": checkpoint.recorded, "identity": self._identity}
        about |= {"state": _checksum(checkpoint.tree)}
        text = json.dumps(about | {"about": _checksum_of_about(about)}).encode()
        self._folder.mkdir(parents=True, exist_ok=True)
        for entry in self._folder.glob("*.partial"):  # what killed processes have left half written
            entry.unlink()
        tree = {name: np.asarray(leaf, order="C") for name, leaf in checkpoint.tree.items()}
        write_arrays(self._file(checkpoint.step), {_ABOUT: np.frombuffer(text, np.uint8), **tree})
        self._recorded[checkpoint.step] = checkpoint.recorded
        self._remove(self.steps()[:-KEPT])

    def keep_last(self) -> None:
        """Removes all checkpoints but the newest one."""
        self.wait()
        self._remove(self.steps()[:-1])

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, increasing; damaged ones included."""
        self._refuse_links()
        names = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
        return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)

    def latest(
        self, like: Mapping[str, np.ndarray], most_recorded: int, at_most: int | None = None
    ) -> Checkpoint | None:
        """The newest checkpoint that can be used; None where there is none. Says what is wrong with newer ones.

        Args:
          like: a tree with the shapes and types of what was saved.
          most_recorded: measurements that are known to be in the results: a checkpoint that counts on more is not used.
          at_most: no later step.

        Raises:
          ValueError: the folder has links in it.
        """
        for step in reversed(self.steps()):
            if at_most is not None and step > at_most:
                continue
            try:
                return self._read(step, like, most_recorded)
            except (PermissionError, MemoryError):
                raise  # nothing is known of a damage then
            except Exception as error:  # noqa: BLE001 (zipfile and NumPy raise a dozen types for damage)
                kind = "" if isinstance(error, _Unusable) else f"{type(error).__name__}: "
                warnings.warn(
                    f"the checkpoint {self._file(step)} cannot be used ({kind}{_first_line(error)}): going on from the "
                    "one before, or from the start",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return None

    def forget(self, after: int = -1) -> None:
        """Removes every checkpoint of a later step: what is gone on from is then the newest one."""
        self.wait()
        self._remove([step for step in self.steps() if step > after])

    def damaged(self) -> bool:
        """Whether the newest one could not be gone on from; False where there is none."""
        step = max(self.steps(), default=None)
        if step is None:
            return False
        try:
            with zipfile.ZipFile(self._file(step)) as kept:
                self._about(kept, step)
                return kept.testzip() is not None
        except (PermissionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 (as above)
            return True

    def _about(self, kept: zipfile.ZipFile, step: int) -> dict[str, Any]:
        about = json.loads(_array(kept, _ABOUT, None).tobytes())
        if about.pop("about") != _checksum_of_about(about) or about["step"] != step:
            raise _Unusable("what it says of itself is damaged")
        if about["identity"] != self._identity:
            raise _Unusable("it is of another configuration, or of another run's folder")
        return about

    def _read(self, step: int, like: Mapping[str, np.ndarray], most_recorded: int) -> Checkpoint:
        with zipfile.ZipFile(self._file(step)) as kept:
            about = self._about(kept, step)
            if about["recorded"] > most_recorded:
                raise _Unusable(f"it counts on {about['recorded']} measurements, of which {most_recorded} are there")
            if set(kept.namelist()) != {f"{name}.npy" for name in (_ABOUT, *like)}:
                raise _Unusable("it holds other arrays than these runs have")
            tree = {name: _array(kept, name, leaf) for name, leaf in like.items()}
        if about["state"] != _checksum(tree):
            raise _Unusable("its checksum is wrong")
        self._recorded[step] = about["recorded"]
        return Checkpoint(step, about["recorded"], tree)

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.npz"

    def _remove(self, steps: Sequence[int]) -> None:
        for step in steps:
            self._recorded.pop(step, None)
            file = self._file(step)
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink()

    def _refuse_links(self) -> None:
        """A folder from elsewhere could have something outside of it removed."""
        entries = self._folder.iterdir() if self._folder.is_dir() else ()
        for path in (self._folder.parent, self._folder, *entries):
            if path.is_symlink():
                raise ValueError(f"{path} is a link: checkpoints are kept in the results folder itself")

    def close(self) -> None:
        """Waits, and gives up what was opened. Raises what went wrong while it was written."""
        thread, self._thread = self._thread, None
        try:
            self.wait()
        finally:
            if thread is not None:
                thread.shutdown()


@contextlib.contextmanager
def opened(folder: Path, identity: str) -> Iterator[Checkpoints]:
    """The checkpoints of a group, closed at the end."""
    checkpoints = Checkpoints(folder, identity)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


class _Unusable(ValueError):
    """A checkpoint that is not to be gone on from; one before it may be."""


def _array(kept: zipfile.ZipFile, name: str, like: np.ndarray | None) -> np.ndarray:
    """An array of a checkpoint; what it claims to be is held against `like` before memory is asked for."""
    entry = kept.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _Unusable(f"{name} is compressed")
    with kept.open(entry) as opened_:
        version = np.lib.format.read_magic(opened_)
        if version != (1, 0):
            raise _Unusable(f"{name} is of another format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(opened_)
        if like is None:
            fits = dtype == np.uint8 and len(shape) == 1 and shape[0] <= _MOST_ABOUT_BYTES
        else:
            fits = (shape, dtype) == (like.shape, like.dtype)
        if not fits or (fortran and len(shape) > 1):
            raise _Unusable(f"{name} is {dtype} {shape}, which it is not in these runs")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        content = opened_.read(size)
        if len(content) != size or opened_.read(1):  # the second one checks the sum of the whole
            raise _Unusable(f"{name} is cut short")
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _checksum_of_about(about: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _checksum(tree: Mapping[str, np.ndarray]) -> int:
    """Of all entries of all arrays, in the order of their names."""
    checksum = 0
    for name in sorted(tree):
        checksum = zlib.crc32(np.ascontiguousarray(tree[name]), checksum)  # pyright: ignore[reportArgumentType]
    return checksum
