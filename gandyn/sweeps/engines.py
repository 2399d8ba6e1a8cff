"""What trains the groups of a results folder: this process; `cluster` has engines of several processes."""

import contextlib
import errno
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from gandyn import environment
from gandyn.devices import prepare
from gandyn.results import checkpoints, locks, store
from gandyn.results.writer import Writer
from gandyn.sweeps import compilation, interrupts, records, training
from gandyn.sweeps.folders import schedule_of
from gandyn.sweeps.progress import shown as show_progress
from gandyn.sweeps.sweep import Group, Sweep


class Failure(RuntimeError):
    """A group of runs failed; its cause says why."""


class Engine:
    """Trains groups of a results folder one after the other, in this process, on all its devices.

    Attributes:
      parts: groups that runs of one kind are to be cut into, at least.
      leads: whether this process makes the folder, and says how it all ended.
    """

    parts: int = 1
    leads: bool = True

    def holds(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Holds the folder against other writers, where this process leads."""
        return locks.writer(folder, records.command()) if self.leads else contextlib.nullcontext()

    def ready(self) -> None:
        """Returns once the process that leads has made the folder what it is to be."""

    def execute(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], progress: bool, checkpoint_every: float
    ) -> None:
        """Trains groups (by their position in the results), and notes in the manifest how that ended.

        Raises:
          KeyboardInterrupt, OSError, ExceptionGroup: as `run`.
        """
        start = time.monotonic()
        spent = writer.manifest["wall_time_s"] or 0.0

        def note(status: str) -> None:
            if self.leads:
                writer.finish(status, spent + time.monotonic() - start)

        note("running")
        try:
            failures = self.train(writer, sweep_, groups, progress and self.leads, checkpoint_every)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk: what is raised says so, and better
                note("interrupted")
            raise
        failed = failures or any(writer.progress(index).status == "failed" for index in groups)
        note("failed" if failed else "complete")
        if failures:
            raise ExceptionGroup(
                f"{len(failures)} of {len(groups)} groups of runs failed, the others are recorded", failures
            )

    def train(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
    ) -> list[Exception]:
        """What of `execute` differs between engines: trains groups, and returns what failed."""
        return train_groups(writer, sweep_, groups, shown, checkpoint_every)


@environment.ours()
def train_groups(
    writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
) -> list[Exception]:
    """Trains groups one after the other; a failure of one does not stop the rest, and is returned.

    Raises:
      KeyboardInterrupt: asked to stop; a checkpoint is on disk.
      OSError: the folder cannot be written to.
    """
    prepare()
    compilation.use_cache()
    failures: list[Exception] = []
    schedules = {index: schedule_of(writer, index, sweep_) for index in groups}
    total = sum(len(group.runs) * schedules[index].steps[-1] for index, group in groups.items())
    with interrupts.Stop() as stop, show_progress(total, shown) as report:
        for index, group in groups.items():
            stop.check()
            compilation.make_room()
            try:
                start = store.read_start(writer, index)
                with checkpoints_of(writer, index, group) as kept:
                    training.train(writer, index, group, schedules[index], report, stop, kept, checkpoint_every, start)
            except Exception as error:
                if _is_about_disk(error):
                    raise OSError(
                        getattr(error, "errno", None) or errno.ENOSPC,
                        f"results cannot be written to {writer.folder} ({error}): what was recorded before is kept, "
                        "and gandyn resume goes on from there",
                    ) from error
                failure = Failure(f"group {index} ({group.label}): {type(error).__name__}: {error}")
                failure.__cause__ = error
                failures.append(failure)
                writer.note(index, writer.progress(index)._replace(status="failed", error=str(failure)))
                warnings.warn(f"{failure}; going on with the others", RuntimeWarning, stacklevel=2)
    return failures


@contextlib.contextmanager
def checkpoints_of(writer: Writer, index: int, group: Group) -> Iterator[checkpoints.Checkpoints | None]:
    """The checkpoints of a group; None of results in memory."""
    if writer.folder is None:
        yield None
        return
    identity = f"{training.identity(group)} of {writer.manifest['id']}"
    with checkpoints.opened(checkpoint_folder(writer, index), identity) as kept:
        yield kept


def checkpoint_folder(writer: Writer, index: int) -> Path:
    """Where the checkpoints of a group are."""
    assert writer.folder is not None
    return writer.folder / store.CHECKPOINTS / f"group-{writer.unit(index):03d}"


def _is_about_disk(error: Exception) -> bool:
    """Whether the folder cannot be written to, so that no other group can go on either."""
    causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
    return any(
        isinstance(cause, OSError) or "No space left on device" in str(cause) or "Disk quota" in str(cause)
        for cause in causes
    )
