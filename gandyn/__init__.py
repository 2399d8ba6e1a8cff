"""gandyn: a microscope for the loss dynamics of GANs.

Many small GANs at once on targets whose density is known, the true value function measured beside every minibatch loss.

    target = gandyn.targets.ring(num_modes=8, radius=1.0, std=0.02)
    results = gandyn.run(target, gandyn.Config(loss="non_saturating"), seeds=range(16), out="runs/first")
    gandyn.plots.decomposition(results)

Importing gandyn asks jax for one virtual CPU device per core, unless JAX_NUM_CPU_DEVICES is set or jax already runs.
"""

from gandyn.ensemble import use_every_core

use_every_core()

from gandyn import (  # noqa: E402
    coverage,
    dynamics,
    ensemble,
    geometry,
    losses,
    networks,
    penalties,
    plots,
    prediction,
    presets,
    quality,
    report,
    stats,
    targets,
    truth,
    verdicts,
)
from gandyn.gan import Config, HParams  # noqa: E402
from gandyn.measure import MeasureConfig  # noqa: E402
from gandyn.results import open_results  # noqa: E402
from gandyn.runner import run  # noqa: E402
from gandyn.targets import GaussianMixture  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GaussianMixture",
    "HParams",
    "MeasureConfig",
    "coverage",
    "dynamics",
    "ensemble",
    "geometry",
    "losses",
    "networks",
    "open_results",
    "penalties",
    "plots",
    "prediction",
    "presets",
    "quality",
    "report",
    "run",
    "stats",
    "targets",
    "truth",
    "verdicts",
]
