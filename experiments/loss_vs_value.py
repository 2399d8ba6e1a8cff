"""Does a GAN's minibatch loss track its true value function, and does either tell mode coverage?

Trains six GAN losses (Wasserstein both clipped and with gradient penalty) on a ring of Gaussians, many seeds each, with
the truth measured beside every loss; writes a results folder and a page with figures, prints the table and the verdict.
Presets: small takes under a minute on two cores, standard some three minutes, large hours there, minutes on a GPU.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import common
import xarray as xr
from common import RECIPES

import gandyn

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_seeds": 8, "num_steps": 1_000, "measure_every": 100, "width": 32},
    "standard": {"num_seeds": 16, "num_steps": 4_000, "measure_every": 200, "width": 64},
    "large": {"num_seeds": 64, "num_steps": 20_000, "measure_every": 500, "width": 128},
}


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Options left out are those of the preset."""

    measure_every: int | None = None
    """Generator updates between measurements."""
    depth: int = 2
    """Hidden layers of both networks."""
    latent_dim: int = 2
    """Dimension of z."""
    lr_gen: float = 2e-3
    """Learning rate of G."""
    lr_disc: float = 1e-3
    """Learning rate of D."""
    beta1: float = 0.9
    """First-moment decay of both players' Adam."""
    num_modes: int = 8
    """Modes of the ring."""
    radius: float = 1.0
    """Radius of the ring."""
    std: float = 0.02
    """Standard deviation of each mode."""
    convention: Literal["mass", "veegan", "share", "dyngan_1", "dyngan_2", "dyngan_3", "top_k"] = "mass"
    """How covered modes are counted (`gandyn list conventions`)."""
    out: Path = Path("runs/loss_vs_value")
    """Results folder; the page is report.html in it."""


def train(options: Any) -> xr.Dataset:
    """The results of every recipe under the options."""
    shared = {"gen_depth": options.depth, "disc_depth": options.depth, "latent_dim": options.latent_dim}
    return common.run(
        options,
        gandyn.targets.ring(options.num_modes, options.radius, options.std),
        common.settings(options, RECIPES, shared, common.rates(options)),
        measure_every=options.measure_every,
        measure_config=gandyn.MeasureConfig(convention=options.convention, keep_samples=400, keep_surface=32),
        title="Does the minibatch loss track the true value function?",
    )


def tell(results: xr.Dataset, options: Any) -> None:
    """The page, the table and the findings."""
    common.page(results, options, gandyn.report.headlines(results))


def main() -> None:
    """Run, print the table and the verdict, write the page."""
    common.main("loss_vs_value", __doc__, Options, PRESETS, RECIPES, train, tell)


if __name__ == "__main__":
    main()
