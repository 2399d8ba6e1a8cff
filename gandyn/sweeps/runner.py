"""Sweeps from start to end: planned, written to a folder, gone on with after a stop, extended, and replayed."""

import contextlib
import dataclasses
import errno
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from gandyn import checks
from gandyn.analysis import opening as results
from gandyn.gan.gan import Config, HParams
from gandyn.gan.targets import GaussianMixture
from gandyn.results import checkpoints, locks, store
from gandyn.results import manifest as manifests
from gandyn.results.checkpoints import CHECKPOINT_SECONDS
from gandyn.results.spec import GroupSpec
from gandyn.results.writer import Writer
from gandyn.sweeps import compilation, devices, interrupts, planning, records, sweep, sweep_file, training
from gandyn.sweeps.progress import shown as show_progress
from gandyn.sweeps.sweep import Group, Sweep
from gandyn.sweeps.training import Schedule
from gandyn.truth.measure import MeasureConfig


def run(
    target: GaussianMixture | Sequence[GaussianMixture],
    config: Config | Sequence[Config] = Config(),  # noqa: B008 (frozen)
    hparams: HParams | Sequence[HParams] = HParams(),  # noqa: B008 (frozen)
    seeds: Sequence[int] = range(16),
    num_steps: int = 5_000,
    measure_every: int = 100,
    deep_every: int = 0,
    out: str | os.PathLike[str] | None = None,
    *,
    recipes: Sequence[str] | None = None,
    measure_config: MeasureConfig = MeasureConfig(),  # noqa: B008 (frozen)
    overwrite: bool = False,
    progress: bool = True,
    title: str = "",
) -> xr.Dataset:
    """Train every setting with every seed, measure the truth on the way, and return the results.

    `target`, `config` and `hparams` are each one, or a list with one entry a setting (lists of one length, zipped);
    `run_sweep` takes grids. Settings that share a `Config` train in one program whatever their hyperparameters, targets
    and seeds.

    Args:
      target: the density to learn.
      config: what is compiled in.
      hparams: numbers that are traced.
      seeds: one run of each setting for each; equal seeds mean equal data, latents and initial weights.
      num_steps: generator updates.
      measure_every: generator updates between measurements; step 0 and the last step are always measured.
      deep_every: generator updates between deep measurements (`MeasureConfig.deep`), a multiple of measure_every; step
        0 and the last step are then among them. 0 takes none.
      out: the results folder, written while training; None keeps the results in memory.
      recipes: a label for each setting, in results and plots.
      measure_config: how the truth is measured and what is kept.
      overwrite: replace results that `out` already holds.
      progress: show progress on the terminal, or a line every ten seconds where there is none.
      title: of the results and their report.

    Returns:
      The dataset that docs/results.md describes; `gandyn.open_results(out)` gives the same at any later time.

    Raises:
      ValueError: before anything is compiled or written, for what cannot be meant.
      KeyboardInterrupt: after what was measured, and a checkpoint, are safe on disk.
      ExceptionGroup: groups of runs failed; the others are recorded.
    """
    settings = sweep.make_settings(target, config, hparams, recipes)
    planned = Sweep(settings, seeds, num_steps, measure_every, deep_every, measure_config, title)
    return run_sweep(planned, out, overwrite=overwrite, progress=progress)


