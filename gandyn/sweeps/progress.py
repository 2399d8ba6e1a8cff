"""Progress of a sweep: a bar on a terminal and in a notebook, a line every so often in a log."""

import html
import math
import sys
import time
from types import TracebackType
from typing import Any

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


class _Counted:
    """Run-steps of a total that are done, and how fast."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self._anew = total, 0, 0
        self._start = time.perf_counter()

    def add(self, done: int, anew: bool) -> None:
        self.done += done
        self._anew += done if anew else 0

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def rate(self) -> str:
        """'1,200 run-steps/s, 3 s left'."""
        rate, remaining = self._anew / (time.perf_counter() - self._start), self.total - self.done
        # At first most of the time goes into compiling, and tells nothing of what is left.
        left = f", {duration(remaining / rate)} left" if remaining and self._anew > 0.02 * self.total else ""
        return f"{rate:,.0f} run-steps/s{left}"


class Lines:
    """A line every so often, for logs."""

    def __init__(self, total: int, every: float) -> None:
        self._counted, self._every, self._last = _Counted(total), every, time.perf_counter()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, label: str, done: int, *, anew: bool = True) -> None:
        """See `training.Report`."""
        self._counted.add(done, anew)
        now, counted = time.perf_counter(), self._counted
        if now - self._last < self._every and (counted.done < counted.total or self._every == math.inf):
            return
        self._last = now
        print(f"{counted.share:4.0%}  {counted.rate()}  {printable(label)}", file=sys.stderr, flush=True)


_BAR = """\
<div style="font-family: sans-serif; font-size: 90%; white-space: nowrap">
<progress max="1" value="{share:.4f}" style="width: 22em; vertical-align: middle"></progress>
{share:4.0%} &nbsp; {rest}</div>"""


class NotebookBar:
    """A progress bar in the output of a notebook's cell. It needs no widgets, and stays where the notebook is saved."""

    def __init__(self, total: int, display: Any, every: float = 0.2) -> None:
        self._counted, self._display, self._every = _Counted(total), display, every
        self._label, self._handle, self._last = "starting", None, -math.inf

    def __enter__(self) -> "NotebookBar":
        self._handle = self._display(self._content(), raw=True, display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._update()

    def __call__(self, label: str, done: int, *, anew: bool = True) -> None:
        """See `training.Report`."""
        self._label = printable(label)
        self._counted.add(done, anew)
        if time.perf_counter() - self._last >= self._every:
            self._update()

    def _update(self) -> None:
        self._last = time.perf_counter()
        if self._handle is not None:
            self._handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        rest = f"{self._counted.rate()}  {self._label}"
        text = _BAR.format(share=self._counted.share, rest=html.escape(rest))
        return {"text/html": text, "text/plain": f"{self._counted.share:4.0%}  {rest}"}


def _notebook() -> Any:
    """What displays in the notebook that this process is the kernel of; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # pyright: ignore[reportMissingImports]  there, for it runs this

    return display


def shown(total: int, wanted: bool) -> Bar | NotebookBar | Lines:
    """What shows `total` run-steps, where that is wanted."""
    display = _notebook() if wanted else None
    if display is not None:
        return NotebookBar(total, display)
    console = Console(stderr=True)
    if wanted and console.is_terminal:
        return Bar(total, console)
    return Lines(total, every=10 if wanted else math.inf)
