"""What a GAN's loss is made of: how much of its movement is noise, lag and divergence, and what it tells.

Trains six losses on a ring of eight Gaussians, 43 seeds each, measures the best responses of both players, exact
transport and gradients beside every loss, and answers with numbers: what moves the loss; whether it predicts coverage;
how often a loss at its equilibrium value hides a missing mode. Writes a results folder and one page. Presets: small
takes some two minutes on two cores, standard (258 runs) a quarter of an hour, large is for a GPU.
"""

import dataclasses
from pathlib import Path
from typing import Any

import common
import xarray as xr

import gandyn
from gandyn.report import anatomy

RECIPES = {label: recipe for label, recipe in common.RECIPES.items() if label != "Wasserstein, clipped"}

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_seeds": 8, "num_steps": 1_000, "measure_every": 100, "deep_every": 500, "width": 32},
    "standard": {"num_seeds": 43, "num_steps": 4_000, "measure_every": 100, "deep_every": 1_000, "width": 64},
    "large": {"num_seeds": 128, "num_steps": 20_000, "measure_every": 200, "deep_every": 2_000, "width": 128},
}


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Options left out are those of the preset."""

    measure_every: int | None = None
    """Generator updates between measurements."""
    deep_every: int | None = None
    """Generator updates between deep measurements."""
    lr_gen: float = 2e-3
    """Learning rate of G."""
    lr_disc: float = 1e-3
    """Learning rate of D."""
    beta1: float = 0.9
    """First-moment decay of both players' Adam."""
    num_modes: int = 8
    """Modes of the ring."""
    std: float = 0.02
    """Standard deviation of each mode."""
    out: Path = Path("runs/anatomy")
    """Results folder; the page is report.html in it."""


def train(options: Any) -> xr.Dataset:
    """The results of every recipe under the options."""
    deep = ("best_response", "gap", "transport", "gradients", "path")
    return common.run(
        options,
        gandyn.targets.ring(options.num_modes, std=options.std),
        common.settings(options, RECIPES, {"track_path": True}, common.rates(options)),
        measure_every=options.measure_every,
        deep_every=options.deep_every,
        measure_config=gandyn.MeasureConfig(deep=deep, num_transport=256, keep_samples=400, keep_surface=32),
        title="The anatomy of a GAN's loss",
    )


def tell(results: xr.Dataset, options: Any) -> None:
    """The page with the answers in it, the table and the answers."""
    answers = anatomy.answers(results)
    common.page(results, options, answers, answers)


def main() -> None:
    """Run, print the answers, write the page."""
    common.main("anatomy", __doc__, Options, PRESETS, RECIPES, train, tell)


if __name__ == "__main__":
    main()
