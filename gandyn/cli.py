"""The command line: `gandyn run`, `report`, `show`, `list`."""

import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import re
import sys
import tomllib
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import tyro

from gandyn import (
    checks,
    coverage,
    dynamics,
    gan,
    losses,
    measure,
    networks,
    penalties,
    presets,
    report,
    results,
    runner,
    sweep,
    targets,
)
from gandyn.gan import Config, HParams
from gandyn.measure import MeasureConfig

T = TypeVar("T")

USAGE = """\
usage: gandyn COMMAND ...

Many small GANs at once, the true value function beside every loss.

  gandyn run [FILE.toml] [--field value ...]   train and measure; --help lists every field
  gandyn run --preset pacgan_2_ring            a published protocol (gandyn list presets)
  gandyn report PATH [--out FILE.html]         one self-contained HTML page of a results folder
  gandyn show PATH                             what a results folder holds, and its table of results
  gandyn list [WHAT]                           losses, penalties, dynamics, targets, ... with one line each

Python: gandyn.run(target, config, hparams, seeds=..., out=...), gandyn.open_results(PATH).
"""


@dataclasses.dataclass(frozen=True)
class TargetOptions:
    """The density to learn. Each target takes some of these (`gandyn list targets`)."""

    target: Literal["ring", "grid", "spiral", "random", "line", "mixture"] = "ring"
    """Arrangement of the modes; 'mixture' takes means and stds."""
    num_modes: int | None = None
    """Number of modes."""
    radius: float | None = None
    """Radius of the ring or spiral, half side of the random square."""
    spacing: float | None = None
    """Distance between neighbours (grid, line)."""
    turns: float | None = None
    """Turns of the spiral."""
    std: float | None = None
    """Standard deviation of every mode."""
    layout_seed: int | None = None
    """Fixes the places of random modes."""
    weights: tuple[float, ...] | None = None
    """Weight of each mode; equal if left out."""
    means: tuple[float, ...] | None = None
    """Mixture: x and y of the first mean, of the second, ..."""
    stds: tuple[float, ...] | None = None
    """Mixture: standard deviation of each mode."""

    def build(self) -> targets.GaussianMixture:
        """The target; ValueError for an option that it does not take."""
        given = {name: value for name, value in vars(self).items() if name != "target" and value is not None}
        constructor = _mixture if self.target == "mixture" else targets.TARGETS[self.target]
        known = inspect.signature(constructor).parameters
        for name in given:
            if name not in known:
                raise ValueError(f"{name}: not an option of target {self.target!r}; allowed: {', '.join(known)}")
        return constructor(**given)


