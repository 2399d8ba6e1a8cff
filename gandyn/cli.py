"""The command line: `gandyn run`, `sweep`, `resume`, `extend`, `status`, `replay`, `report`, `show`, `export`."""

import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import re
import sys
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import tyro

from gandyn import checks
from gandyn.analysis import opening as results
from gandyn.analysis import reading
from gandyn.gan import dynamics, gan, losses, networks, penalties, targets
from gandyn.gan.gan import Config, HParams
from gandyn.report import page as report
from gandyn.results import export, status
from gandyn.sweeps import cluster, interrupts, planning, presets, runner, sweep, sweep_file
from gandyn.sweeps.runner import CHECKPOINT_SECONDS
from gandyn.text import printable
from gandyn.truth import coverage, measure
from gandyn.truth.measure import MeasureConfig

T = TypeVar("T")

USAGE = """\
usage: gandyn COMMAND ...

A microscope for the loss dynamics of GANs: many small GANs at once, the true value function beside every loss.

  gandyn run [FILE.toml] [--field value ...]   train and measure; --help lists every field
  gandyn run --preset pacgan_2_ring            a published protocol (gandyn list presets)
  gandyn sweep FILE.toml --out DIR [--dry-run] a grid of settings: its plan, then the whole of it
  gandyn resume DIR                            go on with what was stopped, from its checkpoints
  gandyn extend DIR --seeds 64:128             add seeds, or --steps 20000: train for longer
  gandyn status DIR                            how far it is
  gandyn replay DIR --run 17                   one run again, bit for bit, measured more densely
  gandyn report DIR [--out FILE.html]          one self-contained HTML page of a results folder
  gandyn show DIR                              what a results folder holds, and its table of results
  gandyn export DIR --to csv                   tables (csv, parquet), or event files (tensorboard)
  gandyn list [WHAT]                           losses, penalties, dynamics, targets, ... with one line each

Python: gandyn.run(target, config, hparams, seeds=..., out=...), gandyn.run_sweep(...), gandyn.open_results(DIR).
"""

Folder = Annotated[Path, tyro.conf.Positional]


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


# What flags say is checked together with what a file says, not by itself.


