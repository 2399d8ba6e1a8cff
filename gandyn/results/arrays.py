"""One group of runs on disk: a zarr v3 store with every array at its full size, full of NaN until it is measured.

What was written to each of its files stands in the group's `Journal`; the files that never change (metadata and
constants) have one checksum, in the manifest, and a copy beside the store.

    metrics(metric, run, step)                        float32, every metric of the group
    one float32 array a field, e.g. samples(run, step, sample, xy), where kept
    one float64 array a constant, e.g. target_means(run, mode, xy)
    attributes: the metrics with their attributes, the fields, the steps, the coordinates of the runs, the folder's id

Letters in shapes: R runs, S steps, M metrics.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.abc.store
import zarr.codecs
import zarr.storage

from gandyn.results import manifest
from gandyn.results.files import MOST_JSON_BYTES, Damaged, make_way, write_arrays, write_bytes
from gandyn.results.journal import Journal, checksum
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
    """A spec with its zarr arrays: `metrics`, and one a field.

    Attributes:
      spec: what the group records.
      arrays: name -> array.
      path: of its store, whole; None in memory.
      journal: what was written to its files; None in memory.
      id: of the results that it belongs to.
    """

    spec: GroupSpec
    arrays: Mapping[str, zarr.Array]
    path: Path | None = None
    journal: Journal | None = None
    id: str = ""


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
# All files of an array side by side, as samples/c.0.3.0.0: one look into the folder says which are there.
_FLAT = {"name": "default", "separator": "."}
_STATIC = re.compile(r"([^/\0]+/)?(zarr\.json|c(\.0)+)")
_CHUNK = re.compile(r"c(\.[0-9]+)+")


def create_group(spec: GroupSpec, store: zarr.abc.store.Store, id_: str = "") -> StoredGroup:
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
        "id": id_,
    }
    root = zarr.create_group(store, zarr_format=3, attributes=attributes)
    # Nothing is compressed: float noise hardly shrinks, and a write is up to three times faster. Every file ends with a
    # checksum, so that one that was damaged is refused by whatever reads it.
    for name, (dims, values, attrs) in spec.constants.items():
        data = np.asarray(values, np.float64)
        root.create_array(
            name,
            data=data,
            chunks=data.shape,
            dimension_names=dims,
            attributes=dict(attrs),
            compressors=_CHECKSUM,
            chunk_key_encoding=_FLAT,  # pyright: ignore[reportArgumentType]
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
            chunk_key_encoding=_FLAT,  # pyright: ignore[reportArgumentType]
        )
        for name, shape in array_shapes(spec).items()
    }
    return StoredGroup(spec, arrays, id=id_)


def make_group(spec: GroupSpec, path: Path, id_: str) -> tuple[StoredGroup, int]:
    """`create_group` on disk, with the copy of what never changes; and the checksum of that."""
    made = create_group(spec, zarr.storage.LocalStore(path), id_)
    journal_of(path).unlink(missing_ok=True)
    static = _static_files(path)
    _write_copy(path, static)
    journal = Journal(journal_of(path), _own_name(path, id_))
    return dataclasses.replace(made, path=path.absolute(), journal=journal), _static_sum(static)


def journal_of(path: Path) -> Path:
    """Where the journal of a store is."""
    return path.with_suffix(".journal")


def copy_of(path: Path) -> Path:
    """Where the copy of what never changes in a store is."""
    return path.with_suffix(".copy.npz")


def _own_name(path: Path, id_: str) -> str:
    return f"{id_}/{path.name}"


# ---- what never changes: metadata and constants


def _static_files(path: Path) -> dict[str, bytes]:
    """Name -> content of the files that never change; without those that cannot be read as files."""
    found: dict[str, bytes] = {}
    attributes: Any = {}
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        found["zarr.json"] = _limited(path / "zarr.json", MOST_JSON_BYTES)
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            attributes = json.loads(found["zarr.json"])["attributes"]
            attributes = {name: list(attributes[name]) for name in ("fields", "constants")}
    constants = [str(name) for name in attributes.get("constants", ())]
    for name in ("metrics", *map(str, attributes.get("fields", ())), *constants):
        if not name.isidentifier():
            continue
        files = [path / name / "zarr.json"]
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            files += [file for file in (path / name).iterdir() if name in constants and _CHUNK.fullmatch(file.name)]
        for file in files:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                most = MOST_JSON_BYTES if file.name == "zarr.json" else _MOST_FILE_BYTES
                found[f"{name}/{file.name}"] = _limited(file, most)
    return found


def _limited(file: Path, most: int) -> bytes:
    if file.stat().st_size > most:
        raise ValueError(f"{file} has more than {most} bytes")
    return file.read_bytes()


def _static_sum(files: Mapping[str, bytes]) -> int:
    total = 0
    for name in sorted(files):
        total = zlib.crc32(files[name], zlib.crc32(f"{name} {len(files[name])} ".encode(), total))
    return total


def _write_copy(path: Path, files: Mapping[str, bytes]) -> None:
    # Not forced to disk file by file: it is made at once with what it is a copy of, of maybe thousands of groups.
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
    write_arrays(copy_of(path), arrays, sync=False)


def _read_copy(path: Path, total: int) -> dict[str, bytes] | None:
    """The copy of what never changes; None where it is not the one that the manifest speaks of."""
    try:
        content = io.BytesIO(_limited(copy_of(path), _MOST_FILE_BYTES))
        with zipfile.ZipFile(content) as zipped:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in zipped.infolist()):
                return None  # nothing of ours: it could be of any size
        with np.load(content, allow_pickle=False) as kept:
            files = {name: kept[name].tobytes() for name in kept.files if _STATIC.fullmatch(name)}
    except PermissionError:
        raise
    except Exception:  # noqa: BLE001 (zipfile and NumPy raise a dozen types for damage)
        return None
    return files if _static_sum(files) == total else None


def _changed(path: Path, there: Mapping[str, bytes], kept: Mapping[str, bytes] | None) -> dict[Path, bytes]:
    """Files, of those that never change, that are not as in their copy -> what they should be. Raises for no copy."""
    if kept is None:
        raise Damaged(f"{path} is damaged, or of another run, and so is its copy, {copy_of(path).name}")
    return {path / name: content for name, content in kept.items() if there.get(name) != content}


def _check_static(path: Path, total: int) -> None:
    """Raises Damaged, with the names of the files, where what never changes has."""
    there = _static_files(path)
    if _static_sum(there) == total:
        return
    culprits = map(str, _changed(path, there, _read_copy(path, total)))
    raise Damaged(f"{', '.join(culprits) or path} is damaged, gone, or of another run: gandyn resume makes it again")


def mend_static(path: Path, total: int) -> list[str]:
    """Makes files that never change anew from their copy, or the copy from them; says which.

    Raises:
      ValueError: both are damaged, or there are links in the store.
      OSError: a file cannot be read or written.
    """
    _check_no_links(path)
    there, kept = _static_files(path), _read_copy(path, total)
    if _static_sum(there) == total:
        if kept is None:
            _write_copy(path, there)
        return [] if kept is not None else [str(copy_of(path))]
    culprits = _changed(path, there, kept)
    for file, content in culprits.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)
    return list(map(str, culprits))


# ---- opening


def open_group(folder: Path, entry: Mapping[str, Any], id_: str, *, writable: bool = False) -> StoredGroup:
    """Opens one store; what it says of itself passes the same checks as a spec to be written.

    Args:
      folder: of the results.
      entry: of the group, in the manifest.
      id_: of the results.
      writable: whether it is to be written to.

    Raises:
      FileNotFoundError, ValueError: it is gone, damaged, or nothing that gandyn wrote.
    """
    path = folder.absolute() / entry["name"]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist, but {manifest.NAME} beside it lists it")
    try:
        if writable:
            _check_no_links(path)
        _check_static(path, entry["sum"])
        # LocalStore by name: given a path, zarr guesses the kind of store from how the path is spelt.
        store = zarr.storage.LocalStore(path, read_only=not writable)
        root = zarr.open_group(store, mode="r+" if writable else "r", zarr_format=3)
        about: dict[str, Any] = dict(root.attrs)
        if about.pop("id") != id_:
            raise ValueError(f"it is of other results than {manifest.NAME}")
        constants = {name: _open_constant(root, name) for name in about.pop("constants")}
        fields = {
            name: StoredField(tuple(dims), tuple(shape), attrs)
            for name, (dims, shape, attrs) in about.pop("fields").items()
        }
        spec = GroupSpec(metrics=dict(about.pop("metrics")), constants=constants, fields=fields, **about)
        if spec.size != entry["size"]:
            raise ValueError(f"it holds {spec.size} runs and {manifest.NAME} says {entry['size']}")
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
    except (Damaged, PermissionError):
        raise
    except Exception as error:  # zarr raises a dozen types for a damaged store
        raise ValueError(f"{path} is damaged or no group of results: {error!r}") from error
    return StoredGroup(spec, arrays, path, Journal(journal_of(path), _own_name(path, id_)), id_)


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
    about: Any = array.metadata.to_dict()
    codecs = [codec["name"] for codec in about["codecs"]]
    if array.dtype.kind != "f" or codecs != ["bytes", "crc32c"]:
        raise ValueError(f"{name} is {array.dtype} with codecs {codecs}: expected uncompressed floats")
    if about["chunk_key_encoding"].get("configuration", {}).get("separator") != ".":
        raise ValueError(f"the files of {name} are not named as gandyn names them")
    if array.nbytes > _MOST_ARRAY_BYTES or math.prod(array.chunks) * array.dtype.itemsize > _MOST_FILE_BYTES:
        raise ValueError(f"{name} {array.shape} in files of {array.chunks} is larger than any results")
    return array


def _open_constant(root: zarr.Group, name: str) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    array = _open_array(root, name)
    if array.chunks != array.shape:
        raise ValueError(f"{name} {array.shape} is cut into files of {array.chunks}: expected one file")
    return tuple(array.metadata.dimension_names), np.asarray(array[...]), dict(array.attrs)  # pyright: ignore


# ---- files of measurements


def files_of(array: zarr.Array, step_index: int) -> list[tuple[int, ...]]:
    """The files of a field that hold one step, by their place in the array."""
    return [(row, step_index, *[0] * (array.ndim - 2)) for row in range(array.cdata_shape[0])]


def name_of(array: str, index: tuple[int, ...]) -> str:
    """The name of a file in the journal."""
    return ".".join([array, *map(str, index)])


def file_of(group: StoredGroup, array: str, index: tuple[int, ...]) -> Path:
    """Where a file is."""
    assert group.path is not None
    return group.path / array / ".".join(["c", *map(str, index)])


def steps_in(metrics: zarr.Array, block: int) -> int:
    """Steps in one file of metrics: the last one may hold fewer."""
    return min(metrics.chunks[2], metrics.shape[2] - block * metrics.chunks[2])


def write_files(group: StoredGroup, content: Mapping[tuple[str, tuple[int, ...]], np.ndarray]) -> None:
    """Replaces files of arrays, in order: (array, place) -> what it then holds.

    Raises:
      OSError: they cannot be written.
    """
    if group.journal is not None:
        group.journal.add({name_of(*place): checksum(values) for place, values in content.items()})
    for (name, index), values in content.items():
        try:
            group.arrays[name].blocks[index] = values
        except IsADirectoryError:
            make_way(file_of(group, name, index))
            group.arrays[name].blocks[index] = values


def read_file(group: StoredGroup, name: str, index: tuple[int, ...]) -> np.ndarray | None:
    """A copy of what one file of an array holds; None where nothing was ever written to it.

    Raises:
      Damaged: it is gone, damaged, or of another run.
      OSError: it cannot be read, and nothing is known of it.
    """
    array, journal = group.arrays[name], group.journal
    if journal is None:
        return np.array(array.blocks[index])
    file, own = file_of(group, name, index), name_of(name, index)
    known = journal.known(own)
    if not known:
        if os.path.lexists(file):
            raise Damaged(f"{file}: nothing is known of it ({_about(journal)})")
        return None
    if own not in journal.sums and not os.path.lexists(file):
        return None  # the write was stopped before it
    try:
        values = np.array(array.blocks[index])
        found = checksum(values)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # zarr raises a dozen types for a truncated or foreign file
        raise Damaged(f"{file} is damaged ({error})") from error
    if found not in known:
        if not file.exists():
            raise Damaged(f"{file} is gone")
        if file.is_dir():
            raise Damaged(f"{file} is damaged: it is a folder")
        raise Damaged(f"{file} is damaged, or of another run: it holds something else than what {_about(journal)}")
    if name == "metrics" and found == journal.pending.get(own):
        journal.came_through()  # they are what is written last
    return values


def _about(journal: Journal) -> str:
    if not journal.file.is_file():
        return f"{journal.file} would say, which is gone"
    return f"{journal.file} says{', which is damaged or of another run itself' if journal.damaged else ''}"


def read_metrics(group: StoredGroup) -> np.ndarray:
    """All metrics of a group (M, R, S), NaN where nothing was measured; of one that is being written, too.

    Raises:
      Damaged, OSError: as `read_file`.
    """
    array = group.arrays["metrics"]
    whole = np.full(array.shape, np.nan, np.float32)
    for block in range(array.cdata_shape[2]):
        values = _read_anew(group, "metrics", (0, 0, block))
        if values is not None:
            first = block * array.chunks[2]
            whole[:, :, first : first + values.shape[2]] = values
    return whole


_MOST_TRIES = 100


def _read_anew(group: StoredGroup, name: str, index: tuple[int, ...]) -> np.ndarray | None:
    """`read_file`, again where it was written meanwhile."""
    for _ in range(_MOST_TRIES):
        try:
            return read_file(group, name, index)
        except Damaged:
            if group.journal is None or not group.journal.reload():
                raise
    return read_file(group, name, index)


def check_fields(group: StoredGroup) -> None:
    """Raises Damaged for a file of a field that is gone, or that nobody is known to have written; reads none."""
    journal = group.journal
    if journal is None or group.path is None:
        return
    written = _by_array(journal)
    for name in group.spec.fields:
        there = set(_there(group, name))
        gone = journal.missing(there, written.get(name, set()))
        if gone:
            first = group.path / name / f"c{min(gone).removeprefix(name)}"
            raise Damaged(f"{first} is gone{f', with {len(gone) - 1} more' if len(gone) > 1 else ''}")
        unknown = {file for file in there if not journal.known(file)}
        if unknown and journal.reload():  # written meanwhile: lines come before files
            unknown = {file for file in unknown if not journal.known(file)}
        if unknown:
            first = group.path / name / f"c{min(unknown).removeprefix(name)}"
            raise Damaged(f"{first}: nothing is known of it ({_about(journal)})")


def _by_array(journal: Journal) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in journal.sums:
        found.setdefault(name.partition(".")[0], set()).add(name)
    return found


def _there(group: StoredGroup, name: str) -> Iterable[str]:
    """The files of an array that are there, by their names in the journal."""
    assert group.path is not None
    with os.scandir(group.path / name) as entries:
        for entry in entries:
            if _CHUNK.fullmatch(entry.name) and entry.is_file():
                yield name + entry.name[1:]


def forget_files(group: StoredGroup, kept: Mapping[str, int]) -> None:
    """Removes every file of measurements but these, and lets the journal say so; for who holds the folder's lock.

    Raises:
      OSError: one cannot be removed.
    """
    if group.journal is None:
        return
    for name in group.arrays:
        assert group.path is not None
        for file in list((group.path / name).iterdir()):
            ours = _CHUNK.fullmatch(file.name) or file.suffix == ".partial"  # which a killed process has left
            if ours and name + file.name[1:] not in kept:
                file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    group.journal.rewrite(kept)


def copy_group(old: StoredGroup, new: StoredGroup) -> list[str]:
    """Copies every step of a group to its place in a longer one; steps of which something is lost are left out.

    Returns:
      What is lost, one line a file.

    Raises:
      OSError: a file cannot be read or written.
    """
    lost: list[str] = []

    def read(name: str, index: tuple[int, ...]) -> tuple[np.ndarray | None, bool]:
        try:
            return read_file(old, name, index), True
        except Damaged as error:
            lost.append(str(error))
            return None, False

    positions = np.searchsorted(new.spec.steps, old.spec.steps)
    source, target = old.arrays["metrics"], new.arrays["metrics"]
    metrics = np.full(target.shape, np.nan, np.float32)
    for block in range(source.cdata_shape[2]):
        values, _ = read("metrics", (0, 0, block))
        if values is not None:
            first = block * source.chunks[2]
            metrics[:, :, positions[first : first + values.shape[2]]] = values
    for before, after in enumerate(positions.tolist()):
        if np.isnan(metrics[:, :, after]).all():
            continue
        content, whole = {}, True
        for name in old.spec.fields:
            for index in files_of(old.arrays[name], before):
                values, fine = read(name, index)
                whole &= fine
                if values is not None:
                    content[name, (index[0], after, *index[2:])] = values
        if whole and content:
            write_files(new, content)
        elif not whole:
            metrics[:, :, after] = np.nan
    blocks = range(target.cdata_shape[2])
    size = target.chunks[2]
    write_files(new, {("metrics", (0, 0, b)): metrics[:, :, b * size : (b + 1) * size] for b in blocks})
    if new.journal is not None:
        new.journal.end()
    return lost
