"""One writer a folder: a lock that the operating system gives up with its process, however that ends."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # no such locks on this platform: nothing is refused there
    fcntl = None

NAME = ".lock"


class Locked(ValueError):
    """Another process writes the folder."""


@contextlib.contextmanager
def writer(folder: Path, command: str = "") -> Iterator[None]:
    """Holds the folder, made where it is missing, against every other writer.

    Raises:
      Locked: another process holds it; the message names it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / NAME).open("a+")  # appending: the holder's name must not go before the lock is ours
    try:
        if not _taken(file):
            raise Locked(f"{folder} is being written by {_holder(file)}: wait for it, stop it, or choose another name")
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": platform.node(), "command": command}, file)
        file.flush()
        yield
    finally:
        file.close()
        if made and [entry.name for entry in folder.iterdir()] == [NAME]:
            # What it was made for never began.
            (folder / NAME).unlink()
            folder.rmdir()


def held(folder: Path) -> bool:
    """Whether a process writes the folder now."""
    try:
        with (folder / NAME).open() as file:
            return fcntl is not None and not _taken(file, tries=1, shared=True)
    except OSError:
        return False


def _taken(file: IO[str], tries: int = 10, *, shared: bool = False) -> bool:
    """Takes the lock; several tries, for a reader that looks whether it is held has it for an instant."""
    if fcntl is None:
        return True
    for attempt in range(tries):
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt + 1 < tries:
                time.sleep(0.05)
    return False


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        about = json.load(file)
        command = f" ({about['command']})" if about["command"] else ""
        return f"process {int(about['pid'])} on {about['host']}{command}"
    except (ValueError, KeyError, TypeError):
        return "another process"
