"""Results on disk: written while the runs train, opened in one line.

A results folder holds `manifest.json` (what was run, and the list of groups), one zarr v3 store a group of runs,
`group-000.zarr`, ..., and beside each how far it is, `group-000.json`. In each store:

    metrics(metric, run, step)                        float32, every metric of the group
    one float32 array a field, e.g. samples(run, step, sample, xy), where kept
    one float64 array a constant, e.g. target_means(run, mode, xy)
    attributes: the metrics with their attributes, the fields, the steps, the coordinates of the runs

A kill at any moment leaves a folder that opens with every measurement whose `Writer.write` had returned. That rests on
three habits: arrays are preallocated full of NaN and never grow (a group that is to be longer is copied); each file is
written whole, beside its place, and then renamed; the manifest lists the groups only once all of them exist. What a
checkpoint relies on is forced through the operating system's cache before it (`Writer.sync`); a power failure loses
what came after.

Letters in shapes: R runs, S steps, M metrics.
"""

import contextlib
import dataclasses
import datetime
import difflib
import errno
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import xarray as xr
import zarr
import zarr.abc.store
import zarr.codecs
import zarr.storage
from xarray.backends import BackendArray
from xarray.core import indexing

from gandyn.results import locks

__all__ = [
    "CHECKPOINTS", "FORMAT_VERSION", "Field", "GroupSpec", "Progress", "Writer", "check_output", "create", "extend",
    "open_results", "read_manifest", "reopen",
]  # fmt: skip

FORMAT_VERSION = 3

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a results folder."""

_MANIFEST = "manifest.json"
_GROUP_NAME = re.compile(r"group-[0-9]{3,9}\.zarr")
_PROGRESS_NAME = re.compile(r"group-[0-9]{3,9}\.json")
_STATUSES = ("running", "complete", "interrupted", "failed")
_TEXTS = ("title", "command", "configuration", "device", "precision", "commit", "coverage_convention")
_ALWAYS = ("seed", "recipe", "loss")
_METRIC_DIMS = ("metric", "run", "step")
_RESERVED = {"metrics", *_METRIC_DIMS}
# Groups may differ along these, and are filled up with NaN: targets in their modes, networks in their eigenvalues.
_RAGGED = ("mode", "eigenvalue")

# One file of metrics holds as many steps as fit in this size and is rewritten at each of them: few files, cheap writes.
_METRIC_CHUNK_BYTES = 2**20
# Fields take one file a step, or several where many runs make it larger than this.
_FIELD_CHUNK_BYTES = 2**22
# Larger than the manifest of any sweep that can be planned: 10^5 settings, 10^5 groups.
_MOST_JSON_BYTES = 2**26
# Far above what is written; what a folder from elsewhere claims is held against it before memory is asked for.
_MOST_FILE_BYTES = 2**30
_MOST_ARRAY_BYTES = 2**48


class Field(NamedTuple):
    """An array that each run has at each step, such as its samples.

    Attributes:
      dims: names of the axes after run and step.
      shape: their sizes.
      attrs: `long_name`, `units`, all text.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: Mapping[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupSpec:
    """What one compile group of R runs will record.

    Args:
        metrics: name -> attributes (`long_name`, `units`, `convention`), all text.
        steps: every step that will be measured, increasing, (S,).
        coords: name -> one number or one text a run, (R,). `seed`, `recipe`, `loss` and `penalty` are required.
        constants: name -> (dims, array, attributes); `dims` starts with 'run', the array with R. Kept in float64.
        fields: name -> `Field`; what is kept beside the metrics.
        axes: coordinate values of the fields' dims, where they have any: name -> numbers or texts, one an entry.

    Raises:
        ValueError: a field is malformed, or two things would have the same name in the dataset.
    """

    metrics: Mapping[str, Mapping[str, str]]
    steps: Sequence[int]
    coords: Mapping[str, Sequence[Any]]
    constants: Mapping[str, tuple[tuple[str, ...], np.ndarray, Mapping[str, str]]]
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in _ALWAYS if name not in self.coords]
        if missing:
            raise ValueError(f"coords lacks {', '.join(missing)}: every run has {', '.join(_ALWAYS)}")
        if not self.metrics:
            raise ValueError("metrics is empty: a group records at least one metric")
        if self.size == 0:
            raise ValueError("coords['seed'] is empty: a group has at least one run")
        _check_names(self)
        _check_steps(self.steps)
        for name, attrs in self.metrics.items():
            _check_attributes(f"metrics[{name!r}]", attrs)
        for name, values in self.coords.items():
            if len(_column(name, values)) != self.size:
                raise ValueError(f"coords[{name!r}] has {len(values)} values for {self.size} runs")
        _check_constants(self)
        _check_fields(self)

    @property
    def size(self) -> int:
        """R, the number of runs."""
        return len(self.coords["seed"])


