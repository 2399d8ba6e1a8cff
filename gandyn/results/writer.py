"""Measurements as they are recorded, one group and step at a time: `Writer`.

Letters in shapes: R runs, S steps, M metrics.
"""

import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gandyn import checks
from gandyn.results import manifest as manifests
from gandyn.results.arrays import (
    StoredGroup,
    file_of,
    files_of,
    forget_files,
    name_of,
    read_file,
    steps_in,
    write_files,
)
from gandyn.results.files import Damaged, not_measured, sync_file
from gandyn.results.journal import checksum
from gandyn.results.manifest import Progress
from gandyn.results.reading import merge
from gandyn.results.spec import GroupSpec


class Writer:
    """Records the measurements of all groups. Made by `create` and `reopen`; one process writes a group at a time."""

    def __init__(self, folder: Path | None, manifest: dict[str, Any], groups: Mapping[int, StoredGroup]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.groups = dict(groups)
        self.starts: dict[int, Mapping[str, np.ndarray]] = {}  # of results in memory
        self._buffers = {index: _MetricBuffer(group) for index, group in groups.items()}
        self._not_synced: dict[int, set[tuple[str, tuple[int, ...]]]] = {}

    def write(
        self,
        group: int,
        step_index: int,
        metrics: Mapping[str, np.ndarray],
        fields: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Records one measurement of one group; it is on disk when this returns. Writing it again replaces it.

        Args:
            group: position of the group in `create`'s specs.
            step_index: position of the step in the group's `steps`.
            metrics: every metric of the group, each (R,).
            fields: of those that the group keeps, the ones taken at this step, each (R, ...).

        Raises:
            ValueError: a name, a shape or a position is not the group's. Nothing is written then.
        """
        if group not in self.groups:
            raise ValueError(f"group is {group}: expected one of 0 to {len(self.manifest['groups']) - 1}")
        target = self.groups[group]
        last = len(target.spec.steps) - 1
        if not 0 <= step_index <= last:
            raise ValueError(f"step_index is {step_index}: group {group} has 0 to {last}")
        values = _stack_metrics(target.spec, metrics)
        checked = {name: _field(target, name, field) for name, field in (fields or {}).items()}
        content = {}
        for name, field in checked.items():
            rows = target.arrays[name].chunks[0]
            for place in files_of(target.arrays[name], step_index):
                content[name, place] = field[place[0] * rows : (place[0] + 1) * rows, None]
        # Metrics last: where a step has its metrics, its fields are whole.
        place, block = self._buffers[group].with_step(step_index, values)
        content["metrics", place] = block
        write_files(target, content)
        self._not_synced.setdefault(group, set()).update(content)

    def sync(self) -> None:
        """Forces what was written through the operating system's cache."""
        if self.folder is not None:
            for group, places in self._not_synced.items():
                for place in places:
                    file = file_of(self.groups[group], *place)
                    if file.is_file():  # what is NaN throughout has none
                        sync_file(file)
                self._end(group)
        self._not_synced.clear()

    def _end(self, group: int) -> None:
        journal = self.groups[group].journal
        if journal is not None:
            journal.end()

    def recorded(self, group: int) -> np.ndarray:
        """Which of a group's steps have been recorded whole, (S,) bool.

        A file that is damaged or gone is named in a RuntimeWarning, and its steps count as not recorded: once they are
        written again, it is whole.
        """
        return self._examine(group)[0]

    def mend(self, group: int) -> np.ndarray:
        """`recorded`, and removes what is damaged; for who holds the folder and is to measure that again.

        Raises:
            OSError: a file cannot be read, written or removed.
        """
        recorded, sums, metrics = self._examine(group)
        if self.folder is None:
            return recorded
        target = self.groups[group]
        forget_files(target, sums)
        size = target.arrays["metrics"].chunks[2]
        for block, values in metrics.items():
            own = recorded[block * size : block * size + values.shape[2]]
            gone = ~own & ~np.isnan(values).all(axis=(0, 1))
            if gone.any():  # its fields are lost: what says that it was measured goes, too
                values[:, :, gone] = np.nan
                write_files(target, {("metrics", (0, 0, block)): values})
        self._end(group)
        self._buffers[group] = _MetricBuffer(target)
        return recorded

    def _examine(self, group: int) -> tuple[np.ndarray, dict[str, int], dict[int, np.ndarray]]:
        """Which steps are recorded whole; name -> checksum of every whole file; and the metrics by their files."""
        target = self.groups[group]
        sums: dict[str, int] = {}
        metrics: dict[int, np.ndarray] = {}
        problems: list[str] = []

        def read(name: str, place: tuple[int, ...]) -> tuple[np.ndarray | None, bool]:
            """What a file holds, and whether that is what was written to it."""
            try:
                values = read_file(target, name, place)
            except Damaged as error:
                problems.append(str(error))
                return None, False
            if values is not None:
                sums[name_of(name, place)] = checksum(values)
            return values, True

        recorded = []
        for block in range(target.arrays["metrics"].cdata_shape[2]):
            values, _ = read("metrics", (0, 0, block))
            if values is None:
                recorded.append(np.zeros(steps_in(target.arrays["metrics"], block), bool))
            else:
                metrics[block] = values
                recorded.append((~np.isnan(values)).any(axis=0).all(axis=0))
        recorded = np.concatenate(recorded)
        for name in target.spec.fields:
            for step in np.flatnonzero(recorded).tolist():
                whole = [read(name, place)[1] for place in files_of(target.arrays[name], step)]
                recorded[step] = all(whole)
        if problems:
            warnings.warn(not_measured(problems), RuntimeWarning, stacklevel=3)
        return recorded, sums, metrics

    def unit(self, group: int) -> int:
        """The number under which checkpoints and progress of a group are kept."""
        return self.manifest["groups"][group]["unit"]

    def note(self, group: int, progress: Progress) -> None:
        """Notes how far a group is."""
        if self.folder is not None:
            manifests.note_progress(self.folder, self.manifest, self.manifest["groups"][group], progress)

    def progress(self, group: int) -> Progress:
        """How far a group is; one that nothing is known of is waiting."""
        journal = self.groups[group].journal
        begun = journal is not None and bool(journal.sums or journal.pending)
        return manifests.read_progress(self.folder, self.manifest, self.manifest["groups"][group], begun)

    def finish(self, status: str, wall_time_s: float) -> None:
        """Notes in the manifest how the runs ended, 'complete', 'interrupted' or 'failed', and how long they took."""
        if status not in manifests.STATUSES:
            raise ValueError(f"status is {status!r}: expected {', '.join(map(repr, manifests.STATUSES))}")
        self.sync()
        self.manifest |= {"status": status, "wall_time_s": float(wall_time_s)}
        if self.folder is not None:
            manifests.write(self.folder, self.manifest)

    def dataset(self) -> xr.Dataset:
        """What was recorded so far, as `open_recorded` gives it; the way to read results kept in memory."""
        return merge(self.manifest, list(self.groups.values()))


class _MetricBuffer:
    """Keeps the chunk of metrics being filled, so that every write replaces one whole file and reads none."""

    def __init__(self, group: StoredGroup) -> None:
        self._group = group
        self._current: tuple[int, np.ndarray] | None = None

    def with_step(self, step_index: int, values: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
        """The place of the file of one step, and what it is to hold once values (M, R) are put there."""
        array = self._group.arrays["metrics"]
        block, offset = divmod(step_index, array.chunks[2])
        if self._current is None or self._current[0] != block:
            # Chunk and position change in one assignment: Ctrl-C between two would file a chunk under another's place.
            kept = None
            with contextlib.suppress(Damaged):  # all of it is to be written again
                kept = read_file(self._group, "metrics", (0, 0, block))
            if kept is None:
                kept = np.full((*array.shape[:2], steps_in(array, block)), np.nan, np.float32)
            self._current = block, kept
        buffer = self._current[1]
        buffer[:, :, offset] = values
        return (0, 0, block), buffer


def _stack_metrics(spec: GroupSpec, metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Metrics of one step in the order of the spec, (M, R). Raises ValueError for a wrong name or shape."""
    for name in metrics:
        checks.choice("metrics", name, spec.metrics)
    missing = [name for name in spec.metrics if name not in metrics]
    if missing:
        raise ValueError(f"metrics lacks {', '.join(missing)}")
    for name, values in metrics.items():
        if np.shape(values) != (spec.size,):
            raise ValueError(f"the metric {name!r} has shape {np.shape(values)}: expected {(spec.size,)}")
    return np.stack([_float32(metrics[name]) for name in spec.metrics])


def _field(group: StoredGroup, name: str, values: np.ndarray) -> np.ndarray:
    """A field of one step, as it is stored. Raises ValueError for a wrong name or shape."""
    if name not in group.spec.fields:
        raise ValueError(f"{name} given, but the group keeps none")
    runs, _, *rest = group.arrays[name].shape
    if np.shape(values) != (runs, *rest):
        raise ValueError(f"{name} has shape {np.shape(values)}: expected {(runs, *rest)}")
    return _float32(values)


def _float32(values: Any) -> np.ndarray:
    # A diverging run may exceed float32: infinity is the right record of it, not a warning.
    with np.errstate(over="ignore"):
        # A copy: in memory, zarr may keep the very array it is given, and the caller's may be a donated buffer.
        return np.array(values, np.float32)
