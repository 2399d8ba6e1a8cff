"""Results on disk: made, extended and gone on with while the runs train; `reading` opens them in one line.

A results folder holds `manifest.json` (what was run, and the list of groups), one zarr v3 store a group of runs,
`group-000.zarr`, ..., and beside each what was written to its files (`group-000.journal`), a copy of those that never
change, and how far it is, `group-000.json`.

A kill at any moment leaves a folder that opens with every measurement whose `Writer.write` had returned. That rests on
three habits: arrays are preallocated full of NaN and never grow (a group that is to be longer is copied); each file is
written whole, beside its place, and then renamed; the manifest lists the groups only once all of them exist. What a
checkpoint relies on is forced through the operating system's cache before it (`Writer.sync`); a power failure loses
what came after.
"""

import io
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr.storage

from gandyn.results import locks
from gandyn.results import manifest as manifests
from gandyn.results.arrays import (
    array_shapes,
    copy_group,
    copy_of,
    create_group,
    journal_of,
    make_group,
    mend_static,
    open_group,
)
from gandyn.results.files import Damaged, check_length, folder_of, make_way, not_measured, sync_file, write_arrays
from gandyn.results.spec import GroupSpec, check_agreement
from gandyn.results.writer import Writer

_OURS = re.compile(r"start-[0-9]{3,9}\.npz|group-[0-9]{3,9}\.(json|journal|copy\.npz)")

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a results folder."""


def create(
    path: str | os.PathLike[str] | None,
    specs: Sequence[GroupSpec],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
    starts: Mapping[int, Mapping[str, np.ndarray]] | None = None,
) -> Writer:
    """Makes a results folder with every array in place and nothing measured yet.

    Args:
        path: the folder, made with its parents; None keeps everything in memory.
        specs: one entry a compile group.
        metadata: `title`, `command`, `configuration` (TOML text), `device`, `precision`, `commit`,
            `coverage_convention`, all text ("" where left out), and `versions` (package -> version).
        overwrite: replace the results in `path`. Other files in the folder stay.
        starts: position of a group -> what its runs start from, where they are not drawn by their seeds.

    Raises:
        ValueError: before anything is written, where `check_output` refuses the path, the metadata has an unknown name
            or a wrong type, or the groups contradict each other.
    """
    if not specs:
        raise ValueError("specs is empty: results have at least one group")
    check_agreement(specs)
    manifest = manifests.new(metadata)
    if path is None:
        groups = [create_group(spec, zarr.storage.MemoryStore()) for spec in specs]
        entries = [_entry(index, spec, index, 0) for index, spec in enumerate(specs)]
        writer = Writer(None, manifest | {"groups": entries}, dict(enumerate(groups)))
        writer.starts.update(starts or {})
        return writer

    folder = folder_of(path)
    check_output(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    # With no groups listed, a kill before the next manifest leaves a folder that is still known as ours.
    manifests.write(folder, manifest)
    for entry in list(folder.iterdir()):
        if manifests.GROUP_NAME.fullmatch(entry.name) or entry.name == CHECKPOINTS:
            shutil.rmtree(entry)
        elif _OURS.fullmatch(entry.name):
            make_way(entry)
            entry.unlink(missing_ok=True)
    groups, entries = [], []
    for index, spec in enumerate(specs):
        group, total = make_group(spec, folder / _name(index), manifest["id"])
        groups.append(group)
        entries.append(_entry(index, spec, index, total))
    for index, arrays in (starts or {}).items():
        write_arrays(_start_file(folder, index), arrays)
        entries[index]["start"] = zlib.crc32(_start_file(folder, index).read_bytes())
    manifest["groups"] = entries
    manifests.write(folder, manifest)
    return Writer(folder, manifest, dict(enumerate(groups)))


def _entry(number: int, spec: GroupSpec, unit: int, total: int) -> dict[str, Any]:
    """What the manifest says of a group.

    `name` of its store, `size`, `unit`, which stays when it is copied, and `sum` of what never changes in the store.
    """
    return {"name": _name(number), "size": spec.size, "unit": unit, "sum": total}


def _name(number: int) -> str:
    return f"group-{number:03d}.zarr"


def _start_file(folder: Path, unit: int) -> Path:
    return folder / f"start-{unit:03d}.npz"


def reopen(path: str | os.PathLike[str], only: int | None = None) -> Writer:
    """The writer of results that exist, to go on with them; of all groups, or of `only` one.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged or of another format version.
    """
    folder = folder_of(path, "path")
    manifest = manifests.read_as_is(folder)
    manifests.check_has_groups(folder, manifest)
    wanted = range(len(manifest["groups"])) if only is None else [only]
    entries = {index: manifest["groups"][index] for index in wanted}
    groups = {index: open_group(folder, entry, manifest["id"], writable=True) for index, entry in entries.items()}
    return Writer(folder, manifest, groups)


def mend(path: str | os.PathLike[str]) -> None:
    """Makes anew what a folder has a copy of - manifest, metadata, constants - and says so; for who holds its lock.

    Measurements that are lost are found by `Writer.recorded`, and made again by training.

    Raises:
        FileNotFoundError, ValueError: the folder holds no results, or something that is damaged as its copy is.
        OSError: a file cannot be read or written.
    """
    folder = folder_of(path, "path")
    manifest = manifests.read_as_is(folder)
    manifests.check_has_groups(folder, manifest)
    if not manifests.is_whole(folder, manifest):
        manifests.write(folder, manifest)
    made = [file for entry in manifest["groups"] for file in mend_static(folder / entry["name"], entry["sum"])]
    if made:
        warnings.warn(
            f"{', '.join(made)}: damaged, gone, or of another run; made again from what there is twice",
            RuntimeWarning,
            stacklevel=2,
        )


def extend(
    path: str | os.PathLike[str],
    specs: Sequence[GroupSpec],
    longer: Mapping[int, GroupSpec],
    metadata: Mapping[str, Any],
) -> Writer:
    """Adds groups to results that exist, and lengthens some of those that are there.

    A kill on the way leaves the results as they were, or all of it done: the manifest is replaced last.

    Args:
        path: the folder.
        specs: groups to add, behind those that are there.
        longer: position of a group -> the same with more steps; what was recorded is kept.
        metadata: entries of the manifest that change.

    Raises:
        ValueError: as `create` and `reopen`; a group to be lengthened would lose a step.
    """
    writer = reopen(path)
    folder = folder_of(path, "path")
    manifest = writer.manifest | dict(metadata)
    manifests.check(manifest)
    check_agreement([*(longer.get(index, group.spec) for index, group in writer.groups.items()), *specs])
    listed = {entry["name"] for entry in manifest["groups"]}
    _remove_groups(folder, {_store_of(entry) for entry in folder.iterdir()} - {None} - listed)  # of a killed extension
    number = 1 + max(int(name[6:-5]) for name in listed)
    entries, replaced = list(manifest["groups"]), set()
    for index, spec in longer.items():
        old, entry = writer.groups[index], entries[index]
        lost = sorted(set(old.spec.steps) - set(spec.steps))
        if lost or set(old.arrays) != set(array_shapes(spec)) or spec.size != old.spec.size:
            raise ValueError(f"{folder}: {entry['name']} cannot be lengthened to another group (steps lost: {lost})")
        path_ = folder / _name(number)
        new, total = make_group(spec, path_, manifest["id"])
        entries[index] = entry | _entry(number, spec, entry["unit"], total)
        number += 1
        damaged = copy_group(old, new)
        if damaged:
            warnings.warn(not_measured(damaged), RuntimeWarning, stacklevel=2)
        for file in (*path_.rglob("*"), copy_of(path_), journal_of(path_)):  # before what it is a copy of is removed
            if file.is_file():
                sync_file(file)
        replaced.add(entry["name"])
    unit = 1 + max(entry["unit"] for entry in entries)
    for spec in specs:
        entries.append(_entry(number, spec, unit, make_group(spec, folder / _name(number), manifest["id"])[1]))
        number, unit = number + 1, unit + 1
    manifests.write(folder, manifest | {"groups": entries, "status": "interrupted"})
    _remove_groups(folder, replaced)
    return reopen(folder)


def _store_of(file: Path) -> str | None:
    """The name of the store that a file or folder of ours belongs to."""
    name = re.sub(r"\.(journal|copy\.npz)$", ".zarr", file.name)
    return name if manifests.GROUP_NAME.fullmatch(name) else None


def _remove_groups(folder: Path, names: Iterable[str | None]) -> None:
    for name in filter(None, names):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        for file in (journal_of(folder / name), copy_of(folder / name)):
            make_way(file)
            file.unlink(missing_ok=True)


def check_output(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuses a folder that results must not or cannot be written to; writes nothing.

    A missing folder and an empty one are fine. A folder with files in it is only ever overwritten where its manifest
    reads as one of ours.

    Raises:
        ValueError: says why `path` cannot be used, and what to do instead.
    """
    folder = folder_of(path)
    check_length(folder)
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
    nothing = {locks.NAME, *(f"{name}.partial" for name in (manifests.NAME, manifests.COPY))}
    if all(entry.name in nothing for entry in folder.iterdir()):  # what a kill at the first moment leaves
        return
    try:
        manifests.read_as_is(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds files but no results of this version of gandyn, and is left alone: choose another name"
        ) from error
    if not overwrite:
        raise ValueError(
            f"{folder} already holds results: go on with them (gandyn resume), pass overwrite, or choose another name"
        )


def read_start(writer: Writer, group: int) -> Mapping[str, np.ndarray] | None:
    """What the runs of a group start from, name -> array (R, ...); None where its runs are drawn by their seeds.

    Raises:
        ValueError: the file is damaged, or missing where the group says that there is one.
    """
    if writer.folder is None or "init_from" not in writer.groups[group].spec.coords:
        return writer.starts.get(group)
    file = _start_file(writer.folder, writer.unit(group))
    try:
        content = file.read_bytes()
        if zlib.crc32(content) != writer.manifest["groups"][group].get("start"):
            raise Damaged("it is damaged, or of another run")
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file}: what its runs start from cannot be read ({error}), and there is no second copy of it"
        ) from error
