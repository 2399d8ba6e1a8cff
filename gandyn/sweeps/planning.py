"""What a sweep will be: its groups, and what they will take of time, memory and disk."""

import dataclasses
import functools
import itertools
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import psutil

from gandyn import devices, environment
from gandyn.gan.config import Config
from gandyn.sweeps import cost, sweep, sweep_file, training
from gandyn.sweeps.cost import Calibration, Estimate
from gandyn.sweeps.parts import label_of
from gandyn.sweeps.sweep import Group, Sweep
from gandyn.text import duration, printable

_GIB = 2**30
_MOST_ROWS = 20
_MOST_FIELDS = 8
_FEW = 4
_LONGEST = 80
_SHARE = 0.25
"""Of the memory there is, for the states of one group."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep cut into groups.

    Attributes:
      sweep: what is planned.
      groups: in the order in which they train.
      in_memory: results are kept in memory rather than written.
    """

    sweep: Sweep
    groups: tuple[Group, ...]
    in_memory: bool

    @functools.cached_property
    def works(self) -> list[cost.Work]:
        """What a run of each group does: read off traced programs, about a second for any number of groups."""
        return cost.works([group.runs[0][0] for group in self.groups], self.sweep.measured)

    @property
    def num_runs(self) -> int:
        """Over all groups."""
        return sum(len(group.runs) for group in self.groups)

    def estimates(self, calibration: Calibration = cost.REFERENCE) -> list[Estimate]:
        """What each group costs."""
        sweep_ = self.sweep
        return [
            cost.estimate(
                work,
                len(group.runs),
                sweep_.num_steps,
                sweep_.measure_every,
                sweep_.deep_every,
                calibration=calibration,
                in_memory=self.in_memory,
            )
            for group, work in zip(self.groups, self.works, strict=True)
        ]

    def check_fits(self, folder: Path | None = None) -> None:
        """Raises ValueError where memory, or the disk of `folder`, is too small, by an estimate from shapes alone."""
        estimates = self.estimates()
        # Of results on disk the metrics are read as a whole in the end; states and work are of one group at a time.
        host = sum(estimate.host_bytes for estimate in estimates)
        devices = max(estimate.device_bytes for estimate in estimates)
        advice = "allowed: fewer seeds, narrower networks, a smaller dataset_size, keep_samples or keep_surface"
        if jax.default_backend() == "cpu":
            self._compare("memory", host + devices, psutil.virtual_memory().available, advice)
        else:
            self._compare("memory", host, psutil.virtual_memory().available, advice)
            stats = [device.memory_stats() or {} for device in jax.local_devices()]
            free = sum(stat.get("bytes_limit", math.inf) - stat.get("bytes_in_use", 0) for stat in stats)
            self._compare("memory of the devices", devices, free, advice)
        if folder is not None:
            there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
            need = sum(estimate.disk_bytes for estimate in estimates) + self.checkpoint_bytes
            advice = "allowed: fewer seeds, fewer measurements, a smaller keep_samples or keep_surface"
            self._compare("disk", need, shutil.disk_usage(there).free, advice)

    def _compare(self, what: str, need: float, available: float, advice: str) -> None:
        if need > available:
            raise ValueError(
                f"{what}: {self.num_runs} runs need about {_size(need)}, {_size(available)} are available; {advice}"
            )

    @property
    def checkpoint_bytes(self) -> float:
        """Of the states of all runs at their end."""
        return float(
            sum(len(group.runs) * work.step["state"] for group, work in zip(self.groups, self.works, strict=True))
        )

    def describe(self) -> str:
        """The plan in plain text, with times by a short calibration of this machine."""
        calibration = cost.calibrate()
        estimates = self.estimates(calibration)
        programs = {name: seconds for estimate in estimates for name, seconds in estimate.programs.items()}
        run_steps = sum(estimate.run_steps for estimate in estimates)
        train, measure = (sum(getattr(one, name) for one in estimates) for name in ("training", "measuring"))
        compiling = sum(programs.values())
        host = sum(one.host_bytes for one in estimates) + max(one.device_bytes for one in estimates)
        disk = sum(one.disk_bytes for one in estimates) + self.checkpoint_bytes
        devices = f"{calibration.num_devices} x {jax.local_devices()[0].platform}"
        lines = [
            f"{printable(_cut(self.sweep.title or 'plan'))}: {_count(len(self.sweep.settings), 'setting')} x "
            f"{_count(len(self.sweep.seeds), 'seed')} = {_count(self.num_runs, 'run')} of "
            f"{_count(self.sweep.num_steps, 'step')}",
            *_varying(self.sweep),
            f"groups        {len(self.groups):,}, of at most {max(len(group.runs) for group in self.groups)} runs side "
            f"by side; blocks of {calibration.block_size} on {devices}",
            f"programs      {len(programs):,} to compile (about {duration(compiling)}, unless kept from before)",
            f"run-steps     {run_steps:,}",
            f"measurements  {len(self.sweep.steps):,} of each run, {len(self.sweep.deep_steps):,} of them in depth",
            f"memory        about {_size(host + cost.PROGRAM_BYTES * min(len(programs), 150))} beside the process"
            + ("" if self.in_memory else f"; disk about {_size(disk)}"),
            f"time          about {duration(train + measure + compiling)}: training {duration(train)}, measuring "
            f"{duration(measure)} (within a factor of two, on this machine as busy as it is now)",
            "",
        ]
        return "\n".join([*lines, *self._table(estimates)])

    def _table(self, estimates: Sequence[Estimate]) -> list[str]:
        """A line for each configuration, in the order in which they train."""
        kinds: dict[Config, list[int]] = {}
        for index, group in enumerate(self.groups):
            kinds.setdefault(group.config, []).append(index)
        seconds = {
            config: sum(estimates[index].training + estimates[index].measuring for index in indices)
            for config, indices in kinds.items()
        }
        differ = _differ(kinds)
        rows = [("groups", "runs", "run-steps/s", "time", "recipes")]
        for config, indices in itertools.islice(kinds.items(), _MOST_ROWS):
            runs = sum(len(self.groups[index].runs) for index in indices)
            trained = sum(estimates[index].training for index in indices)
            rate = sum(estimates[index].run_steps for index in indices) / trained
            recipes = list(dict.fromkeys(setting.recipe for i in indices for setting, _ in self.groups[i].runs))
            label = printable(_recipes(config, recipes, differ))
            rows.append((spans(indices), f"{runs:,}", f"{rate:,.0f}", duration(seconds[config]), label))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[4]]) for row in rows]
        if len(kinds) > _MOST_ROWS:
            rest = sum(list(seconds.values())[_MOST_ROWS:])
            lines.append(f"and {len(kinds) - _MOST_ROWS:,} more configurations: {duration(rest)}")
        return lines


