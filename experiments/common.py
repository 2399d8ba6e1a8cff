"""What the experiments share: options and presets, recipes as configurations and numbers, runs, what is printed."""

import dataclasses
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import xarray as xr

import gandyn
from gandyn import checks, cli
from gandyn.cli import pages
from gandyn.gan.config import numbers_of
from gandyn.report import interactive

NUM_LOOKED_INTO = 3
"""Runs whose networks go into the page."""
Recipe = tuple[dict[str, Any], dict[str, Any]]
"""What a recipe sets in Config and in HParams."""

CRITIC = {"loss": "wasserstein", "disc_steps": 3}
RMSPROP = {"gen_optimizer": "rmsprop", "disc_optimizer": "rmsprop"}

RECIPES: dict[str, Recipe] = {
    "minimax": ({"loss": "minimax"}, {}),
    "non-saturating": ({"loss": "non_saturating"}, {}),
    "hinge": ({"loss": "hinge"}, {}),
    "least squares": ({"loss": "least_squares"}, {}),
    "relativistic": ({"loss": "relativistic"}, {}),
    "Wasserstein, clipped": (
        CRITIC | {"penalties": ("clip",)} | RMSPROP,
        {"clip_bound": 0.1, "beta2_gen": 0.99, "beta2_disc": 0.99},
    ),
    "Wasserstein, gradient penalty": (
        CRITIC | {"penalties": ("wgan_gp",)},
        {"wgan_gp_weight": 10.0, "beta1_gen": 0.0, "beta1_disc": 0.0, "beta2_gen": 0.9, "beta2_disc": 0.9},
    ),
}
"""Losses as their papers train them. The critics take three steps to a generator step."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options left out are those of the preset."""

    preset: Literal["small", "standard", "large"] = "standard"
    """How much to run (see above)."""
    recipes: tuple[str, ...] = ()
    """Which of the recipes to run; all by default."""
    num_seeds: int | None = None
    """Runs of each recipe: seeds 0, 1, 2, ..."""
    num_steps: int | None = None
    """Generator updates."""
    width: int | None = None
    """Units in each hidden layer of both networks."""
    batch_size: int = 128
    """Samples (packs) in a minibatch."""
    out: Path = Path("runs")
    """Results folder; the page or figure is in it."""
    overwrite: bool = False
    """Replace results that the folder already holds."""


def settings(options: Any, recipes: Mapping[str, Recipe], config: Mapping[str, Any], hparams: Mapping[str, Any]):
    """Label -> (Config, HParams) of the recipes asked for, over what all of them share.

    Of the shared numbers a recipe takes those that its parts read: RMSprop has no first moment.
    """
    checks.whole("num_seeds", options.num_seeds)
    checks.whole("num_steps", options.num_steps)
    config = {"gen_width": options.width, "disc_width": options.width, "batch_size": options.batch_size} | dict(config)
    made = {}
    for label in options.recipes:
        own = gandyn.Config(**config | recipes[label][0])
        shared = {name: value for name, value in hparams.items() if name in numbers_of(own)}
        made[label] = own, gandyn.HParams(**shared | recipes[label][1])
    return made


def rates(options: Any) -> dict[str, float]:
    """Learning rates and first-moment decay of both players."""
    return {
        "lr_gen": options.lr_gen,
        "lr_disc": options.lr_disc,
        "beta1_gen": options.beta1,
        "beta1_disc": options.beta1,
    }


def run(options: Any, target: Any, made: Mapping[str, tuple[Any, Any]], **how: Any) -> xr.Dataset:
    """`gandyn.run` of settings by label, all on one target or each on its own, into the folder of the options."""
    return gandyn.run(
        target,
        [config for config, _ in made.values()],
        [hparams for _, hparams in made.values()],
        seeds=range(options.num_seeds),
        num_steps=options.num_steps,
        out=options.out,
        recipes=list(made),
        overwrite=options.overwrite,
        **how,
    )


def main(
    name: str,
    text: str | None,
    kind: type[Options],
    presets: Mapping[str, Mapping[str, Any]],
    recipes: Iterable[str],
    train: Callable[[Any], xr.Dataset],
    tell: Callable[[xr.Dataset, Any], None],
) -> None:
    """Reads the options, trains, and tells what came out; what cannot be meant is one line, and exit 2."""
    out = kind.out
    try:
        options = cli.parse(kind, sys.argv[1:], f"python experiments/{name}.py", text or "")
        out, known = options.out, list(recipes)
        for label in options.recipes:
            checks.choice("recipes", label, known)
        missing = {field: value for field, value in presets[options.preset].items() if getattr(options, field) is None}
        options = dataclasses.replace(options, recipes=options.recipes or tuple(known), **missing)
        results = train(options)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured so far is in {out}", file=sys.stderr)
        sys.exit(130)
    tell(results, options)


def page(results: xr.Dataset, options: Any, printed: Sequence[str], answers: Sequence[str] = ()) -> None:
    """Writes the report with the answers in it, and the page to look into, and prints the table and these sentences."""
    path = gandyn.report.write(results, options.out / "report.html", answers, page="page.html")
    print(gandyn.report.summary(results))
    print()
    for line in printed:
        print(textwrap.fill(line, 100, initial_indent="- ", subsequent_indent="  "))
    print(f"\nresults: {options.out}\nreport:  {path}", flush=True)
    # Networks of a few: all that are telling take a third of the training time again (`gandyn page`).
    few = interactive.telling(results)[:NUM_LOOKED_INTO]
    print(f"page:    {pages.write_page(options.out, runs=results.run.values[few].tolist())}")
