"""What a GAN's loss is made of: how much of its movement is noise, lag and divergence, and what it tells.

Trains six losses on a ring of eight Gaussians, 43 seeds each, measures the best responses of both players, exact
transport and gradients beside every loss, and answers with numbers: what moves the loss; whether it predicts coverage;
how often a loss at its equilibrium value hides a missing mode. Writes a results folder and one page.
"""

import dataclasses
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

import gandyn
from gandyn import checks, cli
from gandyn.analysis import intervals, loss_curves, prediction, reading, tables

RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "minimax": ({"loss": "minimax"}, {}),
    "non-saturating": ({"loss": "non_saturating"}, {}),
    "hinge": ({"loss": "hinge"}, {}),
    "least squares": ({"loss": "least_squares"}, {}),
    "relativistic": ({"loss": "relativistic"}, {}),
    "Wasserstein, gradient penalty": (
        {"loss": "wasserstein", "disc_steps": 3, "penalty": "wgan_gp"},
        {"penalty_weight": 10.0, "beta1_gen": 0.0, "beta1_disc": 0.0, "beta2_gen": 0.9, "beta2_disc": 0.9},
    ),
}
"""Label -> what it sets in Config and in HParams."""

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_seeds": 8, "num_steps": 1_000, "measure_every": 100, "deep_every": 500, "width": 32},
    "standard": {"num_seeds": 43, "num_steps": 4_000, "measure_every": 100, "deep_every": 1_000, "width": 64},
    "large": {"num_seeds": 128, "num_steps": 20_000, "measure_every": 200, "deep_every": 2_000, "width": 128},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options left out are those of the preset."""

    preset: Literal["small", "standard", "large"] = "standard"
    """small: some two minutes on two cores; standard: 258 runs, a quarter of an hour; large: a GPU's."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """Which of the recipes to run."""
    num_seeds: int | None = None
    """Runs of each recipe: seeds 0, 1, 2, ..."""
    num_steps: int | None = None
    """Generator updates."""
    measure_every: int | None = None
    """Generator updates between measurements."""
    deep_every: int | None = None
    """Generator updates between deep measurements."""
    width: int | None = None
    """Units in each of the two hidden layers of both networks."""
    batch_size: int = 128
    """Samples in a minibatch."""
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
    checks.whole("num_seeds", options.num_seeds)
    shared = {"gen_width": options.width, "disc_width": options.width, "batch_size": options.batch_size}
    shared["track_path"] = True
    rates = {
        "lr_gen": options.lr_gen,
        "lr_disc": options.lr_disc,
        "beta1_gen": options.beta1,
        "beta1_disc": options.beta1,
    }
    return gandyn.run(
        gandyn.targets.ring(options.num_modes, std=options.std),
        [gandyn.Config(**shared | RECIPES[label][0]) for label in options.recipes],
        [gandyn.HParams(**rates | RECIPES[label][1]) for label in options.recipes],
        seeds=range(options.num_seeds),  # pyright: ignore[reportArgumentType]
        num_steps=options.num_steps,  # pyright: ignore[reportArgumentType]
        measure_every=options.measure_every,  # pyright: ignore[reportArgumentType]
        deep_every=options.deep_every,  # pyright: ignore[reportArgumentType]
        out=options.out,
        recipes=options.recipes,
        measure_config=gandyn.MeasureConfig(
            deep=("best_response", "gap", "transport", "gradients", "path"),
            num_transport=256,
            keep_samples=400,
            keep_surface=32,
        ),
        overwrite=options.overwrite,
        title="The anatomy of a GAN's loss",
    )


def _percent(estimate: intervals.Interval) -> str:
    return f"{100 * estimate.value:.0f} % [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def _number(estimate: intervals.Interval, digits: int = 2) -> str:
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
    return f"{estimate.value:.{digits}f}{interval}"


def what_moves_it(results: xr.Dataset) -> list[str]:
    """The shares of the minibatch value's movement: over all runs with a best value, then a sentence a recipe."""
    shares = loss_curves.movement(results)
    seeds = results["seed"].values
    found = []
    known = np.isfinite(shares["lag"])
    if known.any():
        pooled = {name: intervals.mean_over_seeds(x[known], seeds[known]) for name, x in shares.items()}
        parts = ", ".join(f"{name} {_percent(pooled[name])}" for name in ("divergence", "lag", "noise"))
        found.append(
            f"What moves the loss? Of the variance of the minibatch value over a run's measurements, {parts} "
            f"(mean over the {int(known.sum())} runs with a known best value, interval over seeds)."
        )
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        means = {name: intervals.mean_interval(x[runs][np.isfinite(x[runs])]) for name, x in shares.items()}
        if np.isfinite(means["lag"].value):
            parts = ", ".join(f"{name} {_percent(means[name])}" for name in ("divergence", "lag", "noise"))
        elif np.isfinite(means["noise"].value):
            parts = f"V itself {_percent(means['known'])}, noise {_percent(means['noise'])} (no best value is known)"
        else:
            parts = "nothing can be said: no run has three measurements before it diverged"
        found.append(f"{recipe}: {parts}.")
    return found


