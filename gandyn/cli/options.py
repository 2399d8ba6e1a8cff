"""What an option is: its name, what its words turn into, and what help says of it. A dataclass is a list of options."""

import ast
import contextlib
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gandyn import checks

Kind = Literal["text", "int", "float", "path", "flag"]
_KINDS: dict[Any, Kind] = {str: "text", int: "int", float: "float", Path: "path", bool: "flag"}


def _path(word: str) -> Path:
    if not word:
        raise ValueError  # it would be the folder that one works in
    try:
        return Path(word).expanduser()  # which a shell leaves to us in --out=~/runs
    except RuntimeError as error:  # ~ of nobody
        raise ValueError from error


_CONVERT: dict[str, tuple[Any, str]] = {
    "text": (str, "text"),
    "path": (_path, "a path"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
      name: of the field; the flag is --name, with '-' for '_'.
      kind: what one word turns into; a flag takes no word.
      many: takes any number of words, and is a tuple; given twice, it is both.
      singly: where `many`: takes one word each time it is given.
      choices: the words that are allowed; empty for any.
      open: whether a name of a user's own part is allowed beside `choices`.
      default: where it is not given.
      required: it must be given.
      positional: it is given by its place, without a flag.
      text: what it is, for help.
    """

    name: str
    kind: Kind
    many: bool = False
    singly: bool = False
    choices: tuple[str, ...] = ()
    open: bool = False
    default: Any = None
    required: bool = False
    positional: bool = False
    text: str = ""

    @property
    def flag(self) -> str:
        """As it is written on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def metavar(self) -> str:
        """What stands for its words in help."""
        if self.kind == "flag":
            return ""
        word = "{" + ", ".join(self.choices) + "}" if self.choices else self.kind.upper()
        return f"{word} ..." if self.many and not self.singly else word

    def value(self, words: Sequence[str], own: Sequence[str] = ()) -> Any:
        """What words mean. An open choice allows the names `own` as well. Raises ValueError for what they cannot."""
        if self.kind == "flag":
            (word,) = words
            checks.choice(self.name, word, ("true", "false"))
            return word == "true"
        if not words and not (self.many and self.choices):  # of names, there may be none
            raise ValueError(f"{self.name}: got no value; allowed: {self._allowed()}")
        if len(words) > 1 and not self.many:
            raise ValueError(f"{self.name}: got {', '.join(map(repr, words)):.200}; allowed: one value")
        values = tuple(self._one(word, own) for word in words)
        return values if self.many else values[0]

    def _one(self, word: str, own: Sequence[str]) -> Any:
        if self.choices:
            checks.choice(self.name, word, (*self.choices, *own) if self.open else self.choices)
        try:
            return _CONVERT[self.kind][0](word)
        except ValueError:
            raise ValueError(f"{self.name}: got {word!r:.200}; allowed: {self._allowed()}") from None

    def _allowed(self) -> str:
        return ", ".join(self.choices) if self.choices else _CONVERT[self.kind][1]


def options_of(kind: type) -> list[Option]:
    """The options that a dataclass stands for: its fields of numbers, texts, paths, truth values and tuples of them.

    What help says is the string below a field. `Literal`, and the mapping under "parts" in a field's metadata, are
    choices; "positional" and "singly" there are as in `Option`. Other fields are no options.
    """
    hints, texts = typing.get_type_hints(kind), _texts(kind)
    made = []
    for field in dataclasses.fields(kind):
        option = _option(hints[field.name], field.metadata)
        if option is not None:
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            required = default is dataclasses.MISSING
            default = None if required or default == () else default
            made.append(
                dataclasses.replace(
                    option, name=field.name, text=texts.get(field.name, ""), default=default, required=required
                )
            )
    return made


def _option(hint: Any, metadata: Mapping[str, Any]) -> Option | None:
    """Of the type of a field; None for one that words cannot give."""
    many = typing.get_origin(hint) is tuple
    if many:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((one for one in typing.get_args(hint) if one in _KINDS), None)  # of `str | Loss`, `int | None`
    literal = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    parts = metadata.get("parts", {})
    kind = "text" if literal else _KINDS.get(hint)
    if kind is None:
        return None
    return Option(
        name="",
        kind=kind,
        many=many,
        choices=literal or tuple(parts),
        open=any(hasattr(part, "name") for part in parts.values()),
        positional=metadata.get("positional", False),
        singly=metadata.get("singly", False),
    )


def _texts(kind: type) -> dict[str, str]:
    """Field -> the string below it, of a class and those that it is derived from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        with contextlib.suppress(OSError, TypeError):  # made on the fly: without a source
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            body = node.body if isinstance(node, ast.ClassDef) else []
            for field, below in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = below.value if isinstance(below, ast.Expr) else None
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        found[field.target.id] = " ".join(text.value.split())
    return found
