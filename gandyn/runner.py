"""The host loop: init, then advance and measure in turn, recording while the devices work."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gandyn import checks, ensemble, gan, losses, measure, results, store, sweep, truth
from gandyn.ensemble import Ensemble, Runs
from gandyn.gan import Config, HParams, State
from gandyn.losses import LOSSES, LossParams
from gandyn.measure import MeasureConfig, Measurement, Past
from gandyn.sweep import Group, Setting
from gandyn.targets import GaussianMixture

_GIB = 2**30


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
    command: str | None = None,
    configuration: str | None = None,
) -> xr.Dataset:
    """Train every setting with every seed, measure the truth on the way, and return the results.

    `target`, `config` and `hparams` are each one, or a list with one entry a setting (lists of one length, zipped).
    Settings that share a `Config` train in one program whatever their hyperparameters, targets and seeds.

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
      command: recorded as what reproduces the results; by default this process's command line.
      configuration: TOML recorded beside it; by default everything given here.

    Returns:
      The dataset that docs/results.md describes; `gandyn.open_results(out)` gives the same at any later time.

    Raises:
      ValueError: before anything is compiled or written, for what cannot be meant.
      KeyboardInterrupt: after what was measured is safe on disk.
    """
    checks.whole("num_steps", num_steps)
    checks.whole("measure_every", measure_every)
    checks.whole("deep_every", deep_every, least=0)
    if deep_every % measure_every:
        raise ValueError(f"deep_every: got {deep_every}; allowed: a multiple of measure_every, {measure_every}")
    if deep_every and not measure_config.deep:
        raise ValueError(f"deep_every: got {deep_every}; allowed where `deep` names nothing to measure: 0")
    asked = measure_config
    if not deep_every:
        measure_config = dataclasses.replace(measure_config, deep=())
    seeds = sweep.check_seeds(seeds)
    settings = sweep.make_settings(target, config, hparams, recipes)
    for setting in settings:
        gan.check(setting.target, setting.config, setting.hparams)
        measure.check(setting.config, measure_config)
    if out is not None:
        store.check_output(out, overwrite)
    groups = sweep.plan(settings, seeds, functools.partial(_grids, measure_config))
    steps = [*range(0, num_steps, measure_every), num_steps]
    _check_memory(groups, len(steps), measure_config, in_memory=out is None)

    deep_steps = {*range(0, num_steps, deep_every), num_steps} if deep_every else set()
    plan = {"seeds": seeds, "num_steps": num_steps, "measure_every": measure_every, "deep_every": deep_every}
    metadata = {
        "title": title,
        "command": _command() if command is None else command,
        "configuration": _configuration(plan, settings, asked) if configuration is None else configuration,
        "versions": _versions(),
        "device": _device(),
        "precision": ", ".join(sorted({setting.config.precision for setting in settings})),
        "commit": _commit(),
        "coverage_convention": measure_config.convention,
    }
    specs = [_group_spec(group, steps, measure_config) for group in groups]
    writer = store.create(out, specs, metadata, overwrite)
    start = time.perf_counter()
    total = num_steps * sum(len(group.runs) for group in groups)
    status = "interrupted"
    try:
        with _progress(total, progress) as advance_bar:
            for index, group in enumerate(groups):
                _run_group(writer, index, group, steps, deep_steps, measure_config, advance_bar)
        status = "complete"
    finally:
        writer.finish(status, time.perf_counter() - start)
    return results.derive(writer.dataset()) if out is None else results.open_results(out)


def _run_group(
    writer: store.Writer,
    index: int,
    group: Group,
    steps: Sequence[int],
    deep_steps: Collection[int],
    measure_config: MeasureConfig,
    report: Callable[[str, int], None],
) -> None:
    """Train and record one group; `report` is told (what, run-steps done since the last call)."""
    label = ", ".join(dict.fromkeys(setting.recipe for setting, _ in group.runs))
    report(label, 0)
    targets = [setting.target for setting, _ in group.runs]
    grid_size, deep_grids = _grids(measure_config, targets[0])  # as of all others
    many = ensemble.make_ensemble(
        group.config, measure_config, grid_size, len(group.runs), deep_grids=deep_grids if deep_steps else ()
    )
    runs = many.place(
        ensemble.stack_runs(targets, [setting.hparams for setting, _ in group.runs], [seed for _, seed in group.runs])
    )
    not_taken = dict.fromkeys(
        measure.deep_metrics_of(group.config, measure_config), np.full(len(group.runs), np.nan, np.float32)
    )

    def record(step_index: int, measurement: Measurement, deep: tuple[dict, dict]) -> None:
        metrics, fields = many.trim(measurement)
        deep_metrics, deep_fields = deep
        writer.write(
            index,
            step_index,
            measure.named(group.config, measure_config, metrics) | not_taken | deep_metrics,
            fields | deep_fields,
        )
        done = steps[step_index] - steps[max(step_index - 1, 0)]
        report(label, done * many.num_runs)

    states = many.init(runs)
    past = Past(*[many.keep_params(states)] * 2) if deep_steps else None
    last: tuple[Measurement, tuple[dict, dict]] | None = None
    for step_index, step in enumerate(steps):
        if step_index:
            states = many.advance(states, runs, step - steps[step_index - 1])
        measurement = many.measure(states, runs)
        if last is not None:
            # The devices are busy with the next chunk while the last measurement is written.
            record(step_index - 1, *last)
        last = measurement, ({}, {})
        if past is not None and step in deep_steps:
            last = measurement, _measure_deep(many, states, runs, past, group)
            past = past._replace(last=many.keep_params(states))
    assert last is not None
    record(len(steps) - 1, *last)


def _measure_deep(
    many: Ensemble, states: State, runs: Runs, past: Past, group: Group
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The deep metrics (R,) and fields (R, ...) of every run: those of the devices, then those of the host."""
    metrics, fields, samples = many.trim(many.measure_deep(states, runs, past))
    if samples is not None:
        targets = [setting.target for setting, _ in group.runs]
        metrics |= measure.transport(group.config, many.measure_config, samples, targets)
    if "spectrum" in many.measure_config.deep:
        found = [
            measure.spectrum(group.config, many.measure_config, *many.one((runs.target, runs.hparams, states), run))
            for run in range(many.num_runs)
        ]
        metrics |= {name: np.asarray([one[name] for one, _ in found], np.float32) for name in found[0][0]}
        fields |= {"eigenvalues": np.stack([eigenvalues for _, eigenvalues in found])}
    return metrics, fields


