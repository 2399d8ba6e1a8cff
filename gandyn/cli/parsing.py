"""From words on the command line to values, in one pass; and help.

Flags that are not known yet keep their words: which numbers there are may depend on a file that another flag names.
"""

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from gandyn import checks
from gandyn.cli.options import Option, options_of

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Words:
    """What was typed, sorted and not yet understood.

    Attributes:
      of: option -> its words, of each time it was given.
      unknown: flag that no option has -> the words behind it.
      more: words that no option takes.
      help: whether help was asked for.
    """

    of: dict[str, list[list[str]]]
    unknown: dict[str, list[str]]
    more: list[str]
    help: bool

    def all(self, name: str) -> list[str]:
        """The words of an option, of every time it was given."""
        return [word for words in self.of.get(name, []) for word in words]


def sort_words(arguments: Sequence[str], options: Iterable[Option]) -> Words:
    """Sorts the words of a command line by the options that take them: --name word, --name=word, --flag, --no-flag."""
    by_flag = {option.flag: option for option in options if not option.positional}
    places = [option for option in options if option.positional]
    found, left = Words({}, {}, [], any(word in ("-h", "--help") for word in arguments)), list(arguments)
    while left:
        word = left.pop(0)
        if word in ("-h", "--help"):
            continue
        if not word.startswith("--"):
            if places:
                found.of.setdefault(places[0].name, []).append([word])
                places.pop(0)
            else:
                found.more.append(word)
            continue
        flag, equals, own = word.partition("=")
        option, denied = by_flag.get(flag), by_flag.get(flag.replace("--no-", "--", 1))
        words = [own] if equals else []
        if option is None and denied is not None and denied.kind == "flag" and not equals:
            option, words = denied, ["false"]
        elif option is not None and option.kind == "flag":
            words = words or ["true"]
        elif not equals:
            most = len(left) if option is None or (option.many and not option.singly) else 1
            while left and len(words) < most and not left[0].startswith("--") and left[0] != "-h":
                words.append(left.pop(0))
        if option is None:
            found.unknown[flag] = found.unknown.get(flag, []) + words
        else:
            found.of.setdefault(option.name, []).append(words)
    return found


def values_of(
    words: Words, options: Sequence[Option], prog: str, own: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Option -> value, of those that were given.

    Args:
      words: what was typed.
      options: all that are known by now: more, perhaps, than `words` were sorted by.
      prog: the command, for messages.
      own: option -> names of a user's parts, which an open choice allows.

    Raises:
      ValueError: a flag that no option has, words that cannot be meant, a single value given twice.
    """
    known, given = {option.flag: option for option in options}, dict(words.of)
    for flag, behind in words.unknown.items():
        if flag not in known or known[flag].positional:
            denied = flag.startswith("--no-")
            flags = ["--no-" + o.flag[2:] if denied else o.flag for o in options if not o.positional]
            near = checks.nearest(flag, flags)
            raise ValueError(f"{flag}: no such option{near}; {prog} --help lists them all")
        given[known[flag].name] = [behind]
    if words.more:
        places = [option.name for option in options if option.positional]
        allowed = f"one {places[0]}" if places else "no word without a flag before it"
        raise ValueError(f"{prog}: got {words.more[0]!r:.200} as well; allowed: {allowed}")
    values = {}
    for option in options:
        if option.name not in given:
            if option.required:
                what = option.name if option.positional else f"{option.flag} {option.metavar}"
                raise ValueError(f"{option.name}: got nothing; allowed: {prog} ... {what} ({option.text.rstrip('.')})")
            continue
        times = given[option.name]
        if option.many:
            times = [[word for behind in times for word in behind]]
        if len(times) > 1 and any(behind != times[0] for behind in times):
            shown = ", ".join(repr(" ".join(behind)) for behind in times)
            raise ValueError(f"{option.name}: got {shown:.200}; allowed: one of them")
        values[option.name] = option.value(times[0], (own or {}).get(option.name, ()))
    return values


def parse(options: type[T], arguments: Sequence[str], prog: str, description: str) -> T:
    """A dataclass of options (`options_of`) from the words of a command line; --help prints them, and exits.

    Raises:
      ValueError: what cannot be meant, in one line.
    """
    known = options_of(options)
    words = sort_words(arguments, known)
    if words.help:
        print(help_text(prog, description, {"options": known}), end="")
        sys.exit(0)
    return options(**values_of(words, known, prog))


def help_text(prog: str, description: str, groups: Mapping[str, Sequence[Option]]) -> str:
    """Every option with what it is and its default, under the heading of its group."""
    width = min(110, shutil.get_terminal_size((100, 24)).columns)
    places = [option for options in groups.values() for option in options if option.positional]
    usage = " ".join([prog, *(o.name.upper() if o.required else f"[{o.name.upper()}]" for o in places), "[OPTIONS]"])
    lines = [f"usage: {usage}", "", *textwrap.wrap(" ".join(description.split()), width)]
    for heading, options in groups.items():
        lines += ["", f"{heading}:"] if options else []
        for option in sorted(options, key=lambda option: not option.positional):
            head = option.name.upper() if option.positional else f"{option.flag} {option.metavar}".strip()
            if option.kind == "flag" and (option.default or heading != "options"):  # a file may have switched it on
                head = f"--[no-]{option.flag[2:]}"
            lines += textwrap.wrap(head, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
            default = _shown(option.default)
            end = " (required)" if option.required else f" (default: {default})" if default else ""
            text = f"{option.text}{end}".strip()
            lines += textwrap.wrap(text, width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default is None or default is False or default == "":
        return ""
    if isinstance(default, list | tuple):
        return " ".join(map(str, default))
    return "on" if default is True else str(default)
