"""All groups of a results folder as one dataset.

Letters in shapes: R runs, S steps.
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from gandyn.results import manifest as manifests
from gandyn.results.arrays import StoredGroup, check_fields, files_of, name_of, open_group, read_file, read_metrics
from gandyn.results.files import Damaged, Lost, folder_of
from gandyn.results.spec import ALWAYS, GroupSpec, check_agreement, column


def open_recorded(path: str | os.PathLike[str]) -> xr.Dataset:
    """Opens a results folder as one dataset over all its runs (docs/results.md), complete or not.

    Runs are numbered in the order of the groups. What a group did not record is NaN: steps, metrics, samples, further
    modes. A coordinate that a group lacks is NaN, or "" where it is text. Coordinates with one value over all runs
    (other than `seed`, `recipe`, `loss`) are in the attribute `constant_fields`, a JSON object. Metrics are
    read at once; `samples` and `surface` when they are indexed or computed with: they are what was recorded when the
    folder was opened, or an OSError says what has happened to it since.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged, lost in part, or of another format
            version; the message names the file.
    """
    folder = folder_of(path, "path")
    manifest = manifests.read(folder)
    groups = [open_group(folder, entry, manifest["id"]) for entry in manifest["groups"]]
    _check_fits(folder, [group.spec for group in groups])
    try:
        check_agreement([group.spec for group in groups])
        merged = merge(manifest, groups)
        for group in groups:
            check_fields(group)
    except Damaged as error:
        raise ValueError(f"{error}: gandyn resume makes it again") from error
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"the results in {folder} are damaged: {error}") from error
    return merged


def _check_fits(folder: Path, specs: Sequence[GroupSpec]) -> None:
    """Raises ValueError where the metrics, which are read at once, are more than the memory of this machine."""
    metrics = {name for spec in specs for name in spec.metrics}
    steps = {step for spec in specs for step in spec.steps}
    needed, memory = 4 * len(metrics) * len(steps) * sum(spec.size for spec in specs), psutil.virtual_memory().total
    if needed > memory:
        raise ValueError(
            f"{folder}: its metrics take {needed / 2**30:,.0f} GiB; this machine has {memory / 2**30:,.0f}"
        )


def merge(manifest: Mapping[str, Any], groups: Sequence[StoredGroup]) -> xr.Dataset:
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
        for name, values in zip(group.spec.metrics, read_metrics(group)):
            metrics[name].values[rows, columns] = values

    fields = {}
    kept = {name: field for spec in specs for name, field in spec.fields.items()}
    for name, field in kept.items():
        parts = [
            _Part(rows, columns, group, name)
            for group, rows, columns in zip(groups, runs, positions)
            if name in group.arrays
        ]
        lazy = indexing.LazilyIndexedArray(_Stacked(parts, (total, len(steps))))
        fields[name] = xr.Variable(("run", "step", *field.dims), lazy, dict(field.attrs))

    varying, constant_fields = _merge_coords(specs)
    coords = {"run": np.arange(total), "step": ("step", steps, {"long_name": "generator updates"})}
    coords |= {name: ("run", values) for name, values in varying.items()}
    coords |= {dim: (dim, column(dim, values)) for spec in specs for dim, values in spec.axes.items()}
    attrs = manifests.dataset_attributes(manifest) | {"constant_fields": json.dumps(constant_fields)}
    return xr.Dataset(metrics | fields | _merge_constants(specs), coords, attrs)


def _merge_coords(specs: Sequence[GroupSpec]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Coordinates (R,) that vary or are always shown, and name -> value of the others."""
    varying, constant = {}, {}
    for name in dict.fromkeys(name for spec in specs for name in spec.coords):
        known = [column(name, spec.coords[name]) if name in spec.coords else None for spec in specs]
        missing = "" if any(part is not None and part.dtype == object for part in known) else np.nan
        joined = np.concatenate(
            [np.array([missing] * spec.size) if part is None else part for spec, part in zip(specs, known)],
            dtype=object if missing == "" else None,
        )
        # By their text: NaN equals NaN then.
        if name in ALWAYS or len(set(map(repr, joined.tolist()))) > 1:
            varying[name] = joined
        else:
            constant[name] = joined.tolist()[0]
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
    group: StoredGroup
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.group.arrays[self.name].shape

    def read(self, low: int, high: int, step: int) -> np.ndarray:
        """Runs low to high - 1 at one step; NaN where nothing was measured."""
        array = self.group.arrays[self.name]
        rows = array.chunks[0]
        block = np.full((high - low, *array.shape[2:]), np.nan, array.dtype)
        for place in files_of(array, step)[low // rows : (high - 1) // rows + 1]:
            first = place[0] * rows
            journal = self.group.journal
            if journal is not None and not journal.known(name_of(self.name, place)):
                continue  # nothing was there when the folder was opened, whatever is now
            try:
                values = read_file(self.group, self.name, place)
            except Damaged as error:
                raise Lost(_what_happened(self.group, error)) from error
            if values is not None:
                start, stop = max(low, first), min(high, first + len(values))
                block[start - low : stop - low] = values[start - first : stop - first, 0]
        return block


def _what_happened(group: StoredGroup, error: Damaged) -> str:
    """Why a file is not what it was when its folder was opened."""
    assert group.path is not None
    folder = group.path.parent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manifest = manifests.read_as_is(folder)
    except (OSError, ValueError):
        return f"{folder} was moved or removed since it was opened: {error}"
    if manifest["id"] != group.id:
        return f"{folder} was overwritten by another run since it was opened: {error}"
    if group.path.name not in [entry["name"] for entry in manifest["groups"]]:
        return f"{folder} was extended since it was opened, and is to be opened again: {error}"
    return f"{error}: gandyn resume makes it again"


class _Stacked(BackendArray):
    """Arrays (run, step, ...) of several groups as one, NaN elsewhere; reads only what is asked for."""

    def __init__(self, parts: Sequence[_Part], shape: tuple[int, int]) -> None:
        self.parts = parts
        self.shape = (*shape, *np.max([part.shape[2:] for part in parts], axis=0).tolist())
        self.dtype = np.dtype(np.float32)

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
            for at in np.flatnonzero(np.isin(steps, part.steps)):
                step = int(np.searchsorted(part.steps, steps[at]))
                block = part.read(int(low), int(inside.max()) + 1, step)
                lacking = [(0, size - own) for size, own in zip(self.shape[2:], block.shape[1:])]
                block = np.pad(block, [(0, 0), *lacking], constant_values=np.nan)
                out[rows, at] = block[np.ix_(inside - low, *rest)]
        return out.reshape([size for axis in chosen for size in axis.shape])