def _grids(measure_config: MeasureConfig, target: GaussianMixture) -> tuple[int, tuple[int, ...]]:
    """Cells along each side of the density grids, of the cheap and of the deep measurements."""
    deep = measure.deep_grids(target, measure_config) if measure_config.deep else ()
    return truth.grid_cells(target, measure_config.bandwidth), deep


def _group_spec(group: Group, steps: Sequence[int], measure_config: MeasureConfig) -> store.GroupSpec:
    settings = [setting for setting, _ in group.runs]
    distinct = {id(setting): setting for setting in settings}  # runs of one setting differ in their seed alone
    of_each = lambda function: {key: function(setting) for key, setting in distinct.items()}  # noqa: E731
    fields = of_each(lambda s: sweep.fields_of(*s[1:]))
    boxes = of_each(lambda s: s.target.box())
    best, decision, equilibrium = of_each(_best_losses), of_each(_decision), of_each(_equilibrium)
    coords = {name: [fields[id(setting)][name] for setting in settings] for name in fields[id(settings[0])]}
    fields_kept = measure.fields_of(measure_config, settings[0].target.num_modes)
    fields_kept |= measure.deep_fields_of(group.config, measure_config)
    per_run = lambda values: np.stack([np.asarray(value, np.float64) for value in values])  # noqa: E731
    units = {"units": "data"}
    return store.GroupSpec(
        metrics=_metrics_of(group.config, measure_config),
        steps=steps,
        coords={"seed": [seed for _, seed in group.runs], "recipe": [s.recipe for s in settings]} | coords,
        constants={
            "target_means": (("run", "mode", "xy"), per_run(s.target.means for s in settings), units),
            "target_stds": (("run", "mode"), per_run(s.target.stds for s in settings), units),
            "target_weights": (("run", "mode"), per_run(s.target.weights for s in settings), {}),
            "target_center": (("run", "xy"), per_run(boxes[id(s)][0] for s in settings), units),
            "extent": (("run",), per_run(boxes[id(s)][1] for s in settings), units),
            "best_loss_disc": (("run", "mode"), per_run(best[id(s)][0] for s in settings), {"units": "loss"}),
            "best_loss_gen": (("run", "mode"), per_run(best[id(s)][1] for s in settings), {"units": "loss"}),
            "decision": (("run",), per_run(decision[id(s)] for s in settings), {"units": "output of D"}),
            "equilibrium": (("run",), per_run(equilibrium[id(s)] for s in settings), {"units": "value"}),
        },
        fields={name: store.Field(*field) for name, field in fields_kept.items()},
        axes=measure.axes_of(measure_config),
    )


