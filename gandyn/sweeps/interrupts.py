"""Ctrl-C and SIGTERM as a request that is honoured at the next safe point, not wherever the program happens to be."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has: what was done is on disk.

    Attributes:
      signum: of the signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Stop:
    """While entered (in the main thread), a first SIGINT or SIGTERM only sets `signum`; a second one is immediate."""

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                # A handler of the program's own, or a signal that is ignored, stays.
                if signal.getsignal(signum) in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[signum] = signal.signal(signum, self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if error is None:
            self.check()  # asked for after the last safe point: whoever called us must hear of it

    def _asked(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum

    def check(self) -> None:
        """A safe point. Raises `Stopped` where that was asked for."""
        if self.signum:
            raise Stopped(self.signum)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Ends the process so many seconds after SIGINT or SIGTERM, were it busy in compiled code all the while.

    What is on disk is whole at any moment, so nothing that was recorded is lost. For a process that is ours alone: the
    command line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    done = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while caught := reader.recv(1):
            if caught[0] in (signal.SIGINT, signal.SIGTERM) and not done.wait(seconds):
                print("gandyn: stopped while busy; what was recorded is kept", file=sys.stderr, flush=True)
                os._exit(128 + caught[0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()
