"""Words on the command line: what a dataclass of options makes of them, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest

from gandyn import cli
from gandyn.cli.options import Option, options_of
from gandyn.cli.parsing import sort_words, values_of


class Part:
    """Stands for a loss, say: what a name may stand for, and what may be given in its place."""

    def __init__(self, name: str) -> None:
        self.name = name


@dataclasses.dataclass(frozen=True)
class Options:
    """What a script takes."""

    place: Path | None = dataclasses.field(default=None, metadata={"positional": True})
    """A place."""
    size: int = 3
    """How
    large."""
    rate: float = 1e-3
    most: float | None = None
    kind: Literal["small", "large"] = "small"
    """What kind."""
    names: tuple[str, ...] = ("a", "b")
    numbers: tuple[float, ...] = ()
    files: tuple[Path, ...] = dataclasses.field(default=(), metadata={"singly": True})
    part: str | Part = dataclasses.field(default="one", metadata={"parts": {"one": Part("one")}})
    parts: tuple[str | Part, ...] = dataclasses.field(default=(), metadata={"parts": {"one": Part("one")}})
    word: str = dataclasses.field(default="x", metadata={"parts": {"x": 1, "y": 2}})
    on: bool = False
    off: bool = True
    no_option: Part | None = None
    nor_this: Any = None

    def __post_init__(self) -> None:
        assert self.size != 13


def parsed(*arguments: str) -> Options:
    return cli.parse(Options, arguments, "script", "What it does.")


def refused(*arguments: str) -> str:
    with pytest.raises(ValueError) as caught:
        parsed(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_is_every_default():
    assert parsed() == Options()


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ("here --size 4", {"place": Path("here"), "size": 4}),
        ("--size 4 here", {"place": Path("here"), "size": 4}),
        ("--on here --no-off", {"place": Path("here"), "on": True, "off": False}),
        ("--on=false --off=true", {}),
        ("--on --on", {"on": True}),
        ("--rate -1e-3 --most=-inf --size -2", {"rate": -1e-3, "most": float("-inf"), "size": -2}),
        ("--rate 1", {"rate": 1.0}),
        ("--names", None),
        ("--names c d here", {"names": ("c", "d", "here")}),
        ("--names c --kind large --names d", {"names": ("c", "d"), "kind": "large"}),
        ("--numbers 1 2.5 --numbers=-3", {"numbers": (1.0, 2.5, -3.0)}),
        ("--files a.py here --files b.py", {"files": (Path("a.py"), Path("b.py")), "place": Path("here")}),
        ("--parts --size 4", {"parts": (), "size": 4}),
        ("--part one --parts one one", {"part": "one", "parts": ("one", "one")}),
        ("--word y --size 4 --size 4", {"word": "y", "size": 4}),
    ],
)
def test_words_and_what_they_mean(arguments, fields):
    if fields is None:
        assert refused(*arguments.split()) == "names: got no value; allowed: text"
        return
    made = parsed(*arguments.split())
    assert made == dataclasses.replace(Options(), **fields)
    for name, value in fields.items():
        assert type(getattr(made, name)) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--siz 4", "--siz: no such option (did you mean '--size'?); script --help lists them all"),
        ("--no-on-x", "--no-on-x: no such option (did you mean '--no-on'?); script --help lists them all"),
        ("--no-option x", "--no-option: no such option (did you mean '--no-on'?); script --help lists them all"),
        ("--size", "size: got no value; allowed: a whole number"),
        ("--size 1.5", "size: got '1.5'; allowed: a whole number"),
        ("--size --on", "size: got no value; allowed: a whole number"),
        ("--size 4 5 6", "script: got '6' as well; allowed: one place"),
        ("--size 4 --size 5", "size: got '4', '5'; allowed: one of them"),
        ("--on --no-on", "on: got 'true', 'false'; allowed: one of them"),
        ("--on=maybe", "on: got 'maybe'; allowed: true, false"),
        ("--rate x", "rate: got 'x'; allowed: a number"),
        ("--kind larg", "kind: got 'larg'; allowed: small, large (did you mean 'large'?)"),
        ("--word z", "word: got 'z'; allowed: x, y"),
        ("--part two", "part: got 'two'; allowed: one"),
        ("a b", "script: got 'b' as well; allowed: one place"),
        ("-x", None),
    ],
)
def test_words_that_cannot_be_meant(arguments, message):
    if message is None:  # a place may begin with a dash, as a number does
        assert parsed(*arguments.split()).place == Path("-x")
    else:
        assert refused(*arguments.split()) == message


def test_what_a_dataclass_says_of_its_fields():
    options = {option.name: option for option in options_of(Options)}
    assert set(options) == {field.name for field in dataclasses.fields(Options)} - {"no_option", "nor_this"}
    assert options["size"] == Option("size", "int", default=3, text="How large.")
    assert options["part"] == Option("part", "text", choices=("one",), open=True, default="one")
    assert options["word"] == Option("word", "text", choices=("x", "y"), default="x")
    assert options["most"] == Option("most", "float")


def test_help_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as stop:
        parsed("--help", "--wrong")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: script [PLACE] [OPTIONS]\n\nWhat it does.\n\noptions:\n  PLACE\n        A place.\n")
    assert "  --size INT\n        How large. (default: 3)\n" in text
    assert "  --kind {small, large}\n        What kind. (default: small)\n" in text
    assert "  --on\n  --[no-]off\n        (default: on)\n" in text
    assert "  --names TEXT ...\n        (default: a b)\n" in text
    assert "  --files PATH\n" in text


def test_options_that_are_known_only_after_the_words_were_sorted():
    """Numbers of a part that a file defines, which another flag names; and its own name among the choices."""
    options = options_of(Options)
    words = sort_words(["--gamma", "0.5", "--part", "mine", "--size=4"], options)
    with pytest.raises(ValueError, match="--gamma: no such option"):
        values_of(words, options, "script", {"part": ["mine"]})
    more = [*options, Option("gamma", "float")]
    assert values_of(words, more, "script", {"part": ["mine"]}) == {"gamma": 0.5, "part": "mine", "size": 4}
    with pytest.raises(ValueError, match="part: got 'mine'; allowed: one"):
        values_of(words, more, "script")
    twice = sort_words(["--gamma", "0.5", "--gamma", "0.7"], options)
    with pytest.raises(ValueError, match=r"gamma: got '0.5', '0.7'; allowed: one value"):
        values_of(twice, more, "script")


def test_a_dataclass_without_a_source_has_options_all_the_same():
    made = dataclasses.make_dataclass("Made", [("size", int, 3)])
    assert options_of(made) == [Option("size", "int", default=3)]
    assert cli.parse(made, ["--size", "4"], "script", "").size == 4
