"""gandyn: a microscope for the loss dynamics of GANs.

Many small GANs at once on targets whose density is known, the true value function measured beside every minibatch loss.

    target = gandyn.targets.ring(num_modes=8, radius=1.0, std=0.02)
    results = gandyn.run(target, gandyn.Config(loss="non_saturating"), seeds=range(16), out="runs/first")
    gandyn.plots.decomposition(results)

Importing gandyn asks jax for one virtual CPU device per core, unless JAX_NUM_CPU_DEVICES is set or jax already runs.
"""

import os

# jax 0.10 reports every program that it loads from its cache as if it were of another machine, in a page of text each.
# What does go wrong in XLA arrives as an exception. Read when jax is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from gandyn.ensemble import use_every_core

use_every_core()

from gandyn import (  # noqa: E402
    cluster,
    coverage,
    dynamics,
    ensemble,
    export,
    geometry,
    losses,
    networks,
    penalties,
    planning,
    plots,
    prediction,
    presets,
    quality,
    report,
    stats,
    sweep,
    targets,
    truth,
    verdicts,
)
from gandyn.gan import Config, HParams  # noqa: E402
from gandyn.measure import MeasureConfig  # noqa: E402
from gandyn.results import open_results  # noqa: E402
from gandyn.runner import extend, replay, resume, run, run_sweep  # noqa: E402
from gandyn.sweep import Setting, Sweep  # noqa: E402
from gandyn.targets import GaussianMixture  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GaussianMixture",
    "HParams",
    "MeasureConfig",
    "Setting",
    "Sweep",
    "cluster",
    "coverage",
    "dynamics",
    "ensemble",
    "export",
    "extend",
    "geometry",
    "losses",
    "networks",
    "open_results",
    "penalties",
    "planning",
    "plots",
    "prediction",
    "presets",
    "quality",
    "replay",
    "report",
    "resume",
    "run",
    "run_sweep",
    "stats",
    "sweep",
    "targets",
    "truth",
    "verdicts",
]
