"""What each metric of coverage and quality reads when samples go wrong in one known way: the table in docs/metrics.md.

A ring of eight, 2,500 samples, the convention `veegan`; one change at a time to one and the same set of samples. An
arrow stands where the number is more than four standard deviations of real samples away from their mean: where one
measurement shows it. `python benchmarks/metrics_table.py` prints the table.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan import targets
from gandyn.truth.coverage import CONVENTIONS, coverage
from gandyn.truth.quality import memorization, mode_stats, quality

NUM_MODES, STD, CHANGED = 8, 0.02, 3
TARGET = targets.ring(num_modes=NUM_MODES, radius=1.0, std=STD)
MEANS = np.asarray(TARGET.means, np.float64)
CONVENTION = CONVENTIONS["veegan"]
NUM = CONVENTION.num_samples
NUM_REAL = 12  # sets of real samples
DECIMALS = {
    "modes": 0,
    "high_quality": 3,
    "mode_tv": 3,
    "reverse_kl": 4,
    "precision": 3,
    "recall": 3,
    "density": 3,
    "coverage": 3,
    "frechet": 5,
    "mmd": 5,
    "sliced_w2": 3,
    "mode_mass": 3,
    "mode_std": 3,
    "mode_offset": 3,
    "memorization": 2,
    "data_copying": 1,
}
"""The rows, and the digits that each is shown with."""


class Draw:
    """Samples as their modes (N,) and standard normals (N, 2), so that a change can be made to either."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.mode = rng.integers(NUM_MODES, size=NUM)
        self.normal = rng.standard_normal((NUM, 2))

    def at(self, mode: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Samples (N, 2)."""
        return MEANS[mode] + STD * normal

    def changed(self, there: np.ndarray) -> np.ndarray:
        """`there` (N, 2) in the mode that is changed, the samples as they are in all others."""
        return np.where((self.mode == CHANGED)[:, None], there, self.at(self.mode, self.normal))


def dropped(draw: Draw, data: np.ndarray) -> np.ndarray:
    others = (CHANGED + draw.rng.integers(1, NUM_MODES, size=NUM)) % NUM_MODES
    return draw.at(np.where(draw.mode == CHANGED, others, draw.mode), draw.normal)


def shrunk(draw: Draw, data: np.ndarray) -> np.ndarray:
    return draw.changed(draw.at(draw.mode, 0.3 * draw.normal))


def all_shrunk(draw: Draw, data: np.ndarray) -> np.ndarray:
    return draw.at(draw.mode, 0.3 * draw.normal)


def noisy(draw: Draw, data: np.ndarray) -> np.ndarray:
    return draw.at(draw.mode, draw.normal + 2 * draw.rng.standard_normal((NUM, 2)))


def skewed(draw: Draw, data: np.ndarray) -> np.ndarray:
    share = np.where(np.arange(NUM_MODES) == CHANGED, 3.0, 1.0)
    return draw.at(draw.rng.choice(NUM_MODES, size=NUM, p=share / share.sum()), draw.normal)


def shifted(draw: Draw, data: np.ndarray) -> np.ndarray:
    return draw.changed(draw.at(draw.mode, draw.normal + [1.0, 0.0]))


def copied(draw: Draw, data: np.ndarray) -> np.ndarray:
    return data + 0.01 * STD * draw.normal


CHANGES: dict[str, Callable[[Draw, np.ndarray], np.ndarray]] = {
    "mode dropped": dropped,
    "mode shrunk, std x 0.3": shrunk,
    "all modes shrunk": all_shrunk,
    "noise of 2 std": noisy,
    "mass skewed, one mode x 3": skewed,
    "mode shifted by 1 std": shifted,
    "training points copied": copied,
}


@jax.jit
def measured(fake: jax.Array, real: jax.Array, data: jax.Array) -> dict[str, jax.Array]:
    """Every metric of fakes (N, 2), by name; of the modes, that of the one that is changed."""
    found = coverage(fake, TARGET, CONVENTION)._asdict()
    del found["covered"]
    found |= quality(real, fake, TARGET)._asdict()
    of_modes = mode_stats(fake, TARGET, CONVENTION)._asdict()
    found |= {f"mode_{name}": values[CHANGED] for name, values in of_modes.items()}
    return found | memorization(fake, data, real)._asdict()


def read(fake: np.ndarray, real: np.ndarray, data: np.ndarray) -> dict[str, float]:
    found = measured(*(jnp.asarray(x, jnp.float32) for x in (fake, real, data)))
    return {name: float(value) for name, value in found.items()}


def figures() -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """Of each metric: what `NUM_REAL` sets of real samples get, and what each of `CHANGES` gives."""

    def draws(*seed: int) -> list[Draw]:
        return [Draw(np.random.default_rng([*seed, i])) for i in range(3)]  # fakes, real samples, training points

    def points(draw: Draw) -> np.ndarray:
        return draw.at(draw.mode, draw.normal)

    of_real = [read(*map(points, draws(0, seed))) for seed in range(NUM_REAL)]
    of_changes = []
    for change in CHANGES.values():
        fake, real, data = draws(1)
        of_changes.append(read(change(fake, points(data)), points(real), points(data)))
    return (
        {name: np.array([one[name] for one in of_real]) for name in DECIMALS},
        {name: [one[name] for one in of_changes] for name in DECIMALS},
    )


def arrow(value: float, real: np.ndarray) -> str:
    """Which way a value is off real samples' (`NUM_REAL`,), '' where one measurement does not show it."""
    # A metric that is the same for all real samples has rounding errors for a standard deviation.
    limit = 4 * real.std(ddof=1) + 1e-6
    away = value - real.mean()
    return "↑" if away > limit else "↓" if away < -limit else ""


def table(real: dict[str, np.ndarray], changes: dict[str, list[float]]) -> str:
    """The table of `figures`, in Markdown."""
    lines = [f"| metric | real samples | {' | '.join(CHANGES)} |", f"| --- | --: |{' --: |' * len(CHANGES)}"]
    for name, digits in DECIMALS.items():
        of_real = f"{real[name].mean():.{digits}f} ± {real[name].std(ddof=1):.{digits}f}"
        cells = [
            f"{value:.{digits}f} {arrow(value, real[name])}".strip().replace("nan", "NaN") for value in changes[name]
        ]
        lines.append(f"| `{name}` | {of_real} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*figures()))
