"""One writer a folder: a lock that the operating system gives up with its process, however that ends."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gandyn.results.files import make_way
from gandyn.text import printable

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
    make_way(folder / NAME)
    with _opened(folder / NAME, os.O_RDWR | os.O_CREAT) as file:
        if not _taken(file):
            raise Locked(f"{folder} is being written by {_holder(file)}: wait for it, stop it, or choose another name")
        try:
            # In one call, past the buffer: one that could not be written would be tried again when the file is closed.
            about = json.dumps({"pid": os.getpid(), "host": platform.node(), "command": command}).encode()
            os.ftruncate(file.fileno(), 0)
            with contextlib.suppress(OSError):  # a full disk: who holds the folder is not known then, but that it is
                os.pwrite(file.fileno(), about, 0)
            yield
        finally:
            # Before the lock is given up: another process may then be at work there.
            if made and [entry.name for entry in folder.iterdir()] == [NAME]:
                (folder / NAME).unlink()  # what the folder was made for never began
                folder.rmdir()


def refuse_held(folder: Path) -> None:
    """Raises `Locked`, with the name of the process, where one writes the folder now."""
    with contextlib.suppress(OSError), _opened(folder / NAME, os.O_RDONLY) as file:
        if fcntl is not None and not _taken(file, tries=1, shared=True):
            raise Locked(f"{folder} is being written by {_holder(file)}: wait for it, stop it, or choose another name")


def held(folder: Path) -> bool:
    """Whether a process writes the folder now."""
    try:
        with _opened(folder / NAME, os.O_RDONLY) as file:
            return fcntl is not None and not _taken(file, tries=1, shared=True)
    except OSError:
        return False


def _opened(path: Path, flags: int) -> IO[str]:
    """A file that is no link (a folder from elsewhere could have a file of ours emptied) and no pipe that blocks."""
    plain = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags | plain, 0o666), "r+" if flags & os.O_RDWR else "r", encoding="utf-8")


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
        return printable(f"process {int(about['pid'])} on {about['host']}{command}")
    except (ValueError, KeyError, TypeError):
        return "another process"
