"""Twelve recipes of the literature under one protocol: what each covers, how well, and what a step of it costs.

Trains them on a ring of eight and on a grid of twenty-five Gaussians, many seeds each, all with the same networks,
batch size and number of generator steps, and all but one with the same optimizer; writes a results folder and a figure.
Presets: small takes a few minutes on two cores, most of them compiling, standard some twenty minutes, large a GPU.
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
import jax
import xarray as xr
from common import CRITIC

import gandyn
from gandyn import truth
from gandyn.analysis import intervals, reading
from gandyn.sweeps import ensemble

RECIPES: dict[str, common.Recipe] = {
    "saturating": ({"loss": "minimax"}, {}),
    "non-saturating": ({"loss": "non_saturating"}, {}),
    "least squares": ({"loss": "least_squares"}, {}),
    "Wasserstein, clipped": common.RECIPES["Wasserstein, clipped"],
    "Wasserstein, gradient penalty": (CRITIC | {"penalty": "wgan_gp"}, {"penalty_weight": 1.0}),
    "hinge, spectral norm": ({"loss": "hinge", "disc_norm": "spectral"}, {}),
    "R1": ({"penalty": "r1"}, {"penalty_weight": 0.1}),
    "relativistic, R1 + R2": ({"loss": "relativistic", "penalty": "r1_r2"}, {"penalty_weight": 0.1}),
    "packs of two": ({"packing": 2}, {}),
    "unrolled, five steps": ({"loss": "minimax", "dynamics": "unrolled", "unroll_steps": 5}, {}),
    "annealed noise": ({"instance_noise": "annealed"}, {"noise_std": 0.3}),
    "top-k": ({"top_k": True}, {"top_k_share": 0.5, "top_k_decay": 0.999}),
}
"""Label -> what it sets in Config and in HParams; the non-saturating loss, alternating, where it says nothing else."""

TARGETS = {"ring of 8": gandyn.targets.ring, "grid of 25": gandyn.targets.grid}

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_seeds": 4, "num_steps": 500, "width": 32},
    "standard": {"num_seeds": 64, "num_steps": 4_000, "width": 32},
    "large": {"num_seeds": 64, "num_steps": 30_000, "width": 128},
}


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Options left out are those of the preset."""

    lr: float = 1e-3
    """Learning rate of both players."""
    beta1: float = 0.5
    """First-moment decay of both players' Adam."""
    out: Path = Path("runs/zoo")
    """Results folder; the figure is zoo.png in it."""


def settings(options: Any) -> dict[str, tuple[gandyn.Config, gandyn.HParams]]:
    """Label -> what is compiled and what is traced, for the recipes asked for."""
    rates = {"lr_gen": options.lr, "lr_disc": options.lr, "beta1_gen": options.beta1, "beta1_disc": options.beta1}
    return common.settings(options, RECIPES, {}, rates | {"noise_steps": options.num_steps})


def train(options: Any) -> xr.Dataset:
    """The results of every recipe on every target."""
    made = {f"{label}, {name}": parts for label, parts in settings(options).items() for name in TARGETS}
    return common.run(
        options,
        [TARGETS[name]() for _ in options.recipes for name in TARGETS],
        made,
        measure_every=max(1, options.num_steps // 6),
        title="Twelve recipes under one protocol",
    )


def costs(made: Mapping[str, tuple[Any, Any]], repeats: int = 5) -> dict[str, float]:
    """Label -> time of a step relative to the first recipe's: medians of turns taken one after the other."""
    target, measure_config = gandyn.targets.ring(), gandyn.MeasureConfig()
    size = truth.grid_cells(target, measure_config.bandwidth)
    num_runs = 2 * len(jax.local_devices())
    training: dict[str, tuple[ensemble.Ensemble, Any, Any]] = {}
    for label, (config, hparams) in made.items():
        many = ensemble.make_ensemble(config, measure_config, size, num_runs)
        runs = many.place(ensemble.stack_runs([target] * num_runs, [hparams] * num_runs, range(num_runs)))
        training[label] = many, runs, many.advance(many.init(runs), runs, 1)
    seconds: dict[str, list[float]] = {label: [] for label in training}
    for _ in range(repeats):
        for label, (many, runs, states) in training.items():
            jax.block_until_ready(states)
            start = time.perf_counter()
            states = jax.block_until_ready(many.advance(states, runs, 100))
            seconds[label].append(time.perf_counter() - start)
            training[label] = many, runs, states
    first = statistics.median(next(iter(seconds.values())))
    return {label: statistics.median(times) / first for label, times in seconds.items()}


def table(results: xr.Dataset, options: Any, cost: Mapping[str, float]) -> str:
    """Means over seeds with 95 % intervals, as text."""
    lines = [f"{'':44s} {'modes':>18s} {'high quality':>20s} {'JSD':>22s} {'lag':>22s}   cost"]
    for label in options.recipes:
        for name in TARGETS:
            runs = reading.runs_of(results, f"{label}, {name}")
            cells = []
            for metric, digits in (("modes", 1), ("high_quality", 2), ("jsd", 3), ("lag", 3)):
                final = reading.final(results, metric)[runs]
                mean = intervals.mean_interval(final[final == final])
                cells.append(f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]")
            lost = int(reading.diverged(results)[runs].sum())
            lines.append(
                f"{label + ', ' + name:44s} {cells[0]:>18s} {cells[1]:>20s} {cells[2]:>22s} {cells[3]:>22s}   "
                f"{cost[label]:.2f}" + (f"   ({lost} diverged)" if lost else "")
            )
    return "\n".join(lines)


def tell(results: xr.Dataset, options: Any) -> None:
    """Times the steps, prints the table, draws the figure."""
    cost = costs(settings(options))
    print(table(results, options, cost))
    rows = {label: {name: f"{label}, {name}" for name in TARGETS} for label in options.recipes}
    figure = gandyn.plots.gallery(results, rows, costs=cost)
    figure.savefig(options.out / "zoo.png", dpi=150)
    print(f"\nresults: {options.out}\nfigure:  {options.out / 'zoo.png'}")


def main() -> None:
    """Run, time, print the table, draw the figure."""
    common.main("zoo", __doc__, Options, PRESETS, RECIPES, train, tell)


if __name__ == "__main__":
    main()