def run_sweep(
    sweep_: Sweep,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: "Engine | None" = None,
) -> xr.Dataset:
    """Run a sweep, and return the results.

    Args:
      sweep_: what to run.
      out: the results folder, written while training; None keeps the results in memory.
      overwrite: replace results that `out` already holds.
      progress: show progress on the terminal, or a line every ten seconds where there is none.
      checkpoint_every: seconds between checkpoints of a group of runs, at least.
      engine: what trains the groups; by default this process. Others need `out`, where their processes meet.

    Returns, raises: as `run`.
    """
    engine = _checked(engine, checkpoint_every)
    if out is None and type(engine) is not Engine:
        raise ValueError(f"out: got None; allowed with engine={type(engine).__name__}: a folder")
    plan = planning.make(sweep_, parts=engine.parts, in_memory=out is None)
    plan.check_fits(None if out is None else Path(out))
    specs = [records.group_spec(group, sweep_.steps, sweep_.measured) for group in plan.groups]
    metadata = records.metadata([setting.config.precision for setting in sweep_.settings]) | {
        "title": sweep_.title,
        "configuration": sweep_file.text(sweep_),
        "coverage_convention": sweep_.measure_config.convention,
    }
    groups = dict(enumerate(plan.groups))
    if out is None:
        writer = store.create(None, specs, metadata)
        engine.execute(writer, sweep_, groups, progress, checkpoint_every)
        return results.derive(writer.dataset())
    folder = Path(out)
    if engine.leads:
        _refuse_what_is_there(folder, sweep_, overwrite)
    with engine.holds(folder):
        if engine.leads:
            store.create(folder, specs, metadata, overwrite)
        engine.ready()
        engine.execute(store.reopen(folder), sweep_, groups, progress, checkpoint_every)
    return results.open_results(folder)


def _checked(engine: "Engine | None", checkpoint_every: float) -> "Engine":
    checks.number("checkpoint_every", checkpoint_every, 0)
    devices.prepare()
    return engine or Engine()


def _refuse_what_is_there(folder: Path, sweep_: Sweep, overwrite: bool) -> None:
    """`store.check_output`, and how results that are there differ from what is to be made."""
    try:
        store.check_output(folder, overwrite)
    except ValueError as error:
        differences: list[str] = []
        with contextlib.suppress(ValueError, OSError):
            there = sweep_file.parse(manifests.read(folder)["configuration"])
            differences = sweep_file.differences(there, sweep_)
        if not differences:
            raise
        raise ValueError(f"{error}. They are of another sweep: {'; '.join(differences)}") from None


def resume(
    path: str | os.PathLike[str],
    *,
    anyway: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: "Engine | None" = None,
) -> xr.Dataset:
    """Go on with what a results folder lacks, from its checkpoints; the bits are those of a run that never stopped.

    Groups that failed are tried again; results that are damaged are made again.

    Args:
      path: the results folder.
      anyway: go on though versions or the kind of device are others, and last digits may differ.
      progress: as of `run_sweep`.
      checkpoint_every: as of `run_sweep`.
      engine: as of `run_sweep`.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no results; another process writes it; versions or devices are others.
    """
    folder = Path(path)
    engine = _checked(engine, checkpoint_every)
    manifests.read(folder)  # before a lock is put into what may be no results folder
    with engine.holds(folder):
        engine.ready()
        _go_on(folder, _recorded(folder, anyway)[1], progress, checkpoint_every, engine)
    return results.open_results(folder)


def extend(
    path: str | os.PathLike[str],
    seeds: Sequence[int] = (),
    num_steps: int | None = None,
    *,
    anyway: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: "Engine | None" = None,
) -> xr.Dataset:
    """Add seeds to a results folder, or train all its runs for longer, and go on with it.

    Args:
      path: the results folder.
      seeds: those to add, for every setting.
      num_steps: generator updates of every run from now on; more than before.
      anyway: as of `resume`.
      progress: as of `resume`.
      checkpoint_every: as of `resume`.
      engine: as of `resume`.

    Raises:
      FileNotFoundError, ValueError: as `resume`; seeds that are there; fewer steps.
    """
    engine = _checked(engine, checkpoint_every)
    folder = Path(path)
    manifests.read(folder)
    with engine.holds(folder):
        if engine.leads:
            _add(folder, *_recorded(folder, anyway), seeds, num_steps, engine.parts)
        engine.ready()
        _go_on(folder, _recorded(folder, anyway)[1], progress, checkpoint_every, engine)
    return results.open_results(folder)