@environment.ours()
def make(sweep_: Sweep, parts: int = 1, in_memory: bool = False) -> Plan:
    """The plan of a sweep.

    Args:
      sweep_: what is planned.
      parts: groups that runs of one kind are cut into, at least: for so many processes.
      in_memory: results are kept in memory rather than written.
    """
    devices.prepare()
    runs = ((setting, seed) for setting in sweep_.settings for seed in sweep_.seeds)
    plans = functools.partial(training.plans, sweep_.measured)
    groups = sweep.plan(runs, plans, _most_runs(sweep_.settings), parts)
    return Plan(sweep_, tuple(groups), in_memory)


def _most_runs(settings: Sequence[sweep.Setting]) -> dict[Config, int]:
    """Runs of a group of each configuration: `sweep.MOST_RUNS`, or fewer where memory is small."""
    platform = jax.default_backend()
    if platform == "cpu":
        memory, most = psutil.virtual_memory().total, sweep.MOST_RUNS
    else:
        devices = jax.local_devices()
        memory = sum((device.memory_stats() or {}).get("bytes_limit", 16 * _GIB) for device in devices)
        most = max(sweep.MOST_RUNS, 4 * len(devices) * 128)
    kinds = {setting.config: setting for setting in settings}
    sizes = cost.state_bytes(list(kinds.values()))
    return {
        config: max(1, min(most, int(_SHARE * memory / (3 * size)))) for config, size in zip(kinds, sizes, strict=True)
    }


# ---- its parts in words


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 3] + "..."


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'s' if number != 1 else ''}"


def _varying(sweep_: Sweep) -> list[str]:
    """A line that says which fields vary, and over how many values; none for a single setting."""
    if len(sweep_.settings) == 1:
        return []
    settings = sweep_.settings
    found = []
    for fields in (
        [vars(one) for one in dict.fromkeys(one.config for one in settings)],
        [one.as_dict() for one in {id(one.hparams): one.hparams for one in settings}.values()],
    ):
        for name in dict.fromkeys(name for column in fields for name in column):
            values = dict.fromkeys(label_of(column[name]) for column in fields if name in column)
            if len(values) > 1:
                found.append(f"{name} ({_values(list(values))})")
    num_targets = len({id(setting.target) for setting in sweep_.settings})
    if num_targets > 1:
        found.insert(0, f"target ({num_targets:,})")
    more = [f"{len(found) - _MOST_FIELDS:,} more fields"] if len(found) > _MOST_FIELDS else []
    return [f"varied        {', '.join(found[:_MOST_FIELDS] + more)}"] if found else []


def _values(values: Sequence[Any]) -> str:
    """A few values, or how many numbers from which to which."""
    if len(values) <= _FEW or not all(isinstance(value, int | float) for value in values):
        shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values[:_FEW])
        return shown + (f", ... {len(values):,} values" if len(values) > _FEW else "")
    return f"{len(values):,} values, {min(values):g} to {max(values):g}"


def _differ(configs: Iterable[Config]) -> list[str]:
    """The fields that tell configurations apart."""
    columns = [vars(config) for config in configs]
    return [name for name in columns[0] if len({column[name] for column in columns}) > 1]


def _recipes(config: Config, recipes: Sequence[str], differ: Sequence[str]) -> str:
    """Two labels as they are; more by what they have in common beside the other configurations."""
    if len(recipes) <= 2:
        return "; ".join(map(_cut, recipes))
    fields = [
        str(label_of(getattr(config, name)))
        if name in ("loss", "penalties")
        else f"{name}={label_of(getattr(config, name))}"
        for name in differ[:_MOST_FIELDS]
    ]
    return f"{', '.join(fields)}{': ' if fields else ''}{len(recipes):,} recipes"


def spans(indices: Sequence[int]) -> str:
    """Ascending numbers with neighbours as ranges: '0-2, 5'; those in the middle of many left out."""
    found = sweep_file.ranges(indices)
    texts = [f"{int(a)}-{int(b) - 1}" if b else a for a, _, b in (text.partition(":") for text in found)]
    return ", ".join(texts if len(texts) <= _FEW else [*texts[: _FEW - 2], "...", texts[-1]])


def _size(num_bytes: float) -> str:
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB / 10 else f"{num_bytes / 2**20:.0f} MiB"
