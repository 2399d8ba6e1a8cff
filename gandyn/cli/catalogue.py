"""What there is to choose from, as data: the options of a run, and what `gandyn list` lists. No jax is needed."""

import functools
import json
from importlib import resources
from typing import Any

from gandyn.cli.options import Option

FILE = "catalogue.json"


@functools.cache
def _content() -> dict[str, Any]:
    return json.loads(resources.files("gandyn.cli").joinpath(FILE).read_text(encoding="utf-8"))


def options() -> dict[str, list[Option]]:
    """Group ("target", "config", "numbers", "measure", "run") -> its options, every one a key of a sweep file, too."""
    return {group: [_option(entry) for entry in entries] for group, entries in _content()["options"].items()}


def lists() -> dict[str, dict[str, str]]:
    """Kind -> name -> one line: losses, penalties, targets, ..."""
    return _content()["lists"]


def _option(entry: dict[str, Any]) -> Option:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    return Option(**fields)
