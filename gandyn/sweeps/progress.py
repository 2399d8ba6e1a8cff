"""Progress of a sweep: a bar on a terminal, a line every so often in a log."""

import math
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gandyn.text import duration, printable


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.0f} run-steps/s")


_WIDTH = 32


class Bar:
    """A progress bar on a terminal."""

    def __init__(self, total: int, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
        self._bar = Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=console, speed_estimate_period=60)
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, label: str, done: int, *, anew: bool = True) -> None:
        """See `training.Report`."""
        label = printable(label)
        label = label if len(label) <= _WIDTH else label[: _WIDTH - 1] + "…"  # the rest of the line is for the bar
        if anew:
            self._bar.update(self._task, description=escape(label), advance=done)
        else:
            # What was done before tells nothing of the speed.
            completed = self._bar.tasks[self._task].completed + done
            self._bar.reset(self._task, description=escape(label), completed=int(completed))


class Lines:
    """A line every so often, for logs."""

    def __init__(self, total: int, every: float) -> None:
        self._total, self._every, self._done, self._anew = total, every, 0, 0
        self._start = self._last = time.perf_counter()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, label: str, done: int, *, anew: bool = True) -> None:
        """See `training.Report`."""
        self._done += done
        self._anew += done if anew else 0
        now = time.perf_counter()
        if now - self._last < self._every and (self._done < self._total or self._every == math.inf):
            return
        self._last = now
        rate, remaining = self._anew / (now - self._start), self._total - self._done
        # At first most of the time goes into compiling, and tells nothing of what is left.
        left = f", {duration(remaining / rate)} left" if remaining and self._anew > 0.02 * self._total else ""
        print(
            f"{self._done / self._total:4.0%}  {rate:,.0f} run-steps/s{left}  {printable(label)}",
            file=sys.stderr,
            flush=True,
        )


def shown(total: int, wanted: bool) -> Bar | Lines:
    """What shows `total` run-steps, where that is wanted."""
    console = Console(stderr=True)
    if wanted and console.is_terminal:
        return Bar(total, console)
    return Lines(total, every=10 if wanted else math.inf)
