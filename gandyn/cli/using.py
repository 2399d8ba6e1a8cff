"""Files that a person names with --using: loaded, and the parts that they define."""

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gandyn.cli.options import Option

_numbers = itertools.count()


def load(files: Sequence[Path]) -> list[Any]:
    """The parts of every file, in order.

    Raises:
      ValueError: a file that is not there, does not run, or defines no part.
    """
    from gandyn.sweeps import parts  # imports jax

    found: list[Any] = []
    for file in files:
        own = parts.collect(_module(file))
        if not own:
            raise ValueError(f"using: got {file}, which defines no part; allowed: a Python file that defines one")
        found += own
    return found


def _module(file: Path) -> ModuleType:
    """A file as a module of a name of its own, so that it replaces no other; what lies beside it can be imported."""
    name = f"_gandyn_using_{next(_numbers)}_{file.stem}"
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


def options_of_parts(parts: Sequence[Any]) -> list[Option]:
    """The numbers that parts declare, as options."""
    declared = {name: number for part in parts for name, number in (getattr(part, "numbers", None) or {}).items()}
    return [Option(name, "float", default=number.default, text=number.text) for name, number in declared.items()]


def names_of(parts: Sequence[Any]) -> list[str]:
    """The names by which parts can be chosen."""
    return [name for name in (getattr(part, "name", None) for part in parts) if isinstance(name, str)]
