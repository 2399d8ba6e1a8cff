"""What is recorded of a sweep beside the measured numbers: coordinates, constants, and how it was made."""

import dataclasses
import functools
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from gandyn import environment
from gandyn.gan.config import loss_of
from gandyn.gan.targets import GaussianMixture, Target
from gandyn.results.spec import GroupSpec, StoredField
from gandyn.sweeps import sweep, training
from gandyn.sweeps.sweep import Group, Setting
from gandyn.truth import measure
from gandyn.truth.coverage import CONVENTIONS, real_mass
from gandyn.truth.derived import truth_of
from gandyn.truth.measure import MeasureConfig

_REPLAY = ("gandyn", "jax", "jaxlib", "flax", "optax")
"""Packages whose version decides a run's bits."""


def _run_steps(num_runs: int, steps: Sequence[int]) -> Any:
    """The constant that says how long runs are: what lacks a part of that is a window of a run."""
    return (("run",), np.full(num_runs, float(steps[-1])), {"units": "step"})


def lengthened(spec: GroupSpec, steps: Sequence[int]) -> GroupSpec:
    """The same runs, trained up to the last of these steps."""
    constants = {**spec.constants, "run_steps": _run_steps(spec.size, steps)}
    return dataclasses.replace(spec, steps=list(steps), constants=constants)


def group_spec(
    group: Group, steps: Sequence[int], measure_config: MeasureConfig, origins: Sequence[str] | None = None
) -> GroupSpec:
    """What a group will record at these steps; `origins`: what its runs start from, where they do not start afresh."""
    settings = [setting for setting, _ in group.runs]
    distinct = {id(setting): setting for setting in settings}  # runs of one setting differ in their seed alone
    own = {key: _of_setting(setting) for key, setting in distinct.items()}
    of_runs = [own[id(setting)] for setting in settings]
    game = settings[0].game
    plans = [plan for plan in training.plans(measure_config, game.target) if plan is not None]
    gather = lambda of: {name: one for plan in plans for name, one in of(plan, game).items()}  # noqa: E731
    coords = {name: [one["fields"][name] for one in of_runs] for name in of_runs[0]["fields"]}
    coords |= {} if origins is None else {"init_from": origins}
    constants = {}
    for name, (dims, _, attrs) in of_runs[0]["constants"].items():
        values = np.stack([np.asarray(one["constants"][name][1], np.float64) for one in of_runs])
        constants[name] = (("run", *dims), values, attrs)
    metrics = gather(measure.metrics_of)
    if "modes" in metrics:
        of_targets = {id(setting.target): setting for setting in settings}  # settings mostly share theirs
        masses = {key: _real_mass(setting, measure_config) for key, setting in of_targets.items()}
        real = np.stack([masses[id(setting.target)] for setting in settings])
        num_samples = str(CONVENTIONS[measure_config.convention].num_samples)
        constants["mode_mass_real"] = (("run", "mode"), real, {"units": "share", "num_samples": num_samples})
    constants["run_steps"] = _run_steps(len(settings), steps)
    return GroupSpec(
        metrics=metrics,
        steps=steps,
        coords={"seed": [seed for _, seed in group.runs], "recipe": [s.recipe for s in settings]} | coords,
        constants=constants,
        fields={name: StoredField(*field) for name, field in gather(measure.fields_of).items()},
        axes=gather(measure.axes_of),
    )


def _of_setting(setting: Setting) -> dict[str, Any]:
    """Coordinates of a setting, and constants: name -> (axes after run, array, attributes)."""
    # Modes are no part of every target.
    target, loss = cast(Any, setting.target), loss_of(setting.config)
    truth = truth_of(loss, setting.hparams)
    in_data, in_loss = {"units": "data"}, {"units": "loss"}
    constants: dict[str, tuple[tuple[str, ...], Any, dict[str, str]]] = {
        "decision": ((), truth.decision, {"units": "output of D"}),
        "equilibrium": ((), truth.equilibrium, {"units": "value"}),
        "in_nats": ((), float(loss.units == "nat"), {"units": "1"}),
        "logistic": ((), float(loss.logistic), {"units": "1"}),
    }
    if setting.game.event_shape == (2,):
        center, half = target.box()
        constants |= {"target_center": (("xy",), center, in_data), "extent": ((), half, in_data)}
    if setting.game.event_shape == (2,) and not _is_plain(target):
        # What figures show of p: of plain mixtures they draw it themselves.
        uniform = qmc.Sobol(target.num_uniforms, rng=np.random.default_rng(0)).random(_NUM_SHOWN)
        shown = target.transform(np.clip(uniform, 1e-6, 1 - 1e-6).astype(np.float32))  # pyright: ignore
        constants["target_samples"] = (("target_sample", "xy"), shown, in_data)
    if setting.game.num_modes:
        best = _best_losses(setting, truth)
        constants |= {
            "target_means": (("mode", *measure.axes_of_points(setting.game.event_shape)), target.mode_means, in_data),
            "target_stds": (("mode",), target.mode_stds, in_data),
            "target_weights": (("mode",), target.mode_weights, {}),
            "best_loss_disc": (("mode",), best[0], in_loss),
            "best_loss_gen": (("mode",), best[1], in_loss),
        }
    return {"fields": sweep.fields_of(*setting[1:]), "constants": constants}


