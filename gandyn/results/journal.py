"""What was written to the files of a group, a line a write: by it a lost file is told from one that was never written.

    samples.0.3.0.0=5f3a01c2 metrics.0.0.0=9b00e1d7 1c2d3e4f

Each line names the files that one write replaces with the checksums of what they then hold, and ends with a checksum of
its own, into which goes what the journal is of: a line of another run's is none. It is added before the files are
written, so the last line may be of a write that never came to its end. `end` says that everything before it did.
"""

import errno
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gandyn.results.files import sync_file, write_bytes

_NOTHING = -1
"""The checksum of what is NaN throughout: it takes no file."""
_END = "end"


def checksum(values: np.ndarray) -> int:
    """Of what one file of an array holds."""
    if np.isnan(values.flat[0]) and np.isnan(values).all():
        return _NOTHING
    return zlib.crc32(np.ascontiguousarray(values))  # pyright: ignore[reportArgumentType]


class Journal:
    """The journal of one group.

    Args:
      file: where it is; made by the first write.
      of: what it is of, in words that no other group of any run has.

    Attributes:
      sums: name of a file (array.index.index...) -> the checksum of what was written to it.
      pending: the same of the last write, where that may not have come to its end.
      damaged: whether it has lines that are not its own.
    """

    def __init__(self, file: Path, of: str) -> None:
        self.file, self._of = file, of
        self._text = b""
        self.sums: dict[str, int] = {}
        self.pending: dict[str, int] = {}
        self.damaged = False
        self.reload()

    def reload(self) -> bool:
        """Reads it anew; False where nothing has changed.

        Raises:
          OSError: it is there and cannot be read.
        """
        try:
            text = self.file.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            text = b""
        if text == self._text:
            return False
        self._text, self.sums, self.pending, self.damaged = text, {}, {}, False
        for line in text.split(b"\n"):
            sums = self._parsed(line)
            if sums is None:
                self.damaged = True
                continue
            if line:
                self.sums.update(self.pending)
                self.pending = sums
        return True

    def _parsed(self, line: bytes) -> dict[str, int] | None:
        """What a line says; None for one that is damaged or not of this group."""
        if not line:
            return {}
        body, _, own = line.rpartition(b" ")
        if own != self._own(body):
            return None
        if body == _END.encode():
            return {}
        entries = [entry.rpartition("=") for entry in body.decode().split(" ")]
        return {name: int(number, 16) for name, _, number in entries}

    def _own(self, body: bytes) -> bytes:
        return b"%08x" % zlib.crc32(body, zlib.crc32(self._of.encode()))

    def known(self, name: str) -> tuple[int, ...]:
        """The checksums that a file may have; empty for one that was never written."""
        return tuple(dict.fromkeys(sums[name] for sums in (self.pending, self.sums) if name in sums))

    def came_through(self) -> None:
        """Takes note that the last write came to its end."""
        self.sums.update(self.pending)
        self.pending = {}

    def missing(self, there: set[str], names: set[str]) -> set[str]:
        """Of `names`, the files that were written and are not `there`."""
        return {name for name in names - there if name in self.sums and _NOTHING not in self.known(name)}

    def add(self, sums: Mapping[str, int]) -> None:
        """Notes a write that is about to be made, and that the ones before it were.

        Raises:
          OSError: it cannot be written.
        """
        self._append(self._line(sums))
        self.came_through()
        self.pending = dict(sums)

    def end(self) -> None:
        """Notes that every write was made, and forces the journal through the operating system's cache."""
        if self.pending:
            self._append(self._line({}))
            self.came_through()
        if self.file.is_file():
            sync_file(self.file)

    def rewrite(self, sums: Mapping[str, int]) -> None:
        """Replaces it by one that says no more than this."""
        self._text = self._line(sums) + self._line({}) if sums else b""
        write_bytes(self.file, self._text)
        self.sums, self.pending, self.damaged = dict(sums), {}, False

    def _line(self, sums: Mapping[str, int]) -> bytes:
        body = " ".join(f"{name}={number:x}" for name, number in sums.items()).encode() or _END.encode()
        # The break comes first: what a full disk has left of a line before is a line of its own.
        return b"\n" + body + b" " + self._own(body)

    def _append(self, line: bytes) -> None:
        plain = getattr(os, "O_NOFOLLOW", 0)
        opened = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | plain, 0o666)
        try:
            if os.write(opened, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
        finally:
            os.close(opened)