def _mixture(
    means: tuple[float, ...] = (), stds: tuple[float, ...] = (), weights: tuple[float, ...] | None = None
) -> targets.GaussianMixture:
    if len(means) % 2:
        raise ValueError(f"means: got {len(means)} numbers; allowed: x and y of each mode")
    return targets.mixture(
        np.reshape(means, (-1, 2)), np.asarray(stds), None if weights is None else np.asarray(weights)
    )


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What `gandyn run` takes."""

    target: TargetOptions = dataclasses.field(default_factory=TargetOptions)
    config: Config = dataclasses.field(default_factory=Config)
    hparams: HParams = dataclasses.field(default_factory=HParams)
    measure: MeasureConfig = dataclasses.field(default_factory=lambda: MeasureConfig())
    preset: str = ""
    """A published protocol to start from (`gandyn list presets`); fields given in a file or as flags win over it."""
    out: Path = Path("runs/latest")
    """Results folder."""
    overwrite: bool = False
    """Replace results that the folder already holds."""
    seeds: tuple[str, ...] = ("0:16",)
    """Seeds: whole numbers, and ranges such as 0:64 (0 ... 63). One run of every recipe for each."""
    num_steps: int = 5_000
    """Generator updates."""
    measure_every: int = 100
    """Generator updates between measurements."""
    deep_every: int = 0
    """Generator updates between deep measurements (`gandyn list deep`), a multiple of measure_every; 0 takes none."""


_RUN_FIELDS = {field.name for field in dataclasses.fields(MeasureConfig)} | {
    field.name for field in dataclasses.fields(RunOptions)
}
_RECIPE_FIELDS = {field.name for cls in (TargetOptions, Config, HParams) for field in dataclasses.fields(cls)}


def parse_seeds(seeds: Sequence[str]) -> list[int]:
    """Whole numbers and ranges a:b as a list of seeds."""
    parsed: list[range] = []
    for entry in seeds:
        try:
            ends = [int(end) for end in entry.split(":")]
        except ValueError:
            ends = []
        if len(ends) not in (1, 2):
            raise ValueError(f"seeds: got {entry!r}; allowed: whole numbers, and ranges such as 0:64")
        parsed.append(range(*ends) if len(ends) == 2 else range(ends[0], ends[0] + 1))
    sweep.check_num_seeds(sum(map(len, parsed)))
    return sweep.check_seeds(list(itertools.chain.from_iterable(parsed)))


def _flags(table: dict[str, Any], allowed: set[str], where: str) -> list[str]:
    """A TOML table as command-line flags, so that one parser checks both."""
    flags = []
    for name, value in table.items():
        if name not in allowed:
            raise ValueError(f"{where}: unknown key {name!r}{checks.nearest(name, allowed)}")
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            raise ValueError(f"{where}: {name} is a table; allowed: a number, a text or a list of them")
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags.append(f"{flag}={value}")
    return flags


def read_file(path: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """A run file as flags: those of all recipes, and (label, flags) of each [[recipe]].

    Keys stand at the top or in any of the tables [target], [config], [hparams], [measure]; each [[recipe]] has its own
    fields of target, Config and HParams, and a label `recipe`.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    recipes = content.pop("recipe", [])
    if not isinstance(recipes, list) or not all(isinstance(recipe, dict) for recipe in recipes):
        raise ValueError(f"{path}: recipe: allowed: tables, each headed [[recipe]]")
    shared: dict[str, Any] = {}
    for name in ("target", "config", "hparams", "measure"):
        if isinstance(content.get(name), dict):
            shared |= content.pop(name)
    known = _RUN_FIELDS | _RECIPE_FIELDS
    flags = _flags(content | shared, known, path)
    labelled = []
    for number, recipe in enumerate(recipes, 1):
        label = recipe.pop("recipe", "")
        labelled.append((str(label), _flags(recipe, _RECIPE_FIELDS, f"{path}, recipe {label or number}")))
    return flags, labelled


def parse(options: type[T], arguments: Sequence[str], prog: str, description: str) -> T:
    """A dataclass of options from flags, by `tyro.cli`; what cannot be meant is a ValueError of one line."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return tyro.cli(
                options,
                prog=prog,
                description=description,
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    _check_names(arguments, _leaves(options))
    # Under a heading, and above more help: each set off by a rule, drawn in what the terminal's encoding has.
    message = " ".join(re.split(r".*[─-]{3}.*\n", boxed.getvalue())[1].replace("│", " ").split())
    raise ValueError(f"{re.sub('^Error parsing ([a-z]*: )?', '', message)} ({prog} --help lists every field)")


def _leaves(options: type) -> dict[str, Any]:
    """Field -> type, of a dataclass and those in it."""
    leaves = {}
    for name, kind in get_type_hints(options).items():
        leaves |= _leaves(kind) if dataclasses.is_dataclass(kind) and isinstance(kind, type) else {name: kind}
    return leaves


def _check_names(arguments: Sequence[str], known: dict[str, Any]) -> None:
    """Raises for the first flag that is not known, or whose value is not one of its choices, with the nearest name."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        if not argument.startswith("--"):
            continue
        flag, _, own = argument.partition("=")
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if name not in known:
            near = checks.nearest(flag, ["--" + name.replace("_", "-") for name in known])
            raise ValueError(f"{flag}: no such option{near}")
        if get_origin(known[name]) is Literal:
            checks.choice(name, own or following, get_args(known[name]))


def _last_preset(flags: Sequence[str]) -> str:
    """The value of the last --preset, which a parser needs before the rest; '' without one."""
    name = ""
    for flag, following in itertools.pairwise([*flags, ""]):
        if flag == "--preset":
            name = following
        elif flag.startswith("--preset="):
            name = flag.removeprefix("--preset=")
    return name