_NUM_SHOWN = 256
_NUM_REAL = 2**16


def _real_mass(setting: Setting, measure_config: MeasureConfig) -> np.ndarray:
    """`real_mass` (K,) under the convention, of 2^16 Sobol samples."""
    target, num_classes = cast(Any, setting.target), setting.config.num_classes
    uniform = qmc.Sobol(target.num_uniforms, rng=np.random.default_rng(0)).random(_NUM_REAL)
    uniform = jnp.asarray(np.clip(uniform, 1e-6, 1 - 1e-6), jnp.float32)
    labels = setting.game.labels(uniform[:, 0]) if num_classes else None
    radius = CONVENTIONS[measure_config.convention].cover_radius
    return real_mass(target.transform(uniform), target, radius, labels, num_classes)


def _is_plain(target: Target) -> bool:
    """Whether its modes' means, stds and weights are all of it."""
    return isinstance(target, GaussianMixture) and target.shapes is None and target.groups is None


def _best_losses(setting: Setting, truth: Any) -> np.ndarray:
    """`LossTruth.of_modes` (2, K), NaN where the modes are not equal and disjoint as they are judged."""
    config, weights = setting.config, np.asarray(cast(Any, setting.target).mode_weights, np.float64)
    alike = np.allclose(weights, 1 / len(weights), rtol=1e-3)
    # So many packs that they could not be told one by one say nothing more than fewer do.
    many = len(weights) ** (config.packing + 1) > 10**7
    if not alike or config.num_classes or config.instance_noise != "none" or many:
        return np.full((2, len(weights)), np.nan)
    return truth.of_modes(len(weights), config.packing)


# ---- how it was made


def metadata(precisions: Sequence[str]) -> dict[str, Any]:
    """Of this process: what a results folder says of how it was made."""
    return {
        "command": command(),
        "versions": _versions(),
        "device": _device(),
        "environment": environment.recorded(),
        "precision": ", ".join(sorted(set(precisions))),
        "commit": _commit(),
    }


def what_changed(manifest: dict[str, Any]) -> list[str]:
    """What decides a run's bits and is otherwise here than where a results folder was made, one line each."""
    here = _versions()
    changed = [
        f"{name} {manifest['versions'].get(name, 'unknown')} there, {here[name]} here"
        for name in _REPLAY
        if manifest["versions"].get(name) != here[name]
    ]
    there_device, here_device = (text.partition(" x ")[2] for text in (manifest["device"], _device()))
    if there_device != here_device:
        changed.append(f"device {there_device} there, {here_device} here")
    there_set, here_set = manifest["environment"], environment.recorded()
    if there_set != here_set:
        changed.append(f"environment {there_set or 'plain'} there, {here_set or 'plain'} here")
    return changed


def command() -> str:
    """This process's command line, without a path of this machine."""
    program = Path(sys.argv[0])
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    elif program.is_absolute():
        program = Path(program.name)  # a path of this machine reproduces nothing elsewhere
    python = ["python"] if program.suffix == ".py" else []
    return shlex.join([*python, str(program), *sys.argv[1:]])


def _versions() -> dict[str, str]:
    packages = (*_REPLAY, "numpy", "scipy", "zarr")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def _device() -> str:
    """Number and kind of the local devices; of processors the model, for their instructions decide a run's bits."""
    devices = jax.local_devices()
    kind = devices[0].device_kind
    return f"{len(devices)} x {f'{kind} ({_processor()})' if devices[0].platform == 'cpu' else kind}"


@functools.cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def _commit() -> str:
    """The commit of the source tree that runs, '+' where it was changed; '' outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
