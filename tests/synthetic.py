"""A results dataset made up to look like the real thing (docs/results.md), for tests of what reads results."""

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn.gan.losses import LOSSES
from gandyn.truth.derived import truth_of

# label of the recipe -> (loss, share of runs that collapse, lag at the end in nats)
RECIPES = {
    "non_saturating": ("non_saturating", 0.25, 0.20),
    "non_saturating, R1": ("non_saturating", 0.0, 0.06),
    "minimax": ("minimax", 0.6, 0.35),
    "wasserstein, gradient penalty": ("wasserstein", 0.1, float("nan")),
}

# What metrics say of themselves: what a run that diverged counts as, too.
ATTRIBUTES = {
    "modes": {"long_name": "modes covered", "units": "modes", "failed": "0"},
    "high_quality": {"long_name": "high-quality samples", "units": "share", "failed": "0"},
    "mode_tv": {"long_name": "total variation over modes", "units": "1", "failed": "1"},
    "jsd": {"long_name": "Jensen-Shannon divergence, lower bound", "units": "nat", "failed": repr(np.log(2).item())},
}


def of_modes(loss: str, num_modes: int) -> NDArray:
    """D's and G's loss (2, K) under the best D with k = 1 ... K modes covered evenly."""
    return truth_of(LOSSES[loss], LOSSES[loss].defaults).of_modes(num_modes)


def _modes(rng: np.random.Generator, runs: int, steps: int, share_collapsed: float, num_modes: int) -> NDArray:
    """Covered modes (R, S): rising, with set-backs; a collapsed run falls to one to three at half time."""
    time = np.linspace(0, 1, steps)
    plateau = np.where(rng.random(runs) < 0.5, num_modes, rng.integers(num_modes - 3, num_modes + 1, runs))
    rise = plateau[:, None] * (1 - np.exp(-time / rng.uniform(0.05, 0.2, (runs, 1))))
    modes = np.round(rise + rng.normal(scale=0.4, size=(runs, steps)) * (time < 0.8))
    for r in range(round(share_collapsed * runs)):
        # The last runs of the recipe, so that the first one, which figures show, is an ordinary one.
        modes[runs - 1 - r, time > 0.5] = 1 + r % 3
    return np.clip(modes, 0, num_modes) + 0.0


