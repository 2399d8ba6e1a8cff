"""Measurements as they are recorded, one group and step at a time: `Writer`.

Letters in shapes: R runs, S steps, M metrics.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from gandyn import checks
from gandyn.results import manifest as manifests
from gandyn.results.arrays import StoredGroup, read_chunk, steps_in
from gandyn.results.files import sync_file
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
        self._buffers = {index: _MetricBuffer(group.arrays["metrics"]) for index, group in groups.items()}
        self._not_synced: set[tuple[int, int]] = set()

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
        # Metrics last: where a step has its metrics, its fields are whole.
        for name, field in checked.items():
            target.arrays[name][:, step_index] = field
        self._buffers[group].write(step_index, values)
        self._not_synced.add((group, step_index))

    def sync(self) -> None:
        """Forces what was written through the operating system's cache."""
        if self.folder is not None:
            for folder, pattern in {chunk for written in self._not_synced for chunk in self._chunks_of(*written)}:
                for file in folder.glob(pattern):
                    sync_file(file)
        self._not_synced.clear()

    def _chunks_of(self, group: int, step_index: int) -> Iterable[tuple[Path, str]]:
        """Where the files of a measurement are, as a folder and a pattern in it."""
        assert self.folder is not None
        root, spec = self.folder / self.manifest["groups"][group]["name"], self.groups[group].spec
        yield root / "metrics" / "c" / "0" / "0", str(step_index // self.groups[group].arrays["metrics"].chunks[2])
        for name, field in spec.fields.items():
            yield root / name / "c", "/".join(["*", str(step_index), *("0" for _ in field.shape)])

    def recorded(self, group: int) -> np.ndarray:
        """Which of a group's steps have been recorded whole, (S,) bool.

        A file that is damaged is named in a RuntimeWarning, and its steps count as not recorded: once they are written
        again, it is whole.
        """
        arrays, recorded = self.groups[group].arrays, []
        for block in range(arrays["metrics"].cdata_shape[2]):
            metrics = self._chunk(group, "metrics", 0, 0, block)
            damaged = np.zeros(steps_in(arrays["metrics"], block), bool)
            recorded.append(damaged if metrics is None else (~np.isnan(metrics)).any(axis=0).all(axis=0))
        recorded = np.concatenate(recorded)
        for name in self.groups[group].spec.fields:
            rows, _, *rest = arrays[name].cdata_shape
            for step in np.flatnonzero(recorded).tolist():
                files = [self._chunk(group, name, row, step, *(0 for _ in rest)) for row in range(rows)]
                recorded[step] = all(file is not None for file in files)
        return recorded

    def _chunk(self, group: int, name: str, *index: int) -> np.ndarray | None:
        """The content of one file of an array; None, and a warning, where that is damaged."""
        values = read_chunk(self.groups[group].arrays[name], index)
        if values is None:
            file = "/".join([self.manifest["groups"][group]["name"], name, "c", *map(str, index)])
            where = file if self.folder is None else self.folder / file
            warnings.warn(f"{where} is damaged: what it holds counts as not measured", RuntimeWarning, stacklevel=3)
        return values

    def unit(self, group: int) -> int:
        """The number under which checkpoints and progress of a group are kept."""
        return self.manifest["groups"][group]["unit"]

    def note(self, group: int, progress: Progress) -> None:
        """Notes how far a group is."""
        if self.folder is not None:
            manifests.note_progress(self.folder, self.manifest["groups"][group], progress)

    def progress(self, group: int) -> Progress:
        """How far a group is; one that nothing is known of is waiting."""
        return manifests.read_progress(self.folder, self.manifest["groups"][group])

    def finish(self, status: str, wall_time_s: float) -> None:
        """Notes in the manifest how the runs ended, 'complete', 'interrupted' or 'failed', and how long they took."""
        if status not in manifests.STATUSES:
            raise ValueError(f"status is {status!r}: expected {', '.join(map(repr, manifests.STATUSES))}")
        self.manifest |= {"status": status, "wall_time_s": float(wall_time_s)}
        if self.folder is not None:
            manifests.write(self.folder, self.manifest)

    def dataset(self) -> xr.Dataset:
        """What was recorded so far, as `open_recorded` gives it; the way to read results kept in memory."""
        return merge(self.manifest, list(self.groups.values()))


class _MetricBuffer:
    """Keeps the chunk of metrics being filled, so that every write replaces one whole file and reads none."""

    def __init__(self, array: zarr.Array) -> None:
        self._array = array
        self._current: tuple[int, np.ndarray] | None = None

    def write(self, step_index: int, values: np.ndarray) -> None:
        """Writes values (M, R) at one step."""
        block, offset = divmod(step_index, self._array.chunks[2])
        if self._current is None or self._current[0] != block:
            # Chunk and position change in one assignment: Ctrl-C between two would file a chunk under another's place.
            kept = read_chunk(self._array, (0, 0, block))
            if kept is None:  # damaged: all of it is to be written again
                kept = np.full((*self._array.shape[:2], steps_in(self._array, block)), np.nan, np.float32)
            self._current = block, kept
        buffer = self._current[1]
        buffer[:, :, offset] = values
        self._array.blocks[0, 0, block] = buffer


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
