"""Results on disk: made, extended and gone on with while the runs train; `reading` opens them in one line.

A results folder holds `manifest.json` (what was run, and the list of groups), one zarr v3 store a group of runs,
`group-000.zarr`, ..., and beside each how far it is, `group-000.json`.

A kill at any moment leaves a folder that opens with every measurement whose `Writer.write` had returned. That rests on
three habits: arrays are preallocated full of NaN and never grow (a group that is to be longer is copied); each file is
written whole, beside its place, and then renamed; the manifest lists the groups only once all of them exist. What a
checkpoint relies on is forced through the operating system's cache before it (`Writer.sync`); a power failure loses
what came after.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr.storage

from gandyn.results import locks
from gandyn.results import manifest as manifests
from gandyn.results.arrays import array_shapes, copy_group, create_group, open_group
from gandyn.results.files import sync_file, write_arrays
from gandyn.results.spec import GroupSpec, check_agreement
from gandyn.results.writer import Writer

_START_NAME = re.compile(r"start-[0-9]{3,9}\.npz")

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
    entries = [_entry(index, spec, index) for index, spec in enumerate(specs)]
    if path is None:
        groups = [create_group(spec, zarr.storage.MemoryStore()) for spec in specs]
        writer = Writer(None, manifest | {"groups": entries}, dict(enumerate(groups)))
        writer.starts.update(starts or {})
        return writer

    check_output(path, overwrite)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    # With no groups listed, a kill before the next manifest leaves a folder that is still known as ours.
    manifests.write(folder, manifest)
    for entry in list(folder.iterdir()):
        if manifests.GROUP_NAME.fullmatch(entry.name) or entry.name == CHECKPOINTS:
            shutil.rmtree(entry)
        elif manifests.PROGRESS_NAME.fullmatch(entry.name) or _START_NAME.fullmatch(entry.name):
            entry.unlink()
    for index, arrays in (starts or {}).items():
        write_arrays(folder / f"start-{entries[index]['unit']:03d}.npz", arrays)
    groups = [create_group(spec, zarr.storage.LocalStore(folder / e["name"])) for spec, e in zip(specs, entries)]
    manifest["groups"] = entries
    manifests.write(folder, manifest)
    return Writer(folder, manifest, dict(enumerate(groups)))


def _entry(number: int, spec: GroupSpec, unit: int) -> dict[str, Any]:
    """What the manifest says of a group: `name` of its store, `size`, and `unit`, which stays when it is copied."""
    return {"name": f"group-{number:03d}.zarr", "size": spec.size, "unit": unit}


def reopen(path: str | os.PathLike[str], only: int | None = None) -> Writer:
    """The writer of results that exist, to go on with them; of all groups, or of `only` one.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged or of another format version.
    """
    folder = Path(path)
    manifest = manifests.read_as_is(folder)
    manifests.check_has_groups(folder, manifest)
    wanted = range(len(manifest["groups"])) if only is None else [only]
    entries = {index: manifest["groups"][index] for index in wanted}
    groups = {i: open_group(folder / entry["name"], entry["size"], writable=True) for i, entry in entries.items()}
    return Writer(folder, manifest, groups)


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
        ValueError: as `create` and `reopen`; a group to be lengthened is damaged, or would lose a step.
    """
    writer = reopen(path)
    folder = Path(path)
    manifest = writer.manifest | dict(metadata)
    manifests.check(manifest)
    check_agreement([*(longer.get(index, group.spec) for index, group in writer.groups.items()), *specs])
    listed = {entry["name"] for entry in manifest["groups"]}
    for entry in list(folder.iterdir()):  # what an extension that was killed has left
        if manifests.GROUP_NAME.fullmatch(entry.name) and entry.name not in listed:
            shutil.rmtree(entry)
    number = 1 + max(int(name[6:-5]) for name in listed)
    entries, replaced = list(manifest["groups"]), []
    for index, spec in longer.items():
        old, entry = writer.groups[index], entries[index]
        lost = sorted(set(old.spec.steps) - set(spec.steps))
        if lost or set(old.arrays) != set(array_shapes(spec)) or spec.size != old.spec.size:
            raise ValueError(f"{folder}: {entry['name']} cannot be lengthened to another group (steps lost: {lost})")
        entries[index] = _entry(number, spec, entry["unit"])
        number += 1
        new = create_group(spec, zarr.storage.LocalStore(folder / entries[index]["name"]))
        try:
            copy_group(old, new)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # zarr raises a dozen types for a truncated or foreign chunk
            raise ValueError(
                f"{folder / entry['name']} is damaged ({error}): gandyn resume measures it again"
            ) from error
        for file in (folder / entries[index]["name"]).rglob("*"):  # before what it is a copy of is removed
            if file.is_file():
                sync_file(file)
        replaced.append(folder / entry["name"])
    unit = 1 + max(entry["unit"] for entry in entries)
    for spec in specs:
        entries.append(_entry(number, spec, unit))
        create_group(spec, zarr.storage.LocalStore(folder / entries[-1]["name"]))
        number, unit = number + 1, unit + 1
    manifests.write(folder, manifest | {"groups": entries, "status": "interrupted"})
    for name in replaced:
        shutil.rmtree(name)
    return reopen(folder)


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
    file = writer.folder / f"start-{writer.unit(group):03d}.npz"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: what its runs start from cannot be read: {error}") from error