@dataclasses.dataclass(frozen=True)
class ConfigOptions(Config):
    """What is compiled in."""

    def __post_init__(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class HParamsOptions(HParams):
    """Numbers."""

    def __post_init__(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class MeasureOptions(MeasureConfig):
    """What is measured, and how."""

    def __post_init__(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What `gandyn run` takes."""

    target: TargetOptions = dataclasses.field(default_factory=TargetOptions)
    config: ConfigOptions = dataclasses.field(default_factory=ConfigOptions)
    hparams: HParamsOptions = dataclasses.field(default_factory=HParamsOptions)
    measure: MeasureOptions = dataclasses.field(default_factory=MeasureOptions)
    preset: str = ""
    """A published protocol to start from (`gandyn list presets`); fields given in a file or as flags win over it."""
    out: Path = Path("runs/latest")
    """Results folder."""
    overwrite: bool = False
    """Replace results that the folder already holds."""
    title: str = ""
    """Of the results and their report."""
    seeds: tuple[str, ...] = ("0:16",)
    """Seeds: whole numbers, and ranges such as 0:64 (0 ... 63). One run of every recipe for each."""
    num_steps: int = 5_000
    """Generator updates."""
    measure_every: int = 100
    """Generator updates between measurements."""
    deep_every: int = 0
    """Generator updates between deep measurements (`gandyn list deep`), a multiple of measure_every; 0 takes none."""


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """What trains the groups of runs. docs/sweeps.md has the commands for a workstation, Slurm and a cloud cluster."""

    engine: Literal["local", "distributed", "ray"] = "local"
    """This process; one of several that are started alike (jax.distributed); tasks of a Ray cluster."""
    address: str = ""
    """distributed: host:port of process 0. ray: of the cluster, 'auto' for the one this machine is in; a new local one
    if left out."""
    num_processes: int | None = None
    """distributed: how many processes; found by itself under Slurm and Open MPI."""
    process_id: int | None = None
    """distributed: which of them this is, from 0; found likewise."""
    cpus: float = 1
    """ray: processors of a task; it trains on so many virtual devices (two at least)."""
    gpus: float = 0
    """ray: GPUs of a task."""

    def make(self) -> runner.Engine:
        """The engine. Before anything else is asked of jax, which cannot be made part of a cluster later."""
        if self.engine == "distributed":
            return cluster.Distributed(self.address, self.num_processes, self.process_id)
        if self.engine == "ray":
            return cluster.Ray(self.address, self.cpus, self.gpus)
        return runner.Engine()


@dataclasses.dataclass(frozen=True)
class SweepOptions(RunOptions):
    """What `gandyn sweep` takes beside the fields of a run."""

    on: EngineOptions = dataclasses.field(default_factory=EngineOptions)
    dry_run: bool = False
    """Print the plan alone: groups, programs, runs, memory and time."""
    checkpoint_every: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of a group of runs, at least."""


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """What `gandyn resume` takes."""

    path: Folder
    """Results folder."""
    on: EngineOptions = dataclasses.field(default_factory=EngineOptions)
    anyway: bool = False
    """Go on though versions or the kind of device are others, and last digits may differ."""
    checkpoint_every: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of a group of runs, at least."""


@dataclasses.dataclass(frozen=True)
class ExtendOptions(ResumeOptions):
    """What `gandyn extend` takes."""

    seeds: tuple[str, ...] = ()
    """Seeds to add to every recipe: whole numbers, and ranges such as 64:128."""
    steps: int | None = None
    """Generator updates of every run from now on."""


@dataclasses.dataclass(frozen=True)
class ReplayOptions:
    """What `gandyn replay` takes."""

    path: Folder
    """Results folder."""
    run: int
    """Number of the run in it."""
    measure_every: int | None = None
    """Generator updates between measurements; as recorded if left out."""
    steps: str = ""
    """First and last step that is measured, as a:b; all if left out."""
    out: Path | None = None
    """Results folder for what is measured."""
    overwrite: bool = False
    """Replace results that the folder already holds."""
    anyway: bool = False
    """Replay though versions or the kind of device are others, and last digits may differ."""


@dataclasses.dataclass(frozen=True)
class PathOptions:
    """What `gandyn show` and `gandyn status` take."""

    path: Folder
    """Results folder."""


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What `gandyn report` takes."""

    path: Folder
    """Results folder."""
    out: Path | None = None
    """HTML file; by default report.html in the folder."""
    open: bool = False
    """Show it in the browser."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What `gandyn export` takes."""

    path: Folder
    """Results folder."""
    to: Literal["csv", "parquet", "tensorboard"]
    """A table, or one log directory a run."""
    out: Path | None = None
    """File or folder to write; by default beside what it is made from."""
    curves: bool = False
    """csv, parquet: a row for each measurement, not one for the end of each run."""
    overwrite: bool = False
    """Replace what is there."""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What `gandyn list` takes."""

    what: Annotated[str, tyro.conf.Positional] = ""
    """targets, losses, penalties, dynamics, ...; everything if left out."""


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
    """Flag -> type, of a dataclass and those in it."""
    leaves = {}
    for name, kind in get_type_hints(options, include_extras=True).items():
        if get_origin(kind) is Annotated:  # by its position
            continue
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


def _given(options: Any, arguments: Sequence[str]) -> dict[str, Any]:
    """The fields that the arguments name, with their parsed values, of a dataclass and those in it."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    named = {flag[2:].replace("-", "_") for flag in flags}
    named |= {name.removeprefix("no_") for name in named}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        nested = dataclasses.is_dataclass(value)
        values |= _given(value, arguments) if nested else {field.name: value} if field.name in named else {}
    return values


_NOT_OF_A_SWEEP = ("out", "overwrite")


def _sweep_of(options: RunOptions, file: str, arguments: Sequence[str]) -> tuple[sweep.Sweep, Path, bool]:
    """What a file and flags say together: the sweep, its folder, and whether to replace what is there."""
    content = sweep_file.read(file) if file else {}
    known = (*sweep_file.RUN_FIELDS, *sweep.FIELDS, *sweep_file.MEASURE_FIELDS, "preset", *_NOT_OF_A_SWEEP)
    given = {name: value for name, value in _given(options, arguments).items() if name in known}
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    here = {name: given.pop(name, content.pop(name, getattr(options, name))) for name in _NOT_OF_A_SWEEP}
    if not isinstance(here["out"], str | Path) or not str(here["out"]) or not isinstance(here["overwrite"], bool):
        raise ValueError(f"out, overwrite: got {here['out']!r}, {here['overwrite']!r}; allowed: a path; true or false")
    return sweep_file.make(content, given), Path(here["out"]), here["overwrite"]


_FILE = (
    "FILE.toml holds the same fields (batch_size = 256); flags win over it. In it, [product] and [[zip]] tables hold "
    "lists of values, and [[recipe]] tables settings with a label: all combinations are run."
)


def _file_first(arguments: list[str], command: str) -> str:
    if arguments and not arguments[0].startswith("-"):
        return arguments.pop(0)
    for argument in arguments:
        if argument.endswith(".toml"):
            raise ValueError(f"{argument}: got it behind an option; allowed: first, as gandyn {command} {argument} ...")
    return ""


def run_command(arguments: list[str]) -> None:
    """`gandyn run`."""
    file = _file_first(arguments, "run")
    description = (
        "Train many GANs and measure the truth beside their losses: gandyn run [FILE.toml] [OPTIONS]. " + _FILE
    )
    options = parse(RunOptions, arguments, "gandyn run", description)
    sweep_, out, overwrite = _sweep_of(options, file, arguments)
    runner.run_sweep(sweep_, out, overwrite=overwrite)
    _say_results(out)


def sweep_command(arguments: list[str]) -> None:
    """`gandyn sweep`."""
    file = _file_first(arguments, "sweep")
    description = "Print the plan of a grid of settings, and run all of it: gandyn sweep FILE.toml [OPTIONS]. " + _FILE
    options = parse(SweepOptions, arguments, "gandyn sweep", description)
    if not file:
        raise ValueError("sweep: got no file; allowed: gandyn sweep FILE.toml --out DIR (docs/sweeps.md)")
    engine = runner.Engine() if options.dry_run else options.on.make()
    sweep_, out, overwrite = _sweep_of(options, file, arguments)
    if engine.leads:
        plan = planning.make(sweep_, parts=engine.parts)
        print(plan.describe(), flush=True)
        if options.dry_run:
            plan.check_fits(out)
    if options.dry_run:
        return
    runner.run_sweep(sweep_, out, overwrite=overwrite, checkpoint_every=options.checkpoint_every, engine=engine)
    if engine.leads:
        _say_results(out)


MOST_RECIPES = 40
"""Recipes whose table is printed unasked."""


def _say_results(out: Path) -> None:
    found = results.open_results(out)
    many = len(reading.recipes(found)) > MOST_RECIPES
    print(status.status(out) if many else report.summary(found))
    print(
        f"\nresults: {out}    a page of them: gandyn report {out}" + (f"    a table: gandyn show {out}" if many else "")
    )


def resume_command(arguments: list[str]) -> None:
    """`gandyn resume`."""
    options = parse(ResumeOptions, arguments, "gandyn resume", "Go on with what was stopped, from its checkpoints.")
    engine = options.on.make()
    runner.resume(options.path, anyway=options.anyway, checkpoint_every=options.checkpoint_every, engine=engine)
    if engine.leads:
        _say_results(options.path)


def extend_command(arguments: list[str]) -> None:
    """`gandyn extend`."""
    options = parse(ExtendOptions, arguments, "gandyn extend", "Add seeds to results, or train their runs for longer.")
    engine = options.on.make()
    runner.extend(
        options.path,
        sweep.parse_seeds(options.seeds) if options.seeds else (),
        options.steps,
        anyway=options.anyway,
        checkpoint_every=options.checkpoint_every,
        engine=engine,
    )
    if engine.leads:
        _say_results(options.path)


def status_command(arguments: list[str]) -> None:
    """`gandyn status`."""
    print(status.status(parse(PathOptions, arguments, "gandyn status", "How far a results folder is.").path))


def replay_command(arguments: list[str]) -> None:
    """`gandyn replay`."""
    description = (
        "Create one run again, bit for bit, measured as densely as wanted, and compare it with what was recorded."
    )
    options = parse(ReplayOptions, arguments, "gandyn replay", description)
    ends = re.fullmatch(r"(\d+):(\d+)", options.steps)
    if options.steps and ends is None:
        raise ValueError(f"steps: got {options.steps!r}; allowed: first and last step, such as 2000:2500")
    steps = (int(ends[1]), int(ends[2])) if ends is not None else None
    again = runner.replay(
        options.path,
        options.run,
        options.measure_every,
        steps,
        options.out,
        overwrite=options.overwrite,
        anyway=options.anyway,
    )
    print(report.summary(again.results))
    if again.differences:
        found = ", ".join(f"{name} (from step {step})" for name, step in again.differences.items())
        print(f"\nnot the run that was recorded: of {again.compared} measurements these differ: {found}")
        sys.exit(1)
    print(f"\nthe same to the bit at all {again.compared} measurements that were recorded")


def report_command(arguments: list[str]) -> None:
    """`gandyn report`."""
    options = parse(
        ReportOptions, arguments, "gandyn report", "Write one self-contained HTML page of a results folder."
    )
    page = report.write(results.open_results(options.path), options.out or options.path / "report.html")
    print(page)
    if options.open:
        webbrowser.open(page.resolve().as_uri())


def show_command(arguments: list[str]) -> None:
    """`gandyn show`."""
    options = parse(
        PathOptions, arguments, "gandyn show", "Print what a results folder holds, and its table of results."
    )
    print(report.summary(results.open_results(options.path)))


def export_command(arguments: list[str]) -> None:
    """`gandyn export`."""
    options = parse(ExportOptions, arguments, "gandyn export", "Write results for other tools (docs/exports.md).")
    found = results.open_results(options.path)
    if options.to == "tensorboard":
        if options.curves:
            raise ValueError("curves: got it with --to tensorboard; allowed with csv and parquet")
        print(export.to_tensorboard(found, options.out or options.path / "tensorboard", overwrite=options.overwrite))
        return
    name = f"{'curves' if options.curves else 'final'}.{options.to}"
    write = export.to_csv if options.to == "csv" else export.to_parquet
    print(write(found, options.out or options.path / name, curves=options.curves, overwrite=options.overwrite))


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


def list_command(arguments: list[str]) -> None:
    """`gandyn list`."""
    what = parse(ListOptions, arguments, "gandyn list", "List what there is to choose from, with one line each.").what
    if what:
        checks.choice("list", what, CATALOGUE)
    for kind in [what] if what else CATALOGUE:
        print(kind)
        entries = CATALOGUE[kind]()
        width = max(16, *map(len, entries))
        for name, line in entries.items():
            print(f"  {name:{width}s} {line}".rstrip())


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "run": run_command,
    "sweep": sweep_command,
    "resume": resume_command,
    "extend": extend_command,
    "status": status_command,
    "replay": replay_command,
    "report": report_command,
    "show": show_command,
    "export": export_command,
    "list": list_command,
}

PATIENCE_SECONDS = 8.0
"""After a signal that asks to stop, a process that is still busy (with compiling, say) ends as it is."""


def _warn(message: Any, *_: Any, **__: Any) -> None:
    print("gandyn:", "\n  ".join(map(printable, str(message).split("\n"))), file=sys.stderr)


def _fail(message: str, code: int = 2) -> NoReturn:
    _warn(message)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point.

    Exits with 2 and one message for what cannot be meant, with 1 where runs failed or the disk did, and with 130 or 143
    where it was stopped.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    command, *rest = given
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            checks.choice("command", command, COMMANDS)
            with interrupts.deadline(PATIENCE_SECONDS):
                COMMANDS[command](rest)
        except (ValueError, FileNotFoundError) as error:
            _fail(str(error))
        except BrokenPipeError:
            # The reader of a pipe has gone (`gandyn list | head`): nothing is left to say to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            reason = error.strerror or str(error)
            _fail(f"{error.filename}: {reason}" if error.filename else reason, 1)
        except ExceptionGroup as failures:
            _fail("\n".join([failures.message, *map(str, failures.exceptions)]), 1)
        except KeyboardInterrupt as stop:
            signum = stop.signum if isinstance(stop, interrupts.Stopped) else 2
            print("gandyn: stopped; what was measured so far is kept, and gandyn resume goes on", file=sys.stderr)
            sys.exit(128 + signum)
