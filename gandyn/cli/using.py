"""Files that a person names with --using: loaded, and the parts that they define."""

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gandyn.cli.options import Option

if TYPE_CHECKING:
    from gandyn.sweeps import parts

_count = itertools.count()


def load(files: Sequence[Path]) -> list[ModuleType]:
    """The files as modules, in order.

    Raises:
      ValueError: a file that is not there, does not run, or defines no part.
    """
    from gandyn import environment  # imports jax
    from gandyn.sweeps import parts

    with environment.ours():  # arrays that they make are of the types of gandyn's programs
        modules = [_module(file) for file in files]
    for file, module in zip(files, modules, strict=True):
        found = parts.collect([module])
        if not any(found.named.values()) and not found.networks:
            raise ValueError(f"using: got {file}, which defines no part; allowed: a Python file that defines one")
    return modules


def _module(file: Path) -> ModuleType:
    """A file as a module of a name of its own, so that it replaces no other; what lies beside it can be imported."""
    name = f"_gandyn_using_{next(_count)}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file) if file.is_file() and file.suffix == ".py" else None
    if spec is None or spec.loader is None:
        raise ValueError(f"using: got {str(file)!r}; allowed: a Python file, such as mine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    beside = str(file.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"using: {file}{_line(error, file)}: {type(error).__name__}: {error}") from error
    return module


def _line(error: Exception, file: Path) -> str:
    """Where in the file it went wrong."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""


def numbers(found: "parts.Using") -> list[Option]:
    """The numbers that a person's parts declare, as options; those of an optimizer once for each player."""
    declared = {
        name: number
        for kind in ("loss", "penalty", "rule")
        for part in found.named[kind].values()
        for name, number in part.numbers.items()
    }
    declared |= {
        f"{name}_{player}": number
        for part in found.named["optimizer"].values()
        for player in ("gen", "disc")
        for name, number in part.numbers.items()
    }
    return [Option(name, "float", default=number.default, text=number.text) for name, number in declared.items()]


def names(found: "parts.Using") -> dict[str, list[str]]:
    """Field -> the names by which a person's parts can be chosen there."""
    from gandyn.sweeps import parts

    kinds = parts.FIELD_KINDS.items()
    return {field: list(found.networks if kind == "network" else found.named[kind]) for field, kind in kinds}
