"""What is recorded of a sweep beside the measured numbers: coordinates, constants, and how it was made."""

import functools
import importlib.metadata
import math
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gandyn.gan import gan, losses
from gandyn.gan.gan import Config
from gandyn.gan.losses import LOSSES, LossParams
from gandyn.results import store
from gandyn.sweeps import sweep
from gandyn.sweeps.sweep import Group, Setting
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig

_REPLAY = ("gandyn", "jax", "jaxlib", "flax", "optax")
"""Packages whose version decides a run's bits."""


def metrics_of(config: Config, measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    """Every metric of a configuration, cheap and deep, with its attributes."""
    return measure.metrics_of(config, measure_config) | measure.deep_metrics_of(config, measure_config)


def group_spec(group: Group, steps: Sequence[int], measure_config: MeasureConfig) -> store.GroupSpec:
    """What a group will record at these steps."""
    settings = [setting for setting, _ in group.runs]
    distinct = {id(setting): setting for setting in settings}  # runs of one setting differ in their seed alone
    own = {key: _of_setting(setting) for key, setting in distinct.items()}
    of_runs = [own[id(setting)] for setting in settings]
    targets = {id(setting.target): setting.target for setting in settings}
    arrays = {
        key: (*(np.asarray(leaf, np.float64) for leaf in (target.means, target.stds, target.weights)), *target.box())
        for key, target in targets.items()
    }
    of_target = [arrays[id(setting.target)] for setting in settings]
    per_run = lambda values: np.stack([np.asarray(value, np.float64) for value in values])  # noqa: E731
    fields_kept = measure.fields_of(measure_config, settings[0].target.num_modes)
    fields_kept |= measure.deep_fields_of(group.config, measure_config)
    coords = {name: [one["fields"][name] for one in of_runs] for name in of_runs[0]["fields"]}
    units = {"units": "data"}
    return store.GroupSpec(
        metrics=metrics_of(group.config, measure_config),
        steps=steps,
        coords={"seed": [seed for _, seed in group.runs], "recipe": [s.recipe for s in settings]} | coords,
        constants={
            "target_means": (("run", "mode", "xy"), per_run(target[0] for target in of_target), units),
            "target_stds": (("run", "mode"), per_run(target[1] for target in of_target), units),
            "target_weights": (("run", "mode"), per_run(target[2] for target in of_target), {}),
            "target_center": (("run", "xy"), per_run(target[3] for target in of_target), units),
            "extent": (("run",), per_run(target[4] for target in of_target), units),
            "best_loss_disc": (("run", "mode"), per_run(one["best"][0] for one in of_runs), {"units": "loss"}),
            "best_loss_gen": (("run", "mode"), per_run(one["best"][1] for one in of_runs), {"units": "loss"}),
            "decision": (("run",), per_run(one["decision"] for one in of_runs), {"units": "output of D"}),
            "equilibrium": (("run",), per_run(one["equilibrium"] for one in of_runs), {"units": "value"}),
            "in_nats": (("run",), per_run(one["in_nats"] for one in of_runs), {"units": "1"}),
            "logistic": (("run",), per_run(one["logistic"] for one in of_runs), {"units": "1"}),
        },
        fields={name: store.Field(*field) for name, field in fields_kept.items()},
        axes=measure.axes_of(measure_config),
    )


def _of_setting(setting: Setting) -> dict[str, Any]:
    config, weights = setting.config, np.asarray(setting.target.weights, np.float64)
    params = LossParams(*(float(number) for number in gan.loss_params(setting.hparams)))
    alike = np.allclose(weights, 1 / len(weights), rtol=1e-3)
    # So many packs that they could not be told one by one say nothing more than fewer do.
    if (
        not alike
        or config.num_classes
        or config.instance_noise != "none"
        or len(weights) ** (config.packing + 1) > 10**7
    ):
        best = np.full((2, len(weights)), np.nan)
    else:
        best = _best_losses(config.loss, len(weights), params, config.packing)
    return {
        "fields": sweep.fields_of(*setting[1:]),
        "best": best,  # `losses.of_modes`, NaN where the modes are not equal and disjoint as they are judged
        "decision": _decision(config.loss, params),
        "equilibrium": float(LOSSES[config.loss].equilibrium(params)),
        **_kind_of_loss(config.loss),
    }


def _kind_of_loss(loss: str) -> dict[str, float]:
    """Whether a loss is of the logistic kind, and whether its value is in nats; 1 or 0."""
    logistic = loss in ("minimax", "non_saturating", "relativistic", "relativistic_average", "f_js")
    return {"logistic": float(logistic), "in_nats": float(logistic or loss in ("f_kl", "f_reverse_kl"))}


_best_losses = functools.lru_cache(maxsize=1024)(losses.of_modes)


@functools.lru_cache(maxsize=1024)
def _decision(loss: str, params: LossParams) -> float:
    """D's output where real and fake are equally likely; NaN where it is known up to a constant, or not at all."""
    critic = LOSSES[loss].critic
    if critic is None or loss.startswith("relativistic"):
        return math.nan
    return float(critic(np.float32(0), params))


# ---- how it was made


def metadata(precisions: Sequence[str]) -> dict[str, Any]:
    """Of this process: what a results folder says of how it was made."""
    return {
        "command": command(),
        "versions": _versions(),
        "device": _device(),
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
