"""Sweeps from start to end: planned, written to a folder, gone on with after a stop, extended, and replayed."""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from gandyn import checks, devices, environment
from gandyn.analysis import opening as results
from gandyn.gan.config import Config
from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams
from gandyn.gan.targets import Target
from gandyn.results import locks, store
from gandyn.results import manifest as manifests
from gandyn.results.checkpoints import CHECKPOINT_SECONDS
from gandyn.results.files import check_length, folder_of
from gandyn.results.spec import GroupSpec
from gandyn.sweeps import parts, planning, records, sweep, sweep_file
from gandyn.sweeps.engines import Engine, checkpoints_of
from gandyn.sweeps.folders import groups_of, recorded
from gandyn.sweeps.states import TrainedPlayers, starts_of
from gandyn.sweeps.sweep import Group, Sweep
from gandyn.truth.derived import truth_of
from gandyn.truth.measure import MeasureConfig, Measurement


@environment.ours()
def run(
    target: Target | Sequence[Target],
    config: Config | Sequence[Config] = Config(),  # noqa: B008 (frozen)
    hparams: HParams | Sequence[HParams] = HParams(),  # noqa: B008 (frozen)
    seeds: Sequence[int] = range(16),
    num_steps: int = 5_000,
    measure_every: int = 100,
    deep_every: int = 0,
    out: str | os.PathLike[str] | None = None,
    *,
    recipes: Sequence[str] | None = None,
    measurements: Sequence[str | Measurement] | None = None,
    deep: Sequence[str | Measurement] | None = None,
    measure_config: MeasureConfig = MeasureConfig(),  # noqa: B008 (frozen)
    init_from: TrainedPlayers | Sequence[TrainedPlayers] | None = None,
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
      measurements: what is measured every measure_every, by name or as objects; None takes `measure_config`'s.
      deep: the same every deep_every.
      measure_config: how the truth is measured and what is kept.
      init_from: players to start from (`load_states`): one for all runs, or one a run in the order of results. Their
        parameters and statistics; optimizers and what rules remember start afresh. None draws them by the seed.
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
    chosen = {"measurements": measurements, "deep": deep}
    asked = {name: tuple(given) for name, given in chosen.items() if given is not None}
    measure_config = dataclasses.replace(measure_config, **asked)
    planned = Sweep(settings, seeds, num_steps, measure_every, deep_every, measure_config, title)
    return run_sweep(planned, out, init_from=init_from, overwrite=overwrite, progress=progress)


@environment.ours()
def run_sweep(
    sweep_: Sweep,
    out: str | os.PathLike[str] | None = None,
    *,
    init_from: TrainedPlayers | Sequence[TrainedPlayers] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: Engine | None = None,
) -> xr.Dataset:
    """Run a sweep, and return the results.

    Args:
      sweep_: what to run.
      out: the results folder, written while training; None keeps the results in memory.
      init_from: as of `run`.
      overwrite: replace results that `out` already holds.
      progress: show progress on the terminal, or a line every ten seconds where there is none.
      checkpoint_every: seconds between checkpoints of a group of runs, at least.
      engine: what trains the groups; by default this process. Others need `out`, where their processes meet.

    Returns, raises: as `run`.
    """
    engine = _checked(engine, checkpoint_every)
    if out is None and type(engine) is not Engine:
        raise ValueError(f"out: got None; allowed with engine={type(engine).__name__}: a folder")
    folder = None if out is None else folder_of(out)  # which stays what it is, wherever the program goes meanwhile
    if folder is not None:
        check_length(folder)
    plan = planning.make(sweep_, parts=engine.parts, in_memory=folder is None)
    plan.check_fits(folder)
    _warn_of_unsound(sweep_)
    starts = starts_of(init_from, plan.groups)
    specs = [
        records.group_spec(group, sweep_.steps, sweep_.measured, starts[index].origins if starts else None)
        for index, group in enumerate(plan.groups)
    ]
    metadata = records.metadata([setting.config.precision for setting in sweep_.settings]) | {
        "title": sweep_.title,
        "configuration": sweep_file.text(sweep_),
        "coverage_convention": sweep_.measure_config.convention,
        "parts": parts.record(sweep_.parts),
    }
    parts.remember(sweep_.parts, metadata["parts"])
    groups = dict(enumerate(plan.groups))
    arrays = {index: start.arrays for index, start in starts.items()}
    if folder is None:
        writer = store.create(None, specs, metadata, starts=arrays)
        engine.execute(writer, sweep_, groups, progress, checkpoint_every)
        return results.derive(writer.dataset())
    if engine.leads:
        _refuse_what_is_there(folder, sweep_, overwrite)
    with engine.holds(folder):
        if engine.leads:
            store.create(folder, specs, metadata, overwrite, arrays)
        engine.ready()
        engine.execute(store.reopen(folder), sweep_, groups, progress, checkpoint_every)
    return results.open_results(folder)


def _warn_of_unsound(sweep_: Sweep) -> None:
    """Warns of what is unsound about a person's own losses, as far as that can be told from `disc` and `gen`."""
    own = {setting.config.loss: setting for setting in sweep_.settings if isinstance(setting.config.loss, Loss)}
    for loss, setting in own.items():
        for problem in truth_of(loss, setting.hparams).problems:
            warnings.warn(f"loss {loss.name!r}: {problem}", RuntimeWarning, stacklevel=6)


def _checked(engine: Engine | None, checkpoint_every: float) -> Engine:
    checks.number("checkpoint_every", checkpoint_every, 0)
    devices.prepare()
    return engine or Engine()


def _refuse_what_is_there(folder: Path, sweep_: Sweep, overwrite: bool) -> None:
    """`store.check_output`, and how results that are there differ from what is to be made."""
    locks.refuse_held(folder)  # what is in use is not taken for anything else
    try:
        store.check_output(folder, overwrite)
    except ValueError as error:
        locks.refuse_held(folder)  # it may have been taken meanwhile
        differences: list[str] = []
        with contextlib.suppress(ValueError, OSError):
            there = sweep_file.parse(manifests.read(folder)["configuration"], parts.collect(_objects(sweep_)))
            differences = sweep_file.differences(there, sweep_)
        if not differences:
            raise
        raise ValueError(f"{error}. They are of another sweep: {'; '.join(differences)}") from None


def _objects(sweep_: Sweep) -> list[Any]:
    return [part.value for part in sweep_.parts]


@environment.ours()
def resume(
    path: str | os.PathLike[str],
    *,
    using: Iterable[Any] = (),
    anyway: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: Engine | None = None,
) -> xr.Dataset:
    """Go on with what a results folder lacks, from its checkpoints; the bits are those of a run that never stopped.

    Groups that failed are tried again; what is damaged or lost is named in a RuntimeWarning, and made again.

    Args:
      path: the results folder.
      using: the person's own parts that it was made with: losses, penalties, rules, measurements, targets, modules and
        their classes, or Python modules that define them. Code is never read from disk.
      anyway: go on though versions, the kind of device or parts are others, and last digits, or all, may differ.
      progress: as of `run_sweep`.
      checkpoint_every: as of `run_sweep`.
      engine: as of `run_sweep`.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no results; another process writes it; versions or devices are others.
    """
    folder = folder_of(path, "path")
    engine = _checked(engine, checkpoint_every)
    _look(folder)
    with engine.holds(folder):
        if engine.leads:
            store.mend(folder)
        engine.ready()
        _go_on(folder, recorded(folder, anyway, using)[1], progress, checkpoint_every, engine)
    return results.open_results(folder)


@environment.ours()
def extend(
    path: str | os.PathLike[str],
    seeds: Sequence[int] = (),
    num_steps: int | None = None,
    *,
    using: Iterable[Any] = (),
    anyway: bool = False,
    progress: bool = True,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    engine: Engine | None = None,
) -> xr.Dataset:
    """Add seeds to a results folder, or train all its runs for longer, and go on with it.

    Args:
      path: the results folder.
      seeds: those to add, for every setting.
      num_steps: generator updates of every run from now on; more than before.
      using: as of `resume`.
      anyway: as of `resume`.
      progress: as of `resume`.
      checkpoint_every: as of `resume`.
      engine: as of `resume`.

    Raises:
      FileNotFoundError, ValueError: as `resume`; seeds that are there; fewer steps.
    """
    engine = _checked(engine, checkpoint_every)
    folder = folder_of(path, "path")
    _look(folder)
    with engine.holds(folder):
        if engine.leads:
            store.mend(folder)
            _add(folder, *recorded(folder, anyway, using), seeds, num_steps, engine.parts)
        engine.ready()
        _go_on(folder, recorded(folder, anyway, using)[1], progress, checkpoint_every, engine)
    return results.open_results(folder)


def _look(folder: Path) -> None:
    """Raises for what is no results folder, before a lock is put into it. What is damaged is said once it is held."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manifests.read(folder)


def _add(
    folder: Path, manifest: Mapping[str, Any], old: Sweep, seeds: Sequence[int], num_steps: int | None, num_parts: int
) -> None:
    """Makes room in a folder for more seeds, and for more steps of the runs that are there."""
    there = sorted(set(seeds) & set(old.seeds))
    if there:
        raise ValueError(f"seeds: got {', '.join(sweep_file.ranges(there))}, which {folder} has; allowed: others")
    if num_steps is not None and (not isinstance(num_steps, int) or num_steps <= old.num_steps):
        raise ValueError(f"num_steps: got {num_steps}; allowed: more than the {old.num_steps} of {folder}")
    if not seeds and num_steps is None:
        raise ValueError("extend: got nothing to add; allowed: seeds, num_steps, or both")
    if seeds and any("init_from" in group.spec.coords for group in store.reopen(folder).groups.values()):
        raise ValueError(
            f"seeds: {folder} started from given states; allowed: num_steps, or another folder for more runs"
        )
    new = dataclasses.replace(old, seeds=(*old.seeds, *seeds), num_steps=num_steps or old.num_steps)
    specs: list[GroupSpec] = []
    if seeds:
        plan = planning.make(dataclasses.replace(new, seeds=sweep.check_seeds(seeds)), parts=num_parts)
        plan.check_fits(folder)
        specs = [records.group_spec(group, new.steps, new.measured) for group in plan.groups]
    longer: dict[int, GroupSpec] = {}
    if num_steps is not None:
        for index, group in store.reopen(folder).groups.items():
            steps = sorted({*group.spec.steps, *new.steps})
            longer[index] = records.lengthened(group.spec, steps)
    changes = {
        "configuration": sweep_file.text(new),
        "command": f"{manifest['command']}\n{records.command()}",
        "ends": sorted({*manifest["ends"], *([old.num_steps] if longer else [])}),
    }
    store.extend(folder, specs, longer, changes)


def _go_on(folder: Path, sweep_: Sweep, progress: bool, checkpoint_every: float, engine: Engine) -> None:
    groups = groups_of(folder, sweep_)
    open_ = {index: group for index, group in groups.items() if _is_open(folder, index, group)}
    engine.execute(store.reopen(folder), sweep_, open_, progress, checkpoint_every)


def _is_open(folder: Path, index: int, group: Group) -> bool:
    """Whether something is left to do of a group: steps that are not recorded, or damaged; its last checkpoint."""
    writer = store.reopen(folder, index)
    if writer.progress(index).status != "complete" or not writer.recorded(index).all():
        return True
    with checkpoints_of(writer, index, group) as kept:
        return kept is not None and kept.damaged()