def _metrics_of(config: Config, measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    return measure.metrics_of(config, measure_config) | measure.deep_metrics_of(config, measure_config)


def _best_losses(setting: Setting) -> np.ndarray:
    """`losses.of_modes` of a setting, NaN where its modes are not equal and disjoint as they are judged: (2, K)."""
    config, weights = setting.config, np.asarray(setting.target.weights, np.float64)
    alike = np.allclose(weights, 1 / len(weights), rtol=1e-3)
    # So many packs that they could not be told one by one say nothing more than fewer do.
    if not alike or config.num_classes or config.instance_noise != "none" or len(weights) ** config.packing > 10**6:
        return np.full((2, len(weights)), np.nan)
    params = LossParams(*(float(number) for number in gan.loss_params(setting.hparams)))
    return losses.of_modes(config.loss, len(weights), params, config.packing)


def _decision(setting: Setting) -> float:
    """D's output where real and fake are equally likely; NaN where it is known up to a constant, or not at all."""
    critic = LOSSES[setting.config.loss].critic
    if critic is None or setting.config.loss.startswith("relativistic"):
        return math.nan
    return float(critic(np.float32(0), gan.loss_params(setting.hparams)))


def _equilibrium(setting: Setting) -> Any:
    return LOSSES[setting.config.loss].equilibrium(gan.loss_params(setting.hparams))


# ---- what is refused before anything starts


def _check_memory(
    groups: Sequence[Group], num_measurements: int, measure_config: MeasureConfig, in_memory: bool
) -> None:
    """Refuse what would not fit, by an estimate from shapes alone: states, kept measurements, one chunk of work."""
    num_runs = sum(len(group.runs) for group in groups)
    kept = measure_config.keep_samples * 2 + measure_config.keep_surface**2
    held = num_measurements if in_memory else 2
    num_metrics = max(len(_metrics_of(group.config, measure_config)) for group in groups)
    host = 4.0 * num_runs * (num_metrics * num_measurements + held * kept)
    devices = 0.0
    batched = ensemble.default_block_size(jax.default_backend())
    for group in groups:
        setting = group.runs[0][0]
        key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
        state = jax.eval_shape(lambda key, s=setting: gan.init(s.config, s.hparams, s.target, key), key)
        state_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        config = group.config
        disc_units = config.disc_depth * config.disc_width
        disc_units *= config.maxout_pieces if config.disc_net == "maxout" else 1
        gen_units = config.packing * config.gen_depth * config.gen_width
        activations = 4 * config.batch_size * (gen_units + 2 * disc_units)
        cheap_grid, deep_grids = _grids(measure_config, setting.target)
        grid = 4 * 8 * max((cheap_grid, *deep_grids)) ** 2
        # Old and new states live side by side for a moment; a layer's activations are kept forward and backward.
        padded = batched * math.ceil(len(group.runs) / batched)
        devices = max(devices, 2 * padded * state_bytes + 4 * batched * activations + grid + 4.0 * kept)
    if jax.default_backend() == "cpu":
        _check_fits(num_runs, host + devices, psutil.virtual_memory().available)
    else:
        _check_fits(num_runs, host, psutil.virtual_memory().available)
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        free = sum(stat.get("bytes_limit", math.inf) - stat.get("bytes_in_use", 0) for stat in stats)
        _check_fits(num_runs, devices, free)


def _check_fits(num_runs: int, need: float, available: float) -> None:
    if need > available:
        raise ValueError(
            f"memory: {num_runs} runs need about {need / _GIB:.1f} GiB, {available / _GIB:.1f} GiB are available; "
            "allowed: fewer seeds, narrower networks, a smaller dataset_size, keep_samples or keep_surface"
        )


# ---- what is recorded beside the numbers


def _configuration(plan: dict[str, Any], settings: Sequence[Setting], measure_config: MeasureConfig) -> str:
    """TOML that `gandyn run` reads: what all settings share, then one [[recipe]] with what is its own."""
    fields = [
        {"target": "mixture"}
        | {name: _shortest(value) for name, value in vars(setting.target).items()}
        | vars(setting.config)
        | {name: float(value) for name, value in vars(setting.hparams).items()}
        for setting in settings
    ]
    shared = {name: value for name, value in fields[0].items() if all(field[name] == value for field in fields)}
    tables = [_toml(plan | vars(measure_config) | shared)]
    for setting, field in zip(settings, fields, strict=True):
        own = {name: value for name, value in field.items() if name not in shared}
        tables.append("[[recipe]]\n" + _toml({"recipe": setting.recipe} | own))
    return "\n".join(tables)


def _shortest(array: Any) -> list[float]:
    """The entries of a float32 array, flat, in the fewest digits that give them back."""
    return [float(str(entry)) for entry in np.asarray(array, np.float32).ravel()]


def _toml(table: dict[str, Any]) -> str:
    # JSON's numbers, strings and lists of them are TOML's, too.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())


def _command() -> str:
    program = Path(sys.argv[0])
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    elif program.is_absolute():
        program = Path(program.name)  # a path of this machine reproduces nothing elsewhere
    python = ["python"] if program.suffix == ".py" else []
    return shlex.join([*python, str(program), *sys.argv[1:]])


def _versions() -> dict[str, str]:
    packages = ("gandyn", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "zarr")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def _device() -> str:
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def _commit() -> str:
    """The commit of the source tree that runs, '+' where it was changed; '' outside a checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


# ---- progress


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.0f} run-steps/s")


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, total: int, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
        self._bar = Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=console, speed_estimate_period=60)
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Callable[[str, int], None]:
        self._bar.start()
        return lambda label, done: self._bar.update(self._task, description=label, advance=done)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _Lines:
    """A line every ten seconds, for logs."""

    def __init__(self, total: int, every: float) -> None:
        self._total, self._every, self._done = total, every, 0
        self._start = self._last = time.perf_counter()

    def __enter__(self) -> Callable[[str, int], None]:
        return self._report

    def __exit__(self, *error: object) -> None:
        pass

    def _report(self, label: str, done: int) -> None:
        self._done += done
        now = time.perf_counter()
        if now - self._last < self._every and self._done < self._total:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        print(f"{self._done / self._total:4.0%}  {rate:,.0f} run-steps/s{left}  {label}", file=sys.stderr, flush=True)


def _progress(total: int, shown: bool) -> _Bar | _Lines:
    console = Console(stderr=True)
    if shown and console.is_terminal:
        return _Bar(total, console)
    return _Lines(total, every=10 if shown else math.inf)
