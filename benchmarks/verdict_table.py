"""Verdicts of generators that are known: the table in docs/verdicts.md, 12 targets x every convention.

Five generators, whose density is known, so that JSD is an average and no estimate: perfect (the target), spread (evenly
over the target's box), collapsed (the target's own first quarter of modes), dead (one point in the middle of the
target), and one that never started (the blob that all the others are in the first tenth of the run). Coverage is
counted by `gandyn.truth` under each convention, in fresh samples at each of 41 measurements.
`python benchmarks/verdict_table.py` prints the table.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import verdicts
from gandyn.gan import targets
from gandyn.gan.targets import GaussianMixture
from gandyn.truth import quality
from gandyn.truth.coverage import CONVENTIONS, Convention, coverage, real_mass

_ANGLE = 2 * np.pi * np.arange(8) / 8
_ON_RING = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)
TARGETS: dict[str, Any] = {
    "ring of 8, std 0.02": targets.ring(8, 1.0, 0.02),
    "the same, std 0.001": targets.ring(8, 1.0, 0.001),
    "the same, std 0.4: modes overlap": targets.ring(8, 1.0, 0.4),
    "the same, one mode of 0.5 %": targets.mixture(_ON_RING, 0.02, weights=[0.005, *7 * [0.995 / 7]]),
    "the same, one mode of 0.02 %": targets.mixture(_ON_RING, 0.02, weights=[0.0002, *7 * [0.9998 / 7]]),
    "the same, weights 1, 2, 4 ... 128": targets.mixture(_ON_RING, 0.02, weights=2.0 ** np.arange(8)),
    "the same, stds 0.005 to 0.3": targets.mixture(_ON_RING, np.geomspace(0.005, 0.3, 8)),
    "grid of 25": targets.grid(25, 2.0, 0.05),
    "grid of 100": targets.grid(100, 1.0, 0.05),
    "grid of 400": targets.grid(400, 1.0, 0.05),
    "one Gaussian": targets.grid(1, 1.0, 0.3),
    "cube of 8 in space": targets.mixture(np.stack(np.meshgrid(*3 * [[-1.0, 1.0]]), -1).reshape(-1, 3), 0.1),
}
KINDS = ("perfect", "spread", "collapsed", "never_started", "dead")
SHOULD: dict[str, tuple[str, ...]] = {
    "perfect": ("converged",),
    "spread": ("spread",),
    "collapsed": ("collapsed",),
    "never_started": ("never_started",),
    "dead": ("off_target", "collapsed", "never_started"),
}
"""What each is: dead ones cover nothing, off the modes or on a point in one."""
OTHERWISE = {
    # Where the modes fill the box, what is spread over it has its mass in them.
    ("spread", "the same, std 0.4: modes overlap"): ("imprecise", "spread"),
    ("spread", "one Gaussian"): ("imprecise", "never_started"),
    ("spread", "the same, stds 0.005 to 0.3"): ("spread", "partial", "off_target"),
    # Modes that no sample ever meets: nothing recorded tells it from a blob that stays.
    ("spread", "the same, std 0.001"): ("never_started", "off_target"),
    ("spread", "grid of 400"): ("spread", "never_started"),
    # A quarter of the modes is none of one; of the overlapping ones it reaches into others.
    ("collapsed", "one Gaussian"): ("converged",),
    ("collapsed", "the same, std 0.4: modes overlap"): ("collapsed", "partial"),
}
STEPS, SETS, NODES = 41, 4, 2**13


def should(kind: str, target: str, convention: str) -> tuple[str, ...]:
    """The verdicts that are right."""
    right = OTHERWISE.get((kind, target), SHOULD[kind])
    # Within one std of a mode lie five of 2,500 samples that are spread: of so few nothing is told.
    return (*right, "never_started") if kind == "spread" and CONVENTIONS[convention].cover_radius == 1 else right


def _part(target: GaussianMixture) -> GaussianMixture:
    """Its first quarter of modes."""
    k = max(1, target.num_modes // 4)
    weights = np.asarray(target.weights)[:k]
    return targets.mixture(np.asarray(target.means)[:k], np.asarray(target.stds)[:k], weights=weights / weights.sum())


class Generator:
    """Samples and the log density of one kind of generator for one target; density None: it has none (a point)."""

    def __init__(self, kind: str, target: GaussianMixture):
        center, half = (np.asarray(x, float) for x in target.box())
        self.center, self.half, self.kind = center, float(half), kind
        self.source = {"perfect": target, "collapsed": _part(target)}.get(kind)
        of = self.source or target
        means, stds, weights = (np.asarray(part, float) for part in (of.means, of.stds, of.weights))
        self.parts = means, stds, weights / weights.sum()

    def draw(self, rng: np.random.Generator, num: int) -> NDArray:
        """Samples (num, d)."""
        d = self.center.size
        if self.source is not None:
            means, stds, weights = self.parts
            mode = rng.choice(len(weights), num, p=weights)
            return means[mode] + stds[mode, None] * rng.standard_normal((num, d))
        if self.kind == "spread":
            return self.center + self.half * rng.uniform(-1, 1, (num, d))
        std = 0.0 if self.kind == "dead" else 0.05 * self.half
        return self.center + std * rng.standard_normal((num, d))

    def log_prob(self, x: NDArray) -> NDArray:
        """Log density in nats at x (N, d)."""
        if self.source is not None:
            means, stds, weights = self.parts
            squares = ((x[:, None, :] - means) ** 2).sum(axis=2) / stds**2
            log = np.log(weights) - len(self.center) * np.log(stds * np.sqrt(2 * np.pi))
            return np.asarray(scipy.special.logsumexp(log - squares / 2, axis=1))
        d, away = self.center.size, x - self.center
        if self.kind == "spread":
            inside = (np.abs(away) <= self.half * (1 + 1e-6)).all(axis=1)
            return np.where(inside, -d * np.log(2 * self.half), -np.inf)
        std = 0.05 * self.half
        return -0.5 * (away**2).sum(axis=1) / std**2 - d * np.log(std * np.sqrt(2 * np.pi))


def jensen_shannon(target: GaussianMixture, made: Generator, rng: np.random.Generator) -> float:
    """JSD in nats by averages over samples of both; log 2 for a point."""
    if made.kind == "dead":
        return float(np.log(2))
    true = Generator("perfect", target)
    terms = []
    for one, other in ((true, made), (made, true)):
        x = one.draw(rng, NODES)
        own, its = one.log_prob(x), other.log_prob(x)
        terms.append(np.log(2) - np.logaddexp(0, its - own).mean())
    return float(np.mean(terms))


@functools.partial(jax.jit, static_argnames="convention")
def _counted(x: jax.Array, target: GaussianMixture, convention: Convention) -> dict[str, jax.Array]:
    cover, stats = coverage(x, target, convention), quality.mode_stats(x, target, convention)
    return {"modes": cover.modes, "high_quality": cover.high_quality, "mode_tv": cover.mode_tv} | {
        f"mode_{name}": value for name, value in stats._asdict().items()
    }


@functools.cache
def _sets(kind: str, name: str, convention: str) -> list[dict[str, Any]]:
    """What several sets of samples of a generator read."""
    target, how, rng = TARGETS[name], CONVENTIONS[convention], np.random.default_rng(0)
    made = Generator(kind, target)
    draws = [jnp.asarray(made.draw(rng, how.num_samples), jnp.float32) for _ in range(SETS)]
    counted = [{k: np.asarray(v) for k, v in _counted(x, target, how).items()} for x in draws]
    jsd = [jensen_shannon(target, made, rng) for _ in range(2)]
    return [one | {"jsd": jsd[i % 2]} for i, one in enumerate(counted)]


def run_of(kind: str, name: str, convention: str) -> xr.Dataset:
    """One run of 41 measurements: the blob in the first tenth, then the generator."""
    target, how, rng = TARGETS[name], CONVENTIONS[convention], np.random.default_rng(0)
    found: dict[str, list[Any]] = {}
    sets = {one: _sets(one, name, convention) for one in ("never_started", kind, "perfect")}
    for step in range(STEPS):
        now = sets["never_started" if step < STEPS // 10 else kind][rng.integers(SETS)]
        real = sets["perfect"][rng.integers(SETS)]
        now = now | {f"{k}_real": real[k] for k in ("modes", "high_quality", "mode_tv")} | {"finite": 1.0}
        for metric, value in now.items():
            found.setdefault(metric, []).append(value)
    x = Generator("perfect", target).draw(np.random.default_rng(1), 2**16)
    real = real_mass(jnp.asarray(x, jnp.float32), target, how.cover_radius)
    axes = lambda x: ("run", "step", "mode")[: 2 + (x.ndim - 1)]  # noqa: E731
    data = {metric: np.asarray(values) for metric, values in found.items()}
    results = xr.Dataset(
        {metric: (axes(x), x[None]) for metric, x in data.items()},
        coords={"run": [0], "step": 100 * np.arange(STEPS)},
    )
    results["mode_mass_real"] = (("run", "mode"), real[None], {"num_samples": str(how.num_samples)})
    results["target_weights"] = (("run", "mode"), np.asarray(target.mode_weights)[None])
    return results


def verdict(kind: str, name: str, convention: str) -> tuple[str, str]:
    """Verdict and its reason."""
    judged = verdicts.judge(run_of(kind, name, convention))
    return str(judged["verdict"].item()), str(judged["verdict_detail"].item())


def table(conventions: tuple[str, ...] = tuple(CONVENTIONS), names: tuple[str, ...] = tuple(TARGETS)) -> list[str]:
    """Lines of a table: a row a target, a column a generator; one verdict where all conventions give it."""
    lines = ["| target | " + " | ".join(KINDS) + " |", "| --- |" + " --- |" * len(KINDS)]
    for name in names:
        cells = []
        for kind in KINDS:
            found: dict[str, list[str]] = {}
            for convention in conventions:
                one = verdict(kind, name, convention)[0]
                found.setdefault(one + ("" if one in should(kind, name, convention) else " (!)"), []).append(convention)
            most = max(found, key=lambda one: len(found[one]))
            rest = [f"{one} ({', '.join(who)})" for one, who in found.items() if one != most]
            cells.append("; ".join([most, *rest]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
