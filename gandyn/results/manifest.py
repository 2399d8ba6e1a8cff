"""What a results folder says of itself: `manifest.json`, its copy, and how far each group is, `group-000.json`, ..."""

import contextlib
import datetime
import json
import math
import os
import re
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gandyn import checks
from gandyn.results import locks
from gandyn.results.files import Damaged, check_signed, folder_of, read_json, write_json

FORMAT_VERSION = 5

NAME = "manifest.json"
COPY = "manifest.copy.json"
"""What is read where the manifest is damaged."""
GROUP_NAME = re.compile(r"group-[0-9]{3,9}\.zarr")
PROGRESS_NAME = re.compile(r"group-[0-9]{3,9}\.json")
STATUSES = ("running", "complete", "interrupted", "failed")
_ID = re.compile(r"[0-9a-f]{32}")
_TEXTS = ("title", "command", "configuration", "device", "environment", "precision", "commit", "coverage_convention")


def new(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with no groups yet. Raises ValueError for metadata that is unknown or of the wrong type."""
    allowed = (*_TEXTS, "versions", "parts")
    for name in metadata:
        checks.choice("metadata", name, allowed)
    manifest = {
        "format_version": FORMAT_VERSION,
        "id": uuid.uuid4().hex,
        "status": STATUSES[0],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_time_s": None,
        **{name: metadata.get(name, "") for name in _TEXTS},
        "versions": dict(metadata.get("versions", {})),
        "parts": list(metadata.get("parts", [])),
        "ends": [],
        "groups": [],
    }
    check(manifest)
    return manifest


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a results folder says of itself; `status` is 'running' only while a process writes it.

    Raises:
        FileNotFoundError, ValueError: as `open_recorded`.
        Locked: another process makes it, and is not done.
    """
    folder = folder_of(path, "path")
    try:
        manifest = read_as_is(folder)
        check_has_groups(folder, manifest)
    except ValueError:
        locks.refuse_held(folder)  # what is being made is not damaged
        raise
    if manifest["status"] == "running" and not locks.held(folder):
        manifest["status"] = "interrupted"
    return manifest


def read_as_is(folder: Path) -> dict[str, Any]:
    """The checked manifest of a folder, or its copy where that is damaged, with a RuntimeWarning.

    Raises:
        FileNotFoundError, ValueError: there is neither; names the path.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: expected a results folder")
    file, copy = folder / NAME, folder / COPY
    try:
        manifest, problem = _read_one(file), None
    except (OSError, ValueError) as error:
        manifest, problem = None, error
    try:
        kept = _read_one(copy)
    except (OSError, ValueError):
        kept = None
    if manifest is None and kept is None:
        if isinstance(problem, FileNotFoundError):
            raise ValueError(f"{folder} is no results folder: expected {NAME} in it")
        assert problem is not None
        raise problem
    if manifest is not None and (kept is None or kept["id"] == manifest["id"] or not _groups_say(folder, kept)):
        return manifest
    assert kept is not None
    why = problem or f"{file} is of another run"
    warnings.warn(f"{why}: {COPY} is read instead, and gandyn resume makes it again", RuntimeWarning, stacklevel=3)
    return kept


def _read_one(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is gone")
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: expected JSON ({error})") from error
    try:
        check_version(manifest)
        manifest = check_signed(manifest)
        check(manifest)
    except Damaged as error:
        raise ValueError(f"{file} is damaged, or was changed by hand: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no manifest that can be read: {error}") from error
    return manifest


def _groups_say(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the groups of a folder are those of a manifest: who is asked where it and its copy are of two runs."""
    for entry in manifest["groups"]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if read_json(folder / entry["name"] / "zarr.json")["attributes"]["id"] == manifest["id"]:
                return True
    return False


def check_has_groups(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ValueError for a folder that was stopped while it was made."""
    if not manifest["groups"]:
        raise ValueError(f"{folder} holds no runs: it was stopped while being made; write it again with overwrite")


def check_version(manifest: Any) -> None:
    """Raises ValueError for what is no manifest of this format."""
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise ValueError("expected an object with format_version")
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version is {manifest['format_version']!r}, this gandyn reads {FORMAT_VERSION}")


def check(manifest: Any) -> None:
    """Raises ValueError unless every entry has its type and every group a name that stays inside the folder."""
    check_version(manifest)
    if not isinstance(manifest.get("id"), str) or not _ID.fullmatch(manifest["id"]):
        raise ValueError(f"id is {manifest.get('id')!r:.80}, expected 32 hexadecimal digits")
    for name in (*_TEXTS, "created"):
        if not isinstance(manifest.get(name), str):
            raise ValueError(f"{name} is {manifest.get(name)!r}, expected text")
    if manifest.get("status") not in STATUSES:
        raise ValueError(f"status is {manifest.get('status')!r}, expected one of {', '.join(STATUSES)}")
    wall_time_s = manifest.get("wall_time_s")
    if wall_time_s is not None and (not isinstance(wall_time_s, int | float) or not 0 <= wall_time_s < 10**15):
        raise ValueError(f"wall_time_s is {wall_time_s!r:.80}, expected a number of seconds or null")
    versions = manifest.get("versions")
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise ValueError(f"versions is {versions!r}, expected package -> version")
    parts = manifest.get("parts")
    if not isinstance(parts, list) or not all(_is_part(part) for part in parts):
        raise ValueError(f"parts is {parts!r:.200}, expected objects with {', '.join(_PART)}")
    ends = manifest.get("ends")
    if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
        raise ValueError(f"ends is {ends!r}, expected the steps at which earlier runs ended")
    groups = manifest.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ValueError("groups is no list of objects")
    for group in groups:
        name, size = group.get("name"), group.get("size")
        if not isinstance(name, str) or not GROUP_NAME.fullmatch(name):
            raise ValueError(f"the group name {name!r} is not of the form group-000.zarr")
        whole = {"size": (size, 10**9), "unit": (group.get("unit"), 10**9), "sum": (group.get("sum"), 2**32)}
        whole |= {"start": (group["start"], 2**32)} if "start" in group else {}
        for of, (number, most) in whole.items():
            if not isinstance(number, int) or not 0 <= number < most:
                raise ValueError(f"the {of} of {name} is {number!r:.80}, expected an integer")
    for key in ("name", "unit"):
        if len({group[key] for group in groups}) < len(groups):
            raise ValueError(f"groups lists a {key} twice")


_PART = ("kind", "name", "fingerprint")


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(part.get(name), str) for name in _PART)


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder holds this manifest and its copy, both undamaged."""
    try:
        return all(_read_one(folder / name) == manifest for name in (NAME, COPY))
    except (OSError, ValueError):
        return False


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest of a folder, and before it its copy."""
    write_json(folder / COPY, manifest)
    write_json(folder / NAME, manifest)


def dataset_attributes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What of a manifest the dataset of the results carries in its attributes."""
    wall_time_s = math.nan if manifest["wall_time_s"] is None else manifest["wall_time_s"]
    attrs = {name: value for name, value in manifest.items() if name not in ("groups", "ends", "parts", "id")}
    return attrs | {"wall_time_s": wall_time_s, "versions": json.dumps(manifest["versions"])}


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


def note_progress(folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any], progress: Progress) -> None:
    """Notes how far a group is."""
    write_json(_progress_file(folder, entry), progress._asdict() | {"id": manifest["id"]})


def read_progress(
    folder: Path | None, manifest: Mapping[str, Any], entry: Mapping[str, Any], begun: bool = False
) -> Progress:
    """What `Writer.note` wrote last; of a file that says nothing that could be read, nothing is known.

    A file that is damaged, or gone though the group has `begun`, is named in a RuntimeWarning.
    """
    if folder is None:
        return Progress()
    file = _progress_file(folder, entry)
    try:
        about = check_signed(read_json(file))
        if about.pop("id", None) != manifest["id"]:
            raise Damaged("it is of another run")
        return _checked(Progress(**about))
    except FileNotFoundError:
        problem = "is gone" if begun or os.path.lexists(file) else ""
    except (OSError, ValueError, TypeError, OverflowError) as error:
        problem = f"is damaged ({error})"
    if problem:
        warnings.warn(f"{file} {problem}: how far its runs are is not known", RuntimeWarning, stacklevel=3)
    return Progress()


def _checked(progress: Progress) -> Progress:
    wall_time_s = float(progress.wall_time_s)
    if progress.status not in (*STATUSES, "waiting") or not isinstance(progress.error, str):
        raise ValueError("it says no status")
    if type(progress.step) is not int or not 0 <= progress.step < 10**15 or not 0 <= wall_time_s < math.inf:
        raise ValueError("it says no step and time")
    return progress


def _progress_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    return folder / f"group-{entry['unit']:03d}.json"
