"""What a sweep will be: its groups, and what they will take of time, memory and disk."""

import functools
import math
import shutil
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import psutil

from gandyn import cost, stats, sweep, training
from gandyn.cost import Calibration, Estimate
from gandyn.gan import Config
from gandyn.progress import duration
from gandyn.sweep import Group, Sweep

_GIB = 2**30
_MOST_ROWS = 20
_SHARE = 0.25
"""Of the memory there is, for the states of one group."""


class Plan(NamedTuple):
    """A sweep cut into groups.

    Attributes:
      sweep: what is planned.
      groups: in the order in which they train.
      in_memory: results are kept in memory rather than written.
    """

    sweep: Sweep
    groups: tuple[Group, ...]
    in_memory: bool

    @property
    def num_runs(self) -> int:
        """Over all groups."""
        return sum(len(group.runs) for group in self.groups)

    def estimates(self, calibration: Calibration = cost.REFERENCE) -> list[Estimate]:
        """What each group costs."""
        return [_estimate(self, group, calibration) for group in self.groups]

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
        return float(sum(len(group.runs) * cost.state_bytes(group.config) for group in self.groups))

    def programs(self) -> dict[Hashable, float]:
        """Everything that compiles -> seconds."""
        return {name: seconds for estimate in self.estimates() for name, seconds in estimate.programs.items()}

    def describe(self) -> str:
        """The plan in plain text, with times by a short calibration of this machine."""
        calibration = cost.calibrate({group.config for group in self.groups})
        estimates = self.estimates(calibration)
        programs = {name: seconds for estimate in estimates for name, seconds in estimate.programs.items()}
        run_steps = sum(estimate.run_steps for estimate in estimates)
        train, measure = (sum(getattr(one, name) for one in estimates) for name in ("training", "measuring"))
        compiling = sum(programs.values())
        host = sum(one.host_bytes for one in estimates) + max(one.device_bytes for one in estimates)
        disk = sum(one.disk_bytes for one in estimates) + self.checkpoint_bytes
        devices = f"{calibration.num_devices} x {jax.local_devices()[0].platform}"
        lines = [
            f"{stats.printable(self.sweep.title or 'plan')}: {len(self.sweep.settings):,} settings x "
            f"{len(self.sweep.seeds):,} seeds = {self.num_runs:,} runs of {self.sweep.num_steps:,} steps",
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
        kinds: dict[Config, list[int]] = {}
        for index, group in enumerate(self.groups):
            kinds.setdefault(group.config, []).append(index)
        rows = [("groups", "runs", "run-steps/s", "time", "recipes")]
        for indices in list(kinds.values())[:_MOST_ROWS]:
            of_kind = [estimates[index] for index in indices]
            trained = sum(one.training for one in of_kind)
            total = trained + sum(one.measuring for one in of_kind)
            recipes = dict.fromkeys(setting.recipe for i in indices for setting, _ in self.groups[i].runs)
            more = f", ... ({len(recipes)} recipes)" if len(recipes) > 2 else ""
            label = ", ".join(list(recipes)[:2]) + more
            numbers = f"{indices[0]}" if len(indices) == 1 else f"{indices[0]} ... {indices[-1]}"
            runs = sum(len(self.groups[index].runs) for index in indices)
            rate = sum(one.run_steps for one in of_kind) / trained
            rows.append((numbers, f"{runs:,}", f"{rate:,.0f}", duration(total), stats.printable(label)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines += ["  ".join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[4][:80]]) for row in rows]
        if len(kinds) > _MOST_ROWS:
            lines.append(f"and {len(kinds) - _MOST_ROWS} more kinds of groups")
        return "\n".join(lines)


def make(sweep_: Sweep, parts: int = 1, in_memory: bool = False) -> Plan:
    """The plan of a sweep.

    Args:
      sweep_: what is planned.
      parts: groups that runs of one kind are cut into, at least: for so many processes.
      in_memory: results are kept in memory rather than written.
    """
    runs = ((setting, seed) for setting in sweep_.settings for seed in sweep_.seeds)
    groups = sweep.plan(runs, functools.partial(training.grids, sweep_.measured), _most_runs(sweep_.settings), parts)
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
    configs = {setting.config for setting in settings}
    return {config: max(1, min(most, int(_SHARE * memory / (3 * cost.state_bytes(config))))) for config in configs}


def _estimate(plan: Plan, group: Group, calibration: Calibration) -> Estimate:
    target = group.runs[0][0].target
    return cost.estimate(
        group.config,
        plan.sweep.measured,
        len(group.runs),
        plan.sweep.num_steps,
        plan.sweep.measure_every,
        plan.sweep.deep_every,
        num_modes=target.num_modes,
        grids=_grids(plan.sweep, group),
        calibration=calibration,
        in_memory=plan.in_memory,
    )


def _grids(sweep_: Sweep, group: Group) -> tuple[int, tuple[int, ...]]:
    return training.grids(sweep_.measured, group.runs[0][0].target)


def _size(num_bytes: float) -> str:
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB / 10 else f"{num_bytes / 2**20:.0f} MiB"
