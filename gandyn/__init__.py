"""gandyn: a microscope for the loss dynamics of GANs.

Many small GANs at once on targets whose density is known, the true value function measured beside every minibatch loss.

    target = gandyn.targets.ring(num_modes=8, radius=1.0, std=0.02)
    results = gandyn.run(target, gandyn.Config(loss="non_saturating"), seeds=range(16), out="runs/first")
    gandyn.plots.decomposition(results)

What is named here is the public interface; each name is imported when it is first used, and importing gandyn itself
imports nothing else and sets nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gandyn import analysis, gan, report, results, sweeps, testing, truth
    from gandyn.analysis import intervals, loss_curves, prediction, reading, tables, verdicts
    from gandyn.analysis.opening import open_results
    from gandyn.gan import networks, rules, targets
    from gandyn.gan.config import Config
    from gandyn.gan.loss import Loss
    from gandyn.gan.number import HParams, Number
    from gandyn.gan.optimizers import Optimizer
    from gandyn.gan.penalties import Penalty
    from gandyn.gan.rules import Rule
    from gandyn.gan.targets import GaussianMixture
    from gandyn.report import figures as plots
    from gandyn.results import export
    from gandyn.sweeps import presets, sweep
    from gandyn.sweeps.replaying import replay
    from gandyn.sweeps.runner import extend, resume, run, run_sweep
    from gandyn.sweeps.states import load_states
    from gandyn.sweeps.sweep import Setting, Sweep
    from gandyn.truth.measure import MeasureConfig, Measurement

_ROOMS = ("analysis", "gan", "report", "results", "sweeps", "truth")
_MODULES = {
    "export": "results.export",
    "intervals": "analysis.intervals",
    "loss_curves": "analysis.loss_curves",
    "networks": "gan.networks",
    "plots": "report.figures",
    "prediction": "analysis.prediction",
    "presets": "sweeps.presets",
    "reading": "analysis.reading",
    "rules": "gan.rules",
    "sweep": "sweeps.sweep",
    "tables": "analysis.tables",
    "targets": "gan.targets",
    "testing": "testing",
    "verdicts": "analysis.verdicts",
}
_MEMBERS = {
    "Config": "gan.config",
    "GaussianMixture": "gan.targets",
    "HParams": "gan.number",
    "Loss": "gan.loss",
    "MeasureConfig": "truth.measure",
    "Measurement": "truth.measure",
    "Number": "gan.number",
    "Optimizer": "gan.optimizers",
    "Penalty": "gan.penalties",
    "Rule": "gan.rules",
    "Setting": "sweeps.sweep",
    "Sweep": "sweeps.sweep",
    "extend": "sweeps.runner",
    "load_states": "sweeps.states",
    "open_results": "analysis.opening",
    "replay": "sweeps.replaying",
    "resume": "sweeps.runner",
    "run": "sweeps.runner",
    "run_sweep": "sweeps.runner",
}

__all__ = [
    "Config",
    "GaussianMixture",
    "HParams",
    "Loss",
    "MeasureConfig",
    "Measurement",
    "Number",
    "Optimizer",
    "Penalty",
    "Rule",
    "Setting",
    "Sweep",
    "analysis",
    "export",
    "extend",
    "gan",
    "intervals",
    "load_states",
    "loss_curves",
    "networks",
    "open_results",
    "plots",
    "prediction",
    "presets",
    "reading",
    "replay",
    "report",
    "results",
    "resume",
    "rules",
    "run",
    "run_sweep",
    "sweep",
    "sweeps",
    "tables",
    "targets",
    "testing",
    "truth",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"gandyn.{name}")
    if name in _MODULES:
        found: Any = importlib.import_module(f"gandyn.{_MODULES[name]}")
    elif name in _MEMBERS:
        found = getattr(importlib.import_module(f"gandyn.{_MEMBERS[name]}"), name)
    else:
        raise AttributeError(f"module 'gandyn' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
