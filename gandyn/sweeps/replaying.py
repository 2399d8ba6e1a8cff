"""One run of a results folder made again, measured as densely as wanted."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gandyn import checks, devices, environment
from gandyn.analysis import opening as results
from gandyn.results import locks, store
from gandyn.results.files import folder_of
from gandyn.results.writer import Writer
from gandyn.sweeps import compilation, interrupts, records, training
from gandyn.sweeps.folders import groups_of, recorded, schedule_of
from gandyn.sweeps.progress import shown as show_progress
from gandyn.sweeps.states import Start, find_run, start_near
from gandyn.sweeps.sweep import Group


class Replay(NamedTuple):
    """Attributes:
    results: of the one run, measured as asked.
    compared: measurements that were recorded too.
    differences: metric -> the first step at which it is not the recorded one to the bit; empty where all are.
    """

    results: xr.Dataset
    compared: int
    differences: dict[str, int]


@environment.ours()
def replay(
    path: str | os.PathLike[str],
    run: int,
    measure_every: int | None = None,
    steps: tuple[int, int] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    using: Iterable[Any] = (),
    overwrite: bool = False,
    anyway: bool = False,
    progress: bool = True,
) -> Replay:
    """Create one run again, measured as densely as wanted, and compare it with what was recorded.

    Args:
      path: the results folder.
      run: its number there.
      measure_every: steps between measurements; by default as recorded.
      steps: (first, last) step that is measured; by default all. Training starts at the run's last checkpoint before
        it, or at the beginning.
      out: a results folder for what is measured; None keeps it in memory.
      using: as of `resume`.
      overwrite: replace results that `out` already holds.
      anyway: as of `resume`.
      progress: as of `run`.

    Raises:
      FileNotFoundError, ValueError: as `resume`; no such run; steps that it does not have.
    """
    folder, out = folder_of(path, "path"), None if out is None else folder_of(out)
    devices.prepare()
    manifest, sweep_ = recorded(folder, anyway, using)
    writer = store.reopen(folder)
    groups = groups_of(folder, sweep_)
    index, position = find_run(groups, run)
    group = groups[index]
    schedule = schedule_of(writer, index, sweep_)
    first, last = steps or (0, schedule.steps[-1])
    checks.whole("steps", first, least=0, most=schedule.steps[-1])
    checks.whole("steps", last, least=first, most=schedule.steps[-1])
    every = sweep_.measure_every if measure_every is None else measure_every
    checks.whole("measure_every", every)
    there = [step for step in schedule.steps if first <= step <= last]
    # The path is measured from the deep measurement before.
    before = [step for step in schedule.deep_steps if step < first and step % schedule.deep_every == 0]
    dense = sorted({*range(first, last + 1, every), last, *there, *before[-1:]})
    alone = Group(group.config, (group.runs[position],), 1)
    wanted = schedule._replace(steps=dense)
    origin = writer.groups[index].spec.coords.get("init_from")
    start = None if origin is None else Start(store.read_start(writer, index) or {}, list(origin)).of(position)
    spec = records.group_spec(alone, dense, sweep_.measured, None if start is None else start.origins)
    spec.constants["run_steps"][1][:] = schedule.steps[-1]  # a window of a run is no run
    if out is not None:
        locks.refuse_held(out)
        store.check_output(out, overwrite)
        if out.resolve() == folder.resolve():
            raise ValueError(f"out: got {out}, which is what is replayed; allowed: another folder")
    arrays = None if start is None else start.arrays
    with contextlib.nullcontext() if out is None else locks.writer(out, records.command()):
        new = store.create(out, [spec], _texts(manifest), overwrite, None if arrays is None else {0: arrays})
        compilation.use_cache()
        with interrupts.Stop() as stop, show_progress(last, progress) as report:
            again = training.Training(alone, wanted, lambda i, *what: new.write(0, i, *what), report, stop, arrays)
            start_near(dense[0], again, writer, index, group, position)
            report(group.label, again.step, anew=False)
            again.run(lambda: None)
        new.finish("complete", 0.0)
    made = results.derive(new.dataset().sel(step=slice(first, None)))
    return Replay(made, *_compare(new, writer, index, position, there))


def _texts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "title",
        "command",
        "configuration",
        "versions",
        "device",
        "environment",
        "precision",
        "commit",
        "coverage_convention",
        "parts",
    )
    return {name: manifest[name] for name in names}


def _compare(
    new: Writer, writer: Writer, index: int, position: int, steps: Sequence[int]
) -> tuple[int, dict[str, int]]:
    """How many of these steps were recorded, and metric or field -> the first of them that differs in a bit."""
    again, there = new.groups[0], writer.groups[index]
    done = writer.recorded(index)
    metrics = list(there.spec.metrics)
    compared, differences = 0, {}
    for step in steps:
        old_index, new_index = there.spec.steps.index(step), again.spec.steps.index(step)
        if not done[old_index]:
            continue
        compared += 1
        pairs = {
            name: (there.arrays["metrics"][i, position, old_index], again.arrays["metrics"][i, 0, new_index])
            for i, name in enumerate(metrics)
        }
        pairs |= {
            name: (there.arrays[name][position, old_index], again.arrays[name][0, new_index])
            for name in there.spec.fields
        }
        for name, (a, b) in pairs.items():
            if not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True):
                differences.setdefault(name, step)
    return compared, differences