def run_command(arguments: list[str]) -> None:
    """`gandyn run`."""
    flags: list[str] = []
    recipes: list[tuple[str, list[str]]] = []
    if arguments and not arguments[0].startswith("-"):
        flags, recipes = read_file(arguments.pop(0))
    name = _last_preset([*flags, *arguments])
    if name:
        flags = _flags(presets.fields(name), _RUN_FIELDS | _RECIPE_FIELDS, f"preset {name}") + flags
    options = [
        parse(
            RunOptions,
            [*flags, *own, *arguments],
            prog="gandyn run",
            description="Train many GANs and measure the truth beside their losses: gandyn run [FILE.toml] [OPTIONS]. "
            "FILE.toml holds the same fields (batch_size = 256); flags win over it. [[recipe]] tables in it run "
            "several settings side by side.",
        )
        for _, own in recipes or [("", [])]
    ]
    first = options[0]
    labels = [label for label, _ in recipes] or [name]
    runner.run(
        [option.target.build() for option in options],
        [option.config for option in options],
        [option.hparams for option in options],
        parse_seeds(first.seeds),
        first.num_steps,
        first.measure_every,
        first.deep_every,
        first.out,
        recipes=labels if any(labels) else None,
        measure_config=first.measure,
        overwrite=first.overwrite,
    )
    print(report.summary(results.open_results(first.out)))
    print(f"\nresults: {first.out}    a page of them: gandyn report {first.out}")


def report_command(
    path: Annotated[str, tyro.conf.Positional],
    /,
    out: Path | None = None,
    open: bool = False,
) -> None:
    """Write one self-contained HTML page of a results folder.

    Args:
        path: results folder.
        out: HTML file; by default report.html in the folder.
        open: show it in the browser.
    """
    page = report.write(results.open_results(path), out or Path(path) / "report.html")
    print(page)
    if open:
        webbrowser.open(page.resolve().as_uri())


def show_command(path: Annotated[str, tyro.conf.Positional], /) -> None:
    """Print what a results folder holds, and its table of results.

    Args:
        path: results folder.
    """
    print(report.summary(results.open_results(path)))


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


CATALOGUE: dict[str, Callable[[], dict[str, str]]] = {
    "targets": lambda: {
        name: f"{_first_line(make)} Options: {', '.join(inspect.signature(make).parameters)}."
        for name, make in targets.TARGETS.items()
    },
    "losses": lambda: {
        name: f"D minimizes {_first_line(loss.disc)} G minimizes {_first_line(loss.gen)} "
        f"At the optimum V = {loss.optimum}. {loss.reference}."
        for name, loss in losses.LOSSES.items()
    },
    "presets": lambda: {name: preset.reference for name, preset in presets.PRESETS.items()},
    "penalties": lambda: {name: penalty.reference for name, penalty in penalties.PENALTIES.items()},
    "dynamics": lambda: {name: _first_line(step) for name, step in dynamics.DYNAMICS.items()},
    "optimizers": lambda: gan.OPTIMIZERS,
    "schedules": lambda: gan.SCHEDULES,
    "priors": lambda: gan.PRIORS,
    "instance_noise": lambda: gan.INSTANCE_NOISE,
    "generators": lambda: networks.GENERATORS,
    "discriminators": lambda: networks.DISCRIMINATORS,
    "norms": lambda: networks.NORMS,
    "minibatch_layers": lambda: networks.MINIBATCH_LAYERS,
    "activations": lambda: dict.fromkeys(networks.ACTIVATIONS, ""),
    "initializers": lambda: dict.fromkeys(networks.INITIALIZERS, ""),
    "cheap": lambda: measure.CHEAP,
    "deep": lambda: measure.DEEP,
    "conventions": lambda: {name: convention.reference for name, convention in coverage.CONVENTIONS.items()},
}
"""What `gandyn list` lists: kind -> name -> one line."""


def list_command(what: Annotated[str, tyro.conf.Positional] = "", /) -> None:
    """List what there is to choose from, with one line each.

    Args:
        what: targets, losses, penalties, dynamics, ...; everything if left out.
    """
    if what:
        checks.choice("list", what, CATALOGUE)
    for kind in [what] if what else CATALOGUE:
        print(kind)
        entries = CATALOGUE[kind]()
        width = max(16, *map(len, entries))
        for name, line in entries.items():
            print(f"  {name:{width}s} {line}".rstrip())


COMMANDS: dict[str, Callable[..., None]] = {
    "report": report_command,
    "show": show_command,
    "list": list_command,
}


def _fail(message: str) -> NoReturn:
    print(f"gandyn: {message}", file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exits with 2 and one message for what cannot be meant, with 130 after an interrupt."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    command, *rest = given
    try:
        checks.choice("command", command, ("run", *COMMANDS))
        if command == "run":
            run_command(rest)
        else:
            tyro.cli(COMMANDS[command], prog=f"gandyn {command}", args=rest)
    except (ValueError, FileNotFoundError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("gandyn: interrupted; what was measured so far is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has gone (`gandyn list | head`): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
