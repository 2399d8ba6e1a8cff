"""What each command takes and does. jax is imported by those that train, when they are about to."""

import dataclasses
import json
import re
import shutil
import sys
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gandyn import checks
from gandyn.cli import catalogue, using
from gandyn.cli.arguments import (
    ExportOptions,
    ExtendOptions,
    FolderOptions,
    ListOptions,
    PageOptions,
    ReplayOptions,
    ReportOptions,
    ResumeOptions,
    RunOptions,
    ShowOptions,
    SweepOptions,
)
from gandyn.cli.options import Option, options_of
from gandyn.cli.parsing import help_text, sort_words, values_of

if TYPE_CHECKING:
    from gandyn.sweeps import sweep

MOST_RECIPES = 40
"""Recipes whose table is printed unasked."""


class Call(NamedTuple):
    """A command that is to be done.

    Attributes:
      options: its own.
      fields: fields of a run that were given, name -> value, as in a sweep file.
      given: names of all options that were given.
      modules: those that --using names.
    """

    options: Any
    fields: dict[str, Any]
    given: frozenset[str]
    modules: list[ModuleType]


def _sweep_of(call: Call) -> "tuple[sweep.Sweep, Path, bool]":
    """What a file and flags say together: the sweep, its folder, and whether to replace what is there."""
    from gandyn import devices
    from gandyn.results import files
    from gandyn.sweeps import parts, sweep_file

    devices.prepare()  # the process is ours: nothing that a sweep is made of may start jax first
    options: RunOptions = call.options
    content = sweep_file.read(options.file) if options.file is not None else {}
    out, overwrite = content.pop("out", options.out), content.pop("overwrite", options.overwrite)
    out, overwrite = (
        getattr(options, n) if n in call.given else v for n, v in (("out", out), ("overwrite", overwrite))
    )
    if not isinstance(out, str | Path) or not str(out) or not isinstance(overwrite, bool):
        raise ValueError(f"out, overwrite: got {out!r}, {overwrite!r}; allowed: a path; true or false")
    made = sweep_file.make(content, call.fields, parts.collect(call.modules))
    files.folder_of(out)
    return made, Path(out).expanduser(), overwrite


def _run(call: Call) -> None:
    from gandyn.sweeps import runner

    sweep_, out, overwrite = _sweep_of(call)
    runner.run_sweep(sweep_, out, overwrite=overwrite)
    say_results(out)


def _sweep(call: Call) -> None:
    options: SweepOptions = call.options
    if options.file is None:
        raise ValueError("sweep: got no file; allowed: gandyn sweep FILE.toml --out DIR (docs/sweeps.md)")
    from gandyn.sweeps import planning, runner

    engine = runner.Engine() if options.dry_run else options.make()
    sweep_, out, overwrite = _sweep_of(call)
    if engine.leads:
        plan = planning.make(sweep_, parts=engine.parts)
        print(plan.describe(), flush=True)
        if options.dry_run:
            plan.check_fits(out)
    if options.dry_run:
        return
    every = options.checkpoint_every
    runner.run_sweep(sweep_, out, overwrite=overwrite, checkpoint_every=every, engine=engine)
    if engine.leads:
        say_results(out)