def what_it_hides(results: xr.Dataset, tolerance: float = 0.05) -> list[str]:
    """How often a loss near its value at equilibrium goes with a missing mode: over all runs, then a recipe."""
    modes, jsd = reading.values(results, "modes"), reading.values(results, "jsd")
    missing = modes < reading.num_modes(results)[:, None]
    # From the second half on: at the start every mode is missing, whatever the loss.
    steps = np.asarray(results["step"].values)
    near = loss_curves.near_equilibrium(results, tolerance) & (steps >= steps.max() / 2) & np.isfinite(modes)
    any_near = near.any(axis=1)
    shares = np.full(len(near), np.nan)
    shares[any_near] = (near & missing)[any_near].sum(axis=1) / near[any_near].sum(axis=1)

    def sentence(runs: np.ndarray, interval: intervals.Interval) -> str:
        return (
            f"D's loss was within {tolerance} of its value at equilibrium at {int(near[runs].sum()):,} measurements of "
            f"{int(any_near[runs].sum())} runs in the second half; a mode was missing at {_percent(interval)} of them "
            f"(mean over runs), and JSD there was {np.median(jsd[runs][near[runs]]):.3f} nats at the median."
        )

    found = []
    if any_near.any():
        pooled = intervals.mean_over_seeds(shares[any_near], results["seed"].values[any_near])
        found.append(f"What does it hide? {sentence(np.arange(len(near)), pooled)}")
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        used = runs[any_near[runs]]
        text = sentence(used, intervals.mean_interval(shares[used])) if used.size else "D's loss was never so near."
        found.append(f"{recipe}: {text}")
    return found


def _told(found: prediction.Prediction) -> str:
    if np.isnan(found.auc.value):
        return f"cannot be asked ({found.note})"
    counts = f"{found.n_positive} against {found.n_negative}"
    return f"AUC {_number(found.auc)} ({'; '.join(filter(None, (counts, found.note)))})"


def what_it_predicts(results: xr.Dataset) -> list[str]:
    """How loss curves go with JSD, and whether they alone tell coverage and collapse on held-out seeds."""
    rows = [
        row
        for row in tables.correlations(results, metrics=("jsd",))
        if np.isfinite([row.within.interval.low, row.across.interval.low]).all()
    ]
    found = []
    if rows:
        clear = [row for row in rows if row.across.interval.low > 0 or row.across.interval.high < 0]
        best = max(rows, key=lambda row: abs(row.across.interval.value))
        wrong = sum(row.loss == "loss_disc" and row.within.interval.high < 0 for row in rows)
        found.append(
            f"Does it tell JSD? Of {len(rows)} pairs of a loss curve and a recipe, {len(clear)} have a rank "
            f"correlation with JSD across seeds whose interval excludes 0; the strongest is "
            f"{_number(best.across.interval)} ({best.loss}, {best.recipe}), which within a run is "
            f"{_number(best.within.interval)}. Within a run, D's loss falls as JSD rises in {wrong} recipes."
        )
    half = float(np.max(results["step"].values)) / 2
    enough = results.sizes["step"] >= 16  # a collapse is asked for from a quarter of them
    for recipe in reading.recipes(results):
        own = results.isel(run=reading.runs_of(results, recipe))
        collapse = _told(prediction.predict_collapse(own)) if enough else "not asked (fewer than 16 measurements)"
        found.append(
            f"{recipe}: whether all modes are covered at the end, told from the loss curves of the whole run: "
            f"{_told(prediction.predict_coverage(own))}; of its first half: "
            f"{_told(prediction.predict_coverage(own, up_to=half))}. A collapse before it happens: {collapse}."
        )
    return found


def main() -> None:
    """Run, print the answers, write the page."""
    out = Options.out
    try:
        options = cli.parse(Options, sys.argv[1:], "python experiments/anatomy.py", __doc__ or "").filled()
        out = options.out
        results = train(options)
    except ValueError as error:
        print(f"anatomy: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured so far is in {out}", file=sys.stderr)
        sys.exit(130)
    answers = [*what_moves_it(results), *what_it_predicts(results), *what_it_hides(results)]
    page = gandyn.report.write(results, out / "report.html", answers)
    print(gandyn.report.summary(results))
    print()
    for line in answers:
        print(textwrap.fill(line, 100, initial_indent="- ", subsequent_indent="  "))
    print(f"\nresults: {out}\npage:    {page}")


if __name__ == "__main__":
    main()