def _add(
    folder: Path, manifest: Mapping[str, Any], old: Sweep, seeds: Sequence[int], num_steps: int | None, parts: int
) -> None:
    """Makes room in a folder for more seeds, and for more steps of the runs that are there."""
    there = sorted(set(seeds) & set(old.seeds))
    if there:
        raise ValueError(f"seeds: got {', '.join(sweep_file.ranges(there))}, which {folder} has; allowed: others")
    if num_steps is not None and (not isinstance(num_steps, int) or num_steps <= old.num_steps):
        raise ValueError(f"num_steps: got {num_steps}; allowed: more than the {old.num_steps} of {folder}")
    if not seeds and num_steps is None:
        raise ValueError("extend: got nothing to add; allowed: seeds, num_steps, or both")
    new = dataclasses.replace(old, seeds=(*old.seeds, *seeds), num_steps=num_steps or old.num_steps)
    specs: list[GroupSpec] = []
    if seeds:
        plan = planning.make(dataclasses.replace(new, seeds=sweep.check_seeds(seeds)), parts=parts)
        plan.check_fits(folder)
        specs = [records.group_spec(group, new.steps, new.measured) for group in plan.groups]
    longer: dict[int, GroupSpec] = {}
    if num_steps is not None:
        for index, group in store.reopen(folder).groups.items():
            steps = sorted({*group.spec.steps, *new.steps})
            longer[index] = dataclasses.replace(group.spec, steps=steps)
    changes = {
        "configuration": sweep_file.text(new),
        "command": f"{manifest['command']}\n{records.command()}",
        "ends": sorted({*manifest["ends"], *([old.num_steps] if longer else [])}),
    }
    store.extend(folder, specs, longer, changes)


def _recorded(folder: Path, anyway: bool) -> tuple[dict[str, Any], Sweep]:
    """The manifest of a folder, and the sweep that it was made by; ValueError where it cannot be gone on with here."""
    manifest = manifests.read(folder)
    changed = records.what_changed(manifest)
    if changed and not anyway:
        raise ValueError(
            f"{folder} was made otherwise: {'; '.join(changed)}. Its runs would go on with other last digits; to do "
            "that all the same, pass anyway"
        )
    try:
        return manifest, sweep_file.parse(manifest["configuration"])
    except ValueError as error:
        raise ValueError(f"{folder} records no sweep that can be run: {error}") from error


def _go_on(folder: Path, sweep_: Sweep, progress: bool, checkpoint_every: float, engine: "Engine") -> None:
    groups = groups_of(folder, sweep_)
    open_ = {index: group for index, group in groups.items() if _is_open(folder, index)}
    engine.execute(store.reopen(folder), sweep_, open_, progress, checkpoint_every)


def _is_open(folder: Path, index: int) -> bool:
    """Whether something is left to do of a group: steps that are not recorded, or damaged; its last checkpoint."""
    writer = store.reopen(folder, index)
    return writer.progress(index).status != "complete" or not writer.recorded(index).all()


def groups_of(folder: Path, sweep_: Sweep) -> dict[int, Group]:
    """The groups of a results folder by their position, as they were planned."""
    settings = {setting.recipe: setting for setting in sweep_.settings}
    wanted = {(setting.recipe, seed) for setting in sweep_.settings for seed in sweep_.seeds}
    groups: dict[int, Group] = {}
    sizes: dict[Any, int] = {}
    for index, group in store.reopen(folder).groups.items():
        labels = list(zip(group.spec.coords["recipe"], group.spec.coords["seed"]))
        if not wanted.issuperset(labels):
            raise ValueError(f"{folder}: group {index} holds runs that its recorded configuration does not have")
        wanted -= set(labels)
        runs = tuple((settings[recipe], int(seed)) for recipe, seed in labels)
        config = runs[0][0].config
        if any(setting.config != config for setting, _ in runs):
            raise ValueError(f"{folder}: group {index} holds runs of more than one Config")
        groups[index] = Group(config, runs, len(runs))
        sizes[config] = max(len(runs), sizes.get(config, 0))
    if wanted:
        raise ValueError(f"{folder} lacks runs of its recorded configuration, such as {sorted(wanted)[0]}")
    return {index: group._replace(capacity=sizes[group.config]) for index, group in groups.items()}


