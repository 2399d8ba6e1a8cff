"""One group of runs on disk: a zarr v3 store with every array at its full size, full of NaN until it is measured.

    metrics(metric, run, step)                        float32, every metric of the group
    one float32 array a field, e.g. samples(run, step, sample, xy), where kept
    one float64 array a constant, e.g. target_means(run, mode, xy)
    attributes: the metrics with their attributes, the fields, the steps, the coordinates of the runs

Letters in shapes: R runs, S steps, M metrics.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.abc.store
import zarr.codecs
import zarr.storage

from gandyn.results import manifest
from gandyn.results.files import MOST_JSON_BYTES
from gandyn.results.spec import METRIC_DIMS, GroupSpec, StoredField, column

# One file of metrics holds as many steps as fit in this size and is rewritten at each of them: few files, cheap writes.
_METRIC_CHUNK_BYTES = 2**20
# Fields take one file a step, or several where many runs make it larger than this.
_FIELD_CHUNK_BYTES = 2**22
# Far above what is written; what a folder from elsewhere claims is held against it before memory is asked for.
_MOST_FILE_BYTES = 2**30
_MOST_ARRAY_BYTES = 2**48


@dataclasses.dataclass(frozen=True, eq=False)
class StoredGroup:
    """A spec with its zarr arrays: `metrics`, and one a field."""

    spec: GroupSpec
    arrays: Mapping[str, zarr.Array]


def array_shapes(spec: GroupSpec) -> dict[str, tuple[int, ...]]:
    """Array name -> shape, of the arrays that the group keeps."""
    runs, steps = spec.size, len(spec.steps)
    shapes: dict[str, tuple[int, ...]] = {"metrics": (len(spec.metrics), runs, steps)}
    return shapes | {name: (runs, steps, *field.shape) for name, field in spec.fields.items()}


def _dims(spec: GroupSpec, name: str) -> tuple[str, ...]:
    return METRIC_DIMS if name == "metrics" else ("run", "step", *spec.fields[name].dims)


def _chunks(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one file of an array: a write must touch whole files only."""
    if name == "metrics":
        metrics, runs, steps = shape
        return metrics, runs, min(steps, max(1, _METRIC_CHUNK_BYTES // (4 * metrics * runs)))
    runs, _, *rest = shape
    return min(runs, max(1, _FIELD_CHUNK_BYTES // (4 * math.prod(rest)))), 1, *rest


_CHECKSUM = zarr.codecs.Crc32cCodec()


def create_group(spec: GroupSpec, store: zarr.abc.store.Store) -> StoredGroup:
    """Makes the store of a group with every array at its full size; NaN takes no space on disk."""
    attributes = {
        # Pairs, not an object: the order is that of the array's first axis.
        "metrics": [(name, dict(attrs)) for name, attrs in spec.metrics.items()],
        "steps": [int(step) for step in spec.steps],
        # In attributes, not arrays: text arrays of zarr v3 have no settled format and warn.
        "coords": {name: column(name, values).tolist() for name, values in spec.coords.items()},
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
        for name, shape in array_shapes(spec).items()
    }
    return StoredGroup(spec, arrays)


def open_group(path: Path, size: int, *, writable: bool = False) -> StoredGroup:
    """Opens one store; what it says of itself passes the same checks as a spec to be written."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist, but {manifest.NAME} beside it lists it")
    try:
        if (path / "zarr.json").stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"zarr.json has more than {MOST_JSON_BYTES} bytes")
        if writable:
            _check_no_links(path)
        # LocalStore by name: given a path, zarr guesses the kind of store from how the path is spelt.
        store = zarr.storage.LocalStore(path, read_only=not writable)
        root = zarr.open_group(store, mode="r+" if writable else "r", zarr_format=3)
        about: dict[str, Any] = dict(root.attrs)
        constants = {name: _open_constant(root, name) for name in about.pop("constants")}
        fields = {
            name: StoredField(tuple(dims), tuple(shape), attrs)
            for name, (dims, shape, attrs) in about.pop("fields").items()
        }
        spec = GroupSpec(metrics=dict(about.pop("metrics")), constants=constants, fields=fields, **about)
        if spec.size != size:
            raise ValueError(f"it holds {spec.size} runs and {manifest.NAME} says {size}")
        arrays = {name: _open_array(root, name) for name in array_shapes(spec)}
        for name, shape in array_shapes(spec).items():
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
    return StoredGroup(spec, arrays)


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


def copy_group(old: StoredGroup, new: StoredGroup) -> None:
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


def steps_in(metrics: zarr.Array, block: int) -> int:
    """Steps in one file of metrics: the last one may hold fewer."""
    return min(metrics.chunks[2], metrics.shape[2] - block * metrics.chunks[2])


def read_chunk(array: zarr.Array, index: tuple[int, ...]) -> np.ndarray | None:
    """A copy of what one file of an array holds; None where it is damaged."""
    try:
        return np.array(array.blocks[index])
    except (OSError, MemoryError):
        raise  # nothing is known of the file then
    except Exception:  # noqa: BLE001 (zarr raises a dozen types for a truncated or foreign chunk)
        return None
