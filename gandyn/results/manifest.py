"""What a results folder says of itself: `manifest.json`, and how far each group is, `group-000.json`, ..."""

import datetime
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gandyn import checks
from gandyn.results import locks
from gandyn.results.files import read_json, write_json

FORMAT_VERSION = 4

NAME = "manifest.json"
GROUP_NAME = re.compile(r"group-[0-9]{3,9}\.zarr")
PROGRESS_NAME = re.compile(r"group-[0-9]{3,9}\.json")
STATUSES = ("running", "complete", "interrupted", "failed")
_TEXTS = ("title", "command", "configuration", "device", "environment", "precision", "commit", "coverage_convention")


def new(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with no groups yet. Raises ValueError for metadata that is unknown or of the wrong type."""
    allowed = (*_TEXTS, "versions", "parts")
    for name in metadata:
        checks.choice("metadata", name, allowed)
    manifest = {
        "format_version": FORMAT_VERSION,
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
    """
    folder = Path(path)
    manifest = read_as_is(folder)
    check_has_groups(folder, manifest)
    if manifest["status"] == "running" and not locks.held(folder):
        manifest["status"] = "interrupted"
    return manifest


def read_as_is(folder: Path) -> dict[str, Any]:
    """The checked manifest of a folder. Raises FileNotFoundError or ValueError, naming the path."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: expected a results folder")
    file = folder / NAME
    if not file.is_file():
        raise ValueError(f"{folder} is no results folder: expected {NAME} in it")
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: expected JSON ({error})") from error
    try:
        _fill_up(manifest)
        check(manifest)
    except ValueError as error:
        raise ValueError(f"{file} is no manifest that can be read: {error}") from error
    return manifest


def _fill_up(manifest: Any) -> None:
    """What manifests of this format did not say at first."""
    if isinstance(manifest, dict):
        manifest.setdefault("environment", "")


def check_has_groups(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ValueError for a folder that was stopped while it was made."""
    if not manifest["groups"]:
        raise ValueError(f"{folder} holds no runs: it was stopped while being made; write it again with overwrite")


def check(manifest: Any) -> None:
    """Raises ValueError unless every entry has its type and every group a name that stays inside the folder."""
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise ValueError("expected an object with format_version")
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version is {manifest['format_version']!r}, this gandyn reads {FORMAT_VERSION}")
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
        for of, number in (("size", size), ("unit", group.get("unit"))):
            if not isinstance(number, int) or not 0 <= number < 10**9:
                raise ValueError(f"the {of} of {name} is {number!r}, expected an integer")
    for key in ("name", "unit"):
        if len({group[key] for group in groups}) < len(groups):
            raise ValueError(f"groups lists a {key} twice")


_PART = ("kind", "name", "fingerprint")


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(part.get(name), str) for name in _PART)


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest of a folder."""
    write_json(folder / NAME, manifest)


def dataset_attributes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What of a manifest the dataset of the results carries in its attributes."""
    wall_time_s = math.nan if manifest["wall_time_s"] is None else manifest["wall_time_s"]
    attrs = {name: value for name, value in manifest.items() if name not in ("groups", "ends", "parts")}
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


def note_progress(folder: Path, entry: Mapping[str, Any], progress: Progress) -> None:
    """Notes how far a group is."""
    write_json(_progress_file(folder, entry), progress._asdict())


def read_progress(folder: Path | None, entry: Mapping[str, Any]) -> Progress:
    """What `Writer.note` wrote last; of a file that says nothing that could be read, nothing is known."""
    if folder is None:
        return Progress()
    try:
        progress = Progress(**read_json(_progress_file(folder, entry)))
        wall_time_s = float(progress.wall_time_s)
    except (OSError, ValueError, TypeError, OverflowError):
        return Progress()
    if progress.status not in (*STATUSES, "waiting") or not isinstance(progress.error, str):
        return Progress()
    if type(progress.step) is not int or not 0 <= progress.step < 10**15 or not 0 <= wall_time_s < math.inf:
        return Progress()
    return progress


def _progress_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    return folder / f"group-{entry['unit']:03d}.json"
