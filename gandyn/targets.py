"""Targets whose density is known in closed form: isotropic Gaussian mixtures in the plane.

Shapes: K modes, N points.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtri
from numpy.typing import ArrayLike

from gandyn import checks, sampling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """p(x) = sum_k weights_k N(x; means_k, stds_k^2 I): an isotropic mixture in the plane, a pytree of three arrays.

    Attributes:
      means: (K, 2), in the units of the data.
      stds: (K,), per-mode standard deviation, same units.
      weights: (K,), positive, summing to one (zero for the modes that `of_class` leaves out).
    """

    means: jax.Array
    stds: jax.Array
    weights: jax.Array

    @property
    def num_modes(self) -> int:
        """K."""
        return self.means.shape[-2]

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, 2)."""
        return self.transform(sampling.uniform(key, (num, 3)))

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, 2) from uniforms in (0, 1) (N, 3): one picks the mode, two become normals."""
        mode = self.pick(uniform[:, 0])
        return self.means[mode] + self.stds[mode][:, None] * ndtri(uniform[:, 1:])

    def pick(self, uniform: jax.Array) -> jax.Array:
        """The mode (N,) that each uniform in (0, 1) (N,) falls to, int32; in order, so that strata fill the modes."""
        upper = jnp.sum(jnp.tri(self.num_modes - 1, self.num_modes) * self.weights[None, :], axis=1)  # cumulative
        return jnp.sum(uniform[:, None] >= upper[None, :], axis=1)

    def of_class(self, label: jax.Array, num_classes: int) -> "GaussianMixture":
        """p(x | label): the modes of one class, weights scaled to sum to one. Mode k is of class k mod num_classes."""
        weights = jnp.where(jnp.arange(self.num_modes) % num_classes == label, self.weights, 0)
        return dataclasses.replace(self, weights=weights / jnp.sum(weights))

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, 2): (N,)."""
        squared = jnp.sum((x[:, None, :] - self.means[None, :, :]) ** 2, axis=-1)
        variance = self.stds**2
        log_modes = jnp.log(self.weights) - jnp.log(2 * jnp.pi * variance)
        return logsumexp(log_modes[None, :] - 0.5 * squared / variance[None, :], axis=-1)

    def blur(self, std: jax.Array | float) -> "GaussianMixture":
        """The density convolved with N(0, std^2 I): again a mixture, exactly."""
        return dataclasses.replace(self, stds=jnp.sqrt(self.stds**2 + std**2))

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (2,), half side) of the square that holds every mode with six standard deviations around it."""
        low = jnp.min(self.means - 6 * self.stds[:, None], axis=0)
        high = jnp.max(self.means + 6 * self.stds[:, None], axis=0)
        return (low + high) / 2, jnp.max(high - low) / 2


def mixture(means: ArrayLike, stds: ArrayLike, weights: ArrayLike | None = None) -> GaussianMixture:
    """A checked mixture of means (K, 2), one std or K of them, and K positive weights.

    Weights are scaled to sum to one; None makes them equal.

    Raises:
      ValueError: a wrong shape, a std or weight that is not positive and finite.
    """
    means = np.asarray(means, np.float64)
    if means.ndim != 2 or means.shape[1] != 2 or not len(means) or not np.all(np.isfinite(means)):
        raise ValueError(f"means: got shape {means.shape}; allowed: (number of modes, 2), finite")
    num_modes = len(means)
    stds = np.asarray(stds, np.float64)
    weights = np.ones(num_modes) if weights is None else np.asarray(weights, np.float64)
    for name, values, shapes in (("std", stds, ((), (num_modes,))), ("weights", weights, ((num_modes,),))):
        if values.shape not in shapes:
            raise ValueError(f"{name}: got shape {values.shape}; allowed: one per mode, {num_modes}")
        checks.number(name, values, 0, above=True)
    stds = np.broadcast_to(stds, num_modes)
    return GaussianMixture(
        means=jnp.asarray(means, jnp.float32),
        stds=jnp.asarray(stds, jnp.float32),
        weights=jnp.asarray(weights / weights.sum(), jnp.float32),
    )


def ring(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """`num_modes` modes evenly on a circle; the first at angle 0, and no mode twice."""
    checks.whole("num_modes", num_modes)
    checks.number("radius", radius, 0, above=True)
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    return mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)


def grid(
    num_modes: int = 25, spacing: float = 2.0, std: float = 0.05, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A square grid of `num_modes` (a square number) modes, `spacing` apart, centred on the origin.

    The defaults are PacGAN's (Lin et al. 2018): 25 modes, spacing 2, std 0.05.
    """
    checks.whole("num_modes", num_modes)
    checks.number("spacing", spacing, 0, above=True)
    side = int(np.rint(np.sqrt(num_modes)))
    if side * side != num_modes:
        raise ValueError(f"num_modes: got {num_modes}; allowed for a grid: a square number (nearest: {side * side})")
    axis = spacing * (np.arange(side) - (side - 1) / 2)
    x, y = np.meshgrid(axis, axis)
    return mixture(np.stack([x.ravel(), y.ravel()], axis=1), std, weights)


def spiral(
    num_modes: int = 20, radius: float = 1.0, turns: float = 2.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes at equal steps of angle along an Archimedean spiral of `turns` turns that ends at `radius`."""
    checks.whole("num_modes", num_modes)
    checks.number("radius", radius, 0, above=True)
    checks.number("turns", turns, 0, above=True)
    share = (np.arange(num_modes) + 1) / num_modes
    angle = 2 * np.pi * turns * share
    return mixture(radius * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)


def random(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, layout_seed: int = 0, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes uniform in the square [-radius, radius]^2, fixed by `layout_seed`."""
    checks.whole("num_modes", num_modes)
    checks.whole("layout_seed", layout_seed, least=0)
    checks.number("radius", radius, 0, above=True)
    return mixture(np.random.default_rng(layout_seed).uniform(-radius, radius, (num_modes, 2)), std, weights)


def line(
    num_modes: int = 5, spacing: float = 1.0, std: float = 0.1, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A one-dimensional mixture embedded in the plane: modes on the first axis, `spacing` apart, centred."""
    checks.whole("num_modes", num_modes)
    checks.number("spacing", spacing, 0, above=True)
    x = spacing * (np.arange(num_modes) - (num_modes - 1) / 2)
    return mixture(np.stack([x, np.zeros(num_modes)], axis=1), std, weights)


TARGETS: dict[str, Callable[..., GaussianMixture]] = {
    "ring": ring,
    "grid": grid,
    "spiral": spiral,
    "random": random,
    "line": line,
}