def create(
    path: str | os.PathLike[str] | None,
    specs: Sequence[GroupSpec],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> "Writer":
    """Makes a results folder with every array in place and nothing measured yet.

    Args:
        path: the folder, made with its parents; None keeps everything in memory.
        specs: one entry a compile group.
        metadata: `title`, `command`, `configuration` (TOML text), `device`, `precision`, `commit`,
            `coverage_convention`, all text ("" where left out), and `versions` (package -> version).
        overwrite: replace the results in `path`. Other files in the folder stay.

    Raises:
        ValueError: before anything is written, where `check_output` refuses the path, the metadata has an unknown name
            or a wrong type, or the groups contradict each other.
    """
    if not specs:
        raise ValueError("specs is empty: results have at least one group")
    _check_agreement(specs)
    manifest = _new_manifest(metadata)
    entries = [_entry(index, spec, index) for index, spec in enumerate(specs)]
    if path is None:
        groups = [_create_group(spec, zarr.storage.MemoryStore()) for spec in specs]
        return Writer(None, manifest | {"groups": entries}, dict(enumerate(groups)))

    check_output(path, overwrite)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    # With no groups listed, a kill before the next manifest leaves a folder that is still known as ours.
    _write_manifest(folder, manifest)
    for entry in list(folder.iterdir()):
        if _GROUP_NAME.fullmatch(entry.name) or entry.name == CHECKPOINTS:
            shutil.rmtree(entry)
        elif _PROGRESS_NAME.fullmatch(entry.name):
            entry.unlink()
    groups = [_create_group(spec, zarr.storage.LocalStore(folder / e["name"])) for spec, e in zip(specs, entries)]
    manifest["groups"] = entries
    _write_manifest(folder, manifest)
    return Writer(folder, manifest, dict(enumerate(groups)))


def _entry(number: int, spec: GroupSpec, unit: int) -> dict[str, Any]:
    """What the manifest says of a group: `name` of its store, `size`, and `unit`, which stays when it is copied."""
    return {"name": f"group-{number:03d}.zarr", "size": spec.size, "unit": unit}


def reopen(path: str | os.PathLike[str], only: int | None = None) -> "Writer":
    """The writer of results that exist, to go on with them; of all groups, or of `only` one.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged or of another format version.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    _check_has_groups(folder, manifest)
    wanted = range(len(manifest["groups"])) if only is None else [only]
    entries = {index: manifest["groups"][index] for index in wanted}
    groups = {i: _open_group(folder / entry["name"], entry["size"], writable=True) for i, entry in entries.items()}
    return Writer(folder, manifest, groups)


def extend(
    path: str | os.PathLike[str],
    specs: Sequence[GroupSpec],
    longer: Mapping[int, GroupSpec],
    metadata: Mapping[str, Any],
) -> "Writer":
    """Adds groups to results that exist, and lengthens some of those that are there.

    A kill on the way leaves the results as they were, or all of it done: the manifest is replaced last.

    Args:
        path: the folder.
        specs: groups to add, behind those that are there.
        longer: position of a group -> the same with more steps; what was recorded is kept.
        metadata: entries of the manifest that change.

    Raises:
        ValueError: as `create` and `reopen`; a group to be lengthened is damaged, or would lose a step.
    """
    writer = reopen(path)
    folder = Path(path)
    manifest = writer.manifest | dict(metadata)
    _check_manifest(manifest)
    _check_agreement([*(longer.get(index, group.spec) for index, group in writer.groups.items()), *specs])
    listed = {entry["name"] for entry in manifest["groups"]}
    for entry in list(folder.iterdir()):  # what an extension that was killed has left
        if _GROUP_NAME.fullmatch(entry.name) and entry.name not in listed:
            shutil.rmtree(entry)
    number = 1 + max(int(name[6:-5]) for name in listed)
    entries, replaced = list(manifest["groups"]), []
    for index, spec in longer.items():
        old, entry = writer.groups[index], entries[index]
        lost = sorted(set(old.spec.steps) - set(spec.steps))
        if lost or set(old.arrays) != set(_shapes(spec)) or spec.size != old.spec.size:
            raise ValueError(f"{folder}: {entry['name']} cannot be lengthened to another group (steps lost: {lost})")
        entries[index] = _entry(number, spec, entry["unit"])
        number += 1
        new = _create_group(spec, zarr.storage.LocalStore(folder / entries[index]["name"]))
        try:
            _copy_group(old, new)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # zarr raises a dozen types for a truncated or foreign chunk
            raise ValueError(
                f"{folder / entry['name']} is damaged ({error}): gandyn resume measures it again"
            ) from error
        for file in (folder / entries[index]["name"]).rglob("*"):  # before what it is a copy of is removed
            if file.is_file():
                _sync(file)
        replaced.append(folder / entry["name"])
    unit = 1 + max(entry["unit"] for entry in entries)
    for spec in specs:
        entries.append(_entry(number, spec, unit))
        _create_group(spec, zarr.storage.LocalStore(folder / entries[-1]["name"]))
        number, unit = number + 1, unit + 1
    _write_manifest(folder, manifest | {"groups": entries, "status": "interrupted"})
    for name in replaced:
        shutil.rmtree(name)
    return reopen(folder)


def _copy_group(old: "_Group", new: "_Group") -> None:
    """Copies every step of a group to its place in a longer one."""
    positions = np.searchsorted(new.spec.steps, old.spec.steps)
    metrics = np.full(new.arrays["metrics"].shape, np.nan, np.float32)
    metrics[:, :, positions] = old.arrays["metrics"][...]
    new.arrays["metrics"][...] = metrics
    for name in old.spec.fields:
        for before, after in enumerate(positions):
            values = np.asarray(old.arrays[name][:, before])
            if not np.isnan(values).all():
                new.arrays[name][:, int(after)] = values


def check_output(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuses a folder that results must not or cannot be written to; writes nothing.

    A missing folder and an empty one are fine. A folder with files in it is only ever overwritten where its manifest
    reads as one of ours.

    Raises:
        ValueError: says why `path` cannot be used, and what to do instead.
    """
    folder = Path(path)
    if not os.path.lexists(folder):
        above = next(parent for parent in folder.absolute().parents if os.path.lexists(parent))
        if not above.is_dir():
            raise ValueError(f"cannot make the folder {folder}: {above} is not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(f"cannot make the folder {folder}: {above} is not writable")
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} exists and is not a folder: results need a folder of their own")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"{folder} is not writable")
    if all(entry.name == locks.NAME for entry in folder.iterdir()):
        return
    try:
        _read_manifest(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds files but no results of this version of gandyn, and is left alone: choose another name"
        ) from error
    if not overwrite:
        raise ValueError(
            f"{folder} already holds results: go on with them (gandyn resume), pass overwrite, or choose another name"
        )


def open_results(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens a results folder as one dataset over all its runs (docs/results.md), complete or not.

    Runs are numbered in the order of the groups. What a group did not record is NaN: steps, metrics, samples, further
    modes. A coordinate that a group lacks is NaN, or "" where it is text. Coordinates with one value over all runs
    (other than `seed`, `recipe`, `loss`, `penalty`) are in the attribute `constant_fields`, a JSON object. Metrics are
    read at once; `samples` and `surface` when they are indexed or computed with.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged or of another format version.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    groups = [_open_group(folder / entry["name"], entry["size"]) for entry in manifest["groups"]]
    _check_fits(folder, [group.spec for group in groups])
    try:
        _check_agreement([group.spec for group in groups])
        return _merge(manifest, groups)
    except Exception as error:  # zarr raises a dozen types for a truncated or foreign chunk
        raise ValueError(f"the results in {folder} are damaged: {error}") from error


def _check_fits(folder: Path, specs: Sequence[GroupSpec]) -> None:
    """Raises ValueError where the metrics, which are read at once, are more than the memory of this machine."""
    metrics = {name for spec in specs for name in spec.metrics}
    steps = {step for spec in specs for step in spec.steps}
    needed, memory = 4 * len(metrics) * len(steps) * sum(spec.size for spec in specs), psutil.virtual_memory().total
    if needed > memory:
        raise ValueError(
            f"{folder}: its metrics take {needed / 2**30:,.0f} GiB; this machine has {memory / 2**30:,.0f}"
        )


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a results folder says of itself; `status` is 'running' only while a process writes it.

    Raises:
        FileNotFoundError, ValueError: as `open_results`.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    _check_has_groups(folder, manifest)
    if manifest["status"] == "running" and not locks.held(folder):
        manifest["status"] = "interrupted"
    return manifest


def _check_has_groups(folder: Path, manifest: Mapping[str, Any]) -> None:
    if not manifest["groups"]:
        raise ValueError(f"{folder} holds no runs: it was stopped while being made; write it again with overwrite")


class Progress(NamedTuple):
    """How far a group is.

    Attributes:
        status: 'waiting', 'running', 'complete', 'interrupted' or 'failed'.
        step: the step of its last checkpoint, or the last one.
        wall_time_s: spent on it so far.
        error: why it failed, "" otherwise.
    """

    status: str = "waiting"
    step: int = 0
    wall_time_s: float = 0.0
    error: str = ""


class Writer:
    """Records the measurements of all groups. Made by `create` and `reopen`; one process writes a group at a time."""

    def __init__(self, folder: Path | None, manifest: dict[str, Any], groups: Mapping[int, "_Group"]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.groups = dict(groups)
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
                    _sync(file)
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
            damaged = np.zeros(_steps_in(arrays["metrics"], block), bool)
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
        values = _read_chunk(self.groups[group].arrays[name], index)
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
            _write_json(self.folder / f"group-{self.unit(group):03d}.json", progress._asdict())

    def progress(self, group: int) -> Progress:
        """How far a group is; one that nothing is known of is waiting."""
        return _read_progress(self.folder, self.manifest["groups"][group])

    def finish(self, status: str, wall_time_s: float) -> None:
        """Notes in the manifest how the runs ended, 'complete', 'interrupted' or 'failed', and how long they took."""
        if status not in _STATUSES:
            raise ValueError(f"status is {status!r}: expected {', '.join(map(repr, _STATUSES))}")
        self.manifest |= {"status": status, "wall_time_s": float(wall_time_s)}
        if self.folder is not None:
            _write_manifest(self.folder, self.manifest)

    def dataset(self) -> xr.Dataset:
        """What was recorded so far, as `open_results` gives it; the way to read results kept in memory."""
        return _merge(self.manifest, list(self.groups.values()))


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
            kept = _read_chunk(self._array, (0, 0, block))
            if kept is None:  # damaged: all of it is to be written again
                kept = np.full((*self._array.shape[:2], _steps_in(self._array, block)), np.nan, np.float32)
            self._current = block, kept
        buffer = self._current[1]
        buffer[:, :, offset] = values
        self._array.blocks[0, 0, block] = buffer


def _steps_in(metrics: zarr.Array, block: int) -> int:
    """Steps in one file of metrics: the last one may hold fewer."""
    return min(metrics.chunks[2], metrics.shape[2] - block * metrics.chunks[2])


def _read_chunk(array: zarr.Array, index: tuple[int, ...]) -> np.ndarray | None:
    """A copy of what one file of an array holds; None where it is damaged."""
    try:
        return np.array(array.blocks[index])
    except (OSError, MemoryError):
        raise  # nothing is known of the file then
    except Exception:  # noqa: BLE001 (zarr raises a dozen types for a truncated or foreign chunk)
        return None


# One group: its spec, and the arrays it is recorded in


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    """A spec with its zarr arrays: `metrics`, and one a field."""

    spec: GroupSpec
    arrays: Mapping[str, zarr.Array]


def _shapes(spec: GroupSpec) -> dict[str, tuple[int, ...]]:
    """Array name -> shape, of the arrays that the group keeps."""
    runs, steps = spec.size, len(spec.steps)
    shapes: dict[str, tuple[int, ...]] = {"metrics": (len(spec.metrics), runs, steps)}
    return shapes | {name: (runs, steps, *field.shape) for name, field in spec.fields.items()}


def _dims(spec: GroupSpec, name: str) -> tuple[str, ...]:
    return _METRIC_DIMS if name == "metrics" else ("run", "step", *spec.fields[name].dims)


def _chunks(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one file of an array: a write must touch whole files only."""
    if name == "metrics":
        metrics, runs, steps = shape
        return metrics, runs, min(steps, max(1, _METRIC_CHUNK_BYTES // (4 * metrics * runs)))
    runs, _, *rest = shape
    return min(runs, max(1, _FIELD_CHUNK_BYTES // (4 * math.prod(rest)))), 1, *rest


_CHECKSUM = zarr.codecs.Crc32cCodec()


def _create_group(spec: GroupSpec, store: zarr.abc.store.Store) -> _Group:
    """Makes the store of a group with every array at its full size; NaN takes no space on disk."""
    attributes = {
        # Pairs, not an object: the order is that of the array's first axis.
        "metrics": [(name, dict(attrs)) for name, attrs in spec.metrics.items()],
        "steps": [int(step) for step in spec.steps],
        # In attributes, not arrays: text arrays of zarr v3 have no settled format and warn.
        "coords": {name: _column(name, values).tolist() for name, values in spec.coords.items()},
        "constants": list(spec.constants),
        "fields": {name: [list(dims), list(shape), dict(attrs)] for name, (dims, shape, attrs) in spec.fields.items()},
        "axes": {name: list(values) for name, values in spec.axes.items()},
    }
    root = zarr.create_group(store, zarr_format=3, attributes=attributes)
    # Nothing is compressed: float noise hardly shrinks, and a write is up to three times faster. Every file ends with a
    # checksum, so that one that was damaged is refused.
    for name, (dims, values, attrs) in spec.constants.items():
        data = np.asarray(values, np.float64)
        root.create_array(
            name, data=data, chunks=data.shape, dimension_names=dims, attributes=dict(attrs), compressors=_CHECKSUM
        )
    arrays = {
        name: root.create_array(
            name,
            shape=shape,
            chunks=_chunks(name, shape),
            dtype="float32",
            fill_value=math.nan,
            dimension_names=_dims(spec, name),
            compressors=_CHECKSUM,
        )
        for name, shape in _shapes(spec).items()
    }
    return _Group(spec, arrays)


def _open_group(path: Path, size: int, *, writable: bool = False) -> _Group:
    """Opens one store; what it says of itself passes the same checks as a spec to be written."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist, but {_MANIFEST} beside it lists it")
    try:
        if (path / "zarr.json").stat().st_size > _MOST_JSON_BYTES:
            raise ValueError(f"zarr.json has more than {_MOST_JSON_BYTES} bytes")
        if writable:
            _check_no_links(path)
        # LocalStore by name: given a path, zarr guesses the kind of store from how the path is spelt.
        store = zarr.storage.LocalStore(path, read_only=not writable)
        root = zarr.open_group(store, mode="r+" if writable else "r", zarr_format=3)
        about: dict[str, Any] = dict(root.attrs)
        constants = {name: _open_constant(root, name) for name in about.pop("constants")}
        fields = {
            name: Field(tuple(dims), tuple(shape), attrs) for name, (dims, shape, attrs) in about.pop("fields").items()
        }
        spec = GroupSpec(metrics=dict(about.pop("metrics")), constants=constants, fields=fields, **about)
        if spec.size != size:
            raise ValueError(f"it holds {spec.size} runs and {_MANIFEST} says {size}")
        arrays = {name: _open_array(root, name) for name in _shapes(spec)}
        for name, shape in _shapes(spec).items():
            if arrays[name].shape != shape or arrays[name].dtype != np.float32:
                raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}, expected float32 {shape}")
            if not math.isnan(arrays[name].fill_value):
                raise ValueError(f"{name} is {arrays[name].fill_value} where nothing was measured, expected NaN")
            # What is written and synced file by file relies on this.
            whole = {0, 1} if name == "metrics" else set(range(2, len(shape)))
            chunks = arrays[name].chunks
            if any(chunks[axis] != shape[axis] for axis in whole) or (name != "metrics" and chunks[1] != 1):
                raise ValueError(f"{name} {shape} is cut into files of {chunks}")
    except Exception as error:  # zarr raises a dozen types for a damaged store
        raise ValueError(f"{path} is damaged or no group of results: {error!r}") from error
    return _Group(spec, arrays)


def _check_no_links(path: Path) -> None:
    """A store from elsewhere could have something outside of it written to."""
    for parent, folders, _ in os.walk(path):
        for folder in (Path(parent), *(Path(parent, name) for name in folders)):
            if folder.is_symlink():
                raise ValueError(f"{folder} is a link: results that are written to have none")


def _open_array(root: zarr.Group, name: str) -> zarr.Array:
    """An array of plain numbers: no codecs but those that turn numbers into bytes and check them are let through."""
    array = root[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{name} is no array")
    codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]  # pyright: ignore
    if array.dtype.kind != "f" or codecs != ["bytes", "crc32c"]:
        raise ValueError(f"{name} is {array.dtype} with codecs {codecs}: expected uncompressed floats")
    if array.nbytes > _MOST_ARRAY_BYTES or math.prod(array.chunks) * array.dtype.itemsize > _MOST_FILE_BYTES:
        raise ValueError(f"{name} {array.shape} in files of {array.chunks} is larger than any results")
    return array


def _open_constant(root: zarr.Group, name: str) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    array = _open_array(root, name)
    if array.chunks != array.shape:
        raise ValueError(f"{name} {array.shape} is cut into files of {array.chunks}: expected one file")
    return tuple(array.metadata.dimension_names), np.asarray(array[...]), dict(array.attrs)  # pyright: ignore


# All groups as one dataset


def _merge(manifest: Mapping[str, Any], groups: Sequence[_Group]) -> xr.Dataset:
    """Joins groups along `run` and, where their steps differ, by value along `step`."""
    specs = [group.spec for group in groups]
    steps = np.unique(np.concatenate([np.asarray(spec.steps, np.int64) for spec in specs]))
    ends = np.cumsum([spec.size for spec in specs]).tolist()
    runs = [slice(end - spec.size, end) for spec, end in zip(specs, ends)]
    positions = [np.searchsorted(steps, spec.steps) for spec in specs]
    total = ends[-1]

    metrics = {
        name: xr.Variable(("run", "step"), np.full((total, len(steps)), np.nan, np.float32), dict(attrs))
        for spec in specs
        for name, attrs in spec.metrics.items()
    }
    for group, rows, columns in zip(groups, runs, positions):
        for name, values in zip(group.spec.metrics, np.asarray(group.arrays["metrics"][...])):
            metrics[name].values[rows, columns] = values

    fields = {}
    kept = {name: field for spec in specs for name, field in spec.fields.items()}
    for name, field in kept.items():
        parts = [
            _Part(rows, columns, group.arrays[name])
            for group, rows, columns in zip(groups, runs, positions)
            if name in group.arrays
        ]
        lazy = indexing.LazilyIndexedArray(_Stacked(parts, (total, len(steps))))
        fields[name] = xr.Variable(("run", "step", *field.dims), lazy, dict(field.attrs))

    columns, constant_fields = _merge_coords(specs)
    coords = {"run": np.arange(total), "step": ("step", steps, {"long_name": "generator updates"})}
    coords |= {name: ("run", column) for name, column in columns.items()}
    coords |= {dim: (dim, _column(dim, values)) for spec in specs for dim, values in spec.axes.items()}
    attrs = _dataset_attributes(manifest) | {"constant_fields": json.dumps(constant_fields)}
    return xr.Dataset(metrics | fields | _merge_constants(specs), coords, attrs)


def _merge_coords(specs: Sequence[GroupSpec]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Coordinates (R,) that vary or are always shown, and name -> value of the others."""
    varying, constant = {}, {}
    for name in dict.fromkeys(name for spec in specs for name in spec.coords):
        known = [_column(name, spec.coords[name]) if name in spec.coords else None for spec in specs]
        missing = "" if any(part is not None and part.dtype == object for part in known) else np.nan
        column = np.concatenate(
            [np.array([missing] * spec.size) if part is None else part for spec, part in zip(specs, known)],
            dtype=object if missing == "" else None,
        )
        # By their text: NaN equals NaN then.
        if name in _ALWAYS or len(set(map(repr, column.tolist()))) > 1:
            varying[name] = column
        else:
            constant[name] = column.tolist()[0]
    return varying, constant


def _merge_constants(specs: Sequence[GroupSpec]) -> dict[str, xr.Variable]:
    """Constants over all runs; NaN where a group lacks one, and for the modes by which its target is smaller."""
    sizes: dict[str, int] = {}
    for spec in specs:
        for dims, values, _ in spec.constants.values():
            for dim, size in zip(dims[1:], np.shape(values)[1:]):
                sizes[dim] = max(size, sizes.get(dim, 0))
    total = sum(spec.size for spec in specs)
    merged = {}
    first = 0
    for spec in specs:
        for name, (dims, values, attrs) in spec.constants.items():
            if name not in merged:
                empty = np.full((total, *(sizes[dim] for dim in dims[1:])), np.nan)
                merged[name] = xr.Variable(dims, empty, dict(attrs))
            place = (slice(first, first + spec.size), *(slice(size) for size in np.shape(values)[1:]))
            merged[name].values[place] = values
        first += spec.size
    return merged


@dataclasses.dataclass(frozen=True)
class _Part:
    """Where the array of one group stands among all runs and steps."""

    runs: slice
    steps: np.ndarray
    array: zarr.Array


class _Stacked(BackendArray):
    """Arrays (run, step, ...) of several groups as one, NaN elsewhere; reads only what is asked for."""

    def __init__(self, parts: Sequence[_Part], shape: tuple[int, int]) -> None:
        self.parts = parts
        self.shape = (*shape, *np.max([part.array.shape[2:] for part in parts], axis=0).tolist())
        self.dtype = parts[0].array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Reads one integer, slice or list of positions an axis."""
        chosen = [np.arange(size)[part] for size, part in zip(self.shape, key)]
        runs, steps, *rest = (np.atleast_1d(axis) for axis in chosen)
        out = np.full([len(runs), len(steps), *map(len, rest)], np.nan, self.dtype)
        for part in self.parts:
            rows = np.flatnonzero((part.runs.start <= runs) & (runs < part.runs.stop))
            if not len(rows):
                continue
            inside = runs[rows] - part.runs.start
            low = inside.min()
            # A step a read, as the files lie: three to seven times faster than zarr's orthogonal indexing.
            for column in np.flatnonzero(np.isin(steps, part.steps)):
                step = int(np.searchsorted(part.steps, steps[column]))
                block = np.asarray(part.array[low : inside.max() + 1, step])
                lacking = [(0, size - own) for size, own in zip(self.shape[2:], block.shape[1:])]
                block = np.pad(block, [(0, 0), *lacking], constant_values=np.nan)
                out[rows, column] = block[np.ix_(inside - low, *rest)]
        return out.reshape([size for axis in chosen for size in axis.shape])


# The manifest


def _new_manifest(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with no groups yet. Raises ValueError for metadata that is unknown or of the wrong type."""
    allowed = (*_TEXTS, "versions")
    for name in metadata:
        if name not in allowed:
            raise ValueError(f"metadata has an unknown entry {name!r}{_nearest(name, allowed)}")
    manifest = {
        "format_version": FORMAT_VERSION,
        "status": _STATUSES[0],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_time_s": None,
        **{name: metadata.get(name, "") for name in _TEXTS},
        "versions": dict(metadata.get("versions", {})),
        "ends": [],
        "groups": [],
    }
    _check_manifest(manifest)
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    _write_json(folder / _MANIFEST, manifest)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Replaces a file in one move: a reader finds the old one or the new one, whole."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)  # of a killed process; or a link, by which another file would be written to
    try:
        with partial.open("x", encoding="utf-8") as opened:
            opened.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
        _sync(partial)
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _read_progress(folder: Path | None, entry: Mapping[str, Any]) -> Progress:
    """What `Writer.note` wrote last; of a file that says nothing that could be read, nothing is known."""
    if folder is None:
        return Progress()
    try:
        progress = Progress(**_read_json(folder / f"group-{entry['unit']:03d}.json"))
        wall_time_s = float(progress.wall_time_s)
    except (OSError, ValueError, TypeError, OverflowError):
        return Progress()
    if progress.status not in (*_STATUSES, "waiting") or not isinstance(progress.error, str):
        return Progress()
    if type(progress.step) is not int or not 0 <= progress.step < 10**15 or not 0 <= wall_time_s < math.inf:
        return Progress()
    return progress


def _read_json(file: Path) -> Any:
    """What a file holds. Raises ValueError for what is no JSON, too deep or too large, OSError where there is none."""
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    if file.stat().st_size > _MOST_JSON_BYTES:
        raise ValueError(f"{file.stat().st_size} bytes, expected at most {_MOST_JSON_BYTES}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a folder. Raises FileNotFoundError or ValueError, naming the path."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: expected a results folder")
    file = folder / _MANIFEST
    if not file.is_file():
        raise ValueError(f"{folder} is no results folder: expected {_MANIFEST} in it")
    try:
        manifest = _read_json(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: expected JSON ({error})") from error
    try:
        _check_manifest(manifest)
    except ValueError as error:
        raise ValueError(f"{file} is no manifest that can be read: {error}") from error
    return manifest


def _check_manifest(manifest: Any) -> None:
    """Raises ValueError unless every entry has its type and every group a name that stays inside the folder."""
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise ValueError("expected an object with format_version")
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version is {manifest['format_version']!r}, this gandyn reads {FORMAT_VERSION}")
    for name in (*_TEXTS, "created"):
        if not isinstance(manifest.get(name), str):
            raise ValueError(f"{name} is {manifest.get(name)!r}, expected text")
    if manifest.get("status") not in _STATUSES:
        raise ValueError(f"status is {manifest.get('status')!r}, expected one of {', '.join(_STATUSES)}")
    wall_time_s = manifest.get("wall_time_s")
    if wall_time_s is not None and (not isinstance(wall_time_s, int | float) or not 0 <= wall_time_s < 10**15):
        raise ValueError(f"wall_time_s is {wall_time_s!r:.80}, expected a number of seconds or null")
    versions = manifest.get("versions")
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise ValueError(f"versions is {versions!r}, expected package -> version")
    ends = manifest.get("ends")
    if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
        raise ValueError(f"ends is {ends!r}, expected the steps at which earlier runs ended")
    groups = manifest.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ValueError("groups is no list of objects")
    for group in groups:
        name, size = group.get("name"), group.get("size")
        if not isinstance(name, str) or not _GROUP_NAME.fullmatch(name):
            raise ValueError(f"the group name {name!r} is not of the form group-000.zarr")
        for of, number in (("size", size), ("unit", group.get("unit"))):
            if not isinstance(number, int) or not 0 <= number < 10**9:
                raise ValueError(f"the {of} of {name} is {number!r}, expected an integer")
    for key in ("name", "unit"):
        if len({group[key] for group in groups}) < len(groups):
            raise ValueError(f"groups lists a {key} twice")


def _dataset_attributes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    wall_time_s = math.nan if manifest["wall_time_s"] is None else manifest["wall_time_s"]
    attrs = {name: value for name, value in manifest.items() if name not in ("groups", "ends")}
    return attrs | {"wall_time_s": wall_time_s, "versions": json.dumps(manifest["versions"])}


# Checks of what is recorded


def _check_names(spec: GroupSpec) -> None:
    """Raises ValueError where two things of a group would share a name in the dataset."""
    seen: dict[str, str] = {name: "a name of the format" for name in _RESERVED}
    kinds = {"metric": spec.metrics, "coordinate": spec.coords, "constant": spec.constants, "field": spec.fields}
    kinds |= {"dimension": {dim for field in spec.fields.values() for dim in field.dims}}
    for kind, names in kinds.items():
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a {kind} is {name!r}: expected text")
            if name in seen:
                raise ValueError(f"the {kind} {name!r} is also {seen[name]}: one of them needs another name")
            seen[name] = f"a {kind}"


def _check_steps(steps: Sequence[int]) -> None:
    values = np.asarray(steps)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu":
        raise ValueError(f"steps is {steps!r}: expected at least one integer")
    if values[0] < 0 or (np.diff(values) <= 0).any():
        raise ValueError("steps must increase from 0 or more")


def _check_attributes(owner: str, attrs: Mapping[str, str]) -> None:
    for name, value in attrs.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"{owner} has the attribute {name!r}: {value!r}; expected text")


def _check_constants(spec: GroupSpec) -> None:
    """Raises ValueError unless every constant is an array of numbers (run, ...) with one size a dimension."""
    sizes = {"run": spec.size, "xy": 2}
    for name, (dims, values, attrs) in spec.constants.items():
        # The name becomes a folder of the store.
        if not name.isidentifier():
            raise ValueError(f"the constant {name!r} needs a name made of letters, digits and underscores")
        shape = np.shape(values)
        if not dims or dims[0] != "run" or len(dims) != len(shape) or len(set(dims)) != len(dims) or "step" in dims:
            raise ValueError(f"constants[{name!r}] has dims {dims}, shape {shape}: expected 'run' first, one an axis")
        for dim, size in zip(dims, shape):
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"constants[{name!r}] has {size} along {dim!r}: expected {sizes[dim]}")
        if np.asarray(values).dtype.kind not in "biuf":
            raise ValueError(f"constants[{name!r}] holds {np.asarray(values).dtype}: expected numbers")
        _check_attributes(f"constants[{name!r}]", attrs)


def _check_fields(spec: GroupSpec) -> None:
    """Raises ValueError unless every field has named axes of one size each, and every axis' values its size."""
    sizes = {"xy": 2} | {
        dim: n for dims, values, _ in spec.constants.values() for dim, n in zip(dims, np.shape(values))
    }
    for name, (dims, shape, attrs) in spec.fields.items():
        if not all(isinstance(text, str) and text.isidentifier() for text in (name, *dims)):
            raise ValueError(f"the field {name!r} {dims}: its names must be made of letters, digits and underscores")
        if not dims or len(dims) != len(shape) or len({"run", "step", *dims}) != len(dims) + 2:
            raise ValueError(
                f"fields[{name!r}] has dims {dims} and shape {shape}: expected one an axis after run, step"
            )
        for dim, size in zip(dims, shape):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"fields[{name!r}] has {size!r} along {dim!r}: expected an integer, 1 or more")
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"fields[{name!r}] has {size} along {dim!r}: expected {sizes[dim]}")
        _check_attributes(f"fields[{name!r}]", attrs)
    for dim, values in spec.axes.items():
        if dim not in sizes or len(_column(dim, values)) != sizes[dim]:
            raise ValueError(f"axes[{dim!r}] has {len(values)} values: expected one an entry of a field's axis")


def _check_agreement(specs: Sequence[GroupSpec]) -> None:
    """Raises ValueError where groups give one name two meanings, so that they make no single dataset."""
    meanings: dict[str, Any] = {}
    for index, spec in enumerate(specs):
        for name, meaning in _meanings(spec):
            if meanings.setdefault(name, meaning) != meaning:
                raise ValueError(f"{name} is {meaning} in group {index} and {meanings[name]} in a group before it")


def _meanings(spec: GroupSpec) -> Iterable[tuple[str, Any]]:
    """Name -> what all groups that have it must agree on."""
    for name, attrs in spec.metrics.items():
        yield name, f"a metric with attributes {dict(attrs)}"
    for name, values in spec.coords.items():
        yield name, "a coordinate of text" if _column(name, values).dtype == object else "a coordinate of numbers"
    for name, (dims, _, attrs) in spec.constants.items():
        yield name, f"a constant {tuple(dims)} with attributes {dict(attrs)}"
    for name, (dims, shape, attrs) in spec.fields.items():
        sizes = tuple(0 if dim in _RAGGED else size for dim, size in zip(dims, shape))
        yield name, f"kept as {dims} {sizes} with attributes {dict(attrs)}"
    for dim, values in spec.axes.items():
        yield dim, f"an axis with values {list(values)}"


def _column(name: str, values: Sequence[Any]) -> np.ndarray:
    """Coordinate values as an array (R,): of numbers, or of objects that are all text."""
    items = [value.item() if hasattr(value, "item") else value for value in values]
    if all(isinstance(item, str) for item in items):
        return np.array(items, dtype=object)
    if all(isinstance(item, int | float) for item in items):
        column = np.array(items)
        if column.dtype.kind in "biuf":
            return column
    raise ValueError(f"coords[{name!r}] must be all numbers or all text, got {values!r:.200}")


def _stack_metrics(spec: GroupSpec, metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Metrics of one step in the order of the spec, (M, R). Raises ValueError for a wrong name or shape."""
    for name in metrics:
        if name not in spec.metrics:
            raise ValueError(f"unknown metric {name!r}{_nearest(name, spec.metrics)}")
    missing = [name for name in spec.metrics if name not in metrics]
    if missing:
        raise ValueError(f"metrics lacks {', '.join(missing)}")
    for name, values in metrics.items():
        if np.shape(values) != (spec.size,):
            raise ValueError(f"the metric {name!r} has shape {np.shape(values)}: expected {(spec.size,)}")
    return np.stack([_float32(metrics[name]) for name in spec.metrics])


def _field(group: _Group, name: str, values: np.ndarray) -> np.ndarray:
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


def _nearest(name: str, allowed: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest valid one, or all of them."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(allowed)}"
