"""States of a group on disk: written whole and in the background, checked when read, the one before kept.

A checkpoint holds all that training needs to go on (for R runs in order, whatever devices they trained on), and says
how many measurements were recorded before it was taken: those come first, so a checkpoint is never ahead of the
results.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CHECKPOINT_SECONDS = 60.0
"""Between checkpoints of a group, at least, unless asked otherwise."""

KEPT = 2
"""Checkpoints of a group that are kept: were the newest one damaged, the one before it is used."""


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
      identity: text that says what trains; a checkpoint that says otherwise is refused.
      process: which of several that write checkpoints at once this one is.
    """

    def __init__(self, folder: Path, identity: str, process: int = 0) -> None:
        self._folder = folder
        self._process = process
        self._identity = identity
        self._manager: Any = None
        self._cleaned = False
        self._recorded: dict[int, int] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to write a checkpoint; returns while that goes on. The arrays must not change any more.

        Raises:
          OSError, ValueError: the checkpoint before could not be written.
        """
        import orbax.checkpoint as ocp  # takes a second to import

        before = self._recorded.get(checkpoint.step)
        if before == checkpoint.recorded:
            return
        about = {"step": checkpoint.step, "recorded": checkpoint.recorded, "identity": self._identity}
        about |= {"state": _checksum(checkpoint.tree)}
        about |= {"about": _checksum_of_about(about)}
        state = ocp.args.StandardSave(checkpoint.tree)  # pyright: ignore[reportCallIssue]
        arguments = ocp.args.Composite(state=state, about=ocp.args.JsonSave(about))  # pyright: ignore[reportCallIssue]
        with self._errors_of_the_disk():
            manager = self._opened()
            self._clean()
            if before is not None:
                self.wait()  # it may be on its way
            if checkpoint.step in self.steps():
                # Of the same step, but it counts on fewer measurements. Meanwhile there is the one before.
                self._remove([checkpoint.step])
            if not manager.save(checkpoint.step, args=arguments):
                raise ValueError(f"{self._folder}: no checkpoint of step {checkpoint.step} was written")
        self._recorded[checkpoint.step] = checkpoint.recorded

    def wait(self) -> None:
        """Returns once everything is on disk. Raises what went wrong while it was written."""
        if self._manager is not None:
            with self._errors_of_the_disk():
                self._manager.wait_until_finished()

    def keep_last(self) -> None:
        """Removes all checkpoints but the newest one."""
        self.wait()
        self._remove(self.steps()[:-1])

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, increasing; damaged ones included."""
        self._refuse_links()
        # Not those that orbax lists: it passes over some that are damaged, and would write none in their place.
        names = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def latest(
        self, like: Mapping[str, np.ndarray], most_recorded: int, at_most: int | None = None
    ) -> Checkpoint | None:
        """The newest checkpoint that can be used; None where there is none. Says what is wrong with newer ones.

        Args:
          like: a tree with the shapes and types of what was saved.
          most_recorded: measurements that are known to be in the results: a checkpoint that counts on more is not used.
          at_most: no later step.

        Raises:
          ValueError: a checkpoint is of another configuration; the folder has links in it.
        """
        for step in reversed(self.steps()):
            if at_most is not None and step > at_most:
                continue
            try:
                return self._restore(step, like, most_recorded)
            except (_OfAnother, PermissionError, MemoryError):
                raise  # nothing is known of a damage then
            except Exception as error:  # noqa: BLE001 (orbax and tensorstore raise a dozen types for damage)
                kind = "" if isinstance(error, _Unusable) else f"{type(error).__name__}: "
                warnings.warn(
                    f"the checkpoint {self._folder / str(step)} cannot be used ({kind}{_first_line(error)}): going on "
                    "from the one before, or from the start",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return None

    def forget(self, after: int = -1) -> None:
        """Removes every checkpoint of a later step: while one is there, none of a step before it is written."""
        self._remove([step for step in self.steps() if step > after])

    def _restore(self, step: int, like: Any, most_recorded: int) -> Checkpoint:
        import orbax.checkpoint as ocp

        item = lambda **one: self._opened().restore(step, args=ocp.args.Composite(**one))  # noqa: E731
        about = item(about=ocp.args.JsonRestore()).about  # pyright: ignore[reportCallIssue]
        if about.pop("about") != _checksum_of_about(about) or about["step"] != step:
            raise _Unusable("what it says of itself is damaged")
        if about["identity"] != self._identity:
            raise _OfAnother(
                f"{self._folder / str(step)} is the checkpoint of another configuration: remove it, or choose another "
                "folder"
            )
        if about["recorded"] > most_recorded:
            raise _Unusable(f"it counts on {about['recorded']} measurements, of which {most_recorded} are there")
        tree = item(state=ocp.args.StandardRestore(like)).state  # pyright: ignore[reportCallIssue]
        if about["state"] != _checksum(tree):
            raise _Unusable("its checksum is wrong")
        self._recorded[step] = about["recorded"]
        return Checkpoint(step, about["recorded"], tree)

    def _remove(self, steps: Sequence[int]) -> None:
        for step in steps:
            shutil.rmtree(self._folder / str(step))
        if steps and self._manager is not None:
            self._manager.reload()

    def _refuse_links(self) -> None:
        """A folder from elsewhere could have something outside of it removed."""
        entries = self._folder.iterdir() if self._folder.is_dir() else ()
        for path in (self._folder.parent, self._folder, *entries):
            if path.is_symlink():
                raise ValueError(f"{path} is a link: checkpoints are kept in the results folder itself")

    def _clean(self) -> None:
        """Removes what killed processes have left half written: not while reading, for another may write."""
        if not self._cleaned:
            for entry in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(entry)
            self._cleaned = True

    @contextlib.contextmanager
    def _errors_of_the_disk(self) -> Iterator[None]:
        """Says by an OSError what orbax and tensorstore say in words."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO):
                if os.strerror(code) in str(error):
                    raise OSError(code, os.strerror(code), str(self._folder)) from error
            raise

    def _opened(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp

            # Every process writes the checkpoints of its own groups: none waits for another.
            me = self._process
            alone = ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{self._folder.name}-{me}"
            )
            self._folder.mkdir(parents=True, exist_ok=True)
            logging.getLogger("absl").addFilter(_not_of_orbax)
            options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=False, multiprocessing_options=alone)
            self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options)
        return self._manager

    def close(self) -> None:
        """Waits, and gives up what was opened."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            try:
                with self._errors_of_the_disk():
                    manager.close()
            finally:
                logging.getLogger("absl").removeFilter(_not_of_orbax)


@contextlib.contextmanager
def opened(folder: Path, identity: str, process: int = 0) -> Iterator[Checkpoints]:
    """The checkpoints of a group, closed at the end."""
    checkpoints = Checkpoints(folder, identity, process)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


class _Unusable(ValueError):
    """A checkpoint that is not to be gone on from; one before it may be."""


class _OfAnother(ValueError):
    """A checkpoint of another configuration."""


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Keeps a log free of tracebacks by orbax's threads: what went wrong is raised where it is waited for."""
    return "orbax" not in record.pathname


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