def _width() -> int:
    """Characters of a line: the terminal's; all that a table takes where the output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def say_results(out: Path) -> None:
    """Prints the table of results, or how far they are where it would be long, and what to do with them."""
    from gandyn import report
    from gandyn.analysis import opening, reading
    from gandyn.results import status

    found = opening.open_results(out)
    many = len(reading.recipes(found)) > MOST_RECIPES
    print(status.status(out) if many else report.summary(found, _width()))
    more = f"    a table: gandyn show {out}" if many else ""
    print(f"\nresults: {out}    a page of them: gandyn report {out}, gandyn page {out}{more}")


def _resume(call: Call) -> None:
    from gandyn.sweeps import runner

    options: ResumeOptions = call.options
    engine = options.make()
    every = options.checkpoint_every
    runner.resume(options.path, anyway=options.anyway, checkpoint_every=every, engine=engine, using=call.modules)
    if engine.leads:
        say_results(options.path)


def _extend(call: Call) -> None:
    from gandyn.sweeps import runner, sweep

    options: ExtendOptions = call.options
    engine = options.make()
    seeds = sweep.parse_seeds(options.seeds) if options.seeds else ()
    runner.extend(
        options.path,
        seeds,
        options.steps,
        anyway=options.anyway,
        checkpoint_every=options.checkpoint_every,
        engine=engine,
        using=call.modules,
    )
    if engine.leads:
        say_results(options.path)


def _replay(call: Call) -> None:
    options: ReplayOptions = call.options
    ends = re.fullmatch(r"(\d+):(\d+)", options.steps)
    if options.steps and ends is None:
        raise ValueError(f"steps: got {options.steps!r}; allowed: first and last step, such as 2000:2500")
    from gandyn import report
    from gandyn.sweeps import replaying

    steps = (int(ends[1]), int(ends[2])) if ends is not None else None
    again = replaying.replay(
        options.path,
        options.run,
        options.measure_every,
        steps,
        options.out,
        overwrite=options.overwrite,
        anyway=options.anyway,
        using=call.modules,
    )
    print(report.summary(again.results, _width()))
    if again.differences:
        found = ", ".join(f"{name} (from step {step})" for name, step in again.differences.items())
        print(f"\nnot the run that was recorded: of {again.compared} measurements these differ: {found}")
        sys.exit(1)
    print(f"\nthe same to the bit at all {again.compared} measurements that were recorded")


def _status(call: Call) -> None:
    from gandyn.results import status

    print(status.status(call.options.path))


def _report(call: Call) -> None:
    from gandyn import report
    from gandyn.analysis import opening

    options: ReportOptions = call.options
    out = options.out or options.path / "report.html"
    beside = "page.html" if (out.parent / "page.html").is_file() else None
    written = report.write(opening.open_results(options.path), out, page=beside)
    print(written)
    if options.open:
        webbrowser.open(written.resolve().as_uri())


def _page(call: Call) -> None:
    options: PageOptions = call.options
    if options.play and (options.path is not None or options.runs or options.all):
        raise ValueError("play: got results as well; allowed: --play alone, with --out FILE.html")
    if not options.play and options.path is None:
        raise ValueError("page: got no folder; allowed: gandyn page DIR, or gandyn page --play")
    from gandyn.cli import pages

    if options.path is None:
        written = pages.write_play(options.out or Path("play.html"))
    else:
        from gandyn.sweeps import sweep

        written = pages.write_page(
            options.path,
            options.out,
            runs=sweep.parse_seeds(options.runs) if options.runs else None,
            every=options.all,
            size=options.size,
            replay=options.replay,
            using=call.modules,
            anyway=options.anyway,
        )
    print(written)
    if options.open:
        webbrowser.open(written.resolve().as_uri())


def _show(call: Call) -> None:
    from gandyn import report
    from gandyn.analysis import opening

    results = opening.open_results(call.options.path)
    print(json.dumps(report.as_data(results), indent=2) if call.options.json else report.summary(results, _width()))


def _export(call: Call) -> None:
    from gandyn.analysis import opening
    from gandyn.results import export

    options: ExportOptions = call.options
    if options.to == "tensorboard" and options.curves:
        raise ValueError("curves: got it with --to tensorboard; allowed with csv and parquet")
    found = opening.open_results(options.path)
    if options.to == "tensorboard":
        print(export.to_tensorboard(found, options.out or options.path / "tensorboard", overwrite=options.overwrite))
        return
    name = f"{'curves' if options.curves else 'final'}.{options.to}"
    write = export.to_csv if options.to == "csv" else export.to_parquet
    print(write(found, options.out or options.path / name, curves=options.curves, overwrite=options.overwrite))


def _list(call: Call) -> None:
    what, lists = call.options.what, catalogue.lists()
    if what:
        checks.choice("list", what, lists)
        lists = {what: lists[what]}
    if call.options.json:
        print(json.dumps(lists, indent=2))
        return
    for kind in lists:
        print(kind)
        width = max(16, *map(len, lists[kind]))
        for name, line in lists[kind].items():
            print(f"  {name:{width}s} {line}".rstrip())


class Command(NamedTuple):
    """One command.

    Attributes:
      options: a dataclass of its own options.
      do: does it.
      text: what it does.
      of_a_run: whether it takes every field of a run as well.
    """

    options: type
    do: Callable[[Call], None]
    text: str
    of_a_run: bool = False


_FILE = (
    "FILE holds the same fields in TOML (batch_size = 256); flags win over it. In it, [product] and [[zip]] tables "
    "hold lists of values, and [[recipe]] tables settings with a label: all combinations are run."
)

COMMANDS: dict[str, Command] = {
    "run": Command(RunOptions, _run, f"Train many GANs and measure the truth beside their losses. {_FILE}", True),
    "sweep": Command(SweepOptions, _sweep, f"Print the plan of a grid of settings, and run all of it. {_FILE}", True),
    "resume": Command(ResumeOptions, _resume, "Go on with what was stopped, from its checkpoints."),
    "extend": Command(ExtendOptions, _extend, "Add seeds to results, or train their runs for longer."),
    "status": Command(FolderOptions, _status, "How far a results folder is."),
    "replay": Command(
        ReplayOptions,
        _replay,
        "Create one run again, bit for bit, measured as densely as wanted, and compare it with what was recorded.",
    ),
    "report": Command(ReportOptions, _report, "Write one self-contained HTML page of a results folder."),
    "page": Command(
        PageOptions, _page, "Write one offline page in which a sweep is looked into, run by run and step by step."
    ),
    "show": Command(ShowOptions, _show, "Print what a results folder holds, and its table of results."),
    "export": Command(ExportOptions, _export, "Write results for other tools (docs/exports.md)."),
    "list": Command(ListOptions, _list, "List what there is to choose from, with one line each."),
}


def groups_of(command: Command) -> dict[str, list[Option]]:
    """Heading -> options, of a command."""
    return {"options": options_of(command.options)} | (catalogue.options() if command.of_a_run else {})


def execute(name: str, arguments: list[str]) -> None:
    """Does a command, with the words behind its name.

    Raises:
      ValueError: what cannot be meant; before jax is imported, but where a part of a user's own may mean it.
    """
    command, prog = COMMANDS[name], f"gandyn {name}"
    groups = groups_of(command)
    options = [option for of_group in groups.values() for option in of_group]
    words = sort_words(arguments, options)
    if words.help:
        print(help_text(prog, command.text, groups), end="")
        return
    files = [Path(word) for word in words.all("using")]
    modules = using.load(files) if files else []
    own: dict[str, list[str]] = {}
    if modules and command.of_a_run:
        from gandyn.sweeps import parts

        found, known = parts.collect(modules), {option.name for option in options}
        options += [option for option in using.numbers(found) if option.name not in known]
        own = using.names(found)
    values = values_of(words, options, prog, own)
    command.do(Call(*_split(command.options, values), frozenset(values), modules))


def _split(options: type, values: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A command's own options, and the fields of a run; lists, as a sweep file has them."""
    own = {field.name for field in dataclasses.fields(options)}
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if name not in own}
    return options(**{name: value for name, value in values.items() if name in own}), fields
