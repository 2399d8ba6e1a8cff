"""What each command takes, as dataclasses; the fields of a run stand in the catalogue."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gandyn.results.checkpoints import CHECKPOINT_SECONDS

if TYPE_CHECKING:
    from gandyn.sweeps import runner

_PLACE = {"positional": True}


@dataclasses.dataclass(frozen=True)
class UsingOptions:
    """Of commands that need the parts of a run."""

    using: tuple[Path, ...] = dataclasses.field(default=(), metadata={"singly": True})
    """A Python file with parts of your own (losses, penalties, networks, ...), by whose names and numbers they can be
    chosen; give it again for another file."""


@dataclasses.dataclass(frozen=True)
class RunOptions(UsingOptions):
    """Beside the fields of a run."""

    file: Path | None = dataclasses.field(default=None, metadata=_PLACE)
    """A file of the same fields in TOML."""
    out: Path = Path("runs/latest")
    """Results folder."""
    overwrite: bool = False
    """Replace results that the folder already holds."""


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
    checkpoint_every: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of a group of runs, at least."""

    def make(self) -> "runner.Engine":
        """The engine. Before anything else is asked of jax, which cannot be made part of a cluster later."""
        from gandyn.sweeps import cluster, runner

        if self.engine == "distributed":
            return cluster.Distributed(self.address, self.num_processes, self.process_id)
        if self.engine == "ray":
            return cluster.Ray(self.address, self.cpus, self.gpus)
        return runner.Engine()


@dataclasses.dataclass(frozen=True)
class SweepOptions(EngineOptions, RunOptions):
    """Beside the fields of a run."""

    dry_run: bool = False
    """Print the plan alone: groups, programs, runs, memory and time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeOptions(EngineOptions, UsingOptions):
    """To go on with results."""

    path: Path = dataclasses.field(metadata=_PLACE)
    """Results folder."""
    anyway: bool = False
    """Go on though versions or the kind of device are others, and last digits may differ."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtendOptions(ResumeOptions):
    """To add to results."""

    seeds: tuple[str, ...] = ()
    """Seeds to add to every recipe: whole numbers, and ranges such as 64:128."""
    steps: int | None = None
    """Generator updates of every run from now on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayOptions(UsingOptions):
    """To create a run again."""

    path: Path = dataclasses.field(metadata=_PLACE)
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
class FolderOptions:
    """To look at results."""

    path: Path = dataclasses.field(metadata=_PLACE)
    """Results folder."""


@dataclasses.dataclass(frozen=True)
class ShowOptions(FolderOptions):
    """To look at the table."""

    json: bool = False
    """Print it as JSON, for programs."""


@dataclasses.dataclass(frozen=True)
class ReportOptions(FolderOptions):
    """To write a page."""

    out: Path | None = None
    """HTML file; by default report.html in the folder."""
    open: bool = False
    """Show it in the browser."""


@dataclasses.dataclass(frozen=True)
class PageOptions(UsingOptions):
    """To write the page in which a sweep is looked into."""

    path: Path | None = dataclasses.field(default=None, metadata=_PLACE)
    """Results folder; none with --play."""
    out: Path | None = None
    """HTML file; by default page.html in the folder."""
    runs: tuple[str, ...] = ()
    """Runs whose networks go into the page: numbers, and ranges such as 0:8. If left out, the most telling ones: of
    each verdict the median and the extremes."""
    all: bool = False
    """The networks of every run, as far as they fit."""
    size: str = "8MB"
    """Size that the file has at most, if its curves leave that; such as 20MB."""
    play: bool = False
    """A page without results, to train in: pick or paint a target."""
    replay: bool = True
    """Train the chosen runs again for their networks; without it, stored samples and surfaces are shown alone."""
    anyway: bool = False
    """Replay though versions or the kind of device are others, and last digits may differ."""
    open: bool = False
    """Show it in the browser."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions(FolderOptions):
    """To write tables."""

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
    """To list what there is."""

    what: str = dataclasses.field(default="", metadata=_PLACE)
    """targets, losses, penalties, ...; everything if left out."""
    json: bool = False
    """Print it as JSON, for programs."""