def make(
    recipes: dict[str, tuple[str, float, float]] | Sequence[str] = tuple(RECIPES),
    seeds: int = 16,
    steps: int = 21,
    samples: int = 120,
    surface: int = 24,
    diverged: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Recipes x seeds runs on a ring of eight, measured every 200 steps.

    Coverage sets JSD and best value by the closed form for k of K equal modes; value = best - lag; losses are minus
    the value with minibatch noise. With ``diverged``, run 1 (in the order of the dataset) diverges at 60 % of the
    steps. ``samples`` and ``surface`` are how many samples and grid cells a side are kept; 0 leaves them out.
    """
    rng = np.random.default_rng(seed)
    recipes = recipes if isinstance(recipes, dict) else {name: RECIPES[name] for name in recipes}
    num_modes, half = 8, 1.5
    runs = len(recipes) * seeds
    shape = (runs, steps)
    time = np.linspace(0, 1, steps)
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    means = np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    labels = np.repeat(np.array(list(recipes), object), seeds)
    losses = np.repeat(np.array([loss for loss, _, _ in recipes.values()], object), seeds)
    wasserstein = losses == "wasserstein"
    modes = np.concatenate([_modes(rng, seeds, steps, share, num_modes) for _, share, _ in recipes.values()])
    lag_end = np.repeat([lag for _, _, lag in recipes.values()], seeds)[:, None]

    high_quality = np.clip(0.97 - 0.9 * np.exp(-time / 0.15) + rng.normal(scale=0.02, size=shape), 0, 1)
    high_quality = np.where(modes > 0, high_quality, 0)
    k = np.maximum(modes, 0.02) * (0.3 + 0.7 * high_quality)
    disc_best = k / num_modes * np.log1p(num_modes / k) + np.log1p(k / num_modes)
    jsd = np.log(2) - disc_best / 2
    lag = lag_end * (1 + 3 * np.exp(-time / 0.1)) * rng.uniform(0.6, 1.4, (runs, 1)) * rng.uniform(0.8, 1.2, shape)
    best = np.where(wasserstein[:, None], np.nan, -disc_best)
    critic = 1.4 * (1 - modes / num_modes) + 0.05 + np.exp(-time / 0.05) + rng.normal(scale=0.02, size=shape)
    value = np.where(wasserstein[:, None], critic, best - lag)
    noise = rng.normal(scale=0.06, size=(3, *shape))
    loss_disc = np.where(time > 0, -(value + noise[0]), np.nan)
    loss_gen = np.log1p(num_modes / k) - np.where(wasserstein[:, None], 0, lag) + noise[1]
    loss_gen = np.where(time > 0, np.where((losses == "minimax")[:, None], -loss_gen, loss_gen), np.nan)
    metrics = {
        "loss_disc": loss_disc,
        "loss_gen": loss_gen,
        "loss_total": loss_disc + loss_gen,
        "value_batch": value + noise[2],
        "value": value,
        "value_se": np.full(shape, 0.006),
        "value_best": best,
        "value_best_se": np.where(np.isnan(best), np.nan, 0.004),
        "lag": best - value,
        "jsd": jsd,
        "jsd_se": np.full(shape, 0.002),
        "modes": modes,
        "high_quality": high_quality,
        "mode_tv": (1 - modes / num_modes) / 2 + (1 - high_quality) / 2,
        "reverse_kl": np.log(num_modes / np.maximum(modes, 1)),
        "modes_real": np.full(shape, float(num_modes)),
        "high_quality_real": np.full(shape, 0.989),
        "mode_tv_real": np.full(shape, 0.02),
        "reverse_kl_real": np.full(shape, 0.002),
    }
    finite = np.ones(shape)
    if diverged and runs > 1:
        finite[1, int(0.6 * steps) :] = 0
    metrics = {name: np.where(finite == 1, x, np.nan) for name, x in metrics.items()} | {"finite": finite}

    # The mixture's samples: mass on the covered modes, the rest spread over the box.
    blobs: dict[str, tuple[tuple[str, ...], NDArray]] = {}
    if samples:
        mode = (rng.random((*shape, samples)) * np.maximum(modes, 1)[..., None]).astype(int)
        good = rng.random((*shape, samples)) < high_quality[..., None]
        near = means[mode] + rng.normal(scale=0.05, size=(*shape, samples, 2))
        points = np.where(good[..., None], near, rng.normal(scale=0.5, size=(*shape, samples, 2)))
        points = np.where((finite == 1)[..., None, None], points, np.nan)
        blobs["samples"] = (("run", "step", "sample", "xy"), points.astype(np.float32))
    if surface:
        axis = (np.arange(surface) + 0.5) / surface * 2 - 1
        x, y = np.meshgrid(axis * half, axis * half)
        wave = np.cos(num_modes * np.arctan2(y, x)) * np.exp(-((np.hypot(x, y) - 1) ** 2) / 0.1)
        heights = (0.3 + time)[None, :, None, None] * wave + np.where(wasserstein, 5, 0)[:, None, None, None]
        heights = np.where((finite == 1)[..., None, None], heights, np.nan)
        blobs["surface"] = (("run", "step", "surface_y", "surface_x"), heights.astype(np.float32))

    dataset = xr.Dataset(
        {name: (("run", "step"), x.astype(np.float32)) for name, x in metrics.items()} | blobs,
        coords={
            "run": np.arange(runs),
            "step": 200 * np.arange(steps),
            "seed": ("run", np.tile(np.arange(seeds), len(recipes))),
            "recipe": ("run", labels),
            "loss": ("run", losses),
            "penalties": ("run", np.array(["r1" if "R1" in label else "" for label in labels], object)),
        },
        attrs={
            "title": "Synthetic: four recipes on a ring of eight",
            "status": "complete",
            "created": "2026-01-01T12:00:00+00:00",
            "wall_time_s": 754.2,
            "command": "gandyn sweep ring8.toml --seeds 16",
            "configuration": '[target]\nkind = "ring"\nnum_modes = 8\n\n[train]\nsteps = 4000\nbatch_size = 256\n',
            "versions": json.dumps({"gandyn": "0.1.0", "jax": "0.10.1", "numpy": "2.4.6"}),
            "device": "cpu, 2 devices",
            "precision": "float32",
            "commit": "0000000",
            "coverage_convention": "veegan: within 3 std, at least one sample",
            "format_version": 1,
        },
    )
    if surface:
        dataset = dataset.assign_coords(surface_y=axis, surface_x=axis)
    dataset["target_means"] = (("run", "mode", "xy"), np.broadcast_to(means, (runs, num_modes, 2)).copy())
    dataset["target_stds"] = (("run", "mode"), np.full((runs, num_modes), 0.05))
    dataset["target_weights"] = (("run", "mode"), np.full((runs, num_modes), 1 / num_modes))
    dataset["target_center"] = (("run", "xy"), np.zeros((runs, 2)))
    dataset["extent"] = ("run", np.full(runs, half))
    dataset["decision"] = ("run", np.where(wasserstein, np.nan, 0.0))
    for row, name in enumerate(("best_loss_disc", "best_loss_gen")):
        best = {str(loss): of_modes(str(loss), num_modes)[row] for loss in set(losses)}
        dataset[name] = (("run", "mode"), np.stack([best[loss] for loss in losses]))
    dataset["in_nats"] = dataset["logistic"] = ("run", np.where(wasserstein, 0.0, 1.0))
    dataset["equilibrium"] = ("run", np.where(wasserstein, 0.0, -2 * np.log(2)))
    for name, attrs in ATTRIBUTES.items():
        dataset[name].attrs = attrs
    return dataset


def extended(results: xr.Dataset, seed: int = 0, every: int = 4) -> xr.Dataset:
    """`make`'s dataset with what richer measurements record (docs/results.md); the deep ones at each ``every``-th step.

    The duality gap is the lag and as much again of G's; a GAN of batch size 256 whose gradients lose their signal; a
    spectrum that turns stable at half time; verdicts by the modes at the end.
    """
    rng = np.random.default_rng(seed)
    runs, steps = results.sizes["run"], results.sizes["step"]
    shape, time = (runs, steps), np.linspace(0, 1, steps)
    finite = np.asarray(results["finite"].values) == 1
    deep = finite & (np.arange(steps) % every == 0)
    lag, modes = np.asarray(results["lag"].values, float), np.asarray(results["modes"].values, float)
    jitter = lambda scale: rng.lognormal(sigma=scale, size=shape)  # noqa: E731
    snr = {p: start * np.exp(-3 * time) * jitter(0.5) for p, start in (("gen", 2.0), ("disc", 8.0))}
    # Where nothing is left of the signal its estimate is as often negative.
    snr = {p: np.where((time > 0.8) & (rng.random(shape) < 0.2), -0.01, x) for p, x in snr.items()}
    gap = 2 * np.nan_to_num(lag, nan=0.4) + 0.1 * jitter(0.3)
    radius = 1 + 0.004 * (0.5 - time) * jitter(0.1)
    w1 = 0.05 + 0.9 * (1 - modes / 8) + 0.02 * rng.normal(size=shape)
    wasserstein = (results["loss"].values == "wasserstein")[:, None]
    best_accuracy = 0.5 + 0.4 * (1 - modes / 8) + 0.05
    accuracy = np.where(wasserstein, np.nan, 0.5 + (best_accuracy - 0.5) * (1 - 0.5 * time))
    cheap = {
        "accuracy": accuracy,
        "accuracy_se": np.full(shape, 0.005),
        "accuracy_on_real": accuracy + 0.1,
        "accuracy_on_fake": accuracy - 0.1,
        "accuracy_best": best_accuracy,
        "accuracy_best_se": np.full(shape, 0.003),
        "w1": w1,
        "w1_se": np.full(shape, 0.01),
        "w1_floor": np.full(shape, 0.04),
        **{f"grad_snr_{p}": x for p, x in snr.items()},
        **{f"noise_scale_{p}": np.where(x > 0, 256 / np.maximum(x, 1e-9), np.inf) for p, x in snr.items()},
        "saturation": np.clip(0.3 + 0.6 * time + 0.05 * rng.normal(size=shape), 0, 1),
    }
    dear = {
        "value_best_deep": np.asarray(results["value_best"].values, float) + 0.01,
        "lag_deep": lag + 0.01,
        "duality_gap": gap,
        "duality_gap_se": np.full(shape, 0.01),
        "spectral_radius": radius,
        "max_real": 0.5 - time + 0.02 * rng.normal(size=shape),
        "rotation_share": np.clip(0.6 - 0.3 * time + 0.02 * rng.normal(size=shape), 0, 1),
    }
    found = {name: np.where(finite, x, np.nan) for name, x in cheap.items()}
    found |= {name: np.where(deep, x, np.nan) for name, x in dear.items()}
    # Sizes from 1e-3 to 1e2, in conjugate pairs; the last two are not there, as where not all converge.
    size = np.geomspace(1e-3, 100, 6)
    real = -size * (1 + 0.3 * rng.normal(size=(*shape, 6))) + (0.5 - time)[None, :, None]
    imaginary = 0.6 * size * rng.uniform(0.2, 1, (*shape, 6))
    pairs = np.stack([np.stack([real, sign * imaginary], axis=-1) for sign in (1, -1)], axis=3).reshape(*shape, 12, 2)
    pairs[:, :, 10:] = np.nan
    spectra = np.where(deep[..., None, None], pairs, np.nan)
    last = np.where(finite.any(axis=1), modes[:, -1], np.nan)
    names = np.select(
        [~finite[:, -1], last <= 2, last <= 4, last < 8, time[-1] - rng.random(runs) < 0.2],
        ["diverged", "discriminator_won", "collapsed", "partial", "imprecise"],
        "converged",
    ).astype(object)
    rules = {"diverged": "a parameter is no longer finite", "converged": "every mode is covered, JSD is small"}
    added: dict[str, tuple[tuple[str, ...], NDArray]]
    added = {name: (("run", "step"), x.astype(np.float32)) for name, x in found.items()}
    added["eigenvalues"] = (("run", "step", "eigenvalue", "part"), spectra.astype(np.float32))
    extra = results.assign(added).assign_coords(part=["real", "imaginary"])
    extra["verdict"] = ("run", names, {"long_name": "verdict", "rule": json.dumps(rules)})
    extra["verdict_step"] = ("run", np.where(names == "converged", 2000.0, np.nan))
    return extra


def sweep(
    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3), seeds: int = 8, recipes: Sequence[str] = ("minimax",)
) -> xr.Dataset:
    """`extended` runs at several learning rates of G: recipes x rates x seeds."""
    labels = {f"{name}, lr_gen {rate:g}": RECIPES[name] for name in recipes for rate in learning_rates}
    results = make(labels, seeds=seeds, steps=9, samples=0, surface=0)
    rates = np.tile(np.repeat(learning_rates, seeds), len(recipes))
    return extended(results.assign_coords(lr_gen=("run", rates)))
