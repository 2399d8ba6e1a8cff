"""Does a GAN's minibatch loss track its true value function, and does either tell mode coverage?

Trains six GAN losses (Wasserstein both clipped and with gradient penalty) on a ring of Gaussians, many seeds each, with
the truth measured beside every loss; writes a results folder and a page with figures, prints the table and the verdict.
"""

import dataclasses
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

import xarray as xr

import gandyn
from gandyn import checks, cli

CRITIC = {"loss": "wasserstein", "disc_steps": 3}
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "minimax": ({"loss": "minimax"}, {}),
    "non-saturating": ({"loss": "non_saturating"}, {}),
    "hinge": ({"loss": "hinge"}, {}),
    "least squares": ({"loss": "least_squares"}, {}),
    "relativistic": ({"loss": "relativistic"}, {}),
    "Wasserstein, clipped": (
        CRITIC | {"penalty": "clip", "gen_optimizer": "rmsprop", "disc_optimizer": "rmsprop"},
        {"clip_bound": 0.1, "beta2_gen": 0.99, "beta2_disc": 0.99},
    ),
    "Wasserstein, gradient penalty": (
        CRITIC | {"penalty": "wgan_gp"},
        {"penalty_weight": 10.0, "beta1_gen": 0.0, "beta1_disc": 0.0, "beta2_gen": 0.9, "beta2_disc": 0.9},
    ),
}
"""Label -> what it sets in Config and in HParams. The critics take three steps to a generator step."""

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_seeds": 8, "num_steps": 1_000, "measure_every": 100, "width": 32},
    "standard": {"num_seeds": 16, "num_steps": 4_000, "measure_every": 200, "width": 64},
    "large": {"num_seeds": 64, "num_steps": 20_000, "measure_every": 500, "width": 128},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options left out are those of the preset."""

    preset: Literal["small", "standard", "large"] = "standard"
    """small: under a minute on two cores; standard: some three minutes; large: hours there, minutes on a GPU."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """Which of the recipes to run."""
    num_seeds: int | None = None
    """Runs of each recipe: seeds 0, 1, 2, ..."""
    num_steps: int | None = None
    """Generator updates."""
    measure_every: int | None = None
    """Generator updates between measurements."""
    width: int | None = None
    """Units in each hidden layer of both networks."""
    depth: int = 2
    """Hidden layers of both networks."""
    batch_size: int = 128
    """Samples in a minibatch."""
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
    convention: Literal["veegan", "share", "dyngan_1", "dyngan_2", "dyngan_3", "top_k"] = "veegan"
    """How covered modes are counted (`gandyn list conventions`)."""
    out: Path = Path("runs/loss_vs_value")
    """Results folder; the page is report.html in it."""
    overwrite: bool = False
    """Replace results that the folder already holds."""

    def filled(self) -> "Options":
        """With the preset's values where none was given."""
        missing = {name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)


def train(options: Options) -> xr.Dataset:
    """The results of every recipe under the options."""
    for label in options.recipes:
        checks.choice("recipes", label, RECIPES)
    shared = {
        "gen_width": options.width,
        "disc_width": options.width,
        "gen_depth": options.depth,
        "disc_depth": options.depth,
        "batch_size": options.batch_size,
        "latent_dim": options.latent_dim,
    }
    rates = {
        "lr_gen": options.lr_gen,
        "lr_disc": options.lr_disc,
        "beta1_gen": options.beta1,
        "beta1_disc": options.beta1,
    }
    checks.whole("num_seeds", options.num_seeds)
    return gandyn.run(
        gandyn.targets.ring(options.num_modes, options.radius, options.std),
        [gandyn.Config(**shared | RECIPES[label][0]) for label in options.recipes],
        [gandyn.HParams(**rates | RECIPES[label][1]) for label in options.recipes],
        seeds=range(options.num_seeds),  # pyright: ignore[reportArgumentType]
        num_steps=options.num_steps,  # pyright: ignore[reportArgumentType]
        measure_every=options.measure_every,  # pyright: ignore[reportArgumentType]
        out=options.out,
        recipes=options.recipes,
        measure_config=gandyn.MeasureConfig(convention=options.convention, keep_samples=400, keep_surface=32),
        overwrite=options.overwrite,
        title="Does the minibatch loss track the true value function?",
    )


def main() -> None:
    """Run, print the table and the verdict, write the page."""
    out = Options.out
    try:
        options = cli.parse(Options, sys.argv[1:], "python experiments/loss_vs_value.py", __doc__ or "").filled()
        out = options.out
        results = train(options)
    except ValueError as error:
        print(f"loss_vs_value: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured so far is in {out}", file=sys.stderr)
        sys.exit(130)
    page = gandyn.report.write(results, out / "report.html")
    print(gandyn.report.summary(results))
    print()
    for line in gandyn.report.headlines(results):
        print(textwrap.fill(line, 100, initial_indent="- ", subsequent_indent="  "))
    print(f"\nresults: {out}\npage:    {page}")


if __name__ == "__main__":
    main()
