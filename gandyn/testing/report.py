"""What a run of the conformity suite found: `Report`, and the `Suite` that makes it."""

import dataclasses
import re
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gandyn import checks


class Check(NamedTuple):
    """One check of a part.

    Attributes:
      name: what `without` of `check` takes.
      outcome: "passed", "failed", or "skipped": left out, or without meaning here.
      detail: what was found, or why not.
    """

    name: str
    outcome: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found of a part; prints as a table.

    Attributes:
      kind: of the part: "loss", "penalty", "rule", "optimizer", "network", "target" or "measurement".
      name: of the part.
      checks: in the order in which they were made.
    """

    kind: str
    name: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """Those that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __str__(self) -> str:
        counts = {outcome: sum(check.outcome == outcome for check in self) for outcome in _OUTCOMES}
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        wide = max((len(check.name) for check in self), default=0)
        rows = [f"  {check.name:<{wide}}  {check.outcome:<7}  {check.detail}".rstrip() for check in self]
        return "\n".join([f"{self.kind} {self.name!r}: {told}", *rows])

    __repr__ = __str__


_OUTCOMES = ("passed", "failed", "skipped")


class Skip(Exception):
    """A check that has no meaning for a part."""


class Suite:
    """Runs checks of one part, and keeps what they found: none stops the others."""

    def __init__(self, kind: str, name: str, without: Collection[str]) -> None:
        self.kind, self.name, self.without = kind, name, tuple(without)
        self.found: list[Check] = []

    def run(self, name: str, check: Callable[..., str | None], *arguments: Any) -> bool:
        """Makes a check, which returns a detail or raises; whether what builds on it can go on."""
        outcome, detail = "passed", ""
        if name in self.without:
            outcome, detail = "skipped", "left out"
        else:
            try:
                detail = check(*arguments) or ""
            except Skip as reason:
                outcome, detail = "skipped", str(reason)
            except Exception as error:  # noqa: BLE001 (a person's own code may raise anything)
                outcome, detail = "failed", in_words(error)
        self.found.append(Check(name, outcome, detail))
        return outcome != "failed"

    def report(self) -> Report:
        """What was found.

        Raises:
          ValueError: something to be left out is no check of such a part. (A check that was never reached cannot be
            told from one that does not exist, so only of parts without failures.)
        """
        report = Report(self.kind, self.name, tuple(self.found))
        names = [check.name for check in report]
        for name in self.without if not report.failures else ():
            checks.choice("without", name, names)
        return report


_TRACED = (
    "asks for the value of what is traced (an `if`, a `float(...)`): numbers are traced, so that a sweep over them is "
    "one program. Allowed: jnp.where, jax.lax.cond; what is to be static is a field of the part or of Config"
)


def in_words(error: Exception) -> str:
    """What an error says, and where it was raised if that is no error of a check."""
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return _TRACED + _place(error)
    text = re.sub(r"\[Chex\] (Assertion \S+ failed: *)?", "", str(error)).strip()
    text = text if len(text) < _LONGEST else f"{text[:_LONGEST]} ..."
    if isinstance(error, AssertionError | ValueError) and text:
        return text
    return f"{type(error).__name__}{': ' * bool(text)}{text}{_place(error)}"


def _place(error: Exception) -> str:
    """The last line of neither jax nor this package that the error passed, or ""."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not {"jax", "jaxlib", "flax", "chex", "optax", "numpy", "testing"} & set(Path(frame.filename).parts)
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


_LONGEST = 600
