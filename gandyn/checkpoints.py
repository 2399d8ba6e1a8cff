"""States of a group on disk: written whole and in the background, checked when read, the one before kept.

A checkpoint holds all that training needs to go on (for R runs in order, whatever devices they trained on), and says
how many measurements were recorded before it was taken: those come first, so a checkpoint is never ahead of the
results.
"""

import contextlib
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

KEPT = 2
"""Checkpoints of a group that are kept: were the newest one damaged, the one before it is used."""


class Checkpoint(NamedTuple):
    """Attributes:
    step: steps made.
    recorded: measurements recorded before.
    tree: NumPy arrays over R runs, as they were given to `save`.
    """

    step: int
    recorded: int
    tree: Any


class Checkpoints:
    """The checkpoints of one group.

    Args:
      folder: of their own; made at the first `save`.
      identity: text that says what trains; a checkpoint that says otherwise is refused.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        self._manager: Any = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to write a checkpoint; returns while that goes on. The arrays must not change any more.

        Raises:
          OSError, ValueError: the checkpoint before could not be written.
        """
        import orbax.checkpoint as ocp  # takes a second to import

        manager = self._opened()
        if checkpoint.step in manager.all_steps():
            return  # the same state: what was recorded since will be recorded again
        about = {"recorded": checkpoint.recorded, "identity": self._identity, "checksum": _checksum(checkpoint.tree)}
        state = ocp.args.StandardSave(checkpoint.tree)  # pyright: ignore[reportCallIssue]
        arguments = ocp.args.Composite(state=state, about=ocp.args.JsonSave(about))  # pyright: ignore[reportCallIssue]
        manager.save(checkpoint.step, args=arguments)

    def wait(self) -> None:
        """Returns once everything is on disk. Raises what went wrong while it was written."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def keep_last(self) -> None:
        """Removes all checkpoints but the newest one."""
        self.wait()
        for step in self.steps()[:-1]:
            self._opened().delete(step)

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, increasing; damaged ones included."""
        return sorted(self._opened().all_steps()) if self._folder.is_dir() else []

    def latest(self, like: Any, most_recorded: int, at_most: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that can be used; None where there is none. Says what is wrong with newer ones.

        Args:
          like: a tree with the shapes and types of what was saved.
          most_recorded: measurements that are known to be in the results: a checkpoint that counts on more is not used.
          at_most: no later step.

        Raises:
          ValueError: a checkpoint is of another configuration.
        """
        for step in reversed(self.steps()):
            if at_most is not None and step > at_most:
                continue
            try:
                tree, about = self._restore(step, like)
                damage = "" if about["checksum"] == _checksum(tree) else "its checksum is wrong"
            except Exception as error:  # orbax and tensorstore raise a dozen types for a damaged checkpoint
                damage, tree, about = f"{type(error).__name__}: {error}".splitlines()[0][:200], None, {}
            if not damage and about.get("identity") != self._identity:
                raise ValueError(
                    f"{self._folder / str(step)} is the checkpoint of another configuration: remove it, or choose "
                    "another folder"
                )
            if not damage and about["recorded"] > most_recorded:
                damage = f"it counts on {about['recorded']} measurements, of which {most_recorded} are there"
            if not damage:
                return Checkpoint(step, about["recorded"], tree)
            warnings.warn(
                f"the checkpoint {self._folder / str(step)} cannot be used ({damage}): going on from the one before",
                RuntimeWarning,
                stacklevel=2,
            )
        return None

    def forget(self) -> None:
        """Removes every checkpoint."""
        for step in self.steps():
            self._opened().delete(step)

    def _restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        import orbax.checkpoint as ocp

        state = ocp.args.StandardRestore(like)  # pyright: ignore[reportCallIssue]
        restored = self._opened().restore(
            step,
            args=ocp.args.Composite(state=state, about=ocp.args.JsonRestore()),  # pyright: ignore[reportCallIssue]
        )
        return restored.state, restored.about

    def _opened(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp

            # Every process writes the checkpoints of its own groups: none waits for another.
            me = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{self._folder.name}-{me}"
            )
            self._folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=KEPT, create=False, multiprocessing_options=alone, cleanup_tmp_directories=True
            )
            self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options)
        return self._manager

    def close(self) -> None:
        """Waits, and gives up what was opened."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None


@contextlib.contextmanager
def opened(folder: Path, identity: str) -> Iterator[Checkpoints]:
    """The checkpoints of a group, closed at the end."""
    checkpoints = Checkpoints(folder, identity)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def _checksum(tree: Any) -> int:
    """Of all entries of all arrays, in order."""
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        checksum = zlib.crc32(np.ascontiguousarray(leaf), checksum)
    return checksum