def schedule_of(writer: Writer, index: int, sweep_: Sweep) -> Schedule:
    """When a group is measured: at every step of its store."""
    steps = list(writer.groups[index].spec.steps)
    ends = {*writer.manifest["ends"], sweep_.num_steps}
    every = sweep_.deep_every
    deep = frozenset(step for step in steps if step % every == 0 or step in ends) if every else frozenset()
    return Schedule(steps, deep, every, sweep_.measured)


# ---- execution


class Failure(RuntimeError):
    """A group of runs failed; its cause says why."""


class Engine:
    """Trains groups of a results folder one after the other, in this process, on all its devices.

    Attributes:
      parts: groups that runs of one kind are to be cut into, at least.
      leads: whether this process makes the folder, and says how it all ended.
    """

    parts: int = 1
    leads: bool = True

    def holds(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Holds the folder against other writers, where this process leads."""
        return locks.writer(folder, records.command()) if self.leads else contextlib.nullcontext()

    def ready(self) -> None:
        """Returns once the process that leads has made the folder what it is to be."""

    def execute(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], progress: bool, checkpoint_every: float
    ) -> None:
        """Trains groups (by their position in the results), and notes in the manifest how that ended.

        Raises:
          KeyboardInterrupt, OSError, ExceptionGroup: as `run`.
        """
        start = time.monotonic()
        spent = writer.manifest["wall_time_s"] or 0.0

        def note(status: str) -> None:
            if self.leads:
                writer.finish(status, spent + time.monotonic() - start)

        note("running")
        try:
            failures = self.train(writer, sweep_, groups, progress and self.leads, checkpoint_every)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk: what is raised says so, and better
                note("interrupted")
            raise
        failed = failures or any(writer.progress(index).status == "failed" for index in groups)
        note("failed" if failed else "complete")
        if failures:
            raise ExceptionGroup(
                f"{len(failures)} of {len(groups)} groups of runs failed, the others are recorded", failures
            )

    def train(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
    ) -> list[Exception]:
        """What of `execute` differs between engines: trains groups, and returns what failed."""
        return train_groups(writer, sweep_, groups, shown, checkpoint_every)


def train_groups(
    writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
) -> list[Exception]:
    """Trains groups one after the other; a failure of one does not stop the rest, and is returned.

    Raises:
      KeyboardInterrupt: asked to stop; a checkpoint is on disk.
      OSError: the folder cannot be written to.
    """
    devices.prepare()
    compilation.use_cache()
    failures: list[Exception] = []
    schedules = {index: schedule_of(writer, index, sweep_) for index in groups}
    total = sum(len(group.runs) * schedules[index].steps[-1] for index, group in groups.items())
    with interrupts.Stop() as stop, show_progress(total, shown) as report:
        for index, group in groups.items():
            stop.check()
            compilation.make_room()
            try:
                with _checkpoints(writer, index, group) as kept:
                    training.train(writer, index, group, schedules[index], report, stop, kept, checkpoint_every)
            except Exception as error:
                if _is_about_disk(error):
                    raise OSError(
                        getattr(error, "errno", None) or errno.ENOSPC,
                        f"results cannot be written to {writer.folder} ({error}): what was recorded before is kept, "
                        "and gandyn resume goes on from there",
                    ) from error
                failure = Failure(f"group {index} ({group.label}): {type(error).__name__}: {error}")
                failure.__cause__ = error
                failures.append(failure)
                writer.note(index, writer.progress(index)._replace(status="failed", error=str(failure)))
                warnings.warn(f"{failure}; going on with the others", RuntimeWarning, stacklevel=2)
    return failures


@contextlib.contextmanager
def _checkpoints(writer: Writer, index: int, group: Group) -> Iterator[checkpoints.Checkpoints | None]:
    if writer.folder is None:
        yield None
        return
    with checkpoints.opened(checkpoint_folder(writer, index), training.identity(group), jax.process_index()) as kept:
        yield kept


def checkpoint_folder(writer: Writer, index: int) -> Path:
    """Where the checkpoints of a group are."""
    assert writer.folder is not None
    return writer.folder / store.CHECKPOINTS / f"group-{writer.unit(index):03d}"


def _is_about_disk(error: Exception) -> bool:
    """Whether the folder cannot be written to, so that no other group can go on either."""
    causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
    return any(
        isinstance(cause, OSError) or "No space left on device" in str(cause) or "Disk quota" in str(cause)
        for cause in causes
    )


# ---- replay


class Replay(NamedTuple):
    """Attributes:
    results: of the one run, measured as asked.
    compared: measurements that were recorded too.
    differences: metric -> the first step at which it is not the recorded one to the bit; empty where all are.
    """

    results: xr.Dataset
    compared: int
    differences: dict[str, int]


def replay(
    path: str | os.PathLike[str],
    run: int,
    measure_every: int | None = None,
    steps: tuple[int, int] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
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
      overwrite: replace results that `out` already holds.
      anyway: as of `resume`.
      progress: as of `run`.

    Raises:
      FileNotFoundError, ValueError: as `resume`; no such run; steps that it does not have.
    """
    devices.prepare()
    folder = Path(path)
    manifest, sweep_ = _recorded(folder, anyway)
    writer = store.reopen(folder)
    groups = groups_of(folder, sweep_)
    index, position = _find(groups, run)
    group = groups[index]
    schedule = schedule_of(writer, index, sweep_)
    first, last = steps or (0, schedule.steps[-1])
    checks.whole("steps", first, least=0, most=schedule.steps[-1])
    checks.whole("steps", last, least=first, most=schedule.steps[-1])
    every = sweep_.measure_every if measure_every is None else measure_every
    checks.whole("measure_every", every)
    recorded = [step for step in schedule.steps if first <= step <= last]
    # The path is measured from the deep measurement before.
    before = [step for step in schedule.deep_steps if step < first and step % schedule.deep_every == 0]
    dense = sorted({*range(first, last + 1, every), last, *recorded, *before[-1:]})
    alone = Group(group.config, (group.runs[position],), 1)
    wanted = schedule._replace(steps=dense)
    new = store.create(out, [records.group_spec(alone, dense, sweep_.measured)], _texts(manifest), overwrite)
    compilation.use_cache()
    with interrupts.Stop() as stop, show_progress(last, progress) as report:
        again = training.Training(alone, wanted, lambda i, *what: new.write(0, i, *what), report, stop)
        _start_near(dense[0], again, writer, index, group, position)
        report(group.label, again.step, anew=False)
        again.run(lambda: None)
    new.finish("complete", 0.0)
    made = results.derive(new.dataset()).sel(step=slice(first, None))
    return Replay(made, *_compare(new, writer, index, position, recorded))


def _find(groups: Mapping[int, Group], run: int) -> tuple[int, int]:
    """The group that a run of the results is in, and its position there."""
    first = 0
    for index, group in groups.items():
        if first <= run < first + len(group.runs):
            return index, run - first
        first += len(group.runs)
    raise ValueError(f"run: got {run}; allowed: 0 to {first - 1}")


def _texts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = ("title", "command", "configuration", "versions", "device", "precision", "commit", "coverage_convention")
    return {name: manifest[name] for name in names}


def _start_near(step: int, again: training.Training, writer: Writer, index: int, group: Group, position: int) -> None:
    """Goes to the last checkpoint at or before a step, where there is one."""
    like = {
        name: np.empty((len(group.runs), *leaf.shape[1:]), leaf.dtype) for name, leaf in again.checkpoint().tree.items()
    }
    with _checkpoints(writer, index, group) as kept:
        found = kept.latest(like, len(writer.groups[index].spec.steps), at_most=step) if kept is not None else None
    if found is not None:
        row = slice(position, position + 1)
        again.restore(found._replace(recorded=0, tree={name: leaf[row] for name, leaf in found.tree.items()}))


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
